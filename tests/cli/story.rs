//! A message's story: sent, delivered or not, shown, resent, canceled, replayed.

use serde_json::json;

use super::serving::Served;
use super::support::{Behaviour, Receiver};

#[tokio::test]
async fn a_payload_arrives_as_it_stands_in_its_file() {
    let served = Served::start().await;
    let receiver = Receiver::answering(200).await;
    served.endpoint("main", &receiver.url, &[]).await;
    let payload = "{ \"n\": 1.0,  \"é\": \"\\u00e9\", \"big\": 123456789012345678901234567890 }";
    let sent = served
        .run_with(
            &["send", "acme", "--type", "a.b", "--event-id", "event-1", "--channel", "eu"],
            format!("{payload}\n").as_bytes(),
        )
        .await
        .ok();
    assert!(sent.stdout.contains("to 1 endpoint"), "{sent:?}");
    receiver.wait_for(1).await;
    assert_eq!(String::from_utf8(receiver.received()[0].body.clone()).unwrap(), payload);

    // The id of the event names it, too, and its payload is shown with its numbers as they were.
    let shown = served.stands("event-1", "delivered").await;
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 1);
    let people = served.run(&["show", "acme", "event-1"]).await.ok().stdout;
    assert!(people.contains("\"n\": 1.0,") && people.contains("123456789012345678901234567890"), "{people}");
    assert!(people.contains("delivered at") && people.contains("#1 "), "{people}");
    let again = served.run(&["send", "acme", "--type", "a.b", "--with", "{}", "--event-id", "event-1"]).await;
    assert_eq!(again.code, 1, "{again:?}");
}

#[tokio::test]
async fn what_is_no_payload_is_refused_before_it_is_sent() {
    let served = Served::start().await;
    let ended = served.run_with(&["send", "acme", "--type", "a.b"], b"{\"a\":").await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("not JSON"), "{ended:?}");
    assert!(served.all(&["messages", "acme"]).await.is_empty());
}

#[tokio::test]
async fn a_message_that_nobody_wants_says_why() {
    let served = Served::start().await;
    let sent = served.run(&["send", "acme", "--type", "a.b", "--with", "{}"]).await.ok();
    assert!(sent.stdout.contains("nowhere: the application has no endpoints"), "{sent:?}");
    served.endpoint("main", "http://127.0.0.1:9/", &["--event-type", "other"]).await;
    let id = served.send("a.b").await;
    let unrouted = served.run(&["messages", "acme", "--unrouted"]).await.ok().stdout;
    assert_eq!(unrouted.lines().count(), 3, "{unrouted}");
    assert!(unrouted.contains("no endpoint wants this event type"), "{unrouted}");
    let shown = served.run(&["show", "acme", &id]).await.ok().stdout;
    assert!(shown.contains("nowhere: no endpoint wants this event type"), "{shown}");
}

#[tokio::test]
async fn the_log_has_what_failed_and_why() {
    let served = Served::start().await;
    let (good, bad) = (
        Receiver::answering(200).await,
        Receiver::start(|_, _| Behaviour::AnswerWith(500, Vec::new(), b"\x1b]0;owned\x07".to_vec())).await,
    );
    served.endpoint("good", &good.url, &["--event-type", "good.event"]).await;
    served.endpoint("bad", &bad.url, &["--event-type", "bad.event"]).await;
    let (delivered, dead) = (served.send("good.event").await, served.send("bad.event").await);
    served.stands(&delivered, "delivered").await;
    let story = served.stands(&dead, "dead").await;
    assert_eq!(story["attempts"].as_array().unwrap().len(), 2);

    let count = async |filter: &[&str]| served.all(&[&["log", "acme"], filter].concat()).await.len();
    assert_eq!(count(&[]).await, 3);
    assert_eq!(count(&["--limit", "1"]).await, 1);
    assert_eq!(count(&["--status", "failed"]).await, 2);
    assert_eq!(count(&["--status", "delivered"]).await, 1);
    assert_eq!(count(&["--endpoint", "good"]).await, 1);
    assert_eq!(count(&["--message", &dead]).await, 2);
    assert_eq!(count(&["--code", "500"]).await, 2);
    assert_eq!(count(&["--class", "2xx"]).await, 1);
    assert_eq!(count(&["--class", "none"]).await, 0);
    assert_eq!(count(&["--type", "bad.*"]).await, 2);
    assert_eq!(count(&["--channel", "eu"]).await, 0);
    assert_eq!(count(&["--since", "1h"]).await, 3);
    assert_eq!(count(&["--until", "1h"]).await, 0);

    let table = served.run(&["log", "acme"]).await.ok().stdout;
    let row = |text: &str| table.lines().any(|line| line.split_whitespace().any(|cell| cell == text));
    assert!(row("good") && row("bad") && row("good.event") && row("bad.event"), "{table}");
    assert_eq!(table.matches("hint: ").count(), 1, "a hint explains an outcome once: {table}");
    let shown = served.run(&["show", "acme", &dead]).await.ok().stdout;
    assert!(shown.contains("\nbad ep_"), "{shown}");
    assert!(shown.contains("a dead letter") && shown.contains("no retry is left"), "{shown}");
    assert!(shown.contains(r"\u{1b}]0;owned\u{7}") && !shown.contains(['\x1b', '\x07']), "{shown:?}");
    let json = served.run(&["log", "acme", "--status", "failed", "--json"]).await.ok().stdout;
    assert!(!json.contains(['\x1b', '\x07']), "{json:?}");
}

