//! A batch without what other replicas wrote, and without the labels that tell them apart.

use std::collections::HashMap;

use metricstore::Reject;
use model::{ExemplarSample, HistogramSample, LabelForm, MetricBatch, SeriesRows, TenantId};
use wire::find_label;

use super::HaConfig;
use super::clusters::{Clusters, Verdict};

/// What is left of a batch.
#[derive(Debug, Default)]
pub(crate) struct Filtered {
    /// What is to be stored. Metadata stays with the batch it came from.
    pub(crate) batch: MetricBatch,
    /// Samples left out because another replica's are stored.
    pub(crate) deduplicated: u64,
    /// Whose samples the first of them are, for whoever sent them.
    pub(crate) note: String,
    /// Samples of clusters that are too many.
    pub(crate) refused: Vec<Reject>,
    /// Replicas elected.
    pub(super) changes: u64,
}

/// What was found of one cluster and replica, which most series of a batch have in common.
struct Judged {
    cluster: Vec<u8>,
    replica: Vec<u8>,
    verdict: Verdict,
    newest_ms: i64,
}

/// What to do with one series.
enum Fate {
    /// Stored as it is.
    Plain,
    /// Stored without the bytes of the range, if its samples are behind the floor.
    Without(std::ops::Range<usize>, usize),
}

struct Pass<'a> {
    clusters: &'a mut Clusters,
    config: &'a HaConfig,
    tenant: TenantId,
    now_ms: i64,
    judged: Vec<Judged>,
    /// Places in `judged`, by cluster and replica: a batch may have as many pairs as series.
    places: HashMap<Vec<u8>, usize>,
    /// For looking something up there.
    key: Vec<u8>,
    out: Filtered,
}

pub(super) fn filter(
    clusters: &mut Clusters,
    config: &HaConfig,
    tenant: TenantId,
    batch: &MetricBatch,
    now_ms: i64,
) -> Filtered {
    let out = Filtered::default();
    let (judged, places, key) = (Vec::new(), HashMap::new(), Vec::new());
    let mut pass = Pass { clusters, config, tenant, now_ms, judged, places, key, out };
    pass.out.batch.label_bytes.reserve(batch.label_bytes.len());
    pass.out.batch.timestamps_ms.reserve(batch.rows());
    pass.out.batch.values.reserve(batch.rows());
    for series in &batch.series {
        pass.floats(batch, series);
    }
    for sample in &batch.histograms {
        pass.histogram(batch, sample);
    }
    for sample in &batch.exemplars {
        pass.exemplar(batch, sample);
    }
    let Pass { clusters, judged, out, .. } = pass;
    for one in judged {
        if one.newest_ms > i64::MIN {
            let cluster = String::from_utf8_lossy(&one.cluster);
            clusters.advance(tenant, &cluster, one.newest_ms, now_ms);
        }
    }
    out
}

/// `i64::MIN` is no floor at all.
fn is_stored(floor_ms: Option<i64>, t_ms: i64) -> bool {
    floor_ms.is_some_and(|floor_ms| t_ms > floor_ms || floor_ms == i64::MIN)
}

