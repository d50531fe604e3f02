//! Which label names and values there are, over the head and blocks, and how many series bear them.

use std::collections::BTreeSet;

use labelindex::{Census, LabelIndex, Period};
use model::{Labels, MatchOp, Matcher, TenantId, TimeRange};

use crate::deletes::{Deletes, Masks};
use crate::registry::Registry;
use crate::select::{BlockSource, HeadSnapshot, hidden_in_head};

/// Up to as many names or values that hidden series bear, each is looked for together with the
/// matchers.
const FEW_DOUBTFUL: usize = 32;

/// Where names and values are looked for. As Prometheus does, a block that overlaps the range
/// counts as a whole; so does the head. Series of which deletes leave nothing do not count.
#[derive(Clone, Copy)]
pub struct LabelQuery<'a> {
    /// The head's series; `None` if no shard has samples in the range.
    pub head: Option<&'a HeadLabels<'a>>,
    /// The tenant's deletes, taken before head and blocks.
    pub deletes: &'a Deletes,
    /// Blocks of the tenant; those that do not overlap the range are passed over.
    pub blocks: &'a [BlockSource],
    /// What the series must satisfy; none = every series.
    pub matchers: &'a [Matcher],
    /// The range.
    pub range: TimeRange,
    /// Most names or values to yield; 0 = all.
    pub limit: usize,
}

/// The series of a tenant in the head.
pub struct HeadLabels<'a> {
    registry: &'a Registry,
    tenant: TenantId,
    /// Those of which deletes leave nothing, ascending.
    hidden: Vec<u32>,
}

impl<'a> HeadLabels<'a> {
    /// All series of the tenant.
    pub fn new(registry: &'a Registry, tenant: TenantId) -> Self {
        HeadLabels { registry, tenant, hidden: Vec::new() }
    }

    /// All but those of which deletes leave nothing; `concerned` has what the shards have, at any
    /// time, of the series that [`Deletes::concerned`] yields.
    pub fn without_deleted(registry: &'a Registry, concerned: &HeadSnapshot) -> Self {
        let hidden = hidden_in_head(concerned, registry);
        HeadLabels { registry, tenant: concerned.tenant, hidden }
    }
}

impl HeadLabels<'_> {
    /// Labels of those of `ordinals` that count, in the order given.
    pub fn labels_of(&self, ordinals: &[u32]) -> Vec<Labels> {
        let is_shown = |ordinal: &&u32| self.hidden.binary_search(ordinal).is_err();
        let view = self.registry.view(self.tenant);
        ordinals.iter().filter(is_shown).filter_map(|ordinal| view.labels(*ordinal)).collect()
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Names,
    Values(&'a str),
}

/// A source that can be asked.
trait Asked {
    fn select(&self, matchers: &[Matcher]) -> Vec<u32>;
    fn list(&self, wanted: Wanted<'_>, matchers: &[Matcher]) -> Vec<String>;
    fn visit(&self, wanted: Wanted<'_>, matchers: &[Matcher], visit: &mut dyn FnMut(&str));
}

impl Asked for &dyn LabelIndex {
    fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        LabelIndex::select(*self, matchers)
    }

    fn list(&self, wanted: Wanted<'_>, matchers: &[Matcher]) -> Vec<String> {
        match wanted {
            Wanted::Names => self.label_names(matchers),
            Wanted::Values(name) => self.label_values(name, matchers),
        }
    }

    fn visit(&self, wanted: Wanted<'_>, matchers: &[Matcher], visit: &mut dyn FnMut(&str)) {
        match wanted {
            Wanted::Names => self.visit_names(matchers, visit),
            Wanted::Values(name) => self.visit_values(name, matchers, visit),
        }
    }
}

impl Asked for HeadLabels<'_> {
    fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        self.registry.select(self.tenant, matchers).ordinals
    }

    fn list(&self, wanted: Wanted<'_>, matchers: &[Matcher]) -> Vec<String> {
        let mut all = Vec::new();
        self.visit(wanted, matchers, &mut |text| all.push(text.to_owned()));
        all.sort_unstable();
        all.dedup();
        all
    }

    fn visit(&self, wanted: Wanted<'_>, matchers: &[Matcher], visit: &mut dyn FnMut(&str)) {
        let of = match wanted {
            Wanted::Names => None,
            Wanted::Values(name) => Some(name),
        };
        self.registry.visit(self.tenant, of, matchers, visit);
    }
}

/// Looks at a source, the deletes that concern it, and its series that they hide.
type Look<'a> = dyn FnMut(&dyn Asked, &Masks, &[u32]) + 'a;

