//! Deliveries: one message to one endpoint, the unit of state; and the one function that decides what
//! follows an attempt's outcome.
//!
//! ```text
//!              send            claim                2xx
//!   message ─────────▶ WAITING ──────▶ LEASED ──────────────▶ DELIVERED ──┐
//!                       ▲  ▲             │ │                              │
//!                       │  └── retry at ─┘ │  nothing left / 410 / too old │
//!                       │  └─ lease over ──┘ ─────────────▶ DEAD ─────────┤
//!                       └── canceled (why) ──────────────▶ CANCELED ──────┘ replay: a new round
//! ```
//!
//! One with an ordering key is HELD, in place of waiting, while another of its key and endpoint goes first.
//!
//! Invariants: a delivery ends in exactly one terminal state a round; [`next`] alone decides what follows an
//! outcome, for first tries, retries, lost leases and replays; an [`Outcome`] is the receiver's doing and
//! never an error of ours.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::endpoint::DisableReason;
use crate::id::{ApplicationId, EndpointId, MessageId};
use crate::ordering::BlockedHead;
use crate::profile::Profile;
use crate::time::Timestamp;

/// The longest that a receiver's `Retry-After` can put off a retry: 24 hours.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The deliveries of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Lane {
    /// The application.
    pub application: ApplicationId,
    /// Its endpoint.
    pub endpoint: EndpointId,
}

/// Names a delivery: there is one for a message and an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DeliveryId {
    /// The endpoint, and the application that it and the message belong to.
    #[serde(flatten)]
    pub lane: Lane,
    /// The message.
    pub message: MessageId,
}

/// A delivery and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Delivery {
    /// Which message, to which endpoint.
    #[serde(flatten)]
    pub id: DeliveryId,
    /// How it stands.
    pub state: State,
    /// What has been tried.
    pub progress: Progress,
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum State {
    /// It is to be attempted.
    Waiting {
        /// Not before this time.
        due: Timestamp,
    },
    /// Another delivery of its ordering key goes first. It waits once that has ended, or lets others pass.
    Held {
        /// The message whose delivery goes first.
        behind: MessageId,
    },
    /// An attempt is on its way.
    Leased {
        /// After this time it may be attempted again, whatever became of that attempt.
        until: Timestamp,
    },
    /// The receiver has it.
    Delivered {
        /// When the attempt that succeeded ended.
        at: Timestamp,
    },
    /// A dead letter: it gave up. A replay opens a new round.
    Dead {
        /// When.
        at: Timestamp,
        /// Why.
        reason: DeadReason,
    },
    /// Somebody ended it. A replay opens a new round.
    Canceled {
        /// When.
        at: Timestamp,
        /// Why.
        reason: CancelReason,
    },
}

/// The kind of a [`State`], for filters and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StateKind {
    /// To be attempted.
    Waiting,
    /// Another one of its ordering key goes first.
    Held,
    /// An attempt is on its way.
    Leased,
    /// The receiver has it.
    Delivered,
    /// It gave up.
    Dead,
    /// Somebody ended it.
    Canceled,
}

/// Why a delivery gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeadReason {
    /// Every retry of the policy failed.
    Exhausted,
    /// The receiver gave an answer that the profile does not retry.
    Refused,
    /// The receiver answered 410 Gone.
    Gone,
    /// The next retry would have come after the policy's maximal age.
    TooOld,
    /// The URL names an address that may not be called.
    Blocked,
    /// No request can be made from the message and the endpoint's settings.
    Unsendable,
    /// The stored message is damaged.
    Damaged,
    /// The message's payload was erased on request.
    Expunged,
    /// The receiver asked, in a way that the profile follows, not to be sent this message again.
    Aborted,
    /// It had not arrived when its message expired.
    Expired,
}

/// Why a delivery was canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CancelReason {
    /// Its endpoint was disabled.
    EndpointDisabled,
    /// Its endpoint was deleted.
    EndpointDeleted,
    /// The platform or an operator asked for it.
    Requested,
    /// Its message's payload was erased on request.
    Expunged,
}

