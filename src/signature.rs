//! Signing a request and verifying one, by a profile's rules. Pure: time and keys come in.
//!
//! [`sign`] makes the headers of one attempt; [`verify`] is the receiver's side of it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::invalid::Invalid;
use crate::profile::{Encoding, HeaderRule, KeyForm, KeyKind, KeyRule, Placeholder, Profile, SecretRule};
use crate::secret::Secret;
use crate::time::Timestamp;

/// What a signature is made over, beside the keys.
#[derive(Debug, Clone, Copy)]
pub struct Signable<'a> {
    /// The message id.
    pub id: &'a str,
    /// The attempt's time.
    pub time: Timestamp,
    /// The endpoint's URL.
    pub url: &'a str,
    /// The body's bytes.
    pub body: &'a [u8],
}

/// Why a request was not accepted by [`verify`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// A header that the profile writes is not there.
    #[error("the header {0} is missing")]
    HeaderMissing(String),
    /// A header is there, but not in the profile's form.
    #[error("the header {0} is not in the profile's form")]
    HeaderMalformed(String),
    /// The signature's time is further from now than the tolerance.
    #[error("the timestamp is too far from now")]
    TimestampOutOfTolerance,
    /// No signature fits.
    #[error("no signature fits the body and the secret")]
    SignatureMismatch,
    /// The secret is not one that the profile can use.
    #[error("{0}")]
    Secret(Invalid),
}

/// Checks that a secret is one that the profile can use.
///
/// # Errors
/// `field` named `secret`: a wrong prefix, bad base64, a wrong length, an ed25519 key whose halves do not
/// belong together, or a secret for a profile that has none.
pub fn validate_secret(profile: &Profile, secret: &Secret) -> Result<(), Invalid> {
    usable_key(profile, secret).map(|_| ())
}

/// The rule that a secret falls under and the key in it, if the profile can use it.
fn usable_key<'p>(profile: &'p Profile, secret: &Secret) -> Result<(&'p KeyRule, Zeroizing<Vec<u8>>), Invalid> {
    let invalid = |problem: String| Invalid::new("secret", problem);
    if profile.signing.secret == SecretRule::None {
        return Err(invalid(format!("the profile {} uses none", profile.name)));
    }
    let text = secret.expose();
    let Some(rule) = profile.signing.rule(text) else {
        let prefixes: Vec<_> = profile.signing.keys.iter().map(|rule| rule.prefix.as_str()).collect();
        return Err(invalid(format!("must start with {}", prefixes.join(" or "))));
    };
    let key = key_bytes(rule, text)?;
    if key.len() < rule.min_bytes || key.len() > rule.max_bytes {
        let (least, most) = (rule.min_bytes, rule.max_bytes);
        return Err(invalid(format!("the key has {} bytes; {least} to {most} are accepted", key.len())));
    }
    match rule.kind {
        KeyKind::Ed25519 => ed25519_key(&key).map(|_| ())?,
        KeyKind::StaticToken => token(profile, text)?,
        KeyKind::HmacSha256 | KeyKind::HmacSha512 | KeyKind::HmacSha1 => {}
    }
    Ok((rule, key))
}

/// A token stands in a header as it is.
fn token(profile: &Profile, text: &str) -> Result<(), Invalid> {
    let invalid = |problem: &'static str| Err(Invalid::new("secret", problem));
    if text.bytes().any(|byte| !(0x20..0x7f).contains(&byte)) {
        return invalid("a token is printable ASCII");
    }
    if text.trim() != text {
        return invalid("a token neither starts nor ends with a space, which HTTP would cut off");
    }
    if profile.signing.join.as_ref().is_some_and(|join| text.contains(join.as_str())) {
        return invalid("a token cannot hold the text that stands between several ones");
    }
    Ok(())
}

