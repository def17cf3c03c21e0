//! What is being worked on right now in this process: one at a time for each name.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

const UNPOISONED: &str = "no code panics while it holds the claims";

/// The names that are claimed.
pub(super) struct Claims<T>(Arc<Mutex<HashSet<T>>>);

impl<T> Default for Claims<T> {
    fn default() -> Self {
        Claims(Arc::default())
    }
}

impl<T: Eq + Hash + Clone> Claims<T> {
    /// Claims a name until the claim is dropped; `None` if somebody has it.
    pub(super) fn claim(&self, name: T) -> Option<Claim<T>> {
        let fresh = self.0.lock().expect(UNPOISONED).insert(name.clone());
        fresh.then(|| Claim { claims: Arc::clone(&self.0), name })
    }
}

/// The right to work on a name.
#[must_use = "a claim that is dropped is let go"]
pub(super) struct Claim<T: Eq + Hash> {
    claims: Arc<Mutex<HashSet<T>>>,
    name: T,
}

impl<T: Eq + Hash> Claim<T> {
    /// What is claimed.
    pub(super) fn name(&self) -> &T {
        &self.name
    }
}

impl<T: Eq + Hash> Drop for Claim<T> {
    fn drop(&mut self) {
        self.claims.lock().expect(UNPOISONED).remove(&self.name);
    }
}
