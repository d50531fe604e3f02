//! What a block says of its groups: which streams have lines in them, from when to when, and where the pages
//! of their columns are.

use codec::CodecError;
use codec::varint::{put_bytes, put_u64, take_bytes, take_prefixed, take_u64};

use crate::column::{ColumnKind, MAX_GROUP_ROWS};
use crate::counters::OTHER_LEVEL;
use crate::filter::MAX_GROUPS;
use crate::page::{MAX_PAGE_BYTES, Page};

/// Column of a group that holds its timestamps.
pub(crate) const TIMESTAMPS: u32 = 0;
/// Column that holds the lengths of its lines.
pub(crate) const LENGTHS: u32 = 1;
/// Column that holds its lines.
pub(crate) const LINES: u32 = 2;
/// Column that holds the metadata for which it has no column.
pub(crate) const REST: u32 = 3;
/// Column of the first name; the others follow.
pub(crate) const FIRST_NAME: u32 = 4;
/// Names of a block that have columns, at most.
pub(crate) const MAX_NAMES: usize = 1 << 16;
/// Columns of one group that hold metadata, at most.
pub(crate) const MAX_COLUMNS: usize = 1_024;

/// Numbers: timestamps, lengths.
const NUMBERS: u8 = 0;
/// The bytes of lines.
const BYTES: u8 = 1;
/// Pairs of names and values.
const PAIRS: u8 = 8;
/// Lines as templates and variables.
const TEMPLATES: u8 = 11;
/// By how much lines are longer than their templates tell.
const SURPLUS: u8 = 13;
const KIND_MASK: u8 = 0x0f;
const ZSTD: u8 = 0x10;

/// How the content of a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageKind {
    Numbers,
    Bytes,
    Column(ColumnKind),
    Pairs,
    Templates,
    Surplus,
}

impl PageKind {
    fn number(self) -> u8 {
        match self {
            PageKind::Numbers => NUMBERS,
            PageKind::Bytes => BYTES,
            PageKind::Column(kind) => kind as u8,
            PageKind::Pairs => PAIRS,
            PageKind::Templates => TEMPLATES,
            PageKind::Surplus => SURPLUS,
        }
    }

    /// The kind of this number, if a column may be of it.
    fn of(number: u8, column: u32) -> Option<Self> {
        match column {
            LENGTHS if number == SURPLUS => Some(PageKind::Surplus),
            TIMESTAMPS | LENGTHS => (number == NUMBERS).then_some(PageKind::Numbers),
            LINES if number == TEMPLATES => Some(PageKind::Templates),
            LINES => (number == BYTES).then_some(PageKind::Bytes),
            REST => (number == PAIRS).then_some(PageKind::Pairs),
            _ => ColumnKind::from_number(number).map(PageKind::Column),
        }
    }
}

/// Lines of one stream that follow one another in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stream: u32,
    pub(crate) group: u32,
    /// Its place among the runs of the group.
    pub(crate) place: u32,
    /// Its rows in the group.
    pub(crate) first_row: u32,
    pub(crate) rows: u32,
    pub(crate) first_ns: i64,
    pub(crate) last_ns: i64,
}

impl Run {
    pub(crate) fn end_row(&self) -> u32 {
        self.first_row + self.rows
    }
}

/// The page of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ColumnPage {
    pub(crate) column: u32,
    pub(crate) kind: PageKind,
    pub(crate) page: Page,
}

/// What is known of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) rows: u32,
    pub(crate) line_bytes: u64,
    pub(crate) runs: Vec<Run>,
    pub(crate) pages: Vec<ColumnPage>,
    pub(crate) counters: Page,
}

/// The table of all groups.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupTable {
    /// Names of metadata, by column from [`FIRST_NAME`] on.
    pub(crate) names: Vec<String>,
    /// Levels, by number from 1 on.
    pub(crate) levels: Vec<String>,
    pub(crate) groups: Vec<Group>,
}

