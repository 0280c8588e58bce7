//! Says what is happening, which of how many steps it is, and about how long it takes.

/// The steps of a task.
pub(crate) struct Steps {
    done: usize,
    all: usize,
}

impl Steps {
    pub(crate) fn new(all: usize) -> Self {
        Self { done: 0, all }
    }

    /// Begins the next step.
    pub(crate) fn next(&mut self, text: &str) {
        self.done += 1;
        let Self { done, all } = self;
        println!("\n\u{2022} {done} of {all}: {text}");
    }
}
