//! The host's current samples as text, for whoever scrapes the agent instead of Node Exporter.
//!
//! Format and order are those of `client_golang`: families by name, their series by the values of
//! their labels. Nothing is done for it while nobody asks: the collecting thread itself writes the
//! page between two passes, out of the values it holds anyway.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Thread;

use model::{Labels, METRIC_NAME, MetricType};
use tokio::sync::oneshot;
use wire::text_encode::TextEncoder;

use crate::series::Samples;

/// Asks the collecting thread for a page. Clones ask the same thread.
#[derive(Debug, Clone)]
pub struct Exposition {
    questions: Sender<oneshot::Sender<String>>,
    thread: Thread,
}

/// Where the collecting thread finds who asked.
pub(crate) struct Questions(Receiver<oneshot::Sender<String>>);

/// Both ends; the asking one needs to know the thread.
pub(crate) fn questions() -> (impl FnOnce(Thread) -> Exposition, Questions) {
    let (questions, asked) = channel();
    (move |thread| Exposition { questions, thread }, Questions(asked))
}

impl Exposition {
    /// The samples of the last pass in the text format 0.0.4, without the labels `job` and
    /// `instance`, which the scraper adds; `None` after the collectors have stopped. A pass that
    /// runs is waited for. About 1 ms of CPU per 1,000 series.
    pub async fn page(&self) -> Option<String> {
        let (answer, page) = oneshot::channel();
        self.questions.send(answer).ok()?;
        self.thread.unpark();
        page.await.ok()
    }
}

impl Questions {
    /// Answers everyone who has asked by now with one page.
    pub(crate) fn answer(&self, page: impl FnOnce() -> String) {
        let Ok(first) = self.0.try_recv() else { return };
        let page = page();
        for other in self.0.try_iter() {
            let _ = other.send(page.clone());
        }
        // Who has gone meanwhile needs no answer.
        let _ = first.send(page);
    }
}

/// A metric family as it is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) kind: MetricType,
    pub(crate) help: String,
}

/// One current sample.
struct Row<'a> {
    family: &'a Description,
    name: &'a str,
    /// The labels that are the series' own, by name.
    labels: Vec<(&'a str, &'a str)>,
    part: Option<Part<'a>>,
    value: f64,
}

/// Which of the several rows of a histogram or summary one is.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// Buckets and quantiles, then the sum, then the count.
    rank: u8,
    /// The label that tells buckets or quantiles apart, and its value as a number.
    label: &'a str,
    bound: f64,
}

/// Writes all current samples.
pub(crate) fn render(samples: &Samples) -> String {
    let current = samples.current();
    let mut rows: Vec<Row<'_>> =
        current.map(|(family, labels, value)| Row::new(family, labels, value)).collect();
    rows.sort_by(Row::compare);
    let mut page = String::new();
    let mut family: Option<&Description> = None;
    for row in &rows {
        if family != Some(row.family) {
            family = Some(row.family);
            row.family.write(&mut page);
        }
        row.write(&mut page);
    }
    page
}

impl Description {
    fn write(&self, page: &mut String) {
        let kind = match self.kind {
            MetricType::Unknown => "untyped",
            kind => kind.as_str(),
        };
        let mut lines = Vec::new();
        TextEncoder::new(&mut lines).family(&self.name, kind, &self.help);
        page.push_str(&String::from_utf8_lossy(&lines));
    }
}

impl<'a> Row<'a> {
    fn new(family: &'a Description, labels: &'a Labels, value: f64) -> Self {
        let name = labels.metric_name().unwrap_or_default();
        let own = labels.iter();
        let own = own.filter(|(name, _)| ![METRIC_NAME, "job", "instance"].contains(name));
        // What a text file called `job` is called so again.
        let own = own.map(|(name, value)| match name {
            "exported_job" => ("job", value),
            "exported_instance" => ("instance", value),
            _ => (name, value),
        });
        let mut own: Vec<_> = own.collect();
        own.sort_unstable();
        let label = match family.kind {
            MetricType::Histogram | MetricType::GaugeHistogram => Some("le"),
            MetricType::Summary => Some("quantile"),
            _ => None,
        };
        let part = label.map(|label| Part {
            rank: match name.strip_prefix(family.name.as_str()) {
                Some("_sum") => 1,
                Some("_count") => 2,
                _ => 0,
            },
            label,
            bound: labels.get(label).and_then(|text| text.parse().ok()).unwrap_or(0.0),
        });
        Row { family, name, labels: own, part, value }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let by_family = self.family.name.cmp(&other.family.name);
        let by_values = || self.values().count().cmp(&other.values().count());
        let by_values = || by_values().then_with(|| self.values().cmp(other.values()));
        let by_part = || match (self.part, other.part) {
            (Some(part), Some(other)) => {
                part.rank.cmp(&other.rank).then(part.bound.total_cmp(&other.bound))
            }
            _ => Ordering::Equal,
        };
        by_family.then_with(by_values).then_with(by_part)
    }

