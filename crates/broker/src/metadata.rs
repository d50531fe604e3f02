//! Types, help texts and units of metrics, kept in the catalog's key space.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use catalog::{Command, Expected, State};
use model::{MetricBatch, MetricMetadata, MetricType, TenantId};
use parking_lot::{RwLock, RwLockReadGuard};

use crate::Broker;
use crate::committer::Message;

/// Families remembered; metadata beyond is not kept, samples are.
const MAX_FAMILIES: usize = 100_000;
/// Bytes of names, help texts and units remembered: all of it is in every snapshot of the catalog,
/// and each log file begins with one.
const MAX_BYTES: usize = 16 << 20;
/// Longest help text kept; the rest is cut off.
const MAX_HELP_BYTES: usize = 4_096;
/// Longest unit kept; the rest is cut off.
const MAX_UNIT_BYTES: usize = 256;
/// Metadata of metrics with longer names is not kept: the catalog's keys are bounded.
const MAX_NAME_BYTES: usize = 1_000;
const PREFIX: &str = "metadata/";

/// What is known about metric families.
#[derive(Default)]
pub(crate) struct MetadataBook(RwLock<Families>);

/// A look into what is known about families.
pub(crate) struct KnownFamilies<'a> {
    families: RwLockReadGuard<'a, Families>,
    tenant: TenantId,
}

/// What the series of a family bear behind its name.
const SUFFIXES: [&str; 6] = ["_bucket", "_sum", "_count", "_total", "_created", "_info"];

impl KnownFamilies<'_> {
    /// The family a series of this name belongs to: that of the name, or of what is left without
    /// the suffix that its type gives to its series.
    pub(crate) fn family_of(&self, name: &str) -> Option<&MetricMetadata> {
        let of_tenant = self.families.by_tenant.get(&self.tenant)?;
        of_tenant.get(name).or_else(|| {
            SUFFIXES.iter().find_map(|suffix| of_tenant.get(name.strip_suffix(suffix)?))
        })
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &MetricMetadata> {
        self.families.by_tenant.get(&self.tenant).into_iter().flat_map(BTreeMap::values)
    }
}

#[derive(Default)]
struct Families {
    by_tenant: BTreeMap<TenantId, BTreeMap<String, MetricMetadata>>,
    count: usize,
    bytes: usize,
}

impl MetadataBook {
    /// Reads what the catalog holds.
    pub(crate) fn load(state: &State) -> Self {
        let mut families = Families::default();
        for (key, entry) in state.keys(PREFIX) {
            let named = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/'));
            let Some((tenant, metric)) = named else { continue };
            let Ok(tenant) = tenant.parse() else { continue };
            if let Some(metadata) = decode(metric, &entry.value) {
                families.put(TenantId(tenant), metadata);
            }
        }
        MetadataBook(RwLock::new(families))
    }

    /// What is known about the tenant's families; nothing is learned while it is held.
    pub(crate) fn families(&self, tenant: TenantId) -> KnownFamilies<'_> {
        KnownFamilies { families: self.0.read(), tenant }
    }

    /// Whether something else, or nothing, is known about the family.
    fn is_news(&self, tenant: TenantId, said: &MetricMetadata) -> bool {
        let families = self.0.read();
        let known = families.by_tenant.get(&tenant).and_then(|of| of.get(&said.metric));
        known.is_none_or(|known| {
            known.kind != said.kind
                || known.help != cut(&said.help, MAX_HELP_BYTES)
                || known.unit != cut(&said.unit, MAX_UNIT_BYTES)
        })
    }

    /// Remembers it, unless there is no room.
    fn remember(&self, tenant: TenantId, kept: &MetricMetadata) -> bool {
        let mut families = self.0.write();
        let has_room = families.count < MAX_FAMILIES && families.bytes < MAX_BYTES;
        let is_known =
            families.by_tenant.get(&tenant).is_some_and(|f| f.contains_key(&kept.metric));
        if has_room || is_known {
            families.put(tenant, kept.clone());
        }
        has_room || is_known
    }

    /// Takes back what could not be stored, so that it is news when it is said again.
    fn forget(&self, tenant: TenantId, metric: &str) {
        let mut families = self.0.write();
        let gone = families.by_tenant.get_mut(&tenant).and_then(|of| of.remove(metric));
        if let Some(gone) = gone {
            families.count -= 1;
            families.bytes -= size(&gone);
        }
    }
}

impl Families {
    fn put(&mut self, tenant: TenantId, metadata: MetricMetadata) {
        self.count += 1;
        self.bytes += size(&metadata);
        let of_tenant = self.by_tenant.entry(tenant).or_default();
        if let Some(before) = of_tenant.insert(metadata.metric.clone(), metadata) {
            self.count -= 1;
            self.bytes -= size(&before);
        }
    }
}

impl Broker {
    /// What is known about the tenant's metric families, sorted by name.
    pub fn metadata(&self, tenant: TenantId) -> Vec<MetricMetadata> {
        let families = self.inner.metadata.0.read();
        families.by_tenant.get(&tenant).into_iter().flat_map(|of| of.values().cloned()).collect()
    }

    /// Remembers what a batch says about families, if it is news. Sent before the batch's samples,
    /// so it is durable when they are acknowledged.
    pub(crate) fn store_metadata(&self, tenant: TenantId, batch: &MetricBatch) {
        let book = &self.inner.metadata;
        for said in batch.metadata.iter().filter(|said| !said.metric.is_empty()) {
            if !book.is_news(tenant, said) {
                continue;
            }
            let kept = MetricMetadata {
                metric: said.metric.clone(),
                kind: said.kind,
                help: cut(&said.help, MAX_HELP_BYTES).to_owned(),
                unit: cut(&said.unit, MAX_UNIT_BYTES).to_owned(),
            };
            if kept.metric.len() > MAX_NAME_BYTES || !book.remember(tenant, &kept) {
                self.inner.ingest_counters.metadata_refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let command = Command::Put {
                key: format!("{PREFIX}{}/{}", tenant.0, kept.metric),
                value: encode(&kept),
                expected: Expected::Any,
            };
            let book = Arc::clone(book);
            let done = Box::new(move |outcome: Result<_, _>| {
                // The disk is full: the samples are refused as well, and will be sent again.
                if outcome.is_err() {
                    book.forget(tenant, &kept.metric);
                }
            });
            // A broker that is stopping refuses the samples, too.
            let _ = self.send(Message::Command { command, done });
        }
    }
}

/// The longest beginning of `text` that has at most `limit` bytes.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

fn size(metadata: &MetricMetadata) -> usize {
    metadata.metric.len() + metadata.help.len() + metadata.unit.len()
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
