//! Scripts: where strings, comments and regular expressions begin and end, and values in them.

use std::ops::Range;

use crate::json;
use crate::value::Value;

use super::context::{Context, Slash, State};
use super::transition::{Step, expression};

/// Blanks of JavaScript.
fn is_blank(c: char) -> bool {
    matches!(
        c,
        '\u{c}' | '\n' | '\r' | '\t' | '\u{b}' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}'
                | '\u{2028}'
                | '\u{2029}'
                | '\u{202f}'
                | '\u{205f}'
                | '\u{3000}'
                | '\u{feff}'
    )
}

fn is_name_part(c: char) -> bool {
    c == '$' || c == '_' || c.is_ascii_alphanumeric()
}

/// What a slash begins behind `code`, before which it began `before`.
fn slash_after(code: &str, before: Slash) -> Slash {
    let code = code.trim_end_matches(is_blank);
    let Some(last) = code.chars().next_back() else { return before };
    match last {
        // `++` and `--` end an expression, `+` and `-` do not.
        '+' | '-' => {
            let run = code.len() - code.trim_end_matches(last).len();
            if run % 2 == 1 { Slash::Regexp } else { Slash::Division }
        }
        // `42.` is a number.
        '.' => {
            let digit = code[..code.len() - 1].ends_with(|c: char| c.is_ascii_digit());
            if digit { Slash::Division } else { Slash::Regexp }
        }
        ',' | '<' | '>' | '=' | '*' | '%' | '&' | '|' | '^' | '?' | '!' | '~' | '(' | '[' | ':'
        | ';' | '{' | '}' => Slash::Regexp,
        _ => {
            let name = &code[code.trim_end_matches(is_name_part).len()..];
            let precedes = matches!(
                name,
                "break"
                    | "case"
                    | "continue"
                    | "delete"
                    | "do"
                    | "else"
                    | "finally"
                    | "in"
                    | "instanceof"
                    | "return"
                    | "throw"
                    | "try"
                    | "typeof"
                    | "void"
            );
            if precedes { Slash::Regexp } else { Slash::Division }
        }
    }
}

/// The context behind the first mark of a script.
pub(super) fn code(mut context: Context, text: &str) -> (Context, usize) {
    let Some(at) = text.find(['"', '`', '\'', '/', '{', '}', '<', '-', '#']) else {
        context.slash = slash_after(text, context.slash);
        return (context, text.len());
    };
    context.slash = slash_after(&text[..at], context.slash);
    let rest = &text[at..];
    let mut end = at + 1;
    let mut comment = |context: &mut Context, state, len| {
        context.state = state;
        end = at + len;
    };
    match rest.as_bytes()[0] {
        b'"' => context = expression(context, State::JsDoubleQuoted),
        b'\'' => context = expression(context, State::JsSingleQuoted),
        b'`' => context = expression(context, State::JsTemplate),
        b'/' if rest.starts_with("//") => comment(&mut context, State::JsLineComment, 2),
        b'/' if rest.starts_with("/*") => comment(&mut context, State::JsBlockComment, 2),
        b'/' if context.slash == Slash::Regexp => context.state = State::JsRegexp,
        b'/' => context.slash = Slash::Regexp,
        b'<' if rest.starts_with("<!--") => comment(&mut context, State::JsHtmlOpenComment, 4),
        b'-' if rest.starts_with("-->") => comment(&mut context, State::JsHtmlCloseComment, 3),
        b'#' if rest.starts_with("#!") => comment(&mut context, State::JsLineComment, 2),
        b'{' => {
            if let Some(depth) = context.braces.last_mut() {
                *depth = depth.saturating_add(1);
            }
            context.slash = Slash::Regexp;
        }
        b'}' => match context.braces.last_mut() {
            Some(0) => {
                context.braces.pop();
                context.state = State::JsTemplate;
            }
            Some(depth) => {
                *depth -= 1;
                context.slash = Slash::Regexp;
            }
            None => context.slash = Slash::Regexp,
        },
        _ => {}
    }
    (context, end)
}

fn unfinished(text: &str) -> String {
    let quoted = model::quote::quote(text);
    format!("unfinished escape sequence in JS string: {quoted}")
}

/// The context behind a template between backquotes, or behind a `${` in it.
pub(super) fn template(mut context: Context, text: &str) -> Step {
    /// Templates inside templates that are followed.
    const MAX_BRACES: usize = 64;
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(at) = text[from..].find(['`', '\\', '$']).map(|at| from + at) {
        match bytes[at] {
            b'\\' => {
                let Some(escaped) = text[at + 1..].chars().next() else {
                    return Err(unfinished(text));
                };
                from = at + 1 + escaped.len_utf8();
                continue;
            }
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                if context.braces.len() == MAX_BRACES {
                    return Err(format!(
                        "templates of JavaScript are in one another more than {MAX_BRACES} deep"
                    ));
                }
                context.braces.push(0);
                context.state = State::Js;
                return Ok((context, at + 2));
            }
            b'`' => {
                context.state = State::Js;
                return Ok((context, at + 1));
            }
            _ => {}
        }
        from = at + 1;
    }
    Ok((context, text.len()))
}

