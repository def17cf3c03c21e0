//! Applications: making, finding, changing and deleting them; and reading the directory at open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::application::{Application, NewApplication};
use crate::delivery::{CancelReason, Lane};
use crate::directory::{Destination, Tenant};
use crate::error::Error;
use crate::id::{ApplicationId, EndpointId};
use crate::store::{Put, Record, RecordKind};
use crate::time::Timestamp;

use super::{Ringback, records, sealing};

impl Ringback {
    /// Makes an application.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::UidTaken`].
    pub async fn create_application(&self, new: NewApplication) -> Result<Application, Error> {
        new.retention.validate(&self.inner.config.retention())?;
        let now = self.now();
        let (time, random) = self.inner.ids.next(now);
        let application = new.build(ApplicationId::from_parts(time, random), now)?;
        let mut batch = vec![Put {
            key: records::application_key(application.id),
            expected: 0,
            active: true,
            value: Some(records::application_to(&application)),
        }];
        // From the start, so that a send that was routed before it is erased is not stored after it.
        batch.push(list_put(application.id, 0));
        if let Some(uid) = &application.uid {
            batch.push(self.uid_put(records::application_uid_key(uid), &application.id.to_bytes()));
        }
        if !self.inner.store.put(batch).await? {
            let uid = application.uid.unwrap_or_default();
            self.reread_owner(&uid).await?;
            return Err(Error::UidTaken(uid));
        }
        self.inner.directory.show(Tenant {
            application: application.clone(),
            version: 1,
            list_version: 1,
            endpoints: BTreeMap::new(),
        });
        self.inner.rules_changed.notify_one();
        Ok(application)
    }

    pub(super) fn uid_put(&self, key: crate::store::RecordKey, id: &[u8]) -> Put {
        Put { key, expected: 0, active: true, value: Some(id.to_vec().into()) }
    }

