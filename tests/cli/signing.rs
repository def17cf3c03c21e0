//! `ringback sign` and `ringback verify`.

use ringback::Profile;
use serde_json::json;

use super::program::{command, finish, ringback_with, text};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const VECTOR: [&str; 7] =
    ["sign", "--id", "msg_p5jXN8AQM9LWM0D4loKWxJek", "--timestamp", "1614265330", "--secret", SECRET];

/// The headers that were printed, as arguments of `verify`.
fn as_arguments(headers: &str) -> Vec<String> {
    headers.lines().flat_map(|line| ["--header".to_owned(), line.to_owned()]).collect()
}

#[tokio::test]
async fn the_published_vector_is_signed_to_the_letter() {
    let headers = ringback_with(&VECTOR, BODY).await.ok().stdout;
    assert_eq!(
        headers,
        "svix-id: msg_p5jXN8AQM9LWM0D4loKWxJek\nsvix-timestamp: 1614265330\n\
         svix-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\n"
    );
    let as_json = ringback_with(&[&VECTOR[..], &["--json"]].concat(), BODY).await.ok().one();
    assert_eq!(as_json["svix-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test]
async fn every_profile_verifies_what_it_signs_and_refuses_what_was_altered() {
    let signing = Profile::BUILTIN.iter().filter(|name| **name != "subverse");
    for profile in signing {
        let of = ["--profile", profile, "--secret", SECRET];
        let headers = ringback_with(&[&["sign"], &of[..]].concat(), BODY).await.ok().stdout;
        assert!(!headers.is_empty(), "{profile}");
        let mut verify: Vec<String> = ["verify"].iter().chain(&of).map(|text| (*text).to_owned()).collect();
        verify.extend(as_arguments(&headers));
        ringback_with(&verify, BODY).await.ok();

        let altered = ringback_with(&verify, br#"{"test": 2432232315}"#).await;
        assert_eq!(altered.code, 1, "{profile}: {altered:?}");
        assert!(altered.stdout.contains("not verified"), "{profile}: {altered:?}");
        verify.push("--json".to_owned());
        assert_eq!(ringback_with(&verify, BODY).await.ok().one(), json!({"verified": true, "why": null}));
    }
}

#[tokio::test]
async fn a_profile_without_signatures_says_so() {
    let signed = ringback_with(&["sign", "--profile", "subverse"], BODY).await.ok();
    assert_eq!(signed.stdout, "");
    assert!(signed.stderr.contains("no headers"), "{signed:?}");
    let verified = ringback_with(&["verify", "--profile", "subverse"], BODY).await;
    assert_eq!(verified.code, 2, "{verified:?}");
}

#[tokio::test]
async fn an_old_signature_is_refused_unless_it_is_looked_at_then() {
    let headers = ringback_with(&VECTOR, BODY).await.ok().stdout;
    let mut verify = vec!["verify".to_owned(), "--secret".to_owned(), SECRET.to_owned()];
    verify.extend(as_arguments(&headers));
    let late = ringback_with(&verify, BODY).await;
    assert_eq!(late.code, 1);
    assert!(late.stdout.contains("too far from now"), "{late:?}");
    verify.extend(["--at".to_owned(), "2021-02-25T15:05:00Z".to_owned()]);
    ringback_with(&verify, BODY).await.ok();
}

#[tokio::test]
async fn secrets_and_bodies_come_from_files_and_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, body, profile) = (dir.path().join("secret"), dir.path().join("body"), dir.path().join("own.json"));
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    std::fs::write(&body, BODY).unwrap();
    let own = json!({"name": "own", "signing": {
        "secret": "required", "keys": [{"kind": "hmac-sha512"}], "content": "{method}|{url}|{body}",
        "headers": [{"name": "X-Own", "value": "sha512={sig}"}]}});
    std::fs::write(&profile, own.to_string()).unwrap();

    let from_file =
        ringback_with(&["sign", &text(&body), "--secret-file", &text(&secret), "--timestamp", "1614265330"], b"").await;
    let mut from_environment = command(&["sign", "--timestamp", "1614265330"]);
    from_environment.env("RINGBACK_SECRET", SECRET);
    assert_eq!(from_file.ok().stdout, finish(from_environment, Some(BODY)).await.ok().stdout);

    let own = format!("@{}", text(&profile));
    let of = ["--profile", &own, "--url", "https://example.com/x", "--secret-file", &text(&secret)];
    let headers = ringback_with(&[&["sign"], &of[..]].concat(), BODY).await.ok().stdout;
    assert!(headers.starts_with("X-Own: sha512="), "{headers}");
    let verify = [&["verify", "--header", headers.trim()], &of[..]].concat();
    ringback_with(&verify, BODY).await.ok();
    let elsewhere = ringback_with(&[&verify[..], &["--url", "https://example.com/y"]].concat(), BODY).await;
    assert_eq!(elsewhere.code, 2, "the URL stands twice: {elsewhere:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let none = ringback_with(&["sign"], BODY).await;
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("--secret-file"), "{none:?}");
    let bad = ringback_with(&["sign", "--secret", "hunter2"], BODY).await;
    assert_eq!(bad.code, 2);
    assert!(bad.stderr.contains("whsec_") && !bad.stderr.contains("hunter2"), "{bad:?}");
    let unknown = ringback_with(&["sign", "--profile", "hooli"], BODY).await;
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("standard-webhooks"), "{unknown:?}");
}
