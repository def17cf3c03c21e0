//! The promise that all others rest on: what `send` answered `Ok` to is delivered, whenever the process is killed.
//!
//! ```text
//!   this test ── starts, kills (SIGKILL), starts again ──▶ sender ── deliveries ──▶ receiver ──▶ ledger
//!      ▲ └──── reads the acknowledged numbers from ───────────┘                                    │
//!      └────────────────────────────── compares ◀──────────────────────────────────────────────────┘
//! ```
//!
//! The sender and the receiver are processes of their own: this test's program, started anew.
//! `RINGBACK_CRASH_ROUNDS` says how often the sender is killed (20 times by default), `RINGBACK_CRASH_SEED` when.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of processes: it spawns, waits and fails by a panic"
)]

#[path = "crash/receiver.rs"]
mod receiver;
#[path = "crash/sender.rs"]
mod sender;
mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use receiver::Arrival;
use ringback::store::{AttemptQuery, MessageQuery};
use ringback::{ApplicationId, Attempt, Outcome, Ringback, StateKind};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

const NAME: &str = "what_was_acknowledged_is_delivered_however_often_the_sender_is_killed";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The most attempts of a sender that have begun and are not on disk: what a kill can cost a second POST of.
const UNSETTLED: usize = 64;
/// How long the last run may take to deliver what the killed ones have left.
const DRAIN: Duration = Duration::from_secs(60);

/// The payload of a number: from 20 bytes to 4 KB, and now and then one that the store keeps in several rows.
fn payload(number: u64) -> String {
    let hash = Sha256::digest(number.to_be_bytes());
    let length = match hash[0] {
        0..4 => 40_000,
        _ => usize::from(hash[1]) * 16,
    };
    let letters: String = hash.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    let text: String = letters.chars().cycle().take(length).collect();
    format!(r#"{{"n":{number},"text":"{text}"}}"#)
}

#[test]
fn what_was_acknowledged_is_delivered_however_often_the_sender_is_killed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let path = |name: &str| PathBuf::from(std::env::var(name).unwrap());
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    match std::env::var("RINGBACK_CRASH_ROLE").as_deref() {
        Ok("receiver") => runtime.block_on(receiver::receive(&path("RINGBACK_CRASH_LEDGER"))),
        Ok("sender") => runtime.block_on(sender::send(
            &path("RINGBACK_CRASH_FOLDER"),
            &std::env::var("RINGBACK_CRASH_RECEIVER").unwrap(),
            number("RINGBACK_CRASH_START", 0),
            number("RINGBACK_CRASH_COMPACTING", 0) == 1,
        )),
        _ => {
            let draw = (number("RINGBACK_CRASH_ROUNDS", 20), number("RINGBACK_CRASH_SEED", 1));
            runtime.block_on(kill_often(draw.0, draw.1, false));
        }
    }
}

/// A sender that compacts its store all the time, one compaction after the other: a kill hits any moment of one.
#[test]
fn what_was_acknowledged_is_delivered_although_the_sender_is_killed_while_it_compacts() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let draw = (number("RINGBACK_CRASH_ROUNDS", 20), number("RINGBACK_CRASH_SEED", 2));
    runtime.block_on(kill_often(draw.0, draw.1, true));
}

/// One of the two at a time: each has a rate to keep.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn kill_often(rounds: u64, seed: u64, compacting: bool) {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let (folder, ledger) = (dir.path().join("sender"), dir.path().join("ledger"));
    let mut receiver = Process::start(&[("ROLE", "receiver"), ("LEDGER", ledger.to_str().unwrap())]);
    let url = receiver.wait_for("listening").expect("the receiver starts");

    let mut acknowledged: BTreeMap<u64, String> = BTreeMap::new();
    let (mut compacted, mut cut_off) = (0, 0);
    for round in 0..rounds {
        let start = first_gap(&acknowledged);
        let said = kill_once(&folder, &url, start, (seed, round), compacting);
        for line in said.iter().filter_map(|line| line.strip_prefix("sent ")) {
            let (number, id) = line.split_once(' ').unwrap();
            let before = acknowledged.insert(number.parse().unwrap(), id.to_owned());
            assert!(before.is_none_or(|before| before == id), "{number} was stored twice");
        }
        compacted += said.iter().filter(|line| *line == "compacted").count();
        cut_off += usize::from(databases(&folder) > 1);
    }
    if compacting {
        println!("{compacted} compactions, {cut_off} of them cut off by the kill");
        assert!(compacted > 0 && cut_off as u64 * 4 > rounds, "the kills hit compactions");
    }
    let (log, states) = drain(&folder).await;
    receiver.end();
    assert_eq!(databases(&folder), 1, "what the kills left behind is gone");

    let text = std::fs::read_to_string(&ledger).unwrap();
    let arrivals: Vec<Arrival> = text.lines().map(Arrival::read).collect();
    // A compaction takes its part of the disk.
    compare(rounds, if compacting { 5 } else { 20 }, &acknowledged, &arrivals, &log);
    assert!(states.keys().all(|state| *state == StateKind::Delivered), "{states:?}");
}

