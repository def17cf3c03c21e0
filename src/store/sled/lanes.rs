//! The lanes in memory: what can be claimed now, without a look at the disk.
//!
//! A lane keeps a window: its first waiting deliveries, in order. What lies beyond is on disk alone, and the
//! store's thread fills the window again when it runs low. So a claim never waits for a commit, and an
//! endpoint with a million waiting costs the others nothing.
//!
//! Invariants: a delivery is in a window or leased, never both; a lane whose window is not complete has more
//! on disk; only the store's thread inserts, removes and fills, after the disk has it; leases exist here alone
//! (after a restart everything open is claimable at once).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::delivery::{DeliveryId, Lane, Progress};
use crate::id::MessageId;
use crate::message::Message;
use crate::ordering::KeyHash;
use crate::store::{DueLanes, Fence, Lease};
use crate::time::Timestamp;

use super::keys::Place;

/// How many waiting deliveries a lane's window holds.
const WINDOW: usize = 1024;
/// And how many where all windows together hold more than [`MANY`].
const SMALL_WINDOW: usize = 32;
const MANY: usize = 256 * 1024;

/// A waiting delivery.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) message_id: MessageId,
    pub(super) progress: Progress,
    pub(super) bytes: u32,
    /// Its message's ordering key.
    pub(super) ordered: Option<KeyHash>,
    /// The message itself, kept from its enqueue while there is room, so that it is not read back.
    pub(super) message: Option<Arc<Message>>,
    /// The earlier lease that ran out. It still settles, until the delivery is claimed again.
    pub(super) lost: Option<u64>,
}

/// A leased delivery.
#[derive(Debug, Clone)]
pub(super) struct Leased {
    pub(super) lane: Lane,
    pub(super) place: Place,
    pub(super) entry: Entry,
    pub(super) until: Timestamp,
}

#[derive(Debug, Default)]
struct LaneWindow {
    window: BTreeMap<Place, Entry>,
    /// Whether the window has all that waits in the lane.
    complete: bool,
    /// Whether the store's thread has been asked to fill it.
    filling: bool,
    closed: bool,
    leased: BTreeMap<Place, u64>,
    /// The due time of the first row on disk, until the window is filled for the first time.
    on_disk: Option<Timestamp>,
    /// Where the lane stands among the others: the due time of its head.
    position: Option<Timestamp>,
}

/// All lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: HashMap<Lane, LaneWindow>,
    /// Lanes whose head is due, as of the last look; and the others by the time of their head.
    ready: BTreeSet<Lane>,
    later: BTreeSet<(Timestamp, Lane)>,
    /// Lanes whose windows run low while there is more on disk.
    hungry: BTreeSet<Lane>,
    leases: HashMap<u64, Leased>,
    expiries: BTreeSet<(Timestamp, u64)>,
    epoch: u64,
    counter: u64,
    in_windows: usize,
    cached_bytes: usize,
    max_cached_bytes: usize,
}

impl Lanes {
    pub(super) fn new(epoch: u64, max_cached_bytes: usize) -> Self {
        Lanes {
            lanes: HashMap::new(),
            ready: BTreeSet::new(),
            later: BTreeSet::new(),
            hungry: BTreeSet::new(),
            leases: HashMap::new(),
            expiries: BTreeSet::new(),
            epoch,
            counter: 0,
            in_windows: 0,
            cached_bytes: 0,
            max_cached_bytes,
        }
    }

    /// A lane that was found on disk when the store was opened, and the due time of its first row: all of it is
    /// to be read yet.
    pub(super) fn found_on_disk(&mut self, lane: Lane, due: Timestamp) {
        self.lanes.insert(lane, LaneWindow { on_disk: Some(due), ..Default::default() });
        self.hungry.insert(lane);
        self.reposition(lane);
    }

