//! What we sign, the vendors' own verifiers accept; what was altered, they and we refuse.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as promised")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use ringback::clock::{Clock, SystemClock};
use ringback::signature::{self, Rejected, Signable};
use ringback::{Invalid, Profile, Secret, Timestamp};
use sha2::{Digest, Sha256, Sha512};

const FIVE_MINUTES: Duration = Duration::from_secs(300);
const URL: &str = "https://receiver.example/webhook";

type Headers = Vec<(String, String)>;

fn builtin(name: &str) -> Profile {
    Profile::builtin(name).unwrap()
}

fn now() -> Timestamp {
    SystemClock::starting_after(Timestamp::ZERO).wall()
}

fn sign(profile: &Profile, secrets: &[&str], id: &str, time: Timestamp, body: &[u8]) -> Headers {
    let secrets: Vec<Secret> = secrets.iter().copied().map(Secret::from).collect();
    signature::sign(profile, &secrets, Signable { id, time, url: URL, body }).unwrap()
}

fn verify(profile: &Profile, secrets: &[&str], headers: &Headers, body: &[u8], now: Timestamp) -> Result<(), Rejected> {
    let secrets: Vec<Secret> = secrets.iter().copied().map(Secret::from).collect();
    let header = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    signature::verify(profile, &secrets, header, URL, body, now, FIVE_MINUTES)
}

fn header_map(headers: &Headers) -> http::HeaderMap {
    let named = |(name, value): &(String, String)| {
        (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
    };
    headers.iter().map(named).collect()
}

fn set(headers: &mut Headers, suffix: &str, change: impl FnOnce(&str) -> String) {
    let (_, value) = headers.iter_mut().find(|(name, _)| name.ends_with(suffix)).unwrap();
    *value = change(value);
}

/// The same text with another byte at some place.
fn altered(text: &str, place: usize, with: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let place = place % bytes.len();
    // Stays printable ASCII, as a header must.
    bytes[place] = if bytes[place] == with { with ^ 1 } else { with };
    String::from_utf8(bytes).unwrap()
}

fn mac256(key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(content);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn whsec() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<u8>(), 24..=75).prop_map(|key| format!("whsec_{}", STANDARD.encode(key)))
}

fn message_id() -> impl Strategy<Value = String> {
    "msg_[a-zA-Z0-9_-]{1,40}"
}

// --- Svix, Standard Webhooks, Levers ---------------------------------------------------------------------------------

/// The example of Levers' verification page.
const PAGE_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PAGE_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const PAGE_TIME: Timestamp = Timestamp::from_millis(1_614_265_330_000);
const PAGE_BODY: &[u8] = br#"{"test": 2432232314}"#;

#[test]
fn the_verification_page_s_example_is_signed_to_the_letter() {
    for profile in ["levers", "svix"] {
        let headers = sign(&builtin(profile), &[PAGE_SECRET], PAGE_ID, PAGE_TIME, PAGE_BODY);
        let expected = [
            ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("svix-timestamp", "1614265330"),
            ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(verify(&builtin(profile), &[PAGE_SECRET], &headers, PAGE_BODY, PAGE_TIME), Ok(()));
    }
}

/// Whether the official package of the profile's scheme accepts the request, its time included.
fn official_accepts(profile: &str, secret: &str, headers: &Headers, body: &[u8]) -> bool {
    let headers = header_map(headers);
    match profile {
        "standard-webhooks" => standardwebhooks::Webhook::new(secret).unwrap().verify(body, &headers).is_ok(),
        _ => svix::webhooks::Webhook::new(secret).unwrap().verify(body, &headers).is_ok(),
    }
}

fn three_header_profile() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["svix", "levers", "standard-webhooks"])
}

