//! Types, help texts and units of metrics, kept in the catalog's key space.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use catalog::{Command, Expected, State};
use model::{MetricBatch, MetricMetadata, MetricType, Share, TenantId, TenantName};
use parking_lot::{RwLock, RwLockReadGuard};

use crate::commit::Message;
use crate::tenants::Tenant;
use crate::{Broker, Complaints};

/// Families remembered; metadata beyond is not kept, samples are.
const FAMILIES: Share = Share::of_one_alone(100_000);
/// Bytes of names, help texts and units remembered: all of it is in every snapshot of the catalog,
/// and each log file begins with one.
const BYTES: Share = Share::of_one_alone(16 << 20);
/// Longest help text kept; the rest is cut off.
const MAX_HELP_BYTES: usize = 4_096;
/// Longest unit kept; the rest is cut off.
const MAX_UNIT_BYTES: usize = 256;
/// Metadata of metrics with longer names is not kept: the catalog's keys are bounded.
const MAX_NAME_BYTES: usize = 1_000;
/// Keys of families in the key space.
pub(crate) const PREFIX: &str = "metadata/";

/// What is known about metric families.
#[derive(Default)]
pub(crate) struct MetadataBook {
    known: RwLock<Families>,
    complaints: Complaints,
}

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
        let of_tenant = &self.families.by_tenant.get(&self.tenant)?.by_name;
        of_tenant.get(name).or_else(|| {
            SUFFIXES.iter().find_map(|suffix| of_tenant.get(name.strip_suffix(suffix)?))
        })
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &MetricMetadata> {
        self.families.by_tenant.get(&self.tenant).into_iter().flat_map(|of| of.by_name.values())
    }
}

/// Where a family of a tenant is kept.
pub(crate) fn key(tenant: TenantId, family: &str) -> String {
    format!("{PREFIX}{}/{family}", tenant.0)
}

#[derive(Default)]
struct Families {
    by_tenant: BTreeMap<TenantId, OfTenant>,
    /// Of all tenants.
    count: usize,
    /// Likewise.
    bytes: usize,
}

#[derive(Default)]
struct OfTenant {
    by_name: BTreeMap<String, MetricMetadata>,
    bytes: usize,
}

impl MetadataBook {
    /// Reads what the catalog holds.
    pub(crate) fn load(state: &State) -> Self {
        let book = MetadataBook::default();
        for (key, entry) in state.keys(PREFIX) {
            book.follow(key, Some(&entry.value));
        }
        book
    }

    /// Takes what the catalog has of a family, which may be nothing.
    pub(crate) fn follow(&self, key: &str, value: Option<&[u8]>) {
        let named = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/'));
        let Some((tenant, metric)) = named else { return };
        let Ok(tenant) = tenant.parse() else { return };
        match value {
            None => self.forget(TenantId(tenant), metric),
            Some(value) => {
                if let Some(metadata) = decode(metric, value) {
                    self.known.write().put(TenantId(tenant), metadata);
                }
            }
        }
    }

    /// What is known about the tenant's families; nothing is learned while it is held.
    pub(crate) fn families(&self, tenant: TenantId) -> KnownFamilies<'_> {
        KnownFamilies { families: self.known.read(), tenant }
    }

    /// Whether something else, or nothing, is known about the family.
    fn is_news(&self, tenant: TenantId, said: &MetricMetadata) -> bool {
        let families = self.known.read();
        let known = families.by_tenant.get(&tenant).and_then(|of| of.by_name.get(&said.metric));
        known.is_none_or(|known| {
            known.kind != said.kind
                || known.help != cut(&said.help, MAX_HELP_BYTES)
                || known.unit != cut(&said.unit, MAX_UNIT_BYTES)
        })
    }

    /// Remembers it, unless there is no room; `name` is the tenant's, for the refusal.
    fn remember(
        &self,
        tenant: TenantId,
        name: TenantName,
        kept: &MetricMetadata,
    ) -> Result<(), String> {
        let mut families = self.known.write();
        families.check_room(tenant, name, kept)?;
        families.put(tenant, kept.clone());
        Ok(())
    }

    /// Takes back what could not be stored, so that it is news when it is said again.
    fn forget(&self, tenant: TenantId, metric: &str) {
        let mut families = self.known.write();
        let Some(of_tenant) = families.by_tenant.get_mut(&tenant) else { return };
        let Some(gone) = of_tenant.by_name.remove(metric) else { return };
        of_tenant.bytes -= size(&gone);
        families.count -= 1;
        families.bytes -= size(&gone);
    }
}

