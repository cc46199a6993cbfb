//! The body of an answer: sent in pieces, and with it what is to be held until it is sent.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::DropGuard;

/// The most that is handed over at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// Bytes to send. They are handed over in pieces, so that it is dropped only when the peer has taken
/// nearly all.
#[derive(Debug, Default)]
pub(crate) struct Content {
    rest: Bytes,
    #[expect(dead_code, reason = "held until it is dropped")]
    held: Option<Held>,
}

/// What is held until a body is sent.
#[derive(Debug)]
pub(crate) struct Held {
    /// A place among the long answers.
    #[expect(dead_code, reason = "held until it is dropped")]
    pub(crate) turn: OwnedSemaphorePermit,
    /// Ends the watch over the time that it takes.
    #[expect(dead_code, reason = "held until it is dropped")]
    pub(crate) sent: DropGuard,
}

impl Content {
    pub(crate) fn holding(self, held: Held) -> Content {
        Content {
            held: Some(held),
            ..self
        }
    }
}

impl<B: Into<Bytes>> From<B> for Content {
    fn from(bytes: B) -> Content {
        Content {
            rest: bytes.into(),
            held: None,
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = PIECE.min(self.rest.len());
        let piece = self.rest.split_to(piece);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
