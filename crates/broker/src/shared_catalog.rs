//! The catalog as everything above the wall sees it: for reading.

use std::sync::Arc;

use catalog::State;
use consensus::Consensus;
use parking_lot::Mutex;

/// The catalog of one machine, or what this member of a cluster has of the agreed one. Changes go
/// through [`crate::commit::Message::Command`].
#[derive(Clone)]
pub(crate) enum SharedCatalog {
    /// Only the committer changes it.
    Alone(Arc<Mutex<State>>),
    /// Consensus changes it.
    Agreed(Consensus),
}

impl SharedCatalog {
    /// Lets `read` look at the state. Changes wait meanwhile, so it must be quick.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        match self {
            SharedCatalog::Alone(state) => read(&state.lock()),
            SharedCatalog::Agreed(consensus) => consensus.read(read),
        }
    }
}
