//! Applications, endpoints, event types: made, shown, changed, deleted.

use super::program::{command, finish};
use super::serving::Served;
use super::support::Receiver;

#[tokio::test]
async fn an_application_is_made_found_changed_and_deleted() {
    let served = Served::start().await;
    let made = served.one(&["app", "create", "Beta", "--uid", "beta", "--metadata", "plan=gold"]).await;
    assert_eq!((&made["uid"], &made["metadata"]["plan"]), (&"beta".into(), &"gold".into()));
    let again = served.one(&["app", "create", "Beta", "--uid", "beta", "--get-if-exists"]).await;
    assert_eq!(again["id"], made["id"]);
    assert_eq!(served.run(&["app", "create", "Beta", "--uid", "beta"]).await.code, 1);

    let renamed = served.one(&["app", "update", "beta", "--name", "Gamma"]).await;
    assert_eq!((&renamed["name"], &renamed["metadata"]["plan"]), (&"Gamma".into(), &"gold".into()));
    let listed = served.run(&["app", "list"]).await.ok().stdout;
    assert!(listed.contains("acme") && listed.contains("Gamma"), "{listed}");

    let unasked = served.run(&["app", "delete", "beta"]).await;
    assert_eq!(unasked.code, 2, "nobody could be asked: {unasked:?}");
    assert!(unasked.stderr.contains("--yes"));
    assert_eq!(served.run(&["app", "get", "beta"]).await.code, 0);
    served.run(&["app", "delete", "beta", "--yes"]).await.ok();
    let gone = served.run(&["app", "get", "beta"]).await;
    assert_eq!((gone.code, gone.stdout.as_str()), (4, ""), "{gone:?}");
    assert!(gone.stderr.contains("there is no such application"), "{gone:?}");
}

#[tokio::test]
async fn a_portals_token_reaches_its_application_alone() {
    let served = Served::start().await;
    served.run(&["app", "create", "Beta", "--uid", "beta"]).await.ok();
    let token = served.one(&["app", "token", "acme", "--expires", "1h"]).await["token"].as_str().unwrap().to_owned();
    let code = async |arguments: &[&str]| {
        let mut command = command(arguments);
        command.env("RINGBACK_SERVER", format!("http://{}", served.sidecar.address)).env("RINGBACK_TOKEN", &token);
        finish(command, None).await.code
    };
    assert_eq!(code(&["endpoint", "list", "acme"]).await, 0);
    assert_eq!(code(&["endpoint", "list", "beta"]).await, 4);
    assert_eq!(code(&["doctor"]).await, 1);
}

#[tokio::test]
async fn a_wrong_token_ends_with_3_and_is_not_shown() {
    let served = Served::start().await;
    let mut command = served.command(&["app", "list"]);
    command.env("RINGBACK_TOKEN", "hunter2-hunter2-hunter2");
    let refused = finish(command, None).await;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("token") && !refused.stderr.contains("hunter2"), "{refused:?}");
}

