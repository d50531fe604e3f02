//! From the body of an answer to a batch, by way of the target's memory.

use std::time::{Duration, Instant};

use model::{Histogram, MetricBatch, MetricType};
use settings::relabel::LabelBuffer;
use wire::{
    Entry, Exemplar, KnownSample, LabelText, WireError, exposition, openmetrics,
    protobuf_exposition,
};

use super::cache::{MAX_UNITS, Place, SeriesCache, SeriesIndex, UnitIndex};
use super::error::ScrapeError;
use super::histograms::HistogramRules;
use super::metadata::MetadataBook;
use super::series_rules::SeriesRules;

/// Samples further in the future are left out, as in Prometheus.
const MAX_AHEAD_MS: i64 = 10 * 60 * 1_000;

/// Labels of one answer; as many as a broker takes at once.
const MAX_LABEL_BYTES: usize = 512 << 20;

/// Entries between two looks at the clock: some 100 µs.
const ENTRIES_PER_LOOK: u32 = 1 << 10;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    OpenMetrics,
    Protobuf,
}

/// How samples are taken.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SampleRules {
    pub(super) honor_timestamps: bool,
    pub(super) track_timestamps_staleness: bool,
    /// 0 means none.
    pub(super) sample_limit: usize,
    /// Whether `_created` lines of OpenMetrics tell when series began, and are none.
    pub(super) folds_created: bool,
    /// Whether type and unit of families become labels of their series.
    pub(super) type_and_unit_labels: bool,
    pub(super) histograms: HistogramRules,
}

/// What one exposition held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Samples exposed.
    pub(super) scraped: usize,
    /// Samples left after metric relabeling.
    pub(super) kept: usize,
    /// Series that the last good scrape did not have.
    pub(super) series_added: usize,
    /// Samples of series that had one at that time already.
    pub(super) duplicates: u64,
    /// Samples older than another one of their series; they are stored all the same.
    pub(super) out_of_order: u64,
    /// Samples too far in the future.
    pub(super) out_of_bounds: u64,
    /// Exemplars put into the batch.
    pub(super) exemplars: u64,
}

/// Memory to work in, shared by the scrapes of many targets.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    exposed: LabelText,
    labels: LabelBuffer,
    packed: Vec<u8>,
}

/// `scrape_timeout`, which covers the reading of the answer as well.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimit {
    pub(super) deadline: Instant,
    pub(super) timeout: Duration,
}

impl TimeLimit {
    /// Fails once the deadline has passed.
    pub(super) fn check(self) -> Result<(), ScrapeError> {
        if Instant::now() > self.deadline {
            return Err(ScrapeError::ReadTimeout { timeout: self.timeout });
        }
        Ok(())
    }
}

/// Takes one exposition.
pub(super) struct Appender<'a> {
    pub(super) cache: &'a mut SeriesCache,
    pub(super) metadata: &'a mut MetadataBook,
    pub(super) series_rules: &'a SeriesRules,
    pub(super) sample_rules: &'a SampleRules,
    pub(super) scratch: &'a mut Scratch,
    pub(super) batch: &'a mut MetricBatch,
    /// The time of samples that bear none.
    pub(super) default_t_ms: i64,
    /// The time.
    pub(super) now_ms: i64,
    /// When the scrape has to be done, and after how long that is.
    pub(super) time_limit: TimeLimit,
    pub(super) tally: Tally,
    /// Samples put into the batch.
    appended: usize,
    /// A limit of samples or buckets was met. Reading goes on, to count what there is.
    over: Option<ScrapeError>,
    /// Whether the labels of series are to be completed by type and unit, which a parser of text
    /// does not do.
    describes: bool,
    /// The unit that the last line about one told, of whatever family.
    unit: UnitIndex,
}

/// The formats behind one face.
trait Parse {
    fn next_entry(&mut self) -> Result<Option<Entry<'_>>, WireError>;
    fn known_series(&mut self, text: &[u8]) -> Result<Option<KnownSample<'_>>, WireError>;
    /// The type of the last `# TYPE` line, if labels can depend on it.
    fn kind(&self) -> MetricType;
}

macro_rules! parse_text {
    ($parser:ty) => {
        impl Parse for $parser {
            fn next_entry(&mut self) -> Result<Option<Entry<'_>>, WireError> {
                self.next_entry()
            }
            fn known_series(&mut self, text: &[u8]) -> Result<Option<KnownSample<'_>>, WireError> {
                self.known_series(text)
            }
            fn kind(&self) -> MetricType {
                self.kind()
            }
        }
    };
}

