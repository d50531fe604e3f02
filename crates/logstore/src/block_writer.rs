//! Writes a block: stream by stream in order of labels, line by line in order of time.

use blockstore::{BlobWriter, BlockError, BlockSummary};
use codec::checksum;
use labelindex::BlockIndexBuilder;
use model::Labels;

use crate::footer::{Footer, HEADER_BYTES, MAGIC, Section, VERSION};
use crate::group_table::{Group, GroupTable};
use crate::metadata::settled;
use crate::new_group::{NewGroup, NewNames};
use crate::page::{Packer, corrupt};
use crate::shapes::Shapes;
use crate::skip::SkipWriter;
use crate::time::milliseconds;
use crate::twins::Twins;

/// Longest line, and most bytes of the metadata of one.
pub const MAX_LINE_BYTES: usize = model::MAX_LOG_LINE_BYTES;
/// Bytes of lines and metadata with which a group is complete.
const GROUP_BYTES: usize = 2 << 20;
/// Lines with which it is.
const GROUP_ROWS: usize = 1 << 17;

/// Writes one block. Memory: a group, and of all groups before their filters, counters and places of pages,
/// together about a fiftieth of what was written into them.
pub struct BlockWriter<'a> {
    out: &'a mut dyn BlobWriter,
    packer: Packer,
    names: NewNames,
    group: NewGroup,
    groups: Vec<Group>,
    counters: Vec<u8>,
    skip: SkipWriter,
    /// Of the lines of the group.
    shapes: Shapes,
    index: BlockIndexBuilder,
    /// Labels of the stream under way; it is in the index when it has a line.
    labels: Labels,
    has_lines: bool,
    streams: u32,
    last_ns: i64,
    twins: Twins,
    totals: Totals,
    scratch: Vec<u8>,
    group_bytes: usize,
}

#[derive(Debug, Default)]
struct Totals {
    rows: u64,
    line_bytes: u64,
    span_ns: Option<(i64, i64)>,
}