    pub(super) fn set_closed(&mut self, lane: Lane, closed: bool) {
        let of = self.lanes.entry(lane).or_insert_with(|| LaneWindow { complete: true, ..Default::default() });
        of.closed = closed;
        self.reposition(lane);
        self.note_if_hungry(lane);
        self.forget_empty(lane);
    }

    /// Lanes whose windows are to be filled. Each is named once, until it has been filled.
    pub(super) fn take_hungry(&mut self) -> Vec<Lane> {
        let hungry = std::mem::take(&mut self.hungry);
        let mut lanes: Vec<Lane> = hungry.into_iter().collect();
        lanes.retain(|lane| self.lanes.get_mut(lane).is_some_and(|of| !std::mem::replace(&mut of.filling, true)));
        lanes
    }

    /// A fill could not be asked for: it will be named again.
    pub(super) fn not_filled(&mut self, lane: Lane) {
        if let Some(of) = self.lanes.get_mut(&lane) {
            of.filling = false;
        }
        self.note_if_hungry(lane);
    }

    fn note_if_hungry(&mut self, lane: Lane) {
        let hungry = |of: &LaneWindow| !of.complete && !of.filling && !of.closed && of.window.len() < SMALL_WINDOW / 2;
        if self.lanes.get(&lane).is_some_and(hungry) {
            self.hungry.insert(lane);
        }
    }

    fn room(&self) -> usize {
        if self.in_windows > MANY { SMALL_WINDOW } else { WINDOW }
    }

    /// How many rows a fill should read: what may be leased, and a window's worth.
    pub(super) fn fill_size(&self, lane: Lane) -> usize {
        self.room() + self.lanes.get(&lane).map_or(0, |of| of.leased.len())
    }

    /// What a fill has read: the lane's first rows, and whether that is all.
    pub(super) fn filled(&mut self, lane: Lane, rows: Vec<(Place, Entry)>, all: bool) {
        let Some(of) = self.lanes.get_mut(&lane) else { return };
        of.filling = false;
        of.complete = all;
        of.on_disk = None;
        for (place, entry) in rows {
            if !of.leased.contains_key(&place) && !of.window.contains_key(&place) {
                of.window.insert(place, entry);
                self.in_windows += 1;
            }
        }
        self.reposition(lane);
    }

    /// A delivery waits, and is on disk.
    pub(super) fn insert(&mut self, lane: Lane, place: Place, mut entry: Entry) {
        let room = self.room();
        let of = self.lanes.entry(lane).or_insert_with(|| LaneWindow { complete: true, ..Default::default() });
        let within = of.complete || of.window.last_key_value().is_some_and(|(last, _)| place < *last);
        if !within {
            return;
        }
        let bytes = entry.message.as_ref().map_or(0, |message| message.payload.len());
        if self.cached_bytes + bytes > self.max_cached_bytes {
            entry.message = None;
        } else {
            self.cached_bytes += bytes;
        }
        of.window.insert(place, entry);
        self.in_windows += 1;
        // An entry that was lost stays: its mark is nowhere else.
        let can_drop = of.window.last_key_value().is_some_and(|(_, entry)| entry.lost.is_none());
        if of.window.len() > room && can_drop {
            let last = of.window.pop_last();
            of.complete = false;
            self.forget(last.map(|(_, entry)| entry));
        }
        self.reposition(lane);
    }

    /// A waiting delivery that nobody has leased is no more (or waits elsewhere).
    pub(super) fn remove(&mut self, lane: Lane, place: Place) {
        let Some(of) = self.lanes.get_mut(&lane) else { return };
        let entry = of.window.remove(&place);
        self.forget(entry);
        self.reposition(lane);
        self.note_if_hungry(lane);
    }

