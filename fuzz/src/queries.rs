//! PromQL: matchers, the parser, and the evaluator over a small store.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use model::{
    BucketLayout, FloatHistogram, Histogram, IntegerHistogram, Labels, MatchOp, Matcher,
    STALE_NAN_BITS, Span,
};
use promql::{
    Columns, EvalOptions, EvalTime, Evaluation, Inline, QueryOutput, QueryValue, SelectRequest,
    SeriesSet, Source, SourceError, ast_json, complete, evaluate, parse, parse_duration,
    parse_selector, pretty,
};

use crate::input::text_of;

/// A pattern, a line end, and candidates, one per line: the shortcuts that a matcher takes (sets
/// of literals, prefixes) answer as the pattern itself does.
pub(crate) fn matchers(bytes: &[u8]) {
    let text = text_of(bytes);
    let (pattern, candidates) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(matcher) = Matcher::new("a", MatchOp::Regex, pattern) else { return };
    let opposite = Matcher::new("a", MatchOp::NotRegex, pattern).expect("compiled a line above");
    let naive = model::regex::Regex::new(pattern).expect("compiled a line above");
    for candidate in candidates.split('\n').chain(["", "a", pattern]) {
        let is_match = matcher.matches(candidate);
        assert_ne!(is_match, opposite.matches(candidate));
        assert_eq!(is_match, naive.is_match(candidate), "{pattern:?} on {candidate:?}");
        if is_match {
            assert!(candidate.starts_with(matcher.literal_prefix()), "{pattern:?} {candidate:?}");
        }
        if let Some(set) = matcher.set_matches() {
            assert_eq!(is_match, set.iter().any(|one| one == candidate), "{pattern:?}");
        }
    }
    assert_eq!(matcher.matches_empty(), matcher.matches(""));
}

/// What parses is printed, and what is printed is the same query.
pub(crate) fn parser(bytes: &[u8]) {
    let text = text_of(bytes);
    let _ = parse_selector(text);
    let _ = parse_duration(text);
    let Ok(expr) = parse(text) else { return };
    let span = expr.span();
    assert!(span.start <= span.end && span.end as usize <= text.len(), "{text}: {span:?}");
    assert!(ast_json(&expr).is_object());
    let canonical = expr.to_string();
    for printed in [canonical.clone(), pretty(&expr)] {
        let again = parse(&printed).unwrap_or_else(|error| panic!("{text} -> {printed}: {error}"));
        assert_eq!(again.to_string(), canonical, "{text} -> {printed}");
    }
}

/// Every place in any text has an answer within the text, and what is inserted there too.
pub(crate) fn completion(bytes: &[u8]) {
    let text = text_of(bytes);
    // Each place is asked about.
    if text.len() > 400 {
        return;
    }
    for at in 0..=text.len() {
        let place = complete(text, at);
        assert!(place.start <= place.end && place.end <= text.len(), "{text} {at}: {place:?}");
        let _ = (&text[..place.start], &text[place.end..]);
        for name in ["up", "with.dot", "q\"'`\\\u{fffd}"] {
            let inserted = [
                place.insert_metric(name),
                place.insert_label(text, name),
                place.insert_value(name),
                Some(place.insert_word(text, name)),
                Some(place.insert_call(text, name, true)),
            ];
            assert!(inserted.iter().flatten().all(|one| !one.is_empty()), "{text} {at}");
        }
        let _ = place.durations(text, at);
    }
}

/// Any query over a small store ends in time with a value or an error; and a range of one step is
/// what an instant query says.
pub(crate) fn evaluator(bytes: &[u8]) {
    let text = text_of(bytes);
    // Longer queries only take longer, and then the search finds less.
    if text.len() > 300 {
        return;
    }
    let Ok(expr) = parse(text) else { return };
    let store = Store::new();
    let run = |time| {
        let cancelled = AtomicBool::new(false);
        let options = EvalOptions {
            lookback_ms: 60_000,
            default_subquery_step_ms: 15_000,
            max_samples: 20_000,
            memory: None,
            cancelled: &cancelled,
            parallel: &Inline,
            clock: None,
            use_start_timestamps: true,
            type_and_unit_labels: false,
        };
        evaluate(&Evaluation { expr: &expr, time, source: &store, options })
    };
    let _ = run(EvalTime::Range { start_ms: 0, end_ms: 600_000, step_ms: 30_000 });
    let at = 300_000;
    let instant = run(EvalTime::Instant(at));
    let range = run(EvalTime::Range { start_ms: at, end_ms: at, step_ms: 1_000 });
    // The step is 0 in an instant query, and a range query yields no ranges and no strings.
    if text.contains("step") {
        return;
    }
    if let (Ok(instant), Ok(range)) = (instant, range)
        && let Some(instant) = points(instant)
        && let Some(range) = points(range)
    {
        assert_eq!(instant, range, "{text}");
    }
}

/// Every point as text, in order of labels: floats as bits, but one NaN.
fn points(output: QueryOutput) -> Option<Vec<String>> {
    let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    let mut points: Vec<String> = match output.value {
        QueryValue::Scalar { value, .. } => vec![format!("{{}} {:x}", bits(value))],
        QueryValue::String { .. } => return None,
        QueryValue::Vector(samples) => samples
            .iter()
            .map(|sample| match &sample.histogram {
                Some(histogram) => format!("{} {}", sample.labels, histogram_of(histogram)),
                None => format!("{} {:x}", sample.labels, bits(sample.value)),
            })
            .collect(),
        QueryValue::Matrix(series) => {
            let mut points = Vec::new();
            for one in &series {
                let floats = one.values.iter().map(|value| format!("{:x}", bits(*value)));
                let histograms = one.histograms.iter().map(|(_, h)| histogram_of(h));
                let all: Vec<String> = floats.chain(histograms).collect();
                // An instant query of a range selector.
                if all.len() > 1 {
                    return None;
                }
                points.extend(all.iter().map(|point| format!("{} {point}", one.labels)));
            }
            points
        }
    };
    points.sort();
    Some(points)
}

