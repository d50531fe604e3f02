//! What is wrong with a file, where, and what to do.

use std::fmt;
use std::sync::Arc;

use crate::secret::REDACTED;
use crate::suggestion::nearest;

/// Longest part of a source line that is shown, in characters.
const MAX_SHOWN: usize = 160;

/// How many bytes around a place are looked at to show it.
const LOOK_BACK: usize = 4_096;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file is used, but a part of it cannot work as it is written.
    Mistake,
    /// The file is used, but something in it has no effect.
    Warning,
}

/// One thing wrong with a file.
///
/// `Display` gives one line, `file:line:column: message`; [`Diagnostic::render`] adds the source
/// with a caret and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file as the user named it.
    pub file: Arc<str>,
    /// From 1; 0 if the fault is about the whole file.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, in Prometheus' own words where it has some.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The line it stands on, without values that are secret, cut around the place.
    excerpt: String,
    /// Where in the excerpt the place is, in characters.
    caret: usize,
    /// How many characters the caret underlines.
    width: usize,
}

impl Diagnostic {
    /// A fault of the whole file, such as one that cannot be read.
    pub fn of_file(file: &str, message: impl Into<String>, help: Option<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            file: Arc::from(file),
            line: 0,
            column: 0,
            message: message.into(),
            help,
            excerpt: String::new(),
            caret: 0,
            width: 0,
        }
    }

    /// A fault at the bytes `start..end` of `text`.
    pub(crate) fn at(
        source: &Source,
        (start, end): (usize, usize),
        message: String,
        help: Option<String>,
    ) -> Self {
        let start = floor_boundary(&source.text, start);
        let end = floor_boundary(&source.text, end).max(start);
        let line_start = source.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let tail = &source.text[line_start..];
        let line_text = tail.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let line = source.text[..start].bytes().filter(|b| *b == b'\n').count() + 1;
        let column = source.text[line_start..start].chars().count() + 1;
        let on_line = end.min(line_start + line_text.len()).max(start);
        // The place may be the end of the line itself.
        let at = (start - line_start).min(line_text.len());
        let (excerpt, caret) = excerpt(line_text, at);
        Diagnostic {
            severity: Severity::Error,
            file: Arc::clone(&source.file),
            line,
            column,
            message,
            help,
            excerpt,
            caret,
            width: source.text[start..on_line].chars().take(MAX_SHOWN).count().max(1),
        }
    }

    /// The same with another severity.
    #[must_use]
    pub fn with_severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same place with another message.
    #[must_use]
    pub(crate) fn saying(&self, message: String, help: &str) -> Self {
        Diagnostic { message, help: Some(help.to_owned()), ..self.clone() }
    }

    /// Several lines for a person:
    ///
    /// ```text
    /// prometheus.yml:2:3: error: field scrape_intervall not found in type config.plain
    ///   2 |   scrape_intervall: 15s
    ///     |   ^^^^^^^^^^^^^^^^
    ///     = help: did you mean `scrape_interval`?
    /// ```
    pub fn render(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Mistake => "mistake",
            Severity::Warning => "warning",
        };
        let mut out = if self.line == 0 {
            format!("{}: {severity}: {}\n", self.file, self.message)
        } else {
            format!("{}:{}:{}: {severity}: {}\n", self.file, self.line, self.column, self.message)
        };
        let gutter = self.line.to_string().len().max(3);
        if self.line > 0 {
            let (shown, caret) = self.excerpt_and_caret();
            out.push_str(&format!("{:>gutter$} | {shown}\n", self.line));
            out.push_str(&format!("{:gutter$} | {caret}\n", ""));
        }
        if let Some(help) = &self.help {
            let indent = format!("\n{:gutter$}         ", "");
            let help = help.replace('\n', &indent);
            out.push_str(&format!("{:gutter$} = help: {help}\n", ""));
        }
        out
    }

    /// The line as it is shown, and the line below it.
    fn excerpt_and_caret(&self) -> (String, String) {
        let shown: String = self.excerpt.chars().map(visible).collect();
        let mut caret: String = self.excerpt.chars().take(self.caret).map(blank_like).collect();
        let underlined = self.excerpt.chars().skip(self.caret).take(self.width);
        let columns = underlined.map(|c| if is_wide(c) { 2 } else { 1 }).sum::<usize>().max(1);
        caret.push_str(&"^".repeat(columns));
        (shown, caret)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
        }
    }
}

/// Everything wrong with a configuration; never empty.
///
/// `Display` says on one line what Prometheus would say, with the places added;
/// [`Faults::render`] is for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    faults: Vec<Diagnostic>,
}

impl Faults {
    /// Takes faults in the order they are to be shown.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(faults: Vec<Diagnostic>) -> Self {
        assert!(!faults.is_empty(), "without a fault there is nothing to report");
        Faults { faults }
    }

    /// The faults.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.faults.iter()
    }

    /// All faults with source, caret and remedy.
    pub fn render(&self) -> String {
        self.faults.iter().map(Diagnostic::render).collect::<Vec<_>>().join("\n")
    }
}

