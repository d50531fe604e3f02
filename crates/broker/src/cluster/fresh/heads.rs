//! What heads answer, those of this broker to others and those that were made again of the segments of a
//! broker that does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockstore::{InMemory, MergePart};
use bytes::Bytes;
use governor::{Account, Held};
use logstore::{LogFormat, NsRange, Source};
use metricstore::{
    Delete, Deletes, HeadLabels, HeadSnapshot, LabelQuery, MetricFormat, Registry, Selected,
};
use model::{BestNames, Matcher, TenantId, TimeRange};
use net::rpc::fresh_request::Ask;
use net::rpc::{
    ExemplarsResponse, FreshHead, FreshLines, FreshNames, FreshRequest, FreshSamples, FreshSeries,
    LabelsResponse, SeriesResponse,
};
use prost::Message;
use tonic::Status;

use crate::ReadError;
use crate::deletes::DeleteBook;
use crate::exemplars::ExemplarBook;
use crate::logs::{LineDelete, LineDeleteBook, LineDeletes, LogHeads, of_head};
use crate::rpc::messages;
use crate::shards::Shards;

/// A delete is in the list as soon as the one that tells the shards of it comes to that.
const DELETES_WAIT: Duration = Duration::from_secs(1);

/// Heads of one broker, with the deletes that hide something of them.
pub(in crate::cluster) struct Heads<'a> {
    pub(in crate::cluster) registry: &'a Registry,
    pub(in crate::cluster) shards: &'a Shards,
    pub(in crate::cluster) deletes: &'a DeleteBook,
    pub(in crate::cluster) exemplars: &'a ExemplarBook,
    /// Deletes that were in effect when it was found out what is in these heads, beside those that still
    /// are.
    pub(in crate::cluster) known_deletes: Deletes,
    pub(in crate::cluster) log_heads: &'a LogHeads,
    pub(in crate::cluster) line_deletes: &'a LineDeleteBook,
    /// As those of samples.
    pub(in crate::cluster) known_line_deletes: LineDeletes,
    pub(in crate::cluster) log_format: &'a LogFormat,
    /// Keys the hashes of blocks.
    pub(in crate::cluster) seed: u64,
}

/// What heads answered.
pub(in crate::cluster) struct Body {
    pub(in crate::cluster) bytes: Bytes,
    /// Deletes up to this number hide nothing of it.
    pub(in crate::cluster) deletes_through: u64,
    /// The memory it takes.
    pub(in crate::cluster) held: Held,
}

