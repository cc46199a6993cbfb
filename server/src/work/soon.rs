//! A result that is there already, or that a job of a queue sends later.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// A result that is there already, or that a job sends later.
#[derive(Debug)]
#[must_use = "the result may come later"]
pub(crate) enum Soon<T> {
    /// There already. It is empty once it was taken.
    Now(Option<T>),
    Later(oneshot::Receiver<T>),
}

impl<T> Soon<T> {
    pub(crate) fn now(result: T) -> Soon<T> {
        Soon::Now(Some(result))
    }
}

/// Resolves to `None` if the queue ended before the result was there, since the server has ended or the job panicked.
///
/// # Cancel safety
/// The job goes on when the future is dropped.
impl<T: Unpin> Future for Soon<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        match &mut *self {
            Soon::Now(result) => Poll::Ready(result.take()),
            Soon::Later(told) => Pin::new(told).poll(context).map(Result::ok),
        }
    }
}
