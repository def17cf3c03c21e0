//! The signals that stop the server.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that comes so soon after one is the same one: supervisors signal a process and its group.
const REPEAT: Duration = Duration::from_millis(500);

/// SIGTERM and SIGINT. From here on they do not end the process by themselves.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the next one that is not a repeat of the one that has just come.
    pub(super) async fn again(&mut self) {
        let repeats = async {
            loop {
                self.next().await;
            }
        };
        // It ends by the time limit alone.
        let _: Result<(), _> = tokio::time::timeout(REPEAT, repeats).await;
        self.next().await;
    }
}
