//! Remote write 2.0: requests of every shape, and what becomes of those that are wrong.

use std::collections::BTreeMap;

use expect_test::expect;
use model::{LabelForm, Limits, MetricBatch};
use proptest::prelude::*;
use wire::decode_labels;
use wire::remote_write_2::{Options, Summary, decode};

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

/// Collects symbols while series are written.
#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    fn new() -> Self {
        Table(vec![String::new()])
    }

    fn reference(&mut self, text: &str) -> u64 {
        let known = self.0.iter().position(|symbol| symbol == text);
        known.unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        }) as u64
    }

    fn refs(&mut self, labels: &[(&str, &str)]) -> Vec<u8> {
        let mut refs = Vec::new();
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let reference = self.reference(text);
            varint(&mut refs, reference);
        }
        field(1, &refs)
    }

    fn request(&self, series: &[Vec<u8>]) -> Vec<u8> {
        let symbols = self.0.iter().map(|symbol| field(4, symbol.as_bytes()));
        symbols.chain(series.iter().map(|series| field(5, series))).flatten().collect()
    }
}

fn sample(t_ms: i64, value: f64) -> Vec<u8> {
    let mut message = vec![0x09];
    message.extend_from_slice(&value.to_bits().to_le_bytes());
    message.push(0x10);
    varint(&mut message, t_ms as u64);
    field(2, &message)
}

fn metadata(kind: u8, help: u64, unit: u64) -> Vec<u8> {
    let mut message = vec![0x08, kind, 0x18];
    varint(&mut message, help);
    message.push(0x20);
    varint(&mut message, unit);
    field(5, &message)
}

fn decoded(body: &[u8]) -> (MetricBatch, Summary) {
    let mut batch = MetricBatch::default();
    let summary = decode(body, Options::default(), &Limits::default(), &mut batch)
        .expect("a well-formed request");
    (batch, summary)
}

fn printed(batch: &MetricBatch) -> String {
    let limits = Limits::default();
    let labels = |form, bytes: &[u8]| match decode_labels(form, bytes, &limits) {
        Ok(labels) => labels.to_string(),
        Err(error) => error.to_string(),
    };
    let mut out = String::new();
    for series in &batch.series {
        out.push_str(&labels(series.form, batch.label_bytes_of(series)));
        for row in series.first_row..series.first_row + series.rows {
            let row = row as usize;
            out.push_str(&format!(" {}@{}", batch.values[row], batch.timestamps_ms[row]));
        }
        out.push('\n');
    }
    for sample in &batch.histograms {
        let name = labels(sample.form, batch.label_bytes_of_histogram(sample));
        let (t_ms, start_ms) = (sample.t_ms, sample.start_ms);
        out.push_str(&format!("{name} {:?} @{t_ms} since {start_ms:?}\n", sample.histogram));
    }
    for metadata in &batch.metadata {
        out.push_str(&format!("{metadata:?}\n"));
    }
    out
}

