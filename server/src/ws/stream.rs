//! A stream that can still be read after a write to it has failed.

use crate::shares::Memory;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long the stream can still be read after a write has failed.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// How many reads in a row can succeed before the task gives way to others.
///
/// A read is up to 2 KiB, or 341 empty frames. The budget of a tokio task allows 128 of them in one poll: the frames
/// of these would occupy the thread for tens of milliseconds.
const READS_IN_A_ROW: usize = 4;

/// After the first failed write it drops all written bytes. It can still be read for a moment; then it ends.
///
/// A peer that resets its connection may have sent a release before. The release can still be read, but tungstenite
/// stops reading as soon as it cannot write a pong or an answer.
///
/// It also takes memory for the bytes of a message that is not complete. If that is refused, the read fails with
/// [`Refused`] as the source of its error.
///
/// A peer whose bytes are always there does not keep the thread from other tasks.
pub(super) struct StillReadable<S> {
    stream: S,
    /// The memory of the read buffer. It grows to the size of the largest message and does not shrink.
    memory: Memory,
    /// How many bytes were read since the last message was complete.
    unfinished: usize,
    /// Whether bytes that are read are dropped.
    drops: bool,
    /// When reading ends, once a write has failed.
    broken: Option<Pin<Box<Sleep>>>,
    last_received: Instant,
    reads_in_a_row: usize,
}

impl<S: AsyncWrite + Unpin> StillReadable<S> {
    pub(super) fn new(stream: S, memory: Memory) -> StillReadable<S> {
        StillReadable {
            stream,
            memory,
            unfinished: 0,
            drops: false,
            broken: None,
            last_received: Instant::now(),
            reads_in_a_row: 0,
        }
    }

    /// When the last bytes were read.
    pub(super) fn last_received(&self) -> Instant {
        self.last_received
    }

    /// From now on, bytes that are read are dropped: they need no memory.
    pub(super) fn drop_all(&mut self) {
        self.drops = true;
    }

    /// Notes that a message is complete. Bytes of the next one that were read with its end do not count: they are one
    /// read at most.
    pub(super) fn message_read(&mut self) {
        self.unfinished = 0;
    }

    /// Notes that a ping or pong with so long a payload is complete. It can come between the frames of a message.
    pub(super) fn control_frame_read(&mut self, payload: usize) {
        const HEAD: usize = 6;
        self.unfinished = self.unfinished.saturating_sub(HEAD + payload);
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
        if self.reads_in_a_row == READS_IN_A_ROW {
            self.reads_in_a_row = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let count = buffer.filled().len() - before;
        self.reads_in_a_row = if read.is_ready() {
            self.reads_in_a_row + 1
        } else {
            0
        };
        if count > 0 {
            self.last_received = Instant::now();
        }
        if count > 0 && !self.drops {
            let unfinished = self.unfinished + count;
            self.unfinished = unfinished;
            if let Err(refused) = self.memory.reserve(unfinished) {
                return Poll::Ready(Err(io::Error::other(refused)));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::metrics::Metrics;
    use crate::shares::{Party, Shares};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use tokio::io::{empty, join, repeat};

    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_peer_that_sends_without_a_pause_gives_way_to_others() {
        let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let shares = Shares::new(&Config::default(), &Metrics::new());
        let memory = Memory::new(&shares.memory, Party::of_token(1));
        let mut stream = StillReadable::new(join(repeat(0), empty()), memory);
        for round in 1..4 {
            let mut read = || {
                let mut bytes = [0; 16];
                let mut buffer = ReadBuf::new(&mut bytes);
                Pin::new(&mut stream).poll_read(&mut context, &mut buffer)
            };
            let reads = (0..100).take_while(|_| read().is_ready()).count();
            assert_eq!(reads, READS_IN_A_ROW);
            assert_eq!(wakes.0.load(Ordering::Relaxed), round, "it goes on later");
        }
    }
}
