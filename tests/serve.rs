//! `ringback serve` and `ringback config`, as real processes with real signals.
#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

#[path = "serve/descriptors.rs"]
mod descriptors;
#[path = "serve/keys.rs"]
mod keys;
#[path = "serve/sidecar.rs"]
mod sidecar;
mod support;
#[path = "serve/ways.rs"]
mod ways;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback::{
    Application, Endpoint, MessageId, NewApplication, NewEndpoint, NewMessage, Profile, Ringback, State, Timestamp,
};
use serde_json::Value;

use sidecar::Place;
use support::{Behaviour, Receiver, open, retries, until};

const TOKEN: &str = "a-token-of-the-operators-own";

/// The lines of a JSON log whose target starts like this.
fn lines(log: &str, target: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap());
    lines.filter(|line: &Value| line["target"].as_str().unwrap().starts_with(target)).collect()
}

/// What a server's folder holds, once the server has ended.
async fn stored(place: &Place) -> Ringback {
    open(&place.data()).await
}

/// Sends one message to one endpoint, before any server runs.
async fn send_one(place: &Place, endpoint: NewEndpoint) -> (Application, MessageId) {
    let ringback = stored(place).await;
    let application = ringback.create_application(NewApplication::named("Acme").uid("acme")).await.unwrap();
    ringback.create_endpoint(application.id, endpoint).await.unwrap();
    let message = NewMessage::bytes("call.ended", r#"{"text":"the-payload"}"#);
    let sent = ringback.send(application.id, message).await.unwrap();
    ringback.shutdown().await.unwrap();
    (application, sent.id)
}

fn get(address: &str, path: &str) -> std::io::Result<String> {
    #[allow(clippy::disallowed_methods, reason = "a client of the server's")]
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_first_start_makes_the_operators_token_and_shows_it_once() {
    let place = Place::new();
    let first = place.serve(&[], &[]);
    let path = place.data().join("operator.token");
    let token = fs::read_to_string(&path).unwrap().trim().to_owned();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let shown = first.stop().stderr;
    let line = shown.lines().find(|line| line.contains(&token)).unwrap();
    assert!(line.contains("data/operator.token"), "{line}");
    assert_eq!(shown.matches(&token).count(), 1);

    let second = place.serve(&[], &[]).stop();
    assert!(!second.stderr.contains(&token), "{}", second.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), token);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let third = place.serve(&[], &[]).stop();
    let warning = third.stderr.lines().find(|line| line.contains("WARN")).unwrap();
    assert!(warning.contains("data/operator.token can be read by others"), "{warning}");
}

/// The files of a folder and of those in it, that somebody else may read or write.
fn open_to_others(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(open_to_others(&path));
        } else if fs::metadata(&path).unwrap().permissions().mode() & 0o077 != 0 {
            found.push(path);
        }
    }
    found
}

#[test]
fn files_are_their_owners_alone_in_a_folder_that_others_can_read() {
    let place = Place::new();
    for command in [&["serve"][..], &["app", "list"]] {
        // As an operator makes it by hand, and with what another process left in it.
        let _ = fs::remove_dir_all(place.data());
        fs::create_dir(place.data()).unwrap();
        fs::set_permissions(place.data(), fs::Permissions::from_mode(0o755)).unwrap();
        let said = match command {
            ["serve"] => place.serve(&[], &[]).stop(),
            others => {
                fs::write(place.data().join("FORMAT"), "1\n").unwrap();
                place.run(&[others, &["--data", "data"]].concat(), &[])
            }
        };
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let warned = said.stderr.lines().any(|line| line.contains("WARN") && line.contains("data holds secrets"));
        assert_eq!(warned, command == ["serve"], "{}", said.stderr);
        assert!(place.data().join("sled").exists());
        let open: Vec<_> = open_to_others(&place.data()).into_iter().filter(|path| !path.ends_with("FORMAT")).collect();
        assert_eq!(open, Vec::<PathBuf>::new());
    }
}

#[test]
fn a_damaged_token_file_stops_the_start_and_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.data()).unwrap();
    fs::write(place.data().join("operator.token"), "").unwrap();
    let ended = place.run(&["serve", "--data", "data", "--listen", "127.0.0.1:0"], &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("data/operator.token is empty"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(place.data().join("operator.token")).unwrap(), "");
}

#[test]
fn a_server_says_where_it_answers_while_it_does() {
    let place = Place::new();
    let server = place.serve(&[], &[]);
    let announced = server.announced();
    assert_eq!(
        (announced["pid"].as_u64(), &announced["version"]),
        (Some(server.id().into()), &env!("CARGO_PKG_VERSION").into())
    );
    let file = place.data().join("sidecar.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let address = server.address();
    assert!(get(&address, "/api/v1/health/ping").unwrap().starts_with("HTTP/1.1 204"));
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!file.exists());
    assert!(get(&address, "/api/v1/health/ping").is_err());
}

