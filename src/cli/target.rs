//! Which server a command talks to: one that is named, the one that runs on a folder, or one in this process.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringback::Secret;
use serde::Deserialize;
use url::Url;

use super::client::Client;
use super::exit::{Exit, Problem};
use super::offline::{Closed, Offline};
use super::out::Out;
use crate::settings::{Environment, Flags, Key, Settings};

/// Where a server that runs on a folder says so.
const RUNNING: &str = "sidecar.json";
/// The operator's token, beside it.
const TOKEN: &str = "operator.token";
/// The variable that names a server.
const SERVER: &str = "RINGBACK_SERVER";

/// How long a folder is waited for that another process has: most commands are done within a second, and a server that
/// has it says soon where it answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is tried.
const PAUSE: Duration = Duration::from_millis(100);

/// What every command says that opened the folder itself: what waits there would otherwise look like a sender at work.
pub(super) const NO_SERVER: &str = "no server runs on this folder: nothing is delivered until `ringback serve` runs";

/// Which server to talk to, and how to say what it answers.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// The server, such as https://hooks.example.com. It wants a token, too. Also: RINGBACK_SERVER
    #[arg(long, global = true, value_name = "URL", help_heading = "Server", conflicts_with_all = ["data", "config"])]
    server: Option<Url>,
    /// The file with the server's token. Also: RINGBACK_TOKEN, the token itself
    #[arg(long, global = true, value_name = "FILE", help_heading = "Server")]
    token_file: Option<PathBuf>,
    /// The folder of a server on this machine. Also: RINGBACK_DATA [default: ./ringback-data]
    ///
    /// If `ringback serve` runs on it, that is the server. If not, the command opens the folder by itself; then nothing
    /// is delivered until `ringback serve` runs.
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Server")]
    data: Option<PathBuf>,
    /// The settings file of that server. Also: RINGBACK_CONFIG
    #[arg(long, global = true, value_name = "FILE", help_heading = "Server")]
    config: Option<PathBuf>,
    /// Print JSON, one value a line, and nothing else
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
}

/// A server to talk to, for one command.
pub(crate) struct Session {
    /// The way to it.
    pub(super) api: Client,
    /// Where the command's words go.
    pub(super) out: Out,
    offline: bool,
    /// Whether the command has said itself that no server runs.
    told: Cell<bool>,
}

/// What `ringback serve` writes into its folder while it runs.
#[derive(Deserialize)]
struct Running {
    address: String,
}

impl Target {
    /// Does something with the server, and lets go of it.
    pub(super) async fn with(self, what: impl AsyncFnOnce(&Session) -> Result<Exit, Problem>) -> Result<Exit, Problem> {
        let (session, offline) = self.open().await?;
        let result = what(&session).await;
        if session.offline && !session.told.get() {
            session.out.note(NO_SERVER);
        }
        let closed = match offline {
            Some(offline) => offline.close().await.map_err(Problem::from),
            None => Ok(()),
        };
        let exit = result?;
        closed.map(|()| exit)
    }

    /// The same for what has to do with the files of a folder, which a server elsewhere has no part in; and the settings
    /// of a server on it.
    pub(super) fn on_this_machine(mut self) -> Result<(Target, Settings), Problem> {
        if self.server.is_some() {
            return Err(Problem::usage(
                "this is about the files of a folder on this machine: give --data FOLDER, and no --server",
            ));
        }
        let settings = self.settings()?;
        // So that the environment names no server.
        self.data = Some(settings.config.path.clone());
        Ok((self, settings))
    }

    /// Where the command's words go.
    pub(super) fn out(&self) -> Out {
        Out::new(self.json)
    }

    async fn open(self) -> Result<(Session, Option<Offline>), Problem> {
        let out = Out::new(self.json);
        let server = match (&self.server, self.data.is_some() || self.config.is_some()) {
            (Some(server), _) => Some(server.clone()),
            (None, true) => None,
            (None, false) => setting(SERVER).map(|url| parse_url(&url)).transpose()?,
        };
        if let Some(server) = server {
            let token = self.given_token()?.ok_or_else(|| {
                let text = "the server wants a token: set RINGBACK_TOKEN, or give --token-file FILE";
                Problem::new(Exit::Unreachable, text)
            })?;
            return Ok((Session::with_server(Client::new(&server, token)?, out), None));
        }
        // The settings say where the folder is; where that is known, a running server needs none of them.
        let (folder, mut settings) = match &self.data {
            Some(folder) => (folder.clone(), None),
            None => {
                let settings = self.settings()?;
                (settings.config.path.clone(), Some(settings))
            }
        };
        let mut left = PATIENCE;
        loop {
            if let Some(url) = running(&folder).await? {
                let api = Client::new(&url, self.local_token(&folder, settings.as_ref())?)?;
                return Ok((Session::with_server(api, out), None));
            }
            holds_data(&folder)?;
            let all = match &settings {
                Some(settings) => settings,
                None => settings.insert(self.settings()?),
            };
            match Offline::open(all).await {
                Ok(offline) => {
                    let api = Client::new(&parse_url(&offline.url())?, offline.token())?;
                    return Ok((Session { api, out, offline: true, told: Cell::new(false) }, Some(offline)));
                }
                Err(Closed::Held(_)) if !left.is_zero() => {
                    tokio::time::sleep(PAUSE).await;
                    left = left.saturating_sub(PAUSE);
                }
                Err(Closed::Held(holder)) => {
                    let text = format!("a ringback command or server has {} ({holder}): try again", folder.display());
                    return Err(Problem::new(Exit::Unreachable, text));
                }
                Err(Closed::Failed(error)) => return Err(Problem::new(Exit::Unreachable, format!("{error:#}"))),
            }
        }
    }

