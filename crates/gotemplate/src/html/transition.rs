//! From one context to the next, by what the template itself writes.
//!
//! Source of the rules: Go's `html/template`, which names the standards they come from.

use super::attributes::{Content, content_of};
use super::context::{Attr, Context, Delim, Element, Slash, State, UrlPart};
use super::entities::unescape;
use super::{css, script};

/// A context and how many bytes led to it, at least one if there are any.
pub(super) type Step = Result<(Context, usize), String>;

const BLANKS: &[char] = &[' ', '\t', '\n', '\u{c}', '\r'];

/// The context behind the first part of `text`.
///
/// # Errors
/// It is no HTML that could be understood.
pub(super) fn after_text(context: Context, text: &str) -> Step {
    if context.delim == Delim::None {
        let (ended, at) = special_tag_end(&context, text);
        if at == 0 && ended {
            return Ok((Context::default(), 0));
        }
        // All up to a tag that ends the element.
        return transition(context, &text[..at]);
    }
    after_value(context, text)
}

/// The same inside the value of an attribute.
fn after_value(mut context: Context, text: &str) -> Step {
    let end = text.find(context.delim.ends()).unwrap_or(text.len());
    if context.delim == Delim::SpaceOrTagEnd {
        // Readers of HTML differ on what these mean there.
        if let Some(at) = text[..end].find(['"', '\'', '<', '=', '`']) {
            let mark = model::quote::quote(&text[at..=at]);
            let value = model::quote::quote(&text[..end]);
            return Err(format!("{mark} in unquoted attr: {value}"));
        }
    }
    if end == text.len() {
        // Still inside. What is written is what it means to scripts, styles and addresses.
        let decoded = unescape(text);
        let mut rest = decoded.as_str();
        while !rest.is_empty() {
            let (next, read) = transition(context, rest)?;
            if read == 0 {
                return Err("the value of an attribute cannot be understood".to_owned());
            }
            context = next;
            rest = &rest[read..];
        }
        return Ok((context, text.len()));
    }
    let is_script_type = context.state == State::Attr
        && context.element == Element::Script
        && context.attr == Attr::ScriptType;
    let element = if is_script_type && !script::is_script_type(&text[..end]) {
        Element::Other
    } else {
        context.element
    };
    let quote = usize::from(context.delim != Delim::SpaceOrTagEnd);
    Ok((Context::in_tag(element), end + quote))
}

pub(super) fn transition(context: Context, text: &str) -> Step {
    match context.state {
        State::Text => Ok(super::tags::text(context, text)),
        State::Tag => tag(context, text),
        State::AttrName => attr_name(context, text),
        State::AfterName => Ok(after_name(context, text)),
        State::BeforeValue => Ok(before_value(context, text)),
        State::HtmlComment => Ok(match text.find("-->") {
            Some(at) => (Context::default(), at + 3),
            None => (context, text.len()),
        }),
        State::Rcdata => {
            let (ended, at) = special_tag_end(&context, text);
            Ok((if ended { Context::default() } else { context }, at))
        }
        State::Attr => Ok((context, text.len())),
        State::Url | State::Srcset => Ok((url(context, text), text.len())),
        State::MetaContent => Ok(meta_content(context, text)),
        State::MetaContentUrl => Ok(match text.find(';') {
            Some(at) => (Context { state: State::MetaContent, ..context }, at + 1),
            None => (context, text.len()),
        }),
        State::Js => Ok(script::code(context, text)),
        State::JsDoubleQuoted | State::JsSingleQuoted | State::JsRegexp => {
            script::delimited(context, text)
        }
        State::JsTemplate => script::template(context, text),
        State::JsBlockComment => Ok(block_comment(context, text, State::Js)),
        State::CssBlockComment => Ok(block_comment(context, text, State::Css)),
        State::JsLineComment | State::JsHtmlOpenComment | State::JsHtmlCloseComment => {
            let ends = ['\n', '\r', '\u{2028}', '\u{2029}'];
            Ok(line_comment(context, text, &ends, State::Js))
        }
        State::CssLineComment => {
            Ok(line_comment(context, text, &['\n', '\u{c}', '\r'], State::Css))
        }
        State::Css => Ok(css::code(context, text)),
        State::CssDoubleQuoted
        | State::CssSingleQuoted
        | State::CssDoubleQuotedUrl
        | State::CssSingleQuotedUrl
        | State::CssUrl => css::string(context, text),
    }
}

fn skip_blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches(BLANKS).len()
}

/// Where an element ends that no other tag is in: whether it does, and where.
fn special_tag_end(context: &Context, text: &str) -> (bool, usize) {
    let name = context.element.name();
    // In literals and comments of scripts such a tag ends nothing: it is escaped.
    let hidden = context.element == Element::Script
        && (context.state.is_script_literal() || context.state.is_comment());
    if context.element == Element::Other || context.element == Element::Meta || hidden {
        return (false, text.len());
    }
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices("</") {
        let tag = &bytes[at + 2..];
        let is_named =
            tag.get(..name.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(name.as_bytes()));
        let ends = matches!(tag.get(name.len()), Some(b'>' | b' ' | b'\t' | b'\n' | 0xc | b'/'));
        if is_named && ends {
            return (true, at);
        }
    }
    (false, text.len())
}

