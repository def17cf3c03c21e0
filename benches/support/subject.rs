//! The sled store as the benchmarks drive it.

#![allow(dead_code, reason = "no benchmark needs everything")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringback::clock::{Clock, SystemClock};
use ringback::store::sled::{SledConfig, SledStore};
use ringback::store::{Enqueue, Lease, Settlement, Store};
use ringback::{
    ApplicationId, AttemptId, EndpointId, Lane, MessageId, Outcome, Response, Routing, State, StateKind, Timestamp,
    testing,
};

use super::support::event;

/// How many attempts may be under way or unsettled, as in the dispatcher.
pub const CLAIMED: usize = 2048;

pub struct Subject {
    pub store: SledStore,
    pub clock: SystemClock,
    ids: AtomicU64,
}

/// The lane of this number; all are of one application.
pub fn lane(number: usize) -> Lane {
    let mut id = [2; 16];
    id[8..].copy_from_slice(&(number as u64).to_be_bytes());
    Lane { application: ApplicationId::from_bytes([1; 16]), endpoint: EndpointId::from_bytes(id) }
}

impl Subject {
    pub async fn open(dir: &Path) -> Subject {
        let store = SledStore::open(SledConfig::new(dir.join("store"))).await.unwrap();
        let clock = SystemClock::starting_after(store.latest_time());
        Subject { store, clock, ids: AtomicU64::new(0) }
    }

    /// The parts of an id that this store has never had.
    fn id(&self) -> (Timestamp, u128) {
        (self.clock.now(), self.ids.fetch_add(1, Ordering::Relaxed).into())
    }

    pub fn message(&self, lane: Lane, number: usize) -> Enqueue {
        let (time, random) = self.id();
        let id = MessageId::from_parts(time, random);
        let message = testing::message(lane.application, id, time, event(number), Routing::To(vec![lane.endpoint]));
        Enqueue { message: Arc::new(message), routed_over: None, idempotency: None }
    }

    /// Leases of what is due, from all lanes alike; none if nothing is.
    pub async fn claim(&self, most: usize) -> Vec<Lease> {
        let now = self.clock.now();
        let due = self.store.due_lanes(now, None, 1024).await.unwrap().lanes;
        if due.is_empty() || most == 0 {
            return Vec::new();
        }
        let each = most.div_ceil(due.len());
        let wanted = due.into_iter().map(|lane| (lane, each)).collect();
        self.store.claim(now, wanted, now + Duration::from_secs(60)).await.unwrap()
    }

    /// What a receiver's usual answer leaves on record.
    pub fn settlement(&self, lease: Lease) -> Settlement {
        let (time, random) = self.id();
        let id = AttemptId::from_parts(time, random);
        let outcome = Outcome::answered(200);
        let mut attempt = testing::attempt(id, lease.delivery, lease.progress, outcome, StateKind::Delivered);
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        attempt.request_headers = [
            ("Content-Type", "application/json"),
            ("svix-id", "msg_06EQ2XN3Y4M7A1S9D8F5G2H3J4"),
            ("svix-timestamp", "1795246080"),
            ("svix-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
        ]
        .map(owned)
        .into();
        let headers = [
            ("date", "Sat, 21 Nov 2026 07:28:00 GMT"),
            ("content-type", "application/json; charset=utf-8"),
            ("content-length", "17"),
            ("server", "nginx/1.27.3"),
            ("x-request-id", "7f0c2a52-5d1c-4a38-9d53-0c5d9ad3d2b1"),
        ];
        attempt.response = Some(Response {
            status: 200,
            headers: headers.map(owned).into(),
            body: br#"{"received":true}"#.as_slice().into(),
            truncated: false,
            expunged: false,
        });
        Settlement { lease, attempt: Some(attempt), state: State::Delivered { at: self.clock.now() }, lets_pass: false }
    }
}
