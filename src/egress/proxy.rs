//! An operator's proxy: connections are asked of it by vetted address, with `CONNECT`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::invalid::Invalid;
use crate::secret::Secret;

/// The largest head that a proxy may answer with: 16 KiB.
const MAX_ANSWER: usize = 16 * 1024;

/// A proxy that all deliveries go through: `http://proxy.acme.example:3128`, or with a user and password,
/// `http://user:password@proxy.acme.example:3128`.
///
/// Names are still resolved and vetted here, and the proxy is asked for a connection to the address (`CONNECT`), for
/// plain http too; so it opens nothing that the [`Policy`](super::Policy) does not. TLS runs through it, from end to
/// end. The proxy itself is the operator's choice, and its address is not vetted.
///
/// `Debug` and `Display` leave out user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: Host<String>,
    port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Secret>,
}

impl Proxy {
    pub(super) fn host(&self) -> &Host<String> {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Has a connection to this address opened behind an open connection to the proxy.
    pub(super) async fn tunnel(&self, mut stream: TcpStream, to: SocketAddr) -> io::Result<TcpStream> {
        let authorization = match &self.authorization {
            Some(value) => format!("Proxy-Authorization: {}\r\n", value.expose()),
            None => String::new(),
        };
        let asked = Secret::from(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{authorization}\r\n"));
        stream.write_all(asked.expose().as_bytes()).await?;
        let status = answer(&mut stream).await?;
        match status {
            200..=299 => Ok(stream),
            _ => Err(io::Error::other(format!("it answered {status}"))),
        }
    }
}

/// Reads the head of the proxy's answer, and not a byte more: what follows is the receiver's.
async fn answer(stream: &mut TcpStream) -> io::Result<u16> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_ANSWER {
            return Err(io::Error::other("its answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    let line = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "));
    let status = line.and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok());
    status.ok_or_else(|| io::Error::other("its answer is not HTTP"))
}

impl FromStr for Proxy {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |problem: &'static str| Invalid::new("proxy", problem);
        let url = Url::parse(text).map_err(|_| invalid("is not a URL, such as http://proxy.acme.example:3128"))?;
        if url.scheme() != "http" {
            return Err(invalid("must start with http://; the deliveries' own TLS runs through it"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("must have no path, query or fragment"));
        }
        let host = url.host().ok_or_else(|| invalid("must have a host"))?.to_owned();
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or_else(|| invalid("must have a port"))?;
        Ok(Proxy { host, port, authorization: authorization(&url).ok_or_else(|| invalid("has an unreadable user"))? })
    }
}

/// The header's value for a URL's user and password; `None` where they are no text.
fn authorization(url: &Url) -> Option<Option<Secret>> {
    if url.username().is_empty() && url.password().is_none() {
        return Some(None);
    }
    let plain = |part: &str| {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8().ok()?;
        Some(Secret::from(decoded.into_owned()))
    };
    let (user, password) = (plain(url.username())?, plain(url.password().unwrap_or_default())?);
    let pair = Secret::from(format!("{}:{}", user.expose(), password.expose()));
    Some(Some(Secret::from(format!("Basic {}", STANDARD.encode(pair.expose())))))
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_from_its_url_and_shown_without_its_password() {
        let proxy: Proxy = "http://ada:pass%20word@proxy.example:3128".parse().unwrap();
        assert_eq!(format!("{proxy} {proxy:?}"), "http://proxy.example:3128 http://proxy.example:3128");
        let value = proxy.authorization.unwrap();
        assert_eq!(value.expose(), format!("Basic {}", STANDARD.encode("ada:pass word")));
        let proxy: Proxy = "http://[fd00::1]".parse().unwrap();
        assert_eq!((proxy.to_string().as_str(), proxy.authorization), ("http://[fd00::1]:80", None));
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_showing_it() {
        for text in [
            "",
            "proxy:3128",
            "https://proxy.example",
            "socks5://u:hunter2@proxy.example",
            "http://proxy.example/path",
            "http://u:hunter2@proxy.example/?q",
            "http://proxy.example:0",
            "http://%ff:hunter2@proxy.example",
        ] {
            let refused = text.parse::<Proxy>().unwrap_err();
            assert_eq!(refused.field(), "proxy", "{text}");
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
    }
}
