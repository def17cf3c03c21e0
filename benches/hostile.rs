//! What hostile receivers cost everybody else: 1,000 endpoints of all kinds beside 100 good ones.
//!
//! The receivers are processes of their own. The good ones get an even number of messages a second, once the store's
//! caches are full: first beside as many tame ones, then beside the hostile ones, then beside the tame ones again, through
//! one sender. Tame ones answer at once, and get the same messages as the hostile ones, those of 1 MiB among them. It ends
//! with 1 where an aim is missed.
//!
//!     cargo bench --bench hostile [-- --quick] [--json] [--seconds N] [--rate N] [--hostile-rate N] [--hostile N] [--good N]

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark is a program of its own")]

#[path = "../tests/support/hostile/mod.rs"]
mod hostile;
mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::pin::Pin;
use std::process::{Child, ChildStdin, ChildStdout, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringback::clock::SystemClock;
use ringback::http::HttpTransport;
use ringback::store::Store;
use ringback::store::sled::{SledConfig, SledStore};
use ringback::transport::{Reply, Request, Transport};
use ringback::{ApplicationId, Config, NewApplication, NewEndpoint, NewMessage, Outcome, RetryPolicy, Ringback};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use hostile::{Authority, Hostile};
use support::{Meter, Options, Row, again, fine, folder, percentiles, resident_mib, show, text, whole};

/// How many applications share the endpoints.
const APPLICATIONS: usize = 10;
/// How often the heart beats.
const BEAT: Duration = Duration::from_millis(10);

/// What must hold.
const MOST_OVERSHOOT_MS: f64 = 250.0;
const MOST_LATENESS_MS: f64 = 50.0;
const MOST_GROWTH_MIB: f64 = 64.0;
const MOST_SLOWDOWN: f64 = 2.0;

fn main() -> ExitCode {
    let options = Options::read();
    if let Some(which) = options.word("--receive") {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        match which {
            "hostile" => runtime.block_on(receive_hostile(&options)),
            _ => runtime.block_on(receive_good(options.number("--count", 1))),
        }
        return ExitCode::SUCCESS;
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let missed = runtime.block_on(async {
        let mut missed = beside(&options).await;
        missed.extend(one_flood(&options).await);
        missed
    });
    for aim in &missed {
        eprintln!("missed: {aim}");
    }
    if missed.is_empty() || options.quick { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The good ones beside tame ones, beside the hostile ones, and beside tame ones again.
async fn beside(options: &Options) -> Vec<String> {
    let hostile = Receivers::start("hostile", options.number("--hostile", if options.quick { 64 } else { 1000 }));
    let mut good = Receivers::start("good", options.number("--good", if options.quick { 5 } else { 100 }));
    let tame = Receivers::start("good", options.number("--good", if options.quick { 5 } else { 100 }));
    let sender = Sender::open(options, &hostile, &good, &tame).await;
    let before = descriptors();
    if !options.quick {
        sender.fill().await;
        good.report();
        sender.measured.take();
    }
    let mut phases = Vec::new();
    for with in [false, true, false] {
        phases.push(phase(options, &sender, &mut good, with).await);
    }
    // Connections that may be kept are kept until their receivers are gone.
    drop(hostile);
    let after = settled_descriptors(before).await;
    sender.close().await;

    let alone = phases[0].p99.max(0.01).midpoint(phases[2].p99);
    let bad = &phases[1];
    let rows: Vec<Row> = phases.iter().map(Phase::row).collect();
    show(options, "Good receivers beside tame ones, hostile ones, and tame ones again", &rows);
    let slowdown = bad.p99 / alone;
    let summary = vec![
        ("p99 ratio", fine(slowdown)),
        ("overshoot ms", fine(bad.overshoot)),
        ("beat late ms", fine(bad.late.task)),
        ("RSS growth MiB", fine(bad.growth)),
        ("descriptors before", whole(before as f64)),
        ("most", whole(bad.descriptors as f64)),
        ("after", whole(after as f64)),
        ("other outcomes", whole(bad.wrong as f64)),
    ];
    show(options, "What the hostile ones cost", &[summary]);
    let aims = [
        (slowdown <= MOST_SLOWDOWN, "the good ones' p99 at most doubled"),
        (bad.overshoot <= MOST_OVERSHOOT_MS, "no attempt ends 250 ms after its time limit"),
        (bad.late.task <= MOST_LATENESS_MS, "no beat of 10 ms is late by 50 ms"),
        (bad.growth <= MOST_GROWTH_MIB, "64 MiB of memory more"),
        (after <= before, "all descriptors back"),
        (bad.wrong == 0, "every attempt has its outcome"),
        (phases.iter().all(|phase| phase.arrived == phase.sent), "every good message arrives once"),
    ];
    aims.iter().filter(|(met, _)| !met).map(|(_, aim)| (*aim).to_owned()).collect()
}

/// One receiver of each flooding kind by itself, again and again.
async fn one_flood(options: &Options) -> Vec<String> {
    let floods = [Hostile::ContinueFlood, Hostile::EarlyHintsFlood, Hostile::EarlyHintsFloodOverTls];
    let (mut rows, mut missed) = (Vec::new(), Vec::new());
    for flood in floods {
        let hostile = Receivers::start("hostile", Hostile::ALL.len());
        let good = Receivers::start("good", 1);
        let sender = Sender::open(options, &hostile, &good, &good).await;
        let endpoint = Hostile::ALL.iter().position(|kind| *kind == flood).unwrap();
        let heart = Heart::start();
        let meter = Meter::start();
        let until = Instant::now() + options.time().min(Duration::from_secs(5));
        while Instant::now() < until {
            sender.send_hostile(endpoint).await;
            sender.drained().await;
        }
        let used = meter.stop();
        let late = heart.stop().await;
        let seen = sender.measured.take();
        missed.extend((late.task > MOST_LATENESS_MS).then(|| format!("{flood:?}: no beat is late by 50 ms")));
        missed.extend((seen.wrong > 0).then(|| format!("{flood:?}: the outcome")));
        rows.push(vec![
            ("one", text(format!("{flood:?}"))),
            ("attempts", whole(seen.hostile as f64)),
            ("beat late ms", fine(late.task)),
            ("a thread's", fine(late.thread)),
            ("CPU ms an attempt", fine(used.cpu_us(seen.hostile) / 1000.0)),
        ]);
        sender.close().await;
    }
    show(options, "One receiver that floods with interim heads", &rows);
    missed
}

/// What one phase showed.
struct Phase {
    with: bool,
    sent: usize,
    arrived: usize,
    p50: f64,
    p99: f64,
    hostile: usize,
    wrong: usize,
    overshoot: f64,
    late: Late,
    growth: f64,
    descriptors: usize,
    cpu: f64,
}

impl Phase {
    fn row(&self) -> Row {
        vec![
            ("beside", text(if self.with { "hostile" } else { "tame" })),
            ("hostile attempts", whole(self.hostile as f64)),
            ("good messages", whole(self.sent as f64)),
            ("p50 ms", fine(self.p50)),
            ("p99 ms", fine(self.p99)),
            ("beat late ms", fine(self.late.task)),
            ("a thread's", fine(self.late.thread)),
            ("overshoot ms", fine(self.overshoot)),
            ("CPU s", fine(self.cpu)),
        ]
    }
}

async fn phase(options: &Options, sender: &Sender, good: &mut Receivers, with: bool) -> Phase {
    let resident = resident_mib();
    let most = Most::watch();
    let heart = Heart::start();
    let meter = Meter::start();
    let time = if options.quick { Duration::from_millis(300) } else { options.time() * 4 };
    let good_rate = options.number("--rate", 200);
    let beside_rate = options.number("--hostile-rate", 200);
    let (sent, _) = tokio::join!(
        pace(time, good_rate, |n| sender.send_good(n)),
        pace(time, beside_rate, |n| sender.send_beside(n, with)),
    );
    sender.drained().await;
    let cpu = meter.stop().cpu.as_secs_f64();
    let late = heart.stop().await;
    let (highest, descriptors) = most.stop().await;
    let seen = sender.measured.take();
    let (arrived, p50, p99) = good.report();
    let growth = highest - resident;
    let Seen { hostile, wrong, overshoot } = seen;
    Phase { with, sent, arrived, p50, p99, hostile, wrong, overshoot, late, growth, descriptors, cpu }
}

/// Does something so often a second, evenly; gives how often in all.
async fn pace<F: Future<Output = ()>>(time: Duration, rate: usize, act: impl Fn(usize) -> F) -> usize {
    let began = tokio::time::Instant::now();
    let count = (time.as_secs_f64() * rate as f64) as usize;
    for n in 0..count {
        tokio::time::sleep_until(began + Duration::from_secs_f64(n as f64 / rate as f64)).await;
        act(n).await;
    }
    count
}

/// A sender with endpoints at all receivers, every attempt of which is measured.
struct Sender {
    ringback: Ringback,
    applications: Vec<ApplicationId>,
    measured: Arc<Measured>,
    /// Of the hostile receivers, the good ones and the tame ones.
    counts: (usize, usize, usize),
    run: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Sender {
    async fn open(options: &Options, hostile: &Receivers, good: &Receivers, tame: &Receivers) -> Sender {
        let limit = Duration::from_millis(if options.quick { 300 } else { 3000 });
        let dir = folder();
        let mut config = Config::new(dir.path());
        config.egress.allowed_networks.push("127.0.0.0/8".parse().unwrap());
        let store = SledStore::open(SledConfig::new(dir.path().join("store"))).await.unwrap();
        let clock = Arc::new(SystemClock::starting_after(store.latest_time()));
        let http = HttpTransport::new(config.egress.clone(), hostile.roots.as_bytes(), clock.clone()).unwrap();
        let kinds = hostile.urls.iter().cloned().zip(Hostile::ALL.into_iter().cycle()).collect();
        let measured = Arc::new(Measured { http, kinds, seen: Mutex::default() });
        let transport: Arc<dyn Transport> = Arc::new(Shared(Arc::clone(&measured)));
        let ringback = Ringback::from_parts(config, Arc::new(store), transport, clock).await.unwrap();
        let mut applications = Vec::new();
        for n in 0..APPLICATIONS {
            let new = NewApplication::named(format!("Application {n}"));
            applications.push(ringback.create_application(new).await.unwrap().id);
        }
        let never_again = || RetryPolicy::delays([]);
        for (word, urls) in [("hostile", &hostile.urls), ("good", &good.urls), ("tame", &tame.urls)] {
            for (n, url) in urls.iter().enumerate() {
                let endpoint = NewEndpoint::at(url).event_type(format!("{word}.n{n}")).timeout(limit);
                let application = applications[n % APPLICATIONS];
                ringback.create_endpoint(application, endpoint.retry(never_again())).await.unwrap();
            }
        }
        let run = tokio::spawn({
            let ringback = ringback.clone();
            async move { ringback.run().await.unwrap() }
        });
        let counts = (hostile.urls.len(), good.urls.len(), tame.urls.len());
        Sender { ringback, applications, measured, counts, run, _folder: dir }
    }

    async fn send(&self, word: &str, n: usize, payload: String) {
        let application = self.applications[n % APPLICATIONS];
        self.ringback.send(application, NewMessage::bytes(format!("{word}.n{n}"), payload)).await.unwrap();
    }

    async fn send_hostile(&self, n: usize) {
        self.send_beside(n, true).await;
    }

    /// The same message, to a hostile receiver or to a tame one.
    async fn send_beside(&self, n: usize, hostile: bool) {
        let n = n % self.counts.0;
        let size = if Hostile::ALL[n % Hostile::ALL.len()].wants_much() { (1 << 20) - 100 } else { 1150 };
        match hostile {
            true => self.send_sized("hostile", n, size).await,
            false => self.send_sized("tame", n % self.counts.2, size).await,
        }
    }

    async fn send_good(&self, n: usize) {
        self.send_sized("good", n % self.counts.1, 1150).await;
    }

    async fn send_sized(&self, word: &str, n: usize, size: usize) {
        let payload = format!("{{\"sent\":{},\"text\":\"{}\"}}", nanoseconds(), "x".repeat(size));
        self.send(word, n, payload).await;
    }

    /// Fills the store's caches with more than they hold (64 MiB of pages, 32 MiB of fresh messages), as they are in a
    /// sender that has run for a while: what comes on top is the hostile ones' doing.
    async fn fill(&self) {
        for n in 0..5_000 {
            self.send_sized("good", n % self.counts.1, 32 << 10).await;
        }
        self.drained().await;
    }

    async fn drained(&self) {
        while self.ringback.health().await.unwrap().open > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn close(self) {
        self.ringback.shutdown().await.unwrap();
        self.run.await.unwrap();
    }
}

/// The transport, and what its attempts showed.
struct Measured {
    http: HttpTransport,
    kinds: HashMap<String, Hostile>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    hostile: usize,
    wrong: usize,
    /// In milliseconds.
    overshoot: f64,
}

struct Shared(Arc<Measured>);

impl Measured {
    fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    async fn post(&self, request: Request) -> Reply {
        let (began, limit, kind) = (Instant::now(), request.timeout, self.kinds.get(request.url.as_str()).copied());
        let reply = self.http.post(request).await;
        let over = began.elapsed().saturating_sub(limit).as_secs_f64() * 1e3;
        let expected = kind.map_or(Outcome::answered(204), |kind| kind.outcome(limit));
        let mut seen = self.seen.lock().unwrap();
        seen.overshoot = seen.overshoot.max(over);
        seen.hostile += usize::from(kind.is_some());
        if reply.outcome != expected {
            seen.wrong += 1;
            eprintln!("{kind:?}: {:?}", reply.outcome);
        }
        reply
    }
}

impl Transport for Shared {
    fn post(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(self.0.post(request))
    }
}

/// A task that wants to run every 10 ms, on the runtime that delivers; and a thread that wants the same, to show how
/// late the machine alone makes it.
struct Heart {
    task: tokio::task::JoinHandle<f64>,
    thread: std::thread::JoinHandle<f64>,
    beating: Arc<AtomicBool>,
}

/// How late the latest beat was, in milliseconds.
struct Late {
    task: f64,
    thread: f64,
}

impl Heart {
    fn start() -> Heart {
        let beating = Arc::new(AtomicBool::new(true));
        let (task_beats, thread_beats) = (Arc::clone(&beating), Arc::clone(&beating));
        let task = tokio::spawn(async move {
            let (mut most, mut due) = (Duration::ZERO, Instant::now() + BEAT);
            while task_beats.load(Ordering::Relaxed) {
                tokio::time::sleep_until(due.into()).await;
                let late = due.elapsed();
                most = most.max(late);
                due += BEAT.max(late);
            }
            most.as_secs_f64() * 1e3
        });
        let thread = std::thread::spawn(move || {
            let (mut most, mut due) = (Duration::ZERO, Instant::now() + BEAT);
            while thread_beats.load(Ordering::Relaxed) {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let late = due.elapsed();
                most = most.max(late);
                due += BEAT.max(late);
            }
            most.as_secs_f64() * 1e3
        });
        Heart { task, thread, beating }
    }

    async fn stop(self) -> Late {
        self.beating.store(false, Ordering::Relaxed);
        let thread = tokio::task::spawn_blocking(|| self.thread.join().unwrap());
        Late { task: self.task.await.unwrap(), thread: thread.await.unwrap() }
    }
}

/// The most memory and descriptors that were in use, looked at from a thread of its own.
struct Most {
    thread: std::thread::JoinHandle<(f64, usize)>,
    stop: Arc<AtomicBool>,
}

impl Most {
    fn watch() -> Most {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut most = (0.0_f64, 0);
            while !stopped.load(Ordering::Relaxed) {
                most = (most.0.max(resident_mib()), most.1.max(descriptors()));
                std::thread::sleep(Duration::from_millis(100));
            }
            most
        });
        Most { thread, stop }
    }

    async fn stop(self) -> (f64, usize) {
        self.stop.store(true, Ordering::Relaxed);
        tokio::task::spawn_blocking(|| self.thread.join().unwrap()).await.unwrap()
    }
}

/// How many descriptors this process has open.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// How many there are when no more of them are closed.
async fn settled_descriptors(before: usize) -> usize {
    for _ in 0..400 {
        if descriptors() <= before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    descriptors()
}

/// The machine's monotonic clock, which all processes share.
fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A process of receivers.
struct Receivers {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    urls: Vec<String>,
    roots: String,
}

impl Receivers {
    fn start(which: &str, count: usize) -> Receivers {
        let mut process = again(&["--receive", which, "--count", &count.to_string()]).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = || {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            line.trim().to_owned()
        };
        let urls = (0..count).map(|_| line()).collect();
        let roots: String = serde_json::from_str(&line()).unwrap();
        Receivers { input: process.stdin.take().unwrap(), process, output, urls, roots }
    }

    /// How many requests came since the last report, and within which time from their sending half and 99 of 100 did.
    fn report(&mut self) -> (usize, f64, f64) {
        writeln!(self.input, "report").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn receive_hostile(options: &Options) {
    let authority = Authority::new();
    let mut receivers = Vec::new();
    for kind in Hostile::ALL.into_iter().cycle().take(options.number("--count", 1)) {
        let receiver = kind.start(&authority).await;
        println!("{}", receiver.url);
        receivers.push(receiver);
    }
    println!("{}", serde_json::json!(authority.roots));
    std::future::pending::<()>().await;
}

async fn receive_good(count: usize) {
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    for _ in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}/hook", listener.local_addr().unwrap());
        let times = Arc::clone(&times);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, Arc::clone(&times)));
            }
        });
    }
    println!("\"\"");
    let reports = tokio::task::spawn_blocking(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            let mut times = std::mem::take(&mut *times.lock().unwrap());
            let (p50, p99) = percentiles(&mut times);
            println!("{}", serde_json::json!([times.len(), p50, p99]));
        }
    });
    reports.await.unwrap();
}

/// Answers every request of a connection, and notes how long ago it was sent.
async fn answer(mut connection: TcpStream, times: Arc<Mutex<Vec<Duration>>>) {
    const SENT: &[u8] = b"\r\n\r\n{\"sent\":";
    connection.set_nodelay(true).unwrap();
    let mut buffer = Vec::with_capacity(4096);
    while connection.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        // The payload's last bytes stand nowhere else.
        if !buffer.ends_with(b"x\"}") {
            continue;
        }
        let arrived = nanoseconds();
        let start = buffer.windows(SENT.len()).position(|part| part == SENT).unwrap() + SENT.len();
        let digits = buffer[start..].iter().take_while(|byte| byte.is_ascii_digit());
        let sent = digits.fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
        times.lock().unwrap().push(Duration::from_nanos(arrived - sent));
        buffer.clear();
        if connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
            return;
        }
    }
}
