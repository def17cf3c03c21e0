//! How an endpoint stands in the server's eyes: whether it rests, and what it may have on its way.

use serde::Deserialize;

use super::Named;
use crate::cli::exit::Problem;
use crate::cli::out::Out;
use crate::cli::records::{Endpoint, Record};
use crate::cli::target::Session;

/// The answer of `…/health`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Health {
    breaker: Breaker,
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    cap: u32,
    #[serde(default)]
    in_flight: u32,
    #[serde(default)]
    pace: String,
    failing: Option<Failing>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failing {
    since: String,
    failures: u64,
    disable_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Breaker {
    state: String,
    until: Option<String>,
}

impl Health {
    /// What holds the endpoint back, in words; `None` if nothing does.
    pub(in crate::cli) fn held_back(&self) -> Option<String> {
        let failed = match self.failures {
            0 => String::new(),
            1 => " after 1 failure".to_owned(),
            count => format!(" after {count} failures in a row"),
        };
        match self.breaker.state.as_str() {
            "resting" => Some(format!("rests until {}{failed}", self.breaker.until.as_deref().unwrap_or("later"))),
            "probing" => Some(format!("is probed, one request at a time,{failed}")),
            _ => None,
        }
    }

    /// Shows it as fields. What is disabled gets nothing, whatever else is remembered of it.
    pub(super) fn show(&self, out: &Out, endpoint: &Endpoint) -> Result<(), Problem> {
        if endpoint.disabled {
            return out.field("health", "disabled: gets no requests");
        }
        let held = self.held_back();
        out.field("health", held.as_deref().unwrap_or("takes requests"))?;
        out.field("pace", &self.pace)?;
        out.field("on their way", &format!("{} of {} that may be now", self.in_flight, self.cap))?;
        if held.is_none() && self.failures > 0 {
            out.field("failures", &format!("{} in a row", self.failures))?;
        }
        if let Some(Failing { since, failures, disable_at }) = &self.failing {
            let times = if *failures == 1 { "once".to_owned() } else { format!("{failures} times") };
            out.field("failing", &format!("since {since}, {times}"))?;
            let earliest = disable_at.as_deref().map(|at| format!("{at} at the earliest"));
            out.field("disabled", earliest.as_deref().unwrap_or("never for failing"))?;
        }
        Ok(())
    }
}

/// Asks for an endpoint's health.
pub(super) async fn of(session: &Session, named: &Named) -> Result<Record<Health>, Problem> {
    session.api.get(&named.below(&["health"]), &Vec::new()).await
}

/// Shows it.
pub(super) async fn run(session: &Session, named: &Named) -> Result<(), Problem> {
    let health = of(session, named).await?;
    if session.out.json() {
        return session.out.raw(&health.raw);
    }
    let endpoint: Endpoint = session.api.get(&named.path(), &Vec::new()).await?;
    session.out.field("state", &endpoint.state())?;
    session.out.field("throttle", &endpoint.throttle())?;
    health.value.show(&session.out, &endpoint)
}