proptest! {
    #[test]
    fn the_official_verifiers_accept_what_we_sign(
        profile in three_header_profile(), secret in whsec(), id in message_id(), body in ".{0,200}",
    ) {
        let headers = sign(&builtin(profile), &[&secret], &id, now(), body.as_bytes());
        prop_assert!(official_accepts(profile, &secret, &headers, body.as_bytes()));
        prop_assert_eq!(verify(&builtin(profile), &[&secret], &headers, body.as_bytes(), now()), Ok(()));
    }

    #[test]
    fn one_altered_byte_is_refused_by_the_official_verifiers_and_by_ours(
        profile in three_header_profile(), secret in whsec(), id in message_id(), body in ".{1,200}",
        part in 0..4, place in any::<usize>(), with in 0x21u8..0x7e, bits in 1u8..=255,
    ) {
        let mut body = body.into_bytes();
        let mut headers = sign(&builtin(profile), &[&secret], &id, now(), &body);
        match part {
            0 => { let place = place % body.len(); body[place] ^= bits; }
            1 => set(&mut headers, "-id", |id| altered(id, place, with)),
            2 => set(&mut headers, "-timestamp", |time| altered(time, place, with)),
            _ => set(&mut headers, "-signature", |signature| altered(signature, place, with)),
        }
        prop_assert!(!official_accepts(profile, &secret, &headers, &body));
        prop_assert!(verify(&builtin(profile), &[&secret], &headers, &body, now()).is_err());
    }

    #[test]
    fn we_accept_what_the_official_packages_sign(secret in whsec(), id in message_id(), body in ".{0,200}") {
        let seconds = i64::try_from(now().as_seconds()).unwrap();
        let by_svix = svix::webhooks::Webhook::new(&secret).unwrap().sign(&id, seconds, body.as_bytes()).unwrap();
        let by_standard = standardwebhooks::Webhook::new(&secret).unwrap().sign(&id, seconds, body.as_bytes()).unwrap();
        for (profile, prefix, signed) in [("svix", "svix", by_svix), ("standard-webhooks", "webhook", by_standard)] {
            let headers = vec![
                (format!("{prefix}-id"), id.clone()),
                (format!("{prefix}-timestamp"), seconds.to_string()),
                (format!("{prefix}-signature"), signed),
            ];
            prop_assert_eq!(verify(&builtin(profile), &[&secret], &headers, body.as_bytes(), now()), Ok(()));
        }
    }

    #[test]
    fn while_keys_rotate_each_of_them_verifies_on_its_own(
        profile in three_header_profile(), keys in prop::collection::hash_set(whsec(), 3), body in ".{0,50}",
    ) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (stranger, active) = keys.split_first().unwrap();
        let headers = sign(&builtin(profile), active, "msg_1", now(), body.as_bytes());
        for key in active {
            prop_assert!(official_accepts(profile, key, &headers, body.as_bytes()));
            prop_assert_eq!(verify(&builtin(profile), &[key], &headers, body.as_bytes(), now()), Ok(()));
        }
        prop_assert!(!official_accepts(profile, stranger, &headers, body.as_bytes()));
        let refused = verify(&builtin(profile), &[stranger], &headers, body.as_bytes(), now());
        prop_assert_eq!(refused, Err(Rejected::SignatureMismatch));
    }
}

#[test]
fn a_time_outside_the_tolerance_is_refused_on_both_sides_of_now() {
    let svix = builtin("svix");
    for (signed_at, accepted) in [
        (now() - Duration::from_secs(290), true),
        (now() - Duration::from_secs(310), false),
        (now() + Duration::from_secs(290), true),
        (now() + Duration::from_secs(310), false),
    ] {
        let headers = sign(&svix, &[PAGE_SECRET], PAGE_ID, signed_at, PAGE_BODY);
        assert_eq!(official_accepts("svix", PAGE_SECRET, &headers, PAGE_BODY), accepted);
        let ours = verify(&svix, &[PAGE_SECRET], &headers, PAGE_BODY, now());
        assert_eq!(ours, if accepted { Ok(()) } else { Err(Rejected::TimestampOutOfTolerance) });
        let ignoring = svix::webhooks::Webhook::new(PAGE_SECRET).unwrap();
        assert!(ignoring.verify_ignoring_timestamp(PAGE_BODY, &header_map(&headers)).is_ok());
    }
}

