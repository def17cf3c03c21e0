//! A request that arrived, as people and programs are shown it.

use axum::body::Bytes;
use ringback::Timestamp;
use serde_json::json;
use serde_json::value::RawValue;

use crate::cli::escape::{escaped, shown};
use crate::cli::exit::Problem;
use crate::cli::json_text;
use crate::cli::out::Out;
use crate::cli::style::Style;
use crate::cli::times::clock_time;

/// How much of a body is shown to people.
const SHOWN: usize = 16 << 10;

/// What the signature showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It fits.
    Verified,
    /// It does not, and why.
    Refused(String),
    /// The profile signs nothing.
    Unsigned,
    /// No secret was given.
    NotLookedAt,
}

/// A request that arrived.
pub(super) struct Arrived {
    pub(super) at: Timestamp,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) verdict: Verdict,
    pub(super) answered: u16,
    pub(super) body: Bytes,
}

impl Arrived {
    /// Shows it.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub(super) fn show(&self, out: Out) -> Result<(), Problem> {
        if out.json() { out.value(&self.json()) } else { self.to_people(out) }
    }

    fn json(&self) -> serde_json::Value {
        let (verified, why) = match &self.verdict {
            Verdict::Verified => (Some(true), None),
            Verdict::Refused(why) => (Some(false), Some(why.as_str())),
            Verdict::Unsigned | Verdict::NotLookedAt => (None, None),
        };
        json!({
            "at": self.at,
            "method": self.method,
            "target": self.target,
            "id": self.id,
            "eventType": self.event_type,
            "verified": verified,
            "why": why,
            "answered": self.answered,
            "headers": self.headers,
            "body": String::from_utf8_lossy(&self.body),
        })
    }

    fn to_people(&self, out: Out) -> Result<(), Problem> {
        let (style, verdict) = match &self.verdict {
            Verdict::Verified => (Style::Good, "verified".to_owned()),
            Verdict::Refused(why) => (Style::Bad, format!("NOT verified: {}", shown(why))),
            Verdict::Unsigned => (Style::Dim, "not signed, by its profile".to_owned()),
            Verdict::NotLookedAt => (Style::Dim, "not looked at: no secret".to_owned()),
        };
        let text = |text: &Option<String>| escaped(text.as_deref().unwrap_or("-").as_bytes(), 256);
        out.line(&format!(
            "{} {} {} {}  {}  answered {}",
            clock_time(&self.at.to_string()),
            out.paint(Style::Bold, &text(&self.event_type)),
            text(&self.id),
            escaped(format!("{} {}", self.method, self.target).as_bytes(), 256),
            out.paint(style, &verdict),
            self.answered
        ))?;
        out.line(&self.body_text())?;
        out.line("")
    }

    /// JSON is indented; anything else stands on one line.
    fn body_text(&self) -> String {
        if self.body.is_empty() {
            return "  (no body)".to_owned();
        }
        match serde_json::from_slice::<&RawValue>(&self.body) {
            Ok(json) if json.get().len() <= SHOWN => format!("  {}", json_text::indented(json.get(), 2)),
            Ok(_) | Err(_) => format!("  {}", escaped(&self.body, SHOWN)),
        }
    }
}
