//! Promises of the queries.

use std::time::Duration;

use ringback::store::{
    AttemptQuery, AttemptStatus, DeadQuery, MAX_PAGE, MAX_PAGE_BYTES, MessageQuery, Order, RecordKind,
};
use ringback::{
    AttemptId, DeliveryId, EndpointId, Failure, Lane, MessageId, NoRoute, Outcome, Routing, State, StateKind,
};

use crate::world::{LEASE, World, at, canceled, dead, delivered, plain, waiting};

pub(crate) async fn messages_are_listed_in_each_order_and_completely(mut world: World) {
    let lane = world.lane();
    let mut sent = Vec::new();
    for place in 0..23 {
        sent.insert(0, world.send(&[lane], place / 4).await.message);
    }
    let elsewhere = world.lane();
    world.send(&[elsewhere], 2).await;
    for (order, limit) in each_order([1, 2, 11, 22, 23, 24]) {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let query = MessageQuery { order, after, limit, ..MessageQuery::default() };
            let page = world.store.messages(lane.application, query).await.unwrap();
            assert!(!page.items.is_empty() && page.items.len() <= limit);
            found.extend(page.items.iter().map(|message| message.id));
            after = page.next;
            if after.is_none() {
                break;
            }
            assert_eq!(after, found.last().copied());
        }
        if order == Order::OldestFirst {
            found.reverse();
        }
        assert_eq!(found, sent, "{order:?} by {limit}");
    }
}