#[test]
fn a_missing_header_is_named() {
    let headers = sign(&builtin("svix"), &[PAGE_SECRET], PAGE_ID, PAGE_TIME, PAGE_BODY);
    for absent in 0..headers.len() {
        let mut rest = headers.clone();
        let (name, _) = rest.remove(absent);
        let refused = verify(&builtin("svix"), &[PAGE_SECRET], &rest, PAGE_BODY, PAGE_TIME);
        assert_eq!(refused, Err(Rejected::HeaderMissing(name)));
    }
}

#[test]
fn an_ed25519_signature_verifies_with_the_public_key_alone() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let secret = format!("whsk_{}", STANDARD.encode(key.to_keypair_bytes()));
    let profile = builtin("standard-webhooks");
    let headers = sign(&profile, &[&secret, PAGE_SECRET], "msg_1", PAGE_TIME, PAGE_BODY);

    let public = signature::public_key(&profile, &Secret::from(secret.as_str())).unwrap().unwrap();
    assert_eq!(public, format!("whpk_{}", STANDARD.encode(key.verifying_key().as_bytes())));
    assert_eq!(signature::public_key(&profile, &Secret::from(PAGE_SECRET)), Ok(None));

    let (asymmetric, symmetric) = headers[2].1.split_once(' ').unwrap();
    assert!(symmetric.starts_with("v1,"));
    let signature = STANDARD.decode(asymmetric.strip_prefix("v1a,").unwrap()).unwrap();
    let content = [b"msg_1.1614265330.".as_slice(), PAGE_BODY].concat();
    let directly = ed25519_dalek::Signature::from_slice(&signature).unwrap();
    key.verifying_key().verify_strict(&content, &directly).unwrap();
    assert_eq!(signature::verify_with_public_key(&content, &signature, &public), Ok(true));
    assert_eq!(signature::verify_with_public_key(b"other", &signature, &public), Ok(false));
    assert!(signature::verify_with_public_key(&content, &signature, "whpk_short").is_err());
    assert_eq!(verify(&profile, &[&secret], &headers, PAGE_BODY, PAGE_TIME), Ok(()));
}

// --- Levrage, Subverse -----------------------------------------------------------------------------------------------

fn levrage_secret() -> impl Strategy<Value = String> {
    prop_oneof!["whsec_[a-z_]{1,30}", "[ -~]{1,60}", "[äöü🔑]{1,10}"]
}

proptest! {
    #[test]
    fn levrage_is_hex_over_the_body_with_the_whole_secret_as_the_key(
        secret in levrage_secret(), body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let headers = sign(&builtin("levrage"), &[&secret], "msg_1", now(), &body);
        prop_assert_eq!(headers.len(), 1);
        prop_assert_eq!(headers[0].0.as_str(), "X-Levrage-Signature");
        prop_assert_eq!(&headers[0].1, &hex(&mac256(secret.as_bytes(), &body)));
        prop_assert_eq!(verify(&builtin("levrage"), &[&secret], &headers, &body, now()), Ok(()));
    }
}

#[test]
fn under_levrage_only_the_newest_key_signs() {
    let headers = sign(&builtin("levrage"), &["whsec_new", "whsec_old"], "msg_1", now(), b"{}");
    assert_eq!(headers[0].1, hex(&mac256(b"whsec_new", b"{}")));
}

#[test]
fn without_a_secret_levrage_has_no_signature_header_and_nothing_verifies() {
    let headers = sign(&builtin("levrage"), &[], "msg_1", now(), b"{}");
    assert_eq!(headers, []);
    let missing = Rejected::HeaderMissing("X-Levrage-Signature".into());
    assert_eq!(verify(&builtin("levrage"), &["whsec_a"], &headers, b"{}", now()), Err(missing));
}

