//! `DELETE /locks`: the end of all locks and requests of one client.

use super::query::Clients;
use crate::locks::{Holder, Namespace};
use crate::shares::Party;
use locktopus_engine::RequestState;
use locktopus_protocol::pages::ReleasedAll;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::yield_now;

/// How many connections are looked at before other tasks go on.
const AT_A_TIME: usize = 100;

/// Revokes the locks and withdraws the requests of these clients, on the order of an operator of this address and
/// party. Returns their numbers once all of them have left the lock table.
///
/// It looks at the connections up to this number, so clients that connect meanwhile cannot keep it at work. It may miss
/// a request that enters meanwhile.
pub(super) async fn revoke_all(
    namespace: Arc<Namespace>,
    clients: Clients,
    last_connection: u64,
    by: (SocketAddr, Party),
) -> ReleasedAll {
    let mut done = ReleasedAll::default();
    // Waiting requests first: they must not be granted when the locks of the same clients are released.
    for only_waiting in [true, false] {
        let holders = namespace.each_holder();
        let holders = holders.take_while(|holder| holder.client.id <= last_connection);
        for (index, holder) in holders.enumerate() {
            if index % AT_A_TIME == AT_A_TIME - 1 {
                yield_now().await;
            }
            if !has(&clients, &holder) || (only_waiting && !holder.is_waiting()) {
                continue;
            }
            let current = holder.current();
            let revoked = current.and_then(|(token, _)| holder.revoke(token, by));
            let Some((state, left)) = revoked else {
                continue;
            };
            match state {
                RequestState::Acquired => done.released += 1,
                _ => done.withdrawn += 1,
            }
            left.await;
        }
    }
    done
}

/// Whether the holder belongs to one of the clients.
fn has(clients: &Clients, holder: &Holder) -> bool {
    match clients {
        Clients::Named(name) => holder.client.name.as_ref() == Some(name),
        Clients::At(address) => holder.client.address.ip().to_canonical() == *address,
    }
}
