//! What is erased is gone for good: from the log, from what waits, from what is found by its keys, and from the files.

use std::path::Path;
use std::sync::Arc;

use ringback::{Erase, EraseStatus, Erasing, Error, MessageId, NewApplication, NewMessage};
use tokio::sync::Semaphore;

use crate::support::{Behaviour, Receiver, World, quick, retries, until};

/// Whether some bytes stand anywhere in the files of a folder.
fn stand_in(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().map(Result::unwrap).any(|entry| match entry.file_type().unwrap().is_dir() {
        true => stand_in(&entry.path(), bytes),
        false => std::fs::read(entry.path()).unwrap().windows(bytes.len()).any(|window| window == bytes),
    })
}

async fn tagged(world: &World, tag: &str, payload: &str) -> MessageId {
    let message = NewMessage::bytes("e", payload.to_owned()).tag(tag).idempotency_key(format!("{tag} {payload}"));
    world.ringback.send(world.app, message).await.unwrap().id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_has_a_tag_is_erased_although_the_process_was_started_anew() {
    let mut world = World::open().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let slow = Receiver::start(move |_, _| Behaviour::Hold(Arc::clone(&held), 500)).await;
    world.endpoint(quick(&slow.url).retry(retries(&[600_000]))).await;
    let mut mine = Vec::new();
    for number in 0..450 {
        mine.push(tagged(&world, "user:1", &format!(r#""a secret of one {number}""#)).await);
    }
    let other = tagged(&world, "user:2", r#""of two""#).await;
    let tag = Erase::Tag("user:1".into());
    assert_eq!(world.ringback.preview_erase(world.app, &tag).await, Ok(450));
    world.run();
    slow.wait_for(3).await;
    let job = world.ringback.start_erase(world.app, tag).await.unwrap();
    assert_eq!((job.what, job.status, job.message), (Erasing::Tag, EraseStatus::Running, None));
    until(async || world.ringback.erase_job(job.id).await.unwrap().messages > 0).await;
    // Attempts are on their way: it cannot be done yet.
    world.abort().await;
    world.reopen().await;
    let later = tagged(&world, "user:1", r#""sent after it""#).await;
    assert_eq!(world.ringback.erase_job(job.id).await.unwrap().status, EraseStatus::Running);
    gate.add_permits(10_000);
    world.run();
    until(async || world.ringback.erase_job(job.id).await.unwrap().status == EraseStatus::Finished).await;
    for message in &mine {
        assert_eq!(world.ringback.message(world.app, *message).await.unwrap_err(), Error::NotFound("message"));
    }
    for message in [other, later] {
        assert!(!world.ringback.message(world.app, message).await.unwrap().payload.is_empty());
    }
    let folder = world.config.path.clone();
    assert!(stand_in(&folder, b"a secret of one 7\""), "in the free space");
    world.ringback.compact().await.unwrap();
    assert!(!stand_in(&folder, b"a secret of one") && stand_in(&folder, b"sent after it"));
    let again = tagged(&world, "user:1", r#""a secret of one 0""#).await;
    assert!(!mine.contains(&again), "its idempotency key is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_erased_application_nothing_is_left() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    let new = NewApplication::named("very-own-name").uid("mine");
    let app = world.ringback.create_application(new.clone()).await.unwrap().id;
    world.ringback.create_endpoint(app, quick(&receiver.url).uid("very-own-endpoint")).await.unwrap();
    let token = world.ringback.issue_token(app, std::time::Duration::from_secs(60), None).await.unwrap();
    for _ in 0..3 {
        world.ringback.send(app, NewMessage::bytes("e", r#""very-own-payload""#)).await.unwrap();
    }
    let kept = world.send("e", r#""of another""#).await;
    world.run();
    receiver.wait_for(3).await;
    world.ringback.send(app, NewMessage::bytes("e", r#""very-own-payload""#)).await.unwrap();
    let job = world.ringback.start_erase(app, Erase::Application).await.unwrap();
    let job = world.ringback.finish_erasing(job.id).await.unwrap();
    assert_eq!((job.status, job.messages, job.what), (EraseStatus::Finished, 4, Erasing::Application));
    assert_eq!(world.ringback.application(app), Err(Error::NotFound("application")));
    assert_eq!(world.ringback.authenticate(token.secret.expose()), None);
    world.ringback.compact().await.unwrap();
    for bytes in ["very-own-payload", "very-own-name", "very-own-endpoint"] {
        assert!(!stand_in(&world.config.path, bytes.as_bytes()), "{bytes}");
    }
    assert!(!world.ringback.message(world.app, kept).await.unwrap().payload.is_empty());
    world.reopen().await;
    assert_eq!(world.ringback.application(app), Err(Error::NotFound("application")));
    assert_ne!(world.ringback.create_application(new).await.unwrap().id, app, "its uid is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_is_erased_where_nothing_runs_and_what_is_not_there_is_refused() {
    let world = World::open().await;
    let message = world.send("e", "{}").await;
    let job = world.ringback.start_erase(world.app, Erase::Message(message)).await.unwrap();
    assert!(world.ringback.message(world.app, message).await.is_ok(), "nobody has got on with it");
    assert_eq!(world.ringback.finish_erasing(job.id).await.unwrap().messages, 1);
    let again = world.ringback.start_erase(world.app, Erase::Message(message)).await;
    assert_eq!(again, Err(Error::NotFound("message")));
    for tag in ["", "a\nb", &"x".repeat(129)] {
        let refused = world.ringback.start_erase(world.app, Erase::Tag(tag.into())).await;
        assert!(matches!(&refused, Err(Error::Invalid(invalid)) if invalid.field() == "tag"), "{refused:?}");
    }
}
