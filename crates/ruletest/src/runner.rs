//! Runs the tests of a file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use alerting::rules::{
    AlertState, Defaults, Group, GroupSpec, RuleLimits, Surroundings as With, Timing,
    compile_groups,
};
use model::{Labels, METRIC_NAME};
use regex::RegexSet;
use settings::prometheus::Surroundings;
use settings::prometheus::rules::{self as rule_files, RuleChecks, RuleFile};
use settings::{format_duration, glob};

use crate::engine::{Engine, Features, ms};
use crate::language::{checks, compile};
use crate::memory::Point;
use crate::notation::series::{Item, parse_items, parse_metric};
use crate::notation::{general, histogram};
use crate::shown::{self, ShownAlert, ShownSample};
use crate::templates::TestTemplates;
use crate::test_file::{ExprCase, TestFile, TestGroup};

/// Most evaluations of a test. What anybody waits for stays far below.
const MAX_EVALUATIONS: i64 = 10_000_000;

/// How tests are run.
#[derive(Debug, Clone, Default)]
pub struct TestOptions {
    /// Tests whose names fit one of these; all of them if there are none.
    pub run: Option<RegexSet>,
    /// Whether keys of rule files that nobody knows are passed over.
    pub ignore_unknown_fields: bool,
    /// Whether differences of alerts are shown line by line.
    pub diff: bool,
    /// Whether all samples of each test are shown.
    pub debug: bool,
    /// What of PromQL is on.
    pub features: Features,
}

impl TestOptions {
    /// Chooses tests by the expressions of `--run`.
    ///
    /// # Errors
    /// One of them is no regular expression.
    pub fn named(patterns: &[String]) -> Result<Option<RegexSet>, String> {
        if patterns.is_empty() {
            return Ok(None);
        }
        RegexSet::new(patterns).map(Some).map_err(|error| error.to_string())
    }
}

/// How a file fared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileReport {
    /// What is odd but no failure.
    pub warnings: Vec<String>,
    /// Why the file could not be run at all.
    pub failures: Vec<String>,
    /// The tests that ran, in the order of the file.
    pub tests: Vec<TestReport>,
}

/// How a test fared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestReport {
    /// Its name, or `unnamed#N`.
    pub name: String,
    /// What is not as expected.
    pub failures: Vec<String>,
    /// What `--debug` shows.
    pub notes: Vec<String>,
}

impl FileReport {
    /// Everything that failed, in the order in which it is told.
    pub fn all_failures(&self) -> impl Iterator<Item = &str> {
        let of_tests = self.tests.iter().flat_map(|test| &test.failures);
        self.failures.iter().chain(of_tests).map(String::as_str)
    }

    /// Whether everything is as expected.
    pub fn is_success(&self) -> bool {
        self.all_failures().next().is_none()
    }
}

/// Runs the tests of a file; the rule files it names lie beside it unless it says otherwise.
pub fn run_file(path: &Path, files: &dyn Surroundings, options: &TestOptions) -> FileReport {
    let mut report = FileReport::default();
    let name = path.to_string_lossy();
    let bytes = match files.read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.failures.push(format!("{name}: cannot be read: {error}"));
            return report;
        }
    };
    let file = match TestFile::parse(&name, &bytes) {
        Ok(file) => file,
        Err(faults) => {
            report.failures.push(faults.render());
            return report;
        }
    };
    let mut order: HashMap<&str, usize> = HashMap::new();
    for (index, group) in file.group_eval_order.iter().enumerate() {
        if order.insert(group, index).is_some() {
            let message = format!("group name repeated in evaluation order: {group}");
            report.failures.push(message);
            return report;
        }
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    let rules = match load_rules(&file, directory, files, options, &mut report.warnings) {
        Ok(rules) => rules,
        Err(failures) => {
            // Without a test nothing would load them.
            if !file.tests.is_empty() {
                report.failures = failures;
            }
            return report;
        }
    };
    for (index, test) in file.tests.iter().enumerate() {
        if options.run.as_ref().is_some_and(|run| !run.is_match(&test.name)) {
            continue;
        }
        let name = match test.name.as_str() {
            "" => format!("unnamed#{index}"),
            name => name.to_owned(),
        };
        let mut run = Run { file: &file, test, options, report: TestReport::default() };
        if let Err(error) = run.run(&rules, &order) {
            run.report.failures.push(error);
        }
        report.tests.push(TestReport { name, ..run.report });
    }
    report
}

