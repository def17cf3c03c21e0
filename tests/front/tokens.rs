//! Promises of tokens, over the real store.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ringback::{Config, Ringback};

use crate::support::World;

/// Whether any file below holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => holds(&path, bytes),
        false => fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_speak_for_their_application_after_a_restart_and_no_file_has_them() {
    let mut world = World::open().await;
    let lifetime = Duration::from_secs(3600);
    let kept = world.ringback.issue_token(world.app, lifetime, Some("kept token".into())).await.unwrap();
    let revoked = world.ringback.issue_token(world.app, lifetime, None).await.unwrap();
    assert_eq!(world.ringback.revoke_presented(revoked.secret.expose()).await, Ok(true));
    let listed = world.ringback.tokens(world.app).unwrap();
    world.reopen().await;
    assert_eq!(world.ringback.tokens(world.app).unwrap(), listed);
    assert_eq!(listed[0].id, kept.id);
    let who = |ringback: &Ringback| [&kept, &revoked].map(|token| ringback.authenticate(token.secret.expose()));
    assert_eq!(who(&world.ringback), [Some(world.app), None]);
    world.stop().await;
    assert!(holds(world.dir.path(), b"kept token") && !holds(world.dir.path(), &kept.secret.expose().as_bytes()[4..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_have_expired_are_removed_by_the_chores() {
    let mut world = World::with(|config: &mut Config| config.prune_every = Duration::from_millis(50)).await;
    let gone = world.ringback.issue_token(world.app, Duration::from_secs(1), None).await.unwrap();
    world.run();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(world.ringback.authenticate(gone.secret.expose()), None);
    assert_eq!(world.ringback.revoke_presented(gone.secret.expose()).await, Ok(false), "nothing is left of it");
}
