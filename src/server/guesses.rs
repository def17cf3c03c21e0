//! Guesses at tokens: each source has a few, and then one a second.
//!
//! ```text
//!   a token ─▶ accepted lately? ─yes─▶ look it up ─▶ it speaks for somebody, or is forgotten
//!                    │ no
//!                    ▼
//!              a guess left? ─no─▶ can it be guessed at all? ─yes─▶ 429, not looked up
//!                    │ yes: it is taken,              │ no
//!                    │ and given back if              ▼
//!                    │ the token is good          look it up ─▶ it speaks for somebody, or 429
//!                    ▼
//!                look it up
//! ```
//!
//! Where all clients share one source, as behind a reverse proxy, whoever floods it takes every guess there is. So tokens
//! that are too long to be guessed never wait for one: a good one is accepted whatever else comes from its source.
//!
//! Invariants: having been accepted, or being long, spares a token the wait and nothing else, it is looked up each time;
//! hashes alone are kept; both tables are bounded.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringback::Timestamp;
use ringback::clock::{Clock, SystemClock};
use sha2::{Digest, Sha256};

use super::source::Source;

/// How many wrong tokens a source may present at once.
const AT_ONCE: u32 = 20;
/// After what time it may present one more.
const EACH: Duration = Duration::from_secs(1);
/// From how many characters on a token cannot be guessed. Those that are issued have 47; an operator's own may have 16.
const NOT_GUESSABLE: usize = 32;
/// The most sources that are remembered; the one that has guessed nothing for longest is forgotten.
const MAX_SOURCES: usize = 4_096;
/// The most tokens that are remembered as accepted are twice as many: those since the last turn, and those of the one before.
const ACCEPTED_A_TURN: usize = 2_048;
/// How often one source is logged at most.
const LOGGED_EACH: Duration = Duration::from_secs(60);

/// A token's SHA-256.
type Hash = [u8; 32];

/// What is known of a token that is presented.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presented {
    hash: Hash,
    is_guessable: bool,
}

impl Presented {
    pub(super) fn new(token: &str) -> Presented {
        Presented { hash: Sha256::digest(token).into(), is_guessable: token.len() < NOT_GUESSABLE }
    }

    pub(super) fn hash(&self) -> &[u8; 32] {
        &self.hash
    }
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It speaks for nobody.
    Unknown,
    /// Its source has guessed too often. It was not looked up, or speaks for nobody.
    TooMany,
}

/// What was presented lately.
pub(super) struct Guesses {
    clock: SystemClock,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    sources: HashMap<Source, Guessed>,
    accepted: Accepted,
}

/// What one source has guessed.
#[derive(Clone, Copy)]
struct Guessed {
    /// When it will have all of its guesses again.
    even_at: Timestamp,
    last: Timestamp,
    logged: Option<Timestamp>,
}

/// Tokens that were accepted, in two turns: the older one is dropped when the newer one is full.
#[derive(Default)]
struct Accepted {
    newer: HashSet<Hash>,
    older: HashSet<Hash>,
}

impl Accepted {
    fn insert(&mut self, hash: Hash) {
        if self.newer.len() >= ACCEPTED_A_TURN {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(hash);
    }

    /// One that is in use stays.
    fn contains(&mut self, hash: &Hash) -> bool {
        if self.newer.contains(hash) {
            return true;
        }
        let found = self.older.remove(hash);
        if found {
            self.insert(*hash);
        }
        found
    }

    fn forget(&mut self, hash: &Hash) {
        self.newer.remove(hash);
        self.older.remove(hash);
    }
}

impl Held {
    /// Takes one of the guesses of a source; `false` if none is left.
    fn take(&mut self, source: Source, now: Timestamp) -> bool {
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_SOURCES {
            let oldest = self.sources.iter().min_by_key(|(_, guessed)| guessed.last).map(|(source, _)| *source);
            oldest.map(|source| self.sources.remove(&source));
        }
        let guessed = self.sources.entry(source).or_insert(Guessed { even_at: now, last: now, logged: None });
        guessed.last = now;
        let owed = guessed.even_at.since(now);
        if owed > EACH * (AT_ONCE - 1) {
            return false;
        }
        guessed.even_at = now + owed + EACH;
        true
    }