#[test]
fn other_machines_are_answered_only_with_a_token_that_was_set() {
    let place = Place::new();
    // A token of the folder's own was not set by anybody.
    place.serve(&[], &[]).stop();
    let arguments = ["serve", "--data", "data", "--listen", "0.0.0.0:0"];
    let refused = place.run(&arguments, &[]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("--listen: ") && refused.stderr.contains("RINGBACK_TOKEN"), "{}", refused.stderr);

    let mut server = place.serve_at("0.0.0.0:0", &[], &[("RINGBACK_TOKEN", TOKEN)]);
    assert!(server.address().starts_with("127.0.0.1:"), "{}", server.address());
    assert!(!server.stop().stderr.contains(TOKEN));
    let file = place.file("token", TOKEN);
    server = place.serve_at("0.0.0.0:0", &["--token-file", &file], &[]);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_busy_port_and_a_folder_in_use_are_one_sentence_each() {
    let place = Place::new();
    let server = place.serve(&[], &[]);
    let address = server.address();
    let elsewhere = place.run(&["serve", "--data", "elsewhere", "--listen", &address], &[]);
    assert_eq!(elsewhere.code, Some(1));
    let last = elsewhere.stderr.lines().last().unwrap();
    assert!(last.starts_with(&format!("ringback: cannot listen on {address}: another program has it")), "{last}");
    // Nobody was told a token that protects nothing, and no folder was made for nothing.
    assert!(!elsewhere.stderr.contains("token") && !place.path("elsewhere").exists());

    let same = place.run(&["serve", "--data", "data", "--listen", "127.0.0.1:0"], &[]);
    assert_eq!(same.code, Some(1));
    let last = same.stderr.lines().last().unwrap();
    assert!(last.contains(&format!("process {}", server.id())), "{last}");
    assert_eq!(server.announced()["address"], address.as_str(), "the one that runs is still found");
}

#[test]
fn a_typo_in_the_file_is_named_with_its_line_before_anything_is_touched() {
    let place = Place::new();
    let file = place.file("ringback.toml", "data = \"data\"\n\nmax_paylod = 1\n");
    for command in ["serve", "config"] {
        for (arguments, environment) in
            [(vec![command, "--config", &file], vec![]), (vec![command], vec![("RINGBACK_CONFIG", file.as_str())])]
        {
            let ended = place.run(&arguments, &environment);
            assert_eq!(ended.code, Some(2));
            let expected = format!("ringback: {file}:3: unknown setting `max_paylod`; did you mean `max_payload`?\n");
            assert_eq!((ended.stdout.as_str(), ended.stderr), ("", expected));
        }
    }
    assert!(!place.data().exists());
}

#[test]
fn config_shows_every_value_in_force_and_who_gave_it() {
    let place = Place::new();
    let file = place
        .file("x.toml", "max_payload = 1\nmax_endpoints = 2\nmax_in_flight = 3\ntoken = \"hunter2-hunter2-hunter2\"\n");
    let environment = [("RINGBACK_MAX_PAYLOAD", "10"), ("RINGBACK_MAX_ENDPOINTS", "20"), ("RINGBACK_NONSENSE_X", "1")];
    let arguments = ["config", "--json", "--config", &file, "--max-payload", "100", "--allow-metadata"];
    let shown = place.run(&arguments, &environment);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stderr.contains("RINGBACK_NONSENSE_X"), "{}", shown.stderr);
    let settings = &serde_json::from_str::<Value>(&shown.stdout).unwrap()["settings"];
    for (name, value, source, from) in [
        ("max_payload", Value::from(100), "flag", "--max-payload".into()),
        ("max_endpoints", 20.into(), "environment", "RINGBACK_MAX_ENDPOINTS".into()),
        ("max_in_flight", 3.into(), "file", format!("{file}:3").into()),
        ("allow_metadata", true.into(), "flag", "--allow-metadata".into()),
        ("listen", "127.0.0.1:8071".into(), "default", Value::Null),
        ("token", "[redacted]".into(), "file", format!("{file}:4").into()),
    ] {
        let setting = &settings[name];
        assert_eq!(
            (&setting["value"], &setting["source"], &setting["from"]),
            (&value, &source.into(), &from),
            "{name}"
        );
    }
    let text = place.run(&["config", "--config", &file], &environment);
    assert!(text.stdout.lines().any(|line| line.split_whitespace().eq([
        "max_endpoints",
        "20",
        "RINGBACK_MAX_ENDPOINTS"
    ])));
    assert!(!(text.stdout + &shown.stdout).contains("hunter2"));
}

