//! `print`, `println` and `printf`.
//!
//! Source: Go's `fmt` package. Verbs are `v s q d b o O x X c U e E f F g G t T`; widths and
//! precisions of more than a million are refused as Go refuses them. `%#v` shows Go's syntax of texts,
//! numbers and truths alone.

use std::fmt::Write as _;

use crate::budget::Budget;
use crate::value::{Value, write_float};
use model::quote::{quote, write_escaped};

type Outcome<'d> = Result<Value<'d>, String>;

/// No double has as many digits behind the point, or in all.
const MOST_DIGITS: usize = 1_100;
/// Larger widths and precisions are bad.
const MAX_WIDTH: usize = 1_000_000;

pub(crate) fn print<'d>(budget: &mut Budget, args: &[Value<'d>]) -> Outcome<'d> {
    let most = budget.limits().text_bytes;
    let mut out = String::new();
    let mut text_before = true;
    for (index, arg) in args.iter().enumerate() {
        let is_text = arg.as_text().is_some();
        // A blank stands between two that are no texts.
        if index > 0 && !is_text && !text_before {
            out.push(' ');
        }
        arg.write(&mut out, most);
        budget.allow(out.len())?;
        text_before = is_text;
    }
    budget.text(out)
}

pub(crate) fn println<'d>(budget: &mut Budget, args: &[Value<'d>]) -> Outcome<'d> {
    let most = budget.limits().text_bytes;
    let mut out = String::new();
    for (index, arg) in args.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        arg.write(&mut out, most);
        budget.allow(out.len())?;
    }
    out.push('\n');
    budget.text(out)
}

pub(crate) fn printf<'d>(budget: &mut Budget, args: &[Value<'d>]) -> Outcome<'d> {
    let format = args.first().and_then(Value::as_text).unwrap_or_default();
    let most = budget.limits().text_bytes;
    let mut out = String::new();
    let mut rest = format;
    let mut args = Args { all: args.get(1..).unwrap_or_default(), next: 0, reordered: false };
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = directive(&rest[at + 1..], &mut args, &mut out, most);
        budget.allow(out.len())?;
    }
    out.push_str(rest);
    if !args.reordered && args.next < args.all.len() {
        out.push_str("%!(EXTRA ");
        for (index, arg) in args.all[args.next..].iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            write_typed(arg, &mut out, most);
            budget.allow(out.len())?;
        }
        out.push(')');
    }
    budget.text(out)
}

struct Args<'a, 'd> {
    all: &'a [Value<'d>],
    next: usize,
    /// Whether the format names arguments by their numbers; then none is left over.
    reordered: bool,
}

impl<'a, 'd> Args<'a, 'd> {
    fn take(&mut self) -> Option<&'a Value<'d>> {
        let arg = self.all.get(self.next)?;
        self.next += 1;
        Some(arg)
    }

    /// Reads `[2]`, which makes the second argument the next. Yields what follows, and whether
    /// there is such an argument.
    fn numbered<'t>(&mut self, text: &'t str) -> (&'t str, bool) {
        let Some(inside) = text.strip_prefix('[') else { return (text, true) };
        self.reordered = true;
        let Some((number, rest)) = inside.split_once(']') else { return (inside, false) };
        match number.parse::<usize>() {
            Ok(number) if (1..=self.all.len()).contains(&number) => {
                self.next = number - 1;
                (rest, true)
            }
            _ => (rest, false),
        }
    }
}

#[derive(Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    /// `#` of `%#v`: as a source of Go has it.
    syntax: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Writes one directive; `text` is what follows its `%`. Yields what follows the directive.
fn directive<'t>(text: &'t str, args: &mut Args<'_, '_>, out: &mut String, most: usize) -> &'t str {
    let mut flags = Flags::default();
    let mut rest = text;
    loop {
        let flag = match rest.as_bytes().first() {
            Some(b'+') => &mut flags.plus,
            Some(b'-') => &mut flags.minus,
            Some(b'#') => &mut flags.sharp,
            Some(b' ') => &mut flags.space,
            Some(b'0') => &mut flags.zero,
            _ => break,
        };
        *flag = true;
        rest = &rest[1..];
    }
    let mut known = true;
    let mut number = |rest: &'t str, args: &mut Args<'_, '_>| {
        let (rest, found) = args.numbered(rest);
        known &= found;
        rest
    };
    rest = number(rest, args);
    (flags.width, rest) = size(rest, args, out, "%!(BADWIDTH)", &mut flags.minus);
    // What is padded beyond the limit is an error, however far.
    flags.width = flags.width.map(|width| width.min(most.saturating_add(1)));
    if let Some(after) = rest.strip_prefix('.') {
        let mut negative = false;
        let after = number(after, args);
        let (precision, tail) = size(after, args, out, "%!(BADPREC)", &mut negative);
        let precision = precision.unwrap_or(0).min(most.saturating_add(1));
        flags.precision = if negative { None } else { Some(precision) };
        rest = tail;
    }
    rest = number(rest, args);
    let Some(verb) = rest.chars().next() else {
        out.push_str("%!(NOVERB)");
        return "";
    };
    rest = &rest[verb.len_utf8()..];
    if verb == '%' {
        out.push('%');
        return rest;
    }
    if verb == 'v' {
        // These ask for names of fields and for types, which are not shown.
        (flags.syntax, flags.plus, flags.sharp) = (flags.sharp, false, false);
    }
    if !known {
        write!(out, "%!{verb}(BADINDEX)").expect("a string takes everything");
        return rest;
    }
    match args.take() {
        None => write!(out, "%!{verb}(MISSING)").expect("a string takes everything"),
        Some(arg) => write_verb(arg, verb, &flags, out, most),
    }
    rest
}

