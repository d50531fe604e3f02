//! How fast the log is written, synced and replayed.
//!
//! `cargo run --release -p watchfire-blockstore --example log_speed -- DIRECTORY [MIB] [FRAME_KIB]`
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use blockstore::{Disk, FileDisk, FrameKind, LogPosition, LogReader, LogWriter};
use catalog::StoreId;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("give a directory on the disk to measure")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (mib, frame_kib) = (number(1024)?, number(16)?);
    let payload: Vec<u8> = (0..frame_kib << 10).map(|i| (i * 7 + i / 251) as u8).collect();
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(Path::new(&directory))?);
    let mut log = LogWriter::open(
        LogReader::open(Arc::clone(&disk), Arc::default())?,
        Arc::default(),
        StoreId([1; 16]),
        LogPosition::default(),
        Vec::new(),
    )?;

    let started = Instant::now();
    for _ in 0..(mib << 10) / frame_kib {
        log.append(FrameKind::Metrics, &[&payload])?;
        if log.current_file_bytes() > 128 << 20 {
            log.rotate(&[])?;
        }
    }
    log.sync()?;
    report("append, one sync per 128 MiB", mib, started);

    let mut waits = Vec::new();
    for _ in 0..500 {
        log.append(FrameKind::Metrics, &[&payload])?;
        let started = Instant::now();
        log.sync()?;
        waits.push(started.elapsed());
    }
    waits.sort_unstable();
    println!("sync of {frame_kib} KiB: median {:?}, p99 {:?}", waits[250], waits[495]);
    drop(log);

    for pass in ["data", "data again"] {
        let mut reader = LogReader::open(Arc::clone(&disk), Arc::default())?;
        let started = Instant::now();
        reader.replay_catalog(&mut |_| {})?;
        println!("catalog pass: {:?}", started.elapsed());
        let started = Instant::now();
        let mut bytes = 0;
        reader.replay(LogPosition::default(), &mut |frame| bytes += frame.payload.len())?;
        report(pass, bytes >> 20, started);
    }
    Ok(())
}

fn report(what: &str, mib: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what}: {mib} MiB in {seconds:.3} s, {:.2} GB/s", mib as f64 / 953.7 / seconds);
}
