//! Which server a command talks to: one that is named, the one that runs on a folder, or one in this process.

use std::path::{Path, PathBuf};

use ringback::Secret;
use serde::Deserialize;
use url::Url;

use super::client::Client;
use super::exit::{Exit, Problem};
use super::offline::Offline;
use super::out::Out;

/// Where a server that runs on a folder says so.
const RUNNING: &str = "sidecar.json";
/// The operator's token, beside it.
const TOKEN: &str = "operator.token";
/// The folder where nothing else is said, as `ringback serve` has it.
const FOLDER: &str = "ringback-data";

/// Which server to talk to, and how to say what it answers.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// The server, such as https://hooks.example.com. It wants a token, too. Also: RINGBACK_SERVER
    #[arg(long, global = true, value_name = "URL", help_heading = "Server", conflicts_with = "data")]
    server: Option<Url>,
    /// The file with the server's token. Also: RINGBACK_TOKEN, the token itself
    #[arg(long, global = true, value_name = "FILE", help_heading = "Server")]
    token_file: Option<PathBuf>,
    /// The folder of a server on this machine. Also: RINGBACK_DATA [default: ringback-data]
    ///
    /// If `ringback serve` runs on it, that is the server. If not, the command opens the folder by itself; then nothing
    /// is delivered until `ringback serve` runs.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Server")]
    data: Option<PathBuf>,
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
        let closed = match offline {
            Some(offline) => offline.close().await.map_err(Problem::from),
            None => Ok(()),
        };
        let exit = result?;
        closed.map(|()| exit)
    }

    async fn open(self) -> Result<(Session, Option<Offline>), Problem> {
        let out = Out::new(self.json);
        let server = match (&self.server, &self.data) {
            (Some(server), _) => Some(server.clone()),
            (None, Some(_)) => None,
            (None, None) => setting("RINGBACK_SERVER").map(|url| parse_url(&url)).transpose()?,
        };
        if let Some(server) = server {
            let api = Client::new(&server, self.token()?)?;
            return Ok((Session { api, out, offline: false }, None));
        }
        let folder = self.data.or_else(|| std::env::var_os("RINGBACK_DATA").map(PathBuf::from));
        let folder = folder.unwrap_or_else(|| FOLDER.into());
        if let Some(api) = running(&folder).await? {
            return Ok((Session { api, out, offline: false }, None));
        }
        let offline = open_folder(&folder).await?;
        let api = Client::new(&parse_url(&offline.url())?, offline.token())?;
        Ok((Session { api, out, offline: true }, Some(offline)))
    }

    fn token(&self) -> Result<Secret, Problem> {
        if let Some(file) = &self.token_file {
            return read_token(file);
        }
        setting("RINGBACK_TOKEN").map(Secret::from).ok_or_else(|| {
            Problem::new(Exit::Unreachable, "the server wants a token: set RINGBACK_TOKEN, or give --token-file FILE")
        })
    }
}

impl Session {
    /// Whether the folder was opened by this process, so that nothing is delivered.
    pub(super) fn offline(&self) -> bool {
        self.offline
    }

    /// Why something that was stored is not delivered now; `None` if it is.
    pub(super) async fn not_delivering(&self) -> Option<&'static str> {
        #[derive(Deserialize)]
        struct Health {
            #[serde(default)]
            delivering: Option<bool>,
        }
        if self.offline {
            return Some("no server runs on this folder: it is delivered when `ringback serve` runs");
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

/// The server that runs on a folder, if one answers.
async fn running(folder: &Path) -> Result<Option<Client>, Problem> {
    // What a killed server left behind names a port that anybody may have by now: it must not get the token.
    if !held(folder) {
        return Ok(None);
    }
    let Ok(text) = std::fs::read_to_string(folder.join(RUNNING)) else { return Ok(None) };
    let Ok(Running { address }) = serde_json::from_str(&text) else { return Ok(None) };
    let url = if address.contains("://") { address } else { format!("http://{address}") };
    let Ok(url) = parse_url(&url) else { return Ok(None) };
    // A token is read only for a server that is there, and sent only there.
    if !Client::new(&url, Secret::new(""))?.answers().await {
        return Ok(None);
    }
    Client::new(&url, read_token(&folder.join(TOKEN))?).map(Some)
}

/// Whether a process has the folder open.
fn held(folder: &Path) -> bool {
    let lock = std::fs::File::open(folder.join("LOCK"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

async fn open_folder(folder: &Path) -> Result<Offline, Problem> {
    let shown = folder.display();
    // Opening would make it, and nobody who reads or sends wants another queue by accident.
    if !folder.join("FORMAT").is_file() {
        return Err(Problem::new(
            Exit::Unreachable,
            format!(
                "{shown} holds no data of ringback: `ringback serve` makes it, --data DIR names another folder, \
                 --server URL a server"
            ),
        ));
    }
    Offline::open(folder).await.map_err(|error| Problem::new(Exit::Unreachable, format!("{error:#}")))
}
