//! The directory of a group: which chunks its series have and where they lie. Floats and histograms
//! have one each.

use codec::CodecError;
use codec::varint::{put_u64, take_u64};

/// Most samples of a chunk that a reader accepts.
pub(crate) const MAX_CHUNK_ROWS: usize = 1 << 16;
/// Most series of a group that a reader accepts.
pub(crate) const MAX_GROUP_SERIES: usize = 4_096;
/// Most chunks of a group that a reader accepts.
pub(crate) const MAX_GROUP_CHUNKS: usize = 1 << 16;

/// A timestamp column and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimestampColumn {
    pub(crate) page: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) rows: u32,
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
}

/// One chunk and where its values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Index of its timestamps in [`Group::columns`].
    pub(crate) column: u32,
    pub(crate) page: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// A decoded directory.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) columns: Vec<TimestampColumn>,
    /// Series by series, each in order of time.
    pub(crate) chunks: Vec<Chunk>,
    /// Where each series' chunks end.
    pub(crate) ends: Vec<u32>,
    /// The histograms of the same series, if they have any.
    pub(crate) histograms: Option<Box<Group>>,
    /// The rollups of the same series, if they have any; their columns tell the last samples of
    /// the rows.
    pub(crate) rollups: Option<Box<Group>>,
    /// Length of the windows, of rollups; else 0.
    pub(crate) resolution_ms: i64,
    /// The page that tells when values of the series began, if there is one.
    pub(crate) starts_page: Option<u32>,
}

/// A chunk as the writer knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewChunk {
    /// Series in the group.
    pub(crate) series: u32,
    /// Which chunk of that series.
    pub(crate) index: u32,
    pub(crate) column: u32,
    pub(crate) len: u32,
}

/// Appends the directory of `chunks`, which are in the order in which their values lie.
pub(crate) fn encode(
    series: usize,
    first_value_page: u32,
    columns: &[TimestampColumn],
    chunks: &[NewChunk],
    out: &mut Vec<u8>,
) {
    put_u64(out, series as u64);
    put_u64(out, u64::from(first_value_page));
    let mut per_series = vec![0_i64; series];
    for chunk in chunks {
        per_series[chunk.series as usize] += 1;
    }
    codec::encode_i64s(&per_series, out);
    put_u64(out, columns.len() as u64);
    let mut column = |of: &dyn Fn(&TimestampColumn) -> i64| {
        codec::encode_i64s(&columns.iter().map(of).collect::<Vec<_>>(), out);
    };
    column(&|c| i64::from(c.page));
    column(&|c| i64::from(c.offset));
    column(&|c| i64::from(c.len));
    column(&|c| i64::from(c.rows));
    column(&|c| c.min_ms);
    column(&|c| c.max_ms.wrapping_sub(c.min_ms));
    let of_chunks = |of: fn(&NewChunk) -> u32| -> Vec<i64> {
        chunks.iter().map(|chunk| i64::from(of(chunk))).collect()
    };
    codec::encode_i64s(&of_chunks(|chunk| chunk.column), out);
    codec::encode_i64s(&of_chunks(|chunk| chunk.len), out);
}

/// Why a directory is refused.
pub(crate) enum DirectoryFault {
    Codec(CodecError),
    Invalid(&'static str),
}

impl From<CodecError> for DirectoryFault {
    fn from(error: CodecError) -> Self {
        DirectoryFault::Codec(error)
    }
}

use DirectoryFault::Invalid;

impl Group {
    /// Reads a directory. `value_page_len` yields the uncompressed length of a page of values (or
    /// of histograms), `timestamp_page_len` of one of timestamps; `None` if there is no such page.
    /// What follows the directory is passed over: earlier programs wrote statistics there.
    /// `may_lack` tells whether a series may be without chunks, because another directory has some.
    pub(crate) fn decode(
        mut input: &[u8],
        series: usize,
        may_lack: bool,
        value_page_len: impl Fn(u32) -> Option<u32>,
        timestamp_page_len: impl Fn(u32) -> Option<u32>,
    ) -> Result<Self, DirectoryFault> {
        if take_u64(&mut input)? != series as u64 {
            return Err(Invalid("directory of another number of series"));
        }
        let first_page =
            u32::try_from(take_u64(&mut input)?).map_err(|_| Invalid("page number"))?;
        let per_series = take_column(&mut input, series)?;
        let total = per_series.iter().map(|count| u64::from(*count)).sum::<u64>();
        if total > MAX_GROUP_CHUNKS as u64 || (!may_lack && per_series.contains(&0)) {
            return Err(Invalid("number of chunks"));
        }
        let columns = take_columns(&mut input, timestamp_page_len)?;
        let of_chunk = take_column(&mut input, total as usize)?;
        let lens = take_column(&mut input, total as usize)?;
        if of_chunk.iter().any(|column| *column as usize >= columns.len()) {
            return Err(Invalid("chunk without timestamps"));
        }
        let mut ends = Vec::with_capacity(series);
        let mut end = 0;
        for count in &per_series {
            end += count;
            ends.push(end);
        }
        let mut group = Group {
            columns,
            chunks: Vec::new(),
            ends,
            histograms: None,
            rollups: None,
            resolution_ms: 0,
            starts_page: None,
        };
        if total == 0 {
            return Ok(group);
        }
        group.place_chunks(&per_series, &of_chunk, &lens, first_page, value_page_len)?;
        Ok(group)
    }

