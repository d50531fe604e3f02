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
    /// A line has it if it is in one of these columns, or in what the line has for this part of the template.
    Where(Vec<u32>, Option<Range<usize>>),
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
    /// A line has it if of each of these it has one; what each line has is left out.
    MayHave(Vec<Open>),
}

/// Texts of which a line has to have one, with where each may be.
struct Open {
    /// Which of the needles it is.
    needle: usize,
    alternatives: Vec<Alternative>,
}

/// A text, and where in lines of one template it may be.
struct Alternative {
    /// Its number.
    text: usize,
    columns: Vec<u32>,
    part: Option<Range<usize>>,
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
    let mut has = vec![false; lines.templates.len()];
    let of_rows = &lines.of_rows[rows.start as usize..rows.end as usize];
    of_rows.iter().for_each(|number| has[usize::from(*number)] = true);
    let mut judged = Vec::with_capacity(has.len());
    for (template, has) in lines.templates.iter().zip(has) {
        let of_template = if has { search.judge_all(template, needles)? } else { Judged::Never };
        judged.push(of_template);
    }
    let (mut found, mut part) = (Vec::new(), Vec::new());
    let mut look_at = |row: u32| {
        let number = usize::from(lines.of_rows[row as usize]);
        let Judged::MayHave(open) = &judged[number] else { return Ok(()) };
        for Open { alternatives, .. } in open {
            if !search.has_one(row as usize, alternatives, &mut part)? {
                return Ok(());
            }
        }
        found.push(row);
        Ok(())
    };
    match (0..needles.len()).find_map(|needle| search.candidates(needle, &judged)) {
        Some(candidates) => candidates?.into_iter().try_for_each(look_at)?,
        None => rows.into_iter().try_for_each(&mut look_at)?,
    }
    Ok(found)
}

