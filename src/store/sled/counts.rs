//! Counting messages and deliveries: a bite at a time, beside a writer that goes on.
//!
//! Four walks. The first is over the messages, and looks for the row that says how each delivery stands; one that is
//! nowhere is missing in the counts. The others are over those rows themselves, `D`, `W` and `K`, and find what no
//! message accounts for: that is counted, too. So the counts add up exactly if every delivery is in one place. The walk
//! over `K` also finds a key that is blocked although nothing goes first of it.
//! Nothing is a snapshot: what does not fit is looked at again, since it may have moved between two looks.

use crate::delivery::{DeliveryId, Lane, State, StateKind};
use crate::id::{ApplicationId, EndpointId, MessageId};
use crate::ordering::KeyHash;
use crate::store::{CountQuery, Counts};

use super::keys::{self, Key, Place, Rank};
use super::queries::{Found, Look, TRIES};
use super::rows::{self, DeliveryRow, MessageRow, WaitingRow};

/// How many rows are walked over before other queries have their turn.
const BITE: usize = 500;

/// A count that is under way.
pub(super) struct Counting {
    application: ApplicationId,
    query: CountQuery,
    counts: Counts,
    /// What is left of the walks, the next one last.
    walks: Vec<(Walk, Key, Key)>,
}

#[derive(Debug, Clone, Copy)]
enum Walk {
    Messages,
    Deliveries,
    Waiting,
    Orders,
}

impl Counting {
    pub(super) fn new(application: ApplicationId, query: CountQuery) -> Self {
        let bound = |time| keys::message(application, MessageId::from_parts(time, 0));
        let messages = (
            query.since.map_or(keys::messages(application), bound),
            query.until.map_or(keys::after_prefix(keys::messages(application)), bound),
        );
        let all = |prefix: Key| (prefix.clone(), keys::after_prefix(prefix));
        let lane = query.endpoint.map(|endpoint| Lane { application, endpoint });
        let deliveries = all(lane.map_or(keys::all_deliveries(application), keys::deliveries));
        let waiting = all(lane.map_or(keys::lanes(application), keys::lane));
        let orders = all(lane.map_or(keys::all_orders(application), keys::orders));
        let walks = [
            (Walk::Orders, orders),
            (Walk::Waiting, waiting),
            (Walk::Deliveries, deliveries),
            (Walk::Messages, messages),
        ];
        let walks = walks.into_iter().map(|(walk, (start, end))| (walk, start, end)).collect();
        Counting { application, query, counts: Counts::default(), walks }
    }

    pub(super) fn done(&self) -> Option<Counts> {
        self.walks.is_empty().then_some(self.counts)
    }

    fn wants(&self, endpoint: EndpointId) -> bool {
        self.query.endpoint.is_none_or(|wanted| wanted == endpoint)
    }
}

