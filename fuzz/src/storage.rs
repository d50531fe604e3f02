//! Stored bytes. `cargo xtask fuzz` builds with `cfg(fuzzing)`, in which [`codec::checksum`] is
//! always zero: so damage reaches the readers behind the checksums, which must not panic either.
//! The log computes its checksums itself, so frames are put together here.

use std::collections::BTreeSet;
use std::sync::Arc;

use blockstore::{
    BlobError, BlobWriter, Blobs, BlockFormat, Disk, DiskBlobs, FrameKind, LogReader, LogWriter,
    MemoryDisk, MergeInput, ReadAt, SegmentName, SegmentWriter, read_segment,
};
use catalog::{BrokerId, Command, LogPosition, State, StoreId};
use labelindex::{BlockIndex, BlockIndexBuilder, LabelIndex, MemIndex};
use metricstore::{
    BlockSource, Deletes, FlushPlan, HeadSnapshot, HistogramColumns, LogDecoder, LogEncoder,
    MetricFormat, ROLLED_LEVEL, Registry, ResolvedBatch, Selected, Shard, THINNED_LEVEL,
};
use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, TimeRange};

use crate::input::Input;

const NAMES: [&str; 5] = ["__name__", "a", "b", "job", "zone"];
const VALUES: [&str; 8] = ["", "1", "10", "x", "xy", "xyz", "é", "long-value-of-a-label"];
const PATTERNS: [&str; 10] = ["", "1", "x", ".*", ".+", "x.*", "1|xy", "(x|y).*", "[^x]*", "x?y?"];
const OPS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];

/// The first byte picks: bytes of an index, or series to build one of.
pub(crate) fn label_index(bytes: &[u8]) {
    let mut input = Input(bytes);
    if input.byte().is_multiple_of(2) {
        if let Ok(index) = BlockIndex::open(input.0) {
            ask(&index);
        }
        return;
    }
    let selectors: Vec<Vec<Matcher>> = (0..3).map(|_| matchers(&mut input)).collect();
    let mut series = BTreeSet::new();
    while !input.is_empty() && series.len() < 200 {
        series.insert(label_set(&mut input));
    }
    let mut builder = BlockIndexBuilder::new(1);
    let mut head = MemIndex::new(1);
    for (ordinal, labels) in (0..).zip(&series) {
        builder.push(labels);
        head.insert(ordinal, labels);
    }
    let mut written = Vec::new();
    builder.finish(&mut written);
    let block = BlockIndex::open(&written).expect("own bytes");
    let series: Vec<Labels> = series.into_iter().collect();
    for matchers in &selectors {
        let wanted = (0_u32..)
            .zip(&series)
            .filter(|(_, l)| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or_default())))
            .map(|(ordinal, _)| ordinal)
            .collect::<Vec<_>>();
        assert_eq!(block.select(matchers), wanted, "{matchers:?}");
        assert_eq!(head.select(matchers), wanted, "{matchers:?}");
        assert_eq!(block.label_names(matchers), head.label_names(matchers));
        assert_eq!(block.label_values("a", matchers), head.label_values("a", matchers));
    }
    for (ordinal, labels) in (0..).zip(&series) {
        assert_eq!(&block.labels(ordinal), labels);
    }
}

fn label_set(input: &mut Input<'_>) -> Labels {
    let values: Vec<&str> = NAMES.iter().map(|_| input.pick(&VALUES)).collect();
    Labels::from_pairs(NAMES.into_iter().zip(values)).expect("names are unique")
}

fn matchers(input: &mut Input<'_>) -> Vec<Matcher> {
    (0..input.byte() % 4)
        .map(|_| {
            let (name, op) = (input.pick(&NAMES), input.pick(&OPS));
            Matcher::new(name, op, input.pick(&PATTERNS)).expect("the patterns compile")
        })
        .collect()
}