#[tokio::test]
async fn a_stop_lets_a_slow_delivery_finish_and_puts_it_on_record() {
    let place = Place::new();
    let receiver = Receiver::start(|_, _| Behaviour::Hang(Duration::from_secs(1))).await;
    let (application, message) = send_one(&place, NewEndpoint::at(&receiver.url).retry(retries(&[]))).await;
    let server = place.serve(&[], &[]);
    receiver.wait_for(1).await;
    let ended = tokio::task::spawn_blocking(|| server.stop()).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ringback = stored(&place).await;
    let delivery = &ringback.deliveries(application.id, message).await.unwrap()[0];
    assert!(matches!(delivery.state, State::Delivered { .. }), "{delivery:?}");
    assert_eq!(receiver.count(), 1);
}

/// An operator's connection to the API.
fn connect(address: &str) -> TcpStream {
    #[allow(clippy::disallowed_methods, reason = "a client of the server's")]
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection
}

#[tokio::test]
async fn a_stop_lets_a_request_finish_and_takes_no_other() {
    let place = Place::new();
    let server = place.serve(&[], &[("RINGBACK_TOKEN", TOKEN)]);
    let address = server.address();
    let idle = connect(&address);
    let mut connection = connect(&address);
    let body = r#"{"name":"Acme","uid":"acme"}"#;
    write!(
        connection,
        "POST /api/v1/app HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{}",
        body.len(),
        &body[..10]
    )
    .unwrap();
    // Long enough for the request to have been taken.
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.signal("TERM");
    until(async || get(&address, "/api/v1/health/ping").is_err()).await;
    connection.write_all(&body.as_bytes()[10..]).unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
    let ended = tokio::task::spawn_blocking(|| server.ended()).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(stored(&place).await.application_by_uid("acme").is_ok());
    drop(idle);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let place = Place::new();
    let receiver = Receiver::start(|_, _| Behaviour::Hang(Duration::from_secs(60))).await;
    let slow = NewEndpoint::at(&receiver.url).timeout(Duration::from_secs(120));
    let (application, message) = send_one(&place, slow).await;
    let server = place.serve(&["--shutdown-grace-seconds", "600"], &[]);
    receiver.wait_for(1).await;
    server.signal("INT");
    until(async || server.stderr().contains("stopping")).await;
    // What comes within half a second is the same signal.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let ended = tokio::task::spawn_blocking(|| server.stop()).await.unwrap();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let delivery = stored(&place).await.deliveries(application.id, message).await.unwrap().remove(0);
    assert!(matches!(delivery.state, State::Waiting { .. }), "{delivery:?}");
}

#[tokio::test]
async fn a_signal_that_is_repeated_at_once_is_one_signal() {
    let place = Place::new();
    let receiver = Receiver::start(|_, _| Behaviour::Hang(Duration::from_secs(2))).await;
    let (application, message) = send_one(&place, NewEndpoint::at(&receiver.url).retry(retries(&[]))).await;
    let server = place.serve(&[], &[]);
    receiver.wait_for(1).await;
    server.signal("TERM");
    until(async || server.stderr().contains("stopping")).await;
    server.signal("TERM");
    server.signal("INT");
    let ended = tokio::task::spawn_blocking(|| server.ended()).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let delivery = stored(&place).await.deliveries(application.id, message).await.unwrap().remove(0);
    assert!(matches!(delivery.state, State::Delivered { .. }), "{delivery:?}");
}

#[tokio::test]
async fn the_log_has_one_line_an_attempt_and_nothing_of_payloads_secrets_and_answers() {
    let place = Place::new();
    let receiver = Receiver::start(|_, before| {
        let status = if before == 0 { 500 } else { 200 };
        Behaviour::AnswerWith(status, vec![], b"what-the-receiver-says".to_vec())
    });
    let receiver = receiver.await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let endpoint = NewEndpoint::at(&receiver.url).retry(retries(&[10])).secret(secret).header("X-Key", "the-api-key");
    let (application, message) = send_one(&place, endpoint).await;
    let server = place.serve(&["--log-format", "json"], &[("RINGBACK_TOKEN", TOKEN)]);
    receiver.wait_for(2).await;
    let log = tokio::task::spawn_blocking(|| server.stop()).await.unwrap().stderr;
    let attempts = lines(&log, "ringback::attempt");
    let shown: Vec<_> = attempts.iter().map(|a| (&a["attempt"], &a["status"], &a["result"], &a["level"])).collect();
    let (info, [one, two]) = (Value::from("INFO"), [1, 2].map(Value::from));
    let expected = [(&one, &500.into(), &"waiting".into(), &info), (&two, &200.into(), &"delivered".into(), &info)];
    assert_eq!(shown, expected, "{log}");
    for attempt in &attempts {
        assert_eq!(attempt["message_id"], message.to_string());
        assert_eq!(attempt["application"], application.id.to_string());
        assert!(attempt["endpoint"].as_str().unwrap().starts_with("ep_") && attempt["duration_ms"].is_u64());
    }
    for hidden in [secret, "the-api-key", "the-payload", "what-the-receiver-says", TOKEN] {
        assert!(!log.contains(hidden), "{hidden} is logged:\n{log}");
    }
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
    let of_the_message = log.lines().filter(|line| line.contains(&message.to_string())).count();
    assert_eq!(of_the_message, 2, "one line an attempt, whoever writes it: {log}");
}