fn histogram_of(histogram: &FloatHistogram) -> String {
    format!("{:?} {} {:?}", histogram.count, histogram.sum, histogram.positive)
}

/// Series of every kind there is: counters with resets, gauges with gaps, special values, classic
/// and native histograms.
struct Store(Vec<(Labels, Columns)>);

impl Store {
    fn new() -> Self {
        let mut all = Vec::new();
        let mut add = |pairs: &[(&str, &str)], value: &dyn Fn(i64) -> f64| {
            let mut columns = Columns::default();
            for step in 0..40_i64 {
                if step % 13 != 12 {
                    columns.timestamps_ms.push(step * 15_000 + step % 3);
                    columns.values.push(value(step));
                }
            }
            let labels = Labels::from_pairs(pairs.iter().copied()).expect("names differ");
            all.push((labels, columns));
        };
        add(&[("__name__", "c_total"), ("x", "0")], &|step| ((step * 7) % 90) as f64);
        add(&[("__name__", "c_total"), ("x", "1")], &|step| step as f64 * 2.5);
        add(&[("__name__", "m"), ("x", "0"), ("y", "0")], &|step| (step % 5) as f64 - 1.5);
        add(&[("__name__", "m"), ("x", "0"), ("y", "1")], &|_| f64::NAN);
        add(&[("__name__", "m"), ("x", "1"), ("y", "0")], &|step| match step % 7 {
            0 => f64::INFINITY,
            1 => f64::from_bits(STALE_NAN_BITS),
            2 => -0.0,
            _ => step as f64 * 1e300,
        });
        add(&[("__name__", "n"), ("x", "0")], &|_| 3.0);
        add(&[("__name__", "target_info"), ("x", "0"), ("v", "1.2")], &|_| 1.0);
        for (le, count) in [("0.5", 1.0), ("1.0", 3.0), ("+Inf", 4.0)] {
            add(&[("__name__", "h_bucket"), ("le", le)], &|step| count * step as f64);
        }
        add(&[("__name__", "s_total"), ("x", "0")], &|step| ((step * 3) % 50) as f64);
        all.last_mut().expect("just added").1.starts_ms = starts(24);
        let mut native = Columns::default();
        for step in 0..40_i64 {
            let spans = vec![Span { offset: -1, len: 3 }];
            let schema = if step < 20 { 1 } else { 0 };
            let layout = BucketLayout { schema, positive: spans, ..BucketLayout::default() };
            let mut histogram = IntegerHistogram::empty(Arc::new(layout));
            histogram.positive = vec![step as u64, 1, 2 * step as u64];
            histogram.count = histogram.positive.iter().sum();
            histogram.sum = step as f64;
            let float = Arc::new(Histogram::Integer(histogram).to_float());
            native.histograms.push(step * 15_000, float);
        }
        native.histograms.starts_ms = starts(28);
        let labels = Labels::from_pairs([("__name__", "h"), ("x", "0")]).expect("names differ");
        all.push((labels, native));
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Store(all)
    }
}

/// When the first `samples` samples began: known of some of them, and of none behind.
fn starts(samples: i64) -> Vec<i64> {
    (0..samples).map(|step| if step % 4 == 3 { 0 } else { step / 5 * 5 * 15_000 + 1 }).collect()
}

struct Selected {
    series: Vec<(Labels, Columns)>,
}

impl Source for Store {
    fn select(&self, request: &SelectRequest<'_>) -> Result<Arc<dyn SeriesSet>, SourceError> {
        let is_wanted = |labels: &Labels| {
            request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()))
        };
        let times = request.start_ms..=request.end_ms;
        let mut series = Vec::new();
        for (labels, columns) in self.0.iter().filter(|(labels, _)| is_wanted(labels)) {
            let mut within = Columns::default();
            let samples = columns.timestamps_ms.iter().zip(&columns.values).enumerate();
            for (index, (t_ms, value)) in samples {
                if times.contains(t_ms) {
                    within.timestamps_ms.push(*t_ms);
                    within.values.push(*value);
                    within.starts_ms.extend(columns.starts_ms.get(index));
                }
            }
            let histograms = &columns.histograms;
            let samples = histograms.timestamps_ms.iter().zip(&histograms.histograms).enumerate();
            for (index, (t_ms, one)) in samples {
                if times.contains(t_ms) {
                    within.histograms.timestamps_ms.push(*t_ms);
                    within.histograms.histograms.push(Arc::clone(one));
                    within.histograms.starts_ms.extend(histograms.starts_ms.get(index));
                }
            }
            series.push((labels.clone(), within));
        }
        Ok(Arc::new(Selected { series }))
    }
}

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.series[index].0
    }

    fn read(&self, index: usize, out: &mut Columns) -> Result<(), SourceError> {
        let columns = &self.series[index].1;
        out.timestamps_ms.extend_from_slice(&columns.timestamps_ms);
        out.values.extend_from_slice(&columns.values);
        let histograms = &columns.histograms;
        for (t_ms, one) in histograms.timestamps_ms.iter().zip(&histograms.histograms) {
            out.histograms.push(*t_ms, Arc::clone(one));
        }
        Ok(())
    }
}
