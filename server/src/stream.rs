//! A stream that can always be read to its end, even when nobody listens any more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long what has come may take to be read, once nothing can be written any more.
const STILL_HEARD: Duration = Duration::from_secs(1);

/// Takes what is written after the first failed write, and drops it; what has come by then can still be
/// read for a moment, and is followed by the end.
///
/// A peer that resets its connection may have sent a release before. It is still there to be read,
/// but tungstenite gives up reading once it cannot write, be it a pong or an answer.
pub(crate) struct HearsOn<S> {
    stream: S,
    /// Once it is broken: how long it can still be read.
    broken: Option<Pin<Box<Sleep>>>,
    heard: Instant,
}

impl<S: AsyncWrite + Unpin> HearsOn<S> {
    pub(crate) fn new(stream: S) -> HearsOn<S> {
        HearsOn {
            stream,
            broken: None,
            heard: Instant::now(),
        }
    }

    /// When the last bytes came.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    fn unless_broken<T>(
        &mut self,
        dropped: T,
        write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.broken.is_none() {
            match ready!(write(Pin::new(&mut self.stream))) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(_) => self.broken = Some(Box::pin(sleep(STILL_HEARD))),
            }
        }
        Poll::Ready(Ok(dropped))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HearsOn<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.heard = Instant::now();
        }
        // Whoever takes nothing any more is not listened to for ever.
        let is_over = |end: &mut Pin<Box<Sleep>>| end.as_mut().poll(context).is_ready();
        if read.is_pending() && self.broken.as_mut().is_some_and(is_over) {
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HearsOn<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_broken(bytes.len(), |stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_broken((), |stream| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_broken((), |stream| stream.poll_shutdown(context))
    }
}
