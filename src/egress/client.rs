//! The HTTP clients that everything leaves by, and the resolver that vets what they connect to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use url::Url;

use super::{LOOPBACK, Policy, Route, is_localhost};
use crate::invalid::Invalid;

/// How long a connection may take: name, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is kept for the next request. Shorter than what proxies in front of receivers
/// commonly keep (60 s), so that it is rarely they who close it while a request is on its way.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many connections are kept for one origin: as many as may be in flight to it by default. With fewer, a busy
/// origin of several endpoints would have those beyond closed after each answer and opened again.
const POOL_MAX_IDLE: usize = 256;

/// A client for each route, with a resolver that knows the route. A tenant's choice of scheme and port picks
/// one of them; it makes none.
pub(crate) struct Clients {
    policy: Arc<Policy>,
    clients: Vec<(Route, reqwest::Client)>,
}

/// Why a name has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unresolved {
    /// It does not resolve, for now or for good.
    #[error("the name does not resolve")]
    NotFound(#[source] io::Error),
    /// One of its addresses may not be called.
    #[error("the name resolves to {0}, which must not be called")]
    Blocked(IpAddr),
}

impl Clients {
    /// Clients under this policy, which trust Mozilla's roots and those in `extra_roots`: any number of PEM
    /// certificates, one after the other.
    ///
    /// # Errors
    /// The field `extraRoots`: not PEM, or not certificates.
    pub(crate) fn new(policy: Policy, extra_roots: &[u8]) -> Result<Self, Invalid> {
        Ok(Self::with(policy, tls_config(extra_roots)?, &Names::System))
    }

    /// Clients for which every name has these addresses.
    #[cfg(test)]
    pub(crate) fn with_answers(policy: Policy, answers: Vec<IpAddr>) -> Self {
        Self::with(policy, tls_config(b"").unwrap(), &Names::Scripted(answers))
    }

    fn with(policy: Policy, tls: rustls::ClientConfig, names: &Names) -> Self {
        let policy = Arc::new(policy);
        let client = |route| {
            let resolver = Resolver { policy: policy.clone(), route, names: names.clone() };
            (route, build(resolver, tls.clone()))
        };
        let clients = policy.routes().into_iter().map(client).collect();
        Clients { policy, clients }
    }

    /// The client that may call this URL. The only way to one, so nothing is called unchecked.
    ///
    /// # Errors
    /// As [`Policy::check_url`].
    pub(crate) fn for_url(&self, url: &Url) -> Result<&reqwest::Client, Invalid> {
        let route = self.policy.route(url)?;
        let client = self.clients.iter().find(|(of, _)| *of == route).map(|(_, client)| client);
        Ok(client.expect("there is a client for every route of the policy"))
    }
}

fn tls_config(extra_roots: &[u8]) -> Result<rustls::ClientConfig, Invalid> {
    let invalid = |problem: &'static str| Invalid::new("extraRoots", problem);
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(extra_roots) {
        let certificate = certificate.map_err(|_| invalid("is not PEM"))?;
        roots.add(certificate).map_err(|_| invalid("has a certificate that cannot be read"))?;
    }
    if roots.len() == before && !extra_roots.is_empty() {
        return Err(invalid("has no certificate (-----BEGIN CERTIFICATE-----)"));
    }
    // The provider is named, because which one is the process's default is not a library's to say.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn build(resolver: Resolver, tls: rustls::ClientConfig) -> reqwest::Client {
    #[expect(clippy::disallowed_methods, reason = "this is egress: the one place that builds clients")]
    let builder = reqwest::Client::builder();
    builder
        .dns_resolver(resolver)
        .tls_backend_preconfigured(tls)
        // A 307 would be answered with the body and its signature, to wherever the receiver likes.
        .redirect(reqwest::redirect::Policy::none())
        // The environment's proxy would resolve names in our place, unvetted.
        .no_proxy()
        // What left may have been received: a second try is a new attempt, signed and logged as one. (Below
        // this, a request is still moved to a fresh connection if a kept one was closed before its first byte.)
        .retry(reqwest::retry::never())
        // Not compiled in here, but another crate of the same program may compile it in. A body of 16 KiB must
        // not become one of 16 MiB.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .referer(false)
        .http1_only()
        .http1_title_case_headers()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(POOL_MAX_IDLE)
        .user_agent(concat!("ringback/", env!("CARGO_PKG_VERSION")))
        .build()
        .expect("a client with a TLS configuration and a resolver of its own needs nothing that can be missing")
}

/// Resolves names for one route. Clients ask it for names only, never for addresses: these are checked in the
/// URL.
struct Resolver {
    policy: Arc<Policy>,
    route: Route,
    names: Names,
}

/// Who knows the names' addresses.
#[derive(Clone)]
enum Names {
    /// The machine's resolver: its hosts file, then DNS.
    System,
    /// A test.
    #[cfg(test)]
    Scripted(Vec<IpAddr>),
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, route, names) = (self.policy.clone(), self.route, self.names.clone());
        Box::pin(async move {
            let answers = if is_localhost(name.as_str()) {
                LOOPBACK.into_iter().filter(|address| policy.admits(*address, route)).collect()
            } else {
                names.look_up(name.as_str()).await?
            };
            let vetted = vet(&policy, route, answers)?;
            Ok(Box::new(vetted.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

impl Names {
    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        match self {
            Names::System => {
                #[expect(clippy::disallowed_methods, reason = "this is egress: the answers are vetted next")]
                let answers = tokio::net::lookup_host((name, 0)).await.map_err(Unresolved::NotFound)?;
                Ok(answers.map(|answer| answer.ip()).collect())
            }
            #[cfg(test)]
            Names::Scripted(answers) => Ok(answers.clone()),
        }
    }
}

/// All answers, if every one of them may be called: a name that leads inside with one answer in ten is an
/// attack, or a mistake that would work nine times.
fn vet(policy: &Policy, route: Route, answers: Vec<IpAddr>) -> Result<Vec<IpAddr>, Unresolved> {
    if let Some(blocked) = answers.iter().find(|address| !policy.admits(**address, route)) {
        return Err(Unresolved::Blocked(*blocked));
    }
    if answers.is_empty() {
        return Err(Unresolved::NotFound(io::ErrorKind::NotFound.into()));
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(networks: &[&str]) -> Clients {
        let allowed_networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        Clients::new(Policy { allowed_networks, ..Policy::default() }, b"").unwrap()
    }

    fn vetted(networks: &[&str], url: &str, answers: &[&str]) -> bool {
        let clients = clients(networks);
        let route = clients.policy.route(&Url::parse(url).unwrap()).unwrap();
        vet(&clients.policy, route, answers.iter().map(|answer| answer.parse().unwrap()).collect()).is_ok()
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

    #[test]
    fn every_url_that_is_checked_has_its_client() {
        let clients = clients(&["10.0.0.0/8", "127.0.0.0/8:6379", "127.0.0.0/8:8080", "1.1.1.1:8080"]);
        assert_eq!(clients.clients.len(), 8);
        for url in ["https://a.example/", "http://10.0.0.1:25/", "http://localhost:6379/", "https://1.1.1.1:8080/"] {
            assert!(clients.for_url(&Url::parse(url).unwrap()).is_ok(), "{url}");
        }
        assert!(clients.for_url(&Url::parse("http://127.0.0.1:25/").unwrap()).is_err());
    }

    #[test]
    fn extra_roots_that_are_no_certificates_are_refused() {
        for pem in [
            "x",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let refused = Clients::new(Policy::default(), pem.as_bytes()).err().unwrap();
            assert_eq!(refused.field(), "extraRoots", "{pem}");
        }
    }
}
