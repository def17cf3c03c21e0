//! Answers, and idempotency keys: what is asked twice under one key is done once and answered twice.
//!
//! Messages carry their key into the store's own write; every other operation leaves a receipt.

use std::future::Future;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ringback::{ApplicationId, Receipt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::api::Api;
use super::problem::Problem;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Stands in an answer that was given before, with `true`.
const AGAIN: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What is being asked, and under which key.
pub(super) struct Once {
    operation: String,
    pub(super) key: Option<String>,
}

impl FromRequestParts<Arc<Api>> for Once {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Once, Problem> {
        let key = match parts.headers.get(KEY) {
            None => None,
            Some(value) => match value.to_str() {
                Ok(text) if (1..=256).contains(&text.len()) => Some(text.to_owned()),
                _ => return Err(Problem::invalid("header", KEY.as_str(), "must have 1 to 256 printable characters")),
            },
        };
        Ok(Once { operation: format!("{} {}", parts.method, parts.uri.path()), key })
    }
}

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    body: Bytes,
    again: bool,
}

impl Answer {
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
        let body = serde_json::to_vec(value).expect("answers are plain data with texts as keys");
        Answer { status, body: body.into(), again: false }
    }

    pub(super) fn ok(value: &impl Serialize) -> Answer {
        Answer::json(StatusCode::OK, value)
    }

    pub(super) fn created(value: &impl Serialize) -> Answer {
        Answer::json(StatusCode::CREATED, value)
    }

    pub(super) fn accepted(value: &impl Serialize) -> Answer {
        Answer::json(StatusCode::ACCEPTED, value)
    }

    pub(super) fn nothing() -> Answer {
        Answer { status: StatusCode::NO_CONTENT, body: Bytes::new(), again: false }
    }

    /// The same, marked as one that was given before: the request's key had been used, and nothing was done.
    pub(super) fn given_again(self) -> Answer {
        Answer { again: true, ..self }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = match self.body.is_empty() {
            true => self.status.into_response(),
            false => (self.status, [(header::CONTENT_TYPE, "application/json")], self.body).into_response(),
        };
        if self.again {
            response.headers_mut().insert(AGAIN, HeaderValue::from_static("true"));
        }
        response
    }
}

/// An answer as a receipt keeps it.
#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    status: u16,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

fn keep(answer: &Answer) -> Bytes {
    let body = serde_json::from_slice(&answer.body).ok();
    serde_json::to_vec(&Kept { status: answer.status.as_u16(), body }).expect("a status and JSON").into()
}

fn kept(bytes: &[u8]) -> Option<Answer> {
    let Kept { status, body } = serde_json::from_slice(bytes).ok()?;
    let body = body.map(|body| Bytes::copy_from_slice(body.get().as_bytes())).unwrap_or_default();
    Some(Answer { status: StatusCode::from_u16(status).ok()?, body, again: true })
}

impl Api {
    /// Does `work` unless it was done under the same key before; then its answer is given again. The same key with
    /// another body is a conflict.
    pub(super) async fn once<W>(
        &self,
        application: Option<ApplicationId>,
        once: Once,
        body: &[u8],
        work: W,
    ) -> Result<Answer, Problem>
    where
        W: Future<Output = Result<Answer, Problem>>,
    {
        let Some(key) = once.key else { return work.await };
        let digest = Sha256::digest(body).into();
        let pending = match self.ringback.receipt(application, &once.operation, &key, digest).await? {
            Receipt::Answered(bytes) => {
                return kept(&bytes).ok_or_else(|| Problem::conflict("it was done before; its answer was not kept"));
            }
            Receipt::Fresh(pending) => pending,
        };
        let answer = work.await;
        let noted = match &answer {
            Ok(answer) => pending.answered(keep(answer)).await,
            Err(problem) if problem.changed_nothing() => pending.refused().await,
            // Whether it was done is not known, and the key remembers that.
            Err(_) => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, operation = once.operation, "an idempotency key's answer was not stored");
        }
        answer
    }
}
