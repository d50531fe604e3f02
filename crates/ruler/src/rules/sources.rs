//! Where rules come from: files, what users keep by the API, and what Watchfire brings along.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use alerting::rules::{
    BUILTIN_FILE, Defaults, Expression, GroupKey, GroupSpec, builtin_groups, compile_groups,
};
use settings::prometheus::rules::{
    self as rule_files, ExpressionFault, RuleChecks, RuleFile, RuleFormat, RuleGroup,
};
use settings::{Diagnostic, Faults, NameValidation, Severity, glob};

use super::managed::Managed;
use super::{RuleLanguage, RuleSettings};
use crate::notify::Files;

/// What was read.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) promql: Vec<GroupSpec>,
    pub(super) logql: Vec<GroupSpec>,
    /// What is odd but no fault, each with its place.
    pub(super) warnings: Vec<Diagnostic>,
}

/// Reads all but what users keep; a fault in any file refuses all of it, as a reload of Prometheus does.
pub(super) fn read(settings: &RuleSettings, files: &Files) -> Result<Sources, Faults> {
    let mut sources = Sources { promql: Vec::new(), logql: Vec::new(), warnings: Vec::new() };
    for language in [RuleLanguage::Promql, RuleLanguage::Logql] {
        for pattern in settings.patterns(language) {
            let paths = glob::expand(pattern, &**files);
            if paths.is_empty() {
                let help =
                    "check the path in rules.files; relative ones are looked for beside the \
                            configuration"
                        .to_owned();
                let found =
                    Diagnostic::of_file(pattern, "no file matches this pattern", Some(help));
                // Files may come later where any number may be there.
                let severity = match pattern.contains(['*', '?', '[']) {
                    true => Severity::Warning,
                    false => Severity::Mistake,
                };
                sources.warnings.push(found.with_severity(severity));
            }
            for path in paths {
                let found = read_file(&path, language, settings.defaults, files)?;
                sources.warnings.extend(found.1);
                sources.of(language).extend(found.0);
            }
        }
    }
    if let Some(off) = &settings.builtin_off {
        let on = |name: &str| !off.contains(name);
        let groups = builtin_groups(&on);
        let specs = compile_groups(BUILTIN_FILE, &groups, settings.defaults, &ruletest::compile);
        // A test compiles all of them.
        sources.promql.extend(specs.unwrap_or_default());
    }
    Ok(sources)
}

impl Sources {
    /// See [`super::PreparedRules::digest`].
    pub(super) fn digest(&self, settings: &RuleSettings) -> u64 {
        let RuleSettings { external_labels, alert_relabel_configs, limits, .. } = settings;
        let digest = |text: String| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish()
        };
        let of_settings =
            digest(format!("{external_labels:?} {alert_relabel_configs:?} {limits:?}"));
        let languages = [(RuleLanguage::Promql, &self.promql), (RuleLanguage::Logql, &self.logql)];
        let groups = languages.into_iter().flat_map(|(language, specs)| {
            specs.iter().map(move |spec| {
                let mut spec = spec.clone();
                spec.file.clear();
                digest(format!("{language:?} {spec:?}"))
            })
        });
        // In any order: files may be called otherwise elsewhere.
        groups.fold(of_settings, u64::wrapping_add)
    }

    /// Adds what users keep. A group that cannot be used, or that files have as well, is kept and told,
    /// and has no effect: what was taken once must not stop a start.
    pub(super) fn add_managed(&mut self, managed: &mut Managed, defaults: Defaults) {
        let key = |language, spec: &GroupSpec| {
            let key = GroupKey { file: spec.file.clone(), name: spec.name.clone() };
            (language, key)
        };
        let of_promql = self.promql.iter().map(|spec| key(RuleLanguage::Promql, spec));
        let of_logql = self.logql.iter().map(|spec| key(RuleLanguage::Logql, spec));
        let taken: HashSet<(RuleLanguage, GroupKey)> = of_promql.chain(of_logql).collect();
        for (place, kept) in managed.iter_mut() {
            let (language, GroupKey { file, name }) = place;
            let outcome = match taken.contains(place) {
                true => Err("a group of this file and name comes from elsewhere".to_owned()),
                false => compile_managed(*language, file, &kept.yaml, defaults)
                    .map(|(_, spec)| spec)
                    .map_err(|faults| faults.to_string()),
            };
            kept.fault = outcome.as_ref().err().map(|why| Arc::from(why.as_str()));
            match outcome {
                Ok(spec) => self.of(*language).push(spec),
                Err(why) => {
                    let message =
                        format!("the group {name:?}, kept by the API, has no effect: {why}");
                    let help =
                        "change it or delete it on the page of rules, or by the API".to_owned();
                    let found = Diagnostic::of_file(file, message, Some(help));
                    self.warnings.push(found.with_severity(Severity::Mistake));
                }
            }
        }
    }

    fn of(&mut self, language: RuleLanguage) -> &mut Vec<GroupSpec> {
        match language {
            RuleLanguage::Promql => &mut self.promql,
            RuleLanguage::Logql => &mut self.logql,
        }
    }
}

