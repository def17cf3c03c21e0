//! `ringback send --ndjson`.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::program::text;
use super::serving::Served;
use super::support::Receiver;

fn line(n: usize) -> String {
    format!(r#"{{"eventType":"a.b","payload":{{"n":{n}.0}}}}"#)
}

/// The payloads that a receiver got.
fn payloads(receiver: &Receiver) -> BTreeSet<String> {
    receiver.received().into_iter().map(|request| String::from_utf8(request.body).unwrap()).collect()
}

#[tokio::test]
async fn a_bad_line_costs_itself_alone_and_a_second_run_sends_nothing_twice() {
    let served = Served::start().await;
    let receiver = Receiver::answering(200).await;
    served.endpoint("main", &receiver.url, &[]).await;
    let mut lines: Vec<String> = (1..=60).map(line).collect();
    lines[6] = "{not json".to_owned();
    lines[29] = r#"{"eventType":"no good type","payload":{}}"#.to_owned();
    lines[39] = String::new();
    lines[49] = r#"{"eventType":"a.b","payload":{},"surprise":1}"#.to_owned();
    let file = served.dir.path().join("events.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let send = ["send", "acme", "--ndjson", &text(&file)];

    let first = served.run(&send).await;
    assert_eq!(first.code, 1, "{first:?}");
    assert!(first.stdout.contains("60 lines: 56 stored, 3 refused, 1 empty\n"), "{first:?}");
    for (number, what) in [(7, "not a JSON object"), (30, "eventType: "), (50, "surprise")] {
        let told =
            first.stderr.lines().any(|line| line.starts_with(&format!("line {number}: ")) && line.contains(what));
        assert!(told, "{number}: {first:?}");
    }
    receiver.wait_for(56).await;
    assert!(payloads(&receiver).contains(r#"{"n":1.0}"#), "the payload's bytes stay");
    assert_eq!(payloads(&receiver).len(), 56);

    // A line that was corrected is sent; the others are not sent twice.
    lines[6] = line(7);
    std::fs::write(&file, lines.join("\n")).unwrap();
    let second = served.run(&[&send[..], &["--json"]].concat()).await;
    assert_eq!(second.code, 1);
    assert!(second.stderr.contains("56 of those stored had been sent before"), "{second:?}");
    let told = second.json();
    let new: Vec<&Value> = told.iter().filter(|line| line["repeated"] == false).collect();
    assert_eq!(new.iter().map(|line| line["line"].as_u64().unwrap()).collect::<Vec<_>>(), [7]);
    receiver.wait_for(57).await;
    assert_eq!(served.one(&["doctor"]).await["applications"][0]["messages"], 57);

    let other_run = served.run(&[&send[..], &["--run-id", "again"]].concat()).await;
    assert!(other_run.stdout.contains("57 stored"), "{other_run:?}");
    assert_eq!(served.one(&["doctor"]).await["applications"][0]["messages"], 114);
}

#[tokio::test]
async fn messages_come_from_the_standard_input_many_at_once() {
    let served = Served::start().await;
    let lines: Vec<String> = (0..2_000).map(line).collect();
    let ended = served
        .run_with(&["send", "acme", "--ndjson", "-", "--in-flight", "64"], lines.join("\n").as_bytes())
        .await
        .ok();
    assert!(ended.stdout.contains("2000 lines: 2000 stored, 0 refused"), "{ended:?}");
    assert_eq!(served.one(&["doctor"]).await["applications"][0]["messages"], 2_000);
}

#[tokio::test]
async fn lines_go_out_while_more_are_waited_for_and_a_signal_says_how_to_go_on() {
    let served = Served::start().await;
    let lines = [line(1), line(2), line(3)];
    for signal in ["-INT", "-TERM"] {
        let mut send = served.command(&["send", "acme", "--ndjson", "-", "--run-id", signal.trim_start_matches('-')]);
        send.stdin(std::process::Stdio::piped());
        let mut send = super::program::Running::start(send);
        let mut input = send.input();
        // The last line is still being written.
        input.write_all(format!("{}\n{}\n{{", lines[0], lines[1]).as_bytes()).await.unwrap();
        let before = if signal == "-INT" { 0 } else { 3 };
        super::support::until(async || served.all(&["messages", "acme"]).await.len() == before + 2).await;
        // Both answers are back, too, a moment after the messages are there.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let id = send.id().to_string();
        let sent = tokio::process::Command::new("kill").args([signal, &id]).status().await.unwrap();
        assert!(sent.success());
        send.says("It stopped after 2 messages. The same command again goes on where it stopped").await;
        assert_eq!(send.ended().await.0, 130);

        let again = ["send", "acme", "--ndjson", "-", "--run-id", signal.trim_start_matches('-')];
        let ended = served.run_with(&again, lines.join("\n").as_bytes()).await.ok();
        assert!(ended.stdout.contains("3 stored") && ended.stdout.contains("; 2 of those"), "{ended:?}");
    }
    assert_eq!(served.all(&["messages", "acme"]).await.len(), 6);
}

#[tokio::test]
async fn a_payload_over_the_servers_limit_is_refused_with_its_line() {
    let served = Served::with(&[("RINGBACK_MAX_PAYLOAD", "1000")]).await;
    let large = format!(r#"{{"eventType":"a.b","payload":{{"x":"{}"}}}}"#, "x".repeat(2_000));
    let input = format!("{}\n{large}\n{}\n", line(1), line(2));
    let ended = served.run_with(&["send", "acme", "--ndjson", "-"], input.as_bytes()).await;
    assert_eq!(ended.code, 1);
    assert!(ended.stdout.contains("2 stored, 1 refused") && ended.stderr.contains("line 2: "), "{ended:?}");
}

#[tokio::test]
async fn a_server_without_room_is_waited_for() {
    // Two small payloads fit; the next one has to wait until they have ended.
    let served = Served::with(&[("RINGBACK_MAX_OPEN_BYTES", "60")]).await;
    let receiver = Receiver::answering(200).await;
    served.endpoint("main", &receiver.url, &[]).await;
    let padded = |n: usize| format!(r#"{{"eventType":"a.b","payload":{{"n":{n},"x":"{}"}}}}"#, "x".repeat(30));
    let input: Vec<String> = (0..6).map(padded).collect();
    let ended = served.run_with(&["send", "acme", "--ndjson", "-"], input.join("\n").as_bytes()).await.ok();
    assert!(ended.stdout.contains("6 stored, 0 refused"), "{ended:?}");
    assert!(ended.stderr.contains("is waited for"), "{ended:?}");
    receiver.wait_for(6).await;
    assert_eq!(payloads(&receiver).len(), 6);
}

#[tokio::test]
async fn an_application_that_is_not_there_ends_the_run_at_once() {
    let served = Served::start().await;
    let lines: Vec<String> = (0..100).map(line).collect();
    let ended = served.run_with(&["send", "nope", "--ndjson", "-"], lines.join("\n").as_bytes()).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("The same command again goes on"), "{ended:?}");
}