/// A number of a width or precision, `*` being an argument. Behind one that is too large Go reads no
/// further, so that nothing follows.
fn size<'t>(
    text: &'t str,
    args: &mut Args<'_, '_>,
    out: &mut String,
    problem: &str,
    negative: &mut bool,
) -> (Option<usize>, &'t str) {
    if let Some(rest) = text.strip_prefix('*') {
        let value = match args.take() {
            Some(Value::Int(value) | Value::Int64(value)) => {
                *negative |= *value < 0;
                usize::try_from(value.unsigned_abs()).ok().filter(|value| *value <= MAX_WIDTH)
            }
            _ => None,
        };
        if value.is_none() {
            out.push_str(problem);
        }
        return (value, rest);
    }
    let mut value = None;
    for (at, byte) in text.bytes().enumerate() {
        if !byte.is_ascii_digit() {
            return (value, &text[at..]);
        }
        let before = value.unwrap_or(0);
        if before > MAX_WIDTH {
            return (None, "");
        }
        value = Some(before * 10 + usize::from(byte - b'0'));
    }
    (value, "")
}

/// Appends `body`, padded to the width. `numeric` says whether zeros may pad it.
fn pad(out: &mut String, body: &str, flags: &Flags, numeric: bool) {
    let missing = flags.width.unwrap_or(0).saturating_sub(body.chars().count());
    if missing == 0 {
        out.push_str(body);
    } else if flags.minus {
        out.push_str(body);
        out.extend(std::iter::repeat_n(' ', missing));
    } else if numeric && flags.precision.is_some() && !body.contains(['.', 'e', 'E']) {
        // Of whole numbers, the precision says how many zeros there are.
        out.extend(std::iter::repeat_n(' ', missing));
        out.push_str(body);
    } else if flags.zero && numeric {
        let sign = usize::from(body.starts_with(['+', '-', ' ']));
        out.push_str(&body[..sign]);
        out.extend(std::iter::repeat_n('0', missing));
        out.push_str(&body[sign..]);
    } else {
        out.extend(std::iter::repeat_n(if flags.zero { '0' } else { ' ' }, missing));
        out.push_str(body);
    }
}

/// `type=value`, as errors tell arguments.
fn write_typed(arg: &Value<'_>, out: &mut String, most: usize) {
    if matches!(arg, Value::Nil) {
        out.push_str("<nil>");
        return;
    }
    out.push_str(arg.type_name());
    out.push('=');
    arg.write(out, most);
}

