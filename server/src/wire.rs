//! The WebSocket of a connection: what is sent, how errors are described, how it is closed.

use crate::stream::HearsOn;
use futures_util::SinkExt;
use hyper::upgrade::Upgraded;
use hyper_tungstenite::WebSocketStream;
use hyper_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use hyper_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use hyper_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use hyper_util::rt::TokioIo;
use locktopus_protocol::v1::{CLOSE_CODE_ERROR, Response, SHUTTING_DOWN};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// The most that waits to be written, in bytes: answers to pings, if the peer does not take them.
const MAX_UNSENT_BYTES: usize = 4 * 1024;

/// How long the peer may take to close its side after the server has closed its own.
const LINGER: Duration = Duration::from_secs(5);

/// How much of what the peer had under way is read and dropped meanwhile, in bytes.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Small buffers: most connections are idle most of the time.
pub(crate) fn websocket_config(message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT_BYTES)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes))
}

pub(crate) type WebSocket = WebSocketStream<HearsOn<TokioIo<Upgraded>>>;

/// How a connection came to its end.
pub(crate) enum End {
    /// The peer closed it, or it broke.
    Gone,
    /// There is an error to tell: the peer did what is not allowed, or lost its lock by force.
    Failed(String),
    /// The server is done.
    ShutDown,
}

pub(crate) fn message(response: &Response) -> Message {
    Message::text(response.encode())
}

/// Sends a message; an error if the peer does not take it in time.
pub(crate) async fn send(
    websocket: &mut WebSocket,
    message: Message,
    patience: Duration,
) -> Result<(), Error> {
    let sending = async {
        // Makes room first: a peer that sends pings and does not read fills the buffer.
        websocket.flush().await?;
        websocket.send(message).await
    };
    match timeout(patience, sending).await {
        Ok(sent) => sent,
        Err(_) => Err(Error::ConnectionClosed),
    }
}

/// What is wrong with what came; `None` if the connection is gone.
pub(crate) fn describe(error: &Error) -> Option<String> {
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

/// Says why the connection ends, and closes it.
///
/// The server closes its side and then reads on for a while: a socket that is closed with unread
/// bytes is reset, and the peer may never see what was sent last.
pub(crate) async fn goodbye(mut websocket: WebSocket, end: End) {
    let farewell = async {
        let close = match end {
            End::Gone => None,
            End::Failed(what) => {
                let error = Response::Error {
                    error: what.clone(),
                };
                // Makes room first, here and below: unread answers to pings may fill the buffer.
                websocket.flush().await?;
                websocket.send(message(&error)).await?;
                Some(close_frame(CLOSE_CODE_ERROR.into(), what))
            }
            End::ShutDown => {
                let reason = SHUTTING_DOWN.to_owned();
                Some(close_frame(CloseCode::Away, reason))
            }
        };
        // The answer to the peer's own close frame may still be under way.
        websocket.flush().await?;
        if let Some(close) = close {
            websocket.close(Some(close)).await?;
        }
        let stream = websocket.get_mut();
        stream.shutdown().await?;
        let mut dropped = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut dropped).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<(), Error>(())
    };
    // Whatever goes wrong here, the connection is over.
    let _ = timeout(LINGER, farewell).await;
}

fn close_frame(code: CloseCode, reason: String) -> CloseFrame {
    CloseFrame {
        code,
        reason: reason.into(),
    }
}