fn tag(context: Context, text: &str) -> Step {
    let start = skip_blanks(text);
    let rest = &text[start..];
    if rest.is_empty() {
        return Ok((context, text.len()));
    }
    if rest.starts_with('>') {
        let element = context.element;
        if element == Element::Meta {
            // It has no end tag.
            return Ok((Context::default(), start + 1));
        }
        let inside = Context { state: element.content(), element, ..Context::default() };
        return Ok((inside, start + 1));
    }
    let len = attr_name_len(text, start)?;
    if len == 0 {
        let got = model::quote::quote(rest);
        return Err(format!("expected space, attr name, or end of tag, but got {got}"));
    }
    let name = rest[..len].to_lowercase();
    let attr = match (context.element, name.as_str()) {
        (Element::Script, "type") => Attr::ScriptType,
        (Element::Meta, "content") => Attr::MetaContent,
        (_, name) => match content_of(name) {
            Content::Url => Attr::Url,
            Content::Css => Attr::Style,
            Content::Js => Attr::Script,
            Content::Srcset => Attr::Srcset,
            Content::Plain | Content::Html | Content::Unsafe => Attr::Plain,
        },
    };
    let state = if len == rest.len() { State::AttrName } else { State::AfterName };
    let inside = Context { state, element: context.element, attr, ..Context::default() };
    Ok((inside, start + len))
}

fn attr_name(mut context: Context, text: &str) -> Step {
    let len = attr_name_len(text, 0)?;
    if len < text.len() {
        context.state = State::AfterName;
    }
    Ok((context, len))
}

/// How long the name of an attribute is that stands at `start`.
fn attr_name_len(text: &str, start: usize) -> Result<usize, String> {
    let rest = &text[start..];
    for (at, c) in rest.char_indices() {
        match c {
            ' ' | '\t' | '\n' | '\u{c}' | '\r' | '=' | '>' => return Ok(at),
            '\'' | '"' | '<' => {
                let mark = model::quote::quote(&rest[at..=at]);
                let shown: String = text.chars().take(32).collect();
                return Err(format!("{mark} in attribute name: {}", model::quote::quote(&shown)));
            }
            _ => {}
        }
    }
    Ok(rest.len())
}

fn after_name(mut context: Context, text: &str) -> (Context, usize) {
    let start = skip_blanks(text);
    match text[start..].chars().next() {
        None => (context, text.len()),
        Some('=') => {
            context.state = State::BeforeValue;
            (context, start + 1)
        }
        // The attribute has no value, or the tag ends.
        Some(_) => {
            context.state = State::Tag;
            (context, start)
        }
    }
}

fn before_value(mut context: Context, text: &str) -> (Context, usize) {
    let start = skip_blanks(text);
    let (delim, len) = match text[start..].chars().next() {
        None => return (context, text.len()),
        Some('\'') => (Delim::SingleQuote, 1),
        Some('"') => (Delim::DoubleQuote, 1),
        Some(_) => (Delim::SpaceOrTagEnd, 0),
    };
    context.state = context.attr.start();
    context.delim = delim;
    (context, start + len)
}

/// An address with more of it written.
pub(super) fn url(mut context: Context, text: &str) -> Context {
    if text.contains(['#', '?']) {
        context.url_part = UrlPart::QueryOrFragment;
    } else if skip_blanks(text) != text.len() && context.url_part == UrlPart::Start {
        context.url_part = UrlPart::PreQuery;
    }
    context
}

fn meta_content(mut context: Context, text: &str) -> (Context, usize) {
    let bytes = text.as_bytes();
    for at in 0..bytes.len().saturating_sub(3) {
        if bytes[at..at + 3].eq_ignore_ascii_case(b"url") {
            let rest = &text[at + 3..];
            let equals = at + 3 + skip_blanks(rest);
            if text[equals..].starts_with('=') {
                context.state = State::MetaContentUrl;
                return (context, equals + 1);
            }
        }
    }
    (context, text.len())
}

fn block_comment(mut context: Context, text: &str, outside: State) -> (Context, usize) {
    match text.find("*/") {
        Some(at) => {
            context.state = outside;
            (context, at + 2)
        }
        None => (context, text.len()),
    }
}

/// A comment up to the end of the line, which itself is not in it.
fn line_comment(
    mut context: Context,
    text: &str,
    ends: &[char],
    outside: State,
) -> (Context, usize) {
    match text.find(ends) {
        Some(at) => {
            context.state = outside;
            (context, at)
        }
        None => (context, text.len()),
    }
}

/// A slash that begins an expression.
pub(super) fn expression(mut context: Context, state: State) -> Context {
    context.state = state;
    context.slash = Slash::Regexp;
    context
}
