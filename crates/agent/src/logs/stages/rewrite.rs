//! Stages that make a line or a value anew.

use std::sync::Arc;

use logql::pipeline::{FreeTemplate, TemplateMemory};
use model::regex::{Finder, Groups};
use settings::logs::StageFault;
use settings::logs::stage::{LuhnStage, ReplaceStage, TemplateStage, TruncateRule, TruncateTarget};

use super::chain::Link;
use super::input::{put_back, with_input};
use super::line::Kind;
use super::metrics::StageCounters;
use super::{Clock, Line, Plan, fault, finder, zones};

/// What errors call templates, as in Promtail.
const TEMPLATE_NAME: &str = "pipeline_template";

pub(super) fn output(source: &str) -> Plan {
    let source: Arc<str> = Arc::from(source);
    Plan::new(move || {
        let source = Arc::clone(&source);
        let mut scratch = String::new();
        Link::simple(move |line: &mut Line, _: &Clock| {
            if let Some(value) = line.value_text(&source) {
                scratch.clear();
                scratch.push_str(value);
                line.set_text(&scratch);
            }
            true
        })
    })
}

pub(super) fn decolorize() -> Plan {
    Plan::new(|| {
        let mut plain = String::new();
        Link::simple(move |line: &mut Line, _: &Clock| {
            plain.clear();
            if logql::pipeline::decolorize(&line.shown(), &mut plain) {
                line.set_text(&plain);
            }
            true
        })
    })
}

fn read_template(key: &'static str, text: &str) -> Result<Arc<FreeTemplate>, StageFault> {
    FreeTemplate::new(TEMPLATE_NAME, text)
        .map(Arc::new)
        .map_err(|error| fault(key, error.to_string()))
}

/// A value made by a template over all values, the line as `Entry` and the old value as `Value`.
pub(super) fn template(stage: &TemplateStage) -> Result<Plan, StageFault> {
    let template = read_template("template", &stage.template)?;
    let source: Arc<str> = Arc::from(stage.source.as_str());
    Ok(Plan::new(move || {
        let (template, source) = (Arc::clone(&template), Arc::clone(&source));
        let mut memory = TemplateMemory::new(zones::of_host);
        let mut out = String::new();
        Link::simple(move |line: &mut Line, clock: &Clock| {
            out.clear();
            let outcome = {
                let entry = line.shown();
                let line = &*line;
                let value = |name: &str| match name {
                    "Value" => line.value_text(&source),
                    "Entry" => Some(&*entry),
                    name => line.value_text(name),
                };
                let mut all = Vec::new();
                if template.needs_all() {
                    all = line.sorted_values();
                    all.push(("Entry", &entry));
                    all.extend(line.value_text(&source).map(|value| ("Value", value)));
                    all.sort_unstable();
                    all.dedup_by_key(|(name, _)| *name);
                }
                template.execute(&value, &all, (clock.wall_ns)(), &mut memory, &mut out)
            };
            // What fails changes nothing.
            if outcome.is_ok() {
                if out.is_empty() {
                    line.values.remove(&source);
                } else {
                    line.values.set_text(&source, &out);
                }
            }
            true
        })
    }))
}

/// What groups of an expression match is replaced by what a template makes of it.
pub(super) fn replace(stage: &ReplaceStage) -> Result<Plan, StageFault> {
    let finder = finder("expression", &stage.expression)?;
    let template = read_template("replace", &stage.replace)?;
    let source = stage.source.clone();
    Ok(Plan::new(move || {
        let mut replacing = Replacing {
            finder: finder.clone(),
            template: Arc::clone(&template),
            memory: TemplateMemory::new(zones::of_host),
            made: String::new(),
            out: String::new(),
            named: Vec::new(),
        };
        let source = source.clone();
        let mut scratch = String::new();
        Link::simple(move |line: &mut Line, clock: &Clock| {
            let mut replaced = false;
            with_input(line, source.as_deref(), &mut scratch, |text, line| {
                replaced = replacing.replace(text, line, clock);
            });
            if replaced {
                put_back(line, source.as_deref(), &replacing.out);
                for (name, value) in replacing.named.drain(..) {
                    line.values.set_text(&name, &value);
                }
            }
            true
        })
    }))
}