/// What has been tried for a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The round: 1, and one more for each replay.
    pub round: u32,
    /// The attempts of this round.
    pub tries: u32,
    /// The attempts of all rounds. They are numbered from 1.
    pub attempts: u32,
    /// When this round was opened: the message's acceptance (or when it is due), or the replay. One that was held has
    /// here when its turn came, if that was later.
    pub since: Timestamp,
}

impl Progress {
    /// Nothing tried yet.
    pub fn new(since: Timestamp) -> Self {
        Progress { round: 1, tries: 0, attempts: 0, since }
    }

    /// One more attempt.
    #[must_use]
    pub fn tried(self) -> Self {
        Progress { tries: self.tries.saturating_add(1), attempts: self.attempts.saturating_add(1), ..self }
    }

    /// It was held, and now it is its turn.
    #[must_use]
    pub(crate) fn promoted(self, now: Timestamp) -> Self {
        Progress { since: self.since.max(now), ..self }
    }

    /// The next round. Attempt numbers run on.
    #[must_use]
    pub fn next_round(self, now: Timestamp) -> Self {
        Progress { round: self.round.saturating_add(1), tries: 0, since: now, ..self }
    }
}

impl State {
    /// Its kind.
    pub fn kind(&self) -> StateKind {
        match self {
            State::Waiting { .. } => StateKind::Waiting,
            State::Held { .. } => StateKind::Held,
            State::Leased { .. } => StateKind::Leased,
            State::Delivered { .. } => StateKind::Delivered,
            State::Dead { .. } => StateKind::Dead,
            State::Canceled { .. } => StateKind::Canceled,
        }
    }

    /// Whether the round has ended.
    pub fn is_terminal(&self) -> bool {
        match self {
            State::Waiting { .. } | State::Held { .. } | State::Leased { .. } => false,
            State::Delivered { .. } | State::Dead { .. } | State::Canceled { .. } => true,
        }
    }
}

/// What one attempt showed: the receiver's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// A complete response head arrived in time.
    #[serde(rename_all = "camelCase")]
    Answered {
        /// Its status.
        status: u16,
        /// Its `Retry-After`, if it had one that can be read: in JSON whole seconds, rounded up.
        #[serde(rename = "retryAfterSeconds", with = "whole_seconds", default)]
        retry_after: Option<Duration>,
        /// What its `webhook-delivery` header asks for, whether or not the profile follows that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked: Option<Asked>,
    },
    /// No answer came, and why.
    Failed(Failure),
}

/// What a receiver can ask for with the header `webhook-delivery` of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Asked {
    /// `abort-message`: this message is not to be retried.
    AbortMessage,
    /// `disable`: its endpoint is to be disabled.
    Disable,
}

impl Asked {
    /// The stable word for it in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Asked::AbortMessage => "abortMessage",
            Asked::Disable => "disable",
        }
    }
}

impl Outcome {
    /// An answer with this status that asks for nothing.
    pub const fn answered(status: u16) -> Outcome {
        Outcome::Answered { status, retry_after: None, asked: None }
    }
}

/// A time span in JSON: seconds, with a started one counted whole.
mod whole_seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        let seconds = |span: Duration| span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0));
        span.map(seconds).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
    }
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Failure {
    /// No complete response head arrived within the time limit.
    Timeout,
    /// The host's name could not be resolved.
    Dns,
    /// The connection was refused.
    Refused,
    /// No connection could be made: no route, or the host did not answer.
    Unreachable,
    /// The TLS handshake failed.
    Tls,
    /// The connection ended before a complete response head.
    Reset,
    /// What came back is not HTTP.
    Protocol,
    /// The URL itself names an address, a scheme or a port that may not be called.
    Blocked,
    /// The host's name resolved to an address that may not be called.
    BlockedAddress,
    /// No request can be made from the message and the endpoint's settings.
    Unsendable,
    /// The lease ran out before the attempt's end was recorded.
    Lost,
    /// The attempt's own code panicked; the delivery is treated as failed.
    Panicked,
    /// The stored message is damaged.
    Damaged,
    /// The message's payload was erased on request.
    Expunged,
}

