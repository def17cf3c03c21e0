//! What the vendors' customers do to trust a request, written after the vendors' pages.
//!
//! Invariant: nothing here calls the crate that is shown. Signatures are computed with `hmac`, `sha2` and `base64`
//! alone, so that a mistake in the sender cannot be made here a second time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::documents::id_member;
use super::receiver::Request;
use super::scenario::Vendor;

/// How far a signature's time may be from the receiver's clock, in seconds: five minutes.
const TOLERANCE: u64 = 300;

/// What a receiver learns from a request that it trusts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trusted {
    /// What happened.
    pub(super) event_type: String,
    /// The id in `data` that says what it happened to.
    pub(super) id: String,
    /// The event's own time, as it was written.
    pub(super) time: String,
    /// The payload.
    pub(super) data: Value,
    /// The message id, where the vendor sends one.
    pub(super) message: Option<String>,
    /// The signature's time, where the vendor sends one.
    pub(super) signed_at: Option<u64>,
}

/// Why a request is refused, with the status that the vendor's page answers then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Distrust {
    /// The answer.
    pub(super) status: u16,
    /// The reason.
    pub(super) why: String,
}

fn unauthorized(why: impl Into<String>) -> Distrust {
    Distrust { status: 401, why: why.into() }
}

fn malformed(why: impl Into<String>) -> Distrust {
    Distrust { status: 400, why: why.into() }
}

/// Checks a request as the vendor's customer does. `now` is the receiver's clock, in seconds since 1970.
///
/// # Errors
/// The first thing that is not as the vendor's page says.
pub(super) fn verify(request: &Request, now: u64) -> Result<Trusted, Distrust> {
    if request.method != "POST" {
        return Err(malformed(format!("the method is {}", request.method.escape_debug())));
    }
    if request.header("content-type") != Some("application/json") {
        return Err(malformed("the content type is not application/json"));
    }
    match request.vendor {
        Vendor::Levers => levers(request, now),
        Vendor::Levrage => levrage(request),
        Vendor::Subverse => subverse(request),
    }
}

/// Levers' "Verifying Webhooks": the three headers and the scheme of the library that the page tells to use.
fn levers(request: &Request, now: u64) -> Result<Trusted, Distrust> {
    let header = |name: &str| request.header(name).ok_or_else(|| unauthorized(format!("there is no {name}")));
    let (id, timestamp, signatures) = (header("svix-id")?, header("svix-timestamp")?, header("svix-signature")?);
    let signed_at: u64 = timestamp.parse().map_err(|_| unauthorized("svix-timestamp is no number"))?;
    if now.abs_diff(signed_at) > TOLERANCE {
        return Err(unauthorized("svix-timestamp is more than five minutes away"));
    }
    let secret = Vendor::Levers.secret();
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap_or(secret))
        .map_err(|_| unauthorized("the receiver's own secret is not base64"))?;
    let mut mac = hmac(&key)?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&request.body);
    let fits = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|one| {
        // Compared in constant time.
        STANDARD.decode(one).is_ok_and(|signature| mac.clone().verify_slice(&signature).is_ok())
    });
    if !fits {
        return Err(unauthorized("no signature in svix-signature fits"));
    }
    let mut trusted = read(request, ["type", "timestamp", "data"])?;
    trusted.message = Some(id.to_owned());
    trusted.signed_at = Some(signed_at);
    Ok(trusted)
}

/// Levrage's "Verifying Webhooks": lowercase hex over the raw body, keyed with the whole text of the secret.
fn levrage(request: &Request) -> Result<Trusted, Distrust> {
    let given = request.header("X-Levrage-Signature").ok_or_else(|| unauthorized("there is no X-Levrage-Signature"))?;
    if given.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(unauthorized("X-Levrage-Signature is not in lowercase, which the page compares it with"));
    }
    let signature = from_hex(given).ok_or_else(|| unauthorized("X-Levrage-Signature is not hex"))?;
    let mut mac = hmac(Vendor::Levrage.secret().as_bytes())?;
    mac.update(&request.body);
    mac.verify_slice(&signature).map_err(|_| unauthorized("X-Levrage-Signature does not fit"))?;
    read(request, ["event", "timestamp", "data"])
}

/// Subverse's "Configure Custom Headers" and "Common Fields": the token that the customer chose, and the body.
fn subverse(request: &Request) -> Result<Trusted, Distrust> {
    if request.header("Authorization") != Some(Vendor::Subverse.secret()) {
        return Err(unauthorized("the Authorization header is not the one that was set up"));
    }
    read(request, ["eventType", "createdAt", "data"])
}