parse_text!(exposition::Parser<'_>);
parse_text!(openmetrics::Parser<'_>);

impl Parse for protobuf_exposition::Parser<'_> {
    fn next_entry(&mut self) -> Result<Option<Entry<'_>>, WireError> {
        self.next_entry()
    }
    /// Its labels are not text that would have to be lexed, so there is nothing to save.
    fn known_series(&mut self, _: &[u8]) -> Result<Option<KnownSample<'_>>, WireError> {
        Ok(None)
    }
    /// Nothing of a label depends on it here.
    fn kind(&self) -> MetricType {
        MetricType::Unknown
    }
}

impl<'a> Appender<'a> {
    #[expect(clippy::too_many_arguments, reason = "each is a field; there is one caller")]
    pub(super) fn new(
        cache: &'a mut SeriesCache,
        metadata: &'a mut MetadataBook,
        series_rules: &'a SeriesRules,
        sample_rules: &'a SampleRules,
        scratch: &'a mut Scratch,
        batch: &'a mut MetricBatch,
        default_t_ms: i64,
        now_ms: i64,
        time_limit: TimeLimit,
    ) -> Self {
        Appender {
            cache,
            metadata,
            series_rules,
            sample_rules,
            scratch,
            batch,
            default_t_ms,
            now_ms,
            time_limit,
            tally: Tally::default(),
            appended: 0,
            over: None,
            describes: false,
            unit: UnitIndex::NONE,
        }
    }

    /// Reads `body` to its end. The batch holds what it says and the markers of series that are
    /// gone; when the scrape fails, only the markers of all series.
    ///
    /// # Errors
    /// Why the scrape fails; the tally counts what came before.
    pub(super) fn take(&mut self, body: &[u8], format: Format) -> Result<(), ScrapeError> {
        let outcome = if body.is_empty() {
            Ok(())
        } else {
            self.cache.make_room(self.batch);
            let described = self.sample_rules.type_and_unit_labels;
            self.describes = described && format != Format::Protobuf;
            match format {
                Format::Text => self.read(&mut exposition::Parser::new(body)),
                Format::OpenMetrics if self.sample_rules.folds_created => {
                    self.read(&mut openmetrics::Parser::new(body).fold_created())
                }
                Format::OpenMetrics => self.read(&mut openmetrics::Parser::new(body)),
                Format::Protobuf => {
                    let options = self.sample_rules.histograms.protobuf_options(described);
                    self.read(&mut protobuf_exposition::Parser::new(body, options))
                }
            }
        };
        let outcome = outcome.and_then(|()| self.over.take().map_or(Ok(()), Err));
        match outcome {
            Ok(()) => {
                self.cache.finish(self.default_t_ms, body.is_empty(), self.batch);
                if !body.is_empty() {
                    self.metadata.finish(&mut self.batch.metadata);
                }
                Ok(())
            }
            Err(error) => {
                self.batch.clear();
                self.cache.fail(self.default_t_ms, self.batch);
                Err(error)
            }
        }
    }

    fn read<P: Parse>(&mut self, parser: &mut P) -> Result<(), ScrapeError> {
        let time_limit = self.time_limit;
        let mut entries = 0_u32;
        let mut look = move || {
            entries = entries.wrapping_add(1);
            if entries.is_multiple_of(ENTRIES_PER_LOOK) { time_limit.check() } else { Ok(()) }
        };
        if let Some(mut converter) = self.sample_rules.histograms.converter() {
            loop {
                look()?;
                let kind = self.kind(parser);
                let Some(entry) = parser.next_entry()? else { break };
                converter.push(entry, |entry| self.entry(entry, kind))?;
            }
            let kind = self.kind(parser);
            return converter.finish(|entry| self.entry(entry, kind));
        }
        loop {
            look()?;
            // Fast path: the target writes what it wrote last time.
            if let Some((id, text, kind, unit)) = self.cache.predicted()
                && (kind, unit) == (self.kind(parser), self.unit)
                && let Some(known) = parser.known_series(text)?
            {
                self.tally.scraped += 1;
                let is_new = self.cache.is_new(id);
                if let Some(series) = self.cache.meet(id) {
                    self.sample(series, &known, is_new);
                }
                continue;
            }
            let kind = self.kind(parser);
            match parser.next_entry()? {
                Some(entry) => self.entry(entry, kind)?,
                None => return Ok(()),
            }
        }
    }

