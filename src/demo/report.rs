//! What is claimed at the end, and whether it holds: each claim is checked against what the sender's process
//! reported, what the queue says and what the receivers got.

use ringback::StateKind;
use serde::Serialize;

use super::customer::Customer;
use super::record::{Record, Story};
use super::scenario::{Form, PerVendor, SCALE, Vendor};

/// What the stage saw itself.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// How the sender was when it was killed.
    pub(super) kills: Vec<Kill>,
    /// How often it was started again on the same folder.
    pub(super) restarts: usize,
    /// The dead letters that there were before the replay, by their events' keys, in order.
    pub(super) dead_letters: Vec<String>,
    /// Whether the sender ended with exit code 0 when it was told to.
    pub(super) ended_in_order: bool,
    /// What kept the demo from its end.
    pub(super) failure: Option<String>,
    /// How long it took, in seconds.
    pub(super) seconds: f64,
    /// Where the queue is, if it is kept.
    pub(super) folder: Option<String>,
}

/// How the sender was when it was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kill {
    /// Whether the signal ended it, and not it itself.
    pub(super) by_signal: bool,
    /// The events that it had acknowledged, by their keys.
    #[serde(skip)]
    pub(super) acknowledged: Vec<String>,
    /// How many of them it had delivered.
    pub(super) delivered: usize,
    /// How many of them it had not.
    pub(super) open: usize,
    /// How many requests a receiver had, without having answered.
    pub(super) in_flight: usize,
}

/// The end of the demo.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Whether all of it holds.
    pub(super) ok: bool,
    /// How long it took.
    pub(super) seconds: f64,
    /// What the vendors' delays and time limits were divided by.
    pub(super) scale: u32,
    /// Where the queue is, if it is kept.
    pub(super) folder: Option<String>,
    /// How the sender was when it was killed.
    pub(super) kills: Vec<Kill>,
    /// How often it was started again.
    pub(super) restarts: usize,
    /// The events that became dead letters and were replayed.
    pub(super) replayed: Vec<String>,
    /// The table.
    pub(super) events: Vec<Row>,
    /// The claims.
    pub(super) checks: Vec<Check>,
}

/// A line of the table.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// The event type.
    pub(super) event: &'static str,
    /// Whether it was one of the crate's typed events.
    pub(super) typed: bool,
    /// The vendor.
    pub(super) vendor: &'static str,
    /// The message.
    pub(super) message: Option<String>,
    /// What each attempt showed.
    pub(super) attempts: Vec<String>,
    /// How its delivery stands.
    pub(super) result: Option<StateKind>,
    /// Whether it took a replay.
    pub(super) replayed: bool,
    /// How many requests the receiver got. One that was cut off by the kill is not among the attempts.
    pub(super) requests: usize,
    /// Whether the receiver found every one of them right.
    pub(super) verified: bool,
    /// What was not right.
    pub(super) problems: Vec<String>,
}

/// A claim.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    /// What is claimed.
    pub(super) claim: String,
    /// Whether it holds.
    pub(super) holds: bool,
    /// What speaks against it.
    pub(super) against: Vec<String>,
}

impl Check {
    /// A claim that holds if nothing speaks against it.
    fn that(claim: impl Into<String>, against: Vec<String>) -> Self {
        Check { claim: claim.into(), holds: against.is_empty(), against }
    }
}

/// Judges it all.
pub(super) fn judge(facts: Facts, record: &Record, customers: &PerVendor<Customer>) -> Report {
    let rows: Vec<Row> = record.stories.iter().map(|story| row(story, customers)).collect();
    let checks = vec![
        ran_to_its_end(&facts),
        killed_once(&facts),
        acknowledged_is_delivered(&facts, record),
        sent_once(record),
        in_order(record),
        vendor_trouble(record),
        dead_letters_replayed(&facts, record),
        all_verified(&rows, customers),
    ];
    let replayed = record.stories.iter().filter(|story| story.replayed()).map(|story| story.event.key()).collect();
    let Facts { kills, restarts, seconds, folder, .. } = facts;
    let ok = checks.iter().all(|check| check.holds);
    Report { ok, seconds, scale: SCALE, folder, kills, restarts, replayed, events: rows, checks }
}

fn row(story: &Story, customers: &PerVendor<Customer>) -> Row {
    let got = customers.of(story.event.vendor).got(&story.event);
    Row {
        event: story.event.event_type,
        typed: story.event.form == Form::Typed,
        vendor: story.event.vendor.name(),
        message: story.message.clone(),
        attempts: story.attempts.values().map(|attempt| attempt.outcome.clone()).collect(),
        result: story.stands.map(|(state, _)| state).or(story.result()),
        replayed: story.replayed(),
        requests: got.requests,
        verified: got.verified(),
        problems: [story.problems.clone(), got.objections()].concat(),
    }
}

