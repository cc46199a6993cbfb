//! The library against a real server.

use crate::common::{Server, soon};
use locktopus_client::{Client, Error, Options, Resource};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn write(path: &str) -> [Resource; 1] {
    [Resource::write(path.split('/'))]
}

fn read(path: &str) -> [Resource; 1] {
    [Resource::read(path.split('/'))]
}

#[tokio::test]
async fn a_released_connection_serves_the_next_lock() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut last = 0;
    for _ in 0..100 {
        let guard = soon(client.lock(write("a"))).await.expect("granted");
        let token = guard.token().expect("a number");
        assert!(token > last);
        assert_eq!(guard.id(), token.to_string());
        last = token;
        soon(guard.release()).await.expect("confirmed");
        assert_eq!(client.open_connections(), 1);
    }
}

#[tokio::test]
async fn dropping_a_guard_grants_the_next_request() {
    let server = Server::start().await;
    let client = server.client().await;
    let first = soon(client.lock(write("a"))).await.expect("granted");
    let second = soon(client.enqueue(write("a/b"))).await.expect("in line");
    assert!(!second.is_acquired());
    drop(first);
    let second = soon(second.acquired()).await.expect("granted");
    assert!(second.token() > Some(0));
}

#[tokio::test]
async fn dropping_the_future_withdraws_the_request() {
    let server = Server::start().await;
    let client = server.client().await;
    let reader = soon(client.lock(read("a"))).await.expect("granted");
    let writer = soon(client.enqueue(write("a"))).await.expect("in line");
    let late = soon(client.enqueue(read("a"))).await.expect("in line");
    assert!(!late.is_acquired());
    let mut waiting = Box::pin(writer.acquired());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(waiting);
    let _late = soon(late.acquired()).await.expect("granted");
    drop(reader);
}