impl Pass<'_> {
    fn floats(&mut self, batch: &MetricBatch, series: &SeriesRows) {
        let bytes = batch.label_bytes_of(series);
        let first = series.first_row as usize;
        let rows = first..first + series.rows as usize;
        let fate = self.fate(series.form, bytes);
        let floor_ms = self.floor(&fate);
        let first_row = self.out.batch.timestamps_ms.len();
        let (mut left_out, mut newest_ms) = (0, i64::MIN);
        for row in rows {
            let t_ms = batch.timestamps_ms[row];
            if is_stored(floor_ms, t_ms) {
                self.out.batch.timestamps_ms.push(t_ms);
                self.out.batch.values.push(batch.values[row]);
                self.out.batch.set_last_start(batch.start_ms(row));
                newest_ms = newest_ms.max(t_ms);
            } else {
                left_out += 1;
            }
        }
        let kept = self.out.batch.timestamps_ms.len() - first_row;
        self.count(&fate, newest_ms, left_out, 0);
        // An entry without samples can be a series whose exemplars or metadata count.
        if kept > 0 || (series.rows == 0 && floor_ms.is_some()) {
            let (labels_start, labels_len) = self.labels(bytes, &fate);
            self.out.batch.series.push(SeriesRows {
                labels_start,
                labels_len,
                form: series.form,
                first_row: first_row as u32,
                rows: kept as u32,
            });
        }
    }

    fn histogram(&mut self, batch: &MetricBatch, sample: &HistogramSample) {
        let bytes = batch.label_bytes_of_histogram(sample);
        let fate = self.fate(sample.form, bytes);
        let floor_ms = self.floor(&fate);
        if is_stored(floor_ms, sample.t_ms) {
            let (labels_start, labels_len) = self.labels(bytes, &fate);
            let sample = HistogramSample { labels_start, labels_len, ..sample.clone() };
            self.count(&fate, sample.t_ms, 0, 0);
            self.out.batch.histograms.push(sample);
        } else {
            self.count(&fate, i64::MIN, 1, 1);
        }
    }

    /// Exemplars are no samples and are not counted.
    fn exemplar(&mut self, batch: &MetricBatch, sample: &ExemplarSample) {
        let bytes = batch.label_bytes_of_exemplar(sample);
        let fate = self.fate(sample.form, bytes);
        if self.floor(&fate).is_none() {
            return;
        }
        let (labels_start, labels_len) = self.labels(bytes, &fate);
        let own_start = self.out.batch.label_bytes.len() as u32;
        self.out.batch.label_bytes.extend_from_slice(batch.own_label_bytes(sample));
        let sample = ExemplarSample { labels_start, labels_len, own_start, ..*sample };
        self.out.batch.exemplars.push(sample);
    }

    /// Series without both labels are of no pair.
    fn fate(&mut self, form: LabelForm, bytes: &[u8]) -> Fate {
        let found = find_label(form, bytes, self.config.replica_label.as_bytes());
        let Some(replica) = found else { return Fate::Plain };
        let found = find_label(form, bytes, self.config.cluster_label.as_bytes());
        let Some(cluster) = found else { return Fate::Plain };
        let at = self.judge(&bytes[cluster.value], &bytes[replica.value]);
        Fate::Without(replica.whole, at)
    }

    fn judge(&mut self, cluster: &[u8], replica: &[u8]) -> usize {
        // Fast path: most batches are of one replica.
        let is_it = |one: &Judged| one.cluster == cluster && one.replica == replica;
        if self.judged.last().is_some_and(is_it) {
            return self.judged.len() - 1;
        }
        self.key.clear();
        // The length tells `ab` and `c` from `a` and `bc`.
        self.key.extend_from_slice(&cluster.len().to_le_bytes());
        self.key.extend_from_slice(cluster);
        self.key.extend_from_slice(replica);
        if let Some(at) = self.places.get(&self.key) {
            return *at;
        }
        self.places.insert(self.key.clone(), self.judged.len());
        // What is no UTF-8 is refused when the labels are decoded.
        let names = (String::from_utf8_lossy(cluster), String::from_utf8_lossy(replica));
        let verdict =
            self.clusters.judge(self.tenant, &names.0, &names.1, self.config, self.now_ms);
        match &verdict {
            Verdict::Elected { is_new, .. } => self.out.changes += u64::from(*is_new),
            Verdict::Other { elected } if self.out.note.is_empty() => {
                self.out.note = format!(
                    "replicas did not match, rejecting sample: replica={}, elected={elected}",
                    names.1
                );
            }
            Verdict::Other { .. } | Verdict::TooMany => {}
        }
        let (cluster, replica) = (cluster.to_vec(), replica.to_vec());
        self.judged.push(Judged { cluster, replica, verdict, newest_ms: i64::MIN });
        self.judged.len() - 1
    }

    /// Behind which time samples are stored; `None` if none is.
    fn floor(&self, fate: &Fate) -> Option<i64> {
        match fate {
            Fate::Plain => Some(i64::MIN),
            Fate::Without(_, at) => match self.judged[*at].verdict {
                Verdict::Elected { floor_ms, .. } => Some(floor_ms),
                Verdict::Other { .. } | Verdict::TooMany => None,
            },
        }
    }

    fn count(&mut self, fate: &Fate, newest_ms: i64, left_out: u64, histograms: u64) {
        let Fate::Without(_, at) = fate else { return };
        let judged = &mut self.judged[*at];
        judged.newest_ms = judged.newest_ms.max(newest_ms);
        if left_out == 0 {
            return;
        }
        if judged.verdict != Verdict::TooMany {
            self.out.deduplicated += left_out;
            if self.out.note.is_empty() {
                self.out.note =
                    "samples of a time of which another replica's are stored".to_owned();
            }
            return;
        }
        let first = String::from_utf8_lossy(&judged.cluster).into_owned();
        if self.out.refused.is_empty() {
            let reason = format!(
                "too many HA clusters: {} are known, which is ha_tracker.max_clusters; raise it, or \
                 look whether {} is really a name of clusters",
                self.config.max_clusters, self.config.cluster_label
            );
            let first = format!("{}={first:?}", self.config.cluster_label);
            let (series, samples, histograms) = (0, 0, 0);
            let may_come_again = false;
            self.out.refused.push(Reject {
                reason,
                series,
                samples,
                histograms,
                first,
                may_come_again,
            });
        }
        let reject = &mut self.out.refused[0];
        reject.series += 1;
        reject.samples += left_out;
        reject.histograms += histograms;
    }

    fn labels(&mut self, bytes: &[u8], fate: &Fate) -> (u32, u32) {
        // No longer than the batch they come from.
        let out = &mut self.out.batch.label_bytes;
        let start = out.len();
        match fate {
            Fate::Plain => out.extend_from_slice(bytes),
            Fate::Without(whole, _) => {
                out.extend_from_slice(&bytes[..whole.start]);
                out.extend_from_slice(&bytes[whole.end..]);
            }
        }
        (start as u32, (out.len() - start) as u32)
    }
}