/// Makes a secret for a profile from 32 random bytes, by the first of its key rules.
pub(crate) fn secret_from(profile: &Profile, random: [u8; 32]) -> Option<Secret> {
    let rule = profile.signing.keys.first()?;
    let random = Zeroizing::new(random);
    let text = match rule.kind {
        KeyKind::Ed25519 => STANDARD.encode(SigningKey::from_bytes(&random).to_keypair_bytes()),
        KeyKind::HmacSha256 | KeyKind::HmacSha512 | KeyKind::HmacSha1 | KeyKind::StaticToken => {
            STANDARD.encode(*random)
        }
    };
    Some(Secret::new(format!("{}{text}", rule.prefix)))
}

/// The public half of an ed25519 secret, in the form that receivers verify with (`whpk_` and base64);
/// `None` for a secret that has none.
///
/// # Errors
/// The secret is not one that the profile can use.
pub fn public_key(profile: &Profile, secret: &Secret) -> Result<Option<String>, Invalid> {
    let (rule, key) = usable_key(profile, secret)?;
    match rule.kind {
        KeyKind::Ed25519 => {
            let key = ed25519_key(&key)?;
            Ok(Some(format!("whpk_{}", STANDARD.encode(key.verifying_key().as_bytes()))))
        }
        KeyKind::HmacSha256 | KeyKind::HmacSha512 | KeyKind::HmacSha1 | KeyKind::StaticToken => Ok(None),
    }
}

/// The headers that a profile writes for one attempt, in the profile's order. `secrets` are the active keys,
/// newest first; without any, only the headers without a signature are written.
///
/// # Errors
/// A secret that the profile cannot use.
pub fn sign(profile: &Profile, secrets: &[Secret], what: Signable<'_>) -> Result<Vec<(String, String)>, Invalid> {
    let values = Values::of(profile, what);
    let signing = &profile.signing;
    let mut signatures = Vec::with_capacity(secrets.len());
    // A scheme without a separator has room for one signature: the newest key's.
    let active = if signing.join.is_some() { secrets } else { &secrets[..secrets.len().min(1)] };
    for secret in active {
        signatures.push(formatted_signature(profile, secret, &values)?);
    }
    let joined = signatures.join(signing.join.as_deref().unwrap_or_default());
    Ok(signing
        .headers
        .iter()
        .filter(|header| !(signatures.is_empty() && header.value.uses(Placeholder::Signature)))
        .map(|header| (header.name.clone(), header_value(header, &values, &joined)))
        .collect())
}

/// Verifies a request as a receiver does: takes id, time and signatures out of the headers, and accepts if
/// any signature fits any secret. `header` looks a header up by its name, in any case. `tolerance` is how
/// far each time in the headers may be from `now`.
///
/// # Errors
/// Why the request is not accepted.
pub fn verify<'h>(
    profile: &Profile,
    secrets: &[Secret],
    header: impl Fn(&str) -> Option<&'h str>,
    url: &str,
    body: &[u8],
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), Rejected> {
    let mut claimed = Claimed::default();
    let mut given_headers = Vec::with_capacity(profile.signing.headers.len());
    for rule in &profile.signing.headers {
        let value = header(&rule.name).ok_or_else(|| Rejected::HeaderMissing(rule.name.clone()))?;
        given_headers.push((rule, value));
        let malformed = || Rejected::HeaderMalformed(rule.name.clone());
        for (placeholder, text) in rule.value.matched(value).ok_or_else(malformed)? {
            claimed.take(placeholder, text).ok_or_else(malformed)?;
        }
    }
    if claimed.times.iter().any(|time| now.since(*time).max(time.since(now)) > tolerance) {
        return Err(Rejected::TimestampOutOfTolerance);
    }
    let values = claimed.values(profile, Signable { id: claimed.id, time: now, url, body });
    // A digest, a URL, or what stands in two headers, must be what the signature is checked against.
    if !given_headers.iter().all(|(rule, value)| header_value(rule, &values, claimed.signatures) == *value) {
        return Err(Rejected::SignatureMismatch);
    }
    let given: Vec<&str> = match &profile.signing.join {
        Some(join) => claimed.signatures.split(join.as_str()).collect(),
        None => vec![claimed.signatures],
    };
    for secret in secrets {
        // Both schemes are deterministic, so the expected signature can be made and compared.
        let expected = formatted_signature(profile, secret, &values).map_err(Rejected::Secret)?;
        if given.iter().any(|text| bool::from(text.as_bytes().ct_eq(expected.as_bytes()))) {
            return Ok(());
        }
    }
    Err(Rejected::SignatureMismatch)
}

