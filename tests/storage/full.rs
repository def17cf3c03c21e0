//! A full store and a full disk: a clear refusal, nothing acknowledged lost, and on again without a restart.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ringback::store::Error as StoreError;
use ringback::{ApplicationId, Error, MessageId, NewMessage, Ringback, StateKind};

use crate::support::{Receiver, World, config, quick, run, until};

/// Sends 1,000 bytes at a time until there is no room.
async fn fill(world: &World) -> (Vec<MessageId>, String) {
    let mut accepted = Vec::new();
    for _ in 0..10_000 {
        let message = NewMessage::bytes("e", vec![b'x'; 1000]);
        match world.ringback.send(world.app, message).await {
            Ok(sent) => accepted.push(sent.id),
            Err(Error::Overloaded(why)) => return (accepted, why),
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("there is always room");
}

async fn refused_as_a_batch(world: &World) -> bool {
    let batch = vec![NewMessage::bytes("e", vec![b'x'; 1000]); 3];
    matches!(world.ringback.send_batch(world.app, batch).await, Err(Error::Overloaded(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_are_refused_while_too_much_waits_and_go_on_once_it_is_delivered() {
    let mut world = World::with(|config| config.max_open_bytes = 50_000).await;
    let receivers = [Receiver::answering(200).await, Receiver::answering(200).await];
    for receiver in &receivers {
        world.endpoint(quick(&receiver.url)).await;
    }
    let (accepted, why) = fill(&world).await;
    assert!(why.contains("wait"), "{why}");
    assert!((20..=26).contains(&accepted.len()), "{}: each counts for two endpoints", accepted.len());
    assert!(refused_as_a_batch(&world).await);
    assert_eq!(world.message_count().await, accepted.len(), "nothing that was refused is stored");
    world.reopen().await;
    assert!(refused_as_a_batch(&world).await, "also after a restart");
    world.run();
    world.all_ended(&accepted).await;
    let later = world.send("e", "{}").await;
    world.all_ended(&[later]).await;
    for receiver in &receivers {
        assert_eq!(receiver.count(), accepted.len() + 1);
    }
    until(async || world.ringback.health().await.unwrap().open_bytes == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_application_is_refused_alone_and_goes_on_once_it_is_delivered() {
    let mut world = World::with(|config| config.max_open_bytes_per_application = 10_000).await;
    let receivers = [Receiver::answering(200).await, Receiver::answering(200).await];
    for receiver in &receivers {
        world.endpoint(quick(&receiver.url)).await;
    }
    let other = world.ringback.create_application(ringback::NewApplication::named("Other")).await.unwrap().id;
    world.ringback.create_endpoint(other, quick(&receivers[0].url)).await.unwrap();
    let of = |bytes: usize| NewMessage::bytes("e", vec![b'x'; bytes]);
    let batch = vec![of(4_000), of(1_001), of(900), of(101), of(0), of(100)];
    let answers = world.ringback.send_batch(world.app, batch).await.unwrap();
    let taken: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, false, true, false, true, true], "{answers:?}");
    let Err(Error::ApplicationOverloaded(why)) = &answers[1] else { panic!("{answers:?}") };
    let expected = "this application has 8000 bytes waiting; this message adds 1001 for each of 2 endpoints, and the \
                    limit is 10000";
    assert_eq!(why, expected);
    let accepted: Vec<MessageId> = answers.into_iter().flatten().map(|sent| sent.id).collect();
    for _ in 0..2 {
        let answer = world.ringback.send(world.app, of(1)).await;
        assert!(matches!(answer, Err(Error::ApplicationOverloaded(_))), "{answer:?}");
        assert_eq!(world.message_count().await, accepted.len(), "nothing that was refused is stored");
        world.ringback.send(other, of(5_000)).await.unwrap();
        world.reopen().await;
    }
    world.run();
    world.all_ended(&accepted).await;
    let later = world.ringback.send(world.app, of(5_000)).await.unwrap().id;
    world.all_ended(&[later]).await;
    until(async || world.ringback.health().await.unwrap().open_bytes == 0).await;
    assert_eq!((receivers[0].count(), receivers[1].count()), (accepted.len() + 1 + 2, accepted.len() + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_are_refused_while_too_much_is_kept_and_go_on_once_it_is_pruned() {
    let mut world = World::with(|config| {
        config.max_kept_bytes = 50_000;
        config.keep_delivered = Duration::ZERO;
    })
    .await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let (accepted, why) = fill(&world).await;
    assert!(why.contains("kept"), "{why}");
    assert!((20..=50).contains(&accepted.len()));
    world.run();
    world.all_ended(&accepted).await;
    assert!(refused_as_a_batch(&world).await, "what was accepted is delivered all the same, but kept");
    until(async || world.ringback.prune().await.unwrap() == 0).await;
    assert_eq!(world.message_count().await, 0);
    let (again, _) = fill(&world).await;
    world.all_ended(&again).await;
    assert_eq!(receiver.count(), accepted.len() + again.len());
    assert!(again.len() * 2 >= accepted.len(), "the room is back: {} and {}", accepted.len(), again.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_expunged_makes_room_for_what_is_kept() {
    let mut world = World::with(|config| config.max_kept_bytes = 400_000).await;
    let large = async |world: &World| world.ringback.send(world.app, NewMessage::bytes("e", vec![b'x'; 90_000])).await;
    large(&world).await.unwrap();
    for _ in 0..20 {
        let id = large(&world).await.unwrap().id;
        // Twice: the room is counted once.
        world.ringback.expunge_message(world.app, id).await.unwrap();
        world.ringback.expunge_message(world.app, id).await.unwrap();
    }
    let mut last = None;
    for _ in 0..3 {
        last = Some(large(&world).await.unwrap().id);
    }
    for _ in 0..2 {
        let refused = large(&world).await;
        assert!(matches!(&refused, Err(Error::Overloaded(why)) if why.contains("kept")), "room for four: {refused:?}");
        world.reopen().await;
    }
    world.ringback.expunge_message(world.app, last.unwrap()).await.unwrap();
    large(&world).await.unwrap();
    assert!(large(&world).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_are_refused_while_the_disk_has_too_little_room() {
    let world = World::with(|config| config.min_free_bytes = u64::MAX).await;
    let answer = world.ringback.send(world.app, NewMessage::bytes("e", "{}")).await;
    assert!(matches!(&answer, Err(Error::Overloaded(why)) if why.contains("free on the disk")), "{answer:?}");
    assert_eq!(world.message_count().await, 0);
}

/// A small file system of its own, which only root can have.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mebibytes: u32) -> Option<SmallDisk> {
        let size = format!("size={mebibytes}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        match done {
            Ok(output) if output.status.success() => Some(SmallDisk(at.to_owned())),
            _ => {
                println!("left out: this user cannot mount a file system");
                None
            }
        }
    }

    /// Leaves this much room.
    fn fill(&self, leave: u64) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.0.join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length - leave).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn payload(n: usize) -> String {
    format!("{{\"n\":{n},\"fill\":\"{}\"}}", "x".repeat(20_000))
}

/// Sends until the disk fails; gives what was accepted.
async fn send_until_refused(ringback: &Ringback, app: ApplicationId) -> (Vec<(MessageId, String)>, Error) {
    let mut accepted = Vec::new();
    for n in 0..5_000 {
        match ringback.send(app, NewMessage::bytes("e", payload(n))).await {
            Ok(sent) => accepted.push((sent.id, payload(n))),
            Err(error) => return (accepted, error),
        }
    }
    panic!("the disk is never full");
}

async fn sends_again(ringback: &Ringback, app: ApplicationId) -> MessageId {
    for _ in 0..1500 {
        match ringback.send(app, NewMessage::bytes("e", "{}")).await {
            Ok(sent) => return sent.id,
            Err(Error::Storage(_) | Error::Overloaded(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("it does not go on");
}

async fn all_there(ringback: &Ringback, app: ApplicationId, accepted: &[(MessageId, String)]) {
    for (id, payload) in accepted {
        assert_eq!(ringback.message(app, *id).await.unwrap().payload, payload.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_that_was_acknowledged_and_is_got_over_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 48) else { return };
    let receiver = Receiver::answering(200).await;
    let mut config = config(&dir.path().join("store"));
    config.min_free_bytes = 0;
    let ringback = Ringback::open(config.clone()).await.unwrap();
    let app = ringback.create_application(ringback::NewApplication::named("Acme")).await.unwrap().id;
    let endpoint = ringback.create_endpoint(app, quick(&receiver.url)).await.unwrap().id;
    let running = run(&ringback);
    disk.fill(3 << 20);
    let (accepted, error) = send_until_refused(&ringback, app).await;
    assert!(matches!(error, Error::Storage(StoreError::Unavailable(_)) | Error::Overloaded(_)), "{error:?}");
    assert!(accepted.len() > 20, "{} were accepted before the disk failed", accepted.len());
    assert!(ringback.health().await.unwrap().failed.is_some());
    let refused = ringback.send(app, NewMessage::bytes("e", "{}")).await.unwrap_err();
    assert!(matches!(refused, Error::Storage(StoreError::Unavailable(_))), "{refused:?}");
    disk.empty();
    let later = sends_again(&ringback, app).await;
    assert_eq!(ringback.health().await.unwrap().failed, None);
    all_there(&ringback, app, &accepted).await;
    for id in accepted.iter().map(|(id, _)| *id).chain([later]) {
        until(async || ringback.deliveries(app, id).await.unwrap()[0].state.kind() == StateKind::Delivered).await;
    }
    ringback.shutdown().await.unwrap();
    running.await.unwrap();
    drop(ringback);

    let ringback = Ringback::open(config).await.unwrap();
    all_there(&ringback, app, &accepted).await;
    assert_eq!(ringback.endpoints(app).unwrap()[0].id, endpoint);
    assert_eq!(ringback.health().await.unwrap().open, 0);
    ringback.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_delivered_and_settled_although_there_is_no_room_for_more() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 64) else { return };
    let receiver = Receiver::answering(200).await;
    let mut config = config(&dir.path().join("store"));
    config.min_free_bytes = 24 << 20;
    let ringback = Ringback::open(config).await.unwrap();
    let app = ringback.create_application(ringback::NewApplication::named("Acme")).await.unwrap().id;
    ringback.create_endpoint(app, quick(&receiver.url)).await.unwrap();
    let (accepted, error) = send_until_refused(&ringback, app).await;
    assert!(matches!(error, Error::Overloaded(_)), "{error:?}");
    assert!(accepted.len() > 100);
    let running = run(&ringback);
    for (id, _) in &accepted {
        until(async || ringback.deliveries(app, *id).await.unwrap()[0].state.kind() == StateKind::Delivered).await;
    }
    assert_eq!(ringback.health().await.unwrap().failed, None);
    ringback.shutdown().await.unwrap();
    running.await.unwrap();
    drop(disk);
}
