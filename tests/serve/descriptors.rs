//! The limit of open files.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::sidecar::Place;

/// A server that was started under a limit, and is killed at the latest when the test ends.
struct Limited {
    _place: Place,
    child: Child,
    address: String,
}

impl Limited {
    /// `limit` is what the shell is told before it becomes the server; this returns once the server answers.
    fn start(limit: &str) -> Limited {
        let place = Place::new();
        let data = place.data();
        let program = env!("CARGO_BIN_EXE_ringback");
        let serve = format!("{limit} && exec {program} serve --listen 127.0.0.1:0 --data {}", data.display());
        let child = Command::new("sh").args(["-c", &serve]).stderr(Stdio::null()).spawn().unwrap();
        let mut limited = Limited { _place: place, child, address: String::new() };
        let announced = (0..2_000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            let said: serde_json::Value = serde_json::from_slice(&fs::read(data.join("sidecar.json")).ok()?).ok()?;
            Some(said["address"].as_str()?.to_owned())
        });
        limited.address = announced.expect("it starts under the limit");
        limited
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_the_system_allows() {
    let server = Limited::start("ulimit -Sn 200");
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard] = line.split_whitespace().collect::<Vec<_>>()[..2] else { panic!("{line}") };
    assert_eq!(soft, hard);
    assert_ne!(soft, "200");
}

/// Idle connections are closed after a minute anyway: an answer that takes as long is none of this promise.
#[test]
fn idle_clients_that_hold_all_descriptors_make_room_for_others() {
    let server = Limited::start("ulimit -n 64");
    #[expect(clippy::disallowed_methods, reason = "to the server of this test")]
    let connect = || TcpStream::connect(&server.address).unwrap();
    let _idle: Vec<TcpStream> = (0..80).map(|_| connect()).collect();
    let mut asks = connect();
    asks.set_read_timeout(Some(Duration::from_secs(45))).unwrap();
    asks.write_all(b"GET /api/v1/health/ping HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let read = asks.read_to_string(&mut answer);
    assert!(read.is_ok() && answer.starts_with("HTTP/1.1 204"), "{read:?} {answer}");
}
