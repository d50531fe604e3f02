//! What a line says about itself when nobody asks: its level, and the service it is of.

use model::LEVEL_FIELDS;

use crate::pipeline::{JsonMembers, LogfmtPairs, ScalarKind};

/// How severe a line is; the value of the label `detected_level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing tells.
    Unknown,
    /// `trace`
    Trace,
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `warn`
    Warn,
    /// `error`
    Error,
    /// `critical`
    Critical,
    /// `fatal`
    Fatal,
}

impl Level {
    /// The value of `detected_level`.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Unknown => "unknown",
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Critical => "critical",
            Level::Fatal => "fatal",
        }
    }

    /// The level a word names, in any case; `None` if it names none.
    pub fn from_word(word: &str) -> Option<Self> {
        let known = WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        known.map(|(_, level)| *level)
    }

    /// The level of OpenTelemetry's severity number, 1 to 24.
    /// Source: OpenTelemetry, "Logs Data Model", field `SeverityNumber`.
    pub fn from_severity_number(number: i64) -> Self {
        match number {
            1..=4 => Level::Trace,
            5..=8 => Level::Debug,
            9..=12 => Level::Info,
            13..=16 => Level::Warn,
            17..=20 => Level::Error,
            21..=24 => Level::Fatal,
            _ => Level::Unknown,
        }
    }
}

/// Words for levels in a field that holds one.
const WORDS: &[(&str, Level)] = &[
    ("trace", Level::Trace),
    ("trc", Level::Trace),
    ("debug", Level::Debug),
    ("dbg", Level::Debug),
    ("info", Level::Info),
    ("inf", Level::Info),
    ("information", Level::Info),
    ("warn", Level::Warn),
    ("wrn", Level::Warn),
    ("warning", Level::Warn),
    ("error", Level::Error),
    ("err", Level::Error),
    ("critical", Level::Critical),
    ("fatal", Level::Fatal),
];

/// Words for levels in a text; abbreviations might be anything there.
const TEXT_WORDS: &[&str] =
    &["trace", "debug", "info", "warn", "warning", "error", "err", "critical", "fatal"];

/// Metadata that holds OpenTelemetry's severity number.
pub const SEVERITY_NUMBER: &str = "severity_number";

/// The label and metadata that holds the level.
pub const DETECTED_LEVEL: &str = "detected_level";

/// Objects nested deeper are not looked at.
const MAX_DEPTH: usize = 32;

/// How levels are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelDetection {
    /// Names of fields that hold a level, as they are written.
    pub fields: Vec<String>,
    /// Deepest object of a JSON line that is looked at, the line itself being 1; 0 for all.
    pub json_depth: usize,
}

impl Default for LevelDetection {
    fn default() -> Self {
        LevelDetection {
            fields: LEVEL_FIELDS.iter().map(|field| (*field).to_owned()).collect(),
            json_depth: 0,
        }
    }
}

impl LevelDetection {
    /// The level of a line: what its severity number says, else what a field of its JSON or logfmt
    /// says, else the first word that stands for a level.
    ///
    /// `severity_number` is the metadata of that name. What is no number there is `info`, as in Loki.
    pub fn detect(&self, line: &str, severity_number: Option<&str>) -> Level {
        if let Some(number) = severity_number.filter(|number| !number.is_empty()) {
            return number.parse().map_or(Level::Info, Level::from_severity_number);
        }
        let field = if is_json(line) {
            self.json_level(line)
        } else if line.contains('=') {
            self.logfmt_level(line)
        } else {
            None
        };
        field.unwrap_or_else(|| scan(line))
    }

    /// The level that the first such field of a JSON line names. Every line that arrives comes here, so
    /// nothing is allocated but for values with escapes, which no level has.
    fn json_level(&self, line: &str) -> Option<Level> {
        let mut found = None;
        self.for_first_json_field(line, |raw| {
            found = if raw.contains('\\') {
                JsonMembers::text(raw).and_then(|value| Level::from_word(&value))
            } else {
                Level::from_word(raw)
            };
        });
        found
    }

    /// The first field of a JSON line that holds a level and is a text.
    pub fn json_field(&self, line: &str) -> Option<String> {
        let mut found = None;
        self.for_first_json_field(line, |raw| found = JsonMembers::text(raw));
        found
    }

    /// Hands the first field that holds a level and is a text to `take`, with its escapes.
    fn for_first_json_field(&self, line: &str, mut take: impl FnMut(&str)) {
        let depth = if self.json_depth == 0 { MAX_DEPTH } else { self.json_depth.min(MAX_DEPTH) };
        JsonMembers::new(line).for_each(depth, |key, kind, raw| {
            let is_it = kind == ScalarKind::Text && self.fields.iter().any(|field| field == key);
            if is_it {
                take(raw);
            }
            !is_it
        });
    }

    /// What the field says that stands first in the list, whichever comes first in the line. Here case
    /// does not count, as in Loki.
    fn logfmt_level(&self, line: &str) -> Option<Level> {
        let mut found = None;
        let mut before = self.fields.len();
        LogfmtPairs::new(line).for_each(|key, value| {
            let known = self.fields[..before].iter().position(|f| f.eq_ignore_ascii_case(key));
            if let Some(at) = known {
                (found, before) = (Level::from_word(value), at);
            }
            before > 0
        });
        found
    }
}

fn is_json(line: &str) -> bool {
    line.trim_start().starts_with('{') && line.trim_end().ends_with('}')
}