pub(crate) async fn a_page_of_large_payloads_ends_early_and_leads_on(mut world: World) {
    let lane = world.lane();
    let most = MAX_PAGE_BYTES / (1 << 20);
    for seconds in 0..20 {
        let mut message = world.message(&[lane], seconds);
        message.payload = vec![b'x'; 1 << 20].into();
        world.store_message(message).await;
    }
    for (order, limit) in each_order([3, MAX_PAGE]) {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let query = MessageQuery { order, after, limit, ..MessageQuery::default() };
            let page = world.store.messages(lane.application, query).await.unwrap();
            assert!(!page.items.is_empty() && page.items.len() <= limit.min(most), "{}", page.items.len());
            found.extend(page.items.iter().map(|message| message.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        found.dedup();
        assert_eq!(found.len(), 20, "{order:?} by {limit}");
    }
}

fn each_order<const N: usize>(limits: [usize; N]) -> impl Iterator<Item = (Order, usize)> {
    limits.into_iter().flat_map(|limit| [(Order::NewestFirst, limit), (Order::OldestFirst, limit)])
}

pub(crate) async fn messages_are_found_by_each_filter(mut world: World) {
    let lane = world.lane();
    let mut sent = Vec::new();
    for (seconds, event_type, nowhere) in
        [(1, "a", false), (2, "a.b", true), (3, "a", true), (4, "b", false), (4, "a", false)]
    {
        let mut message = world.message(&[lane], seconds);
        message.event_type = event_type.into();
        if nowhere {
            message.routing = Routing::Nowhere(NoRoute::EventTypeNotWanted);
        }
        sent.push(world.store_message(message).await);
    }
    let all = MessageQuery { limit: 100, ..MessageQuery::default() };
    let only = |event_type: &str| MessageQuery { event_types: vec![event_type.into()], ..all.clone() };
    let queries: [(MessageQuery, &[usize]); 12] = [
        (MessageQuery { since: Some(at(3)), ..all.clone() }, &[4, 3, 2]),
        (MessageQuery { until: Some(at(3)), ..all.clone() }, &[1, 0]),
        (MessageQuery { since: Some(at(2)), until: Some(at(4)), ..all.clone() }, &[2, 1]),
        (MessageQuery { since: Some(at(5)), ..all.clone() }, &[]),
        (only("a"), &[4, 2, 0]),
        (MessageQuery { unrouted: true, ..all.clone() }, &[2, 1]),
        (MessageQuery { unrouted: true, since: Some(at(2)), ..only("a") }, &[2]),
        (MessageQuery { after: Some(sent[3]), ..only("a") }, &[2, 0]),
        (MessageQuery { order: Order::OldestFirst, ..all.clone() }, &[0, 1, 2, 3, 4]),
        (MessageQuery { order: Order::OldestFirst, since: Some(at(2)), until: Some(at(4)), ..all.clone() }, &[1, 2]),
        (MessageQuery { order: Order::OldestFirst, after: Some(sent[1]), ..only("a") }, &[2, 4]),
        (MessageQuery { order: Order::OldestFirst, after: Some(sent[4]), ..all.clone() }, &[]),
    ];
    for (query, places) in queries {
        let page = world.store.messages(lane.application, query.clone()).await.unwrap();
        let expected: Vec<_> = places.iter().map(|place| sent[*place]).collect();
        assert_eq!(page.items.iter().map(|message| message.id).collect::<Vec<_>>(), expected, "{query:?}");
        assert_eq!(page.next, None);
    }
    let first_of_two = MessageQuery { unrouted: true, limit: 1, ..all };
    let page = world.store.messages(lane.application, first_of_two).await.unwrap();
    assert_eq!(page.next, Some(sent[2]), "more that fit follow");
}

/// Sends messages of these types and channels to an endpoint each; answers a message to both.
async fn of_each_kind(world: &mut World) -> (Lane, Lane, Vec<DeliveryId>) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let kinds: [(&str, &[&str], &[Lane]); 5] = [
        ("call.ended", &["eu"], &[lane]),
        ("call.leg.ended", &["eu", "agent:a"], &[lane, other]),
        ("call", &[], &[other]),
        ("callback.ended", &["agent:a"], &[lane]),
        ("call.ended", &["agent:ab"], &[other]),
    ];
    let mut sent = Vec::new();
    for (seconds, (event_type, channels, lanes)) in (1..).zip(kinds) {
        let mut message = world.message(lanes, seconds);
        message.event_type = event_type.into();
        message.channels = channels.iter().map(|channel| (*channel).into()).collect();
        sent.push(DeliveryId { lane: lanes[0], message: world.store_message(message).await });
    }
    (lane, other, sent)
}

type Kind<'k> = (&'k [&'k str], Option<&'k str>, Option<Lane>, &'k [usize]);

/// Event types, a channel, an endpoint; and which of the messages these filters let through.
fn kinds<'k>(lane: Lane, other: Lane) -> [Kind<'k>; 12] {
    [
        (&["call.ended"], None, None, &[0, 4]),
        (&["call.*"], None, None, &[0, 1, 4]),
        (&["call"], None, None, &[2]),
        (&["callback.ended", "call"], None, None, &[2, 3]),
        (&["callback.*", "call.leg.*"], None, None, &[1, 3]),
        (&["cal.*", "*"], None, None, &[]),
        (&[], Some("eu"), None, &[0, 1]),
        (&[], Some("agent:a"), None, &[1, 3]),
        (&[], Some("agent"), None, &[]),
        (&["call.*"], Some("agent:a"), None, &[1]),
        (&[], None, Some(lane), &[0, 1, 3]),
        (&["call.*"], None, Some(other), &[1, 4]),
    ]
}

pub(crate) async fn messages_are_found_by_type_channel_and_endpoint(mut world: World) {
    let (lane, other, sent) = of_each_kind(&mut world).await;
    for (event_types, channel, endpoint, places) in kinds(lane, other) {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let query = MessageQuery {
                event_types: event_types.iter().map(|wanted| (*wanted).into()).collect(),
                channel: channel.map(Into::into),
                endpoint: endpoint.map(|lane| lane.endpoint),
                order,
                limit: 10,
                ..MessageQuery::default()
            };
            let page = world.store.messages(lane.application, query.clone()).await.unwrap();
            let mut expected: Vec<_> = places.iter().map(|place| sent[*place].message).collect();
            if order == Order::NewestFirst {
                expected.reverse();
            }
            assert_eq!(page.items.iter().map(|message| message.id).collect::<Vec<_>>(), expected, "{query:?}");
            assert_eq!(page.next, None);
        }
    }
}

