//! Event types: registering, finding, changing and deleting them.
//!
//! All of them are in memory; the store's records are the truth, and every change is made on top of the record as it
//! is. Schemas stand in records of their own beside the event type's, since the store wants its records small.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use crate::error::Error;
use crate::event_type::{EventType, NewEventType};
use crate::example;
use crate::message::{NewMessage, validate_event_type};
use crate::store::{Put, Record, RecordKind};

use super::claims::{Claim, Claims};
use super::{Ringback, parts, records};

/// The most event types of a store.
pub const MAX_EVENT_TYPES: usize = 10_000;
/// The most bytes of all event types' schemas together: they are in memory.
pub const MAX_ALL_SCHEMAS: usize = 64 << 20;

/// How often a change is tried again when the record moved meanwhile.
const TRIES: usize = 16;
const UNPOISONED: &str = "no code panics while it holds the event types";

/// An event type, and how many bytes its schemas have.
struct Shown {
    event_type: Arc<EventType>,
    bytes: usize,
}

/// Every event type.
#[derive(Default)]
pub(super) struct EventTypes {
    shown: RwLock<BTreeMap<String, Shown>>,
    /// One change of a name at a time, so that what is shown last is what was stored last.
    changing: Claims<String>,
}

impl EventTypes {
    fn claim(&self, name: &str) -> Result<Claim<String>, Error> {
        self.changing.claim(name.to_owned()).ok_or(CHANGING)
    }

    fn show(&self, event_type: EventType, bytes: usize) -> Arc<EventType> {
        let event_type = Arc::new(event_type);
        let shown = Shown { event_type: Arc::clone(&event_type), bytes };
        self.shown.write().expect(UNPOISONED).insert(event_type.name.clone(), shown);
        event_type
    }

    fn forget(&self, name: &str) {
        self.shown.write().expect(UNPOISONED).remove(name);
    }

    /// Whether there is room for this name's schemas to have so many bytes.
    fn check_room(&self, name: &str, bytes: usize) -> Result<(), Error> {
        let shown = self.shown.read().expect(UNPOISONED);
        if shown.len() >= MAX_EVENT_TYPES && !shown.contains_key(name) {
            return Err(Error::Overloaded("there are 10,000 event types, as many as there may be".to_owned()));
        }
        let others: usize = shown.iter().filter(|(other, _)| *other != name).map(|(_, shown)| shown.bytes).sum();
        if bytes > 0 && others + bytes > MAX_ALL_SCHEMAS {
            return Err(Error::Overloaded(
                "the schemas of all event types have 64 MiB, as many as they may".to_owned(),
            ));
        }
        Ok(())
    }
}

const CHANGING: Error = Error::Conflict("the event type is being changed at the same time; try again");

impl Ringback {
    /// Registers an event type. Event types need not be registered to be sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::NameTaken`] if it is registered; [`Error::Overloaded`] if there are
    /// 10,000 or their schemas have 64 MiB; [`Error::Conflict`] if it is being changed at the same time;
    /// [`Error::Storage`].
    pub async fn create_event_type(&self, new: NewEventType) -> Result<Arc<EventType>, Error> {
        let text = new.checked()?;
        new.retention.validate(&self.inner.config.retention())?;
        let _claim = self.inner.event_types.claim(&new.name)?;
        if let Some(record) = self.inner.store.get(records::event_type_key(&new.name)).await? {
            // It is shown as well, unless the call that made it was dropped before it returned.
            self.show_event_type(&record).await?;
            return Err(Error::NameTaken(new.name));
        }
        self.inner.event_types.check_room(&new.name, text.len())?;
        let now = self.now();
        let event_type = new.build(now, now);
        if !self.inner.store.put(write(&event_type, &text, None)).await? {
            return Err(Error::NameTaken(event_type.name));
        }
        let shown = self.inner.event_types.show(event_type, text.len());
        self.inner.rules_changed.notify_one();
        Ok(shown)
    }

    /// Registers an event type, or changes the one with its name: everything is replaced by what is given. Says whether
    /// it was made.
    ///
    /// The last writer wins, unless [`if_unchanged_since`](NewEventType::if_unchanged_since) is given.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::Overloaded`] as for
    /// [`create_event_type`](Ringback::create_event_type); [`Error::Conflict`] if it is being changed at the same time,
    /// or was since the time that is given; [`Error::Storage`].
    pub async fn put_event_type(&self, new: NewEventType) -> Result<(Arc<EventType>, bool), Error> {
        let text = new.checked()?;
        new.retention.validate(&self.inner.config.retention())?;
        let _claim = self.inner.event_types.claim(&new.name)?;
        self.inner.event_types.check_room(&new.name, text.len())?;
        let now = self.now();
        for _ in 0..TRIES {
            let record = self.inner.store.get(records::event_type_key(&new.name)).await?;
            let stored = record.as_ref().and_then(|record| records::event_type_from(&record.value));
            self.check_unchanged(stored.as_ref().map(|stored| stored.updated_at), new.if_unchanged_since)?;
            let event_type = match &stored {
                Some(stored) => new.clone().build(stored.created_at, self.later_than(stored.updated_at)),
                None => new.clone().build(now, now),
            };
            if self.inner.store.put(write(&event_type, &text, record.as_ref())).await? {
                let shown = self.inner.event_types.show(event_type, text.len());
                self.inner.rules_changed.notify_one();
                return Ok((shown, record.is_none()));
            }
        }
        Err(CHANGING)
    }