#[tokio::test]
async fn a_dead_letter_is_resent_and_many_are_replayed() {
    let served = Served::start().await;
    let receiver = Receiver::start(|_, before| Behaviour::Answer(if before < 6 { 500 } else { 200 })).await;
    served.endpoint("main", &receiver.url, &[]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = served.send("a.b").await;
        served.stands(&id, "dead").await;
        ids.push(id);
    }
    served.run(&["resend", "acme", &ids[0], "main"]).await.ok();
    assert_eq!(served.stands(&ids[0], "delivered").await["endpoints"][0]["round"], 2);

    let unasked = served.run(&["replay", "acme"]).await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
    assert!(unasked.stderr.contains("2 deliveries would"), "{unasked:?}");
    assert!(served.all(&["replay", "list", "acme"]).await.is_empty(), "nothing was begun");

    let job = served
        .one(&["replay", "acme", "--endpoint", "main", "--since", "1h", "--rate", "1000", "--yes", "--wait"])
        .await;
    assert_eq!((&job["status"], &job["replayed"]), (&"finished".into(), &2.into()));
    for id in &ids[1..] {
        served.stands(id, "delivered").await;
    }
    let id = job["id"].as_str().unwrap();
    assert_eq!(served.all(&["replay", "list", "acme"]).await.len(), 1);
    assert_eq!(served.one(&["replay", "show", "acme", id]).await["id"], job["id"]);
    let none = served.run(&["replay", "acme", "--yes"]).await.ok();
    assert!(none.stderr.contains("nothing to replay"), "{none:?}");
}

