//! A stream that can still be read after a write to it has failed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long the stream can still be read after a write has failed.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// After the first failed write it drops all written bytes. It can still be read for a moment; then it ends.
///
/// A peer that resets its connection may have sent a release before. The release can still be read, but tungstenite
/// stops reading as soon as it cannot write a pong or an answer.
pub(super) struct StillReadable<S> {
    stream: S,
    /// When reading ends, once a write has failed.
    broken: Option<Pin<Box<Sleep>>>,
    last_received: Instant,
}

impl<S: AsyncWrite + Unpin> StillReadable<S> {
    pub(super) fn new(stream: S) -> StillReadable<S> {
        StillReadable {
            stream,
            broken: None,
            last_received: Instant::now(),
        }
    }

    /// When the last bytes were read.
    pub(super) fn last_received(&self) -> Instant {
        self.last_received
    }

    fn unless_broken<T>(
        &mut self,
        dropped: T,
        write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.broken.is_none() {
            match ready!(write(Pin::new(&mut self.stream))) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(_) => self.broken = Some(Box::pin(sleep(READ_TIMEOUT))),
            }
        }
        Poll::Ready(Ok(dropped))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StillReadable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.last_received = Instant::now();
        }
        // A peer that cannot be written to must not keep the connection open by sending.
        let is_over = |end: &mut Pin<Box<Sleep>>| end.as_mut().poll(context).is_ready();
        if read.is_pending() && self.broken.as_mut().is_some_and(is_over) {
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StillReadable<S> {
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
