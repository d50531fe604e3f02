//! Stages that have keys of their own, from a tree.

use std::time::Duration;

use model::regex::Finder;

use super::go_values::{GoDuration, HumanSize};
use super::read_stage::{StageReader, Syntax, by_their_names, read_stages};
use super::stage::{
    CriStage, DropStage, EventLogMessageStage, JsonStage, LimitStage, LogfmtStage, LuhnStage,
    MatchStage, MultilineStage, PackStage, PatternStage, RegexStage, ReplaceStage, SamplingStage,
    Stage, TemplateStage, TenantStage, TimestampStage, TruncateRule, TruncateTarget,
};
use crate::yaml::{ByteSize, FromNode, Node, Section, Value, read_map};

/// An expression that may match anywhere; `None` if there is none or it is wrong.
pub(super) fn expression(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let text = section.read::<String>(key).filter(|text| !text.is_empty())?;
    match Finder::new(&text) {
        Ok(_) => Some(text),
        Err(error) => {
            let message = format!("could not compile regular expression: {error}");
            section.fault(key, message, Some("expressions have the syntax of RE2"));
            None
        }
    }
}

/// A text that has to be there.
pub(super) fn required(
    section: &mut Section<'_>,
    key: &'static str,
    message: &str,
) -> Option<String> {
    let text = section.read::<String>(key).filter(|text| !text.is_empty());
    if text.is_none() {
        section.fault(key, message, Some(&format!("add `{key}`")));
    }
    text
}

/// An expression that has to be there.
fn required_expression(
    section: &mut Section<'_>,
    key: &'static str,
    message: &str,
) -> Option<String> {
    if !section.is_set(key) || section.value::<String>(key).is_empty() {
        section.fault(key, message, Some(&format!("add `{key}`")));
        return None;
    }
    expression(section, key)
}

/// The value that is read instead of the line. One without a name is a slip.
fn source(section: &mut Section<'_>) -> Option<String> {
    let source = section.read::<String>("source");
    if source.as_deref() == Some("") {
        section.fault("source", "empty source", Some("name a value, or remove the key"));
        return None;
    }
    source
}

/// Stages that are mappings of keys of their own.
pub(super) fn sectioned(
    reader: &StageReader<'_>,
    name: &str,
    node: &Node,
    depth: usize,
) -> Option<Stage> {
    let mut section = Section::open(reader.context, node, "stage")?;
    let stage = keys(reader, name, &mut section, depth);
    section.finish();
    stage
}

fn keys(
    reader: &StageReader<'_>,
    name: &str,
    section: &mut Section<'_>,
    depth: usize,
) -> Option<Stage> {
    Some(match name {
        "cri" => Stage::Cri(cri(section)?),
        "drop" => Stage::Drop(drop_stage(reader, section)?),
        "eventlogmessage" => Stage::EventLogMessage(EventLogMessageStage {
            source: section.or("source", "message".to_owned()),
            drop_invalid_labels: section.value("drop_invalid_labels"),
            overwrite_existing: section.value("overwrite_existing"),
        }),
        "json" => Stage::Json(json(section)?),
        "limit" => Stage::Limit(limit(reader, section)?),
        "logfmt" => Stage::Logfmt(logfmt(section)?),
        "luhn" => Stage::Luhn(luhn(section)),
        "match" => Stage::Match(match_stage(reader, section, depth)?),
        "multiline" => Stage::Multiline(multiline(section)?),
        "output" => {
            let message = "output source value is required if output is specified";
            Stage::Output { source: required(section, "source", message)? }
        }
        "pack" => Stage::Pack(PackStage {
            labels: section.value("labels"),
            ingest_timestamp: section.or("ingest_timestamp", true),
        }),
        "pattern" => Stage::Pattern(PatternStage {
            source: source(section),
            labels_from_groups: section.value("labels_from_groups"),
            pattern: required(section, "pattern", "pattern is required")?,
        }),
        "regex" => Stage::Regex(RegexStage {
            source: source(section),
            labels_from_groups: section.value("labels_from_groups"),
            expression: required_expression(section, "expression", "expression is required")?,
        }),
        "replace" => Stage::Replace(ReplaceStage {
            source: source(section),
            replace: section.value("replace"),
            expression: required_expression(section, "expression", "expression is required")?,
        }),
        "sampling" => Stage::Sampling(sampling(section)?),
        "split_json" => Stage::SplitJson { source: source(section) },
        "template" => {
            let template = section.value("template");
            let message = "template source value is required";
            Stage::Template(TemplateStage {
                template,
                source: required(section, "source", message)?,
            })
        }
        "tenant" => Stage::Tenant(tenant(section)?),
        "timestamp" => Stage::Timestamp(timestamp(section)?),
        "truncate" => Stage::Truncate(truncate(section)?),
        _ => return None,
    })
}

