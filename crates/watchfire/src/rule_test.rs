//! `watchfire test`, and of it `watchfire test rules`: runs promtool's unit tests of rules.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ruletest::{Features, FileReport, TestOptions, run_file};

use crate::check::ThisMachine;
use crate::receiver_test::{self, ReceiverTestArguments};

/// What is tested.
#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// What is tested.
    #[command(subcommand)]
    pub(crate) subject: TestSubject,
}

/// What can be tested.
#[derive(Debug, Subcommand)]
pub(crate) enum TestSubject {
    /// Run unit tests of rules, as promtool does
    #[command(after_long_help = EXAMPLES)]
    Rules(RuleTestArguments),
    /// Tell a receiver that this is a test, in each of its ways
    #[command(after_long_help = receiver_test::EXAMPLES)]
    Receiver(ReceiverTestArguments),
}

/// Which tests are run, and how.
#[derive(Debug, Args)]
pub(crate) struct RuleTestArguments {
    /// Files of tests, in promtool's format; they name the files of rules
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Run only tests whose name fits this regular expression; may be given several times
    #[arg(long, value_name = "REGEX")]
    pub(crate) run: Vec<String>,

    /// Show differences of alerts line by line
    #[arg(long)]
    pub(crate) diff: bool,

    /// Show all samples of each test, those of rules included
    #[arg(long)]
    pub(crate) debug: bool,

    /// Pass over keys of rule files that nobody knows
    #[arg(long)]
    pub(crate) ignore_unknown_fields: bool,

    /// Write the results as JUnit XML too
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

/// What to show below the help.
pub(crate) const EXAMPLES: &str = "\
Exit status: 0 if everything is as expected, 1 if not.

Examples:
  watchfire test rules tests/*.yml
      all tests of these files
  watchfire test rules --run '^disk' --diff tests.yml
      those whose names begin with disk, differences line by line";

/// Runs what is asked for.
pub(crate) fn run(arguments: &TestArguments) -> ExitCode {
    let outcome = match &arguments.subject {
        TestSubject::Rules(arguments) => run_rules(arguments),
        TestSubject::Receiver(arguments) => {
            receiver_test::run(arguments).map_err(|error| format!("{error:#}"))
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("watchfire: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was as expected.
fn run_rules(arguments: &RuleTestArguments) -> Result<bool, String> {
    let options = TestOptions {
        run: TestOptions::named(&arguments.run).map_err(|error| format!("--run: {error}"))?,
        ignore_unknown_fields: arguments.ignore_unknown_fields,
        diff: arguments.diff,
        debug: arguments.debug,
        features: Features::default(),
    };
    let mut reports = Vec::with_capacity(arguments.files.len());
    for path in &arguments.files {
        println!("Unit Testing:  {}", path.display());
        let report = run_file(path, &ThisMachine, &options);
        print(&report);
        reports.push((path.display().to_string(), report));
    }
    if let Some(path) = &arguments.junit {
        std::fs::write(path, junit(&reports))
            .map_err(|error| format!("--junit {}: {error}", path.display()))?;
    }
    Ok(reports.iter().all(|(_, report)| report.is_success()))
}

fn print(report: &FileReport) {
    for warning in &report.warnings {
        eprintln!("  WARNING: {warning}");
    }
    for test in report.tests.iter().filter(|test| !test.notes.is_empty()) {
        println!("DEBUG: all samples of the test {}:", test.name);
        for note in &test.notes {
            println!("  {note}");
        }
    }
    if report.is_success() {
        println!("  SUCCESS");
    } else {
        eprintln!("  FAILED:");
        for failure in report.all_failures() {
            eprintln!("{failure}\n");
        }
    }
    println!();
}

/// The results in the form that systems of continuous integration read.
fn junit(reports: &[(String, FileReport)]) -> String {
    let mut out = String::from("<testsuites>\n");
    for (file, report) in reports {
        let failed = report.tests.iter().filter(|test| !test.failures.is_empty()).count();
        let errors = report.failures.len();
        let count = report.tests.len();
        out.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{count}\" failures=\"{failed}\" errors=\"{errors}\">\n",
            escape(file)
        ));
        for failure in &report.failures {
            let text = escape(failure);
            out.push_str(&format!(
                "    <testcase name=\"file\"><error>{text}</error></testcase>\n"
            ));
        }
        for test in &report.tests {
            out.push_str(&format!("    <testcase name=\"{}\">", escape(&test.name)));
            for failure in &test.failures {
                out.push_str(&format!("<failure>{}</failure>", escape(failure)));
            }
            out.push_str("</testcase>\n");
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// A text in XML; characters that it cannot hold are replaced.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' | '\r' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruletest::TestReport;

    fn arguments(files: Vec<PathBuf>) -> RuleTestArguments {
        RuleTestArguments {
            files,
            run: Vec::new(),
            diff: false,
            debug: true,
            ignore_unknown_fields: false,
            junit: None,
        }
    }

    #[test]
    fn a_file_is_run_with_the_rules_beside_it() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("write the file");
            path
        };
        write("rules.yml", "groups: [{name: g, rules: [{record: b, expr: 'a * 2'}]}]");
        let test = |value: u32| {
            format!(
                "rule_files: [rules.yml]\ntests: [{{name: double, input_series: [{{series: a, values: \
                 '1 2'}}], promql_expr_test: [{{expr: b, eval_time: 1m, exp_samples: [{{labels: b, \
                 value: {value}}}]}}]}}]"
            )
        };
        let good = write("good.yml", &test(4));
        let bad = write("bad.yml", &test(5));
        assert_eq!(run_rules(&arguments(vec![good.clone()])), Ok(true));
        let junit = Some(directory.path().join("out.xml"));
        let both = RuleTestArguments { junit, ..arguments(vec![good, bad.clone()]) };
        assert_eq!(run_rules(&both), Ok(false));
        let xml = std::fs::read_to_string(directory.path().join("out.xml")).expect("it is there");
        assert!(xml.contains("tests=\"1\" failures=\"1\" errors=\"0\""), "{xml}");
        assert!(xml.contains("<testcase name=\"double\"></testcase>"), "{xml}");
        let none =
            RuleTestArguments { run: vec!["half".to_owned()], ..arguments(vec![bad.clone()]) };
        assert_eq!(run_rules(&none), Ok(true));
        let broken = RuleTestArguments { run: vec!["(".to_owned()], ..arguments(vec![bad]) };
        assert!(run_rules(&broken).is_err());
    }

    #[test]
    fn xml_holds_any_text() {
        let failures = vec!["a < \"b\" & \u{1b}[31m".to_owned()];
        let test = TestReport { name: "n".to_owned(), failures, notes: Vec::new() };
        let report = FileReport { tests: vec![test], ..FileReport::default() };
        let xml = junit(&[("f.yml".to_owned(), report)]);
        assert!(xml.contains("a &lt; &quot;b&quot; &amp; \u{fffd}[31m"), "{xml}");
    }
}
