//! Endpoints: making, finding, changing, closing and deleting them, and their keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::Lane;
use crate::directory::{Destination, Tenant};
use crate::endpoint::{self, Endpoint, EndpointSettings, EndpointStatus, MAX_KEYS, NewEndpoint, SigningKey};
use crate::error::Error;
use crate::health::EndpointHealth;
use crate::id::{ApplicationId, EndpointId};
use crate::invalid::Invalid;
use crate::profile::SecretRule;
use crate::random::secret_bytes;
use crate::secret::Secret;
use crate::signature;
use crate::store::Put;
use crate::time::Timestamp;

use super::{Ringback, records, standings};

/// How often a change is tried again when the endpoint list moved meanwhile.
const TRIES: usize = 16;

impl Ringback {
    /// Makes an endpoint of an application, enabled unless it says otherwise.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] names the field (an address that must not be called is `url`);
    /// [`Error::UidTaken`]; [`Error::ApplicationOverloaded`] if the application has as many as it may have.
    pub async fn create_endpoint(
        &self,
        application: ApplicationId,
        new: impl Into<NewEndpoint>,
    ) -> Result<Endpoint, Error> {
        let NewEndpoint { settings, secret, disabled, if_unchanged_since: _ } = new.into();
        let (url, profile) = settings.validate()?;
        self.inner.gate.policy().check_url(&url)?;
        let keys = endpoint::first_keys(&profile, secret, secret_bytes())?;
        self.store_new(application, settings, keys, disabled.unwrap_or_default()).await
    }

    /// Makes an endpoint beside another one, with its keys. The settings have been checked.
    pub(super) async fn create_copy(&self, of: &Endpoint, settings: EndpointSettings) -> Result<Endpoint, Error> {
        self.store_new(of.application, settings, of.keys.clone(), false).await
    }

    async fn store_new(
        &self,
        application: ApplicationId,
        settings: EndpointSettings,
        keys: Vec<SigningKey>,
        disabled: bool,
    ) -> Result<Endpoint, Error> {
        let now = self.now();
        let (time, random) = self.inner.ids.next(now);
        let endpoint = Endpoint {
            id: EndpointId::from_parts(time, random),
            application,
            settings,
            keys,
            status: EndpointStatus::Enabled.disabled(disabled, now),
            created_at: now,
            updated_at: now,
        };
        let live = self.endpoints(application)?.len();
        if live >= self.inner.config.max_endpoints {
            return Err(Error::ApplicationOverloaded(format!(
                "the application has {live} endpoints, as many as it may have"
            )));
        }
        let uid = endpoint.settings.uid.clone();
        self.store_endpoint(endpoint, None, None, uid).await
    }