/// Everything that can be asked of an index.
fn ask(index: &BlockIndex) {
    for ordinal in 0..index.series_count().min(1_000) as u32 {
        let _ = index.labels(ordinal);
    }
    for (op, value) in [(MatchOp::Equal, ""), (MatchOp::Regex, "a.*"), (MatchOp::NotEqual, "up")] {
        let matchers = ["__name__", "job"]
            .map(|name| Matcher::new(name, op, value).expect("the patterns compile"));
        for ordinal in index.select(&matchers) {
            let _ = index.labels(ordinal);
        }
        let _ = index.label_names(&matchers);
        let _ = index.label_values("job", &matchers);
    }
}

/// A snapshot and commands: each with two bytes of length before it, with the envelope around it.
pub(crate) fn catalog(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut state = State::default();
    let len = input.below(2_048);
    let snapshot = sealed(input.bytes(len));
    if let Ok(read) = State::decode(&snapshot) {
        // An older version is written back as the newest.
        if snapshot[0] == catalog::FORMAT_VERSION {
            assert_eq!(encoded(&read), snapshot, "one state has one form");
        }
        state = read;
    }
    while !input.is_empty() {
        let len = input.below(512);
        let bytes = sealed(input.bytes(len));
        let Ok(command) = Command::decode(&bytes) else { continue };
        if bytes[0] == catalog::FORMAT_VERSION {
            let mut again = Vec::new();
            command.encode(&mut again);
            assert_eq!(again, bytes, "one command has one form");
        }
        let before = state.clone();
        if state.apply(&command).is_err() {
            assert_eq!(state, before, "what is refused changes nothing");
        }
        let again = State::decode(&encoded(&state)).expect("own bytes");
        assert_eq!(again, state);
    }
}

fn encoded(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    bytes
}

/// `body` begins with the version; the checksum is put behind it.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&codec::checksum(body).to_le_bytes());
    bytes
}

const STORE: StoreId = StoreId([7; 16]);

/// A log as a start finds it: parts are good frames of any kind, garbage, or ends of files.
/// Nothing stops the start but a frame of a newer program; good frames before the first damage
/// come out as they went in; and a second start sees the same and what was written since.
pub(crate) fn log(bytes: &[u8]) {
    let mut input = Input(bytes);
    let disk = MemoryDisk::new();
    let mut files = vec![file(1, LogPosition::default())];
    let mut good = vec![(FrameKind::CatalogSnapshot as u8, b"snapshot".to_vec())];
    let mut is_undamaged = true;
    while !input.is_empty() {
        let sequence = files.len() as u64;
        let contents = files.last_mut().expect("one from the beginning");
        match input.byte() % 8 {
            0 => {
                let end = LogPosition { file: sequence, offset: contents.len() as u64 };
                files.push(file(sequence + 1, end));
                if is_undamaged {
                    good.push((FrameKind::CatalogSnapshot as u8, b"snapshot".to_vec()));
                }
            }
            1 => {
                let len = input.below(64);
                contents.extend_from_slice(input.bytes(len));
                is_undamaged = false;
            }
            2 => {
                let at = input.below(contents.len());
                contents[at] ^= input.byte() | 1;
                is_undamaged = false;
                // It may have hit any of them.
                good.clear();
            }
            _ => {
                let kind = [1, 2, 3, 3, 4, 4, 0x85, 9][usize::from(input.byte() % 8)];
                let len = input.below(100);
                let payload = input.bytes(len);
                let at = LogPosition { file: sequence, offset: contents.len() as u64 };
                contents.extend_from_slice(&frame(at, kind, payload));
                if is_undamaged && kind != 0x85 {
                    good.push((kind, payload.to_vec()));
                }
            }
        }
    }
    for (number, contents) in files.iter().enumerate() {
        let path = format!("log/{:020}.wfl", number + 1);
        let mut file = disk.create(&path).expect("memory");
        file.append(&[contents]).expect("memory");
        file.sync_data().expect("memory");
    }
    disk.sync_directory("log").expect("memory");
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let Some((first, reader)) = start(&disk) else { return };
    if good.iter().all(|(kind, _)| *kind < 5) {
        let found: Vec<_> = first.iter().take(good.len()).cloned().collect();
        assert_eq!(found, good, "good frames before any damage come out");
    }
    // Nothing tells whose frames there are, so they will never be read.
    let store = reader.store().unwrap_or(StoreId([9; 16]));
    let flushed = LogPosition::default();
    let Ok(mut writer) = LogWriter::open(reader, Arc::default(), store, flushed, b"s".to_vec())
    else {
        return;
    };
    writer.append(FrameKind::Metrics, &[b"after"]).expect("memory");
    writer.sync().expect("memory");
    drop(writer);
    let (second, _) = start(&disk).expect("the first start succeeded");
    let metrics = |frames: &Frames| -> Vec<Vec<u8>> {
        let metrics = frames.iter().filter(|(kind, _)| *kind == FrameKind::Metrics as u8);
        metrics.map(|(_, payload)| payload.clone()).collect()
    };
    let mut wanted = metrics(&first);
    wanted.push(b"after".to_vec());
    assert_eq!(metrics(&second), wanted);
}

