//! Deletes: what they hide, and when they can be forgotten.

use model::{MatchOp, TenantId, TimeRange};

use crate::{BlockMeta, CatalogError, Signal};

/// Most deletes that may wait for their rows to be removed. Each is looked at by every query it
/// could concern.
pub const MAX_TOMBSTONES: usize = 1_000;

/// Most bytes of label names and values in one delete.
pub const MAX_TOMBSTONE_BYTES: usize = 16 << 10;

/// Most selectors in one delete. Each is a search of the index of everything the delete concerns.
pub const MAX_TOMBSTONE_SELECTORS: usize = 64;

/// While there is a key that starts like this, deletes after the number that its value starts with are kept
/// although nothing is left of what they hid: blocks are about to come that are older than they.
pub const KEEPS_DELETES: &str = "moving/";

/// Most deletes that are kept for that alone, the newest.
pub const MAX_KEPT_TOMBSTONES: usize = MAX_TOMBSTONES / 2;

/// The number that such a value starts with.
pub(crate) fn kept_since(value: &[u8]) -> Option<u64> {
    let digits = value.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A delete: rows of matching series in a range of time that were committed before it are hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Its place in the order of commits: it concerns what says a lower number of itself. At least 1.
    pub number: u64,
    /// Whose rows.
    pub tenant: TenantId,
    /// Rows of what.
    pub signal: Signal,
    /// In which time; not empty.
    pub range: TimeRange,
    /// When it was made, milliseconds since the epoch.
    pub at_ms: i64,
    /// A series is concerned if it satisfies all conditions of any of these; none is empty.
    pub selectors: Vec<Vec<LabelCondition>>,
}

/// A condition on a label as it was written; `model::Matcher` is the same, ready to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelCondition {
    /// Name of the label.
    pub name: String,
    /// How to compare.
    pub op: MatchOp,
    /// The value or pattern.
    pub value: String,
}

impl Tombstone {
    /// Whether rows of the block may be hidden by it.
    pub fn concerns(&self, block: &BlockMeta) -> bool {
        self.number > block.deletes_through
            && (self.tenant, self.signal) == (block.tenant, block.signal)
            && self.range.overlaps(&block.range)
    }

    /// Whether it is within the limits and says something.
    pub(crate) fn check(&self) -> Result<(), CatalogError> {
        let conditions = self.selectors.iter().flatten();
        let found: usize = conditions.map(|c| c.name.len() + c.value.len()).sum();
        if found > MAX_TOMBSTONE_BYTES {
            return Err(CatalogError::TooLarge {
                what: "a delete's selectors",
                found: found as u64,
                limit: MAX_TOMBSTONE_BYTES as u64,
            });
        }
        if self.selectors.len() > MAX_TOMBSTONE_SELECTORS {
            return Err(CatalogError::TooManySelectors {
                found: self.selectors.len(),
                limit: MAX_TOMBSTONE_SELECTORS,
            });
        }
        let is_void = self.selectors.is_empty() || self.selectors.iter().any(Vec::is_empty);
        if is_void || self.range.is_empty() {
            return Err(CatalogError::VoidDelete);
        }
        Ok(())
    }
}
