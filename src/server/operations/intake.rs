//! Many messages at once: as one list, or as lines of a stream that may be of any length.
//!
//! Invariants: what is refused of one message costs the others nothing; no more of a stream is in memory than one bite and
//! what the socket gave with it; a bite is read only when the results of the one before are on their way.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as Stream;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use ringback::{ApplicationId, Error, MessageId, NewMessage, Routing, Sent};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::messages::MessageIn;
use crate::server::api::Api;
use crate::server::auth::Named;
use crate::server::body::{self, BODY_TIMEOUT};
use crate::server::once::{Answer, Once};
use crate::server::places::Place;
use crate::server::problem::{PartOut, Problem, RETRY_AFTER_SECONDS};
use crate::server::rest::ReadsOn;

/// The largest list, unless a single message may be larger.
const LARGEST_LIST: usize = 16 << 20;
/// A bite of a stream ends at so many lines, or with the line that takes it beyond so many bytes.
const BITE_LINES: usize = 256;
const BITE_BYTES: usize = 1 << 20;
/// How long a stream's next line may take to come.
const LINE_TIMEOUT: Duration = BODY_TIMEOUT;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(batch)).routes(routes!(ndjson))
}

/// Messages to be sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BatchIn<'a> {
    /// As many as the server takes at once: 1,000.
    #[serde(borrow)]
    #[schema(value_type = Vec<MessageIn>)]
    messages: Vec<&'a RawValue>,
}

/// What became of each message, in order.
#[derive(Serialize, ToSchema)]
struct BatchOut {
    #[schema(value_type = Vec<SentOut>)]
    data: Vec<PartResult>,
}

/// What became of a message that was stored.
#[derive(Serialize, ToSchema)]
struct SentOut {
    /// 202
    status: u16,
    #[schema(value_type = String)]
    id: MessageId,
    /// Whether its idempotency key had been used before: nothing new was stored.
    repeated: bool,
    /// Where it goes: `{"to": [ids]}`, or `{"nowhere": why}`; not for what is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    routing: Option<Routing>,
}

/// What became of one message.
#[derive(Serialize)]
#[serde(untagged)]
enum PartResult {
    Sent(SentOut),
    Refused(PartOut),
}

/// The same of a line.
#[derive(Serialize)]
struct LineResult {
    line: u64,
    #[serde(flatten)]
    result: PartResult,
}

impl From<Sent> for PartResult {
    fn from(sent: Sent) -> Self {
        let status = StatusCode::ACCEPTED.as_u16();
        PartResult::Sent(SentOut { status, id: sent.id, repeated: sent.repeated, routing: sent.routing })
    }
}

impl From<Problem> for PartResult {
    fn from(problem: Problem) -> Self {
        PartResult::Refused(problem.into())
    }
}

impl PartResult {
    /// Whether there was no room for it.
    fn may_come_again(&self) -> bool {
        match self {
            PartResult::Sent(_) => false,
            PartResult::Refused(part) => part.retry_after_seconds.is_some(),
        }
    }
}

impl Api {
    /// Makes a message of a part of a request's body.
    async fn part(&self, named: &str, raw: &Bytes) -> Result<(ApplicationId, NewMessage), Problem> {
        let mut given: MessageIn<'_> = body::read(raw)?;
        let new = self.new_message(named, raw, &given)?;
        Ok((self.application_for(named, given.application.take()).await?, new))
    }

    /// Sends messages: all at once or, where there is no room for all, the first of them. What stands against one of them
    /// stands against those after it. Gives the error, too, if it stands against all.
    async fn send_what_fits(
        &self,
        application: ApplicationId,
        mut batch: Vec<NewMessage>,
    ) -> (Vec<Result<Sent, Error>>, Option<Error>) {
        let mut results = Vec::with_capacity(batch.len());
        let mut most = batch.len();
        while !batch.is_empty() {
            let rest = batch.split_off(most.min(batch.len()));
            match self.ringback.send_batch(application, batch.clone()).await {
                Ok(sent) => results.extend(sent),
                // Nothing of it was stored.
                Err(Error::Overloaded(_)) if batch.len() > 1 => {
                    most = batch.len() / 2;
                    batch.extend(rest);
                    continue;
                }
                Err(error) => {
                    let failed = results.is_empty().then(|| error.clone());
                    results.extend(vec![Err(error); batch.len() + rest.len()]);
                    return (results, failed);
                }
            }
            batch = rest;
        }
        (results, None)
    }

