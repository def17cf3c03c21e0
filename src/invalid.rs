//! A value that a caller gave and that cannot be taken.

use std::borrow::Cow;
use std::fmt;

/// Bad input: which field, and what is wrong with it. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    field: Cow<'static, str>,
    problem: Cow<'static, str>,
}

impl Invalid {
    /// `field` is the name in the JSON form (`retry.delaysMs`), `problem` a phrase that says what would be right.
    pub fn new(field: impl Into<Cow<'static, str>>, problem: impl Into<Cow<'static, str>>) -> Self {
        Invalid { field: field.into(), problem: problem.into() }
    }

    /// The field's name, as in the JSON form.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong, in words that say what would be right.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for Invalid {}