    /// The type of the last `# TYPE` line, as far as labels depend on it here: bounds of histograms
    /// and summaries are made canonical.
    fn kind(&self, parser: &impl Parse) -> MetricType {
        match parser.kind() {
            kind @ (MetricType::Histogram | MetricType::Summary) => kind,
            kind if self.describes => kind,
            _ => MetricType::Unknown,
        }
    }

    /// Takes one entry; `kind` is that of [`Appender::kind`] before it.
    fn entry(&mut self, entry: Entry<'_>, kind: MetricType) -> Result<(), ScrapeError> {
        match entry {
            Entry::Type { metric, kind } => self.metadata.set_kind(&metric, kind),
            Entry::Help { metric, text } => self.metadata.set_help(&metric, &text),
            Entry::Unit { metric, unit } => {
                self.metadata.set_unit(&metric, &unit);
                if self.describes {
                    let too_many = ScrapeError::TooManyUnits { limit: MAX_UNITS };
                    self.unit = self.cache.unit_index(&unit).ok_or(too_many)?;
                }
            }
            Entry::Comment(_) => {}
            Entry::Series(series) => {
                self.tally.scraped += 1;
                let read = |unit: Option<&str>, into: &mut LabelText| match unit {
                    Some(unit) => series.read_described(kind, unit, into),
                    None => series.read_labels(into),
                };
                if let Some((index, is_new)) = self.resolve(series.as_written(), kind, read)? {
                    let sample = KnownSample {
                        value: series.value,
                        timestamp_ms: series.timestamp_ms,
                        start_timestamp_ms: series.start_timestamp_ms,
                        exemplar: series.exemplar,
                    };
                    self.sample(index, &sample, is_new);
                }
            }
            Entry::Histogram(series) => {
                self.tally.scraped += 1;
                let read = |unit: Option<&str>, into: &mut LabelText| match unit {
                    Some(unit) => series.read_described(kind, unit, into),
                    None => series.read_labels(into),
                };
                if let Some((index, is_new)) = self.resolve(series.as_written(), kind, read)? {
                    let (t_ms, start_ms) = (series.timestamp_ms, series.start_timestamp_ms);
                    let exemplars: Vec<_> = series.exemplars().collect();
                    let histogram = series.histogram;
                    self.histogram(index, histogram, t_ms, start_ms, is_new, &exemplars)?;
                }
            }
        }
        Ok(())
    }

    /// The series a text stands for and whether it is new; `None` if it is dropped, or not wanted
    /// any more because the scrape fails anyway.
    fn resolve(
        &mut self,
        text: &[u8],
        kind: MetricType,
        read: impl FnOnce(Option<&str>, &mut LabelText) -> Result<(), model::LabelError>,
    ) -> Result<Option<(SeriesIndex, bool)>, ScrapeError> {
        if let Some(id) = self.cache.find(text, kind, self.unit) {
            let is_new = self.cache.is_new(id);
            return Ok(self.cache.meet(id).map(|series| (series, is_new)));
        }
        let Scratch { exposed, labels, packed } = self.scratch;
        let unit = self.describes.then(|| self.cache.unit(self.unit));
        read(unit, exposed).map_err(|error| {
            ScrapeError::Labels(error, String::from_utf8_lossy(text).into_owned())
        })?;
        packed.clear();
        let is_kept = self.series_rules.apply(exposed, labels)?;
        if is_kept {
            labels.pack_into(packed);
            if is_full(self.sample_rules.sample_limit, self.appended, &mut self.over) {
                // It would only be remembered to be forgotten.
                self.tally.kept += 1;
                return Ok(None);
            }
        }
        let too_many = ScrapeError::TooManyLabels { limit: MAX_LABEL_BYTES };
        let id =
            self.cache.insert(text, kind, self.unit, is_kept.then_some(packed)).ok_or(too_many)?;
        Ok(self.cache.meet(id).map(|series| (series, true)))
    }

