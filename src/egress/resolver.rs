//! Names to addresses: looked up without blocking a thread, and vetted, every one of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::Name;
use tokio::time::Instant;

use super::answers::Answers;
use super::{LOOPBACK, Policy, Scheme, is_localhost};

/// How long one name server may take; a second try is made within the limit of the whole.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer is kept at most, whatever it says: a receiver that moved is found again within it.
const MAX_KEPT: Duration = Duration::from_secs(300);

/// How long it is kept that a name has no address: the next retry asks again.
const MAX_KEPT_NEGATIVE: Duration = Duration::from_secs(5);

/// How many questions may be open at one name server: more than attempts can be on their way, so that names that
/// nobody answers for take no other name's place.
const MAX_QUESTIONS: usize = 16_384;

/// How many of a name's addresses are tried. Whoever answers with hundreds has this machine knock at hundreds.
const MAX_ADDRESSES: usize = 4;

/// Where the machine's name servers stand.
const MACHINE: &str = "/etc/resolv.conf";

/// Where a name's answers come from.
pub(super) struct Resolver {
    /// In place of the machine's own, where there are any.
    nameservers: Vec<SocketAddr>,
    machine: PathBuf,
    /// Made at the first name: reading the machine's settings is left out where only addresses are called.
    built: Mutex<Option<Built>>,
}

struct Built {
    resolver: TokioResolver,
    /// What it found out.
    answers: Answers,
    /// The machine's settings that it was built from, as they stood.
    settings: Option<Vec<u8>>,
}

/// Why a name has no address to connect to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// It does not resolve, for now or for good.
    NotFound,
    /// This one of its addresses may not be called.
    Blocked(IpAddr),
}

impl Resolver {
    pub(super) fn new(nameservers: Vec<SocketAddr>) -> Self {
        Resolver { nameservers, machine: MACHINE.into(), built: Mutex::new(None) }
    }

    /// The addresses of a name, if every one of them may be called on this port.
    pub(super) async fn vetted(
        &self,
        policy: &Policy,
        name: &str,
        port: u16,
        scheme: Scheme,
    ) -> Result<Vec<SocketAddr>, Unresolved> {
        let on_port = |ip| SocketAddr::new(ip, port);
        if is_localhost(name) {
            // Never asked for (RFC 6761); where one of the two is allowed, the other is left out.
            let allowed = LOOPBACK.map(on_port).into_iter().filter(|address| policy.check_address(*address, scheme));
            return vet(policy, allowed.collect(), scheme);
        }
        let answers = self.look_up(name).await.ok_or(Unresolved::NotFound)?;
        vet(policy, answers.into_iter().map(on_port).collect(), scheme)
    }

    /// The addresses of a name, unvetted: for names that the operator chose.
    pub(super) async fn look_up(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(kept) = self.built().as_mut().and_then(|built| built.answers.get(name, now())) {
            return (!kept.is_empty()).then_some(kept);
        }
        let mut asked = Name::from_ascii(name).ok()?;
        // The search list of this machine would lead inside.
        asked.set_fqdn(true);
        let resolver = match self.resolver() {
            Ok(resolver) => resolver,
            Err(error) => {
                tracing::error!(%error, "names cannot be resolved");
                return None;
            }
        };
        match resolver.lookup_ip(asked).await {
            Ok(answer) => {
                let addresses: Vec<IpAddr> = answer.iter().collect();
                let said = Instant::from_std(answer.valid_until());
                self.keep(name, addresses.clone(), said.min(now() + MAX_KEPT));
                Some(addresses)
            }
            Err(error) => {
                tracing::debug!(%error, "a name does not resolve");
                // That there is no such name is an answer; that nobody answers may be because the machine has moved.
                if let NetError::Dns(DnsError::NoRecordsFound(none)) = error {
                    let said = Duration::from_secs(none.negative_ttl.unwrap_or(0).into());
                    self.keep(name, Vec::new(), now() + said.min(MAX_KEPT_NEGATIVE));
                } else {
                    self.look_whether_the_machine_moved();
                }
                None
            }
        }
    }

    fn keep(&self, name: &str, addresses: Vec<IpAddr>, until: Instant) {
        // Where the name servers were forgotten meanwhile, so is what they said.
        if let Some(built) = self.built().as_mut() {
            built.answers.keep(name, addresses, until, now());
        }
    }

