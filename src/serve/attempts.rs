//! The log's line for each attempt: which delivery, what it showed, how the delivery stands.
//!
//! Invariant: no line has a payload, a secret, or a byte that a receiver wrote. The log over the API has the answers.

use std::sync::Arc;

use ringback::{Attempt, Outcome, StateKind};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A task that logs attempts as they are put on record.
pub(super) struct AttemptLog {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl AttemptLog {
    pub(super) fn follow(attempts: Receiver<Arc<Attempt>>) -> AttemptLog {
        let (stop, stopped) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "the one task of the attempts' log; `finish` joins it")]
        let task = tokio::spawn(follow(attempts, stopped));
        AttemptLog { stop, task }
    }

    /// Logs those that are on record, and ends.
    pub(super) async fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn follow(mut attempts: Receiver<Arc<Attempt>>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let attempt = tokio::select! {
            // Whatever is there is logged before the stop counts.
            biased;
            attempt = attempts.recv() => attempt,
            _ = &mut stopped => return,
        };
        match attempt {
            Ok(attempt) => log(&attempt),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "attempts came faster than they could be logged; the API's log has them all");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Logs one attempt, a delivery that gave up louder than the rest.
fn log(attempt: &Attempt) {
    macro_rules! line {
        ($level:ident) => {{
            let (status, failure) = match attempt.outcome {
                Outcome::Answered { status, .. } => (Some(status), None),
                Outcome::Failed(failure) => (None, Some(failure.code())),
            };
            tracing::$level!(
                target: "ringback::attempt",
                application = %attempt.delivery.lane.application,
                endpoint = %attempt.delivery.lane.endpoint,
                message_id = %attempt.delivery.message,
                attempt = attempt.number,
                status,
                failure,
                duration_ms = attempt.timing.total_us / 1_000,
                result = result(attempt.result),
                "attempt"
            );
        }};
    }
    match attempt.result {
        StateKind::Dead => line!(warn),
        StateKind::Waiting | StateKind::Held | StateKind::Leased | StateKind::Delivered | StateKind::Canceled => {
            line!(info)
        }
    }
}

fn result(state: StateKind) -> &'static str {
    match state {
        StateKind::Waiting => "waiting",
        StateKind::Held => "held",
        StateKind::Leased => "leased",
        StateKind::Delivered => "delivered",
        StateKind::Dead => "dead",
        StateKind::Canceled => "canceled",
    }
}
