//! `ringback key`: the keys that secrets are sealed under in a folder on this machine.
//!
//! Invariants: no output shows a key; a key is made only where nothing is sealed under one that is gone; none is retired
//! while something is sealed under it, or while a server seals with it.

use std::collections::BTreeSet;

use ringback::{KeyFile, KeySource, Keyring, Ringback, store};
use serde::Deserialize;
use serde_json::json;

use super::doctor::{Keys, plural};
use super::exit::{Exit, Problem};
use super::out::Out;
use super::style::Style;
use super::table::Table;
use super::target::{Session, Target};
use crate::settings::Settings;

/// The keys that stored secrets are sealed under
///
/// They stand in `secrets.key` in the data folder, or in the file that `key_file` names. To turn them over: `ringback key
/// add`, start the server again, wait until `ringback key list` shows nothing under the old key, `ringback key retire 1`.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    at: Target,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Adds a key to the file. From the next start of the server on it seals, and what is sealed is sealed anew
    Add,
    /// Lists the keys, which of them seals, and how many endpoints have secrets under each
    List,
    /// Takes a key out of the file. Refused while something is sealed under it
    Retire {
        /// The key's id
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        id: u32,
    },
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    keys: Keys,
}

/// Does what is asked for.
pub(super) async fn run(options: Options) -> Result<Exit, Problem> {
    let (at, settings) = options.at.on_this_machine()?;
    match options.what {
        What::Add => add(&settings, at.out()).await,
        What::List => at.with(async |session| list(session, &settings).await).await,
        What::Retire { id } => at.with(async |session| retire(session, &settings, id).await).await,
    }
}

/// The file of keys that these settings name.
fn file(settings: &Settings) -> Result<KeyFile, Problem> {
    match &settings.config.keys {
        KeySource::Folder => Ok(KeyFile::at(settings.config.path.join(KeyFile::NAME))),
        KeySource::File(path) => Ok(KeyFile::at(path)),
        KeySource::Given(_) => {
            Err(Problem::usage("the keys are given by the setting `key` (RINGBACK_KEY): change them there"))
        }
    }
}

fn unusable(invalid: &ringback::Invalid) -> Problem {
    Problem::failed(invalid.problem())
}

fn failed(error: ringback::Error) -> Problem {
    Problem::failed(error.to_string())
}

async fn add(settings: &Settings, out: Out) -> Result<Exit, Problem> {
    let file = file(settings)?;
    let shown = file.path().display();
    if file.read().map_err(|invalid| unusable(&invalid))?.is_none() {
        nothing_is_sealed(settings, &file).await?;
    }
    let id = file.add().map_err(|invalid| unusable(&invalid))?;
    if out.json() {
        out.line(&json!({ "id": id }).to_string())?;
    } else {
        out.line(&format!("key {id} was added to {}", super::escape::shown(&shown.to_string())))?;
    }
    out.note("the next start of `ringback serve` seals with it; back the file up, apart from the folder");
    Ok(Exit::Done)
}

/// A new file must not take the place of one that is gone while something is sealed under its keys.
async fn nothing_is_sealed(settings: &Settings, file: &KeyFile) -> Result<(), Problem> {
    if !settings.config.path.join("FORMAT").is_file() {
        return Ok(());
    }
    let mut config = settings.config.clone();
    // A key that nothing is sealed under: the folder opens only if nothing is sealed at all.
    config.keys = KeySource::Given(Keyring::new(u32::MAX, random_key()).map_err(|invalid| unusable(&invalid))?);
    match Ringback::open(config).await {
        Ok(ringback) => ringback.shutdown().await.map_err(failed),
        Err(ringback::Error::Keys(_)) => {
            let text = "is not there, and the folder has secrets that are sealed under its keys: put it back";
            Err(Problem::failed(format!("{} {text}", file.path().display())))
        }
        // The server of the folder sealed with something, and not with this file.
        Err(ringback::Error::Storage(store::Error::Locked { holder, .. })) => {
            let text = "is not there, and a server runs on the folder with keys from elsewhere: give this command the same \
                        --config or RINGBACK_KEY_FILE, or stop the server first";
            Err(Problem::failed(format!("{} {text} ({holder})", file.path().display())))
        }
        Err(error) => Err(failed(error)),
    }
}