impl Failure {
    /// The stable word for it in logs and JSON.
    pub fn code(self) -> &'static str {
        match self {
            Failure::Timeout => "timeout",
            Failure::Dns => "dns",
            Failure::Refused => "refused",
            Failure::Unreachable => "unreachable",
            Failure::Tls => "tls",
            Failure::Reset => "reset",
            Failure::Protocol => "protocol",
            Failure::Blocked => "blocked",
            Failure::BlockedAddress => "blockedAddress",
            Failure::Unsendable => "unsendable",
            Failure::Lost => "lost",
            Failure::Panicked => "panicked",
            Failure::Damaged => "damaged",
            Failure::Expunged => "expunged",
        }
    }
}

/// What an outcome means under a profile, before the schedule is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Success,
    Retry { not_before: Duration },
    Final(DeadReason),
}

fn judge(profile: &Profile, outcome: Outcome) -> Verdict {
    let now = Duration::ZERO;
    match outcome {
        Outcome::Answered { status, .. } if profile.success.contains(status) => Verdict::Success,
        Outcome::Answered { status: 410, .. } => Verdict::Final(DeadReason::Gone),
        Outcome::Answered { asked: Some(Asked::AbortMessage), .. } if profile.follow_webhook_delivery => {
            Verdict::Final(DeadReason::Aborted)
        }
        Outcome::Answered { status, retry_after, asked: _ } => {
            if !profile.retry_on.covers(status) && !profile.retry.also_on.contains(&status) {
                return Verdict::Final(DeadReason::Refused);
            }
            let wanted = retry_after.filter(|_| profile.follow_retry_after).unwrap_or_default();
            Verdict::Retry { not_before: wanted.min(MAX_RETRY_AFTER) }
        }
        Outcome::Failed(failure) => match failure {
            Failure::Timeout
            | Failure::Dns
            | Failure::Refused
            | Failure::Unreachable
            | Failure::Tls
            | Failure::Reset
            | Failure::Protocol
            | Failure::BlockedAddress
            | Failure::Lost
            | Failure::Panicked => Verdict::Retry { not_before: now },
            Failure::Blocked => Verdict::Final(DeadReason::Blocked),
            Failure::Unsendable => Verdict::Final(DeadReason::Unsendable),
            Failure::Damaged => Verdict::Final(DeadReason::Damaged),
            Failure::Expunged => Verdict::Final(DeadReason::Expunged),
        },
    }
}

/// What a message, and for its ordering key its endpoint, set beside the profile's schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// When the message expires. It binds the first round alone: whoever replays what has expired wants it all the same.
    pub expires_at: Option<Timestamp>,
    /// If the message has an ordering key: what it does to those behind it while it fails.
    pub blocked_head: Option<BlockedHead>,
}

impl Terms {
    /// Whether an attempt at this time would come after the message's expiry.
    fn expired(&self, progress: Progress, time: Timestamp) -> bool {
        progress.round == 1 && self.expires_at.is_some_and(|end| time > end)
    }

    /// Whether a retry at this time would hold those behind it up for too long.
    fn blocks(&self, progress: Progress, time: Timestamp) -> bool {
        let patience = self.blocked_head.and_then(BlockedHead::patience);
        patience.is_some_and(|patience| time > progress.since + patience)
    }
}

/// What becomes of a delivery whose turn has come, if it is not to be attempted any more. Pure, and what [`next`] is
/// after an attempt.
///
/// `progress` counts the attempts so far.
pub fn before(progress: Progress, now: Timestamp, terms: Terms) -> Option<State> {
    terms.expired(progress, now).then_some(State::Dead { at: now, reason: DeadReason::Expired })
}

