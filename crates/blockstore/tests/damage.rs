//! Damaged log files: a start always succeeds, undamaged frames are all read, nothing is invented,
//! and what is lost is counted and kept.

#![expect(clippy::disallowed_methods, reason = "damage is done behind the disk's back")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use blockstore::{Disk, FileDisk, FrameKind, LogReader, MemoryDisk, ReplayReport};
use support::{FILE_HEADER, FRAME_HEADER, data, log_path, read, replay, replay_catalog, writer};

/// What a log of three files holds: data frames with their file, range and payload.
struct Written {
    disk: Arc<dyn Disk>,
    frames: Vec<(u64, std::ops::Range<usize>, Vec<u8>)>,
}

/// Three closed files and the one of a running process, each with frames around the size of pages.
fn write_log(disk: Arc<dyn Disk>, frame_bytes: usize, frames_per_file: usize) -> Written {
    let mut log = writer(&disk, b"snapshot of the catalog");
    let mut frames = Vec::new();
    for file in 1..=3_u64 {
        for index in 0..frames_per_file {
            // A frame inside a frame: it must never come out.
            let mut payload = format!("{file}/{index} \u{fffd}").into_bytes();
            payload.extend_from_slice(&[0xf7, b'W', b'F', b'L', 3, 0, 0, 0, 1, 0, 0, 0]);
            payload.extend((0..frame_bytes).map(|i| (i * 7 + index) as u8));
            let at = log.append(FrameKind::Metrics, &[&payload]).expect("space");
            log.sync().expect("a sound disk");
            let start = at.offset as usize;
            frames.push((at.file, start..start + FRAME_HEADER + payload.len(), payload));
        }
        if file < 3 {
            log.rotate(b"snapshot of the catalog").expect("space");
        }
    }
    Written { disk, frames }
}

impl Written {
    /// Frames of which no byte differs between `bytes` and what is now in the file of `sequence`.
    fn untouched(&self, sequence: u64, before: &[u8], after: &[u8]) -> Vec<Vec<u8>> {
        let intact = |range: &std::ops::Range<usize>| {
            after.get(range.clone()).is_some_and(|now| now == &before[range.clone()])
        };
        let keep = self.frames.iter().filter(|(file, range, _)| *file != sequence || intact(range));
        keep.map(|(_, _, payload)| payload.clone()).collect()
    }

    fn check_subset(&self, found: &[Vec<u8>]) {
        let order: BTreeMap<&[u8], usize> =
            self.frames.iter().enumerate().map(|(i, f)| (&f.2[..], i)).collect();
        let places: Vec<usize> = found.iter().map(|payload| order[&payload[..]]).collect();
        assert!(places.is_sorted_by(|a, b| a < b), "doubled or out of order: {places:?}");
    }
}

#[test]
fn every_flipped_bit_costs_at_most_its_frame() {
    let memory = MemoryDisk::new();
    let written = write_log(Arc::new(memory.clone()), 20, 3);
    for sequence in 1..=3 {
        let path = log_path(sequence);
        let before = read(&*written.disk, &path);
        for at in 0..before.len() {
            memory.damage(&path, |bytes| bytes[at] ^= 1 << (at % 8));
            let after = read(&*written.disk, &path);
            let (catalog, _) = replay_catalog(&written.disk);
            assert_eq!(catalog.len(), 1, "the snapshot, its copy or an older one");
            let (frames, report) = replay(&written.disk);
            assert_eq!(data(&frames), written.untouched(sequence, &before, &after), "byte {at}");
            let in_last = sequence == 3 && at >= written.frames[8].1.start;
            let noticed = report.damage.len() == 1 || in_last && report.torn_bytes > 0;
            assert!(noticed, "byte {at} of file {sequence}: {report:?}");
            let snapshot = FILE_HEADER..FILE_HEADER + FRAME_HEADER + 23;
            assert_eq!(report.recovered_snapshots, u64::from(snapshot.contains(&at)));
            memory.damage(&path, |bytes| *bytes = before.clone());
        }
    }
}

#[test]
fn every_cut_costs_only_what_is_behind_it() {
    let memory = MemoryDisk::new();
    let written = write_log(Arc::new(memory.clone()), 20, 3);
    for sequence in 1..=3 {
        let path = log_path(sequence);
        let before = read(&*written.disk, &path);
        for at in 0..before.len() {
            memory.damage(&path, |bytes| bytes.truncate(at));
            let (frames, report) = replay(&written.disk);
            let expected = written.untouched(sequence, &before, &before[..at]);
            assert_eq!(data(&frames), expected, "cut at {at}");
            // A cut between two frames of the last file looks like frames never written.
            assert!(sequence == 3 || !report.damage.is_empty(), "cut at {at}: {report:?}");
            memory.damage(&path, |bytes| *bytes = before.clone());
        }
    }
}

