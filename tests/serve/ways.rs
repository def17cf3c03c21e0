//! What an operator is told when deliveries cannot leave: the proxy or the name servers are down, not the receiver.

use serde_json::Value;

use super::sidecar::{Place, Sidecar};
use super::support::closed_port;
use super::until;

/// Sends an event to an endpoint on a server of these settings; its log, once it has this line.
async fn told(place: &Place, environment: &[(&str, &str)], url: &str, line: &str) -> (Sidecar, String) {
    let server = place.serve(&[], environment);
    for arguments in [
        &["app", "create", "Acme", "--uid", "acme"][..],
        &["endpoint", "create", "acme", url, "--uid", "main"],
        &["send", "acme", "--type", "call.completed", "--with", "{}"],
    ] {
        let ended = place.run(&[arguments, &["--data", "data"]].concat(), &[]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    until(async || server.stderr().contains(line) && server.stderr().contains("failure=")).await;
    let said = server.stderr();
    (server, said)
}

/// What the attempts' log says of the newest.
fn newest(place: &Place) -> Value {
    let log = place.run(&["log", "acme", "--limit", "1", "--json", "--data", "data"], &[]);
    serde_json::from_str(&log.stdout).unwrap()
}

#[tokio::test]
async fn a_proxy_that_is_down_is_named_in_the_log_without_its_password_and_the_receiver_is_not_blamed() {
    let place = Place::new();
    let proxy = format!("http://ada:hunter2@{}", closed_port().await);
    let down = "WARN ringback::egress::connector: the proxy cannot be reached";
    let (server, said) = told(&place, &[("RINGBACK_PROXY", &proxy)], "http://127.0.0.1:9/", down).await;
    assert!(said.contains("all deliveries go through this proxy proxy=http://127.0.0.1:"), "{said}");
    assert!(said.contains("failure=\"unreachable\"") && !said.contains("hunter2"), "{said}");
    assert!(newest(&place)["hint"].as_str().unwrap().contains("the proxy that deliveries go through"));
    server.stop();
}

#[tokio::test]
async fn a_name_server_that_is_down_is_told_apart_from_a_name_that_is_not_there() {
    let place = Place::new();
    let nameserver = closed_port().await.to_string();
    let environment = [("RINGBACK_NAMESERVER", nameserver.as_str())];
    let (server, said) = told(&place, &environment, "https://acme.example/", "no name server gave an answer").await;
    assert!(said.contains(&format!("receivers' names nameserver={nameserver}")), "{said}");
    assert!(said.contains("failure=\"dns\""), "{said}");
    assert!(newest(&place)["hint"].as_str().unwrap().contains("does the name server answer?"));
    server.stop();
}
