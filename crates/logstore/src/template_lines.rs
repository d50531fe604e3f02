//! Lines that [`crate::templates`] wrote, read: one by one, as each is wanted. What is searched is first looked for in
//! the templates ([`crate::template_search`]), and a column is decompressed when a value of it is wanted: so most of a
//! group is not looked at for one line of it.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use codec::CodecError;
use codec::varint::{take_bytes, take_prefixed, take_u64};

use crate::column::{Column, ColumnKind};
use crate::page::{Frame, MAX_PAGE_BYTES};
use crate::templates::{MAX_COLUMNS, MAX_TEMPLATES, MAX_VARIABLES, VARIABLE};
use crate::variables::{fraction, numbers_of};

/// The lines of a group.
pub(crate) struct TemplateLines {
    /// What was written.
    raw: Vec<u8>,
    pub(crate) templates: Vec<Template>,
    /// By row, the number of its template.
    pub(crate) of_rows: Vec<u16>,
    columns: Vec<SharedColumn>,
    sorted: OnceLock<Sorted>,
    /// What all that takes, about.
    bytes: AtomicUsize,
}

pub(crate) struct Template {
    /// What is common, with [`VARIABLE`] for what is not.
    pub(crate) text: Vec<u8>,
    pub(crate) variables: Vec<Variable>,
    /// How long its lines are at least.
    pub(crate) told_len: u32,
}

/// A place in a template that differs from line to line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variable {
    /// Where it stands in the text.
    pub(crate) at: u32,
    /// The column that has its values.
    pub(crate) column: u32,
}

/// Rows by template.
struct Sorted {
    rows: Vec<u32>,
    /// Where those of each template begin, and where the last ones end.
    starts: Vec<u32>,
}

impl Sorted {
    fn of(lines: &TemplateLines) -> Self {
        let mut starts = vec![0; lines.templates.len() + 1];
        lines.of_rows.iter().for_each(|number| starts[usize::from(*number) + 1] += 1);
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let (mut next, mut rows) = (starts.clone(), vec![0; lines.of_rows.len()]);
        for (row, number) in (0..).zip(&lines.of_rows) {
            let at = &mut next[usize::from(*number)];
            rows[*at as usize] = row;
            *at += 1;
        }
        Sorted { rows, starts }
    }

    /// Those of a template, ascending.
    fn rows_of(&self, template: usize) -> &[u32] {
        &self.rows[self.starts[template] as usize..self.starts[template + 1] as usize]
    }
}

/// Values that lines of one or more templates have.
struct SharedColumn {
    kind: ColumnKind,
    frame: Frame,
    /// How many there are.
    values: u32,
    loaded: OnceLock<LoadedColumn>,
}

/// The values of a column, by place.
pub(crate) struct LoadedColumn {
    pub(crate) values: Column,
    /// `None` if each row has one, in the place of its number.
    rows: Option<RowsWithValues>,
}

/// Which rows have a value.
struct RowsWithValues {
    /// By place, ascending.
    rows: Vec<u32>,
    /// By row; of those without a value nothing that counts.
    places: Vec<u32>,
}

impl LoadedColumn {
    /// The place of the value that a row has.
    pub(crate) fn place(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(row, |rows| rows.places[row] as usize)
    }

    /// The row that has the value in a place.
    pub(crate) fn row(&self, place: usize) -> usize {
        self.rows.as_ref().map_or(place, |rows| rows.rows[place] as usize)
    }

    /// The places of values that rows have.
    pub(crate) fn places(&self, of: &Range<u32>) -> Range<usize> {
        let Some(RowsWithValues { rows, .. }) = &self.rows else {
            return of.start as usize..of.end as usize;
        };
        rows.partition_point(|row| *row < of.start)..rows.partition_point(|row| *row < of.end)
    }

    fn bytes(&self) -> usize {
        let of_rows = |rows: &RowsWithValues| 4 * (rows.rows.len() + rows.places.len());
        self.values.bytes() + self.rows.as_ref().map_or(0, of_rows)
    }
}

fn invalid(field: &'static str, found: u64) -> CodecError {
    CodecError::Invalid { offset: 0, field, found }
}

