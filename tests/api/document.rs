//! The OpenAPI document says what the server does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::api::Api;

/// What the field's clients call: the measure of what is served.
const CLIENTS_CALL: [(&str, &str, &str); 46] = [
    ("get", "/api/v1/app", "v1.application.list"),
    ("post", "/api/v1/app", "v1.application.create"),
    ("get", "/api/v1/app/{app_id}", "v1.application.get"),
    ("put", "/api/v1/app/{app_id}", "v1.application.update"),
    ("patch", "/api/v1/app/{app_id}", "v1.application.patch"),
    ("delete", "/api/v1/app/{app_id}", "v1.application.delete"),
    ("get", "/api/v1/app/{app_id}/endpoint", "v1.endpoint.list"),
    ("post", "/api/v1/app/{app_id}/endpoint", "v1.endpoint.create"),
    ("get", "/api/v1/app/{app_id}/endpoint/{endpoint_id}", "v1.endpoint.get"),
    ("put", "/api/v1/app/{app_id}/endpoint/{endpoint_id}", "v1.endpoint.update"),
    ("patch", "/api/v1/app/{app_id}/endpoint/{endpoint_id}", "v1.endpoint.patch"),
    ("delete", "/api/v1/app/{app_id}/endpoint/{endpoint_id}", "v1.endpoint.delete"),
    ("get", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers", "v1.endpoint.get-headers"),
    ("put", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers", "v1.endpoint.update-headers"),
    ("patch", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers", "v1.endpoint.patch-headers"),
    ("get", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret", "v1.endpoint.get-secret"),
    ("post", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret/rotate", "v1.endpoint.rotate-secret"),
    ("get", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/stats", "v1.endpoint.get-stats"),
    ("post", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/recover", "v1.endpoint.recover"),
    ("post", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/replay-missing", "v1.endpoint.replay-missing"),
    ("post", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/bulk-replay", "v1.endpoint.bulk-replay"),
    ("post", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/send-example", "v1.endpoint.send-example"),
    ("get", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/msg", "v1.message-attempt.list-attempted-messages"),
    ("post", "/api/v1/app/{app_id}/msg", "v1.message.create"),
    ("get", "/api/v1/app/{app_id}/msg", "v1.message.list"),
    ("get", "/api/v1/app/{app_id}/msg/{msg_id}", "v1.message.get"),
    ("delete", "/api/v1/app/{app_id}/msg/{msg_id}/content", "v1.message.expunge-content"),
    ("get", "/api/v1/app/{app_id}/attempt/endpoint/{endpoint_id}", "v1.message-attempt.list-by-endpoint"),
    ("get", "/api/v1/app/{app_id}/attempt/msg/{msg_id}", "v1.message-attempt.list-by-msg"),
    ("get", "/api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}", "v1.message-attempt.get"),
    ("delete", "/api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content", "v1.message-attempt.expunge-content"),
    ("get", "/api/v1/app/{app_id}/msg/{msg_id}/endpoint", "v1.message-attempt.list-attempted-destinations"),
    ("post", "/api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend", "v1.message-attempt.resend"),
    ("get", "/api/v1/event-type", "v1.event-type.list"),
    ("post", "/api/v1/event-type", "v1.event-type.create"),
    ("get", "/api/v1/event-type/{event_type_name}", "v1.event-type.get"),
    ("put", "/api/v1/event-type/{event_type_name}", "v1.event-type.update"),
    ("patch", "/api/v1/event-type/{event_type_name}", "v1.event-type.patch"),
    ("delete", "/api/v1/event-type/{event_type_name}", "v1.event-type.delete"),
    ("post", "/api/v1/auth/app-portal-access/{app_id}", "v1.authentication.app-portal-access"),
    ("post", "/api/v1/auth/app/{app_id}/expire-all", "v1.authentication.expire-all"),
    ("post", "/api/v1/auth/logout", "v1.authentication.logout"),
    ("get", "/api/v1/background-task", "v1.background-task.list"),
    ("get", "/api/v1/background-task/{task_id}", "v1.background-task.get"),
    ("get", "/api/v1/health", "v1.health.get"),
    ("get", "/api/v1/health/ping", "v1.health.ping"),
];

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// Every operation of the document: method, path, and itself.
pub fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                all.push((method.to_owned(), path.clone(), operation.clone()));
            }
        }
    }
    all
}

#[tokio::test]
async fn the_document_has_every_operation_that_clients_call() {
    let api = Api::start().await;
    let document = api.http.anonymous().get("/openapi.json").await.is(200);
    let served: BTreeSet<_> = operations(&document)
        .into_iter()
        .map(|(method, path, operation)| (method, path, operation["operationId"].as_str().unwrap().to_owned()))
        .collect();
    for (method, path, id) in CLIENTS_CALL {
        let wanted = (method.to_owned(), path.to_owned(), id.to_owned());
        assert!(served.contains(&wanted), "{wanted:?}");
    }
    let ids: BTreeSet<_> = served.iter().map(|(_, _, id)| id).collect();
    assert_eq!(ids.len(), served.len(), "each operation has an id of its own");
}

#[tokio::test]
async fn every_operation_of_the_document_has_a_route_and_every_other_path_says_that_there_is_none() {
    let api = Api::start().await;
    let document = api.http.get("/openapi.json").await.is(200);
    for (method, path, _) in operations(&document) {
        let path = path.replace(['{', '}'], "");
        for path in [path.clone(), format!("{path}/")] {
            let answered = api.http.ask(&method.to_uppercase(), &path, &[], b"{}").await;
            let text = String::from_utf8_lossy(&answered.body).into_owned();
            assert!(!text.contains("operation"), "{method} {path}: {text}");
            assert!(answered.status != 405 && answered.status != 501, "{method} {path}: {text}");
        }
    }
    let none = api.http.get("/nothing/here").await.is(404);
    assert_eq!(none["code"], "not_found");
    let other = api.http.ask("PATCH", "/app", &[], b"{}").await.is(405);
    assert_eq!(other["code"], "method_not_allowed");
}

#[tokio::test]
async fn the_document_is_about_this_server() {
    let api = Api::start().await;
    let document = api.http.get("/openapi.json").await.is(200);
    assert_eq!(
        (&document["info"]["title"], &document["info"]["version"]),
        (&json!("ringback"), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(document["info"].as_object().unwrap().keys().collect::<Vec<_>>(), ["description", "title", "version"]);
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    let api = Api::start().await;
    let document = api.http.get("/openapi.json").await.is(200);
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn the_document_knows_both_forms_of_an_endpoint_s_profile() {
    let api = Api::start().await;
    let document = api.http.get("/openapi.json").await.is(200);
    let schemas = &document["components"]["schemas"];
    for name in ["EndpointIn", "EndpointOut"] {
        assert!(schemas[name]["properties"]["profile"].to_string().contains("ProfileChoiceOut"), "{name}");
    }
    let forms = schemas["ProfileChoiceOut"]["oneOf"].as_array().unwrap();
    let forms: BTreeSet<_> = forms.iter().filter_map(|form| form["type"].as_str()).collect();
    assert_eq!(forms, BTreeSet::from(["object", "string"]));
}

#[tokio::test]
async fn every_answer_of_the_document_is_described() {
    let api = Api::start().await;
    let document = api.http.get("/openapi.json").await.is(200);
    for (method, path, operation) in operations(&document) {
        for (status, answer) in operation["responses"].as_object().unwrap() {
            assert!(answer["description"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path} {status}");
        }
    }
}

#[tokio::test]
async fn operations_that_clients_offer_and_the_server_lacks_say_so_in_json() {
    let api = Api::start().await;
    for (method, path) in [
        ("GET", "/app/a/endpoint/e/oauth"),
        ("GET", "/app/a/endpoint/e/transformation"),
        ("GET", "/app/a/integration"),
        ("POST", "/environment/export"),
        ("GET", "/stream"),
        ("GET", "/ingest/api/v1/source"),
        ("GET", "/operational-webhook/endpoint"),
        ("GET", "/connector"),
        ("POST", "/stats/usage/app"),
    ] {
        let answer = api.http.ask(method, path, &[], b"{}").await.is(501);
        assert_eq!(answer["code"], "not_implemented", "{path}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(path), "{answer}");
    }
}