impl GroupTable {
    /// Appends it. Offsets are left out: pages follow one another.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for texts in [&self.names, &self.levels] {
            put_u64(out, texts.len() as u64);
            texts.iter().for_each(|text| put_bytes(out, text.as_bytes()));
        }
        put_u64(out, self.groups.len() as u64);
        let groups = |of: fn(&Group) -> i64| -> Vec<i64> { self.groups.iter().map(of).collect() };
        codec::encode_i64s(&groups(|group| i64::from(group.rows)), out);
        codec::encode_i64s(&groups(|group| group.line_bytes as i64), out);
        codec::encode_i64s(&groups(|group| group.runs.len() as i64), out);
        codec::encode_i64s(&groups(|group| group.pages.len() as i64), out);
        let all_runs = || self.groups.iter().flat_map(|group| &group.runs);
        let runs = |of: fn(&Run) -> i64| -> Vec<i64> { all_runs().map(of).collect() };
        codec::encode_i64s(&runs(|run| i64::from(run.stream)), out);
        codec::encode_i64s(&runs(|run| i64::from(run.rows)), out);
        codec::encode_i64s(&runs(|run| run.first_ns), out);
        codec::encode_i64s(&runs(|run| run.last_ns.wrapping_sub(run.first_ns)), out);
        let all_pages = || self.groups.iter().flat_map(|group| &group.pages);
        let columns: Vec<i64> = all_pages().map(|page| i64::from(page.column)).collect();
        codec::encode_i64s(&columns, out);
        out.extend(all_pages().map(|page| page.kind.number() | flag(&page.page)));
        put_pages(all_pages().map(|page| &page.page), out);
        let counters = || self.groups.iter().map(|group| &group.counters);
        out.extend(counters().map(flag));
        put_pages(counters(), out);
    }

    /// Reads it. Pages of columns lie in `pages`, those of counters in `counters`, both without gaps; there are
    /// so many streams.
    pub(crate) fn decode(
        mut input: &[u8],
        streams: u32,
        pages: std::ops::Range<u64>,
        counters: std::ops::Range<u64>,
    ) -> Result<Self, CodecError> {
        let input = &mut input;
        let names = take_texts(input, MAX_NAMES)?;
        // A merge takes for granted that a line has each name once.
        let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let is_twice = sorted.windows(2).any(|pair| pair[0] == pair[1]);
        if is_twice || sorted.first().is_some_and(|name| name.is_empty()) {
            return Err(invalid("names", names.len() as u64));
        }
        let levels = take_texts(input, OTHER_LEVEL as usize - 1)?;
        let count = take_u64(input)?;
        if count > MAX_GROUPS as u64 {
            return Err(invalid("groups", count));
        }
        let count = count as usize;
        let rows = take_column(input, count)?;
        let line_bytes = take_column(input, count)?;
        let of_runs = take_column(input, count)?;
        let of_pages = take_column(input, count)?;
        let total = |counts: &[i64]| -> Result<usize, CodecError> {
            let negative = counts.iter().find(|count| **count < 0);
            let sum = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count as u64));
            match negative {
                Some(count) => Err(invalid("count of a group", *count as u64)),
                None => Ok(usize::try_from(sum).unwrap_or(usize::MAX)),
            }
        };
        let all_runs = total(&of_runs)?;
        let [streams_of, rows_of, firsts, spans] = [(); 4].map(|()| take_column(input, all_runs));
        let runs = Runs { stream: streams_of?, rows: rows_of?, first: firsts?, span: spans? };
        let all_pages = total(&of_pages)?;
        let columns = take_column(input, all_pages)?;
        let kinds = take_bytes(input, all_pages)?.to_vec();
        let stored = take_pages(input, &kinds, pages)?;
        let flags = take_bytes(input, count)?.to_vec();
        let counters = take_pages(input, &flags, counters)?;
        if !input.is_empty() {
            return Err(invalid("end of the group table", input.len() as u64));
        }
        let mut groups = Vec::with_capacity(count);
        let (mut run, mut page) = (0, 0);
        let mut previous: Option<(u32, i64)> = None;
        for number in 0..count {
            let (next_run, next_page) =
                (run + of_runs[number] as usize, page + of_pages[number] as usize);
            let rows = in_range(rows[number], 1, MAX_GROUP_ROWS as i64, "rows of a group")?;
            let runs = runs.of_group(number as u32, run..next_run, rows, streams, &mut previous)?;
            let mut pages = Vec::with_capacity(next_page - page);
            for at in page..next_page {
                let column = in_range(
                    columns[at],
                    0,
                    i64::from(FIRST_NAME) + names.len() as i64 - 1,
                    "column",
                )?;
                let kind = PageKind::of(kinds[at] & KIND_MASK, column)
                    .ok_or_else(|| invalid("kind of a page", u64::from(kinds[at])))?;
                pages.push(ColumnPage { column, kind, page: stored[at] });
            }
            let is_complete = pages.iter().map(|page| page.column).take(3).eq([0, 1, 2])
                && pages.is_sorted_by(|a, b| a.column < b.column);
            if !is_complete {
                return Err(invalid("columns of a group", pages.len() as u64));
            }
            let line_bytes = line_bytes[number];
            let lines = &pages[LINES as usize];
            let is_surplus = pages[LENGTHS as usize].kind == PageKind::Surplus;
            if is_surplus != (lines.kind == PageKind::Templates) {
                return Err(invalid("kind of the lengths of a group", u64::from(is_surplus)));
            }
            let is_as_long = match lines.kind {
                PageKind::Bytes => line_bytes == i64::from(lines.page.raw_len),
                _ => (0..=MAX_PAGE_BYTES as i64).contains(&line_bytes),
            };
            if !is_as_long {
                return Err(invalid("bytes of lines of a group", line_bytes as u64));
            }
            let (line_bytes, counters) = (line_bytes as u64, counters[number]);
            groups.push(Group { rows, line_bytes, runs, pages, counters });
            (run, page) = (next_run, next_page);
        }
        Ok(GroupTable { names, levels, groups })
    }
}

