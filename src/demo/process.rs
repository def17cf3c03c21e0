//! The sender's process as the stage sees it: started, told, listened to, killed.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::lines::{Command, Line};
use super::scenario::PerVendor;
use super::sender::SenderOptions;

/// A running sender. It ends with its parent: its standard input does.
pub(super) struct Process {
    child: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this same program as the sender of a folder.
    pub(super) fn start(data: &Path, urls: &PerVendor<String>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program itself")?;
        let mut child = tokio::process::Command::new(program)
            .args(SenderOptions::arguments(data, urls))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the sender")?;
        let commands = child.stdin.take().context("the sender has no standard input")?;
        let output = child.stdout.take().context("the sender has no standard output")?;
        Ok(Process { child, commands, lines: BufReader::new(output).lines() })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Tells it to do something.
    pub(super) async fn tell(&mut self, command: &Command) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(command)?;
        line.push('\n');
        self.commands.write_all(line.as_bytes()).await.context("the sender does not listen any more")
    }

    /// What it reports next; `None` once it has ended. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Line>> {
        let line = self.lines.next_line().await.context("cannot read what the sender reports")?;
        line.map(|line| serde_json::from_str(&line).context("the sender reports something unknown")).transpose()
    }

    /// Kills it (SIGKILL: it cannot prepare for it), and gives what it had reported until then.
    pub(super) async fn kill(mut self) -> anyhow::Result<(ExitStatus, Vec<Line>)> {
        self.child.start_kill().context("cannot kill the sender")?;
        let status = self.child.wait().await.context("cannot wait for the sender")?;
        let mut rest = Vec::new();
        while let Some(line) = self.lines.next_line().await? {
            // The last line may be half of one.
            rest.extend(serde_json::from_str(&line));
        }
        Ok((status, rest))
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ended(mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().await.context("cannot wait for the sender")
    }
}