impl LabelQuery<'_> {
    /// Names of labels, ascending.
    pub fn names(&self) -> Vec<String> {
        self.unite(Wanted::Names)
    }

    /// Values of the label `name`, ascending.
    pub fn values(&self, name: &str) -> Vec<String> {
        self.unite(Wanted::Values(name))
    }

    /// Adds the series to a census, each once however many sources have it. Of the head those that
    /// are `active`, which ascends: whoever asks knows which of them have samples in the range.
    pub fn count(&self, active: &[u32], census: &mut Census, period: Period) {
        if let Some(head) = self.head {
            let is_shown = |ordinal: &u32| head.hidden.binary_search(ordinal).is_err();
            let shown: Vec<u32> = active.iter().copied().filter(is_shown).collect();
            head.registry.count(head.tenant, &shown, census, period);
        }
        for source in self.blocks.iter().filter(|s| s.block.range().overlaps(&self.range)) {
            let index = source.block.index();
            let deletes = self.deletes.after(source.deletes_through, source.block.range());
            let masks = Masks::find(deletes, self.matchers, |matchers| index.select(matchers));
            // As in `unite`.
            let hidden = source.block.hidden_series(&masks).unwrap_or_default();
            census.add_block(index, self.matchers, &hidden, period);
        }
    }

    /// Shows `visit` every name of a label, or every value of the label `of`, in no order and perhaps
    /// more than once.
    pub fn visit(&self, of: Option<&str>, visit: &mut dyn FnMut(&str)) {
        let wanted = of.map_or(Wanted::Names, Wanted::Values);
        self.each_source(&mut |source, masks, hidden| {
            // Fast path: nothing is deleted.
            if hidden.is_empty() {
                return source.visit(wanted, self.matchers, visit);
            }
            self.shown(source, wanted, masks, hidden).iter().for_each(|text| visit(text));
        });
    }

    fn unite(&self, wanted: Wanted<'_>) -> Vec<String> {
        let mut all = BTreeSet::new();
        self.each_source(&mut |source, masks, hidden| {
            all.extend(self.shown(source, wanted, masks, hidden));
        });
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        all.into_iter().take(limit).collect()
    }

    /// Shows `ask` each source, the deletes that concern it, and its series that they hide.
    fn each_source(&self, ask: &mut Look<'_>) {
        if let Some(head) = self.head {
            let select = |matchers: &[Matcher]| Asked::select(head, matchers);
            // Fast path: nothing is deleted.
            let masks = match head.hidden.is_empty() {
                true => Masks::default(),
                false => Masks::find(self.deletes.iter(), self.matchers, select),
            };
            ask(head, &masks, &head.hidden);
        }
        for source in self.blocks.iter().filter(|s| s.block.range().overlaps(&self.range)) {
            let index: &dyn LabelIndex = source.block.index();
            let deletes = self.deletes.after(source.deletes_through, source.block.range());
            let masks = Masks::find(deletes, self.matchers, |matchers| index.select(matchers));
            // A directory that cannot be read hides nothing; whoever reads samples reports it.
            let hidden = source.block.hidden_series(&masks).unwrap_or_default();
            ask(&index, &masks, &hidden);
        }
    }

    /// What a source has, less what only `hidden` series bear.
    fn shown(
        &self,
        source: &dyn Asked,
        wanted: Wanted<'_>,
        masks: &Masks,
        hidden: &[u32],
    ) -> Vec<String> {
        let mut all = source.list(wanted, self.matchers);
        if hidden.is_empty() {
            return all;
        }
        let selectors = masks.selectors(self.matchers);
        let of_hidden = selectors.iter().flat_map(|both| source.list(wanted, both));
        let doubtful: BTreeSet<String> = of_hidden.collect();
        let is_hidden = |series: &u32| hidden.binary_search(series).is_ok();
        // The matchers may be dear: for many names or values they are searched for once.
        let shown = (doubtful.len() > FEW_DOUBTFUL).then(|| {
            let mut is_shown = Vec::new();
            for series in source.select(self.matchers).into_iter().filter(|one| !is_hidden(one)) {
                is_shown.resize(is_shown.len().max(series as usize + 1), false);
                is_shown[series as usize] = true;
            }
            is_shown
        });
        all.retain(|found| {
            if !doubtful.contains(found) {
                return true;
            }
            let bears = match wanted {
                Wanted::Names => Matcher::new(found, MatchOp::NotEqual, ""),
                Wanted::Values(name) => Matcher::new(name, MatchOp::Equal, found),
            };
            let bears = bears.expect("no pattern is compiled");
            if let Some(is_shown) = &shown {
                let bearers = source.select(&[bears]);
                return bearers.iter().any(|series| is_shown.get(*series as usize) == Some(&true));
            }
            let bearers = source.select(&[self.matchers, &[bears]].concat());
            bearers.iter().any(|series| !is_hidden(series))
        });
        all
    }
}
