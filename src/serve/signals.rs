//! The signals that stop the server.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Within this time signals count as one.
const REPEATED: Duration = Duration::from_millis(500);

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

    /// Waits for another one. Wrappers such as `timeout` signal a process twice at the same moment: that counts once.
    pub(super) async fn another(&mut self) {
        let repeated = tokio::time::sleep(REPEATED);
        tokio::pin!(repeated);
        loop {
            tokio::select! {
                biased;
                () = &mut repeated => break,
                () = self.next() => {}
            }
        }
        self.next().await;
    }
}
