//! The clients that count as one.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The clients that count as one: those with the same auth token, or, without tokens, those at the same address.
///
/// It is small, and its `Debug` text shows no token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Party(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// A digest of the token, keyed by a number that is drawn when the server starts.
    Token(u64),
    Address(IpAddr),
}

impl Party {
    pub(crate) fn of_token(digest: u64) -> Party {
        Party(Kind::Token(digest))
    }

    /// The party of an address. An IPv6 address counts with its whole /64 network, since a single host usually owns
    /// one. An IPv4-mapped address counts as IPv4.
    pub(crate) fn of_address(address: IpAddr) -> Party {
        Party(Kind::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
            }
            address @ IpAddr::V4(_) => address,
        }))
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Token(_) => f.write_str("token"),
            Kind::Address(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(address: &str) -> Party {
        Party::of_address(address.parse().expect("an address"))
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_party() {
        assert_eq!(party("2001:db8:1:2::1"), party("2001:db8:1:2:ffff::9"));
        assert_ne!(party("2001:db8:1:2::1"), party("2001:db8:1:3::1"));
        assert_ne!(party("127.0.0.1"), party("127.0.0.2"));
    }

    #[test]
    fn an_ipv4_mapped_address_is_the_party_of_its_ipv4_address() {
        assert_eq!(party("::ffff:192.0.2.1"), party("192.0.2.1"));
        assert_ne!(party("::ffff:192.0.2.1"), party("::ffff:192.0.2.2"));
    }

    #[test]
    fn the_debug_text_of_a_party_shows_no_token() {
        assert_eq!(format!("{:?}", Party::of_token(4711)), "token");
        assert_eq!(format!("{:?}", party("192.0.2.1")), "192.0.2.1");
    }
}
