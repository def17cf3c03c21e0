//! Connections: to vetted addresses alone, each step within its own limit.
//!
//! ```text
//!   name ──▶ vetted addresses ──▶ TCP, the first that answers ──▶ the peer, looked at once more ──▶ TLS
//!    5 s                           5 s                                                              5 s
//! ```
//!
//! Invariant: no socket is opened anywhere else, and no byte is written to a peer that the policy does not allow.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr as TlsIp};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::{Host, Url};

use super::resolver::{Resolver, Unresolved};
use super::{Gate, Policy, Proxy, Scheme};
use crate::invalid::Invalid;

/// How long each step of connecting may take: the name, the TCP connection, the TLS handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an address may keep silent before the next one is tried beside it (RFC 8305).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// The errors of a process, and of a machine, that has no descriptor left; the same on Linux, the BSDs and macOS.
const NONE_IN_PROCESS: i32 = 24;
const NONE_IN_SYSTEM: i32 = 23;

/// Opens connections.
pub(crate) struct Connector {
    gate: Gate,
    resolver: Resolver,
    proxy: Option<Proxy>,
    tls: TlsConnector,
}

/// Why there is no connection. What the names' words are for is the log's to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unconnected {
    /// The URL itself must not be called.
    BlockedUrl,
    /// The name resolves to an address that must not be called.
    BlockedAddress,
    /// The name does not resolve, or not in time.
    NoName,
    /// Nobody answers there, or not in time.
    Unreachable,
    /// Somebody does, and wants no connection.
    Refused,
    /// This process has no descriptor left for one.
    NoDescriptor,
    /// Somebody did, and ended it at once.
    Reset,
    /// The handshake failed, or took too long.
    Tls,
}

/// An open connection, plain or with TLS.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

impl Connector {
    /// A connector that trusts Mozilla's roots and those in `extra_roots`: any number of PEM certificates, one after
    /// the other.
    ///
    /// # Errors
    /// The field `extraRoots`: not PEM, or not certificates.
    pub(crate) fn new(gate: Gate, extra_roots: &[u8]) -> Result<Self, Invalid> {
        let tls = TlsConnector::from(Arc::new(tls_config(extra_roots)?));
        Ok(Connector { gate, resolver: Resolver::new(Vec::new()), proxy: None, tls })
    }

    /// Asks these name servers in place of the machine's.
    pub(crate) fn with_nameservers(self, nameservers: Vec<SocketAddr>) -> Self {
        Connector { resolver: Resolver::new(nameservers), ..self }
    }

    /// Goes through this proxy.
    pub(crate) fn with_proxy(self, proxy: Proxy) -> Self {
        Connector { proxy: Some(proxy), ..self }
    }

    /// Whether a connection that is kept may still be used for this URL.
    pub(crate) fn admits(&self, url: &Url, peer: SocketAddr) -> bool {
        let policy = self.gate.policy();
        policy.check_url(url).is_ok() && Scheme::of(url).is_some_and(|scheme| policy.check_address(peer, scheme))
    }

    /// Connects for a URL; the second is the vetted address that it leads to, through whatever proxy.
    ///
    /// Cancel safe: dropping it closes what was opened.
    pub(crate) async fn connect(&self, url: &Url) -> Result<(Stream, SocketAddr), Unconnected> {
        let policy = self.gate.policy();
        policy.check_url(url).map_err(|_| Unconnected::BlockedUrl)?;
        let (Some(scheme), Some(host), Some(port)) = (Scheme::of(url), url.host(), url.port_or_known_default()) else {
            return Err(Unconnected::BlockedUrl);
        };
        let addresses = match host {
            Host::Ipv4(ip) => vec![SocketAddr::new(ip.into(), port)],
            Host::Ipv6(ip) => vec![SocketAddr::new(ip.into(), port)],
            Host::Domain(name) => self.resolve(&policy, name, port, scheme).await?,
        };
        let (stream, peer) = match &self.proxy {
            None => within(first_to_answer(addresses)).await?,
            Some(proxy) => self.through(proxy, addresses).await?,
        };
        // Connected to what was vetted; looked at all the same, before the first byte is written.
        if !policy.check_address(peer, scheme) {
            tracing::error!(%peer, "a connection led to an address that was not asked for");
            return Err(Unconnected::BlockedAddress);
        }
        let stream = match scheme {
            Scheme::Http => Either::Left(stream),
            Scheme::Https => Either::Right(Box::new(self.secure(stream, &host).await?)),
        };
        tracing::trace!(%peer, tls = scheme == Scheme::Https, "a connection was opened");
        Ok((stream, peer))
    }

