//! The built-in profiles. `docs/profiles.md` names the source of every number.

use super::{
    BodyMode, Encoding, Envelope, HeaderRule, KeyForm, KeyKind, KeyRule, Profile, SecretRule, Signing, StatusRange,
    Template,
};
use crate::retry::{RetryOn, RetryPolicy};

pub(super) fn by_name(name: &str) -> Option<Profile> {
    match name {
        "svix" => Some(svix()),
        "standard-webhooks" => Some(standard_webhooks()),
        "levers" => Some(levers()),
        "levrage" => Some(levrage()),
        "subverse" => Some(subverse()),
        _ => None,
    }
}

fn template(text: &str) -> Template {
    Template::parse(text).expect("the built-in templates use known placeholders")
}

/// Id, time and signatures in three headers that share a prefix: the Standard Webhooks scheme.
fn three_headers(prefix: &str) -> Signing {
    let header = |name: &str, value: &str| HeaderRule { name: format!("{prefix}-{name}"), value: template(value) };
    Signing {
        secret: SecretRule::Generated,
        keys: vec![
            KeyRule {
                kind: KeyKind::HmacSha256,
                prefix: "whsec_".into(),
                form: KeyForm::Base64,
                min_bytes: 24,
                max_bytes: 75,
                encoding: Encoding::Base64,
                format: template("v1,{sig}"),
            },
            KeyRule {
                kind: KeyKind::Ed25519,
                prefix: "whsk_".into(),
                form: KeyForm::Base64,
                min_bytes: 64,
                max_bytes: 64,
                encoding: Encoding::Base64,
                format: template("v1a,{sig}"),
            },
        ],
        content: Some(template("{id}.{ts}.{body}")),
        join: Some(" ".into()),
        headers: vec![header("id", "{id}"), header("timestamp", "{ts}"), header("signature", "{sig}")],
    }
}

fn svix() -> Profile {
    Profile {
        name: "svix".into(),
        signing: three_headers("svix"),
        body: BodyMode::AsGiven,
        envelope: Envelope::default(),
        timeout_ms: 15_000,
        retry: RetryPolicy::svix(),
        retry_on: RetryOn::AnyFailure,
        follow_retry_after: true,
        disable_on_gone: true,
        follow_webhook_delivery: true,
        success: StatusRange::default(),
        event_types_required: false,
    }
}

fn standard_webhooks() -> Profile {
    Profile { name: "standard-webhooks".into(), signing: three_headers("webhook"), ..svix() }
}

fn levers() -> Profile {
    Profile {
        name: "levers".into(),
        body: BodyMode::Envelope,
        timeout_ms: 30_000,
        retry: RetryPolicy::three_retries(),
        // Its pages do not know the header.
        follow_webhook_delivery: false,
        ..svix()
    }
}

fn levrage() -> Profile {
    Profile {
        name: "levrage".into(),
        signing: Signing {
            secret: SecretRule::Optional,
            keys: vec![KeyRule {
                kind: KeyKind::HmacSha256,
                prefix: String::new(),
                // The receivers' `secret.encode()`: the text itself, `whsec_` included, is the key.
                form: KeyForm::Raw,
                min_bytes: 1,
                max_bytes: 512,
                encoding: Encoding::Hex,
                format: template("{sig}"),
            }],
            content: Some(template("{body}")),
            // Receivers compare the header with one hex text, so only the newest key signs.
            join: None,
            headers: vec![HeaderRule { name: "X-Levrage-Signature".into(), value: template("{sig}") }],
        },
        body: BodyMode::Envelope,
        envelope: Envelope { event_type: "event".into(), timestamp: "timestamp".into(), data: "data".into() },
        timeout_ms: 10_000,
        retry: RetryPolicy::three_retries(),
        follow_webhook_delivery: false,
        ..svix()
    }
}

fn subverse() -> Profile {
    Profile {
        name: "subverse".into(),
        signing: Signing::default(),
        body: BodyMode::Envelope,
        envelope: Envelope { event_type: "eventType".into(), timestamp: "createdAt".into(), data: "data".into() },
        timeout_ms: 5_000,
        retry: RetryPolicy::three_retries(),
        retry_on: RetryOn::ServerErrors,
        follow_retry_after: false,
        follow_webhook_delivery: false,
        event_types_required: true,
        ..svix()
    }
}
