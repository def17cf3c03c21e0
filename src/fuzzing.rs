//! What holds for any bytes from outside: one function a reader of such bytes, which panics where it does not.
//!
//! The fuzz targets in `fuzz/` feed these, and so do the tests here, with the seeds in `fuzz/corpus/` and what becomes of them
//! under small changes. It is compiled for both alone, and no part of the library that others build.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use url::{Host, Url};

use crate::delivery::MAX_RETRY_AFTER;
use crate::egress::{Policy, Scheme};
use crate::endpoint::{EndpointSettings, MAX_URL};
use crate::header::{CustomHeader, MAX_HEADER_BYTES, MAX_HEADERS};
use crate::profile::{Placeholder, Profile, SecretRule};
use crate::secret::Secret;
use crate::signature::{self, Signable};
use crate::testing::chosen;
use crate::time::Timestamp;

pub use crate::front::fuzzing::record;
#[cfg(feature = "sled")]
pub use crate::store::sled::fuzzing::row;

/// 2027-01-15, which is as good as any.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn policy(networks: &[&str]) -> Policy {
    let network = |text: &&str| text.parse().expect("a network");
    Policy { allowed_networks: networks.iter().map(network).collect(), ..Policy::default() }
}

/// A URL that an endpoint takes names a host by http or https and nothing else, and the policy judges a literal address as it
/// judges a connection to it.
pub fn url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok((url, _)) = EndpointSettings::at(text).validate() {
        assert!(text.len() <= MAX_URL && !text.contains(['\\', '#', ' ', '\n', '\r', '\t', '\0']), "{text:?}");
        assert!(matches!(url.scheme(), "https" | "http") && url.fragment().is_none(), "{url}");
        assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        assert!(url.host_str().is_some_and(|host| !host.is_empty()), "{url}");
    }
    let Ok(url) = Url::parse(text) else { return };
    for (policy, open) in [
        (policy(&[]), false),
        (policy(&["127.0.0.0/8", "10.0.0.0/8:8080", "fd00::/8"]), true),
        (policy(&["0.0.0.0/0", "::/0"]), true),
    ] {
        let accepted = policy.check_url(&url).is_ok();
        let again = Url::parse(url.as_str()).expect("what was parsed is a URL");
        assert_eq!(policy.check_url(&again).is_ok(), accepted, "{url} is judged otherwise when it is read again");
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return assert!(!accepted, "{url}"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return assert!(!accepted, "{url}");
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let address = match url.host().expect("http has a host") {
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
            Host::Domain(name) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                let inside = [".local", ".internal", ".localhost", ".svc", ".home.arpa"];
                if accepted && !(open && name == "localhost") {
                    assert!(name.contains('.') && !inside.iter().any(|zone| name.ends_with(zone)), "{url}");
                    assert!(name.parse::<IpAddr>().is_err(), "{url} has an address that was taken for a name");
                }
                assert!(!accepted || open || (scheme == Scheme::Https && port != 0), "{url}");
                continue;
            }
        };
        assert_eq!(accepted, policy.check_address(SocketAddr::new(address, port), scheme), "{url}");
        assert!(!accepted || open || !is_special(address), "{url}");
    }
}

/// Whether an address is no plain host of the internet: the registries' table, written down a second time.
fn is_special(address: IpAddr) -> bool {
    let v4 = |address: Ipv4Addr| {
        let [a, b, c, _] = address.octets();
        let documentation = matches!((a, b, c), (192, 0, 2) | (198, 51, 100) | (203, 0, 113));
        let assigned =
            matches!((a, b, c), (192, 0, 0) | (192, 31, 196) | (192, 52, 193) | (192, 88, 99) | (192, 175, 48));
        address.is_private()
            || address.is_link_local()
            || documentation
            || assigned
            || matches!((a, b), (100, 64..128) | (198, 18..20))
            || matches!(a, 0 | 127 | 224..)
            || address == Ipv4Addr::new(168, 63, 129, 16)
    };
    let v6 = |address: Ipv6Addr| {
        let [a, b, c, _, e, f, ..] = address.segments();
        let isatap = matches!((e, f), (0 | 0x200, 0x5efe));
        let documentation = (a, b) == (0x2001, 0xdb8) || (a == 0x3fff && b < 0x1000);
        let assigned = (a == 0x2001 && b < 0x200) || (a, b, c) == (0x2620, 0x4f, 0x8000);
        !(0x2000..0x4000).contains(&a) || isatap || documentation || assigned || matches!(a, 0x2002 | 0x3ffe)
    };
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    }
}

