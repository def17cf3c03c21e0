//! Promises of the plan that need no simulation.

mod held_back;

use std::sync::Arc;

use super::*;
use crate::attempt::{Timing, Trigger};
use crate::delivery::{DeliveryId, Progress, Terms};
use crate::endpoint::{Endpoint, EndpointSettings, EndpointStatus};
use crate::health::Health;
use crate::id::{AttemptId, EndpointId, MessageId};
use crate::store::Fence;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const RULES: BreakerRules =
    BreakerRules { failures: 10, rest: Duration::from_secs(5), max_rest: Duration::from_secs(300) };
const CAPS: Caps = Caps {
    in_flight: 2,
    per_endpoint: 2,
    per_origin: 100,
    per_application: None,
    throttle_rate: None,
    breaker: RULES,
    unsettled: 100,
};
/// Room for many.
const WIDE: Caps = Caps { in_flight: 64, per_endpoint: 64, per_origin: 1_000, unsettled: 1_000, ..CAPS };

type Known = (Lane, Option<Arc<Destination>>);

fn destination(application: u8, endpoint: u8) -> Known {
    destination_with(application, endpoint, |_| {})
}

/// An endpoint with settings of its own.
fn destination_with(application: u8, endpoint: u8, change: impl FnOnce(&mut EndpointSettings)) -> Known {
    let mut settings = EndpointSettings::at("https://a.example/");
    change(&mut settings);
    let endpoint = Endpoint {
        id: EndpointId::from_bytes([endpoint; 16]),
        application: ApplicationId::from_bytes([application; 16]),
        settings,
        keys: Vec::new(),
        status: EndpointStatus::Enabled,
        created_at: NOW,
        updated_at: NOW,
    };
    let destination = Destination::new(endpoint, 1).unwrap();
    (destination.lane(), Some(Arc::new(destination)))
}

fn looked(lanes: Vec<(Lane, Option<Arc<Destination>>)>, more: bool) -> Event {
    Event::Looked { found: Found { lanes, ..Found::default() }, more, next_due: None }
}

#[test]
fn a_plan_whose_store_is_closed_stops_whatever_it_was_waiting_for() {
    let mut plan = Plan::new(CAPS);
    assert!(matches!(plan.step(Event::Rang, NOW)[..], [Command::Look { .. }]));
    assert!(matches!(plan.step(Event::StoreClosed, NOW)[..], [Command::Stop]));

    let mut plan = Plan::new(CAPS);
    plan.step(Event::Rang, NOW);
    let claim = plan.step(looked(vec![destination(1, 1)], false), NOW);
    assert!(matches!(claim[..], [Command::Claim { .. }]));
    assert!(matches!(plan.step(Event::StoreClosed, NOW)[..], [Command::Stop]));
}

#[test]
fn with_more_due_lanes_than_a_look_lists_each_gets_its_turn() {
    let mut plan = Plan::new(CAPS);
    let looks = plan.step(Event::Rang, NOW);
    assert!(matches!(looks[..], [Command::Look { after: None, .. }]));
    // The first page takes all permits; none of its deliveries can be claimed after all.
    let (last, _) = destination(1, 9);
    let claim = plan.step(looked(vec![destination(1, 1), destination(1, 9)], true), NOW);
    assert!(matches!(claim[..], [Command::Claim { .. }]));
    plan.step(Event::Claimed(Vec::new()), NOW);
    // The next look goes on behind it, and then comes round.
    let looks = plan.step(Event::Rang, NOW);
    assert!(matches!(looks[..], [Command::Look { after: Some(lane), .. }] if lane == last));
    let looks = plan.step(looked(Vec::new(), false), NOW);
    assert!(matches!(looks[..], [Command::Look { after: None, .. }]));
    assert!(plan.step(looked(Vec::new(), false), NOW).is_empty(), "once round is enough");
}

#[test]
fn applications_take_turns_for_scarce_permits() {
    let mut plan = Plan::new(CAPS);
    plan.step(Event::Rang, NOW);
    let lanes = vec![destination(1, 1), destination(1, 2), destination(1, 3), destination(2, 4)];
    let commands = plan.step(looked(lanes, false), NOW);
    let [Command::Claim { wanted, .. }] = &commands[..] else { panic!("{commands:?}") };
    let of: Vec<_> = wanted.iter().map(|(lane, permits)| (lane.application.to_bytes()[0], *permits)).collect();
    assert_eq!(of, [(1, 1), (2, 1)]);
}

/// What a look at these lanes has claimed: how many permits of each application.
fn claimed(plan: &mut Plan, lanes: Vec<(Lane, Option<Arc<Destination>>)>) -> BTreeMap<u8, usize> {
    plan.step(Event::Rang, NOW);
    let commands = plan.step(looked(lanes, false), NOW);
    let mut of = BTreeMap::new();
    for command in &commands {
        let Command::Claim { wanted, .. } = command else { continue };
        wanted.iter().for_each(|(lane, permits)| *of.entry(lane.application.to_bytes()[0]).or_insert(0) += permits);
    }
    of
}

fn lease(lane: Lane) -> Lease {
    let delivery = DeliveryId { lane, message: MessageId::from_bytes([1; 16]) };
    Lease { delivery, progress: Progress::new(NOW), message: None, fence: Fence { epoch: 1, counter: 1 }, lost: false }
}

/// The end of the attempt that a lease was for.
fn ended(lease: Lease, destination: Arc<Destination>, outcome: Outcome) -> Event {
    ended_after(Duration::ZERO, lease, destination, outcome, NOW)
}

