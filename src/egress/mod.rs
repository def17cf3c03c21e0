//! Which addresses may be called, and the connections to them.
//!
//! Tenants choose URLs, so a URL is an attempt to reach what only this machine can reach. Three gates, and
//! nothing leaves but through all of them:
//!
//! ```text
//!   URL ──▶ check_url: scheme, port, typed host ──▶ resolver: every answer vetted ──▶ connection to those
//!           (at registration, and before a byte      (one bad answer refuses all)     answers alone, and the
//!            leaves; an address ends here)                                            peer looked at once more
//! ```
//!
//! Invariants: names are resolved in `resolver.rs` alone, and sockets opened in `connector.rs` alone. A connection
//! that is kept is looked at again before each use, under the policy of that moment. A host is judged as the `url`
//! crate types it, so that every spelling of an address is that address.

mod addresses;
mod answers;
mod connector;
mod gate;
mod network;
mod proxy;
mod resolver;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::invalid::Invalid;
use addresses::Kind;

pub(crate) use connector::{Connector, Stream, Unconnected};
pub use gate::Gate;
pub use network::{Network, NotANetwork};
pub use proxy::Proxy;

/// Which addresses may be called: the operator's choice, never a tenant's.
///
/// The default calls public hosts over https alone. What it takes to call another:
///
/// | target | needs |
/// |---|---|
/// | loopback, private, link-local and other special addresses | a network that covers it |
/// | `localhost` | a network that covers 127.0.0.1 or ::1 |
/// | plain http, to whatever address | a network that covers the address |
/// | a port of the WHATWG's list of bad ports, or of a datastore | a network that covers the address |
/// | a cloud's metadata address | a network that covers it, and `allow_metadata` |
/// | an IPv4 address behind NAT64 (`64:ff9b::/96`) | a network that covers the IPv6 address, and what the IPv4 address needs |
/// | multicast, unspecified, IPv4-mapped, 6to4, Teredo, ISATAP, port 0 | nothing: it is never called |
/// | names of hosts inside (`*.internal`, `*.local`, single labels …) | nothing: they are never called |
///
/// ```
/// use ringback::egress::{Policy, Scheme};
///
/// let policy = Policy { allowed_networks: vec!["10.0.0.0/8:8080".parse()?], ..Policy::default() };
/// assert!(policy.check_address("10.1.2.3:8080".parse()?, Scheme::Http));
/// assert!(!policy.check_address("10.1.2.3:9090".parse()?, Scheme::Https));
/// assert!(policy.check_url(&"http://10.1.2.3:8080/hooks".parse()?).is_ok());
/// assert!(policy.check_url(&"https://0x7f.1/".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Policy {
    /// Networks that may be called although they are special, with plain http, and on any port: on the one
    /// port where the network names one, else on all but 0.
    pub allowed_networks: Vec<Network>,
    /// Whether the networks open the metadata addresses of clouds, too. Whoever calls these gets credentials.
    pub allow_metadata: bool,
}

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP over TLS.
    Https,
    /// Plain HTTP.
    Http,
}

/// The addresses of `localhost`, whatever a resolver would say (RFC 6761).
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Names of hosts inside: these and all below them.
const INSIDE: [&str; 9] = [
    "localhost",
    "local", // with it, Kubernetes' cluster.local
    "internal",
    "home.arpa",
    "svc",
    // Metadata services under public names.
    "metadata.goog",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "metadata.platformequinix.com",
];

/// The bad ports of the Fetch standard (as of 2026-11-21): what answers there speaks another protocol, and
/// may take an HTTP request for its own.
const BAD_PORTS: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
    540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
    6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Datastores: SQL Server, Oracle, etcd, MySQL, PostgreSQL, CouchDB, Redis, Neo4j, Cassandra, Kafka,
/// Elasticsearch, Memcached, Redis Sentinel, MongoDB, MySQL X.
const DATASTORE_PORTS: [u16; 19] = [
    1433, 1521, 2379, 2380, 3306, 5432, 5984, 6379, 7687, 9042, 9092, 9200, 9300, 11211, 26379, 27017, 27018, 27019,
    33060,
];

const HTTPS_ONLY: &str = "must start with https://; plain http goes to allowed networks only";
const BLOCKED_ADDRESS: &str = "names an address that must not be called; the operator can allow its network with \
                               `allowed_networks` (`--allow-network 10.0.0.0/8`)";