/// The first number that was not acknowledged: a sender goes on from there.
fn first_gap(acknowledged: &BTreeMap<u64, String>) -> u64 {
    (0..).find(|number| !acknowledged.contains_key(number)).unwrap_or_default()
}

/// Starts a sender, kills it at a random moment, and gives what it had said by then. Every other one is
/// killed at a random moment after its start, the others after they have begun to send.
fn kill_once(folder: &Path, receiver: &str, start: u64, draw: (u64, u64), compacting: bool) -> Vec<String> {
    let start = start.to_string();
    let settings = [
        ("ROLE", "sender"),
        ("FOLDER", folder.to_str().unwrap()),
        ("RECEIVER", receiver),
        ("START", &start),
        ("COMPACTING", if compacting { "1" } else { "0" }),
    ];
    let mut sender = Process::start(&settings);
    let hash = Sha256::digest([draw.0.to_be_bytes(), draw.1.to_be_bytes()].concat());
    let pause = Duration::from_millis(50 + u64::from(u16::from_be_bytes([hash[0], hash[1]])) % 351);
    if draw.1.is_multiple_of(2) {
        sender.wait_for("ready").expect("the sender starts after every kill");
    }
    std::thread::sleep(pause);
    sender.kill();
    sender.rest()
}

/// How many databases stand in a folder.
fn databases(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("sled")).count()
}

