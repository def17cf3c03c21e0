//! What the sender has reported of each event: the side of the story that the receivers are compared with.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use ringback::{StateKind, Trigger};

use super::lines::{Accepted, Attempted, Line};
use super::scenario::{Event, Vendor, Wave, events};

/// An event, from its acceptance to its end.
#[derive(Debug, Clone)]
pub(super) struct Story {
    /// The event.
    pub(super) event: Event,
    /// Its message, once the sender has acknowledged it.
    pub(super) message: Option<String>,
    /// Whether it was sent again after the kill, and was known.
    pub(super) repeated: bool,
    /// Its attempts by number.
    pub(super) attempts: BTreeMap<u32, Attempted>,
    /// How it stands by the queue at the end, and how many attempts are on record there.
    pub(super) stands: Option<(StateKind, usize)>,
    /// What does not fit together.
    pub(super) problems: Vec<String>,
}

impl Story {
    fn of(event: Event) -> Self {
        let attempts = BTreeMap::new();
        Story { event, message: None, repeated: false, attempts, stands: None, problems: Vec::new() }
    }

    /// How the delivery stood after its last attempt.
    pub(super) fn result(&self) -> Option<StateKind> {
        self.attempts.values().next_back().map(|attempt| attempt.result)
    }

    /// Whether its last attempt delivered it.
    pub(super) fn delivered(&self) -> bool {
        self.result() == Some(StateKind::Delivered)
    }

    /// Whether it gave up.
    pub(super) fn dead(&self) -> bool {
        self.result() == Some(StateKind::Dead)
    }

    /// The attempts before a replay.
    pub(super) fn first_round(&self) -> impl Iterator<Item = &Attempted> {
        self.attempts.values().filter(|attempt| attempt.round == 1)
    }

    /// Whether it gave up once, whatever became of it in a replay.
    pub(super) fn gave_up(&self) -> bool {
        self.first_round().last().is_some_and(|last| last.result == StateKind::Dead)
    }

    /// Whether it was attempted in a replay.
    pub(super) fn replayed(&self) -> bool {
        self.attempts.values().any(|attempt| attempt.trigger == Trigger::Replay)
    }

    /// How many attempts showed this.
    pub(super) fn count(&self, outcome: &str) -> usize {
        self.attempts.values().filter(|attempt| attempt.outcome == outcome).count()
    }

    /// Whether the attempts are numbered without a gap, and none follows a success.
    pub(super) fn in_order(&self) -> bool {
        let numbered = self.attempts.keys().zip(1..).all(|(number, expected)| *number == expected);
        let successes = self.attempts.values().filter(|attempt| attempt.result == StateKind::Delivered).count();
        numbered && successes <= 1 && (successes == 0 || self.delivered())
    }

    fn accept(&mut self, accepted: Accepted) {
        if self.message.as_ref().is_some_and(|known| *known != accepted.message) {
            self.problems.push(format!("sending it again made another message, {}", accepted.message));
        }
        if self.message.is_some() != accepted.repeated {
            self.problems.push(format!("it was accepted with repeated = {}", accepted.repeated));
        }
        self.repeated |= accepted.repeated;
        self.message = Some(accepted.message);
    }

    /// Whether it is news.
    fn attempt(&mut self, attempted: Attempted) -> bool {
        if let Some(known) = self.attempts.get(&attempted.number) {
            if known.id != attempted.id {
                self.problems.push(format!("there are two attempts of number {}", attempted.number));
            }
            return false;
        }
        self.attempts.insert(attempted.number, attempted);
        true
    }
}

/// All stories.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// In the scenario's order.
    pub(super) stories: Vec<Story>,
}

/// What is to be shown of a report.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    /// An attempt that was not known.
    Attempt(Attempted),
    /// The dead letters that there were when one was replayed.
    DeadLetters(Vec<String>),
    /// Nothing.
    Nothing,
}

impl Record {
    /// Nothing has happened.
    pub(super) fn new() -> Self {
        Record { stories: events().into_iter().map(Story::of).collect() }
    }

    /// The story of an event, by its key.
    pub(super) fn story(&self, key: &str) -> anyhow::Result<&Story> {
        self.stories.iter().find(|story| story.event.key() == key).with_context(|| format!("there is no event {key}"))
    }

    /// The stories of a wave.
    pub(super) fn wave(&self, wave: Wave) -> impl Iterator<Item = &Story> {
        self.stories.iter().filter(move |story| story.event.wave() == wave)
    }

    /// Takes in a report.
    ///
    /// # Errors
    /// It is of an event that is not in the scenario, or a delivery gave up that must not.
    pub(super) fn take_in(&mut self, line: Line) -> anyhow::Result<News> {
        match line {
            Line::Ready => {}
            Line::Accepted(accepted) => self.story_mut(&accepted.event.clone())?.accept(accepted),
            Line::Attempted(attempted) => {
                let story = self.story_mut(&attempted.event)?;
                if !story.attempt(attempted.clone()) {
                    return Ok(News::Nothing);
                }
                // On a slow machine others may give up, too, before their receiver is back.
                if story.dead() && !(story.event.vendor == Vendor::Subverse && attempted.round == 1) {
                    bail!("{} gave up after attempt {}", attempted.event, attempted.number);
                }
                return Ok(News::Attempt(attempted));
            }
            Line::Replayed { event, dead_letters } => {
                self.story(&event)?;
                return Ok(News::DeadLetters(dead_letters));
            }
            Line::Stands { event, state, attempts } => self.story_mut(&event)?.stands = Some((state, attempts)),
        }
        Ok(News::Nothing)
    }

    fn story_mut(&mut self, key: &str) -> anyhow::Result<&mut Story> {
        let found = self.stories.iter_mut().find(|story| story.event.key() == key);
        found.with_context(|| format!("the sender reports {key}, which is no event of the demo"))
    }
}
