//! Type, help and unit of the families a target exposes.

use std::collections::HashMap;

use model::{MetricMetadata, MetricType};

/// Scrapes after which a family that is gone is forgotten, as in Prometheus.
const KEPT_SCRAPES: u32 = 10;
/// Families of one target; each takes ten bytes of text and over a hundred in memory.
const MAX_FAMILIES: usize = 100_000;

/// What one target says about its families.
#[derive(Debug, Default)]
pub(super) struct MetadataBook {
    families: Vec<Family>,
    by_name: HashMap<String, usize>,
    /// The family that was spoken of last; the lines of one stand together, and families come in
    /// the same order every time.
    last: usize,
    scrape: u32,
}

#[derive(Debug)]
struct Family {
    told: MetricMetadata,
    seen: u32,
    /// Not yet delivered as it is now.
    is_changed: bool,
}

impl MetadataBook {
    pub(super) fn set_kind(&mut self, metric: &str, kind: MetricType) {
        if let Some(family) = self.family(metric)
            && family.told.kind != kind
        {
            family.told.kind = kind;
            family.is_changed = true;
        }
    }

    pub(super) fn set_help(&mut self, metric: &str, help: &str) {
        if let Some(family) = self.family(metric)
            && family.told.help != help
        {
            help.clone_into(&mut family.told.help);
            family.is_changed = true;
        }
    }

    pub(super) fn set_unit(&mut self, metric: &str, unit: &str) {
        if let Some(family) = self.family(metric)
            && family.told.unit != unit
        {
            unit.clone_into(&mut family.told.unit);
            family.is_changed = true;
        }
    }

    /// The family's entry; `None` once there are too many.
    fn family(&mut self, metric: &str) -> Option<&mut Family> {
        let is = |families: &[Family], index: usize| {
            families.get(index).is_some_and(|family| family.told.metric == metric)
        };
        let index = if is(&self.families, self.last) {
            self.last
        } else if is(&self.families, self.last + 1) {
            self.last + 1
        } else if let Some(&index) = self.by_name.get(metric) {
            index
        } else if self.families.len() == MAX_FAMILIES {
            return None;
        } else {
            let told = MetricMetadata { metric: metric.to_owned(), ..MetricMetadata::default() };
            self.families.push(Family { told, seen: self.scrape, is_changed: true });
            self.by_name.insert(metric.to_owned(), self.families.len() - 1);
            self.families.len() - 1
        };
        self.last = index;
        let family = &mut self.families[index];
        family.seen = self.scrape;
        Some(family)
    }

    /// Ends a good scrape: appends what changed since the last one to `out` and forgets families
    /// that have been gone for long.
    pub(super) fn finish(&mut self, out: &mut Vec<MetricMetadata>) {
        for family in self.families.iter_mut().filter(|family| family.is_changed) {
            family.is_changed = false;
            out.push(family.told.clone());
        }
        let oldest = self.scrape.saturating_sub(KEPT_SCRAPES);
        if self.families.iter().any(|family| family.seen < oldest) {
            self.families.retain(|family| family.seen >= oldest);
            self.by_name.clear();
            let names = self.families.iter().enumerate();
            self.by_name.extend(names.map(|(index, family)| (family.told.metric.clone(), index)));
        }
        self.scrape += 1;
        self.last = 0;
    }

    /// All families, in the order in which the target first named them.
    pub(super) fn list(&self) -> Vec<MetricMetadata> {
        self.families.iter().map(|family| family.told.clone()).collect()
    }

    /// One family.
    pub(super) fn get(&self, metric: &str) -> Option<MetricMetadata> {
        self.by_name.get(metric).map(|&index| self.families[index].told.clone())
    }
}