fn read_file(
    path: &Path,
    language: RuleLanguage,
    defaults: Defaults,
    files: &Files,
) -> Result<(Vec<GroupSpec>, Vec<Diagnostic>), Faults> {
    let name = path.to_string_lossy();
    let bytes = files.read(path).map_err(|error| {
        let help = "check the path and who may read it".to_owned();
        Faults::from(Diagnostic::of_file(&name, format!("cannot be read: {error}"), Some(help)))
    })?;
    let loaded = rule_files::parse(&name, &bytes, &checks(language))?;
    let compiled = compile_groups(&name, &loaded.file, defaults, &|text| compile(language, text));
    let specs = compiled.map_err(|error| Faults::from(Diagnostic::of_file(&name, error, None)))?;
    Ok((specs, loaded.warnings))
}

/// Checks and compiles a group that was handed in by the API.
pub(super) fn compile_managed(
    language: RuleLanguage,
    namespace: &str,
    yaml: &str,
    defaults: Defaults,
) -> Result<(RuleGroup, GroupSpec), Faults> {
    let group = rule_files::parse_group(namespace, yaml.as_bytes(), &checks(language))?;
    let fault = |message: String, help: &str| {
        let mut fault = Diagnostic::of_file(namespace, message, Some(help.to_owned()));
        (fault.line, fault.column) = (group.line, 1);
        Err(Faults::from(fault))
    };
    if group.rules.is_empty() {
        let message = format!("invalid rules config: rule group '{}' has no rules", group.name);
        return fault(message, "add a rule below rules:, or delete the group");
    }
    if !group.source_tenants.is_empty() {
        let message = format!(
            "invalid rules config: rule group '{}' has source_tenants, and rules read the data of the \
             tenant default alone",
            group.name
        );
        return fault(message, "remove source_tenants");
    }
    let file = RuleFile { namespace: None, groups: vec![group.clone()] };
    let compiled = compile_groups(namespace, &file, defaults, &|text| compile(language, text));
    match compiled.map(|mut specs| specs.pop()) {
        Ok(Some(spec)) => Ok((group, spec)),
        Ok(None) => fault("there is no group".to_owned(), "send one group"),
        Err(error) => fault(error, "try the expression as a query"),
    }
}

/// How files of a language are read. Keys of Mimir's and Loki's rulers are known as well.
pub(crate) fn checks(language: RuleLanguage) -> RuleChecks<'static> {
    let checks = ruletest::checks();
    let checks = RuleChecks { names: NameValidation::Utf8, format: RuleFormat::Ruler, ..checks };
    match language {
        RuleLanguage::Promql => checks,
        RuleLanguage::Logql => RuleChecks { expression: &check_logql, ..checks },
    }
}

fn check_logql(text: &str) -> Result<(), ExpressionFault> {
    compile(RuleLanguage::Logql, text).map(drop)
}

fn compile(language: RuleLanguage, text: &str) -> Result<Expression, ExpressionFault> {
    match language {
        RuleLanguage::Promql => ruletest::compile(text),
        RuleLanguage::Logql => {
            let fault = |message: String| ExpressionFault { message, span: None };
            let expr = logql::syntax::parse_metric(text).map_err(|error| {
                let span = place(text, error.line, error.column).map(|at| (at, at));
                ExpressionFault { message: error.to_string(), span }
            })?;
            let whole = logql::syntax::ast::Expr::Metric(expr);
            logql::compile::check(&whole).map_err(|error| fault(error.to_string()))?;
            // Lines are read, and no rule writes any: the order of rules does not matter.
            Ok(Expression { text: Arc::from(whole.to_string()), selectors: Vec::new() })
        }
    }
}

/// The byte at a line and a column of characters, both counted from 1; `None` where it is not at one place.
fn place(text: &str, line: u32, column: u32) -> Option<usize> {
    let before = usize::try_from(line.checked_sub(1)?).ok()?;
    let column = usize::try_from(column.checked_sub(1)?).ok()?;
    let start: usize = text.split('\n').take(before).map(|line| line.len() + 1).sum();
    let line = text.split('\n').nth(before)?;
    let within = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    Some(start + within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_expressions_have_places() {
        for (text, wanted) in [
            ("sum(rate({a=\"b\"} [5m])) by (", Some(28)),
            ("sum(\n  rate({a=\"b\"}[5m]) +", Some(26)),
            ("sum(é)", Some(4)),
        ] {
            let fault = compile(RuleLanguage::Logql, text).expect_err("it is no query");
            assert_eq!(fault.span.map(|(from, _)| from), wanted, "{text}: {}", fault.message);
        }
        assert_eq!(place("a\nbc", 2, 9), Some(4));
        assert_eq!(place("a", 0, 1), None);
    }
}
