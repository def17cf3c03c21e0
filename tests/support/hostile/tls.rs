//! The certificates of the receivers: good ones, one that nobody vouches for, one of another host.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::{TlsAcceptor, rustls};

use super::Hostile;

/// What a receiver's connections begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Plain,
    /// The sender expects TLS and gets the script as it stands.
    PlainBehindHttps,
    Tls(Certificate),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certificate {
    Good,
    UnknownAuthority,
    OtherName,
}

impl Hostile {
    pub(super) fn speaks(self) -> Speaks {
        use Hostile::*;
        if matches!(self, TlsHangs | TlsGarbage | TlsCloses | TlsResets) {
            Speaks::PlainBehindHttps
        } else if self == TlsUnknownAuthority {
            Speaks::Tls(Certificate::UnknownAuthority)
        } else if self == TlsOtherName {
            Speaks::Tls(Certificate::OtherName)
        } else if matches!(self, TlsUnclosed | EarlyHintsFloodOverTls) {
            Speaks::Tls(Certificate::Good)
        } else {
            Speaks::Plain
        }
    }
}

/// Certificates for all receivers of a process.
#[derive(Clone)]
pub struct Authority {
    /// What a sender must trust, in PEM. It does not cover the certificate that nobody vouches for.
    pub roots: String,
    good: TlsAcceptor,
    unknown: TlsAcceptor,
    other: TlsAcceptor,
}

impl Authority {
    pub fn new() -> Authority {
        let (good, good_pem) = certificate("127.0.0.1");
        let (unknown, _) = certificate("127.0.0.1");
        let (other, other_pem) = certificate("other.example");
        Authority { roots: good_pem + &other_pem, good, unknown, other }
    }

    pub(super) fn acceptor(&self, certificate: Certificate) -> &TlsAcceptor {
        match certificate {
            Certificate::Good => &self.good,
            Certificate::UnknownAuthority => &self.unknown,
            Certificate::OtherName => &self.other,
        }
    }
}

fn certificate(name: &str) -> (TlsAcceptor, String) {
    let signed = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.into())
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), signed.cert.pem())
}