impl Heads<'_> {
    /// Answers one request.
    ///
    /// # Errors
    /// It makes no sense; too many series; too much memory.
    pub(in crate::cluster) fn answer(
        &self,
        request: &FreshRequest,
        account: &Arc<Account>,
    ) -> Result<Body, Status> {
        let tenant = TenantId(request.tenant);
        let ask = request.ask.as_ref();
        let ask = ask.ok_or_else(|| Status::invalid_argument("nothing is asked for"))?;
        let mut held = account.hold(0).map_err(|error| messages::fault(&error.into()))?;
        let (bytes, deletes_through) = match ask {
            Ask::Samples(asked) => self.samples(tenant, asked, &mut held)?,
            Ask::Lines(asked) => self.lines(tenant, asked, &mut held)?,
            Ask::Names(asked) => self.names(tenant, asked)?,
            Ask::Series(asked) => self.series(tenant, asked)?,
            Ask::Exemplars(asked) => {
                let selectors = messages::selectors(&asked.selectors)?;
                let range = TimeRange::new(asked.start_ms, asked.end_ms);
                let found = self.exemplars.select(tenant, &selectors, range);
                let series = messages::exemplars(found);
                let missing = Vec::new();
                let found = ExemplarsResponse { series, missing };
                (found.encode_to_vec(), self.deletes.current().1)
            }
            Ask::Head(FreshHead { limit }) => {
                let found = self.registry.cardinality(tenant, messages::limit(*limit));
                let found = messages::cardinality(found, &self.shards.totals());
                (found.encode_to_vec(), self.deletes.current().1)
            }
        };
        held.resize(bytes.len()).map_err(|error| messages::fault(&error.into()))?;
        Ok(Body { bytes: bytes.into(), deletes_through, held })
    }

    fn samples(
        &self,
        tenant: TenantId,
        asked: &FreshSamples,
        held: &mut Held,
    ) -> Result<(Vec<u8>, u64), Status> {
        let matchers = messages::matchers(&asked.selector.clone().unwrap_or_default())?;
        let range = TimeRange::new(asked.start_ms, asked.end_ms);
        let before = self.listed(tenant).0;
        let series = self.registry.select(tenant, &matchers);
        let chunks = self.shards.select(series.ordinals(), range);
        let copied: usize = chunks.iter().map(metricstore::HeadChunks::bytes).sum();
        held.resize(copied).map_err(|error| messages::fault(&error.into()))?;
        let newest = chunks.iter().map(metricstore::HeadChunks::newest_deletes_through).max();
        let (deletes, deletes_through) = self.deletes_of(tenant, &before, newest.unwrap_or(0))?;
        let head = HeadSnapshot { tenant, deletes, series, chunks };
        let most = messages::limit(asked.max_series);
        let selected = Selected::new(self.registry, head, &[], &matchers, range, most);
        let selected = selected.map_err(|error| messages::fault(&ReadError::Store(error)))?;
        if selected.is_empty() {
            return Ok((Vec::new(), deletes_through));
        }
        let mut out = InMemory::default();
        let written = selected.write_block(&MetricFormat::new(self.seed), &mut out);
        let written = written.map_err(|error| messages::fault(&ReadError::Store(error)))?;
        let bytes = if written.rows == 0 { Vec::new() } else { out.0 };
        Ok((bytes, deletes_through))
    }

    fn lines(
        &self,
        tenant: TenantId,
        asked: &FreshLines,
        held: &mut Held,
    ) -> Result<(Vec<u8>, u64), Status> {
        let matchers = messages::matchers(&asked.selector.clone().unwrap_or_default())?;
        let range = NsRange::new(asked.start_ns, asked.end_ns);
        let (before, _) = self.line_deletes.current();
        let found = self.log_heads.select(tenant, &matchers, range);
        let copied = found.iter().map(|found| found.head.own_bytes()).sum();
        held.resize(copied).map_err(|error| messages::fault(&error.into()))?;
        let newest = found.iter().map(|found| found.deletes_through).max().unwrap_or(0);
        let (after, through) = known_through(newest, || self.line_deletes.current())?;
        let all = self.known_line_deletes.iter().chain(before.iter()).chain(after.iter());
        let all: BTreeMap<u64, Arc<LineDelete>> =
            all.map(|delete| (delete.tombstone.number, Arc::clone(delete))).collect();
        let deletes: LineDeletes = all.into_values().collect();
        let sources = found.into_iter().map(|found| Source::Head {
            deletes: of_head(&deletes, tenant, found.deletes_through, through),
            head: found.head,
        });
        let (mut out, all) = (InMemory::default(), MergePart::default());
        let written = self.log_format.flush_part(sources.collect(), range, &all, &mut out);
        let (summary, _) = written.map_err(|error| Status::internal(error.to_string()))?;
        let bytes = if summary.rows == 0 { Vec::new() } else { out.0 };
        Ok((bytes, through))
    }

    /// The deletes that hide something of what was taken of the shards, and the number through which they
    /// are known: not less than that of the last delete that the shards had heard of, or it would hide what
    /// came after it. `before` was listed before the shards were asked: a delete that nothing is left of
    /// may have left the list meanwhile.
    ///
    /// # Errors
    /// The list does not come so far.
    fn deletes_of(
        &self,
        tenant: TenantId,
        before: &Deletes,
        newest: u64,
    ) -> Result<(Deletes, u64), Status> {
        let (after, through) = known_through(newest, || self.deletes.current())?;
        Ok((both(before, after.of_tenant(tenant)), through))
    }

    fn listed(&self, tenant: TenantId) -> (Deletes, u64) {
        let (now, through) = self.deletes.current();
        (both(&self.known_deletes.of_tenant(tenant), now.of_tenant(tenant)), through)
    }

    fn names(&self, tenant: TenantId, asked: &FreshNames) -> Result<(Vec<u8>, u64), Status> {
        let selectors = messages::selectors(&asked.selectors)?;
        let range = TimeRange::new(asked.start_ms, asked.end_ms);
        let of = (!asked.name.is_empty()).then_some(asked.name.as_str());
        let (deletes, through) = self.listed(tenant);
        let head_range = self.shards.totals().range;
        let head = head_range
            .overlaps(&range)
            .then(|| head_labels(self.registry, self.shards, tenant, &deletes, head_range));
        let search = asked.search.as_ref().map(messages::search).transpose()?;
        let mut best = search.as_ref().map(BestNames::new);
        let mut all = BTreeSet::new();
        let limit = messages::limit(asked.limit);
        for matchers in any(&selectors) {
            let (head, deletes, blocks) = (head.as_ref(), &deletes, &[]);
            let query = LabelQuery { head, deletes, blocks, matchers, range, limit: 0 };
            query.visit(of, &mut |text| match &mut best {
                Some(best) => best.offer(text),
                None => {
                    if !all.contains(text) {
                        all.insert(text.to_owned());
                        if all.len() > limit {
                            all.pop_last();
                        }
                    }
                }
            });
        }
        let values = match best {
            Some(best) => best.into_found().into_iter().map(|found| found.name).collect(),
            None => all.into_iter().collect(),
        };
        let found = LabelsResponse { values, missing: Vec::new() };
        Ok((found.encode_to_vec(), through))
    }

    fn series(&self, tenant: TenantId, asked: &FreshSeries) -> Result<(Vec<u8>, u64), Status> {
        let selectors = messages::selectors(&asked.selectors)?;
        let range = TimeRange::new(asked.start_ms, asked.end_ms);
        let (deletes, through) = self.listed(tenant);
        let head_range = self.shards.totals().range;
        if !head_range.overlaps(&range) {
            return Ok((Vec::new(), through));
        }
        let head = head_labels(self.registry, self.shards, tenant, &deletes, head_range);
        let mut ordinals = BTreeSet::new();
        for matchers in any(&selectors) {
            let series = self.registry.select(tenant, matchers);
            ordinals.extend(self.shards.with_samples(series.ordinals(), range));
        }
        let ordinals: Vec<u32> = ordinals.into_iter().collect();
        let labels = head.labels_of(&ordinals).into_iter();
        let labels = labels.map(|labels| Bytes::copy_from_slice(labels.as_packed())).collect();
        let found = SeriesResponse { labels, missing: Vec::new() };
        Ok((found.encode_to_vec(), through))
    }
}

