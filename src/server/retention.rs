//! Rules of retention, as the document shows them.

use ringback::Retention;
use utoipa::ToSchema;

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
