//! Byte streams to the server: TCP, and TLS on top of it where it is wanted.

use crate::error::{Error, printable};
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

/// The largest message that is taken, in bytes. Those of v1 have a few hundred.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// A byte stream in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(crate) type WebSocket = WebSocketStream<Box<dyn Duplex>>;

impl Options {
    /// Opens a byte stream to the server, over TLS if the URL says so: for whoever wants to speak
    /// HTTP to it.
    ///
    /// # Errors
    /// [`Error::Options`] and [`Error::Connect`], also when it takes longer than the connect timeout.
    ///
    /// # Cancel safety
    /// Nothing remains when the future is dropped.
    pub async fn open(&self) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, Error> {
        self.check()?;
        self.in_time(self.stream()).await
    }

    /// Connects and upgrades.
    pub(crate) async fn websocket(&self) -> Result<WebSocket, Error> {
        self.check()?;
        self.in_time(async {
            let mut request = self
                .endpoint()
                .into_client_request()
                .map_err(|error| Error::Options(error.to_string()))?;
            if let Some(token) = &self.auth_token {
                let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
                    Error::Options(
                        "the auth token has characters that no header may have".to_owned(),
                    )
                })?;
                value.set_sensitive(true);
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            let config = WebSocketConfig::default()
                .read_buffer_size(4 * 1024)
                .write_buffer_size(0)
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

    async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(self.connect_timeout, connecting)
            .await
            .unwrap_or_else(|_| {
                let limit = self.connect_timeout;
                Err(self.no_connection(format_args!("no answer within {limit:?}")))
            })
    }

    async fn stream(&self) -> Result<Box<dyn Duplex>, Error> {
        let stream = TcpStream::connect(self.host_and_port())
            .await
            .map_err(|error| self.no_connection(error))?;
        // Messages are small and each is waited for.
        stream
            .set_nodelay(true)
            .map_err(|error| self.no_connection(error))?;
        #[cfg(feature = "tls")]
        if self.tls {
            return tls::wrap(self, stream).await;
        }
        Ok(Box::new(stream))
    }

    fn no_connection(&self, why: impl std::fmt::Display) -> Error {
        let (host, port) = self.host_and_port();
        Error::Connect(format!("{host}:{port}: {why}"))
    }

    /// An answer of HTTP that is no upgrade says why in its body.
    fn not_upgraded(&self, error: WebSocketError) -> Error {
        match error {
            WebSocketError::Http(answer) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let sentence = printable(&String::from_utf8_lossy(body));
                let status = answer.status();
                let what = format!("HTTP status {status}: {sentence}");
                // It has too much to do, ends, or is not there behind its proxy: all that passes.
                if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                    self.no_connection(what)
                } else {
                    Error::Refused(what)
                }
            }
            WebSocketError::Io(error) if error.kind() != io::ErrorKind::InvalidData => {
                self.no_connection(error)
            }
            error => Error::Protocol(printable(&error.to_string())),
        }
    }
}

#[cfg(feature = "tls")]
mod tls {
    use super::Duplex;
    use crate::error::Error;
    use crate::options::Options;
    use std::fmt::Display;
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
        let (host, _) = options.host_and_port();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::Options(format!("bad URL: no host name or address: {host}")))?;
        // The roots are read again for each connection: a few milliseconds, and a changed file counts.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Options(error.to_string()))?
            .with_root_certificates(roots(options.ca_file.as_deref())?)
            .with_no_client_auth();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| options.no_connection(format_args!("no TLS: {error}")))?;
        Ok(Box::new(stream))
    }

    /// What the system trusts, and the certificates of the file.
    fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        // Certificates of the system that cannot be read cannot be trusted; others may do.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(file) = ca_file {
            let bad = |error: &dyn Display| {
                let file = file.display();
                Error::Options(format!(
                    "bad CA file {file}: {error}; allowed are PEM certificates"
                ))
            };
            let certificates = CertificateDer::pem_file_iter(file).map_err(|error| bad(&error))?;
            let before = roots.len();
            for certificate in certificates {
                let certificate = certificate.map_err(|error| bad(&error))?;
                roots.add(certificate).map_err(|error| bad(&error))?;
            }
            if roots.len() == before {
                return Err(bad(&"no certificate in it"));
            }
        }
        Ok(roots)
    }
}
