//! Lines as templates and variables: what all lines of one kind have in common is written once, and what
//! differs is in columns, written by what their values are like ([`crate::variables`]). Variables of several templates
//! that stand behind the same text share a column: an id is one whatever the level of its line is. Read again in
//! [`crate::template_lines`].

use codec::varint::{put_bytes, put_u64};
use hashbrown::HashMap;
use rapidhash::fast::RandomState;

use crate::column::ColumnKind;
use crate::page::{MAX_PAGE_BYTES, Packer};
use crate::shapes::Shapes;
use crate::variables;

/// Stands in a template for a variable. Lines that have it themselves are not written so.
pub(crate) const VARIABLE: u8 = 0;
/// Templates of a group; whoever has more is better compressed as a text.
pub(crate) const MAX_TEMPLATES: usize = 2_048;
/// Variables of one template.
pub(crate) const MAX_VARIABLES: usize = 256;
/// Columns of variables in a group.
pub(crate) const MAX_COLUMNS: usize = 4_096;
/// Bytes before a variable by which it is known in other templates.
const KEY_BYTES: usize = 8;
/// A variable that is the same in so many lines of a template, which are all of them, is no variable.
const ALIKE_ROWS: u32 = 4;

/// Lines of a group, one after the other, with their lengths and times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) lengths: &'a [i64],
    pub(crate) times: &'a [i64],
}

/// Lines as templates.
pub(crate) struct Encoded {
    /// The page of lines.
    pub(crate) page: Vec<u8>,
    /// Of each line, by how much it is longer than its template tells.
    pub(crate) surplus: Vec<i64>,
}

/// Lines that differ in variables only.
struct NewTemplate {
    /// What they have in common, with [`VARIABLE`] for each variable.
    text: Vec<u8>,
    rows: u32,
    variables: Vec<NewVariable>,
}

struct NewVariable {
    /// Of its first line.
    value: (u32, u32),
    is_alike: bool,
    column: u32,
}

/// Lines in parts.
struct Parted<'a> {
    templates: Vec<NewTemplate>,
    /// Of each line.
    of_lines: Vec<u32>,
    /// Where each variable of each line begins and ends.
    values: &'a [(u32, u32)],
}

/// Lines as templates and variables; `shapes` are theirs. `None` if they have too little in common.
pub(crate) fn encode(lines: Lines<'_>, shapes: &Shapes, packer: &mut Packer) -> Option<Encoded> {
    if !shapes.are_whole() {
        return None;
    }
    let mut parted = Parted::of(lines, shapes);
    let columns = parted.settle_columns(lines.text)?;
    let mut page = Vec::new();
    put_u64(&mut page, parted.templates.len() as u64);
    put_u64(&mut page, columns as u64);
    let mut head = Vec::new();
    for template in &parted.templates {
        put_bytes(&mut head, &template.fixed_text(lines.text));
        let variables = template.variables.iter().filter(|variable| !variable.is_alike);
        variables.for_each(|variable| put_u64(&mut head, u64::from(variable.column)));
    }
    packer.put_frame(&head, &mut page);
    packer.put_frame(&parted.numbers(), &mut page);
    let written = parted.put_columns(lines, columns, packer, &mut page);
    if written > MAX_PAGE_BYTES || page.len() > MAX_PAGE_BYTES {
        return None;
    }
    let surplus = parted.surplus(lines);
    Some(Encoded { page, surplus })
}

fn span(text: &[u8], (start, end): (u32, u32)) -> &[u8] {
    &text[start as usize..end as usize]
}

impl<'a> Parted<'a> {
    fn of(lines: Lines<'_>, shapes: &'a Shapes) -> Self {
        let values = shapes.values.as_slice();
        let mut templates: Vec<NewTemplate> = Vec::with_capacity(shapes.shapes.len());
        for shape in &shapes.shapes {
            let of_first = &values[shape.first_value..shape.first_value + shape.variables];
            let variable =
                |value: &(u32, u32)| NewVariable { value: *value, is_alike: true, column: 0 };
            let variables = of_first.iter().map(variable).collect();
            templates.push(NewTemplate { text: shape.text.clone(), rows: shape.rows, variables });
        }
        let mut rest = values;
        for number in &shapes.of_lines {
            let variables = &mut templates[*number as usize].variables;
            let (of_line, behind) = rest.split_at(variables.len());
            rest = behind;
            for (variable, value) in variables.iter_mut().zip(of_line) {
                variable.is_alike = variable.is_alike
                    && span(lines.text, *value) == span(lines.text, variable.value);
            }
        }
        let mut parted = Parted { templates, of_lines: shapes.of_lines.clone(), values };
        parted.sort();
        parted
    }