pub(crate) async fn messages_are_found_by_ordering_key_and_tag(mut world: World) {
    let lane = world.lane();
    let mut sent = Vec::new();
    let kinds: [(Option<&str>, &[&str]); 4] =
        [(None, &[]), (Some("a"), &["user:1"]), (Some("b"), &["user:2", "user:1"]), (Some("a"), &["user:12"])];
    for (key, tags) in kinds {
        let mut message = world.message(&[lane], 5);
        message.ordering_key = key.map(Into::into);
        message.tags = tags.iter().map(|tag| (*tag).into()).collect();
        sent.push(world.store_message(message).await);
    }
    let asked: [(Option<&str>, Option<&str>, &[usize]); 5] = [
        (Some("a"), None, &[1, 3]),
        (Some("c"), None, &[]),
        (None, Some("user:1"), &[1, 2]),
        (Some("a"), Some("user:1"), &[1]),
        (None, None, &[0, 1, 2, 3]),
    ];
    for (ordering_key, tag, places) in asked {
        let (ordering_key, tag) = (ordering_key.map(Into::into), tag.map(Into::into));
        let query = MessageQuery { ordering_key, tag, order: Order::OldestFirst, limit: 10, ..MessageQuery::default() };
        let found = world.store.messages(lane.application, query.clone()).await.unwrap().items;
        let expected: Vec<_> = places.iter().map(|place| sent[*place]).collect();
        assert_eq!(found.iter().map(|message| message.id).collect::<Vec<_>>(), expected, "{query:?}");
    }
}

pub(crate) async fn attempts_are_found_by_type_and_channel_of_their_messages(mut world: World) {
    let (lane, other, sent) = of_each_kind(&mut world).await;
    let mut attempts = Vec::new();
    for id in &sent {
        let passed = world.pass(id.lane, 5, delivered(5)).await;
        assert_eq!(passed, *id);
        attempts.extend(world.attempts(passed).await);
        // The second goes to both; the other endpoint's attempt is not what is asked for.
        if *id == sent[1] {
            world.pass(other, 5, waiting(900)).await;
        }
    }
    let second = world.attempts(DeliveryId { lane: other, ..sent[1] }).await.remove(0);
    for (event_types, channel, endpoint, places) in kinds(lane, other) {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let query = AttemptQuery {
                event_types: event_types.iter().map(|wanted| (*wanted).into()).collect(),
                channel: channel.map(Into::into),
                endpoint: endpoint.map(|lane| lane.endpoint),
                order,
                limit: 10,
                ..AttemptQuery::default()
            };
            let page = world.store.attempts(lane.application, query.clone()).await.unwrap();
            let chosen = places.iter().map(|place| &attempts[*place]);
            let both = chosen.chain(places.contains(&1).then_some(&second));
            let mut expected: Vec<_> =
                both.filter(|attempt| endpoint.is_none_or(|lane| attempt.delivery.lane == lane)).cloned().collect();
            expected.sort_by_key(|attempt| attempt.id);
            if order == Order::NewestFirst {
                expected.reverse();
            }
            assert_eq!((page.items, page.next), (expected, None), "{query:?}");
            let of_message = AttemptQuery { message: Some(sent[1].message), ..query };
            let page = world.store.attempts(lane.application, of_message.clone()).await.unwrap();
            let ends = endpoint.map_or(2, |_| 1);
            assert_eq!(page.items.len(), if places.contains(&1) { ends } else { 0 }, "{of_message:?}");
        }
    }
}

/// Seven attempts of one delivery, three of others.
pub(crate) async fn attempts_are_listed_in_each_order_and_completely(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    world.send(&[lane, other], 0).await;
    for seconds in 0..7 {
        world.pass(lane, seconds, waiting(seconds + 1)).await;
    }
    for seconds in 2..5 {
        world.pass(other, seconds, waiting(seconds + 1)).await;
    }
    let whole = AttemptQuery { limit: 100, ..AttemptQuery::default() };
    for (endpoint, count) in [(None, 10), (Some(lane.endpoint), 7), (Some(other.endpoint), 3)] {
        let query = AttemptQuery { endpoint, ..whole.clone() };
        let all = world.store.attempts(lane.application, query).await.unwrap().items;
        assert_eq!(all.len(), count);
        assert!(all.is_sorted_by(|newer, older| newer.id > older.id));
        for (order, limit) in each_order([1, 3, 7, 10]) {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let query = AttemptQuery { endpoint, order, after, limit, ..AttemptQuery::default() };
                let page = world.store.attempts(lane.application, query).await.unwrap();
                assert!(!page.items.is_empty() && page.items.len() <= limit);
                found.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            if order == Order::OldestFirst {
                found.reverse();
            }
            assert_eq!(found, all, "{order:?} by {limit}");
        }
    }
}

