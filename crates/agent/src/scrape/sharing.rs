//! Targets that several scrapers have in common.

use model::TimeRange;
use tokio::sync::watch;

/// Decides which of several scrapers with the same configuration asks a target. All must decide alike for
/// each scrape, by the time at which it is due: those times are the same at all of them.
pub trait Sharing: Send + Sync + 'static {
    /// Whose the scrape of a target is. `place` is a hash of the target, the same at all; `due_ms` is when
    /// it is due, milliseconds since the epoch, and has come.
    fn whose(&self, place: u64, due_ms: i64) -> Whose;

    /// Tells, each time that one is found to be gone and its targets are given to the others, in which time
    /// nobody asked them: from its last sign of life until they are others' and this one knows. `None`
    /// where nobody is ever gone.
    fn gone(&self) -> Option<watch::Receiver<TimeRange>> {
        None
    }

    /// The name of this one.
    fn own_name(&self) -> String;
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// This one.
    Own,
    /// Another, by name.
    Of(String),
    /// Nobody, as far as this one knows: not this one.
    Nobody,
}