#[tokio::test]
async fn a_delivery_that_gave_up_is_a_warning_with_its_failure() {
    let place = Place::new();
    let receiver = Receiver::start(|_, _| Behaviour::Close).await;
    send_one(&place, NewEndpoint::at(&receiver.url).retry(retries(&[]))).await;
    let server = place.serve(&["--log-format", "json", "--log", "warn,ringback=info"], &[]);
    until(async || !lines(&server.stderr(), "ringback::attempt").is_empty()).await;
    let log = tokio::task::spawn_blocking(|| server.stop()).await.unwrap().stderr;
    let attempts = lines(&log, "ringback::attempt");
    assert_eq!(attempts.len(), 1);
    assert_eq!(
        (&attempts[0]["level"], &attempts[0]["failure"], &attempts[0]["result"]),
        (&"WARN".into(), &"reset".into(), &"dead".into())
    );
}

const DECLARED: &str = r#"
[[event_type]]
name = "call.ended"
description = "A call is over"

[[application]]
uid = "acme"
name = "Acme"

[[application.endpoint]]
uid = "calls"
url = "https://api.acme.example/hooks"
secret_env = "ACME_SECRET"
headers = { X-Key = { env = "ACME_KEY" } }
eventTypes = ["call.*"]

[[application.endpoint]]
uid = "house"
url = "https://api.acme.example/house"
profile = "house"
disabled = true

[[profile]]
name = "house"
timeoutMs = 5_000
"#;