fn random_key() -> [u8; 32] {
    use rand::TryRng;
    let mut bytes = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives randomness");
    bytes
}

async fn list(session: &Session, settings: &Settings) -> Result<Exit, Problem> {
    let Report { keys } = session.api.get(&["doctor"], &Vec::new()).await?;
    let (known, place) = match &settings.config.keys {
        KeySource::Given(given) => (given.ids(), "the keys of the setting `key`".to_owned()),
        KeySource::Folder | KeySource::File(_) => {
            let file = file(settings)?;
            let ring = file.read().map_err(|invalid| unusable(&invalid))?;
            (ring.map(|ring| ring.ids()).unwrap_or_default(), file.path().display().to_string())
        }
    };
    // A server that was told of its keys in a way that this command was not has keys that stand elsewhere.
    let used = keys.active.into_iter().chain(keys.sealed.iter().map(|sealed| sealed.key).filter(|key| *key != 0));
    let elsewhere: BTreeSet<u32> = used.filter(|key| !known.contains(key)).collect();
    let ids: BTreeSet<u32> = known.into_iter().chain(elsewhere.iter().copied()).collect();
    let under = |id: u32| keys.sealed.iter().find(|sealed| sealed.key == id).map_or(0, |sealed| sealed.endpoints);
    let state = |id: u32| match keys.active {
        Some(active) if active == id => "active",
        // Added since the server was started.
        Some(active) if active < id => "from the next start",
        Some(_) | None => "older",
    };
    let out = &session.out;
    if out.json() {
        for id in ids {
            out.line(&json!({"id": id, "state": state(id), "endpoints": under(id)}).to_string())?;
        }
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["key", "state", "endpoints"]);
    for id in ids {
        let style = if keys.active == Some(id) { Style::Good } else { Style::Plain };
        let (key, count) = (id.to_string(), under(id).to_string());
        table.styled([key.as_str(), state(id), &count].map(|cell| (cell, style)), None);
    }
    table.print(out, "there are no keys")?;
    if !elsewhere.is_empty() {
        let ids: Vec<String> = elsewhere.iter().map(u32::to_string).collect();
        out.note(&format!(
            "not in {place}: {}. The server was given its keys otherwise: give this command the same --config, \
             RINGBACK_KEY_FILE or RINGBACK_KEY",
            ids.join(", ")
        ));
    }
    match under(0) {
        0 => {}
        plain => out.note(&format!(
            "the secrets of {plain} {} not sealed yet: `ringback serve` seals them",
            plural(plain, "endpoint are", "endpoints are")
        )),
    }
    Ok(Exit::Done)
}

async fn retire(session: &Session, settings: &Settings, id: u32) -> Result<Exit, Problem> {
    let file = file(settings)?;
    let Report { keys } = session.api.get(&["doctor"], &Vec::new()).await?;
    if keys.active == Some(id) {
        let text = "is the key that seals; add another with `ringback key add`, and start the server again";
        return Err(Problem::failed(format!("key {id} {text}")));
    }
    if let Some(sealed) = keys.sealed.iter().find(|sealed| sealed.key == id && sealed.endpoints > 0) {
        let count = sealed.endpoints;
        return Err(Problem::failed(format!(
            "the secrets of {count} {} sealed under key {id}: `ringback serve` seals them anew when it is started",
            plural(count, "endpoint are", "endpoints are")
        )));
    }
    file.retire(id).map_err(|invalid| unusable(&invalid))?;
    let out = &session.out;
    match out.json() {
        true => out.line(&json!({ "id": id }).to_string())?,
        false => out
            .line(&format!("key {id} was taken out of {}", super::escape::shown(&file.path().display().to_string())))?,
    }
    Ok(Exit::Done)
}