    /// Sends parts with as few writes as they fit in. One result a part, in order; and the error that stood against all
    /// that could be sent, if one did.
    async fn send_parts(&self, named: &str, parts: Vec<Result<Bytes, Problem>>) -> (Vec<PartResult>, Option<Error>) {
        let mut results: Vec<Option<PartResult>> = Vec::with_capacity(parts.len());
        let mut batch = Vec::with_capacity(parts.len());
        let mut of = None;
        for part in parts {
            let made = match part {
                Ok(raw) => self.part(named, &raw).await,
                Err(problem) => Err(problem),
            };
            results.push(match made {
                // The path names one application.
                Ok((application, new)) => {
                    of = Some(application);
                    batch.push(new);
                    None
                }
                Err(problem) => Some(problem.into()),
            });
        }
        let (sent, failed) = match of {
            Some(application) => self.send_what_fits(application, batch).await,
            None => (Vec::new(), None),
        };
        let mut sent = sent.into_iter();
        let mut next = || match sent.next() {
            Some(Ok(sent)) => sent.into(),
            Some(Err(error)) => Problem::from(error).into(),
            None => Problem::from(Error::Closed).into(),
        };
        (results.into_iter().map(|result| result.unwrap_or_else(&mut next)).collect(), failed)
    }
}

/// Send many messages at once, with one result each
///
/// They are stored with as few writes as they fit in. A message that is refused stops no other one: its result has the
/// error, and the status that it would have had alone. Where nothing could be stored the answer is the error itself.
#[utoipa::path(post, path = "/app/{app_id}/msg/batch", operation_id = "v1.message.create-batch", tag = "Message",
    request_body = BatchIn, responses((status = 200, body = BatchOut, description = "A result each, in order")))]
async fn batch(
    State(api): State<Arc<Api>>,
    Named(named): Named,
    once: Once,
    request: Request,
) -> Result<Answer, Problem> {
    let raw = body::up_to(request, LARGEST_LIST.max(body::largest(&api))).await?;
    let BatchIn { messages } = body::read(&raw)?;
    let most = api.ringback.config().max_batch;
    if messages.is_empty() || messages.len() > most {
        return Err(Problem::invalid("body", "messages", format!("must have 1 to {most} messages")));
    }
    let largest = body::largest(&api);
    let part = |message: &&RawValue| match message.get().len() > largest {
        true => Err(Problem::too_large("message", largest)),
        false => Ok(raw.slice_ref(message.get().as_bytes())),
    };
    let parts = messages.iter().map(part).collect();
    let application = api.application_id(&named).ok();
    api.once(application, once, &raw, async {
        let (data, failed) = api.send_parts(&named, parts).await;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(Answer::ok(&BatchOut { data })),
        }
    })
    .await
}

/// Send a stream of messages, one a line, with one line of result each
///
/// Results come in order while lines are read, each with the number of its line; a client reads them while it writes, or
/// it is not read on. A line that is refused is a result and not the end. Where there is no room, the results say after
/// how many seconds (`retryAfterSeconds`) those lines may come again, and the stream is read on more slowly. Blank lines have
/// no result. A line, which may be a blank one, has to come within a minute of the one before.
#[utoipa::path(post, path = "/app/{app_id}/msg/ndjson", operation_id = "v1.message.create-ndjson", tag = "Message",
    request_body(content = MessageIn, content_type = "application/x-ndjson"),
    responses((status = 200, body = SentOut, content_type = "application/x-ndjson", description = "A line each, in order")))]
