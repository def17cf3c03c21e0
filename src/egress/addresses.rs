//! What an IP address is for: the table of those that are not plain public hosts.
//!
//! Pure data and a lookup, as of 2026-11-21. Sources: the IANA IPv4 and IPv6 special-purpose address
//! registries (RFC 6890) with the multicast and reserved blocks of RFC 5771 and RFC 1112; RFC 5214 (ISATAP),
//! RFC 6052 and RFC 8215 (NAT64); the clouds' own pages for their metadata addresses.
//!
//! Invariant: an IPv6 address that embeds an IPv4 address is never public, whatever it embeds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A host on the internet.
    Public,
    /// Loopback, private, link-local, documentation and the like: only where the operator allows it.
    Special,
    /// A cloud's metadata service, which hands out credentials: only where the operator allows it twice.
    Metadata,
    /// An IPv4 address behind the well-known NAT64 prefix: it is judged by that address.
    Translated(Ipv4Addr),
    /// Names no host of its own: no setting opens it.
    Never,
}

/// The addresses that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Block {
    /// The first of them.
    pub(super) first: IpAddr,
    /// How many bits they share: at most 32 or 128.
    pub(super) prefix: u8,
}

impl Block {
    const fn v4(octets: [u8; 4], prefix: u8) -> Self {
        let [a, b, c, d] = octets;
        Block { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
    }

    /// From the first four groups; the rest is zero.
    const fn v6(groups: [u16; 4], prefix: u8) -> Self {
        let [a, b, c, d] = groups;
        Block { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), prefix }
    }

    const fn host(groups: [u16; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = groups;
        Block { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), prefix: 128 }
    }

