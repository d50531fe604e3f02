//! Which lines of a group hold a text, by what their templates say of it: what stands in the fixed part of a template is
//! in all of its lines, what fits neither there nor into a variable in none. Of other lines no more is put together
//! than the part in which the text can be.

use std::ops::Range;

use codec::CodecError;
use memchr::memmem::Finder;

use crate::column::ColumnKind;
use crate::template_lines::{Template, TemplateLines};
use crate::templates::VARIABLE;
use crate::texts::AnyOf;
use crate::tokens::is_of_token;
use crate::value_text::MAX_NUMBER_LEN;

/// What a template says of a text that is searched.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All of its lines have it.
    Always,
    /// None has.
    Never,
    /// It is in a line if it is in one of these columns.
    Within(Vec<u32>),
    /// It is in a line if it is in what the line has for this part of the template.
    Across(Range<usize>),
}

/// A text that is searched, and in which values of which columns it was found.
struct Searched<'n> {
    finder: &'n Finder<'static>,
    /// By column, when somebody wanted to know it: places in ascending order.
    found: Vec<Option<Vec<usize>>>,
}

/// What a template says of all that is wanted.
enum Judged {
    /// No line of it has that.
    Never,
    /// A line has it if of each of these it has one; what each line has is left out. With numbers of texts.
    MayHave(Vec<Vec<(usize, Verdict)>>),
}

/// A search over some rows of a group.
struct Search<'g, 'n> {
    lines: &'g TemplateLines,
    times: &'g [i64],
    rows: Range<u32>,
    texts: Vec<Searched<'n>>,
}

/// Rows among `rows` whose lines hold what is wanted, ascending. `times` are those of all rows.
pub(crate) fn rows_with(
    lines: &TemplateLines,
    needles: &[AnyOf],
    rows: Range<u32>,
    times: &[i64],
) -> Result<Vec<u32>, CodecError> {
    let texts = needles.iter().flat_map(AnyOf::texts);
    let texts = texts.map(|text| Searched { finder: &text.finder, found: Vec::new() }).collect();
    let mut search = Search { lines, times, rows: rows.clone(), texts };
    let mut judged: Vec<Option<Judged>> = Vec::new();
    judged.resize_with(lines.templates.len(), || None);
    let (mut found, mut part) = (Vec::new(), Vec::new());
    for row in rows {
        let number = usize::from(lines.of_rows[row as usize]);
        let of_template = match &mut judged[number] {
            Some(judged) => judged,
            unknown => unknown.insert(search.judge_all(&lines.templates[number], needles)?),
        };
        let Judged::MayHave(open) = of_template else { continue };
        let mut has_all = true;
        for alternatives in open.iter() {
            has_all = false;
            for (text, verdict) in alternatives {
                if search.is_in(row as usize, *text, verdict, &mut part)? {
                    has_all = true;
                    break;
                }
            }
            if !has_all {
                break;
            }
        }
        if has_all {
            found.push(row);
        }
    }
    Ok(found)
}

impl Search<'_, '_> {
    fn judge_all(&mut self, template: &Template, needles: &[AnyOf]) -> Result<Judged, CodecError> {
        let (mut open, mut text) = (Vec::new(), 0);
        for needle in needles {
            let (mut alternatives, mut is_always) = (Vec::new(), false);
            for _ in needle.texts() {
                match self.judge(template, text)? {
                    Verdict::Always => is_always = true,
                    Verdict::Never => {}
                    verdict => alternatives.push((text, verdict)),
                }
                text += 1;
            }
            if is_always {
                continue;
            }
            if alternatives.is_empty() {
                return Ok(Judged::Never);
            }
            open.push(alternatives);
        }
        Ok(Judged::MayHave(open))
    }

