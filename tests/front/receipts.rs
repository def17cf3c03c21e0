//! Promises of receipts, over the real store.

use std::time::Duration;

use ringback::{Error, Receipt};

use crate::support::{World, until};

async fn receipt(world: &World, key: &str) -> Result<Receipt, Error> {
    world.ringback.receipt(Some(world.app), "create endpoint", key, [1; 32]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_an_answer_is_given_again_and_what_never_ended_is_not_done_again() {
    let mut world = World::open().await;
    let answer = vec![b'x'; 50_000];
    let Ok(Receipt::Fresh(pending)) = receipt(&world, "answered").await else { panic!() };
    pending.answered(answer.clone().into()).await.unwrap();
    let Ok(Receipt::Fresh(pending)) = receipt(&world, "refused").await else { panic!() };
    pending.refused().await.unwrap();
    let Ok(Receipt::Fresh(pending)) = receipt(&world, "begun").await else { panic!() };
    assert!(matches!(receipt(&world, "begun").await, Err(Error::Conflict(what)) if what.contains("worked on")));
    world.reopen().await;
    drop(pending);

    let Ok(Receipt::Answered(again)) = receipt(&world, "answered").await else { panic!() };
    assert!(again == answer);
    let other = world.ringback.receipt(Some(world.app), "create endpoint", "answered", [2; 32]).await;
    assert_eq!(other.unwrap_err(), Error::IdempotencyConflict);
    assert!(matches!(receipt(&world, "begun").await, Err(Error::Conflict(what)) if what.contains("not known")));
    assert!(matches!(receipt(&world, "refused").await, Ok(Receipt::Fresh(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_be_used_anew_once_its_window_is_over() {
    let mut world = World::with(|config| {
        config.idempotency_window = Duration::from_millis(300);
        config.prune_every = Duration::from_millis(50);
    })
    .await;
    world.run();
    let Ok(Receipt::Fresh(pending)) = receipt(&world, "k").await else { panic!() };
    pending.answered("first".into()).await.unwrap();
    assert!(matches!(receipt(&world, "k").await, Ok(Receipt::Answered(_))));
    until(async || matches!(receipt(&world, "k").await, Ok(Receipt::Fresh(_)))).await;
}