/// The rule files that a file of tests names, each with its path.
fn load_rules(
    file: &TestFile,
    directory: &Path,
    files: &dyn Surroundings,
    options: &TestOptions,
    warnings: &mut Vec<String>,
) -> Result<Vec<(String, RuleFile)>, Vec<String>> {
    let checks = RuleChecks { ignore_unknown_fields: options.ignore_unknown_fields, ..checks() };
    let mut loaded = Vec::new();
    for pattern in &file.rule_files {
        let joined = directory.join(pattern);
        let paths = glob::expand(&joined.to_string_lossy(), files);
        if paths.is_empty() {
            warnings.push(format!("no file match pattern {}", joined.display()));
        }
        for path in paths {
            let name = path.to_string_lossy().into_owned();
            let bytes = files
                .read(&path)
                .map_err(|error| vec![format!("{name}: cannot be read: {error}")])?;
            let rules = rule_files::parse(&name, &bytes, &checks)
                .map_err(|faults| faults.iter().map(|fault| fault.render()).collect::<Vec<_>>())?;
            loaded.push((name, rules.file));
        }
    }
    Ok(loaded)
}

/// One test that is being run.
struct Run<'a> {
    file: &'a TestFile,
    test: &'a TestGroup,
    options: &'a TestOptions,
    report: TestReport,
}

