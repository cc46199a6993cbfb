//! Converts between the resources of the protocol and of the engine: neither crate depends on the other.

use locktopus_engine as engine;
use locktopus_protocol as protocol;

/// The engine's form of a resource from the wire.
pub(crate) fn to_engine(resource: protocol::Resource) -> engine::Resource {
    let path = engine::Path::from(resource.path);
    match resource.mode {
        protocol::Mode::Read => engine::Resource::read(path),
        protocol::Mode::Write => engine::Resource::write(path),
    }
}

/// The protocol's form of a resource from the lock table.
pub(crate) fn from_engine(resource: &engine::Resource) -> protocol::Resource {
    let path = resource.path.segments();
    match resource.mode {
        engine::Mode::Read => protocol::Resource::read(path),
        // Write, which is also the safe reading of a mode that this server does not know.
        _ => protocol::Resource::write(path),
    }
}