/// Verifies an ed25519 signature with the public key alone (`whpk_…`), over the content that the profile signs.
///
/// # Errors
/// `key` is not a public key.
pub fn verify_with_public_key(content: &[u8], signature: &[u8], key: &str) -> Result<bool, Invalid> {
    let invalid = || Invalid::new("key", "must be whpk_ and the base64 of 32 bytes");
    let bytes = key.strip_prefix("whpk_").and_then(|text| STANDARD.decode(text).ok()).ok_or_else(invalid)?;
    let key = VerifyingKey::from_bytes(&bytes.try_into().map_err(|_| invalid())?).map_err(|_| invalid())?;
    let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return Ok(false) };
    Ok(key.verify_strict(content, &signature).is_ok())
}

/// What the headers of a request say. Times are kept as they are written: that text is what was signed, and
/// reading a time loses what its form does not show.
#[derive(Default)]
struct Claimed<'h> {
    id: &'h str,
    seconds: &'h str,
    millis: &'h str,
    iso: &'h str,
    times: Vec<Timestamp>,
    signatures: &'h str,
}

impl<'h> Claimed<'h> {
    fn take(&mut self, placeholder: Placeholder, text: &'h str) -> Option<()> {
        match placeholder {
            Placeholder::Id => self.id = text,
            Placeholder::Signature => self.signatures = text,
            Placeholder::Seconds => {
                self.seconds = text;
                self.times.push(Timestamp::from_millis(text.parse::<u64>().ok()?.checked_mul(1000)?));
            }
            Placeholder::Millis => {
                self.millis = text;
                self.times.push(Timestamp::from_millis(text.parse().ok()?));
            }
            Placeholder::Iso => {
                self.iso = text;
                self.times.push(text.parse().ok()?);
            }
            Placeholder::Body
            | Placeholder::BodySha256Hex
            | Placeholder::BodySha256Base64
            | Placeholder::Method
            | Placeholder::Url => {}
        }
        Some(())
    }

    /// What the request's signature is checked against: the headers' texts, and what follows from the body.
    fn values<'a>(&self, profile: &Profile, what: Signable<'a>) -> Values<'a> {
        Values {
            seconds: self.seconds.to_owned(),
            millis: self.millis.to_owned(),
            iso: self.iso.to_owned(),
            ..Values::of(profile, what)
        }
    }
}

/// The placeholders' values for one request. The digests are computed only where the profile uses them.
struct Values<'a> {
    id: &'a str,
    url: &'a str,
    body: &'a [u8],
    seconds: String,
    millis: String,
    iso: String,
    body_sha256_hex: String,
    body_sha256_b64: String,
}

impl<'a> Values<'a> {
    fn of(profile: &Profile, what: Signable<'a>) -> Self {
        let uses = |p| {
            profile.signing.content.iter().chain(profile.signing.headers.iter().map(|h| &h.value)).any(|t| t.uses(p))
        };
        let given = |used: bool, make: &dyn Fn() -> String| if used { make() } else { String::new() };
        let digest = || Sha256::digest(what.body);
        Values {
            id: what.id,
            url: what.url,
            body: what.body,
            seconds: what.time.as_seconds().to_string(),
            millis: given(uses(Placeholder::Millis), &|| what.time.as_millis().to_string()),
            iso: given(uses(Placeholder::Iso), &|| what.time.to_string()),
            body_sha256_hex: given(uses(Placeholder::BodySha256Hex), &|| hex(&digest())),
            body_sha256_b64: given(uses(Placeholder::BodySha256Base64), &|| STANDARD.encode(digest())),
        }
    }