/// An address is called without the operator's leave if and only if it is a plain host of the internet, on a port that is
/// neither bad nor 0; no leave for networks opens a metadata service, nor what embeds another address.
pub fn address(bytes: &[u8]) {
    let (address, port) = match bytes.len() {
        ..6 => return,
        6..18 => (IpAddr::from(<[u8; 4]>::try_from(&bytes[..4]).expect("four bytes")), &bytes[4..6]),
        _ => (IpAddr::from(<[u8; 16]>::try_from(&bytes[..16]).expect("sixteen bytes")), &bytes[16..18]),
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    let (closed, open) = (policy(&[]), policy(&["0.0.0.0/0", "::/0"]));
    let at = |port| SocketAddr::new(address, port);
    assert_eq!(closed.check_address(at(443), Scheme::Https), !is_special(address), "{address}");
    assert!(!closed.check_address(at(port), Scheme::Http), "plain http to {address}");
    assert!(
        !closed.check_address(at(port), Scheme::Https) || closed.check_address(at(443), Scheme::Https),
        "{address}"
    );
    assert!(!closed.check_address(at(0), Scheme::Https) && !open.check_address(at(0), Scheme::Http));
    // What the operator opens is never less than what is open.
    assert!(open.check_address(at(port), Scheme::Https) || !closed.check_address(at(port), Scheme::Https), "{address}");
    let may_be_opened = open.check_address(at(443), Scheme::Https);
    if let IpAddr::V6(v6) = address {
        let embedding = v6.to_ipv4_mapped().is_some() || matches!(v6.segments(), [0x2002, ..] | [0x2001, 0, ..]);
        assert!(!(embedding && may_be_opened), "{address} embeds another");
        if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = v6.segments() {
            let embedded = IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
            assert_eq!(may_be_opened, open.check_address(SocketAddr::new(embedded, 443), Scheme::Https), "{address}");
        }
    }
    let metadata = ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "168.63.129.16"];
    let is_metadata = metadata.iter().any(|text| text.parse() == Ok(address));
    let never = address.is_multicast() || address.is_unspecified();
    assert!(!((is_metadata || never) && may_be_opened), "{address}");
}

/// Headers that an endpoint takes, one a line, can be written as they stand and are none of those that are ours.
pub fn headers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut settings = EndpointSettings::at("https://a.example/");
    settings.headers = text
        .split('\n')
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            CustomHeader::new(name, value)
        })
        .collect();
    if settings.validate().is_err() {
        return;
    }
    let headers = &settings.headers;
    let length: usize = headers.iter().map(|header| header.name.len() + header.value.expose().len()).sum();
    assert!(headers.len() <= MAX_HEADERS && length <= MAX_HEADER_BYTES);
    let mut written = HeaderMap::new();
    for header in headers {
        let name = http::HeaderName::from_bytes(header.name.as_bytes()).expect("a name that was taken can be written");
        let value = HeaderValue::from_str(header.value.expose()).expect("a value that was taken can be written");
        let reserved = ["webhook-", "svix-", "proxy-", "x-forwarded-"];
        let ours = ["host", "content-length", "transfer-encoding", "te", "trailer", "connection", "keep-alive"];
        let others = ["upgrade", "expect", "forwarded", "cookie"];
        assert!(!reserved.iter().any(|prefix| name.as_str().starts_with(prefix)), "{name}");
        assert!(!ours.contains(&name.as_str()) && !others.contains(&name.as_str()), "{name}");
        assert!(!value.as_bytes().iter().any(u8::is_ascii_control), "{name}");
        assert!(written.insert(name, value).is_none(), "one of them stands twice");
    }
}

/// A receiver puts a retry off by a day at most, by digits or by a date that is written in the one way.
pub fn retry_after(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value)]);
    let asked = crate::http::retry_after(&headers, NOW);
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs);
        assert_eq!(asked, Some(seconds.min(MAX_RETRY_AFTER)), "{text:?}");
    } else if let Some(asked) = asked {
        assert!(asked <= MAX_RETRY_AFTER && text.ends_with(" GMT") && text.len() == 29, "{text:?}");
    }
}

fn any_profile(number: usize) -> Profile {
    let name = Profile::BUILTIN[number % Profile::BUILTIN.len()];
    Profile::builtin(name).expect("it is built in")
}

