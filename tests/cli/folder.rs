//! A folder instead of an address: the server that runs on it, or none.

use std::time::Duration;

use super::program::{Ended, command, finish, ringback, text};
use super::serving::Served;
use super::support::Receiver;
use super::support::sidecar::Sidecar;

/// A folder with the application `acme`, which no server runs on any more.
async fn left_behind() -> tempfile::TempDir {
    let Served { sidecar, dir } = Served::start().await;
    sidecar.stop().await;
    dir
}

async fn on(folder: &str, arguments: &[&str]) -> Ended {
    ringback(&[arguments, &["--data", folder]].concat()).await
}

#[tokio::test]
async fn a_running_server_is_found_by_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(&dir.path().join("data"));
    let mut serve = super::program::Running::start({
        let mut command = command(&["serve", "--listen", "127.0.0.1:0", "--data", &data]);
        command.env("RINGBACK_LOG", "info");
        command
    });
    serve.says("ready").await;
    // Its token is the folder's.
    on(&data, &["app", "create", "Acme", "--uid", "acme"]).await.ok();
    let mut by_environment = command(&["app", "get", "acme"]);
    by_environment.env("RINGBACK_DATA", &data);
    finish(by_environment, None).await.ok();
    // The address of another server does not win over the folder that is named.
    let mut elsewhere = command(&["app", "get", "acme", "--data", &data]);
    elsewhere.env("RINGBACK_SERVER", "http://127.0.0.1:1").env("RINGBACK_TOKEN", "of-the-other-server");
    finish(elsewhere, None).await.ok();
}

#[tokio::test]
async fn without_a_server_every_command_works_and_nothing_is_delivered() {
    let dir = left_behind().await;
    let data = text(&dir.path().join("data"));
    let receiver = Receiver::answering(200).await;
    let mut create = command(&["endpoint", "create", "acme", &receiver.url, "--uid", "main", "--data", &data]);
    create.env("RINGBACK_ALLOW_NETWORK", "127.0.0.0/8");
    finish(create, None).await.ok();

    let sent = on(&data, &["send", "acme", "--type", "a.b", "--with", "{}", "--event-id", "e1"]).await.ok();
    assert!(sent.stderr.contains("not delivered yet") && sent.stderr.contains("ringback serve"), "{sent:?}");
    let shown = on(&data, &["show", "acme", "e1"]).await.ok();
    assert!(shown.stdout.contains("waiting, next attempt"), "{shown:?}");
    assert_eq!(on(&data, &["log", "acme", "--json"]).await.ok().json().len(), 0);
    let waits = on(&data, &["doctor"]).await;
    assert_eq!(waits.code, 1, "a message waits, and nobody delivers it: {waits:?}");
    assert!(waits.stdout.contains("1 delivery waits") && !waits.stdout.contains("all is well"), "{waits:?}");
    assert_eq!(on(&data, &["doctor", "--json"]).await.code, 1);
    for arguments in [&["endpoint", "test", "acme", "main"][..], &["log", "acme", "--follow"]] {
        let ended = on(&data, arguments).await;
        assert_eq!(ended.code, 1, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains("no server runs on this folder"), "{ended:?}");
    }
    for arguments in [
        &["doctor"][..],
        &["show", "acme", "e1"],
        &["log", "acme"],
        &["replay", "list", "acme"],
        &["app", "list", "--json"],
        &["app", "get", "nope"],
    ] {
        let ended = on(&data, arguments).await;
        let told = "no server runs on this folder: nothing is delivered until `ringback serve` runs";
        assert_eq!(ended.stderr.matches(told).count(), 1, "{arguments:?}: {ended:?}");
    }
    assert_eq!(receiver.count(), 0, "nothing is delivered by a command");

    // The server delivers what was stored.
    let sidecar = Sidecar::start(&dir.path().join("data"), &[]).await;
    receiver.wait_for(1).await;
    super::support::until(async || receiver.count() == 1 && delivered(&sidecar).await).await;
    sidecar.stop().await;
    on(&data, &["doctor"]).await.ok();
}

#[tokio::test]
async fn a_job_that_no_server_carries_out_is_not_waited_for() {
    let dir = left_behind().await;
    let data = text(&dir.path().join("data"));
    on(&data, &["endpoint", "create", "acme", "https://example.com", "--uid", "main"]).await.ok();
    on(&data, &["send", "acme", "--type", "a.b", "--with", "{}"]).await.ok();
    let job = on(&data, &["replay", "acme", "--what", "all", "--yes", "--wait", "--json"]).await.ok().one();
    let show = ["replay", "show", "acme", job["id"].as_str().unwrap(), "--wait"];
    let shown = tokio::time::timeout(std::time::Duration::from_secs(60), on(&data, &show)).await;
    let shown = shown.expect("it ends, and lets a server have the folder").ok();
    assert!(shown.stdout.contains("running") && shown.stderr.contains("the job does nothing now"), "{shown:?}");
}

/// Whether the server's only delivery has ended.
async fn delivered(sidecar: &Sidecar) -> bool {
    let mut doctor = command(&["doctor", "--json"]);
    doctor.env("RINGBACK_SERVER", format!("http://{}", sidecar.address)).env("RINGBACK_TOKEN", &sidecar.token);
    finish(doctor, None).await.ok().one()["store"]["open"] == 0
}

#[tokio::test]
async fn many_messages_can_be_stored_without_a_server() {
    let dir = left_behind().await;
    let data = text(&dir.path().join("data"));
    let line = r#"{"eventType":"a.b","payload":{}}"#;
    let input = format!("{line}\n{line}\nbad\n");
    let run = async || {
        super::program::ringback_with(&["send", "acme", "--ndjson", "-", "--data", &data], input.as_bytes()).await
    };
    assert!(run().await.stdout.contains("2 stored, 1 refused"));
    assert!(run().await.stdout.contains("2 of those stored had been sent before"));
}

