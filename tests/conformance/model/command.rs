//! The commands, as plain data. Names of things that exist are places in lists, so that shrinking keeps them valid.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

/// Of each application; there are two.
pub(super) const ENDPOINTS: usize = 3;

#[derive(Debug, Clone)]
pub(super) enum Command {
    Enqueue(Vec<Send>),
    /// Lanes and how many of each, for so many seconds.
    Claim(Vec<(usize, usize)>, u64),
    Settle(Vec<Ending>),
    /// By so many seconds.
    Advance(u64),
    /// Deliveries, or their messages to this endpoint; the record that goes with it, and whether its expected version is
    /// right.
    Replay(Vec<(Index, Option<usize>)>, Option<bool>),
    CancelLane(usize, usize),
    CancelDelivery(Index),
    CancelDeliveries(Vec<Index>),
    ExpungePayload(Index),
    ExpungeResponse(Index),
    Put(Vec<Change>),
    Prune(Retention),
    Erase(Vec<Index>),
    Query(Query),
    Compact,
    Reopen,
}

/// A message to enqueue.
#[derive(Debug, Clone)]
pub(super) struct Send {
    pub(super) application: usize,
    pub(super) endpoints: Vec<usize>,
    pub(super) event_type: usize,
    pub(super) channels: Vec<usize>,
    pub(super) event_id: Option<u8>,
    pub(super) idempotency: Option<Key>,
    /// Whether it was routed over the list of now.
    pub(super) routed_over: Option<bool>,
    pub(super) payload: usize,
    pub(super) options: Options,
}

/// What few messages have.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) ordering_key: Option<u8>,
    /// In so many seconds.
    pub(super) deliver_in: Option<u64>,
    pub(super) tag: Option<u8>,
}

/// An idempotency key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) key: u8,
    pub(super) digest: u8,
    pub(super) seconds: u64,
}

/// How a lease ends.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub(super) lease: Index,
    /// Whether a lease is taken that was settled or lost before.
    pub(super) late: bool,
    pub(super) tried: bool,
    pub(super) lets_pass: bool,
    pub(super) state: Next,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    /// In so many seconds.
    Retry(u64),
    Delivered,
    Dead,
    Canceled,
}

/// A change of a record.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) record: usize,
    pub(super) expected: bool,
    pub(super) active: bool,
    pub(super) remove: bool,
}

/// Ages in seconds.
#[derive(Debug, Clone)]
pub(super) struct Retention {
    pub(super) delivered: u64,
    pub(super) ended: u64,
    pub(super) payloads: u64,
    pub(super) attempts: u64,
    pub(super) on_success: bool,
    /// Of one application, and of one event type.
    pub(super) exceptions: [Option<Exception>; 2],
    /// Looks at the messages of these deliveries alone.
    pub(super) only: Vec<Index>,
    pub(super) limit: usize,
}

/// Ages in seconds in place of those of all others.
#[derive(Debug, Clone)]
pub(super) struct Exception {
    pub(super) delivered: Option<u64>,
    pub(super) ended: Option<u64>,
    pub(super) payloads: Option<u64>,
    pub(super) attempts: Option<u64>,
    pub(super) on_success: Option<bool>,
}

/// Filters of all queries; ages in seconds.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) application: usize,
    pub(super) endpoint: Option<usize>,
    pub(super) message: Option<Index>,
    pub(super) since: Option<u64>,
    pub(super) until: Option<u64>,
    pub(super) event_types: Vec<usize>,
    pub(super) channel: Option<usize>,
    pub(super) ordering_key: Option<u8>,
    pub(super) tag: Option<u8>,
    pub(super) unrouted: bool,
    pub(super) status: Option<usize>,
    pub(super) oldest_first: bool,
    pub(super) limit: usize,
}

pub(super) fn commands() -> impl Strategy<Value = Command> {
    let lane = 0..2 * ENDPOINTS;
    let claim = (vec((lane.clone(), 0..5_usize), 1..=4), 1..90_u64);
    prop_oneof![
        6 => vec(send(), 1..=4).prop_map(Command::Enqueue),
        6 => claim.prop_map(|(wanted, seconds)| Command::Claim(wanted, seconds)),
        7 => vec(ending(), 1..=5).prop_map(Command::Settle),
        3 => prop_oneof![3 => 1..10_u64, 1 => 1..120_u64].prop_map(Command::Advance),
        2 => (vec((any::<Index>(), option::weighted(0.3, 0..ENDPOINTS)), 0..=4), option::weighted(0.3, any::<bool>()))
            .prop_map(|(deliveries, record)| Command::Replay(deliveries, record)),
        1 => (lane, 0..4_usize).prop_map(|(lane, limit)| Command::CancelLane(lane, limit)),
        1 => any::<Index>().prop_map(Command::CancelDelivery),
        1 => vec(any::<Index>(), 0..=5).prop_map(Command::CancelDeliveries),
        1 => any::<Index>().prop_map(Command::ExpungePayload),
        1 => any::<Index>().prop_map(Command::ExpungeResponse),
        2 => vec(change(), 1..=3).prop_map(Command::Put),
        2 => retention().prop_map(Command::Prune),
        1 => vec(any::<Index>(), 1..=3).prop_map(Command::Erase),
        3 => query().prop_map(Command::Query),
        1 => Just(Command::Compact),
        1 => Just(Command::Reopen),
    ]
}

