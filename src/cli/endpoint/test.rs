//! `ringback endpoint test`: an example event, and what its first attempt showed.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Named;
use crate::cli::escape::escaped;
use crate::cli::exit::{Exit, Problem};
use crate::cli::records::{Attempt, Endpoint, Message, Page, Record};
use crate::cli::style::Style;
use crate::cli::target::Session;
use crate::cli::times::short;

/// How often the log is looked at.
const EVERY: Duration = Duration::from_millis(150);
/// How much longer than the attempt's own limit is waited: until it has a turn, and until it is on record.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest time limit that an attempt can have.
const LONGEST: Duration = Duration::from_secs(300);
/// How much of the answer's body is shown.
const ANSWER: usize = 400;

/// Sends the example and waits.
pub(super) async fn run(session: &Session, named: &Named, event_type: Option<String>) -> Result<Exit, Problem> {
    let Session { api, out, .. } = session;
    if let Some(why) = session.not_delivering().await {
        return Err(Problem::failed(format!("nothing is delivered, so nothing can be tested: {why}")));
    }
    let endpoint: Record<Endpoint> = api.get(&named.path(), &Vec::new()).await?;
    let event_type = match event_type {
        Some(event_type) => event_type,
        None => default_type(&endpoint.value),
    };
    let path = named.below(&["send-example"]);
    let message: Record<Message> = api.post(&path, &Vec::new(), &json!({ "eventType": event_type })).await?;
    let id = &message.value.id;
    out.note(&format!("{event_type} goes to {} as {id}", endpoint.value.url));
    let limit = time_limit(session, &endpoint.value).await;
    match tokio::time::timeout(limit + PATIENCE, first_attempt(session, named, id)).await {
        Ok(attempt) => show(session, named, &attempt?),
        Err(_) => Err(Problem::failed(format!(
            "there was no attempt within {}: `ringback show {} {id}` says how it stands",
            short(limit + PATIENCE),
            named.app
        ))),
    }
}

/// The first event type that the endpoint wants and its profile has an example of; if it wants all, the profile's first.
fn default_type(endpoint: &Endpoint) -> String {
    let profile = endpoint.profile_name();
    let wanted = endpoint.event_types.as_deref().unwrap_or_default();
    if let Some(both) = wanted.iter().find(|wanted| ringback::example(profile, wanted).is_some()) {
        return both.clone();
    }
    ringback::example_event_types(profile).first().copied().unwrap_or("example.event").to_owned()
}

/// How long an attempt may take: the endpoint's own limit, or its profile's.
async fn time_limit(session: &Session, endpoint: &Endpoint) -> Duration {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Limit {
        timeout_ms: u64,
    }
    let ms = match (endpoint.timeout_ms, &endpoint.profile) {
        (Some(ms), _) => Some(ms),
        (None, Value::String(name)) => {
            let profile = session.api.get::<Limit>(&["profile", name], &Vec::new()).await;
            profile.ok().map(|profile| profile.timeout_ms)
        }
        (None, profile) => profile["timeoutMs"].as_u64(),
    };
    ms.map_or(LONGEST, Duration::from_millis).min(LONGEST)
}

async fn first_attempt(session: &Session, named: &Named, message: &str) -> Result<Record<Attempt>, Problem> {
    let path = ["app", &named.app, "attempt", "msg", message];
    let query = vec![("limit", "1".to_owned())];
    loop {
        let page: Page<Attempt> = session.api.get(&path, &query).await?;
        if let Some(attempt) = page.data.into_iter().next() {
            return Ok(attempt);
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn show(session: &Session, named: &Named, attempt: &Record<Attempt>) -> Result<Exit, Problem> {
    let out = &session.out;
    let Record { raw, value: attempt } = attempt;
    let delivered = attempt.result == "delivered";
    if out.json() {
        out.raw(raw)?;
    } else {
        let (style, word) = if delivered { (Style::Good, "delivered") } else { (Style::Bad, "not delivered") };
        let outcome = escaped(attempt.outcome().as_bytes(), 40);
        out.line(&format!("{}: {outcome} after {}", out.paint(style, word), short(attempt.took())))?;
        // Without an answer the text is the hint.
        if attempt.response_status_code != 0 && !attempt.response.is_empty() {
            out.line(&format!("  the answer says: {}", escaped(attempt.response.as_bytes(), ANSWER)))?;
        }
        if let Some(hint) = &attempt.hint {
            out.line(&out.paint(Style::Dim, &format!("  hint: {}", escaped(hint.as_bytes(), usize::MAX))))?;
        }
    }
    if attempt.result == "waiting" {
        let (app, message) = (&named.app, &attempt.msg_id);
        out.note(&format!(
            "the test is tried again by the endpoint's schedule, as any event: ringback cancel {app} {message} ends that"
        ));
    }
    Ok(if delivered { Exit::Done } else { Exit::Failed })
}