impl Search<'_, '_> {
    fn judge_all(&mut self, template: &Template, needles: &[AnyOf]) -> Result<Judged, CodecError> {
        let (mut open, mut first) = (Vec::new(), 0);
        for (number, needle) in needles.iter().enumerate() {
            let (mut alternatives, mut is_always) = (Vec::new(), false);
            for text in first..first + needle.texts().len() {
                match self.judge(template, text)? {
                    Verdict::Always => is_always = true,
                    Verdict::Where(columns, None) if columns.is_empty() => {}
                    Verdict::Where(columns, part) => {
                        alternatives.push(Alternative { text, columns, part });
                    }
                }
            }
            first += needle.texts().len();
            if is_always {
                continue;
            }
            if alternatives.is_empty() {
                return Ok(Judged::Never);
            }
            open.push(Open { needle: number, alternatives });
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
        let mut columns = Vec::new();
        if finder.needle().iter().all(|byte| is_of_token(*byte)) {
            for variable in &template.variables {
                if !self.find(text, variable.column)?.is_empty() {
                    columns.push(variable.column);
                }
            }
        }
        Ok(Verdict::Where(columns, across(template, finder.needle())))
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

    /// The rows that have one of a needle's texts in a column, ascending, if no row has one elsewhere.
    fn candidates(&self, needle: usize, judged: &[Judged]) -> Option<Result<Vec<u32>, CodecError>> {
        let mut columns = Vec::new();
        for of_template in judged {
            let Judged::MayHave(open) = of_template else { continue };
            let open = open.iter().find(|open| open.needle == needle)?;
            for Alternative { text, columns: of_text, part } in &open.alternatives {
                if part.is_some() {
                    return None;
                }
                columns.extend(of_text.iter().map(|column| (*text, *column)));
            }
        }
        columns.sort_unstable();
        columns.dedup();
        Some(self.rows_of(&columns))
    }

    /// The rows that have a text in a column, of any of these.
    fn rows_of(&self, columns: &[(usize, u32)]) -> Result<Vec<u32>, CodecError> {
        let mut rows = Vec::new();
        for (text, number) in columns {
            let column = self.lines.column(*number, self.times)?;
            let places = self.texts[*text].found.get(*number as usize).and_then(Option::as_ref);
            rows.extend(places.into_iter().flatten().map(|place| column.row(*place) as u32));
        }
        rows.sort_unstable();
        rows.dedup();
        Ok(rows)
    }

    /// Whether a line has one of some texts.
    fn has_one(
        &self,
        row: usize,
        alternatives: &[Alternative],
        part: &mut Vec<u8>,
    ) -> Result<bool, CodecError> {
        for Alternative { text, columns, part: of_template } in alternatives {
            let Searched { finder, found } = &self.texts[*text];
            for number in columns {
                let place = self.lines.column(*number, self.times)?.place(row);
                let places = found.get(*number as usize).and_then(Option::as_ref);
                if places.is_some_and(|places| places.binary_search(&place).is_ok()) {
                    return Ok(true);
                }
            }
            if let Some(of_template) = of_template {
                part.clear();
                self.lines.write_part(row, of_template.clone(), self.times, part)?;
                if finder.find(part).is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
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

/// The part of a template over which a text may lie in its lines, if it is in no fixed part and not within one
/// variable: a variable stands for one byte or more that [`is_of_token`].
fn across(template: &Template, needle: &[u8]) -> Option<Range<usize>> {
    let (text, (first, rest)) = (&template.text, needle.split_first()?);
    let takes = |place: usize, byte: u8| match text.get(place) {
        Some(&VARIABLE) => is_of_token(byte),
        Some(fixed) => *fixed == byte,
        None => false,
    };
    // Variables that the text may begin in and leave.
    let leaves = |at: usize| match text.get(at + 1) {
        Some(&VARIABLE) => true,
        Some(byte) => rest.contains(byte),
        None => false,
    };
    let places = template.variables.iter().map(|variable| variable.at as usize);
    let left: Vec<usize> = places.filter(|at| leaves(*at)).collect();
    // Where the last byte so far may have been, and where the first one was at least. Ascending; hardly a place is
    // left after a few bytes.
    let mut at: Vec<(usize, usize)> = memchr::memchr_iter(*first, text)
        .filter(|at| text[*at] != VARIABLE)
        .map(|at| (at, at))
        .collect();
    let (mut next, mut is_within) = (Vec::new(), is_of_token(*first));
    for byte in rest {
        next.clear();
        for &(place, start) in &at {
            if text[place] == VARIABLE && is_of_token(*byte) {
                next.push((place, start));
            }
            if takes(place + 1, *byte) {
                next.push((place + 1, start));
            }
        }
        if is_within {
            next.extend(left.iter().filter(|at| takes(*at + 1, *byte)).map(|at| (at + 1, *at)));
            is_within = is_of_token(*byte);
        }
        next.sort_unstable();
        next.dedup_by_key(|(place, _)| *place);
        std::mem::swap(&mut at, &mut next);
        if at.is_empty() && !is_within {
            return None;
        }
    }
    let start = at.iter().map(|(_, start)| *start).min()?;
    let end = at.last().map(|(place, _)| place + 1)?;
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::page::Packer;
    use crate::shapes::Shapes;
    use crate::template_lines::Variable;
    use crate::templates;

    #[test]
    fn a_template_tells_where_a_text_may_be() {
        let text = b"took=\0ms user_\0 id \0!";
        let places = memchr::memchr_iter(VARIABLE, text);
        let variables = places.map(|at| Variable { at: at as u32, column: 0 }).collect();
        let template = Template { text: text.to_vec(), variables, told_len: 0 };
        let of = |needle: &str| across(&template, needle.as_bytes());
        for nowhere in ["tooked", "took:", "a b", "4bf92f", "7mx", "7 ms", "! "] {
            assert_eq!(of(nowhere), None, "{nowhere}");
        }
        assert_eq!(of("took=1"), Some(0..6));
        assert_eq!(of("7ms user_12 id x"), Some(5..20));
        assert_eq!(of("1!"), Some(19..21));
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
            let mut shapes = Shapes::with_values();
            lines.iter().for_each(|line| _ = shapes.push(line.as_bytes(), |_, _| {}));
            let encoded = templates::encode(all, &shapes, &mut Packer::new(1));
            let encoded = encoded.expect("lines are alike");
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
