//! `watchfire check`: says what is wrong with configuration files, where, and what to do.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use settings::logs::{LoadedLogs, alloy, promtail};
use settings::prometheus::{Config as PrometheusConfig, Surroundings};
use settings::yaml::Document;
use settings::{Diagnostic, Faults, Severity};

use crate::cli::Cli;
use crate::config::Config;
use crate::rule_check::{self, RuleCheckArguments};
use crate::serve::{OfPrometheus, check_alerting};

/// Which files are checked.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct CheckArguments {
    /// Files of another kind.
    #[command(subcommand)]
    pub(crate) subject: Option<CheckSubject>,

    /// Watchfire's own configuration
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present_any = ["prometheus_config", "promtail_config", "alloy_config"]
    )]
    pub(crate) config: Option<PathBuf>,

    /// A configuration of Prometheus, together with the files it names
    #[arg(long, value_name = "FILE")]
    pub(crate) prometheus_config: Option<PathBuf>,

    /// A configuration of Promtail, with what it would collect
    #[arg(long, value_name = "FILE")]
    pub(crate) promtail_config: Option<PathBuf>,

    /// A configuration of Alloy, with what it would collect
    #[arg(long, value_name = "FILE")]
    pub(crate) alloy_config: Option<PathBuf>,

    /// Put variables of the environment into Promtail's file, as -config.expand-env does
    #[arg(long)]
    pub(crate) config_expand_env: bool,

    /// Fail on warnings too
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Files that have a check of their own.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckSubject {
    /// Check files of rules, as promtool does, with places
    #[command(after_long_help = rule_check::EXAMPLES)]
    Rules(RuleCheckArguments),
    /// A file without a word that says what it is.
    #[command(external_subcommand)]
    Unnamed(Vec<OsString>),
}