/// What Prometheus 3.14 stores with `--enable-feature=type-and-unit-labels`.
#[test]
fn type_and_unit_become_labels() {
    let mut table = Table::new();
    let unit = table.reference("seconds");
    let mut series = |labels: &[(&str, &str)], told: Option<(u8, u64)>| {
        let labels = table.refs(labels);
        let told = told.map(|(kind, unit)| metadata(kind, 0, unit)).unwrap_or_default();
        [labels, sample(1, 1.0), told].concat()
    };
    let own = [("__name__", "own"), ("__type__", "gauge"), ("__unit__", "own"), ("z", "1")];
    let all = [
        series(&[("__name__", "both_seconds_total"), ("job", "j")], Some((1, unit))),
        series(&[("__name__", "type_only")], Some((2, 0))),
        series(&[("__name__", "unit_only")], Some((0, unit))),
        series(&[("__name__", "unknown")], Some((0, 0))),
        series(&[("__name__", "untold")], None),
        // One that is told puts both of the series' own away.
        series(&own, Some((0, unit))),
        series(&own, Some((0, 0))),
        // Prometheus refuses this one.
        series(&[("__name__", "astray")], Some((1, 900))),
    ];
    let body = table.request(&all);
    let mut batch = MetricBatch::default();
    let options = Options { type_and_unit_labels: true };
    decode(&body, options, &Limits::default(), &mut batch).expect("a well-formed request");
    let printed = printed(&batch);
    let series: Vec<_> = printed.lines().filter(|line| !line.starts_with("Metric")).collect();
    expect![[r#"
        both_seconds_total{__type__="counter", __unit__="seconds", job="j"} 1@1
        type_only{__type__="gauge"} 1@1
        unit_only{__unit__="seconds"} 1@1
        unknown 1@1
        untold 1@1
        own{__unit__="seconds", z="1"} 1@1
        own{__type__="gauge", __unit__="own", z="1"} 1@1
        astray{__type__="counter"} 1@1
    "#]]
    .assert_eq(&(series.join("\n") + "\n"));
    let (without, _) = decoded(&body);
    assert_eq!(without.rows(), batch.rows());
}

#[test]
fn a_request_comes_out_whole() {
    let mut table = Table::new();
    let labels = table.refs(&[("__name__", "http_requests_total"), ("job", "api")]);
    let (help, unit) = (table.reference("Requests."), table.reference("requests"));
    let counter = [labels, sample(1, 1.5), sample(2, 2.5), metadata(1, help, unit)].concat();
    // Labels that are not sorted, one of them empty.
    let other = [table.refs(&[("z", "1"), ("__name__", "up"), ("a", "")]), sample(-3, 7.0)];
    // Count 3, sum 1.5, one span of 1 at 0 with delta 3, timestamp 9, start 5.
    let mut histogram = vec![0x08, 3, 0x19];
    histogram.extend_from_slice(&1.5_f64.to_le_bytes());
    histogram.extend_from_slice(&[0x5a, 4, 0x08, 0, 0x10, 1, 0x62, 1, 6, 0x78, 9, 0x88, 1, 5]);
    let of_histogram = table.refs(&[("__name__", "latency")]);
    let native = [of_histogram.clone(), field(3, &histogram), metadata(3, help, 0)].concat();
    histogram.truncate(histogram.len() - 3);
    let older = [of_histogram, field(3, &histogram), vec![0x30, 4]].concat();
    let (batch, summary) = decoded(&table.request(&[counter, other.concat(), native, older]));
    expect![[r#"
        http_requests_total{job="api"} 1.5@1 2.5@2
        up{z="1"} 7@-3
        latency Integer(NativeHistogram { layout: BucketLayout { schema: 0, zero_threshold: 0.0, positive: [Span { offset: 0, len: 1 }], negative: [], custom_bounds: [] }, reset_hint: Unknown, count: 3, zero_count: 0, sum: 1.5, positive: [3], negative: [] }) @9 since Some(5)
        latency Integer(NativeHistogram { layout: BucketLayout { schema: 0, zero_threshold: 0.0, positive: [Span { offset: 0, len: 1 }], negative: [], custom_bounds: [] }, reset_hint: Unknown, count: 3, zero_count: 0, sum: 1.5, positive: [3], negative: [] }) @9 since Some(4)
        MetricMetadata { metric: "http_requests_total", kind: Counter, help: "Requests.", unit: "requests" }
        MetricMetadata { metric: "latency", kind: Histogram, help: "Requests.", unit: "" }
    "#]]
    .assert_eq(&printed(&batch));
    let Summary { floats, histograms, metadata, exemplars, exemplars_left_out, refusals } = summary;
    assert_eq!((floats, histograms, metadata), (3, 2, 2));
    assert_eq!((exemplars, exemplars_left_out), (0, 0));
    assert!(refusals.is_empty());
}

#[test]
fn samples_tell_when_they_began() {
    let started = |t_ms: i64, start_ms: i64| {
        let mut message = sample(t_ms, 1.0);
        message.push(0x18);
        varint(&mut message, start_ms as u64);
        // The length of the message stands behind its tag.
        message[1] = (message.len() - 2) as u8;
        message
    };
    let mut table = Table::new();
    let mut series = |name: &str, samples: &[Vec<u8>]| {
        [table.refs(&[("__name__", name)]), samples.concat()].concat()
    };
    let none = series("none", &[sample(1, 1.0)]);
    let some = series("some", &[sample(1, 1.0), started(2, -7), sample(3, 1.0)]);
    // What older senders say of a series holds where a sample says nothing.
    let created = series("created", &[sample(1, 1.0), started(2, 5), vec![0x30, 4]]);
    let refused = [field(1, &[99, 99]), started(1, 9)].concat();
    let last = series("last", &[sample(1, 1.0)]);
    let (batch, _) = decoded(&table.request(&[none.clone(), some, created, refused, last]));
    let starts: Vec<i64> = (0..batch.rows()).map(|row| batch.start_ms(row)).collect();
    assert_eq!(starts, [0, 0, -7, 0, 4, 5, 0]);
    assert!(decoded(&table.request(&[none])).0.starts_ms.is_empty());
}

#[test]
fn fields_may_come_in_any_order_and_packing() {
    // The series before its symbols, references unpacked and behind the sample.
    let series = [sample(1, 1.0), vec![0x08, 0, 0x08, 1]].concat();
    let body = [field(5, &series), field(4, b"__name__"), field(4, b"m")].concat();
    assert_eq!(printed(&decoded(&body).0), "m 1@1\n");
    // A request of 1.0 holds nothing that 2.0 knows.
    let (batch, summary) = decoded(&field(1, &field(2, &[])));
    assert_eq!((batch, summary), (MetricBatch::default(), Summary::default()));
}

#[test]
fn a_wrong_series_is_refused_alone() {
    let mut table = Table::new();
    let good = [table.refs(&[("__name__", "good")]), sample(1, 1.0)].concat();
    let odd = [field(1, &[1]), sample(1, 2.0), sample(2, 2.0)].concat();
    let lost = [field(1, &[1, 99]), sample(1, 3.0), field(3, &[0x08, 0])].concat();
    let orphan = [table.refs(&[("__name__", "good")]), field(4, &[])].concat();
    let (batch, summary) = decoded(&table.request(&[odd, good.clone(), lost, orphan, good]));
    assert_eq!(printed(&batch), "good 1@1\ngood 1@1\n");
    let refusals: Vec<_> = summary
        .refusals
        .iter()
        .map(|r| format!("{} {} {} {:?}: {}", r.series, r.samples, r.histograms, r.first, r.reason))
        .collect();
    expect![[r#"
        1 2 0 "": a label reference without its partner: there must be two per label
        1 2 1 "": a label reference points outside the symbols of the request"#]]
    .assert_eq(&refusals.join("\n"));
    assert_eq!(summary.exemplars, 1);
}

#[test]
fn families_are_named_once_and_without_suffix() {
    let mut table = Table::new();
    let help = table.reference("Help.");
    let mut series = Vec::new();
    for (name, kind) in [("h_bucket", 3), ("h_bucket", 3), ("s_sum", 5), ("c_total", 1), ("g", 0)] {
        let labels = table.refs(&[("__name__", name)]);
        series.push([labels, sample(1, 1.0), metadata(kind, help, 0)].concat());
    }
    let only_metadata = [table.refs(&[("__name__", "alone")]), metadata(2, help, 0)].concat();
    series.push(only_metadata);
    let (batch, _) = decoded(&table.request(&series));
    let names: Vec<_> = batch.metadata.iter().map(|m| (m.metric.as_str(), m.kind)).collect();
    use model::MetricType::{Counter, Gauge, Histogram, Summary, Unknown};
    assert_eq!(
        names,
        [("h", Histogram), ("s", Summary), ("c_total", Counter), ("g", Unknown), ("alone", Gauge)]
    );
    assert_eq!(batch.series.len(), 5);
}

#[test]
fn metadata_cannot_unfold_without_bound() {
    // One help text for 2,000 names: 8 MiB of what is read of it, out of less than 1 MiB.
    let described = |names: usize| {
        let mut table = Table::new();
        let help = table.reference(&"\u{e9}".repeat(100_000)[..]);
        let odd = table.reference(&format!("x{}", "\u{e9}".repeat(1_000)));
        let series: Vec<_> = (0..names)
            .map(|n| {
                let labels = table.refs(&[("__name__", &format!("m{n}"))]);
                [labels, sample(1, 1.0), metadata(1, help, odd)].concat()
            })
            .collect();
        table.request(&series)
    };
    let (batch, _) = decoded(&described(1));
    let said = &batch.metadata[0];
    // The unit is cut in the middle of a character.
    assert_eq!((said.help.len(), said.unit.len()), (4_096, 255));
    let limits = Limits { max_body_bytes: 1 << 20, ..Limits::default() };
    let mut batch = MetricBatch::default();
    let error =
        decode(&described(2_000), Options::default(), &limits, &mut batch).expect_err("too much");
    assert!(error.is_limit() && error.to_string().contains("metadata"), "{error}");
    assert_eq!(batch, MetricBatch::default());
}

#[test]
fn symbols_cannot_unfold_without_bound() {
    // A symbol of 100 kB in each of 10,000 labels: a gigabyte out of 120 kB.
    let refs = [[1_u8, 2]; 5_000].concat();
    let series = [field(1, &refs), sample(1, 1.0)].concat();
    let long = "x".repeat(100_000);
    let body = [field(4, b""), field(4, b"__name__"), field(4, long.as_bytes()), field(5, &series)]
        .concat();
    let limits = Limits { max_body_bytes: 1 << 20, ..Limits::default() };
    let mut batch = MetricBatch::default();
    let error = decode(&body, Options::default(), &limits, &mut batch).expect_err("too much");
    assert!(error.is_limit(), "{error}");
    assert!(error.to_string().contains("limits.max_body_bytes"), "{error}");
    assert!(batch.label_bytes.capacity() <= 8 << 20);
    assert!(batch.series.is_empty());
}

#[test]
fn what_is_no_request_is_malformed() {
    for body in [&[0x2a, 5, 0][..], &[0x22], &[0x20, 1], &[0x28, 0], &[0xff; 16]] {
        let mut batch = MetricBatch::default();
        let error = decode(body, Options::default(), &Limits::default(), &mut batch)
            .expect_err("no request");
        assert!(error.to_string().starts_with("malformed remote write 2.0 request"), "{error}");
    }
}

proptest! {
    #[test]
    fn labels_come_out_as_they_went_in(
        sets in proptest::collection::vec(
            proptest::collection::btree_map("[a-zé]{1,40}", "[ -~é]{0,50}", 0..12), 1..20)
    ) {
        let mut table = Table::new();
        let mut series = Vec::new();
        for (index, set) in sets.iter().enumerate() {
            let mut labels: Vec<_> = set.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            labels.insert(index % (labels.len() + 1), ("__name__", "m"));
            series.push([table.refs(&labels), sample(index as i64, 1.0)].concat());
        }
        let (batch, _) = decoded(&table.request(&series));
        prop_assert_eq!(batch.series.len(), sets.len());
        for (series, set) in batch.series.iter().zip(&sets) {
            prop_assert_eq!(series.form, LabelForm::Pairs);
            let bytes = batch.label_bytes_of(series);
            let labels = decode_labels(series.form, bytes, &Limits::default()).expect("valid");
            let back: BTreeMap<_, _> =
                labels.without_name().iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            let wanted: BTreeMap<_, _> =
                set.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.clone(), v.clone())).collect();
            prop_assert_eq!(back, wanted);
        }
    }

    #[test]
    fn random_and_damaged_bytes_never_panic(
        random in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<proptest::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let mut batch = MetricBatch::default();
        let _ = decode(&random, Options::default(), &Limits::default(), &mut batch);
        let mut table = Table::new();
        let labels = table.refs(&[("__name__", "m"), ("a", "b")]);
        let mut body = table.request(&[[labels, sample(1, 1.0), metadata(1, 1, 2)].concat()]);
        let at = at.index(body.len());
        body[at] ^= flip;
        if decode(&body, Options { type_and_unit_labels: true }, &Limits::default(), &mut batch).is_ok() {
            for series in &batch.series {
                let bytes = batch.label_bytes_of(series);
                let _ = decode_labels(series.form, bytes, &Limits::default());
            }
        }
    }
}
