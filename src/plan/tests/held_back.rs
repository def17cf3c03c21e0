//! Promises about who is held back and for how long, on a virtual clock: throttles, caps, weights, paces and rests.

use super::*;

/// A plan under test with a virtual clock and lanes that always have something due.
struct Bench {
    plan: Plan,
    lanes: Vec<Known>,
    bounds: BTreeMap<u8, Bounds>,
    now: Timestamp,
    /// Who was claimed for, in order, with when.
    claimed: Vec<(u64, u8, u8)>,
    looks: usize,
    on_their_way: Vec<(Lease, Arc<Destination>)>,
}

impl Bench {
    fn new(caps: Caps, lanes: Vec<Known>) -> Bench {
        let (bounds, claimed, on_their_way) = (BTreeMap::new(), Vec::new(), Vec::new());
        Bench { plan: Plan::new(caps), lanes, bounds, now: NOW, claimed, looks: 0, on_their_way }
    }

    fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for command in self.plan.step(event, self.now) {
                match command {
                    Command::Look { .. } => {
                        self.looks += 1;
                        let id = |number| ApplicationId::from_bytes([number; 16]);
                        let bounds = self.bounds.iter().map(|(number, bounds)| (id(*number), *bounds)).collect();
                        let found = Found { lanes: self.lanes.clone(), bounds };
                        events.push(Event::Looked { found, more: false, next_due: None });
                    }
                    Command::Claim { wanted, .. } => {
                        let leases = wanted.iter().flat_map(|(lane, most)| (0..*most).map(|_| lease(*lane)));
                        events.push(Event::Claimed(leases.collect()));
                    }
                    Command::Attempt { lease, destination } => {
                        let Lane { application, endpoint } = lease.delivery.lane;
                        let numbers = (application.to_bytes()[0], endpoint.to_bytes()[0]);
                        self.claimed.push((self.now.since(NOW).as_millis() as u64, numbers.0, numbers.1));
                        self.on_their_way.push((lease, destination));
                    }
                    Command::Settle(batch) => {
                        let done = batch.iter().map(|_| Settled::Done).collect();
                        events.push(Event::Settled(Ok(done)));
                    }
                    Command::Stop => {}
                }
            }
        }
        assert!(self.plan.permits.add_up());
    }

    /// Ends what is on its way, all with this outcome after this long.
    fn end_all(&mut self, outcome: Outcome, took: Duration) {
        for (lease, destination) in std::mem::take(&mut self.on_their_way) {
            let now = self.now;
            self.tell(ended_after(took, lease, destination, outcome, now));
        }
    }

    fn end_first(&mut self, outcome: Outcome, took: Duration) {
        let (lease, destination) = self.on_their_way.remove(0);
        let now = self.now;
        self.tell(ended_after(took, lease, destination, outcome, now));
    }

    /// Lets time pass from wake-up to wake-up; every attempt ends at once with this outcome.
    fn pass(&mut self, time: Duration, outcome: Outcome) {
        let end = self.now + time;
        self.tell(Event::Rang);
        loop {
            while !self.on_their_way.is_empty() {
                self.end_first(outcome, Duration::ZERO);
            }
            match self.plan.wake_at().filter(|at| *at <= end) {
                Some(at) => {
                    assert!(at > self.now, "it wakes for nothing");
                    self.now = at;
                    self.tell(Event::Rang);
                }
                None => break,
            }
        }
        self.now = end;
    }

    fn count(&self, who: impl Fn(u8, u8) -> bool) -> usize {
        self.claimed.iter().filter(|(_, application, endpoint)| who(*application, *endpoint)).count()
    }
}

const OK: Outcome = Outcome::answered(200);
const TIMEOUT: Outcome = Outcome::Failed(delivery::Failure::Timeout);

fn rate(rate: u32) -> Bounds {
    Bounds { throttle_rate: Some(rate), ..Bounds::default() }
}

#[test]
fn a_throttled_endpoint_gets_its_rate_and_costs_a_look_a_token() {
    let throttled = destination_with(1, 1, |settings| settings.throttle_rate = Some(20));
    let mut bench = Bench::new(WIDE, vec![throttled]);
    bench.pass(Duration::from_secs(10), OK);
    // A burst of two, and twenty a second.
    assert_eq!(bench.count(|_, _| true), 202);
    let gaps: Vec<u64> = bench.claimed.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert_eq!(gaps[0], 0);
    assert!(gaps[1..].iter().all(|gap| *gap == 50), "{gaps:?}");
    // The wake-up's, one after the claim, and those after the attempt and its settlement.
    assert!(bench.looks <= 202 * 4 + 4, "{} looks", bench.looks);
}