/// The context behind a string or regular expression.
pub(super) fn delimited(mut context: Context, text: &str) -> Step {
    let marks: &[char] = match context.state {
        State::JsSingleQuoted => &['\\', '\''],
        State::JsRegexp => &['\\', '/', '[', ']'],
        _ => &['\\', '"'],
    };
    let bytes = text.as_bytes();
    let (mut from, mut in_charset) = (0, false);
    while let Some(at) = text[from..].find(marks).map(|at| from + at) {
        from = at + 1;
        match bytes[at] {
            b'\\' => {
                let Some(escaped) = text[at + 1..].chars().next() else {
                    return Err(unfinished(text));
                };
                from += escaped.len_utf8();
            }
            b'[' => in_charset = true,
            b']' => in_charset = false,
            mark => {
                // A tag in a regular expression is escaped, so its slash ends nothing.
                let is_tag = mark == b'/'
                    && at > 0
                    && bytes
                        .get(at - 1..at + 7)
                        .is_some_and(|tag| tag.eq_ignore_ascii_case(b"</script"));
                if !is_tag && !in_charset {
                    context.state = State::Js;
                    context.slash = Slash::Division;
                    return Ok((context, at + 1));
                }
            }
        }
    }
    if in_charset {
        let quoted = model::quote::quote(text);
        return Err(format!("unfinished JS regexp charset: {quoted}"));
    }
    Ok((context, text.len()))
}

/// Appends what was not written yet of a literal in which `<script`, `</script` and `<!--` would be
/// taken for tags. Yields how far is written.
pub(super) fn write_literal(
    text: &str,
    mut written: usize,
    range: Range<usize>,
    out: &mut String,
) -> usize {
    let bytes = text.as_bytes();
    for (open, _) in text[range.clone()].match_indices('<') {
        let open = range.start + open;
        let tag = &bytes[open + 1..range.end];
        let is_tag = ["script", "/script", "!--"].iter().any(|name| {
            tag.get(..name.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(name.as_bytes()))
        });
        if is_tag {
            out.push_str(&text[written..open]);
            out.push_str("\\x3C");
            written = open + 1;
        }
    }
    written
}

/// Whether the `type` of a `<script>` says that it is one.
pub(super) fn is_script_type(mime: &str) -> bool {
    let name = mime.split(';').next().unwrap_or_default().to_lowercase();
    matches!(
        name.trim(),
        "" | "application/ecmascript"
            | "application/javascript"
            | "application/json"
            | "application/ld+json"
            | "application/x-ecmascript"
            | "application/x-javascript"
            | "module"
            | "text/ecmascript"
            | "text/javascript"
            | "text/javascript1.0"
            | "text/javascript1.1"
            | "text/javascript1.2"
            | "text/javascript1.3"
            | "text/javascript1.4"
            | "text/javascript1.5"
            | "text/jscript"
            | "text/livescript"
            | "text/x-ecmascript"
            | "text/x-javascript"
    )
}

/// Values as an expression of a script.
pub(super) fn value(values: &[Value<'_>], joined: impl Fn() -> String, most: usize) -> String {
    let mut text = String::new();
    let outcome = match values {
        [value] if !json::has_text(value) => json::write(value, &mut text, most),
        _ => {
            json::write_text(&joined(), &mut text);
            Ok(())
        }
    };
    if let Err(problem) = outcome {
        let problem = problem.replace("*/", "* /").replace("<!--", "\\x3C!--");
        return format!(" /* {problem} */null ");
    }
    // Names and numbers must not run into what stands beside them.
    if text.starts_with(is_name_part) || text.ends_with(is_name_part) {
        return format!(" {text} ");
    }
    text
}

/// What a character becomes inside a literal of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    String,
    Template,
    Regexp,
}

/// A text inside a literal of a script.
pub(super) fn literal(text: &str, kind: Literal) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '`' if kind == Literal::Regexp => out.push('`'),
            '\0'..='\x1f' | '\u{2028}' | '\u{2029}' | '"' | '`' | '&' | '\'' | '+' | '<' | '>' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            '$' | '{' | '}' if kind == Literal::Template => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            '$' | '(' | ')' | '*' | '-' | '.' | '?' | '[' | ']' | '^' | '{' | '|' | '}'
                if kind == Literal::Regexp =>
            {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    if kind == Literal::Regexp && out.is_empty() {
        // Nothing between two slashes would be a comment.
        return "(?:)".to_owned();
    }
    out
}