/// What to show below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  watchfire check --config watchfire.yml
      every fault with file, line and column, also of alertmanager.yml and files of rules that it names
  watchfire check --prometheus-config prometheus.yml
      the same for Prometheus' file, the files it names, and what of it has no effect here
  watchfire check --promtail-config promtail.yml
      the same for Promtail's file, and which lines would be collected
  watchfire check --alloy-config config.alloy
      the same for Alloy's
  watchfire check --strict --prometheus-config prometheus.yml
      fail on warnings too, for use before a change is merged
  watchfire check rules rules/*.yml
      files of recording and alerting rules, as promtool checks them";

/// The file system and the environment of this process.
pub(crate) struct ThisMachine;

impl Surroundings for ThisMachine {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        // A name that is no UTF-8 fits no pattern of a text file.
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Checks the files and prints what is found.
///
/// # Errors
/// A file cannot be used, or a part of it cannot work; with `--strict` also a warning.
pub(crate) fn run(arguments: &CheckArguments) -> Result<()> {
    if let Some(CheckSubject::Unnamed(words)) = &arguments.subject {
        let file = words.first().map(|file| file.to_string_lossy()).unwrap_or_default();
        bail!(
            "{file}: say what kind of file it is: --config {file} is Watchfire's own, \
             --prometheus-config, --promtail-config and --alloy-config are theirs, \
             `check rules {file}` is for rules"
        );
    }
    let mut found = Vec::new();
    if let Some(path) = &arguments.config {
        let own = check_own(path);
        print_verdict(path, &own, "");
        found.extend(own);
    }
    if let Some(path) = &arguments.prometheus_config {
        let (foreign, jobs) = check_prometheus(path);
        print_verdict(path, &foreign, &jobs);
        found.extend(foreign);
    }
    let check = &agent::logs::check_stage;
    if let Some(path) = &arguments.promtail_config {
        let expand_env = arguments.config_expand_env;
        let (foreign, jobs) = collected(promtail::load(path, &ThisMachine, expand_env, check));
        print_verdict(path, &foreign, &jobs);
        found.extend(foreign);
    }
    if let Some(path) = &arguments.alloy_config {
        let (foreign, jobs) = collected(alloy::load(path, &ThisMachine, check));
        print_verdict(path, &foreign, &jobs);
        found.extend(foreign);
    }
    let count = |severity| found.iter().filter(|one| one.severity == severity).count();
    let (errors, mistakes) = (count(Severity::Error), count(Severity::Mistake));
    let warnings = count(Severity::Warning);
    if errors + mistakes > 0 || (arguments.strict && warnings > 0) {
        let counted = |count, one| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let parts = [(errors, "error"), (mistakes, "mistake"), (warnings, "warning")];
        bail!("{}", parts.map(|(count, one)| counted(count, one)).join(", "));
    }
    Ok(())
}

/// Details to standard error, the verdict to standard output.
fn print_verdict(path: &Path, found: &[Diagnostic], jobs: &str) {
    for one in found {
        eprintln!("{}", one.render());
    }
    let file = path.display();
    if found.iter().any(|one| one.severity == Severity::Error) {
        println!("{file}: cannot be used");
    } else if found.iter().any(|one| one.severity == Severity::Mistake) {
        println!("{file}: valid, but a part of it cannot work{jobs}");
    } else {
        println!("{file}: valid{jobs}");
    }
}

/// Everything wrong with Watchfire's own file.
fn check_own(path: &Path) -> Vec<Diagnostic> {
    let file = path.display().to_string();
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let help = "check the path and who may read it".to_owned();
            let message = format!("cannot be read: {error}");
            return vec![Diagnostic::of_file(&file, message, Some(help))];
        }
    };
    let document = match Document::parse(&file, &bytes) {
        Ok(document) => document,
        Err(faults) => return faults.iter().cloned().collect(),
    };
    // As the program itself would take it, without a flag that wins.
    let arguments =
        Cli::try_parse_from(["watchfire".as_ref(), "--config".as_ref(), path.as_os_str()]);
    let loaded = match arguments {
        Ok(cli) => Config::load(&cli.serve),
        Err(error) => Err(error.into()),
    };
    match loaded {
        Ok(config) => check_alerting(&config.alerting, &OfPrometheus::default()),
        Err(error) => match error.downcast_ref::<Faults>() {
            Some(faults) => faults.iter().cloned().collect(),
            None => vec![document.locate(&format!("{error:#}"))],
        },
    }
}

/// Everything wrong with Prometheus' file and those it names, and how much it configures.
fn check_prometheus(path: &Path) -> (Vec<Diagnostic>, String) {
    match PrometheusConfig::load(path, &ThisMachine) {
        Ok(loaded) => {
            let jobs = match loaded.config.scrape_configs.len() {
                1 => "; 1 job".to_owned(),
                jobs => format!("; {jobs} jobs"),
            };
            let closely = loaded.check(&ThisMachine);
            let rules = match Config::load(&Cli::parse_from(["watchfire"]).serve) {
                Ok(config) => {
                    check_alerting(&config.alerting, &OfPrometheus::of(&loaded.config, true))
                }
                // Of the environment, and no fault of this file.
                Err(_) => Vec::new(),
            };
            let all = loaded.warnings.into_iter().chain(closely).chain(rules);
            let mut found: Vec<Diagnostic> = all.collect();
            let main = path.to_string_lossy();
            let place = |one: &Diagnostic| (*one.file != *main, Arc::clone(&one.file), one.line);
            found.sort_by_cached_key(place);
            (found, jobs)
        }
        Err(faults) => (faults.iter().cloned().collect(), String::new()),
    }
}

/// Everything wrong with a file of another collector, and what it collects.
fn collected(loaded: Result<LoadedLogs, Faults>) -> (Vec<Diagnostic>, String) {
    match loaded {
        Ok(loaded) => {
            let shown = crate::collected::describe(&loaded);
            (loaded.warnings, shown)
        }
        Err(faults) => (faults.iter().cloned().collect(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> CheckArguments {
        CheckArguments {
            subject: None,
            config: None,
            prometheus_config: None,
            promtail_config: None,
            alloy_config: None,
            config_expand_env: false,
            strict: false,
        }
    }

    #[test]
    fn a_file_without_a_word_is_told_what_words_there_are() {
        use clap::Parser;

        let cli = Cli::try_parse_from(["watchfire", "check", "w.yml"]).expect("words");
        let Some(crate::cli::Command::Check(arguments)) = cli.command else { panic!("no check") };
        let error = run(&arguments).expect_err("nobody knows what it is").to_string();
        assert!(error.contains("--config w.yml is Watchfire's own"), "{error}");
    }

    fn own(yaml: &str) -> Vec<Diagnostic> {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().join("w.yml");
        std::fs::write(&path, yaml).expect("write the file");
        check_own(&path)
    }

    #[test]
    fn own_faults_have_their_place() {
        assert_eq!(own("storage:\n  retention: 3d\n"), []);
        let tiers = "[{resolution: 5m, for: 90d}, {resolution: 1h, for: 5y}]";
        assert_eq!(own(&format!("storage:\n  rollups: {tiers}\n")), []);
        assert_eq!(own(""), []);
        for (yaml, line, column, said) in [
            ("storage:\n  retention: soon\n", 2, 14, "soon"),
            ("limits:\n  max_body_bytes: 0\n", 2, 19, "out of range"),
            ("listen: 127.0.0.1:99999\n", 1, 9, "99999"),
            ("data: [\n", 1, 7, ""),
            ("storage:\n  retention_rules:\n  - {selector: '{a=', for: 3d}\n", 3, 16, "selector"),
            ("storage:\n  retention_rules:\n  - {selector: up, for: 16d}\n", 3, 25, "longer than"),
            ("storage:\n  retention_rules:\n  - {selector: up, for: 9m}\n", 3, 25, "3600000 ms"),
            ("storage:\n  retention_rules:\n  - selector: up\n", 3, 5, "for"),
            (
                "storage:\n  downsampling: [{selector: up, after: 20d, interval: 15s}]\n",
                2,
                40,
                "retention",
            ),
            (
                "storage:\n  downsampling:\n  - {selector: up, after: 2d, interval: 15s}\n  \
                 - {selector: up, after: 5d, interval: 30s}\n",
                4,
                41,
                "less than 3 times",
            ),
            (
                "storage:\n  downsampling: [{selector: up, after: 2d, interval: 1s}]\n",
                2,
                54,
                "2s to 5m",
            ),
            (
                "storage:\n  downsampling: [{selector: '{', after: 2d, interval: 15s}]\n",
                2,
                29,
                "selector",
            ),
            ("storage:\n  rollups: [{resolution: 7m, for: 1y}]\n", 2, 26, "does not fit"),
            ("storage:\n  rollups: [{resolution: 5m, for: 9d}]\n", 2, 35, "not longer"),
            (
                "storage:\n  rollups: [{resolution: 5m, for: 90d}, {resolution: 8m, for: 5y}]\n",
                2,
                54,
                "a multiple of that",
            ),
            (
                "storage:\n  rollups: [{resolution: 5m, for: 90d}, {resolution: 1h, for: 90d}]\n",
                2,
                63,
                "what stands before",
            ),
        ] {
            let found = own(yaml);
            let [one] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!((one.line, one.column), (line, column), "{}", one.render());
            assert!(one.message.contains(said), "{}", one.render());
        }
    }

    #[test]
    fn files_of_alerting_are_checked_where_they_are_named() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
        write("am.yml", "route: {receiver: nobody}\nreceivers: [{name: all}]\n");
        write("r.yml", "groups:\n- name: g\n  rules:\n  - {record: a, expr: 'b +'}\n");
        write("w.yml", "alertmanager: {config_file: am.yml}\nrules: {files: [r.yml, no.yml]}\n");
        let found = check_own(&path("w.yml"));
        let told = |file: &str| found.iter().filter(|one| one.file.ends_with(file)).count();
        assert_eq!((told("am.yml"), told("r.yml")), (1, 1), "{found:?}");
        write("p.yml", "rule_files: [r.yml]\n");
        let (found, _) = check_prometheus(&path("p.yml"));
        assert!(found.iter().any(|one| one.file.ends_with("r.yml") && one.line == 4), "{found:?}");
    }

    /// The public bad inputs, where they lie beside the repository.
    #[test]
    fn the_corpus_is_refused_with_a_line() {
        let corpus = "../../../shared/corpus/own-config.jsonl";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(corpus);
        let Ok(cases) = std::fs::read_to_string(path) else { return };
        for line in cases.lines() {
            let case: serde_json::Value = serde_json::from_str(line).expect("a case is JSON");
            let text = case["text"].as_str().expect("a case has a text");
            // An address every host reaches is served with TLS and login, not refused.
            if text == "listen: 0.0.0.0:0" {
                continue;
            }
            let found = own(text);
            assert!(found.iter().any(|one| one.line > 0), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn a_prometheus_file_is_checked_with_those_it_names() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().join("p.yml");
        let yaml = "scrape_configs:\n  - job_name: a\n    file_sd_configs: [{files: [t/*.yml]}]\n    \
                    basic_auth: {username: u, password_file: pw}\n";
        std::fs::write(&path, yaml).expect("write the file");
        std::fs::create_dir(directory.path().join("t")).expect("make a directory");
        std::fs::write(directory.path().join("t/a.yml"), "- targets: [h:1]\n").expect("write");
        let (found, jobs) = check_prometheus(&path);
        assert_eq!((found.len(), jobs.as_str()), (1, "; 1 job"));
        assert!(found[0].message.contains("pw") && found[0].line == 4, "{}", found[0].render());
        std::fs::write(directory.path().join("pw"), "x").expect("write the file");
        assert_eq!(check_prometheus(&path).0, []);
    }

    #[test]
    fn a_promtail_file_tells_what_it_collects() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().join("p.yml");
        let yaml = "clients: [{url: 'http://loki/push'}]\nscrape_configs:\n- job_name: var\n  \
                    pipeline_stages: [{cri: {}}, {geoip: {}}]\n  static_configs:\n  - targets: \
                    [localhost]\n    labels: {job: varlogs, __path__: /var/log/*.log}\n- job_name: k\n  \
                    kafka: {topics: [a]}\n";
        std::fs::write(&path, yaml).expect("write the file");
        let check = &agent::logs::check_stage;
        let (found, jobs) = collected(promtail::load(&path, &ThisMachine, false, check));
        let lines: Vec<(Severity, usize)> =
            found.iter().map(|one| (one.severity, one.line)).collect();
        assert_eq!(lines, [(Severity::Mistake, 4), (Severity::Mistake, 9)]);
        assert_eq!(
            jobs,
            "; 1 job\n  var: files /var/log/*.log {job=\"varlogs\"}; 1 stage; to client with \
             --keep-clients"
        );
        let promtail_config = Some(path);
        assert!(run(&CheckArguments { promtail_config, ..nothing() }).is_err());
    }

    #[test]
    fn an_alloy_file_tells_what_it_collects() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().join("config.alloy");
        let text = "loki.source.journal \"j\" {\n  forward_to = [loki.process.p.receiver]\n}\nloki.process \
                    \"p\" {\n  stage.template {\n    source   = \"a\"\n    template = \"{{ nosuch }}\"\n  \
                    }\n  forward_to = [loki.write.w.receiver]\n}\nloki.write \"w\" {\n  endpoint {\n    url = \
                    \"http://h/\"\n  }\n}\n";
        std::fs::write(&path, text).expect("write the file");
        let load = || alloy::load(&path, &ThisMachine, &agent::logs::check_stage);
        let (found, _) = collected(load());
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert!(one.line == 7 && one.message.contains("\"nosuch\" not defined"), "{one}");
        std::fs::write(&path, text.replace("nosuch", ".Value")).expect("write the file");
        let (found, jobs) = collected(load());
        assert_eq!(found, []);
        let want = "the journal of systemd {job=\"loki.source.journal.j\"}; 1 stage; to loki.write.w with \
                    --keep-clients";
        assert_eq!(jobs, format!("; 1 job\n  loki.source.journal.j: {want}"));
        assert!(run(&CheckArguments { alloy_config: Some(path), ..nothing() }).is_ok());
    }

    #[test]
    fn the_exit_tells_errors_from_warnings() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().join("p.yml");
        let check = |yaml: &str, strict| {
            std::fs::write(&path, yaml).expect("write the file");
            let prometheus_config = Some(path.clone());
            let arguments = CheckArguments { prometheus_config, strict, ..nothing() };
            run(&arguments).is_ok()
        };
        assert!(check("runtime: {gogc: 1}\n", false));
        assert!(!check("runtime: {gogc: 1}\n", true));
        assert!(!check("runtim: {}\n", false));
        assert!(check("", true));
    }
}