    /// An endpoint by its id. One that was deleted is not found.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn endpoint(&self, application: ApplicationId, id: EndpointId) -> Result<Endpoint, Error> {
        Ok(self.destination(application, id)?.endpoint.clone())
    }

    /// An endpoint by the platform's own name for it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn endpoint_by_uid(&self, application: ApplicationId, uid: &str) -> Result<Endpoint, Error> {
        let found = self.endpoints(application)?.into_iter().find(|e| e.settings.uid.as_deref() == Some(uid));
        found.ok_or(Error::NotFound("endpoint"))
    }

    /// The endpoints of an application, oldest first, those deleted left out.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn endpoints(&self, application: ApplicationId) -> Result<Vec<Endpoint>, Error> {
        let tenant = self.tenant(application)?;
        let live = tenant.endpoints.values().filter(|destination| !is_deleted(&destination.endpoint));
        Ok(live.map(|destination| destination.endpoint.clone()).collect())
    }

    /// Changes an endpoint: its settings are replaced by what is given. Its keys stay, unless a secret is given; it
    /// stays enabled or disabled, unless [`disabled`](NewEndpoint::disabled) is given.
    ///
    /// The last writer wins, unless [`if_unchanged_since`](NewEndpoint::if_unchanged_since) is given.
    ///
    /// # Errors
    /// As [`create_endpoint`](Ringback::create_endpoint); `secret` is named if the keys it has do not fit the
    /// new profile; [`Error::Conflict`] if it was changed at the same time, or since the time that is given.
    pub async fn update_endpoint(
        &self,
        application: ApplicationId,
        id: EndpointId,
        new: impl Into<NewEndpoint>,
    ) -> Result<Endpoint, Error> {
        let NewEndpoint { settings, secret, disabled, if_unchanged_since } = new.into();
        let (url, profile) = settings.validate()?;
        self.inner.gate.policy().check_url(&url)?;
        let old = self.destination(application, id)?;
        self.check_unchanged(Some(old.endpoint.updated_at), if_unchanged_since)?;
        let keys = match secret {
            None if profile.signing.secret == SecretRule::None => Vec::new(),
            None if !old.endpoint.keys.is_empty() => {
                old.endpoint.keys.iter().try_for_each(|key| signature::validate_secret(&profile, &key.secret))?;
                old.endpoint.keys.clone()
            }
            given => endpoint::first_keys(&profile, given, secret_bytes())?,
        };
        let uids = (old.endpoint.settings.uid.clone(), settings.uid.clone());
        let updated_at = self.later_than(old.endpoint.updated_at);
        let status = match disabled {
            Some(disabled) => old.endpoint.status.disabled(disabled, updated_at),
            None => old.endpoint.status.clone(),
        };
        let changed = Endpoint { settings, keys, status, updated_at, ..old.endpoint.clone() };
        let (remove, add) = if uids.0 == uids.1 { (None, None) } else { uids };
        self.store_endpoint(changed, Some(&old), remove, add).await
    }

    /// Lets an endpoint take messages again. What was canceled while it was disabled can be replayed.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] if it was changed at the same time.
    pub async fn enable_endpoint(&self, application: ApplicationId, id: EndpointId) -> Result<Endpoint, Error> {
        self.set_disabled(application, id, false).await
    }

    /// Closes an endpoint: new messages make no delivery to it, nothing is claimed for it after this returns
    /// (what was claimed before is attempted), and what waits is canceled (by [`run`](Ringback::run), at once or when
    /// it runs again). One that is disabled already stays disabled since when it is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] if it was changed at the same time.
    pub async fn disable_endpoint(&self, application: ApplicationId, id: EndpointId) -> Result<Endpoint, Error> {
        self.set_disabled(application, id, true).await
    }

    /// Deletes an endpoint. What waits for it is canceled; its log stays until retention removes it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] if it was changed at the same time.
    pub async fn delete_endpoint(&self, application: ApplicationId, id: EndpointId) -> Result<(), Error> {
        let old = self.destination(application, id)?;
        let now = self.later_than(old.endpoint.updated_at);
        // Nothing is sent to it again, so its secrets need not be kept.
        let settings = EndpointSettings { headers: Vec::new(), uid: None, ..old.endpoint.settings.clone() };
        let deleted = Endpoint {
            settings,
            keys: Vec::new(),
            status: EndpointStatus::Deleted { since: now },
            updated_at: now,
            ..old.endpoint.clone()
        };
        self.store_endpoint(deleted, Some(&old), old.endpoint.settings.uid.clone(), None).await.map(|_| ())
    }

    async fn set_disabled(
        &self,
        application: ApplicationId,
        id: EndpointId,
        disabled: bool,
    ) -> Result<Endpoint, Error> {
        let old = self.destination(application, id)?;
        let updated_at = self.later_than(old.endpoint.updated_at);
        let status = old.endpoint.status.disabled(disabled, updated_at);
        let changed = Endpoint { status, updated_at, ..old.endpoint.clone() };
        self.store_endpoint(changed, Some(&old), None, None).await
    }

    /// How an endpoint stands in the dispatcher's eyes: whether it rests, and what it may have on its way. Kept in memory
    /// alone: while nothing is delivered, and after a restart, nothing is known of any endpoint, but for how long it has
    /// done nothing but fail.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn endpoint_health(&self, application: ApplicationId, id: EndpointId) -> Result<EndpointHealth, Error> {
        let destination = self.destination(application, id)?;
        let most = destination.endpoint.settings.max_in_flight.unwrap_or(self.inner.config.max_in_flight_per_endpoint);
        let shown = self.inner.board.remembered(destination.lane()).shown(most, self.now());
        Ok(EndpointHealth { failing: self.failing(application, id)?, ..shown })
    }

    /// Reveals an endpoint's newest secret; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn endpoint_secret(&self, application: ApplicationId, id: EndpointId) -> Result<Option<Secret>, Error> {
        Ok(self.destination(application, id)?.endpoint.keys.first().map(|key| key.secret.clone()))
    }

    /// Gives an endpoint a new secret (`new`, or one that is made), and reveals it. The old ones sign beside it
    /// for `grace`, where the profile's scheme has room for several signatures; a grace of zero revokes them at once.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] (`secret`): not one that the profile can use, or ten are active;
    /// [`Error::Conflict`] if the endpoint was changed at the same time.
    pub async fn rotate_secret(
        &self,
        application: ApplicationId,
        id: EndpointId,
        new: Option<Secret>,
        grace: Duration,
    ) -> Result<Secret, Error> {
        let old = self.destination(application, id)?;
        let now = self.now();
        let secret = match new {
            Some(secret) => secret,
            None => signature::secret_from(&old.profile, secret_bytes())
                .ok_or_else(|| Invalid::new("secret", format!("the profile {} uses none", old.profile.name)))?,
        };
        signature::validate_secret(&old.profile, &secret)?;
        let end = now + grace;
        let still_active = |key: &&SigningKey| key.expires_at.is_none_or(|at| at > now) && end > now;
        let mut keys = vec![SigningKey { secret: secret.clone(), expires_at: None }];
        keys.extend(old.endpoint.keys.iter().filter(still_active).map(|key| SigningKey {
            secret: key.secret.clone(),
            expires_at: Some(key.expires_at.map_or(end, |at: Timestamp| at.min(end))),
        }));
        if keys.len() > MAX_KEYS {
            let problem = "ten keys are active; rotate with a grace of zero, or wait until one has expired";
            return Err(Invalid::new("secret", problem).into());
        }
        let updated_at = self.later_than(old.endpoint.updated_at);
        let changed = Endpoint { keys, updated_at, ..old.endpoint.clone() };
        self.store_endpoint(changed, Some(&old), None, None).await?;
        Ok(secret)
    }

    pub(super) fn destination(&self, application: ApplicationId, id: EndpointId) -> Result<Arc<Destination>, Error> {
        let found = self.inner.directory.destination(Lane { application, endpoint: id });
        found.filter(|destination| !is_deleted(&destination.endpoint)).ok_or(Error::NotFound("endpoint"))
    }

    pub(super) async fn store_endpoint(
        &self,
        endpoint: Endpoint,
        old: Option<&Destination>,
        remove_uid: Option<String>,
        add_uid: Option<String>,
    ) -> Result<Endpoint, Error> {
        self.store_endpoint_with(endpoint, old, remove_uid, add_uid, None).await
    }

    /// Writes an endpoint, and moves its application's endpoint list in the same write, so that no send that
    /// was routed over the old list is accepted after it. `old` is what was read before; `None` if it is made.
    /// What the operator is told of the change goes along, and `more`; the endpoint's standing goes if it begins anew.
    pub(super) async fn store_endpoint_with(
        &self,
        endpoint: Endpoint,
        old: Option<&Destination>,
        remove_uid: Option<String>,
        add_uid: Option<String>,
        more: Option<Put>,
    ) -> Result<Endpoint, Error> {
        let application = endpoint.application;
        let lane = Lane { application, endpoint: endpoint.id };
        let before = old.map(|old| &old.endpoint);
        let begins_anew = before
            .is_some_and(|before| before.status != endpoint.status || before.settings.url != endpoint.settings.url);
        let mut version = old.map_or(0, |old| old.version);
        for _ in 0..TRIES {
            let tenant = self.tenant(application)?;
            let mut batch = vec![
                Put {
                    key: records::endpoint_key(application, endpoint.id),
                    expected: version,
                    active: endpoint.is_enabled(),
                    value: Some(records::endpoint_to(&endpoint, &self.inner.seals)),
                },
                Put {
                    key: records::endpoint_list_key(application),
                    expected: tenant.list_version,
                    active: true,
                    value: Some(bytes::Bytes::new()),
                },
            ];
            if let Some(uid) = &remove_uid {
                let key = records::endpoint_uid_key(application, uid);
                batch.push(Put { key, expected: 1, active: true, value: None });
            }
            if let Some(uid) = &add_uid {
                let key = records::endpoint_uid_key(application, uid);
                if self.inner.store.get(key.clone()).await?.is_some() {
                    // Its owner may not be shown: a call that was dropped before it returned may have stored it.
                    self.reread_tenant(&tenant).await?;
                    return Err(Error::UidTaken(uid.clone()));
                }
                batch.push(self.uid_put(key, &endpoint.id.to_bytes()));
            }
            if begins_anew && let Some(record) = self.inner.store.get(records::standing_key(lane)).await? {
                batch.push(standings::removal(lane, record.version));
            }
            batch.extend(self.endpoint_events(before, &endpoint));
            batch.extend(more.clone());
            if self.put_with_events(batch).await? {
                self.show_endpoint(&tenant, endpoint.clone(), version + 1)?;
                if begins_anew {
                    self.inner.observed.forget(lane);
                }
                return Ok(endpoint);
            }
            // Either the list or the standing moved, which is tried again, or the endpoint itself did, which is the caller's to see.
            self.reread_tenant(&tenant).await?;
            let tenant = self.tenant(application)?;
            let found = tenant.endpoints.get(&endpoint.id);
            version = found.map_or(0, |found| found.version);
            // A record that was only sealed anew has another version and says the same.
            if found.map(|found| found.endpoint.updated_at) != old.map(|old| old.endpoint.updated_at) {
                return Err(Error::Conflict("the endpoint was changed at the same time; try again"));
            }
        }
        Err(Error::Conflict("the application's endpoints are being changed too often; try again"))
    }

    fn show_endpoint(&self, tenant: &Tenant, endpoint: Endpoint, version: u64) -> Result<(), Error> {
        let mut endpoints: BTreeMap<EndpointId, Arc<Destination>> = tenant.endpoints.clone();
        let destination = Arc::new(Destination::new(endpoint, version)?);
        endpoints.insert(destination.endpoint.id, Arc::clone(&destination));
        let list_version = tenant.list_version + 1;
        self.inner.directory.refresh(Tenant { endpoints, list_version, ..tenant.clone() });
        // Whatever held the endpoint back may do so no more; the store rang before this was shown.
        self.inner.store.bell().notify_one();
        // Only now: a sweep looks at what is shown.
        self.inner.sweeps.note(destination.lane(), destination.open());
        Ok(())
    }
}

