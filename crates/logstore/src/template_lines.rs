//! Lines that [`crate::templates`] wrote, read: one by one, as each is wanted; what is searched is first looked for in
//! the templates, so that lines of which that says enough are not put together.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use codec::CodecError;
use codec::varint::{take_bytes, take_prefixed, take_u64};
use memchr::memmem::Finder;

use crate::column::{Column, ColumnKind};
use crate::templates::{MAX_TEMPLATES, MAX_VARIABLES, VARIABLE};
use crate::texts::AnyOf;
use crate::tokens::is_of_token;

/// The lines of a group.
pub(crate) struct TemplateLines {
    /// What was written.
    raw: Vec<u8>,
    templates: Vec<Template>,
    /// By row, the number of its template.
    of_rows: Vec<u16>,
    /// By row, which of the lines of its template it is.
    places: Vec<u32>,
    /// What all that takes, about.
    bytes: AtomicUsize,
}

struct Template {
    /// What is common, with [`VARIABLE`] for what is not.
    text: Vec<u8>,
    variables: Vec<Variable>,
    rows: u32,
}

struct Variable {
    /// Where it stands in the text.
    at: u32,
    kind: ColumnKind,
    /// Where its values are among the raw bytes.
    written: Range<usize>,
    /// The values, when somebody wanted to know one.
    column: OnceLock<Column>,
}

/// What a template says of a text that is searched.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All of its lines have it.
    Always,
    /// None has.
    Never,
    /// It is in a line if one of its variables has it.
    WithinVariable,
    /// A line has to be looked at.
    Unknown,
}

fn invalid(field: &'static str, found: u64) -> CodecError {
    CodecError::Invalid { offset: 0, field, found }
}

impl TemplateLines {
    /// Reads what [`crate::templates::encode`] wrote of so many lines.
    pub(crate) fn decode(raw: Vec<u8>, rows: usize) -> Result<Self, CodecError> {
        let input = &mut raw.as_slice();
        let count = take_u64(input)?;
        if count > MAX_TEMPLATES as u64 {
            return Err(invalid("templates", count));
        }
        let texts: Vec<&[u8]> =
            (0..count).map(|_| take_prefixed(input)).collect::<Result<_, _>>()?;
        let mut numbers = Vec::new();
        codec::decode_i64s(input, rows, &mut numbers)?;
        let mut lines_of = vec![0_u32; texts.len()];
        let (mut of_rows, mut places) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for number in numbers {
            let lines = usize::try_from(number).ok().and_then(|number| lines_of.get_mut(number));
            let lines = lines.ok_or_else(|| invalid("template of a line", number as u64))?;
            // There are no more than `MAX_TEMPLATES`.
            of_rows.push(number as u16);
            places.push(*lines);
            *lines += 1;
        }
        let mut templates = Vec::with_capacity(texts.len());
        for (text, rows) in texts.into_iter().zip(lines_of) {
            let variables = memchr::memchr_iter(VARIABLE, text);
            let count = variables.clone().count();
            if count > MAX_VARIABLES {
                return Err(invalid("variables of a template", count as u64));
            }
            let mut take = |at| {
                let kind = take_bytes(input, 1)?[0];
                let kind = ColumnKind::from_number(kind)
                    .ok_or_else(|| invalid("kind of a variable", u64::from(kind)))?;
                let len = take_prefixed(input)?.len();
                let end = raw.len() - input.len();
                let (at, written, column) = (at as u32, end - len..end, OnceLock::new());
                Ok(Variable { at, kind, written, column })
            };
            let variables = variables.map(&mut take).collect::<Result<_, CodecError>>()?;
            templates.push(Template { text: text.to_vec(), variables, rows });
        }
        if !input.is_empty() {
            return Err(invalid("end of the templates", input.len() as u64));
        }
        let of_template = |template: &Template| {
            template.text.len() + template.variables.len() * size_of::<Variable>()
        };
        let of_templates: usize = templates.iter().map(of_template).sum();
        let bytes = AtomicUsize::new(raw.len() + 6 * of_rows.len() + of_templates);
        Ok(TemplateLines { raw, templates, of_rows, places, bytes })
    }

