//! The directory: every application and endpoint, in memory, as the engine needs them.
//!
//! The store's records are the truth; the front reads them at open and keeps the directory in step with
//! each change. Readers take a snapshot and hold no lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::Notify;
use url::Url;

use crate::application::Application;
use crate::delivery::{CancelReason, Lane};
use crate::endpoint::{Endpoint, EndpointStatus};
use crate::id::{ApplicationId, EndpointId};
use crate::invalid::Invalid;
use crate::profile::Profile;

/// An endpoint with what an attempt needs, worked out once.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) endpoint: Endpoint,
    /// The profile with the endpoint's overrides.
    pub(crate) profile: Profile,
    pub(crate) url: Url,
    /// Scheme, host and port: what shares a receiver.
    pub(crate) origin: String,
    /// The version of the endpoint's record.
    pub(crate) version: u64,
}

impl Destination {
    /// Works out what an attempt needs.
    ///
    /// # Errors
    /// The settings are not valid. Stored ones are, unless an older version allowed more.
    pub(crate) fn new(endpoint: Endpoint, version: u64) -> Result<Self, Invalid> {
        let (url, profile) = endpoint.settings.validate()?;
        let origin = url.origin().ascii_serialization();
        Ok(Destination { endpoint, profile, url, origin, version })
    }

    pub(crate) fn lane(&self) -> Lane {
        Lane { application: self.endpoint.application, endpoint: self.endpoint.id }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        matches!(self.endpoint.status, EndpointStatus::Deleted { .. })
    }

    /// Whether attempts may start, and if not, why what waits is canceled.
    pub(crate) fn open(&self) -> Result<(), CancelReason> {
        match self.endpoint.status {
            EndpointStatus::Enabled => Ok(()),
            EndpointStatus::Disabled { .. } => Err(CancelReason::EndpointDisabled),
            EndpointStatus::Deleted { .. } => Err(CancelReason::EndpointDeleted),
        }
    }
}

/// An application and its endpoints, those deleted included.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) application: Application,
    /// The version of the application's record.
    pub(crate) version: u64,
    /// The version of the endpoint list that `endpoints` shows.
    pub(crate) list_version: u64,
    pub(crate) endpoints: BTreeMap<EndpointId, Arc<Destination>>,
}

/// What an application's settings say of the deliveries to all of its endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) weight: Option<u32>,
    pub(crate) throttle_rate: Option<u32>,
    pub(crate) max_in_flight: Option<u32>,
}

impl From<&Application> for Bounds {
    fn from(application: &Application) -> Self {
        Bounds {
            weight: application.weight,
            throttle_rate: application.throttle_rate,
            max_in_flight: application.max_in_flight,
        }
    }
}

/// Lanes, each with its destination if there is one, and the bounds of their applications.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) lanes: Vec<(Lane, Option<Arc<Destination>>)>,
    pub(crate) bounds: HashMap<ApplicationId, Bounds>,
}

/// Closed lanes where something may still wait to be canceled.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    lanes: Mutex<BTreeMap<Lane, CancelReason>>,
    /// Rings when there is one more.
    pub(crate) bell: Notify,
}

impl Sweeps {
    /// Notes a lane if it is closed.
    pub(crate) fn note(&self, lane: Lane, open: Result<(), CancelReason>) {
        let Err(reason) = open else { return };
        self.lanes.lock().expect(UNPOISONED).insert(lane, reason);
        self.bell.notify_one();
    }

    /// Takes one. If the sweep fails, put it back.
    pub(crate) fn take(&self) -> Option<(Lane, CancelReason)> {
        self.lanes.lock().expect(UNPOISONED).pop_first()
    }

    /// To be tried again at the next look, without a ring.
    pub(crate) fn put_back(&self, lane: Lane, reason: CancelReason) {
        self.lanes.lock().expect(UNPOISONED).insert(lane, reason);
    }
}

/// Every application and endpoint.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    shown: RwLock<Shown>,
    /// How many applications have been forgotten.
    forgotten: AtomicU64,
}

/// What the directory shows.
#[derive(Debug, Default)]
struct Shown {
    tenants: HashMap<ApplicationId, Arc<Tenant>>,
    /// Applications by the platform's own names for them.
    by_uid: HashMap<String, ApplicationId>,
}

const UNPOISONED: &str = "no code panics while it holds the directory";

