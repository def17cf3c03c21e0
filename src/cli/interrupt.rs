//! Ctrl-C, for commands that go on until it comes.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Problem;

/// Notices every Ctrl-C from its making on, also one that comes while nobody waits for it.
pub(super) struct Interrupt(Signal);

impl Interrupt {
    /// From now on, Ctrl-C does not end the program.
    pub(super) fn listen() -> Result<Interrupt, Problem> {
        signal(SignalKind::interrupt())
            .map(Interrupt)
            .map_err(|error| Problem::failed(format!("cannot wait for Ctrl-C: {error}")))
    }

    /// Waits for it.
    pub(super) async fn came(&mut self) {
        self.0.recv().await;
    }
}
