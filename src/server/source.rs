//! Where a connection comes from, as far as limits count.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The bits of an IPv6 address that name a network: one customer has all addresses of it.
const NETWORK: u128 = !0 << 64;

/// An IPv4 address, or an IPv6 network of 64 bits. It is the peer's own: headers that a proxy may or may not have written are
/// not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl Source {
    /// Whether it is this machine.
    pub(super) fn is_loopback(self) -> bool {
        match self.0 {
            IpAddr::V4(address) => address.is_loopback(),
            // Its network: nobody else is in it.
            IpAddr::V6(network) => network.is_unspecified(),
        }
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        Source(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_counts_whole_and_ipv6_by_its_network() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_eq!(source("2001:db8:1:2::3"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::3"), source("2001:db8:1:3::3"));
        assert_eq!(source("2001:db8:1:2::3").to_string(), "2001:db8:1:2::/64");
        for (text, loopback) in [("127.0.0.1", true), ("127.9.9.9", true), ("::1", true), ("10.0.0.1", false)] {
            assert_eq!(source(text).is_loopback(), loopback, "{text}");
        }
        assert!(!source("2001:db8::1").is_loopback() && !source("fe80::1").is_loopback());
    }
}
