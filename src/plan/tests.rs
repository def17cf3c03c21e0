//! Promises of the plan that need no simulation.

use std::sync::Arc;

use super::*;
use crate::endpoint::{Endpoint, EndpointSettings, EndpointStatus};
use crate::id::EndpointId;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const CAPS: Caps = Caps { in_flight: 2, per_endpoint: 2, per_origin: 100, unsettled: 100 };

fn destination(application: u8, endpoint: u8) -> (Lane, Option<Arc<Destination>>) {
    let endpoint = Endpoint {
        id: EndpointId::from_bytes([endpoint; 16]),
        application: ApplicationId::from_bytes([application; 16]),
        settings: EndpointSettings::at("https://a.example/"),
        keys: Vec::new(),
        status: EndpointStatus::Enabled,
        created_at: NOW,
        updated_at: NOW,
    };
    let destination = Destination::new(endpoint, 1).unwrap();
    (destination.lane(), Some(Arc::new(destination)))
}

fn looked(lanes: Vec<(Lane, Option<Arc<Destination>>)>, more: bool) -> Event {
    Event::Looked { lanes, more, next_due: None }
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