/// Appends the argument as the verb shows it, padded; of lists, maps and structs each part is.
fn write_verb(arg: &Value<'_>, verb: char, flags: &Flags, out: &mut String, most: usize) {
    if out.len() > most {
        return;
    }
    if verb == 'T' {
        let name = if matches!(arg, Value::Nil) { "<nil>" } else { arg.type_name() };
        let mut body = String::new();
        write_text(name, 's', flags, &mut body);
        return pad(out, &body, flags, false);
    }
    if !(has_text(arg) && shows_text(verb)) {
        match arg {
            Value::List(list) => {
                return write_parts(out, "[", list.items.iter(), "]", |value, out| {
                    write_verb(value, verb, flags, out, most);
                });
            }
            Value::Struct(value) => {
                return write_parts(out, "{", value.values.iter(), "}", |value, out| {
                    write_verb(value, verb, flags, out, most);
                });
            }
            Value::Map(map) => {
                return write_parts(out, "map[", map.entries.iter(), "]", |(key, value), out| {
                    write_verb(&Value::Text(key.clone()), verb, flags, out, most);
                    out.push(':');
                    write_verb(value, verb, flags, out, most);
                });
            }
            Value::Labels(labels) => {
                return write_parts(out, "map[", labels.iter(), "]", |(key, value), out| {
                    write_verb(&Value::text(*key), verb, flags, out, most);
                    out.push(':');
                    write_verb(&Value::text(*value), verb, flags, out, most);
                });
            }
            _ => {}
        }
    }
    let mut body = String::new();
    match write_leaf(arg, verb, flags, &mut body, most) {
        Some(numeric) => pad(out, &body, flags, numeric),
        None if matches!(arg, Value::Nil) => {
            write!(out, "%!{verb}(<nil>)").expect("a string takes everything");
        }
        None => {
            let name = arg.type_name();
            write!(out, "%!{verb}({name}=").expect("a string takes everything");
            // What has no such verb is told with the flags all the same.
            let mut body = String::new();
            let plain = match whole(arg) {
                Some(value) => {
                    write_integer(value, 'd', flags, &mut body);
                    Some(true)
                }
                None => write_leaf(arg, 'v', flags, &mut body, most),
            };
            let numeric = plain.unwrap_or(false);
            pad(out, &body, flags, numeric);
            out.push(')');
        }
    }
}

/// Appends parts with blanks between.
fn write_parts<T>(
    out: &mut String,
    open: &str,
    parts: impl Iterator<Item = T>,
    close: &str,
    mut write: impl FnMut(T, &mut String),
) {
    out.push_str(open);
    for (index, part) in parts.enumerate() {
        if index > 0 {
            out.push(' ');
        }
        write(part, out);
    }
    out.push_str(close);
}

/// Whether a value has a text of its own, which verbs of texts show.
fn has_text(arg: &Value<'_>) -> bool {
    matches!(arg, Value::Time(_) | Value::Duration(_) | Value::Month(_) | Value::Weekday(_))
        || arg.class().is_some_and(|class| class.text.is_some())
}

/// Whether a verb shows the text that a value has of its own.
fn shows_text(verb: char) -> bool {
    matches!(verb, 'v' | 's' | 'q' | 'x' | 'X')
}