fn ended_after(
    took: Duration,
    lease: Lease,
    destination: Arc<Destination>,
    outcome: Outcome,
    ended_at: Timestamp,
) -> Event {
    let attempt = Attempt {
        id: AttemptId::from_bytes([1; 16]),
        delivery: lease.delivery,
        number: 1,
        round: 1,
        trigger: Trigger::First,
        started_at: NOW,
        url: String::new(),
        request_headers: Vec::new(),
        outcome,
        response: None,
        timing: Timing { head_us: None, total_us: took.as_micros() as u64 },
        result: StateKind::Leased,
    };
    let attempt = Some(attempt);
    Event::Attempted(Box::new(Attempted {
        lease,
        destination,
        attempt,
        terms: Terms::default(),
        ended_at,
        draw: 0.5,
        open: Ok(()),
    }))
}

#[test]
fn endpoints_that_do_not_answer_leave_half_of_all_permits_to_those_that_do() {
    let mut plan = Plan::new(WIDE);
    // One endpoint of application 9 has answered; nothing is known of all others.
    let good = destination(9, 1);
    assert_eq!(claimed(&mut plan, vec![good.clone()]), BTreeMap::from([(9, 24)]));
    plan.step(Event::Claimed(vec![lease(good.0)]), NOW);
    let answer = Outcome::answered(200);
    plan.step(ended(lease(good.0), good.1.clone().unwrap(), answer), NOW);
    plan.step(looked(Vec::new(), false), NOW);
    assert_eq!(plan.in_flight(), 0);

    let hanging = |application| (1..=40).map(move |endpoint| destination(application, endpoint));
    let lanes: Vec<_> = (1..=5).flat_map(hanging).collect();
    let taken = claimed(&mut plan, lanes.iter().cloned().chain([good.clone()]).collect());
    assert_eq!(taken[&9], 32, "the endpoint that answers has its half: {taken:?}");
    assert_eq!(taken.values().sum::<usize>(), 64);
    assert!(taken.iter().all(|(application, permits)| *application == 9 || *permits <= 16), "{taken:?}");
    assert!(plan.permits.add_up());
}

#[test]
fn how_endpoints_answered_is_not_remembered_without_end_and_permits_are_not_lost_with_it() {
    let mut plan = Plan::new(CAPS);
    let (busy, other) = (destination(1, 1), destination(1, 2));
    claimed(&mut plan, vec![busy.clone(), other.clone()]);
    plan.step(Event::Claimed(vec![lease(busy.0), lease(other.0)]), NOW);
    let mut health = Health::default();
    health.observe(Outcome::answered(200), Duration::ZERO);
    for number in 0..=permits::MOST_REMEMBERED as u128 {
        let lane = Lane { endpoint: EndpointId::from_bytes((1_000 + number).to_be_bytes()), ..busy.0 };
        plan.permits.remember(lane, health);
    }
    plan.step(ended(lease(other.0), other.1.unwrap(), LOST), NOW);
    assert_eq!(plan.permits.lanes(), [busy.0]);
    assert!(plan.permits.add_up());
    plan.step(ended(lease(busy.0), busy.1.unwrap(), LOST), NOW);
    assert_eq!((plan.in_flight(), plan.permits.lanes()), (0, vec![]));
}

/// Lets an endpoint have an answer, so that it counts as one that answers.
fn let_answer(plan: &mut Plan, lane: &(Lane, Option<Arc<Destination>>)) {
    claimed(plan, vec![lane.clone()]);
    plan.step(Event::Claimed(vec![lease(lane.0)]), NOW);
    let answer = Outcome::answered(200);
    plan.step(ended(lease(lane.0), lane.1.clone().unwrap(), answer), NOW);
    plan.step(looked(Vec::new(), false), NOW);
    assert_eq!(plan.in_flight(), 0);
}

#[test]
fn an_application_whose_endpoints_answer_slowly_leaves_half_of_all_permits_to_the_others() {
    let mut plan = Plan::new(WIDE);
    let (slow, prompt) = (destination(1, 1), destination(2, 1));
    let_answer(&mut plan, &slow);
    assert_eq!(claimed(&mut plan, vec![slow.clone()]), BTreeMap::from([(1, 64)]), "as long as there is no other");
    plan.step(Event::Claimed(Vec::new()), NOW);
    plan.step(looked(Vec::new(), false), NOW);
    let_answer(&mut plan, &prompt);
    assert_eq!(claimed(&mut plan, vec![slow.clone()]), BTreeMap::from([(1, 32)]));
    let leases: Vec<_> = (0..32).map(|_| lease(slow.0)).collect();
    plan.step(Event::Claimed(leases), NOW);
    let commands = plan.step(looked(vec![slow, prompt], false), NOW);
    let [Command::Claim { wanted, .. }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(
        wanted.iter().map(|(lane, most)| (lane.application.to_bytes()[0], *most)).collect::<Vec<_>>(),
        [(2, 32)]
    );
}

#[test]
fn an_application_of_which_nothing_is_known_has_a_permit_however_many_others_hang() {
    let mut plan = Plan::new(WIDE);
    let hanging = [destination(1, 1), destination(2, 1)];
    let taken = claimed(&mut plan, hanging.to_vec());
    assert_eq!(taken, BTreeMap::from([(1, 12), (2, 12)]));
    let leases = hanging.iter().flat_map(|(lane, _)| (0..12).map(|_| lease(*lane)));
    plan.step(Event::Claimed(leases.collect()), NOW);
    let newcomer = destination(3, 1);
    let commands = plan.step(looked(hanging.into_iter().chain([newcomer.clone()]).collect(), false), NOW);
    let [Command::Claim { wanted, .. }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(wanted[..], [(newcomer.0, 1)]);
}
