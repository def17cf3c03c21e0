//! Promises of registered event types.

use ringback::{Error, NewEventType};
use serde_json::json;

use crate::support::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_types_are_there_after_a_restart_and_their_schemas_stay_in_the_store_s_log() {
    let mut world = World::open().await;
    let new = |number: usize| NewEventType {
        description: "what happened".into(),
        archived: number == 0,
        schemas: Some(json!({"1": {"type": "object", "description": "x".repeat(200_000 + number)}})),
        feature_flag: Some("beta".into()),
        ..NewEventType::named(format!("type.{number:02}"))
    };
    for number in 0..20 {
        world.ringback.create_event_type(new(number)).await.unwrap();
    }
    world.ringback.delete_event_type("type.07").await.unwrap();
    let (changed, made) = world.ringback.put_event_type(NewEventType::named("type.08")).await.unwrap();
    assert!(!made && changed.schemas.is_none() && changed.created_at < changed.updated_at);
    let before = world.ringback.event_types();
    assert_eq!(before.len(), 19);
    world.reopen().await;
    assert_eq!(world.ringback.event_types(), before);
    assert_eq!(world.ringback.event_type("type.07"), Err(Error::NotFound("event type")));
    assert_eq!(world.ringback.health().await.unwrap().warnings, [""; 0]);
    world.send("type.99", "{}").await;
}