    /// Whether an address is one of them. An IPv4 address is never in a block of IPv6.
    pub(super) fn contains(self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

const NEVER: [Block; 8] = [
    Block::v4([0, 0, 0, 0], 8),          // "this network"; Linux takes 0.0.0.0 for loopback
    Block::v4([224, 0, 0, 0], 4),        // multicast
    Block::v4([255, 255, 255, 255], 32), // broadcast
    Block::v6([0, 0, 0, 0], 8),          // unspecified, IPv4-compatible, -mapped and -translated; loopback is special
    Block::v6([0x64, 0xff9b, 0, 0], 32), // NAT64 with local prefixes; the well-known one is looked at before
    Block::v6([0x2001, 0, 0, 0], 32),    // Teredo
    Block::v6([0x2002, 0, 0, 0], 16),    // 6to4
    Block::v6([0xff00, 0, 0, 0], 8),     // multicast
];

const METADATA: [Block; 13] = [
    Block::v4([169, 254, 169, 0], 24),     // 169.254.169.254 of nearly every cloud
    Block::v4([169, 254, 170, 0], 24),     // AWS: credentials of containers and pods
    Block::v4([169, 254, 0, 23], 32),      // Tencent
    Block::v4([169, 254, 42, 42], 32),     // Scaleway
    Block::v4([168, 63, 129, 16], 32),     // Azure's wire server
    Block::v4([100, 100, 100, 200], 32),   // Alibaba
    Block::v4([192, 0, 0, 192], 32),       // Oracle
    Block::v6([0xfd00, 0x0ec2, 0, 0], 32), // AWS: fd00:ec2::254 and its neighbours
    Block::host([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]), // Google
    Block::host([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]), // Scaleway
    Block::host([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]), // Oracle
    Block::host([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe]), // OpenStack
    Block::v6([0xfd00, 0xa9fe, 0xa9fe, 0], 48), // Linode
];

const SPECIAL: [Block; 21] = [
    Block::v4([10, 0, 0, 0], 8),              // private
    Block::v4([100, 64, 0, 0], 10),           // shared by carriers
    Block::v4([127, 0, 0, 0], 8),             // loopback
    Block::v4([169, 254, 0, 0], 16),          // link-local
    Block::v4([172, 16, 0, 0], 12),           // private
    Block::v4([192, 0, 0, 0], 24),            // protocol assignments
    Block::v4([192, 0, 2, 0], 24),            // documentation
    Block::v4([192, 31, 196, 0], 24),         // AS112
    Block::v4([192, 52, 193, 0], 24),         // AMT
    Block::v4([192, 88, 99, 0], 24),          // relays of 6to4
    Block::v4([192, 168, 0, 0], 16),          // private
    Block::v4([192, 175, 48, 0], 24),         // AS112
    Block::v4([198, 18, 0, 0], 15),           // benchmarks
    Block::v4([198, 51, 100, 0], 24),         // documentation
    Block::v4([203, 0, 113, 0], 24),          // documentation
    Block::v4([240, 0, 0, 0], 4),             // reserved
    Block::v6([0x2001, 0, 0, 0], 23),         // protocol assignments
    Block::v6([0x2001, 0xdb8, 0, 0], 32),     // documentation
    Block::v6([0x2620, 0x4f, 0x8000, 0], 48), // AS112
    Block::v6([0x3ffe, 0, 0, 0], 16),         // the 6bone, given back
    Block::v6([0x3fff, 0, 0, 0], 20),         // documentation
];

/// IPv6 outside of it is special: loopback, unique local (fc00::/7), link-local (fe80::/10), site-local
/// (fec0::/10), discard (100::/64), segment routing (5f00::/16) and all that nobody has been given yet.
const GLOBAL_UNICAST: Block = Block::v6([0x2000, 0, 0, 0], 3);

const NAT64: Block = Block::v6([0x64, 0xff9b, 0, 0], 96);

/// What this address is for.
pub(super) fn kind(address: IpAddr) -> Kind {
    let within = |blocks: &[Block]| blocks.iter().any(|block| block.contains(address));
    if let IpAddr::V6(v6) = address {
        if v6 == Ipv6Addr::LOCALHOST {
            return Kind::Special;
        }
        if NAT64.contains(address) {
            return Kind::Translated(last_32_bits(v6));
        }
        if is_isatap(v6) {
            return Kind::Never;
        }
    }
    if within(&NEVER) {
        return Kind::Never;
    }
    if within(&METADATA) {
        return Kind::Metadata;
    }
    if within(&SPECIAL) || (address.is_ipv6() && !GLOBAL_UNICAST.contains(address)) {
        return Kind::Special;
    }
    Kind::Public
}

fn last_32_bits(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

/// ISATAP embeds an IPv4 address after `0:5efe` or `200:5efe`, under any prefix.
fn is_isatap(address: Ipv6Addr) -> bool {
    let [.., high, low, _, _] = address.segments();
    matches!(high, 0 | 0x0200) && low == 0x5efe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind_of(address: &str) -> Kind {
        kind(address.parse().unwrap())
    }

    /// Each range: the neighbour before it, its first, its last, the neighbour after it. A neighbour that is
    /// itself in another range stands as "".
    const RANGES: [[&str; 4]; 37] = [
        ["", "0.0.0.0", "0.255.255.255", "1.0.0.0"],
        ["9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"],
        ["100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"],
        ["126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"],
        ["168.63.129.15", "168.63.129.16", "168.63.129.16", "168.63.129.17"],
        ["169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"],
        ["172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"],
        ["191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"],
        ["192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"],
        ["192.31.195.255", "192.31.196.0", "192.31.196.255", "192.31.197.0"],
        ["192.52.192.255", "192.52.193.0", "192.52.193.255", "192.52.194.0"],
        ["192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"],
        ["192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"],
        ["192.175.47.255", "192.175.48.0", "192.175.48.255", "192.175.49.0"],
        ["198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"],
        ["198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"],
        ["203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"],
        ["223.255.255.255", "224.0.0.0", "239.255.255.255", ""],
        ["", "240.0.0.0", "255.255.255.255", ""],
        ["", "::", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""],
        ["", "::1", "::1", ""],
        ["", "::ffff:0.0.0.0", "::ffff:255.255.255.255", ""],
        ["", "64:ff9b::", "64:ff9b:ffff:ffff:ffff:ffff:ffff:ffff", ""],
        ["", "100::", "100::ffff:ffff:ffff:ffff", ""],
        ["", "1fff::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2000::"],
        ["2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"],
        [
            "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db9::",
        ],
        ["2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"],
        [
            "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff",
            "2620:4f:8000::",
            "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
            "2620:4f:8001::",
        ],
        ["3ffd:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""],
        ["", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"],
        ["3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""],
        ["", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""],
        ["", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""],
        ["", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""],
        ["", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""],
        ["", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""],
    ];

    #[test]
    fn each_range_begins_and_ends_where_the_registries_say() {
        for [before, first, last, after] in RANGES {
            for inside in [first, last] {
                assert_ne!(kind_of(inside), Kind::Public, "{inside}");
            }
            for outside in [before, after] {
                assert!(outside.is_empty() || kind_of(outside) == Kind::Public, "{outside}");
            }
        }
    }

    #[test]
    fn hosts_on_the_internet_are_public() {
        for address in ["1.1.1.1", "8.8.8.8", "104.16.0.1", "2606:4700::1111", "2a00:1450:4001:830::200e"] {
            assert_eq!(kind_of(address), Kind::Public, "{address}");
        }
    }

    #[test]
    fn metadata_services_are_known_as_such() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fe80::a9fe:a9fe",
        ] {
            assert_eq!(kind_of(address), Kind::Metadata, "{address}");
        }
    }

    #[test]
    fn what_no_operator_can_mean_is_never_opened() {
        for address in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255", "::", "ff02::1"] {
            assert_eq!(kind_of(address), Kind::Never, "{address}");
        }
    }

    proptest! {
        #[test]
        fn every_address_that_embeds_an_ipv4_address_is_refused_whatever_it_embeds(
            embedded: u32, prefix: u64, flags in prop::sample::select(vec![0x0000_5efe_u64, 0x0200_5efe]), tail: u64,
        ) {
            let low = u128::from(embedded);
            prop_assume!(embedded != 1); // ::1 is loopback, which an operator may allow
            let teredo = (0x2001_0000_u128 << 96) | (u128::from(prefix as u32) << 64) | u128::from(tail);
            let never = [
                ("compatible", low),
                ("mapped", 0xffff_u128 << 32 | low),
                ("translated", 0xffff_u128 << 48 | low),
                ("6to4", 0x2002_u128 << 112 | low << 80 | u128::from(tail)),
                ("teredo", teredo),
                ("local NAT64", 0x0064_ff9b_0001_u128 << 80 | low),
                ("ISATAP", u128::from(prefix) << 64 | u128::from(flags) << 32 | low),
            ];
            for (how, bits) in never {
                let address = Ipv6Addr::from_bits(bits);
                prop_assert_eq!(kind(address.into()), Kind::Never, "{}: {}", how, address);
            }
            let nat64 = Ipv6Addr::from_bits(0x0064_ff9b_u128 << 96 | low);
            prop_assert_eq!(kind(nat64.into()), Kind::Translated(Ipv4Addr::from_bits(embedded)));
        }
    }
}