/// What follows an attempt's outcome. Pure, and the only place that decides it.
///
/// `progress` counts the attempt that just ended; `now` is its end; `draw` is a random number from 0 up to,
/// not including, 1, for the jitter; `open` says whether the endpoint still takes attempts (enabled and not
/// deleted), and if not, why a failed delivery becomes canceled.
pub fn next(
    profile: &Profile,
    progress: Progress,
    outcome: Outcome,
    now: Timestamp,
    draw: f64,
    open: Result<(), CancelReason>,
    terms: Terms,
) -> State {
    let not_before = match (judge(profile, outcome), open) {
        (Verdict::Success, _) => return State::Delivered { at: now },
        (Verdict::Final(reason), _) => return State::Dead { at: now, reason },
        (Verdict::Retry { .. }, Err(reason)) => return State::Canceled { at: now, reason },
        (Verdict::Retry { not_before }, Ok(())) => not_before,
    };
    let retries_made = progress.tries.saturating_sub(1) as usize;
    let Some(delay) = profile.retry.delay(retries_made) else {
        return State::Dead { at: now, reason: DeadReason::Exhausted };
    };
    let due = now + profile.retry.jittered(delay, draw).max(not_before);
    if terms.expired(progress, due) || terms.blocks(progress, due) {
        return State::Dead { at: now, reason: DeadReason::Expired };
    }
    if profile.retry.max_age.is_some_and(|age| due > progress.since + age) {
        return State::Dead { at: now, reason: DeadReason::TooOld };
    }
    State::Waiting { due }
}

/// Whether a delivery with an ordering key lets those behind it pass, now that [`next`] said what follows. `progress`
/// counts the attempt that just ended.
pub fn lets_pass(progress: Progress, state: State, terms: Terms) -> bool {
    match state {
        State::Waiting { .. } => terms.blocked_head.is_some_and(|rule| rule.lets_pass(progress.tries)),
        // The store lets them pass by itself.
        State::Delivered { .. } | State::Dead { .. } | State::Canceled { .. } => false,
        State::Held { .. } | State::Leased { .. } => false,
    }
}

