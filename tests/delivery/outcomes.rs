//! What a receiver does, and what becomes of the delivery.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use ringback::{DeadReason, Failure, NewEndpoint, Outcome, RetryPolicy, State, StateKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Behaviour, Receiver, World, retries, until};

/// How a delivery stands after its first attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Delivered,
    Waits,
    Dead(DeadReason),
}

use After::*;

impl After {
    fn of(state: State) -> Option<Self> {
        match state {
            State::Delivered { .. } => Some(Delivered),
            State::Waiting { .. } => Some(Waits),
            State::Dead { reason, .. } => Some(Dead(reason)),
            State::Held { .. } | State::Leased { .. } | State::Canceled { .. } => None,
        }
    }
}

/// A receiver, the outcome that it makes, what follows under `svix` and under `subverse`, and a word of the hint.
type Row = (String, Outcome, After, After, Option<&'static str>);

fn answered(status: u16) -> Outcome {
    Outcome::answered(status)
}

/// A port that nothing listens at.
async fn closed_port() -> u16 {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    // Bound for good and never listening: no receiver of another test can be given the port meanwhile.
    std::mem::forget(socket);
    port
}

/// A receiver that answers with these bytes, whatever it is asked.
async fn raw(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = connection.read(&mut [0; 4096]).await;
                let _ = connection.write_all(answer).await;
            });
        }
    });
    url
}

