//! One attempt: wrap, sign, POST, and the record of it. It decides nothing and writes nothing.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::attempt::{Attempt, Timing, Trigger};
use crate::body;
use crate::delivery::{self, Failure, Outcome, Progress, StateKind, Terms};
use crate::directory::Destination;
use crate::id::AttemptId;
use crate::invalid::Invalid;
use crate::message::Message;
use crate::plan::{Attempted, LOST};
use crate::profile::{BodyMode, KeyKind, Profile};
use crate::secret::{REDACTED, Secret};
use crate::signature::{self, Signable};
use crate::store::Lease;
use crate::time::Timestamp;
use crate::transport::{Reply, Request};

use super::Parts;

/// Attempts a claimed delivery.
pub(super) async fn attempt(parts: Parts, lease: Lease, destination: Arc<Destination>) -> Box<Attempted> {
    let (started_at, random) = parts.ids.next(parts.clock.now());
    let id = AttemptId::from_parts(started_at, random);
    // A panic in here costs this attempt, never the dispatcher or the permit.
    let mut terms = Terms::default();
    let tried = AssertUnwindSafe(try_it(&parts, &lease, &destination, &mut terms)).catch_unwind().await;
    let tried = tried.unwrap_or_else(|_| Some(Tried::not_sent(Failure::Panicked)));
    let attempt = tried.map(|tried| {
        let progress = lease.progress.tried();
        Attempt {
            id,
            delivery: lease.delivery,
            number: progress.attempts,
            round: progress.round,
            trigger: trigger(progress, tried.test),
            started_at,
            url: tried.url.unwrap_or_else(|| destination.endpoint.settings.url.clone()),
            request_headers: tried.headers,
            outcome: tried.reply.outcome,
            response: tried.reply.response,
            timing: tried.reply.timing,
            // The plan decides the result.
            result: StateKind::Leased,
        }
    });
    let ended_at = parts.clock.now();
    let open = parts.directory.open(destination.lane());
    Box::new(Attempted { lease, destination, attempt, terms, ended_at, draw: crate::random::draw(), open })
}

fn trigger(progress: Progress, test: bool) -> Trigger {
    match (progress.round, progress.tries) {
        (1, 1) if test => Trigger::Test,
        (1, 1) => Trigger::First,
        (_, 1) => Trigger::Replay,
        (_, _) => Trigger::Retry,
    }
}

/// What was sent, and what came of it.
struct Tried {
    /// Where to; `None` if nothing was sent.
    url: Option<String>,
    headers: Vec<(String, String)>,
    test: bool,
    reply: Reply,
}

impl Tried {
    fn not_sent(failure: Failure) -> Self {
        Tried::with(Outcome::Failed(failure), false)
    }

    fn with(outcome: Outcome, test: bool) -> Self {
        let reply = Reply { outcome, response: None, timing: Timing::default() };
        Tried { url: None, headers: Vec::new(), test, reply }
    }
}

/// `None` if nothing was tried: the store could not say what the message is, it has expired, or the endpoint
/// has moved to another origin since. `terms` are what the message sets.
async fn try_it(parts: &Parts, lease: &Lease, destination: &Destination, terms: &mut Terms) -> Option<Tried> {
    let message = match &lease.message {
        Some(message) => Ok(Some(Arc::clone(message))),
        None => parts.store.message(lease.delivery.lane.application, lease.delivery.message).await,
    };
    if let Ok(Some(message)) = &message {
        let rule = destination.endpoint.settings.blocked_head.unwrap_or_default();
        let blocked_head = message.ordering_key.is_some().then_some(rule);
        *terms = Terms { expires_at: message.expires_at, blocked_head };
    }
    if lease.lost {
        return Some(Tried::with(LOST, false));
    }
    let message = match message {
        Ok(Some(message)) => message,
        Ok(None) => return Some(Tried::not_sent(Failure::Damaged)),
        Err(_) => return None,
    };
    if delivery::before(lease.progress, parts.clock.now(), *terms).is_some() {
        return None;
    }
    if message.expunged {
        return Some(Tried::with(Outcome::Failed(Failure::Expunged), message.test));
    }
    // The endpoint as it is now, and not as it was when the delivery was claimed: a key that was revoked meanwhile signs no
    // more. One that was deleted has no keys left; what was claimed for it before goes out as it was.
    let shown = parts.directory.destination(destination.lane()).filter(|shown| !shown.is_deleted());
    // Its permit counts at the origin that it was claimed for: at another one it is claimed anew.
    if shown.as_ref().is_some_and(|shown| shown.origin != destination.origin) {
        return None;
    }
    let destination = shown.as_deref().unwrap_or(destination);
    match request(destination, &message, parts.clock.now(), parts.clock.wall()) {
        Ok(Ready { request, headers }) => {
            let url = Some(destination.endpoint.settings.url.clone());
            let reply = parts.transport.post(request).await;
            Some(Tried { url, headers, test: message.test, reply })
        }
        Err(problem) => {
            tracing::warn!(endpoint = %destination.endpoint.id, message_id = %message.id, %problem, "cannot be sent");
            Some(Tried::with(Outcome::Failed(Failure::Unsendable), message.test))
        }
    }
}

