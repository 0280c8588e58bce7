//! Progress: prints the current step, its number and how many there are.

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
