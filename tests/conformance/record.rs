//! Promises of `get`, `list` and `put`.

use bytes::Bytes;
use futures_util::future::join_all;
use ringback::ApplicationId;
use ringback::store::{Put, Record, RecordKey, RecordKind};

use crate::world::World;

const KINDS: [RecordKind; 11] = [
    RecordKind::Application,
    RecordKind::ApplicationUid,
    RecordKind::Endpoint,
    RecordKind::EndpointUid,
    RecordKind::EndpointList,
    RecordKind::ReplayJob,
    RecordKind::EventType,
    RecordKind::EventTypeSchemas,
    RecordKind::Token,
    RecordKind::Receipt,
    RecordKind::ReceiptAnswer,
];

fn named(key: &[u8]) -> RecordKey {
    RecordKey { kind: RecordKind::ApplicationUid, application: None, key: key.to_vec() }
}

fn set(key: &RecordKey, expected: u64, value: &[u8]) -> Put {
    Put { key: key.clone(), expected, active: true, value: Some(Bytes::copy_from_slice(value)) }
}

fn remove(key: &RecordKey, expected: u64) -> Put {
    Put { key: key.clone(), expected, active: true, value: None }
}

async fn put(world: &World, batch: Vec<Put>) -> bool {
    world.store.put(batch).await.unwrap()
}

async fn get(world: &World, key: &RecordKey) -> Option<(u64, Vec<u8>)> {
    let record = world.store.get(key.clone()).await.unwrap()?;
    assert_eq!(record.key, *key);
    Some((record.version, record.value.to_vec()))
}

pub(crate) async fn a_record_is_made_changed_and_removed_by_version(world: World) {
    let key = named(b"a");
    assert_eq!(get(&world, &key).await, None);
    assert!(!put(&world, vec![set(&key, 1, b"x")]).await, "it does not exist");
    assert!(put(&world, vec![set(&key, 0, b"x")]).await);
    assert_eq!(get(&world, &key).await, Some((1, b"x".to_vec())));
    assert!(!put(&world, vec![set(&key, 0, b"y")]).await, "it exists");
    assert!(!put(&world, vec![set(&key, 2, b"y")]).await);
    let inactive = Put { active: false, ..set(&key, 1, b"y") };
    assert!(put(&world, vec![inactive]).await);
    let expected = Record { key: key.clone(), version: 2, active: false, value: Bytes::from_static(b"y") };
    assert_eq!(world.store.get(key.clone()).await.unwrap(), Some(expected));
    assert!(!put(&world, vec![remove(&key, 1)]).await);
    assert!(put(&world, vec![remove(&key, 2)]).await);
    assert_eq!(get(&world, &key).await, None);
}

pub(crate) async fn a_put_changes_all_or_nothing(mut world: World) {
    let [a, b, c] = [&b"a"[..], b"b", b"c"].map(named);
    assert!(put(&world, vec![set(&a, 0, b"1"), set(&b, 0, b"1")]).await);
    assert!(!put(&world, vec![set(&a, 1, b"2"), set(&c, 0, b"2"), remove(&b, 2)]).await);
    world.reopen().await;
    for key in [&a, &b] {
        assert_eq!(get(&world, key).await, Some((1, b"1".to_vec())));
    }
    assert_eq!(get(&world, &c).await, None);
    assert!(put(&world, vec![set(&a, 1, b"2"), set(&c, 0, b"2"), remove(&b, 1)]).await);
    world.reopen().await;
    assert_eq!(get(&world, &a).await, Some((2, b"2".to_vec())));
    assert_eq!((get(&world, &b).await, get(&world, &c).await), (None, Some((1, b"2".to_vec()))));
    assert!(put(&world, vec![]).await);
}

pub(crate) async fn a_put_sees_its_earlier_changes(world: World) {
    let key = named(b"a");
    assert!(!put(&world, vec![set(&key, 0, b"1"), set(&key, 0, b"2")]).await);
    assert_eq!(get(&world, &key).await, None);
    assert!(put(&world, vec![set(&key, 0, b"1"), set(&key, 1, b"2")]).await);
    assert_eq!(get(&world, &key).await, Some((2, b"2".to_vec())));
    assert!(put(&world, vec![remove(&key, 2), set(&key, 0, b"3")]).await);
    assert_eq!(get(&world, &key).await, Some((1, b"3".to_vec())));
}

