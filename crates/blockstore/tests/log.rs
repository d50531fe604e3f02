//! The log on a disk in memory and on a real one: what was synced comes back.

use std::sync::Arc;

use blockstore::{
    BlobError, Counters, Disk, FileDisk, Frame, FrameKind, LogError, LogPosition, LogReader,
    LogWriter, MemoryDisk, OpenError, ReplayReport,
};
use catalog::StoreId;

const STORE: StoreId = StoreId([7; 16]);

fn reader(disk: &Arc<dyn Disk>) -> LogReader {
    LogReader::open(Arc::clone(disk), Arc::default()).expect("the log can be put in order")
}

fn writer(disk: &Arc<dyn Disk>) -> LogWriter {
    let mut reader = reader(disk);
    reader.replay(LogPosition::default(), &mut |_| {}).expect("no newer frames");
    LogWriter::open(reader, Arc::default(), STORE, LogPosition::default(), b"snapshot".to_vec())
        .expect("a new file can be begun")
}

fn replay(disk: &Arc<dyn Disk>) -> (Vec<Frame>, ReplayReport) {
    let mut frames = Vec::new();
    let mut reader = reader(disk);
    reader
        .replay(LogPosition::default(), &mut |frame| frames.push(frame))
        .expect("no newer frames");
    (frames, reader.report().clone())
}

fn data(frames: &[Frame]) -> Vec<&[u8]> {
    let metrics = frames.iter().filter(|frame| frame.kind == FrameKind::Metrics);
    metrics.map(|frame| &frame.payload[..]).collect()
}

#[test]
fn frames_come_back_in_order_across_files_and_runs() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disks: [Arc<dyn Disk>; 2] = [
        Arc::new(MemoryDisk::new()),
        Arc::new(FileDisk::open(&directory.path().join("a/b")).expect("a new directory")),
    ];
    for disk in disks {
        let mut first = writer(&disk);
        let a = first.append(FrameKind::Metrics, &[b"on", b"", b"e"]).expect("space");
        first.sync().expect("a sound disk");
        assert_eq!(first.rotate(b"later").expect("space").file, a.file);
        first.append(FrameKind::CatalogCommand, &[b"command"]).expect("space");
        first.sync().expect("a sound disk");
        drop(first);
        let mut second = writer(&disk);
        let b = second.append(FrameKind::Metrics, &[b"two"]).expect("space");
        second.sync().expect("a sound disk");
        assert_eq!((a.file, b.file), (1, 3));

        let (frames, report) = replay(&disk);
        let all: Vec<_> = frames.iter().map(|f| (f.kind, &f.payload[..])).collect();
        assert_eq!(
            all,
            [
                (FrameKind::CatalogSnapshot, &b"snapshot"[..]),
                (FrameKind::Metrics, b"one"),
                (FrameKind::CatalogSnapshot, b"later"),
                (FrameKind::CatalogCommand, b"command"),
                (FrameKind::CatalogSnapshot, b"snapshot"),
                (FrameKind::Metrics, b"two"),
            ]
        );
        assert_eq!(frames[1].position, a);
        assert!(frames.windows(2).all(|pair| pair[0].end <= pair[1].position));
        assert_eq!((report.files, report.frames, report.damage.len()), (3, 6, 0));
        assert!(report.catalog_intact);
    }
}