    /// What a template says of a text.
    fn judge(&mut self, template: &Template, text: usize) -> Result<Verdict, CodecError> {
        let finder = self.texts[text].finder;
        // A template has no byte that is VARIABLE but for variables, and no variable has it.
        if finder.find(&template.text).is_some() && !finder.needle().contains(&VARIABLE) {
            return Ok(Verdict::Always);
        }
        let places = match reach(&template.text, finder.needle()) {
            Reach::Nowhere => return Ok(Verdict::Never),
            Reach::Across(part) => return Ok(Verdict::Across(part)),
            Reach::Within(places) => places,
        };
        let mut columns = Vec::new();
        for variable in &template.variables {
            if places.binary_search(&(variable.at as usize)).is_ok()
                && !self.find(text, variable.column)?.is_empty()
            {
                columns.push(variable.column);
            }
        }
        Ok(if columns.is_empty() { Verdict::Never } else { Verdict::Within(columns) })
    }

    /// The values of a column that hold a text, of the rows in question.
    fn find(&mut self, text: usize, column: u32) -> Result<&[usize], CodecError> {
        let Searched { finder, found } = &mut self.texts[text];
        let at = column as usize;
        if found.len() <= at {
            found.resize(at + 1, None);
        }
        if found[at].is_none() {
            let mut places = Vec::new();
            if may_hold(self.lines.kind(column), finder.needle()) {
                let column = self.lines.column(column, self.times)?;
                column.values.find(finder, column.places(&self.rows), &mut places);
            }
            found[at] = Some(places);
        }
        Ok(found[at].as_deref().unwrap_or_default())
    }

