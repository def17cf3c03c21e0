//! The board: how endpoints stand in the dispatcher's eyes, for whoever asks. It has what the plan remembers, no more, and is
//! empty while nothing is delivered.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::delivery::Lane;
use crate::health::Remembered;

/// How endpoints stand.
#[derive(Debug, Default)]
pub(crate) struct Board {
    lanes: Mutex<HashMap<Lane, Remembered>>,
}

const UNPOISONED: &str = "no code panics while it holds the board";

impl Board {
    /// Puts up how these lanes stand now, and takes down those of which nothing is remembered.
    pub(crate) fn show(&self, changed: Vec<(Lane, Option<Remembered>)>) {
        if changed.is_empty() {
            return;
        }
        let mut lanes = self.lanes.lock().expect(UNPOISONED);
        for (lane, remembered) in changed {
            match remembered {
                Some(remembered) => drop(lanes.insert(lane, remembered)),
                None => drop(lanes.remove(&lane)),
            }
        }
    }

    /// How a lane stands; as a new one if nothing is remembered of it.
    pub(crate) fn remembered(&self, lane: Lane) -> Remembered {
        self.lanes.lock().expect(UNPOISONED).get(&lane).copied().unwrap_or_default()
    }

    /// Takes everything down.
    pub(crate) fn clear(&self) {
        self.lanes.lock().expect(UNPOISONED).clear();
    }
}
