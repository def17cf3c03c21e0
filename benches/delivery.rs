//! Events accepted and delivered in a second: `send`, the store, the dispatcher, HTTP over loopback and back.
//!
//! The receiver is a process of its own, so the processor time is the sender's alone. Producers wait while more
//! than a bounded number of deliveries is open, so that the figures are what goes on for ever.
//!
//!     cargo bench --bench delivery [-- --quick] [--json] [--seconds N] [--threads N] [--producers N]

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark is a program of its own")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringback::{ApplicationId, Config, NewApplication, NewEndpoint, NewMessage, Ringback};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use support::{Meter, Options, Row, again, event, fine, folder, percentiles, resident_mib, show, whole};

const ENDPOINTS: [usize; 2] = [1, 10];
/// Producers wait while more deliveries than this are open.
const OPEN: u64 = 8192;

fn main() {
    let options = Options::read();
    if options.word("--receive").is_some() {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(receive());
        return;
    }
    let threads = options.number("--threads", 2);
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    let producers = options.number("--producers", 64);
    let rows: Vec<Row> = ENDPOINTS.map(|endpoints| measure(&options, &runtime, producers, endpoints)).into();
    show(&options, &format!("Events of 1.2 KB from {producers} producers, accepted and delivered"), &rows);
}

fn measure(options: &Options, runtime: &Runtime, producers: usize, endpoints: usize) -> Row {
    let receiver = Receiver::start();
    let dir = folder();
    runtime.block_on(async {
        let mut config = Config::new(dir.path());
        config.egress.allowed_networks.push("127.0.0.0/8".parse().unwrap());
        let ringback = Ringback::open(config).await.unwrap();
        let application = ringback.create_application(NewApplication::named("Bench")).await.unwrap().id;
        for _ in 0..endpoints {
            ringback.create_endpoint(application, NewEndpoint::at(&receiver.url)).await.unwrap();
        }
        let running = tokio::spawn({
            let ringback = ringback.clone();
            async move { ringback.run().await.unwrap() }
        });
        let meter = Meter::start();
        let mut times = send(&ringback, application, producers, options.time()).await;
        while ringback.health().await.unwrap().open > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let used = meter.stop();
        let resident = resident_mib();
        ringback.shutdown().await.unwrap();
        running.await.unwrap();
        let (events, deliveries) = (times.len(), times.len() * endpoints);
        let latency = percentiles(&mut times);
        vec![
            ("endpoints", whole(endpoints as f64)),
            ("events/s", whole(used.per_second(events))),
            ("deliveries/s", whole(used.per_second(deliveries))),
            ("CPU us a delivery", whole(used.cpu_us(deliveries))),
            ("send p50 ms", fine(latency.0)),
            ("send p99 ms", fine(latency.1)),
            ("RSS MiB", whole(resident)),
        ]
    })
}

/// Sends for a while; gives how long each send took.
async fn send(ringback: &Ringback, application: ApplicationId, producers: usize, time: Duration) -> Vec<Duration> {
    let until = Instant::now() + time;
    let full = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..producers)
        .map(|producer| {
            let (ringback, full) = (ringback.clone(), Arc::clone(&full));
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < until {
                    if full.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                    let began = Instant::now();
                    let event = event(times.len() * producers + producer);
                    ringback.send(application, NewMessage::bytes("bench.event", event)).await.unwrap();
                    times.push(began.elapsed());
                }
                times
            })
        })
        .collect();
    while Instant::now() < until {
        full.store(ringback.health().await.unwrap().open > OPEN, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times
}

/// The receiver's process.
struct Receiver {
    process: Child,
    url: String,
}

impl Receiver {
    fn start() -> Receiver {
        let mut process = again(&["--receive", "here"]).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Receiver { process, url: url.trim().to_owned() }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn receive() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}/hook", listener.local_addr().unwrap());
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(connection));
    }
}

/// Answers 204 to every request of a connection, and keeps it.
async fn answer(mut connection: TcpStream) {
    const LENGTH: &[u8] = b"content-length: ";
    connection.set_nodelay(true).unwrap();
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            match connection.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => continue,
                _ => return,
            }
        };
        let head = buffer[..end].to_ascii_lowercase();
        let at = head.windows(LENGTH.len()).position(|part| part == LENGTH).unwrap() + LENGTH.len();
        let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
        while buffer.len() < end + 4 + length {
            if connection.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        buffer.drain(..end + 4 + length);
        if connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
            return;
        }
    }
}