/// What lies between the header and the end of a segment, with the length of its footer before it.
pub(crate) fn segment(bytes: &[u8]) {
    const MAX_BYTES: u64 = 1 << 20;
    let mut input = Input(bytes);
    let footer = input.below(1 << 16) as u32;
    let mut bytes = SegmentWriter::new().seal(SEGMENT)[..40].to_vec();
    bytes.extend_from_slice(input.0);
    bytes.extend_from_slice(&footer.to_le_bytes());
    bytes.extend_from_slice(&codec::checksum(&[]).to_le_bytes());
    bytes.extend_from_slice(b"WFSEG\r\n\x1a");
    let Ok(batches) = read_segment(&bytes, SEGMENT, MAX_BYTES) else { return };
    if batches.iter().any(|batch| batch.number > 1_000 || batch.payload.is_empty())
        || !batches.is_sorted_by(|a, b| a.number < b.number)
    {
        return;
    }
    let mut writer = SegmentWriter::new();
    for batch in &batches {
        while writer.batches() < batch.number {
            writer.add(DEFAULT_TENANT, batch.signal, &[]);
        }
        writer.add(batch.tenant, batch.signal, &batch.payload);
    }
    assert_eq!(read_segment(&writer.seal(SEGMENT), SEGMENT, u64::MAX), Ok(batches));
}

pub(crate) const SEGMENT: SegmentName = SegmentName { broker: BrokerId(1), epoch: 2, seq: 3 };

/// Kind and payload of frames.
type Frames = Vec<(u8, Vec<u8>)>;

/// All frames a start hands out; `None` if one is of a newer program.
fn start(disk: &Arc<dyn Disk>) -> Option<(Frames, LogReader)> {
    let mut reader = LogReader::open(Arc::clone(disk), Arc::default()).ok()?;
    reader.replay_catalog(&mut |_| {}).ok()?;
    let mut frames = Vec::new();
    let visit = &mut |frame: blockstore::Frame| {
        frames.push((frame.kind as u8, frame.payload.to_vec()));
    };
    reader.replay(LogPosition::default(), visit).ok()?;
    Some((frames, reader))
}

/// The beginning of a file: its header and a snapshot.
fn file(sequence: u64, previous: LogPosition) -> Vec<u8> {
    let mut bytes = b"WFLOG\r\n\x1a".to_vec();
    bytes.extend_from_slice(&[1, u8::from(sequence > 1), 0, 0]);
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&previous.file.to_le_bytes());
    bytes.extend_from_slice(&previous.offset.to_le_bytes());
    bytes.extend_from_slice(&STORE.0);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    let at = LogPosition { file: sequence, offset: bytes.len() as u64 };
    bytes.extend_from_slice(&frame(at, FrameKind::CatalogSnapshot as u8, b"snapshot"));
    bytes
}

fn frame(at: LogPosition, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0xf7, b'W', b'F', b'L', kind, 0, 0, 0];
    header.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let place = [&STORE.0[..], &at.file.to_le_bytes(), &at.offset.to_le_bytes()].concat();
    let checksum = crc32fast::hash(&[&place[..], &header].concat());
    header.extend_from_slice(&checksum.to_le_bytes());
    [&header, payload].concat()
}