#[test]
fn subverse_signs_nothing() {
    assert_eq!(sign(&builtin("subverse"), &[], "msg_1", now(), b"{}"), []);
    assert_eq!(refused_secret("subverse", "whsec_a").field(), "secret");
}

#[test]
fn levrage_s_own_python_function_accepts_ours_and_refuses_what_was_altered() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/receivers/levrage_verify.py");
    let python = Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut python) = python else {
        eprintln!("skipped: there is no python3 on the PATH");
        return;
    };
    let cases = (levrage_secret(), prop::collection::vec(any::<u8>(), 1..300), 0..3, any::<usize>());
    let mut runner = TestRunner::deterministic();
    let (mut lines, mut expected) = (String::new(), Vec::new());
    for _ in 0..300 {
        let (secret, mut body, part, place) = cases.new_tree(&mut runner).unwrap().current();
        let mut signature = sign(&builtin("levrage"), &[&secret], "msg_1", now(), &body)[0].1.clone();
        match part {
            0 => {}
            1 => {
                let place = place % body.len();
                body[place] ^= 0x20;
            }
            _ => signature = altered(&signature, place, b'0'),
        }
        let line = serde_json::json!({ "payload": STANDARD.encode(&body), "signature": signature, "secret": secret });
        lines += &format!("{line}\n");
        expected.push(if part == 0 { "True" } else { "False" });
    }
    // Dropping the pipe ends the script's input.
    python.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), expected);
}

// --- Profiles of the user's own --------------------------------------------------------------------------------------

fn custom(signing: &str) -> Profile {
    let profile: Profile = serde_json::from_str(&format!(r#"{{"name":"custom","signing":{signing}}}"#)).unwrap();
    profile.validate().unwrap();
    profile
}

const TIME_AND_SIGNATURE_IN_ONE: &str = r#"{"secret":"required","content":"{ts}.{body}",
    "keys":[{"kind":"hmac-sha256"}],"headers":[{"name":"X-Signature","value":"t={ts},v0={sig}"}]}"#;
const BASE64URL_SHA512: &str = r#"{"secret":"required","content":"{ts_iso}|{id}|{body}",
    "keys":[{"kind":"hmac-sha512","prefix":"key_","form":"base64","encoding":"base64url"}],
    "headers":[{"name":"X-Time","value":"{ts_iso}"},{"name":"X-Id","value":"{id}"},{"name":"X-Mac","value":"{sig}"}]}"#;
const STATIC_TOKEN: &str = r#"{"secret":"required","keys":[{"kind":"static-token"}],
    "headers":[{"name":"Authorization","value":"Bearer {sig}"}]}"#;
const BODY_DIGEST: &str = r#"{"secret":"required","content":"{method} {url} {body_sha256_hex}",
    "keys":[{"kind":"hmac-sha256"}],
    "headers":[{"name":"Digest","value":"SHA-256={body_sha256_b64}"},{"name":"X-Signature","value":"{sig}"}]}"#;

