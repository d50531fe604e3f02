//! Which label names and values there are, over the head and blocks.

use std::collections::BTreeSet;

use labelindex::LabelIndex;
use model::{Matcher, TenantId, TimeRange};

use crate::registry::Registry;
use crate::select::BlockSource;

/// Where names and values are looked for. As Prometheus does, a block that overlaps the range
/// counts as a whole; so does the head.
#[derive(Clone, Copy)]
pub struct LabelQuery<'a> {
    /// The head's series; `None` if no shard has samples in the range.
    pub head: Option<(&'a Registry, TenantId)>,
    /// Blocks of the tenant; those that do not overlap the range are passed over.
    pub blocks: &'a [BlockSource],
    /// What the series must satisfy; none = every series.
    pub matchers: &'a [Matcher],
    /// The range.
    pub range: TimeRange,
    /// Most names or values to yield; 0 = all.
    pub limit: usize,
}

impl LabelQuery<'_> {
    /// Names of labels, ascending.
    pub fn names(&self) -> Vec<String> {
        let of_head = self.head.map(|(registry, tenant)| registry.names(tenant, self.matchers));
        self.unite(of_head, |index| index.label_names(self.matchers))
    }

    /// Values of the label `name`, ascending.
    pub fn values(&self, name: &str) -> Vec<String> {
        let of_head =
            self.head.map(|(registry, tenant)| registry.values(tenant, name, self.matchers));
        self.unite(of_head, |index| index.label_values(name, self.matchers))
    }

    fn unite(
        &self,
        of_head: Option<Vec<String>>,
        of_block: impl Fn(&dyn LabelIndex) -> Vec<String>,
    ) -> Vec<String> {
        let mut all: BTreeSet<String> = of_head.into_iter().flatten().collect();
        for source in self.blocks.iter().filter(|s| s.block.range().overlaps(&self.range)) {
            all.extend(of_block(source.block.index()));
        }
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        all.into_iter().take(limit).collect()
    }
}
