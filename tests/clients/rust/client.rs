//! The official client of a running sidecar, its refusals and its verification.

use std::fmt::Debug;

use serde_json::{Value, json};
use svix::api::{ApplicationIn, EndpointIn, HttpErrorOut, MessageIn, Svix, SvixOptions};
use svix::error::Error;
use svix::webhooks::Webhook;

use crate::support::api::Api;
use crate::support::{Behaviour, Received, Receiver, until};

/// An address that is never called.
pub const HOOK: &str = "https://hooks.acme.example/in";

/// A sidecar, and the client as the operator has it.
pub struct Client {
    pub api: Api,
    pub svix: Svix,
}

impl Client {
    pub async fn start() -> Client {
        Client::start_with(&[]).await
    }

    /// Starts with settings from the environment.
    pub async fn start_with(environment: &[(&'static str, &'static str)]) -> Client {
        let api = Api::start_with(environment).await;
        let svix = connect(&api, api.http.token.clone().unwrap());
        Client { api, svix }
    }

    /// The same server, asked with another token.
    pub fn with_token(&self, token: &str) -> Svix {
        connect(&self.api, token.to_owned())
    }

    /// Makes an application with this uid.
    pub async fn application(&self, uid: &str) -> String {
        let application = ApplicationIn { uid: Some(uid.into()), ..ApplicationIn::new("Acme".into()) };
        self.svix.application().create(application, None).await.unwrap().uid.unwrap()
    }

    /// Makes an endpoint whose uid is a channel that it listens to.
    pub async fn endpoint(&self, application: &str, uid: &str, url: &str) -> String {
        let channels = Some(vec!["all".into(), uid.into()]);
        let endpoint = EndpointIn { uid: Some(uid.into()), channels, ..EndpointIn::new(url.into()) };
        self.svix.endpoint().create(application.into(), endpoint, None).await.unwrap().id
    }

    pub async fn secret(&self, application: &str, endpoint: &str) -> String {
        self.svix.endpoint().get_secret(application.into(), endpoint.into()).await.unwrap().key
    }

    /// Sends an event of the type `call.ended`; gives the message's id.
    pub async fn send(&self, application: &str) -> String {
        let message = MessageIn { channels: Some(vec!["all".into()]), ..event("call.ended", json!({"n": 1})) };
        self.svix.message().create(application.into(), message, None).await.unwrap().id
    }
}

fn connect(api: &Api, token: String) -> Svix {
    let server_url = Some(format!("http://{}", api.http.address));
    Svix::new(token, Some(SvixOptions { server_url, ..SvixOptions::default() }))
}

pub fn event(event_type: &str, payload: Value) -> MessageIn {
    MessageIn::new(event_type.into(), payload)
}

/// An id in the server's form that nothing has.
pub fn nobody(prefix: &str) -> String {
    format!("{prefix}_{}", "0".repeat(26))
}

/// The call must have been refused with this status, in the client's own type.
#[track_caller]
pub fn refused<T: Debug>(status: u16, answer: Result<T, Error>) -> HttpErrorOut {
    match answer.expect_err("a refusal") {
        Error::Http(error) => {
            assert_eq!(error.status.as_u16(), status, "{:?}", error.payload);
            let payload = error.payload.expect("the API's own JSON");
            assert!(!payload.code.is_empty() && !payload.detail.is_empty(), "{payload:?}");
            payload
        }
        other @ (Error::Generic(_) | Error::Validation(_)) => panic!("{other}"),
    }
}

/// The call must have been refused with 422, naming this field.
#[track_caller]
pub fn invalid<T: Debug>(loc: &[&str], answer: Result<T, Error>) {
    match answer.expect_err("a refusal") {
        Error::Validation(error) => {
            let items = error.payload.expect("the API's own JSON").detail;
            assert_eq!(items.len(), 1, "{items:?}");
            assert_eq!(items[0].loc, loc, "{items:?}");
            assert_eq!(items[0].r#type, "value_error");
            assert!(!items[0].msg.is_empty());
        }
        other @ (Error::Generic(_) | Error::Http(_)) => panic!("{other}"),
    }
}

/// Answers with this status; what it refuses, it never wants again.
pub fn refusing(status: u16) -> Behaviour {
    match status {
        422 => Behaviour::AnswerWith(422, vec![("webhook-delivery", "abort-message".to_owned())], Vec::new()),
        other => Behaviour::Answer(other),
    }
}

/// The attempts of this message that have arrived, once there are as many.
pub async fn arrived(receiver: &Receiver, message: &str, count: usize) -> Vec<Received> {
    let own = || -> Vec<Received> {
        let all = receiver.received().into_iter();
        all.filter(|request| request.header("svix-id") == Some(message)).collect()
    };
    until(|| async { own().len() >= count }).await;
    own()
}

fn header_map(request: &Received) -> http::HeaderMap {
    let named = |(name, value): &(String, String)| {
        (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
    };
    request.headers.iter().map(named).collect()
}

/// Whether the official package accepts the request.
pub fn accepts(secret: &str, request: &Received) -> bool {
    Webhook::new(secret).unwrap().verify(&request.body, &header_map(request)).is_ok()
}

/// The official package must accept the request, and refuse it with another body or id.
#[track_caller]
pub fn verifies(secret: &str, request: &Received) {
    assert!(accepts(secret, request), "{request:?}");
    for body in [[b" ", request.body.as_slice()].concat(), [request.body.as_slice(), b" "].concat()] {
        assert!(!accepts(secret, &Received { body, ..request.clone() }));
    }
    let mut other = request.clone();
    let (_, id) = other.headers.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("svix-id")).unwrap();
    id.push('0');
    assert!(!accepts(secret, &other));
}
