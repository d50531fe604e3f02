//! Series of one file of the log, with the labels they are sent under.

use model::{DEFAULT_TENANT, Labels, METRIC_NAME, TenantId};
use settings::relabel::{LabelBuffer, RelabelConfig, relabel};

/// What becomes of the series of one log file. Ordinals are indices.
#[derive(Default)]
pub(super) struct SeriesTable {
    entries: Vec<Option<Sendable>>,
    work: LabelBuffer,
    packed: Vec<u8>,
}

/// A series that is sent.
pub(super) struct Sendable {
    pub(super) labels: Labels,
    pub(super) hash: u32,
    /// The time of its last row.
    pub(super) last_ms: Option<i64>,
}

impl SeriesTable {
    /// Another file begins, which defines its series anew.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Adds a series and yields its ordinal.
    pub(super) fn define(
        &mut self,
        tenant: TenantId,
        labels: &Labels,
        external: &Labels,
        rules: &[RelabelConfig],
    ) -> u32 {
        let ordinal =
            u32::try_from(self.entries.len()).expect("a log numbers its series below 2^32");
        // A remote knows no tenants: series of others would mix with those of the default.
        let sent =
            if tenant == DEFAULT_TENANT { self.sendable(labels, external, rules) } else { None };
        self.entries.push(sent);
        ordinal
    }

    /// The series, unless relabeling dropped it.
    pub(super) fn get_mut(&mut self, ordinal: u32) -> Option<&mut Sendable> {
        self.entries.get_mut(ordinal as usize)?.as_mut()
    }

    fn sendable(
        &mut self,
        labels: &Labels,
        external: &Labels,
        rules: &[RelabelConfig],
    ) -> Option<Sendable> {
        let labels = if external.is_empty() && rules.is_empty() {
            labels.clone()
        } else {
            self.work.clear();
            self.work.load(labels);
            for (name, value) in external.iter() {
                // A label of the series' own stays, as in Prometheus.
                if self.work.get(name).is_empty() {
                    self.work.set(name, value);
                }
            }
            if !relabel(rules, &mut self.work) || self.work.get(METRIC_NAME).is_empty() {
                return None;
            }
            self.packed.clear();
            self.work.pack_into(&mut self.packed);
            Labels::from_packed(&self.packed).ok()?
        };
        let hash = hash(labels.as_packed());
        Some(Sendable { labels, hash, last_ms: None })
    }
}

/// FNV-1a, folded: it only has to spread series over a few shards, always in the same way.
fn hash(bytes: &[u8]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use settings::NameValidation;

    use super::*;

    #[test]
    fn external_labels_come_before_the_rules_and_hide_nothing() {
        let rules = b"[{source_labels: [region], regex: eu, target_label: site, replacement: x},
              {source_labels: [__name__], regex: 'drop_.*', action: drop},
              {source_labels: [__name__], regex: 'nameless', target_label: __name__, replacement: ''}]";
        let rules =
            settings::relabel::parse_rules("test", rules, NameValidation::Utf8).expect("rules");
        let set = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).expect("set");
        let external = set(&[("region", "eu"), ("job", "external")]);
        let mut table = SeriesTable::default();
        for (labels, sent) in [
            (
                set(&[("__name__", "m"), ("job", "own")]),
                Some("m{job=\"own\", region=\"eu\", site=\"x\"}"),
            ),
            (
                set(&[("__name__", "m"), ("region", "us")]),
                Some("m{job=\"external\", region=\"us\"}"),
            ),
            (set(&[("__name__", "drop_m")]), None),
            (set(&[("__name__", "nameless")]), None),
        ] {
            let ordinal = table.define(DEFAULT_TENANT, &labels, &external, &rules);
            let found = table.get_mut(ordinal).map(|series| series.labels.to_string());
            assert_eq!(found.as_deref(), sent, "{labels}");
        }
        let other = table.define(TenantId(7), &set(&[("__name__", "m")]), &external, &rules);
        assert!(table.get_mut(other).is_none());
    }
}
