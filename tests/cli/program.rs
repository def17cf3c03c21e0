//! The program as a child process, which ends with its test.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// A program that has not ended by then hangs.
const HANGS: Duration = Duration::from_secs(120);

/// What a run of the program gave.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

#[allow(dead_code, reason = "not every suite looks at every part")]
impl Ended {
    /// The JSON values of the standard output, one a line: nothing else may stand there.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let value = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{self:?}"));
        self.stdout.lines().map(value).collect()
    }

    /// The only JSON value of the standard output.
    #[track_caller]
    pub fn one(&self) -> Value {
        let mut all = self.json();
        assert_eq!(all.len(), 1, "{self:?}");
        all.remove(0)
    }

    #[track_caller]
    pub fn ok(self) -> Ended {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
}

/// The program with these arguments, and nothing of this process's environment.
pub fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    command.args(arguments).env_clear().kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub async fn finish(mut command: Command, input: Option<&[u8]>) -> Ended {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    let stdin = child.stdin.take();
    let write = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program that ends without reading it all is free to.
            let _ = stdin.write_all(input).await;
        }
    };
    let run = async { tokio::join!(write, child.wait_with_output()).1.unwrap() };
    let output = tokio::time::timeout(HANGS, run).await.expect("the program hangs");
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the program.
pub async fn ringback<S: AsRef<OsStr>>(arguments: &[S]) -> Ended {
    finish(command(arguments), None).await
}

/// Runs the program with this on its standard input.
pub async fn ringback_with<S: AsRef<OsStr>>(arguments: &[S], input: &[u8]) -> Ended {
    finish(command(arguments), Some(input)).await
}

/// A program that goes on.
pub struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

#[allow(dead_code, reason = "not every suite needs every method")]
impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { child, stdout, stderr }
    }

    /// The next line of its standard output.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(HANGS, self.stdout.next_line()).await.expect("no line came");
        line.unwrap().expect("the program has ended")
    }

    /// The next line of its standard error with this in it.
    pub async fn says(&mut self, text: &str) -> String {
        let found = async {
            while let Some(line) = self.stderr.next_line().await.unwrap() {
                if line.contains(text) {
                    return line;
                }
            }
            panic!("it ended without saying {text}");
        };
        tokio::time::timeout(HANGS, found).await.expect("it does not say it")
    }

    /// Its standard input, if it was made with one.
    pub fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits for its end; gives the exit code and what stdout still has.
    pub async fn ended(mut self) -> (i32, Vec<String>) {
        let end = async {
            let mut lines = Vec::new();
            while let Some(line) = self.stdout.next_line().await.unwrap() {
                lines.push(line);
            }
            (self.child.wait().await.unwrap().code().unwrap_or(-1), lines)
        };
        tokio::time::timeout(HANGS, end).await.expect("the program does not end")
    }
}

/// A path as an argument.
#[allow(dead_code, reason = "not every suite needs it")]
pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