fn looked_up<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// A secret that a profile takes signs, and what it signed verifies; one that it does not take signs nothing.
pub fn secret(bytes: &[u8]) {
    let (number, rest) = chosen(bytes);
    let profile = any_profile(number);
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let secret = Secret::new(text);
    let taken = signature::validate_secret(&profile, &secret);
    let what = Signable { id: "msg_1", time: NOW, url: "https://a.example/hooks", body: b"{}" };
    let key = signature::public_key(&profile, &secret);
    assert!(taken.is_ok() || !matches!(key, Ok(Some(_))), "{} gives a key of {text:?}", profile.name);
    if let Err(invalid) = taken {
        // What is wrong with a secret is said without it. A shorter one may be words of the sentence.
        assert!(text.len() < 40 || !invalid.problem().contains(text), "{invalid}");
        return;
    }
    let signed = signature::sign(&profile, std::slice::from_ref(&secret), what).expect("a secret that was taken signs");
    let secrets = [secret];
    let verify = |body: &[u8]| {
        let header = |name: &str| looked_up(&signed, name);
        signature::verify(&profile, &secrets, header, what.url, body, NOW, Duration::from_secs(300))
    };
    assert_eq!(verify(what.body), Ok(()), "{}", profile.name);
    assert!(verify(b"{ }").is_err(), "{}", profile.name);
    for (name, value) in &signed {
        assert!(HeaderValue::from_str(value).is_ok(), "{name}: {value:?}");
    }
}

/// Headers that somebody made up verify nothing, and what is signed verifies as long as nothing of it is changed.
///
/// The bytes are a choice, and three texts with zeros between them: a header's value, a URL, a body.
pub fn signature(bytes: &[u8]) {
    let (number, rest) = chosen(bytes);
    let profile = any_profile(number);
    if profile.signing.secret == SecretRule::None {
        return;
    }
    let mut parts = rest.splitn(3, |byte| *byte == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (forged, url, body) = (text(), text(), text());
    let secrets =
        [signature::secret_from(&profile, [7; 32]).unwrap_or_else(|| Secret::new("a secret of 32 characters, or so"))];
    let tolerance = Duration::from_secs(300);
    let verified = |header: &dyn Fn(&str) -> Option<String>, body: &[u8]| {
        let headers: Vec<(String, String)> =
            profile.signing.headers.iter().filter_map(|rule| Some((rule.name.clone(), header(&rule.name)?))).collect();
        signature::verify(&profile, &secrets, |name| looked_up(&headers, name), &url, body, NOW, tolerance)
    };
    assert!(verified(&|_| Some(forged.clone()), body.as_bytes()).is_err(), "{}: {forged:?}", profile.name);
    let what = Signable { id: "msg_1", time: NOW, url: &url, body: body.as_bytes() };
    let signed = signature::sign(&profile, &secrets, what).expect("its own secret signs");
    let right = |name: &str| looked_up(&signed, name).map(ToOwned::to_owned);
    assert_eq!(verified(&right, body.as_bytes()), Ok(()), "{}", profile.name);
    assert!(verified(&right, &[body.as_bytes(), b" "].concat()).is_err(), "{}", profile.name);
    for rule in &profile.signing.headers {
        let one_forged = |name: &str| if name == rule.name { Some(forged.clone()) } else { right(name) };
        let same = right(&rule.name).as_deref() == Some(forged.as_str());
        let answer = verified(&one_forged, body.as_bytes());
        // Beside a signature that fits there may be others.
        let holds_it =
            rule.value.uses(Placeholder::Signature) && right(&rule.name).is_some_and(|value| forged.contains(&value));
        assert!(same || holds_it || answer.is_err(), "{}: {}: {forged:?}", profile.name, rule.name);
    }
}

#[cfg(test)]
#[path = "../tests/support/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_for_any_bytes_holds_for_the_seeds_and_for_what_is_near_them() {
        corpus::holds("url", url);
        corpus::holds("address", address);
        corpus::holds("headers", headers);
        corpus::holds("retry_after", retry_after);
        corpus::holds("secret", secret);
        corpus::holds("signature", signature);
        corpus::holds("record", record);
    }

    #[cfg(feature = "sled")]
    #[test]
    fn what_holds_for_any_row_holds_for_the_seeds_and_for_what_is_near_them() {
        corpus::holds("row", row);
    }
}
