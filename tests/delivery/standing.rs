//! Endpoints that do nothing but fail: how long they are watched, what warns of them, what disables them, and what forgives
//! them; on paused time, over the memory store, with a receiver that answers as it is told.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringback::clock::{Clock, SystemClock};
use ringback::store::memory::MemoryStore;
use ringback::store::{AttemptQuery, MessageQuery, Order, RecordKind, Store};
use ringback::transport::{Reply, Request, Transport};
use ringback::{
    ApplicationId, CancelReason, Config, DisableReason, EnableReplay, Endpoint, EndpointId, EndpointStatus, Failure,
    MessageId, NewApplication, NewEndpoint, NewMessage, Outcome, Ringback, State, StateKind, Timestamp,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::retries;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Answers by path, as it is told; 204 where it was not told.
#[derive(Default)]
struct Receivers {
    answers: Mutex<HashMap<String, Outcome>>,
    requests: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Receivers {
    fn answer(&self, path: &str, outcome: Outcome) {
        self.answers.lock().unwrap().insert(path.to_owned(), outcome);
    }

    /// The bodies that arrived at a path.
    fn bodies(&self, path: &str) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|(to, _)| to == path).map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }
}

impl Transport for Receivers {
    fn post(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let path = request.url.path().to_owned();
        let outcome = self.answers.lock().unwrap().get(&path).copied().unwrap_or(Outcome::answered(204));
        self.requests.lock().unwrap().push((path, request.body.to_vec()));
        Box::pin(async move { Reply { outcome, response: None, timing: Default::default() } })
    }
}

/// What outlives a sender, and the sender.
struct Scene {
    store: Arc<MemoryStore>,
    receivers: Arc<Receivers>,
    clock: Arc<SystemClock>,
    config: Config,
    ringback: Ringback,
    app: ApplicationId,
    running: Option<JoinHandle<()>>,
}

impl Scene {
    async fn with(change: impl FnOnce(&mut Config)) -> Scene {
        let mut config = Config::default();
        // Attempts come by the schedule alone, not after rests.
        config.breaker_failures = 0;
        change(&mut config);
        let store = Arc::new(MemoryStore::new());
        let receivers = Arc::new(Receivers::default());
        let clock = Arc::new(SystemClock::starting_at(Timestamp::from_millis(1_800_000_000_000)));
        let ringback = open(&config, &store, &receivers, &clock).await;
        let app = ringback.create_application(NewApplication::named("Acme")).await.unwrap().id;
        let mut scene = Scene { store, receivers, clock, config, ringback, app, running: None };
        scene.run();
        scene
    }

    async fn start() -> Scene {
        Scene::with(|_| {}).await
    }

    /// With an application that is told what happens, and an endpoint of it.
    async fn told() -> Scene {
        Scene::told_with(|_| {}).await
    }

    async fn told_with(change: impl FnOnce(&mut Config)) -> Scene {
        let told = |config: &mut Config| {
            config.operational_application = Some("operations".into());
            change(config);
        };
        let scene = Scene::with(told).await;
        let operations = scene.ringback.application_by_uid("operations").unwrap();
        scene.ringback.create_endpoint(operations.id, NewEndpoint::at("https://a.example/told")).await.unwrap();
        scene
    }

    fn run(&mut self) {
        let ringback = self.ringback.clone();
        self.running = Some(tokio::spawn(async move { ringback.run().await.unwrap() }));
    }

    /// As a crash does it: nothing that is in memory is left.
    async fn crash(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
        self.ringback = open(&self.config, &self.store, &self.receivers, &self.clock).await;
        self.run();
    }

    /// An endpoint that answers so; what fails is tried again each hour.
    async fn endpoint(&self, path: &str, outcome: Outcome) -> EndpointId {
        self.receivers.answer(path, outcome);
        let new = NewEndpoint::at(format!("https://a.example{path}")).retry(retries(&[3_600_000; 12]));
        self.ringback.create_endpoint(self.app, new).await.unwrap().id
    }