#[tokio::test]
async fn an_endpoint_is_made_changed_and_reset() {
    let served = Served::start().await;
    let url = "http://127.0.0.1:9/hook";
    let more = [
        "--event-type",
        "call.completed",
        "--event-type",
        "invoice.*",
        "--channel",
        "eu",
        "--timeout",
        "5s",
        "--max-in-flight",
        "3",
        "--throttle-rate",
        "20",
        "--weight",
        "4",
        "--blocked-head",
        "expire:10m",
        "--profile",
        "standard-webhooks",
        "--header",
        "X-Team: blue",
        "--metadata",
        "a=b",
    ];
    let made = served.endpoint("main", url, &more).await;
    assert_eq!(made["eventTypes"], serde_json::json!(["call.completed", "invoice.*"]));
    assert_eq!((&made["timeoutMs"], &made["maxInFlight"]), (&5_000.into(), &3.into()));
    assert_eq!((&made["throttleRate"], &made["weight"]), (&20.into(), &4.into()));
    let health = served.one(&["endpoint", "health", "acme", "main"]).await;
    assert_eq!((&health["breaker"]["state"], &health["cap"]), (&"closed".into(), &3.into()));
    let shown = served.run(&["endpoint", "get", "acme", "main"]).await.ok().stdout;
    for line in ["throttle      20 a second", "health        takes requests", "on their way  0 of 3 that may be now"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let app = ["app", "update", "acme", "--throttle-rate", "9", "--max-in-flight", "5", "--weight", "2"];
    let app = served.one(&app).await;
    assert_eq!((&app["throttleRate"], &app["maxInFlight"], &app["weight"]), (&9.into(), &5.into(), &2.into()));
    let app = served.one(&["app", "update", "acme", "--reset", "throttleRate", "--reset", "weight"]).await;
    assert_eq!((&app["throttleRate"], &app["maxInFlight"]), (&serde_json::Value::Null, &5.into()));
    assert_eq!(made["blockedHead"], serde_json::json!({"rule": "expire", "afterSeconds": 600}));
    assert_eq!(made["profile"], "standard-webhooks");

    let headers = served.one(&["endpoint", "headers", "acme", "main", "--set", "X-New: 1", "--remove", "X-Team"]).await;
    assert_eq!(headers["headers"], serde_json::json!({"X-New": "1"}));
    let headers = served.one(&["endpoint", "headers", "acme", "main", "--sensitive", "X-New"]).await;
    assert_eq!(headers, serde_json::json!({"headers": {}, "sensitive": ["X-New"]}));
    let file = served.dir.path().join("headers");
    std::fs::write(&file, "X-A: 1\nAuthorization Bearer canary\n").unwrap();
    let file = super::program::text(&file);
    let refused = served.run(&["endpoint", "headers", "acme", "main", "--set-file", &file]).await;
    assert!(
        refused.code == 2 && refused.stderr.contains("headers:2: ") && !refused.stderr.contains("canary"),
        "{refused:?}"
    );
    let changed =
        served.one(&["endpoint", "update", "acme", "main", "--reset", "timeoutMs", "--reset", "channels"]).await;
    assert_eq!((&changed["timeoutMs"], &changed["channels"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(changed["eventTypes"], made["eventTypes"], "what is not named stays");

    assert_eq!(served.one(&["endpoint", "disable", "acme", "main"]).await["disabled"], true);
    assert_eq!(served.one(&["endpoint", "enable", "acme", "main"]).await["disabled"], false);
    let enabled = served.one(&["endpoint", "enable", "acme", "main", "--replay", "--since", "2d", "--rate", "5"]).await;
    assert_eq!((&enabled["disabled"], &enabled["replay"]["rate"]), (&false.into(), &5.into()));
    assert_eq!(served.run(&["endpoint", "enable", "acme", "main", "--since", "2d"]).await.code, 2, "of what?");
    served.run(&["endpoint", "disable", "acme", "main"]).await.ok();
    let shown = served.command(&["endpoint", "get", "acme", "main"]);
    let shown = finish(shown, None).await.ok().stdout;
    assert!(shown.contains("disabled since ") && shown.contains("health        disabled: gets no requests"), "{shown}");
    let health = served.run(&["endpoint", "health", "acme", "main"]).await.ok().stdout;
    for line in
        ["state         disabled since ", "throttle      20 a second", "health        disabled: gets no requests"]
    {
        assert!(health.contains(line), "{line}: {health}");
    }
    served.run(&["endpoint", "enable", "acme", "main"]).await.ok();
    let tolerant = served.one(&["endpoint", "update", "acme", "main", "--auto-disable", "false"]).await;
    assert_eq!(tolerant["autoDisable"], false);
    let reset = served.one(&["endpoint", "update", "acme", "main", "--reset", "autoDisable"]).await;
    assert_eq!(reset["autoDisable"], serde_json::Value::Null);
    let stats = served.one(&["endpoint", "stats", "acme", "main", "--since", "24h"]).await;
    assert_eq!(stats["success"], 0);

    let wrong = served.run(&["endpoint", "create", "acme", "ftp://example.com"]).await;
    assert_eq!((wrong.code, wrong.stdout.as_str()), (1, ""));
    assert!(wrong.stderr.contains("url: "), "the field is named: {wrong:?}");
    served.run(&["endpoint", "delete", "acme", "main", "--yes"]).await.ok();
    assert_eq!(served.run(&["endpoint", "get", "acme", "main"]).await.code, 4);
}

#[tokio::test]
async fn a_secret_is_taken_from_a_file_shown_and_rotated() {
    let served = Served::start().await;
    let file = served.dir.path().join("secret");
    std::fs::write(&file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let file = file.to_str().unwrap();
    served.endpoint("main", "http://127.0.0.1:9/", &["--secret-file", file]).await;
    let secret = served.run(&["endpoint", "secret", "acme", "main"]).await.ok().stdout;
    assert_eq!(secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let rotated = served.one(&["endpoint", "rotate", "acme", "main", "--grace", "0s"]).await;
    assert!(rotated["key"].as_str().unwrap().starts_with("whsec_"));
    assert_ne!(served.one(&["endpoint", "secret", "acme", "main"]).await["key"], secret.trim());
    assert_eq!(served.one(&["endpoint", "secret", "acme", "main"]).await, rotated);
}

#[tokio::test]
async fn a_rotation_says_where_the_old_secret_ends_at_once() {
    let served = Served::start().await;
    let file = served.dir.path().join("secret");
    std::fs::write(&file, "whsec_first-secret-of-the-platform").unwrap();
    let file = file.to_str().unwrap();
    let url = "http://127.0.0.1:9/";
    served.endpoint("one", url, &["--profile", "levrage", "--secret-file", file]).await;
    served.endpoint("many", url, &[]).await;
    served.endpoint("none", url, &["--profile", "subverse", "--event-type", "call.completed"]).await;

    let secret = async |uid: &str| served.run(&["endpoint", "secret", "acme", uid]).await;
    let before = secret("one").await.ok().stdout;
    std::fs::write(file, "whsec_second-secret-of-the-platform").unwrap();
    let rotate =
        async |uid: &str, more: &[&str]| served.run(&[&["endpoint", "rotate", "acme", uid], more].concat()).await;
    let refused = rotate("one", &["--grace", "1h", "--secret-file", file]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("one signature"), "{refused:?}");
    assert_eq!(secret("one").await.ok().stdout, before, "nothing was rotated");

    let told = "this profile sends one signature: the new secret signs from now on, the old one no longer does";
    for more in [&["--secret-file", file][..], &["--secret-file", file, "--grace", "0s"]] {
        let rotated = rotate("one", more).await.ok();
        assert!(rotated.stderr.contains(told), "{rotated:?}");
        assert!(rotated.stdout.starts_with("whsec_second"), "{rotated:?}");
    }
    let rotated = rotate("many", &["--grace", "1h"]).await.ok();
    assert!(!rotated.stderr.contains("signature"), "{rotated:?}");

    // Where there is no secret, both fail alike; what does not exist stays another case.
    assert_eq!((secret("none").await.code, rotate("none", &[]).await.code), (1, 1));
    assert_eq!((secret("nope").await.code, rotate("nope", &[]).await.code), (4, 4));
}

#[tokio::test]
async fn a_schedule_and_a_reset_that_cannot_be_are_said_to_be_wrong() {
    let served = Served::start().await;
    served.endpoint("main", "http://127.0.0.1:9/", &["--retry", r#"{"delaysMs":[1000,5000],"jitter":0}"#]).await;
    let wrong = served.run(&["endpoint", "update", "acme", "main", "--retry", "[1,2]"]).await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(wrong.stderr.contains(r#"must be an object such as {"delaysMs":"#), "{wrong:?}");
    let wrong = served.run(&["endpoint", "update", "acme", "main", "--reset", "url"]).await;
    assert_eq!(wrong.code, 2, "{wrong:?}");

    // All that are listed can be.
    let help = served.run(&["endpoint", "update", "--help"]).await.ok().stdout;
    let lists = help.split("[possible values: ").skip(1).map(|list| list.split(']').next().unwrap());
    let listed = lists.into_iter().find(|list| list.contains("timeoutMs")).unwrap();
    let members: Vec<&str> = listed.split(',').map(str::trim).collect();
    assert!(members.contains(&"timeoutMs") && members.contains(&"retry"), "{help}");
    let mut reset = vec!["endpoint", "update", "acme", "main"];
    reset.extend(members.iter().flat_map(|member| ["--reset", member]));
    let id = served.one(&["endpoint", "get", "acme", "main"]).await["id"].as_str().unwrap().to_owned();
    served.run(&reset).await.ok();
    let endpoint = served.one(&["endpoint", "get", "acme", &id]).await;
    assert_eq!((&endpoint["uid"], &endpoint["retry"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    let help = served.run(&["endpoint", "create", "--help"]).await.ok().stdout;
    assert!(help.contains("svix]") && help.contains(r#"{"delaysMs":[1000,5000],"jitter":0}"#), "{help}");
}

#[tokio::test]
async fn a_test_that_failed_is_said_to_be_tried_again() {
    let served = Served::start().await;
    served.endpoint("main", "http://127.0.0.1:9/", &["--retry", r#"{"delaysMs":[600000]}"#]).await;
    let failed = served.run(&["endpoint", "test", "acme", "main"]).await;
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stderr.contains("tried again by the endpoint's schedule"), "{failed:?}");
    let cancel = failed.stderr.split("ringback ").nth(1).unwrap().split(" ends").next().unwrap();
    let canceled = served.run(&cancel.split(' ').collect::<Vec<_>>()).await.ok();
    assert!(canceled.stdout.contains("1 delivery is canceled"), "{canceled:?}");
}

#[tokio::test]
async fn a_test_of_an_endpoint_shows_what_came_of_it() {
    let served = Served::start().await;
    let receiver = Receiver::answering(204).await;
    served.endpoint("good", &receiver.url, &["--profile", "levrage"]).await;
    let good = served.run(&["endpoint", "test", "acme", "good"]).await.ok();
    assert!(good.stdout.starts_with("delivered: 204"), "{good:?}");
    assert!(good.stderr.contains("CALL_ENDED"), "the vendor's own example: {good:?}");
    assert_eq!(receiver.count(), 1);

    let angry =
        Receiver::start(|_, _| super::support::Behaviour::AnswerWith(401, Vec::new(), b"no \x1b[31m".to_vec())).await;
    served.endpoint("bad", &angry.url, &["--event-type", "invoice.paid"]).await;
    let bad = served.run(&["endpoint", "test", "acme", "bad"]).await;
    assert_eq!(bad.code, 1, "{bad:?}");
    assert!(bad.stdout.starts_with("not delivered: 401"), "{bad:?}");
    assert!(bad.stdout.contains("hint: ") && bad.stdout.contains(r"no \u{1b}[31m"), "{bad:?}");
    assert!(bad.stderr.contains("invoice.paid"), "what it wants: {bad:?}");
    assert_eq!(served.run(&["endpoint", "test", "acme", "good", "--event-type", "no.such"]).await.code, 1);
}

#[tokio::test]
async fn event_types_are_made_archived_and_deleted() {
    let served = Served::start().await;
    let made = served.one(&["event-type", "create", "call.ended", "--description", "A call has ended"]).await;
    assert_eq!(made["description"], "A call has ended");
    assert_eq!(served.one(&["event-type", "update", "call.ended", "--deprecated"]).await["deprecated"], true);
    served.run(&["event-type", "archive", "call.ended"]).await.ok();
    assert!(served.all(&["event-type", "list"]).await.is_empty());
    assert_eq!(served.all(&["event-type", "list", "--archived"]).await.len(), 1);
    served.run(&["event-type", "delete", "call.ended"]).await.ok();
    assert_eq!(served.run(&["event-type", "get", "call.ended"]).await.code, 4);
}

#[tokio::test]
async fn a_name_never_leads_to_another_resource() {
    let served = Served::start().await;
    for name in ["", ".", ".."] {
        let ended = served.run(&["app", "delete", name, "--yes"]).await;
        assert_ne!(ended.code, 0, "{name:?}: {ended:?}");
    }
    assert_eq!(served.run(&["app", "get", "x/../acme"]).await.code, 4);
    assert_eq!(served.all(&["app", "list"]).await.len(), 1);
}
