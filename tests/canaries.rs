//! Secrets come out where they are revealed, and nowhere else: canaries are planted in every place that takes a secret,
//! and looked for in everything that the program says and writes.
//!
//! What is exempt stands beside each canary, with the reason.
#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "all of it is a test")]
#![allow(clippy::disallowed_methods, reason = "the child of a test is told by its environment what to do")]

#[path = "canaries/heard.rs"]
mod heard;
#[path = "canaries/panics.rs"]
mod panics;
#[path = "serve/sidecar.rs"]
mod sidecar;
mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use heard::{Canary, Heard};
use sidecar::Place;
use support::http::{Answered, Http};
use support::{Receiver, until};

/// A secret in the form `whsec_`, whose bytes are a text that can be looked for.
fn whsec(name: &str) -> String {
    format!("whsec_{}", STANDARD.encode(format!("canary-{name:-<24}")))
}

/// A key pair of ed25519; its public half is no secret.
const PAIR: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const SEED: &str = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMb";
const SEALING: &str = "Y2FuYXJ5LXNlYWxpbmcta2V5LW9mLTMyLWJ5dGVzLS0";
const OPERATOR: &str = "canary-operator-token-0123456789";
const WRONG: &str = "rbk_canary-wrong-token-0123456789abcdefghijklmnop";

/// What is declared: a secret of each source, and a profile whose header has a text of its own.
fn declared(place: &Place) -> String {
    let file = place.file("acme-secret", &whsec("declared-in-a-file"));
    place.file(
        "ringback.toml",
        &format!(
            r#"
[[application]]
uid = "declared"
[[application.endpoint]]
uid = "by-text"
url = "https://a.example/"
secret = "{}"
headers = {{ X-Region = "canary-declared-header" }}
[[application.endpoint]]
uid = "by-variable"
url = "https://a.example/"
secret_env = "ACME_SECRET"
headers = {{ X-Custom = {{ env = "ACME_HEADER" }} }}
[[application.endpoint]]
uid = "by-file"
url = "https://a.example/"
secret_file = "{file}"
[[profile]]
name = "house"
[profile.signing]
secret = "required"
content = "{{body}}"
keys = [{{ kind = "hmac-sha256" }}]
headers = [{{ name = "X-Sig", value = "{{sig}}" }}, {{ name = "X-House", value = "canary-of-the-profile" }}]
"#,
            whsec("declared")
        ),
    )
}

/// The API, all of whose answers are heard.
struct Api<'h> {
    http: Http,
    heard: &'h mut Heard,
}