    fn status(&self, endpoint: EndpointId) -> EndpointStatus {
        self.ringback.endpoint(self.app, endpoint).unwrap().status
    }

    fn get(&self, endpoint: EndpointId) -> Endpoint {
        self.ringback.endpoint(self.app, endpoint).unwrap()
    }

    async fn send(&self) -> MessageId {
        let message = NewMessage::bytes("test.happened", "{}").event_id(format!("e{}", self.now().as_millis()));
        self.ringback.send(self.app, message).await.unwrap().id
    }

    /// Sends a message at once and then one an hour for so long.
    async fn send_for(&self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            self.send().await;
            tokio::time::sleep(HOUR).await;
        }
        settle().await;
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn states(&self) -> Vec<State> {
        let query = MessageQuery { order: Order::OldestFirst, limit: 250, ..MessageQuery::default() };
        let mut states = Vec::new();
        for message in self.ringback.messages(self.app, query).await.unwrap().items {
            let deliveries = self.ringback.deliveries(self.app, message.id).await.unwrap();
            states.extend(deliveries.into_iter().map(|delivery| delivery.state));
        }
        states
    }

    async fn records(&self, kind: RecordKind) -> usize {
        self.store.list(kind, None, None, 250).await.unwrap().len()
    }

    /// The operator's events of a type.
    fn told_of(&self, event_type: &str) -> Vec<Value> {
        let all = self.receivers.bodies("/told").into_iter();
        all.filter(|event| event["type"] == event_type).map(|event| event["data"].clone()).collect()
    }
}

async fn open(
    config: &Config,
    store: &Arc<MemoryStore>,
    receivers: &Arc<Receivers>,
    clock: &Arc<SystemClock>,
) -> Ringback {
    let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(store);
    let transport: Arc<dyn Transport> = Arc::<Receivers>::clone(receivers);
    Ringback::from_parts(config.clone(), store, transport, Arc::<SystemClock>::clone(clock)).await.unwrap()
}

