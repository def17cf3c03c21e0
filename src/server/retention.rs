//! Rules of retention, as the document shows them, and what they come to for a message.

use std::time::Duration;

use ringback::{ApplicationId, Retention};
use utoipa::ToSchema;

use super::api::Api;

/// How long what was sent is kept, where that differs from the server's rule. Days may have a fraction. Where an application
/// and an event type both set a span, the shorter one holds.
#[derive(ToSchema)]
#[schema(as = Retention)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is read by the document alone")]
pub(super) struct RetentionSchema {
    /// Messages that were delivered everywhere, or went nowhere.
    #[schema(exclusive_minimum = 0, maximum = 36500, example = 7)]
    keep_delivered_days: Option<f64>,
    /// Messages with a dead or canceled delivery.
    #[schema(exclusive_minimum = 0, maximum = 36500)]
    keep_ended_days: Option<f64>,
    /// Payloads, once every delivery of their message has ended. The rest of the message stays.
    #[schema(exclusive_minimum = 0, maximum = 36500)]
    keep_payloads_days: Option<f64>,
    /// Attempts, with the bodies of their responses.
    #[schema(exclusive_minimum = 0, maximum = 36500)]
    keep_attempts_days: Option<f64>,
    /// Whether a payload goes as soon as its message is delivered everywhere.
    delete_on_success: Option<bool>,
}

/// As it is answered: `None` where nothing is set.
pub(super) fn shown(retention: Retention) -> Option<Retention> {
    Some(retention).filter(|retention| !retention.is_empty())
}

impl Api {
    /// How long the payload of a message is kept at the longest, by the rules that hold for it now.
    pub(super) fn payload_is_kept(&self, application: Option<ApplicationId>, event_type: &str) -> Duration {
        let application = application.and_then(|id| self.ringback.application(id).ok());
        let application = application.map(|application| application.retention).unwrap_or_default();
        let event_type =
            self.ringback.event_type(event_type).map(|event_type| event_type.retention).unwrap_or_default();
        let set = |span: fn(&Retention) -> Option<Duration>| match (span(&application), span(&event_type)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let server = self.ringback.config();
        let delivered = set(|rule| rule.keep_delivered).unwrap_or(server.keep_delivered);
        let message = delivered.max(set(|rule| rule.keep_ended).unwrap_or(server.keep_ended));
        let payload = set(|rule| rule.keep_payloads).or(server.keep_payloads);
        payload.map_or(message, |payload| payload.min(message))
    }
}
