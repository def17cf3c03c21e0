//! The transport seam: one HTTP request and what came of it. Real in `http.rs`, scripted in tests.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use crate::attempt::{Response, Timing};
use crate::delivery::Outcome;
use crate::secret::Secret;

/// A POST that is ready to leave.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where it goes.
    pub url: Url,
    /// Its headers, beside those that the transport writes itself (host, content-length).
    pub headers: Vec<(String, Secret)>,
    /// Its body.
    pub body: Bytes,
    /// The time limit of the whole attempt, the body of the answer included.
    pub timeout: Duration,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it showed.
    pub outcome: Outcome,
    /// The answer, where one came.
    pub response: Option<Response>,
    /// How long it took.
    pub timing: Timing,
}

/// Makes requests. It ends every one by its time limit, and never fails: what goes wrong is an [`Outcome`].
pub trait Transport: Send + Sync + 'static {
    /// Makes one request.
    fn post(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>>;
}
