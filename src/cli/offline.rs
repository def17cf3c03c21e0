//! A folder that no server runs on: the same API, served in this process for this one command.
//!
//! Invariant: nothing is delivered from here. A command may have been given other settings than the server, and does not stay.

use std::time::Duration;

use anyhow::Context;
use rand::TryRng;
use ringback::{Ringback, Secret, store};

use crate::server::{Options, Server};
use crate::settings::Settings;

/// How long the last request may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// More connections than a command makes.
const CONNECTIONS: usize = 64;

/// An open folder, and the server on it.
pub(super) struct Offline {
    ringback: Ringback,
    server: Server,
    token: Secret,
}

/// Why a folder was not opened.
pub(super) enum Closed {
    /// Another process has it: which one.
    Held(String),
    /// Something else.
    Failed(anyhow::Error),
}

impl Offline {
    /// Opens the folder of these settings, which is there.
    pub(super) async fn open(settings: &Settings) -> Result<Offline, Closed> {
        let ringback = match Ringback::open(settings.config.clone()).await {
            Ok(ringback) => ringback,
            Err(ringback::Error::Storage(store::Error::Locked { holder, .. })) => return Err(Closed::Held(holder)),
            Err(error) => return Err(Closed::Failed(error.into())),
        };
        match serve(ringback.clone(), settings).await {
            Ok((server, token)) => Ok(Offline { ringback, server, token }),
            Err(error) => {
                let _ = ringback.shutdown().await;
                Err(Closed::Failed(error))
            }
        }
    }

    /// Where its server answers.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What its server takes as the operator's token.
    pub(super) fn token(&self) -> Secret {
        self.token.clone()
    }

    /// Ends the server and closes the folder.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.server.stop(GRACE).await;
        self.ringback.shutdown().await.context("the folder could not be closed")
    }
}

async fn serve(ringback: Ringback, settings: &Settings) -> anyhow::Result<(Server, Secret)> {
    let listener =
        tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on 127.0.0.1 for this command")?;
    let token = random_token();
    let options = Options {
        operator_token: token.clone(),
        public_url: settings.public_url.clone(),
        profiles: settings.declared.profiles.clone(),
        max_connections: CONNECTIONS,
    };
    let server = Server::start(ringback, listener, options).context("cannot serve this command")?;
    Ok((server, token))
}

/// A token that ends with this process: others on this machine can reach the port, too.
fn random_token() -> Secret {
    let mut bytes = [0_u8; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives randomness");
    Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
