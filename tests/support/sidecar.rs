//! `ringback serve` as a child process, on a port of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

/// The token that sidecars of tests are started with.
pub const TOKEN: &str = "test-operator-token-0123456789";
/// How long a start or a stop may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running sidecar. It is killed when dropped.
pub struct Sidecar {
    /// `127.0.0.1:40123`.
    pub address: String,
    pub token: String,
    child: Child,
}

#[allow(dead_code, reason = "not every suite needs all of it")]
impl Sidecar {
    /// Starts one over this folder, which may call receivers on loopback, with settings from the environment. Endpoints do
    /// not rest unless those say so.
    pub async fn start(data: &Path, environment: &[(&str, &str)]) -> Sidecar {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--allow-network", "127.0.0.0/8", "--data"]).arg(data);
        command.env("RINGBACK_BREAKER_FAILURES", "0");
        command.env("RINGBACK_TOKEN", TOKEN).env("RINGBACK_LOG", "error").envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let started = async {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    panic!("the sidecar ended at its start: {status}");
                }
                if let Some(address) = address_of(data, child.id()) {
                    return address;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let address = tokio::time::timeout(PATIENCE, started).await.expect("the sidecar starts");
        Sidecar { address, token: TOKEN.to_owned(), child }
    }

    pub fn process(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Stops it in order, as a supervisor would.
    pub async fn stop(mut self) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        assert!(sent.success());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it stops").unwrap();
        assert!(status.success(), "{status}");
    }

    /// Ends it as `kill -9` does.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Where the sidecar of this process says that it listens.
fn address_of(data: &Path, process: Option<u32>) -> Option<String> {
    let text = std::fs::read(data.join("sidecar.json")).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
    (json["pid"].as_u64() == process.map(u64::from)).then(|| json["address"].as_str().map(str::to_owned))?
}
