//! What functions of templates work with besides their arguments.

use model::regex::Finder;

use super::value::Value;

/// Longest text a template may make, at any place of it.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 20;

/// Bytes of text all functions of one execution may make together.
const MAX_MADE_BYTES: usize = 32 << 20;

/// Steps one execution may take: commands, nodes and rounds of loops.
const MAX_STEPS: u32 = 100_000;

/// Expressions that are kept compiled.
const MAX_EXPRESSIONS: usize = 32;

/// Expressions templates have used, compiled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expressions {
    known: Vec<(String, Finder)>,
}

impl Expressions {
    /// The expression `text`; compiled once while few are in use.
    pub(crate) fn get(&mut self, text: &str) -> Result<&Finder, String> {
        let at = match self.known.iter().position(|(known, _)| known == text) {
            Some(at) => at,
            None => {
                let finder = Finder::new(text).map_err(|error| error.to_string())?;
                if self.known.len() == MAX_EXPRESSIONS {
                    self.known.remove(0);
                }
                self.known.push((text.to_owned(), finder));
                self.known.len() - 1
            }
        };
        Ok(&self.known[at].1)
    }
}

/// The line at hand, the clock, and what one execution may still use.
pub(crate) struct Calls<'d> {
    pub(crate) line: &'d str,
    /// All labels by name, in order; empty if the template cannot reach them all.
    pub(crate) labels: &'d [(&'d str, &'d str)],
    pub(crate) timestamp_ns: i64,
    pub(crate) now_ns: i64,
    pub(crate) expressions: &'d mut Expressions,
    steps: u32,
    made_bytes: usize,
}

impl<'d> Calls<'d> {
    pub(crate) fn new(
        line: &'d str,
        labels: &'d [(&'d str, &'d str)],
        timestamp_ns: i64,
        now_ns: i64,
        expressions: &'d mut Expressions,
    ) -> Self {
        Calls { line, labels, timestamp_ns, now_ns, expressions, steps: 0, made_bytes: 0 }
    }

    pub(crate) fn is_true(&self, value: &Value<'_>) -> bool {
        value.is_true(!self.labels.is_empty())
    }

    /// Counts a step.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(format!("the template takes more than {MAX_STEPS} steps; loop less"));
        }
        Ok(())
    }

    /// A text a function made, if it may.
    pub(crate) fn text(&mut self, text: String) -> Result<Value<'d>, String> {
        self.made_bytes += text.len();
        self.allow(text.len())?;
        Ok(Value::text(text))
    }

    /// Whether a text of `len` bytes may be made.
    pub(crate) fn allow(&self, len: usize) -> Result<(), String> {
        if len > MAX_TEXT_BYTES {
            return Err(format!(
                "the template makes a text of more than {MAX_TEXT_BYTES} bytes; repeat or pad less"
            ));
        }
        if self.made_bytes > MAX_MADE_BYTES {
            return Err(format!(
                "the template makes more than {MAX_MADE_BYTES} bytes of text; loop less"
            ));
        }
        Ok(())
    }
}

/// The text at a place; arguments were checked before.
pub(crate) fn text_at<'a>(args: &'a [Value<'_>], at: usize) -> &'a str {
    match args.get(at) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

/// The integer at a place; arguments were checked before.
pub(crate) fn integer_at(args: &[Value<'_>], at: usize) -> i64 {
    match args.get(at) {
        Some(Value::Int(value)) => *value,
        _ => 0,
    }
}