/// Digits that were written as what they are more than those of times are these digits again.
pub(crate) fn from_fractions(column: &mut Column, times: impl Iterator<Item = i64>) {
    let Column::Digits { len, values, .. } = column else { return };
    let all = numbers_of(*len);
    for (value, t_ns) in values.iter_mut().zip(times) {
        *value = value.wrapping_add(fraction(t_ns, *len)).rem_euclid(all);
    }
}

impl TemplateLines {
    /// Reads what [`crate::templates::encode`] wrote of so many lines.
    pub(crate) fn decode(raw: Vec<u8>, rows: usize) -> Result<Self, CodecError> {
        let input = &mut raw.as_slice();
        let (count, column_count) = (take_u64(input)?, take_u64(input)?);
        if count > MAX_TEMPLATES as u64 || column_count > MAX_COLUMNS as u64 {
            return Err(invalid("templates or columns of variables", count.max(column_count)));
        }
        let (count, column_count) = (count as usize, column_count as usize);
        let head = Frame::take(input, &raw)?;
        let numbers = Frame::take(input, &raw)?;
        let of_rows = take_numbers(&numbers.read(&raw)?, rows, count)?;
        let mut columns = Vec::with_capacity(column_count);
        let (mut least_lens, mut raw_len) = (Vec::with_capacity(column_count), 0_usize);
        for _ in 0..column_count {
            let kind = take_bytes(input, 1)?[0];
            let kind = ColumnKind::from_number(kind)
                .ok_or_else(|| invalid("kind of a variable", u64::from(kind)))?;
            let least = take_u64(input)?;
            let frame = Frame::take(input, &raw)?;
            raw_len = raw_len.saturating_add(frame.raw_len());
            if least > MAX_PAGE_BYTES as u64 || raw_len > MAX_PAGE_BYTES {
                return Err(invalid("length of variables", least.max(raw_len as u64)));
            }
            least_lens.push(least as u32);
            columns.push(SharedColumn { kind, frame, values: 0, loaded: OnceLock::new() });
        }
        if !input.is_empty() {
            return Err(invalid("end of the templates", input.len() as u64));
        }
        let templates = take_templates(&head.read(&raw)?, count, &least_lens)?;
        let mut lines_of = vec![0_u32; count];
        of_rows.iter().for_each(|number| lines_of[usize::from(*number)] += 1);
        for (template, lines) in templates.iter().zip(lines_of) {
            for variable in &template.variables {
                columns[variable.column as usize].values += lines;
            }
        }
        let of_template = |template: &Template| {
            template.text.len() + template.variables.len() * size_of::<Variable>()
        };
        let of_templates: usize = templates.iter().map(of_template).sum();
        let of_columns = columns.len() * size_of::<SharedColumn>();
        let bytes = AtomicUsize::new(raw.len() + 6 * of_rows.len() + of_templates + of_columns);
        let sorted = OnceLock::new();
        Ok(TemplateLines { raw, templates, of_rows, columns, sorted, bytes })
    }

    /// How its values are written.
    pub(crate) fn kind(&self, column: u32) -> ColumnKind {
        self.columns[column as usize].kind
    }

    /// A column; `times` are those of all rows.
    pub(crate) fn column(&self, number: u32, times: &[i64]) -> Result<&LoadedColumn, CodecError> {
        let shared = &self.columns[number as usize];
        if let Some(loaded) = shared.loaded.get() {
            return Ok(loaded);
        }
        let raw = shared.frame.read(&self.raw)?;
        let mut values = Column::decode(shared.kind, shared.values as usize, &raw)?;
        let rows = self.rows_with_values(number, shared.values as usize);
        if shared.kind == ColumnKind::Fractions {
            match &rows {
                None => from_fractions(&mut values, times.iter().copied()),
                Some(RowsWithValues { rows, .. }) => {
                    from_fractions(&mut values, rows.iter().map(|row| times[*row as usize]));
                }
            }
        }
        let column = LoadedColumn { values, rows };
        let bytes = column.bytes();
        Ok(shared.loaded.get_or_init(|| {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            column
        }))
    }

