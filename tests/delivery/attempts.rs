//! What stays and what changes over the attempts of a message; profiles, signatures, headers.

use std::time::Duration;

use ringback::signature::verify;
use ringback::{EndpointSettings, NewEndpoint, NewMessage, Profile, Schedule, Secret, StateKind, Timestamp, Trigger};

use crate::support::{Behaviour, Received, Receiver, World, quick, retries};

/// Verifies a request as a receiver does, with its own clock.
fn check(profile: &Profile, secrets: &[Secret], url: &str, request: &Received) -> bool {
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap();
    let now = Timestamp::ZERO + since_1970;
    verify(profile, secrets, |name| request.header(name), url, &request.body, now, Duration::from_secs(300)).is_ok()
}

fn builtin(name: &str) -> Profile {
    Profile::builtin(name).unwrap()
}

#[test]
fn the_profiles_keep_their_vendors_timeouts_and_schedules() {
    let seconds = |list: &[u64]| Schedule::Delays(list.iter().copied().map(Duration::from_secs).collect());
    let three = seconds(&[1, 5, 25]);
    let svix = seconds(&[5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600]);
    let rows = [
        ("levers", 30, three.clone(), 0.0),
        ("levrage", 10, three.clone(), 0.0),
        ("subverse", 5, three, 0.0),
        ("svix", 15, svix.clone(), 0.2),
        ("standard-webhooks", 15, svix, 0.2),
    ];
    for (name, timeout, schedule, jitter) in rows {
        let settings = EndpointSettings { profile: name.into(), ..EndpointSettings::at("https://a.example/") };
        let profile = settings.resolve_profile().unwrap();
        assert_eq!(profile.timeout(), Duration::from_secs(timeout), "{name}");
        assert_eq!((profile.retry.schedule, profile.retry.jitter), (schedule, jitter), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attempt_has_the_same_id_and_bytes_its_own_number_and_a_fresh_timestamp() {
    let world = World::running().await;
    let receiver = Receiver::answering(500).await;
    let endpoint = NewEndpoint::at(&receiver.url).profile("levers").retry(retries(&[600, 600]));
    let endpoint = world.endpoint(endpoint).await;
    let secret = world.ringback.endpoint_secret(world.app, endpoint.id).unwrap().unwrap();
    let sent = world.send("phone_call.ended", r#"{ "n": 3.0, "n2": 1e2,"u":"\u00e9" }"#).await;
    assert_eq!(world.ended(sent).await.kind(), StateKind::Dead);
    let received = receiver.received();
    assert_eq!(received.len(), 3);
    let mut timestamps = Vec::new();
    for request in &received {
        assert_eq!(request.header("svix-id"), Some(sent.to_string().as_str()));
        assert_eq!(request.body, received[0].body);
        assert!(check(&builtin("levers"), std::slice::from_ref(&secret), &receiver.url, request));
        timestamps.push(request.header("svix-timestamp").unwrap().parse::<u64>().unwrap());
    }
    assert!(received[0].body.ends_with(br#""data":{ "n": 3.0, "n2": 1e2,"u":"\u00e9" }}"#));
    assert!(timestamps.is_sorted());
    assert!(timestamps[2] > timestamps[0], "{timestamps:?}: more than a second lies between them");
    let numbered: Vec<_> = world.attempts(sent).await.iter().map(|a| (a.number, a.round, a.trigger)).collect();
    assert_eq!(numbered, [(1, 1, Trigger::First), (2, 1, Trigger::Retry), (3, 1, Trigger::Retry)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_keys_sign_while_they_are_rotated_and_a_revoked_one_at_once_no_more() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = world.endpoint(quick(&receiver.url).profile("standard-webhooks")).await.id;
    let rotate = async |grace| world.ringback.rotate_secret(world.app, endpoint, None, grace).await.unwrap();
    let hour = Duration::from_secs(3600);
    let first = world.ringback.endpoint_secret(world.app, endpoint).unwrap().unwrap();
    world.send("test.happened", "1").await;
    receiver.wait_for(1).await;
    let second = rotate(hour).await;
    let third = rotate(hour).await;
    world.send("test.happened", "2").await;
    receiver.wait_for(2).await;
    let fourth = rotate(Duration::ZERO).await;
    world.send("test.happened", "3").await;
    receiver.wait_for(3).await;
    assert_eq!(world.ringback.endpoint_secret(world.app, endpoint).unwrap(), Some(fourth.clone()));
    let signed: Vec<Vec<bool>> = receiver
        .received()
        .iter()
        .map(|request| {
            let by =
                |key: &Secret| check(&builtin("standard-webhooks"), std::slice::from_ref(key), &receiver.url, request);
            [&first, &second, &third, &fourth].map(by).to_vec()
        })
        .collect();
    assert_eq!(signed[0], [true, false, false, false]);
    assert_eq!(signed[1], [true, true, true, false]);
    assert_eq!(signed[2], [false, false, false, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_carries_a_signature_of_a_key_that_was_revoked_before_it_was_made() {
    // One at a time, so that one request at most is on its way when a key is revoked.
    let mut world = World::with(|config| config.max_in_flight_per_endpoint = 1).await;
    let receiver = Receiver::start(|_, before| Behaviour::Answer(if before % 2 == 0 { 500 } else { 200 })).await;
    let endpoint = world.endpoint(quick(&receiver.url).retry(retries(&[1; 12]))).await.id;
    let first = world.ringback.endpoint_secret(world.app, endpoint).unwrap().unwrap();
    let messages = world.send_many(120).await;
    world.run();
    let mut keys = vec![(0, first)];
    for rotation in 1..=5 {
        receiver.wait_for(rotation * 30).await;
        let made = world.ringback.rotate_secret(world.app, endpoint, None, Duration::ZERO).await.unwrap();
        keys.push((receiver.count(), made));
    }
    world.all_ended(&messages).await;
    let received = receiver.received();
    assert!(received.len() > keys[5].0 + 30, "many came after the last one: {} {}", received.len(), keys[5].0);
    for (place, request) in received.iter().enumerate() {
        let signs = |key: &Secret| check(&builtin("svix"), std::slice::from_ref(key), &receiver.url, request);
        let by: Vec<usize> = (0..keys.len()).filter(|key| signs(&keys[*key].1)).collect();
        assert_eq!(by.len(), 1, "request {place} is signed by one key");
        // From the second request after the revocation returned on, no older key.
        let least = keys.iter().rposition(|(count, _)| place > *count).unwrap_or(0);
        assert!(by[0] >= least, "request {place} is signed by key {} and not by {least}", by[0]);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_rotated_out_signs_until_its_grace_is_over_and_not_after() {
    let mut world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = world.endpoint(quick(&receiver.url)).await.id;
    let old = world.ringback.endpoint_secret(world.app, endpoint).unwrap().unwrap();
    let grace = Duration::from_secs(2);
    let start = std::time::UNIX_EPOCH.elapsed().unwrap();
    let new = world.ringback.rotate_secret(world.app, endpoint, None, grace).await.unwrap();
    let mut ended = 0;
    for count in 1..2_000 {
        world.send("test.happened", "1").await;
        let request = receiver.expect(count).await.pop().unwrap();
        let by = |key: &Secret| check(&builtin("svix"), std::slice::from_ref(key), &receiver.url, &request);
        assert!(by(&new));
        if by(&old) {
            assert_eq!(ended, 0, "an old key signs again");
        } else {
            assert!(std::time::UNIX_EPOCH.elapsed().unwrap() - start >= grace, "not before");
            ended += 1;
        }
        if ended == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ended, 5);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_holds_for_the_next_attempt_also_while_an_earlier_one_is_on_its_way() {
    let world = World::running().await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let held = std::sync::Arc::clone(&gate);
    let old = Receiver::start(move |_, _| Behaviour::Hold(std::sync::Arc::clone(&held), 200)).await;
    let new = Receiver::answering(200).await;
    let endpoint = world.endpoint(quick(&old.url)).await.id;
    world.send("test.happened", "1").await;
    old.wait_for(1).await;
    let changed = quick(&new.url).header("X-Version", "2");
    world.ringback.update_endpoint(world.app, endpoint, changed).await.unwrap();
    let secret = world.ringback.rotate_secret(world.app, endpoint, None, Duration::ZERO).await.unwrap();
    let sent = world.send("test.happened", "2").await;
    world.ended(sent).await;
    gate.add_permits(2);
    assert_eq!((old.count(), new.count()), (1, 1), "the new URL is called");
    let request = &new.received()[0];
    assert_eq!(request.header("x-version"), Some("2"));
    assert!(check(&builtin("svix"), &[secret], &new.url, request), "the new key signs, and it alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_headers_arrive_beside_ours() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = quick(&receiver.url)
        .profile("subverse")
        .event_type("call.*")
        .header("Authorization", "Bearer token-1")
        .header("X-Client-ID", "client 7")
        .header("User-Agent", "acme/1");
    world.endpoint(endpoint).await;
    world.send("call.placed", "{}").await;
    receiver.wait_for(1).await;
    let request = &receiver.received()[0];
    assert_eq!(request.header("authorization"), Some("Bearer token-1"));
    assert_eq!(request.header("x-client-id"), Some("client 7"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    for name in ["content-type", "content-length", "host", "authorization", "user-agent"] {
        let count = request.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count();
        assert_eq!(count, 1, "{name}");
    }
    assert_eq!(request.header("svix-signature"), None, "subverse signs nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_written_as_json_is_sent_by_to_the_letter() {
    let world = World::running().await;
    let receiver = Receiver::start(|_, before| Behaviour::Answer([500, 202][before.min(1)])).await;
    let settings: EndpointSettings = serde_json::from_value(serde_json::json!({
        "url": receiver.url,
        "profile": {
            "name": "acme",
            "signing": {
                "secret": "required",
                "keys": [{"kind": "hmac-sha512", "prefix": "acme_", "form": "raw", "encoding": "base64url",
                          "format": "d={sig}"}],
                "content": "{ts_ms}.{id}.{method}.{url}.{body}",
                "join": ",",
                "headers": [{"name": "X-Acme-Signature", "value": "t={ts_ms};{sig}"},
                            {"name": "X-Acme-Event", "value": "{id}"}],
            },
            "body": "envelope",
            "envelope": {"eventType": "kind", "timestamp": "at", "data": "payload"},
            "timeoutMs": 9000,
            "retry": {"delaysMs": [20], "jitter": 0.0},
            "success": {"from": 202, "to": 202},
        },
    }))
    .unwrap();
    let profile = settings.resolve_profile().unwrap();
    let new = NewEndpoint::from(settings).secret("acme_topsecret");
    world.endpoint(new).await;
    let at: Timestamp = "2026-01-31T08:30:00Z".parse().unwrap();
    let message = NewMessage::bytes("acme.made", "[1, 2]").occurred_at(at);
    let sent = world.ringback.send(world.app, message).await.unwrap().id;
    assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered);
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    for request in received {
        let body = br#"{"kind":"acme.made","at":"2026-01-31T08:30:00Z","payload":[1, 2]}"#;
        assert_eq!(request.body, body);
        assert_eq!(request.header("X-Acme-Event"), Some(sent.to_string().as_str()));
        assert!(check(&profile, &["acme_topsecret".into()], &receiver.url, &request));
        assert!(!check(&profile, &["acme_other".into()], &receiver.url, &request));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levrage_signs_with_its_newest_key_alone_and_not_at_all_without_one() {
    let world = World::running().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = world.endpoint(quick(&receiver.url).profile("levrage")).await.id;
    world.send("CALL_ENDED", "{}").await;
    receiver.wait_for(1).await;
    let day = Duration::from_secs(86_400);
    for secret in ["whsec_one", "whsec_two"] {
        world.ringback.rotate_secret(world.app, endpoint, Some(secret.into()), day).await.unwrap();
    }
    world.send("CALL_ENDED", "{}").await;
    receiver.wait_for(2).await;
    let received = receiver.received();
    assert_eq!(received[0].header("x-levrage-signature"), None);
    assert!(check(&builtin("levrage"), &["whsec_two".into()], &receiver.url, &received[1]));
    assert!(!check(&builtin("levrage"), &["whsec_one".into()], &receiver.url, &received[1]));
    assert_eq!(received[1].header("x-levrage-signature").unwrap().len(), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exponential_schedule_of_an_endpoint_is_kept() {
    let world = World::running().await;
    let receiver = Receiver::answering(500).await;
    let settings: EndpointSettings = serde_json::from_value(serde_json::json!({
        "url": receiver.url,
        "retry": {"exponential": {"initialMs": 40, "multiplier": 2.0, "maxIntervalMs": 100, "retries": 3}, "jitter": 0.0},
    }))
    .unwrap();
    world.endpoint(settings.into()).await;
    let sent = world.send("test.happened", "{}").await;
    assert_eq!(world.ended(sent).await.kind(), StateKind::Dead);
    let attempts = world.attempts(sent).await;
    let pauses: Vec<Duration> =
        attempts.windows(2).map(|pair| pair[1].started_at.since(pair[0].started_at + pair[0].timing.total())).collect();
    assert_eq!(pauses.len(), 3);
    for (pause, least) in pauses.into_iter().zip([40, 80, 100]) {
        assert!(pause >= Duration::from_millis(least), "{pause:?} < {least}");
    }
}