pub(crate) async fn a_record_made_again_starts_at_version_one(world: World) {
    let key = named(b"a");
    assert!(put(&world, vec![set(&key, 0, b"1")]).await);
    assert!(put(&world, vec![set(&key, 1, b"2")]).await);
    assert!(put(&world, vec![remove(&key, 2)]).await);
    assert!(!put(&world, vec![set(&key, 2, b"3")]).await);
    assert!(put(&world, vec![set(&key, 0, b"3")]).await);
    assert_eq!(get(&world, &key).await, Some((1, b"3".to_vec())));
}

pub(crate) async fn records_are_listed_in_the_order_of_their_keys(mut world: World) {
    let mut keys: Vec<Vec<u8>> =
        vec![vec![], vec![0], vec![0, 0], vec![0, 1], vec![1], b"a".to_vec(), b"a\0".to_vec(), b"aa".to_vec()];
    keys.extend([b"b".to_vec(), vec![0xfe, 0xff], vec![0xff], vec![0xff; 256]]);
    for key in keys.iter().rev() {
        assert!(put(&world, vec![set(&named(key), 0, key)]).await);
    }
    world.reopen().await;
    for limit in [1, 5, 12, 100] {
        let (mut found, mut after): (Vec<Vec<u8>>, _) = (Vec::new(), None);
        loop {
            let page = world.store.list(RecordKind::ApplicationUid, None, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            assert!(page.iter().all(|record| record.key.key == record.value && record.version == 1));
            after = page.last().map(|record| record.key.key.clone());
            found.extend(page.into_iter().map(|record| record.key.key));
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, keys, "by {limit}");
    }
    let between = world.store.list(RecordKind::ApplicationUid, None, Some(b"a\0\0".to_vec()), 1).await.unwrap();
    assert_eq!(between[0].key.key, b"aa", "the key to start after need not exist");
}

pub(crate) async fn kinds_and_applications_have_their_own_records(mut world: World) {
    let edge = |byte| ApplicationId::from_bytes([byte; 16]);
    let applications = [None, Some(world.lane().application), Some(world.lane().application), Some(edge(0xff))];
    let all = || KINDS.into_iter().flat_map(|kind| applications.map(|application| (kind, application)));
    for (place, (kind, application)) in all().enumerate() {
        let key = RecordKey { kind, application, key: b"same".to_vec() };
        assert!(put(&world, vec![set(&key, 0, &[place as u8])]).await, "{key:?}");
    }
    for (place, (kind, application)) in all().enumerate() {
        let listed = world.store.list(kind, application, None, 10).await.unwrap();
        assert_eq!(listed.iter().map(|record| record.value.to_vec()).collect::<Vec<_>>(), [[place as u8]]);
        let key = RecordKey { kind, application, key: b"same".to_vec() };
        assert_eq!(get(&world, &key).await, Some((1, vec![place as u8])));
    }
}

pub(crate) async fn keys_and_values_read_back_byte_for_byte(mut world: World) {
    let values = [vec![], vec![0], (0..=255).collect(), "ünï 🦀".into(), vec![9; 100_000]];
    for (place, value) in values.iter().enumerate() {
        assert!(put(&world, vec![set(&named(&[place as u8, 0xff, 0]), 0, value)]).await);
    }
    world.reopen().await;
    for (place, value) in values.into_iter().enumerate() {
        assert!(get(&world, &named(&[place as u8, 0xff, 0])).await == Some((1, value)), "value {place}");
    }
}

pub(crate) async fn of_concurrent_changes_one_wins(world: World) {
    let key = named(b"a");
    let values: Vec<_> = (0..20).map(|value| vec![value]).collect();
    let won = join_all(values.iter().map(|value| put(&world, vec![set(&key, 0, value)]))).await;
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let winner = won.iter().position(|won| *won).unwrap();
    assert_eq!(get(&world, &key).await, Some((1, values[winner].clone())));
}