    /// Walks the chunks in the order in which their values lie.
    fn place_chunks(
        &mut self,
        per_series: &[u32],
        of_chunk: &[u32],
        lens: &[u32],
        first_page: u32,
        value_page_len: impl Fn(u32) -> Option<u32>,
    ) -> Result<(), DirectoryFault> {
        let no_chunk = Chunk { column: 0, page: 0, offset: 0, len: 0 };
        self.chunks = vec![no_chunk; lens.len()];
        let (mut page, mut offset) = (first_page, 0_u32);
        let mut page_len = value_page_len(page).ok_or(Invalid("page of no values"))?;
        let mut place = 0;
        for index in 0..per_series.iter().copied().max().unwrap_or(0) {
            for (series, _) in per_series.iter().enumerate().filter(|(_, count)| index < **count) {
                if offset == page_len {
                    page += 1;
                    offset = 0;
                    page_len = value_page_len(page).ok_or(Invalid("page of no values"))?;
                }
                let len = lens[place];
                if len > page_len - offset {
                    return Err(Invalid("chunk crosses a page"));
                }
                let slot = (self.ends[series] - per_series[series] + index) as usize;
                let column = of_chunk[place];
                self.chunks[slot] = Chunk { column, page, offset, len };
                offset += len;
                place += 1;
            }
        }
        Ok(())
    }

    /// The chunks of one series of the group, in order of time.
    pub(crate) fn chunks_of(&self, series: usize) -> std::ops::Range<usize> {
        let start = series.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[series] as usize
    }

    /// The series of the group that a chunk is of.
    pub(crate) fn series_of(&self, chunk: u32) -> u32 {
        self.ends.partition_point(|end| *end <= chunk) as u32
    }

    /// First and last timestamp of each chunk of a series, of all kinds.
    pub(crate) fn spans_of(&self, series: usize) -> impl Iterator<Item = (i64, i64)> + '_ {
        let kinds = [Some(self), self.histograms.as_deref(), self.rollups.as_deref()];
        kinds.into_iter().flatten().flat_map(move |group| {
            group.chunks_of(series).map(|chunk| group.span(&group.chunks[chunk]))
        })
    }

    /// First and last timestamp of a chunk. Of rollups the first is the earliest that it may be.
    pub(crate) fn span(&self, chunk: &Chunk) -> (i64, i64) {
        let column = self.column(chunk);
        let back_ms = (self.resolution_ms - 1).max(0);
        (column.min_ms.saturating_sub(back_ms), column.max_ms)
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        let others = self.histograms.iter().chain(&self.rollups);
        size_of::<Self>()
            + self.columns.capacity() * size_of::<TimestampColumn>()
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.ends.capacity() * size_of::<u32>()
            + others.map(|group| group.bytes()).sum::<usize>()
    }

    /// The timestamp column of a chunk.
    pub(crate) fn column(&self, chunk: &Chunk) -> &TimestampColumn {
        &self.columns[chunk.column as usize]
    }
}

fn take_columns(
    input: &mut &[u8],
    timestamp_page_len: impl Fn(u32) -> Option<u32>,
) -> Result<Vec<TimestampColumn>, DirectoryFault> {
    let count = usize::try_from(take_u64(input)?).unwrap_or(usize::MAX);
    if count > MAX_GROUP_CHUNKS {
        return Err(Invalid("number of timestamp columns"));
    }
    let page = take_column(input, count)?;
    let offset = take_column(input, count)?;
    let len = take_column(input, count)?;
    let rows = take_column(input, count)?;
    let (mut min_ms, mut span_ms) = (Vec::new(), Vec::new());
    codec::decode_i64s(input, count, &mut min_ms)?;
    codec::decode_i64s(input, count, &mut span_ms)?;
    let mut columns = Vec::with_capacity(count);
    for i in 0..count {
        let page_len = timestamp_page_len(page[i]).ok_or(Invalid("page of no timestamps"))?;
        if u64::from(offset[i]) + u64::from(len[i]) > u64::from(page_len) {
            return Err(Invalid("timestamp column crosses a page"));
        }
        if rows[i] == 0 || rows[i] as usize > MAX_CHUNK_ROWS {
            return Err(Invalid("number of samples in a chunk"));
        }
        columns.push(TimestampColumn {
            page: page[i],
            offset: offset[i],
            len: len[i],
            rows: rows[i],
            min_ms: min_ms[i],
            max_ms: min_ms[i].wrapping_add(span_ms[i]),
        });
    }
    Ok(columns)
}

/// Takes a column of numbers that fit u32.
fn take_column(input: &mut &[u8], count: usize) -> Result<Vec<u32>, DirectoryFault> {
    let mut column = Vec::new();
    codec::decode_i64s(input, count, &mut column)?;
    column
        .into_iter()
        .map(|value| u32::try_from(value).map_err(|_| Invalid("number above 2^32")))
        .collect()
}
