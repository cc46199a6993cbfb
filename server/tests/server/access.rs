//! Access control: origins, auth tokens, TLS; and the limits of a server.

use crate::common::{Client, PATIENCE, Server};
use locktopus_server::{Config, Secrets};
use std::error::Error as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_tungstenite::client_async;

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_unless_named() {
    let named = config(|config| config.allow_origin = vec!["https://good.example".into()]);
    let server = Server::start_with(named).await;
    let own = format!("Origin: http://{}", server.address);
    for origin in ["", &own, "Origin: https://good.example"] {
        let (status, answer) = server.try_upgrade("namespace=n", origin).await;
        assert_eq!(status, 101, "{origin}: {answer}");
    }
    for origin in ["Origin: https://evil.example", "Origin: null", "Origin:"] {
        let (status, answer) = server.try_upgrade("namespace=n", origin).await;
        assert_eq!(status, 403, "{origin}");
        assert!(answer.contains("--allow-origin"), "{answer}");
        assert_eq!(
            server
                .request("DELETE", "/locks/1?namespace=n", origin)
                .await
                .0,
            403
        );
    }
    server.until_empty().await;
}

/// A token for all namespaces, and a token for namespaces that begin with `app-`.
fn with_token_file(folder: &Path) -> Config {
    let file = folder.join("tokens");
    fs::write(&file, "# all\nmaster-key\n\nsome-key app-\n").expect("written");
    config(|config| config.auth_token_file = Some(file))
}

#[tokio::test]
async fn with_a_token_file_every_request_needs_a_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start_with(with_token_file(folder.path())).await;
    for path in [
        "/",
        "/namespaces",
        "/locks?namespace=n",
        "/stats?namespace=n",
        "/metrics",
    ] {
        for header in [
            "",
            "Authorization: Bearer wrong",
            "Authorization: Basic master-key",
            "Authorization: Bearer",
        ] {
            let (status, body) = server.request("GET", path, header).await;
            assert_eq!(status, 401, "{path} {header}: {body}");
        }
    }
    assert_eq!(
        server.request("DELETE", "/locks/1?namespace=n", "").await.0,
        401
    );
    for (query, header) in [
        ("namespace=n", ""),
        ("namespace=n&token=", ""),
        ("namespace=n&token=master-ke", ""),
        ("namespace=n", "Authorization: Bearer master-key1"),
    ] {
        let (status, answer) = server.try_upgrade(query, header).await;
        assert_eq!(status, 401, "{query} {header}");
        assert!(!answer.contains("master-ke"), "{answer}");
    }
    for (query, header) in [
        ("namespace=n&token=master-key", ""),
        ("namespace=n", "Authorization: Bearer master-key"),
        ("namespace=n", "Authorization: bearer  master-key"),
        ("namespace=app-1&token=some-key", ""),
    ] {
        assert_eq!(
            server.try_upgrade(query, header).await.0,
            101,
            "{query} {header}"
        );
    }
    assert_eq!(server.get("/healthz").await, (200, "ok\n".to_owned()));
    let (status, page) = server.request("GET", "/", "Accept: text/html").await;
    assert!(
        status == 200 && page.contains("<html"),
        "the page itself has no data"
    );
}

#[tokio::test]
async fn a_token_with_a_prefix_opens_only_namespaces_with_that_prefix() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start_with(with_token_file(folder.path())).await;
    let some = "Authorization: Bearer some-key";
    let _mine = server.connect("namespace=app-1&token=some-key").await;
    let _other = server.connect("namespace=other&token=master-key").await;
    assert_eq!(server.try_upgrade("namespace=other", some).await.0, 403);
    for (method, path, status) in [
        ("GET", "/stats?namespace=app-1", 200),
        ("GET", "/stats?namespace=other", 403),
        ("GET", "/locks?namespace=other", 403),
        ("DELETE", "/locks/1?namespace=other", 403),
        ("DELETE", "/locks/1?namespace=app-1", 404),
        ("GET", "/metrics", 403),
    ] {
        assert_eq!(server.request(method, path, some).await.0, status, "{path}");
    }
    for path in ["/namespaces", "/"] {
        let (status, list) = server.request("GET", path, some).await;
        assert_eq!(status, 200);
        assert!(list.contains("app-1") && !list.contains("other"), "{list}");
    }
}

#[tokio::test]
async fn a_reload_replaces_the_tokens_unless_the_file_is_bad() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start_with(with_token_file(folder.path())).await;
    let mut client = server.connect("namespace=n&token=master-key").await;
    fs::write(folder.path().join("tokens"), "new-key").expect("written");
    server.secrets.reload().expect("good");
    assert_eq!(
        server
            .try_upgrade("namespace=n&token=master-key", "")
            .await
            .0,
        401
    );
    assert_eq!(
        server.try_upgrade("namespace=n&token=new-key", "").await.0,
        101
    );
    fs::write(folder.path().join("tokens"), "").expect("written");
    assert!(server.secrets.reload().is_err());
    assert_eq!(
        server.try_upgrade("namespace=n&token=new-key", "").await.0,
        101,
        "the former tokens stay"
    );
    client.lock("w:a").await;
}

/// A certificate for localhost in this folder, and a client that trusts it.
fn with_certificate(folder: &Path) -> (Config, TlsConnector) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("signed");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert, signed.cert.pem()).expect("written");
    fs::write(&key, signed.signing_key.serialize_pem()).expect("written");
    let mut roots = RootCertStore::empty();
    roots.add(signed.cert.der().clone()).expect("a certificate");
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = config(|config| {
        config.tls_cert = Some(cert);
        config.tls_key = Some(key);
    });
    (config, TlsConnector::from(Arc::new(client)))
}