/// A profile, a secret for it, and its headers' values computed anew.
type Expected = fn(secret: &str, id: &str, time: Timestamp, body: &[u8]) -> Vec<String>;
const CUSTOM: [(&str, &str, Expected); 4] = [
    (TIME_AND_SIGNATURE_IN_ONE, "wsec_1", |secret, _, time, body| {
        let seconds = time.as_seconds();
        let content = [format!("{seconds}.").as_bytes(), body].concat();
        vec![format!("t={seconds},v0={}", hex(&mac256(secret.as_bytes(), &content)))]
    }),
    (BASE64URL_SHA512, "key_c2VjcmV0LXNlY3JldA==", |secret, id, time, body| {
        let key = STANDARD.decode(secret.strip_prefix("key_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha512>::new_from_slice(&key).unwrap();
        mac.update(&[format!("{time}|{id}|").as_bytes(), body].concat());
        vec![time.to_string(), id.to_owned(), URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())]
    }),
    (STATIC_TOKEN, "token-1", |secret, _, _, _| vec![format!("Bearer {secret}")]),
    (BODY_DIGEST, "wsec_1", |secret, _, _, body| {
        let digest = Sha256::digest(body);
        let content = format!("POST {URL} {}", hex(&digest));
        let signature = hex(&mac256(secret.as_bytes(), content.as_bytes()));
        vec![format!("SHA-256={}", STANDARD.encode(digest)), signature]
    }),
];

proptest! {
    #[test]
    fn a_profile_from_json_signs_as_it_says_and_verifies(
        id in message_id(), millis in 0u64..4_102_444_800_000, body in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let time = Timestamp::from_millis(millis);
        for (signing, secret, expected) in CUSTOM {
            let profile = custom(signing);
            let headers = sign(&profile, &[secret], &id, time, &body);
            let values: Vec<String> = headers.iter().map(|(_, value)| value.clone()).collect();
            prop_assert_eq!(values, expected(secret, &id, time, &body));
            prop_assert_eq!(verify(&profile, &[secret], &headers, &body, time), Ok(()));
        }
    }

    #[test]
    fn one_altered_byte_in_a_header_of_such_a_profile_is_refused(
        which in 0..CUSTOM.len(), header in any::<usize>(), place in any::<usize>(), with in 0x21u8..0x7e,
    ) {
        let (signing, secret, _) = CUSTOM[which];
        let profile = custom(signing);
        let mut headers = sign(&profile, &[secret], "msg_1", PAGE_TIME, PAGE_BODY);
        let header = header % headers.len();
        headers[header].1 = altered(&headers[header].1, place, with);
        prop_assert!(verify(&profile, &[secret], &headers, PAGE_BODY, PAGE_TIME).is_err(), "{:?}", headers);
    }

    #[test]
    fn no_header_value_makes_a_verification_panic(
        which in 0..CUSTOM.len() + 5, values in prop::collection::vec(".{0,60}", 3), body in ".{0,20}",
    ) {
        let profile = match Profile::BUILTIN.get(which) {
            Some(name) => builtin(name),
            None => custom(CUSTOM[which - 5].0),
        };
        let names: Vec<String> = profile.signing.headers.iter().map(|header| header.name.clone()).collect();
        let headers: Headers = names.into_iter().zip(values.clone()).collect();
        prop_assert!(verify(&profile, &[PAGE_SECRET, &values[0]], &headers, body.as_bytes(), PAGE_TIME).is_err());
    }

    #[test]
    fn no_secret_and_no_id_makes_a_signing_panic(which in 0..CUSTOM.len() + 5, secret in ".{0,60}", id in ".{0,20}") {
        let profile = match Profile::BUILTIN.get(which) {
            Some(name) => builtin(name),
            None => custom(CUSTOM[which - 5].0),
        };
        let secret = Secret::from(secret);
        let what = Signable { id: &id, time: PAGE_TIME, url: URL, body: b"{}" };
        let signed = signature::sign(&profile, std::slice::from_ref(&secret), what);
        prop_assert_eq!(signed.map(|_| ()), signature::validate_secret(&profile, &secret));
    }
}

#[test]
fn a_time_written_twice_verifies_by_the_one_that_is_signed() {
    // The second header has lost the milliseconds which the first one has.
    let profile = custom(
        r#"{"secret":"required","content":"{ts_ms}.{body}","keys":[{"kind":"hmac-sha1"}],
            "headers":[{"name":"X-Ms","value":"{ts_ms}"},{"name":"X-Ts","value":"{ts}"},
                       {"name":"X-Sig","value":"{sig}"}]}"#,
    );
    let time = Timestamp::from_millis(1_614_265_330_123);
    let mut headers = sign(&profile, &["s"], "msg_1", time, b"{}");
    assert_eq!(verify(&profile, &["s"], &headers, b"{}", time), Ok(()));
    // The one that is not signed is held to the tolerance all the same.
    set(&mut headers, "X-Ts", |_| "1614260000".into());
    assert_eq!(verify(&profile, &["s"], &headers, b"{}", time), Err(Rejected::TimestampOutOfTolerance));
}

