//! A vendor's customer: it judges each request that its receiver got, and answers as its bad day has it.
//!
//! Every request is judged, also one that is answered 500 or not at all: first by itself (`verify.rs`), then against
//! the document, then against the earlier requests of the same event.

use std::collections::BTreeMap;

use super::documents::{self, Expected};
use super::receiver::{Answer, Request};
use super::scenario::{Event, Form, TYPED_ID, Vendor, events};
use super::verify::{Trusted, verify};

/// How many requests of each event a customer with a bad day spoils.
const SPOILED: usize = 2;

/// What a customer got of one event.
#[derive(Debug, Clone, Default)]
pub(super) struct Got {
    /// How many requests.
    pub(super) requests: usize,
    /// How many it answered with a success. After the first, an event is known by its idempotency key.
    pub(super) taken: usize,
    /// What was wrong with any of them.
    pub(super) problems: Vec<String>,
    first: Option<Request>,
    message: Option<String>,
    signed_at: Option<u64>,
}

impl Got {
    /// Whether the event arrived, and nothing was wrong with any request.
    pub(super) fn verified(&self) -> bool {
        self.objections().is_empty()
    }

    /// What keeps it from being verified.
    pub(super) fn objections(&self) -> Vec<String> {
        match (self.requests, self.taken) {
            (0, _) => vec!["no request that the receiver trusts arrived".to_owned()],
            (_, 0) => [self.problems.clone(), vec!["no request was answered with a success".to_owned()]].concat(),
            (_, _) => self.problems.clone(),
        }
    }
}

/// A vendor's customer.
#[derive(Debug)]
pub(super) struct Customer {
    vendor: Vendor,
    expected: BTreeMap<String, Expected>,
    got: BTreeMap<String, Got>,
    /// What was wrong with requests that belong to no event, and how often.
    pub(super) strays: BTreeMap<String, usize>,
}

impl Customer {
    /// A customer that knows what its vendor's page promises.
    pub(super) fn of(vendor: Vendor) -> serde_json::Result<Self> {
        let its_own = events().into_iter().filter(|event| event.vendor == vendor);
        let expected = its_own.map(|event| Ok((event.key(), documents::expected(&event)?)));
        let expected = expected.collect::<serde_json::Result<_>>()?;
        Ok(Customer { vendor, expected, got: BTreeMap::new(), strays: BTreeMap::new() })
    }

    /// What it got of an event.
    pub(super) fn got(&self, event: &Event) -> Got {
        self.got.get(&event.key()).cloned().unwrap_or_default()
    }

    /// How many requests it got in all.
    pub(super) fn requests(&self) -> usize {
        self.got.values().map(|got| got.requests).sum()
    }