pub(crate) async fn attempts_are_found_by_each_filter(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let answered = |status| Outcome::answered(status);
    let tries = [
        (lane, answered(200), StateKind::Delivered),
        (lane, answered(404), StateKind::Waiting),
        (other, answered(503), StateKind::Dead),
        (other, Outcome::Failed(Failure::Timeout), StateKind::Waiting),
        (other, answered(200), StateKind::Waiting),
    ];
    let mut attempts = Vec::new();
    for (seconds, (lane, outcome, result)) in (0..).zip(tries) {
        world.send(&[lane], seconds).await;
        let lease = world.claim_one(lane, seconds).await;
        let mut attempt = world.attempt(&lease, seconds, waiting(900));
        (attempt.outcome, attempt.result) = (outcome, result);
        attempts.push(attempt.clone());
        let state = waiting(900);
        world.settle(ringback::store::Settlement { lease, attempt: Some(attempt), state, lets_pass: false }).await;
    }
    let all = AttemptQuery { limit: 100, ..AttemptQuery::default() };
    let status = |status| AttemptQuery { status: Some(status), ..all.clone() };
    let oldest_first = AttemptQuery { order: Order::OldestFirst, ..all.clone() };
    let queries: [(AttemptQuery, &[usize]); 16] = [
        (all.clone(), &[4, 3, 2, 1, 0]),
        (AttemptQuery { endpoint: Some(lane.endpoint), ..all.clone() }, &[1, 0]),
        (AttemptQuery { message: Some(attempts[2].delivery.message), ..all.clone() }, &[2]),
        (status(AttemptStatus::Succeeded), &[0]),
        (status(AttemptStatus::Failed), &[4, 3, 2, 1]),
        (status(AttemptStatus::Code(404)), &[1]),
        (status(AttemptStatus::Class(2)), &[4, 0]),
        (status(AttemptStatus::NoAnswer), &[3]),
        (AttemptQuery { since: Some(at(3)), ..all.clone() }, &[4, 3]),
        (AttemptQuery { until: Some(at(1)), ..all.clone() }, &[0]),
        (
            AttemptQuery { since: Some(at(1)), until: Some(at(4)), endpoint: Some(other.endpoint), ..all.clone() },
            &[3, 2],
        ),
        (AttemptQuery { after: Some(attempts[3].id), ..status(AttemptStatus::Failed) }, &[2, 1]),
        (AttemptQuery { endpoint: Some(lane.endpoint), ..status(AttemptStatus::Class(5)) }, &[]),
        (AttemptQuery { since: Some(at(1)), until: Some(at(4)), ..oldest_first.clone() }, &[1, 2, 3]),
        (AttemptQuery { after: Some(attempts[2].id), ..oldest_first.clone() }, &[3, 4]),
        (
            AttemptQuery { status: Some(AttemptStatus::Failed), endpoint: Some(other.endpoint), ..oldest_first },
            &[2, 3, 4],
        ),
    ];
    for (query, places) in queries {
        let page = world.store.attempts(lane.application, query.clone()).await.unwrap();
        let expected: Vec<_> = places.iter().map(|place| attempts[*place].clone()).collect();
        assert_eq!(page.items, expected, "{query:?}");
        assert_eq!(page.next, None, "{query:?}");
    }
}