#[test]
fn headers_that_contradict_each_other_are_refused() {
    let profile = custom(
        r#"{"secret":"required","content":"{id}.{body}","keys":[{"kind":"hmac-sha256"}],
            "headers":[{"name":"X-Id","value":"{id}"},{"name":"X-Sig","value":"id={id},sig={sig}"}]}"#,
    );
    let mut headers = sign(&profile, &["s"], "msg_1", PAGE_TIME, b"{}");
    assert_eq!(verify(&profile, &["s"], &headers, b"{}", PAGE_TIME), Ok(()));
    set(&mut headers, "X-Id", |_| "msg_2".into());
    assert_eq!(verify(&profile, &["s"], &headers, b"{}", PAGE_TIME), Err(Rejected::SignatureMismatch));
}

// --- Secrets ---------------------------------------------------------------------------------------------------------

fn refused_secret(profile: &str, secret: &str) -> Invalid {
    let (profile, secret) = (builtin(profile), Secret::from(secret));
    let refused = signature::validate_secret(&profile, &secret).unwrap_err();
    let what = Signable { id: "msg_1", time: PAGE_TIME, url: URL, body: b"{}" };
    assert_eq!(signature::sign(&profile, &[secret], what).unwrap_err(), refused, "signing refuses it alike");
    refused
}

#[test]
fn a_secret_that_the_profile_cannot_use_is_refused_by_name() {
    let of_bytes = |prefix: &str, bytes: usize| format!("{prefix}{}", STANDARD.encode(vec![7; bytes]));
    let halves_of_two_keys = format!("whsk_{}", STANDARD.encode([[7; 32], [8; 32]].concat()));
    for profile in ["svix", "levers", "standard-webhooks"] {
        let cases = [
            ("no prefix", STANDARD.encode([7; 32])),
            ("another prefix", of_bytes("whpk_", 32)),
            ("no base64", "whsec_not/base64!".into()),
            ("base64 without its padding", format!("whsec_{}", STANDARD.encode([7; 32]).trim_end_matches('='))),
            ("the other base64 alphabet", format!("whsec_{}", "-_".repeat(22))),
            ("no key at all", "whsec_".into()),
            ("one byte too few", of_bytes("whsec_", 23)),
            ("one byte too many", of_bytes("whsec_", 76)),
            ("half an ed25519 key", of_bytes("whsk_", 32)),
            ("halves of two keys", halves_of_two_keys.clone()),
        ];
        for (what, secret) in cases {
            let refused = refused_secret(profile, &secret);
            assert_eq!(refused.field(), "secret", "{what}");
            assert!(!refused.to_string().contains(&secret["whsk_".len()..]) || secret == "whsec_", "{what}: {refused}");
        }
    }
    assert_eq!(refused_secret("levrage", "").field(), "secret");
    assert_eq!(refused_secret("levrage", &"x".repeat(513)).field(), "secret");
}

#[test]
fn a_token_that_a_header_would_change_is_refused() {
    let profile = custom(STATIC_TOKEN);
    for token in [" token", "token ", "to\nken", "tökén"] {
        let refused = signature::validate_secret(&profile, &Secret::from(token)).unwrap_err();
        assert_eq!(refused.field(), "secret", "{token:?}");
    }
    assert_eq!(signature::validate_secret(&profile, &Secret::from("to ken")), Ok(()));
}
