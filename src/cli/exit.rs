//! How the program ends: the exit codes, and the problems that lead to them.

use std::fmt;
use std::process::ExitCode;

/// The exit codes, as every help and `docs/cli.md` list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All that was asked for was done, and held.
    Done = 0,
    /// It failed, was refused, or did not hold: a signature that does not fit, an attempt that was not delivered.
    Failed = 1,
    /// The command line or a setting is wrong, or a question could not be asked.
    Usage = 2,
    /// No server could be reached, or it takes no token that was given.
    Unreachable = 3,
    /// What was named does not exist.
    NotFound = 4,
    /// Ctrl-C or SIGTERM ended it before it was done.
    Interrupted = 130,
}

/// The exit codes, for the help.
pub(super) const TABLE: &str = "Exit codes:
  0   done
  1   failed, refused, not verified
  2   the command line or a setting is wrong
  3   no server could be reached, or no token was accepted
  4   what was named does not exist
  130 interrupted before it was done";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command ended early: one sentence for people, and the exit code.
#[derive(Debug)]
pub(crate) struct Problem {
    /// How the program ends.
    pub(crate) exit: Exit,
    /// What went wrong. It may quote others, so it is escaped where it is shown; empty if there is nothing to say.
    pub(crate) text: String,
}

impl Problem {
    /// A problem that ends the program like this.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Problem {
        Problem { exit, text: text.into() }
    }

    /// It failed.
    pub(crate) fn failed(text: impl Into<String>) -> Problem {
        Problem::new(Exit::Failed, text)
    }

    /// It was asked for in a way that cannot be understood.
    pub(crate) fn usage(text: impl Into<String>) -> Problem {
        Problem::new(Exit::Usage, text)
    }

    /// Whoever read the output has seen enough (`ringback log app | head`): an end without a word.
    pub(crate) fn nobody_reads() -> Problem {
        Problem::new(Exit::Done, "")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Problem {
        Problem::failed(format!("{error:#}"))
    }
}