impl Run<'_> {
    fn run(
        &mut self,
        rules: &[(String, RuleFile)],
        order: &HashMap<&str, usize>,
    ) -> Result<(), String> {
        let (file, test) = (self.file, self.test);
        let interval = file.evaluation_interval();
        let mut engine = Engine::new(test, interval, self.options.features)?;
        let mut groups = self.groups(rules, order)?;
        let misses_name = |case: &&crate::AlertCase| case.alertname.is_empty();
        if let Some(case) = test.alerts.iter().find(misses_name) {
            let within = match test.name.as_str() {
                "" => String::new(),
                name => format!(" (in TestGroup {name})"),
            };
            return Err(format!(
                "an item under alert_rule_test misses required attribute alertname at eval_time \
                 {}{within}",
                format_duration(case.time())
            ));
        }
        let step_ms = ms(interval).max(1);
        let start_ms = test.start_ms();
        let last_ms = start_ms.saturating_add(ms(test.last_time()));
        let evaluations = last_ms.saturating_sub(start_ms) / step_ms;
        if evaluations > MAX_EVALUATIONS {
            return Err(format!(
                "the test would take {evaluations} evaluations; at most {MAX_EVALUATIONS} are made: \
                 give a longer evaluation_interval, or earlier times"
            ));
        }
        let mut at_ms = start_ms;
        while at_ms <= last_ms {
            if !self.evaluate(&mut engine, &mut groups, at_ms)? {
                return Ok(());
            }
            self.check_alerts(&groups, at_ms, step_ms);
            at_ms = at_ms.saturating_add(step_ms);
        }
        for case in &test.expressions {
            if let Err(reason) = self.check_expression(&mut engine, case) {
                let (expr, time) = (&case.expr, format_duration(case.time()));
                self.report.failures.push(format!("    expr: {expr:?}, time: {time},{reason}"));
            }
        }
        if self.options.debug {
            self.dump(&engine);
        }
        Ok(())
    }

    /// The groups, in the order in which they are evaluated.
    fn groups(
        &self,
        rules: &[(String, RuleFile)],
        order: &HashMap<&str, usize>,
    ) -> Result<Vec<Group>, String> {
        let interval_ms = ms(self.test.interval(self.file.evaluation_interval()));
        let defaults = Defaults { interval_ms, query_offset_ms: 0 };
        let mut specs: Vec<GroupSpec> = Vec::new();
        for (file, rules) in rules {
            specs.extend(compile_groups(file, rules, defaults, &compile)?);
        }
        specs.sort_by_key(|spec| order.get(spec.name.as_str()).copied().unwrap_or(0));
        let budget = std::sync::Arc::default();
        Ok(specs.into_iter().map(|spec| Group::new(spec, 0, false, &budget)).collect())
    }

    /// Evaluates all groups for a time; whether every rule could be evaluated.
    fn evaluate(
        &mut self,
        engine: &mut Engine,
        groups: &mut [Group],
        at_ms: i64,
    ) -> Result<bool, String> {
        if let Err(error) = engine.advance(at_ms) {
            self.report.failures.push(error);
            return Ok(true);
        }
        let pairs = self.test.external_labels.iter();
        let external_labels =
            Labels::from_pairs(pairs.map(|(name, value)| (name.as_str(), value.as_str())))
                .map_err(|error| format!("external_labels: {error}"))?;
        let limits = RuleLimits::default();
        let before = self.report.failures.len();
        for group in groups.iter_mut() {
            let evaluation = group.evaluation_at(at_ms);
            for rule in 0..evaluation.spec.rules.len() {
                let result = engine.query(evaluation.expression(rule), evaluation.query_at_ms);
                let expand = TestTemplates(engine);
                let with = With {
                    expand: &expand,
                    external_labels: &external_labels,
                    external_url: &self.test.external_url,
                    limits: &limits,
                    resend_delay_ms: 60_000,
                };
                let applied = group.apply(&evaluation, rule, result, Timing::default(), &with);
                let mut written = Ok(());
                for sample in &applied.samples {
                    let appended = engine.append(sample);
                    // Another rule may go on with a series that this one has ended.
                    if !sample.is_stale() && written.is_ok() {
                        written = appended;
                    }
                }
                group.written(&evaluation, rule, written);
                if let Some(error) = group.last_error(rule) {
                    let since = std::time::Duration::from_millis(
                        at_ms.saturating_sub(self.test.start_ms()).unsigned_abs(),
                    );
                    let (name, time) = (&evaluation.spec.rules[rule].name, format_duration(since));
                    let message = format!("    rule: {name}, time: {time}, err: {error}");
                    self.report.failures.push(message);
                }
            }
            for sample in group.finish(&evaluation, Timing::default()) {
                // As above.
                let _ = engine.append(&sample);
            }
        }
        Ok(self.report.failures.len() == before)
    }

    /// Compares what fires with what is expected between this evaluation and the next.
    fn check_alerts(&mut self, groups: &[Group], at_ms: i64, step_ms: i64) {
        let since_ms = at_ms.saturating_sub(self.test.start_ms());
        let test = self.test;
        for case in &test.alerts {
            let time_ms = ms(case.time());
            if time_ms < since_ms || time_ms >= since_ms.saturating_add(step_ms) {
                continue;
            }
            let mut got = firing(groups, &case.alertname);
            let mut expected: Vec<ShownAlert> = Vec::with_capacity(case.exp_alerts.len());
            for alert in &case.exp_alerts {
                let mut labels = alert.exp_labels.clone();
                labels.insert("alertname".to_owned(), case.alertname.clone());
                expected.push(ShownAlert { labels, annotations: alert.exp_annotations.clone() });
            }
            got.sort();
            expected.sort();
            if got == expected {
                continue;
            }
            let blanks = " ".repeat(12);
            let (got, expected) = (shown::alerts(&got), shown::alerts(&expected));
            let named = match test.name.as_str() {
                "" => String::new(),
                name => format!("    name: {name},\n"),
            };
            let time = format_duration(case.time());
            let what = match self.options.diff {
                true => {
                    let lines = shown::difference(&expected, &got);
                    format!("        diff: {}", shown::indent(&lines, &blanks))
                }
                false => format!(
                    "        exp:{}, \n        got:{}",
                    shown::indent(&expected, &blanks),
                    shown::indent(&got, &blanks)
                ),
            };
            let name = &case.alertname;
            self.report
                .failures
                .push(format!("{named}    alertname: {name}, time: {time}, \n{what}"));
        }
    }

    /// Compares what an expression yields; the error is what stands behind its time.
    fn check_expression(&self, engine: &mut Engine, case: &ExprCase) -> Result<(), String> {
        let at_ms = self.test.start_ms().saturating_add(ms(case.time()));
        let failed = |error: String| format!(" err: {error}");
        let result = engine.query(&case.expr, at_ms).map_err(failed)?;
        let mut got: Vec<ShownSample> = result
            .iter()
            .map(|sample| ShownSample {
                labels: map(&sample.labels),
                value: sample.value,
                histogram: sample.histogram.as_deref().map(histogram::print).unwrap_or_default(),
            })
            .collect();
        let mut expected = Vec::with_capacity(case.exp_samples.len());
        for sample in &case.exp_samples {
            let read = || -> Result<ShownSample, String> {
                let histogram = match sample.histogram.trim() {
                    "" => String::new(),
                    text => expected_histogram(text)?,
                };
                Ok(ShownSample {
                    labels: expected_labels(&sample.labels)?,
                    value: sample.value,
                    histogram,
                })
            };
            let text = &sample.labels;
            expected.push(read().map_err(|error| failed(format!("labels {text:?}: {error}")))?);
        }
        let by_labels = |a: &ShownSample, b: &ShownSample| a.labels.cmp(&b.labels);
        got.sort_by(by_labels);
        expected.sort_by(by_labels);
        let is_same = |(a, b): (&ShownSample, &ShownSample)| {
            a.labels == b.labels
                && a.histogram == b.histogram
                && is_equal(a.value, b.value, self.file.fuzzy_compare)
        };
        if got.len() == expected.len() && expected.iter().zip(&got).all(is_same) {
            return Ok(());
        }
        let (expected, got) = (shown::samples(&expected), shown::samples(&got));
        Err(format!("\n        exp: {expected}\n        got: {got}"))
    }

    /// All samples of the test and its rules.
    fn dump(&mut self, engine: &Engine) {
        for (labels, samples) in engine.memory.iter() {
            let shown: Vec<String> = samples
                .map(|(t_ms, point)| match point {
                    Point::Float(value) if model::is_stale_nan(*value) => format!("stale@{t_ms}"),
                    Point::Float(value) => format!("{}@{t_ms}", general(*value)),
                    Point::Histogram(one) => format!("{}@{t_ms}", histogram::print(one)),
                })
                .collect();
            self.report.notes.push(format!("{labels} {}", shown.join(" ")));
        }
    }
}