    /// Numbers templates from the most frequent one on.
    fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.templates.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(self.templates[*at].rows));
        let mut number_of = vec![0; order.len()];
        for (number, at) in (0..).zip(&order) {
            number_of[*at] = number;
        }
        self.of_lines.iter_mut().for_each(|number| *number = number_of[*number as usize]);
        let mut templates: Vec<Option<NewTemplate>> =
            std::mem::take(&mut self.templates).into_iter().map(Some).collect();
        self.templates = order.iter().filter_map(|at| templates[*at].take()).collect();
    }

    /// Says which column each variable is in that is one; yields how many columns there are.
    fn settle_columns(&mut self, text: &[u8]) -> Option<usize> {
        let mut numbers: HashMap<(Vec<u8>, u32), u32, RandomState> = HashMap::default();
        for template in &mut self.templates {
            let mut places = memchr::memchr_iter(VARIABLE, &template.text);
            let mut known: Vec<&[u8]> = Vec::new();
            for variable in &mut template.variables {
                let at = places.next().unwrap_or_default();
                variable.is_alike = variable.is_alike
                    && (template.rows >= ALIKE_ROWS || span(text, variable.value).is_empty());
                let key = &template.text[at.saturating_sub(KEY_BYTES)..at];
                // What stands there twice is two.
                let before = known.iter().filter(|other| **other == key).count() as u32;
                known.push(key);
                if variable.is_alike {
                    continue;
                }
                let next = numbers.len() as u32;
                variable.column = *numbers.entry((key.to_vec(), before)).or_insert(next);
            }
        }
        (numbers.len() <= MAX_COLUMNS).then_some(numbers.len())
    }

    /// The number of each line's template: the lower bytes, and then, if there are more than 256 templates, the
    /// upper ones.
    fn numbers(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.of_lines.iter().map(|number| *number as u8).collect();
        if self.templates.len() > 256 {
            bytes.extend(self.of_lines.iter().map(|number| (number >> 8) as u8));
        }
        bytes
    }

    /// Appends the columns; yields how many bytes they have before they are compressed.
    fn put_columns(
        &mut self,
        lines: Lines<'_>,
        columns: usize,
        packer: &mut Packer,
        page: &mut Vec<u8>,
    ) -> usize {
        let mut of_columns: Vec<(Vec<&str>, Vec<u32>)> = Vec::new();
        of_columns.resize_with(columns, Default::default);
        let mut values = self.values.iter();
        for (row, number) in (0..).zip(&self.of_lines) {
            for variable in &self.templates[*number as usize].variables {
                let value = values.next().map_or(&[][..], |value| span(lines.text, *value));
                if !variable.is_alike {
                    let (texts, rows) = &mut of_columns[variable.column as usize];
                    texts.push(std::str::from_utf8(value).expect("a variable is ASCII"));
                    rows.push(row);
                }
            }
        }
        let mut written = 0;
        let mut raw = Vec::new();
        for (texts, rows) in &of_columns {
            raw.clear();
            let kind = variables::encode(texts, rows, lines.times, &mut raw);
            page.push(kind as u8);
            put_u64(page, least_len(texts) as u64);
            match kind {
                // Identifiers are random: whoever looks for repetitions in them finds none.
                ColumnKind::Hex => Packer::put_plain_frame(&raw, page),
                _ => packer.put_frame(&raw, page),
            }
            written += raw.len();
        }
        self.least_of_columns(&of_columns);
        written
    }

    /// Keeps of each variable how long its column's values are at least, where its own first value was.
    fn least_of_columns(&mut self, columns: &[(Vec<&str>, Vec<u32>)]) {
        let least: Vec<u32> = columns.iter().map(|(texts, _)| least_len(texts) as u32).collect();
        for variable in self.templates.iter_mut().flat_map(|one| &mut one.variables) {
            if !variable.is_alike {
                variable.value = (0, least[variable.column as usize]);
            }
        }
    }

    fn surplus(&self, lines: Lines<'_>) -> Vec<i64> {
        let told = |template: &NewTemplate| {
            let variables = template.variables.iter();
            let of_variables: i64 =
                variables.map(|one| i64::from(one.value.1) - i64::from(one.value.0)).sum();
            (template.text.len() - template.variables.len()) as i64 + of_variables
        };
        let told: Vec<i64> = self.templates.iter().map(told).collect();
        let lines = self.of_lines.iter().zip(lines.lengths);
        lines.map(|(number, len)| len - told[*number as usize]).collect()
    }
}

