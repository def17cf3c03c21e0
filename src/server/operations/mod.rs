//! The operations, one file a resource. Each handler says its path, and so the OpenAPI document has it.

pub(super) mod applications;
pub(super) mod attempts;
pub(super) mod cancels;
pub(super) mod compact;
pub(super) mod deliveries;
pub(super) mod doctor;
pub(super) mod endpoint_health;
pub(super) mod endpoints;
pub(super) mod erase;
pub(super) mod event_types;
pub(super) mod headers;
pub(super) mod health;
pub(super) mod intake;
pub(super) mod messages;
pub(super) mod missing;
pub(super) mod profiles;
pub(super) mod replays;
pub(super) mod secrets;
pub(super) mod switch;
pub(super) mod tasks;
pub(super) mod tokens;
