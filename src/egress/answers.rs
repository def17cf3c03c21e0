//! What names resolved to, for as long as was said.
//!
//! Who owns a name chooses how large its answers are: up to 64 KiB each, which take a megabyte once they are read. So
//! addresses alone are kept, and of no name more than [`MAX_ADDRESSES`].
//!
//! Invariant: what is kept never takes more than about 8 MiB, whatever is answered, and however many names there are.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;

use tokio::time::Instant;

/// The most names that are kept are twice as many: those since the last turn, and those of the one before.
const NAMES_A_TURN: usize = 2_048;

/// A name with more addresses is asked for each time. Receivers have a few.
const MAX_ADDRESSES: usize = 64;

/// Answers that were given lately, in two turns: the older one is dropped when the newer one is full.
#[derive(Default)]
pub(super) struct Answers {
    newer: HashMap<String, Answer>,
    older: HashMap<String, Answer>,
}

struct Answer {
    /// Empty: there is no such name, or it has no address.
    addresses: Box<[IpAddr]>,
    until: Instant,
}

impl Answers {
    /// The addresses of a name; none if it is known to have none; `None` if it has to be asked for.
    pub(super) fn get(&mut self, name: &str, now: Instant) -> Option<Vec<IpAddr>> {
        // One that is in use stays.
        if let Some((name, answer)) = self.older.remove_entry(name) {
            self.insert(name, answer);
        }
        let answer = self.newer.get(name)?;
        if answer.until <= now {
            self.newer.remove(name);
            return None;
        }
        Some(answer.addresses.to_vec())
    }

    /// Keeps an answer until then, in place of what there was.
    pub(super) fn keep(&mut self, name: &str, addresses: Vec<IpAddr>, until: Instant, now: Instant) {
        self.newer.remove(name);
        self.older.remove(name);
        if until > now && addresses.len() <= MAX_ADDRESSES {
            self.insert(name.to_owned(), Answer { addresses: addresses.into(), until });
        }
    }

    fn insert(&mut self, name: String, answer: Answer) {
        if self.newer.len() >= NAMES_A_TURN {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(name, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn addresses(count: u32) -> Vec<IpAddr> {
        (0..count).map(|last| Ipv4Addr::from_bits(0x0101_0100 + last).into()).collect()
    }

    fn now() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a time to count from")]
        Instant::now()
    }

    #[test]
    fn an_answer_is_kept_for_as_long_as_it_says_and_not_a_moment_longer() {
        let (mut answers, begin) = (Answers::default(), now());
        let end = begin + Duration::from_secs(5);
        answers.keep("a.example", addresses(2), end, begin);
        answers.keep("none.example", Vec::new(), end, begin);
        answers.keep("at-once.example", addresses(1), begin, begin);
        let before = end - Duration::from_nanos(1);
        assert_eq!(answers.get("a.example", before), Some(addresses(2)));
        assert_eq!(answers.get("none.example", before), Some(Vec::new()));
        assert_eq!(answers.get("at-once.example", begin), None);
        assert_eq!(answers.get("a.example", end), None);
        answers.keep("b.example", addresses(1), end, begin);
        answers.keep("b.example", addresses(3), begin, begin);
        assert_eq!(answers.get("b.example", begin), None, "the newest answer counts, even if it is not kept");
    }

    #[test]
    fn neither_many_names_nor_many_addresses_of_one_are_kept() {
        let (mut answers, begin) = (Answers::default(), now());
        let end = begin + Duration::from_secs(300);
        let most = u32::try_from(MAX_ADDRESSES).unwrap();
        answers.keep("in-use.example", addresses(most), end, begin);
        answers.keep("large.example", addresses(most + 1), end, begin);
        assert_eq!(answers.get("large.example", begin), None);
        for number in 0..20 * NAMES_A_TURN {
            answers.keep(&format!("{number}.example"), addresses(1), end, begin);
            if number % 1_000 == 0 {
                assert_eq!(answers.get("in-use.example", begin), Some(addresses(most)), "{number}");
            }
        }
        assert!(answers.newer.len() + answers.older.len() <= 2 * NAMES_A_TURN);
        assert_eq!(answers.get("0.example", begin), None);
    }
}