/// The keys of the stories for which something does not hold, with what they did instead.
fn except<'s>(stories: impl IntoIterator<Item = &'s Story>, holds: impl Fn(&Story) -> bool) -> Vec<String> {
    let exceptions = stories.into_iter().filter(|story| !holds(story));
    exceptions
        .map(|story| {
            let outcomes: Vec<&str> = story.attempts.values().map(|attempt| attempt.outcome.as_str()).collect();
            format!("{}: {}", story.event.key(), outcomes.join(", "))
        })
        .collect()
}

fn killed_once(facts: &Facts) -> Check {
    let against = match facts.kills.as_slice() {
        [kill] if !kill.by_signal => vec!["it ended by itself".to_owned()],
        [kill] if kill.open == 0 || kill.delivered == 0 => vec![format!("{} were open", kill.open)],
        [_] if facts.restarts != 1 => vec![format!("it was started again {} times", facts.restarts)],
        [kill] => {
            let Kill { delivered, open, in_flight, .. } = kill;
            let claim = format!(
                "the sender was killed with {open} acknowledged events undelivered ({in_flight} requests on their \
                 way) and {delivered} delivered, and went on from the same folder"
            );
            return Check::that(claim, Vec::new());
        }
        kills => vec![format!("it was killed {} times", kills.len())],
    };
    Check::that("the sender was killed once in the middle, and went on from the same folder", against)
}

fn acknowledged_is_delivered(facts: &Facts, record: &Record) -> Check {
    let promised = |story: &&Story| facts.kills.iter().any(|kill| kill.acknowledged.contains(&story.event.key()));
    let promised: Vec<&Story> = record.stories.iter().filter(promised).collect();
    let claim = format!("each of the {} events acknowledged before the kill was delivered", promised.len());
    let delivered = |story: &Story| story.stands.is_some_and(|(state, _)| state == StateKind::Delivered);
    let mut against = except(promised.iter().copied(), delivered);
    if promised.is_empty() {
        against.push("none was acknowledged".to_owned());
    }
    Check::that(claim, against)
}

fn sent_once(record: &Record) -> Check {
    let against = except(&record.stories, |story| story.repeated && story.problems.is_empty());
    Check::that("sending every event again after the restart made no second message", against)
}

fn in_order(record: &Record) -> Check {
    let against = except(&record.stories, |story| {
        let on_record = story.stands.is_some_and(|(_, attempts)| attempts == story.attempts.len());
        story.in_order() && on_record
    });
    Check::that("the log has every attempt across the kill, and none after a success", against)
}

fn vendor_trouble(record: &Record) -> Check {
    let against = except(&record.stories, |story| match story.event.vendor {
        Vendor::Levers => story.count("500") == 2,
        Vendor::Levrage => story.count("timeout") > 0,
        Vendor::Subverse => story.count("refused") > 0,
    });
    Check::that("each customer had its trouble: 500 twice, a time limit passed, nobody there", against)
}

fn dead_letters_replayed(facts: &Facts, record: &Record) -> Check {
    let (letters, others): (Vec<&Story>, Vec<&Story>) = record.stories.iter().partition(|story| story.gave_up());
    let mut against = except(others, |story| !story.replayed() && !story.event.becomes_a_dead_letter());
    against.extend(except(letters.iter().copied(), |story| {
        // The full schedule: the first attempt and a retry for each delay.
        let tries = story.event.vendor.delays().len() + 1;
        story.first_round().count() == tries && story.replayed() && story.delivered()
    }));
    let mut keys: Vec<String> = letters.iter().map(|story| story.event.key()).collect();
    keys.sort();
    if facts.dead_letters != keys {
        against.push(format!("the queue's dead letters were {:?}", facts.dead_letters));
    }
    Check::that(
        format!("a dead letter after the whole schedule, then replayed and delivered: {}", keys.join(", ")),
        against,
    )
}

fn all_verified(rows: &[Row], customers: &PerVendor<Customer>) -> Check {
    let strays = customers.iter().flat_map(|customer| &customer.strays);
    let mut against: Vec<String> = strays.map(|(why, times)| format!("{times} times: {why}")).collect();
    for row in rows.iter().filter(|row| !row.verified) {
        against.push(format!("{} {}: {}", row.vendor, row.event, row.problems.join("; ")));
    }
    let requests: usize = customers.iter().map(Customer::requests).sum();
    let claim = format!(
        "the receivers verified all {requests} requests by the vendors' pages: signature, body, data, and the same id \
         and bytes on every attempt"
    );
    Check::that(claim, against)
}

fn ran_to_its_end(facts: &Facts) -> Check {
    let mut against: Vec<String> = facts.failure.iter().cloned().collect();
    if against.is_empty() && !facts.ended_in_order {
        against.push("the sender did not end with exit code 0".to_owned());
    }
    Check::that("the demo ran to its end, and the sender closed its queue in order", against)
}
