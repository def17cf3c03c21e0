//! What a million waiting deliveries cost: opening, memory, disk, and what a send and a settlement take beside them.
//!
//! Each line is a store that was filled by one process and is opened by another.
//!
//!     cargo bench --bench million [-- --quick] [--json] [--messages N] [--lanes N]

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark is a program of its own")]

#[path = "support/subject.rs"]
mod subject;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringback::store::Store;

use subject::{Subject, lane};
use support::{Cell, Meter, Options, Row, again, folder, resident_mib, show, whole};

/// The yardstick: a store that fits in memory whole.
const FEW: usize = 10_000;
/// How many messages a request of the filling process has.
const BATCH: usize = 100;
const PRODUCERS: usize = 64;
/// How many of the waiting deliveries are claimed, read and settled, and how many are settled at a time.
const SETTLED: usize = 5_000;
const SETTLED_AT_ONCE: usize = 250;

fn main() {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let lanes = options.number("--lanes", 100);
    match (options.word("--fill"), options.word("--open")) {
        (Some(dir), _) => runtime.block_on(fill(Path::new(dir), options.number("--messages", 0), lanes)),
        (None, Some(dir)) => runtime.block_on(open(Path::new(dir), options.time(), lanes)),
        (None, None) => {
            let many = if options.quick { 2_000 } else { options.number("--messages", 1_000_000) };
            let few = FEW.min(many / 2);
            let rows: Vec<Row> = [few, many].map(|messages| measure(&options, messages, lanes)).into();
            show(&options, &format!("Deliveries of 1.2 KB that wait in {lanes} lanes"), &rows);
        }
    }
}

fn measure(options: &Options, messages: usize, lanes: usize) -> Row {
    let dir = folder();
    let path = dir.path().to_str().unwrap();
    let (messages, lanes) = (messages.to_string(), lanes.to_string());
    let filled = again(&["--fill", path, "--messages", &messages, "--lanes", &lanes]).status().unwrap();
    assert!(filled.success());
    let mut args = vec!["--open", path, "--lanes", &lanes];
    args.extend((!options.quick).then_some("--bench"));
    let opened = again(&args).output().unwrap();
    assert!(opened.status.success());
    let figures = String::from_utf8(opened.stdout).unwrap();
    let names = [
        "disk MiB",
        "open ms",
        "first claim ms",
        "RSS at start MiB",
        "RSS open MiB",
        "send/s",
        "settle/s",
        "RSS after MiB",
    ];
    let cells = figures.split_whitespace().map(|figure| whole(figure.parse::<f64>().unwrap()));
    let waiting: (&'static str, Cell) = ("waiting", whole(messages.parse::<f64>().unwrap()));
    let row: Row = std::iter::once(waiting).chain(names.into_iter().zip(cells)).collect();
    assert_eq!(row.len(), names.len() + 1);
    row
}

async fn fill(dir: &Path, messages: usize, lanes: usize) {
    let subject = Arc::new(Subject::open(dir).await);
    let each = messages.div_ceil(BATCH).div_ceil(PRODUCERS);
    let tasks: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let subject = Arc::clone(&subject);
            tokio::spawn(async move {
                for batch in 0..each {
                    let first = (producer * each + batch) * BATCH;
                    let numbers = first..messages.min(first + BATCH);
                    let batch = numbers.map(|number| subject.message(lane(number % lanes), number)).collect();
                    subject.store.enqueue(batch).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(subject.store.health().await.unwrap().open, messages as u64);
    subject.store.close().await.unwrap();
}

async fn open(dir: &Path, time: Duration, lanes: usize) {
    let at_start = resident_mib();
    let began = Instant::now();
    let subject = Arc::new(Subject::open(dir).await);
    let open_ms = began.elapsed().as_secs_f64() * 1e3;
    let mut leases = subject.claim(1).await;
    while leases.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        leases = subject.claim(1).await;
    }
    let claim_ms = began.elapsed().as_secs_f64() * 1e3 - open_ms;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let opened = resident_mib();
    let disk = subject.store.health().await.unwrap().disk_bytes as f64 / (1024.0 * 1024.0);
    let settle = settle(&subject).await;
    let send = send(&subject, time, lanes).await;
    let after = resident_mib();
    subject.store.close().await.unwrap();
    println!("{disk} {open_ms} {claim_ms} {at_start} {opened} {send} {settle} {after}");
}

/// Claims from what waits, reads each message, and settles: how many a second.
async fn settle(subject: &Subject) -> f64 {
    let open = subject.store.health().await.unwrap().open as usize;
    let wanted = SETTLED.min(open / 2);
    let meter = Meter::start();
    let mut settled = 0;
    while settled < wanted {
        let leases = subject.claim(SETTLED_AT_ONCE).await;
        if leases.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        for lease in &leases {
            let delivery = lease.delivery;
            let read = subject.store.message(delivery.lane.application, delivery.message).await.unwrap();
            assert!(read.is_some());
        }
        settled += leases.len();
        let batch = leases.into_iter().map(|lease| subject.settlement(lease)).collect();
        subject.store.settle(Arc::new(batch)).await.unwrap();
    }
    meter.stop().per_second(settled)
}

/// Durable sends a second, beside what waits.
async fn send(subject: &Arc<Subject>, time: Duration, lanes: usize) -> f64 {
    let meter = Meter::start();
    let until = Instant::now() + time;
    let tasks: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let subject = Arc::clone(subject);
            tokio::spawn(async move {
                let mut sent = 0;
                while Instant::now() < until {
                    subject.store.enqueue(vec![subject.message(lane(producer % lanes), sent)]).await.unwrap();
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let mut sent = 0;
    for task in tasks {
        sent += task.await.unwrap();
    }
    meter.stop().per_second(sent)
}