    fn built(&self) -> MutexGuard<'_, Option<Built>> {
        // It holds whole values only.
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut built = self.built();
        if let Some(built) = &*built {
            return Ok(built.resolver.clone());
        }
        let settings = std::fs::read(&self.machine).ok();
        let resolver = build(&self.nameservers)?;
        *built = Some(Built { resolver: resolver.clone(), answers: Answers::default(), settings });
        Ok(resolver)
    }

    /// Forgets the name servers if the machine names others than those that were read; the next name reads them.
    fn look_whether_the_machine_moved(&self) {
        // The line before it, at debug, has the name and the reason.
        tracing::warn!("no name server gave an answer");
        let mut built = self.built();
        let settings = std::fs::read(&self.machine).ok();
        if built.as_ref().is_some_and(|built| self.nameservers.is_empty() && built.settings != settings) {
            tracing::info!("this machine's name servers have changed");
            *built = None;
        }
    }
}

fn build(nameservers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let of = |servers: &[SocketAddr]| {
        let servers = servers.iter().map(nameserver).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, provider.clone())
    };
    let mut builder = match nameservers {
        [] => TokioResolver::builder(provider.clone()).unwrap_or_else(|error| {
            // As resolv.conf(5) has it; the hosts file is looked into all the same.
            tracing::warn!(%error, "this machine names no name server: the one on it is asked");
            of(&[(Ipv4Addr::LOCALHOST, 53).into()])
        }),
        some => of(some),
    };
    bound(builder.options_mut());
    builder.build()
}

fn nameserver(address: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())])
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = SERVER_TIMEOUT;
    options.attempts = 1;
    // It would keep whole messages, a megabyte each where who answers wants it so: `answers` keeps addresses.
    options.cache_size = 0;
    options.max_active_requests = MAX_QUESTIONS;
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "how long answers are kept is the runtime's time, as all of egress")]
    Instant::now()
}