    /// A registered event type.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn event_type(&self, name: &str) -> Result<Arc<EventType>, Error> {
        let shown = self.inner.event_types.shown.read().expect(UNPOISONED);
        shown.get(name).map(|shown| Arc::clone(&shown.event_type)).ok_or(Error::NotFound("event type"))
    }

    /// All registered event types, by name.
    pub fn event_types(&self) -> Vec<Arc<EventType>> {
        let shown = self.inner.event_types.shown.read().expect(UNPOISONED);
        shown.values().map(|shown| Arc::clone(&shown.event_type)).collect()
    }

    /// Deletes an event type. What was sent of it stays, and more of it may be sent.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] if it is being changed at the same time; [`Error::Storage`].
    pub async fn delete_event_type(&self, name: &str) -> Result<(), Error> {
        validate_event_type("name", name).map_err(|_| Error::NotFound("event type"))?;
        let _claim = self.inner.event_types.claim(name)?;
        for _ in 0..TRIES {
            let key = records::event_type_key(name);
            let Some(record) = self.inner.store.get(key.clone()).await? else {
                self.inner.event_types.forget(name);
                return Err(Error::NotFound("event type"));
            };
            let mut batch = remove_schemas(&record);
            batch.push(Put { key, expected: record.version, active: true, value: None });
            if self.inner.store.put(batch).await? {
                self.inner.event_types.forget(name);
                return Ok(());
            }
        }
        Err(CHANGING)
    }

    /// The example to try an endpoint out with: the vendor's own where the profile has one, else the registered event
    /// type's, else the one for everybody.
    pub(super) fn example(&self, profile_name: &str, event_type: &str) -> Option<NewMessage> {
        let general = example::example(profile_name, event_type);
        if example::example_event_types(profile_name).contains(&event_type) {
            return general;
        }
        let registered = self.event_type(event_type).ok();
        let own = registered.as_ref().and_then(|registered| registered.example());
        own.map(|payload| NewMessage::value(event_type.to_owned(), payload)).or(general)
    }

    pub(super) async fn read_event_types(&self) -> Result<(), Error> {
        for record in self.all_records(RecordKind::EventType, None).await? {
            self.show_event_type(&record).await?;
        }
        Ok(())
    }

    async fn show_event_type(&self, record: &Record) -> Result<(), Error> {
        let name = String::from_utf8_lossy(&record.key.key).into_owned();
        let Some(stored) = records::event_type_from(&record.value) else {
            tracing::error!(name, "an event type's record cannot be read; it is left out");
            return Ok(());
        };
        let owner = records::schemas_owner(&record.key, record.version);
        let text = parts::read(&*self.inner.store, RecordKind::EventTypeSchemas, &owner, stored.schemas_bytes).await?;
        let schemas = text.as_ref().and_then(|text| serde_json::from_slice(text).ok());
        if stored.schemas_bytes > 0 && schemas.is_none() {
            tracing::error!(name, "an event type's schemas cannot be read; they are left out");
        }
        let bytes = stored.schemas_bytes;
        self.inner.event_types.show(stored.into_event_type(name, schemas), bytes);
        Ok(())
    }
}

/// The write that puts an event type on top of its record.
fn write(event_type: &EventType, schemas: &str, old: Option<&Record>) -> Vec<Put> {
    let expected = old.map_or(0, |record| record.version);
    let key = records::event_type_key(&event_type.name);
    let owner = records::schemas_owner(&key, expected + 1);
    let mut batch = old.map(remove_schemas).unwrap_or_default();
    let value = Some(records::event_type_to(event_type, schemas.len()));
    batch.push(Put { key, expected, active: true, value });
    batch.extend(parts::write(RecordKind::EventTypeSchemas, &owner, schemas.as_bytes()));
    batch
}