/// Appends what is no list, map or struct as the verb shows it. Yields whether it is a number, or
/// `None` if there is no such verb for it; then nothing is appended.
fn write_leaf(
    arg: &Value<'_>,
    verb: char,
    flags: &Flags,
    out: &mut String,
    most: usize,
) -> Option<bool> {
    if has_text(arg) && shows_text(verb) {
        let mut text = String::new();
        arg.write(&mut text, most);
        let verb = if verb == 'v' { 's' } else { verb };
        return write_text(&text, verb, flags, out).then_some(false);
    }
    match arg {
        Value::Bool(value) if matches!(verb, 't' | 'v') => {
            out.push_str(if *value { "true" } else { "false" });
            Some(false)
        }
        Value::Float(value) => write_decimal(*value, verb, flags, out).then_some(true),
        Value::Nil if verb == 'v' => {
            out.push_str("<nil>");
            Some(false)
        }
        Value::List(_) | Value::Map(_) | Value::Labels(_) | Value::Struct(_) if verb == 'v' => {
            arg.write(out, most);
            Some(false)
        }
        _ => match (arg.as_text(), whole(arg)) {
            (Some(text), _) => write_text(text, verb, flags, out).then_some(false),
            (None, Some(value)) => write_integer(value, verb, flags, out)
                .then_some(matches!(verb, 'v' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X')),
            (None, None) => None,
        },
    }
}

/// An integer, whatever its type.
fn whole(value: &Value<'_>) -> Option<i128> {
    let signed = value.as_integer().map(i128::from);
    signed.or_else(|| value.as_unsigned().map(i128::from))
}

fn write_text(text: &str, verb: char, flags: &Flags, out: &mut String) -> bool {
    let cut = match flags.precision {
        Some(most) => text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end]),
        None => text,
    };
    match verb {
        'v' if flags.syntax => out.push_str(&quote(cut)),
        'v' | 's' => out.push_str(cut),
        'q' if flags.sharp && !cut.contains('`') => {
            out.push('`');
            out.push_str(cut);
            out.push('`');
        }
        'q' if flags.plus => {
            for c in quote(cut).chars() {
                let code = c as u32;
                let written = match code {
                    ..0x80 => {
                        out.push(c);
                        continue;
                    }
                    0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
                written.expect("a string takes everything");
            }
        }
        'q' => out.push_str(&quote(cut)),
        'x' | 'X' => {
            let bytes = text.as_bytes();
            let shown = &bytes[..bytes.len().min(flags.precision.unwrap_or(usize::MAX))];
            let prefix = if verb == 'x' { "0x" } else { "0X" };
            for (at, byte) in shown.iter().enumerate() {
                if flags.space && at > 0 {
                    out.push(' ');
                }
                if flags.sharp && (flags.space || at == 0) {
                    out.push_str(prefix);
                }
                let written =
                    if verb == 'x' { write!(out, "{byte:02x}") } else { write!(out, "{byte:02X}") };
                written.expect("a string takes everything");
            }
        }
        _ => return false,
    }
    true
}

fn write_integer(value: i128, verb: char, flags: &Flags, out: &mut String) -> bool {
    let magnitude = value.unsigned_abs();
    let (prefix, digits) = match verb {
        'v' | 'd' => ("", magnitude.to_string()),
        'b' => ("0b", format!("{magnitude:b}")),
        'o' => ("0", format!("{magnitude:o}")),
        'O' => ("0o", format!("{magnitude:o}")),
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        'c' => {
            let c = u32::try_from(value).ok().and_then(char::from_u32);
            out.push(c.unwrap_or(char::REPLACEMENT_CHARACTER));
            return true;
        }
        'q' => {
            let c = u32::try_from(value).ok().and_then(char::from_u32);
            out.push('\'');
            write_escaped(c.unwrap_or(char::REPLACEMENT_CHARACTER), '\'', out);
            out.push('\'');
            return true;
        }
        'U' => {
            // Negative ones wrap.
            let code = value as u64;
            write!(out, "U+{code:04X}").expect("a string takes everything");
            return true;
        }
        _ => return false,
    };
    write_sign(value < 0, flags, out);
    if flags.sharp || verb == 'O' {
        out.push_str(prefix);
    }
    let least = flags.precision.unwrap_or(0);
    out.extend(std::iter::repeat_n('0', least.saturating_sub(digits.len())));
    out.push_str(&digits);
    true
}

fn write_sign(negative: bool, flags: &Flags, out: &mut String) {
    if negative {
        out.push('-');
    } else if flags.plus {
        out.push('+');
    } else if flags.space {
        out.push(' ');
    }
}

fn write_decimal(value: f64, verb: char, flags: &Flags, out: &mut String) -> bool {
    if !matches!(verb, 'v' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') {
        return false;
    }
    if !value.is_finite() {
        let mut shown = String::new();
        write_float(&mut shown, value);
        out.push_str(if flags.plus { &shown } else { shown.trim_start_matches('+') });
        if value.is_infinite() && value > 0.0 && !flags.plus {
            // `%v` and its kin keep the sign of infinity.
            out.insert(0, '+');
        }
        return true;
    }
    write_sign(value.is_sign_negative(), flags, out);
    let value = value.abs();
    let body = match verb {
        'f' | 'F' => {
            let (places, zeros) = digits_and_zeros(flags.precision.unwrap_or(6));
            format!("{value:.places$}{}", "0".repeat(zeros))
        }
        'e' | 'E' => {
            let (places, zeros) = digits_and_zeros(flags.precision.unwrap_or(6));
            let body = format!("{value:.places$e}");
            let (digits, exponent) = body.split_once('e').unwrap_or((&body, "0"));
            go_exponent(&format!("{digits}{}e{exponent}", "0".repeat(zeros)))
        }
        _ => match flags.precision {
            None => {
                let mut shown = String::new();
                write_float(&mut shown, value);
                shown
            }
            Some(precision) => general(value, precision.max(1)),
        },
    };
    if matches!(verb, 'E' | 'G') {
        out.push_str(&body.to_uppercase())
    } else {
        out.push_str(&body)
    }
    true
}

/// How many of so many digits behind the point a double can fill, and how many zeros follow them. More digits than
/// a `u16` counts cannot be asked for at all.
fn digits_and_zeros(digits: usize) -> (usize, usize) {
    let filled = digits.min(MOST_DIGITS);
    (filled, digits - filled)
}

/// `1.5e2` as `1.5e+02`.
fn go_exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// A float as `%.4g` prints it, with as many digits.
pub fn general(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        let mut shown = String::new();
        write_float(&mut shown, value);
        return shown;
    }
    // Zeros at the end are not shown.
    let digits = digits.clamp(1, MOST_DIGITS);
    let scientific = format!("{value:.*e}", digits - 1);
    let exponent: i32 =
        scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    let without_zeros = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    let plain = i32::try_from(digits).unwrap_or(i32::MAX);
    if value != 0.0 && (exponent < -4 || exponent >= plain) {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        return go_exponent(&format!("{}e{exponent}", without_zeros(mantissa)));
    }
    let places = usize::try_from(plain - 1 - exponent).unwrap_or(0);
    without_zeros(&format!("{value:.places$}"))
}