/// Why an endpoint is to be disabled after this outcome, if it is: the receiver says with it that it wants no more
/// messages at all, and the profile follows that.
pub fn closes(profile: &Profile, outcome: Outcome) -> Option<DisableReason> {
    match outcome {
        Outcome::Answered { asked: Some(Asked::Disable), .. } if profile.follow_webhook_delivery => {
            Some(DisableReason::AskedByReceiver)
        }
        Outcome::Answered { status: 410, .. } if profile.disable_on_gone && !profile.success.contains(410) => {
            Some(DisableReason::Gone)
        }
        Outcome::Answered { .. } | Outcome::Failed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::RetryPolicy;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn profile(name: &str) -> Profile {
        Profile::builtin(name).unwrap()
    }

    fn after_tries(profile: &Profile, tries: u32, outcome: Outcome) -> State {
        let progress = Progress { tries, attempts: tries, ..Progress::new(NOW) };
        next(profile, progress, outcome, NOW, 0.5, Ok(()), Terms::default())
    }

    fn answered(status: u16) -> Outcome {
        Outcome::answered(status)
    }

    fn asking(status: u16, asked: Asked) -> Outcome {
        Outcome::Answered { status, retry_after: None, asked: Some(asked) }
    }

    fn word(state: State) -> String {
        match state {
            State::Waiting { due } => format!("retry in {} s", due.since(NOW).as_secs()),
            State::Held { .. } => "held".into(),
            State::Leased { .. } => "leased".into(),
            State::Delivered { .. } => "delivered".into(),
            State::Dead { reason, .. } => format!("dead: {reason:?}"),
            State::Canceled { reason, .. } => format!("canceled: {reason:?}"),
        }
    }

    /// The table of `docs/delivery.md`: an outcome, and what follows it under levers and under subverse.
    #[test]
    fn each_outcome_of_a_first_attempt_has_its_consequence() {
        let retry = "retry in 1 s";
        let table = [
            (answered(200), "delivered", "delivered"),
            (answered(204), "delivered", "delivered"),
            (answered(299), "delivered", "delivered"),
            (answered(301), retry, "dead: Refused"),
            (answered(307), retry, "dead: Refused"),
            (answered(400), retry, "dead: Refused"),
            (answered(401), retry, "dead: Refused"),
            (answered(404), retry, "dead: Refused"),
            (answered(408), retry, "dead: Refused"),
            (answered(410), "dead: Gone", "dead: Gone"),
            (answered(425), retry, "dead: Refused"),
            (answered(429), retry, "dead: Refused"),
            (answered(500), retry, retry),
            (answered(503), retry, retry),
            (answered(599), retry, retry),
            (Outcome::Failed(Failure::Timeout), retry, retry),
            (Outcome::Failed(Failure::Dns), retry, retry),
            (Outcome::Failed(Failure::Refused), retry, retry),
            (Outcome::Failed(Failure::Unreachable), retry, retry),
            (Outcome::Failed(Failure::Tls), retry, retry),
            (Outcome::Failed(Failure::Reset), retry, retry),
            (Outcome::Failed(Failure::Protocol), retry, retry),
            (Outcome::Failed(Failure::BlockedAddress), retry, retry),
            (Outcome::Failed(Failure::Lost), retry, retry),
            (Outcome::Failed(Failure::Panicked), retry, retry),
            (Outcome::Failed(Failure::Blocked), "dead: Blocked", "dead: Blocked"),
            (Outcome::Failed(Failure::Unsendable), "dead: Unsendable", "dead: Unsendable"),
            (Outcome::Failed(Failure::Damaged), "dead: Damaged", "dead: Damaged"),
            (Outcome::Failed(Failure::Expunged), "dead: Expunged", "dead: Expunged"),
        ];
        for (outcome, levers, subverse) in table {
            assert_eq!(word(after_tries(&profile("levers"), 1, outcome)), levers, "levers, {outcome:?}");
            assert_eq!(word(after_tries(&profile("subverse"), 1, outcome)), subverse, "subverse, {outcome:?}");
        }
    }

    #[test]
    fn the_vendors_schedule_is_one_five_and_twentyfive_seconds_then_dead() {
        for name in ["levers", "levrage", "subverse"] {
            let words: Vec<_> = (1..=4).map(|tries| word(after_tries(&profile(name), tries, answered(500)))).collect();
            assert_eq!(words, ["retry in 1 s", "retry in 5 s", "retry in 25 s", "dead: Exhausted"], "{name}");
        }
    }

    #[test]
    fn retry_after_puts_a_retry_off_but_never_forward_and_at_most_a_day() {
        let wait =
            |seconds| Outcome::Answered { status: 429, retry_after: Some(Duration::from_secs(seconds)), asked: None };
        assert_eq!(word(after_tries(&profile("levers"), 2, wait(120))), "retry in 120 s");
        assert_eq!(word(after_tries(&profile("levers"), 2, wait(2))), "retry in 5 s");
        assert_eq!(word(after_tries(&profile("levers"), 2, wait(u64::MAX))), "retry in 86400 s");
        let unavailable = Outcome::Answered { status: 503, retry_after: Some(Duration::from_secs(120)), asked: None };
        assert_eq!(word(after_tries(&profile("subverse"), 1, unavailable)), "retry in 1 s");
    }

    #[test]
    fn a_receiver_that_asks_for_it_is_not_sent_the_message_again_where_the_profile_follows_that() {
        for (name, word_of_it) in
            [("svix", "dead: Aborted"), ("standard-webhooks", "dead: Aborted"), ("levrage", "retry in 1 s")]
        {
            let profile = profile(name);
            assert_eq!(word(after_tries(&profile, 1, asking(503, Asked::AbortMessage))), word_of_it, "{name}");
            assert_eq!(word(after_tries(&profile, 1, asking(204, Asked::AbortMessage))), "delivered", "{name}");
        }
        let gone = asking(410, Asked::AbortMessage);
        assert_eq!(word(after_tries(&profile("svix"), 1, gone)), "dead: Gone", "what the status says comes first");
        let closed = Err(CancelReason::EndpointDisabled);
        let aborted = asking(500, Asked::AbortMessage);
        let state = next(&profile("svix"), Progress::new(NOW).tried(), aborted, NOW, 0.0, closed, Terms::default());
        assert_eq!(word(state), "dead: Aborted", "as every final answer");
        let state = after_tries(&profile("svix"), 1, asking(500, Asked::Disable));
        assert_eq!(state.kind(), StateKind::Waiting, "the sweep of the disabled endpoint cancels it");
    }

    #[test]
    fn an_endpoint_is_to_be_disabled_by_410_and_where_its_receiver_asks_for_it() {
        let svix = profile("svix");
        assert_eq!(closes(&svix, answered(410)), Some(DisableReason::Gone));
        assert_eq!(
            closes(&svix, asking(204, Asked::Disable)),
            Some(DisableReason::AskedByReceiver),
            "also in a success"
        );
        assert_eq!(closes(&svix, asking(500, Asked::Disable)), Some(DisableReason::AskedByReceiver));
        assert_eq!(closes(&svix, asking(500, Asked::AbortMessage)), None);
        assert_eq!(closes(&svix, answered(404)), None);
        assert_eq!(closes(&svix, Outcome::Failed(Failure::Refused)), None);
        for name in Profile::BUILTIN {
            assert_eq!(closes(&profile(name), answered(410)), Some(DisableReason::Gone), "{name}");
        }
        for name in ["levers", "levrage", "subverse"] {
            assert_eq!(closes(&profile(name), asking(500, Asked::Disable)), None, "{name}");
        }
        let stays = Profile { disable_on_gone: false, ..svix.clone() };
        assert_eq!(closes(&stays, answered(410)), None);
        let success = crate::profile::StatusRange { from: 200, to: 499 };
        assert_eq!(
            closes(&Profile { success, ..svix }, answered(410)),
            None,
            "where it is a success, it is no goodbye"
        );
    }

    #[test]
    fn subverse_can_be_told_to_retry_more_statuses() {
        let mut subverse = profile("subverse");
        subverse.retry.also_on = vec![408, 425, 429];
        for status in [408, 425, 429] {
            assert_eq!(word(after_tries(&subverse, 1, answered(status))), "retry in 1 s");
        }
        assert_eq!(word(after_tries(&subverse, 1, answered(404))), "dead: Refused");
    }

    #[test]
    fn no_retry_comes_after_the_maximal_age() {
        let mut levers = profile("levers");
        levers.retry.max_age = Some(Duration::from_secs(4));
        assert_eq!(word(after_tries(&levers, 1, answered(500))), "retry in 1 s");
        assert_eq!(word(after_tries(&levers, 2, answered(500))), "dead: TooOld");
    }

    #[test]
    fn no_attempt_starts_after_its_message_expired_but_in_a_replay() {
        let second = Duration::from_secs(1);
        let terms = |end| Terms { expires_at: Some(end), blocked_head: None };
        let retried = |tries, round, end| {
            let progress = Progress { round, tries, attempts: tries, since: NOW };
            word(next(&profile("levers"), progress, answered(500), NOW, 0.5, Ok(()), terms(end)))
        };
        assert_eq!(retried(1, 1, NOW + second), "retry in 1 s");
        assert_eq!(retried(2, 1, NOW + second), "dead: Expired");
        assert_eq!(retried(2, 2, NOW + second), "retry in 5 s", "a replay was asked for");
        assert_eq!(retried(4, 1, NOW), "dead: Exhausted", "no retry is left that could come too late");
        let delivered =
            next(&profile("levers"), Progress::new(NOW).tried(), answered(200), NOW, 0.5, Ok(()), terms(NOW - second));
        assert_eq!(word(delivered), "delivered", "an attempt that was on its way counts");

        let turn = |progress, end| before(progress, NOW, terms(end)).map(word);
        assert_eq!(turn(Progress::new(NOW), NOW), None);
        assert_eq!(turn(Progress::new(NOW), NOW - second).as_deref(), Some("dead: Expired"));
        assert_eq!(turn(Progress::new(NOW).tried(), NOW - second).as_deref(), Some("dead: Expired"));
        assert_eq!(turn(Progress::new(NOW).next_round(NOW), NOW - second), None);
        assert_eq!(before(Progress::new(NOW), NOW, Terms::default()), None);
    }

    #[test]
    fn a_failing_head_waits_lets_pass_or_expires_as_its_endpoint_says() {
        let after = |rule, tries, since| {
            let terms = Terms { expires_at: None, blocked_head: rule };
            let progress = Progress { tries, attempts: tries, ..Progress::new(since) };
            let state = next(&profile("levers"), progress, answered(500), NOW, 0.5, Ok(()), terms);
            (word(state), lets_pass(progress, state, terms))
        };
        let waits = |seconds: u64| (format!("retry in {seconds} s"), false);
        for rule in [None, Some(BlockedHead::Wait)] {
            assert_eq!(after(rule, 3, NOW), waits(25));
        }
        let skip = Some(BlockedHead::Skip { after_attempts: 2 });
        assert_eq!(after(skip, 1, NOW), waits(1));
        assert_eq!(after(skip, 2, NOW), ("retry in 5 s".into(), true));
        assert_eq!(after(skip, 3, NOW), ("retry in 25 s".into(), true));
        assert_eq!(after(skip, 4, NOW), ("dead: Exhausted".into(), false));
        let expire = Some(BlockedHead::Expire { after_seconds: 10 });
        let ago = |seconds| NOW - Duration::from_secs(seconds);
        assert_eq!(after(expire, 2, ago(5)), waits(5));
        assert_eq!(after(expire, 2, ago(6)), ("dead: Expired".into(), false), "the retry would come too late");
        assert_eq!(after(expire, 1, ago(60)), ("dead: Expired".into(), false));
        let patient = Terms { expires_at: None, blocked_head: expire };
        assert_eq!(before(Progress::new(ago(60)), NOW, patient), None, "it has one attempt in any case");
    }

    #[test]
    fn a_failed_attempt_to_a_disabled_endpoint_is_canceled_and_a_successful_one_counts() {
        let closed = Err(CancelReason::EndpointDisabled);
        let progress = Progress::new(NOW).tried();
        let failed = next(&profile("levers"), progress, answered(500), NOW, 0.0, closed, Terms::default());
        assert_eq!(word(failed), "canceled: EndpointDisabled");
        assert_eq!(
            word(next(&profile("levers"), progress, answered(204), NOW, 0.0, closed, Terms::default())),
            "delivered"
        );
    }

    proptest! {
        #[test]
        fn a_round_ends_within_its_attempts_and_no_retry_is_early(
            status in 100u16..=999, retry_after in proptest::option::of(0u64..1_000_000),
            draw in 0.0..1.0f64, tries in 1u32..100, name in 0usize..5,
        ) {
            let profile = profile(Profile::BUILTIN[name]);
            let retry_after = retry_after.map(Duration::from_secs);
            let progress = Progress { tries, ..Progress::new(NOW) };
            let outcome = Outcome::Answered { status, retry_after, asked: None };
            let state = next(&profile, progress, outcome, NOW, draw, Ok(()), Terms::default());
            match state {
                State::Waiting { due } => {
                    let base = profile.retry.delay(tries as usize - 1).expect("a retry has its delay");
                    let least = base.mul_f64(1.0 - profile.retry.jitter);
                    prop_assert!(due.since(NOW) + Duration::from_millis(1) >= least);
                    prop_assert!(tries as usize <= profile.retry.retries());
                }
                State::Delivered { .. } => prop_assert!((200..300).contains(&status)),
                State::Dead { .. } => prop_assert!(!(200..300).contains(&status)),
                State::Held { .. } | State::Leased { .. } | State::Canceled { .. } => prop_assert!(false, "{:?}", state),
            }
        }
    }

    #[test]
    fn an_endpoints_own_policy_replaces_the_profiles() {
        let profile = Profile { retry: RetryPolicy::delays([Duration::from_secs(60)]), ..profile("levers") };
        assert_eq!(word(after_tries(&profile, 1, answered(500))), "retry in 60 s");
        assert_eq!(word(after_tries(&profile, 2, answered(500))), "dead: Exhausted");
    }
}
