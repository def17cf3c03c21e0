//! What the sled store does in a second: durable sends, and whole cycles of send, claim and settlement.
//!
//! Beside each figure stands that of a bare append-only file in the same run (see `support/log.rs`).
//!
//!     cargo bench --bench store [-- --quick] [--json] [--seconds N] [--threads N] [--producers N]

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark is a program of its own")]

#[path = "support/log.rs"]
mod log;
#[path = "support/subject.rs"]
mod subject;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringback::store::{Settlement, Store};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc, watch};

use log::Log;
use subject::{CLAIMED, Subject, lane};
use support::{Meter, Options, Row, Used, event, fine, folder, percentiles, show, text, whole};

const PRODUCERS: [usize; 4] = [1, 16, 64, 256];
/// The bytes of an attempt's record in the bare file: about what the store writes for one.
const RECORD: usize = 640;

fn main() {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.number("--threads", 2))
        .enable_all()
        .build()
        .unwrap();
    let mut sends: Vec<Row> = Vec::new();
    let mut cycles: Vec<Row> = Vec::new();
    let one = options.number("--producers", 0);
    for producers in PRODUCERS.into_iter().filter(|producers| one == 0 || *producers == one) {
        let [bare, store] = [true, false].map(|bare| measure(&options, &runtime, producers, bare, false));
        sends.extend([row("file", producers, &bare, &bare), row("store", producers, &store, &bare)]);
        let [bare, store] = [true, false].map(|bare| measure(&options, &runtime, producers, bare, true));
        cycles.extend([row("file", producers, &bare, &bare), row("store", producers, &store, &bare)]);
    }
    show(&options, "Durable sends of 1.2 KB", &sends);
    show(&options, "Whole cycles of 1.2 KB: send, claim, settle as delivered", &cycles);
}

struct Figures {
    count: usize,
    used: Used,
    /// Of a send, in milliseconds: median and 99th percentile.
    latency: (f64, f64),
}

fn row(what: &str, producers: usize, figures: &Figures, bare: &Figures) -> Row {
    let rate = figures.used.per_second(figures.count);
    vec![
        ("to", text(what)),
        ("producers", whole(producers as f64)),
        ("per second", whole(rate)),
        ("ratio", fine(rate / bare.used.per_second(bare.count))),
        ("send p50 ms", fine(figures.latency.0)),
        ("send p99 ms", fine(figures.latency.1)),
        ("CPU us", whole(figures.used.cpu_us(figures.count))),
    ]
}

fn measure(options: &Options, runtime: &Runtime, producers: usize, bare: bool, cycles: bool) -> Figures {
    let dir = folder();
    let time = options.time();
    runtime.block_on(async {
        if bare {
            let target = Arc::new(Bare::open(dir.path()));
            let figures = drive(&target, producers, time, cycles).await;
            Arc::into_inner(target).unwrap().log.close();
            figures
        } else {
            let target = Arc::new(Subject::open(dir.path()).await);
            let figures = drive(&target, producers, time, cycles).await;
            target.store.close().await.unwrap();
            figures
        }
    })
}

/// What is measured: something to send to, and something that ends what was sent.
trait Target: Send + Sync + 'static {
    fn send(&self, number: usize) -> impl Future<Output = ()> + Send;
    /// Ends whatever can be ended, until `total` says how many there are to be and all of them have ended.
    fn end_all(&self, total: watch::Receiver<Option<usize>>) -> impl Future<Output = ()> + Send;
}

async fn drive<T: Target>(target: &Arc<T>, producers: usize, time: Duration, cycles: bool) -> Figures {
    let (say_total, total) = watch::channel(None);
    let meter = Meter::start();
    let ender = cycles.then(|| {
        let target = Arc::clone(target);
        tokio::spawn(async move { target.end_all(total).await })
    });
    let until = Instant::now() + time;
    let tasks: Vec<_> = (0..producers)
        .map(|producer| {
            let target = Arc::clone(target);
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut began = Instant::now();
                while began < until {
                    target.send(producer + times.len() * producers).await;
                    let ended = Instant::now();
                    times.push(ended - began);
                    began = ended;
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    if let Some(ender) = ender {
        say_total.send(Some(times.len())).unwrap();
        ender.await.unwrap();
    }
    Figures { count: times.len(), used: meter.stop(), latency: percentiles(&mut times) }
}

/// The bare file.
struct Bare {
    log: Log,
    sent: mpsc::UnboundedSender<()>,
    to_end: Mutex<mpsc::UnboundedReceiver<()>>,
}

impl Bare {
    fn open(dir: &Path) -> Bare {
        let (sent, to_end) = mpsc::unbounded_channel();
        Bare { log: Log::open(&dir.join("log")), sent, to_end: Mutex::new(to_end) }
    }
}

impl Target for Bare {
    async fn send(&self, number: usize) {
        self.log.append(event(number).into_bytes()).await;
        self.sent.send(()).unwrap();
    }

    async fn end_all(&self, mut total: watch::Receiver<Option<usize>>) {
        let mut to_end = self.to_end.lock().await;
        let (mut ended, mut batch) = (0, Vec::new());
        while total.borrow().is_none_or(|total| ended < total) {
            tokio::select! {
                taken = to_end.recv_many(&mut batch, CLAIMED) => {
                    self.log.append(vec![b'a'; RECORD * taken]).await;
                    ended += taken;
                    batch.clear();
                }
                changed = total.changed() => changed.unwrap(),
            }
        }
    }
}

impl Target for Subject {
    async fn send(&self, number: usize) {
        self.store.enqueue(vec![self.message(lane(0), number)]).await.unwrap();
    }

    /// As the dispatcher does it: claims go on while one batch of settlements is under way.
    async fn end_all(&self, mut total: watch::Receiver<Option<usize>>) {
        let bell = self.store.bell();
        let (mut ended, mut unsettled) = (0, Vec::new());
        while total.borrow().is_none_or(|total| ended < total) {
            self.claim_into(&mut unsettled).await;
            if unsettled.is_empty() {
                tokio::select! {
                    () = bell.notified() => {}
                    changed = total.changed() => changed.unwrap(),
                }
                continue;
            }
            let batch = Arc::new(std::mem::take(&mut unsettled));
            ended += batch.len();
            let settling = self.store.settle(batch);
            tokio::pin!(settling);
            loop {
                tokio::select! {
                    settled = &mut settling => break drop(settled.unwrap()),
                    () = bell.notified() => self.claim_into(&mut unsettled).await,
                }
            }
        }
    }
}

impl Subject {
    async fn claim_into(&self, unsettled: &mut Vec<Settlement>) {
        let leases = self.claim(CLAIMED - unsettled.len()).await;
        unsettled.extend(leases.into_iter().map(|lease| self.settlement(lease)));
    }
}