const NEVER_CALLED: &str =
    "names an address that is never called: it names no host of its own, or embeds another address";
const METADATA: &str = "names a cloud's metadata service, which hands out credentials; the operator can allow its network with \
                        `allowed_networks` and `allow_metadata`";
const BLOCKED_NAME: &str = "names a host inside, which is not called by its name";
const BLOCKED_PORT: &str = "has a port that must not be called";

impl Policy {
    /// Whether this URL may be called, as far as the URL itself says: at registration, and again before every
    /// request, so that a stored URL falls under the policy of today. Resolves no names: a name's addresses
    /// are vetted when it is called.
    ///
    /// # Errors
    /// The field `url`: a scheme, a user, a port, an address or a name that must not be called.
    pub fn check_url(&self, url: &Url) -> Result<(), Invalid> {
        let invalid = |problem: &'static str| Invalid::new("url", problem);
        let scheme = Scheme::of(url).ok_or_else(|| invalid("must start with https://"))?;
        // A client would make an Authorization header from it.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("must have no user or password; use a header"));
        }
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or_else(|| invalid(BLOCKED_PORT))?;
        match url.host() {
            Some(Host::Ipv4(address)) => self.check_literal(SocketAddr::new(address.into(), port), scheme),
            Some(Host::Ipv6(address)) => self.check_literal(SocketAddr::new(address.into(), port), scheme),
            Some(Host::Domain(name)) => self.check_name(name, port, scheme),
            None => Err("must have a host"),
        }
        .map_err(invalid)
    }

    /// Whether a connection to this address may be made for a URL of this scheme. The one decision over addresses;
    /// everything else leads here.
    pub fn check_address(&self, address: SocketAddr, scheme: Scheme) -> bool {
        let (ip, port) = (address.ip(), address.port());
        let allowed = self
            .allowed_networks
            .iter()
            .any(|network| network.contains(ip) && network.port().is_none_or(|only| only == port));
        let judged = match addresses::kind(ip) {
            Kind::Public => allowed || (scheme == Scheme::Https && !is_bad(port)),
            Kind::Special => allowed,
            Kind::Metadata => allowed && self.allow_metadata,
            Kind::Translated(embedded) => allowed && self.check_address(SocketAddr::new(embedded.into(), port), scheme),
            Kind::Never => false,
        };
        judged && port != 0
    }

    fn check_literal(&self, address: SocketAddr, scheme: Scheme) -> Result<(), &'static str> {
        if self.check_address(address, scheme) {
            return Ok(());
        }
        // Say what is wrong with it: an address that https on its own port could reach has only the wrong port or scheme.
        match (self.check_address(SocketAddr::new(address.ip(), 443), Scheme::Https), scheme) {
            (false, _) => Err(match addresses::kind(address.ip()) {
                Kind::Never => NEVER_CALLED,
                Kind::Metadata => METADATA,
                Kind::Public | Kind::Special | Kind::Translated(_) => BLOCKED_ADDRESS,
            }),
            (true, Scheme::Http) => Err(HTTPS_ONLY),
            (true, Scheme::Https) => Err(BLOCKED_PORT),
        }
    }

    fn check_name(&self, name: &str, port: u16, scheme: Scheme) -> Result<(), &'static str> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if is_localhost(&name) {
            let admitted = LOOPBACK.iter().any(|ip| self.check_address(SocketAddr::new(*ip, port), scheme));
            return if admitted { Ok(()) } else { Err(BLOCKED_ADDRESS) };
        }
        let within = |zone: &&str| name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        // Single labels and empty ones (`a..b`) are looked up with the search list of this machine.
        if !name.contains('.') || name.split('.').any(str::is_empty) || INSIDE.iter().any(within) {
            return Err(BLOCKED_NAME);
        }
        // What only allowed networks open can be reached by a name if there is one; its addresses decide.
        let openable = self.allowed_networks.iter().any(|network| network.port().is_none_or(|only| only == port));
        match scheme {
            Scheme::Http if !openable => Err(HTTPS_ONLY),
            Scheme::Https if !openable && is_bad(port) => Err(BLOCKED_PORT),
            Scheme::Http | Scheme::Https => Ok(()),
        }
    }
}