async fn ndjson(
    State(api): State<Arc<Api>>,
    Named(named): Named,
    once: Once,
    request: Request,
) -> Result<Response, Problem> {
    if once.key.is_some() {
        let problem = "a stream is not kept to be answered again: give each line an idempotencyKey";
        return Err(Problem::invalid("header", "idempotency-key", problem));
    }
    let place = request.extensions().get::<Arc<Place>>().cloned();
    let lines = Lines::of(request.into_body(), body::largest(&api));
    let intake = Intake { api, named, place, lines, must_rest: false, over: false };
    let results = futures_util::stream::unfold(intake, |mut intake| async {
        let results = intake.next().await?;
        Some((Ok::<Bytes, Infallible>(results), intake))
    });
    let mut response = ([(header::CONTENT_TYPE, "application/x-ndjson")], Stream::from_stream(results)).into_response();
    response.extensions_mut().insert(ReadsOn);
    Ok(response)
}

/// A stream that is taken in.
struct Intake {
    api: Arc<Api>,
    named: String,
    place: Option<Arc<Place>>,
    lines: Lines,
    /// There was no room for something of the last bite.
    must_rest: bool,
    over: bool,
}

impl Intake {
    /// The results of the next bite; `None` after the last one.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if std::mem::take(&mut self.must_rest) {
            tokio::time::sleep(Duration::from_secs(RETRY_AFTER_SECONDS)).await;
        }
        let bite = self.lines.bite(BITE_LINES.min(self.api.ringback.config().max_batch)).await;
        self.over = bite.over;
        if bite.lines.is_empty() {
            return None;
        }
        let (numbers, parts): (Vec<u64>, Vec<_>) = bite.lines.into_iter().unzip();
        // What is being stored is the server's doing, and its connection is not to be closed for another's sake.
        self.place.iter().for_each(|place| place.is_the_servers_turn());
        let (results, failed) = self.api.send_parts(&self.named, parts).await;
        self.place.iter().for_each(|place| place.is_the_clients_turn());
        self.over |= failed == Some(Error::Closed);
        self.must_rest = results.iter().any(PartResult::may_come_again);
        let mut text = Vec::with_capacity(results.len() * 128);
        for (line, result) in numbers.into_iter().zip(results) {
            serde_json::to_writer(&mut text, &LineResult { line, result }).expect("results are plain data");
            text.push(b'\n');
        }
        Some(text.into())
    }
}

/// The next lines of a stream.
struct Bite {
    /// With their numbers; what cannot be read of one is its result.
    lines: Vec<(u64, Result<Bytes, Problem>)>,
    /// Whether there are no more.
    over: bool,
}

/// A body, line by line.
struct Lines {
    body: Stream,
    longest: usize,
    /// What has come and is no whole line yet.
    begun: BytesMut,
    /// Whether the line that has begun is too long: what comes of it is dropped.
    too_long: bool,
    /// Whole lines.
    read: VecDeque<(u64, Result<Bytes, Problem>)>,
    number: u64,
    at_end: bool,
}

impl Lines {
    fn of(body: Stream, longest: usize) -> Lines {
        let (begun, read) = (BytesMut::new(), VecDeque::new());
        Lines { body, longest, begun, too_long: false, read, number: 0, at_end: false }
    }

    /// The lines that are there, so many at most; where there is none, the next one is waited for.
    async fn bite(&mut self, most: usize) -> Bite {
        while self.read.is_empty() && !self.at_end {
            let number = self.number;
            let waited = tokio::time::timeout(LINE_TIMEOUT, async {
                // A blank line is one, too: it keeps a stream that rests alive.
                while self.number == number && !self.at_end {
                    self.read_on().await;
                }
            });
            if waited.await.is_err() {
                return Bite { lines: vec![(self.number + 1, Err(Problem::too_slow()))], over: true };
            }
        }
        let mut lines = Vec::new();
        let mut bytes = 0;
        while lines.len() < most && bytes < BITE_BYTES {
            // What has come is taken along, and what has not is not waited for.
            while self.read.is_empty() && !self.at_end && self.read_on().now_or_never().is_some() {}
            let Some((number, line)) = self.read.pop_front() else { break };
            bytes += line.as_ref().map_or(0, Bytes::len);
            lines.push((number, line));
        }
        Bite { lines, over: self.at_end && self.read.is_empty() }
    }

