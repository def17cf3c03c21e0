//! A `ringback` process on a folder of its own, that is killed at the latest when the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

/// How long a process may take for what is asked of it, in steps of 10 ms.
const STEPS: usize = 2_000;

/// A folder for the data, the settings file and the outputs.
pub struct Place {
    dir: tempfile::TempDir,
}

/// A process that was started.
pub struct Sidecar {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    data: PathBuf,
}

/// How a process ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Writes a file, and says where.
    pub fn file(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Starts the program in this folder, with these variables of ours and no others.
    pub fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Sidecar {
        static STARTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (stdout, stderr) = (self.path(&format!("stdout-{number}")), self.path(&format!("stderr-{number}")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("RINGBACK_") || name == "RUST_LOG") {
                command.env_remove(name);
            }
        }
        command.envs(environment.iter().copied()).env("NO_COLOR", "1");
        command.stdout(fs::File::create(&stdout).unwrap()).stderr(fs::File::create(&stderr).unwrap());
        Sidecar { child: command.spawn().unwrap(), stdout, stderr, data: self.data() }
    }

    /// Starts a server on a free port, which may call receivers on loopback, and waits until it is ready.
    pub fn serve(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Sidecar {
        self.serve_at("127.0.0.1:0", arguments, environment)
    }

    /// The same at another address.
    pub fn serve_at(&self, address: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Sidecar {
        let mut all = vec!["serve", "--data", "data", "--listen", address, "--allow-network", "127.0.0.0/8"];
        all.extend(arguments);
        let mut sidecar = self.start(&all, environment);
        sidecar.ready();
        sidecar
    }

    /// Starts the program and waits until it has ended.
    pub fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        self.start(arguments, environment).ended()
    }
}

impl Sidecar {
    fn ready(&mut self) {
        let is_there = |sidecar: &mut Sidecar| {
            let announced: Value = serde_json::from_slice(&fs::read(sidecar.data.join("sidecar.json")).ok()?).ok()?;
            // One that was killed leaves its file behind.
            (announced["pid"].as_u64() == Some(sidecar.id().into())).then_some(())
        };
        self.wait("to be ready", is_there).unwrap_or_else(|| panic!("it ended:\n{}", self.stderr()));
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// What the data folder says of the server.
    pub fn announced(&self) -> Value {
        serde_json::from_slice(&fs::read(self.data.join("sidecar.json")).unwrap()).unwrap()
    }

    pub fn address(&self) -> String {
        self.announced()["address"].as_str().unwrap().to_owned()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM or another signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn ended(mut self) -> Ended {
        let status: ExitStatus = match self.wait("to end", |sidecar| sidecar.child.try_wait().unwrap()) {
            Some(status) => status,
            None => self.child.wait().unwrap(),
        };
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        Ended { code: status.code(), stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }

    /// Stops it as a supervisor would.
    pub fn stop(self) -> Ended {
        self.signal("TERM");
        self.ended()
    }

    /// Waits until there is something; `None` if the process ended before.
    fn wait<T>(&mut self, what: &str, mut there: impl FnMut(&mut Sidecar) -> Option<T>) -> Option<T> {
        for _ in 0..STEPS {
            if let Some(found) = there(self) {
                return Some(found);
            }
            if self.child.try_wait().unwrap().is_some() {
                return there(self);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("waited too long for the process {what}:\n{}", self.stderr());
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