    /// An application by its id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn application(&self, id: ApplicationId) -> Result<Application, Error> {
        Ok(self.tenant(id)?.application.clone())
    }

    /// An application by the platform's own name for it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn application_by_uid(&self, uid: &str) -> Result<Application, Error> {
        let found = self.inner.directory.tenant_by_uid(uid);
        found.map(|tenant| tenant.application.clone()).ok_or(Error::NotFound("application"))
    }

    /// All applications, oldest first.
    pub fn applications(&self) -> Vec<Application> {
        self.inner.directory.tenants().iter().map(|tenant| tenant.application.clone()).collect()
    }

    /// Changes an application: everything is replaced by what is given.
    ///
    /// The last writer wins, unless [`if_unchanged_since`](NewApplication::if_unchanged_since) is given.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] names the field; [`Error::UidTaken`]; [`Error::Conflict`] if it
    /// was changed at the same time, or since the time that is given.
    pub async fn update_application(&self, id: ApplicationId, new: NewApplication) -> Result<Application, Error> {
        let tenant = self.tenant(id)?;
        let old = &tenant.application;
        self.check_unchanged(Some(old.updated_at), new.if_unchanged_since)?;
        new.retention.validate(&self.inner.config.retention())?;
        let changed = new.build(id, self.later_than(old.updated_at))?;
        let changed = Application { created_at: old.created_at, ..changed };
        let mut batch = vec![Put {
            key: records::application_key(id),
            expected: tenant.version,
            active: true,
            value: Some(records::application_to(&changed)),
        }];
        if old.uid != changed.uid {
            if let Some(uid) = &old.uid {
                let key = records::application_uid_key(uid);
                batch.push(Put { key, expected: 1, active: true, value: None });
            }
            if let Some(uid) = &changed.uid {
                let key = records::application_uid_key(uid);
                if self.inner.store.get(key.clone()).await?.is_some() {
                    self.reread_owner(uid).await?;
                    return Err(Error::UidTaken(uid.clone()));
                }
                batch.push(self.uid_put(key, &id.to_bytes()));
            }
        }
        if !self.inner.store.put(batch).await? {
            self.reread(id).await?;
            return Err(Error::Conflict("the application was changed at the same time; try again"));
        }
        let tenant = Tenant { application: changed.clone(), version: tenant.version + 1, ..(*tenant).clone() };
        self.inner.directory.refresh(tenant);
        // What waits in front of its bounds may have others by now.
        self.inner.store.bell().notify_one();
        self.inner.rules_changed.notify_one();
        Ok(changed)
    }

    /// Deletes an application and its endpoints, and revokes its tokens. What waits to be delivered is canceled; what is stored of its
    /// messages goes with retention.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] if it was changed at the same time.
    pub async fn delete_application(&self, id: ApplicationId) -> Result<(), Error> {
        let endpoints: Vec<EndpointId> = self.endpoints(id)?.iter().map(|endpoint| endpoint.id).collect();
        for endpoint in endpoints {
            self.delete_endpoint(id, endpoint).await?;
        }
        self.revoke_tokens(id).await?;
        let tenant = self.tenant(id)?;
        // Its record stays, inactive: what still waits after a restart is found by it.
        let mut batch = vec![Put {
            key: records::application_key(id),
            expected: tenant.version,
            active: false,
            value: Some(records::application_to(&tenant.application)),
        }];
        // No endpoint is made, and no message stored, by whoever read it before.
        batch.push(list_put(id, tenant.list_version));
        if let Some(uid) = &tenant.application.uid {
            batch.push(Put { key: records::application_uid_key(uid), expected: 1, active: true, value: None });
        }
        if !self.inner.store.put(batch).await? {
            self.reread(id).await?;
            return Err(Error::Conflict("the application was changed at the same time; try again"));
        }
        self.inner.directory.forget(id);
        Ok(())
    }

    /// Shows an application as the store has it: a call that was dropped before it returned may have changed it.
    async fn reread(&self, id: ApplicationId) -> Result<(), Error> {
        let Some(record) = self.inner.store.get(records::application_key(id)).await? else { return Ok(()) };
        match records::application_from(id, &record.value) {
            Some(application) if record.active => {
                self.read_tenant(application, record.version).await?;
                // It may have been deleted while it was read.
                let still = self.inner.store.get(records::application_key(id)).await?;
                if still.is_none_or(|record| !record.active) {
                    self.inner.directory.forget(id);
                }
            }
            Some(_) => self.inner.directory.forget(id),
            None => {}
        }
        Ok(())
    }

    async fn reread_owner(&self, uid: &str) -> Result<(), Error> {
        let owner = self.inner.store.get(records::application_uid_key(uid)).await?;
        match owner.and_then(|record| record.value.as_ref().try_into().ok()) {
            Some(id) => self.reread(ApplicationId::from_bytes(id)).await,
            None => Ok(()),
        }
    }

    /// The time of a change: later than that of the change before it, so that no two have the same.
    pub(super) fn later_than(&self, last: Timestamp) -> Timestamp {
        self.now().max(last + Duration::from_millis(1))
    }

    /// Checks that what is changed is as the caller read it; `None` is what is not there.
    pub(super) fn check_unchanged(
        &self,
        updated_at: Option<Timestamp>,
        expected: Option<Timestamp>,
    ) -> Result<(), Error> {
        match expected {
            Some(expected) if updated_at != Some(expected) => {
                Err(Error::Conflict("it was changed since it was read; read it again"))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn tenant(&self, id: ApplicationId) -> Result<Arc<Tenant>, Error> {
        self.inner.directory.tenant(id).ok_or(Error::NotFound("application"))
    }

    /// Reads every application and endpoint into the directory, and notes the lanes that are to be swept.
    pub(super) async fn read_directory(&self) -> Result<(), Error> {
        for record in self.all_records(RecordKind::Application, None).await? {
            let Ok(id) = record.key.key.as_slice().try_into().map(ApplicationId::from_bytes) else { continue };
            match records::application_from(id, &record.value) {
                Some(_) if !record.active => self.note_deleted(id).await?,
                Some(application) => self.read_tenant(application, record.version).await?,
                None => tracing::error!(application = %id, "an application's record cannot be read; it is left out"),
            }
        }
        Ok(())
    }

    /// Has the chores cancel what waits for the endpoints of a deleted application.
    async fn note_deleted(&self, application: ApplicationId) -> Result<(), Error> {
        for record in self.all_records(RecordKind::Endpoint, Some(application)).await? {
            let Ok(endpoint) = record.key.key.as_slice().try_into().map(EndpointId::from_bytes) else { continue };
            self.inner.sweeps.note(Lane { application, endpoint }, Err(CancelReason::EndpointDeleted));
        }
        Ok(())
    }

    /// Reads an application's endpoints anew.
    async fn read_tenant(&self, application: Application, version: u64) -> Result<(), Error> {
        let tenant = self.tenant_as_stored(application, version).await?;
        self.inner.directory.show(tenant.clone());
        self.note_closed(&tenant);
        Ok(())
    }

    /// The same of an application that is shown. One that is deleted meanwhile stays deleted.
    pub(super) async fn reread_tenant(&self, tenant: &Tenant) -> Result<(), Error> {
        let tenant = self.tenant_as_stored(tenant.application.clone(), tenant.version).await?;
        self.inner.directory.refresh(tenant.clone());
        self.note_closed(&tenant);
        Ok(())
    }

    /// What is shown already, since a sweep looks at that.
    fn note_closed(&self, tenant: &Tenant) {
        for destination in tenant.endpoints.values() {
            self.inner.sweeps.note(destination.lane(), destination.open());
        }
    }

    async fn tenant_as_stored(&self, application: Application, version: u64) -> Result<Tenant, Error> {
        let id = application.id;
        // The list's version first: endpoints read after it are at least as new.
        let list = self.inner.store.get(records::endpoint_list_key(id)).await?;
        let mut endpoints = BTreeMap::new();
        for record in self.all_records(RecordKind::Endpoint, Some(id)).await? {
            let Ok(endpoint_id) = record.key.key.as_slice().try_into().map(EndpointId::from_bytes) else { continue };
            let mut endpoint = records::endpoint_from(id, endpoint_id, &record.value, &self.inner.seals);
            let reserved = endpoint.as_mut().map(|endpoint| endpoint.settings.take_out_reserved());
            for header in reserved.unwrap_or_default() {
                tracing::warn!(endpoint = %endpoint_id, header, "a stored header is reserved by now, and is not sent");
            }
            match endpoint.map(|endpoint| Destination::new(endpoint, record.version)) {
                Some(Ok(destination)) => drop(endpoints.insert(endpoint_id, Arc::new(destination))),
                Some(Err(problem)) => tracing::error!(endpoint = %endpoint_id, %problem, "an endpoint cannot be used"),
                None => tracing::error!(endpoint = %endpoint_id, "an endpoint's record cannot be read; it is left out"),
            }
        }
        let list_version = list.map_or(0, |record| record.version);
        Ok(Tenant { application, version, list_version, endpoints })
    }

    pub(super) async fn all_records(&self, kind: RecordKind, of: Option<ApplicationId>) -> Result<Vec<Record>, Error> {
        sealing::all_records(&*self.inner.store, kind, of).await
    }
}

/// Moves an application's endpoint list on.
fn list_put(application: ApplicationId, expected: u64) -> Put {
    let key = records::endpoint_list_key(application);
    Put { key, expected, active: true, value: Some(bytes::Bytes::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::fixture::Fixture;
    use crate::store::MAX_PAGE;

    #[tokio::test]
    async fn more_applications_than_a_page_holds_are_found_at_open() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        for number in 0..=MAX_PAGE {
            ringback.create_application(NewApplication::named(number.to_string())).await.unwrap();
        }
        assert_eq!(fixture.open().await.applications(), ringback.applications());
    }

    #[tokio::test]
    async fn of_two_who_read_the_same_application_and_write_it_back_the_second_is_told() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let read = ringback.create_application(NewApplication::named("A")).await.unwrap();
        let write = |name: &str, throttle_rate| NewApplication {
            throttle_rate,
            if_unchanged_since: Some(read.updated_at),
            ..NewApplication::named(name)
        };
        let first = ringback.update_application(read.id, write("B", Some(100))).await.unwrap();
        assert!(matches!(ringback.update_application(read.id, write("C", None)).await, Err(Error::Conflict(_))));
        assert_eq!(fixture.open().await.application(read.id), Ok(first.clone()));
        assert_eq!((first.name.as_str(), first.throttle_rate), ("B", Some(100)));
        let last = ringback.update_application(read.id, NewApplication::named("D")).await.unwrap();
        assert!(read.updated_at < first.updated_at && first.updated_at < last.updated_at, "the clock stood");
    }

    #[tokio::test]
    async fn what_a_dropped_call_left_behind_is_found_by_the_next_one() {
        let fixture = Fixture::new();
        // What another handle does is what a dropped call leaves: it is stored, and not shown.
        let (late, other) = (fixture.open().await, fixture.open().await);
        let new = || NewApplication::named("A").uid("a");
        let made = other.create_application(new()).await.unwrap();
        assert_eq!(late.create_application(new()).await, Err(Error::UidTaken("a".into())));
        assert_eq!(late.application_by_uid("a"), Ok(made.clone()));

        let changed = other.update_application(made.id, NewApplication::named("B").uid("b")).await.unwrap();
        assert!(matches!(late.update_application(made.id, new()).await, Err(Error::Conflict(_))));
        assert_eq!(late.application(made.id), Ok(changed));
        other.update_application(made.id, NewApplication::named("C").uid("c")).await.unwrap();
        let same = NewApplication::named("C").uid("c");
        assert_eq!(late.update_application(made.id, same.clone()).await, Err(Error::UidTaken("c".into())), "its own");
        late.update_application(made.id, same).await.unwrap();

        fixture.open().await.delete_application(made.id).await.unwrap();
        assert!(matches!(late.delete_application(made.id).await, Err(Error::Conflict(_))));
        assert_eq!(late.delete_application(made.id).await, Err(Error::NotFound("application")));
    }

    #[tokio::test]
    async fn an_application_s_record_of_before_there_were_throttle_rates_is_read() {
        let fixture = Fixture::new();
        let id = ApplicationId::from_bytes([1; 16]);
        let old = r#"{"v":1,"uid":null,"name":"A","metadata":{},"created_at":"2026-01-31T08:30:00Z",
                      "updated_at":"2026-01-31T08:30:00Z"}"#;
        let put = Put { key: records::application_key(id), expected: 0, active: true, value: Some(old.into()) };
        assert!(fixture.store.put(vec![put]).await.unwrap());
        let application = fixture.open().await.application(id).unwrap();
        assert_eq!((application.name.as_str(), application.throttle_rate), ("A", None));
    }

    #[tokio::test]
    async fn a_uid_leads_to_the_application_that_has_it_now() {
        let ringback = Fixture::new().open().await;
        let named = |uid: &str| NewApplication::named("A").uid(uid);
        let first = ringback.create_application(named("x")).await.unwrap();
        ringback.update_application(first.id, named("y")).await.unwrap();
        let second = ringback.create_application(named("x")).await.unwrap();
        assert_eq!(ringback.application_by_uid("x").unwrap().id, second.id);
        assert_eq!(ringback.application_by_uid("y").unwrap().id, first.id);
        ringback.delete_application(second.id).await.unwrap();
        assert_eq!(ringback.application_by_uid("x"), Err(Error::NotFound("application")));
        assert_eq!(ringback.application_by_uid("y").unwrap().id, first.id);
    }
}