fn cri(section: &mut Section<'_>) -> Option<CriStage> {
    let default = CriStage::default();
    let bytes: ByteSize = match section.node("max_partial_line_size") {
        // Promtail and Alloy take a number of bytes here, too.
        Some(node) => match u64::from_node_quietly(node) {
            Some(bytes) => ByteSize(bytes),
            None => ByteSize::from_node(section.context, node)?,
        },
        None => ByteSize(0),
    };
    let stage = CriStage {
        max_partial_lines: section.or("max_partial_lines", default.max_partial_lines),
        max_partial_line_bytes: bytes.0,
        truncate: section.value("max_partial_line_size_truncate"),
    };
    if stage.max_partial_lines == 0 {
        let message = "max_partial_lines must be greater than 0";
        section.fault("max_partial_lines", message, None);
    }
    Some(stage)
}

/// Numbers that may stand where a text with a unit is usual.
trait Quietly: Sized {
    fn from_node_quietly(node: &Node) -> Option<Self>;
}

impl Quietly for u64 {
    fn from_node_quietly(node: &Node) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) => u64::try_from(scalar.integer()?).ok(),
            _ => None,
        }
    }
}

fn drop_stage(reader: &StageReader<'_>, section: &mut Section<'_>) -> Option<DropStage> {
    let sources: Vec<String> = match section.node("source") {
        None => Vec::new(),
        Some(node) if node.is_null() => Vec::new(),
        Some(node) if node.is_scalar() => {
            let text = String::from_node(section.context, node)?;
            let parts: Vec<&str> = match reader.syntax {
                // Promtail has a list for several.
                Syntax::Promtail => vec![text.as_str()],
                Syntax::Alloy => text.split(',').collect(),
            };
            let named = parts.into_iter().filter(|part| !part.is_empty());
            named.map(str::to_owned).collect()
        }
        Some(node) => Vec::from_node(section.context, node)?,
    };
    let value: String = section.value("value");
    let mut expression = expression(section, "expression");
    if !value.is_empty() && section.is_set("expression") {
        let message = "drop stage config error, `value` and `expression` cannot both be defined at \
                       the same time.";
        section.fault("value", message, Some("keep one of them"));
    }
    if !value.is_empty() {
        if sources.is_empty() {
            let message = "drop stage config must contain `source` if `value` is specified";
            section.fault("value", message, Some("add `source`"));
        }
        expression = Some(format!("^{}$", model::regex::escape(&value)));
    }
    let longer_than = match (reader.syntax, section.node("longer_than")) {
        (_, None) => 0,
        (Syntax::Promtail, Some(node)) => HumanSize::from_node(section.context, node)?.0,
        (Syntax::Alloy, Some(node)) => match u64::from_node_quietly(node) {
            Some(bytes) => bytes,
            None => ByteSize::from_node(section.context, node)?.0,
        },
    };
    let older_than = section.read::<GoDuration>("older_than").map(|duration| duration.0);
    let stage = DropStage {
        reason: text_or(section, "drop_counter_reason", "drop_stage"),
        separator: text_or(section, "separator", ";"),
        longer_than: (longer_than > 0).then_some(longer_than),
        older_than: older_than.filter(|duration| !duration.is_zero()),
        sources,
        expression,
    };
    if stage.sources.is_empty()
        && !section.is_set("expression")
        && stage.older_than.is_none()
        && stage.longer_than.is_none()
    {
        let message = "drop stage config must contain at least one of `source`, `expression`, \
                       `older_than` or `longer_than`";
        section.context.fault(section.span_start(), message, None);
        return None;
    }
    Some(stage)
}

fn text_or(section: &mut Section<'_>, key: &'static str, default: &str) -> String {
    let text: String = section.value(key);
    if text.is_empty() { default.to_owned() } else { text }
}

fn json(section: &mut Section<'_>) -> Option<JsonStage> {
    let expressions = match section.node("expressions") {
        Some(node) => read_map::<String>(section.context, node),
        None => Vec::new(),
    };
    if expressions.is_empty() {
        let message = "JMES expression is required";
        section.fault("expressions", message, Some("add `expressions`: names with paths"));
    }
    let stage = JsonStage {
        source: source(section),
        drop_malformed: section.value("drop_malformed"),
        expressions: by_their_names(expressions),
    };
    (!stage.expressions.is_empty()).then_some(stage)
}

/// Fewest values a limit by label is kept for, as in Promtail.
const MIN_DISTINCT_LABELS: u64 = 10_000;
/// Most values: each is about a hundred bytes.
const MAX_DISTINCT_LABELS: u64 = 1_000_000;