#[test]
fn an_attempt_takes_a_token_of_its_endpoint_its_application_and_the_server() {
    let lanes = vec![destination(1, 1), destination(1, 2), destination(2, 1), destination(2, 2)];
    let mut bench = Bench::new(Caps { throttle_rate: Some(30), ..WIDE }, lanes);
    bench.bounds.insert(1, rate(5));
    bench.pass(Duration::from_secs(20), OK);
    assert_eq!(bench.count(|application, _| application == 1), 101, "its burst and its rate");
    assert_eq!(bench.count(|application, _| application == 2), 502, "what the server's rate leaves");
    let (one, other) = (bench.count(|a, e| (a, e) == (1, 1)), bench.count(|a, e| (a, e) == (1, 2)));
    assert!(one.abs_diff(other) <= 1, "{one} and {other}");
}

#[test]
fn a_changed_rate_holds_from_the_next_attempt_on() {
    let at = |rate| vec![destination_with(1, 1, |settings| settings.throttle_rate = rate)];
    let mut bench = Bench::new(WIDE, at(Some(1)));
    bench.pass(Duration::from_secs(10), OK);
    assert_eq!(bench.count(|_, _| true), 11);
    bench.lanes = at(Some(10));
    bench.pass(Duration::from_secs(10), OK);
    let count = bench.count(|_, _| true) - 11;
    assert!((99..=101).contains(&count), "{count}");
}

#[test]
fn a_token_of_a_permit_that_the_claim_did_not_use_is_there_again() {
    let throttled = destination_with(1, 1, |settings| settings.throttle_rate = Some(1));
    let mut plan = Plan::new(WIDE);
    for _ in 0..10 {
        assert_eq!(claimed(&mut plan, vec![throttled.clone()]), BTreeMap::from([(1, 1)]));
        plan.step(Event::Claimed(Vec::new()), NOW);
    }
    assert_eq!(claimed(&mut plan, vec![throttled.clone()]), BTreeMap::from([(1, 1)]));
    plan.step(Event::Claimed(vec![lease(throttled.0)]), NOW);
    plan.step(looked(vec![throttled], false), NOW);
    assert_eq!(plan.wake_at(), Some(NOW + Duration::from_secs(1)));
}

#[test]
fn an_application_has_no_more_on_its_way_than_it_may() {
    let lanes = vec![destination(1, 1), destination(1, 2), destination(2, 1)];
    let mut bench = Bench::new(Caps { per_application: Some(7), ..WIDE }, lanes);
    bench.bounds.insert(1, Bounds { max_in_flight: Some(3), ..Bounds::default() });
    bench.tell(Event::Rang);
    assert_eq!((bench.count(|a, _| a == 1), bench.count(|a, _| a == 2)), (3, 7));
}

#[test]
fn one_of_weight_three_is_claimed_for_three_times_as_often_where_permits_are_scarce() {
    let heavy = destination_with(1, 2, |settings| settings.weight = Some(3));
    let lanes = vec![destination(1, 1), heavy, destination(2, 1), destination(3, 1)];
    let mut bench = Bench::new(Caps { in_flight: 8, ..WIDE }, lanes);
    bench.bounds.insert(3, Bounds { weight: Some(2), ..Bounds::default() });
    // All are known as quick, so that nothing but turns decides.
    bench.tell(Event::Rang);
    bench.end_all(OK, Duration::ZERO);
    bench.end_all(OK, Duration::ZERO);
    bench.claimed.clear();
    for _ in 0..4_000 {
        bench.end_first(OK, Duration::ZERO);
    }
    let count = |application, endpoint| bench.count(|a, e| (a, e) == (application, endpoint));
    let shares = [count(1, 1), count(1, 2), count(2, 1), count(3, 1)];
    for (count, share) in shares.into_iter().zip([250, 750, 1_000, 2_000]) {
        assert!(count.abs_diff(share) <= share / 20, "{shares:?}");
    }
}

#[test]
fn two_applications_whose_endpoints_answer_after_taking_long_do_not_delay_a_third() {
    let long = Duration::from_millis(14_900);
    let slow: Vec<Known> = (1..=2).flat_map(|application| (1..=40).map(move |n| destination(application, n))).collect();
    let mut bench = Bench::new(WIDE, slow);
    // They have answered, every time, and have been given whatever they may have.
    for _ in 0..5 {
        bench.tell(Event::Rang);
        bench.now = bench.now + long;
        bench.end_all(OK, long);
    }
    bench.claimed.clear();
    bench.lanes.push(destination(3, 1));
    bench.tell(Event::Rang);
    let third = bench.count(|application, _| application == 3);
    assert!(third >= 1, "the third has a permit at once");
    // And as soon as it is known to be quick, a half of all.
    let place = bench.on_their_way.iter().position(|(lease, _)| lease.delivery.lane.application.to_bytes()[0] == 3);
    bench.on_their_way.swap(0, place.unwrap());
    bench.end_first(OK, Duration::from_millis(20));
    let held = bench.on_their_way.iter().filter(|(lease, _)| lease.delivery.lane.application.to_bytes()[0] == 3);
    assert_eq!(held.count(), 32);
}