struct Ready {
    request: Request,
    /// The headers as the log keeps them.
    headers: Vec<(String, String)>,
}

/// Builds the request. `now` decides which keys are active, `wall` is what receivers compare with their clock.
fn request(destination: &Destination, message: &Message, now: Timestamp, wall: Timestamp) -> Result<Ready, Invalid> {
    let Destination { endpoint, profile, url, .. } = destination;
    let wraps = profile.body != BodyMode::AsGiven;
    // The endpoint's body mode may have changed since the message was accepted.
    if wraps {
        let watched: Vec<&str> = body::added_names(profile).into_iter().flatten().collect();
        match (watched.is_empty(), message.json) {
            (true, true) => {}
            (true, false) => body::check(profile, &body::Shape::NotJson)?,
            (false, _) => body::check(profile, &body::Shape::of(&message.payload, &watched))?,
        }
    }
    let body = body::build(profile, &message.event_type, message.occurred_at, &message.payload);
    let secrets = endpoint.active_secrets(now);
    let id = message.id.to_string();
    let what = Signable { id: &id, time: wall, url: url.as_str(), body: &body };
    let signed = signature::sign(profile, &secrets, what)?;
    let content_type = if message.json || wraps { "application/json" } else { "application/octet-stream" };

    let redact = sends_the_secret_itself(profile, &secrets);
    let mut ours = vec![("Content-Type".to_owned(), content_type.to_owned(), content_type.to_owned())];
    ours.extend(signed.into_iter().map(|(name, value)| {
        let logged = if redact { REDACTED.to_owned() } else { value.clone() };
        (name, value, logged)
    }));
    let mut headers = Vec::with_capacity(endpoint.settings.headers.len() + ours.len());
    let mut log = Vec::with_capacity(headers.capacity());
    // No endpoint is made with a header that is ours; should one have it all the same, ours wins.
    let is_ours = |name: &str| ours.iter().any(|(ours, _, _)| ours.eq_ignore_ascii_case(name));
    for custom in endpoint.settings.headers.iter().filter(|custom| !is_ours(&custom.name)) {
        log.push((custom.name.clone(), REDACTED.to_owned()));
        headers.push((custom.name.clone(), custom.value.clone()));
    }
    for (name, value, logged) in ours {
        log.push((name.clone(), logged));
        headers.push((name, Secret::new(value)));
    }
    Ok(Ready { request: Request { url: url.clone(), headers, body, timeout: profile.timeout() }, headers: log })
}