/// Recipes that the corpus of bad inputs lists for stored files, if it is there.
fn recipes() -> Vec<String> {
    let corpus =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/storage-damage.jsonl");
    let lines = std::fs::read_to_string(corpus).unwrap_or_default();
    // Each line has its recipe as JSON inside a JSON string.
    let recipe = |line: &str| {
        let start = line.find("\"text\": \"").map(|at| at + 9)?;
        let end = line[start..].find("}\"").map(|at| start + at + 1)?;
        Some(line[start..end].replace('\\', ""))
    };
    lines.lines().filter_map(recipe).collect()
}

fn field<'a>(recipe: &'a str, name: &str) -> &'a str {
    let key = format!("\"{name}\": ");
    let start = recipe.find(&key).map_or(recipe.len(), |at| at + key.len());
    let end = recipe[start..].find([',', '}']).map_or(recipe.len(), |at| start + at);
    recipe[start..end].trim_matches('"')
}

/// Where a recipe's place is in a file whose second frame begins at `frame`.
fn place(at: &str, len: usize, frame: usize) -> usize {
    match at {
        "start" => 0,
        "mid" => len / 2,
        "end" | "end-1" => len - 1,
        "header" => 10,
        "length" => frame + 8,
        "crc" => frame + 12,
        "payload-last" => len - 1,
        "footer" => len - 4,
        "page-1" => 4095,
        "page+1" => 4097,
        number => number.parse().expect("a place this test knows"),
    }
}

/// Applies a recipe that changes the bytes of one file; false if it is of another sort.
fn apply(recipe: &str, bytes: &mut Vec<u8>, frame: usize) -> bool {
    let len = field(recipe, "len").parse().unwrap_or(0);
    let at = || place(field(recipe, "at"), bytes.len(), frame);
    match field(recipe, "op") {
        "zero" => {
            let from = at().min(bytes.len().saturating_sub(len));
            let end = (from + len).min(bytes.len());
            bytes[from..end].fill(0);
        }
        "flip" => {
            let (at, bit) = (at(), field(recipe, "bit").parse::<u32>().expect("a bit"));
            bytes[at] ^= 1 << bit;
        }
        "truncate" => {
            let at = at();
            bytes.truncate(at);
        }
        "append-garbage" => {
            bytes.extend((0..len).map(|i| (i * 2_654_435_761).to_le_bytes()[2] | 1))
        }
        "dup-tail" => bytes.extend_from_within(bytes.len() - len..),
        "old-data-block" => bytes.copy_within(4096..4608, 8192),
        "reorder" => {
            let (a, b) = bytes[4096..12288].split_at_mut(4096);
            a.swap_with_slice(b);
        }
        "empty" => bytes.clear(),
        _ => return false,
    }
    true
}

#[test]
fn recipes_of_the_corpus_cost_only_what_they_touch() {
    let recipes = recipes();
    if recipes.is_empty() {
        eprintln!("skipped: there is no ../shared/corpus here");
    }
    let memory = write_log(Arc::new(MemoryDisk::new()), 3000, 50);
    for recipe in &recipes {
        for sequence in 1..=3 {
            let directory = tempfile::tempdir().expect("a temporary directory");
            std::fs::create_dir(directory.path().join("log")).expect("space");
            for file in memory.disk.list("log").expect("a sound disk") {
                let bytes = read(&*memory.disk, &file.key);
                std::fs::write(directory.path().join(&file.key), bytes).expect("space");
            }
            let disk = FileDisk::open(directory.path()).expect("nobody else has it");
            let written = Written { disk: Arc::new(disk), frames: memory.frames.clone() };
            let path = log_path(sequence);
            let full = directory.path().join(&path);
            let before = std::fs::read(&full).expect("the file exists");
            let frame = written.frames[1].1.start;
            let mut after = before.clone();
            let expected = if apply(recipe, &mut after, frame) {
                std::fs::write(&full, &after).expect("space");
                written.untouched(sequence, &before, &after)
            } else {
                apply_to_names(recipe, directory.path(), sequence);
                let lost = if recipe.contains("swap-files") { 0 } else { sequence };
                let kept = written.frames.iter().filter(|frame| frame.0 != lost);
                kept.map(|frame| frame.2.clone()).collect()
            };
            let (catalog, _) = replay_catalog(&written.disk);
            assert_eq!(catalog.len(), 1, "{recipe} on file {sequence}");
            let (frames, report) = replay(&written.disk);
            let found = data(&frames);
            written.check_subset(&found);
            assert_eq!(found.len(), expected.len(), "{recipe} on file {sequence}: {report:?}");
            assert!(found == expected, "{recipe} on file {sequence}");
            // Of the last file nobody knows how long it was.
            let cut_at_end = sequence == 3 && (recipe.contains("truncate") || after.is_empty());
            let renamed = after == before && !recipe.contains("symlink");
            check_noticed(recipe, &report, cut_at_end || renamed && sequence == 3);
            // The process goes on to write, and the next start sees the same.
            writer(&written.disk, b"later").append(FrameKind::Metrics, &[b"x"]).expect("space");
            assert_eq!(data(&replay(&written.disk).0).len(), expected.len() + 1, "{recipe}");
        }
    }
}