impl Shown {
    fn show(&mut self, mut tenant: Tenant) {
        let Shown { tenants, by_uid } = self;
        if let Some(shown) = tenants.get(&tenant.application.id) {
            if shown.version > tenant.version {
                tenant.application = shown.application.clone();
                tenant.version = shown.version;
            }
            if shown.list_version > tenant.list_version {
                tenant.endpoints = shown.endpoints.clone();
                tenant.list_version = shown.list_version;
            }
        }
        let id = tenant.application.id;
        let uid = tenant.application.uid.clone();
        let before = tenants.insert(id, Arc::new(tenant));
        let old = before.and_then(|before| before.application.uid.clone());
        if old != uid {
            forget_uid(by_uid, old, id);
        }
        if let Some(uid) = uid {
            by_uid.insert(uid, id);
        }
    }
}

impl Directory {
    pub(crate) fn tenant(&self, id: ApplicationId) -> Option<Arc<Tenant>> {
        self.shown.read().expect(UNPOISONED).tenants.get(&id).cloned()
    }

    pub(crate) fn tenant_by_uid(&self, uid: &str) -> Option<Arc<Tenant>> {
        let shown = self.shown.read().expect(UNPOISONED);
        shown.tenants.get(shown.by_uid.get(uid)?).cloned()
    }

    pub(crate) fn destination(&self, lane: Lane) -> Option<Arc<Destination>> {
        self.shown.read().expect(UNPOISONED).tenants.get(&lane.application)?.endpoints.get(&lane.endpoint).cloned()
    }

    /// Whether attempts may start in a lane. One that is not known belonged to an application that was deleted.
    pub(crate) fn open(&self, lane: Lane) -> Result<(), CancelReason> {
        self.destination(lane).map_or(Err(CancelReason::EndpointDeleted), |destination| destination.open())
    }

    /// These lanes, as they are now.
    pub(crate) fn find(&self, lanes: &[Lane]) -> Found {
        let shown = self.shown.read().expect(UNPOISONED);
        let mut found = Found { lanes: Vec::with_capacity(lanes.len()), bounds: HashMap::new() };
        for lane in lanes {
            let tenant = shown.tenants.get(&lane.application);
            if let Some(tenant) = tenant {
                found.bounds.entry(lane.application).or_insert_with(|| Bounds::from(&tenant.application));
            }
            found.lanes.push((*lane, tenant.and_then(|tenant| tenant.endpoints.get(&lane.endpoint).cloned())));
        }
        found
    }

    /// Whether there is such an application.
    pub(crate) fn knows(&self, id: ApplicationId) -> bool {
        self.shown.read().expect(UNPOISONED).tenants.contains_key(&id)
    }

    /// How many applications have been forgotten so far.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// All applications, by id.
    pub(crate) fn tenants(&self) -> Vec<Arc<Tenant>> {
        let mut tenants: Vec<_> = self.shown.read().expect(UNPOISONED).tenants.values().cloned().collect();
        tenants.sort_unstable_by_key(|tenant| tenant.application.id);
        tenants
    }

    /// Shows a tenant as it is now. The application and its endpoints have versions of their own: of each, a later
    /// state that is shown already stays.
    pub(crate) fn show(&self, tenant: Tenant) {
        self.shown.write().expect(UNPOISONED).show(tenant);
    }

    /// The same of one that was read while it may have been deleted: one that is not shown any more stays so.
    pub(crate) fn refresh(&self, tenant: Tenant) {
        let mut all = self.shown.write().expect(UNPOISONED);
        if all.tenants.contains_key(&tenant.application.id) {
            all.show(tenant);
        }
    }

    /// Notes that the record of an endpoint was written once more, with the same content: it was at `version` before.
    pub(crate) fn rewritten(&self, lane: Lane, version: u64) {
        let mut all = self.shown.write().expect(UNPOISONED);
        let Some(tenant) = all.tenants.get(&lane.application) else { return };
        let Some(shown) = tenant.endpoints.get(&lane.endpoint).filter(|shown| shown.version == version) else { return };
        let mut endpoints = tenant.endpoints.clone();
        endpoints.insert(lane.endpoint, Arc::new(Destination { version: version + 1, ..(**shown).clone() }));
        let tenant = Arc::new(Tenant { endpoints, ..(**tenant).clone() });
        all.tenants.insert(lane.application, tenant);
    }

    pub(crate) fn forget(&self, id: ApplicationId) {
        let mut all = self.shown.write().expect(UNPOISONED);
        let Shown { tenants, by_uid } = &mut *all;
        if let Some(before) = tenants.remove(&id) {
            forget_uid(by_uid, before.application.uid.clone(), id);
            self.forgotten.fetch_add(1, Ordering::Release);
        }
    }
}

/// The uid may be another application's by now: that one's entry stays.
fn forget_uid(by_uid: &mut HashMap<String, ApplicationId>, uid: Option<String>, of: ApplicationId) {
    let Some(uid) = uid else { return };
    if by_uid.get(&uid) == Some(&of) {
        by_uid.remove(&uid);
    }
}