    /// Whether a text is in a line of whose template that is the verdict.
    fn is_in(
        &self,
        row: usize,
        text: usize,
        verdict: &Verdict,
        part: &mut Vec<u8>,
    ) -> Result<bool, CodecError> {
        let Searched { finder, found } = &self.texts[text];
        match verdict {
            Verdict::Always => Ok(true),
            Verdict::Never => Ok(false),
            Verdict::Within(columns) => {
                for number in columns {
                    let place = self.lines.column(*number, self.times)?.place(row);
                    let places = found.get(*number as usize).and_then(Option::as_ref);
                    if places.is_some_and(|places| places.binary_search(&place).is_ok()) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Verdict::Across(of_template) => {
                part.clear();
                self.lines.write_part(row, of_template.clone(), self.times, part)?;
                Ok(finder.find(part).is_some())
            }
        }
    }
}

/// Whether values that are written so may hold a text, as far as that tells.
fn may_hold(kind: ColumnKind, text: &[u8]) -> bool {
    let is_number = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
    match kind {
        ColumnKind::Integers
        | ColumnKind::Digits
        | ColumnKind::IntegerPlanes
        | ColumnKind::DigitPlanes
        | ColumnKind::Fractions => text.len() <= MAX_NUMBER_LEN && text.iter().all(is_number),
        ColumnKind::Hex => text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        ColumnKind::Constant | ColumnKind::Dictionary | ColumnKind::Floats | ColumnKind::Texts => {
            true
        }
    }
}

/// Where in lines of a template a text may lie that is in none of its fixed parts.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    Nowhere,
    /// In variables only, each time in one of these, ascending.
    Within(Vec<usize>),
    /// In this part, over an end of a variable, too.
    Across(Range<usize>),
}

/// A variable stands for one byte or more that [`is_of_token`].
fn reach(template: &[u8], needle: &[u8]) -> Reach {
    // Where the last byte so far may have been, whether something was beside that one variable, and where the first
    // byte was at least. Ascending; hardly a place is left after a few bytes.
    let mut at: Vec<(usize, bool, usize)> = Vec::new();
    let mut next = Vec::new();
    let takes = |place: usize, byte: u8| match template.get(place) {
        Some(&VARIABLE) => is_of_token(byte),
        Some(fixed) => *fixed == byte,
        None => false,
    };
    let Some((first, rest)) = needle.split_first() else { return Reach::Across(0..template.len()) };
    let starts = match is_of_token(*first) {
        true => memchr::memchr2_iter(*first, VARIABLE, template).collect::<Vec<usize>>(),
        false => memchr::memchr_iter(*first, template).collect(),
    };
    at.extend(starts.into_iter().map(|place| (place, template[place] != VARIABLE, place)));
    for byte in rest {
        next.clear();
        for &(place, is_beyond, start) in &at {
            if template[place] == VARIABLE && is_of_token(*byte) {
                next.push((place, is_beyond, start));
            }
            if takes(place + 1, *byte) {
                next.push((place + 1, true, start));
            }
        }
        next.sort_unstable();
        next.dedup_by_key(|(place, is_beyond, _)| (*place, *is_beyond));
        std::mem::swap(&mut at, &mut next);
        if at.is_empty() {
            return Reach::Nowhere;
        }
    }
    if at.iter().all(|(_, is_beyond, _)| !is_beyond) {
        let places: Vec<usize> = at.iter().map(|(place, ..)| *place).collect();
        return if places.is_empty() { Reach::Nowhere } else { Reach::Within(places) };
    }
    let start = at.iter().map(|(.., start)| *start).min().unwrap_or(0);
    let end = at.last().map_or(template.len(), |(place, ..)| place + 1);
    Reach::Across(start..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::page::Packer;
    use crate::templates;

    #[test]
    fn a_template_tells_where_a_text_may_be() {
        let template = b"took=\0ms user_\0 id \0!";
        assert_eq!(reach(template, b"tooked"), Reach::Within(vec![5, 14, 19]));
        assert_eq!(reach(template, b"took:"), Reach::Nowhere);
        assert_eq!(reach(template, b"a b"), Reach::Nowhere);
        assert_eq!(reach(template, b"4bf92f"), Reach::Within(vec![5, 14, 19]));
        assert_eq!(reach(template, b"took=1"), Reach::Across(0..6));
        assert_eq!(reach(template, b"7ms user_12 id x"), Reach::Across(5..20));
        assert_eq!(reach(template, b"7mx"), Reach::Within(vec![5, 14, 19]));
        assert_eq!(reach(template, b"7 ms"), Reach::Nowhere);
        assert_eq!(reach(template, b"! "), Reach::Nowhere);
        // A fixed part may be what a variable has, too.
        assert_eq!(reach(template, b"ms"), Reach::Across(5..20));
    }

    fn line() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("took=".to_owned()),
            Just(" a1".to_owned()),
            Just(" 1a ".to_owned()),
            Just(" ".to_owned()),
            Just("\\".to_owned()),
            "[01]{1,3}",
            "[0-1a-b]{8}",
            "-?[0-9]{1,2}",
            "[ab]{0,2}[01]{0,2}",
            "失",
        ];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn rows_are_those_that_a_look_at_each_line_finds(
            lines in prop::collection::vec(line(), 1..60),
            repeated in 1_usize..6,
            needles in prop::collection::vec("[ab01= -]{1,4}|took=[01]|失|1a [01]", 0..3),
            value in prop::option::of("[ab01]{1,4}|took"),
            from in any::<prop::sample::Index>(),
            to in any::<prop::sample::Index>(),
        ) {
            let lines: Vec<&str> =
                lines.iter().cycle().take(repeated * lines.len()).map(String::as_str).collect();
            let lengths: Vec<i64> = lines.iter().map(|line| line.len() as i64).collect();
            let times = vec![1_234_567_890; lines.len()];
            let text = lines.concat();
            let all = templates::Lines { text: text.as_bytes(), lengths: &lengths, times: &times };
            let encoded = templates::encode(all, &mut Packer::new(1)).expect("lines are alike");
            let read = TemplateLines::decode(encoded.page, lines.len()).expect("it was written so");
            let (a, b) = (from.index(lines.len() + 1), to.index(lines.len() + 1));
            let rows = a.min(b) as u32..a.max(b) as u32;
            let mut searched: Vec<AnyOf> =
                needles.iter().map(|n| AnyOf::one(n.as_bytes())).collect();
            searched.extend(value.iter().map(|value| AnyOf::value(value.as_bytes())));
            let is_found = |row: &u32| {
                let line = lines[*row as usize];
                needles.iter().all(|n| line.contains(n.as_str()))
                    && value.iter().all(|v| line.contains(v.as_str()) || line.contains('\\'))
            };
            let wanted: Vec<u32> = rows.clone().filter(is_found).collect();
            let found = rows_with(&read, &searched, rows, &times).expect("it was written so");
            prop_assert_eq!(found, wanted);
        }
    }
}