    /// Takes a waiting delivery out of the reach of claims, for a write that ends it or moves it: until that write is shown
    /// a claim could give it yet. `false` if it is leased. A lease that ran out in a closed lane ends: nobody will claim
    /// it anew.
    pub(super) fn withhold(&mut self, lane: Lane, place: Place, now: Timestamp) -> bool {
        if let Some(of) = self.lanes.get_mut(&lane)
            && let Some(counter) = of.leased.get(&place).copied()
        {
            let until = self.leases.get(&counter).map(|leased| leased.until);
            if !of.closed || until.is_some_and(|until| now < until) {
                return false;
            }
            of.leased.remove(&place);
            self.leases.remove(&counter);
            if let Some(until) = until {
                self.expiries.remove(&(until, counter));
            }
        }
        self.remove(lane, place);
        true
    }

    /// A fresh message is not to be sent as it was: what goes out of this place is read from disk.
    pub(super) fn drop_cached(&mut self, lane: Lane, place: Place) {
        let entry = self.lanes.get_mut(&lane).and_then(|of| of.window.get_mut(&place));
        let bytes = entry.and_then(|entry| entry.message.take()).map_or(0, |message| message.payload.len());
        self.cached_bytes = self.cached_bytes.saturating_sub(bytes);
    }

    fn forget(&mut self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.in_windows -= 1;
            self.release_cache(&entry);
        }
    }

    fn release_cache(&mut self, entry: &Entry) {
        let bytes = entry.message.as_ref().map_or(0, |message| message.payload.len());
        self.cached_bytes = self.cached_bytes.saturating_sub(bytes);
    }

    pub(super) fn is_leased(&self, lane: Lane, place: Place, now: Timestamp) -> bool {
        let Some(counter) = self.lanes.get(&lane).and_then(|of| of.leased.get(&place)) else { return false };
        self.leases.get(counter).is_some_and(|leased| now < leased.until)
    }

    pub(super) fn leased_until(&self, lane: Lane, place: Place) -> Option<Timestamp> {
        let counter = self.lanes.get(&lane)?.leased.get(&place)?;
        self.leases.get(counter).map(|leased| leased.until)
    }

    pub(super) fn leased_count(&self) -> u64 {
        self.leases.len() as u64
    }

    /// The live lease with this fence.
    pub(super) fn lease(&self, fence: Fence) -> Option<&Leased> {
        if fence.epoch != self.epoch {
            return None;
        }
        self.leases.get(&fence.counter)
    }

    /// A lease has been settled, on disk.
    pub(super) fn end_lease(&mut self, fence: Fence) {
        let Some(leased) = self.leases.remove(&fence.counter) else { return };
        self.expiries.remove(&(leased.until, fence.counter));
        if let Some(of) = self.lanes.get_mut(&leased.lane) {
            of.leased.remove(&leased.place);
            // One that had run out waits to be claimed again: no more.
            let again = of.window.get(&leased.place).is_some_and(|entry| entry.lost == Some(fence.counter));
            let entry = if again { of.window.remove(&leased.place) } else { None };
            self.forget(entry);
            self.reposition(leased.lane);
        }
        self.note_if_hungry(leased.lane);
        self.forget_empty(leased.lane);
    }

    /// Leases that have run out can be claimed again, in their old place, marked as lost.
    fn expire(&mut self, now: Timestamp) {
        while let Some((until, counter)) = self.expiries.first().copied().filter(|(until, _)| *until <= now) {
            self.expiries.remove(&(until, counter));
            let Some(leased) = self.leases.get(&counter) else { continue };
            let (lane, place) = (leased.lane, leased.place);
            let entry = Entry { lost: Some(counter), ..leased.entry.clone() };
            let Some(of) = self.lanes.get_mut(&lane) else { continue };
            // It goes in even beyond the window's end: the mark must not get lost.
            of.window.insert(place, entry);
            self.in_windows += 1;
            self.reposition(lane);
        }
    }

    fn forget_empty(&mut self, lane: Lane) {
        let empty = |of: &LaneWindow| of.window.is_empty() && of.complete && !of.closed && of.leased.is_empty();
        if self.lanes.get(&lane).is_some_and(empty) {
            self.lanes.remove(&lane);
        }
    }

    /// Puts a lane where the due time of its head says.
    fn reposition(&mut self, lane: Lane) {
        let Some(of) = self.lanes.get_mut(&lane) else { return };
        let first = of.window.first_key_value().map(|((due, _), _)| *due);
        let head = first.or(of.on_disk).filter(|_| !of.closed);
        if head == of.position {
            return;
        }
        if let Some(old) = of.position {
            self.ready.remove(&lane);
            self.later.remove(&(old, lane));
        }
        of.position = head;
        if let Some(due) = head {
            self.later.insert((due, lane));
        }
    }

    /// Lanes with something claimable, in order, after `after`.
    pub(super) fn due(&mut self, now: Timestamp, after: Option<Lane>, limit: usize) -> DueLanes {
        use std::ops::Bound::{Excluded, Unbounded};
        self.expire(now);
        self.ripen(now);
        let start = after.map_or(Unbounded, Excluded);
        let mut rest = self.ready.range((start, Unbounded));
        let lanes: Vec<Lane> = rest.by_ref().take(limit).copied().collect();
        let next_entry = self.later.first().map(|(due, _)| *due);
        let in_open_lane = |counter: &u64| {
            let lane = self.leases.get(counter).and_then(|leased| self.lanes.get(&leased.lane));
            lane.is_some_and(|of| !of.closed)
        };
        let next_expiry = self.expiries.iter().find(|(_, counter)| in_open_lane(counter)).map(|(until, _)| *until);
        let next_due = [next_entry, next_expiry].into_iter().flatten().min();
        DueLanes { lanes, more: rest.next().is_some(), next_due }
    }

    /// Lanes whose head has become due move over. A head that ripened stays ready until it is repositioned.
    fn ripen(&mut self, now: Timestamp) {
        while let Some((due, lane)) = self.later.first().copied().filter(|(due, _)| *due <= now) {
            self.later.remove(&(due, lane));
            self.ready.insert(lane);
        }
    }

    /// Leases at most `most` due deliveries of a lane.
    pub(super) fn claim(&mut self, now: Timestamp, lane: Lane, most: usize, until: Timestamp, to: &mut Vec<Lease>) {
        self.expire(now);
        for _ in 0..most {
            let Some(of) = self.lanes.get_mut(&lane).filter(|of| !of.closed) else { return };
            let Some(head) = of.window.first_entry().filter(|head| head.key().0 <= now) else { break };
            let (place, entry) = head.remove_entry();
            self.in_windows -= 1;
            let lost = entry.lost.is_some_and(|counter| self.leases.remove(&counter).is_some());
            self.counter += 1;
            of.leased.insert(place, self.counter);
            self.expiries.insert((until, self.counter));
            to.push(Lease {
                delivery: DeliveryId { lane, message: entry.message_id },
                progress: entry.progress,
                message: entry.message.clone(),
                fence: Fence { epoch: self.epoch, counter: self.counter },
                lost,
            });
            self.release_cache(&entry);
            let entry = Entry { message: None, lost: None, ..entry };
            self.leases.insert(self.counter, Leased { lane, place, entry, until });
        }
        self.reposition(lane);
        self.note_if_hungry(lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ApplicationId, EndpointId};

    fn lane(number: u8) -> Lane {
        Lane { application: ApplicationId::from_bytes([1; 16]), endpoint: EndpointId::from_bytes([number; 16]) }
    }

    fn entry() -> Entry {
        Entry {
            message_id: MessageId::from_bytes([0; 16]),
            progress: Progress::new(Timestamp::ZERO),
            bytes: 10,
            ordered: None,
            message: None,
            lost: None,
        }
    }

    fn message_of_ten_bytes() -> Message {
        Message {
            id: MessageId::from_bytes([0; 16]),
            application: lane(1).application,
            event_type: "e".into(),
            payload: "0123456789".into(),
            json: true,
            event_id: None,
            channels: Vec::new(),
            occurred_at: at(0),
            accepted_at: at(0),
            test: false,
            routing: crate::message::Routing::To(vec![lane(1).endpoint]),
            expunged: false,
            ordering_key: None,
            deliver_at: None,
            expires_at: None,
            tags: Vec::new(),
        }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn claim(lanes: &mut Lanes, now: u64, of: Lane, most: usize) -> usize {
        let mut leases = Vec::new();
        lanes.claim(at(now), of, most, at(now + 1000), &mut leases);
        leases.len()
    }

    #[test]
    fn a_lane_is_due_when_its_head_is() {
        let mut lanes = Lanes::new(1, 0);
        lanes.insert(lane(1), (at(50), 1), entry());
        lanes.insert(lane(2), (at(10), 2), entry());
        assert_eq!(lanes.due(at(0), None, 9), DueLanes { lanes: vec![], more: false, next_due: Some(at(10)) });
        let due = lanes.due(at(10), None, 9);
        assert_eq!((due.lanes, due.next_due), (vec![lane(2)], Some(at(50))));
        assert_eq!(claim(&mut lanes, 10, lane(1), 9), 0);
        assert_eq!(claim(&mut lanes, 10, lane(2), 9), 1);
        assert!(lanes.due(at(10), None, 9).lanes.is_empty());
    }

    #[test]
    fn a_closed_lane_is_remembered_until_it_is_open_again() {
        let mut lanes = Lanes::new(1, 0);
        lanes.set_closed(lane(1), true);
        lanes.insert(lane(1), (at(0), 1), entry());
        assert_eq!(claim(&mut lanes, 0, lane(1), 9), 0);
        lanes.remove(lane(1), (at(0), 1));
        assert_eq!(lanes.lanes.len(), 1);
        lanes.set_closed(lane(1), false);
        assert!(lanes.lanes.is_empty(), "nothing waits there, and nothing is to be remembered");
    }

    #[test]
    fn a_window_that_overflows_is_filled_again_from_disk() {
        let mut lanes = Lanes::new(1, 0);
        let total = WINDOW as u64 + 10;
        for sequence in 0..total {
            lanes.insert(lane(1), (at(0), sequence), entry());
        }
        assert_eq!(claim(&mut lanes, 0, lane(1), usize::MAX >> 1), WINDOW);
        assert_eq!(lanes.take_hungry(), [lane(1)]);
        assert!(lanes.take_hungry().is_empty(), "it is asked for once");
        let rows = (0..total).map(|sequence| ((at(0), sequence), entry())).collect();
        lanes.filled(lane(1), rows, true);
        assert_eq!(claim(&mut lanes, 0, lane(1), 100), 10);
    }

    #[test]
    fn a_lease_that_runs_out_is_claimed_again_as_lost() {
        let mut lanes = Lanes::new(1, 0);
        lanes.insert(lane(1), (at(0), 1), entry());
        let mut leases = Vec::new();
        lanes.claim(at(0), lane(1), 1, at(100), &mut leases);
        assert_eq!(lanes.due(at(99), None, 9).next_due, Some(at(100)));
        assert_eq!(lanes.due(at(100), None, 9).lanes, [lane(1)]);
        lanes.claim(at(100), lane(1), 1, at(200), &mut leases);
        assert!(leases[1].lost && !leases[0].lost);
        assert!(lanes.lease(leases[0].fence).is_none() && lanes.lease(leases[1].fence).is_some());
    }

    #[test]
    fn the_cache_keeps_within_its_bound() {
        let mut lanes = Lanes::new(1, 25);
        let message = Arc::new(message_of_ten_bytes());
        for sequence in 0..4 {
            lanes.insert(lane(1), (at(0), sequence), Entry { message: Some(message.clone()), ..entry() });
        }
        let mut leases = Vec::new();
        lanes.claim(at(0), lane(1), 4, at(100), &mut leases);
        let kept = leases.iter().filter(|lease| lease.message.is_some()).count();
        assert_eq!((kept, lanes.cached_bytes), (2, 0));
    }
}