    fn give_back(&mut self, source: Source) {
        if let Some(guessed) = self.sources.get_mut(&source) {
            guessed.even_at = guessed.even_at - EACH;
        }
    }

    /// Whether it is time to log the source; then it counts as logged.
    fn is_to_be_logged(&mut self, source: Source, now: Timestamp) -> bool {
        let Some(guessed) = self.sources.get_mut(&source) else { return false };
        let due = guessed.logged.is_none_or(|logged| now.since(logged) >= LOGGED_EACH);
        if due {
            guessed.logged = Some(now);
        }
        due
    }
}

impl Guesses {
    pub(super) fn new() -> Guesses {
        Guesses { clock: SystemClock::starting_at(Timestamp::ZERO), held: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a token up, unless it could be guessed and its source has guessed too often.
    pub(super) fn admit<T>(
        &self,
        source: Source,
        presented: Presented,
        look_up: impl FnOnce() -> Option<T>,
    ) -> Result<T, Refused> {
        let Presented { hash, is_guessable } = presented;
        let now = self.clock.now();
        let (accepted_before, took) = {
            let mut held = self.lock();
            let accepted_before = held.accepted.contains(&hash);
            (accepted_before, !accepted_before && held.take(source, now))
        };
        let refused = if accepted_before || took { Refused::Unknown } else { Refused::TooMany };
        // Not under the lock: the look-up has one of its own.
        let found = if refused == Refused::TooMany && is_guessable { None } else { look_up() };
        let mut held = self.lock();
        match &found {
            Some(_) if accepted_before => {}
            Some(_) => {
                if took {
                    held.give_back(source);
                }
                held.accepted.insert(hash);
            }
            None if accepted_before => {
                held.accepted.forget(&hash);
                held.take(source, now);
            }
            None if refused == Refused::TooMany && held.is_to_be_logged(source, now) => {
                tracing::warn!(%source, "too many wrong tokens: further ones are answered with 429");
            }
            None => {}
        }
        found.ok_or(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::net::{IpAddr, Ipv4Addr};
    use tokio::time::advance;

    fn source(number: u32) -> Source {
        IpAddr::V4(Ipv4Addr::from_bits(number)).into()
    }

    fn hash(number: u32) -> Hash {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        hash
    }

    fn short(number: u32) -> Presented {
        Presented { hash: hash(number), is_guessable: true }
    }

    fn wrong(guesses: &Guesses, from: Source) -> Refused {
        guesses.admit(from, short(0), || None::<()>).unwrap_err()
    }

    fn exhausted(from: Source) -> Guesses {
        let guesses = Guesses::new();
        while wrong(&guesses, from) == Refused::Unknown {}
        guesses
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_has_twenty_guesses_and_then_one_a_second() {
        let guesses = Guesses::new();
        for _ in 0..AT_ONCE {
            assert_eq!(wrong(&guesses, source(1)), Refused::Unknown);
        }
        for _ in 0..3 {
            assert_eq!(wrong(&guesses, source(1)), Refused::TooMany);
            advance(EACH - Duration::from_millis(1)).await;
            assert_eq!(wrong(&guesses, source(1)), Refused::TooMany);
            advance(Duration::from_millis(1)).await;
            assert_eq!(wrong(&guesses, source(1)), Refused::Unknown);
        }
        assert_eq!(wrong(&guesses, source(2)), Refused::Unknown, "another source has its own");
        advance(EACH * 1_000).await;
        let at_once = (0..100).filter(|_| wrong(&guesses, source(1)) == Refused::Unknown).count();
        assert_eq!(at_once, AT_ONCE as usize, "guesses are not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_its_guesses_a_source_s_unknown_tokens_that_could_be_guessed_are_not_looked_up() {
        let guesses = exhausted(source(1));
        let looked = Cell::new(false);
        let good = || {
            looked.set(true);
            Some(())
        };
        assert_eq!(guesses.admit(source(1), short(7), good), Err(Refused::TooMany));
        assert!(!looked.get());
        assert_eq!(guesses.admit(source(2), short(7), good), Ok(()), "from elsewhere it is accepted");
        assert_eq!(guesses.admit(source(1), short(7), good), Ok(()), "and from then on also there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_a_source_keeps_no_long_token_out_and_lets_no_wrong_one_in() {
        let guesses = exhausted(source(1));
        let long = |number| Presented { hash: hash(number), ..Presented::new(&"a".repeat(NOT_GUESSABLE)) };
        for number in 1..100 {
            assert_eq!(guesses.admit(source(1), long(number), || None::<()>), Err(Refused::TooMany));
            assert_eq!(guesses.admit(source(1), long(1_000 + number), || Some(number)), Ok(number));
            assert_eq!(wrong(&guesses, source(1)), Refused::TooMany, "a good token gives nobody a guess");
        }
        assert!(Presented::new(&"a".repeat(NOT_GUESSABLE - 1)).is_guessable);
    }

    #[tokio::test(start_paused = true)]
    async fn good_tokens_use_up_no_guesses() {
        let guesses = Guesses::new();
        for number in 1..1_000 {
            assert_eq!(guesses.admit(source(1), short(number), || Some(number)), Ok(number));
        }
        for _ in 0..AT_ONCE {
            assert_eq!(wrong(&guesses, source(1)), Refused::Unknown);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_revoked_is_unknown_at_once_and_then_counts_as_a_guess() {
        let guesses = Guesses::new();
        assert_eq!(guesses.admit(source(1), short(7), || Some(())), Ok(()));
        while wrong(&guesses, source(1)) == Refused::Unknown {}
        assert_eq!(guesses.admit(source(1), short(7), || None::<()>), Err(Refused::Unknown));
        assert_eq!(guesses.admit(source(1), short(7), || None::<()>), Err(Refused::TooMany));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_keeps_who_guessed_last() {
        let guesses = exhausted(source(0));
        let most = u32::try_from(MAX_SOURCES).unwrap();
        for number in 1..most {
            advance(Duration::from_millis(1)).await;
            wrong(&guesses, source(number));
            assert_eq!(guesses.admit(source(number), short(number), || Some(())), Ok(()));
        }
        advance(Duration::from_millis(1)).await;
        wrong(&guesses, source(0));
        wrong(&guesses, source(most));
        let held = guesses.lock();
        assert_eq!(held.sources.len(), MAX_SOURCES);
        assert!(held.sources.contains_key(&source(0)) && !held.sources.contains_key(&source(1)));
        let accepted = held.accepted.newer.len() + held.accepted.older.len();
        assert!(accepted <= 2 * ACCEPTED_A_TURN, "{accepted}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_in_use_outlives_any_number_of_others() {
        let mut accepted = Accepted::default();
        accepted.insert(hash(0));
        for number in 1..20_000 {
            accepted.insert(hash(number));
            if number % 1_000 == 0 {
                assert!(accepted.contains(&hash(0)), "{number}");
            }
        }
        assert!(!accepted.contains(&hash(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_one_line_a_minute() {
        let mut held = Held::default();
        let now = Timestamp::from_millis(1_000);
        held.take(source(1), now);
        assert!(held.is_to_be_logged(source(1), now));
        assert!(!held.is_to_be_logged(source(1), now + LOGGED_EACH - Duration::from_millis(1)));
        assert!(held.is_to_be_logged(source(1), now + LOGGED_EACH));
    }
}
