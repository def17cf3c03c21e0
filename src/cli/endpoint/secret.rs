//! `ringback endpoint secret` and `rotate`: what an endpoint signs with.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Named;
use crate::cli::arguments::read;
use crate::cli::escape::shown;
use crate::cli::exit::{Exit, Problem};
use crate::cli::records::{Endpoint, Record};
use crate::cli::target::Session;

#[derive(Deserialize)]
struct Key {
    key: String,
}

/// Shows the secret.
pub(super) async fn reveal(session: &Session, named: &Named) -> Result<(), Problem> {
    match session.api.get(&named.below(&["secret"]), &Vec::new()).await {
        Ok(key) => show(session, &key),
        // The endpoint is there, and what was named exists: it is its profile that has no secrets.
        Err(problem) if problem.exit == Exit::NotFound => match endpoint(session, named).await {
            Ok(_) => Err(Problem { exit: Exit::Failed, ..problem }),
            Err(_) => Err(problem),
        },
        Err(problem) => Err(problem),
    }
}

/// Replaces the secret.
pub(super) async fn rotate(
    session: &Session,
    named: &Named,
    secret_file: Option<PathBuf>,
    mut grace: Option<Duration>,
) -> Result<(), Problem> {
    let one_signature = sends_one_signature(session, named).await?;
    if one_signature {
        if grace.is_some_and(|grace| !grace.is_zero()) {
            return Err(Problem::usage(
                "this profile sends one signature, so two secrets cannot sign: leave out --grace, or give --grace 0s",
            ));
        }
        grace = Some(Duration::ZERO);
    }
    let mut body = Map::new();
    if let Some(file) = secret_file {
        body.insert("key".into(), read(&file)?.trim().into());
    }
    if let Some(grace) = grace {
        body.insert("gracePeriodSeconds".into(), grace.as_secs().into());
    }
    let key = session.api.post(&named.below(&["secret", "rotate"]), &Vec::new(), &body).await?;
    show(session, &key)?;
    if one_signature {
        session
            .out
            .note("this profile sends one signature: the new secret signs from now on, the old one no longer does");
    }
    Ok(())
}

/// Whether the endpoint's profile signs, and has no room for the signature of a second secret.
async fn sends_one_signature(session: &Session, named: &Named) -> Result<bool, Problem> {
    let endpoint = endpoint(session, named).await?.value;
    let profile = match endpoint.profile.as_str() {
        Some(name) => session.api.get::<Value>(&["profile", name], &Vec::new()).await?,
        None => endpoint.profile,
    };
    let signing = &profile["signing"];
    let signs = signing["keys"].as_array().is_some_and(|keys| !keys.is_empty());
    Ok(signs && signing["join"].is_null())
}

async fn endpoint(session: &Session, named: &Named) -> Result<Record<Endpoint>, Problem> {
    session.api.get(&named.path(), &Vec::new()).await
}

fn show(session: &Session, key: &Record<Key>) -> Result<(), Problem> {
    let out = &session.out;
    if out.json() { out.raw(&key.raw) } else { out.line(&shown(&key.value.key)) }
}