const SECRETS: [(&str, &str); 2] = [("ACME_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), ("ACME_KEY", "first")];

/// What is stored under the uids that the settings declare.
struct Found {
    application: Application,
    calls: Endpoint,
    house: Endpoint,
    event_type: Timestamp,
}

async fn find(place: &Place) -> Found {
    let ringback = stored(place).await;
    let application = ringback.application_by_uid("acme").unwrap();
    let endpoint = |uid| ringback.endpoint_by_uid(application.id, uid).unwrap();
    let found = Found {
        calls: endpoint("calls"),
        house: endpoint("house"),
        event_type: ringback.event_type("call.ended").unwrap().updated_at,
        application: application.clone(),
    };
    ringback.shutdown().await.unwrap();
    found
}

/// Starts and stops a server with these settings; what it said of what is declared.
fn pass(place: &Place, settings: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let file = place.file("ringback.toml", settings);
    let ended = place.serve(&["--config", &file, "--log-format", "json"], environment).stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let said = lines(&ended.stderr, "ringback::serve::declare").into_iter();
    said.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_declared_is_made_once_and_changed_only_where_it_differs() {
    let place = Place::new();
    let made = pass(&place, DECLARED, &SECRETS);
    assert_eq!(made.len(), 4, "an application, two endpoints, an event type: {made:?}");
    assert!(made.iter().all(|line| line.ends_with("was made")), "{made:?}");
    let first = find(&place).await;
    assert_eq!((first.application.name.as_str(), first.calls.settings.event_types.len()), ("Acme", 1));
    assert_eq!(first.calls.settings.headers[0].value.expose(), "first");
    assert!(first.calls.is_enabled() && !first.house.is_enabled());
    assert_eq!(first.house.settings.resolve_profile().unwrap().timeout(), Duration::from_secs(5));

    assert_eq!(pass(&place, DECLARED, &SECRETS), Vec::<String>::new());
    let second = find(&place).await;
    assert_eq!((&second.application, &second.calls, &second.house), (&first.application, &first.calls, &first.house));
    assert_eq!(second.event_type, first.event_type);

    let others = [("ACME_SECRET", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"), ("ACME_KEY", "first")];
    let said = pass(&place, DECLARED, &others);
    assert!(said.len() == 2 && said[0] == "the declared endpoint was changed", "{said:?}");
    assert!(said[1].starts_with("the declared secret replaced the endpoint's"), "{said:?}");
    let third = find(&place).await;
    let keys: Vec<_> = third.calls.keys.iter().map(|key| key.secret.expose()).collect();
    assert_eq!(keys, [others[0].1]);
    assert_eq!((&third.house, third.calls.created_at), (&first.house, first.calls.created_at));

    // What is no longer declared stays.
    assert_eq!(pass(&place, "", &[]), Vec::<String>::new());
    assert_eq!(find(&place).await.calls, third.calls);
}

#[tokio::test]
async fn a_restart_does_not_undo_the_rotation_of_a_declared_secret() {
    let place = Place::new();
    pass(&place, DECLARED, &SECRETS);
    let (older, newer) = (SECRETS[0].1, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let rotated = async |grace| {
        let ringback = stored(&place).await;
        let application = ringback.application_by_uid("acme").unwrap().id;
        let id = ringback.endpoint_by_uid(application, "calls").unwrap().id;
        ringback.rotate_secret(application, id, Some(newer.into()), grace).await.unwrap();
        ringback.shutdown().await.unwrap();
    };
    let secrets = async || {
        let keys = find(&place).await.calls.keys;
        keys.iter().map(|key| key.secret.expose().to_owned()).collect::<Vec<_>>()
    };
    rotated(Duration::from_secs(3_600)).await;

    let file = place.file("ringback.toml", DECLARED);
    let log = place.serve(&["--config", &file, "--log-format", "json"], &SECRETS).stop().stderr;
    let said = lines(&log, "ringback::serve::declare");
    assert_eq!(said.len(), 1, "{log}");
    assert_eq!(
        (&said[0]["level"], &said[0]["application"], &said[0]["endpoint"]),
        (&"WARN".into(), &"acme".into(), &"calls".into())
    );
    assert!(said[0]["message"].as_str().unwrap().contains("is an older one"), "{log}");
    assert_eq!(said[0]["given"], "secret_env (ACME_SECRET)");
    assert_eq!(secrets().await, [newer, older]);

    // Nor does a change of something else.
    let said = pass(&place, DECLARED, &[SECRETS[0], ("ACME_KEY", "second")]);
    assert!(said.len() == 2 && said[1] == "the declared endpoint was changed", "{said:?}");
    assert_eq!(secrets().await, [newer, older]);

    // The newer one is declared, and both sign on.
    assert_eq!(pass(&place, DECLARED, &[("ACME_SECRET", newer), ("ACME_KEY", "second")]), Vec::<String>::new());
    assert_eq!(secrets().await, [newer, older]);

    // One that was revoked is another one: what is declared counts.
    rotated(Duration::ZERO).await;
    let said = pass(&place, DECLARED, &[SECRETS[0], ("ACME_KEY", "second")]);
    assert!(said.iter().any(|line| line.contains("what signed before signs no more")), "{said:?}");
    assert_eq!(secrets().await, [older]);

    // A grace period that is over does not bring the older one back.
    rotated(Duration::from_millis(1)).await;
    let said = pass(&place, DECLARED, &[SECRETS[0], ("ACME_KEY", "second")]);
    assert!(said.len() == 1 && said[0].contains("is an older one"), "{said:?}");
    assert_eq!(secrets().await[0], newer);
}

#[tokio::test]
async fn a_profile_that_is_changed_is_changed_at_every_endpoint_that_has_it() {
    let place = Place::new();
    let ringback = stored(&place).await;
    let globex = ringback.create_application(NewApplication::named("Globex").uid("globex")).await.unwrap().id;
    let named = |name: &str| Profile { name: name.into(), ..Profile::builtin("svix").unwrap() };
    let with = |name: &str| NewEndpoint::at("https://globex.example/").uid(name).profile(named(name));
    for name in ["house", "other"] {
        ringback.create_endpoint(globex, with(name)).await.unwrap();
    }
    ringback.shutdown().await.unwrap();

    let changed = "[[profile]]\nname = 'house'\ntimeoutMs = 4_000\n";
    assert_eq!(pass(&place, changed, &[]), ["the endpoint's profile was changed"]);
    assert_eq!(pass(&place, changed, &[]), Vec::<String>::new());
    let ringback = stored(&place).await;
    let timeout = |uid| {
        let endpoint = ringback.endpoint_by_uid(globex, uid).unwrap();
        endpoint.settings.resolve_profile().unwrap().timeout().as_secs()
    };
    assert_eq!((timeout("house"), timeout("other")), (4, 15));
}