/// Lets everything happen that happens at this time, and a little after it.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn reason(status: &EndpointStatus) -> Option<DisableReason> {
    match status {
        EndpointStatus::Disabled { reason, .. } => Some(*reason),
        EndpointStatus::Enabled | EndpointStatus::Deleted { .. } => None,
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_but_failures_for_five_days_disables_an_endpoint_and_half_of_it_warns() {
    let scene = Scene::told().await;
    let bad = scene.endpoint("/bad", Outcome::Failed(Failure::Refused)).await;
    let good = scene.endpoint("/good", Outcome::answered(200)).await;
    let start = scene.now();
    scene.send_for(DAY * 5 / 2 - HOUR * 2).await;
    let failing = scene.ringback.failing(scene.app, bad).unwrap().unwrap();
    assert_eq!((failing.since.since(start) < HOUR, failing.warned), (true, false));
    assert_eq!(failing.disable_at, Some(failing.since + DAY * 5));
    assert_eq!(scene.told_of("endpoint.failing").len(), 0);

    scene.send_for(HOUR * 5).await;
    let failing = scene.ringback.failing(scene.app, bad).unwrap().unwrap();
    assert!(failing.warned);
    assert_eq!(scene.ringback.endpoint_health(scene.app, bad).unwrap().failing, Some(failing));
    assert_eq!(scene.ringback.endpoint_health(scene.app, good).unwrap().failing, None);
    let [warning] = &scene.told_of("endpoint.failing")[..] else { panic!("one warning") };
    assert_eq!(warning["endpointId"], json!(bad));
    assert_eq!((&warning["failSince"], &warning["disableAt"]), (&json!(failing.since), &json!(failing.disable_at)));

    scene.send_for(failing.disable_at.unwrap().since(scene.now()) - HOUR).await;
    assert_eq!(scene.status(bad), EndpointStatus::Enabled, "not before its time");
    scene.send_for(HOUR * 3).await;
    let EndpointStatus::Disabled { since, reason: DisableReason::Failing } = scene.status(bad) else {
        panic!("{:?}", scene.status(bad))
    };
    assert!(since >= failing.disable_at.unwrap() && since < failing.disable_at.unwrap() + HOUR * 2);
    assert_eq!((scene.status(good), scene.ringback.failing(scene.app, good)), (EndpointStatus::Enabled, Ok(None)));
    let [disabled] = &scene.told_of("endpoint.disabled")[..] else { panic!("one event") };
    assert_eq!((&disabled["reason"], &disabled["failSince"]), (&json!("failing"), &json!(failing.since)));
    assert_eq!((&disabled["appId"], &disabled["endpointId"]), (&json!(scene.app), &json!(bad)));

    let states = scene.states().await;
    assert!(states.iter().all(|state| state.is_terminal()), "what waited was canceled");
    let canceled = |state: &&State| matches!(state, State::Canceled { reason: CancelReason::EndpointDisabled, .. });
    assert!(states.iter().filter(canceled).count() >= 10);
    assert_eq!(scene.records(RecordKind::EndpointStanding).await, 0, "the record went with it");
    assert_eq!(scene.records(RecordKind::OperationalEvent).await, 0, "all was told");
}

#[tokio::test(start_paused = true)]
async fn a_standing_outlives_crashes_and_is_not_begun_anew_by_them() {
    let mut scene = Scene::told().await;
    let bad = scene.endpoint("/bad", Outcome::answered(500)).await;
    scene.send_for(HOUR).await;
    let since = scene.ringback.failing(scene.app, bad).unwrap().unwrap().since;
    for _ in 0..9 {
        scene.send_for(HOUR * 12).await;
        scene.crash().await;
        let failing = scene.ringback.failing(scene.app, bad).unwrap().unwrap();
        assert_eq!(failing.since, since);
        assert!(failing.failures >= 10, "the counts are kept, too: {failing:?}");
    }
    assert_eq!(scene.status(bad), EndpointStatus::Enabled);
    scene.send_for(HOUR * 18).await;
    assert_eq!(reason(&scene.status(bad)), Some(DisableReason::Failing));
    assert_eq!((scene.told_of("endpoint.failing").len(), scene.told_of("endpoint.disabled").len()), (1, 1));
    scene.crash().await;
    assert_eq!(reason(&scene.status(bad)), Some(DisableReason::Failing), "as is the reason");
}

#[tokio::test(start_paused = true)]
async fn any_success_clears_a_standing_for_good_also_if_the_process_dies_right_after_it() {
    let mut scene = Scene::told().await;
    let shaky = scene.endpoint("/shaky", Outcome::answered(503)).await;
    scene.send_for(DAY * 4).await;
    assert!(scene.ringback.failing(scene.app, shaky).unwrap().unwrap().warned);
    scene.receivers.answer("/shaky", Outcome::answered(200));
    scene.send_for(HOUR).await;
    assert_eq!(scene.ringback.failing(scene.app, shaky), Ok(None));
    assert_eq!((scene.told_of("endpoint.recovered").len(), scene.records(RecordKind::EndpointStanding).await), (1, 0));
    scene.receivers.answer("/shaky", Outcome::answered(503));
    scene.crash().await;
    scene.send_for(DAY * 4).await;
    assert_eq!(scene.status(shaky), EndpointStatus::Enabled, "it is counted from the success on");
}

#[tokio::test(start_paused = true)]
async fn a_success_whose_record_was_lost_in_a_crash_is_found_before_anything_is_disabled() {
    let mut scene = Scene::start().await;
    let shaky = scene.endpoint("/shaky", Outcome::answered(503)).await;
    scene.send_for(DAY * 4).await;
    let key = scene.store.list(RecordKind::EndpointStanding, None, None, 1).await.unwrap().remove(0);
    scene.receivers.answer("/shaky", Outcome::answered(200));
    scene.send_for(HOUR).await;
    scene.receivers.answer("/shaky", Outcome::answered(503));
    let running = scene.running.take().unwrap();
    running.abort();
    let _ = running.await;
    // As if the process had died between the settlement and the removal of the record.
    let ringback::store::Record { key, value, .. } = key;
    let put = ringback::store::Put { key, expected: 0, active: true, value: Some(value) };
    assert!(scene.store.put(vec![put]).await.unwrap());
    scene.ringback = open(&scene.config, &scene.store, &scene.receivers, &scene.clock).await;
    scene.run();
    assert!(scene.ringback.failing(scene.app, shaky).unwrap().is_some());
    scene.send_for(DAY * 2).await;
    assert_eq!(scene.status(shaky), EndpointStatus::Enabled);
    let failing = scene.ringback.failing(scene.app, shaky).unwrap().unwrap();
    assert!(!failing.warned && scene.now().since(failing.since) < DAY * 3, "{failing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_few_failures_disable_nothing_and_neither_does_what_never_left() {
    // Without rests, so that each failure comes when it is due.
    let scene = Scene::with(|config| config.breaker_failures = 0).await;
    let bad = scene.endpoint("/bad", Outcome::answered(500)).await;
    let blocked = scene.endpoint("/blocked", Outcome::Failed(Failure::BlockedAddress)).await;
    let off = scene.endpoint("/off", Outcome::answered(500)).await;
    let settings = scene.get(off).settings;
    scene.ringback.update_endpoint(scene.app, off, NewEndpoint::from(settings).auto_disable(false)).await.unwrap();
    let rare = scene.endpoint("/rare", Outcome::answered(500)).await;
    let settings = NewEndpoint::from(scene.get(rare).settings).retry(retries(&[])).event_type("rare.event");
    scene.ringback.update_endpoint(scene.app, rare, settings).await.unwrap();
    for _ in 0..9 {
        scene.ringback.send(scene.app, NewMessage::bytes("rare.event", "{}")).await.unwrap();
        scene.send_for(DAY).await;
    }
    assert_eq!(reason(&scene.status(bad)), Some(DisableReason::Failing));
    assert_eq!(
        (scene.status(blocked), scene.ringback.failing(scene.app, blocked)),
        (EndpointStatus::Enabled, Ok(None))
    );
    assert_eq!(scene.status(rare), EndpointStatus::Enabled, "nine failures are too few");
    assert_eq!(scene.status(off), EndpointStatus::Enabled, "it was switched off");
    let failing = scene.ringback.failing(scene.app, off).unwrap().unwrap();
    assert_eq!((failing.failures > 100, failing.warned, failing.disable_at), (true, false, None));
    scene.ringback.send(scene.app, NewMessage::bytes("rare.event", "{}")).await.unwrap();
    settle().await;
    assert_eq!(reason(&scene.status(rare)), Some(DisableReason::Failing), "the tenth");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_enabled_again_begins_anew() {
    let mut scene = Scene::start().await;
    let bad = scene.endpoint("/bad", Outcome::Failed(Failure::Timeout)).await;
    scene.send_for(DAY * 5 + HOUR * 3).await;
    assert_eq!(reason(&scene.status(bad)), Some(DisableReason::Failing));
    scene.ringback.enable_endpoint(scene.app, bad).await.unwrap();
    scene.crash().await;
    assert_eq!(scene.ringback.failing(scene.app, bad), Ok(None));
    scene.send_for(DAY * 4).await;
    assert_eq!(scene.status(bad), EndpointStatus::Enabled);
    // A disabling by hand, and another URL, forget what was before as well.
    scene.ringback.disable_endpoint(scene.app, bad).await.unwrap();
    scene.ringback.enable_endpoint(scene.app, bad).await.unwrap();
    assert_eq!(scene.ringback.failing(scene.app, bad), Ok(None));
    scene.send_for(HOUR).await;
    assert!(scene.ringback.failing(scene.app, bad).unwrap().is_some());
    let moved = retries(&[3_600_000; 50]);
    let moved = NewEndpoint::at("https://a.example/elsewhere").retry(moved);
    scene.ringback.update_endpoint(scene.app, bad, moved).await.unwrap();
    assert_eq!(scene.ringback.failing(scene.app, bad), Ok(None));
    settle().await;
    scene.ringback.delete_endpoint(scene.app, bad).await.unwrap();
    settle().await;
    assert_eq!(scene.records(RecordKind::EndpointStanding).await, 0);
}

#[tokio::test(start_paused = true)]
async fn gone_and_the_receiver_s_own_wish_disable_at_once_where_the_profile_says_so() {
    let scene = Scene::told().await;
    let asking = |status, asked| Outcome::Answered { status, retry_after: None, asked: Some(asked) };
    let gone = scene.endpoint("/gone", Outcome::answered(410)).await;
    let asked = scene.endpoint("/asked", asking(503, ringback::Asked::Disable)).await;
    let pleased = scene.endpoint("/pleased", asking(200, ringback::Asked::Disable)).await;
    let levrage = NewEndpoint::at("https://a.example/asked").profile("levrage");
    let levrage = scene.ringback.create_endpoint(scene.app, levrage).await.unwrap().id;
    let aborted = scene.endpoint("/aborted", asking(503, ringback::Asked::AbortMessage)).await;
    let sent = scene.send().await;
    settle().await;
    assert_eq!(reason(&scene.status(gone)), Some(DisableReason::Gone));
    assert_eq!(reason(&scene.status(asked)), Some(DisableReason::AskedByReceiver));
    assert_eq!(reason(&scene.status(pleased)), Some(DisableReason::AskedByReceiver));
    assert_eq!((reason(&scene.status(levrage)), reason(&scene.status(aborted))), (None, None));
    let deliveries = scene.ringback.deliveries(scene.app, sent).await.unwrap();
    let state = |endpoint| deliveries.iter().find(|delivery| delivery.id.lane.endpoint == endpoint).unwrap().state;
    let dead = |endpoint| match state(endpoint) {
        State::Dead { reason, .. } => Some(reason),
        State::Waiting { .. }
        | State::Held { .. }
        | State::Leased { .. }
        | State::Delivered { .. }
        | State::Canceled { .. } => None,
    };
    assert_eq!(dead(gone), Some(ringback::DeadReason::Gone));
    assert_eq!(dead(aborted), Some(ringback::DeadReason::Aborted));
    assert!(matches!(state(asked), State::Canceled { reason: CancelReason::EndpointDisabled, .. }));
    assert_eq!((state(pleased).kind(), state(levrage).kind()), (StateKind::Delivered, StateKind::Waiting));
    let query = AttemptQuery { endpoint: Some(aborted), limit: 10, ..AttemptQuery::default() };
    let attempts = scene.ringback.attempts(scene.app, query).await.unwrap().items;
    assert_eq!(attempts[0].outcome, asking(503, ringback::Asked::AbortMessage), "the log shows it");
    let mut reasons: Vec<String> =
        scene.told_of("endpoint.disabled").iter().map(|data| data["reason"].to_string()).collect();
    reasons.sort();
    assert_eq!(reasons, [r#""askedByReceiver""#, r#""askedByReceiver""#, r#""gone""#]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_what_was_sent_before_a_change_does_not_undo_the_change() {
    let scene = Scene::start().await;
    let moved = scene.endpoint("/gone", Outcome::answered(410)).await;
    scene.send().await;
    settle().await;
    assert_eq!(reason(&scene.status(moved)), Some(DisableReason::Gone));
    scene.ringback.enable_endpoint(scene.app, moved).await.unwrap();
    settle().await;
    assert_eq!(scene.status(moved), EndpointStatus::Enabled, "the answer that closed it has been dealt with");
    scene.send().await;
    settle().await;
    assert_eq!(reason(&scene.status(moved)), Some(DisableReason::Gone), "it still is gone");
}

#[tokio::test(start_paused = true)]
async fn the_operator_hears_of_deliveries_that_fail_give_up_and_recover() {
    // Without rests, so that the retries come when they are due.
    let scene = Scene::told_with(|config| config.breaker_failures = 0).await;
    scene.receivers.answer("/weak", Outcome::answered(500));
    let new = NewEndpoint::at("https://a.example/weak").uid("weak").retry(retries(&[1_000; 6]));
    let weak = scene.ringback.create_endpoint(scene.app, new).await.unwrap();
    let (first, sent_at) = (scene.send().await, scene.now());
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(scene.told_of("message.attempt.failing").len(), 0, "three have failed");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let [failing] = &scene.told_of("message.attempt.failing")[..] else { panic!("the fourth") };
    assert_eq!(
        (&failing["msgId"], &failing["msgEventId"], &failing["endpointId"], &failing["endpointUid"]),
        (&json!(first), &json!(format!("e{}", sent_at.as_millis())), &json!(weak.id), &json!("weak"))
    );
    assert_eq!(failing["lastAttempt"]["responseStatusCode"], 500);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let [exhausted] = &scene.told_of("message.attempt.exhausted")[..] else { panic!("once") };
    assert_eq!((&exhausted["msgId"], &exhausted["reason"]), (&json!(first), &json!("exhausted")));
    assert_eq!(scene.told_of("message.attempt.recovered").len(), 0);

    // Another one recovers by itself, after the fourth failure.
    scene.send().await;
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    scene.receivers.answer("/weak", Outcome::answered(200));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(scene.told_of("message.attempt.recovered").len(), 1);
    // And the first by a replay; a replay of what had arrived is no recovery.
    for _ in 0..2 {
        scene.ringback.replay(scene.app, first, weak.id).await.unwrap();
        settle().await;
    }
    let recovered = scene.told_of("message.attempt.recovered");
    assert_eq!((recovered.len(), &recovered[1]["msgId"]), (2, &json!(first)));
}

#[tokio::test(start_paused = true)]
async fn changes_of_endpoints_are_told_once_and_none_of_the_application_that_is_told() {
    let mut scene = Scene::told().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let new = || NewEndpoint::at("https://a.example/x").uid("x").secret(secret).header("X-Key", "canary");
    let made = scene.ringback.create_endpoint(scene.app, new()).await.unwrap();
    scene.ringback.update_endpoint(scene.app, made.id, new().event_type("a.b")).await.unwrap();
    scene.ringback.disable_endpoint(scene.app, made.id).await.unwrap();
    scene.ringback.disable_endpoint(scene.app, made.id).await.unwrap();
    scene.ringback.enable_endpoint(scene.app, made.id).await.unwrap();
    // Nothing is lost, and nothing doubled, by a crash before or after it was sent.
    scene.crash().await;
    settle().await;
    scene.ringback.delete_endpoint(scene.app, made.id).await.unwrap();
    scene.crash().await;
    settle().await;
    let all = scene.receivers.bodies("/told");
    let types: Vec<&str> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = ["created", "updated", "disabled", "enabled", "deleted"].map(|what| format!("endpoint.{what}"));
    assert_eq!(types, expected);
    for event in &all {
        assert_eq!((&event["data"]["endpointId"], &event["data"]["endpointUid"]), (&json!(made.id), &json!("x")));
        let text = event.to_string();
        assert!(!text.contains("canary") && !text.contains("whsec"), "{text}");
    }
    assert_eq!(scene.records(RecordKind::OperationalEvent).await, 0);
    let operations = scene.ringback.application_by_uid("operations").unwrap().id;
    scene.receivers.answer("/told", Outcome::answered(410));
    scene.endpoint("/another", Outcome::answered(200)).await;
    settle().await;
    let closed = scene.ringback.endpoints(operations).unwrap();
    assert_eq!(reason(&closed[0].status), Some(DisableReason::Gone));
    let count = scene.receivers.bodies("/told").len();
    scene.ringback.enable_endpoint(operations, closed[0].id).await.unwrap();
    settle().await;
    assert_eq!(scene.receivers.bodies("/told").len(), count, "nobody is told of who is told");
}

#[tokio::test(start_paused = true)]
async fn enabling_takes_up_what_failed_and_what_was_canceled_and_the_operator_hears_of_the_end() {
    let mut scene = Scene::told().await;
    scene.receivers.answer("/bad", Outcome::answered(500));
    let new = NewEndpoint::at("https://a.example/bad").retry(retries(&[3_600_000; 3]));
    let bad = scene.ringback.create_endpoint(scene.app, new).await.unwrap().id;
    scene.send_for(DAY * 5 + HOUR * 3).await;
    assert_eq!(reason(&scene.status(bad)), Some(DisableReason::Failing));
    let kinds = |states: Vec<State>| {
        let count = |kind| states.iter().filter(|state| state.kind() == kind).count();
        (count(StateKind::Dead), count(StateKind::Canceled), count(StateKind::Delivered))
    };
    let (dead, canceled, delivered) = kinds(scene.states().await);
    assert!(dead > 100 && canceled >= 3 && delivered == 0, "{dead} {canceled} {delivered}");
    scene.receivers.answer("/bad", Outcome::answered(200));
    let replay = EnableReplay { since: None, rate: 0 };
    assert!(scene.ringback.enable_and_replay(scene.app, bad, replay).await.is_err());
    assert_eq!(reason(&scene.status(bad)), Some(DisableReason::Failing), "what is refused enables nothing");
    let replay = EnableReplay { since: None, rate: 10 };
    let (enabled, job) = scene.ringback.enable_and_replay(scene.app, bad, replay).await.unwrap();
    assert_eq!((enabled.status, job.total), (EndpointStatus::Enabled, (dead + canceled) as u64));
    scene.crash().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.crash().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(kinds(scene.states().await), (0, 0, dead + canceled));
    let [finished] = &scene.told_of("replay.finished")[..] else { panic!("once") };
    assert_eq!((&finished["jobId"], &finished["status"]), (&json!(job.id), &json!("finished")));
    assert_eq!((&finished["replayed"], &finished["endpointId"]), (&json!(dead + canceled), &json!(bad)));
    scene.crash().await;
    settle().await;
    assert_eq!(scene.told_of("replay.finished").len(), 1, "also after a restart");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_now_and_then_has_no_record_written_and_one_that_goes_on_has_one() {
    // Without rests, so that there is a failure each second.
    let scene = Scene::with(|config| config.breaker_failures = 0).await;
    let key = |endpoint: EndpointId| [scene.app.to_bytes(), endpoint.to_bytes()].concat();
    let version = async |endpoint| {
        let records = scene.store.list(RecordKind::EndpointStanding, None, None, 250).await.unwrap();
        records.iter().find(|record| record.key.key == key(endpoint)).map_or(0, |record| record.version)
    };
    let flaky = scene.endpoint("/flaky", Outcome::answered(200)).await;
    let bad = scene.endpoint("/bad", Outcome::answered(500)).await;
    for second in 0..600 {
        scene.receivers.answer("/flaky", Outcome::answered(if second % 3 == 0 { 200 } else { 500 }));
        scene.send().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(version(flaky).await, 0, "it worked again each time: {second}");
    }
    let written = version(bad).await;
    assert!((9..=11).contains(&written), "once, and then once a minute: {written}");
    let failing = scene.ringback.failing(scene.app, bad).unwrap().unwrap();
    assert!(failing.failures >= 600, "{failing:?}");
}
