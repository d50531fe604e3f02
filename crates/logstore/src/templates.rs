//! Lines as templates and variables: what all lines of one kind have in common is written once, and what
//! differs is a column for each place where it does, written by what its values are like. Read again in
//! [`crate::template_lines`].

use codec::varint::{put_bytes, put_u64};
use hashbrown::HashMap;
use rapidhash::fast::RandomState;

use crate::column::NewColumn;
use crate::tokens::{Token, tokens};

/// Stands in a template for a variable. Lines that have it themselves are not written so.
pub(crate) const VARIABLE: u8 = 0;
/// Templates of a group; whoever has more is better compressed as a text.
pub(crate) const MAX_TEMPLATES: usize = 2_048;
/// Variables of one template.
pub(crate) const MAX_VARIABLES: usize = 256;

/// The part of a token that differs from line to line, if there is one: its digits, if letters before or behind
/// them are more than digits of another base, and otherwise all of it. Only bytes of
/// [`crate::tokens::is_of_token`] are in it; readers rely on that.
fn variable<'a>(token: &Token<'a>) -> Option<(usize, &'a [u8])> {
    let bytes = token.bytes;
    if !token.has_digit || !bytes.is_ascii() {
        return None;
    }
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let is_word = |part: &[u8]| part.iter().any(|byte| !byte.is_ascii_hexdigit());
    let leading = bytes.iter().take_while(|byte| is_digit(byte)).count();
    let behind = &bytes[leading..];
    if leading > 0 && !behind.iter().any(is_digit) && (behind.is_empty() || is_word(behind)) {
        return Some((token.start, &bytes[..leading]));
    }
    let first = bytes.iter().position(is_digit)?;
    if bytes[first..].iter().all(is_digit) && is_word(&bytes[..first]) {
        return Some((token.start + first, &bytes[first..]));
    }
    Some((token.start, bytes))
}

/// Lines of one template.
#[derive(Default)]
struct NewTemplate {
    rows: u32,
    variables: Vec<NewColumn>,
}

