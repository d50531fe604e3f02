//! Findings as text and as JSON.

use serde::Serialize;

use super::finding::{Finding, Level};
use crate::language::Language;

/// How many findings there are of each level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    ok: usize,
    skip: usize,
    warn: usize,
    fail: usize,
}

impl Counts {
    /// Counts.
    pub(super) fn of(findings: &[Finding]) -> Counts {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        Counts {
            ok: count(Level::Ok),
            skip: count(Level::Skip),
            warn: count(Level::Warn),
            fail: count(Level::Fail),
        }
    }

    /// 2 when something failed, 1 when something could be better, else 0.
    pub(super) fn exit_code(self) -> u8 {
        match (self.fail, self.warn) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }
    }
}

/// One line per finding, and below it why it matters and what to do.
pub(super) fn as_text(findings: &[Finding], language: Language, color: bool) -> String {
    let names: Vec<&str> = findings.iter().map(|finding| finding.check.name(language)).collect();
    let columns = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let indent = " ".repeat(8 + columns);
    let mut out = String::new();
    for (finding, name) in findings.iter().zip(names) {
        let level = painted(finding.level, color);
        let space = " ".repeat(columns - width(name));
        out.push_str(&format!("{level}  {name}{space}  {}\n", finding.seen.of(language)));
        for text in [&finding.why, &finding.fix].into_iter().flatten() {
            out.push_str(&format!("{indent}{}\n", text.of(language)));
        }
        if let Some(command) = &finding.command {
            out.push_str(&format!("{indent}$ {command}\n"));
        }
    }
    out.push('\n');
    out.push_str(&summary(Counts::of(findings), language));
    out.push('\n');
    out
}

fn painted(level: Level, color: bool) -> String {
    let (word, paint) = match level {
        Level::Ok => ("  OK", "\x1b[32m"),
        Level::Skip => ("SKIP", "\x1b[2m"),
        Level::Warn => ("WARN", "\x1b[33m"),
        Level::Fail => ("FAIL", "\x1b[1;31m"),
    };
    if color { format!("{paint}{word}\x1b[0m") } else { word.to_owned() }
}

fn summary(counts: Counts, language: Language) -> String {
    let Counts { ok, skip, warn, fail } = counts;
    match language {
        Language::En => {
            let plural = |count: usize| if count == 1 { "" } else { "s" };
            format!(
                "{ok} ok, {warn} warning{}, {fail} failure{}, {skip} skipped",
                plural(warn),
                plural(fail)
            )
        }
        Language::Zh => format!("{ok} 项正常，{warn} 项警告，{fail} 项失败，{skip} 项跳过"),
    }
}

fn width(text: &str) -> usize {
    ratatui::text::Line::raw(text).width()
}

#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    exit_code: u8,
    counts: Counts,
    checks: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    check: &'static str,
    level: Level,
    seen: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
}

/// One object with all findings.
pub(super) fn as_json(findings: &[Finding], language: Language) -> String {
    let counts = Counts::of(findings);
    let checks = findings
        .iter()
        .map(|finding| Entry {
            check: finding.check.id(),
            level: finding.level,
            seen: finding.seen.of(language),
            why: finding.why.as_ref().map(|text| text.of(language)),
            fix: finding.fix.as_ref().map(|text| text.of(language)),
            command: finding.command.as_deref(),
        })
        .collect();
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        exit_code: counts.exit_code(),
        counts,
        checks,
    };
    let mut json = serde_json::to_string_pretty(&report).expect("texts and numbers are JSON");
    json.push('\n');
    json
}
