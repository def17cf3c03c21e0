//! Sending: check, route, store. What `send` answers `Ok` to is on stable storage with all its deliveries.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::body::{self, Shape};
use crate::directory::{Destination, Tenant};
use crate::error::Error;
use crate::example;
use crate::fanout;
use crate::id::{ApplicationId, EndpointId, MessageId};
use crate::invalid::Invalid;
use crate::message::{Message, NewMessage, Routing, Timetable};
use crate::store::{Enqueue, Enqueued, Idempotency};
use crate::time::Timestamp;

use super::{Ringback, records};

/// How often a message is routed again when the endpoint list moved meanwhile.
const TRIES: usize = 16;
const PAUSE: Duration = Duration::from_millis(1);

/// What became of a message that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Sent {
    /// The message.
    pub id: MessageId,
    /// Where it goes, or why it goes nowhere. `None` where `repeated`.
    pub routing: Option<Routing>,
    /// Whether its idempotency key had been used before for the same content: `id` is then that message, and
    /// nothing new was stored.
    pub repeated: bool,
}

impl Ringback {
    /// Sends a message to the endpoints of an application that want it. When this returns `Ok`, the message
    /// and all its deliveries are on stable storage.
    ///
    /// Dropping the future before it returns leaves it open whether the message was stored: send again with
    /// the same idempotency key or event id.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no such application. [`Error::Invalid`] names the field. [`Error::EventIdTaken`] and
    /// [`Error::IdempotencyConflict`]: used before. [`Error::Overloaded`]: no room; try again later.
    /// [`Error::ApplicationOverloaded`]: the same, for this application alone. Nothing is stored in any of these. [`Error::Storage`]: the disk fails; the message is not promised, and may or may not
    /// be there once it works again: send again with the same idempotency key or event id.
    pub async fn send(&self, application: ApplicationId, message: impl Into<NewMessage>) -> Result<Sent, Error> {
        let mut results = self.send_all(application, vec![message.into()], None).await?;
        results.pop().unwrap_or(Err(Error::Closed))
    }

    /// Sends many messages with as few writes to the disk as they fit in. One result a message, in order; those
    /// that are refused, [`Error::ApplicationOverloaded`] among the reasons, do not stop the others.
    ///
    /// # Errors
    /// For the whole batch: [`Error::NotFound`], [`Error::Overloaded`], [`Error::Storage`], and
    /// [`Error::Invalid`] (`messages`) if there are more than `Config::max_batch`. After [`Error::Overloaded`] none of them
    /// is stored. After [`Error::Storage`] some may be: send again with the same idempotency keys or event ids.
    pub async fn send_batch(
        &self,
        application: ApplicationId,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        let most = self.inner.config.max_batch;
        if messages.len() > most {
            return Err(
                Invalid::new("messages", format!("has {} messages; the limit is {most}", messages.len())).into()
            );
        }
        self.send_all(application, messages, None).await
    }

    /// Sends the vendor's own example of an event to one endpoint, whatever its filters, marked in the log as a
    /// test. The vendor profiles know their vendor's event types. Of others it sends the example of the registered event
    /// type ([`NewEventType::schemas`](crate::NewEventType::schemas)), and where there is none, those profiles that
    /// belong to no vendor send one for everybody.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] (`eventType`) with the types that the profile has examples of;
    /// [`Error::Conflict`] if the endpoint is disabled; and as [`send`](Ringback::send).
    pub async fn send_test(
        &self,
        application: ApplicationId,
        endpoint: EndpointId,
        event_type: &str,
    ) -> Result<Sent, Error> {
        let destination = self.destination(application, endpoint)?;
        if destination.open().is_err() {
            return Err(Error::Conflict("the endpoint is disabled; enable it first"));
        }
        let profile = &destination.profile.name;
        let example = self.example(profile, event_type).ok_or_else(|| {
            let known = example::example_event_types(profile).join(", ");
            let problem = match known.is_empty() {
                true => "must be a dotted name".to_owned(),
                false => format!("the profile {profile} has examples of {known}"),
            };
            Invalid::new("eventType", problem)
        })?;
        let mut results = self.send_all(application, vec![example], Some(endpoint)).await?;
        results.pop().unwrap_or(Err(Error::Closed))
    }