/// A list of deletes that knows those up to a number: heads hear of one first.
///
/// # Errors
/// It does not come so far.
fn known_through<T>(newest: u64, current: impl Fn() -> (T, u64)) -> Result<(T, u64), Status> {
    const PAUSE: Duration = Duration::from_micros(50);
    let began = Instant::now();
    loop {
        let (deletes, through) = current();
        if through >= newest {
            return Ok((deletes, through));
        }
        if began.elapsed() > DELETES_WAIT {
            return Err(Status::unavailable("a delete is not known here yet"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Two lists as one.
fn both(first: &Deletes, second: Deletes) -> Deletes {
    // Fast path: nothing is deleted.
    if first.is_empty() {
        return second;
    }
    let all = first.iter().chain(second.iter());
    let by_number: BTreeMap<u64, Arc<Delete>> =
        all.map(|delete| (delete.tombstone().number, Arc::clone(delete))).collect();
    Deletes::new(by_number.into_values().collect())
}

/// The series of a tenant in heads that reach over `head_range`, but those of which `deletes` leave nothing.
pub(crate) fn head_labels<'a>(
    registry: &'a Registry,
    shards: &Shards,
    tenant: TenantId,
    deletes: &Deletes,
    head_range: TimeRange,
) -> HeadLabels<'a> {
    let deletes = deletes.overlapping(head_range);
    // Fast path: nothing is deleted.
    if deletes.is_empty() {
        return HeadLabels::new(registry, tenant);
    }
    let series = deletes.concerned(registry, tenant, &[]);
    let chunks = shards.select(series.ordinals(), TimeRange::all());
    let concerned = HeadSnapshot { tenant, deletes, series, chunks };
    HeadLabels::without_deleted(registry, &concerned)
}

/// The selectors, or one that matches everything if there are none.
pub(crate) fn any(selectors: &[Vec<Matcher>]) -> impl Iterator<Item = &[Matcher]> {
    let everything: &[&[Matcher]] = if selectors.is_empty() { &[&[]] } else { &[] };
    selectors.iter().map(Vec::as_slice).chain(everything.iter().copied())
}
