//! A v1 connection that writes ready-made frames and reads only the state out of the answers.

use locktopus_client::protocol::v1::{Action, Request, Response, State};
use locktopus_client::{Error, Options, Resource};
use std::ops::Range;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest message that is accepted, in bytes. Messages of v1 have a few hundred.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

// The opcodes of RFC 6455, 11.8.
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A WebSocket frame, ready to be written.
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    /// A request for a lock.
    pub(crate) fn lock(resources: impl IntoIterator<Item = Resource>) -> Frame {
        let request = Request::Lock(resources.into_iter().collect());
        Frame::new(TEXT, request.encode().as_bytes())
    }

    /// A whole message in one frame. The masking key is zero, which leaves the payload as it is.
    fn new(opcode: u8, payload: &[u8]) -> Frame {
        const FINAL: u8 = 0x80;
        const MASKED: u8 = 0x80;
        let mut bytes = vec![FINAL | opcode];
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length @ 0..126), _) => bytes.push(MASKED | length),
            (_, Ok(length)) => {
                bytes.push(MASKED | 126);
                bytes.extend(length.to_be_bytes());
            }
            _ => {
                bytes.push(MASKED | 127);
                bytes.extend((payload.len() as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        Frame(bytes)
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(crate) struct Connection {
    stream: Box<dyn Duplex>,
    /// The bytes of the next frames.
    received: Vec<u8>,
    release: Frame,
    ping: Frame,
}

impl Connection {
    pub(crate) async fn open(options: &Options) -> Result<Connection, Error> {
        Ok(Connection {
            stream: Box::new(options.upgrade().await?),
            received: vec![],
            release: Frame::new(TEXT, Request::Release.encode().as_bytes()),
            ping: Frame::new(PING, b"bench"),
        })
    }

    pub(crate) async fn send(&mut self, frame: &Frame) -> Result<(), Error> {
        write(&mut self.stream, frame).await
    }

    /// Waits for the grant. Returns whether the request had to wait; calls `enqueued` when the wait begins.
    pub(crate) async fn granted(&mut self, enqueued: impl Fn()) -> Result<bool, Error> {
        let mut waited = false;
        loop {
            match self.state().await? {
                (Action::Lock, State::Acquired) => return Ok(waited),
                (Action::Lock, State::Enqueued) => {
                    waited = true;
                    enqueued();
                }
                other => return Err(unexpected(other)),
            }
        }
    }

    pub(crate) async fn release(&mut self) -> Result<(), Error> {
        write(&mut self.stream, &self.release).await?;
        match self.state().await? {
            (Action::Release, State::Ready) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Sends a ping, and waits for the answer.
    pub(crate) async fn ping(&mut self) -> Result<(), Error> {
        write(&mut self.stream, &self.ping).await?;
        loop {
            let (opcode, _) = self.message().await?;
            if opcode == PONG {
                return Ok(());
            }
        }
    }

    /// The next state; an error for any other message.
    pub(crate) async fn state(&mut self) -> Result<(Action, State), Error> {
        loop {
            match self.message().await? {
                (TEXT | BINARY, message) => return state_of(&message),
                _ => continue,
            }
        }
    }

    /// The next message; pings are answered. Cancel safe: a part of a frame stays in the buffer.
    async fn message(&mut self) -> Result<(u8, Vec<u8>), Error> {
        loop {
            let Some((opcode, payload)) = first_frame(&self.received)? else {
                match self.stream.read_buf(&mut self.received).await {
                    Ok(0) => return Err(Error::Closed("the server has closed it".into())),
                    Ok(_) => continue,
                    Err(error) => return Err(closed(&error)),
                }
            };
            let end = payload.end;
            let message = self.received[payload].to_vec();
            self.received.drain(..end);
            match opcode {
                PING => write(&mut self.stream, &Frame::new(PONG, &message)).await?,
                CLOSE => {
                    let reason = String::from_utf8_lossy(message.get(2..).unwrap_or_default());
                    let text = format!("the server has closed it: {reason:?}");
                    return Err(Error::Closed(text.into()));
                }
                _ => return Ok((opcode, message)),
            }
        }
    }
}

async fn write(stream: &mut Box<dyn Duplex>, frame: &Frame) -> Result<(), Error> {
    let written = async {
        stream.write_all(&frame.0).await?;
        stream.flush().await
    };
    written
        .await
        .map_err(|error: std::io::Error| closed(&error))
}

fn closed(error: &std::io::Error) -> Error {
    Error::Closed(error.to_string().into())
}

fn unexpected(state: (Action, State)) -> Error {
    Error::Protocol(format!("unexpected {state:?}").into())
}

/// The opcode of the first frame, and the place of its payload; `None` if the frame is not complete.
fn first_frame(bytes: &[u8]) -> Result<Option<(u8, Range<usize>)>, Error> {
    let place = || {
        let second = *bytes.get(1)?;
        let (header, length) = match second {
            126 => (
                4,
                u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?).into(),
            ),
            127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
            length => (2, length.into()),
        };
        Some((header, usize::try_from(length).unwrap_or(usize::MAX)))
    };
    match place() {
        Some((_, length)) if length > MAX_MESSAGE_BYTES => Err(Error::Protocol(
            format!("message of {length} bytes; at most {MAX_MESSAGE_BYTES} are allowed").into(),
        )),
        Some((header, length)) if bytes.len() >= header + length => {
            Ok(Some((bytes[0] & 0x0f, header..header + length)))
        }
        _ => Ok(None),
    }
}

/// Reads the state out of a message. The usual messages are not decoded.
fn state_of(message: &[u8]) -> Result<(Action, State), Error> {
    for (end, state) in [
        (
            r#""action":"lock","state":"acquired"}"#,
            (Action::Lock, State::Acquired),
        ),
        (
            r#""action":"release","state":"ready"}"#,
            (Action::Release, State::Ready),
        ),
        (
            r#""action":"lock","state":"enqueued"}"#,
            (Action::Lock, State::Enqueued),
        ),
    ] {
        if message.ends_with(end.as_bytes()) {
            return Ok(state);
        }
    }
    match Response::decode(message) {
        Ok(Response::State { action, state, .. }) => Ok((action, state)),
        Ok(Response::Error { error }) => Err(Error::Refused {
            text: error,
            code: None,
        }),
        Err(error) => Err(Error::Protocol(error.to_string().into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes from a server: without mask.
    fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let Frame(mut bytes) = Frame::new(opcode, payload);
        let header = bytes.len() - payload.len() - 4;
        bytes[1] &= 0x7f;
        bytes.drain(header..header + 4);
        bytes
    }

    #[test]
    fn frames_of_every_length_read_back_only_when_they_are_complete() {
        for length in [0, 1, 125, 126, 127, 0xffff, MAX_MESSAGE_BYTES] {
            let payload = vec![b'x'; length];
            let mut bytes = unmasked(BINARY, &payload);
            bytes.push(0);
            for cut in [0, 1, bytes.len() - 2] {
                assert_eq!(first_frame(&bytes[..cut]).expect("valid"), None, "{length}");
            }
            let (opcode, place) = first_frame(&bytes).expect("valid").expect("complete");
            assert_eq!((opcode, &bytes[place.clone()]), (BINARY, &payload[..]));
            assert_eq!(place.end, bytes.len() - 1);
        }
        assert!(first_frame(&unmasked(TEXT, &[0; MAX_MESSAGE_BYTES + 1])).is_err());
    }

    #[test]
    fn a_state_is_read_the_same_with_and_without_decoding() {
        for (action, state) in [
            (Action::Lock, State::Acquired),
            (Action::Lock, State::Enqueued),
            (Action::Release, State::Ready),
        ] {
            let id = "17".to_owned();
            let text = Response::State { id, action, state }.encode();
            for text in [text.clone(), text.replace(':', ": ")] {
                assert_eq!(state_of(text.as_bytes()).expect(&text), (action, state));
            }
        }
        assert!(state_of(br#"{"error":"no"}"#).is_err());
    }
}
