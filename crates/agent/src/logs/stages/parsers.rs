//! `logfmt`, `regex`, `pattern`, `eventlogmessage`: values of a line.

use logql::pipeline::{LogfmtPairs, PatternExpr};
use model::regex::{Finder, Groups};
use settings::logs::StageFault;
use settings::logs::stage::{EventLogMessageStage, LogfmtStage, PatternStage, RegexStage};

use super::chain::Link;
use super::input::with_input;
use super::{Plan, fault, finder};

/// Pairs of keys that are wanted; what is behind a broken pair is not read.
pub(super) fn logfmt(stage: &LogfmtStage) -> Result<Plan, StageFault> {
    let stage = stage.clone();
    let regex = stage.regex.as_deref().map(|text| finder("regex", text)).transpose()?;
    Ok(Plan::new(move || {
        let (stage, regex) = (stage.clone(), regex.clone());
        let (mut scratch, mut unescaped) = (String::new(), String::new());
        Link::simple(move |line: &mut super::Line, _: &super::Clock| {
            with_input(line, stage.source.as_deref(), &mut scratch, |text, line| {
                LogfmtPairs::new(text).until_broken(&mut unescaped, |key, value| {
                    let at = stage.mapping.binary_search_by(|(known, _)| known.as_str().cmp(key));
                    if let Ok(at) = at {
                        // One key may be wanted under several names.
                        let mut first = at;
                        while first > 0 && stage.mapping[first - 1].0 == key {
                            first -= 1;
                        }
                        let same = stage.mapping[first..].iter().take_while(|(k, _)| k == key);
                        for (_, name) in same {
                            line.values.set_text(name, value);
                        }
                    }
                    if regex.as_ref().is_some_and(|regex| regex.is_match(key.as_bytes())) {
                        line.values.set_text(key, value);
                    }
                });
            });
            true
        })
    }))
}

/// Named groups of the first match.
pub(super) fn regex(stage: &RegexStage) -> Result<Plan, StageFault> {
    let stage = stage.clone();
    let finder = finder("expression", &stage.expression)?;
    Ok(Plan::new(move || {
        let (stage, finder): (RegexStage, Finder) = (stage.clone(), finder.clone());
        let (mut scratch, mut groups) = (String::new(), Groups::default());
        Link::simple(move |line: &mut super::Line, _: &super::Clock| {
            with_input(line, stage.source.as_deref(), &mut scratch, |text, line| {
                if !finder.captures_at(text, 0, &mut groups) {
                    return;
                }
                for (name, group) in finder.names() {
                    let value = groups.get(group, text);
                    line.values.set_text(name, value);
                    if stage.labels_from_groups && model::is_legacy_label_name(name) {
                        line.set_label(name, value);
                    }
                }
            });
            true
        })
    }))
}

/// Captures of a pattern.
pub(super) fn pattern(stage: &PatternStage) -> Result<Plan, StageFault> {
    let stage = stage.clone();
    let pattern = PatternExpr::parser(&stage.pattern)
        .map_err(|error| fault("pattern", format!("failed to parse pattern: {error}")))?;
    Ok(Plan::new(move || {
        let (stage, pattern) = (stage.clone(), pattern.clone());
        let names: Vec<String> = pattern.names().map(str::to_owned).collect();
        let mut scratch = String::new();
        Link::simple(move |line: &mut super::Line, _: &super::Clock| {
            with_input(line, stage.source.as_deref(), &mut scratch, |text, line| {
                pattern.extract(text, |number, value| {
                    line.values.set_text(&names[number], value);
                    if stage.labels_from_groups {
                        line.set_label(&names[number], value);
                    }
                });
            });
            true
        })
    }))
}

/// `key: value` in lines of a message.
pub(super) fn event_log_message(stage: &EventLogMessageStage) -> Plan {
    let stage = stage.clone();
    Plan::new(move || {
        let stage = stage.clone();
        let mut scratch = String::new();
        Link::simple(move |line: &mut super::Line, _: &super::Clock| {
            with_input(line, Some(&stage.source), &mut scratch, |text, line| {
                for pair in text.split("\r\n") {
                    let Some((key, value)) = pair.split_once(':') else { continue };
                    let mut name = key.to_owned();
                    if !model::is_legacy_label_name(key) {
                        if stage.drop_invalid_labels {
                            continue;
                        }
                        name = sanitized(key);
                    }
                    if line.value(&name).is_some() && !stage.overwrite_existing {
                        name.push_str("_extracted");
                    }
                    line.values.set_text(&name, value.trim());
                }
            });
            true
        })
    })
}

/// A name with `_` for each character that cannot stand there.
fn sanitized(key: &str) -> String {
    let mut name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}