/// Columns of runs as they were read.
struct Runs {
    stream: Vec<i64>,
    rows: Vec<i64>,
    first: Vec<i64>,
    span: Vec<i64>,
}

impl Runs {
    /// The runs of a group with so many rows, in which streams and times have to ascend. `previous` is the
    /// last stream before and its last time.
    fn of_group(
        &self,
        group: u32,
        of_group: std::ops::Range<usize>,
        rows: u32,
        streams: u32,
        previous: &mut Option<(u32, i64)>,
    ) -> Result<Vec<Run>, CodecError> {
        let mut first_row = 0;
        let mut runs = Vec::with_capacity(of_group.len());
        for (place, at) in (0..).zip(of_group) {
            let stream = in_range(self.stream[at], 0, i64::from(streams) - 1, "stream of a run")?;
            let of_run = in_range(self.rows[at], 1, i64::from(rows - first_row), "rows of a run")?;
            let first_ns = self.first[at];
            let last_ns = first_ns.wrapping_add(self.span[at]);
            // Of a stream that goes on in the next group, times go on as well.
            let is_ordered = match *previous {
                None => true,
                Some((before, before_ns)) => {
                    before < stream || (before == stream && place == 0 && before_ns <= first_ns)
                }
            };
            if !is_ordered || last_ns < first_ns {
                return Err(invalid("order of runs, at run", at as u64));
            }
            *previous = Some((stream, last_ns));
            runs.push(Run { stream, group, place, first_row, rows: of_run, first_ns, last_ns });
            first_row += of_run;
        }
        if first_row != rows {
            return Err(invalid("rows of all runs", u64::from(first_row)));
        }
        Ok(runs)
    }
}

fn flag(page: &Page) -> u8 {
    if page.is_zstd { ZSTD } else { 0 }
}

fn put_pages<'a>(pages: impl Iterator<Item = &'a Page> + Clone, out: &mut Vec<u8>) {
    let column = |of: fn(&Page) -> u32| -> Vec<i64> {
        pages.clone().map(|page| i64::from(of(page))).collect()
    };
    codec::encode_i64s(&column(|page| page.stored_len), out);
    codec::encode_i64s(&column(|page| page.raw_len), out);
    out.extend(pages.flat_map(|page| page.checksum.to_le_bytes()));
}

fn take_pages(
    input: &mut &[u8],
    flags: &[u8],
    area: std::ops::Range<u64>,
) -> Result<Vec<Page>, CodecError> {
    let stored = take_column(input, flags.len())?;
    let raw = take_column(input, flags.len())?;
    let checksums = take_bytes(input, 4 * flags.len())?;
    let mut pages = Vec::with_capacity(flags.len());
    let mut offset = area.start;
    for (at, sum) in checksums.chunks_exact(4).enumerate() {
        if flags[at] & !(KIND_MASK | ZSTD) != 0 {
            return Err(invalid("flags of a page", u64::from(flags[at])));
        }
        let [stored_len, raw_len] =
            [stored[at], raw[at]].map(|len| in_range(len, 0, MAX_PAGE_BYTES as i64, "page length"));
        let (stored_len, raw_len) = (stored_len?, raw_len?);
        let is_zstd = flags[at] & ZSTD != 0;
        if !is_zstd && stored_len != raw_len {
            return Err(invalid("length of a page that is not compressed", stored_len.into()));
        }
        let checksum = u32::from_le_bytes(*sum.first_chunk().expect("four bytes per page"));
        pages.push(Page { offset, stored_len, raw_len, checksum, is_zstd });
        offset += u64::from(stored_len);
    }
    if offset != area.end {
        return Err(invalid("end of the pages", offset));
    }
    Ok(pages)
}

fn take_column(input: &mut &[u8], count: usize) -> Result<Vec<i64>, CodecError> {
    let mut column = Vec::new();
    codec::decode_i64s(input, count, &mut column)?;
    Ok(column)
}

fn take_texts(input: &mut &[u8], limit: usize) -> Result<Vec<String>, CodecError> {
    let count = take_u64(input)?;
    if count > limit as u64 {
        return Err(invalid("names", count));
    }
    let take = |_| {
        let bytes = take_prefixed(input)?;
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned)
            .map_err(|e| invalid("name that is UTF-8 up to", e.valid_up_to() as u64))
    };
    (0..count).map(take).collect()
}

fn in_range(value: i64, low: i64, high: i64, field: &'static str) -> Result<u32, CodecError> {
    let fits = (low..=high).contains(&value);
    u32::try_from(value).ok().filter(|_| fits).ok_or_else(|| invalid(field, value as u64))
}

fn invalid(field: &'static str, found: u64) -> CodecError {
    CodecError::Invalid { offset: 0, field, found }
}
