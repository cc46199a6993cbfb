//! Byte streams to the server: TCP, and TLS on top of it for `wss` and `https`.

use crate::error::{Detail, Error, printable};
use crate::options::Options;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as WebSocketError;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// The largest message that is accepted, in bytes. Messages of v1 have a few hundred.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The longest request that is sent, in bytes. It also bounds the write buffer, in which nothing else accumulates: the
/// connection reads no message while the answer to an earlier one is unwritten.
pub(crate) const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// The longest header of a WebSocket frame, in bytes.
const MAX_HEADER_BYTES: usize = 14;

/// A byte stream in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(crate) type WebSocket = WebSocketStream<Box<dyn Duplex>>;

impl Options {
    /// Opens a byte stream to the server, over TLS if the URL says so, for a caller that speaks HTTP itself.
    ///
    /// # Errors
    /// [`Error::Options`], and [`Error::Connect`], also after the connect timeout.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(&self) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, Error> {
        self.check()?;
        self.in_time(self.stream()).await
    }

    /// Connects and upgrades to WebSocket, for a caller that speaks v1 itself: the stream is at the first byte after
    /// the handshake.
    ///
    /// # Errors
    /// As for [`open`](Options::open), and [`Error::Refused`] and [`Error::Protocol`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn upgrade(
        &self,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, Error> {
        // The WebSocket has buffered no bytes of the server: the server waits for the first request.
        Ok(self.websocket().await?.into_inner())
    }

    /// Connects and upgrades to WebSocket.
    pub(crate) async fn websocket(&self) -> Result<WebSocket, Error> {
        self.check()?;
        self.in_time(async {
            let mut request = self
                .endpoint()
                .into_client_request()
                .map_err(|error| Error::Options(Detail::caused("bad URL", error)))?;
            if let Some(value) = self.authorization()? {
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            let config = WebSocketConfig::default()
                .read_buffer_size(4 * 1024)
                .write_buffer_size(0)
                .max_write_buffer_size(MAX_REQUEST_BYTES + MAX_HEADER_BYTES)
                .max_message_size(Some(MAX_MESSAGE_BYTES))
                .max_frame_size(Some(MAX_MESSAGE_BYTES));
            let stream = self.stream().await?;
            client_async_with_config(request, stream, Some(config))
                .await
                .map(|(websocket, _)| websocket)
                .map_err(|error| self.not_upgraded(error))
        })
        .await
    }

    /// The value of the header `Authorization`, if there is an auth token.
    pub(crate) fn authorization(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(token) = &self.auth_token else {
            return Ok(None);
        };
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
            let text = "the auth token has characters that a header must not have";
            Error::Options(text.into())
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(self.connect_timeout, connecting)
            .await
            .unwrap_or_else(|_| {
                let limit = self.connect_timeout;
                Err(self.not_reached(format_args!("no answer within {limit:?}")))
            })
    }

    async fn stream(&self) -> Result<Box<dyn Duplex>, Error> {
        let stream = TcpStream::connect(self.host_and_port())
            .await
            .map_err(|error| self.io_error(error))?;
        // Messages are small, and the client waits for an answer to each.
        stream
            .set_nodelay(true)
            .map_err(|error| self.io_error(error))?;
        #[cfg(feature = "tls")]
        if self.tls {
            return tls::wrap(self, stream).await;
        }
        Ok(Box::new(stream))
    }

    pub(crate) fn not_reached(&self, why: impl std::fmt::Display) -> Error {
        let (host, port) = self.host_and_port();
        Error::Connect(format!("{host}:{port}: {why}").into())
    }

    fn io_error(&self, error: io::Error) -> Error {
        let (host, port) = self.host_and_port();
        Error::Connect(Detail::caused(format!("{host}:{port}"), error))
    }

    fn not_upgraded(&self, error: WebSocketError) -> Error {
        match error {
            // The body of the answer has the reason.
            WebSocketError::Http(answer) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let sentence = printable(&String::from_utf8_lossy(body));
                let status = answer.status();
                let text = format!("HTTP status {status}: {sentence}");
                if is_temporary(status) {
                    self.not_reached(text)
                } else {
                    Error::Refused { text, code: None }
                }
            }
            WebSocketError::Io(error) if error.kind() != io::ErrorKind::InvalidData => {
                self.io_error(error)
            }
            error => Error::Protocol(Detail::caused("no upgrade to WebSocket", error)),
        }
    }
}

/// Whether a retry may succeed soon: the server is overloaded, shuts down, or is missing behind its proxy.
pub(crate) fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

#[cfg(feature = "tls")]
mod tls {
    use super::Duplex;
    use crate::error::{Detail, Error};
    use crate::options::Options;
    use std::path::Path;
    use std::sync::Arc;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    pub(super) async fn wrap(
        options: &Options,
        stream: TcpStream,
    ) -> Result<Box<dyn Duplex>, Error> {
        let (host, port) = options.host_and_port();
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            let text = format!("bad URL: {host} is neither a host name nor an IP address");
            Error::Options(Detail::caused(text, error))
        })?;
        // The roots are read again for each connection: that takes a few milliseconds, and a changed file is noticed.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Options(Detail::caused("no TLS", error)))?
            .with_root_certificates(roots(options.ca_file.as_deref())?)
            .with_no_client_auth();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| {
                Error::Connect(Detail::caused(format!("{host}:{port}: no TLS"), error))
            })?;
        Ok(Box::new(stream))
    }

    /// The roots that the system trusts, and the certificates of the file.
    fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        // Unreadable certificates of the system are skipped: the others may be enough.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(file) = ca_file {
            add(&mut roots, file).map_err(|error| {
                let text = format!("bad CA file {file:?}: it must have certificates in PEM format");
                Error::Options(Detail::caused(text, error))
            })?;
        }
        Ok(roots)
    }

    fn add(
        roots: &mut RootCertStore,
        file: &Path,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let before = roots.len();
        for certificate in CertificateDer::pem_file_iter(file)? {
            roots.add(certificate?)?;
        }
        if roots.len() == before {
            return Err("no certificate in it".into());
        }
        Ok(())
    }
}