fn sends_the_secret_itself(profile: &Profile, secrets: &[Secret]) -> bool {
    let token =
        |secret: &Secret| profile.signing.rule(secret.expose()).is_some_and(|rule| rule.kind == KeyKind::StaticToken);
    secrets.iter().any(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::broadcast;

    use crate::application::NewApplication;
    use crate::board::Board;
    use crate::clock::SystemClock;
    use crate::delivery::DeliveryId;
    use crate::directory::{Directory, Sweeps, Tenant};
    use crate::endpoint::{Endpoint, EndpointSettings, EndpointStatus, SigningKey};
    use crate::header::CustomHeader;
    use crate::id::{ApplicationId, EndpointId, MessageId};
    use crate::message::Routing;
    use crate::observed::Observed;
    use crate::random::IdSource;
    use crate::standing::Rule;
    use crate::store::Fence;
    use crate::store::memory::MemoryStore;
    use crate::testing;
    use crate::transport::Transport;

    /// Answers 200, and counts.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Transport for Counting {
        fn post(&self, _: Request) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let outcome = Outcome::answered(200);
            Box::pin(async move { Reply { outcome, response: None, timing: Timing::default() } })
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_moved_to_another_origin_after_the_claim_gets_nothing_that_was_not_counted_there() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let application = NewApplication::named("A").build(ApplicationId::from_bytes([1; 16]), now).unwrap();
        let at = |url: &str| {
            let endpoint = Endpoint {
                id: EndpointId::from_bytes([2; 16]),
                application: application.id,
                settings: EndpointSettings::at(url),
                keys: vec![SigningKey { secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(), expires_at: None }],
                status: EndpointStatus::Enabled,
                created_at: now,
                updated_at: now,
            };
            Arc::new(Destination::new(endpoint, 1).unwrap())
        };
        let directory = Arc::new(Directory::default());
        let transport = Arc::new(Counting::default());
        let parts = Parts {
            store: Arc::new(MemoryStore::new()),
            transport: Arc::<Counting>::clone(&transport),
            clock: Arc::new(SystemClock::starting_after(now)),
            directory: Arc::clone(&directory),
            sweeps: Arc::new(Sweeps::default()),
            board: Arc::new(Board::default()),
            observed: Arc::new(Observed::new(Rule { after: None, failures: 1 }, None)),
            ids: Arc::new(IdSource::new()),
            settled: broadcast::Sender::new(1),
        };
        let claimed = at("https://a.example/one");
        for (version, (url, posts)) in
            [("https://a.example/two", 1), ("https://b.example/one", 1)].into_iter().enumerate()
        {
            let shown = at(url);
            let endpoints = [(shown.endpoint.id, shown)].into();
            let list_version = version as u64 + 1;
            directory.show(Tenant { application: application.clone(), version: 1, list_version, endpoints });
            let id = MessageId::from_bytes([3; 16]);
            let message = testing::message(application.id, id, now, "{}", Routing::To(vec![]));
            let lease = Lease {
                delivery: DeliveryId { lane: claimed.lane(), message: id },
                progress: Progress::new(now),
                message: Some(Arc::new(message)),
                fence: Fence { epoch: 1, counter: 1 },
                lost: false,
            };
            let ended = attempt(parts.clone(), lease, Arc::clone(&claimed)).await;
            assert_eq!((ended.attempt.is_some(), transport.0.load(Ordering::SeqCst)), (version == 0, posts), "{url}");
        }
    }

    #[test]
    fn a_custom_header_never_stands_beside_ours() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let application = NewApplication::named("A").build(ApplicationId::from_bytes([1; 16]), now).unwrap().id;
        let endpoint = Endpoint {
            id: EndpointId::from_bytes([2; 16]),
            application,
            settings: EndpointSettings::at("https://a.example/"),
            keys: vec![SigningKey { secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(), expires_at: None }],
            status: EndpointStatus::Enabled,
            created_at: now,
            updated_at: now,
        };
        let mut destination = Destination::new(endpoint, 1).unwrap();
        // As if they had got past every check.
        for name in ["Svix-Signature", "content-type", "X-Other"] {
            destination.endpoint.settings.headers.push(CustomHeader::new(name, "forged"));
        }
        let message = testing::message(application, MessageId::from_bytes([3; 16]), now, "{}", Routing::To(vec![]));
        let Ready { request, headers } = request(&destination, &message, now, now).unwrap();
        for sent in [
            request.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            headers.iter().map(|(name, _)| name).collect(),
        ] {
            let mut names: Vec<String> = sent.iter().map(|name| name.to_ascii_lowercase()).collect();
            names.sort();
            assert_eq!(names, ["content-type", "svix-id", "svix-signature", "svix-timestamp", "x-other"]);
        }
        let forged = request.headers.iter().filter(|(_, value)| value.expose() == "forged").count();
        assert_eq!(forged, 1, "X-Other alone");
    }
}