pub(crate) async fn dead_letters_are_listed_completely_by_endpoint_and_message(mut world: World) {
    let lane = world.lane();
    let lanes = [lane, world.lane_beside(lane), world.lane_beside(lane)];
    let mut expected = Vec::new();
    for place in [2, 0, 1, 0, 2, 2, 0] {
        world.send(&[lanes[place]], 1).await;
        expected.push(world.pass(lanes[place], 1, dead(1)).await);
    }
    let elsewhere = Lane { endpoint: lane.endpoint, ..world.lane() };
    world.send(&[elsewhere], 1).await;
    world.pass(elsewhere, 1, dead(1)).await;
    expected.sort_by_key(|id| (id.lane.endpoint, id.message));
    for limit in [1, 2, 6, 7, 8] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let query = DeadQuery { after, limit, ..DeadQuery::default() };
            let page = world.store.dead_letters(lane.application, query.clone()).await.unwrap();
            assert!(!page.items.is_empty() && page.items.len() <= limit);
            found.extend(page.items);
            let count = world.store.count_dead_letters(lane.application, query).await.unwrap();
            assert_eq!(count, 7, "cursor and limit aside");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "by {limit}");
    }
}

pub(crate) async fn dead_letters_are_found_by_endpoint_and_time(mut world: World) {
    let lane = world.lane();
    let other = world.lane_beside(lane);
    let mut letters = Vec::new();
    for seconds in 1..=4 {
        world.send(&[lane, other], seconds).await;
        // When it died does not matter: its message's acceptance does.
        letters.push(world.pass(lane, 100, dead(200 - seconds)).await);
        world.pass(other, 100, dead(100)).await;
    }
    let of_lane = DeadQuery { endpoint: Some(lane.endpoint), limit: 100, ..DeadQuery::default() };
    let windows: [(Option<u64>, Option<u64>, &[usize]); 6] = [
        (None, None, &[0, 1, 2, 3]),
        (Some(2), None, &[1, 2, 3]),
        (None, Some(2), &[0]),
        (Some(2), Some(4), &[1, 2]),
        (Some(3), Some(3), &[]),
        (Some(5), None, &[]),
    ];
    for (since, until, places) in windows {
        let query = DeadQuery { since: since.map(at), until: until.map(at), ..of_lane.clone() };
        let page = world.store.dead_letters(lane.application, query.clone()).await.unwrap();
        let expected: Vec<_> = places.iter().map(|place| letters[*place]).collect();
        assert_eq!((page.items, page.next), (expected, None), "{query:?}");
        let count = world.store.count_dead_letters(lane.application, query.clone()).await.unwrap();
        assert_eq!(count, places.len() as u64, "{query:?}");
        let both = DeadQuery { endpoint: None, ..query };
        let count = world.store.count_dead_letters(lane.application, both).await.unwrap();
        assert_eq!(count, 2 * places.len() as u64);
    }
    let after = DeadQuery { after: Some((lane.endpoint, letters[1].message)), ..of_lane };
    assert_eq!(world.store.dead_letters(lane.application, after).await.unwrap().items, letters[2..]);
}

pub(crate) async fn only_what_is_dead_is_a_dead_letter(mut world: World) {
    let lane = world.lane();
    for state in [delivered(1), canceled(1), waiting(900)] {
        world.send(&[lane], 1).await;
        world.pass(lane, 1, state).await;
    }
    let query = DeadQuery { limit: 10, ..DeadQuery::default() };
    let dead_now = async |world: &World| {
        let items = world.store.dead_letters(lane.application, query.clone()).await.unwrap().items;
        let count = world.store.count_dead_letters(lane.application, query.clone()).await.unwrap();
        assert_eq!(items.len() as u64, count);
        items
    };
    assert_eq!(dead_now(&world).await, []);
    let id = world.send(&[lane], 1).await;
    world.pass(lane, 1, dead(1)).await;
    assert_eq!(dead_now(&world).await, [id]);
    world.store.replay(vec![id.into()], at(2), None).await.unwrap();
    assert_eq!(dead_now(&world).await, [], "a replayed one is none");
    world.pass(lane, 2, dead(2)).await;
    assert_eq!(dead_now(&world).await, [id]);
    world.reopen().await;
    assert_eq!(dead_now(&world).await, [id]);
}

