//! The examples, against a real server. Each checks its own results.

use crate::common::{Server, soon};

#[path = "../../examples/cron_once.rs"]
mod cron_once;
#[path = "../../examples/fenced_write.rs"]
mod fenced_write;
#[path = "../../examples/transfer.rs"]
mod transfer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_keep_the_sum() {
    let server = Server::start().await;
    soon(transfer::run(&server.url())).await.expect("no error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_hosts_runs_the_job() {
    let server = Server::start().await;
    soon(cron_once::run(&server.url())).await.expect("no error");
}

#[tokio::test]
async fn a_fenced_write_is_safe_from_a_paused_holder() {
    let server = Server::start().await;
    soon(fenced_write::run(&server.url()))
        .await
        .expect("no error");
}