fn hmac(key: &[u8]) -> Result<Hmac<Sha256>, Distrust> {
    Hmac::new_from_slice(key).map_err(|_| unauthorized("the receiver's own secret cannot be a key"))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Reads a body: an object of exactly the three members that the vendor's page shows, under its names.
fn read(request: &Request, names: [&str; 3]) -> Result<Trusted, Distrust> {
    let body: Value = serde_json::from_slice(&request.body).map_err(|_| malformed("the body is not JSON"))?;
    let text = |name: &str| {
        body[name].as_str().map(str::to_owned).ok_or_else(|| malformed(format!("the body has no text `{name}`")))
    };
    let [type_name, time_name, data_name] = names;
    let (event_type, time) = (text(type_name)?, text(time_name)?);
    if !is_utc_time(&time) {
        return Err(malformed(format!("`{time_name}` is no time in UTC")));
    }
    let data = &body[data_name];
    if body.as_object().map_or(0, serde_json::Map::len) != names.len() || !data.is_object() {
        return Err(malformed(format!("the body is not `{type_name}`, `{time_name}` and `{data_name}` alone")));
    }
    let member = id_member(request.vendor, &event_type);
    let id = data[member].as_str().ok_or_else(|| malformed(format!("`{data_name}` has no `{member}`")))?.to_owned();
    Ok(Trusted { event_type, id, time, data: data.clone(), message: None, signed_at: None })
}

/// Whether a text has the form of the pages' times: `2025-01-15T10:30:00Z`, perhaps with a part of a second.
fn is_utc_time(text: &str) -> bool {
    let Some((whole, rest)) = text.split_at_checked(19) else { return false };
    let shape: String = whole.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
    let fraction = rest.strip_suffix('Z').map(|rest| rest.strip_prefix('.').unwrap_or(rest));
    shape == "0000-00-00T00:00:00" && fraction.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(vendor: Vendor, headers: &[(&str, &str)], body: &str) -> Request {
        let mut all = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Request { vendor, method: "POST".into(), headers: all, body: body.into() }
    }

    /// The test vector of Levers' verification page: it verifies, and what is signed there is no event of Levers'.
    #[test]
    fn the_example_of_levers_page_gets_as_far_as_its_body() {
        let headers = [
            ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("svix-timestamp", "1614265330"),
            ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ];
        let arrived = request(Vendor::Levers, &headers, r#"{"test": 2432232314}"#);
        assert_eq!(verify(&arrived, 1_614_265_330).unwrap_err().why, "the body has no text `type`");
        assert_eq!(verify(&arrived, 1_614_265_631).unwrap_err().status, 401);
        let altered = request(Vendor::Levers, &headers, r#"{"test": 2432232315}"#);
        assert_eq!(verify(&altered, 1_614_265_330).unwrap_err().why, "no signature in svix-signature fits");
    }

    #[test]
    fn what_is_not_signed_is_not_trusted() {
        let body = r#"{"event":"CALL_ENDED","timestamp":"2025-01-15T10:30:00Z","data":{"session_id":"call_uuid"}}"#;
        // By Python's hmac: hmac.new(b"whsec_your_secret_key", body, hashlib.sha256).hexdigest()
        let signature = "e8dccfcc9a98446ef2ca1e0fd4175c3cec8842f0bc973528761166c467bc3dfb";
        let signed = |signature: &str| request(Vendor::Levrage, &[("X-Levrage-Signature", signature)], body);
        assert_eq!(verify(&signed(signature), 0).unwrap().id, "call_uuid");
        assert_eq!(verify(&signed(&signature.to_uppercase()), 0).unwrap_err().status, 401);
        assert_eq!(verify(&signed("00"), 0).unwrap_err().status, 401);
        assert_eq!(verify(&request(Vendor::Levrage, &[], body), 0).unwrap_err().status, 401);
        let bare = request(Vendor::Subverse, &[("Authorization", "Bearer another")], body);
        assert_eq!(verify(&bare, 0).unwrap_err().status, 401);
    }

    #[test]
    fn times_are_in_utc() {
        for (text, is) in [
            ("2025-01-15T10:30:00Z", true),
            ("2025-01-15T10:30:00.123Z", true),
            ("2025-01-15T10:30:00", false),
            ("2025-01-15T10:30:00+01:00", false),
            ("now", false),
        ] {
            assert_eq!(is_utc_time(text), is, "{text}");
        }
    }
}
