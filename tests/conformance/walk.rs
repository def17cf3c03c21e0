//! Promises of `walk`.

use ringback::store::{Expunge, MAX_WALK, MessageQuery, Order, Walk};
use ringback::{ApplicationId, Delivery, MessageId, State, Timestamp};

use crate::world::{LEASE, World, at, dead, plain, waiting};

async fn walk(world: &World, application: ApplicationId, query: MessageQuery) -> Walk {
    world.store.walk(application, query).await.unwrap()
}

fn ids(walk: &Walk) -> Vec<MessageId> {
    walk.messages.iter().map(|walked| walked.message.id).collect()
}

pub(crate) async fn a_walk_shows_how_deliveries_stand_and_no_payload(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let elsewhere = world.lane();
    world.send(&[elsewhere], 1).await;
    let first = world.send(&[lane, other], 1).await;
    world.pass(lane, 1, dead(1)).await;
    let nobody = world.message_to_nobody(lane.application, 2);
    let nobody = world.store_message(nobody).await;
    let mut large = world.message(&[lane], 3);
    large.payload = vec![7; 100_000].into();
    let large = world.store_message(large).await;
    let _lease = world.claim_one(lane, 3).await;
    let expunged = world.send(&[other], 4).await.message;
    assert!(world.store.expunge(lane.application, Expunge::Payload(expunged)).await.unwrap());

    let query = MessageQuery { order: Order::OldestFirst, limit: 10, ..MessageQuery::default() };
    let walk = walk(&world, lane.application, query).await;
    assert_eq!((ids(&walk), walk.next), (vec![first.message, nobody, large, expunged], None));
    for walked in &walk.messages {
        let id = walked.message.id;
        assert!(walked.message.payload.is_empty());
        let whole = world.store.message(lane.application, id).await.unwrap().unwrap();
        assert_eq!((&walked.message.routing, walked.message.expunged), (&whole.routing, whole.expunged));
        assert_eq!(walked.deliveries, world.store.deliveries(lane.application, id).await.unwrap());
    }
    let states = |place: usize| walk.messages[place].deliveries.iter().map(|one: &Delivery| one.state);
    assert_eq!(states(0).collect::<Vec<_>>(), [dead(1), waiting(1)]);
    assert_eq!(states(2).collect::<Vec<_>>(), [State::Leased { until: at(3 + LEASE) }]);
}

pub(crate) async fn a_walk_looks_at_no_more_than_its_limit_whatever_fits(mut world: World) {
    let lane = world.lane();
    let (wanted, mut all) = (world.lane_beside(lane), Vec::new());
    for seconds in 1..=7 {
        let to = if seconds % 3 == 0 { wanted } else { lane };
        all.push(world.send(&[to], seconds).await.message);
    }
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut expected = all.clone();
        if order == Order::NewestFirst {
            expected.reverse();
        }
        for limit in [1, 2, 3, 7, 100] {
            let query = MessageQuery { endpoint: Some(wanted.endpoint), order, limit, ..MessageQuery::default() };
            let (mut after, mut found) = (None, Vec::new());
            for looked_at in expected.chunks(limit) {
                let stretch = walk(&world, lane.application, MessageQuery { after, ..query.clone() }).await;
                let last = looked_at.last().copied();
                assert_eq!(stretch.next, last.filter(|last| expected.last() != Some(last)), "{limit} a stretch");
                found.extend(ids(&stretch));
                after = stretch.next;
            }
            let fitting = expected.iter().filter(|id| [2, 5].contains(&all.iter().position(|one| one == *id).unwrap()));
            assert_eq!(found, fitting.copied().collect::<Vec<_>>());
        }
    }
}

pub(crate) async fn a_walk_keeps_to_its_window_and_filters(mut world: World) {
    let lane = world.lane();
    let mut all = Vec::new();
    for seconds in 1..=6 {
        let mut message = world.message(&[lane], seconds);
        message.event_type = if seconds % 2 == 0 { "call.ended" } else { "call.started" }.into();
        message.channels = if seconds > 4 { vec!["eu".into()] } else { Vec::new() };
        all.push(world.store_message(message).await);
    }
    let query = MessageQuery { order: Order::OldestFirst, limit: 3, ..MessageQuery::default() };
    let (since, until) = (Some(at(2)), Some(at(5)));
    let found = walk(&world, lane.application, MessageQuery { since, until, ..query.clone() }).await;
    assert_eq!((ids(&found), found.next), (all[1..4].to_vec(), None), "what lies beyond the window is not ahead");
    let event_types = vec!["call.ended".to_owned()];
    let found = walk(&world, lane.application, MessageQuery { event_types, ..query.clone() }).await;
    assert_eq!((ids(&found), found.next), (vec![all[1]], Some(all[2])));
    let channel = Some("eu".to_owned());
    let after = Some(all[2]);
    let found = walk(&world, lane.application, MessageQuery { channel, after, ..query.clone() }).await;
    assert_eq!((ids(&found), found.next), (vec![all[4], all[5]], None));
    let nothing = MessageQuery { since: Some(at(9)), until: Some(Timestamp::ZERO), ..query };
    assert_eq!(walk(&world, lane.application, nothing).await, Walk::default());
}

pub(crate) async fn a_walk_s_limit_is_clamped(mut world: World) {
    let lane = world.lane();
    for second in 0..3 {
        let batch = (0..400).map(|_| plain(world.message(&[lane], second))).collect();
        world.store.enqueue(batch).await.unwrap();
    }
    let walk = |limit| walk(&world, lane.application, MessageQuery { limit, ..MessageQuery::default() });
    assert_eq!(walk(0).await.messages.len(), 1);
    assert_eq!(walk(usize::MAX).await.messages.len(), MAX_WALK);
}
