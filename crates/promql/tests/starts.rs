//! When samples began at zero may be known of some samples only: it may begin, end and interleave
//! anywhere, and what is not said is as good as 0.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use model::{BucketLayout, FloatHistogram, Labels, Span};
use promql::{
    Columns, EvalOptions, EvalTime, Evaluation, Hints, Inline, QueryOutput, SelectRequest,
    SeriesSet, Source, SourceError, evaluate, parse,
};
use proptest::prelude::*;

/// A sample: how long after the one before, what it counts (or, if it is negative, that many in a
/// histogram), and how long before it was taken it began, 0 if that is not known.
type Sample = (i64, i8, i64);

/// One series, some of whose starts may be left out.
struct Store {
    samples: Vec<(i64, i8, i64)>,
    /// Whether starts end with the last one that is known.
    ends_early: bool,
}

struct Selected(Labels, Columns);

impl Store {
    fn new(samples: &[Sample], ends_early: bool) -> Self {
        let mut t_ms = 0;
        let absolute = samples.iter().map(|&(after_ms, value, ago_ms)| {
            t_ms += after_ms;
            (t_ms, value, if ago_ms == 0 { 0 } else { (t_ms - ago_ms).max(1) })
        });
        Store { samples: absolute.collect(), ends_early }
    }
}

fn histogram(count: f64) -> Arc<FloatHistogram> {
    let layout =
        BucketLayout { positive: vec![Span { offset: 1, len: 1 }], ..BucketLayout::default() };
    let mut histogram = FloatHistogram::empty(Arc::new(layout));
    (histogram.count, histogram.sum, histogram.positive) = (count, 1.5 * count, vec![count]);
    Arc::new(histogram)
}

impl Source for Store {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let Hints { starts, .. } = request.hints;
        let mut columns = Columns::default();
        for &(t_ms, value, start_ms) in &self.samples {
            if !(request.start_ms..=request.end_ms).contains(&t_ms) {
                continue;
            }
            let start_ms = if starts { start_ms } else { 0 };
            if value < 0 {
                let histograms = &mut columns.histograms;
                histograms.timestamps_ms.push(t_ms);
                histograms.histograms.push(histogram(-f64::from(value)));
                histograms.starts_ms.push(start_ms);
            } else {
                columns.timestamps_ms.push(t_ms);
                columns.values.push(f64::from(value));
                columns.starts_ms.push(start_ms);
            }
        }
        if self.ends_early {
            let end_early = |starts_ms: &mut Vec<i64>| {
                let known = starts_ms.iter().rposition(|start_ms| *start_ms != 0);
                starts_ms.truncate(known.map_or(0, |last| last + 1));
            };
            end_early(&mut columns.starts_ms);
            end_early(&mut columns.histograms.starts_ms);
        }
        let labels = Labels::from_pairs([("__name__", "m_total")]).expect("valid");
        Ok(Arc::new(Selected(labels, columns)))
    }
}

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        1
    }

    fn labels(&self, _: usize) -> &Labels {
        &self.0
    }

    fn read(&self, _: usize, out: &mut Columns) -> Result<(), SourceError> {
        out.clone_from(&self.1);
        Ok(())
    }
}

fn run(store: &Store, query: &str, time: EvalTime) -> String {
    let cancelled = AtomicBool::new(false);
    let options = EvalOptions {
        lookback_ms: 60_000,
        default_subquery_step_ms: 15_000,
        max_samples: 100_000,
        memory: None,
        cancelled: &cancelled,
        parallel: &Inline,
        clock: None,
        use_start_timestamps: true,
        type_and_unit_labels: false,
    };
    let expr = parse(query).expect("valid");
    let QueryOutput { value, annotations, .. } =
        evaluate(&Evaluation { expr: &expr, time, source: store, options }).expect("evaluates");
    format!("{value:?} {annotations:?}")
}

/// All that look at starts, and what shares its data with them.
const FUNCTIONS: [&str; 12] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "resets",
    "changes",
    "sum_over_time",
    "last_over_time",
    "count_over_time",
    "max_over_time",
    "deriv",
];

fn queries() -> Vec<String> {
    let mut queries = vec!["start_timestamp(m_total)".to_owned(), "m_total[1m]".to_owned()];
    for function in FUNCTIONS {
        queries.push(format!("{function}(m_total[1m])"));
        queries.push(format!("{function}(m_total[45s] offset 15s)"));
        queries.push(format!("{function}(m_total[1m:15s])"));
    }
    for function in ["rate", "increase", "delta"] {
        queries.push(format!("{function}(m_total[1m] smoothed)"));
        queries.push(format!("{function}(m_total[1m] anchored)"));
    }
    queries.extend(
        ["changes(m_total[1m] anchored)", "resets(m_total[1m] anchored)"].map(str::to_owned),
    );
    queries
}

fn check(samples: &[Sample]) {
    let (whole, ending) = (Store::new(samples, false), Store::new(samples, true));
    let end_ms = whole.samples.last().map_or(0, |sample| sample.0);
    let range = EvalTime::Range { start_ms: 0, end_ms: end_ms + 60_000, step_ms: 15_000 };
    for query in queries() {
        let at = EvalTime::Instant(end_ms + 5_000);
        assert_eq!(run(&whole, &query, at), run(&ending, &query, at), "{query}: {samples:?}");
        if !query.starts_with("m_total[") {
            let (wanted, found) = (run(&whole, &query, range), run(&ending, &query, range));
            assert_eq!(wanted, found, "{query}: {samples:?}");
        }
    }
}

#[test]
fn starts_that_end_before_the_samples_do() {
    let mut samples = [(15_000, 1, 0); 8];
    for (index, sample) in samples.iter_mut().enumerate() {
        let ago_ms = if index < 4 { 15_000 * (index as i64 + 1) } else { 0 };
        *sample = (15_000, index as i8 + 1, ago_ms);
    }
    check(&samples);
    for sample in &mut samples {
        sample.1 = -sample.1;
    }
    check(&samples);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn starts_begin_end_and_interleave(
        samples in prop::collection::vec(
            (
                prop::sample::select(vec![1_000_i64, 15_000, 30_000]),
                prop_oneof![3 => 0_i8..20, 1 => -20_i8..0],
                prop_oneof![3 => Just(0_i64), 2 => 1_i64..60_000, 1 => Just(15_000_i64)],
            ),
            0..24,
        ),
    ) {
        check(&samples);
    }
}
