//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to what the system allows. The usual one of 1,024 is there for programs that use `select`; connections
/// to the API, to receivers and kept for later are more than that by default.
pub(super) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = current, to = maximum, "the limit of open files was raised"),
        Err(error) => tracing::warn!(%error, limit = current, "the limit of open files could not be raised"),
    }
}