async fn rows() -> Vec<Row> {
    let refused = Dead(DeadReason::Refused);
    let answers = [
        (200, Delivered, Delivered, None),
        (204, Delivered, Delivered, None),
        (301, Waits, refused, Some("redirect")),
        (400, Waits, refused, Some("secret")),
        (401, Waits, refused, Some("secret")),
        (404, Waits, refused, Some("URL")),
        (408, Waits, refused, Some("waiting")),
        (410, Dead(DeadReason::Gone), Dead(DeadReason::Gone), Some("gone")),
        (425, Waits, refused, Some("its logs")),
        (429, Waits, refused, Some("less often")),
        (500, Waits, Waits, Some("failed")),
        (503, Waits, Waits, Some("proxy")),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for (status, svix, subverse, hint) in answers {
        rows.push((Receiver::answering(status).await.url, answered(status), svix, subverse, hint));
    }
    let nothing = closed_port().await;
    let failures = [
        (Receiver::start(|_, _| Behaviour::Hang(Duration::from_secs(60))).await.url, Failure::Timeout, "time limit"),
        (format!("http://127.0.0.1:{nothing}/hook"), Failure::Refused, "listens"),
        ("http://receiver.invalid/hook".to_owned(), Failure::Dns, "resolve"),
        (raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.replace("http:", "https:"), Failure::Tls, "TLS"),
        (Receiver::start(|_, _| Behaviour::Close).await.url, Failure::Reset, "closed"),
        (raw(b"220 mail.example ESMTP\r\n").await, Failure::Protocol, "HTTP"),
    ];
    for (url, failure, hint) in failures {
        rows.push((url, Outcome::Failed(failure), Waits, Waits, Some(hint)));
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_is_logged_with_its_consequence_and_its_hint() {
    for profile in ["svix", "subverse"] {
        let world = World::running().await;
        let rows = rows().await;
        for (url, ..) in &rows {
            let hangs = rows.iter().any(|row| row.0 == *url && row.1 == Outcome::Failed(Failure::Timeout));
            let limit = Duration::from_millis(if hangs { 300 } else { 20_000 });
            let endpoint = NewEndpoint::at(url).profile(profile).event_type("call.placed").timeout(limit);
            world.endpoint(endpoint.retry(retries(&[600_000]))).await;
        }
        let sent = world.send("call.placed", "{}").await;
        until(async || world.attempts(sent).await.len() == rows.len()).await;
        let deliveries = world.deliveries(sent).await;
        let attempts = world.attempts(sent).await;
        for ((url, outcome, svix, subverse, hint), delivery) in rows.iter().zip(&deliveries) {
            let attempt = attempts.iter().find(|attempt| attempt.delivery == delivery.id).unwrap();
            let expected = if profile == "svix" { svix } else { subverse };
            assert_eq!(attempt.url, *url);
            assert_eq!(attempt.outcome, *outcome, "{profile} {url}");
            assert_eq!(After::of(delivery.state), Some(*expected), "{profile} {outcome:?}");
            assert_eq!(attempt.result, delivery.state.kind(), "{profile} {outcome:?}");
            assert_eq!(attempt.response.is_some(), matches!(outcome, Outcome::Answered { .. }));
            assert_eq!(attempt.hint().is_some(), hint.is_some(), "{profile} {outcome:?}");
            assert!(attempt.hint().unwrap_or_default().contains(hint.unwrap_or_default()), "{outcome:?}");
            if let State::Waiting { due } = delivery.state {
                assert!(due >= attempt.started_at + Duration::from_secs(600), "{outcome:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_not_followed() {
    let world = World::running().await;
    let elsewhere = Receiver::answering(200).await;
    let to = elsewhere.url.clone();
    let redirecting = Receiver::start(move |_, before| {
        Behaviour::AnswerWith([301, 302, 303, 307, 308][before % 5], vec![("Location", to.clone())], Vec::new())
    })
    .await;
    world.endpoint(NewEndpoint::at(&redirecting.url).retry(retries(&[1, 1, 1, 1]))).await;
    let sent = world.send("test.happened", "{}").await;
    assert!(matches!(world.ended(sent).await, State::Dead { reason: DeadReason::Exhausted, .. }));
    assert_eq!((redirecting.count(), elsewhere.count()), (5, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_does_not_come_before_the_time_that_the_receiver_asked_for() {
    let world = World::running().await;
    let mut seen = Vec::new();
    for (place, status) in [408, 425, 429, 503].into_iter().enumerate() {
        // Seconds or a date: a date has no fraction of a second, so two seconds ahead are more than one.
        let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let own = Arc::clone(&times);
        let receiver = Receiver::start(move |_, before| {
            own.lock().unwrap().push(Instant::now());
            let date = http_date_in(Duration::from_secs(2));
            let wanted = if place % 2 == 0 { "1".to_owned() } else { date };
            match before {
                0 => Behaviour::AnswerWith(status, vec![("Retry-After", wanted)], Vec::new()),
                _ => Behaviour::Answer(200),
            }
        })
        .await;
        world.endpoint(NewEndpoint::at(&receiver.url).profile("levrage").retry(retries(&[20]))).await;
        seen.push(times);
    }
    let sent = world.send("CALL_ENDED", "{}").await;
    world.all_ended(&[sent]).await;
    for times in seen {
        let times = times.lock().unwrap();
        assert_eq!(times.len(), 2);
        assert!(times[1].duration_since(times[0]) >= Duration::from_secs(1), "{times:?}");
    }
    let attempts = world.attempts(sent).await;
    let first =
        attempts.iter().find(|attempt| matches!(attempt.outcome, Outcome::Answered { status: 429, .. })).unwrap();
    assert_eq!(
        first.outcome,
        Outcome::Answered { status: 429, retry_after: Some(Duration::from_secs(1)), asked: None },
        "the log has what was asked for"
    );
}

/// An HTTP date this far ahead.
fn http_date_in(ahead: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::now() + ahead)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_is_longer_than_what_the_receiver_asks_for_stands() {
    let world = World::running().await;
    let receiver =
        Receiver::start(|_, _| Behaviour::AnswerWith(503, vec![("Retry-After", "1".into())], Vec::new())).await;
    world.endpoint(NewEndpoint::at(&receiver.url).retry(retries(&[600_000]))).await;
    let sent = world.send("test.happened", "{}").await;
    until(async || world.attempts(sent).await.len() == 1).await;
    let State::Waiting { due } = world.state(sent).await else { panic!("it waits") };
    assert!(due >= world.attempts(sent).await[0].started_at + Duration::from_secs(600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subverse_retries_what_it_is_told_to_and_does_not_wait_for_retry_after() {
    let world = World::running().await;
    let receiver = Receiver::start(|_, before| match before {
        0 => Behaviour::AnswerWith(429, vec![("Retry-After", "3600".into())], Vec::new()),
        _ => Behaviour::Answer(200),
    })
    .await;
    let retry = RetryPolicy { also_on: vec![408, 425, 429], ..retries(&[20]) };
    let endpoint = NewEndpoint::at(&receiver.url).profile("subverse").event_type("call.placed").retry(retry);
    world.endpoint(endpoint).await;
    let sent = world.send("call.placed", "{}").await;
    assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered);
    assert_eq!(receiver.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_may_no_longer_be_called_gets_nothing_and_ends_the_delivery_at_once() {
    let mut world = World::open().await;
    let receiver = Receiver::answering(200).await;
    world.endpoint(NewEndpoint::at(&receiver.url).retry(retries(&[20, 20]))).await;
    let sent = world.send("test.happened", "{}").await;
    world.config.egress.allowed_networks.clear();
    world.reopen().await;
    world.run();
    assert!(matches!(world.ended(sent).await, State::Dead { reason: DeadReason::Blocked, .. }));
    let attempts = world.attempts(sent).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome, Outcome::Failed(Failure::Blocked));
    assert!(attempts[0].hint().unwrap().contains("where nothing may be sent"));
    assert_eq!(receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_retries_are_used_up_is_a_dead_letter() {
    let world = World::running().await;
    let receiver = Receiver::answering(500).await;
    let endpoint = world.endpoint(NewEndpoint::at(&receiver.url).retry(retries(&[10, 10, 10]))).await;
    let sent = world.send("test.happened", "{}").await;
    assert!(matches!(world.ended(sent).await, State::Dead { reason: DeadReason::Exhausted, .. }));
    let dead = world.dead().await;
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].message, dead[0].lane.endpoint), (sent, endpoint.id));
    assert_eq!(receiver.count(), 4);
    let attempts = world.attempts(sent).await;
    let results: Vec<StateKind> = attempts.iter().map(|attempt| attempt.result).collect();
    assert_eq!(results, [StateKind::Waiting, StateKind::Waiting, StateKind::Waiting, StateKind::Dead]);
    for pair in attempts.windows(2) {
        let ended = pair[0].started_at + pair[0].timing.total();
        assert!(pair[1].started_at >= ended + Duration::from_millis(10), "a delay counts from an attempt's end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_would_be_retried_too_late_is_a_dead_letter_at_once() {
    let world = World::running().await;
    let receiver = Receiver::answering(500).await;
    let retry = RetryPolicy { max_age: Some(Duration::from_secs(60)), ..retries(&[10, 61_000, 10]) };
    world.endpoint(NewEndpoint::at(&receiver.url).retry(retry)).await;
    let sent = world.send("test.happened", "{}").await;
    assert!(matches!(world.ended(sent).await, State::Dead { reason: DeadReason::TooOld, .. }));
    assert_eq!(receiver.count(), 2);
}