impl Look<'_> {
    /// Gets on with a count by a bite.
    pub(super) fn count_on(&self, mut counting: Counting) -> Found<Counting> {
        let Some((walk, start, end)) = counting.walks.pop() else { return Ok(counting) };
        if start >= end {
            return Ok(counting);
        }
        let mut last = None;
        for (number, item) in self.tree.range(start.as_slice()..end.as_slice()).enumerate() {
            if let (BITE, Some(last)) = (number, last.take()) {
                counting.walks.push((walk, last, end));
                return Ok(counting);
            }
            let (key, value) = item?;
            match walk {
                Walk::Messages => self.count_message(&mut counting, &key, &value)?,
                Walk::Deliveries => self.count_stray_delivery(&mut counting, &key, &value)?,
                Walk::Waiting => self.count_stray_waiting(&mut counting, &key, &value)?,
                Walk::Orders => self.count_stray_held(&mut counting, &key)?,
            }
            let mut after = key.to_vec();
            after.push(0);
            last = Some(after);
        }
        Ok(counting)
    }

    fn count_message(&self, counting: &mut Counting, key: &[u8], value: &[u8]) -> Found<()> {
        let application = counting.application;
        let Some(message) = keys::read_message(key) else { return Ok(()) };
        let Some(stored) = self.sound(key, MessageRow::unseal(key, value)) else { return Ok(()) };
        let to = stored.row.to.iter().map(|endpoint| EndpointId::from_bytes(*endpoint));
        let to: Vec<EndpointId> = to.filter(|endpoint| counting.wants(*endpoint)).collect();
        if counting.query.endpoint.is_some() && to.is_empty() {
            return Ok(());
        }
        let mut kinds = Vec::with_capacity(to.len());
        let ordered = stored.row.key_hash();
        for endpoint in &to {
            let id = DeliveryId { lane: Lane { application, endpoint: *endpoint }, message };
            kinds.extend(self.kind_of(id, stored.row.place(), ordered)?);
        }
        if kinds.len() < to.len() && !self.tree.contains_key(key)? {
            // Retention has removed it meanwhile, with its deliveries.
            return Ok(());
        }
        counting.counts.messages += 1;
        counting.counts.routed += to.len() as u64;
        kinds.into_iter().for_each(|kind| counting.counts.add(kind));
        Ok(())
    }

    /// How a delivery stands; `None` if no row says so. `first` is where it waits before it has moved.
    fn kind_of(&self, id: DeliveryId, first: Place, ordered: Option<KeyHash>) -> Found<Option<StateKind>> {
        for _ in 0..TRIES {
            let place = match self.delivery_row(id)? {
                Some(row) => match row.state.state() {
                    Some(State::Waiting { due } | State::Leased { until: due }) => (due, row.sequence),
                    Some(State::Held { .. }) => return Ok(Some(StateKind::Held)),
                    Some(ended) => return Ok(Some(ended.kind())),
                    None => return Ok(None),
                },
                None => first,
            };
            if self.tree.contains_key(keys::waiting(id.lane, place))? {
                let leased = self.shared.lanes().leased_until(id.lane, place).is_some();
                return Ok(Some(if leased { StateKind::Leased } else { StateKind::Waiting }));
            }
            if let Some(key) = ordered
                && self.tree.contains_key(keys::order(id, key, Rank::Held, place.1))?
            {
                return Ok(Some(StateKind::Held));
            }
        }
        Ok(None)
    }

    fn delivery_row(&self, id: DeliveryId) -> Found<Option<DeliveryRow>> {
        self.row::<DeliveryRow>(&keys::delivery(id))
    }

    /// Where a message's delivery waits before it has moved; `None` if there is no such message or delivery.
    fn first_place(&self, id: DeliveryId) -> Found<Option<Place>> {
        Ok(self.named_by(id)?.map(|message| message.place()))
    }

    /// The row of the message that has this delivery.
    fn named_by(&self, id: DeliveryId) -> Found<Option<MessageRow>> {
        let key = keys::message(id.lane.application, id.message);
        let Some(value) = self.tree.get(&key)? else { return Ok(None) };
        let Some(stored) = self.sound(&key, MessageRow::unseal(&key, &value)) else { return Ok(None) };
        Ok(Some(stored.row).filter(|row| row.to.contains(&id.lane.endpoint.to_bytes())))
    }

    /// A held delivery that belongs to no message, or that has ended. And a key whose rows do not fit is put right: none
    /// is blocked for ever.
    fn count_stray_held(&self, counting: &mut Counting, key: &[u8]) -> Found<()> {
        let Some(order) = keys::read_order(key) else { return Ok(()) };
        let id = DeliveryId { lane: order.lane, message: order.message };
        let mut kind = None;
        for _ in 0..TRIES {
            kind = match self.named_by(id)? {
                Some(message) => self.kind_of(id, message.place(), Some(order.key))?,
                None => None,
            };
            let first = keys::ordered(order.lane, order.key, Rank::First);
            let sound = match (order.rank, kind) {
                (Rank::First, kind) => matches!(kind, Some(StateKind::Waiting | StateKind::Leased)),
                (Rank::Held, Some(StateKind::Held)) => self.tree.scan_prefix(first).next().is_some(),
                (Rank::Held, _) => false,
            };
            // What has moved meanwhile took its row along.
            if sound || !self.tree.contains_key(key)? {
                return Ok(());
            }
        }
        if order.rank == Rank::Held && kind != Some(StateKind::Held) && counting.query.covers(id.message) {
            counting.counts.add(StateKind::Held);
        }
        self.shared.met_damage(key);
        Ok(())
    }

    /// An ended delivery that belongs to no message.
    fn count_stray_delivery(&self, counting: &mut Counting, key: &[u8], value: &[u8]) -> Found<()> {
        let Some(id) = keys::read_delivery(key).filter(|id| counting.query.covers(id.message)) else { return Ok(()) };
        let Some(row) = self.sound(key, rows::unseal::<DeliveryRow>(key, value)) else { return Ok(()) };
        let Some(state) = row.state.state().filter(State::is_terminal) else { return Ok(()) };
        if self.first_place(id)?.is_none() && self.tree.get(key)?.is_some_and(|now| now == value) {
            counting.counts.add(state.kind());
        }
        Ok(())
    }

    /// A waiting row beside the place where its delivery stands.
    fn count_stray_waiting(&self, counting: &mut Counting, key: &[u8], value: &[u8]) -> Found<()> {
        let Some((lane, place)) = keys::read_waiting(key) else { return Ok(()) };
        let Some(row) = self.sound(key, WaitingRow::unseal(key, value)) else { return Ok(()) };
        let id = DeliveryId { lane, message: MessageId::from_bytes(row.message) };
        if !counting.query.covers(id.message) {
            return Ok(());
        }
        let stands = match self.delivery_row(id)? {
            Some(row) => match row.state.state() {
                Some(State::Waiting { due }) => Some((due, row.sequence)),
                Some(_) | None => None,
            },
            None => self.first_place(id)?,
        };
        if stands != Some(place) && self.tree.contains_key(key)? {
            counting.counts.add(StateKind::Waiting);
        }
        Ok(())
    }
}