    /// Judges a request and answers it. `now` is the receiver's clock, in seconds since 1970.
    pub(super) fn answer(&mut self, request: &Request, now: u64) -> Answer {
        let trusted = match verify(request, now) {
            Ok(trusted) => trusted,
            Err(distrust) => {
                *self.strays.entry(distrust.why).or_default() += 1;
                return Answer::Reply(distrust.status, r#"{"error":"Invalid signature"}"#);
            }
        };
        let Some((key, expected)) = self.event_of(&trusted).and_then(|key| self.expected.get_key_value(&key)) else {
            let why = format!("an event of type {} that nobody sent", trusted.event_type.escape_debug());
            *self.strays.entry(why).or_default() += 1;
            return Answer::Reply(400, r#"{"error":"unknown event"}"#);
        };
        let got = self.got.entry(key.clone()).or_default();
        got.problems.extend(compare_with_the_document(request, &trusted, expected));
        let changes = got.compare_with_earlier(request, &trusted);
        got.problems.extend(changes);
        got.requests += 1;
        let answer = answer(self.vendor, got.requests);
        if matches!(answer, Answer::Reply(200..=299, _)) {
            got.taken += 1;
        }
        answer
    }

    /// The event that a request is of, by its type and the id in its data.
    fn event_of(&self, trusted: &Trusted) -> Option<String> {
        let form = if trusted.id == TYPED_ID { Form::Typed } else { Form::Document };
        let found = events()
            .into_iter()
            .find(|event| event.vendor == self.vendor && event.event_type == trusted.event_type && event.form == form);
        found.map(|event| event.key())
    }
}

/// What a customer answers to the request of this number, from 1, of an event.
fn answer(vendor: Vendor, number: usize) -> Answer {
    let spoiled = number <= SPOILED;
    match vendor {
        // What a stack trace or a log may do to a terminal, if somebody lets it.
        Vendor::Levers if spoiled => Answer::Reply(500, "database is away\u{1b}[31m\n"),
        Vendor::Levers => Answer::Reply(204, ""),
        Vendor::Levrage if spoiled => Answer::Silence,
        Vendor::Levrage => Answer::Reply(200, r#"{"status":"ok"}"#),
        // It is spoiled by not listening at all.
        Vendor::Subverse => Answer::Reply(200, r#"{"received":true}"#),
    }
}

/// The payload's bytes are the document's, to the letter; a typed event's have the same value.
fn compare_with_the_document(request: &Request, trusted: &Trusted, expected: &Expected) -> Option<String> {
    let same = match expected {
        Expected::Bytes(text) => {
            request.body.strip_suffix(b"}").is_some_and(|body| body.ends_with(format!(r#""data":{text}"#).as_bytes()))
        }
        Expected::Value(value) => trusted.data == *value,
    };
    (!same).then(|| "the data is not the document's".to_owned())
}

impl Got {
    /// One event is one message: its id and its bytes stay the same, and time runs forward.
    fn compare_with_earlier(&mut self, request: &Request, trusted: &Trusted) -> Vec<String> {
        let mut problems = Vec::new();
        match &self.first {
            None => {
                self.first = Some(request.clone());
                self.message.clone_from(&trusted.message);
            }
            Some(first) => {
                if first.body != request.body {
                    problems.push("the body is another than that of the first attempt".to_owned());
                }
                if self.message != trusted.message {
                    problems.push("the message id is another than that of the first attempt".to_owned());
                }
                if self.signed_at > trusted.signed_at {
                    problems.push("the signature's time is before that of an earlier attempt".to_owned());
                }
            }
        }
        self.signed_at = trusted.signed_at;
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(data: &str) -> Request {
        let body = format!(r#"{{"eventType":"call.placed","createdAt":"2026-01-31T08:30:00Z","data":{data}}}"#);
        let headers = [("Content-Type", "application/json"), ("Authorization", Vendor::Subverse.secret())];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Request { vendor: Vendor::Subverse, method: "POST".into(), headers, body: body.into() }
    }

    fn call_placed() -> Event {
        events().into_iter().find(Event::becomes_a_dead_letter).unwrap()
    }

    #[test]
    fn the_documents_own_bytes_are_verified_and_others_are_not() {
        let document = documents::payload(Vendor::Subverse, "call.placed");
        let mut customer = Customer::of(Vendor::Subverse).unwrap();
        assert_eq!(customer.answer(&request(document), 0), Answer::Reply(200, r#"{"received":true}"#));
        assert!(customer.got(&call_placed()).verified());
        // The same value, without the line breaks.
        let value: serde_json::Value = serde_json::from_str(document).unwrap();
        customer.answer(&request(&value.to_string()), 0);
        let got = customer.got(&call_placed());
        assert_eq!((got.requests, got.problems.len(), got.verified()), (2, 2, false));
    }

    #[test]
    fn what_belongs_to_no_event_is_told() {
        let mut customer = Customer::of(Vendor::Subverse).unwrap();
        let mut stray = request("{}");
        stray.headers.pop();
        assert!(matches!(customer.answer(&stray, 0), Answer::Reply(401, _)));
        assert_eq!((customer.strays.len(), customer.requests()), (1, 0));
    }
}
