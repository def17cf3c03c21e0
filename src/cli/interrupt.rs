//! Ctrl-C, for commands that go on until it comes or have something to say then.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Problem;

/// Notices every Ctrl-C from its making on, also one that comes while nobody waits for it.
pub(super) struct Interrupt {
    interrupt: Signal,
    terminate: Option<Signal>,
}

impl Interrupt {
    /// From now on, Ctrl-C does not end the program.
    pub(super) fn listen() -> Result<Interrupt, Problem> {
        Ok(Interrupt { interrupt: watch(SignalKind::interrupt())?, terminate: None })
    }

    /// From now on, neither Ctrl-C nor SIGTERM ends the program.
    pub(super) fn or_terminate() -> Result<Interrupt, Problem> {
        Ok(Interrupt { terminate: Some(watch(SignalKind::terminate())?), ..Interrupt::listen()? })
    }

    /// Waits for it.
    pub(super) async fn came(&mut self) {
        match &mut self.terminate {
            Some(terminate) => {
                tokio::select! {
                    _ = self.interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
            None => {
                self.interrupt.recv().await;
            }
        }
    }
}

fn watch(kind: SignalKind) -> Result<Signal, Problem> {
    signal(kind).map_err(|error| Problem::failed(format!("cannot wait for signals: {error}")))
}