struct Replacing {
    finder: Finder,
    template: Arc<FreeTemplate>,
    memory: TemplateMemory,
    made: String,
    out: String,
    /// Named groups of the first match with what took their place.
    named: Vec<(String, String)>,
}

impl Replacing {
    /// Yields whether something was made.
    fn replace(&mut self, text: &str, line: &Line, clock: &Clock) -> bool {
        self.out.clear();
        self.named.clear();
        let finder = self.finder.clone();
        let (mut groups, mut at, mut behind) = (Groups::default(), 0, 0);
        let mut last_end = None;
        // What the same text was replaced by last counts for names.
        let mut made_of: Vec<(String, String)> = Vec::new();
        let mut first: Vec<(String, String)> = Vec::new();
        let mut any = false;
        while at <= text.len() && finder.captures_at(text, at, &mut groups) {
            let Some(range) = groups.range(0) else { break };
            let is_repeated = range.is_empty() && last_end == Some(range.end);
            last_end = Some(range.end);
            at = range.end;
            if range.is_empty() {
                at += text[range.end..].chars().next().map_or(1, char::len_utf8);
            }
            if is_repeated {
                continue;
            }
            if !any {
                let names = finder.names().filter(|(_, group)| groups.range(*group).is_some());
                let named = names.map(|(name, group)| (name, groups.get(group, text)));
                first.extend(named.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            any = true;
            for group in 1..=finder.groups() {
                let Some(range) = groups.range(group) else { continue };
                let captured = &text[range.clone()];
                if !self.make(captured, line, clock) {
                    return false;
                }
                if behind == 0 || behind <= range.start {
                    self.out.push_str(text.get(behind..range.start).unwrap_or_default());
                    self.out.push_str(&self.made);
                    behind = range.end;
                }
                match made_of.iter_mut().find(|(known, _)| known == captured) {
                    Some((_, made)) => made.clone_from(&self.made),
                    None => made_of.push((captured.to_owned(), self.made.clone())),
                }
            }
        }
        if !any {
            return false;
        }
        self.out.push_str(&text[behind..]);
        for (name, captured) in first {
            let made = made_of.iter().find(|(known, _)| *known == captured);
            self.named.extend(made.map(|(_, made)| (name, made.clone())));
        }
        true
    }

    /// What takes the place of a group.
    fn make(&mut self, captured: &str, line: &Line, clock: &Clock) -> bool {
        self.made.clear();
        let value = |name: &str| match name {
            "Value" => Some(captured),
            name => line.value_text(name),
        };
        let mut all = Vec::new();
        if self.template.needs_all() {
            all = line.sorted_values();
            all.retain(|(name, _)| *name != "Value");
            all.push(("Value", captured));
            all.sort_unstable();
        }
        let now_ns = (clock.wall_ns)();
        self.template.execute(&value, &all, now_ns, &mut self.memory, &mut self.made).is_ok()
    }
}

/// Numbers that pass Luhn's test are replaced.
pub(super) fn luhn(stage: &LuhnStage) -> Plan {
    let stage = Arc::new(stage.clone());
    Plan::new(move || {
        let stage = Arc::clone(&stage);
        let (mut scratch, mut out) = (String::new(), String::new());
        Link::simple(move |line: &mut Line, _: &Clock| {
            if let Some(source) = &stage.source
                && line.value(source).is_none_or(|value| value.kind != Kind::Text)
            {
                return true;
            }
            out.clear();
            let mut replaced = false;
            with_input(line, stage.source.as_deref(), &mut scratch, |text, _| {
                replaced = without_numbers(text, &stage, &mut out);
            });
            if replaced {
                // As there, the line is what is written, whatever was read.
                line.set_text(&out);
            }
            true
        })
    })
}

/// Most digits that one number may have to be tested: as many as an integer of Go has.
const MAX_DIGITS: usize = 19;

/// Appends `text` with its numbers replaced. Yields whether there were any.
fn without_numbers(text: &str, stage: &LuhnStage, out: &mut String) -> bool {
    let mut replaced = false;
    let bytes = text.as_bytes();
    let is_delimiter = |c: char| stage.delimiters.contains(c);
    let (mut at, mut copied) = (0, 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        let mut digits = Vec::new();
        // Behind the last digit; delimiters may follow it.
        let mut end = at;
        for (offset, c) in text[start..].char_indices() {
            if let Some(digit) = c.to_digit(10) {
                digits.push(digit);
                end = start + offset + 1;
            } else if !is_delimiter(c) {
                break;
            }
        }
        let is_long = digits.len() as u64 >= stage.min_length && digits.len() <= MAX_DIGITS;
        if is_long && is_luhn(&digits) {
            out.push_str(&text[copied..start]);
            out.push_str(&stage.replacement);
            copied = end;
            replaced = true;
        }
        at = end;
    }
    out.push_str(&text[copied..]);
    replaced
}

/// Source: ISO/IEC 7812-1, annex B.
fn is_luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match place % 2 {
            0 => *digit,
            _ => digit * 2 - if *digit > 4 { 9 } else { 0 },
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Cuts what is too long.
pub(super) fn truncate(rules: &[TruncateRule], counters: &Arc<StageCounters>) -> Plan {
    let rules: Arc<[TruncateRule]> = rules.into();
    let counters = Arc::clone(counters);
    Plan::new(move || {
        let (rules, counters) = (Arc::clone(&rules), Arc::clone(&counters));
        Link::simple(move |line: &mut Line, _: &Clock| {
            for rule in &*rules {
                if let Some(field) = cut(rule, line) {
                    counters.truncated(field);
                    note(line, field);
                }
            }
            true
        })
    })
}

/// Notes in the value `truncated` what was cut.
fn note(line: &mut Line, field: &str) {
    let known = line.value_text("truncated").unwrap_or_default();
    let mut fields: Vec<&str> = known.split(',').filter(|field| !field.is_empty()).collect();
    fields.push(field);
    fields.sort_unstable();
    fields.dedup();
    let fields = fields.join(",");
    line.values.set_text("truncated", &fields);
}

/// Applies a rule. Yields what was cut, if something was.
fn cut(rule: &TruncateRule, line: &mut Line) -> Option<&'static str> {
    let limit = usize::try_from(rule.limit).unwrap_or(usize::MAX) - rule.suffix.len();
    let is_meant = |name: &str| rule.sources.is_empty() || rule.sources.iter().any(|s| s == name);
    match rule.target {
        TruncateTarget::Line => {
            (line.text.len() > limit).then_some(())?;
            line.text.truncate(limit);
            line.text.extend_from_slice(rule.suffix.as_bytes());
            Some("line")
        }
        TruncateTarget::Label => {
            let mut shorter = Vec::new();
            line.for_each_label(|name, value| {
                if is_meant(name) && value.len() > limit {
                    shorter.push((name.to_owned(), shortened(value, limit, &rule.suffix)));
                }
            });
            for (name, value) in &shorter {
                line.set_label(name, value);
            }
            (!shorter.is_empty()).then_some("label")
        }
        TruncateTarget::StructuredMetadata => {
            let mut any = false;
            for (name, value) in &mut line.metadata {
                if is_meant(name) && value.len() > limit {
                    *value = shortened(value, limit, &rule.suffix);
                    any = true;
                }
            }
            any.then_some("structured_metadata")
        }
        TruncateTarget::Extracted => {
            let values = line.sorted_values();
            let is_text = |name: &str| line.value(name).is_some_and(|v| v.kind == Kind::Text);
            let long = values
                .iter()
                .filter(|(name, value)| is_meant(name) && value.len() > limit && is_text(name));
            let shorter: Vec<(String, String)> = long
                .map(|(name, value)| ((*name).to_owned(), shortened(value, limit, &rule.suffix)))
                .collect();
            for (name, value) in &shorter {
                line.values.set_text(name, value);
            }
            (!shorter.is_empty()).then_some("extracted")
        }
    }
}

fn shortened(value: &str, limit: usize, suffix: &str) -> String {
    // Half a character is none.
    let mut end = limit.min(value.len());
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &value[..end])
}