#[tokio::test]
async fn a_future_dropped_at_any_moment_leaves_nothing_behind() {
    let server = Server::start().await;
    let client = server.client().await;
    for polls in 0..20 {
        let mut locking = Box::pin(client.lock(write("a")));
        for _ in 0..polls {
            if futures_util::poll!(&mut locking).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(locking);
        let guard = soon(client.lock(write("a"))).await.expect("granted");
        soon(guard.release()).await.expect("confirmed");
    }
}

#[tokio::test]
async fn try_lock_does_not_wait() {
    let server = Server::start().await;
    let client = server.client().await;
    let guard = soon(client.try_lock(write("a"))).await.expect("answered");
    assert!(guard.is_some());
    assert!(
        soon(client.try_lock(read("a")))
            .await
            .expect("answered")
            .is_none()
    );
    drop(guard);
    let again = soon(client.lock(read("a"))).await.expect("granted");
    soon(again.release()).await.expect("confirmed");
}

#[tokio::test]
async fn a_timeout_withdraws_the_request() {
    let server = Server::start().await;
    let client = server.client().await;
    let reader = soon(client.lock(read("a"))).await.expect("granted");
    let time = Duration::from_millis(20);
    let error = soon(client.lock_timeout(write("a"), time))
        .await
        .expect_err("held");
    assert!(
        matches!(error, Error::Timeout(limit) if limit == time),
        "{error}"
    );
    let other = soon(client.lock_timeout(read("a"), crate::common::PATIENCE))
        .await
        .expect("granted");
    drop((reader, other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_share_a_client_never_share_a_lock() {
    let server = Server::start().await;
    let client = server.client().await;
    let inside = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..40)
        .map(|_| {
            let (client, inside) = (client.clone(), Arc::clone(&inside));
            tokio::spawn(async move {
                for _ in 0..5 {
                    let guard = soon(client.lock(write("a"))).await.expect("granted");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(guard);
                }
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.expect("no panic");
    }
    let most = client.options().max_idle_connections;
    soon(async {
        while client.open_connections() > most {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn close_waits_for_the_release_of_dropped_guards() {
    let server = Server::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let guard = soon(client.lock(write("a"))).await.expect("granted");
    drop(guard);
    soon(client.close()).await;
    assert_eq!(client.open_connections(), 0);
    assert!(
        soon(other.try_lock(write("a")))
            .await
            .expect("answered")
            .is_some()
    );
    let error = soon(client.lock(write("a"))).await.expect_err("closed");
    assert!(matches!(error, Error::Closed(_)));
}

#[tokio::test]
async fn a_refusal_leaves_the_client_usable() {
    let server = Server::start().await;
    let client = server.client().await;
    let error = soon(client.lock([])).await.expect_err("nothing to lock");
    assert!(matches!(error, Error::Options(_)), "{error}");
    let deep = [Resource::write(vec!["a"; 2000])];
    let error = soon(client.lock(deep)).await.expect_err("too deep");
    assert!(
        matches!(&error, Error::Refused { text, .. } if text.contains("at most 64")),
        "{error}"
    );
    soon(client.lock(write("a")))
        .await
        .expect("granted")
        .release()
        .await
        .expect("confirmed");
}

#[tokio::test]
async fn an_idle_connection_that_has_ended_is_replaced_silently() {
    let server = Server::start().await;
    let client = server.client().await;
    let address = server.address;
    soon(client.lock(write("a")))
        .await
        .expect("granted")
        .release()
        .await
        .expect("confirmed");
    server.stop().await;
    let _server = Server::start_at(address).await;
    let _guard = soon(client.lock(write("a"))).await.expect("granted");
}

#[tokio::test]
async fn a_connect_error_names_the_address() {
    let server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let error = soon(Client::connect(&url)).await.expect_err("no server");
    assert!(
        matches!(&error, Error::Connect(detail) if detail.to_string().contains(&url[5..])),
        "{error}"
    );
}

#[tokio::test]
async fn locks_of_different_namespaces_do_not_conflict() {
    let server = Server::start().await;
    let mut options = Options::new(&server.url()).expect("a URL");
    options.namespace = "ä & b=c".to_owned();
    let one = soon(Client::connect(options)).await.expect("connects");
    let other = server.client().await;
    let _one = soon(one.lock(write("a"))).await.expect("granted");
    assert!(
        soon(other.try_lock(write("a")))
            .await
            .expect("answered")
            .is_some()
    );
}

#[tokio::test]
async fn a_released_lock_is_never_lost() {
    let server = Server::start().await;
    let client = server.client().await;
    let guard = soon(client.lock(write("a"))).await.expect("granted");
    let mut lost = Box::pin(guard.lost());
    soon(guard.release()).await.expect("confirmed");
    soon(client.close()).await;
    assert!(futures_util::poll!(&mut lost).is_pending());
}

#[test]
fn a_lock_is_lost_with_the_runtime_of_its_connection() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let builder = builder.worker_threads(1).enable_all();
        builder.build().expect("a runtime")
    };
    let (ours, theirs) = (runtime(), runtime());
    let server = ours.block_on(Server::start());
    let client = theirs
        .block_on(Client::connect(server.url()))
        .expect("connects");
    let guard = ours
        .block_on(async { soon(client.lock(write("a"))).await })
        .expect("granted");
    theirs.shutdown_timeout(Duration::from_secs(30));
    let lost = ours.block_on(async { soon(guard.lost()).await });
    assert!(
        matches!(lost.reason(), Error::Closed(detail) if detail.to_string().contains("runtime")),
        "{lost:?}"
    );
    assert!(lost.time_left() > Duration::ZERO);
    // The new connection lives on the other runtime.
    let again = ours.block_on(async { soon(client.lock(write("b"))).await });
    assert!(again.is_ok());
}

#[tokio::test]
async fn zero_timeout_acquires_a_free_lock() {
    let server = Server::start().await;
    let client = server.client().await;
    let guard = soon(client.lock_timeout(write("a"), Duration::ZERO)).await;
    let guard = guard.expect("granted");
    let refused = soon(client.lock_timeout(read("a"), Duration::ZERO)).await;
    let error = refused.expect_err("held");
    assert!(matches!(error, Error::Timeout(Duration::ZERO)), "{error}");
    soon(guard.release()).await.expect("confirmed");
}
