//! One call of the HTTP API, and what its refusals mean in one sentence.
//!
//! Invariants: nothing is tried twice, but a POST that carries an idempotency key and never left (no connection); no proxy
//! and no redirect gets to see the token; every call has a deadline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use ringback::Secret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use super::exit::{Exit, Problem};

/// Where the API is on its server. Clients of it are given its address with this at the end.
const API: &str = "/api/v1";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a server that is there takes at most to answer a ping.
const PING: Duration = Duration::from_secs(3);

/// A query: names and values, in their order.
pub(super) type Query = Vec<(&'static str, String)>;

/// A way to a server.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Secret,
}

/// What a post under an idempotency key gave.
#[derive(Debug)]
pub(super) struct Posted<T> {
    /// The answer.
    pub(super) value: T,
    /// Whether it had been given before: the key had been used, and nothing was done.
    pub(super) repeated: bool,
}

/// An answer that is none of an error.
struct Answer {
    body: bytes::Bytes,
    repeated: bool,
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server answered, and not with what was asked for.
    Answered {
        /// The answer's status.
        status: u16,
        /// What the server says, in one sentence.
        text: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// No connection came about, so nothing was asked.
    NoConnection(String),
    /// The connection broke, or the answer is none: what was asked may have been done.
    NoAnswer(String),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let exit = match &refusal {
            Refusal::Answered { status: 401, .. } => Exit::Unreachable,
            Refusal::Answered { status: 404, .. } => Exit::NotFound,
            Refusal::Answered { .. } => Exit::Failed,
            Refusal::NoConnection(_) | Refusal::NoAnswer(_) => Exit::Unreachable,
        };
        Problem::new(exit, refusal.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Answered { text, .. } | Refusal::NoConnection(text) | Refusal::NoAnswer(text) => f.write_str(text),
        }
    }
}

impl Client {
    /// A way to the server at this address: `http://127.0.0.1:8071`, with or without the API's own path.
    pub(super) fn new(server: &Url, token: Secret) -> Result<Client, Problem> {
        let mut base = server.clone();
        base.set_query(None);
        base.set_fragment(None);
        if let Some(above) = server.path().trim_end_matches('/').strip_suffix(API) {
            base.set_path(above);
        }
        base.path_segments_mut()
            .map_err(|()| Problem::usage(format!("{server} is no address of a server")))?
            .pop_if_empty()
            .extend(API.trim_start_matches('/').split('/'));
        Ok(Client { http: http_client()?, base, token })
    }

    /// Whether a server answers there.
    pub(super) async fn answers(&self) -> bool {
        let Ok(url) = self.url(&["health", "ping"], &[]) else { return false };
        let answer = self.http.get(url).timeout(PING).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &Query) -> Result<T, Problem> {
        read(&self.call(Method::GET, path, query, None, None).await?)
    }

