//! The crate `send_wrapper`, by the crate fragile: 1.5 kB less of what a page loads.
//!
//! Leptos keeps what belongs to one thread in a `SendWrapper`, which knows its thread and panics on any
//! other. The original asks std for the handle of the thread, which brings std's own allocator into the
//! wasm, beside the page's; fragile counts threads. Remove it when the id of a thread can be had without
//! its handle (`std::thread::current_id`, unstable in Rust 1.95).

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
};

use fragile::Fragile;
use futures_core::Stream;
use pin_project_lite::pin_project;

pin_project! {
    /// A value that any thread may hold, and that only the thread that wrapped it may use and drop:
    /// on another thread, everything but [`valid`](Self::valid) panics.
    pub struct SendWrapper<T> {
        #[pin]
        value: Fragile<T>,
    }
}

impl<T> SendWrapper<T> {
    /// Wraps a value for this thread.
    pub fn new(value: T) -> Self {
        Self { value: Fragile::new(value) }
    }

    /// Whether this is the thread of the value.
    pub fn valid(&self) -> bool {
        self.value.is_valid()
    }

    /// The value.
    #[track_caller]
    pub fn take(self) -> T {
        self.value.into_inner()
    }
}

impl<T> Deref for SendWrapper<T> {
    type Target = T;

    #[track_caller]
    fn deref(&self) -> &T {
        self.value.get()
    }
}

impl<T> DerefMut for SendWrapper<T> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Clone> Clone for SendWrapper<T> {
    #[track_caller]
    fn clone(&self) -> Self {
        Self { value: self.value.clone() }
    }
}

impl<T: fmt::Debug> fmt::Debug for SendWrapper<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<F: Future> Future for SendWrapper<F> {
    type Output = F::Output;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.project().value.poll(context)
    }
}

impl<S: Stream> Stream for SendWrapper<S> {
    type Item = S::Item;

    #[track_caller]
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.project().value.poll_next(context)
    }
}
