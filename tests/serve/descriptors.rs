//! The limit of open files.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::sidecar::Place;

#[test]
#[cfg(target_os = "linux")]
fn the_limit_of_open_files_is_raised_to_what_the_system_allows() {
    let place = Place::new();
    let serve = format!(
        "ulimit -Sn 200 && exec {} serve --listen 127.0.0.1:0 --data {}",
        env!("CARGO_BIN_EXE_ringback"),
        place.data().display()
    );
    let mut child = Command::new("sh").args(["-c", &serve]).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..2_000 {
        if place.data().join("sidecar.json").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard] = line.split_whitespace().collect::<Vec<_>>()[..2] else { panic!("{line}") };
    assert_eq!(soft, hard);
    assert_ne!(soft, "200");
}

/// Idle connections are closed after a minute anyway: an answer that takes as long is none of this promise.
#[test]
#[cfg(target_os = "linux")]
fn idle_clients_that_hold_all_descriptors_make_room_for_others() {
    let place = Place::new();
    let serve = format!(
        "ulimit -n 64 && exec {} serve --listen 127.0.0.1:0 --data {}",
        env!("CARGO_BIN_EXE_ringback"),
        place.data().display()
    );
    let mut child = Command::new("sh").args(["-c", &serve]).stderr(Stdio::null()).spawn().unwrap();
    let address = (0..2_000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        let said: serde_json::Value =
            serde_json::from_slice(&fs::read(place.data().join("sidecar.json")).ok()?).ok()?;
        Some(said["address"].as_str()?.to_owned())
    });
    let address = address.unwrap();
    #[expect(clippy::disallowed_methods, reason = "to the server of this test")]
    let connect = || TcpStream::connect(&address).unwrap();
    let idle: Vec<TcpStream> = (0..80).map(|_| connect()).collect();
    let mut asks = connect();
    asks.set_read_timeout(Some(Duration::from_secs(45))).unwrap();
    asks.write_all(b"GET /api/v1/health/ping HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let read = asks.read_to_string(&mut answer);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(idle);
    assert!(read.is_ok() && answer.starts_with("HTTP/1.1 204"), "{read:?} {answer}");
}