    /// Posts a JSON value.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &Query,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        read(&self.call(Method::POST, path, query, Some(written(body)?), None).await?)
    }

    /// Changes the members that are given.
    pub(super) async fn patch<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, Problem> {
        read(&self.call(Method::PATCH, path, &Query::new(), Some(written(body)?), None).await?)
    }

    /// Changes the members that are given; the answer has no content.
    pub(super) async fn patch_silently(&self, path: &[&str], body: &impl Serialize) -> Result<(), Problem> {
        self.call(Method::PATCH, path, &Query::new(), Some(written(body)?), None).await?;
        Ok(())
    }

    /// Deletes something.
    pub(super) async fn delete(&self, path: &[&str], query: &Query) -> Result<(), Problem> {
        self.call(Method::DELETE, path, query, None, None).await?;
        Ok(())
    }

    /// Deletes something that answers what becomes of it.
    pub(super) async fn delete_with<T: DeserializeOwned>(&self, path: &[&str], query: &Query) -> Result<T, Problem> {
        read(&self.call(Method::DELETE, path, query, None, None).await?)
    }

    /// Posts bytes under an idempotency key, if there is one. With a key, a post that found no connection is tried once more.
    pub(super) async fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &Query,
        body: bytes::Bytes,
        key: Option<&str>,
    ) -> Result<Posted<T>, Refusal> {
        let mut answer = self.call(Method::POST, path, query, Some(body.clone()), key).await;
        if key.is_some() && matches!(answer, Err(Refusal::NoConnection(_))) {
            answer = self.call(Method::POST, path, query, Some(body), key).await;
        }
        let Answer { body, repeated } = answer?;
        let value = serde_json::from_slice(&body).map_err(|error| Refusal::NoAnswer(unreadable(&error)))?;
        Ok(Posted { value, repeated })
    }

    /// Posts messages, one a line and each under a key of its own, and gives the result of each, in order. A post that found
    /// no connection is tried once more.
    pub(super) async fn post_lines<T: DeserializeOwned>(
        &self,
        path: &[&str],
        lines: bytes::Bytes,
    ) -> Result<Vec<Result<Posted<T>, Refusal>>, Refusal> {
        let mut answer = self.call(Method::POST, path, &Query::new(), Some(lines.clone()), None).await;
        if matches!(answer, Err(Refusal::NoConnection(_))) {
            answer = self.call(Method::POST, path, &Query::new(), Some(lines), None).await;
        }
        let body = answer?.body;
        let results = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        results.map(result_of_line).collect()
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &Query,
        body: Option<bytes::Bytes>,
        key: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let url = self.url(path, query).map_err(Refusal::NoConnection)?;
        let mut request = self.http.request(method, url).bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let retry_after = seconds(answer.headers().get("retry-after"));
        let repeated = answer.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        let body = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return Ok(Answer { body, repeated });
        }
        Err(Refusal::Answered { status: status.as_u16(), text: sentence(status.as_u16(), &body), retry_after })
    }

    fn url(&self, path: &[&str], query: &[(&'static str, String)]) -> Result<Url, String> {
        let mut url = self.base.clone();
        // Either would name another resource than the one that was meant.
        if let Some(wrong) = path.iter().find(|part| matches!(**part, "" | "." | "..")) {
            return Err(format!("`{wrong}` names nothing"));
        }
        url.path_segments_mut().expect("the base has a path").extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Refusal {
        let place = self.base.origin().ascii_serialization();
        if error.is_connect() {
            Refusal::NoConnection(format!(
                "nothing answers at {place}: start `ringback serve` there, or name another server with --server"
            ))
        } else if error.is_timeout() {
            Refusal::NoAnswer(format!("{place} did not answer within {} s", DEADLINE.as_secs()))
        } else {
            Refusal::NoAnswer(format!("the connection to {place} broke: {}", deepest(error)))
        }
    }
}

fn http_client() -> Result<reqwest::Client, Problem> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
        .with_no_client_auth();
    #[expect(
        clippy::disallowed_methods,
        reason = "calls the operator's own server, wherever it is, and no tenant's URL"
    )]
    let builder = reqwest::Client::builder();
    builder
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT)
        .timeout(DEADLINE)
        .user_agent(concat!("ringback-cli/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Problem::failed(format!("cannot make an HTTP client: {}", deepest(&error))))
}

fn written(body: &impl Serialize) -> Result<bytes::Bytes, Problem> {
    serde_json::to_vec(body).map(Into::into).map_err(|error| Problem::failed(error.to_string()))
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Problem> {
    serde_json::from_slice(&answer.body).map_err(|error| Problem::failed(unreadable(&error)))
}

fn unreadable(error: &serde_json::Error) -> String {
    format!("the server's answer is not one of ringback's API: {error}")
}

/// `Retry-After` in seconds. The dates that HTTP allows there too are not used by the API.
fn seconds(value: Option<&reqwest::header::HeaderValue>) -> Option<Duration> {
    value?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// What the result of one line says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LineResult {
    status: u16,
    #[serde(default)]
    repeated: bool,
    retry_after_seconds: Option<u64>,
}

/// # Errors
/// It is none.
fn result_of_line<T: DeserializeOwned>(line: &[u8]) -> Result<Result<Posted<T>, Refusal>, Refusal> {
    let unreadable = |error| Refusal::NoAnswer(unreadable(&error));
    let LineResult { status, repeated, retry_after_seconds } = serde_json::from_slice(line).map_err(unreadable)?;
    if (200..300).contains(&status) {
        let value = serde_json::from_slice(line).map_err(unreadable)?;
        return Ok(Ok(Posted { value, repeated }));
    }
    let retry_after = retry_after_seconds.map(Duration::from_secs);
    Ok(Err(Refusal::Answered { status, text: sentence(status, line), retry_after }))
}

/// The API's two forms of an error.
#[derive(Deserialize)]
struct ErrorBody {
    detail: Detail,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Detail {
    Text(String),
    Fields(Vec<FieldError>),
}

#[derive(Deserialize)]
struct FieldError {
    #[serde(default)]
    loc: Vec<serde_json::Value>,
    msg: String,
}

/// What an error answer says, in one sentence that names the field.
fn sentence(status: u16, body: &[u8]) -> String {
    match serde_json::from_slice::<ErrorBody>(body).map(|body| body.detail) {
        Ok(Detail::Text(text)) if status == 401 => format!("the server does not accept the token: {text}"),
        Ok(Detail::Text(text)) => text,
        Ok(Detail::Fields(fields)) => fields.iter().map(field_sentence).collect::<Vec<_>>().join("; "),
        Err(_) => format!("the server answered with status {status}, and without a word that can be read"),
    }
}

fn field_sentence(field: &FieldError) -> String {
    // The first part says where the field was: in the body, the path or the query.
    let names = field.loc.iter().skip(1).map(|part| match part.as_str() {
        Some(name) => name.to_owned(),
        None => part.to_string(),
    });
    let name = names.collect::<Vec<_>>().join(".");
    if name.is_empty() { field.msg.clone() } else { format!("{name}: {}", field.msg) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_sentence_with_its_field() {
        let body = br#"{"detail":[{"loc":["body","url"],"msg":"must be https","type":"value_error"},
            {"loc":["body","channels",0],"msg":"is too long","type":"value_error"}]}"#;
        assert_eq!(sentence(422, body), "url: must be https; channels.0: is too long");
        assert_eq!(
            sentence(404, br#"{"code":"not_found","detail":"there is no such application"}"#),
            "there is no such application"
        );
        assert!(sentence(502, b"<html>").contains("502"));
    }

    #[test]
    fn a_name_cannot_lead_to_another_resource() {
        let client = Client::new(&"http://127.0.0.1:1/prefix/".parse().unwrap(), "t".into()).unwrap();
        let url = |path: &[&str]| client.url(path, &[("a", "b c".to_owned())]).map(|url| url.to_string());
        assert_eq!(
            url(&["app", "x/../y?z"]),
            Ok("http://127.0.0.1:1/prefix/api/v1/app/x%2F..%2Fy%3Fz?a=b+c".to_owned())
        );
        for given in ["http://127.0.0.1:1/prefix/api/v1", "http://127.0.0.1:1/prefix/api/v1/"] {
            assert_eq!(Client::new(&given.parse().unwrap(), "t".into()).unwrap().base, client.base);
        }
        for name in ["", ".", ".."] {
            assert!(url(&["app", name]).is_err());
        }
    }
}