impl Scheme {
    /// The scheme of a URL that can be called at all.
    pub(crate) fn of(url: &Url) -> Option<Scheme> {
        match url.scheme() {
            "https" => Some(Scheme::Https),
            "http" => Some(Scheme::Http),
            _ => None,
        }
    }
}

fn is_bad(port: u16) -> bool {
    BAD_PORTS.contains(&port) || DATASTORE_PORTS.contains(&port)
}

/// Whether a name is `localhost`, in any case and with or without a final dot.
fn is_localhost(name: &str) -> bool {
    name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowing(networks: &[&str]) -> Policy {
        let allowed_networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        Policy { allowed_networks, ..Policy::default() }
    }

    /// What is wrong with a URL: the first words of it, or "" where it may be called.
    fn problem(policy: &Policy, url: &str) -> String {
        match policy.check_url(&Url::parse(url).unwrap()) {
            Ok(()) => String::new(),
            Err(invalid) => {
                assert_eq!(invalid.field(), "url");
                invalid.problem().to_owned()
            }
        }
    }

    #[track_caller]
    fn opens(policy: &Policy, url: &str) {
        assert_eq!(problem(policy, url), "", "{url}");
    }

    #[track_caller]
    fn refuses(policy: &Policy, url: &str, why: &str) {
        assert_eq!(problem(policy, url), why, "{url}");
    }

    #[test]
    fn every_spelling_of_a_loopback_address_is_refused() {
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "127.0.1",
            "2130706433",
            "017700000001",
            "0x7f000001",
            "0x7F.1",
            "0177.0.0.1",
            "0177.0.0.0x1",
            "127.0.0.01",
            "%31%32%37.0.0.1",
            "127%2e0%2e0%2e1",
            "１２７.０.０.１",
            "127。0。0。1",
            "①②⑦.0.0.1",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[2002:7f00:1::]",
            "0",
            "0.0.0.0",
            "[::]",
        ] {
            let why = problem(&Policy::default(), &format!("https://{host}/"));
            assert!([BLOCKED_ADDRESS, NEVER_CALLED].contains(&why.as_str()), "{host}: {why}");
        }
    }

    #[test]
    fn names_of_hosts_inside_are_refused_in_any_case_and_with_a_final_dot() {
        for host in [
            "a.localhost",
            "A.LOCALHOST.",
            "printer.local",
            "vault.internal",
            "metadata.google.internal",
            "router.home.arpa",
            "redis.prod.svc",
            "redis.prod.svc.cluster.local",
            "Redis.Prod.SVC.Cluster.Local.",
            "metadata.goog",
            "metadata.tencentyun.com",
            "metadata",
            "intranet",
            "intranet.",
            "ａ．ｌｏｃａｌ",
            "a..example.com",
            "example.com..",
        ] {
            refuses(&Policy::default(), &format!("https://{host}/"), BLOCKED_NAME);
            // Nor does allowing every network open them.
            refuses(&allowing(&["0.0.0.0/0", "::/0"]), &format!("https://{host}/"), BLOCKED_NAME);
        }
        for host in ["localhost", "LOCALHOST", "localhost.", "ｌｏｃａｌｈｏｓｔ"] {
            refuses(&Policy::default(), &format!("https://{host}/"), BLOCKED_ADDRESS);
        }
        for host in ["acme.example", "mylocalhost.example", "internal.example", "svc.example", "notlocal.com", "a.svcs"]
        {
            opens(&Policy::default(), &format!("https://{host}/"));
        }
    }

    #[test]
    fn a_private_address_needs_a_network_that_covers_it_and_its_port() {
        for url in ["https://10.1.2.3/", "https://169.254.1.1/", "https://[fd00::1]/", "https://[fe80::1]/"] {
            refuses(&Policy::default(), url, BLOCKED_ADDRESS);
            opens(&allowing(&["10.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10"]), url);
            refuses(
                &allowing(&["10.0.0.0/8:8080", "169.254.0.0/16:1", "fc00::/7:1", "fe80::/10:1"]),
                url,
                BLOCKED_ADDRESS,
            );
        }
        opens(&allowing(&["10.0.0.0/8:8080"]), "https://10.1.2.3:8080/");
        refuses(&allowing(&["10.0.0.0/8"]), "https://11.1.2.3:6379/", BLOCKED_PORT);
    }

    #[test]
    fn plain_http_goes_to_allowed_networks_only() {
        let policy = Policy::default();
        refuses(&policy, "http://acme.example/", HTTPS_ONLY);
        refuses(&policy, "http://1.1.1.1/", HTTPS_ONLY);
        refuses(&policy, "http://10.0.0.1/", BLOCKED_ADDRESS);
        let policy = allowing(&["10.0.0.0/8", "1.1.1.1:8080"]);
        opens(&policy, "http://10.0.0.1/");
        opens(&policy, "http://1.1.1.1:8080/");
        refuses(&policy, "http://1.1.1.1/", HTTPS_ONLY);
        // To a name it is decided by the name's addresses.
        opens(&policy, "http://acme.example/");
        assert!(policy.check_address("10.0.0.1:80".parse().unwrap(), Scheme::Http));
        assert!(!policy.check_address("1.1.1.1:80".parse().unwrap(), Scheme::Http));
        assert!(policy.check_address("1.1.1.1:443".parse().unwrap(), Scheme::Https));
        // No network could open this port.
        refuses(&allowing(&["10.0.0.0/8:8080"]), "http://acme.example:8081/", HTTPS_ONLY);
    }

    #[test]
    fn allowing_loopback_opens_localhost_and_no_other_name() {
        for (network, url) in [
            ("127.0.0.0/8", "http://localhost:8080/"),
            ("127.0.0.1", "http://LocalHost./"),
            ("::1", "https://localhost/"),
            ("127.0.0.0/8:8080", "http://localhost:8080/"),
        ] {
            opens(&allowing(&[network]), url);
        }
        refuses(&allowing(&["127.0.0.0/8"]), "http://a.localhost/", BLOCKED_NAME);
        refuses(&allowing(&["127.0.0.0/8:8080"]), "http://localhost:8081/", BLOCKED_ADDRESS);
        refuses(&allowing(&["10.0.0.0/8"]), "http://localhost/", BLOCKED_ADDRESS);
    }

    #[test]
    fn metadata_addresses_need_a_second_switch() {
        let networks = ["169.254.0.0/16", "168.63.129.16", "100.64.0.0/10", "fd00::/8", "64:ff9b::/96"];
        for host in
            ["169.254.169.254", "168.63.129.16", "100.100.100.200", "[fd00:ec2::254]", "[64:ff9b::169.254.169.254]"]
        {
            let url = format!("http://{host}/latest/meta-data/");
            let why = if host.contains("64:ff9b") { BLOCKED_ADDRESS } else { METADATA };
            refuses(&Policy { allow_metadata: true, ..Policy::default() }, &url, why);
            refuses(&allowing(&networks), &url, why);
            opens(&Policy { allow_metadata: true, ..allowing(&networks) }, &url);
        }
    }

    #[test]
    fn an_address_behind_nat64_is_judged_by_the_address_it_embeds() {
        let policy = allowing(&["64:ff9b::/96", "10.0.0.0/8"]);
        refuses(&Policy::default(), "https://[64:ff9b::1.1.1.1]/", BLOCKED_ADDRESS);
        opens(&policy, "https://[64:ff9b::1.1.1.1]/");
        opens(&policy, "http://[64:ff9b::10.1.1.1]/");
        refuses(&policy, "http://[64:ff9b::1.1.1.1]/", HTTPS_ONLY);
        refuses(&policy, "https://[64:ff9b::192.168.0.1]/", BLOCKED_ADDRESS);
    }

    #[test]
    fn ports_that_speak_other_protocols_are_refused() {
        for port in [0, 1, 22, 25, 6000, 6667, 10080, 1433, 3306, 5432, 6379, 9200, 11211, 27017] {
            for host in ["acme.example", "1.1.1.1"] {
                refuses(&Policy::default(), &format!("https://{host}:{port}/"), BLOCKED_PORT);
            }
            assert!(!Policy::default().check_address(SocketAddr::new([1, 1, 1, 1].into(), port), Scheme::Https));
        }
        for port in [80, 443, 8080, 8443, 3000] {
            opens(&Policy::default(), &format!("https://acme.example:{port}/"));
        }
        opens(&allowing(&["10.0.0.0/8:6379"]), "http://10.0.0.1:6379/");
        opens(&allowing(&["10.0.0.0/8"]), "http://10.0.0.1:6379/");
        refuses(&allowing(&["0.0.0.0/0"]), "http://1.1.1.1:0/", BLOCKED_PORT);
        // Naming a bad port for one network does not open it for the others.
        refuses(&allowing(&["10.0.0.0/8:6379"]), "https://1.1.1.1:6379/", BLOCKED_PORT);
    }

    #[test]
    fn a_url_that_was_stored_before_a_check_existed_is_still_refused() {
        for url in ["ftp://acme.example/", "https://u:p@acme.example/", "https://u@acme.example/", "data:,x"] {
            assert!(Policy::default().check_url(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
    }

    #[test]
    fn a_policy_is_read_from_its_json_form() {
        let json = r#"{"allowedNetworks":["127.0.0.0/8","10.0.0.0/8:8080"],"allowMetadata":false}"#;
        let policy = allowing(&["127.0.0.0/8", "10.0.0.0/8:8080"]);
        assert_eq!(serde_json::from_str::<Policy>(json).unwrap(), policy);
        assert_eq!(serde_json::to_string(&policy).unwrap(), json);
        assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), Policy::default());
        assert!(serde_json::from_str::<Policy>(r#"{"allowMetaData":true}"#).is_err());
    }

    proptest! {
        #[test]
        fn no_network_opens_an_address_that_embeds_another(embedded: u32, tail: u64) {
            prop_assume!(embedded != 1); // ::1
            let all = Policy { allow_metadata: true, ..allowing(&["0.0.0.0/0", "::/0"]) };
            let low = u128::from(embedded);
            for bits in [
                low,
                0xffff_u128 << 32 | low,
                0x2002_u128 << 112 | low << 80 | u128::from(tail),
                0x2001_0000_u128 << 96 | u128::from(tail),
                u128::from(tail) << 64 | 0x5efe_u128 << 32 | low,
            ] {
                let address = SocketAddr::new(Ipv6Addr::from_bits(bits).into(), 443);
                prop_assert!(!all.check_address(address, Scheme::Https), "{}", address);
                prop_assert_eq!(problem(&all, &format!("https://{address}/")), NEVER_CALLED);
            }
        }

        /// Opted in, the well-known prefix opens an address if and only if the address behind it may be called.
        #[test]
        fn an_address_behind_nat64_may_be_called_if_and_only_if_the_one_behind_it_may(
            bits in prop_oneof![any::<u32>(), (0_u32..256).prop_map(|last| 0x7f00_0000 | last), Just(0xa9fe_a9fe_u32)],
            port: u16, http: bool, private: bool, allow_metadata: bool,
        ) {
            let scheme = if http { Scheme::Http } else { Scheme::Https };
            let v4 = if private { &["10.0.0.0/8", "127.0.0.0/25"][..] } else { &[] };
            let opted_in = Policy { allow_metadata, ..allowing(&[&["64:ff9b::/96"], v4].concat()) };
            let embedding = SocketAddr::new(Ipv6Addr::from_bits(0x0064_ff9b_u128 << 96 | u128::from(bits)).into(), port);
            let embedded = SocketAddr::new(Ipv4Addr::from_bits(bits).into(), port);
            prop_assert_eq!(opted_in.check_address(embedding, scheme), opted_in.check_address(embedded, scheme));
            let not = Policy { allow_metadata, ..allowing(v4) };
            prop_assert!(!not.check_address(embedding, scheme));
        }

        /// By a URL and by an address, the answer is the same.
        #[test]
        fn a_url_and_its_address_are_judged_alike(bits: u32, port: u16, http: bool, named in prop::option::of(any::<u16>())) {
            let named = named.unwrap_or(port).max(1);
            let policy = allowing(&["10.0.0.0/8", &format!("0.0.0.0/1:{named}")]);
            let (scheme, word) = if http { (Scheme::Http, "http") } else { (Scheme::Https, "https") };
            let address = SocketAddr::new(Ipv4Addr::from_bits(bits).into(), port);
            let by_url = problem(&policy, &format!("{word}://{address}/")).is_empty();
            prop_assert_eq!(by_url, policy.check_address(address, scheme));
        }
    }
}
