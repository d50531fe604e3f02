//! Types, help texts and units of metrics, kept in the catalog's key space.

use std::collections::BTreeMap;

use catalog::{Command, Expected, State};
use crossbeam_channel::bounded;
use model::{MetricBatch, MetricMetadata, MetricType, TenantId};
use parking_lot::RwLock;
use std::sync::atomic::Ordering;

use crate::Broker;
use crate::committer::Message;

/// Families remembered per tenant; metadata beyond is not kept, samples are.
const MAX_FAMILIES: usize = 100_000;
/// Longest help text kept; the rest is cut off.
const MAX_HELP_BYTES: usize = 4_096;
const PREFIX: &str = "metadata/";

type Families = BTreeMap<(TenantId, String), MetricMetadata>;

/// What is known about metric families.
#[derive(Default)]
pub(crate) struct MetadataBook(RwLock<Families>);

impl MetadataBook {
    /// Reads what the catalog holds.
    pub(crate) fn load(state: &State) -> Self {
        let families = state
            .keys(PREFIX)
            .filter_map(|(key, entry)| {
                let (tenant, metric) = key.strip_prefix(PREFIX)?.split_once('/')?;
                let tenant = TenantId(tenant.parse().ok()?);
                let metadata = decode(metric, &entry.value)?;
                Some(((tenant, metric.to_owned()), metadata))
            })
            .collect();
        MetadataBook(RwLock::new(families))
    }
}

impl Broker {
    /// What is known about the tenant's metric families, sorted by name.
    pub fn metadata(&self, tenant: TenantId) -> Vec<MetricMetadata> {
        let families = self.inner.metadata.0.read();
        let start = (tenant, String::new());
        families
            .range(start..)
            .take_while(|(key, _)| key.0 == tenant)
            .map(|e| e.1.clone())
            .collect()
    }

    /// Remembers what a batch says about families, if it is news. Sent before the batch's samples,
    /// so it is durable when they are acknowledged.
    pub(crate) fn store_metadata(&self, tenant: TenantId, batch: &MetricBatch) {
        for said in &batch.metadata {
            if said.metric.is_empty() || !self.is_news(tenant, said) {
                continue;
            }
            let mut kept = said.clone();
            let mut end = kept.help.len().min(MAX_HELP_BYTES);
            while !kept.help.is_char_boundary(end) {
                end -= 1;
            }
            kept.help.truncate(end);
            let command = Command::Put {
                key: format!("{PREFIX}{}/{}", tenant.0, kept.metric),
                value: encode(&kept),
                expected: Expected::Any,
            };
            {
                let mut families = self.inner.metadata.0.write();
                if families.len() >= MAX_FAMILIES {
                    let counters = &self.inner.ingest_counters;
                    counters.metadata_refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                families.insert((tenant, kept.metric.clone()), kept);
            }
            // Nobody waits for the answer: on a full disk the samples are refused as well.
            let (reply, _) = bounded(1);
            let _ = self.send(Message::Command { command, reply });
        }
    }

    fn is_news(&self, tenant: TenantId, said: &MetricMetadata) -> bool {
        let families = self.inner.metadata.0.read();
        families.get(&(tenant, said.metric.clone())).is_none_or(|known| {
            let help_is_known = known.help == said.help
                || (known.help.len() < said.help.len()
                    && said.help.len() > MAX_HELP_BYTES
                    && said.help.starts_with(&known.help));
            !(help_is_known && known.kind == said.kind && known.unit == said.unit)
        })
    }
}

/// One byte for the type, the unit up to a line feed, then the help.
fn encode(metadata: &MetricMetadata) -> Vec<u8> {
    let mut value = vec![metadata.kind as u8];
    value.extend(metadata.unit.bytes().filter(|byte| *byte != b'\n'));
    value.push(b'\n');
    value.extend_from_slice(metadata.help.as_bytes());
    value
}

fn decode(metric: &str, value: &[u8]) -> Option<MetricMetadata> {
    const KINDS: [MetricType; 8] = [
        MetricType::Unknown,
        MetricType::Counter,
        MetricType::Gauge,
        MetricType::Histogram,
        MetricType::GaugeHistogram,
        MetricType::Summary,
        MetricType::Info,
        MetricType::StateSet,
    ];
    let (kind, rest) = value.split_first()?;
    let (unit, help) = std::str::from_utf8(rest).ok()?.split_once('\n')?;
    Some(MetricMetadata {
        metric: metric.to_owned(),
        kind: *KINDS.get(usize::from(*kind))?,
        help: help.to_owned(),
        unit: unit.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_reads_back() {
        for kind in [MetricType::Unknown, MetricType::Counter, MetricType::StateSet] {
            let metadata = MetricMetadata {
                metric: "m".to_owned(),
                kind,
                help: "two\nlines".to_owned(),
                unit: "seconds".to_owned(),
            };
            assert_eq!(decode("m", &encode(&metadata)), Some(metadata));
        }
        assert_eq!(decode("m", &[200]), None);
        assert_eq!(decode("m", &[]), None);
    }
}