fn limit(reader: &StageReader<'_>, section: &mut Section<'_>) -> Option<LimitStage> {
    let rate: f64 = section.value("rate");
    let burst: i64 = section.value("burst");
    let id = reader.limits.get();
    reader.limits.set(id + 1);
    let distinct: u64 = section.value("max_distinct_labels");
    if distinct > MAX_DISTINCT_LABELS {
        let message = format!("max_distinct_labels {distinct} is more than {MAX_DISTINCT_LABELS}");
        section.fault("max_distinct_labels", message, Some("limit by a label with fewer values"));
    }
    let stage = LimitStage {
        id,
        rate,
        burst: u64::try_from(burst).unwrap_or(0),
        drop: section.value("drop"),
        by_label_name: section.read::<String>("by_label_name").filter(|name| !name.is_empty()),
        max_distinct_labels: distinct.max(MIN_DISTINCT_LABELS),
    };
    if !(rate > 0.0 && rate.is_finite()) || stage.burst == 0 {
        let key = if stage.burst == 0 && rate > 0.0 { "burst" } else { "rate" };
        let message = "limit stage failed to parse rate or burst";
        section.fault(
            key,
            message,
            Some("give `rate` in lines a second and `burst`, both above 0"),
        );
        return None;
    }
    if stage.by_label_name.is_some() && !stage.drop {
        let message = "When ratelimiting by label, drop must be true";
        section.fault("by_label_name", message, Some("add `drop: true`"));
        return None;
    }
    Some(stage)
}

fn logfmt(section: &mut Section<'_>) -> Option<LogfmtStage> {
    let mapping = match section.node("mapping") {
        Some(node) => read_map::<String>(section.context, node),
        None => Vec::new(),
    };
    let regex = expression(section, "regex");
    if mapping.is_empty() && !section.is_set("regex") {
        let message = "logfmt mapping or regex is required";
        section.fault("mapping", message, Some("add `mapping`: names with keys"));
        return None;
    }
    // The file has names with keys; the line is read by key.
    let mut mapping: Vec<(String, String)> =
        by_their_names(mapping).into_iter().map(|(name, key)| (key, name)).collect();
    mapping.sort_unstable();
    Some(LogfmtStage { mapping, regex, source: source(section) })
}

fn luhn(section: &mut Section<'_>) -> LuhnStage {
    let min_length: i64 = section.value("min_length");
    LuhnStage {
        replacement: text_or(section, "replacement", "**REDACTED**"),
        source: source(section),
        min_length: u64::try_from(min_length).ok().filter(|length| *length > 0).unwrap_or(13),
        delimiters: section.value("delimiters"),
    }
}

fn match_stage(
    reader: &StageReader<'_>,
    section: &mut Section<'_>,
    depth: usize,
) -> Option<MatchStage> {
    if section.read::<String>("pipeline_name").as_deref() == Some("") {
        let message = "match stage pipeline name can be omitted but cannot be an empty string";
        section.fault("pipeline_name", message, Some("remove the key"));
    }
    let selector = required(section, "selector", "selector statement required for match stage");
    let action: String = section.value("action");
    let reason = text_or(section, "drop_counter_reason", "match_stage");
    let key = match reader.syntax {
        Syntax::Promtail => "stages",
        Syntax::Alloy => "stage",
    };
    let has_stages = section.is_set(key);
    let stages = match section.node(key) {
        Some(node) => read_stages(reader, node, depth + 1),
        None => Vec::new(),
    };
    let drops = match action.as_str() {
        "" | "keep" => false,
        "drop" => true,
        _ => {
            let message = "match stage action should be 'keep' or 'drop'";
            section.fault("action", message, None);
            return None;
        }
    };
    if drops && has_stages {
        let message = "match stage configured to drop entries cannot contains stages";
        section.fault(key, message, Some("remove the stages, or `action: drop`"));
        return None;
    }
    if !drops && !has_stages {
        let message = "match stage requires at least one additional stage to be defined in '- \
                       stages'";
        section.context.fault(section.span_start(), message, None);
        return None;
    }
    Some(MatchStage { selector: selector?, stages, drop_reason: drops.then_some(reason) })
}

/// Most lines a block may have: they are held in memory.
const MAX_BLOCK_LINES: u64 = 100_000;

