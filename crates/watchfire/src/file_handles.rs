//! The system's limit on open files, which connections and the store share.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process' limit on open files as far as it may itself, and yields how many of the
/// `wanted` connections fit: half of the limit is kept for the store. A log that cannot begin a
/// file ends the process, and no number of clients may cause that.
pub(crate) fn connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let effective = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit on open files stays as it is");
            limit.current
        }
    };
    let most = effective.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(wanted));
    if most < wanted {
        tracing::warn!(
            http.max_connections = wanted,
            connections = most,
            "fewer connections than configured: the limit on open files is too low; raise it \
             (ulimit -n, or LimitNOFILE of the service)"
        );
    }
    wanted.min(most)
}
