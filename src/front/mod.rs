//! The front: [`Ringback`], the handle that an embedding program holds.

mod applications;
mod cancel;
mod chores;
mod claims;
mod compact;
mod config;
mod enable;
mod endpoints;
mod erase;
mod event_types;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod fixture;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod log;
mod operational;
mod parts;
mod receipts;
mod records;
mod replay;
mod retention;
mod sealing;
mod send;
mod standings;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, broadcast, watch};

use crate::attempt::Attempt;
use crate::board::Board;
use crate::breaker::BreakerRules;
use crate::clock::Clock;
use crate::directory::{Directory, Sweeps};
use crate::dispatcher::{Dispatcher, Parts};
use crate::egress::{Gate, Policy};
use crate::error::Error;
use crate::observed::Observed;
use crate::plan::Caps;
use crate::random::IdSource;
use crate::standing::Rule;
use crate::store::{Health, Store};
use crate::time::Timestamp;
use crate::transport::Transport;

use event_types::EventTypes;
use operational::Outbox;
use receipts::Receipts;
use sealing::Seals;
use tokens::Tokens;

pub use cancel::{CancelFilter, CancelStep};
pub use config::{Config, KeySource};
pub use enable::EnableReplay;
pub use erase::{Erase, EraseJob, EraseStatus, Erasing};
pub use receipts::{Pending, Receipt};
pub use replay::{JobStatus, NewReplay, ReplayFilter, ReplayJob, ReplayPreview, ReplaySkips, ReplayTo, ReplayWhat};
pub use sealing::KeyUse;
pub use send::Sent;
pub use tokens::{IssuedToken, Token};

/// How many settled attempts a slow [`watch`](Ringback::watch)er may be behind before it misses some.
const WATCH_BEHIND: usize = 1024;

/// A webhook sender: a durable queue, its dispatcher and its log. Cheap to clone; all clones are one.
///
/// [`send`](Ringback::send) is durable when it returns. Deliveries are made while [`run`](Ringback::run) runs.
#[derive(Clone)]
pub struct Ringback {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    gate: Gate,
    ids: Arc<IdSource>,
    directory: Arc<Directory>,
    settled: broadcast::Sender<Arc<Attempt>>,
    /// Held while `run` runs, so that there is one dispatcher.
    running: AtomicBool,
    run_ended: watch::Sender<bool>,
    shutdown: Notify,
    shutdown_chores: Notify,
    /// Rings when a rule of retention may have changed.
    rules_changed: Notify,
    /// Rings when there is something to erase.
    erasures: Notify,
    /// Held while an erase job gets on: one at a time.
    erasing: tokio::sync::Mutex<()>,
    sweeps: Arc<Sweeps>,
    board: Arc<Board>,
    observed: Arc<Observed>,
    outbox: Outbox,
    seals: Seals,
    event_types: EventTypes,
    tokens: Tokens,
    receipts: Receipts,
    /// Rings when a replay job may get on: it was started or resumed, or another one has made a place.
    jobs: Notify,
}

