//! Rounds: whose turn it is, when not everybody can have a permit at once.
//!
//! In a round one of weight n has up to n turns, one after the other, where others have one. Who has nothing to do, or may
//! not take more, leaves the rounds and holds nobody up. Rounds go on where the last permit was given, however few there are.

use std::collections::VecDeque;

/// Who had a turn last, and how many in the same round.
pub(super) type Last<K> = Option<(K, u32)>;

struct Turn<K, T> {
    key: K,
    weight: u32,
    what: T,
}

/// Those who take turns.
pub(super) struct Rounds<K, T> {
    queue: VecDeque<Turn<K, T>>,
    /// How many turns the first one has left in this round.
    left: u32,
}

impl<K: Ord + Copy, T> Rounds<K, T> {
    /// Those of `items`, which are in the order of their keys, each with its weight. They go on after `last`.
    pub(super) fn new(items: impl Iterator<Item = (K, u32, T)>, last: Last<K>) -> Self {
        let mut queue: VecDeque<_> =
            items.map(|(key, weight, what)| Turn { key, weight: weight.max(1), what }).collect();
        let mut taken = 0;
        if let Some((key, turns)) = last {
            let at = queue.partition_point(|turn| turn.key < key);
            let goes_on = queue.get(at).is_some_and(|turn| turn.key == key && turns < turn.weight);
            let start = if goes_on { at } else { queue.partition_point(|turn| turn.key <= key) };
            queue.rotate_left(start % queue.len().max(1));
            taken = if goes_on { turns } else { 0 };
        }
        let left = queue.front().map_or(0, |turn| turn.weight - taken);
        Rounds { queue, left }
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self) -> Option<(K, &mut T)> {
        self.queue.front_mut().map(|turn| (turn.key, &mut turn.what))
    }

    /// Whoever's turn it was has taken it.
    pub(super) fn taken(&mut self) -> Last<K> {
        let turn = self.queue.front()?;
        self.left -= 1;
        let last = (turn.key, turn.weight - self.left);
        if self.left == 0 {
            self.queue.rotate_left(1);
            self.left = self.queue.front().map_or(0, |turn| turn.weight);
        }
        Some(last)
    }

    /// Whoever's turn it was takes no more.
    pub(super) fn leave(&mut self) {
        self.queue.pop_front();
        self.left = self.queue.front().map_or(0, |turn| turn.weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(last: Last<u8>) -> Rounds<u8, ()> {
        Rounds::new([(1, 1, ()), (2, 3, ()), (3, 1, ())].into_iter(), last)
    }

    fn order(mut rounds: Rounds<u8, ()>, turns: usize) -> (Vec<u8>, Last<u8>) {
        let mut last = None;
        let order = (0..turns).map(|_| {
            last = rounds.taken();
            last.unwrap().0
        });
        (order.collect(), last)
    }

    #[test]
    fn one_of_weight_three_has_three_turns_where_others_have_one() {
        assert_eq!(order(rounds(None), 10).0, [1, 2, 2, 2, 3, 1, 2, 2, 2, 3]);
    }

    #[test]
    fn a_round_goes_on_where_it_was_left_one_permit_at_a_time() {
        let (mut seen, mut last) = (Vec::new(), None);
        for _ in 0..10 {
            let (one, after) = order(rounds(last), 1);
            seen.extend(one);
            last = after;
        }
        assert_eq!(seen, [1, 2, 2, 2, 3, 1, 2, 2, 2, 3]);
    }

    #[test]
    fn who_leaves_holds_nobody_up() {
        let mut rounds = rounds(Some((1, 1)));
        assert_eq!(rounds.next().map(|(key, ())| key), Some(2));
        rounds.leave();
        assert_eq!(order(rounds, 3).0, [3, 1, 3]);
        let mut gone: Rounds<u8, ()> = Rounds::new([].into_iter(), Some((9, 1)));
        assert!(gone.next().is_none() && gone.taken().is_none());
    }

    #[test]
    fn a_weight_that_was_lowered_meanwhile_ends_the_turn() {
        let lowered = Rounds::new([(1, 1, ()), (2, 2, ())].into_iter(), Some((2, 2)));
        assert_eq!(order(lowered, 3).0, [1, 2, 2]);
    }
}
