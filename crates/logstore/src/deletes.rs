//! Deletes, as reading applies them.

use std::fmt;

use model::{Labels, Matcher};

use crate::query::LineTest;
use crate::time::NsRange;

/// Hides lines of some streams in a range of time, all or those that pass a test.
#[derive(Clone)]
pub struct LogDelete {
    /// A stream is concerned if it satisfies all matchers of any of these.
    pub selectors: Vec<Vec<Matcher>>,
    /// The range.
    pub range: NsRange,
    /// Which lines; `None` for all.
    pub line_test: Option<LineTest>,
}

impl fmt::Debug for LogDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDelete")
            .field("selectors", &self.selectors)
            .field("range", &self.range)
            .field("has_line_test", &self.line_test.is_some())
            .finish()
    }
}

impl LogDelete {
    /// Whether it may hide lines of a stream with these labels.
    pub(crate) fn concerns(&self, labels: &Labels) -> bool {
        self.selectors.iter().any(|matchers| Matcher::all_match(matchers, labels))
    }
}

/// What a delete hides of one stream.
#[derive(Clone)]
pub(crate) struct Hide {
    pub(crate) range: NsRange,
    pub(crate) line_test: Option<LineTest>,
}

impl Hide {
    /// Those of `deletes` that may hide lines of a stream in a range.
    pub(crate) fn find<'a>(
        deletes: impl Iterator<Item = &'a LogDelete>,
        labels: &Labels,
        range: &NsRange,
    ) -> Vec<Hide> {
        let meets = |delete: &&LogDelete| {
            let both = delete.range.intersection(range);
            both.start_ns < both.end_ns && delete.concerns(labels)
        };
        deletes
            .filter(meets)
            .map(|delete| Hide { range: delete.range, line_test: delete.line_test.clone() })
            .collect()
    }
}
