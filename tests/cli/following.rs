//! `ringback log --follow`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::serving::Served;
use super::support::{Behaviour, Receiver};

async fn next(running: &mut super::program::Running) -> Value {
    serde_json::from_str(&running.line().await).unwrap()
}

#[tokio::test]
async fn attempts_are_shown_once_as_they_come_and_late_ones_are_not_missed() {
    let served = Served::start().await;
    let receiver = Receiver::start(|request, _| match request.path.as_str() {
        "/slow" => Behaviour::Hang(Duration::from_millis(2_500)),
        _ => Behaviour::Answer(200),
    })
    .await;
    let slow = receiver.url.replace("/hook", "/slow");
    served.endpoint("quick", &receiver.url, &["--event-type", "quick.event"]).await;
    served.endpoint("slow", &slow, &["--event-type", "slow.event"]).await;
    let before = served.send("quick.event").await;
    served.stands(&before, "delivered").await;

    let mut log = served.start_running(&["log", "acme", "--follow", "--json"]);
    assert_eq!(next(&mut log).await["msgId"], before.as_str(), "what was there is shown first");

    // The slow attempt begins before the quick ones, and is on record after them.
    let late = served.send("slow.event").await;
    let mut expected = BTreeSet::new();
    for _ in 0..3 {
        expected.insert(served.send("quick.event").await);
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(next(&mut log).await["msgId"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen[..3].iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(seen[3], late);

    // Nothing was shown twice: the next line is of the next event.
    let last = served.send("quick.event").await;
    assert_eq!(next(&mut log).await["msgId"], last.as_str());
}

#[tokio::test]
async fn a_filter_holds_for_what_comes() {
    let served = Served::start().await;
    let receiver = Receiver::answering(200).await;
    served.endpoint("main", &receiver.url, &[]).await;
    let mut log = served.start_running(&["log", "acme", "--follow", "--json", "--type", "wanted.event"]);
    served.send("other.event").await;
    let wanted = served.send("wanted.event").await;
    assert_eq!(next(&mut log).await["msgId"], wanted.as_str());
}

#[tokio::test]
async fn endpoints_are_shown_by_their_uids_also_those_made_meanwhile() {
    let served = Served::start().await;
    let receiver = Receiver::answering(200).await;
    served.endpoint("early", &receiver.url, &["--event-type", "early.event"]).await;
    let mut log = served.start_running(&["log", "acme", "--follow"]);
    let early = served.send("early.event").await;
    let line = log.line().await;
    assert!(line.contains(&format!("{early}  early.event  early  #1")), "{line}");
    served.endpoint("late", &receiver.url, &["--event-type", "late.event"]).await;
    let late = served.send("late.event").await;
    let line = log.line().await;
    assert!(line.contains(&format!("{late}  late.event  late  #1")), "{line}");
}