impl Families {
    fn put(&mut self, tenant: TenantId, metadata: MetricMetadata) {
        let bytes = size(&metadata);
        let of_tenant = self.by_tenant.entry(tenant).or_default();
        let before = of_tenant.by_name.insert(metadata.metric.clone(), metadata);
        let bytes_before = before.as_ref().map_or(0, size);
        of_tenant.bytes = of_tenant.bytes + bytes - bytes_before;
        self.bytes = self.bytes + bytes - bytes_before;
        self.count += usize::from(before.is_none());
    }

    /// Whether the tenant may have what is more of it than is known of its family.
    fn check_room(
        &self,
        tenant: TenantId,
        name: TenantName,
        kept: &MetricMetadata,
    ) -> Result<(), String> {
        if kept.metric.len() > MAX_NAME_BYTES {
            return Err(format!(
                "the tenant {name} has a metric whose name is longer than {MAX_NAME_BYTES} bytes: \
                 its type, help and unit are not kept, its samples are; give it a shorter name"
            ));
        }
        let of_tenant = self.by_tenant.get(&tenant);
        let known = of_tenant.and_then(|of| of.by_name.get(&kept.metric));
        let (count, bytes) = of_tenant.map_or((0, 0), |of| (of.by_name.len(), of.bytes));
        let more_bytes = size(kept).saturating_sub(known.map_or(0, size));
        for (what, own, more, all, share) in [
            ("metric families", count, usize::from(known.is_none()), self.count, FAMILIES),
            ("bytes of metadata", bytes, more_bytes, self.bytes, BYTES),
        ] {
            share.admit(own, more, all - own).map_err(|limit| {
                format!(
                    "the tenant {name} has {own} {what} and the limit is {limit} ({}): type, help \
                     and unit of {} are not kept, its samples are; send fewer different names of \
                     metrics, or shorter help",
                    share.rule(),
                    kept.metric
                )
            })?;
        }
        Ok(())
    }
}

impl Broker {
    /// What is known about the tenant's metric families, sorted by name.
    pub fn metadata(&self, tenant: TenantId) -> Vec<MetricMetadata> {
        self.inner.metadata.families(tenant).iter().cloned().collect()
    }

    /// Remembers what a batch says about families, if it is news. Sent before the batch's samples,
    /// so it is durable when they are acknowledged.
    pub(crate) fn store_metadata(&self, tenant: &Tenant, batch: &MetricBatch) {
        let book = &self.inner.metadata;
        for said in batch.metadata.iter().filter(|said| !said.metric.is_empty()) {
            if !book.is_news(tenant.id, said) {
                continue;
            }
            let kept = MetricMetadata {
                metric: said.metric.clone(),
                kind: said.kind,
                help: cut(&said.help, MAX_HELP_BYTES).to_owned(),
                unit: cut(&said.unit, MAX_UNIT_BYTES).to_owned(),
            };
            if let Err(refusal) = book.remember(tenant.id, tenant.name, &kept) {
                self.inner.ingest_counters.metadata_refused.fetch_add(1, Ordering::Relaxed);
                // Senders are told of samples only.
                if let Some(more) = book.complaints.may_say(&refusal, Instant::now()) {
                    tracing::warn!(%refusal, more_like_it_before = more, "metadata is left out");
                }
                continue;
            }
            let command = Command::Put {
                key: key(tenant.id, &kept.metric),
                value: encode(&kept),
                expected: Expected::Any,
            };
            let (book, tenant) = (Arc::clone(book), tenant.id);
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
    fn one_tenant_leaves_metadata_to_others() {
        let book = MetadataBook::default();
        let about = |number: usize, help: usize| MetricMetadata {
            metric: format!("m{number}"),
            kind: MetricType::Gauge,
            help: "x".repeat(help),
            unit: String::new(),
        };
        let names = ["greedy", "modest"].map(|name| TenantName::parse(name).expect("a name"));
        let remember = |tenant: u32, number, help| {
            book.remember(TenantId(tenant), names[tenant as usize], &about(number, help))
        };
        let kept = (0..5_000).take_while(|number| remember(0, *number, 4_096).is_ok()).count();
        assert!((4_000..4_100).contains(&kept), "{kept}");
        let refusal = remember(0, kept, 4_096).expect_err("full");
        for part in ["the tenant greedy has", "the limit is 16777216", "send fewer"] {
            assert!(refusal.contains(part), "{refusal}");
        }
        assert_eq!(remember(1, 0, 10), Ok(()), "another tenant finds room");
        assert_eq!(remember(0, 0, 10), Ok(()), "what is known may become less");
        book.forget(TenantId(0), "m1");
        assert_eq!(remember(0, kept, 4_000), Ok(()), "there is room again");
    }

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