pub(crate) async fn deliveries_come_in_the_order_of_the_routing_and_show_leases(mut world: World) {
    let first = world.lane();
    let second = world.lane_beside(first);
    let third = world.lane_beside(first);
    let id = world.send(&[third, first, second], 1).await;
    let _lease = world.claim_one(first, 1).await;
    world.pass(second, 1, dead(1)).await;
    let deliveries = world.deliveries(id).await;
    let lanes: Vec<_> = deliveries.iter().map(|delivery| delivery.id.lane).collect();
    assert_eq!(lanes, [third, first, second]);
    let states: Vec<_> = deliveries.iter().map(|delivery| delivery.state).collect();
    assert_eq!(states, [waiting(1), State::Leased { until: at(1 + LEASE) }, dead(1)]);
}

pub(crate) async fn limits_are_clamped(mut world: World) {
    let lane = world.lane();
    let messages: Vec<_> = (0..MAX_PAGE + 1).map(|_| world.message(&[lane], 1)).collect();
    world.store.enqueue(messages.into_iter().map(plain).collect()).await.unwrap();
    for lease in world.claim(lane, 1, MAX_PAGE + 1).await {
        world.end(lease, 1, dead(1)).await;
    }
    let application = lane.application;
    for (limit, expected) in [(0, 1), (usize::MAX, MAX_PAGE)] {
        let query = MessageQuery { limit, ..MessageQuery::default() };
        let messages = world.store.messages(application, query).await.unwrap();
        assert_eq!((messages.items.len(), messages.next.is_some()), (expected, true));
        let query = AttemptQuery { limit, ..AttemptQuery::default() };
        let attempts = world.store.attempts(application, query).await.unwrap();
        assert_eq!((attempts.items.len(), attempts.next.is_some()), (expected, true));
    }
    for (limit, expected) in [(0, 1), (usize::MAX, MAX_PAGE + 1)] {
        let query = DeadQuery { limit, ..DeadQuery::default() };
        let letters = world.store.dead_letters(application, query).await.unwrap();
        assert_eq!(letters.items.len(), expected, "a page of dead letters has up to 10,000");
    }
}

pub(crate) async fn what_is_unknown_is_not_found(mut world: World) {
    let lane = world.lane();
    let id = world.send(&[lane], 1).await;
    let elsewhere = world.lane().application;
    let application = lane.application;
    let other_id = MessageId::from_parts(at(1) + Duration::from_millis(1), 1);
    for (application, message) in [(elsewhere, id.message), (application, other_id)] {
        assert_eq!(world.store.message(application, message).await.unwrap(), None);
        assert!(world.store.deliveries(application, message).await.unwrap().is_empty());
        let query = AttemptQuery { message: Some(message), limit: 1, ..AttemptQuery::default() };
        assert!(world.store.attempts(application, query).await.unwrap().items.is_empty());
    }
    assert_eq!(world.store.message_by_event_id(application, "none".into()).await.unwrap(), None);
    assert!(world.messages(elsewhere).await.is_empty());
    let cursor = DeadQuery {
        endpoint: Some(EndpointId::from_bytes([0xff; 16])),
        after: Some((EndpointId::from_bytes([0xff; 16]), MessageId::from_bytes([0xff; 16]))),
        limit: 1,
        ..DeadQuery::default()
    };
    assert!(world.store.dead_letters(application, cursor).await.unwrap().items.is_empty());
    let oldest = AttemptQuery { after: Some(AttemptId::from_bytes([0; 16])), limit: 1, ..AttemptQuery::default() };
    assert!(world.store.attempts(application, oldest).await.unwrap().items.is_empty());
    let oldest = MessageQuery { after: Some(MessageId::from_bytes([0; 16])), limit: 1, ..MessageQuery::default() };
    assert!(world.store.messages(application, oldest).await.unwrap().items.is_empty());
    assert!(world.store.list(RecordKind::ReplayJob, Some(application), None, 9).await.unwrap().is_empty());
    let unknown = DeliveryId { lane: world.lane(), ..id };
    world.assert_nothing_to_claim(unknown.lane, 1).await;
}