    /// The values of the labels by which rows are sorted.
    fn values(&self) -> impl Iterator<Item = &str> {
        let skipped = self.part.map(|part| part.label);
        let sorting = self.labels.iter().filter(move |(name, _)| Some(*name) != skipped);
        sorting.map(|(_, value)| *value)
    }

    fn write(&self, page: &mut String) {
        page.push_str(self.name);
        let mut separator = '{';
        for (name, value) in &self.labels {
            page.push(separator);
            separator = ',';
            page.push_str(name);
            page.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => page.push_str("\\\\"),
                    '\n' => page.push_str("\\n"),
                    '"' => page.push_str("\\\""),
                    c => page.push(c),
                }
            }
            page.push('"');
        }
        if separator == ',' {
            page.push('}');
        }
        page.push(' ');
        push_float(page, self.value);
        page.push('\n');
    }
}

/// As Go's `strconv.AppendFloat(f, 'g', -1, 64)`: the fewest digits that read back as the same
/// value, with an exponent below 1e-4 and from 1e6 on.
fn push_float(page: &mut String, value: f64) {
    if value.is_nan() {
        return page.push_str("NaN");
    }
    if value.is_infinite() {
        return page.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("`e` formatting has an exponent");
    let exponent: i32 = exponent.parse().expect("`e` formatting has an integer exponent");
    let written = if (-4..6).contains(&exponent) {
        write!(page, "{value}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(page, "{digits}e{sign}{:02}", exponent.abs())
    };
    written.expect("a String takes every write");
}

#[cfg(test)]
mod tests {
    use model::MetricBatch;

    use super::*;
    use crate::series::Family;

    #[test]
    fn floats_are_written_as_go_does() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.21, "0.21"),
            (0.0001, "0.0001"),
            (0.00001234, "1.234e-05"),
            (123_456.0, "123456"),
            (1_000_000.0, "1e+06"),
            (16_434_000_000.5, "1.64340000005e+10"),
            (-1.5e300, "-1.5e+300"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut page = String::new();
            push_float(&mut page, value);
            assert_eq!(page, text);
        }
    }

    #[test]
    fn families_and_series_are_sorted_as_client_golang_does() {
        const CPU: Family = Family::counter("node_cpu_seconds_total", "Seconds.");
        const BOOT: Family = Family::gauge("node_boot", "Boot \\ time.");
        let mut samples = Samples::new("node", "here");
        samples.begin(1, MetricBatch::default());
        for (cpu, mode) in [("1", "user"), ("0", "user"), ("0", "idle")] {
            let series = samples.register(&CPU, &[("cpu", cpu), ("mode", mode)]);
            samples.emit(series, 2e6);
        }
        let series = samples.register(&BOOT, &[]);
        samples.emit(series, 1.5);
        let bucket = |samples: &mut Samples, name: &str, le: &str, value: f64| {
            let labels = [("job", "batch \"1\""), ("le", le)];
            let kind = MetricType::Histogram;
            let series = samples.register_foreign("took", kind, "Took.", name, &labels);
            samples.emit(series.expect("labels"), value);
        };
        bucket(&mut samples, "took_count", "", 3.0);
        bucket(&mut samples, "took_bucket", "+Inf", 3.0);
        bucket(&mut samples, "took_bucket", "10", 2.0);
        bucket(&mut samples, "took_bucket", "2.5", 1.0);
        bucket(&mut samples, "took_sum", "", 7.5);
        samples.finish(&[true]);
        let want = "\
# HELP node_boot Boot \\\\ time.
# TYPE node_boot gauge
node_boot 1.5
# HELP node_cpu_seconds_total Seconds.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 2e+06
node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 2e+06
node_cpu_seconds_total{cpu=\"1\",mode=\"user\"} 2e+06
# HELP took Took.
# TYPE took histogram
took_bucket{job=\"batch \\\"1\\\"\",le=\"2.5\"} 1
took_bucket{job=\"batch \\\"1\\\"\",le=\"10\"} 2
took_bucket{job=\"batch \\\"1\\\"\",le=\"+Inf\"} 3
took_sum{job=\"batch \\\"1\\\"\"} 7.5
took_count{job=\"batch \\\"1\\\"\"} 3
";
        assert_eq!(render(&samples), want);
        // What vanished is not shown any more.
        samples.delivered();
        samples.begin(2, MetricBatch::default());
        samples.emit(series, 2.5);
        samples.finish(&[true]);
        assert_eq!(render(&samples).lines().last(), Some("node_boot 2.5"));
    }
}