/// A payload of the log: refused and nothing left, or rows that can be written and read again.
pub(crate) fn metric_payload(bytes: &[u8]) {
    let registry = Registry::new(1);
    let mut rows = ResolvedBatch::default();
    if LogDecoder::new().decode(bytes, &registry, 2, 0, &mut rows).is_err() {
        assert_eq!(rows.rows(), 0, "an error leaves nothing behind");
        return;
    }
    let mut written = Vec::new();
    LogEncoder::new().encode(&rows, &registry, &mut written);
    let other = Registry::new(2);
    let mut again = ResolvedBatch::default();
    LogDecoder::new().decode(&written, &other, 2, 0, &mut again).expect("own payload");
    assert_eq!((again.tenant, again.rows()), (rows.tenant, rows.rows()));
    // What a start does next.
    let mut shards = [Shard::new(0, 2), Shard::new(1, 2)];
    for (shard, rows) in shards.iter_mut().zip(&rows.shards) {
        shard.append(rows);
    }
}

/// A block: refused, or every series is read to its end or to a fault with a place.
pub(crate) fn metric_block(bytes: &[u8]) {
    let format = MetricFormat::new(2).with_rollups(&[300_000, 3_600_000]);
    let Ok(block) = format.open(Arc::new(Bytes(bytes.to_vec()))) else { return };
    let block = Arc::new(block);
    let registry = Registry::new(1);
    for matchers in [vec![], vec![Matcher::new("host", MatchOp::Regex, "h.*").expect("compiles")]] {
        let series = registry.select(DEFAULT_TENANT, &matchers);
        let (tenant, deletes) = (DEFAULT_TENANT, Deletes::default());
        let head = HeadSnapshot { tenant, deletes, series, chunks: Vec::new() };
        let block = Arc::clone(&block);
        let source = BlockSource { id: Arc::from("a"), block, deletes_through: 0 };
        let all = TimeRange::all();
        let blocks = [source];
        let selected = Selected::with_rollups(&registry, head, &blocks, &matchers, all, 10_000);
        let Ok(selected) = selected else { continue };
        for index in 0..selected.len() {
            let (mut timestamps, mut values) = (Vec::new(), Vec::new());
            let mut histograms = HistogramColumns::default();
            let mut starts_ms = Vec::new();
            let floats = (&mut timestamps, &mut values);
            let read = selected.read_with_starts(index, floats, &mut starts_ms, &mut histograms);
            if read.is_ok() {
                assert_eq!(timestamps.len(), values.len());
                assert!(starts_ms.len() <= values.len());
            }
            let _ = selected.read_rows(index, 600_000, &mut Vec::new());
        }
    }
    let blobs = DiskBlobs::open(Arc::new(MemoryDisk::new())).expect("memory");
    for level in [1, ROLLED_LEVEL, THINNED_LEVEL] {
        let mut out: Box<dyn BlobWriter> = blobs.create("blocks/b").expect("memory");
        let input = |block| MergeInput { block, deletes: Vec::new() };
        let inputs = [input(Arc::clone(&block)), input(Arc::clone(&block))];
        let _ = format.merge(&inputs, TimeRange::all(), level, &mut *out);
    }
}

/// The bytes of a block with what `shard` holds.
pub(crate) fn block_of(shard: &mut Shard, registry: &Registry) -> Vec<u8> {
    let plan = FlushPlan::new(shard.cut().into_iter().collect(), &Deletes::default(), registry);
    let blobs = DiskBlobs::open(Arc::new(MemoryDisk::new())).expect("memory");
    let mut out: Box<dyn BlobWriter> = blobs.create("blocks/a").expect("memory");
    plan.write(&plan.blocks()[0], &MetricFormat::new(1), registry, &mut *out).expect("flush");
    out.finish().expect("memory");
    let file = blobs.open("blocks/a").expect("memory");
    let mut bytes = vec![0; file.size_bytes() as usize];
    file.read_exact_at(0, &mut bytes).expect("memory");
    bytes
}

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BlobError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes =
            self.0.get(start..start.saturating_add(out.len())).ok_or_else(|| BlobError::Io {
                action: "read past the end",
                key: "bytes".to_owned(),
                source: std::io::ErrorKind::UnexpectedEof.into(),
            })?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}