fn send() -> impl Strategy<Value = Send> {
    let key = (0..3_u8, 0..2_u8, 1..90_u64).prop_map(|(key, digest, seconds)| Key { key, digest, seconds });
    (
        (0..2_usize, proptest::sample::subsequence((0..ENDPOINTS).collect::<Vec<_>>(), 0..=ENDPOINTS).prop_shuffle()),
        (0..2_usize, vec(0..2_usize, 0..=2), option::weighted(0.3, 0..5_u8)),
        option::weighted(0.3, key),
        option::weighted(0.3, prop::bool::weighted(0.7)),
        (prop_oneof![6 => 0..300_usize, 2 => 32_000..40_000_usize], options()),
    )
        .prop_map(
            |((application, endpoints), (event_type, channels, event_id), idempotency, routed_over, rest)| Send {
                application,
                endpoints,
                event_type,
                channels,
                event_id,
                idempotency,
                routed_over,
                payload: rest.0,
                options: rest.1,
            },
        )
}

fn options() -> impl Strategy<Value = Options> {
    let each = (option::weighted(0.6, 0..2_u8), option::weighted(0.2, 1..30_u64), option::weighted(0.3, 0..2_u8));
    each.prop_map(|(ordering_key, deliver_in, tag)| Options { ordering_key, deliver_in, tag })
}

fn ending() -> impl Strategy<Value = Ending> {
    let state = prop_oneof![
        3 => (0..30_u64).prop_map(Next::Retry),
        3 => Just(Next::Delivered),
        2 => Just(Next::Dead),
        1 => Just(Next::Canceled),
    ];
    (any::<Index>(), prop::bool::weighted(0.1), prop::bool::weighted(0.8), prop::bool::weighted(0.2), state)
        .prop_map(|(lease, late, tried, lets_pass, state)| Ending { lease, late, tried, lets_pass, state })
}

fn change() -> impl Strategy<Value = Change> {
    let flags = (prop::bool::weighted(0.8), prop::bool::weighted(0.7), prop::bool::weighted(0.2));
    (0..2 * ENDPOINTS + 2, flags).prop_map(|(record, (expected, active, remove))| Change {
        record,
        expected,
        active,
        remove,
    })
}

fn retention() -> impl Strategy<Value = Retention> {
    let ages = (0..60_u64, 0..90_u64, 0..60_u64, 0..60_u64, prop::bool::weighted(0.3));
    let exception = || option::weighted(0.3, exception());
    let only = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<Index>(), 1..=4)];
    (ages, (exception(), exception()), only, 1..6_usize).prop_map(|(ages, (first, second), only, limit)| {
        let (delivered, ended, payloads, attempts, on_success) = ages;
        Retention { delivered, ended, payloads, attempts, on_success, exceptions: [first, second], only, limit }
    })
}

fn exception() -> impl Strategy<Value = Exception> {
    let age = || option::weighted(0.5, 0..90_u64);
    (age(), age(), age(), age(), option::weighted(0.5, any::<bool>())).prop_map(
        |(delivered, ended, payloads, attempts, on_success)| Exception {
            delivered,
            ended,
            payloads,
            attempts,
            on_success,
        },
    )
}

fn query() -> impl Strategy<Value = Query> {
    (
        (0..2_usize, option::weighted(0.3, 0..ENDPOINTS), option::weighted(0.3, any::<Index>())),
        (option::weighted(0.3, 0..60_u64), option::weighted(0.3, 0..60_u64)),
        (
            (vec(0..4_usize, 0..=2), option::weighted(0.3, 0..2_usize)),
            (option::weighted(0.2, 0..2_u8), option::weighted(0.2, 0..2_u8)),
        ),
        (prop::bool::weighted(0.2), option::weighted(0.4, 0..6_usize), any::<bool>()),
        1..5_usize,
    )
        .prop_map(|((application, endpoint, message), (since, until), kinds, rest, limit)| {
            let ((event_types, channel), (ordering_key, tag)) = kinds;
            let (unrouted, status, oldest_first) = rest;
            Query {
                application,
                endpoint,
                message,
                since,
                until,
                event_types,
                channel,
                ordering_key,
                tag,
                unrouted,
                status,
                oldest_first,
                limit,
            }
        })
}
