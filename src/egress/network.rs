//! A network that the operator allows: addresses, and perhaps one port of theirs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::addresses::Block;

/// A network, and perhaps one port: `127.0.0.0/8`, `10.0.0.0/8:8080`, `fd00::/8`.
///
/// A single address may stand without its prefix length: `10.1.2.3`, `10.1.2.3:8080`, `[fd00::1]:8080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    block: Block,
    port: Option<u16>,
}

/// A text that is not a [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotANetwork {
    /// Not a CIDR block, or port 0.
    #[error("not a network, such as 10.0.0.0/8 or 10.0.0.0/8:8080")]
    Unreadable,
    /// Bits are set behind the prefix: `10.1.2.3/8` could mean the network or the host.
    #[error("not a network: it has bits behind its prefix; the network is {network}, the address alone {address}")]
    BitsBehindPrefix {
        /// The network that the address is in.
        network: Network,
        /// The address alone.
        address: Network,
    },
}

impl Network {
    /// The one port that it opens; `None` opens them all but 0.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether an address is in it, on whatever port.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.block.contains(address)
    }

    fn new(first: IpAddr, prefix: u8, port: Option<u16>) -> Result<Self, NotANetwork> {
        let (most, network) = match first {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
                (32, IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask)))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
                (128, IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)))
            }
        };
        if prefix > most || port == Some(0) {
            return Err(NotANetwork::Unreadable);
        }
        let of = |first, prefix| Network { block: Block { first, prefix }, port };
        // Whoever writes it must say which of the two is meant.
        if network != first {
            return Err(NotANetwork::BitsBehindPrefix { network: of(network, prefix), address: of(first, most) });
        }
        Ok(of(first, prefix))
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let Some((first, rest)) = text.split_once('/') else {
            let (address, port) = match text.parse::<SocketAddr>() {
                Ok(address) => (address.ip(), Some(address.port())),
                Err(_) => (text.parse().map_err(|_| NotANetwork::Unreadable)?, None),
            };
            return Network::new(address, if address.is_ipv4() { 32 } else { 128 }, port);
        };
        let (prefix, port) = match rest.split_once(':') {
            Some((prefix, port)) => (prefix, Some(digits(port)?)),
            None => (rest, None),
        };
        Network::new(first.parse().map_err(|_| NotANetwork::Unreadable)?, digits(prefix)?, port)
    }
}

/// Digits only: Rust's own parser would take a sign.
fn digits<T: FromStr>(text: &str) -> Result<T, NotANetwork> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotANetwork::Unreadable);
    }
    text.parse().map_err(|_| NotANetwork::Unreadable)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.block.first, self.block.prefix)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_spelling_of_a_network_is_read() {
        for (text, shown) in [
            ("127.0.0.0/8", "127.0.0.0/8"),
            ("10.0.0.0/8:8080", "10.0.0.0/8:8080"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3:8080", "10.1.2.3/32:8080"),
            ("fd00::/8", "fd00::/8"),
            ("fd00::/8:8080", "fd00::/8:8080"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
            ("[fd00::1]:8080", "fd00::1/128:8080"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_not_exactly_a_network_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/33",
            "::/129",
            "10/8",
            "010.0.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8:",
            "10.0.0.0/8:0",
            "10.0.0.0/8:65536",
            "10.0.0.0/8:+1",
            "10.0.0.0/8:1:2",
            "10.0.0.0:0",
            " 10.0.0.0/8",
            "localhost",
            "10.0.0.0/256",
            "fe80::1%eth0/128",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork::Unreadable), "{text:?}");
        }
    }

    #[test]
    fn bits_behind_the_prefix_are_answered_with_what_can_be_meant() {
        for (text, meant) in [
            ("127.0.0.1/8", "the network is 127.0.0.0/8, the address alone 127.0.0.1/32"),
            ("10.1.2.3/8:8080", "the network is 10.0.0.0/8:8080, the address alone 10.1.2.3/32:8080"),
            ("10.0.0.1/0", "the network is 0.0.0.0/0, the address alone 10.0.0.1/32"),
            ("fd00::1/8", "the network is fd00::/8, the address alone fd00::1/128"),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.to_string().ends_with(meant), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_text_form_reads_back(bits: u128, prefix in 0_u8..=128, port: Option<u16>, v4: bool) {
            let (first, prefix) = if v4 {
                let prefix = prefix % 33;
                let kept = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                (IpAddr::from(std::net::Ipv4Addr::from_bits(bits as u32 & kept)), prefix)
            } else {
                let kept = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                (IpAddr::from(std::net::Ipv6Addr::from_bits(bits & kept)), prefix)
            };
            let network = Network::new(first, prefix, port.filter(|port| *port != 0)).unwrap();
            prop_assert_eq!(network.to_string().parse::<Network>(), Ok(network));
            prop_assert!(network.contains(first));
        }
    }
}
