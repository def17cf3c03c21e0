//! What is said of retention where applications and event types are made and changed.

use std::time::Duration;

use ringback::Retention;
use serde_json::Value;

use super::exit::Problem;
use super::out::Out;
use super::times;

/// How long what is sent is kept. What is given replaces the whole rule; what is not, the server decides.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Retention")]
pub(super) struct Rules {
    /// How long messages that were delivered everywhere are kept, such as 7d or 12h. What of these is not given, the
    /// server decides
    #[arg(long, value_name = "DURATION", value_parser = times::duration)]
    keep_delivered: Option<Duration>,
    /// How long messages with a dead or canceled delivery are kept
    #[arg(long, value_name = "DURATION", value_parser = times::duration)]
    keep_ended: Option<Duration>,
    /// How long payloads are kept, once all deliveries have ended
    #[arg(long, value_name = "DURATION", value_parser = times::duration)]
    keep_payloads: Option<Duration>,
    /// How long attempts are kept, with the bodies of their responses
    #[arg(long, value_name = "DURATION", value_parser = times::duration)]
    keep_attempts: Option<Duration>,
    /// Whether a payload goes as soon as it is delivered everywhere
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    delete_on_success: Option<bool>,
    /// The server's rule alone
    #[arg(long, conflicts_with_all = ["keep_delivered", "keep_ended", "keep_payloads", "keep_attempts", "delete_on_success"])]
    server_retention: bool,
}

impl Rules {
    /// The member of a request, if there is anything to say.
    pub(super) fn member(&self) -> Result<Option<Value>, Problem> {
        let retention = Retention {
            keep_delivered: self.keep_delivered,
            keep_ended: self.keep_ended,
            keep_payloads: self.keep_payloads,
            keep_attempts: self.keep_attempts,
            delete_on_success: self.delete_on_success,
        };
        if retention.is_empty() {
            return Ok(self.server_retention.then_some(Value::Null));
        }
        serde_json::to_value(retention).map(Some).map_err(|error| Problem::failed(error.to_string()))
    }
}

/// Shows a rule, a line a member.
pub(super) fn show(out: &Out, retention: Option<&Value>) -> Result<(), Problem> {
    let Some(Value::Object(members)) = retention else { return Ok(()) };
    members.iter().try_for_each(|(name, value)| out.field("retention", &format!("{name} {value}")))
}