#[test]
fn endpoints_that_fall_silent_together_leave_half_of_all_permits_before_their_attempts_end() {
    let lanes: Vec<Known> = (1..=2).flat_map(|application| (1..=8).map(move |n| destination(application, n))).collect();
    let mut bench = Bench::new(Caps { per_endpoint: 1, ..WIDE }, lanes);
    bench.tell(Event::Rang);
    bench.end_all(OK, Duration::from_millis(10));
    // All are quick, and from now on none answers. More and more is due.
    assert_eq!(bench.plan.in_flight(), 16);
    bench.lanes.clear();
    bench.now = bench.now + Duration::from_millis(1_000);
    bench.tell(Event::Rang);
    assert!(bench.lanes.is_empty() && bench.plan.in_flight() == 16);
    for (lease, _) in &bench.on_their_way {
        assert_eq!(bench.plan.permits.remembered(lease.delivery.lane).health.pace(), crate::health::Pace::Slow);
    }
}

#[test]
fn a_deleted_application_has_no_share_any_more() {
    let lanes = vec![destination(1, 1), destination(2, 1)];
    let mut bench = Bench::new(WIDE, lanes.clone());
    bench.tell(Event::Rang);
    bench.end_all(OK, Duration::ZERO);
    assert_eq!((bench.count(|a, _| a == 1) > 0, bench.plan.permits.applications()), (true, 2));
    // What the second one has on its way keeps it until it ends.
    bench.lanes.pop();
    bench.plan.forget_applications(|application| application.to_bytes()[0] == 1);
    assert_eq!(bench.plan.permits.applications(), 2);
    bench.end_all(OK, Duration::ZERO);
    bench.end_all(OK, Duration::ZERO);
    assert_eq!((bench.plan.permits.applications(), bench.plan.permits.lanes()), (1, vec![lanes[0].0]));
    assert_eq!(bench.on_their_way.len(), 64, "all permits are the other one's");
}

#[test]
fn an_endpoint_that_rests_is_claimed_for_once_it_has_rested_and_led_back_slowly() {
    let mut bench = Bench::new(WIDE, vec![destination(1, 1)]);
    bench.tell(Event::Rang);
    bench.end_all(OK, Duration::ZERO);
    for _ in 0..10 {
        bench.end_first(Outcome::Failed(delivery::Failure::Refused), Duration::ZERO);
    }
    bench.claimed.clear();
    // What was on its way before ends; nothing takes its place.
    bench.end_all(TIMEOUT, Duration::from_secs(15));
    assert_eq!((bench.count(|_, _| true), bench.plan.in_flight()), (0, 0));
    let until = bench.plan.wake_at().unwrap();
    assert_eq!(until.since(NOW), Duration::from_millis(3_750), "half of five seconds, and half of the other half");
    bench.now = until;
    bench.tell(Event::Rang);
    assert_eq!(bench.on_their_way.len(), 1, "one probe at a time");
    for cap in [1, 2, 2, 4, 4, 4, 4, 8] {
        bench.end_first(OK, Duration::ZERO);
        assert_eq!(bench.on_their_way.len(), cap);
    }
}

#[test]
fn an_endpoint_whose_settings_are_changed_need_not_rest_any_longer() {
    let mut bench = Bench::new(WIDE, vec![destination(1, 1)]);
    bench.tell(Event::Rang);
    bench.lanes.clear();
    bench.end_all(Outcome::Failed(delivery::Failure::Refused), Duration::ZERO);
    let (lane, destination) = destination(1, 1);
    let mut changed = Destination::clone(&destination.unwrap());
    changed.endpoint.updated_at = NOW + Duration::from_millis(1);
    bench.lanes.push((lane, Some(Arc::new(changed))));
    bench.claimed.clear();
    bench.tell(Event::Rang);
    assert!(bench.count(|_, _| true) > 0);
}

#[test]
fn the_permit_of_an_endpoint_that_has_moved_goes_back_to_where_it_came_from() {
    let at = |url: &'static str| destination_with(1, 1, |settings| settings.url = url.into());
    let mut bench = Bench::new(Caps { per_origin: 3, ..WIDE }, vec![at("https://a.example/")]);
    bench.tell(Event::Rang);
    assert_eq!(bench.on_their_way.len(), 3);
    bench.lanes = vec![at("https://b.example/")];
    bench.tell(Event::Rang);
    assert_eq!(bench.on_their_way.len(), 6, "three at each");
    bench.end_all(OK, Duration::ZERO);
    assert_eq!(bench.on_their_way.len(), 3);
}