fn apply_to_names(recipe: &str, directory: &Path, sequence: u64) {
    let path = |sequence| directory.join(log_path(sequence));
    match field(recipe, "op") {
        "delete" => std::fs::remove_file(path(sequence)).expect("it exists"),
        "symlink-loop" => {
            std::fs::remove_file(path(sequence)).expect("it exists");
            std::os::unix::fs::symlink(path(sequence), path(sequence)).expect("links work");
        }
        "swap-files" => {
            let (a, b) = (path(sequence), path(sequence % 3 + 1));
            let aside = directory.join("aside");
            std::fs::rename(&a, &aside).expect("it exists");
            std::fs::rename(&b, &a).expect("it exists");
            std::fs::rename(&aside, &b).expect("it exists");
        }
        other => panic!("{other} is a recipe this test does not know"),
    }
}

fn check_noticed(recipe: &str, report: &ReplayReport, may_be_silent: bool) {
    let exchanged = recipe.contains("swap-files");
    let noticed = !report.damage.is_empty() || report.torn_bytes > 0;
    assert!(noticed || exchanged || may_be_silent, "{recipe}: {report:?}");
    for damage in &report.damage {
        let saved = damage.saved_as.is_some();
        let nothing_to_save = damage.cause.contains("missing")
            || damage.cause.contains("cannot be opened")
            || recipe.contains("zero");
        assert!(saved || nothing_to_save, "{recipe}: {damage:?}");
    }
}

#[test]
fn exchanged_and_doubled_files_find_their_places_even_if_the_power_goes() {
    let (one, two, five) = (log_path(1), log_path(2), log_path(5));
    let exchanged = || {
        let memory = MemoryDisk::new();
        let written = write_log(Arc::new(memory.clone()), 20, 3);
        memory.rename(&one, "log/aside").expect("it exists");
        memory.rename(&two, &one).expect("it exists");
        memory.rename("log/aside", &two).expect("it exists");
        let mut double = memory.create(&five).expect("a new file");
        double.append(&[&read(&memory, &log_path(3))]).expect("space");
        double.sync_data().expect("a sound disk");
        memory.sync_directory("log").expect("a sound disk");
        (memory, written)
    };
    for cut in 0.. {
        let (memory, written) = exchanged();
        memory.cut_power_after(cut);
        let finished = LogReader::open(Arc::clone(&written.disk), Arc::default()).is_ok();
        let crashed: Arc<dyn Disk> = Arc::new(memory.crash(cut * 7));
        let (frames, report) = replay(&crashed);
        let all: Vec<Vec<u8>> = written.frames.iter().map(|frame| frame.2.clone()).collect();
        assert_eq!(data(&frames), all, "cut at {cut}: {report:?}");
        if finished {
            assert!(cut > 5, "the files were moved");
            break;
        }
    }
}

#[test]
fn a_lost_log_leaves_the_catalog_in_its_copy() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    drop(writer(&disk, b"the only list of blocks"));
    memory.remove(&log_path(1)).expect("a sound disk");
    let (catalog, intact) = replay_catalog(&disk);
    assert_eq!(catalog, [(FrameKind::CatalogSnapshot, b"the only list of blocks".to_vec())]);
    assert!(!intact, "commands after the snapshot are lost");
    assert_eq!(replay(&disk).1.damage[0].cause, "file is missing or cannot be opened");
}
