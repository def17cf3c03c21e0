//! Compaction: the store gives back the space of what was removed from it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringback::store::{Compacted, Compaction, Health};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::api::Api;
use crate::server::auth::Operator;
use crate::server::body::{Body, NoMembers};
use crate::server::once::{Answer, Once};
use crate::server::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(get, start))
}

/// How the last compaction since the server's start stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CompactionOut {
    #[schema(inline)]
    status: CompactionStatus,
    /// While it runs: the bytes of messages and attempts that have been copied.
    copied_bytes: Option<u64>,
    /// While it runs: how many there were when it began.
    of_bytes: Option<u64>,
    /// Bytes on disk before it.
    before_bytes: Option<u64>,
    /// Bytes on disk after it.
    after_bytes: Option<u64>,
    /// Why it was given up. The store is as it was.
    error: Option<String>,
    /// Bytes on disk now.
    disk_bytes: u64,
    /// Bytes of the messages and attempts that are kept now.
    kept_bytes: u64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CompactionStatus {
    /// There was none.
    None,
    Running,
    Finished,
    Failed,
}

impl From<Health> for CompactionOut {
    fn from(health: Health) -> Self {
        let mut out = CompactionOut {
            status: CompactionStatus::None,
            copied_bytes: None,
            of_bytes: None,
            before_bytes: None,
            after_bytes: None,
            error: None,
            disk_bytes: health.disk_bytes,
            kept_bytes: health.kept_bytes,
        };
        match health.compaction {
            None => {}
            Some(Compaction::Running { copied_bytes, of_bytes }) => {
                out.status = CompactionStatus::Running;
                (out.copied_bytes, out.of_bytes) = (Some(copied_bytes), Some(of_bytes));
            }
            Some(Compaction::Done(Compacted { before_bytes, after_bytes })) => {
                out.status = CompactionStatus::Finished;
                (out.before_bytes, out.after_bytes) = (Some(before_bytes), Some(after_bytes));
            }
            Some(Compaction::Failed(error)) => {
                (out.status, out.error) = (CompactionStatus::Failed, Some(error));
            }
        }
        out
    }
}

/// Compact the store
///
/// Gives back the disk space of what was removed: all that is kept is copied to new files, while everything else goes on.
/// It is answered at once; the progress is under `GET`. One that is under way is joined. Refused with 409 if the disk has
/// no room for the copy.
#[utoipa::path(post, path = "/compact", operation_id = "v1.compact.create", tag = "Health",
    responses((status = 202, body = CompactionOut)))]
async fn start(State(api): State<Arc<Api>>, _: Operator, once: Once, _: Body<NoMembers>) -> Result<Answer, Problem> {
    api.once(None, once, b"", async {
        api.ringback.start_compaction().await?;
        Ok(Answer::accepted(&CompactionOut::from(api.ringback.health().await?)))
    })
    .await
}

/// Get how the last compaction stands
#[utoipa::path(get, path = "/compact", operation_id = "v1.compact.get", tag = "Health",
    responses((status = 200, body = CompactionOut)))]
async fn get(State(api): State<Arc<Api>>, _: Operator) -> Result<Json<CompactionOut>, Problem> {
    Ok(Json(api.ringback.health().await?.into()))
}