impl Ringback {
    /// Opens the sender of a folder, or makes it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a setting out of its range; [`Error::Storage`] if the folder is in use by another
    /// process (which it names), was written by a newer version, or cannot be read or written; [`Error::Keys`] if the keys
    /// that secrets are sealed under are not there, are others, or cannot be read.
    #[cfg(feature = "sled")]
    pub async fn open(config: Config) -> Result<Ringback, Error> {
        use crate::clock::SystemClock;
        use crate::store::sled::{SledConfig, SledStore};

        config.validate()?;
        log_openings(&config.egress);
        log_ways(&config);
        // What holds no keys is refused before the store is touched. What counts is read under the folder's lock.
        Seals::check_file(&config)?;
        let store = SledStore::open(SledConfig {
            path: config.path.clone(),
            max_open_bytes: config.max_open_bytes,
            max_open_bytes_per_application: config.max_open_bytes_per_application,
            max_kept_bytes: config.max_kept_bytes,
            min_free_bytes: config.min_free_bytes,
            max_cached_bytes: config.max_cached_bytes,
        })
        .await?;
        let store = Arc::new(store);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::starting_after(store.latest_time()));
        let gate = Gate::from(config.egress.clone());
        let of_folder = Arc::clone(&store);
        let opened = async {
            let transport = transport(&config, gate.clone(), Arc::clone(&clock))?;
            let seals = Seals::of_folder(&config, &*of_folder).await?;
            Ringback::build(gate, config, of_folder, Arc::new(transport), clock, seals).await
        };
        let opened = opened.await;
        if opened.is_err() {
            // The error is what the caller must see; the folder is let go of for the sake of the next open.
            let _ = store.close().await;
        }
        opened
    }

    /// Builds a sender from parts of the caller's own: another store, a scripted transport, a clock for tests.
    ///
    /// It makes no file. Secrets are sealed if `Config::keys` gives the keys or names their file; with its default they
    /// are stored as they are, since there is no folder for a file of keys. The memory store needs no more; a store that
    /// outlives the process should be given keys.
    ///
    /// # Errors
    /// As [`open`](Ringback::open), as far as they apply.
    pub async fn from_parts(
        config: Config,
        store: Arc<dyn Store>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Ringback, Error> {
        config.validate()?;
        let seals = Seals::given(&config)?;
        Ringback::build(Gate::from(config.egress.clone()), config, store, transport, clock, seals).await
    }

    async fn build(
        gate: Gate,
        config: Config,
        store: Arc<dyn Store>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        seals: Seals,
    ) -> Result<Ringback, Error> {
        let rule = Rule { after: config.disable_after, failures: config.disable_after_failures };
        let observed = Arc::new(Observed::new(rule, config.operational_application.clone()));
        let ringback = Ringback {
            inner: Arc::new(Inner {
                observed,
                outbox: Outbox::default(),
                gate,
                config,
                store,
                transport,
                clock,
                ids: Arc::new(IdSource::new()),
                directory: Arc::new(Directory::default()),
                settled: broadcast::Sender::new(WATCH_BEHIND),
                running: AtomicBool::new(false),
                run_ended: watch::Sender::new(true),
                shutdown: Notify::new(),
                shutdown_chores: Notify::new(),
                rules_changed: Notify::new(),
                erasures: Notify::new(),
                erasing: tokio::sync::Mutex::new(()),
                sweeps: Arc::new(Sweeps::default()),
                board: Arc::new(Board::default()),
                jobs: Notify::new(),
                seals,
                event_types: EventTypes::default(),
                tokens: Tokens::default(),
                receipts: Receipts::default(),
            }),
        };
        ringback.check_seals().await?;
        ringback.read_directory().await?;
        ringback.read_event_types().await?;
        ringback.read_tokens().await?;
        ringback.read_receipts().await?;
        ringback.read_standings().await?;
        ringback.read_outbox().await?;
        Ok(ringback)
    }

    /// Delivers: what waits now, and what is sent from now on, until [`shutdown`](Ringback::shutdown). It also
    /// sweeps up after disabled endpoints, runs replay jobs and removes what retention allows.
    ///
    /// Spawn it on the runtime. Dropping the future stops delivering at once; what was on its way is attempted
    /// again after the next `open`, or by the next `run` once its lease has run out (time limit and 60 s).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it runs already.
    pub async fn run(&self) -> Result<(), Error> {
        let inner = &self.inner;
        if inner.running.swap(true, Ordering::AcqRel) {
            return Err(Error::Conflict("deliveries are being made already"));
        }
        inner.run_ended.send_replace(false);
        // Also when this future is dropped.
        let _ended = Ended(inner);
        let dispatcher = Dispatcher::new(self.parts(), caps(&inner.config));
        let delivering = async {
            dispatcher.run(&inner.shutdown, inner.config.shutdown_grace).await;
            inner.shutdown_chores.notify_one();
        };
        let chores = async {
            tokio::select! {
                () = self.run_chores() => {}
                () = self.delete_on_success() => {}
                () = self.run_erasures() => {}
            }
        };
        tokio::join!(delivering, chores);
        Ok(())
    }

    /// Whether [`run`](Ringback::run) runs.
    pub fn is_running(&self) -> bool {
        self.inner.running.load(Ordering::Acquire)
    }

    /// Lets the requests on their way finish (for at most `Config::shutdown_grace`), and closes the store.
    /// Every later call answers [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Storage`] if the store could not be closed.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let mut ended = self.inner.run_ended.subscribe();
        // Also if nothing runs yet: a `run` that begins at this moment must not miss it.
        self.inner.shutdown.notify_one();
        // The sender lives in `self`, so this ends only when `run` has.
        let _ = ended.wait_for(|ended| *ended).await;
        Ok(self.inner.store.close().await?)
    }

    /// Each attempt that is put on record from now on. A receiver that is more than 1,024 behind misses the
    /// oldest; the log has them all.
    pub fn watch(&self) -> broadcast::Receiver<Arc<Attempt>> {
        self.inner.settled.subscribe()
    }

    /// How the store is: what waits, what it takes on disk, what is damaged.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn health(&self) -> Result<Health, Error> {
        Ok(self.inner.store.health().await?)
    }

    /// Puts another egress policy in force, in place of `Config::egress`: for endpoints that are registered from now on,
    /// and for every attempt that begins from now on, whether its connection is new or was kept. Attempts that are under
    /// way end under the old one.
    ///
    /// A transport of the caller's own ([`from_parts`](Ringback::from_parts)) is not told.
    pub fn set_egress(&self, policy: Policy) {
        log_openings(&policy);
        self.inner.gate.set(policy);
    }

    /// The egress policy in force: `Config::egress`, or what [`set_egress`](Ringback::set_egress) put in its place.
    pub fn egress(&self) -> Arc<Policy> {
        self.inner.gate.policy()
    }

    /// The settings it was opened with. What [`set_egress`](Ringback::set_egress) changed is not among them; see
    /// [`egress`](Ringback::egress).
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn parts(&self) -> Parts {
        let inner = &self.inner;
        Parts {
            store: Arc::clone(&inner.store),
            transport: Arc::clone(&inner.transport),
            clock: Arc::clone(&inner.clock),
            directory: Arc::clone(&inner.directory),
            sweeps: Arc::clone(&inner.sweeps),
            board: Arc::clone(&inner.board),
            observed: Arc::clone(&inner.observed),
            ids: Arc::clone(&inner.ids),
            settled: inner.settled.clone(),
        }
    }
}

