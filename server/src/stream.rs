//! A stream that can always be read to its end, even when nobody listens any more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Takes what is written after the first failed write, and drops it.
///
/// A peer that resets its connection may have sent a release before. It is still there to be read,
/// but tungstenite gives up reading once it cannot write, be it a pong or an answer.
pub(crate) struct HearsOn<S> {
    stream: S,
    broken: bool,
}

impl<S: AsyncWrite + Unpin> HearsOn<S> {
    pub(crate) fn new(stream: S) -> HearsOn<S> {
        HearsOn {
            stream,
            broken: false,
        }
    }

    fn unless_broken<T>(
        &mut self,
        dropped: T,
        write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if !self.broken {
            match ready!(write(Pin::new(&mut self.stream))) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(_) => self.broken = true,
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
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
