//! Bodies: as given, wrapped, flat; and the vendors' typed events as their receivers get them.

use ringback::levers::{CallOutput, PassFail, PhoneCallEnded};
use ringback::levrage::{CallEnded, CallStatus, Direction};
use ringback::profile::BodyMode;
use ringback::subverse::{CallData, CallEvent, CallEventType, WorkflowData, WorkflowEvent, WorkflowEventType};
use ringback::{NewMessage, Profile, Secret, StateKind, Timestamp, signature};
use serde_json::{Value, json};

use crate::support::{Receiver, World, quick};

fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_as_given_arrives_byte_for_byte_with_its_content_type() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let json = "application/json";
    let bytes = "application/octet-stream";
    let rows: [(&[u8], &str); 8] = [
        (b"{\"a\": 1.0,  \"a\": 2}", json),
        (b" [1,2 ] ", json),
        (b"null", json),
        (b"", bytes),
        (b"plain text", bytes),
        (b"{\"a\":1} trailing", bytes),
        (b"\xff\x00\r\n\r\n", bytes),
        (b"\"\\ud83d\\ude00\"", json),
    ];
    for (place, (payload, content_type)) in rows.into_iter().enumerate() {
        let sent = world.ringback.send(world.app, NewMessage::bytes("test.happened", payload)).await.unwrap().id;
        receiver.wait_for(place + 1).await;
        let request = receiver.received().pop().unwrap();
        assert_eq!(request.body, payload);
        assert_eq!(request.header("content-type"), Some(content_type), "{payload:?}");
        let message = world.ringback.message(world.app, sent).await.unwrap();
        assert_eq!((&message.payload[..], message.json), (payload, content_type == json));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_payload_arrives_whole_also_when_it_is_read_back_from_the_store() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let payload: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let sent = world.ringback.send(world.app, NewMessage::bytes("test.happened", payload.clone())).await.unwrap().id;
    world.reopen().await;
    world.run();
    assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered);
    assert!(receiver.received()[0].body == payload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superset_body_has_the_flat_members_and_the_envelope() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url).profile("levers").body(BodyMode::Superset)).await;
    for (count, payload) in ["{\"providerCallId\":\"c\",\"duration\":53.0}", " {} "].into_iter().enumerate() {
        world.send("phone_call.ended", payload).await;
        receiver.wait_for(count + 1).await;
        let body = json_of(&receiver.received()[count].body);
        let data: Value = serde_json::from_str(payload).unwrap();
        let mut expected = data.clone();
        expected["type"] = "phone_call.ended".into();
        expected["timestamp"] = body["timestamp"].clone();
        expected["data"] = data;
        assert_eq!(body, expected);
        assert!(body["timestamp"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }
    assert!(String::from_utf8_lossy(&receiver.received()[0].body).contains("53.0"), "numbers keep their form");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envelope_s_time_is_the_message_s_and_the_same_on_every_attempt() {
    let world = World::running().await;
    let receiver = Receiver::answering(500).await;
    world.endpoint(quick(&receiver.url).profile("levrage")).await;
    let sent = world.send("CALL_ENDED", "{}").await;
    assert_eq!(world.ended(sent).await.kind(), StateKind::Dead);
    let message = world.ringback.message(world.app, sent).await.unwrap();
    for request in receiver.received() {
        let expected = json!({"event": "CALL_ENDED", "timestamp": message.accepted_at, "data": {}});
        assert_eq!(json_of(&request.body), expected);
    }
}

fn levers_event() -> PhoneCallEnded {
    PhoneCallEnded {
        number_from: "+15074106928".into(),
        duration: 53,
        ..PhoneCallEnded::new(
            "call-1",
            PassFail::Pass,
            CallOutput::PaymentPromise,
            ringback::levers::Sentiment::Neutral,
        )
    }
}

fn levrage_event() -> CallEnded {
    CallEnded {
        agent_id: "agent_7".into(),
        duration_minutes: 3.0,
        ended_at: Some("2025-01-15T10:30:00Z".parse().unwrap()),
        ..CallEnded::new("call_1", CallStatus::Completed, Direction::Outbound)
    }
}

fn subverse_events() -> (CallEvent, WorkflowEvent) {
    let call = CallData { call_id: "c1".into(), agent_id: "agent_123".into(), ..CallData::default() };
    let mut call = CallEvent::new(CallEventType::Completed, call);
    call.created_at = Some("2025-12-08T10:30:00Z".parse().unwrap());
    let workflow = WorkflowData { workflow_id: "wf_456".into(), ..WorkflowData::default() };
    (call, WorkflowEvent::new(WorkflowEventType::NodeExecution, workflow))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_events_arrive_as_the_vendors_receivers_read_and_verify_them() {
    let world = World::running().await;
    let levers = Receiver::answering(200).await;
    let levrage = Receiver::answering(200).await;
    let subverse = Receiver::answering(200).await;
    let at_levers = world.endpoint(quick(&levers.url).profile("levers").event_type("phone_call.ended")).await;
    let at_levrage = quick(&levrage.url).profile("levrage").secret("whsec_abc").event_type("CALL_ENDED");
    world.endpoint(at_levrage.channel("agent:agent_7")).await;
    let at_subverse = quick(&subverse.url).profile("subverse").event_type("call.*").event_type("workflow.*");
    world.endpoint(at_subverse.channel("agent:agent_123").channel("workflow:wf_456")).await;
    let (call, workflow) = subverse_events();
    for message in [
        NewMessage::from(levers_event()),
        NewMessage::from(levrage_event()),
        NewMessage::from(call.clone()),
        NewMessage::from(workflow.clone()),
    ] {
        let sent = world.ringback.send(world.app, message).await.unwrap().id;
        assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered);
    }

    let request = &levers.received()[0];
    let body = json_of(&request.body);
    assert_eq!(body["type"], "phone_call.ended");
    assert_eq!(body["data"], serde_json::to_value(levers_event()).unwrap());
    let secret = world.ringback.endpoint_secret(world.app, at_levers.id).unwrap().unwrap();
    verified("levers", secret, request);

    let request = &levrage.received()[0];
    let body = json_of(&request.body);
    assert_eq!(body["event"], "CALL_ENDED");
    assert_eq!(body["timestamp"], "2025-01-15T10:30:00Z", "the call's end is the event's time");
    assert_eq!(body["data"], serde_json::to_value(levrage_event()).unwrap());
    verified("levrage", "whsec_abc".into(), request);

    let received = subverse.received();
    assert_eq!(received.len(), 2);
    assert_eq!(json_of(&received[0].body), serde_json::to_value(call).unwrap(), "the event's form is the whole body");
    let body = json_of(&received[1].body);
    assert_eq!((&body["eventType"], &body["data"]), (&json!("workflow.node_execution"), &json!(workflow.data)));
    assert_eq!((levers.count(), levrage.count()), (1, 1));
}

fn verified(profile: &str, secret: Secret, request: &crate::support::Received) {
    let profile = Profile::builtin(profile).unwrap();
    let now = Timestamp::ZERO + std::time::UNIX_EPOCH.elapsed().unwrap();
    let tolerance = std::time::Duration::from_secs(300);
    let header = |name: &str| request.header(name);
    let accepted = signature::verify(&profile, &[secret], header, "", &request.body, now, tolerance);
    assert_eq!(accepted, Ok(()));
}
