//! Groups of rules in YAML, as the rulers of Mimir and Loki tell them.

use std::time::Duration;

use settings::format_duration;
use settings::prometheus::rules::{Rule, RuleGroup, RuleKind};

/// A group in lines that can be moved to the right together. Labels of the group stand at its rules: Grafana
/// takes no group with a key that it does not know, and no list with such a group.
pub(super) fn written(group: &RuleGroup) -> String {
    let mut out = Lines::default();
    out.pair(0, "name", &group.name);
    let span = |out: &mut Lines, key: &str, span: Option<Duration>| {
        if let Some(span) = span {
            out.line(0, &format!("{key}: {}", format_duration(span)));
        }
    };
    span(&mut out, "interval", group.interval);
    span(&mut out, "query_offset", group.query_offset);
    if group.limit > 0 {
        out.line(0, &format!("limit: {}", group.limit));
    }
    if group.align_evaluation_time {
        out.line(0, "align_evaluation_time_on_interval: true");
    }
    out.line(0, "rules:");
    for rule in &group.rules {
        written_rule(&mut out, rule, &group.labels_of(rule));
    }
    out.text
}

fn written_rule(out: &mut Lines, rule: &Rule, labels: &[(String, String)]) {
    let kind = match rule.kind {
        RuleKind::Recording => "- record",
        RuleKind::Alerting => "- alert",
    };
    out.pair(4, kind, &rule.name);
    out.pair(6, "expr", &rule.expr);
    for (key, span) in [("for", rule.hold), ("keep_firing_for", rule.keep_firing_for)] {
        if !span.is_zero() {
            out.line(6, &format!("{key}: {}", format_duration(span)));
        }
    }
    out.map(6, "labels", labels);
    out.map(6, "annotations", &rule.annotations);
}

/// Moves lines to the right, the first one behind what `first` says.
pub(crate) fn indented(text: &str, first: &str, others: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for (index, line) in text.lines().enumerate() {
        if !line.is_empty() {
            out.push_str(if index == 0 { first } else { others });
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// A text of YAML as one word or as a quoted one, on one line.
pub(crate) fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, indent: usize, line: &str) {
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn pair(&mut self, indent: usize, key: &str, value: &str) {
        if !is_block(value) {
            return self.line(indent, &format!("{key}: {}", scalar(value)));
        }
        let keeps = if value.ends_with('\n') { "" } else { "-" };
        self.line(indent, &format!("{key}: |{keeps}"));
        for line in value.lines() {
            match line.is_empty() {
                true => self.text.push('\n'),
                false => self.line(indent + 4, line),
            }
        }
    }

    fn map(&mut self, indent: usize, key: &str, pairs: &[(String, String)]) {
        if pairs.is_empty() {
            return;
        }
        self.line(indent, &format!("{key}:"));
        for (name, value) in pairs {
            self.pair(indent + 4, &scalar(name), value);
        }
    }
}

/// Whether a text of several lines can stand as it is, below its key.
fn is_block(text: &str) -> bool {
    let is_printable = |c: char| c == '\n' || is_printable(c);
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && !text.ends_with("\n\n")
        && text.lines().all(|line| !line.starts_with('\t') && line.trim_end() == line)
        && text.chars().all(is_printable)
}

/// Whether a text means itself, without quotes, to every reader of YAML.
fn is_plain(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':');
    let lower = text.to_ascii_lowercase();
    let means_else = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(is_word)
        && !text.ends_with(':')
        && !means_else.contains(&lower.as_str())
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// What YAML lets stand as it is, and takes for no end of a line.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use settings::prometheus::rules::parse_group;

    use super::*;
    use crate::rules::RuleLanguage;
    use crate::rules::sources::checks;

    const EVERYTHING: &str = "# of the team\nname: g 1\ninterval: 90s\nquery_offset: 5s\nlimit: 7\n\
        align_evaluation_time_on_interval: true\nlabels: {team: 'yes'}\nrules:\n- record: a:b\n  expr: |\n    \
        a\n\n      + b\n- alert: Down\n  expr: up == 0\n  for: 5m\n  keep_firing_for: 1h\n  labels:\n    \
        severity: page\n  annotations:\n    summary: \"{{ $labels.job }}: \\\"down\\\"\"\n";

    fn read(yaml: &str) -> RuleGroup {
        let group = parse_group("f", yaml.as_bytes(), &checks(RuleLanguage::Promql));
        let mut group = group.unwrap_or_else(|faults| panic!("{yaml}\n{}", faults.render()));
        group.line = 0;
        group.rules.iter_mut().for_each(|rule| rule.line = 0);
        group
    }

    #[test]
    fn a_group_that_is_written_is_the_one_that_was_read() {
        let mut group = read(EVERYTHING);
        let text = written(&group);
        for rule in 0..group.rules.len() {
            group.rules[rule].labels = group.labels_of(&group.rules[rule]);
        }
        group.labels.clear();
        assert_eq!(read(&text), group, "{text}");
        assert!(text.starts_with("name: \"g 1\"\ninterval: 1m30s\n"), "{text}");
        assert!(text.contains("    - record: a:b\n      expr: |\n          a\n\n"), "{text}");
        let moved = indented(&text, "- ", "  ");
        let list = format!("groups:\n{moved}");
        let checks = checks(RuleLanguage::Promql);
        let file = settings::prometheus::rules::parse("f", list.as_bytes(), &checks);
        let again = &file.unwrap_or_else(|faults| panic!("{}", faults.render())).file.groups[0];
        assert_eq!(again.rules[0].expr, group.rules[0].expr, "{list}");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(name in "\\PC{1,12}", text in "(?s).{0,40}") {
            let mut group = read("{name: g, rules: [{alert: A, expr: up}]}");
            group.rules[0].annotations = vec![("a".to_owned(), text.replace("{{", "{ {"))];
            group.name = name;
            let written = written(&group);
            prop_assert_eq!(read(&written), group, "{}", written);
        }
    }
}
