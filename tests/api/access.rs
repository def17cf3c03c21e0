//! Who may what: no token, a wrong one, another application's, an application's own.

use serde_json::{Value, json};

use super::document::operations;
use crate::support::api::Api;
use crate::support::http::Answered;

/// Fills a path's parameters with what belongs to one application.
async fn filled(api: &Api, path: &str) -> String {
    let (endpoint, message, attempt) = api.delivered("acme").await;
    let job = api.http.post("/app/acme/replay", json!({})).await.is(202);
    let filled = path
        .replace("{app_id}", "acme")
        .replace("{endpoint_id}", &endpoint)
        .replace("{msg_id}", &message)
        .replace("{attempt_id}", &attempt)
        .replace("{job_id}", job["id"].as_str().unwrap())
        .replace("{task_id}", job["id"].as_str().unwrap())
        .replace("{event_type_name}", "call.completed")
        .replace("{profile_name}", "svix");
    assert!(!filled.contains('{'), "a parameter that this does not know: {path}");
    filled
}

/// The operations, by their ids, that an application's token reaches (health is open to all); all others are the operator's.
const OF_APPLICATIONS: [&str; 46] = [
    "v1.application.get",
    "v1.authentication.logout",
    "v1.endpoint.bulk-replay",
    "v1.endpoint.create",
    "v1.endpoint.delete",
    "v1.endpoint.disable",
    "v1.endpoint.enable",
    "v1.endpoint.get",
    "v1.endpoint.get-headers",
    "v1.endpoint.get-health",
    "v1.endpoint.get-secret",
    "v1.endpoint.get-stats",
    "v1.endpoint.list",
    "v1.endpoint.patch",
    "v1.endpoint.patch-headers",
    "v1.endpoint.recover",
    "v1.endpoint.replay-missing",
    "v1.endpoint.rotate-secret",
    "v1.endpoint.send-example",
    "v1.endpoint.update",
    "v1.endpoint.update-headers",
    "v1.event-type.get",
    "v1.event-type.list",
    "v1.health.get",
    "v1.health.ping",
    "v1.message-attempt.get",
    "v1.message-attempt.list",
    "v1.message-attempt.list-attempted-destinations",
    "v1.message-attempt.list-attempted-messages",
    "v1.message-attempt.list-by-endpoint",
    "v1.message-attempt.list-by-msg",
    "v1.message-attempt.resend",
    "v1.message.cancel",
    "v1.message.cancel-delivery",
    "v1.message.cancel-matching",
    "v1.message.get",
    "v1.message.list",
    "v1.profile.get",
    "v1.profile.list",
    "v1.replay.create",
    "v1.replay.get",
    "v1.replay.list",
    "v1.replay.pause",
    "v1.replay.preview",
    "v1.replay.resume",
    "v1.replay.stop",
];

/// A body that every operation takes or refuses for its members alone.
const BODY: &[u8] = br#"{"eventType":"a","payload":{},"name":"x","url":"https://a.example/","since":"2026-01-01T00:00:00Z","headers":{}}"#;

/// All of an answer that its sender chose: everything but the time.
fn chosen(answered: &Answered) -> (u16, Vec<(String, String)>, String) {
    let headers = answered.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
    (answered.status, headers, String::from_utf8_lossy(&answered.body).into_owned())
}

