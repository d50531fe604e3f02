//! Functions on texts.

use gotemplate::Value;

use super::calls::{Calls, integer_at, text_at};

type Outcome<'d> = Result<Value<'d>, String>;

pub(crate) fn lower<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    calls.text(gotemplate::lower(text_at(args, 0)))
}

pub(crate) fn upper<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    calls.text(gotemplate::upper(text_at(args, 0)))
}

pub(crate) fn title<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    calls.text(gotemplate::title(text_at(args, 0)))
}

pub(crate) fn replace_all<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    replace(calls, text_at(args, 2), text_at(args, 0), text_at(args, 1), -1)
}

pub(crate) fn replace_some<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    replace(calls, text_at(args, 0), text_at(args, 1), text_at(args, 2), integer_at(args, 3))
}

/// Replaces the first `most` places, all if that is negative.
fn replace<'d>(
    calls: &mut Calls<'_, 'd>,
    text: &str,
    old: &str,
    new: &str,
    most: i64,
) -> Outcome<'d> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let count = text.matches(old).count().min(most);
    calls.allow(text.len().saturating_add(count.saturating_mul(new.len())))?;
    calls.text(text.replacen(old, new, count))
}

pub(crate) fn trim<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    calls.text(text_at(args, 0).trim().to_owned())
}

/// `trimAll set text`
pub(crate) fn trim_all<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let set = text_at(args, 0);
    calls.text(text_at(args, 1).trim_matches(|c| set.contains(c)).to_owned())
}

/// `Trim text set` and its siblings.
pub(crate) fn trim_set<'d>(
    calls: &mut Calls<'_, 'd>,
    args: &[Value<'d>],
    left: bool,
    right: bool,
) -> Outcome<'d> {
    let set = text_at(args, 1);
    let mut text = text_at(args, 0);
    if left {
        text = text.trim_start_matches(|c| set.contains(c));
    }
    if right {
        text = text.trim_end_matches(|c| set.contains(c));
    }
    calls.text(text.to_owned())
}

/// Cuts a prefix; `text` and `prefix` tell the places of the arguments.
pub(crate) fn trim_prefix<'d>(
    calls: &mut Calls<'_, 'd>,
    args: &[Value<'d>],
    text: usize,
    prefix: usize,
) -> Outcome<'d> {
    let text = text_at(args, text);
    calls.text(text.strip_prefix(text_at(args, prefix)).unwrap_or(text).to_owned())
}

/// Cuts a suffix; `text` and `suffix` tell the places of the arguments.
pub(crate) fn trim_suffix<'d>(
    calls: &mut Calls<'_, 'd>,
    args: &[Value<'d>],
    text: usize,
    suffix: usize,
) -> Outcome<'d> {
    let text = text_at(args, text);
    calls.text(text.strip_suffix(text_at(args, suffix)).unwrap_or(text).to_owned())
}

/// `contains part text` and its siblings.
pub(crate) fn test<'d>(
    _: &mut Calls<'_, 'd>,
    args: &[Value<'d>],
    holds: fn(&str, &str) -> bool,
) -> Outcome<'d> {
    Ok(Value::Bool(holds(text_at(args, 1), text_at(args, 0))))
}

/// `trunc 3 text`: the first characters, or, negative, the last.
pub(crate) fn truncate<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let (count, text) = (integer_at(args, 0), text_at(args, 1));
    let cut =
        if count < 0 { last_chars(text, count.unsigned_abs()) } else { first_chars(text, count) };
    calls.text(cut.to_owned())
}

fn first_chars(text: &str, count: i64) -> &str {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let end = text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn last_chars(text: &str, count: u64) -> &str {
    match usize::try_from(count) {
        Ok(0) => "",
        Ok(count) => {
            let start = text.char_indices().rev().nth(count - 1).map_or(0, |(at, _)| at);
            &text[start..]
        }
        Err(_) => text,
    }
}

/// `substr from to text`, in characters. A negative `from` is the start, a negative `to` the end,
/// both together nothing.
pub(crate) fn substring<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let (from, to, text) = (integer_at(args, 0), integer_at(args, 1), text_at(args, 2));
    let part = if from < 0 && to < 0 {
        ""
    } else {
        let head = if to < 0 { text } else { first_chars(text, to) };
        let skipped = usize::try_from(from).unwrap_or(0);
        head.char_indices().nth(skipped).map_or("", |(at, _)| &head[at..])
    };
    calls.text(part.to_owned())
}

/// `alignLeft 8 text`: cut or padded at its end.
pub(crate) fn align_left<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let (width, text) = (integer_at(args, 0), text_at(args, 1));
    let Ok(width) = usize::try_from(width) else { return calls.text(text.to_owned()) };
    let len = text.chars().count();
    if len >= width {
        return calls.text(first_chars(text, integer_at(args, 0)).to_owned());
    }
    calls.allow(text.len() + (width - len))?;
    let padded = format!("{text}{}", " ".repeat(width - len));
    calls.text(padded)
}

/// `alignRight 8 text`: cut or padded at its start.
pub(crate) fn align_right<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let (width, text) = (integer_at(args, 0), text_at(args, 1));
    let Ok(width) = usize::try_from(width) else { return calls.text(text.to_owned()) };
    let len = text.chars().count();
    if len >= width {
        return calls.text(last_chars(text, width as u64).to_owned());
    }
    calls.allow(text.len() + (width - len))?;
    let padded = format!("{}{text}", " ".repeat(width - len));
    calls.text(padded)
}

/// `indent 4 text`: blanks before each row, behind `start`.
pub(crate) fn indent<'d>(
    calls: &mut Calls<'_, 'd>,
    args: &[Value<'d>],
    start: &str,
) -> Outcome<'d> {
    let text = text_at(args, 1);
    let Ok(count) = usize::try_from(integer_at(args, 0)) else {
        return Err("strings: negative Repeat count".to_owned());
    };
    let rows = 1 + text.matches('\n').count();
    calls.allow(rows.saturating_mul(count).saturating_add(text.len()))?;
    let pad = " ".repeat(count);
    calls.text(format!("{start}{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

pub(crate) fn repeat<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let text = text_at(args, 1);
    let Ok(count) = usize::try_from(integer_at(args, 0)) else {
        return Err("strings: negative Repeat count".to_owned());
    };
    calls.allow(text.len().saturating_mul(count))?;
    // Even of nothing so many could be asked for that counting takes long.
    let count = if text.is_empty() { 0 } else { count };
    calls.text(text.repeat(count))
}

/// `count expression text`: how often the expression matches.
pub(crate) fn count<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let (expression, text) = (text_at(args, 0), text_at(args, 1));
    Ok(Value::Int(calls.expressions.count(expression, text, &mut calls.budget)?))
}

/// `regexReplaceAll expression text replacement`
pub(crate) fn regex_replace<'d>(calls: &mut Calls<'_, 'd>, args: &[Value<'d>]) -> Outcome<'d> {
    let (expression, text, new) = (text_at(args, 0), text_at(args, 1), text_at(args, 2));
    let replaced = calls.expressions.replace(expression, text, new, &mut calls.budget)?;
    calls.text(replaced)
}

/// `regexReplaceAllLiteral expression text replacement`
pub(crate) fn regex_replace_literal<'d>(
    calls: &mut Calls<'_, 'd>,
    args: &[Value<'d>],
) -> Outcome<'d> {
    let (expression, text, new) = (text_at(args, 0), text_at(args, 1), text_at(args, 2));
    let replaced = calls.expressions.replace_literal(expression, text, new, &mut calls.budget)?;
    calls.text(replaced)
}