/// Firing alerts of a name in all groups.
fn firing(groups: &[Group], name: &str) -> Vec<ShownAlert> {
    let mut found = Vec::new();
    for group in groups {
        for (index, rule) in group.spec().rules.iter().enumerate() {
            if rule.name != name {
                continue;
            }
            let firing = group.alerts(index).filter(|alert| alert.state == AlertState::Firing);
            found.extend(firing.map(|alert| ShownAlert {
                labels: map(&alert.labels),
                annotations: alert.annotations.iter().cloned().collect(),
            }));
        }
    }
    found
}

fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Name and labels as a test writes them; nothing stands for none.
fn expected_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (labels, rest) = parse_metric(text).map_err(|error| error.to_string())?;
    match rest.trim() {
        "" => Ok(map(&labels)),
        rest => Err(format!("unexpected {rest:?} behind {METRIC_NAME} and labels")),
    }
}

/// A histogram as a test writes it, printed as all are.
fn expected_histogram(text: &str) -> Result<String, String> {
    let items = parse_items(text).map_err(|error| error.to_string())?;
    match items.as_slice() {
        [Item::Histogram(literal)] => Ok(histogram::print(&literal.histogram)),
        [_] => Err(format!("expected histogram, got {text}")),
        items => Err(format!("expected 1 value, got {}", items.len())),
    }
}

/// Whether two numbers are equal, or, if that is enough, neighbours.
fn is_equal(a: f64, b: f64, is_fuzzy: bool) -> bool {
    a == b || (is_fuzzy && (a.next_up() == b || a.next_down() == b))
}

#[cfg(test)]
mod tests;
