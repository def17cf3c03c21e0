//! Who may what: no token, a wrong one, another application's, an application's own.

use serde_json::{Value, json};

use super::document::operations;
use crate::support::api::Api;

/// Fills a path's parameters with what belongs to one application.
async fn filled(api: &Api, path: &str) -> String {
    let (endpoint, message, attempt) = api.delivered("acme").await;
    let job = api.http.post("/app/acme/replay", json!({})).await.is(202);
    path.replace("{app_id}", "acme")
        .replace("{endpoint_id}", &endpoint)
        .replace("{msg_id}", &message)
        .replace("{attempt_id}", &attempt)
        .replace("{job_id}", job["id"].as_str().unwrap())
        .replace("{task_id}", job["id"].as_str().unwrap())
        .replace("{event_type_name}", "call.completed")
        .replace("{profile_name}", "svix")
}

#[tokio::test]
async fn no_operation_but_health_answers_without_a_valid_token() {
    let api = Api::start().await;
    api.application("acme").await;
    let document = api.http.get("/openapi.json").await.is(200);
    let mut asked = 0;
    for (method, path, operation) in operations(&document) {
        if path.starts_with("/api/v1/health") {
            assert_eq!(operation["security"], json!([{}]), "{path}");
            continue;
        }
        let path = path.replace("{app_id}", "acme");
        // From many addresses: wrong tokens count against where they come from.
        let http = api.http.from(10 + asked as u8 / 3 / 5);
        for client in [http.anonymous(), http.with("rbk_wrong"), http.with("")] {
            let answered = client.ask(&method.to_uppercase(), &path, &[], b"{}").await;
            let json = answered.is(401);
            assert_eq!(json["code"], "authentication_failed", "{method} {path}");
            asked += 1;
        }
    }
    assert!(asked > 100, "{asked}");
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
        let body: &[u8] = br#"{"eventType":"a","payload":{},"name":"x","url":"https://a.example/","since":"2026-01-01T00:00:00Z","headers":{}}"#;
        let method = method.to_uppercase();
        let of_another = rival.ask(&method, &theirs, &[], body).await;
        let of_nobody = rival.ask(&method, &nobodys, &[], body).await;
        assert_eq!(of_another.status, 404, "{method} {theirs}: {}", String::from_utf8_lossy(&of_another.body));
        assert_eq!(of_another.body, of_nobody.body, "{method} {theirs}");
        asked += 1;
    }
    assert!(asked > 35, "{asked}");
    // And nothing was changed by any of it.
    assert_eq!(api.http.get("/app/acme").await.is(200)["uid"], "acme");
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
