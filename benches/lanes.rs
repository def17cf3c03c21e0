//! What endpoints that hang cost the others: 1,000 endpoints over real sockets, of which none, a tenth and a half hang.
//!
//! The receiver is a process of its own with one port for each endpoint. It answers at once, or takes the request and
//! answers nothing. Every endpoint gets messages at the same even pace, through one sender with the default settings and a
//! store on disk. The good ones' deliveries a second and the 99th of 100 times from the send to the arrival are shown as
//! ratios to the run in which none hangs. It ends with 1 where an aim is missed.
//!
//!     cargo bench --bench lanes [-- --quick] [--json] [--seconds N] [--rate N] [--endpoints N] [--applications N]

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark is a program of its own")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringback::{ApplicationId, Config, NewApplication, NewEndpoint, NewMessage, Ringback};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use support::{Meter, Options, Row, again, fine, folder, percentiles, show, whole};

/// Of how many of a hundred endpoints hang.
const HANG: [usize; 3] = [0, 10, 50];
const LEAST_RATE: f64 = 0.95;
const MOST_SLOWDOWN: f64 = 2.0;

fn main() -> ExitCode {
    let options = Options::read();
    if options.word("--receive").is_some() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(receive(options.number("--count", 1), options.number("--hang", 0)));
        return ExitCode::SUCCESS;
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let runs: Vec<Run> = HANG.into_iter().map(|hang| runtime.block_on(run(&options, hang))).collect();
    let rows: Vec<Row> = runs.iter().map(|run| run.row(&runs[0])).collect();
    show(&options, "Good endpoints, beside others that hang", &rows);
    let missed = runs.iter().any(|run| {
        let (rate, slowdown) = run.ratios(&runs[0]);
        rate < LEAST_RATE || slowdown > MOST_SLOWDOWN
    });
    if missed && !options.quick { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What one run showed.
struct Run {
    hang: usize,
    /// Messages to good endpoints: sent, and arrived while messages were sent.
    sent: usize,
    arrived: usize,
    p50: f64,
    p99: f64,
    seconds: f64,
    cpu: f64,
}

impl Run {
    /// Of its rate and its p99 to another's. The rate is that part of the messages that has arrived in time.
    fn ratios(&self, other: &Run) -> (f64, f64) {
        let part = |run: &Run| run.arrived as f64 / run.sent.max(1) as f64;
        (part(self) / part(other).max(f64::MIN_POSITIVE), self.p99 / other.p99.max(0.01))
    }

    fn row(&self, other: &Run) -> Row {
        let (rate, slowdown) = self.ratios(other);
        vec![
            ("hang %", whole(self.hang as f64)),
            ("sent to good", whole(self.sent as f64)),
            ("arrived", whole(self.arrived as f64)),
            ("arrived/s", whole(self.arrived as f64 / self.seconds)),
            ("rate ratio", fine(rate)),
            ("p50 ms", fine(self.p50)),
            ("p99 ms", fine(self.p99)),
            ("p99 ratio", fine(slowdown)),
            ("CPU s", fine(self.cpu)),
        ]
    }
}

/// Whether the endpoint of this number hangs, where so many of a hundred do.
fn hangs(number: usize, hang: usize) -> bool {
    number * hang / 100 != (number + 1) * hang / 100
}

async fn run(options: &Options, hang: usize) -> Run {
    let count = options.number("--endpoints", if options.quick { 40 } else { 1_000 });
    let applications = options.number("--applications", 10).min(count);
    let rate = options.number("--rate", if options.quick { 200 } else { 1_000 });
    let time = if options.quick { Duration::from_millis(400) } else { options.time() * 4 };
    let mut receivers = Receivers::start(count, hang);
    let dir = folder();
    let mut config = Config::new(dir.path());
    config.egress.allowed_networks.push("127.0.0.0/8".parse().unwrap());
    config.shutdown_grace = Duration::from_millis(100);
    let ringback = Ringback::open(config).await.unwrap();
    let apps = endpoints(&ringback, &receivers.urls, applications, options.quick).await;
    let running = tokio::spawn({
        let ringback = ringback.clone();
        async move { ringback.run().await.unwrap() }
    });
    // Each endpoint shows how it is before the clock runs.
    for number in 0..count {
        send(&ringback, &apps, number, count).await;
    }
    tokio::time::sleep(if options.quick { Duration::from_millis(300) } else { Duration::from_secs(3) }).await;
    receivers.report();

    let meter = Meter::start();
    let began = tokio::time::Instant::now();
    let messages = (time.as_secs_f64() * rate as f64) as usize;
    let mut sent = 0;
    for n in 0..messages {
        tokio::time::sleep_until(began + Duration::from_secs_f64(n as f64 / rate as f64)).await;
        send(&ringback, &apps, n, count).await;
        sent += usize::from(!hangs(n % count, hang));
    }
    // What is on its way just now counts as having arrived in time.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (arrived, p50, p99) = receivers.report();
    let used = meter.stop();
    ringback.shutdown().await.unwrap();
    running.await.unwrap();
    Run { hang, sent, arrived, p50, p99, seconds: used.wall.as_secs_f64(), cpu: used.cpu.as_secs_f64() }
}

/// An application for each part of the endpoints, and which channel of it leads to which.
async fn endpoints(ringback: &Ringback, urls: &[String], applications: usize, quick: bool) -> Vec<ApplicationId> {
    let mut apps = Vec::new();
    for number in 0..applications {
        apps.push(ringback.create_application(NewApplication::named(format!("Bench {number}"))).await.unwrap().id);
    }
    let limit = Duration::from_secs(if quick { 1 } else { 15 });
    for (number, url) in urls.iter().enumerate() {
        let endpoint = NewEndpoint::at(url).channel(format!("c{number}")).timeout(limit);
        ringback.create_endpoint(apps[number % applications], endpoint).await.unwrap();
    }
    apps
}

async fn send(ringback: &Ringback, apps: &[ApplicationId], n: usize, count: usize) {
    let number = n % count;
    let payload = format!("{{\"sent\":{},\"text\":\"{}x\"}}", nanoseconds(), "-".repeat(1_000));
    let message = NewMessage::bytes("bench.event", payload).channel(format!("c{number}"));
    ringback.send(apps[number % apps.len()], message).await.unwrap();
}

/// The machine's monotonic clock, which all processes share.
fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The process of the receivers.
struct Receivers {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    urls: Vec<String>,
}

impl Receivers {
    fn start(count: usize, hang: usize) -> Receivers {
        let args = ["--receive", "all", "--count", &count.to_string(), "--hang", &hang.to_string()];
        let mut process = again(&args).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = || {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            line.trim().to_owned()
        };
        let urls = (0..count).map(|_| line()).collect();
        Receivers { input: process.stdin.take().unwrap(), process, output, urls }
    }

    /// How many requests came to good ones since the last report, and within which time of their sending half and 99 of
    /// 100 did.
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

async fn receive(count: usize, hang: usize) {
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    for number in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}/hook", listener.local_addr().unwrap());
        let times = Arc::clone(&times);
        let hangs = hangs(number, hang);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, Arc::clone(&times), hangs));
            }
        });
    }
    let reports = tokio::task::spawn_blocking(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            let mut times = std::mem::take(&mut *times.lock().unwrap());
            let (p50, p99) = percentiles(&mut times);
            println!("{}", serde_json::json!([times.len(), p50, p99]));
        }
    });
    reports.await.unwrap();
}

/// Answers every request of a connection and notes how long ago it was sent, or reads on and answers nothing.
async fn answer(mut connection: TcpStream, times: Arc<Mutex<Vec<Duration>>>, hangs: bool) {
    const SENT: &[u8] = b"\r\n\r\n{\"sent\":";
    connection.set_nodelay(true).unwrap();
    let mut buffer = Vec::with_capacity(4096);
    while connection.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        // The payload's last bytes stand nowhere else.
        if hangs || !buffer.ends_with(b"x\"}") {
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
