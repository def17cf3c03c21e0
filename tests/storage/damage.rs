//! Damaged records: the rest goes on, the damage is counted, nothing panics.

use std::path::Path;

use ringback::store::{AttemptQuery, CountQuery, Counts};
use ringback::{DeadReason, Error, MessageId, NewApplication, NewEndpoint, NewMessage, State, StateKind};

use crate::support::{Behaviour, Receiver, World, quick, retries, until};

/// The tags of rows, as `src/store/sled/keys.rs` has them, behind 16 bytes of the application.
const TAG: usize = 16;

/// Opens the tree of a closed store.
fn tree(folder: &Path) -> sled::Db {
    for _ in 0..200 {
        let config = sled::Config::new().path(folder.join("sled")).segment_size(4 << 20).use_compression(false);
        match config.open() {
            Ok(db) => return db,
            // The lock of the one that was closed is let go of on a thread of its own.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    panic!("the tree cannot be opened");
}

/// How a value is spoiled.
#[derive(Debug, Clone, Copy)]
enum Harm {
    FlipLast,
    FlipFirst,
    CutOff,
    Empty,
}

impl Harm {
    fn to(self, value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        match self {
            Harm::FlipLast => *value.last_mut().unwrap() ^= 1,
            Harm::FlipFirst => value[0] ^= 0x80,
            Harm::CutOff => value.truncate(value.len() / 2),
            Harm::Empty => value.clear(),
        }
        value
    }
}

/// Spoils the rows whose key fits; gives how many.
async fn spoil(world: &mut World, harm: Harm, fits: impl Fn(&[u8]) -> bool) -> usize {
    world.stop().await;
    let db = tree(&world.config.path);
    let mut spoilt = 0;
    for item in db.iter() {
        let (key, value) = item.unwrap();
        if fits(&key) {
            db.insert(key, harm.to(&value)).unwrap();
            spoilt += 1;
        }
    }
    db.flush().unwrap();
    drop(db);
    world.reopen().await;
    spoilt
}

fn of_message(tag: u8, message: MessageId) -> impl Fn(&[u8]) -> bool {
    move |key: &[u8]| key.get(TAG) == Some(&tag) && key.ends_with(&message.to_bytes())
}

async fn damaged(world: &World) -> u64 {
    world.ringback.health().await.unwrap().damaged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_message_is_not_sent_and_the_others_are() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let sent = world.send_many(5).await;
    assert_eq!(spoil(&mut world, Harm::FlipLast, of_message(b'M', sent[2])).await, 1);
    world.run();
    until(async || world.ringback.health().await.unwrap().open == 0).await;
    let rest: Vec<MessageId> = sent.iter().filter(|id| **id != sent[2]).copied().collect();
    for message in &rest {
        assert_eq!(world.state(*message).await.kind(), StateKind::Delivered);
    }
    assert_eq!((receiver.count(), damaged(&world).await), (4, 1));
    assert_eq!(world.dead().await.iter().map(|id| id.message).collect::<Vec<_>>(), [sent[2]]);
    let lost = world.ringback.message(world.app, sent[2]).await;
    assert_eq!(lost.unwrap_err(), Error::NotFound("message"));
    world.reopen().await;
    let warnings = world.ringback.health().await.unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("set aside")), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_part_of_a_large_payload_is_not_sent() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let large = world.send("e", &format!("\"{}\"", "x".repeat(100_000))).await;
    let small = world.send("e", "{}").await;
    let second = |key: &[u8]| key.get(TAG) == Some(&b'P') && key.ends_with(&[0, 1]);
    assert_eq!(spoil(&mut world, Harm::FlipLast, second).await, 1);
    world.run();
    assert_eq!(world.ended(small).await.kind(), StateKind::Delivered);
    until(async || world.ringback.health().await.unwrap().open == 0).await;
    assert_eq!((receiver.count(), damaged(&world).await), (1, 1));
    assert!(matches!(world.state(large).await, State::Dead { reason: DeadReason::Damaged, .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_state_is_lost_is_a_dead_letter_and_can_be_replayed() {
    let mut world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    let sent = world.send_many(3).await;
    world.all_ended(&sent).await;
    assert_eq!(spoil(&mut world, Harm::CutOff, of_message(b'D', sent[1])).await, 1);
    world.run();
    world.deliveries(sent[1]).await;
    until(async || matches!(world.state(sent[1]).await, State::Dead { reason: DeadReason::Damaged, .. })).await;
    assert_eq!((damaged(&world).await, receiver.count()), (1, 3), "it is not sent again by itself");
    for message in [sent[0], sent[2]] {
        assert_eq!(world.state(message).await.kind(), StateKind::Delivered);
    }
    world.ringback.replay(world.app, sent[1], endpoint).await.unwrap();
    assert_eq!(world.ended(sent[1]).await.kind(), StateKind::Delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_attempt_is_left_out_of_the_log() {
    let mut world = World::running().await;
    let receiver = Receiver::answering(500).await;
    world.endpoint(quick(&receiver.url)).await;
    let sent = world.send("e", "{}").await;
    world.ended(sent).await;
    let second = world.attempts(sent).await[1].id;
    let fits = |key: &[u8]| key.get(TAG) == Some(&b'A') && key.ends_with(&second.to_bytes());
    assert_eq!(spoil(&mut world, Harm::FlipFirst, fits).await, 1);
    for _ in 0..2 {
        let numbers: Vec<u32> = world.attempts(sent).await.iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, [1, 3]);
    }
    assert_eq!((damaged(&world).await, world.state(sent).await.kind()), (1, StateKind::Dead));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_counters_are_counted_anew() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let sent = world.send_many(4).await;
    let before = world.ringback.health().await.unwrap();
    assert_eq!(spoil(&mut world, Harm::FlipLast, |key| key.get(TAG) == Some(&b'C')).await, 1);
    let after = world.ringback.health().await.unwrap();
    assert_eq!((after.open, after.open_bytes), (before.open, before.open_bytes));
    assert!(after.warnings.iter().any(|warning| warning.contains("counters")), "{:?}", after.warnings);
    world.run();
    world.all_ended(&sent).await;
    let later = world.send("e", "{}").await;
    assert_eq!(world.ended(later).await.kind(), StateKind::Delivered);
    assert_eq!(receiver.count(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_endpoint_or_application_costs_the_others_nothing() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    let lost = world.endpoint(quick(&receiver.url)).await.id;
    world.endpoint(quick(&receiver.url)).await;
    let other = world.ringback.create_application(NewApplication::named("Other")).await.unwrap().id;
    let before = world.send("e", "{}").await;
    let endpoint = |key: &[u8]| key.get(TAG) == Some(&b'R') && key.ends_with(&lost.to_bytes());
    assert_eq!(spoil(&mut world, Harm::FlipLast, endpoint).await, 1);
    world.run();
    let after = world.send("e", "{}").await;
    assert_eq!(world.ended(after).await.kind(), StateKind::Delivered);
    until(async || world.deliveries(before).await[1].state.kind() == StateKind::Delivered).await;
    assert_eq!(world.ringback.endpoint(world.app, lost).unwrap_err(), Error::NotFound("endpoint"));
    let application = |key: &[u8]| key.get(TAG) == Some(&b'R') && key.ends_with(&other.to_bytes());
    assert_eq!(spoil(&mut world, Harm::FlipLast, application).await, 1);
    world.run();
    assert_eq!(world.ringback.application(other).unwrap_err(), Error::NotFound("application"));
    let after = world.send("e", "{}").await;
    assert_eq!(world.ended(after).await.kind(), StateKind::Delivered);
    assert!(damaged(&world).await >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_damage_of_any_row_stops_the_rest() {
    for (tag, harm) in b"WDAXEIMPQK".iter().zip([Harm::Empty, Harm::CutOff, Harm::FlipFirst].into_iter().cycle()) {
        let mut world = World::running().await;
        let receiver =
            Receiver::start(|request, _| Behaviour::Answer(if request.body == b"0" { 500 } else { 200 })).await;
        let endpoint = world.endpoint(quick(&receiver.url).retry(retries(&[600_000]))).await.id;
        let keyed = |payload: &'static str| {
            NewMessage::bytes("e", payload).event_id(format!("id {payload}")).idempotency_key(format!("key {payload}"))
        };
        for payload in ["0", "1", "2"] {
            world.ringback.send(world.app, keyed(payload)).await.unwrap();
        }
        receiver.wait_for(3).await;
        for _ in 0..2 {
            world.ringback.send(world.app, NewMessage::bytes("e", "0").ordering_key("a")).await.unwrap();
        }
        world.send("e", &"x".repeat(50_000)).await;
        receiver.wait_for(5).await;
        spoil(&mut world, harm, |key| key.get(TAG) == Some(tag)).await;
        world.run();
        let later = world.send("later", "{}").await;
        assert_eq!(world.ended(later).await.kind(), StateKind::Delivered, "{}", char::from(*tag));
        world.message_count().await;
        let _ = world.ringback.send(world.app, keyed("1")).await;
        let _ = world.ringback.replay(world.app, later, endpoint).await;
        world.dead().await;
        world.ringback.prune().await.unwrap();
        world.reopen().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_place_in_the_queue_is_damaged_is_made_all_the_same() {
    let waits = |key: &[u8]| key.get(TAG) == Some(&b'W');
    let mut world = World::open().await;
    let receiver = Receiver::start(|_, before| Behaviour::Answer(if before < 3 { 500 } else { 200 })).await;
    let endpoint = world.endpoint(quick(&receiver.url).retry(retries(&[600_000]))).await.id;
    let sent = world.send_many(3).await;
    // Before the first attempt the message says what waits there, later the delivery itself.
    assert_eq!(spoil(&mut world, Harm::FlipLast, waits).await, 3);
    world.run();
    receiver.wait_for(3).await;
    until(async || world.ringback.health().await.unwrap().leased == 0).await;
    assert_eq!(damaged(&world).await, 3);
    assert_eq!(spoil(&mut world, Harm::CutOff, waits).await, 3);
    world.run();
    until(async || damaged(&world).await == 3).await;
    for message in &sent {
        assert_eq!(world.state(*message).await.kind(), StateKind::Waiting);
        world.ringback.replay(world.app, *message, endpoint).await.unwrap();
        assert_eq!(world.ended(*message).await.kind(), StateKind::Delivered);
        let numbers: Vec<u32> = world.attempts(*message).await.iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, [1, 2]);
    }
    until(async || world.ringback.health().await.unwrap().open == 0).await;
    assert_eq!(receiver.count(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_do_not_add_up_when_a_row_is_lost_or_belongs_to_nothing() {
    let mut world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    let sent = world.send_many(4).await;
    world.all_ended(&sent).await;
    world.stop().await;
    world.reopen().await;
    let waiting = world.send_many(2).await;
    let remove = async |world: &mut World, fits: &dyn Fn(&[u8]) -> bool| {
        world.stop().await;
        let db = tree(&world.config.path);
        let keys: Vec<_> = db.iter().keys().map(Result::unwrap).filter(|key| fits(key)).collect();
        assert_eq!(keys.len(), 1, "one row is lost");
        db.remove(&keys[0]).unwrap();
        db.flush().unwrap();
        drop(db);
        world.reopen().await;
        world.ringback.counts(world.app, CountQuery::default()).await.unwrap()
    };
    let whole = world.ringback.counts(world.app, CountQuery::default()).await.unwrap();
    assert!(whole.adds_up() && (whole.routed, whole.delivered, whole.waiting) == (6, 4, 2), "{whole:?}");
    let counts = remove(&mut world, &of_message(b'D', sent[0])).await;
    assert!(!counts.adds_up() && counts == Counts { delivered: 3, ..whole }, "an end is lost: {counts:?}");
    let counts = remove(&mut world, &of_message(b'M', sent[1])).await;
    let expected = Counts { messages: 5, routed: 5, delivered: 3, ..whole };
    assert_eq!(counts, expected, "an end that belongs to no message is counted all the same");
    assert_eq!(counts.routed, 5, "so that the two losses cancel each other out in the sum alone");
    let due = waiting[0].time().as_millis().to_be_bytes();
    let first = world.ringback.message(world.app, waiting[0]).await.unwrap();
    assert_eq!(first.accepted_at, waiting[0].time());
    let one = std::cell::Cell::new(false);
    let first_waiting = move |key: &[u8]| key.get(TAG) == Some(&b'W') && key[33..41] == due && !one.replace(true);
    let counts = remove(&mut world, &first_waiting).await;
    assert_eq!(counts, Counts { waiting: 1, ..expected }, "something that waited is lost");
    let of_endpoint = CountQuery { endpoint: Some(endpoint), ..CountQuery::default() };
    assert_eq!(world.ringback.counts(world.app, of_endpoint).await.unwrap(), counts);
}

/// The tags of the rows that hold these bytes.
fn tags_with(folder: &Path, bytes: &[u8]) -> Vec<char> {
    let db = tree(folder);
    let rows = db.iter().map(Result::unwrap);
    let found = rows.filter(|(_, value)| value.windows(bytes.len()).any(|window| window == bytes));
    found.map(|(key, _)| char::from(key[TAG])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_expunged_is_in_no_row_not_even_in_one_that_was_set_aside() {
    let mut world = World::running().await;
    let answer = |_: &_, _| Behaviour::AnswerWith(500, Vec::new(), b"the answer is secret".to_vec());
    let receiver = Receiver::start(answer).await;
    let endpoint = NewEndpoint::at(&receiver.url).retry(retries(&[]));
    world.endpoint(endpoint).await;
    let payload = "secret ".repeat(30_000);
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(world.send("e", &payload).await);
    }
    world.all_ended(&sent).await;
    let attempt = world.attempts(sent[0]).await.remove(0).id;
    // Damaged in the row itself, and in a part: both are set aside with what they hold.
    assert_eq!(spoil(&mut world, Harm::FlipLast, of_message(b'M', sent[1])).await, 1);
    let of_third = sent[2].to_bytes();
    let part = |key: &[u8]| key.get(TAG) == Some(&b'P') && key[17..33] == of_third && key.ends_with(&[0, 1]);
    assert_eq!(spoil(&mut world, Harm::FlipLast, part).await, 1);
    for message in &sent[1..] {
        assert_eq!(world.ringback.message(world.app, *message).await.unwrap_err(), Error::NotFound("message"));
    }
    world.stop().await;
    let tags = tags_with(&world.config.path, b"secret secret");
    assert!(tags.contains(&'M') && tags.contains(&'P') && tags.contains(&'Q'), "{tags:?}");
    world.reopen().await;
    for message in &sent {
        world.ringback.expunge_message(world.app, *message).await.unwrap();
    }
    world.ringback.expunge_attempt(world.app, attempt).await.unwrap();
    let rest = world.ringback.attempts(world.app, AttemptQuery { limit: 10, ..AttemptQuery::default() }).await.unwrap();
    for attempt in rest.items {
        world.ringback.expunge_attempt(world.app, attempt.id).await.unwrap();
    }
    world.stop().await;
    assert_eq!(tags_with(&world.config.path, b"secret"), [' '; 0]);
    world.reopen().await;
    assert!(world.ringback.message(world.app, sent[0]).await.unwrap().expunged);
    assert!(world.ringback.message(world.app, sent[2]).await.unwrap().expunged, "it can be shown again");
    let gone = world.ringback.message(world.app, sent[1]).await;
    assert_eq!(gone.unwrap_err(), Error::NotFound("message"), "its row was lost before");
    assert_eq!(world.ringback.health().await.unwrap().warnings, Vec::<String>::new(), "nothing is set aside any more");
}

/// Whether exactly so many bytes more have room in the application. It stays full.
async fn fills_up_with(world: &World, bytes: usize) {
    let of = |bytes: usize| NewMessage::bytes("e", vec![b'x'; bytes]);
    let beyond = world.ringback.send(world.app, of(bytes + 1)).await;
    assert!(matches!(beyond, Err(Error::ApplicationOverloaded(_))), "{beyond:?}");
    world.ringback.send(world.app, of(bytes)).await.unwrap();
    assert!(matches!(world.ringback.send(world.app, of(1)).await, Err(Error::ApplicationOverloaded(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_an_application_is_counted_anew_where_that_is_lost_or_was_never_written() {
    let mut world = World::with(|config| config.max_open_bytes_per_application = 10_000).await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let of = |bytes: usize| NewMessage::bytes("e", vec![b'x'; bytes]);
    world.ringback.send(world.app, of(4_000)).await.unwrap();
    let tagged = |tag: u8| move |key: &[u8]| key.get(TAG) == Some(&tag);
    // Damaged by itself, and then the counters, which say that it is there at all.
    assert_eq!(spoil(&mut world, Harm::FlipLast, tagged(b'O')).await, 1);
    let warnings = world.ringback.health().await.unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("counted anew")), "{warnings:?}");
    fills_up_with(&world, 6_000).await;
    assert_eq!(spoil(&mut world, Harm::FlipLast, tagged(b'C')).await, 1);
    assert!(world.ringback.send(world.app, of(1)).await.is_err());

    // As an earlier program has left the folder: no such rows, and counters of the first version.
    world.stop().await;
    let db = tree(&world.config.path);
    let of_tag = |tag| db.iter().map(Result::unwrap).find(move |(key, _)| key.get(TAG) == Some(&tag)).unwrap();
    db.remove(of_tag(b'O').0).unwrap();
    let (key, value) = of_tag(b'C');
    assert_eq!(value[0], 2);
    let mut summed = key.to_vec();
    summed.push(1);
    summed.extend_from_slice(&value[5..]);
    let mut old = vec![1];
    old.extend_from_slice(&crc32fast::hash(&summed).to_be_bytes());
    old.extend_from_slice(&value[5..]);
    db.insert(key, old).unwrap();
    db.flush().unwrap();
    drop(db);
    std::fs::write(world.config.path.join("FORMAT"), "1\n").unwrap();
    for _ in 0..2 {
        world.reopen().await;
        let refused = world.ringback.send(world.app, of(1)).await;
        let Err(Error::ApplicationOverloaded(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("has 10000 bytes waiting"), "{why}");
        assert_eq!(world.ringback.health().await.unwrap().open_bytes, 10_000);
    }
    assert_eq!(std::fs::read_to_string(world.config.path.join("FORMAT")).unwrap(), "4\n");
    world.run();
    until(async || world.ringback.health().await.unwrap().open == 0).await;
    has_all_its_room(&world).await;
}

/// Nothing waits: there is room for all of the limit, time and again.
async fn has_all_its_room(world: &World) {
    for _ in 0..3 {
        let sent = world.ringback.send(world.app, NewMessage::bytes("e", vec![b'x'; 10_000])).await.unwrap().id;
        world.all_ended(&[sent]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_rows_of_what_waits_take_no_room_for_ever() {
    for lost in [&[0, 1][..], &[2, 3], &[0, 3], &[0, 1, 2, 3]] {
        let mut world = World::with(|config| config.max_open_bytes_per_application = 10_000).await;
        let receiver = Receiver::answering(200).await;
        world.endpoint(quick(&receiver.url)).await;
        let mut sent = Vec::new();
        for bytes in [1_000, 2_000, 3_000, 4_000] {
            let message = NewMessage::bytes("e", vec![b'x'; bytes]);
            sent.push(world.ringback.send(world.app, message).await.unwrap().id);
        }
        // Of these, nothing says any more that they wait; the rows of the others can be mended.
        for place in lost {
            assert_eq!(spoil(&mut world, Harm::FlipLast, of_message(b'M', sent[*place])).await, 1);
        }
        assert_eq!(spoil(&mut world, Harm::FlipLast, |key| key.get(TAG) == Some(&b'W')).await, 4);
        let left: u64 =
            [0, 1, 2, 3].iter().filter(|place| !lost.contains(place)).map(|place| 1_000 * (*place as u64 + 1)).sum();
        until(async || world.ringback.health().await.unwrap().open_bytes == left).await;
        world.run();
        for (place, message) in sent.iter().enumerate() {
            if !lost.contains(&place) {
                assert_eq!(world.ended(*message).await.kind(), StateKind::Delivered);
            }
        }
        until(async || world.ringback.health().await.unwrap().open == 0).await;
        assert_eq!(world.ringback.health().await.unwrap().open_bytes, 0, "{lost:?}");
        has_all_its_room(&world).await;
    }
}

async fn ordered(world: &World, payload: &'static str) -> MessageId {
    world.ringback.send(world.app, NewMessage::bytes("e", payload).ordering_key("a")).await.unwrap().id
}

/// The bodies that arrived.
fn bodies(receiver: &Receiver) -> Vec<String> {
    receiver.received().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_rows_are_damaged_is_kept_all_the_same() {
    for (harm, tag) in [(Harm::FlipLast, b'K'), (Harm::Empty, b'K'), (Harm::CutOff, b'W'), (Harm::FlipFirst, b'D')] {
        let mut world = World::open().await;
        let receiver = Receiver::answering(200).await;
        world.endpoint(quick(&receiver.url)).await;
        let mut sent = Vec::new();
        for payload in ["0", "1", "2"] {
            sent.push(ordered(&world, payload).await);
        }
        let spoilt = spoil(&mut world, harm, |key| key.get(TAG) == Some(&tag)).await;
        assert_eq!(
            spoilt,
            match tag {
                b'K' => 3,
                b'W' => 1,
                _ => 0,
            }
        );
        world.run();
        world.all_ended(&sent).await;
        assert_eq!(bodies(&receiver), ["0", "1", "2"]);
        until(async || world.ringback.health().await.unwrap().open == 0).await;
        assert_eq!(world.ringback.health().await.unwrap().open_bytes, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_damage_blocks_a_key_for_ever() {
    // What is lost: the row of who goes first; its place in the queue and its message; or a row too many is there.
    for loss in ["first", "message", "stray"] {
        let mut world = World::open().await;
        let receiver = Receiver::answering(200).await;
        world.endpoint(quick(&receiver.url)).await;
        let mut sent = Vec::new();
        for payload in ["0", "1", "2"] {
            sent.push(ordered(&world, payload).await);
        }
        if loss == "stray" {
            world.run();
            world.all_ended(&sent).await;
        }
        world.stop().await;
        let db = tree(&world.config.path);
        let first = |key: &[u8]| key.get(TAG) == Some(&b'K') && key[TAG + 33] == 0;
        for item in db.iter() {
            let (key, value) = item.unwrap();
            let own = |tag| of_message(tag, sent[0])(&key);
            match loss {
                "first" if first(&key) => drop(db.remove(key).unwrap()),
                "message" if own(b'M') || key.get(TAG) == Some(&b'W') => {
                    db.insert(key, Harm::FlipLast.to(&value)).unwrap();
                }
                "stray" if own(b'D') => {
                    // As if the first one had ended and its row had stayed.
                    let mut row = key.to_vec();
                    row[TAG] = b'K';
                    row.truncate(TAG + 17);
                    row.extend_from_slice(&key_hash("a"));
                    row.push(0);
                    row.extend_from_slice(&0_u64.to_be_bytes());
                    row.extend_from_slice(&sent[0].to_bytes());
                    db.insert(row, vec![1, 2, 3]).unwrap();
                }
                _ => {}
            }
        }
        db.flush().unwrap();
        drop(db);
        world.reopen().await;
        let later = ordered(&world, "3").await;
        world.run();
        if loss == "stray" {
            // Nothing meets it by itself: it is found by looking for it, as the doctor does.
            assert!(matches!(world.state(later).await, State::Held { .. }));
            world.ringback.counts(world.app, CountQuery::default()).await.unwrap();
        }
        until(async || world.state(later).await.kind() == StateKind::Delivered).await;
        until(async || world.ringback.health().await.unwrap().open == 0).await;
        for message in &sent[1..] {
            assert_eq!(world.state(*message).await.kind(), StateKind::Delivered, "{loss}");
        }
        let arrived = bodies(&receiver);
        assert!(arrived.ends_with(&["2".into(), "3".into()]), "{loss}: {arrived:?}");
        assert_eq!(world.ringback.health().await.unwrap().open_bytes, 0, "{loss}");
    }
}

fn key_hash(key: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(key)[..16].to_vec()
}
