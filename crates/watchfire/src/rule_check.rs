//! `watchfire check rules`: says what is wrong with files of rules, as promtool does, with places.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use settings::NameValidation;
use settings::prometheus::Surroundings;
use settings::prometheus::rules::{
    self, DuplicateRule, ExpressionFault, LoadedRules, RuleChecks, RuleFormat,
};
use settings::{Diagnostic, Faults};

use crate::check::ThisMachine;

/// What is wrong only by taste makes this the exit status, if that is asked for.
const LINT_FATAL: u8 = 3;
/// Largest text from standard input.
const MAX_INPUT_BYTES: u64 = 64 << 20;

/// Which files are checked, and how.
#[derive(Debug, Args)]
pub(crate) struct RuleCheckArguments {
    /// Files of rules; standard input if there are none
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// What is told beside faults
    #[arg(long, value_name = "WHAT", default_value = "duplicate-rules")]
    pub(crate) lint: Lint,

    /// Fail, with exit status 3, on what --lint tells
    #[arg(long)]
    pub(crate) lint_fatal: bool,

    /// Pass over keys that nobody knows
    #[arg(long)]
    pub(crate) ignore_unknown_fields: bool,

    /// Language of the expressions
    #[arg(long, value_name = "LANGUAGE", default_value = "promql")]
    pub(crate) language: RuleLanguage,

    /// Who will evaluate them: `ruler` also knows the keys of Mimir's and Loki's rulers
    #[arg(long, value_name = "FORMAT", default_value = "prometheus")]
    pub(crate) format: FormatArgument,

    /// Which names are valid
    #[arg(long, value_name = "RULE", default_value = "utf8")]
    pub(crate) names: NamesArgument,
}

/// What is told beside faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lint {
    /// Everything there is
    All,
    /// Rules with the name and labels of another one
    DuplicateRules,
    /// Nothing
    None,
}

/// Languages that rules may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuleLanguage {
    /// Over samples
    Promql,
    /// Over lines
    Logql,
}

/// Whose files they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArgument {
    /// Prometheus' own
    Prometheus,
    /// Mimir's and Loki's
    Ruler,
}

/// Rules for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NamesArgument {
    /// Any text
    Utf8,
    /// Letters, digits, `_`, and `:` in names of metrics
    Legacy,
}

/// What to show below the help.
pub(crate) const EXAMPLES: &str = "\
Exit status: 0 if every file can be used, 1 if not, 3 if --lint-fatal found something.