    fn sample(&mut self, series: SeriesIndex, exposed: &KnownSample<'_>, is_new: bool) {
        self.tally.kept += 1;
        let value = exposed.value;
        let explicit = exposed.timestamp_ms.filter(|_| self.sample_rules.honor_timestamps);
        let says_the_same =
            |batch: &MetricBatch, row: usize| batch.values[row].to_bits() == value.to_bits();
        let Some(t_ms) = self.admit(series, explicit, says_the_same, |_, _| false) else { return };
        self.cache.push(series, t_ms, value, self.batch);
        self.batch.set_last_start(exposed.start_timestamp_ms.unwrap_or(0));
        if let Some(exemplar) = &exposed.exemplar {
            let row = self.batch.series.last().expect("it was pushed");
            let labels = (row.labels_start, row.labels_len);
            self.tally.exemplars += u64::from(exemplar.push(labels, t_ms, self.batch));
        }
        self.appended(series, explicit, is_new);
    }

    fn histogram(
        &mut self,
        series: SeriesIndex,
        mut histogram: Histogram,
        timestamp_ms: Option<i64>,
        start_ms: Option<i64>,
        is_new: bool,
        exemplars: &[Exemplar<'_>],
    ) -> Result<(), ScrapeError> {
        self.tally.kept += 1;
        let explicit = timestamp_ms.filter(|_| self.sample_rules.honor_timestamps);
        match self.sample_rules.histograms.shape(&mut histogram) {
            Ok(()) => {}
            Err(error @ ScrapeError::BucketLimit { .. }) => {
                self.over.get_or_insert(error);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let says_the_same = |batch: &MetricBatch, at: usize| {
            batch.histograms[at].histogram.says_the_same(&histogram)
        };
        let Some(t_ms) = self.admit(series, explicit, |_, _| false, says_the_same) else {
            return Ok(());
        };
        self.cache.push_histogram(series, t_ms, start_ms, histogram, self.batch);
        let sample = self.batch.histograms.last().expect("it was pushed");
        let labels = (sample.labels_start, sample.labels_len);
        // Those without a time cannot be told from their repetition, as Prometheus says.
        for exemplar in exemplars.iter().filter(|exemplar| exemplar.timestamp_ms.is_some()) {
            self.tally.exemplars += u64::from(exemplar.push(labels, t_ms, self.batch));
        }
        self.appended(series, explicit, is_new);
        Ok(())
    }

    /// The time under which a sample is to be stored; `None` if it is not, and why is counted.
    fn admit(
        &mut self,
        series: SeriesIndex,
        explicit: Option<i64>,
        row_is_same: impl FnOnce(&MetricBatch, usize) -> bool,
        histogram_is_same: impl FnOnce(&MetricBatch, usize) -> bool,
    ) -> Option<i64> {
        let t_ms = explicit.unwrap_or(self.default_t_ms);
        if let Some(place) = self.cache.earlier(series) {
            if explicit.is_none() {
                self.tally.duplicates += 1;
                return None;
            }
            let (before_ms, is_same) = match place {
                Place::Row(row) => (self.batch.timestamps_ms[row], row_is_same(self.batch, row)),
                Place::Histogram(at) => {
                    (self.batch.histograms[at].t_ms, histogram_is_same(self.batch, at))
                }
            };
            if before_ms == t_ms {
                self.tally.duplicates += u64::from(!is_same);
                return None;
            }
            self.tally.out_of_order += u64::from(t_ms < before_ms);
        }
        if t_ms > self.now_ms + MAX_AHEAD_MS {
            self.tally.out_of_bounds += 1;
            return None;
        }
        let limit = self.sample_rules.sample_limit;
        (!is_full(limit, self.appended, &mut self.over)).then_some(t_ms)
    }

    fn appended(&mut self, series: SeriesIndex, explicit: Option<i64>, is_new: bool) {
        self.appended += 1;
        if self.batch.label_bytes.len() > MAX_LABEL_BYTES {
            self.over = Some(ScrapeError::TooManyLabels { limit: MAX_LABEL_BYTES });
        }
        if explicit.is_none() || self.sample_rules.track_timestamps_staleness {
            self.cache.track(series);
        }
        self.tally.series_added += usize::from(is_new && self.over.is_none());
    }
}

/// Whether the sample limit leaves no room; notes in `over` that it was met.
fn is_full(limit: usize, appended: usize, over: &mut Option<ScrapeError>) -> bool {
    let is_full = limit > 0 && appended == limit;
    if is_full {
        *over = Some(ScrapeError::SampleLimit { limit });
    }
    is_full
}