impl Api<'_> {
    async fn ask(&mut self, method: &str, path: &str, body: Value) -> Answered {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.http.ask(method, path, &[], text.as_bytes()).await;
        let head: String = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        self.heard.hear(format!("api {method} {path}"), [head.as_bytes(), &answer.body].concat());
        answer
    }

    async fn get(&mut self, path: &str) -> Value {
        self.ask("GET", path, Value::Null).await.is(200)
    }

    async fn done(&mut self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.ask(method, path, body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// An answer that reveals, and is not looked into. What it says is the test of the search itself.
    async fn reveal(&mut self, method: &str, path: &str, body: Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.http.ask(method, path, &[], text.as_bytes()).await;
        self.heard.reveal(&answer.body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        answer.json()
    }

    async fn refused(&mut self, status: u16, method: &str, path: &str, body: Value) {
        let answer = self.ask(method, path, body.clone()).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
    }
}

/// Makes endpoints with secrets of every kind.
async fn plant(api: &mut Api<'_>, url: &str) {
    api.done("POST", "/app", json!({"name": "Acme", "uid": "acme"})).await;
    let static_token = json!({"name": "own", "signing": {"secret": "required", "keys": [{"kind": "static-token"}],
        "headers": [{"name": "X-Own", "value": "{sig}"}]}});
    for (uid, more) in [
        ("svix", json!({"secret": whsec("svix"), "headers": {"Authorization": "Bearer canary-authorization"}})),
        ("levers", json!({"profile": "levers", "secret": whsec("levers")})),
        ("levrage", json!({"profile": "levrage", "secret": "canary-levrage-secret"})),
        (
            "subverse",
            json!({"profile": "subverse", "eventTypes": ["e.*"], "headers": {"X-Api-Key": "canary-subverse-key"}}),
        ),
        ("pair", json!({"secret": PAIR})),
        ("static", json!({"profile": static_token, "secret": "canary-static-token"})),
        ("house", json!({"profile": "house", "secret": "canary-house-secret"})),
        ("made", json!({})),
        ("query", json!({"url": format!("{url}?token=canary-query-token")})),
    ] {
        let mut body = json!({"uid": uid, "url": url, "retry": {"delaysMs": []}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        api.done("POST", "/app/acme/endpoint", body).await;
    }
    let marked = json!({"headers": {"X-Partner": "canary-marked-header"}, "sensitive": ["X-Partner"]});
    api.done("PATCH", "/app/acme/endpoint/svix/headers", marked).await;
    api.done("POST", "/app/acme/msg", json!({"eventType": "e.x", "payload": {"secret": "canary-payload"}})).await;
}

/// Rotates and reveals; gives the secrets that were made.
async fn rotate(api: &mut Api<'_>) -> Vec<String> {
    for (uid, body) in [
        ("svix", json!({"key": whsec("rotated-to"), "gracePeriodSeconds": 3600})),
        ("levers", json!({"key": whsec("after-revoked"), "gracePeriodSeconds": 0})),
    ] {
        api.reveal("POST", &format!("/app/acme/endpoint/{uid}/secret/rotate"), body).await;
    }
    let mut made = Vec::new();
    for uid in ["svix", "levers", "levrage", "pair", "static", "house", "made"] {
        let shown = api.reveal("GET", &format!("/app/acme/endpoint/{uid}/secret"), Value::Null).await;
        if uid == "made" {
            made.push(shown["key"].as_str().unwrap().to_owned());
        }
    }
    for uid in ["by-text", "by-variable", "by-file"] {
        api.reveal("GET", &format!("/app/declared/endpoint/{uid}/secret"), Value::Null).await;
    }
    api.done("POST", "/app/acme/msg", json!({"eventType": "e.x", "payload": {"secret": "canary-payload"}})).await;
    made
}

/// Tokens of the application: one in use, and one that was revoked.
async fn tokens(api: &mut Api<'_>) -> [String; 2] {
    let mut made = Vec::new();
    for _ in 0..2 {
        let shown = api.reveal("POST", "/auth/app-portal-access/acme", json!({})).await;
        made.push(shown["token"].as_str().unwrap().to_owned());
    }
    let [used, revoked] = <[String; 2]>::try_from(made).unwrap();
    let operator = api.http.clone();
    api.http = operator.with(revoked.as_str());
    api.done("POST", "/auth/logout", json!({})).await;
    api.refused(401, "GET", "/app/acme/endpoint", Value::Null).await;
    for wrong in [WRONG, "canary-wrong-and-short"] {
        api.http = operator.with(wrong);
        api.refused(401, "GET", "/app/acme", Value::Null).await;
    }
    api.http = operator.with(used.as_str());
    api.get("/app/acme/endpoint/svix").await;
    api.refused(403, "GET", "/doctor", Value::Null).await;
    api.refused(404, "GET", "/app/declared/endpoint", Value::Null).await;
    api.http = operator;
    [used, revoked]
}

/// Secrets in requests that are refused, and that come at the wrong time.
async fn refusals(api: &mut Api<'_>, url: &str) {
    let endpoint = "/app/acme/endpoint";
    let bodies = [
        json!({"url": url, "secret": "whsec_canary-refused-secret!"}),
        json!({"url": url, "secret": ["canary-refused-list"]}),
        json!({"url": url, "headers": "Bearer canary-refused-headers"}),
        json!({"url": url, "headers": {"X-A": "canary-refused-header\r\nX-B: 1"}}),
        json!({"url": url, "headers": {"Authorization": ["canary-refused-value"]}}),
        json!({"url": url, "throttleRate": "canary-refused-number"}),
        json!({"url": url, "headers": {"Svix-Signature": "canary-refused-reserved"}}),
        json!({"url": "https://user:canary-userinfo@a.example/"}),
        json!({"url": "canary-no-url"}),
        json!({"url": "ftp://canary-ftp/"}),
        json!({"url": url, "profile": "levrage", "secret": "canary-too-long".repeat(40)}),
    ];
    for body in bodies {
        api.refused(422, "POST", endpoint, body).await;
    }
    api.refused(422, "POST", "/app/acme/endpoint/svix/secret/rotate", json!({"key": "canary-refused-rotation"})).await;
    let operator = api.http.clone();
    let taken =
        json!({"url": url, "uid": "svix", "secret": whsec("conflict"), "headers": {"X-Key": "canary-conflict"}});
    api.refused(409, "POST", endpoint, taken).await;
    // The same idempotency key, with another body.
    for (status, secret) in [(201, whsec("idempotent")), (409, whsec("idempotent-other"))] {
        let body = json!({"url": url, "secret": secret, "disabled": true}).to_string();
        let answer = operator.ask("POST", endpoint, &[("idempotency-key", "k")], body.as_bytes()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        api.heard.hear(format!("api POST {endpoint} under a key"), answer.body);
    }
    let cut =
        operator.ask("POST", endpoint, &[], br#"{"url": "https://a.example/", "secret": "canary-cut-short"#).await;
    assert_eq!(cut.status, 422);
    api.heard.hear("api POST cut short".into(), cut.body);
}

/// Everything that can be read.
async fn read_all(api: &mut Api<'_>) {
    for path in [
        "/health",
        "/doctor",
        "/openapi.json",
        "/app",
        "/app/acme",
        "/app/declared",
        "/app/declared/endpoint",
        "/profile",
        "/profile/house",
        "/event-type",
        "/app/acme/endpoint",
        "/app/acme/msg?with_content=true",
        "/app/acme/attempt",
        "/app/acme/replay",
    ] {
        api.get(path).await;
    }
    for path in ["/metrics", "/api/metrics"] {
        api.ask("GET", path, Value::Null).await;
    }
    let endpoints = api.get("/app/acme/endpoint").await;
    for endpoint in endpoints["data"].as_array().unwrap() {
        let path = format!("/app/acme/endpoint/{}", endpoint["id"].as_str().unwrap());
        api.get(&path).await;
        api.get(&format!("{path}/headers")).await;
        api.get(&format!("{path}/stats")).await;
        api.get(&format!("/app/acme/attempt/endpoint/{}", endpoint["id"].as_str().unwrap())).await;
    }
    let messages = api.get("/app/acme/msg").await;
    for message in messages["data"].as_array().unwrap() {
        let id = message["id"].as_str().unwrap();
        api.get(&format!("/app/acme/msg/{id}")).await;
        let attempts = api.get(&format!("/app/acme/attempt/msg/{id}")).await;
        for attempt in attempts["data"].as_array().unwrap() {
            api.get(&format!("/app/acme/msg/{id}/attempt/{}", attempt["id"].as_str().unwrap())).await;
        }
    }
}

/// Everything that the command line says, with a server and without.
fn command_lines(place: &Place, heard: &mut Heard, environment: &[(&str, &str)], when: &str) {
    let config = place.path("ringback.toml");
    let config = config.to_str().unwrap();
    let commands: [&[&str]; 12] = [
        &["doctor"],
        &["doctor", "--json"],
        &["key", "list"],
        &["key", "list", "--json"],
        &["key", "add"],
        &["app", "list"],
        &["endpoint", "list", "acme"],
        &["endpoint", "get", "acme", "svix", "--json"],
        &["endpoint", "headers", "acme", "svix"],
        &["log", "acme", "--json"],
        &["messages", "acme"],
        &["replay", "list", "acme"],
    ];
    let mut environment = environment.to_vec();
    environment.push(("RUST_LOG", "trace"));
    for command in commands {
        let ended = place.run(&[command, &["--config", config]].concat(), &environment);
        assert!(matches!(ended.code, Some(0..=2)), "{command:?}: {}", ended.stderr);
        heard.hear(format!("cli {when} {}", command.join(" ")), (ended.stdout + &ended.stderr).into());
    }
    for command in [&["config", "--config", config][..], &["config", "--json", "--config", config]] {
        let ended = place.run(command, &environment);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        heard.hear(format!("cli {when} {}", command[0]), (ended.stdout + &ended.stderr).into());
    }
    // A token that the server does not take, and keys that it cannot read.
    let wrong = [("RINGBACK_TOKEN", WRONG), ("RINGBACK_KEY", "canary-no-ring-of-keys")];
    let ended = place.run(&["app", "list", "--config", config], &[environment.clone(), wrong.to_vec()].concat());
    assert_ne!(ended.code, Some(0));
    heard.hear(format!("cli {when} refused"), (ended.stdout + &ended.stderr).into());
}

/// Each canary, and where it may be found.
fn canaries(made: &[String], tokens: &[String; 2]) -> Vec<Canary> {
    let mut all: Vec<Canary> = [
        "svix",
        "rotated-to",
        "levers",
        "after-revoked",
        "declared",
        "declared-in-a-file",
        "declared-in-a-variable",
        "conflict",
        "idempotent",
        "idempotent-other",
    ]
    .map(|name| Canary::of(whsec(name).strip_prefix("whsec_").unwrap()).and(&format!("canary-{name:-<24}")))
    .into();
    all.extend(
        [
            "canary-levrage-secret",
            "canary-subverse-key",
            "canary-static-token",
            "canary-house-secret",
            "canary-authorization",
            "canary-marked-header",
            "canary-declared-header",
            "canary-header-of-a-variable",
            "canary-userinfo",
            "canary-no-url",
            "canary-ftp",
            "canary-refused",
            "canary-too-long",
            "canary-conflict",
            "canary-cut-short",
            "canary-wrong",
            "canary-no-ring",
            SEED,
            OPERATOR,
            WRONG,
        ]
        .map(Canary::of),
    );
    all.extend(made.iter().map(|secret| Canary::of(secret.strip_prefix("whsec_").unwrap())));
    all.extend(tokens.iter().map(|token| Canary::of(token)));
    all.push(Canary::of(SEALING).and("canary-sealing-key-of-32-bytes--"));
    // An endpoint's URL is what it is: the API shows it to whoever set it, each attempt has it, and the store holds both.
    all.push(Canary::of("canary-query-token").but_in(&["api GET", "api POST /app/acme/endpoint", "cli", "file"]));
    // A profile is a public description: whoever may use it may read it, and an endpoint holds it written out.
    all.push(Canary::of("canary-of-the-profile").but_in(&["api GET", "api POST /app/acme/endpoint", "cli", "file"]));
    // A payload is what is delivered: the API and the store have it. The log has not.
    all.push(Canary::of("canary-payload").but_in(&["api GET /app/acme/msg", "api POST /app/acme/msg", "file"]));
    all.push(Canary::of("canary-answer").but_in(&["api GET /app/acme/", "cli", "file"]));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_anything_but_the_answer_that_reveals_it() {
    let place = Place::new();
    declared(&place);
    let receiver = Receiver::start(|_, _| {
        support::Behaviour::AnswerWith(200, vec![("x-answer", "canary-answer".into())], b"canary-answer".to_vec())
    })
    .await;
    let (sealing, variable) = (format!("1:{SEALING}"), whsec("declared-in-a-variable"));
    let environment = [
        ("RINGBACK_TOKEN", OPERATOR),
        ("RINGBACK_KEY", sealing.as_str()),
        ("ACME_SECRET", variable.as_str()),
        ("ACME_HEADER", "canary-header-of-a-variable"),
        ("RINGBACK_DATA", "data"),
    ];
    let config = place.path("ringback.toml");
    let logs = [("RINGBACK_LOG", "trace"), ("RINGBACK_LOG_FORMAT", "json")];
    let server = place.serve(&["--config", config.to_str().unwrap()], &[&environment[..], &logs].concat());
    let mut heard = Heard::default();
    let http = Http { address: server.address(), token: Some(OPERATOR.to_owned()), from: None };
    let mut api = Api { http, heard: &mut heard };
    plant(&mut api, &receiver.url).await;
    let made = rotate(&mut api).await;
    let tokens = tokens(&mut api).await;
    refusals(&mut api, &receiver.url).await;
    until(async || receiver.count() >= 18).await;
    read_all(&mut api).await;
    command_lines(&place, &mut heard, &environment, "beside a server");
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.lines().any(|line| line.contains("\"level\":\"TRACE\"")), "it logs all that there is");
    heard.hear("log".into(), (ended.stdout + &ended.stderr).into());
    command_lines(&place, &mut heard, &environment, "without a server");
    heard.hear_files(&place.data());

    let canaries = canaries(&made, &tokens);
    assert!(canaries.len() >= 16);
    // The search finds what is there: in the answers that reveal, and in what the receiver got.
    for request in receiver.received() {
        heard.reveal(format!("{request:?}{}", String::from_utf8_lossy(&request.body)).as_bytes());
    }
    let revealed = [
        whsec("rotated-to").strip_prefix("whsec_").unwrap(),
        whsec("after-revoked").strip_prefix("whsec_").unwrap(),
        whsec("declared").strip_prefix("whsec_").unwrap(),
        whsec("declared-in-a-file").strip_prefix("whsec_").unwrap(),
        whsec("declared-in-a-variable").strip_prefix("whsec_").unwrap(),
        "canary-levrage-secret",
        "canary-static-token",
        "canary-house-secret",
        "canary-authorization",
        "canary-marked-header",
        "canary-subverse-key",
        "canary-query-token",
        "canary-of-the-profile",
        "canary-payload",
        &tokens[0],
        &tokens[1],
        made[0].strip_prefix("whsec_").unwrap(),
    ]
    .map(|needle| (needle.to_owned(), heard.was_revealed(&Canary::of(needle))));
    assert_eq!(revealed.iter().filter(|(_, found)| !found).collect::<Vec<_>>(), Vec::<&(String, bool)>::new());
    // And what is exempt is exempt because it is there.
    for needle in ["canary-query-token", "canary-of-the-profile", "canary-payload", "canary-answer"] {
        assert!(!heard.places_of(&Canary::of(needle)).is_empty(), "{needle}");
    }
    let found: Vec<String> = canaries.iter().flat_map(|canary| heard.leaks(canary)).collect();
    assert_eq!(found, Vec::<String>::new(), "\n{}", found.join("\n"));
}