/// Appends lines, of which each begins where the one before ends, as templates; `false`, and nothing, if they
/// have too little in common.
pub(crate) fn encode<'a>(lines: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) -> bool {
    let mut numbers: HashMap<Vec<u8>, u32, RandomState> = HashMap::default();
    let mut templates: Vec<NewTemplate> = Vec::new();
    let mut of_lines = Vec::new();
    let (mut template, mut variables) = (Vec::new(), Vec::new());
    for line in lines {
        if memchr::memchr(VARIABLE, line).is_some() {
            return false;
        }
        template.clear();
        variables.clear();
        let mut end = 0;
        for (start, value) in tokens(line).filter_map(|token| variable(&token)) {
            let Ok(text) = std::str::from_utf8(value) else { return false };
            template.extend_from_slice(&line[end..start]);
            template.push(VARIABLE);
            variables.push(text);
            end = start + value.len();
        }
        template.extend_from_slice(&line[end..]);
        let number = match numbers.get(&template) {
            Some(number) => *number,
            None if templates.len() < MAX_TEMPLATES && variables.len() <= MAX_VARIABLES => {
                let number = templates.len() as u32;
                numbers.insert(template.clone(), number);
                let variables = variables.iter().map(|_| NewColumn::default()).collect();
                templates.push(NewTemplate { rows: 0, variables });
                number
            }
            None => return false,
        };
        let of_line = &mut templates[number as usize];
        for (column, value) in of_line.variables.iter_mut().zip(&variables) {
            column.push(of_line.rows, value);
        }
        of_line.rows += 1;
        of_lines.push(i64::from(number));
    }
    let mut texts: Vec<(u32, &[u8])> = numbers.iter().map(|(text, n)| (*n, &text[..])).collect();
    texts.sort_unstable();
    put_u64(out, texts.len() as u64);
    texts.iter().for_each(|(_, text)| put_bytes(out, text));
    codec::encode_i64s(&of_lines, out);
    let mut column = Vec::new();
    for NewTemplate { rows, variables } in &templates {
        for values in variables {
            column.clear();
            out.push(values.encode(*rows as usize, &mut column) as u8);
            put_bytes(out, &column);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::template_lines::TemplateLines;

    fn decode(input: &[u8], starts: &[u32]) -> Result<Vec<u8>, codec::CodecError> {
        let lines = TemplateLines::decode(input.to_vec(), starts.len() - 1)?;
        let mut all = Vec::new();
        for (row, bounds) in starts.windows(2).enumerate() {
            lines.write_line(row, bounds[1].wrapping_sub(bounds[0]) as usize, &mut all)?;
        }
        Ok(all)
    }

    fn check(lines: &[&[u8]]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        if !encode(lines.iter().copied(), &mut out) {
            assert!(out.is_empty(), "nothing is written");
            return None;
        }
        let mut starts = vec![0];
        for line in lines {
            starts.push(starts[starts.len() - 1] + line.len() as u32);
        }
        assert_eq!(decode(&out, &starts).expect("it was written so"), lines.concat());
        for (at, end) in starts.iter().enumerate().skip(1).filter(|(_, end)| **end > 0) {
            let mut other = starts.clone();
            other[at] = end - 1;
            assert!(decode(&out, &other).is_err(), "lines of other lengths");
        }
        Some(out)
    }

    #[test]
    fn what_differs_is_a_variable() {
        let of = |line: &str| {
            let found = tokens(line.as_bytes()).filter_map(|token| variable(&token));
            let text = |(start, value): (usize, &[u8])| {
                assert_eq!(&line.as_bytes()[start..start + value.len()], value);
                String::from_utf8(value.to_vec()).expect("ASCII")
            };
            found.map(text).collect::<Vec<String>>()
        };
        assert_eq!(of("took=123ms user_77 pod-12 7"), ["123", "77", "12", "7"]);
        assert_eq!(
            of("id=4bf92f35 12abcdef abcdef12 5d"),
            ["4bf92f35", "12abcdef", "abcdef12", "5d"]
        );
        assert_eq!(of("plain 失败9 x"), Vec::<String>::new());
    }

    #[test]
    fn lines_with_nothing_in_common_and_lines_with_zeros_are_left() {
        assert!(check(&[b"a 1", b"b\x002"]).is_none());
        let words = (0..MAX_TEMPLATES as u64 + 1).map(|n| {
            let letter = |at: u64| char::from(b'a' + (n >> (4 * at) & 15) as u8);
            (0..4).map(letter).collect::<String>().into_bytes()
        });
        let words: Vec<Vec<u8>> = words.collect();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        assert!(check(&words).is_none());
        assert!(check(&words[1..]).is_some());
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"took=".to_vec()),
            Just(b" status ".to_vec()),
            Just(vec![0xff, b' ']),
            "[0-9]{1,4}".prop_map(String::into_bytes),
            "[a-f0-9]{16}".prop_map(String::into_bytes),
            "[a-z]{0,2}[0-9]{0,2}(ms)?[失-]?".prop_map(String::into_bytes),
        ];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_lines_come_back(lines in prop::collection::vec(line(), 0..40)) {
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            prop_assert!(check(&lines).is_some());
        }

        #[test]
        fn damaged_templates_never_panic(
            lines in prop::collection::vec(line(), 1..9),
            at in any::<prop::sample::Index>(),
            byte: u8,
            noise in prop::collection::vec(any::<u8>(), 0..40),
            ends in prop::collection::vec(0_u32..50, 0..9),
        ) {
            let mut starts = vec![0];
            starts.extend(ends);
            starts.sort_unstable();
            let _ = decode(&noise, &starts);
            let mut out = Vec::new();
            if encode(lines.iter().map(Vec::as_slice), &mut out) {
                let at = at.index(out.len());
                out[at] = byte;
                let _ = decode(&out, &starts);
            }
        }
    }
}
