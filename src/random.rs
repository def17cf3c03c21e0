//! Randomness, in one place: ids, secrets and jitter.

use std::sync::Mutex;

use rand::rngs::{SysRng, Xoshiro256PlusPlus};
use rand::{Rng, RngExt, TryRng};

use crate::time::Timestamp;

/// Makes ids whose random part is unpredictable at the start of each millisecond and ascends within it, so
/// that ids made by one source sort in the order in which they were made.
#[derive(Debug)]
pub struct IdSource {
    state: Mutex<IdState>,
}

#[derive(Debug)]
struct IdState {
    random: Xoshiro256PlusPlus,
    last: (Timestamp, u128),
}

impl IdSource {
    /// A source seeded by the operating system.
    pub fn new() -> Self {
        Self::seeded(rand::make_rng())
    }

    fn seeded(random: Xoshiro256PlusPlus) -> Self {
        IdSource { state: Mutex::new(IdState { random, last: (Timestamp::ZERO, 0) }) }
    }

    /// The parts of the next id: a time (`now`, or the last id's if the clock stood still), and 80 bits.
    pub fn next(&self, now: Timestamp) -> (Timestamp, u128) {
        const TAIL: u128 = (1 << 80) - 1;
        let mut state = self.state.lock().expect("no code panics while it holds the id source");
        let time = now.max(state.last.0);
        let tail = if time == state.last.0 {
            state.last.1 + 1 + u128::from(state.random.next_u32())
        } else {
            // The top bit stays clear, which leaves room to count up within the millisecond.
            (u128::from(state.random.next_u64()) << 16 | u128::from(state.random.next_u32() & 0xffff)) & (TAIL >> 1)
        };
        state.last = (time, tail & TAIL);
        state.last
    }
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

/// 32 bytes of the operating system's randomness, for a secret.
pub(crate) fn secret_bytes() -> [u8; 32] {
    system_bytes()
}

/// A nonce to seal a secret with. 24 random bytes do not repeat, however many secrets a key seals.
pub(crate) fn nonce() -> [u8; 24] {
    system_bytes()
}

fn system_bytes<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// A number from 0 up to, not including, 1, for jitter.
pub(crate) fn draw() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "this is the randomness seam")]
    rand::rng().random()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MessageId;

    #[test]
    fn ids_of_one_source_ascend_whatever_the_clock_does() {
        let source = IdSource::new();
        let times = [5, 5, 5, 9, 3, 9, 10, 10, 2];
        let ids: Vec<_> = times
            .iter()
            .map(|millis| {
                let (time, random) = source.next(Timestamp::from_millis(*millis));
                MessageId::from_parts(time, random)
            })
            .collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }
}
