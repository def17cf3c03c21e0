//! The HTTP API: the operations of the field's official clients, and ours beside them, over a [`Ringback`].
//!
//! Reading order: `api` (what every handler shares, and the routes), `auth` (who may what), `operations` (one file a
//! resource), `once` (idempotency). The API uses the crate's public interface only.
//!
//! Invariants: what changes something is finished, whether or not its client waits; an answer never tells what another
//! application has; a payload's bytes are taken as they stand in the request.

mod api;
mod auth;
mod body;
mod door;
mod fields;
mod finish;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guesses;
mod listen;
mod once;
mod openapi;
mod operations;
mod page;
mod path;
mod patient;
mod places;
mod problem;
mod query;
mod rest;
mod retention;
mod source;
mod unasked;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringback::{Profile, Ringback, Secret};
use tokio::net::TcpListener;

use api::Api;
use finish::Unfinished;
pub(crate) use listen::Listening;

/// What a server needs beside its [`Ringback`].
pub(crate) struct Options {
    /// Who presents it may do everything.
    pub(crate) operator_token: Secret,
    /// Where clients reach the API from outside, for links in answers. Default: the address that is listened on.
    pub(crate) public_url: Option<String>,
    /// The operator's own profiles, by name.
    pub(crate) profiles: BTreeMap<String, Profile>,
    /// The most connections at once; more wait to be accepted.
    pub(crate) max_connections: usize,
}

/// A server that answers.
pub(crate) struct Server {
    address: SocketAddr,
    listening: Listening,
    unfinished: Unfinished,
}

impl Server {
    /// Starts to answer on a listener, until [`stop`](Server::stop).
    ///
    /// # Errors
    /// The listener has no address.
    pub(crate) fn start(ringback: Ringback, listener: TcpListener, options: Options) -> std::io::Result<Server> {
        let address = listener.local_addr()?;
        let most = options.max_connections;
        let unfinished = Unfinished::new();
        let router = api::router(Arc::new(Api::new(ringback, address, options)), unfinished.clone());
        Ok(Server { address, listening: Listening::start(listener, router, most), unfinished })
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server has ended by itself, which it should not.
    pub(crate) async fn ended(&mut self) {
        self.listening.ended().await;
    }

    /// Accepts nothing more, and lets the requests that are being answered finish, for at most `grace`.
    pub(crate) async fn stop(self, grace: Duration) {
        self.listening.stop(grace).await;
        finish::wait(self.unfinished, grace).await;
    }
}
