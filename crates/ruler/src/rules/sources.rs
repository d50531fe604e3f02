//! Where rules come from: files, what users keep by the API, and what Watchfire brings along.

use std::path::Path;
use std::sync::Arc;

use alerting::rules::{
    BUILTIN_FILE, Defaults, Expression, GroupSpec, builtin_groups, compile_groups,
};
use settings::prometheus::rules::{self as rule_files, ExpressionFault, RuleChecks, RuleFormat};
use settings::{Diagnostic, Faults, NameValidation, glob};

use super::{ManagedGroup, RuleLanguage, RuleSettings};
use crate::notify::Files;

/// What was read.
pub(super) struct Sources {
    pub(super) promql: Vec<GroupSpec>,
    pub(super) logql: Vec<GroupSpec>,
    /// What is odd but no fault, each with its place.
    pub(super) warnings: Vec<Diagnostic>,
}

/// Reads everything; a fault in any file refuses all of it, as a reload of Prometheus does.
pub(super) fn read(
    settings: &RuleSettings,
    managed: &[ManagedGroup],
    files: &Files,
) -> Result<Sources, Faults> {
    let mut sources = Sources { promql: Vec::new(), logql: Vec::new(), warnings: Vec::new() };
    for language in [RuleLanguage::Promql, RuleLanguage::Logql] {
        for pattern in settings.patterns(language) {
            let paths = glob::expand(pattern, &**files);
            if paths.is_empty() {
                let help =
                    "check the path in rules.files; relative ones are looked for beside the \
                            configuration"
                        .to_owned();
                let warning =
                    Diagnostic::of_file(pattern, "no file matches this pattern", Some(help));
                sources.warnings.push(warning);
            }
            for path in paths {
                let found = read_file(&path, language, settings.defaults, files)?;
                sources.warnings.extend(found.1);
                sources.of(language).extend(found.0);
            }
        }
    }
    for group in managed {
        let specs = compile_managed(group, settings.defaults)?;
        sources.of(group.language).extend(specs);
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
    group: &ManagedGroup,
    defaults: Defaults,
) -> Result<Vec<GroupSpec>, Faults> {
    let name = group.namespace.as_str();
    let loaded = rule_files::parse(name, group.file_text().as_bytes(), &checks(group.language))?;
    compile_groups(name, &loaded.file, defaults, &|text| compile(group.language, text))
        .map_err(|error| Faults::from(Diagnostic::of_file(name, error, None)))
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
            let expr =
                logql::syntax::parse_metric(text).map_err(|error| fault(error.to_string()))?;
            let whole = logql::syntax::ast::Expr::Metric(expr);
            logql::compile::check(&whole).map_err(|error| fault(error.to_string()))?;
            // Lines are read, and no rule writes any: the order of rules does not matter.
            Ok(Expression { text: Arc::from(whole.to_string()), selectors: Vec::new() })
        }
    }
}
