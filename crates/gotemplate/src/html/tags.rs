//! Tags in text, and text without its tags.

use super::context::{Context, Delim, Element, State};
use super::transition::transition;

/// The context behind the first tag or comment of text.
pub(super) fn text(context: Context, text: &str) -> (Context, usize) {
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let Some(at) = text[from..].find('<').map(|at| from + at) else {
            return (context, text.len());
        };
        if at + 1 == text.len() {
            return (context, text.len());
        }
        if text[at..].starts_with("<!--") {
            return (Context { state: State::HtmlComment, ..Context::default() }, at + 4);
        }
        let is_end = bytes[at + 1] == b'/';
        let name_at = at + 1 + usize::from(is_end);
        if name_at == text.len() {
            return (context, text.len());
        }
        let len = tag_name_len(&bytes[name_at..]);
        if len > 0 {
            let name = &text[name_at..name_at + len];
            let element = if is_end { Element::Other } else { Element::named(name) };
            return (Context::in_tag(element), name_at + len);
        }
        from = name_at;
    }
}

/// How long the name of a tag is that stands at the start; 0 if there is none.
fn tag_name_len(bytes: &[u8]) -> usize {
    if !bytes.first().is_some_and(u8::is_ascii_alphabetic) {
        return 0;
    }
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        let inside = byte.is_ascii_alphanumeric()
            // Names of foreign elements have these between other characters.
            || (matches!(byte, b':' | b'-')
                && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric));
        if !inside {
            break;
        }
        at += 1;
    }
    at
}

/// HTML without its tags and comments.
pub(super) fn stripped(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut context = Context::default();
    let (mut at, mut all_text) = (0, true);
    while at < html.len() {
        if context.delim == Delim::None {
            // Scripts and styles are passed over as text without tags is.
            let mut seen = context.clone();
            if context.element != Element::Other && !context.state.is_in_tag() {
                seen.state = State::Rcdata;
            }
            let rest = &html[at..];
            let Ok((next, read)) = transition(seen, rest) else { break };
            let end = at + read;
            if matches!(context.state, State::Text | State::Rcdata) {
                let mut bound = end;
                if next.state != context.state {
                    bound = html[at..end].rfind('<').map_or(end, |open| at + open);
                }
                out.push_str(&html[at..bound]);
            } else {
                all_text = false;
            }
            if read == 0 && next == context {
                break;
            }
            (context, at) = (next, end);
            continue;
        }
        let Some(end) = html[at..].find(context.delim.ends()) else { break };
        let quote = usize::from(context.delim != Delim::SpaceOrTagEnd);
        at += end + quote;
        context = Context::in_tag(context.element);
    }
    if all_text {
        return html.to_owned();
    }
    if matches!(context.state, State::Text | State::Rcdata) {
        out.push_str(&html[at..]);
    }
    out
}