#[tokio::test]
async fn no_operation_but_health_answers_without_a_valid_token() {
    let api = Api::start().await;
    api.application("acme").await;
    let revoked = api.http.with(api.token_of("acme").await);
    revoked.post("/auth/logout", json!({})).await.is(204);
    let brief = api.http.post("/auth/app-portal-access/acme", json!({"expiry": 1})).await.is(200);
    let expired = api.http.with(brief["token"].as_str().unwrap());
    crate::support::until(|| async { expired.from(200).get("/app/acme").await.status != 200 }).await;
    let document = api.http.get("/openapi.json").await.is(200);
    let garbage =
        ["rbk_wrong", "", "x", "rbk_0000000000000000000000000000000000000000000"].map(|token| api.http.with(token));
    let mut asked = 0;
    let before = chosen(&api.http.get("/app").await);
    for (number, (method, path, operation)) in operations(&document).into_iter().enumerate() {
        if path.starts_with("/api/v1/health") {
            assert_eq!(operation["security"], json!([{}]), "{path}");
            continue;
        }
        let path = path.replace("{app_id}", "acme");
        let mut answers = Vec::new();
        for client in [&[api.http.anonymous(), revoked.clone(), expired.clone()][..], &garbage].concat() {
            // From many addresses: wrong tokens count against where they come from.
            let client = client.from(10 + u8::try_from(number / 3).unwrap());
            let answered = client.ask(&method.to_uppercase(), &path, &[], BODY).await;
            assert_eq!(answered.is(401)["code"], "authentication_failed", "{method} {path}");
            answers.push(chosen(&answered));
            asked += 1;
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{method} {path}: which of them it is, is not told: {answers:?}");
    }
    assert!(asked > 250, "{asked}");
    assert_eq!(chosen(&api.http.get("/app").await), before);
    assert_eq!(api.http.anonymous().get("/nothing").await.is(401)["code"], "authentication_failed");
}

#[tokio::test]
async fn another_application_s_anything_looks_like_what_does_not_exist() {
    let api = Api::start().await;
    api.application("acme").await;
    api.application("rival").await;
    let rival = api.http.with(api.token_of("rival").await);
    let document = api.http.get("/openapi.json").await.is(200);
    let mut asked = 0;
    for (method, path, _) in operations(&document) {
        if !path.contains("{app_id}") {
            continue;
        }
        let theirs = filled(&api, &path).await;
        let nobodys = theirs.replace("acme", "nobody");
        let method = method.to_uppercase();
        let of_another = rival.ask(&method, &theirs, &[], BODY).await;
        let of_nobody = rival.ask(&method, &nobodys, &[], BODY).await;
        assert_eq!(of_another.status, 404, "{method} {theirs}: {}", String::from_utf8_lossy(&of_another.body));
        assert_eq!(chosen(&of_another), chosen(&of_nobody), "{method} {theirs}");
        // Nor is what is another's to be found under one's own name.
        let mixed = rival.ask(&method, &theirs.replace("acme", "rival"), &[], BODY).await;
        let none =
            ["endpoint", "msg", "attempt", "job", "task"].iter().fold(path.replace("{app_id}", "rival"), |path, of| {
                let prefix = match *of {
                    "endpoint" => "ep",
                    "attempt" => "atmpt",
                    "task" => "job",
                    of => of,
                };
                path.replace(&format!("{{{of}_id}}"), &format!("{prefix}_{}", "0".repeat(26)))
            });
        if none.contains("_0000") {
            assert_eq!(chosen(&mixed), chosen(&rival.ask(&method, &none, &[], BODY).await), "{method} {none}");
            assert!(mixed.status >= 400, "{method} {none}: {}", mixed.status);
        }
        asked += 1;
    }
    assert!(asked > 35, "{asked}");
    // And nothing was changed by any of it.
    assert_eq!(api.http.get("/app/acme").await.is(200)["uid"], "acme");
}

#[tokio::test]
async fn every_operation_is_the_operator_s_but_those_that_are_named_here() {
    let api = Api::start().await;
    api.application("acme").await;
    let document = api.http.get("/openapi.json").await.is(200);
    api.http.post("/event-type", json!({"name": "call.completed", "description": ""})).await.is(201);
    let mut reached = Vec::new();
    for (method, path, operation) in operations(&document) {
        let path = filled(&api, &path).await;
        // One each: some of them end it.
        let own = api.http.with(api.token_of("acme").await);
        let answered = own.ask(&method.to_uppercase(), &path, &[], BODY).await;
        match answered.status {
            403 => assert_eq!(answered.json()["code"], "insufficient_access", "{method} {path}"),
            status => {
                assert!(![401, 404, 405, 500, 501].contains(&status), "{method} {path}: {status}");
                reached.push(operation["operationId"].as_str().unwrap().to_owned());
            }
        }
    }
    reached.sort();
    assert_eq!(reached, OF_APPLICATIONS);
}

#[tokio::test]
async fn an_application_s_token_reaches_its_own_and_may_not_do_what_is_the_operator_s() {
    let api = Api::start().await;
    api.application("acme").await;
    let own = api.http.with(api.token_of("acme").await);
    let (endpoint, message, attempt) = api.delivered("acme").await;
    for path in [
        "/app/acme".to_owned(),
        "/app/acme/endpoint".to_owned(),
        format!("/app/acme/endpoint/{endpoint}"),
        format!("/app/acme/endpoint/{endpoint}/secret"),
        format!("/app/acme/msg/{message}"),
        format!("/app/acme/msg/{message}/attempt/{attempt}"),
        "/event-type".to_owned(),
        "/profile".to_owned(),
    ] {
        own.get(&path).await.is(200);
    }
    own.post("/app/acme/endpoint", json!({"url": "https://own.example/"})).await.is(201);
    own.post(&format!("/app/acme/msg/{message}/endpoint/{endpoint}/resend"), json!({})).await.is(202);
    let refused: [(&str, &str, Value); 9] = [
        ("GET", "/app", Value::Null),
        ("POST", "/app", json!({"name": "x"})),
        ("PUT", "/app/acme", json!({"name": "x"})),
        ("DELETE", "/app/acme", Value::Null),
        ("POST", "/app/acme/msg", json!({"eventType": "a", "payload": {}})),
        ("POST", "/event-type", json!({"name": "a", "description": ""})),
        ("POST", "/auth/app-portal-access/acme", json!({})),
        ("POST", "/auth/app/acme/expire-all", json!({})),
        ("GET", "/doctor", Value::Null),
    ];
    for (method, path, body) in refused {
        let answer = own.ask(method, path, &[], body.to_string().as_bytes()).await.is(403);
        assert_eq!(answer["code"], "insufficient_access", "{method} {path}");
    }
}

#[tokio::test]
async fn a_token_ends_with_logout_with_expire_all_with_its_application_and_with_its_time() {
    let api = Api::start().await;
    api.application("acme").await;
    let first = api.http.with(api.token_of("acme").await);
    let second = api.http.with(api.token_of("acme").await);
    first.get("/app/acme").await.is(200);
    first.post("/auth/logout", json!({})).await.is(204);
    first.get("/app/acme").await.is(401);
    second.get("/app/acme").await.is(200);
    api.http.post("/auth/app/acme/expire-all", json!({})).await.is(204);
    second.get("/app/acme").await.is(401);

    let third = api.http.with(api.token_of("acme").await);
    api.http.delete("/app/acme").await.is(204);
    third.get("/app/acme").await.is(401);

    api.application("brief").await;
    let answer = api.http.post("/auth/app-portal-access/brief", json!({"expiry": 1})).await.is(200);
    let brief = api.http.with(answer["token"].as_str().unwrap());
    crate::support::until(|| async { brief.get("/app/brief").await.status == 401 }).await;
    api.http.post("/auth/logout", json!({})).await.is(409);
}

#[tokio::test]
async fn tokens_outlive_a_restart_and_the_store_does_not_have_them() {
    let mut api = Api::start().await;
    api.application("acme").await;
    let token = api.token_of("acme").await;
    api.restart().await;
    api.http.with(&token).get("/app/acme").await.is(200);
    api.stop().await;
    for file in walk(api.data()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()), "{}", file.display());
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
