//! Applies what the settings declare: makes what is missing, changes what differs, removes nothing.
//!
//! Invariant: what is as declared is not written, so a restart moves no `updatedAt`.

use std::collections::BTreeMap;

use anyhow::Context;
use ringback::{
    Application, ApplicationId, Endpoint, EndpointSettings, Error, EventType, NewApplication, NewEndpoint,
    NewEventType, Profile, Ringback, Secret,
};

use crate::settings::{Declared, DeclaredApplication, DeclaredEndpoint, profiles};

/// Applies all of it. A profile that was changed is changed at every endpoint that has it, whoever made the endpoint.
pub(super) async fn apply(ringback: &Ringback, declared: &Declared) -> anyhow::Result<()> {
    for event_type in &declared.event_types {
        let name = &event_type.name;
        register(ringback, event_type).await.with_context(|| format!("the event type {name}"))?;
    }
    for application in &declared.applications {
        let uid = &application.uid;
        let id = application_as(ringback, application).await.with_context(|| format!("the application {uid}"))?;
        for endpoint in &application.endpoints {
            let applied = endpoint_as(ringback, id, uid, endpoint).await;
            applied.with_context(|| format!("the endpoint {} of the application {uid}", endpoint.uid))?;
        }
    }
    change_profiles(ringback, &declared.profiles).await;
    Ok(())
}

async fn register(ringback: &Ringback, declared: &NewEventType) -> Result<(), Error> {
    let name = declared.name.as_str();
    let as_declared = |stored: &EventType| {
        let EventType { description, archived, deprecated, schemas, feature_flag, .. } = stored;
        *description == declared.description
            && *archived == declared.archived
            && *deprecated == declared.deprecated
            && *schemas == declared.schemas
            && *feature_flag == declared.feature_flag
    };
    if ringback.event_type(name).is_ok_and(|stored| as_declared(&stored)) {
        return Ok(());
    }
    let (_, made) = ringback.put_event_type(declared.clone()).await?;
    let what = if made { "made" } else { "changed" };
    tracing::info!(event_type = name, "the declared event type was {what}");
    Ok(())
}

async fn application_as(ringback: &Ringback, declared: &DeclaredApplication) -> Result<ApplicationId, Error> {
    let application = declared.uid.as_str();
    match ringback.application_by_uid(application) {
        Ok(stored) if as_new(&stored) == declared.new => Ok(stored.id),
        Ok(stored) => {
            let changed = ringback.update_application(stored.id, declared.new.clone()).await?;
            tracing::info!(application, "the declared application was changed");
            Ok(changed.id)
        }
        Err(Error::NotFound(_)) => {
            let made = ringback.create_application(declared.new.clone()).await?;
            tracing::info!(application, "the declared application was made");
            Ok(made.id)
        }
        Err(error) => Err(error),
    }
}

/// What an application would be made from.
fn as_new(stored: &Application) -> NewApplication {
    NewApplication {
        name: stored.name.clone(),
        uid: stored.uid.clone(),
        metadata: stored.metadata.clone(),
        throttle_rate: stored.throttle_rate,
        max_in_flight: stored.max_in_flight,
        weight: stored.weight,
        retention: stored.retention,
        if_unchanged_since: None,
    }
}

async fn endpoint_as(
    ringback: &Ringback,
    id: ApplicationId,
    application: &str,
    declared: &DeclaredEndpoint,
) -> Result<(), Error> {
    let endpoint = declared.uid.as_str();
    let mut new = NewEndpoint::from(declared.settings.clone());
    if let Some(disabled) = declared.disabled {
        new = new.disabled(disabled);
    }
    match ringback.endpoint_by_uid(id, endpoint) {
        Ok(stored) => {
            let keys = Keys::of(&stored, declared.secret.as_ref().map(|given| &given.secret));
            if keys == Keys::KeptOlder {
                let given = declared.secret.as_ref().map(|given| &given.shown);
                tracing::warn!(
                    application,
                    endpoint,
                    given,
                    "the declared secret is an older one of the endpoint: it was rotated, and the newer secret stays; \
                     declare that one"
                );
            }
            let secret = declared.secret.as_ref().filter(|_| keys.is_given());
            if secret.is_none() && !differs(&stored, declared) {
                return Ok(());
            }
            // A secret that is given revokes the others at once, so it is given only if it is another one.
            if let Some(given) = secret {
                new = new.secret(given.secret.clone());
            }
            ringback.update_endpoint(id, stored.id, new).await?;
            tracing::info!(application, endpoint, "the declared endpoint was changed");
            if keys == Keys::Replaced {
                tracing::warn!(
                    application,
                    endpoint,
                    "the declared secret replaced the endpoint's: what signed before signs no more"
                );
            }
        }
        Err(Error::NotFound(_)) => {
            if let Some(given) = &declared.secret {
                new = new.secret(given.secret.clone());
            }
            ringback.create_endpoint(id, new).await?;
            tracing::info!(application, endpoint, "the declared endpoint was made");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What becomes of an endpoint's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// They stay: no secret is declared, or the newest one is.
    Kept,
    /// They stay, although an older one is declared: a restart does not undo a rotation, however long ago.
    KeptOlder,
    /// There were none; the declared secret is the first.
    First,
    /// The declared secret is none of them, and takes their place.
    Replaced,
}

impl Keys {
    fn of(stored: &Endpoint, declared: Option<&Secret>) -> Keys {
        let Some(declared) = declared else { return Keys::Kept };
        match stored.keys.iter().position(|key| key.secret == *declared) {
            Some(0) => Keys::Kept,
            Some(_) => Keys::KeptOlder,
            None if stored.keys.is_empty() => Keys::First,
            None => Keys::Replaced,
        }
    }

    fn is_given(self) -> bool {
        match self {
            Keys::First | Keys::Replaced => true,
            Keys::Kept | Keys::KeptOlder => false,
        }
    }
}

fn differs(stored: &Endpoint, declared: &DeclaredEndpoint) -> bool {
    stored.settings != declared.settings || declared.disabled.is_some_and(|disabled| disabled == stored.is_enabled())
}

/// Changes stored endpoints whose written-out profile has the name of one of the operator's that is another by now. One
/// that cannot be changed keeps the old one: a tenant's endpoint does not keep the server from starting.
async fn change_profiles(ringback: &Ringback, own: &BTreeMap<String, Profile>) {
    if own.is_empty() {
        return;
    }
    for application in ringback.applications() {
        for endpoint in ringback.endpoints(application.id).unwrap_or_default() {
            let Some(profile) = profiles::changed(&endpoint.settings.profile, own) else { continue };
            let settings = EndpointSettings { profile: profile.clone().into(), ..endpoint.settings };
            let (application, endpoint, profile) = (application.id, endpoint.id, &profile.name);
            match ringback.update_endpoint(application, endpoint, settings).await {
                Ok(_) => tracing::info!(%application, %endpoint, profile, "the endpoint's profile was changed"),
                Err(error) => {
                    tracing::error!(%application, %endpoint, profile, %error, "the endpoint keeps its older profile");
                }
            }
        }
    }
}