    fn get(&self, placeholder: Placeholder) -> &[u8] {
        match placeholder {
            Placeholder::Id => self.id.as_bytes(),
            Placeholder::Seconds => self.seconds.as_bytes(),
            Placeholder::Millis => self.millis.as_bytes(),
            Placeholder::Iso => self.iso.as_bytes(),
            Placeholder::Body => self.body,
            Placeholder::BodySha256Hex => self.body_sha256_hex.as_bytes(),
            Placeholder::BodySha256Base64 => self.body_sha256_b64.as_bytes(),
            Placeholder::Method => b"POST",
            Placeholder::Url => self.url.as_bytes(),
            Placeholder::Signature => b"",
        }
    }
}

fn header_value(header: &HeaderRule, values: &Values<'_>, signatures: &str) -> String {
    let signatures = signatures.as_bytes();
    header.value.filled(|p| if p == Placeholder::Signature { signatures } else { values.get(p) })
}

fn formatted_signature(profile: &Profile, secret: &Secret, values: &Values<'_>) -> Result<String, Invalid> {
    let (rule, key) = usable_key(profile, secret)?;
    let signature = signature(profile, rule, secret, &key, values)?;
    Ok(rule.format.filled(|_| signature.as_bytes()))
}

fn signature(
    profile: &Profile,
    rule: &KeyRule,
    secret: &Secret,
    key: &[u8],
    values: &Values<'_>,
) -> Result<String, Invalid> {
    let bytes = match rule.kind {
        KeyKind::StaticToken => return Ok(secret.expose().to_owned()),
        KeyKind::HmacSha256 => mac::<Hmac<Sha256>>(profile, key, values),
        KeyKind::HmacSha512 => mac::<Hmac<Sha512>>(profile, key, values),
        KeyKind::HmacSha1 => mac::<Hmac<sha1::Sha1>>(profile, key, values),
        KeyKind::Ed25519 => {
            let mut content = Vec::with_capacity(values.body.len() + 64);
            each_piece(profile, values, |piece| content.extend_from_slice(piece));
            ed25519_key(key)?.sign(&content).to_bytes().to_vec()
        }
    };
    Ok(match rule.encoding {
        Encoding::Hex => hex(&bytes),
        Encoding::Base64 => STANDARD.encode(bytes),
        Encoding::Base64url => URL_SAFE_NO_PAD.encode(bytes),
    })
}

fn each_piece<'a>(profile: &'a Profile, values: &'a Values<'_>, sink: impl FnMut(&'a [u8])) {
    if let Some(content) = &profile.signing.content {
        content.fill(|placeholder| values.get(placeholder), sink);
    }
}

fn mac<M: Mac + KeyInit>(profile: &Profile, key: &[u8], values: &Values<'_>) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    each_piece(profile, values, |piece| mac.update(piece));
    mac.finalize().into_bytes().to_vec()
}

fn key_bytes(rule: &KeyRule, secret: &str) -> Result<Zeroizing<Vec<u8>>, Invalid> {
    match rule.form {
        KeyForm::Raw => Ok(Zeroizing::new(secret.as_bytes().to_vec())),
        KeyForm::Base64 => STANDARD
            .decode(secret.strip_prefix(rule.prefix.as_str()).unwrap_or(secret))
            .map(Zeroizing::new)
            .map_err(|_| Invalid::new("secret", format!("must be {} and standard base64 with padding", rule.prefix))),
    }
}

fn ed25519_key(bytes: &[u8]) -> Result<SigningKey, Invalid> {
    <&[u8; 64]>::try_from(bytes)
        .ok()
        .and_then(|pair| SigningKey::from_keypair_bytes(pair).ok())
        .ok_or_else(|| Invalid::new("secret", "must hold a 32-byte ed25519 seed and the public key that belongs to it"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}
