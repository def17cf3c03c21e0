//! `ringback serve`: the server's life, from the settings to an orderly end.
//!
//! ```text
//!   bind ─▶ open the store ─▶ token ─▶ declared ─▶ answer and deliver ─▶ a signal ─▶ API stops ─▶ deliveries end ─▶ close
//!           (takes the folder)                     sidecar.json is there              └─── within the grace period ───┘
//! ```
//!
//! Invariants: nothing is answered before what is declared is there; nobody outside this machine is answered unless a
//! token was set; a second signal ends it at once.

mod announce;
mod attempts;
mod declare;
mod descriptors;
mod logs;
mod private;
mod signals;
mod token;

use std::io::{self, ErrorKind};
use std::time::Duration;

use anyhow::{Context, anyhow};
use ringback::{Ringback, Secret};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use crate::server::{self, Server};
use crate::settings::{self, Settings};

use announce::Announcement;
use attempts::AttemptLog;
use signals::Signals;

/// How it ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// What was on its way was finished, as far as the grace period let it.
    InOrder,
    /// A second signal cut it short.
    AtOnce,
}

/// Why it did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A setting cannot be taken.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// Something else.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// Serves until a signal comes.
pub(crate) async fn run(settings: Settings) -> Result<Ended, Error> {
    logs::start(&settings);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    descriptors::raise();
    if settings.token.is_none() && !settings.listen.ip().to_canonical().is_loopback() {
        return Err(settings.not_without_a_token().into());
    }
    let mut signals = Signals::listen().context("cannot wait for signals")?;
    let sidecar = tokio::select! {
        started = Sidecar::start(&settings) => started?,
        // Nothing was accepted yet.
        () = signals.next() => return Ok(Ended::InOrder),
    };
    sidecar.say_ready(&settings).await;
    sidecar.serve(signals).await
}

/// A server that answers and delivers.
struct Sidecar {
    ringback: Ringback,
    server: Server,
    announcement: Announcement,
    running: JoinHandle<Result<(), ringback::Error>>,
    attempts: AttemptLog,
    api_grace: Duration,
}

impl Sidecar {
    async fn start(settings: &Settings) -> Result<Sidecar, Error> {
        // First: a start that ends here has made no folder.
        let socket = bind(settings)?;
        let opened = Ringback::open(settings.config.clone()).await;
        if let Err(ringback::Error::Invalid(invalid)) = &opened {
            return Err(settings.refused(invalid).into());
        }
        let ringback = opened.map_err(anyhow::Error::from)?;
        if let Some(problem) = private::folder_problem(&settings.config.path) {
            tracing::warn!("{problem}");
        }
        match Sidecar::on(&ringback, socket, settings).await {
            Ok(sidecar) => Ok(sidecar),
            Err(error) => {
                // The error is what the operator must see; the store is closed for the sake of the next start.
                let _ = ringback.shutdown().await;
                Err(error)
            }
        }
    }

    /// Starts to serve with an open store.
    async fn on(ringback: &Ringback, socket: TcpSocket, settings: &Settings) -> Result<Sidecar, Error> {
        let operator_token = operator_token(settings)?;
        declare::apply(ringback, &settings.declared).await.context("what the settings declare cannot be applied")?;
        let options = server::Options {
            operator_token,
            public_url: settings.public_url.clone(),
            profiles: settings.declared.profiles.clone(),
            max_connections: settings.max_connections,
        };
        let listener = socket.listen(BACKLOG).map_err(|error| not_at(settings, &error))?;
        let server = Server::start(ringback.clone(), listener, options).context("cannot serve")?;
        let announcement = Announcement::write(&settings.config.path, server.address())
            .with_context(|| format!("cannot write to {}", settings.config.path.display()))?;
        let attempts = AttemptLog::follow(ringback.watch());
        let delivering = ringback.clone();
        #[expect(clippy::disallowed_methods, reason = "an embedding program spawns `run`; `stop` joins it")]
        let running = tokio::spawn(async move { delivering.run().await });
        let api_grace = settings.api_grace;
        Ok(Sidecar { ringback: ringback.clone(), server, announcement, running, attempts, api_grace })
    }

    async fn say_ready(&self, settings: &Settings) {
        let applications = self.ringback.applications();
        let endpoints: usize =
            applications.iter().filter_map(|one| self.ringback.endpoints(one.id).ok()).map(|all| all.len()).sum();
        let health = self.ringback.health().await;
        for warning in health.iter().flat_map(|health| &health.warnings) {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            address = %self.server.address(),
            data = %settings.config.path.display(),
            version = env!("CARGO_PKG_VERSION"),
            applications = applications.len(),
            endpoints,
            waiting = health.map_or(0, |health| health.open),
            "ready"
        );
    }

    /// Serves until a signal comes, or until one of its parts ends by itself.
    async fn serve(mut self, mut signals: Signals) -> Result<Ended, Error> {
        let broken = tokio::select! {
            () = signals.next() => None,
            () = self.server.ended() => Some(anyhow!("the API's server ended by itself; the log says why")),
            ended = &mut self.running => Some(match ended {
                Ok(Ok(())) => anyhow!("delivering ended by itself"),
                Ok(Err(error)) => anyhow!(error).context("delivering ended by itself"),
                Err(error) => anyhow!(error).context("delivering ended by itself"),
            }),
        };
        if let Some(error) = broken {
            self.announcement.remove();
            // Whatever comes of it, the first error is what the operator must see.
            let _ = self.ringback.shutdown().await;
            return Err(error.into());
        }
        tracing::info!("stopping: what is on its way is finished; a second signal ends it at once");
        tokio::select! {
            biased;
            stopped = self.stop() => {
                stopped?;
                tracing::info!("stopped");
                Ok(Ended::InOrder)
            }
            () = signals.again() => {
                tracing::warn!("stopped at once: what was on its way is attempted again after the next start");
                Ok(Ended::AtOnce)
            }
        }
    }

    async fn stop(self) -> Result<(), Error> {
        let Sidecar { ringback, server, announcement, running, attempts, api_grace } = self;
        if tokio::time::timeout(api_grace, server.stop(api_grace)).await.is_err() {
            tracing::warn!("requests to the API took longer than their part of the grace period");
        }
        let closed = ringback.shutdown().await;
        let ran = running.await;
        attempts.finish().await;
        announcement.remove();
        closed.context("the store was not closed in order")?;
        ran.context("delivering did not end in order")?.context("delivering did not end in order")?;
        Ok(())
    }
}

const BUSY: &str =
    "another program has it; stop that one, or set another address with --listen, RINGBACK_LISTEN or `listen`";

/// The most connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// Takes the address. Until the socket listens, whoever connects is refused instead of kept waiting.
fn bind(settings: &Settings) -> Result<TcpSocket, Error> {
    let address = settings.listen;
    let bound = || -> io::Result<TcpSocket> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // What connections of an earlier process left behind does not keep the address busy.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    };
    bound().map_err(|error| not_at(settings, &error))
}

fn not_at(settings: &Settings, error: &io::Error) -> Error {
    let what = if error.kind() == ErrorKind::AddrInUse { BUSY.to_owned() } else { error.to_string() };
    anyhow!("cannot listen on {}: {what}", settings.listen).into()
}

fn operator_token(settings: &Settings) -> Result<Secret, Error> {
    match &settings.token {
        Some(token) => Ok(token.clone()),
        None => Ok(token::kept_or_made(&settings.config.path)?),
    }
}