/// The level of the first word in `text` that stands for one and stands alone: not a part of a
/// longer word, a path or a key. Colours of terminals are no part of a word.
pub fn scan(text: &str) -> Level {
    let bytes = text.as_bytes();
    let mut at = 0;
    // Where the last sequence of a terminal ends.
    let mut coloured = usize::MAX;
    while at < bytes.len() {
        if bytes[at] == ESCAPE && bytes.get(at + 1) == Some(&b'[') {
            let parameters = &bytes[at + 2..];
            let len = parameters.iter().take_while(|byte| (0x20..0x40).contains(*byte)).count();
            at = bytes.len().min(at + 2 + len + 1);
            // What is no sequence may be cut within a letter of more than a byte.
            while !text.is_char_boundary(at) {
                at += 1;
            }
            coloured = at;
            continue;
        }
        if !bytes[at].is_ascii_alphabetic() {
            at += 1;
            continue;
        }
        let len = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let end = at + len;
        // Words for levels are short; most words are told apart by their length and first letter.
        if (3..=8).contains(&len) && may_start(bytes[at]) {
            let word = &text[at..end];
            let known = TEXT_WORDS.iter().any(|known| known.eq_ignore_ascii_case(word));
            if known
                && (at == coloured || opens(at.checked_sub(1).map(|before| bytes[before])))
                && closes(bytes.get(end).copied(), bytes.get(end + 1).copied())
                && let Some(level) = Level::from_word(word)
            {
                return level;
            }
        }
        at = end;
    }
    Level::Unknown
}

/// Begins a sequence that a terminal understands.
const ESCAPE: u8 = 0x1b;

fn may_start(byte: u8) -> bool {
    matches!(byte.to_ascii_lowercase(), b't' | b'd' | b'i' | b'w' | b'e' | b'c' | b'f')
}

/// Whether a word may begin behind `byte`.
fn opens(byte: Option<u8>) -> bool {
    byte.is_none_or(|byte| {
        byte.is_ascii_whitespace()
            || matches!(
                byte,
                b'[' | b'(' | b'{' | b'<' | b'"' | b'\'' | b'`' | b'|' | b'=' | b',' | b';' | b'>'
            )
    })
}

/// Whether a word may end before `byte`, which `next` follows. A full stop ends one only at the end
/// of a sentence.
fn closes(byte: Option<u8>, next: Option<u8>) -> bool {
    byte.is_none_or(|byte| {
        byte.is_ascii_whitespace()
            || matches!(
                byte,
                b']' | b')'
                    | b'}'
                    | b'>'
                    | b'"'
                    | b'\''
                    | b'`'
                    | b'|'
                    | b'='
                    | b':'
                    | b','
                    | b';'
                    | b'!'
                    | b'<'
                    | ESCAPE
            )
            || (byte == b'.' && next.is_none_or(|next| next.is_ascii_whitespace()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn detect(line: &str) -> Level {
        LevelDetection::default().detect(line, None)
    }

    #[test]
    fn fields_go_before_words() {
        for (line, level) in [
            (r#"{"msg":"an error","level":"warn"}"#, Level::Warn),
            (r#"{"a":{"severity":"DBG"},"level":"info"}"#, Level::Debug),
            (r#"{"level":3,"msg":"x ERROR y"}"#, Level::Error),
            (r#"{"level":"\u0077arn","msg":"error"}"#, Level::Warn),
            ("msg=\"an error\" lvl=Info", Level::Info),
            ("msg=\"what\" level=NA", Level::Unknown),
            (r#"{"msg":"no error in x","log.level":"info"}"#, Level::Info),
            (r#"{"msg":"no error in x","log":{"level":"info"}}"#, Level::Info),
            (r#"{"msg":"error rate is ok","severity_text":"INFO"}"#, Level::Info),
            (r#"{"msg":"error rate is ok","SeverityText":"Information"}"#, Level::Info),
            ("msg=\"error budget ok\" severity_text=INFO", Level::Info),
            ("severity_text=INFO lvl=debug lEVEL=warn level=info", Level::Warn),
            ("level=\"inf", Level::Unknown),
        ] {
            assert_eq!(detect(line), level, "{line}");
        }
        let shallow = LevelDetection { json_depth: 1, ..LevelDetection::default() };
        assert_eq!(
            shallow.json_field(r#"{"a":{"level":"debug"},"level":"info"}"#).as_deref(),
            Some("info")
        );
        assert_eq!(LevelDetection::default().detect("error", Some("7")), Level::Debug);
        assert_eq!(LevelDetection::default().detect("", Some("foo")), Level::Info);
    }

    #[test]
    fn words_stand_alone() {
        for (line, level) in [
            ("[ERR] it broke", Level::Error),
            ("x|INFO|y error", Level::Info),
            ("fooerror misc:error error_code some_error errors /error-x err.log", Level::Unknown),
            ("an error.", Level::Error),
            ("level='critical'", Level::Critical),
            ("warning: infos", Level::Warn),
            ("\x1b[32mINFO\x1b[0m it is an error", Level::Info),
            ("12:00 \x1b[1;31mERROR\x1b[m x", Level::Error),
            ("\x1b[2m\x1b[36mdebug\x1b[0m", Level::Debug),
            ("\x1b[32minfos\x1b[0m \x1b[é \x1b[", Level::Unknown),
            ("", Level::Unknown),
        ] {
            assert_eq!(scan(line), level, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|[{}\":=]|\\x1b\\[|error|level){0,30}") {
            detect(&text);
        }
    }
}