Examples:
  watchfire check rules rules/*.yml
      every fault with file, line and column, and rules that are there twice
  watchfire check rules --lint-fatal rules.yml
      fail on rules that are there twice, too
  watchfire check rules --language logql --format ruler loki-rules.yml
      rules over lines of logs, as Loki's ruler reads them";

/// Checks the files and prints what is found; the exit status says how bad it is.
pub(crate) fn run(arguments: &RuleCheckArguments) -> ExitCode {
    let (mut has_faults, mut has_lint) = (false, false);
    let mut one = |name: &str, shown: &str, bytes: Result<Vec<u8>, Faults>| {
        println!("Checking {shown}");
        match bytes.and_then(|bytes| check(name, &bytes, arguments)) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    eprintln!("{}", warning.render());
                }
                let count: usize = loaded.file.groups.iter().map(|group| group.rules.len()).sum();
                let is_told = arguments.lint != Lint::None && !loaded.duplicates.is_empty();
                if is_told {
                    has_lint = true;
                    eprintln!("  FAILED:\n{}", tell_duplicates(&loaded.duplicates));
                } else {
                    println!("  SUCCESS: {count} rules found");
                }
            }
            Err(faults) => {
                has_faults = true;
                eprintln!("  FAILED:\n{}", faults.render());
            }
        }
        println!();
    };
    if arguments.files.is_empty() {
        one("<stdin>", "standard input", standard_input());
    }
    for path in &arguments.files {
        let name = path.to_string_lossy();
        one(&name, &name, read(path));
    }
    match (has_faults, has_lint && arguments.lint_fatal) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(LINT_FATAL),
        (false, false) => ExitCode::SUCCESS,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Faults> {
    ThisMachine.read(path).map_err(|error| {
        let help = "check the path and who may read it".to_owned();
        let file = path.to_string_lossy();
        Diagnostic::of_file(&file, format!("cannot be read: {error}"), Some(help)).into()
    })
}

fn standard_input() -> Result<Vec<u8>, Faults> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_INPUT_BYTES).read_to_end(&mut bytes);
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let message = format!("cannot be read: {error}");
            Err(Diagnostic::of_file("<stdin>", message, None).into())
        }
    }
}

/// Reads one file.
fn check(name: &str, bytes: &[u8], arguments: &RuleCheckArguments) -> Result<LoadedRules, Faults> {
    let mut checks = ruletest::checks();
    if arguments.language == RuleLanguage::Logql {
        checks.expression = &logql_metric;
    }
    let checks = RuleChecks {
        names: match arguments.names {
            NamesArgument::Utf8 => NameValidation::Utf8,
            NamesArgument::Legacy => NameValidation::Legacy,
        },
        format: match arguments.format {
            FormatArgument::Prometheus => RuleFormat::Prometheus,
            FormatArgument::Ruler => RuleFormat::Ruler,
        },
        ignore_unknown_fields: arguments.ignore_unknown_fields,
        ..checks
    };
    rules::parse(name, bytes, &checks)
}

/// Rules over lines yield numbers, so their expressions must.
fn logql_metric(text: &str) -> Result<(), ExpressionFault> {
    match logql::syntax::parse_metric(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(ExpressionFault { message: error.to_string(), span: None }),
    }
}

fn tell_duplicates(duplicates: &[DuplicateRule]) -> String {
    let mut out = format!("{} duplicate rule(s) found.\n", duplicates.len());
    for one in duplicates {
        let (file, line) = (&one.place.file, one.place.line);
        out.push_str(&format!("{file}:{line}:\nMetric: {}\nLabel(s):\n", one.metric));
        for (name, value) in &one.labels {
            out.push_str(&format!("\t{name}: {value}\n"));
        }
    }
    out.push_str("Might cause inconsistency while recording expressions");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    use crate::cli::{Cli, Command};

    fn arguments(flags: &[&str]) -> RuleCheckArguments {
        let line = ["watchfire", "check", "rules"].iter().chain(flags);
        let cli = Cli::try_parse_from(line).expect("a test's command line");
        match cli.command {
            Some(Command::Check(crate::check::CheckArguments {
                subject: Some(crate::check::CheckSubject::Rules(rules)),
                ..
            })) => rules,
            other => panic!("{other:?}"),
        }
    }

    fn fault(yaml: &str, flags: &[&str]) -> Option<String> {
        let found = check("r.yml", yaml.as_bytes(), &arguments(flags));
        found.err().map(|faults| faults.render())
    }

    fn rule(expr: &str) -> String {
        format!("groups: [{{name: g, rules: [{{record: r, expr: '{expr}'}}]}}]")
    }

    #[test]
    fn expressions_are_of_the_language_that_is_named() {
        let logs = rule("sum(rate({app=\"a\"}[5m]))");
        assert!(fault(&logs, &["--language", "logql"]).is_none());
        let lines = rule("{app=\"a\"} |= \"b\"");
        let said = fault(&lines, &["--language", "logql"]).expect("lines are no numbers");
        assert!(said.contains("could not parse expression"), "{said}");
        let said = fault(&lines, &[]).expect("it is no PromQL");
        assert!(said.contains("r.yml:1:"), "{said}");
    }

    #[test]
    fn twins_are_told_as_promtool_does() {
        let yaml = "groups: [{name: g, rules: [{record: r, expr: 1, labels: {a: b}}, {record: r, expr: 2, \
                    labels: {a: b}}]}]";
        let loaded = check("r.yml", yaml.as_bytes(), &arguments(&[])).expect("it can be used");
        assert_eq!(
            tell_duplicates(&loaded.duplicates),
            "1 duplicate rule(s) found.\nr.yml:1:\nMetric: r\nLabel(s):\n\ta: b\nMight cause inconsistency \
             while recording expressions"
        );
    }

    #[test]
    fn the_exit_status_tells_faults_from_taste() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("write the file");
            path.to_string_lossy().into_owned()
        };
        let bad = write("bad.yml", "groups: [{name: g, rules: [{record: r}]}]");
        let good = write("good.yml", &rule("up"));
        let twins = "groups: [{name: g, rules: [{record: r, expr: 1}, {record: r, expr: 2}]}]";
        let twins = write("twins.yml", twins);
        let status = |flags: &[&str]| format!("{:?}", run(&arguments(flags)));
        let code = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(status(&[&good]), code(0));
        assert_eq!(status(&[&twins]), code(0));
        assert_eq!(status(&["--lint-fatal", &twins]), code(3));
        assert_eq!(status(&["--lint-fatal", "--lint", "none", &twins]), code(0));
        assert_eq!(status(&["--lint-fatal", &twins, &bad]), code(1));
        assert_eq!(status(&["/no/such/file"]), code(1));
    }
}