impl<'a> BlockWriter<'a> {
    /// Begins a block in `out`, with pages compressed by zstd at `level`. `seed` keys the hashes of labels and
    /// leaves no trace in what is written.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn new(out: &'a mut dyn BlobWriter, level: i32, seed: u64) -> Result<Self, BlockError> {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4] = VERSION;
        out.write(&header)?;
        Ok(BlockWriter {
            out,
            packer: Packer::new(level),
            names: NewNames::default(),
            group: NewGroup::default(),
            groups: Vec::new(),
            counters: Vec::new(),
            skip: SkipWriter::default(),
            shapes: Shapes::default(),
            index: BlockIndexBuilder::new(seed),
            labels: Labels::empty(),
            has_lines: false,
            streams: 0,
            last_ns: i64::MIN,
            twins: Twins::default(),
            totals: Totals::default(),
            scratch: Vec::new(),
            group_bytes: GROUP_BYTES,
        })
    }

    /// The same, which writes the lines of a group as templates and variables where that is at least a tenth
    /// smaller.
    #[must_use]
    pub fn with_templates(mut self) -> Self {
        self.shapes = Shapes::with_values();
        self
    }

    /// The same, whose groups are complete with so many bytes.
    #[cfg(test)]
    pub(crate) fn with_group_bytes(self, group_bytes: usize) -> Self {
        BlockWriter { group_bytes, ..self }
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.out.position()
    }

    /// Begins a stream. One without lines leaves no trace.
    ///
    /// # Panics
    /// `labels` is not above those of the streams before that have lines.
    pub fn stream(&mut self, labels: &Labels) {
        assert!(self.streams == 0 || self.labels < *labels, "streams ascend");
        self.labels = labels.clone();
        self.has_lines = false;
        self.last_ns = i64::MIN;
        self.twins.clear();
    }

    /// Takes a line of the stream: not earlier than the one before. A line that is there already, with the same
    /// time and text, is left out; whether it was taken.
    ///
    /// # Errors
    /// Faults of the store; line or metadata are longer than [`MAX_LINE_BYTES`].
    ///
    /// # Panics
    /// It is earlier than the one before.
    pub fn push(
        &mut self,
        timestamp_ns: i64,
        line: &[u8],
        metadata: &[(&str, &str)],
    ) -> Result<bool, BlockError> {
        self.push_settled(timestamp_ns, line, settled(metadata).iter().copied())
    }

    /// As [`BlockWriter::push`], with metadata that is settled.
    pub(crate) fn push_settled<'m>(
        &mut self,
        timestamp_ns: i64,
        line: &[u8],
        metadata: impl Iterator<Item = (&'m str, &'m str)> + Clone,
    ) -> Result<bool, BlockError> {
        assert!(self.last_ns <= timestamp_ns, "lines of a stream are in order of time");
        let of_metadata: usize = metadata.clone().map(|(n, v)| n.len() + v.len()).sum();
        if line.len().max(of_metadata) > MAX_LINE_BYTES {
            let detail = format!(
                "a line of {} bytes with {of_metadata} of metadata: {MAX_LINE_BYTES} are the most",
                line.len()
            );
            return Err(corrupt(0, detail));
        }
        if !self.twins.is_new(timestamp_ns, line) {
            return Ok(false);
        }
        if self.group.bytes() >= self.group_bytes || self.group.rows() >= GROUP_ROWS {
            self.end_group()?;
        }
        if !self.has_lines {
            self.has_lines = true;
            self.index.push(&self.labels);
            self.streams += 1;
        }
        self.last_ns = timestamp_ns;
        self.skip.push_line(line, &mut self.shapes);
        self.group.push(self.streams - 1, timestamp_ns, line, metadata, &mut self.names);
        self.totals.add(timestamp_ns, line.len());
        Ok(true)
    }

    fn end_group(&mut self) -> Result<(), BlockError> {
        if self.group.rows() == 0 {
            return Ok(());
        }
        let names = self.names.names();
        let mut before = ("", "");
        for pair in self.group.pairs(&names).filter(|(_, value)| !value.is_empty()) {
            // Most values are those of the line before.
            if pair != before {
                self.skip.push_field(pair.0, pair.1);
                before = pair;
            }
        }
        self.skip.finish_group();
        self.scratch.clear();
        let number = self.groups.len() as u32;
        let (packer, counters) = (&mut self.packer, &mut self.counters);
        let group = self.group.finish(number, &self.shapes, packer, &mut self.scratch, counters);
        self.groups.push(group);
        self.shapes.clear();
        self.out.write(&self.scratch)?;
        Ok(())
    }

    /// Ends the block: writes what is left, the indexes and the footer. The blob itself is finished by the
    /// caller.
    ///
    /// # Errors
    /// Faults of the store.
    pub fn finish(mut self) -> Result<BlockSummary, BlockError> {
        self.end_group()?;
        let counters = Section::write(self.out, &self.counters)?;
        let (mut skip, mut rows) = (Vec::new(), Vec::new());
        self.skip.finish(&mut skip, &mut rows);
        let filters = Section::write(self.out, &rows)?;
        let mut index = Vec::new();
        self.index.finish(&mut index);
        let labels = Section::write(self.out, &index)?;
        let levels = self.names.levels.names().into_iter().map(str::to_owned).collect();
        let table = GroupTable { names: self.names.names(), levels, groups: self.groups };
        let (mut raw, mut section) = (Vec::new(), Vec::new());
        table.encode(&mut raw);
        self.packer.put_section(&raw, &mut section);
        let table = Section::write(self.out, &section)?;
        section.clear();
        self.packer.put_section(&skip, &mut section);
        let skip = Section::write(self.out, &section)?;
        let (first_ns, last_ns) = self.totals.span_ns.unwrap_or((0, -1));
        let footer = Footer {
            counters,
            filters,
            labels,
            table,
            skip,
            streams: self.streams,
            rows: self.totals.rows,
            line_bytes: self.totals.line_bytes,
            first_ns,
            last_ns,
        };
        self.out.write(&footer.encode())?;
        Ok(footer.summary())
    }
}

impl Totals {
    fn add(&mut self, timestamp_ns: i64, bytes: usize) {
        self.rows += 1;
        self.line_bytes += bytes as u64;
        self.span_ns = match self.span_ns {
            Some((first, last)) => Some((first.min(timestamp_ns), last.max(timestamp_ns))),
            None => Some((timestamp_ns, timestamp_ns)),
        };
    }
}

impl Section {
    /// Writes it and tells where it is.
    fn write(out: &mut dyn BlobWriter, bytes: &[u8]) -> Result<Section, BlockError> {
        let section =
            Section { offset: out.position(), len: bytes.len() as u64, checksum: checksum(bytes) };
        out.write(bytes)?;
        Ok(section)
    }
}

impl Footer {
    /// What is in the block, as the block life wants to know it.
    pub(crate) fn summary(&self) -> BlockSummary {
        BlockSummary {
            range: milliseconds(self.first_ns, self.last_ns),
            series: u64::from(self.streams),
            rows: self.rows,
            conflicts: 0,
        }
    }
}
