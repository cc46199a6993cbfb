//! The library over TLS, through a TLS proxy in front of a real server.

use crate::common::{Server, soon};
use locktopus_client::{Client, Error, Options, Resource};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A proxy, and the file with its certificate, which is for `localhost`.
async fn proxy(server: &Server, name: &str) -> (u16, PathBuf) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .expect("a pair");
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, pair.cert.pem()).expect("written");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let address = server.address;
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            // The client reports a failed handshake.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut inner = TcpStream::connect(address).await.expect("connects");
                tokio::spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
                });
            }
        }
    });
    (port, file)
}

#[tokio::test]
async fn a_certificate_of_the_ca_file_is_trusted() {
    let server = Server::start().await;
    let (port, file) = proxy(&server, "trusted.pem").await;
    for scheme in ["wss", "https"] {
        let mut options = Options::new(&format!("{scheme}://localhost:{port}")).expect("a URL");
        options.ca_file = Some(file.clone());
        let client = soon(Client::connect(options)).await.expect("connects");
        let guard = soon(client.lock([Resource::write(["a"])]))
            .await
            .expect("granted");
        soon(guard.release()).await.expect("confirmed");
    }
}

#[tokio::test]
async fn other_certificates_are_not_trusted() {
    let server = Server::start().await;
    let (port, file) = proxy(&server, "others.pem").await;
    // An unknown certificate, and a known one for another host.
    for (host, ca_file) in [("localhost", None), ("127.0.0.1", Some(file))] {
        let mut options = Options::new(&format!("wss://{host}:{port}")).expect("a URL");
        options.ca_file = ca_file;
        let error = soon(Client::connect(options))
            .await
            .expect_err("not trusted");
        assert!(
            matches!(&error, Error::Connect(detail) if detail.to_string().contains("no TLS")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_ca_file_without_certificates_is_named() {
    let server = Server::start().await;
    let (port, file) = proxy(&server, "good.pem").await;
    let empty = file.with_file_name("empty.pem");
    std::fs::write(&empty, "nothing").expect("written");
    for (file, part) in [
        (empty, "no certificate"),
        (file.with_file_name("none.pem"), "none.pem"),
    ] {
        let mut options = Options::new(&format!("wss://localhost:{port}")).expect("a URL");
        options.ca_file = Some(file);
        let error = soon(Client::connect(options))
            .await
            .expect_err("no certificates");
        assert!(
            matches!(&error, Error::Options(_)) && format!("{error:?}").contains(part),
            "{error:?}"
        );
    }
}

/// The command of the README.
#[cfg(feature = "cli")]
#[tokio::test]
async fn the_command_trusts_a_self_signed_certificate_in_its_ca_file() {
    let server = Server::start().await;
    let (port, file) = proxy(&server, "command.pem").await;
    let url = format!("wss://localhost:{port}");
    for (flags, status) in [(&["--ca-file"][..], 0), (&[], 69)] {
        let mut command = crate::command::locktopus(&["run", "--url", &url]);
        if let [flag] = flags {
            command.arg(flag).arg(&file);
        }
        command.args(["-w", "a", "--", "echo", "ran"]);
        let output = soon(tokio::process::Command::from(command).output()).await;
        let output = output.expect("runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{errors}");
        assert_eq!(output.stdout == b"ran\n", status == 0, "{errors}");
    }
}