    /// The values of a variable in the lines of its template.
    fn column<'s>(
        &'s self,
        template: &'s Template,
        variable: &'s Variable,
    ) -> Result<&'s Column, CodecError> {
        if let Some(column) = variable.column.get() {
            return Ok(column);
        }
        let written = &self.raw[variable.written.clone()];
        let column = Column::decode(variable.kind, template.rows as usize, written)?;
        let bytes = column.bytes();
        let column = variable.column.get_or_init(|| {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            column
        });
        Ok(column)
    }

    /// Bytes of memory held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Appends a line, which has so many bytes.
    pub(crate) fn write_line(
        &self,
        row: usize,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let start = out.len();
        let template = &self.templates[usize::from(self.of_rows[row])];
        let place = self.places[row] as usize;
        let mut end = 0;
        for variable in &template.variables {
            let at = variable.at as usize;
            out.extend_from_slice(&template.text[end..at]);
            self.column(template, variable)?.write_value(place, out);
            end = at + 1;
        }
        out.extend_from_slice(&template.text[end..]);
        let found = out.len() - start;
        if found == len { Ok(()) } else { Err(invalid("length of a line", found as u64)) }
    }

    /// Rows among `rows` whose lines hold what is wanted, ascending. Each line begins and ends where `starts`
    /// says.
    pub(crate) fn rows_with(
        &self,
        needles: &[AnyOf],
        rows: Range<u32>,
        starts: &[u32],
    ) -> Result<Vec<u32>, CodecError> {
        let mut judged: Vec<Option<Judged<'_>>> = Vec::new();
        judged.resize_with(self.templates.len(), || None);
        let mut found = Vec::new();
        let (mut line, mut scratch) = (Vec::new(), String::new());
        for row in rows {
            let at = row as usize;
            let number = usize::from(self.of_rows[at]);
            let template = &self.templates[number];
            let Judged::MayHave(open) =
                judged[number].get_or_insert_with(|| template.judge_all(needles))
            else {
                continue;
            };
            line.clear();
            let mut has_all = true;
            for alternatives in open.iter() {
                let mut has_one = false;
                for (finder, verdict) in alternatives {
                    has_one = match verdict {
                        Verdict::Always => true,
                        Verdict::Never => false,
                        Verdict::WithinVariable => self.is_in_variable(at, finder, &mut scratch)?,
                        Verdict::Unknown => {
                            if line.is_empty() {
                                let len = (starts[at + 1] - starts[at]) as usize;
                                self.write_line(at, len, &mut line)?;
                            }
                            finder.find(&line).is_some()
                        }
                    };
                    if has_one {
                        break;
                    }
                }
                has_all = has_one;
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

    /// Whether a variable of a line has a text.
    fn is_in_variable(
        &self,
        row: usize,
        text: &Finder<'_>,
        scratch: &mut String,
    ) -> Result<bool, CodecError> {
        let template = &self.templates[usize::from(self.of_rows[row])];
        let place = self.places[row] as usize;
        for variable in &template.variables {
            if self.column(template, variable)?.holds(place, text, scratch) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a template says of all that is wanted.
enum Judged<'n> {
    /// No line of it has that.
    Never,
    /// A line has it if of each of these it has one; what each line has is left out.
    MayHave(Vec<Vec<(&'n Finder<'static>, Verdict)>>),
}

impl Template {
    fn judge_all<'n>(&self, needles: &'n [AnyOf]) -> Judged<'n> {
        let mut open = Vec::new();
        for needle in needles {
            let mut alternatives: Vec<_> = needle
                .texts()
                .iter()
                .map(|text| (&text.finder, self.judge(&text.finder)))
                .collect();
            if alternatives.iter().any(|(_, verdict)| *verdict == Verdict::Always) {
                continue;
            }
            alternatives.retain(|(_, verdict)| *verdict != Verdict::Never);
            if alternatives.is_empty() {
                return Judged::Never;
            }
            open.push(alternatives);
        }
        Judged::MayHave(open)
    }

    /// What it says of a needle.
    fn judge(&self, finder: &Finder<'_>) -> Verdict {
        // A template has no byte that is VARIABLE but for variables, and no variable has it.
        if finder.find(&self.text).is_some() && !finder.needle().contains(&VARIABLE) {
            return Verdict::Always;
        }
        // Few lines are sooner looked at.
        if self.rows < 4 {
            return Verdict::Unknown;
        }
        match reach(&self.text, finder.needle()) {
            Reach::Nowhere => Verdict::Never,
            Reach::Across => Verdict::Unknown,
            Reach::WithinVariables => Verdict::WithinVariable,
        }
    }
}

/// Where in lines of a template a text may lie that is in none of its fixed parts.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    Nowhere,
    /// In variables only, each time in one.
    WithinVariables,
    /// Over an end of a variable, too.
    Across,
}

/// A variable stands for one byte or more that [`is_of_token`].
fn reach(template: &[u8], needle: &[u8]) -> Reach {
    // Where the last byte so far may have been, and whether all so far was in that one variable. Ascending;
    // hardly a place is left after a few bytes.
    let mut at: Vec<(usize, bool)> = Vec::new();
    let mut next = Vec::new();
    let takes = |place: usize, byte: u8| match template.get(place) {
        Some(&VARIABLE) => is_of_token(byte),
        Some(fixed) => *fixed == byte,
        None => false,
    };
    let Some((first, rest)) = needle.split_first() else { return Reach::Across };
    let starts = (0..template.len()).filter(|place| takes(*place, *first));
    at.extend(starts.map(|place| (place, template[place] == VARIABLE)));
    for byte in rest {
        next.clear();
        for &(place, is_within) in &at {
            if template[place] == VARIABLE && is_of_token(*byte) {
                next.push((place, is_within));
            }
            if takes(place + 1, *byte) {
                next.push((place + 1, false));
            }
        }
        next.sort_unstable();
        next.dedup();
        std::mem::swap(&mut at, &mut next);
    }
    match at.as_slice() {
        [] => Reach::Nowhere,
        places if places.iter().all(|(_, is_within)| *is_within) => Reach::WithinVariables,
        _ => Reach::Across,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::templates;

    #[test]
    fn a_template_tells_where_a_text_may_be() {
        let template = b"took=\0ms user_\0 id \0!";
        assert_eq!(reach(template, b"tooked"), Reach::WithinVariables);
        assert_eq!(reach(template, b"took:"), Reach::Nowhere);
        assert_eq!(reach(template, b"a b"), Reach::Nowhere);
        assert_eq!(reach(template, b"4bf92f"), Reach::WithinVariables);
        assert_eq!(reach(template, b"took=1"), Reach::Across);
        assert_eq!(reach(template, b"7ms user_12 id x"), Reach::Across);
        assert_eq!(reach(template, b"7mx"), Reach::WithinVariables);
        assert_eq!(reach(template, b"7 ms"), Reach::Nowhere);
        assert_eq!(reach(template, b"! "), Reach::Nowhere);
        // A fixed part may be what a variable has, too.
        assert_eq!(reach(template, b"ms"), Reach::Across);
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
            let mut encoded = Vec::new();
            prop_assert!(templates::encode(lines.iter().map(|l| l.as_bytes()), &mut encoded));
            let read = TemplateLines::decode(encoded, lines.len()).expect("it was written so");
            let mut starts = vec![0];
            lines.iter().for_each(|line| starts.push(starts[starts.len() - 1] + line.len() as u32));
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
            let found = read.rows_with(&searched, rows, &starts).expect("it was written so");
            prop_assert_eq!(found, wanted);
        }
    }
}