    /// Sends to where each message is routed, or as a test to one endpoint.
    pub(super) async fn send_all(
        &self,
        application: ApplicationId,
        messages: Vec<NewMessage>,
        test: Option<EndpointId>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        let mut results: Vec<Option<Result<Sent, Error>>> = Vec::new();
        results.resize_with(messages.len(), || None);
        let mut waiting: Vec<(usize, NewMessage)> = messages.into_iter().enumerate().collect();
        for attempt in 0..TRIES {
            if attempt > 0 {
                // The list moved between routing and storing: whoever moved it is about to show the new one.
                tokio::time::sleep(PAUSE).await;
                let tenant = self.tenant(application)?;
                self.reread_tenant(&tenant).await?;
            }
            let tenant = self.tenant(application)?;
            let mut batch = Vec::with_capacity(waiting.len());
            let mut places = Vec::with_capacity(waiting.len());
            for (place, new) in waiting {
                match self.prepare(&tenant, &new, test) {
                    Ok(item) => {
                        batch.push(item);
                        places.push((place, new));
                    }
                    Err(invalid) => results[place] = Some(Err(invalid.into())),
                }
            }
            if batch.is_empty() {
                break;
            }
            let sent: Vec<Arc<Message>> = batch.iter().map(|item| Arc::clone(&item.message)).collect();
            let stored = match self.inner.store.enqueue(batch).await {
                Ok(stored) => stored,
                // What was stored before stays stored, and its sender is to know.
                Err(error) if attempt > 0 => {
                    let error = Error::from(error);
                    places.into_iter().for_each(|(place, _)| results[place] = Some(Err(error.clone())));
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            waiting = Vec::new();
            for (((place, new), message), enqueued) in places.into_iter().zip(sent).zip(stored) {
                match answer(&message, enqueued) {
                    Some(result) => results[place] = Some(result),
                    None => waiting.push((place, new)),
                }
            }
            if waiting.is_empty() {
                break;
            }
        }
        let moving = || Err(Error::Conflict("the application's endpoints are being changed too often; try again"));
        Ok(results.into_iter().map(|result| result.unwrap_or_else(moving)).collect())
    }

    /// Checks and routes a message. The payload is looked at once, here.
    fn prepare(&self, tenant: &Tenant, new: &NewMessage, test: Option<EndpointId>) -> Result<Enqueue, Invalid> {
        new.validate(self.inner.config.max_payload)?;
        let application = tenant.application.id;
        let routing = match test {
            Some(endpoint) => Routing::To(vec![endpoint]),
            None => {
                let endpoints = tenant.endpoints.values().map(|destination| &destination.endpoint);
                fanout::route(&new.event_type, &new.channels, endpoints)
            }
        };
        let json = check_bodies(tenant, &routing, &new.payload)?;
        let (accepted_at, random) = self.inner.ids.next(self.now());
        let Timetable { deliver_at, expires_at } = new.timetable(accepted_at)?;
        let message = Message {
            id: MessageId::from_parts(accepted_at, random),
            application,
            event_type: new.event_type.clone().into_owned(),
            payload: new.payload.clone(),
            json,
            event_id: new.event_id.clone(),
            channels: new.channels.clone(),
            occurred_at: new.occurred_at.unwrap_or(accepted_at),
            accepted_at,
            test: test.is_some(),
            routing,
            expunged: false,
            ordering_key: new.ordering_key.clone(),
            deliver_at,
            expires_at,
            tags: new.tags.clone(),
        };
        let idempotency = new.idempotency_key.as_ref().map(|key| Idempotency {
            key: key.clone(),
            digest: digest(new),
            expires_at: accepted_at + self.inner.config.idempotency_window,
        });
        let routed_over = Some((records::endpoint_list_key(application), tenant.list_version));
        Ok(Enqueue { message: Arc::new(message), routed_over, idempotency })
    }
}

/// Checks that each endpoint's body can be built from the payload; gives whether it is JSON.
fn check_bodies(tenant: &Tenant, routing: &Routing, payload: &[u8]) -> Result<bool, Invalid> {
    let endpoints: &[EndpointId] = match routing {
        Routing::To(endpoints) => endpoints,
        Routing::Nowhere(_) => &[],
    };
    let destinations: Vec<&Arc<Destination>> = endpoints.iter().filter_map(|id| tenant.endpoints.get(id)).collect();
    let watched: Vec<&str> =
        destinations.iter().flat_map(|destination| body::added_names(&destination.profile)).flatten().collect();
    let shape = Shape::of(payload, &watched);
    body::check_depth(payload, &shape)?;
    destinations.iter().try_for_each(|destination| body::check(&destination.profile, &shape))?;
    Ok(shape.is_json())
}

/// What an idempotency key stands for.
fn digest(new: &NewMessage) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    add(new.event_type.as_bytes());
    add(&new.payload);
    add(new.event_id.as_deref().unwrap_or_default().as_bytes());
    add(&new.occurred_at.map_or(u64::MAX, |time| time.as_millis()).to_be_bytes());
    new.channels.iter().for_each(|channel| add(channel.as_bytes()));
    // Each under its name, and nothing where it is not given: what was sent before there were these has its old digest.
    let time = |time: Timestamp| time.as_millis().to_be_bytes().to_vec();
    let age = |age: Duration| age.as_millis().to_be_bytes().to_vec();
    let options = [
        ("orderingKey", new.ordering_key.as_ref().map(|key| key.as_bytes().to_vec())),
        ("deliverAt", new.deliver_at.map(time)),
        ("expireAt", new.expires_at.map(time)),
        ("maxAge", new.max_age.map(age)),
    ];
    let tags = new.tags.iter().map(|tag| ("tag", Some(tag.as_bytes().to_vec())));
    for (name, value) in options.into_iter().chain(tags) {
        if let Some(value) = value {
            // A member's mark, which no channel has: those have no such byte.
            add(&[0]);
            add(name.as_bytes());
            add(&value);
        }
    }
    hasher.finalize().into()
}

/// `None`: to be routed again.
fn answer(message: &Message, enqueued: Enqueued) -> Option<Result<Sent, Error>> {
    Some(match enqueued {
        Enqueued::Stored => Ok(Sent { id: message.id, routing: Some(message.routing.clone()), repeated: false }),
        Enqueued::Repeated(id) => Ok(Sent { id, routing: None, repeated: true }),
        Enqueued::IdempotencyConflict => Err(Error::IdempotencyConflict),
        Enqueued::EventIdTaken(id) => Err(Error::EventIdTaken(id)),
        Enqueued::Stale => return None,
        Enqueued::NoRoom { open, limit } => {
            let endpoints = match &message.routing {
                Routing::To(endpoints) => endpoints.len(),
                Routing::Nowhere(_) => 0,
            };
            Err(Error::ApplicationOverloaded(format!(
                "this application has {open} bytes waiting; this message adds {} for each of {endpoints} endpoints, and \
                 the limit is {limit}",
                message.payload.len()
            )))
        }
    })
}
