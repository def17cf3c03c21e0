//! The receiver's side of a request: read, verified, answered as told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use ringback::profile::SecretRule;
use ringback::{Profile, Secret, signature};
use tokio::sync::mpsc;

use super::arrived::{Arrived, Verdict};
use crate::cli::times;

/// The largest body that is read.
const MAX_BODY: usize = 64 << 20;

/// What a receiver does.
pub(super) struct Receiver {
    pub(super) profile: Profile,
    pub(super) secrets: Vec<Secret>,
    pub(super) url: Option<String>,
    pub(super) tolerance: Duration,
    /// One after the other, and the last for the rest.
    pub(super) statuses: Vec<u16>,
    pub(super) delay: Duration,
    /// After so many requests, the others are told that nobody is there.
    pub(super) most: Option<u64>,
    /// Where they are shown.
    pub(super) show: mpsc::Sender<Arrived>,
}

struct Counting {
    receiver: Receiver,
    count: AtomicU64,
}

/// Every path and method leads to the receiver.
pub(super) fn router(receiver: Receiver) -> Router {
    Router::new().fallback(receive).with_state(Arc::new(Counting { receiver, count: AtomicU64::new(0) }))
}

async fn receive(State(state): State<Arc<Counting>>, request: Request) -> StatusCode {
    let Counting { receiver, count } = &*state;
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else { return StatusCode::PAYLOAD_TOO_LARGE };
    let number = count.fetch_add(1, Ordering::Relaxed);
    if receiver.most.is_some_and(|most| number >= most) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let status = usize::try_from(number).ok().and_then(|number| receiver.statuses.get(number));
    let status = status.or(receiver.statuses.last()).copied().unwrap_or(200);
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let verdict = receiver.verdict(&head.headers, target, &body);
    tokio::time::sleep(receiver.delay).await;
    let arrived = Arrived {
        at: times::now(),
        method: head.method.to_string(),
        target: target.to_owned(),
        id: receiver.id(&head.headers),
        headers: texts(&head.headers),
        event_type: receiver.event_type(&body),
        verdict,
        answered: status,
        body,
    };
    // Nobody is there to show it to once the command ends.
    let _ = receiver.show.send(arrived).await;
    StatusCode::from_u16(status).expect("the arguments are between 200 and 599")
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

impl Receiver {
    fn verdict(&self, headers: &HeaderMap, target: &str, body: &[u8]) -> Verdict {
        if self.profile.signing.secret == SecretRule::None {
            return Verdict::Unsigned;
        }
        if self.secrets.is_empty() {
            return Verdict::NotLookedAt;
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let url = self.url.clone().unwrap_or_else(|| format!("http://{}{target}", header("host").unwrap_or_default()));
        match signature::verify(&self.profile, &self.secrets, header, &url, body, times::now(), self.tolerance) {
            Ok(()) => Verdict::Verified,
            Err(why) => Verdict::Refused(why.to_string()),
        }
    }

    /// The message's id, if a header is made of it alone.
    fn id(&self, headers: &HeaderMap) -> Option<String> {
        let rule = self.profile.signing.headers.iter().find(|rule| rule.value.to_string() == "{id}")?;
        headers.get(&rule.name)?.to_str().ok().map(ToOwned::to_owned)
    }

    /// The event type, if the body is an envelope of the profile's.
    fn event_type(&self, body: &Bytes) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        body.get(&self.profile.envelope.event_type)?.as_str().map(ToOwned::to_owned)
    }
}