#[tokio::test]
async fn a_server_with_a_certificate_speaks_https_and_wss() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut config, connector) = with_certificate(folder.path());
    config.handshake_timeout = Duration::from_secs(1);
    let server = Server::start_with(config).await;
    let dial = || async {
        let stream = TcpStream::connect(server.address).await.expect("connects");
        let name = "localhost".try_into().expect("a name");
        connector.connect(name, stream).await.expect("trusted")
    };
    let mut https = dial().await;
    let head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    https.write_all(head).await.expect("sent");
    let mut answer = String::new();
    let read = timeout(PATIENCE, https.read_to_string(&mut answer)).await;
    read.expect("answered").expect("text");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let url = "wss://localhost/v1?namespace=n";
    let (websocket, _) = client_async(url, dial().await).await.expect("upgraded");
    let mut client = Client(websocket);
    client.lock("w:a").await;
    client.release().await;

    // A socket without a handshake is closed after the timeout.
    let mut silent = TcpStream::connect(server.address).await.expect("connects");
    let mut rest = Vec::new();
    let closed = timeout(PATIENCE, silent.read_to_end(&mut rest)).await;
    let _ = closed.expect("closed");

    // A client that does not speak TLS gets no answer, and does not disturb the others.
    let mut plain = TcpStream::connect(server.address).await.expect("connects");
    plain.write_all(head).await.expect("sent");
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, plain.read_to_end(&mut rest)).await;
    let _ = read.expect("closed");
    assert!(!String::from_utf8_lossy(&rest).contains("200"));
    client.lock("w:a").await;
}

#[test]
fn a_bad_file_is_an_error_that_names_it_and_has_a_cause() {
    let folder = tempfile::tempdir().expect("a folder");
    with_certificate(folder.path());
    let place = |name: &str| folder.path().join(name);
    fs::write(place("empty"), "").expect("written");
    fs::write(place("three"), "a b c").expect("written");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("signed");
    fs::write(place("other.pem"), other.signing_key.serialize_pem()).expect("written");
    for (tokens, cert, key, part) in [
        (Some("none"), None, None, "none"),
        (Some("empty"), None, None, "no token"),
        (Some("three"), None, None, "line 1"),
        (None, Some("cert.pem"), None, "--tls-key"),
        (None, None, Some("key.pem"), "--tls-cert"),
        (None, Some("empty"), Some("key.pem"), "empty"),
        (None, Some("cert.pem"), Some("empty"), "empty"),
        (None, Some("cert.pem"), Some("other.pem"), "cert.pem"),
        (None, Some("no.pem"), Some("key.pem"), "no.pem"),
    ] {
        let config = config(|config| {
            config.auth_token_file = tokens.map(place);
            config.tls_cert = cert.map(place);
            config.tls_key = key.map(place);
        });
        let error = Secrets::load(&config).expect_err(part);
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        let text = format!("{error}: {cause}");
        assert!(text.contains(part), "{part}: {text}");
        let is_file = !part.starts_with("--");
        assert_eq!(is_file, !cause.is_empty(), "{text}");
    }
}

#[tokio::test]
async fn each_limit_on_connections_is_refused_with_its_number() {
    let limited = config(|config| {
        config.max_connections = 3;
        config.share = 100;
        config.max_namespaces = 2;
        config.max_namespace_bytes = 5;
        config.max_abandon_timeout = Duration::from_secs(1);
        config.default_abandon_timeout = Duration::ZERO;
    });
    let server = Server::start_with(limited).await;
    for (query, part) in [
        ("namespace=%C3%A9%C3%A9%C3%A9", "6 bytes; at most 5"),
        ("namespace=n&abandon-timeout-ms=1001", "at most 1000"),
    ] {
        let (status, answer) = server.try_upgrade(query, "").await;
        assert!(status == 400 && answer.contains(part), "{answer}");
    }
    let _first = server.connect("namespace=n&abandon-timeout-ms=1000").await;
    let second = server.connect("namespace=m").await;
    let (status, answer) = server.try_upgrade("namespace=o", "").await;
    assert!(
        status == 503 && answer.contains("at most 2 are"),
        "{answer}"
    );
    let third = server.connect("namespace=n").await;
    let (status, answer) = server.try_upgrade("namespace=n", "").await;
    assert!(
        status == 503 && answer.contains("at most 3 are"),
        "{answer}"
    );
    assert_eq!(
        server.get("/healthz").await.0,
        200,
        "requests for pages are not connections"
    );
    second.close().await;
    third.close().await;
    let mut again = server.connect("namespace=n").await;
    again.lock("w:a").await;
}

#[tokio::test]
async fn each_limit_on_locks_is_refused_with_its_number() {
    let limited = config(|config| {
        config.max_message_bytes = 1024;
        config.max_resources = 2;
        config.max_path_depth = 3;
        config.max_path_bytes = 10;
    });
    let server = Server::start_with(limited).await;
    let mut holder = server.connect("namespace=n").await;
    holder.lock("w:a/b/c w:123456789").await;
    for (set, part) in [
        ("w:a w:b w:c", "3 resources; at most 2"),
        ("w:a/b/c/d", "4 segments; at most 3"),
        ("w:1234567890", "11 bytes; at most 10"),
        (&format!("w:{}", "x".repeat(2000)), "at most 1024"),
    ] {
        let mut client = server.connect("namespace=n").await;
        client.send_lock(set).await;
        let error = client.expect_error().await;
        assert!(error.contains(part), "{error}");
    }
    holder.release().await;
}
