//! A server, and the program as its client.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::program::{Ended, Running, command, finish, text};
use super::support::sidecar::{Sidecar, TOKEN};

/// A sidecar over a folder of its own, with the application `acme`.
pub struct Served {
    pub sidecar: Sidecar,
    pub dir: TempDir,
}

impl Served {
    pub async fn start() -> Served {
        Served::with(&[]).await
    }

    pub async fn with(environment: &[(&str, &str)]) -> Served {
        let dir = tempfile::tempdir().unwrap();
        let sidecar = Sidecar::start(&dir.path().join("data"), environment).await;
        let served = Served { sidecar, dir };
        served.run(&["app", "create", "Acme", "--uid", "acme"]).await.ok();
        served
    }

    /// The program with these arguments and the server's address and token.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> tokio::process::Command {
        let mut command = command(arguments);
        command.env("RINGBACK_SERVER", format!("http://{}", self.sidecar.address)).env("RINGBACK_TOKEN", TOKEN);
        command
    }

    pub async fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ended {
        finish(self.command(arguments), None).await
    }

    pub async fn run_with<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Ended {
        finish(self.command(arguments), Some(input)).await
    }

    pub fn start_running<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        Running::start(self.command(arguments))
    }

    /// The JSON of a command that gives one value.
    pub async fn one(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).await.ok().one()
    }

    /// The JSON of a command that gives many.
    pub async fn all(&self, arguments: &[&str]) -> Vec<Value> {
        self.run(&[arguments, &["--json"]].concat()).await.ok().json()
    }

    /// An endpoint of `acme` with this uid that does not wait long before it gives up.
    pub async fn endpoint(&self, uid: &str, url: &str, more: &[&str]) -> Value {
        let soon = ["--retry", r#"{"delaysMs":[20],"jitter":0}"#];
        let retry = if more.contains(&"--retry") { &[][..] } else { &soon };
        self.one(&[&["endpoint", "create", "acme", url, "--uid", uid], retry, more].concat()).await
    }

    /// Sends `{"n":1}` to `acme`, and gives the message's id.
    pub async fn send(&self, event_type: &str) -> String {
        let sent = self.one(&["send", "acme", "--type", event_type, "--with", r#"{"n":1}"#]).await;
        sent["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the only delivery of a message stands so, and gives its story.
    pub async fn stands(&self, message: &str, state: &str) -> Value {
        for _ in 0..600 {
            let story = self.one(&["show", "acme", message]).await;
            if story["endpoints"][0]["state"]["state"] == state {
                return story;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{message} does not become {state}");
    }

    /// The folder, as an argument.
    pub fn data(&self) -> String {
        text(&self.dir.path().join("data"))
    }
}