impl From<Diagnostic> for Faults {
    fn from(fault: Diagnostic) -> Self {
        Faults { faults: vec![fault] }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut file: Option<&str> = None;
        for fault in &self.faults {
            if file.is_some() {
                f.write_str("; ")?;
            }
            if file != Some(&*fault.file) {
                file = Some(&*fault.file);
                write!(f, "parsing YAML file {}: ", fault.file)?;
            }
            // What yaml.v2 finds itself comes under its own heading.
            let of_shape = ["cannot unmarshal ", "field "];
            if of_shape.iter().any(|start| fault.message.starts_with(start)) {
                f.write_str("yaml: unmarshal errors: ")?;
            }
            f.write_str(&fault.message)?;
            if fault.line > 0 {
                write!(f, " (line {}, column {})", fault.line, fault.column)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A file's name and text, as places refer to them.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: Arc<str>,
    pub(crate) text: String,
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What is shown of a line, and at which character the place is; `at` is its byte.
///
/// Lines may be megabytes long, so only what lies around the place is looked at. A key before it
/// may name a secret whose end would be shown: where the beginning of the line is too far away to
/// know, nothing before the place is shown.
fn excerpt(line: &str, at: usize) -> (String, usize) {
    let far = at > LOOK_BACK;
    let from = if far { at } else { 0 };
    let to = floor_boundary(line, at.saturating_add(LOOK_BACK));
    let text = without_secrets(&line[from..to]);
    let caret = line[from..at].chars().count().min(text.chars().count());
    let skipped = caret.saturating_sub(MAX_SHOWN / 2);
    let mut shown = String::new();
    if far || skipped > 0 {
        shown.push('…');
    }
    let mut rest = text.chars().skip(skipped);
    shown.extend(rest.by_ref().take(MAX_SHOWN));
    if rest.next().is_some() || to < line.len() {
        shown.push('…');
    }
    (shown, caret - skipped + usize::from(far || skipped > 0))
}

/// Keys after which a value is never shown, and words a longer key ends in.
const SECRET_KEYS: [&str; 9] = [
    "password",
    "passphrase",
    "secret",
    "secrets",
    "token",
    "credentials",
    "key",
    "auth",
    "cookie",
];

/// Cuts a line after a key that names a secret, and hides a password inside a URL.
///
/// Works on the text alone, because a line must also be shown when the file is no YAML at all.
fn without_secrets(line: &str) -> String {
    let mut search = 0;
    while let Some(found) = line[search..].find([':', '=']) {
        let colon = search + found;
        search = colon + 1;
        let key = line[..colon].trim_end_matches(['"', '\'', ' ']);
        let start = key
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .map_or(0, |at| at + key[at..].chars().next().map_or(1, char::len_utf8));
        let key = key[start..].to_ascii_lowercase();
        let value = line[colon + 1..].trim();
        if names_secret(&key) && !value.is_empty() && !value.starts_with('#') {
            return format!("{} {REDACTED}", &line[..=colon]);
        }
    }
    hide_url_passwords(line)
}

fn hide_url_passwords(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail.find(['/', '?', '#', ' ', '"', '\'', ',']).unwrap_or(tail.len());
        let authority = &tail[..end];
        match authority
            .rsplit_once('@')
            .and_then(|(user, host)| Some((user.split_once(':')?, host)))
        {
            Some(((user, _), host)) => out.push_str(&format!("{user}:xxxxx@{host}")),
            None => out.push_str(authority),
        }
        rest = &tail[end..];
    }
    out.push_str(rest);
    out
}

/// Whether a key names a secret, or was meant to: a slip of the pen must not show the value.
fn names_secret(key: &str) -> bool {
    let is_path = ["_file", "_path", "_ref"].iter().any(|end| key.ends_with(end));
    let exact = SECRET_KEYS
        .iter()
        .any(|word| key == *word || key.strip_suffix(word).is_some_and(|rest| rest.ends_with('_')));
    let usual = ["password", "credentials", "client_secret", "bearer_token", "secret_key"];
    exact || (!is_path && nearest(key, usual).is_some())
}

/// Control characters would move the cursor of a terminal.
fn visible(c: char) -> char {
    match c {
        '\t' => '\t',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// A blank as wide as `c`.
fn blank_like(c: char) -> char {
    match c {
        '\t' => '\t',
        c if is_wide(c) => '\u{3000}',
        _ => ' ',
    }
}

/// Whether a terminal gives `c` two columns (Unicode annex 11, the large blocks).
fn is_wide(c: char) -> bool {
    matches!(c as u32,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, needle: &str) -> String {
        let source = Source { file: Arc::from("f.yml"), text: text.to_owned() };
        let start = text.find(needle).expect("the needle is in the text");
        let span = (start, start + needle.len());
        Diagnostic::at(&source, span, "wrong".to_owned(), Some("mend it".to_owned())).render()
    }

    #[test]
    fn shows_the_place() {
        assert_eq!(
            at("a: 1\n  bc: 2\r\n", "bc"),
            "f.yml:2:3: error: wrong\n  2 |   bc: 2\n    |   ^^\n    = help: mend it\n"
        );
        assert_eq!(
            at("名前: 測試\n", "測試"),
            "f.yml:1:5: error: wrong\n  1 | 名前: 測試\n    | \u{3000}\u{3000}  ^^^^\n    = help: mend it\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}needle{}", "x".repeat(5_000), "y".repeat(5_000));
        let shown = at(&text, "needle");
        assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
        assert!(shown.contains("needle") && shown.contains("^^^^^^\n"), "{shown}");
    }

    #[test]
    fn secrets_are_not_shown() {
        for line in [
            "password: canary",
            "- {user: x, \"client_secret\": canary}",
            "    bearer_token: 'canary'",
            "url: http://user:canary@host/path",
            "secrets: [canary]",
            "passwrd: canary",
            "BearerToken: canary",
        ] {
            let shown = at(&format!("{line}\n"), &line[..4]);
            assert!(!shown.contains("canary"), "{shown}");
        }
        let one_line = format!("{{key: {}canary, bad: 1}}", "x".repeat(LOOK_BACK));
        assert!(!at(&one_line, "bad").contains("canary"));
        assert!(at("password_file: /path\n", "pass").contains("/path"));
    }
}