fn is_deleted(endpoint: &Endpoint) -> bool {
    matches!(endpoint.status, EndpointStatus::Deleted { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::NewApplication;
    use crate::endpoint::DisableReason;
    use crate::front::fixture::Fixture;

    #[tokio::test]
    async fn an_endpoint_s_status_changes_in_the_write_of_its_settings_and_keeps_its_time() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        let at = |path: &str| NewEndpoint::at(format!("https://a.example/{path}")).throttle_rate(20);
        let made = ringback.create_endpoint(app, at("made").disabled(true)).await.unwrap();
        let EndpointStatus::Disabled { since, reason: DisableReason::Requested } = made.status else {
            panic!("{made:?}")
        };

        fixture.clock.pass(Duration::from_secs(1));
        let again = ringback.update_endpoint(app, made.id, at("again").disabled(true)).await.unwrap();
        assert_eq!(again.status, EndpointStatus::Disabled { since, reason: DisableReason::Requested }, "as it was");
        let left = ringback.update_endpoint(app, made.id, at("left")).await.unwrap();
        assert_eq!(
            left.status,
            EndpointStatus::Disabled { since, reason: DisableReason::Requested },
            "nobody asked for another"
        );
        assert_eq!(ringback.disable_endpoint(app, made.id).await.unwrap().status, left.status);

        let enabled = ringback.update_endpoint(app, made.id, at("enabled").disabled(false)).await.unwrap();
        assert_eq!((enabled.status.clone(), enabled.settings.throttle_rate), (EndpointStatus::Enabled, Some(20)));
        let record = fixture.store.get(records::endpoint_key(app, made.id)).await.unwrap().unwrap();
        assert_eq!((record.version, record.active), (5, true), "one write each");
        assert_eq!(fixture.open().await.endpoint(app, made.id), Ok(enabled));
    }

    #[tokio::test]
    async fn an_endpoint_that_a_dropped_call_made_is_found_once_its_uid_is_asked_for() {
        let fixture = Fixture::new();
        let app = fixture.open().await.create_application(NewApplication::named("A")).await.unwrap().id;
        let (late, other) = (fixture.open().await, fixture.open().await);
        let new = || NewEndpoint::at("https://a.example/").uid("e");
        let made = other.create_endpoint(app, new()).await.unwrap();
        assert_eq!(late.endpoint_by_uid(app, "e"), Err(Error::NotFound("endpoint")));
        assert_eq!(late.create_endpoint(app, new()).await, Err(Error::UidTaken("e".into())));
        assert_eq!(late.endpoint_by_uid(app, "e"), Ok(made));
    }

    #[tokio::test]
    async fn of_two_who_read_the_same_endpoint_and_write_it_back_the_second_is_told() {
        let ringback = Fixture::new().open().await;
        let app = ringback.create_application(NewApplication::named("A")).await.unwrap().id;
        let read = ringback.create_endpoint(app, NewEndpoint::at("https://a.example/")).await.unwrap();
        let write = || NewEndpoint::at("https://b.example/").if_unchanged_since(read.updated_at);
        ringback.update_endpoint(app, read.id, write()).await.unwrap();
        assert!(matches!(ringback.update_endpoint(app, read.id, write()).await, Err(Error::Conflict(_))));
    }
}
