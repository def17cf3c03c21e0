//! The receiver's process: it verifies what arrives, writes it to a ledger before it answers, and now and then fails.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::support::{Behaviour, Received, Receiver};
use super::{SECRET, payload};

/// How long a request that is left hanging waits: longer than the sender does.
pub const HANG: Duration = Duration::from_millis(600);

/// One arrival, as a line of the ledger.
#[derive(Debug)]
pub struct Arrival {
    pub path: String,
    pub message: String,
    pub number: u64,
    /// Whether the body is the number's payload, to the byte.
    pub bytes_fit: bool,
    /// Whether the official verifier accepts it.
    pub verified: bool,
    /// Whether it was answered with a success.
    pub accepted: bool,
}

impl Arrival {
    pub fn read(line: &str) -> Arrival {
        let words: Vec<&str> = line.split(' ').collect();
        Arrival {
            path: words[0].to_owned(),
            message: words[1].to_owned(),
            number: words[2].parse().unwrap(),
            bytes_fit: words[3] == "true",
            verified: words[4] == "true",
            accepted: words[5] == "true",
        }
    }

    fn line(&self) -> String {
        let Arrival { path, message, number, bytes_fit, verified, accepted } = self;
        format!("{path} {message} {number} {bytes_fit} {verified} {accepted}\n")
    }
}

/// Receives until its standard input ends, which it does when the test's process does.
pub async fn receive(ledger: &Path) {
    let ledger = Mutex::new(OpenOptions::new().create(true).append(true).open(ledger).unwrap());
    let verifier = svix::webhooks::Webhook::new(SECRET).unwrap();
    let receiver = Receiver::start(move |request, before| {
        let behaviour = whim(before);
        let accepted = matches!(behaviour, Behaviour::Answer(204));
        let line = arrival(request, &verifier, accepted).line();
        ledger.lock().unwrap().write_all(line.as_bytes()).unwrap();
        behaviour
    })
    .await;
    let mut out = std::io::stdout();
    writeln!(out, "\nlistening {}", receiver.url.trim_end_matches("/hook")).unwrap();
    out.flush().unwrap();
    let until_the_end = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    tokio::task::spawn_blocking(until_the_end).await.unwrap().unwrap();
}

fn arrival(request: &Received, verifier: &svix::webhooks::Webhook, accepted: bool) -> Arrival {
    let mut headers = http::HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let digits = request.body.strip_prefix(br#"{"n":"#).unwrap_or_default();
    let digits: Vec<u8> = digits.iter().copied().take_while(u8::is_ascii_digit).collect();
    let number = String::from_utf8(digits).unwrap().parse().unwrap_or(u64::MAX);
    Arrival {
        path: request.path.clone(),
        message: request.header("svix-id").unwrap_or("-").to_owned(),
        number,
        bytes_fit: request.body == payload(number).as_bytes(),
        verified: verifier.verify(&request.body, &headers).is_ok(),
        accepted,
    }
}

/// One request in ten fails: by a status, by a closed connection, or by no answer in time.
fn whim(before: usize) -> Behaviour {
    match Sha256::digest(before.to_be_bytes())[0] {
        0..16 => Behaviour::Answer(500),
        16..24 => Behaviour::Close,
        24..26 => Behaviour::Hang(HANG),
        _ => Behaviour::Answer(204),
    }
}
