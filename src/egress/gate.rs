//! The policy in force, which all who ask for it share.

use std::sync::{Arc, PoisonError, RwLock};

use super::Policy;

/// The [`Policy`] in force. All clones are one: a change is seen at once by registration, by the next attempt, and
/// by connections that are kept.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<RwLock<Arc<Policy>>>);

impl Gate {
    /// The policy of this moment.
    pub fn policy(&self) -> Arc<Policy> {
        // Whole values are put in its place, so none is ever half changed.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another policy in force. Attempts that are under way end under the one they began with.
    pub fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
}

impl From<Policy> for Gate {
    fn from(policy: Policy) -> Gate {
        Gate(Arc::new(RwLock::new(Arc::new(policy))))
    }
}