    /// The settings that a server on the folder would have.
    fn settings(&self) -> Result<Settings, Problem> {
        let folder = self.data.as_ref().map(|folder| (Key::Data, vec![folder.to_string_lossy().into_owned()]));
        let flags = Flags { config: self.config.clone(), given: folder.into_iter().collect() };
        Settings::read(&flags, &Environment::of_process()).map_err(|error| Problem::usage(error.to_string()))
    }

    fn given_token(&self) -> Result<Option<Secret>, Problem> {
        match &self.token_file {
            Some(file) => read_token(file).map(Some),
            None => Ok(setting("RINGBACK_TOKEN").map(Secret::from)),
        }
    }

    /// The token of the server on a folder: the one that it was set, or the one that it made.
    fn local_token(&self, folder: &Path, settings: Option<&Settings>) -> Result<Secret, Problem> {
        // A token in the environment belongs to the server that the environment names, if it names one.
        let set = if self.token_file.is_some() || setting(SERVER).is_none() { self.given_token()? } else { None };
        match set.or_else(|| settings.and_then(|settings| settings.token.clone())) {
            Some(token) => Ok(token),
            None => match folder.join(TOKEN) {
                file if file.exists() => read_token(&file),
                // It made none of its own, so it was told one.
                _ => {
                    let text = "this server's token was set by its operator: set RINGBACK_TOKEN or give --token-file";
                    Err(Problem::new(Exit::Unreachable, text))
                }
            },
        }
    }
}

impl Session {
    /// Whether the folder was opened by this process, so that nothing is delivered.
    pub(super) fn offline(&self) -> bool {
        self.offline
    }

    /// A session with a server that runs.
    fn with_server(api: Client, out: Out) -> Session {
        Session { api, out, offline: false, told: Cell::new(false) }
    }

    /// Why nothing is delivered now, which the caller says; `None` if it is.
    pub(super) async fn not_delivering(&self) -> Option<&'static str> {
        #[derive(Deserialize)]
        struct Health {
            #[serde(default)]
            delivering: Option<bool>,
        }
        if self.offline {
            self.told.set(true);
            return Some(NO_SERVER);
        }
        // Whether it delivers is a remark: what was asked for has been done.
        let health = self.api.get::<Health>(&["health"], &Vec::new()).await;
        health
            .is_ok_and(|health| health.delivering == Some(false))
            .then_some("the server makes no deliveries at present")
    }
}

/// A variable of the environment that is set to something.
fn setting(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
}

fn parse_url(text: &str) -> Result<Url, Problem> {
    let url: Option<Url> = text.parse().ok().filter(|url: &Url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| Problem::usage(format!("`{text}` is no address of a server, such as http://127.0.0.1:8071")))
}

fn read_token(file: &Path) -> Result<Secret, Problem> {
    let shown = file.display();
    let unreadable = |problem: String| Problem::new(Exit::Unreachable, format!("the token cannot be read: {problem}"));
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(format!("{shown}: {error}")))?;
    match text.trim() {
        "" => Err(unreadable(format!("{shown} is empty"))),
        token => Ok(Secret::new(token)),
    }
}

/// Where the server on a folder answers, if one runs.
async fn running(folder: &Path) -> Result<Option<Url>, Problem> {
    // What a killed server left behind names a port that anybody may have by now: it must not get the token.
    if !held(folder) {
        return Ok(None);
    }
    let Ok(text) = std::fs::read_to_string(folder.join(RUNNING)) else { return Ok(None) };
    let Ok(Running { address }) = serde_json::from_str(&text) else { return Ok(None) };
    let url = parse_url(&format!("http://{address}"))?;
    let answers = Client::new(&url, Secret::new(""))?.answers().await;
    Ok(answers.then_some(url))
}

/// Whether a process has the folder open.
fn held(folder: &Path) -> bool {
    let lock = std::fs::File::open(folder.join("LOCK"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Opening a folder would make it a queue, and nobody who reads or sends wants another queue by accident.
fn holds_data(folder: &Path) -> Result<(), Problem> {
    if folder.join("FORMAT").is_file() {
        return Ok(());
    }
    let text = format!(
        "{} holds no data of ringback: `ringback serve` makes it, --data FOLDER names another folder, --server URL a server",
        folder.display()
    );
    Err(Problem::new(Exit::Unreachable, text))
}