    /// Which rows have a value in a column, of which there are so many; `None` for all.
    fn rows_with_values(&self, column: u32, count: usize) -> Option<RowsWithValues> {
        if count == self.of_rows.len() {
            return None;
        }
        let mut has = vec![false; self.templates.len()];
        for (has, template) in has.iter_mut().zip(&self.templates) {
            *has = template.variables.iter().any(|one| one.column == column);
        }
        let mut rows: Vec<u32> = Vec::with_capacity(count);
        if count < self.of_rows.len() / 8 {
            // Fast path: most columns are of a few templates.
            let sorted = self.sorted.get_or_init(|| Sorted::of(self));
            for number in (0..has.len()).filter(|number| has[*number]) {
                rows.extend_from_slice(sorted.rows_of(number));
            }
            rows.sort_unstable();
        } else {
            let numbered = (0..).zip(&self.of_rows);
            let with = numbered.filter(|(_, number)| has[usize::from(**number)]);
            rows.extend(with.map(|(row, _)| row));
        }
        let mut places = vec![0; self.of_rows.len()];
        for (place, row) in (0..).zip(&rows) {
            places[*row as usize] = place;
        }
        Some(RowsWithValues { rows, places })
    }

    /// Bytes of memory held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How long a line is at least, as its template tells.
    pub(crate) fn told_len(&self, row: usize) -> u32 {
        self.templates[usize::from(self.of_rows[row])].told_len
    }

    /// Appends a line, which has so many bytes. `times` are those of all rows.
    pub(crate) fn write_line(
        &self,
        row: usize,
        len: usize,
        times: &[i64],
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let start = out.len();
        let template = &self.templates[usize::from(self.of_rows[row])];
        self.write_part(row, 0..template.text.len(), times, out)?;
        let found = out.len() - start;
        if found == len { Ok(()) } else { Err(invalid("length of a line", found as u64)) }
    }

    /// Appends what stands in a line for a part of its template.
    pub(crate) fn write_part(
        &self,
        row: usize,
        part: Range<usize>,
        times: &[i64],
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let template = &self.templates[usize::from(self.of_rows[row])];
        let first = template.variables.partition_point(|one| (one.at as usize) < part.start);
        let mut end = part.start;
        for variable in &template.variables[first..] {
            let at = variable.at as usize;
            if at >= part.end {
                break;
            }
            out.extend_from_slice(&template.text[end..at]);
            let column = self.column(variable.column, times)?;
            column.values.write_value(column.place(row), out);
            end = at + 1;
        }
        out.extend_from_slice(&template.text[end..part.end]);
        Ok(())
    }
}

/// The number of each row's template.
fn take_numbers(bytes: &[u8], rows: usize, templates: usize) -> Result<Vec<u16>, CodecError> {
    let planes = if templates > 256 { 2 } else { 1 };
    if bytes.len() != rows.saturating_mul(planes) {
        return Err(invalid("numbers of templates", bytes.len() as u64));
    }
    let (low, high) = bytes.split_at(rows);
    let mut numbers: Vec<u16> = low.iter().map(|byte| u16::from(*byte)).collect();
    numbers.iter_mut().zip(high).for_each(|(number, byte)| *number |= u16::from(*byte) << 8);
    match numbers.iter().find(|number| usize::from(**number) >= templates) {
        Some(number) => Err(invalid("template of a line", u64::from(*number))),
        None => Ok(numbers),
    }
}

/// So many templates; values of each column have so many bytes at least.
fn take_templates(
    mut input: &[u8],
    count: usize,
    least_lens: &[u32],
) -> Result<Vec<Template>, CodecError> {
    let input = &mut input;
    let mut templates = Vec::with_capacity(count);
    for _ in 0..count {
        let text = take_prefixed(input)?.to_vec();
        let (mut variables, mut told_len) = (Vec::new(), text.len() as u64);
        for at in memchr::memchr_iter(VARIABLE, &text) {
            let column = take_u64(input)?;
            let least = usize::try_from(column).ok().and_then(|column| least_lens.get(column));
            let least = least.ok_or_else(|| invalid("column of a variable", column))?;
            told_len = told_len - 1 + u64::from(*least);
            variables.push(Variable { at: at as u32, column: column as u32 });
        }
        let is_twice = |one: &Variable| {
            variables.iter().filter(|other| other.column == one.column).count() > 1
        };
        if variables.len() > MAX_VARIABLES || variables.iter().any(is_twice) {
            return Err(invalid("variables of a template", variables.len() as u64));
        }
        let told_len =
            u32::try_from(told_len).map_err(|_| invalid("length of a template", told_len))?;
        templates.push(Template { text, variables, told_len });
    }
    if !input.is_empty() {
        return Err(invalid("end of the texts of templates", input.len() as u64));
    }
    Ok(templates)
}
