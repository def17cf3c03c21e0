//! Members of requests: changed, reset or left alone; and those that have two names.

use serde::{Deserialize, Deserializer};

use super::problem::Problem;

/// A member of a change: absent keeps, `null` resets, a value sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Patch<T> {
    #[default]
    Keep,
    Reset,
    Set(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Patch::Reset, Patch::Set))
    }
}

impl<T: Default> Patch<T> {
    /// The value that follows.
    pub(super) fn over(self, old: T) -> T {
        match self {
            Patch::Keep => old,
            Patch::Reset => T::default(),
            Patch::Set(value) => value,
        }
    }
}

impl<T> Patch<T> {
    /// The same, for a member whose reset value is that there is none.
    pub(super) fn optional(self) -> Patch<Option<T>> {
        match self {
            Patch::Keep => Patch::Keep,
            Patch::Reset => Patch::Reset,
            Patch::Set(value) => Patch::Set(Some(value)),
        }
    }
}

/// A member with a name of today and one of before: either may be given, or both if they say the same.
pub(super) fn either<T: PartialEq>(name: &str, today: Patch<T>, before: Patch<T>) -> Result<Patch<T>, Problem> {
    match (today, before) {
        (Patch::Keep, value) | (value, Patch::Keep) => Ok(value),
        (today, before) if today == before => Ok(today),
        _ => Err(Problem::invalid("body", name, "is given under two names with different values")),
    }
}

/// [`either`], where `null` is the same as absent.
pub(super) fn one_of<T: PartialEq>(name: &str, today: Option<T>, before: Option<T>) -> Result<Option<T>, Problem> {
    let patch = |value: Option<T>| value.map_or(Patch::Keep, Patch::Set);
    Ok(match either(name, patch(today), patch(before))? {
        Patch::Keep | Patch::Reset => None,
        Patch::Set(value) => Some(value),
    })
}