#[tokio::test]
async fn what_a_killed_server_left_behind_gets_no_token() {
    let Served { sidecar, dir } = Served::start().await;
    sidecar.kill().await;
    let data = dir.path().join("data");
    // Another program has the port by now.
    let other = Receiver::answering(204).await;
    let address = other.url.trim_start_matches("http://").trim_end_matches("/hook");
    let left = serde_json::json!({"address": address, "pid": 1, "version": "0"}).to_string();
    std::fs::write(data.join("sidecar.json"), left).unwrap();
    std::fs::write(data.join("operator.token"), "ringback_a-token-that-is-long-enough").unwrap();
    let ended = on(&text(&data), &["app", "list", "--json"]).await.ok();
    assert_eq!(ended.json().len(), 1, "{ended:?}");
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn a_folder_that_another_process_holds_is_said_to_be_held() {
    let served = Served::start().await;
    std::fs::remove_file(served.dir.path().join("data/sidecar.json")).unwrap();
    let ended = on(&served.data(), &["app", "list"]).await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(
        ended.stderr.contains("a ringback command or server has") && ended.stderr.contains("(process "),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("try again") && !ended.stderr.contains("stop it"), "{ended:?}");
}

#[tokio::test]
async fn commands_on_a_folder_wait_for_one_another() {
    let dir = left_behind().await;
    let data = text(&dir.path().join("data"));
    // As a command does that takes a while.
    let lock = std::fs::File::open(dir.path().join("data/LOCK")).unwrap();
    lock.lock().unwrap();
    let let_go = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lock.unlock().unwrap();
    };
    let arguments = ["app", "list", "--json"];
    let (listed, ()) = tokio::join!(on(&data, &arguments), let_go);
    assert_eq!(listed.ok().json().len(), 1);
}

#[tokio::test]
async fn a_token_that_the_operator_set_is_asked_for() {
    let served = Served::start().await;
    let ended = on(&served.data(), &["app", "list"]).await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("was set by its operator: set RINGBACK_TOKEN or give --token-file"), "{ended:?}");
}

#[tokio::test]
async fn a_servers_address_may_have_the_path_of_its_api() {
    let served = Served::start().await;
    let mut list = served.command(&["app", "list", "--json"]);
    list.env("RINGBACK_SERVER", format!("http://{}/api/v1", served.sidecar.address));
    assert_eq!(finish(list, None).await.ok().json().len(), 1);
}

#[tokio::test]
async fn a_folder_is_compacted_with_a_server_and_without() {
    let served = Served::start().await;
    let id = served.send("a.b").await;
    let shown = served.run(&["compact"]).await.ok();
    assert!(shown.stdout.contains("before") && shown.stdout.contains("after"), "{shown:?}");
    assert_eq!(served.one(&["doctor"]).await["advice"], serde_json::json!([]));
    let Served { sidecar, dir } = served;
    sidecar.stop().await;
    let data = text(&dir.path().join("data"));
    let compacted = on(&data, &["compact", "--json"]).await.ok().one();
    assert_eq!(compacted["status"], "finished");
    let current = std::fs::read_to_string(dir.path().join("data/CURRENT")).unwrap();
    assert_eq!(current, "sled.2\n", "each made the next database");
    on(&data, &["show", "acme", &id]).await.ok();
    let mut full = command(&["compact", "--data", &data]);
    full.env("RINGBACK_MIN_FREE_BYTES", "1152921504606846976");
    let refused = finish(full, None).await;
    assert!(refused.code == 1 && refused.stderr.contains("make room"), "{refused:?}");
    on(&data, &["show", "acme", &id]).await.ok();
}

#[tokio::test]
async fn a_person_is_erased_from_a_folder_and_from_its_files() {
    let dir = left_behind().await;
    let data = text(&dir.path().join("data"));
    let send = async |tag: &str, with: &str| {
        on(&data, &["send", "acme", "--type", "a.b", "--with", with, "--tag", tag, "--json"]).await.ok().one()
    };
    send("user:1", r#"{"name":"Ada Lovelace"}"#).await;
    let kept = send("user:2", r#"{"name":"Grace Hopper"}"#).await;
    let unasked = on(&data, &["erase", "acme", "--tag", "user:1"]).await;
    assert!(unasked.code == 2 && unasked.stderr.contains("Erase 1 message"), "{unasked:?}");
    let erased = on(&data, &["erase", "acme", "--tag", "user:1", "--compact", "--yes"]).await.ok();
    assert!(erased.stdout.contains("1 messages, 0 deliveries, 0 attempts"), "{erased:?}");
    assert!(erased.stdout.contains("before") && erased.stdout.contains("after"), "{erased:?}");
    on(&data, &["show", "acme", kept["id"].as_str().unwrap()]).await.ok();
    let files = std::fs::read(dir.path().join("data/sled.1/db")).unwrap();
    let stands = |text: &str| files.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(stands("Grace Hopper") && !stands("Ada Lovelace"));
    assert_eq!(on(&data, &["erase", "acme"]).await.code, 2, "nothing says what");
    let call = ["send", "acme", "--type", "a.b", "--with", "{}", "--event-id", "call_9"];
    on(&data, &call).await.ok();
    let erased = on(&data, &["erase", "acme", "--message", "call_9", "--yes"]).await.ok();
    assert!(erased.stdout.contains("1 messages"), "{erased:?}");
    assert_eq!(on(&data, &["erase", "acme", "--message", "call_9", "--yes"]).await.code, 4, "it is gone");
    on(&data, &["erase", "acme", "--application", "--yes"]).await.ok();
    assert_eq!(on(&data, &["app", "get", "acme"]).await.code, 4);
}
