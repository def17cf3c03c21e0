//! The scenario: which events are sent to which vendor's customer, and how slowly time runs.
//!
//! Shared by the sender and by the receivers, as an agreement between a vendor and its customers is: where requests
//! go, and which secret both know. What must arrive stands in `documents.rs`.

use std::time::Duration;

use ringback::{Profile, RetryPolicy, Schedule, example_event_types};

/// Every delay and every time limit of the vendors is divided by this.
pub(super) const SCALE: u32 = 10;

/// The id that the typed events carry in place of the documents' one, so that receivers can tell them apart.
pub(super) const TYPED_ID: &str = "typed_1";

/// A vendor whose way of sending is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Vendor {
    Levers,
    Levrage,
    Subverse,
}

impl Vendor {
    /// In this order they stand wherever there is one value a vendor.
    pub(super) const ALL: [Vendor; 3] = [Vendor::Levers, Vendor::Levrage, Vendor::Subverse];

    /// The name of its profile.
    pub(super) fn name(self) -> &'static str {
        match self {
            Vendor::Levers => "levers",
            Vendor::Levrage => "levrage",
            Vendor::Subverse => "subverse",
        }
    }

    /// What its customer has instead of a good day.
    pub(super) fn trouble(self) -> &'static str {
        match self {
            Vendor::Levers => "answers 500 to the first two requests of each event",
            Vendor::Levrage => "leaves the first two requests of each event without an answer, past the time limit",
            Vendor::Subverse => "is down, and comes back when a delivery has given up",
        }
    }

    /// What both sides know: the secrets and the header's value that the vendors' own pages show.
    pub(super) fn secret(self) -> &'static str {
        match self {
            Vendor::Levers => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            Vendor::Levrage => "whsec_your_secret_key",
            Vendor::Subverse => "Bearer your-token-here",
        }
    }

    /// Its profile, with the vendor's own numbers.
    pub(super) fn profile(self) -> Profile {
        Profile::builtin(self.name()).expect("the three vendors' profiles are built in")
    }

    /// The vendor's delays before the retries.
    pub(super) fn delays(self) -> Vec<Duration> {
        let policy = self.profile().retry;
        (0..policy.retries()).filter_map(|retry| policy.delay(retry)).collect()
    }

    /// The vendor's retry policy on the demo's time.
    pub(super) fn scaled_retry(self) -> RetryPolicy {
        let delays = self.delays().into_iter().map(|delay| delay / SCALE).collect();
        RetryPolicy { schedule: Schedule::Delays(delays), ..self.profile().retry }
    }

    /// The vendor's time limit on the demo's time.
    pub(super) fn scaled_timeout(self) -> Duration {
        self.profile().timeout() / SCALE
    }
}

/// One value a vendor.
#[derive(Debug, Clone, Default)]
pub(super) struct PerVendor<T>([T; 3]);

impl<T> PerVendor<T> {
    /// Makes them in the vendors' order.
    pub(super) fn try_make<E>(mut make: impl FnMut(Vendor) -> Result<T, E>) -> Result<Self, E> {
        let [first, second, third] = Vendor::ALL;
        Ok(PerVendor([make(first)?, make(second)?, make(third)?]))
    }

    /// The vendor's one.
    pub(super) fn of(&self, vendor: Vendor) -> &T {
        &self.0[vendor as usize]
    }

    /// The vendor's one, to change it.
    pub(super) fn of_mut(&mut self, vendor: Vendor) -> &mut T {
        &mut self.0[vendor as usize]
    }

    /// All of them, in the vendors' order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

/// Where an event's payload comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The vendor's own example, to the letter.
    Document,
    /// One of the crate's typed events, filled with what the example says.
    Typed,
}

/// When an event is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wave {
    /// At the start.
    First,
    /// Right before the sender is killed: acknowledged, and hardly tried yet.
    Second,
}

/// An event of the scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Whose it is.
    pub(super) vendor: Vendor,
    /// What happened.
    pub(super) event_type: &'static str,
    /// Where its payload comes from.
    pub(super) form: Form,
}

impl Event {
    /// Its event id and its idempotency key: with it, sending again is harmless.
    pub(super) fn key(&self) -> String {
        let form = match self.form {
            Form::Document => "document",
            Form::Typed => "typed",
        };
        format!("{}/{}/{form}", self.vendor.name(), self.event_type)
    }

    /// Its name for people.
    pub(super) fn title(&self) -> String {
        match self.form {
            Form::Document => self.event_type.to_owned(),
            Form::Typed => format!("{} (typed)", self.event_type),
        }
    }

    /// Whether its receiver comes back only after its delivery gave up.
    pub(super) fn becomes_a_dead_letter(&self) -> bool {
        self.event_type == "call.placed" && self.form == Form::Document
    }

    /// When it is sent.
    pub(super) fn wave(&self) -> Wave {
        match self.vendor {
            Vendor::Levers | Vendor::Levrage => Wave::First,
            Vendor::Subverse if self.becomes_a_dead_letter() => Wave::First,
            Vendor::Subverse => Wave::Second,
        }
    }
}

/// All events: every example that a vendor's page has, and each typed event once.
pub(super) fn events() -> Vec<Event> {
    let mut events = Vec::new();
    for vendor in Vendor::ALL {
        let typed: &[&'static str] = match vendor {
            Vendor::Levers => &[ringback::levers::PHONE_CALL_ENDED],
            Vendor::Levrage => &[ringback::levrage::CALL_ENDED],
            Vendor::Subverse => &["call.completed", "workflow.completed"],
        };
        let documents = example_event_types(vendor.name());
        events.extend(documents.iter().map(|event_type| Event { vendor, event_type, form: Form::Document }));
        events.extend(typed.iter().map(|event_type| Event { vendor, event_type, form: Form::Typed }));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_key_of_its_own_and_one_becomes_a_dead_letter() {
        let events = events();
        let mut keys: Vec<_> = events.iter().map(Event::key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), events.len());
        assert_eq!(events.iter().filter(|event| event.becomes_a_dead_letter()).count(), 1);
    }

    #[test]
    fn the_scaled_schedule_is_a_tenth_of_the_vendors() {
        let delays: Vec<_> = (0..4).map(|retry| Vendor::Subverse.scaled_retry().delay(retry)).collect();
        assert_eq!(delays, [Some(100), Some(500), Some(2_500), None].map(|ms| ms.map(Duration::from_millis)));
        assert_eq!(Vendor::Levers.scaled_timeout(), Duration::from_secs(3));
    }
}