fn least_len(texts: &[&str]) -> usize {
    texts.iter().map(|text| text.len()).min().unwrap_or(0)
}

impl NewTemplate {
    /// Its text, with the variables in it that are alike in all lines.
    fn fixed_text(&self, text: &[u8]) -> Vec<u8> {
        let mut fixed = Vec::with_capacity(self.text.len());
        let mut variables = self.variables.iter();
        for byte in &self.text {
            match variables.as_slice().first().filter(|_| *byte == VARIABLE) {
                Some(variable) if variable.is_alike => fixed.extend(span(text, variable.value)),
                _ => fixed.push(*byte),
            }
            if *byte == VARIABLE {
                variables.next();
            }
        }
        fixed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::template_lines::TemplateLines;
    use crate::template_search;
    use crate::texts::AnyOf;

    /// Some times, by no rule.
    pub(crate) fn times(count: usize) -> Vec<i64> {
        (0..count as i64).map(|n| n * n * 1_000_037).collect()
    }

    fn decode(input: &[u8], starts: &[u32]) -> Result<Vec<u8>, codec::CodecError> {
        let lines = TemplateLines::decode(input.to_vec(), starts.len() - 1)?;
        let mut all = Vec::new();
        let times = times(starts.len() - 1);
        for (row, bounds) in starts.windows(2).enumerate() {
            let len = bounds[1].wrapping_sub(bounds[0]) as usize;
            lines.write_line(row, len, &times, &mut all)?;
        }
        Ok(all)
    }

    fn encode(lines: &[&[u8]]) -> Option<Encoded> {
        let lengths: Vec<i64> = lines.iter().map(|line| line.len() as i64).collect();
        let (text, times) = (lines.concat(), times(lines.len()));
        let mut shapes = Shapes::with_values();
        lines.iter().for_each(|line| _ = shapes.push(line, |_, _| {}));
        let lines = Lines { text: &text, lengths: &lengths, times: &times };
        super::encode(lines, &shapes, &mut Packer::new(1))
    }

    fn check(lines: &[&[u8]]) -> Option<Vec<u8>> {
        let Encoded { page: out, surplus } = encode(lines)?;
        let read = TemplateLines::decode(out.clone(), lines.len()).expect("it was written so");
        for (row, (line, surplus)) in lines.iter().zip(surplus).enumerate() {
            assert!(surplus >= 0);
            assert_eq!(i64::from(read.told_len(row)) + surplus, line.len() as i64);
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
            let search = |input: &[u8], count: usize| {
                if let Ok(lines) = TemplateLines::decode(input.to_vec(), count) {
                    for needle in ["1", "a1", "took=1", "0a0a0a0a0a0a0a0a"] {
                        let needles = [AnyOf::one(needle.as_bytes())];
                        let rows = 0..count as u32;
                        let _ = template_search::rows_with(&lines, &needles, rows, &times(count));
                    }
                }
            };
            search(&noise, starts.len() - 1);
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            if let Some(Encoded { page: mut out, .. }) = encode(&lines) {
                let at = at.index(out.len());
                out[at] = byte;
                let _ = decode(&out, &starts);
                search(&out, lines.len());
                let mut starts = vec![0];
                lines.iter().for_each(|line| starts.push(starts[starts.len() - 1] + line.len() as u32));
                let _ = decode(&out, &starts);
            }
        }
    }
}
