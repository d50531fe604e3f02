//! The groups that a query read lately: streams that lie in the same group are read one after the other, and
//! those of many groups in turn.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::block::LogBlock;
use crate::open_group::OpenGroup;

/// Bytes of groups that a query keeps, unless it is told otherwise.
pub(crate) const DEFAULT_BYTES: usize = 64 << 20;
/// Groups that it keeps, at most.
const MAX_GROUPS: usize = 64;

/// Groups of blocks, the one that was used last first. Any thread of the query may use it.
pub(crate) struct GroupCache {
    groups: Mutex<VecDeque<Arc<OpenGroup>>>,
    limit_bytes: usize,
}

impl GroupCache {
    /// Keeps so many bytes, and the group that is read.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        GroupCache { groups: Mutex::default(), limit_bytes }
    }

    /// A group of a block.
    pub(crate) fn get(&self, block: &Arc<LogBlock>, number: u32) -> Arc<OpenGroup> {
        let mut groups = self.groups.lock();
        let at = groups.iter().position(|group| group.is(block, number));
        let group = match at.and_then(|at| groups.remove(at)) {
            Some(group) => group,
            None => Arc::new(OpenGroup::new(Arc::clone(block), number)),
        };
        groups.push_front(Arc::clone(&group));
        group
    }

    /// Gives up what is too much.
    pub(crate) fn trim(&self) {
        let mut groups = self.groups.lock();
        let mut bytes = 0;
        let mut kept = 0;
        for group in groups.iter() {
            bytes += group.bytes();
            if kept > 0 && bytes > self.limit_bytes {
                break;
            }
            kept += 1;
        }
        groups.truncate(kept.min(MAX_GROUPS));
    }
}