/// All answers, if every one of them may be called: a name that leads inside with one answer in ten is an
/// attack, or a mistake that would work nine times.
fn vet(policy: &Policy, mut answers: Vec<SocketAddr>, scheme: Scheme) -> Result<Vec<SocketAddr>, Unresolved> {
    if let Some(blocked) = answers.iter().find(|address| !policy.check_address(**address, scheme)) {
        return Err(Unresolved::Blocked(blocked.ip()));
    }
    if answers.is_empty() {
        return Err(Unresolved::NotFound);
    }
    answers.truncate(MAX_ADDRESSES);
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vetted(networks: &[&str], url: &str, answers: &[&str]) -> bool {
        let allowed_networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let policy = Policy { allowed_networks, ..Policy::default() };
        let url = url::Url::parse(url).unwrap();
        policy.check_url(&url).unwrap();
        let port = url.port_or_known_default().unwrap();
        let answers = answers.iter().map(|answer| SocketAddr::new(answer.parse().unwrap(), port)).collect();
        vet(&policy, answers, Scheme::of(&url).unwrap()).is_ok()
    }

    #[test]
    fn one_bad_answer_refuses_all() {
        let url = "https://acme.example/";
        assert!(vetted(&[], url, &["1.1.1.1", "2606:4700::1111"]));
        assert!(!vetted(&[], url, &["1.1.1.1", "10.0.0.1"]));
        assert!(!vetted(&[], url, &["1.1.1.1", "::ffff:1.1.1.1"]));
        assert!(!vetted(&[], url, &[]));
        assert!(vetted(&["10.0.0.0/8"], url, &["1.1.1.1", "10.0.0.1"]));
    }

    #[test]
    fn a_bad_answer_behind_the_first_four_refuses_all() {
        let mut answers = vec!["1.1.1.1"; 100];
        assert!(vetted(&[], "https://acme.example/", &answers));
        answers.push("127.0.0.1");
        assert!(!vetted(&[], "https://acme.example/", &answers));
    }

    #[test]
    fn plain_http_to_a_name_is_decided_by_its_addresses() {
        let networks = ["10.0.0.0/8", "1.1.1.1:8080"];
        assert!(vetted(&networks, "http://acme.example/", &["10.0.0.1"]));
        assert!(!vetted(&networks, "http://acme.example/", &["1.1.1.1"]));
        assert!(!vetted(&networks, "http://acme.example/", &["10.0.0.1", "1.1.1.1"]));
        assert!(vetted(&networks, "http://acme.example:8080/", &["1.1.1.1"]));
        assert!(vetted(&networks, "https://acme.example/", &["1.1.1.1"]));
    }

    #[test]
    fn a_bad_port_of_a_name_is_decided_by_its_addresses() {
        assert!(vetted(&["10.0.0.0/8"], "https://acme.example:6379/", &["10.0.0.1"]));
        assert!(!vetted(&["10.0.0.0/8"], "https://acme.example:6379/", &["1.1.1.1"]));
        assert!(!vetted(&["10.0.0.0/8:6379"], "https://acme.example:6379/", &["1.1.1.1"]));
        assert!(!vetted(&["10.0.0.0/8:6379"], "https://acme.example/", &["10.0.0.1"]));
    }

    #[tokio::test]
    async fn name_servers_are_read_again_once_the_machine_names_others() {
        let folder = tempfile::tempdir().unwrap();
        let machine = folder.path().join("resolv.conf");
        std::fs::write(&machine, "nameserver 192.0.2.1\n").unwrap();
        let moves = |nameservers| {
            let resolver = Resolver { machine: machine.clone(), ..Resolver::new(nameservers) };
            resolver.resolver().unwrap();
            resolver
        };
        let (follows, told) = (moves(Vec::new()), moves(vec!["192.0.2.9:53".parse().unwrap()]));
        follows.look_whether_the_machine_moved();
        assert!(follows.built().is_some(), "nothing has changed");
        std::fs::write(&machine, "nameserver 192.0.2.2\n").unwrap();
        follows.look_whether_the_machine_moved();
        told.look_whether_the_machine_moved();
        assert!(follows.built().is_none());
        assert!(told.built().is_some(), "what the operator named stays");
    }

    /// A name server's answer: this many addresses of version 4, to be kept for five minutes; by UDP, that it is too long.
    fn answer(question: &[u8], by_tcp: bool, addresses: u16) -> Vec<u8> {
        let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let is_for_v4 = question[end - 3] == 1;
        let count = if by_tcp && is_for_v4 { addresses } else { 0 };
        let flags = if by_tcp { [0x81, 0x80] } else { [0x83, 0x80] };
        let head = [&question[..2], &flags, &[0, 1], &count.to_be_bytes(), &[0; 4], &question[12..end]].concat();
        let record = |last: u16| {
            let [high, low] = last.to_be_bytes();
            [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 1, 1, high, low]
        };
        head.into_iter().chain((0..count).flat_map(record)).collect()
    }

    /// Answers with as many addresses as the name's first label says, and counts the questions.
    async fn name_server() -> (SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = tokio::net::UdpSocket::bind(address).await.unwrap();
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&asked);
        let over_udp = async move {
            let mut question = [0; 512];
            while let Ok((length, client)) = udp.recv_from(&mut question).await {
                udp.send_to(&answer(&question[..length], false, 0), client).await.unwrap();
            }
        };
        // Each question may come by a connection of its own, beside the others.
        let answer_all = move |mut client: tokio::net::TcpStream| {
            let count = std::sync::Arc::clone(&count);
            async move {
                while let Ok(length) = client.read_u16().await {
                    let mut question = vec![0; length.into()];
                    client.read_exact(&mut question).await.unwrap();
                    count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let label = String::from_utf8(question[13..13 + usize::from(question[12])].to_vec()).unwrap();
                    let answer = answer(&question, true, label.parse().unwrap());
                    client.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                    client.write_all(&answer).await.unwrap();
                }
            }
        };
        let clients = futures_util::stream::unfold(tcp, |tcp| async { Some((tcp.accept().await.unwrap().0, tcp)) });
        let over_tcp = futures_util::StreamExt::for_each_concurrent(clients, None, answer_all);
        #[expect(clippy::disallowed_methods, reason = "a server under test is a task of its own")]
        tokio::spawn(async { tokio::join!(over_udp, over_tcp) });
        (address, asked)
    }

    #[tokio::test]
    async fn a_few_addresses_are_kept_and_nothing_of_a_large_answer_is() {
        let (address, asked) = name_server().await;
        let resolver = Resolver::new(vec![address]);
        let asked = || asked.load(std::sync::atomic::Ordering::SeqCst);
        for name in ["2.example", "2.example", "2.example."] {
            assert_eq!(resolver.look_up(name).await.unwrap().len(), 2);
        }
        assert_eq!(asked(), 2, "once for each kind of address");
        for again in 1..=3 {
            assert_eq!(resolver.look_up("4000.example").await.unwrap().len(), 4_000);
            assert_eq!(asked(), 2 + 2 * again);
        }
    }

    #[test]
    fn no_more_than_four_addresses_of_a_name_are_tried() {
        let many = (0..200).map(|last| SocketAddr::from(([1, 1, 1, last], 443))).collect();
        assert_eq!(vet(&Policy::default(), many, Scheme::Https).unwrap().len(), MAX_ADDRESSES);
    }
}
