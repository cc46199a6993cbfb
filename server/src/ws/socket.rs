//! The WebSocket of a connection: sending, the description of errors, and closing.

use super::stream::StillReadable;
use crate::shares::Refused;
use futures_util::SinkExt;
use hyper::upgrade::Upgraded;
use hyper_tungstenite::WebSocketStream;
use hyper_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use hyper_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use hyper_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use hyper_util::rt::TokioIo;
use locktopus_protocol::v1::{
    CLOSE_CODE_ERROR, CLOSE_CODE_TRY_AGAIN, NO_MEMORY, OVER_SHARE, Response, SHUTTING_DOWN,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How many bytes can wait to be written: answers to pings, if the peer does not read them.
const MAX_UNSENT_BYTES: usize = 4 * 1024;

/// How long the peer may take to close its side after the server has closed its own.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many bytes that the peer has already sent are read and dropped meanwhile.
const MAX_DROPPED_BYTES: usize = 16 * 1024 * 1024;

/// Small buffers: most connections are idle most of the time.
pub(crate) fn websocket_config(message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT_BYTES)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes))
}

pub(super) type WebSocket = WebSocketStream<StillReadable<TokioIo<Upgraded>>>;

/// Why a connection ends.
pub(super) enum End {
    /// The peer closed it, or it broke.
    Gone,
    /// The client made a mistake, or its lock was revoked. The value is the error text.
    Failed(String),
    /// The memory for messages is used up for now. The value is the error text.
    OutOfMemory(&'static str),
    /// The server has shut down.
    ShutDown,
}

pub(super) fn message(response: &Response) -> Message {
    Message::text(response.encode())
}

/// Sends a message.
///
/// # Errors
/// If the peer does not read it within the limit, or the connection is broken.
pub(super) async fn send(
    websocket: &mut WebSocket,
    message: Message,
    limit: Duration,
) -> Result<(), Error> {
    let sending = async {
        // Makes room: the buffer may be full of answers to pings.
        websocket.flush().await?;
        websocket.send(message).await
    };
    match timeout(limit, sending).await {
        Ok(sent) => sent,
        Err(_) => Err(Error::ConnectionClosed),
    }
}

/// The error text of v1 for a failed read; `None` if the connection is broken.
pub(super) fn describe(error: &Error) -> Option<String> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => Some(format!(
            "message of {size} bytes; at most {max_size} are allowed"
        )),
        Error::Capacity(other) => Some(other.to_string()),
        Error::Utf8(_) => Some("text message is not UTF-8".to_owned()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(other) => Some(format!("not a WebSocket frame: {other}")),
        _ => None,
    }
}

/// The end that follows if memory is refused.
pub(super) fn out_of_memory(refused: Refused) -> End {
    End::OutOfMemory(match refused {
        Refused::Full { .. } => NO_MEMORY,
        Refused::OverShare { .. } => OVER_SHARE,
    })
}

/// Why memory was refused, if a read failed for that reason.
pub(super) fn refused(error: &Error) -> Option<Refused> {
    match error {
        Error::Io(error) => error.get_ref()?.downcast_ref().copied(),
        _ => None,
    }
}

/// Tells the client why the connection ends, and closes it.
///
/// The server closes its side and reads on for a while: closing a socket with unread bytes resets it, and the peer
/// might never see the last messages.
pub(super) async fn close(mut websocket: WebSocket, end: End) {
    let closing = async {
        let frame = match end {
            End::Gone => None,
            End::Failed(problem) => Some(close_frame(CLOSE_CODE_ERROR.into(), problem)),
            End::OutOfMemory(problem) => {
                Some(close_frame(CLOSE_CODE_TRY_AGAIN.into(), problem.to_owned()))
            }
            End::ShutDown => Some(close_frame(CloseCode::Away, SHUTTING_DOWN.to_owned())),
        };
        // Makes room, here and below: the buffer may be full of answers to pings. The answer to the peer's own close
        // frame may not be sent yet, either.
        websocket.flush().await?;
        if let Some(frame) = frame.as_ref().filter(|frame| frame.code != CloseCode::Away) {
            let error = frame.reason.to_string();
            websocket.send(message(&Response::Error { error })).await?;
            websocket.flush().await?;
        }
        if let Some(frame) = frame {
            websocket.close(Some(frame)).await?;
        }
        let stream = websocket.get_mut();
        stream.drop_all();
        stream.shutdown().await?;
        // On the heap: an array here would make the task of every connection that much larger.
        let mut dropped = vec![0; 4096];
        let mut left = MAX_DROPPED_BYTES;
        while left > 0 {
            match stream.read(&mut dropped).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<(), Error>(())
    };
    // The connection ends, whether this fails or not.
    let _ = timeout(CLOSE_TIMEOUT, closing).await;
}

fn close_frame(code: CloseCode, reason: String) -> CloseFrame {
    CloseFrame {
        code,
        reason: reason.into(),
    }
}