fn multiline(section: &mut Section<'_>) -> Option<MultilineStage> {
    let message = "multiline stage config must define `firstline` regular expression";
    let firstline = required_expression(section, "firstline", message);
    let max_lines = section.or("max_lines", 128_u64);
    if max_lines > MAX_BLOCK_LINES {
        let message = format!("max_lines {max_lines} is more than {MAX_BLOCK_LINES}");
        section.fault("max_lines", message, Some("lines of a block are held in memory"));
    }
    let wait = section.read::<GoDuration>("max_wait_time").map(|wait| wait.0);
    if wait == Some(Duration::ZERO) {
        section.fault("max_wait_time", "max_wait_time must be greater than 0", None);
    }
    let max_wait_time = wait.unwrap_or(Duration::from_secs(3));
    Some(MultilineStage { firstline: firstline?, max_lines, max_wait_time })
}

fn sampling(section: &mut Section<'_>) -> Option<SamplingStage> {
    let rate: Option<f64> = section.read("rate");
    let reason = text_or(section, "drop_counter_reason", "sampling_stage");
    match rate {
        Some(rate) if (0.0..=1.0).contains(&rate) => Some(SamplingStage { rate, reason }),
        rate => {
            let message = format!(
                "sampling stage failed to parse rate,Sampling Rate must be between 0.0 and 1.0, \
                 received {}",
                rate.map_or_else(|| "nothing".to_owned(), |rate| rate.to_string())
            );
            section.fault("rate", message, Some("write a share such as 0.25"));
            None
        }
    }
}

fn tenant(section: &mut Section<'_>) -> Option<TenantStage> {
    let mut read = |key| section.read::<String>(key).filter(|text| !text.is_empty());
    let (label, source, value) = (read("label"), read("source"), read("value"));
    let stage = match (label, source, value) {
        (Some(label), None, None) => Some(TenantStage::Label(label)),
        (None, Some(source), None) => Some(TenantStage::Source(source)),
        (None, None, Some(value)) => Some(TenantStage::Value(value)),
        (None, None, None) => {
            let message = "label, source or value config are required";
            section.context.fault(section.span_start(), message, None);
            None
        }
        _ => {
            let message = "label, source and value are mutually exclusive: you should set source, \
                           value or label but not all";
            section.context.fault(section.span_start(), message, None);
            None
        }
    };
    if let Some(TenantStage::Value(value)) = &stage
        && let Err(error) = model::TenantName::parse(value)
    {
        section.fault("value", error.to_string(), None);
    }
    stage
}

fn timestamp(section: &mut Section<'_>) -> Option<TimestampStage> {
    let message = "timestamp source value is required if timestamp is specified";
    let source = required(section, "source", message);
    let format = required(section, "format", "timestamp format is required");
    let action: String = section.value("action_on_failure");
    let fudges = match action.as_str() {
        "" | "fudge" => true,
        "skip" => false,
        _ => {
            let message = "invalid action on failure (supported values are [skip fudge])";
            section.fault("action_on_failure", message, None);
            return None;
        }
    };
    let location = section.read::<String>("location").filter(|zone| !zone.is_empty());
    let fallback_formats = section.value("fallback_formats");
    Some(TimestampStage { source: source?, format: format?, fallback_formats, location, fudges })
}

fn truncate(section: &mut Section<'_>) -> Option<Vec<TruncateRule>> {
    let context = section.context;
    let mut rules = Vec::new();
    for node in section.items("rule") {
        let mut rule = Section::open(context, node, "rule")?;
        let limit = match rule.node("limit") {
            None => 0,
            Some(node) => match u64::from_node_quietly(node) {
                Some(bytes) => bytes,
                None => ByteSize::from_node(context, node)?.0,
            },
        };
        if limit == 0 {
            rule.fault("limit", "limit must be greater than zero", None);
        }
        let suffix: String = rule.value("suffix");
        if !suffix.is_empty() && suffix.len() as u64 >= limit {
            let message = "suffix length cannot be greater than or equal to limit";
            rule.fault("suffix", message, None);
        }
        let sources: Vec<String> = rule.value("sources");
        let kind: String = rule.value("source_type");
        let target = match kind.as_str() {
            "" | "line" => TruncateTarget::Line,
            "label" => TruncateTarget::Label,
            "structured_metadata" => TruncateTarget::StructuredMetadata,
            "extracted" => TruncateTarget::Extracted,
            _ => {
                rule.fault("source_type", format!("unknown source_type: {kind}"), None);
                TruncateTarget::Line
            }
        };
        if target == TruncateTarget::Line && !sources.is_empty() {
            rule.fault("sources", "sources cannot be set when source_type is 'line'", None);
        }
        rules.push(TruncateRule { limit, suffix, sources, target });
        rule.finish();
    }
    if rules.is_empty() {
        context.fault(section.span_start(), "at least one truncate rule must be defined", None);
        return None;
    }
    Some(rules)
}