/// The plan's bounds, as the settings say.
fn caps(config: &Config) -> Caps {
    Caps {
        in_flight: config.max_in_flight,
        per_endpoint: config.max_in_flight_per_endpoint,
        per_origin: config.max_in_flight_per_origin,
        per_application: config.max_in_flight_per_application,
        throttle_rate: config.throttle_rate,
        breaker: BreakerRules {
            failures: config.breaker_failures,
            rest: config.breaker_rest,
            max_rest: config.breaker_max_rest,
        },
        unsettled: config.max_unsettled,
    }
}

/// The transport that the settings ask for.
#[cfg(feature = "sled")]
fn transport(config: &Config, gate: Gate, clock: Arc<dyn Clock>) -> Result<crate::http::HttpTransport, Error> {
    let transport = crate::http::HttpTransport::new(gate, &config.extra_roots, clock)?;
    let transport = transport.nameservers(config.nameservers.clone());
    Ok(match config.proxy.clone() {
        Some(proxy) => transport.proxy(proxy),
        None => transport,
    })
}

/// What is open beyond the internet stands in the log.
fn log_openings(policy: &Policy) {
    for network in &policy.allowed_networks {
        tracing::info!(%network, "addresses of this network may be called");
    }
    if policy.allow_metadata {
        tracing::warn!("the cloud's metadata addresses may be called");
    }
}

/// By whom deliveries go, where that is not the machine's own way. A proxy is shown without its user and password.
#[cfg(feature = "sled")]
fn log_ways(config: &Config) {
    if let Some(proxy) = &config.proxy {
        tracing::info!(%proxy, "all deliveries go through this proxy");
    }
    for nameserver in &config.nameservers {
        tracing::info!(%nameserver, "this name server is asked for receivers' names");
    }
}

/// Says that `run` has ended, however it did.
struct Ended<'i>(&'i Inner);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.board.clear();
        self.0.running.store(false, Ordering::Release);
        self.0.run_ended.send_replace(true);
    }
}

impl std::fmt::Debug for Ringback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ringback").field("path", &self.inner.config.path).finish_non_exhaustive()
    }
}