#[tokio::test]
async fn a_replay_can_be_left_alone_and_stopped() {
    let served = Served::start().await;
    served.endpoint("main", "http://127.0.0.1:9/", &["--retry", r#"{"delaysMs":[]}"#]).await;
    let lines = "{\"eventType\":\"a.b\",\"payload\":{}}\n".repeat(60);
    served.run_with(&["send", "acme", "--ndjson", "-"], lines.as_bytes()).await.ok();
    super::support::until(async || served.one(&["doctor"]).await["applications"][0]["dead"] == 60).await;
    let mut watching = served.start_running(&["replay", "acme", "--rate", "1", "--yes", "--wait"]);
    let told = watching.says("the job ").await;
    let job = told.split(' ').nth(2).unwrap();
    let id = watching.id().to_string();
    let sent = tokio::process::Command::new("kill").args(["-INT", &id]).status().await.unwrap();
    assert!(sent.success());
    watching.says("the job goes on without you").await;
    watching.says(&format!("ringback replay stop acme {job}")).await;
    assert_eq!(watching.ended().await.0, 0);
    assert_eq!(served.one(&["replay", "show", "acme", job]).await["status"], "running");
    assert_eq!(served.one(&["replay", "pause", "acme", job]).await["status"], "paused");
    assert_eq!(served.one(&["replay", "resume", "acme", job]).await["status"], "running");
    assert_eq!(served.one(&["replay", "stop", "acme", job]).await["status"], "stopped");
}

#[tokio::test]
async fn what_an_endpoint_never_got_is_previewed_and_replayed_also_to_a_url() {
    let served = Served::start().await;
    let (old, new) = (Receiver::answering(200).await, Receiver::answering(200).await);
    served.endpoint("old", &old.url, &[]).await;
    for id in [served.send("a.b").await, served.send("a.c").await] {
        served.stands(&id, "delivered").await;
    }
    served.endpoint("new", &new.url, &[]).await;
    let missing = ["replay", "acme", "--what", "missing", "--endpoint", "new", "--event-type", "a.c"];
    let preview = served.run(&[&missing[..], &["--preview"]].concat()).await.ok();
    assert!(preview.stdout.contains("1 delivery would be attempted again"), "{preview:?}");
    assert_eq!(served.one(&[&missing[..], &["--preview"]].concat()).await, json!({"count": 1, "expunged": 0}));
    assert!(served.all(&["replay", "list", "acme"]).await.is_empty());
    let job = served.one(&[&missing[..], &["--yes", "--wait"]].concat()).await;
    assert_eq!((&job["what"], &job["replayed"], &job["status"]), (&"missing".into(), &1.into(), &"finished".into()));
    assert_eq!(new.expect(1).await.len(), 1);

    let spare = Receiver::answering(200).await;
    let to_url = ["replay", "acme", "--what", "all", "--endpoint", "old", "--to-url", &spare.url, "--yes", "--wait"];
    let job = served.one(&to_url).await;
    assert_eq!(spare.expect(2).await.len(), 2);
    let all = served.all(&["endpoint", "list", "acme"]).await;
    let made = all.iter().find(|endpoint| endpoint["id"] == job["toEndpointId"]).unwrap();
    assert_eq!((&made["url"], &made["replayOnly"]), (&spare.url.as_str().into(), &true.into()));
    let refused = served.run(&["replay", "acme", "--what", "missing", "--yes"]).await;
    assert!(refused.code == 1 && refused.stderr.contains("endpointId"), "{refused:?}");
}

#[tokio::test]
async fn a_replay_says_why_it_skipped() {
    let served = Served::start().await;
    let endpoint = served.endpoint("main", "http://127.0.0.1:9/", &["--retry", r#"{"delaysMs":[]}"#]).await;
    let id = served.send("a.b").await;
    served.stands(&id, "dead").await;
    served.run(&["endpoint", "disable", "acme", "main"]).await.ok();
    let ended = served.run(&["replay", "acme", "--endpoint", "main", "--yes", "--wait"]).await.ok();
    assert!(ended.stderr.contains("1 skipped: their endpoint takes nothing (disabled)"), "{ended:?}");
    let id = endpoint["id"].as_str().unwrap();
    assert!(ended.stderr.contains(&format!("ringback endpoint enable acme {id}")), "{ended:?}");
}

#[tokio::test]
async fn a_replay_says_how_far_it_is_and_that_it_outlives_the_server() {
    let served = Served::start().await;
    served.endpoint("main", "http://127.0.0.1:9/", &["--retry", r#"{"delaysMs":[]}"#]).await;
    let lines = "{\"eventType\":\"a.b\",\"payload\":{}}\n".repeat(60);
    served.run_with(&["send", "acme", "--ndjson", "-"], lines.as_bytes()).await.ok();
    super::support::until(async || served.one(&["doctor"]).await["applications"][0]["dead"] == 60).await;
    let mut watching = served.start_running(&["replay", "acme", "--rate", "1", "--yes", "--wait"]);
    let told = watching.says("the job ").await;
    let job = told.split(' ').nth(2).unwrap();
    watching.says(" of 60 so far").await;
    served.sidecar.kill().await;
    watching.says(&format!("the job goes on when the server runs again: ringback replay show acme {job}")).await;
    assert_eq!(watching.ended().await.0, 3);
}

#[tokio::test]
async fn what_waits_is_canceled() {
    let served = Served::start().await;
    served.endpoint("main", "http://127.0.0.1:9/", &["--retry", r#"{"delaysMs":[600000]}"#]).await;
    let id = served.send("a.b").await;
    // After the first attempt it waits for the next.
    super::support::until(async || !served.all(&["log", "acme"]).await.is_empty()).await;
    served.stands(&id, "waiting").await;
    assert_eq!(served.one(&["cancel", "acme", &id, "main"]).await, json!({"canceled": 1}));
    served.stands(&id, "canceled").await;
    let again = served.run(&["cancel", "acme", &id]).await.ok().stdout;
    assert!(again.contains("nothing of it was waiting"), "{again}");
}

#[tokio::test]
async fn the_doctor_counts_and_finds_nothing() {
    let served = Served::start().await;
    served.send("a.b").await;
    let report = served.one(&["doctor"]).await;
    assert_eq!((&report["ok"], &report["applications"][0]["messages"]), (&true.into(), &1.into()));
    let shown = served.run(&["doctor"]).await.ok();
    assert!(shown.stdout.contains("all is well") && shown.stdout.contains(", 0 bytes of payloads\n"), "{shown:?}");
    assert!(!shown.stdout.contains("Bytes ") && !shown.stderr.contains("no server"), "{shown:?}");
}

#[tokio::test]
async fn the_doctor_says_what_to_do_with_dead_letters() {
    let served = Served::start().await;
    served.endpoint("main", "http://127.0.0.1:9/", &["--retry", r#"{"delaysMs":[]}"#]).await;
    for _ in 0..2 {
        let id = served.send("a.b").await;
        served.stands(&id, "dead").await;
    }
    let shown = served.run(&["doctor"]).await.ok().stdout;
    let advice = "2 dead letters: ringback log acme --status failed; ringback replay acme\n";
    assert!(shown.contains(advice) && shown.contains("the store is sound"), "{shown}");
    assert!(!shown.contains("all is well"), "{shown}");
}

#[tokio::test]
async fn a_send_that_is_repeated_under_its_key_says_so_and_stores_nothing() {
    let served = Served::start().await;
    let send = ["send", "acme", "--type", "a.b", "--with", "{}", "--idempotency-key", "k1"];
    let first = served.run(&send).await.ok();
    assert!(!first.stderr.contains("sent before"), "{first:?}");
    let second = served.run(&send).await.ok();
    assert!(second.stderr.contains("sent before"), "{second:?}");
    assert_eq!(first.stdout, second.stdout);
    assert_eq!(served.all(&["messages", "acme"]).await.len(), 1);
}

#[tokio::test]
async fn messages_are_sent_with_options_found_by_them_and_canceled_by_a_filter() {
    let served = Served::start().await;
    served.endpoint("main", "http://127.0.0.1:9/", &[]).await;
    let mut sent = Vec::new();
    for key in ["a", "a", "b"] {
        let options = ["--ordering-key", key, "--deliver-at", "2h", "--max-age", "10m", "--tag", "user:1"];
        let command = [&["send", "acme", "--type", "a.b", "--with", "{}"][..], &options].concat();
        sent.push(served.one(&command).await);
    }
    assert_eq!((&sent[0]["orderingKey"], &sent[0]["tags"]), (&json!("a"), &json!(["user:1"])));
    assert!(sent[0]["deliverAt"].is_string() && sent[0]["expireAt"].is_string());
    let both = ["--expire-at", "1h", "--max-age", "10m"];
    let refused = served.run(&[&["send", "acme", "--type", "a.b", "--with", "{}"][..], &both].concat()).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert_eq!(served.all(&["messages", "acme", "--ordering-key", "a"]).await.len(), 2);
    assert_eq!(served.all(&["messages", "acme", "--tag", "user:2"]).await.len(), 0);
    let second = sent[1]["id"].as_str().unwrap();
    let shown = served.run(&["show", "acme", second]).await.ok().stdout;
    let first = sent[0]["id"].as_str().unwrap();
    assert!(shown.contains(&format!("held behind message {first}")) && shown.contains("user:1"), "{shown}");

    let preview = ["cancel", "acme", "--key", "a", "--preview"];
    assert!(served.run(&preview).await.ok().stdout.contains("2 deliveries would be canceled"));
    assert_eq!(served.one(&preview).await, json!({"count": 2}), "and did nothing");
    let both = served.run(&["cancel", "acme", second, "--preview"]).await;
    assert_eq!(both.code, 2, "{both:?}");
    for (option, value) in [("--max-age", "500ms"), ("--max-age", "0s")] {
        let refused = served.run(&["send", "acme", "--type", "a.b", "--with", "{}", option, value]).await;
        assert!(refused.code == 2 && refused.stderr.contains("whole number of seconds"), "{refused:?}");
    }
    for rate in ["0", "10001"] {
        let refused = served.run(&["replay", "acme", "--rate", rate, "--yes"]).await;
        assert!(refused.code == 2 && refused.stderr.contains("--rate"), "{refused:?}");
    }
    for command in [["cancel", "acme", "--tag", "", "--yes"], ["replay", "acme", "--tag", "", "--yes"]] {
        let refused = served.run(&command).await;
        assert!(refused.code == 1 && refused.stderr.contains("tag: must have 1 to 128"), "{refused:?}");
    }

    let unasked = served.run(&["cancel", "acme", "--key", "a"]).await;
    assert!(unasked.code == 2 && unasked.stderr.contains("2 deliveries would be canceled"), "{unasked:?}");
    assert_eq!(served.run(&["cancel", "acme"]).await.code, 2, "it is not all that is canceled by mistake");
    let canceled = served.one(&["cancel", "acme", "--key", "a", "--endpoint", "main", "--yes"]).await;
    assert_eq!(canceled, json!({"canceled": 2}));
    let rest =
        served.run(&["cancel", "acme", "--tag", "user:1", "--since", "1h", "--event-type", "a.*", "--yes"]).await;
    assert!(rest.ok().stdout.contains("1 delivery is canceled"));
    let none = served.run(&["cancel", "acme", "--tag", "user:1"]).await.ok().stdout;
    assert!(none.contains("nothing like this was waiting"), "{none}");
}