    /// Reads a frame. Nothing is lost if this is given up and called again.
    async fn read_on(&mut self) {
        match self.body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.take(data);
                }
            }
            Some(Err(_)) => {
                // It broke off: what has begun may be half of a line.
                self.at_end = true;
                if !self.begun.is_empty() {
                    let problem = Problem::invalid("body", "", "the request ended before its body did");
                    self.end_line(Err(problem));
                }
            }
            None => {
                self.at_end = true;
                if self.too_long || !self.begun.is_empty() {
                    self.end_line(Ok(()));
                }
            }
        }
    }

    fn take(&mut self, mut data: Bytes) {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let line = data.split_to(end);
            let _newline = data.split_to(1);
            self.add(&line);
            self.end_line(Ok(()));
        }
        self.add(&data);
    }

    fn add(&mut self, part: &[u8]) {
        if self.begun.len() + part.len() > self.longest {
            self.too_long = true;
            self.begun.clear();
        }
        if !self.too_long {
            self.begun.extend_from_slice(part);
        }
    }

    /// A line is whole, or there is no more of it.
    fn end_line(&mut self, whole: Result<(), Problem>) {
        self.number += 1;
        let line = self.begun.split().freeze();
        let too_long = std::mem::take(&mut self.too_long);
        let line = match whole {
            Err(problem) => Err(problem),
            Ok(()) if too_long => Err(Problem::too_large("line", self.longest)),
            Ok(()) if line.trim_ascii().is_empty() => return,
            Ok(()) => Ok(line),
        };
        self.read.push_back((self.number, line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use tokio::sync::mpsc;

    fn texts(lines: Vec<(u64, Result<Bytes, Problem>)>) -> Vec<(u64, String)> {
        let text = |line: Result<Bytes, Problem>| {
            line.map_or("refused".into(), |line| String::from_utf8(line.into()).unwrap())
        };
        lines.into_iter().map(|(number, line)| (number, text(line))).collect()
    }

    /// A body that is written in these parts, of which each is there when it is asked for.
    fn body(parts: &[&'static str]) -> Stream {
        Stream::from_stream(stream::iter(parts.to_vec()).map_parts())
    }

    trait MapParts {
        fn map_parts(self) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> + Send + 'static;
    }

    impl<S: futures_util::Stream<Item = &'static str> + Send + 'static> MapParts for S {
        fn map_parts(self) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
            futures_util::StreamExt::map(self, |part| Ok(Bytes::from_static(part.as_bytes())))
        }
    }

    #[tokio::test]
    async fn lines_are_numbered_whole_and_a_long_one_costs_itself_alone() {
        let mut lines = Lines::of(body(&["o", "ne\n\n", "much too", " long a line\r\ntwo\nla", "st"]), 8);
        let bite = lines.bite(100).await;
        let expected = [(1, "one"), (3, "refused"), (4, "two"), (5, "last")];
        assert_eq!(texts(bite.lines), expected.map(|(number, text)| (number, text.to_owned())));
        assert!(bite.over);
    }

    #[tokio::test]
    async fn a_bite_has_its_bounds_and_the_rest_comes_next() {
        let mut lines = Lines::of(body(&["1\n2\n3\n", "4\n5"]), 8);
        let mut seen = Vec::new();
        loop {
            let bite = lines.bite(2).await;
            assert!(bite.lines.len() <= 2);
            seen.extend(texts(bite.lines).into_iter().map(|(number, _)| number));
            if bite.over {
                break;
            }
        }
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_come_is_not_kept_waiting_and_a_line_that_does_not_come_ends_the_stream() {
        let (sender, receiver) = mpsc::channel::<&'static str>(8);
        let parts =
            stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|part| (part, receiver)) });
        let mut lines = Lines::of(Stream::from_stream(parts.map_parts()), 8);
        sender.send("1\n2\n3").await.unwrap();
        let bite = lines.bite(100).await;
        assert_eq!((texts(bite.lines).len(), bite.over), (2, false));
        let drip = async {
            for _ in 0..40 {
                tokio::time::sleep(Duration::from_secs(2)).await;
                if sender.try_send("3").is_err() {
                    break;
                }
            }
        };
        let (bite, ()) = tokio::join!(lines.bite(100), drip);
        assert_eq!((texts(bite.lines), bite.over), (vec![(3, "refused".to_owned())], true));
    }
}