fn remove_schemas(record: &Record) -> Vec<Put> {
    let bytes = records::event_type_from(&record.value).map_or(0, |stored| stored.schemas_bytes);
    parts::remove(RecordKind::EventTypeSchemas, &records::schemas_owner(&record.key, record.version), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::NewApplication;
    use crate::front::fixture::Fixture;
    use serde_json::json;

    fn with_schemas(schemas: serde_json::Value) -> NewEventType {
        NewEventType { schemas: Some(schemas), ..NewEventType::named("a.b") }
    }

    #[tokio::test]
    async fn a_name_is_registered_once_and_changed_as_often_as_one_likes() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let made = ringback.create_event_type(NewEventType::named("a.b")).await.unwrap();
        let again = ringback.create_event_type(NewEventType::named("a.b")).await;
        assert_eq!(again, Err(Error::NameTaken("a.b".into())));
        let new = NewEventType { deprecated: true, ..NewEventType::named("a.b") };
        let (changed, was_made) = ringback.put_event_type(new.clone()).await.unwrap();
        assert!(changed.deprecated && !was_made && changed.created_at == made.created_at);
        assert!(changed.updated_at > made.updated_at);
        let stale = NewEventType { if_unchanged_since: Some(made.updated_at), ..new };
        assert!(matches!(ringback.put_event_type(stale).await, Err(Error::Conflict(_))));
        let (_, was_made) = ringback.put_event_type(NewEventType::named("a.c")).await.unwrap();
        assert!(was_made);
        let names = |ringback: &Ringback| ringback.event_types().iter().map(|e| e.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&ringback), ["a.b", "a.c"]);
        ringback.delete_event_type("a.b").await.unwrap();
        assert_eq!(ringback.delete_event_type("a.b").await, Err(Error::NotFound("event type")));
        assert_eq!(ringback.delete_event_type(&"x".repeat(1000)).await, Err(Error::NotFound("event type")));
        assert_eq!((names(&ringback), names(&fixture.open().await)), (vec!["a.c".into()], vec!["a.c".into()]));
        ringback.create_event_type(NewEventType::named("a.b")).await.unwrap();
    }

    #[tokio::test]
    async fn what_another_handle_registered_is_found_by_trying_to() {
        let fixture = Fixture::new();
        // A call that was dropped before it returned leaves the same: a record that is not shown.
        let late = fixture.open().await;
        let made = fixture.open().await.create_event_type(with_schemas(json!({"1": {}}))).await.unwrap();
        assert_eq!(late.event_type("a.b"), Err(Error::NotFound("event type")));
        assert_eq!(late.create_event_type(NewEventType::named("a.b")).await, Err(Error::NameTaken("a.b".into())));
        assert_eq!(late.event_type("a.b"), Ok(made));
    }

    #[tokio::test]
    async fn schemas_of_any_length_are_replaced_whole_and_leave_no_parts() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let parts = async || {
            let listed = fixture.store.list(RecordKind::EventTypeSchemas, None, None, 250).await.unwrap();
            listed.iter().map(|record| record.value.len()).sum::<usize>()
        };
        for bytes in [10, 200_000, 32_768, 70_000] {
            let schemas = json!({"1": "x".repeat(bytes - 8)});
            ringback.put_event_type(with_schemas(schemas.clone())).await.unwrap();
            assert_eq!(parts().await, bytes);
            assert_eq!(fixture.open().await.event_type("a.b").unwrap().schemas, Some(schemas));
        }
        ringback.put_event_type(NewEventType::named("a.b")).await.unwrap();
        assert_eq!((parts().await, &fixture.open().await.event_type("a.b").unwrap().schemas), (0, &None));
        ringback.put_event_type(with_schemas(json!({"1": {}}))).await.unwrap();
        ringback.delete_event_type("a.b").await.unwrap();
        assert_eq!(parts().await, 0);
    }

    #[tokio::test]
    async fn more_schemas_than_there_is_room_for_are_refused() {
        let ringback = Fixture::new().open().await;
        let full = |number: usize| NewEventType {
            schemas: Some(json!({"1": "x".repeat((256 << 10) - 8)})),
            ..NewEventType::named(number.to_string())
        };
        for number in 0..256 {
            ringback.create_event_type(full(number)).await.unwrap();
        }
        assert!(matches!(ringback.create_event_type(full(256)).await, Err(Error::Overloaded(_))));
        ringback.put_event_type(full(0)).await.unwrap();
        ringback.create_event_type(NewEventType::named("small")).await.unwrap();
    }

    #[tokio::test]
    async fn a_test_event_is_the_vendor_s_own_then_the_registered_one_then_anybody_s() {
        let ringback = Fixture::new().open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        let registered = json!({"registered": true});
        for name in ["invoice.paid", "phone_call.ended"] {
            let schemas = Some(json!({"1": {"examples": [registered.clone()]}}));
            ringback.put_event_type(NewEventType { schemas, ..NewEventType::named(name) }).await.unwrap();
        }
        let mut payloads = Vec::new();
        for (profile, event_type) in [
            ("levers", "phone_call.ended"),
            ("levers", "invoice.paid"),
            ("svix", "phone_call.ended"),
            ("svix", "invoice.unpaid"),
        ] {
            let new = crate::endpoint::NewEndpoint::at("https://a.example/").profile(profile);
            let endpoint = ringback.create_endpoint(app, new).await.unwrap().id;
            let sent = ringback.send_test(app, endpoint, event_type).await.unwrap();
            let message = ringback.message(app, sent.id).await.unwrap();
            assert!(message.test);
            let payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            payloads.push((payload == registered, payload.get("providerCallId").is_some()));
        }
        assert_eq!(payloads, [(false, true), (true, false), (true, false), (false, false)]);
    }
}
