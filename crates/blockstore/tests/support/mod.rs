//! What the tests of the log share.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use std::sync::Arc;

use blockstore::{Disk, Frame, FrameKind, LogPosition, LogReader, LogWriter, ReplayReport};
use catalog::StoreId;

pub const STORE: StoreId = StoreId([7; 16]);

/// Bytes of a file's header and of a frame's.
pub const FILE_HEADER: usize = 56;
pub const FRAME_HEADER: usize = 20;

pub fn log_path(sequence: u64) -> String {
    format!("log/{sequence:020}.wfl")
}

pub fn reader(disk: &Arc<dyn Disk>) -> LogReader {
    LogReader::open(Arc::clone(disk), Arc::default()).expect("the log can be put in order")
}

/// A start as the broker does it, with a snapshot that the log does not look into.
pub fn writer(disk: &Arc<dyn Disk>, snapshot: &[u8]) -> LogWriter {
    let mut reader = reader(disk);
    reader.replay_catalog(&mut |_| {}).expect("known kinds");
    reader.replay(LogPosition::default(), &mut |_| {}).expect("known kinds");
    let store = reader.store().unwrap_or(STORE);
    LogWriter::open(reader, Arc::default(), store, LogPosition::default(), snapshot.to_vec())
        .expect("a new file can be begun")
}

pub fn replay(disk: &Arc<dyn Disk>) -> (Vec<Frame>, ReplayReport) {
    let mut frames = Vec::new();
    let mut reader = reader(disk);
    reader.replay(LogPosition::default(), &mut |f| frames.push(f)).expect("known kinds");
    (frames, reader.report().clone())
}

/// What the first pass of a start hands out, and whether it got all commands.
pub fn replay_catalog(disk: &Arc<dyn Disk>) -> (Vec<(FrameKind, Vec<u8>)>, bool) {
    let mut frames = Vec::new();
    let mut reader = reader(disk);
    let visit = &mut |f: Frame| frames.push((f.kind, f.payload.to_vec()));
    reader.replay_catalog(visit).expect("known kinds");
    (frames, reader.report().catalog_intact)
}

/// Payloads of the data frames.
pub fn data(frames: &[Frame]) -> Vec<Vec<u8>> {
    let metrics = frames.iter().filter(|frame| frame.kind == FrameKind::Metrics);
    metrics.map(|frame| frame.payload.to_vec()).collect()
}

pub fn read(disk: &dyn Disk, path: &str) -> Vec<u8> {
    let file = disk.open(path).expect("the file exists");
    let mut bytes = vec![0; usize::try_from(file.size_bytes()).expect("a small file")];
    file.read_exact_at(0, &mut bytes).expect("a sound disk");
    bytes
}

/// A frame as another program version could have written it.
pub fn frame_bytes(at: LogPosition, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0xf7, b'W', b'F', b'L', kind, 0, 0, 0];
    header.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    header.extend_from_slice(&codec::checksum(payload).to_le_bytes());
    let place = [&STORE.0[..], &at.file.to_le_bytes(), &at.offset.to_le_bytes()].concat();
    let checksum = codec::checksum(&[&place[..], &header].concat());
    header.extend_from_slice(&checksum.to_le_bytes());
    [&header, payload].concat()
}
