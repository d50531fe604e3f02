//! Labels and annotations of alerts: what their templates see, and what they depend upon.

use model::{FloatHistogram, Labels};

/// What a template sees.
#[derive(Debug, Clone, Copy)]
pub struct TextData<'a> {
    /// `$labels`: those of the sample, its name included.
    pub labels: &'a Labels,
    /// `$externalLabels`.
    pub external_labels: &'a Labels,
    /// `$externalURL`.
    pub external_url: &'a str,
    /// `$value`.
    pub value: f64,
    /// `$value` of a histogram.
    pub histogram: Option<&'a FloatHistogram>,
    /// When the rule is evaluated, milliseconds since the epoch; queries of templates are asked for
    /// that time.
    pub at_ms: i64,
    /// What the rule asks.
    pub expression: &'a str,
    /// For which time that was asked: earlier, if the group has an offset.
    pub asked_at_ms: i64,
}

/// Expands templates. Queries that they ask are answered by whoever implements it.
pub trait Expand {
    /// The text of a label or annotation of the alert `alert`.
    ///
    /// # Errors
    /// What is wrong with the template or its data, as Go's templates say it.
    fn expand(&self, alert: &str, text: &str, data: &TextData<'_>) -> Result<String, String>;
}

/// What the outcome of a template depends upon; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depends {
    /// Nothing: it is no template.
    Nothing,
    /// The labels of the sample.
    Labels,
    /// Its value.
    Value,
    /// Anything, such as the answer to a query.
    Moment,
}

/// Words of templates whose outcome is the same for the same arguments.
const PURE: [&str; 68] = [
    "if",
    "else",
    "end",
    "range",
    "with",
    "define",
    "template",
    "block",
    "break",
    "continue",
    "nil",
    "true",
    "false",
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "html",
    "js",
    "urlquery",
    "call",
    "args",
    "tmpl",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "title",
    "toUpper",
    "toLower",
    "match",
    "reReplaceAll",
    "stripPort",
    "stripDomain",
    "parseDuration",
    "toDuration",
    "toTime",
    "graphLink",
    "tableLink",
    "externalURL",
    "pathPrefix",
    "safeHtml",
    "urlQueryEscape",
    "first",
    "label",
    "value",
    "strvalue",
    "sortByLabel",
    "labels",
    "Labels",
    "externalLabels",
    "ExternalLabels",
    "ExternalURL",
    "s",
    "d",
    "v",
];

/// What a text depends upon. What is not known for sure counts as depending on everything.
pub(super) fn depends(text: &str) -> Depends {
    if !text.contains("{{") {
        return Depends::Nothing;
    }
    let mut found = Depends::Labels;
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let Some(end) = rest[start..].find("}}") else { return Depends::Moment };
        found = found.max(of_action(&rest[start + 2..start + end]));
        rest = &rest[start + end + 2..];
    }
    found
}

/// What is between the braces of one action. Braces in its strings cut it short, and then its
/// quotes have no end.
fn of_action(action: &str) -> Depends {
    let mut found = Depends::Labels;
    let mut chars = action.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' | '\'' | '`' => {
                let mut is_closed = false;
                while let Some((_, inner)) = chars.next() {
                    if inner == '\\' && c != '`' {
                        chars.next();
                    } else if inner == c {
                        is_closed = true;
                        break;
                    }
                }
                if !is_closed {
                    return Depends::Moment;
                }
            }
            c if c.is_alphabetic() || c == '_' => {
                let mut end = at + c.len_utf8();
                while let Some((next, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_')
                {
                    end = next + c.len_utf8();
                }
                found = found.max(of_word(action, at, &action[at..end]));
            }
            '.' | '$' => {
                // All of the data at once: `.` or `$` with nothing behind it.
                let is_bare = chars.peek().is_none_or(|(_, c)| !(c.is_alphanumeric() || *c == '_'));
                let is_behind = action[..at]
                    .chars()
                    .next_back()
                    .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ')');
                if is_bare && !(c == '.' && is_behind) {
                    found = found.max(Depends::Value);
                }
            }
            _ => {}
        }
    }
    found
}

/// A word of an action: a field, a variable or a function.
fn of_word(action: &str, at: usize, word: &str) -> Depends {
    let before = action[..at].chars().next_back();
    match (before, word) {
        (Some('$'), "value") | (Some('.'), "Value") => Depends::Value,
        // Other variables were made of what is looked at where they are made, and fields belong to
        // what stands before them.
        (Some('$' | '.'), _) => Depends::Labels,
        (_, word) if PURE.contains(&word) => Depends::Labels,
        _ => Depends::Moment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_depends_upon_is_found() {
        for (text, want) in [
            ("plain } {", Depends::Nothing),
            ("Instance {{ $labels.instance }} down", Depends::Labels),
            ("{{ .Labels.job | title }} \"q\"", Depends::Labels),
            ("{{ if eq $labels.a \"query \\\" x\" }}y{{ else }}z{{ end }}", Depends::Labels),
            ("{{ $value }}", Depends::Value),
            ("{{ .Value | humanize }}", Depends::Value),
            ("{{ printf \"%.2f\" $value }}", Depends::Value),
            ("{{ template \"x\" . }}", Depends::Value),
            ("{{ with $ }}{{ .Labels }}{{ end }}", Depends::Value),
            ("{{ query \"up\" | first | value }}", Depends::Moment),
            ("{{ now }}", Depends::Moment),
            ("{{ nosuch }}", Depends::Moment),
            ("{{ \"}}\" }}", Depends::Moment),
            ("{{ unclosed", Depends::Moment),
        ] {
            assert_eq!(depends(text), want, "{text}");
        }
    }
}