/// Delivers what is left, in this process; gives the log and how many deliveries stand how.
async fn drain(folder: &Path) -> (Vec<Attempt>, HashMap<StateKind, usize>) {
    let ringback = Ringback::open(sender::config(folder)).await.unwrap();
    let application = sender::application_of(&ringback);
    let running = support::run(&ringback);
    let began = Instant::now();
    while ringback.health().await.unwrap().open > 0 {
        assert!(began.elapsed() < DRAIN, "{:?}", ringback.health().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let health = ringback.health().await.unwrap();
    assert_eq!((health.open_bytes, health.damaged, health.failed), (0, 0, None));
    assert!(health.warnings.is_empty(), "{:?}", health.warnings);
    let log = log(&ringback, application).await;
    let mut states = HashMap::new();
    let mut query = MessageQuery { limit: 250, ..MessageQuery::default() };
    loop {
        let page = ringback.messages(application, query.clone()).await.unwrap();
        for message in page.items {
            let deliveries = ringback.deliveries(application, message.id).await.unwrap();
            assert_eq!(deliveries.len(), sender::endpoints());
            deliveries.iter().for_each(|delivery| *states.entry(delivery.state.kind()).or_insert(0) += 1);
        }
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    ringback.shutdown().await.unwrap();
    running.await.unwrap();
    (log, states)
}

async fn log(ringback: &Ringback, application: ApplicationId) -> Vec<Attempt> {
    let mut log = Vec::new();
    let mut query = AttemptQuery { limit: 250, ..AttemptQuery::default() };
    loop {
        let page = ringback.attempts(application, query.clone()).await.unwrap();
        log.extend(page.items);
        query.after = page.next;
        if page.next.is_none() {
            return log;
        }
    }
}

fn compare(rounds: u64, least: u64, acknowledged: &BTreeMap<u64, String>, arrivals: &[Arrival], log: &[Attempt]) {
    for arrival in arrivals {
        assert!(arrival.bytes_fit && arrival.verified, "{arrival:?}");
    }
    let mut accepted: HashMap<(String, String), usize> = HashMap::new();
    for arrival in arrivals.iter().filter(|arrival| arrival.accepted) {
        *accepted.entry((arrival.message.clone(), arrival.path.clone())).or_insert(0) += 1;
    }
    let numbers: HashMap<&str, u64> = arrivals.iter().map(|a| (a.message.as_str(), a.number)).collect();
    let lost = acknowledged.iter().filter(|(number, id)| numbers.get(id.as_str()) != Some(number)).count();
    let messages: HashSet<&str> = accepted.keys().map(|(message, _)| message.as_str()).collect();
    let numbers: HashSet<u64> = numbers.into_values().collect();

    // Of each key none arrives before the one that was sent before it has: neither for the first time nor again.
    let mut accepted_of: HashMap<(&str, u64), u64> = HashMap::new();
    let mut ordered = 0;
    for arrival in arrivals {
        let Some(key) = sender::ordering_key(arrival.number) else { continue };
        let last = accepted_of.get(&(arrival.path.as_str(), key)).copied();
        let step = 8 * 8;
        let expected = last.map_or(key, |last| last + step);
        assert!(arrival.number == expected || Some(arrival.number) == last, "{arrival:?} after {last:?}");
        if arrival.accepted {
            accepted_of.insert((arrival.path.as_str(), key), arrival.number);
            ordered += 1;
        }
    }
    assert!(ordered > 100, "{ordered} messages had a key");

    // What the log calls delivered, the receiver has accepted; each delivery once in the log.
    let delivered: Vec<_> = log.iter().filter(|attempt| attempt.result == StateKind::Delivered).collect();
    let place = |attempt: &Attempt| {
        let path = attempt.url.rfind('/').map_or("", |slash| &attempt.url[slash..]);
        (attempt.delivery.message.to_string(), path.to_owned())
    };
    let unseen = delivered.iter().filter(|attempt| !accepted.contains_key(&place(attempt))).count();
    let distinct: HashSet<_> = delivered.iter().map(|attempt| attempt.delivery).collect();
    let answered = log.iter().filter(|attempt| matches!(attempt.outcome, Outcome::Answered { .. })).count();

    let twice: usize = accepted.values().map(|times| times - 1).sum();
    let unlogged = arrivals.len().saturating_sub(log.len());
    println!(
        "{rounds} kills: {} acknowledged, {lost} lost, {} delivered, {twice} accepted twice, {} requests, \
         {unlogged} of them not in the log",
        acknowledged.len(),
        delivered.len(),
        arrivals.len(),
    );
    assert_eq!(lost, 0);
    assert_eq!(unseen, 0);
    assert_eq!(distinct.len(), delivered.len(), "a delivery is delivered once");
    assert_eq!(accepted.len(), delivered.len());
    assert_eq!(messages.len() * sender::endpoints(), delivered.len(), "a message goes to every endpoint");
    assert_eq!(messages.len(), numbers.len(), "a number is stored once");
    assert!(answered <= arrivals.len());
    // Only what was under way or not yet settled at a kill is repeated.
    assert!(twice <= rounds as usize * UNSETTLED && unlogged <= rounds as usize * UNSETTLED);
    let rate = acknowledged.len() as u64 / rounds.max(1);
    assert!(rate > least, "the senders got something done between the kills: {rate} messages each");
}

/// This test's program, started anew in another role.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Process {
    fn start(settings: &[(&str, &str)]) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.envs(settings.iter().map(|(name, value)| (format!("RINGBACK_CRASH_{name}"), value)));
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (says, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // A line without its end was cut off by the kill.
            while out.read_line(&mut line).is_ok() && line.ends_with('\n') {
                if says.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Process { child, lines, said: Vec::new() }
    }

    /// Waits for a line that starts with this word, and gives the rest of it.
    fn wait_for(&mut self, word: &str) -> Option<String> {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(20)) {
            if let Some(rest) = line.strip_prefix(word) {
                return Some(rest.trim().to_owned());
            }
            self.said.push(line);
        }
        None
    }

    /// What it has said by its end.
    fn rest(mut self) -> Vec<String> {
        self.said.extend(self.lines.iter());
        std::mem::take(&mut self.said)
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its standard input, at which it ends.
    fn end(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