    async fn resolve(
        &self,
        policy: &Policy,
        name: &str,
        port: u16,
        scheme: Scheme,
    ) -> Result<Vec<SocketAddr>, Unconnected> {
        match timeout(STEP_TIMEOUT, self.resolver.vetted(policy, name, port, scheme)).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(Unresolved::NotFound)) => Err(Unconnected::NoName),
            Err(_) => {
                tracing::warn!(%name, "no name server gave an answer in time");
                Err(Unconnected::NoName)
            }
            Ok(Err(Unresolved::Blocked(address))) => {
                // For the operator alone: the attempt's record says that it was blocked, and not by what.
                tracing::info!(%name, %address, "a name leads to an address that must not be called");
                Err(Unconnected::BlockedAddress)
            }
        }
    }

    /// The first of the addresses that the proxy reaches.
    async fn through(&self, proxy: &Proxy, addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), Unconnected> {
        let mut failed = Unconnected::Unreachable;
        let opening = async {
            // The operator chose it, so its addresses are not vetted.
            let proxies = match proxy.host() {
                Host::Ipv4(ip) => vec![IpAddr::from(*ip)],
                Host::Ipv6(ip) => vec![IpAddr::from(*ip)],
                Host::Domain(name) => self.resolver.look_up(name).await.ok_or_else(|| {
                    tracing::warn!(%proxy, "the proxy's name does not resolve: nothing can be delivered");
                    Unconnected::Unreachable
                })?,
            };
            let proxies: Vec<_> = proxies.into_iter().map(|ip| SocketAddr::new(ip, proxy.port())).collect();
            for address in addresses {
                let (stream, _) = first_to_answer(proxies.clone()).await.map_err(|failed| without(proxy, failed))?;
                match proxy.tunnel(stream, address).await {
                    Ok(stream) => return Ok((stream, address)),
                    Err(error) => {
                        tracing::warn!(%error, proxy = %proxy, "the proxy opened no connection");
                        failed = Unconnected::Unreachable;
                    }
                }
            }
            Err(failed)
        };
        timeout(STEP_TIMEOUT, opening).await.unwrap_or_else(|_| {
            tracing::warn!(%proxy, "the proxy did not open a connection in time");
            Err(Unconnected::Unreachable)
        })
    }

    async fn secure(&self, stream: TcpStream, host: &Host<&str>) -> Result<TlsStream<TcpStream>, Unconnected> {
        let name = match host {
            Host::Ipv4(ip) => ServerName::IpAddress(TlsIp::from(IpAddr::from(*ip))),
            Host::Ipv6(ip) => ServerName::IpAddress(TlsIp::from(IpAddr::from(*ip))),
            // A final dot is the DNS's, no certificate's.
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name).to_owned();
                ServerName::try_from(name).map_err(|_| Unconnected::Tls)?
            }
        };
        match timeout(STEP_TIMEOUT, self.tls.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                Err(Unconnected::Tls)
            }
            Err(_) => Err(Unconnected::Tls),
        }
    }
}

/// Why there is no connection if there is none to the proxy: no doing of the receiver's, and not to be taken for one.
fn without(proxy: &Proxy, failed: Unconnected) -> Unconnected {
    match failed {
        Unconnected::NoDescriptor => failed,
        Unconnected::BlockedUrl
        | Unconnected::BlockedAddress
        | Unconnected::NoName
        | Unconnected::Unreachable
        | Unconnected::Refused
        | Unconnected::Reset
        | Unconnected::Tls => {
            tracing::warn!(%proxy, "the proxy cannot be reached: nothing can be delivered");
            Unconnected::Unreachable
        }
    }
}

async fn within<T>(connecting: impl Future<Output = Result<T, Unconnected>>) -> Result<T, Unconnected> {
    timeout(STEP_TIMEOUT, connecting).await.unwrap_or(Err(Unconnected::Unreachable))
}

/// The first connection of any of these addresses. Each is given a head start over the next.
async fn first_to_answer(addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), Unconnected> {
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut failed = Unconnected::Unreachable;
    loop {
        let more = match waiting.next() {
            Some(address) => {
                trying.push(open(address));
                true
            }
            None => false,
        };
        tokio::select! {
            tried = trying.next() => match tried {
                Some(Ok(connected)) => return Ok(connected),
                Some(Err(error)) => failed = error,
                None => return Err(failed),
            },
            () = sleep(NEXT_ADDRESS_AFTER), if more => {}
        }
    }
}

async fn open(address: SocketAddr) -> Result<(TcpStream, SocketAddr), Unconnected> {
    #[expect(clippy::disallowed_methods, reason = "this is egress: the one place that opens sockets")]
    let connected = TcpStream::connect(address).await;
    let stream = connected.map_err(|error| why(&error))?;
    // A request is written whole; waiting to fill a packet would only delay it.
    let _ = stream.set_nodelay(true);
    // What was connected and has no peer any more was reset meanwhile.
    let peer = stream.peer_addr().map_err(|_| Unconnected::Reset)?;
    Ok((stream, peer))
}

fn why(error: &io::Error) -> Unconnected {
    if matches!(error.raw_os_error(), Some(NONE_IN_PROCESS | NONE_IN_SYSTEM)) {
        return Unconnected::NoDescriptor;
    }
    if error.kind() == io::ErrorKind::ConnectionRefused {
        Unconnected::Refused
    } else if error.kind() == io::ErrorKind::ConnectionReset {
        Unconnected::Reset
    } else {
        Unconnected::Unreachable
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
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_roots_that_are_no_certificates_are_refused() {
        for pem in [
            "x",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let refused = Connector::new(Gate::default(), pem.as_bytes()).err().unwrap();
            assert_eq!(refused.field(), "extraRoots", "{pem}");
        }
    }
}
