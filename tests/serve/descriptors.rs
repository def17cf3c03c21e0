//! The limit of open files.

use std::fs;
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
