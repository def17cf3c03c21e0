//! The operator's look at the whole store: its health, and counts that must add up.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::ApplicationId;
use ringback::store::{CountQuery, Counts};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::Operator;
use crate::server::problem::Problem;

/// Counts are taken while messages come and go: those that do not add up are taken this often again.
const LOOKS: usize = 5;
/// A compaction is advised where the folder takes so many times what is kept, and so many bytes beyond that.
const WORTH_COMPACTING: u64 = 5;
const WORTH_BYTES: u64 = 64 << 20;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(doctor))
}

/// How the whole store is.
#[derive(Serialize, ToSchema)]
struct DoctorOut {
    /// Whether there are no problems.
    ok: bool,
    version: &'static str,
    store: StoreOut,
    keys: KeysOut,
    applications: Vec<CountsOut>,
    /// What an operator should look at.
    problems: Vec<String>,
    /// What would do good, although nothing is wrong.
    advice: Vec<String>,
}

/// How the store is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StoreOut {
    /// Deliveries that have not ended.
    open: u64,
    /// The payload bytes of those.
    open_bytes: u64,
    /// Deliveries that are being attempted.
    leased: u64,
    disk_bytes: u64,
    /// Bytes of the messages and attempts that are kept. What is on disk beyond about four times this is free space,
    /// which a compaction gives back.
    kept_bytes: u64,
    /// Damaged records that were set aside since the start.
    damaged: u64,
    /// Why it cannot write, if it cannot.
    failed: Option<String>,
    warnings: Vec<String>,
}

/// How endpoints' secrets are sealed in the store.
#[derive(Serialize, ToSchema)]
struct KeysOut {
    /// The id of the key that seals; `null` if there is none.
    active: Option<u32>,
    /// How many endpoints' secrets are still to be sealed anew under it, because the keys were turned over.
    left: u64,
    sealed: Vec<SealedOut>,
}

/// What is sealed under one key.
#[derive(Serialize, ToSchema)]
struct SealedOut {
    /// The key's id; 0 for what is stored as it is.
    key: u32,
    /// How many endpoints have secrets under it.
    endpoints: u64,
}

/// An application's deliveries, counted from their own rows; `routed` is counted from the messages.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CountsOut {
    #[schema(value_type = String)]
    id: ApplicationId,
    uid: Option<String>,
    messages: u64,
    routed: u64,
    waiting: u64,
    /// Behind another one of their ordering key.
    held: u64,
    leased: u64,
    delivered: u64,
    dead: u64,
    canceled: u64,
    /// Whether `routed` is the sum of the six.
    adds_up: bool,
}

/// Check the store
///
/// It reads every message's row: with millions of them it takes seconds.
#[utoipa::path(get, path = "/doctor", operation_id = "v1.doctor.get", tag = "Health",
    responses((status = 200, body = DoctorOut)))]
async fn doctor(State(api): State<Arc<Api>>, _: Operator) -> Result<Json<DoctorOut>, Problem> {
    let mut problems = Vec::new();
    let mut applications = Vec::new();
    for application in api.ringback.applications() {
        let counts = match api.counts(application.id).await {
            Ok(counts) => counts,
            // Deleted meanwhile.
            Err(ringback::Error::NotFound(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let adds_up = counts.adds_up();
        if !adds_up {
            let name = application.uid.clone().unwrap_or_else(|| application.id.to_string());
            problems.push(format!(
                "the deliveries of application {name} do not add up to what its messages were routed to"
            ));
        }
        applications.push(CountsOut {
            id: application.id,
            uid: application.uid,
            messages: counts.messages,
            routed: counts.routed,
            waiting: counts.waiting,
            held: counts.held,
            leased: counts.leased,
            delivered: counts.delivered,
            dead: counts.dead,
            canceled: counts.canceled,
            adds_up,
        });
    }
    let health = api.ringback.health().await?;
    problems.extend(health.failed.iter().map(|why| format!("the store cannot write: {why}")));
    if health.damaged > 0 {
        problems.push(format!("{} damaged records were set aside since the start", health.damaged));
    }
    problems.extend(health.warnings.iter().cloned());
    let free = health.disk_bytes.saturating_sub(health.kept_bytes.saturating_mul(WORTH_COMPACTING));
    let advice = match free > WORTH_BYTES {
        true => vec![format!(
            "{} bytes are on disk and {} of them are kept: `ringback compact` gives back most of the rest",
            health.disk_bytes, health.kept_bytes
        )],
        false => Vec::new(),
    };
    let store = StoreOut {
        open: health.open,
        open_bytes: health.open_bytes,
        leased: health.leased,
        disk_bytes: health.disk_bytes,
        kept_bytes: health.kept_bytes,
        damaged: health.damaged,
        failed: health.failed,
        warnings: health.warnings,
    };
    let version = env!("CARGO_PKG_VERSION");
    let uses = api.ringback.key_use().await?;
    let left = uses.left();
    let sealed = uses.endpoints.into_iter().map(|(key, endpoints)| SealedOut { key, endpoints }).collect();
    let keys = KeysOut { active: uses.active, left, sealed };
    Ok(Json(DoctorOut { ok: problems.is_empty(), version, store, keys, applications, problems, advice }))
}

impl Api {
    async fn counts(&self, application: ApplicationId) -> Result<Counts, ringback::Error> {
        let mut counts = self.ringback.counts(application, CountQuery::default()).await?;
        for _ in 1..LOOKS {
            if counts.adds_up() {
                break;
            }
            counts = self.ringback.counts(application, CountQuery::default()).await?;
        }
        Ok(counts)
    }
}
