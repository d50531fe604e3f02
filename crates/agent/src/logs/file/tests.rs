use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::entry::{Stages, Unchanged};
use super::*;

fn open(path: &Path, begin: Begin, state: FileState) -> Tailed {
    let labels = Labels::from_pairs([("a", "b")]).expect("valid");
    let settings = (0, labels, Encoding::Utf8, Unchanged.start());
    Tailed::open(0, path.to_owned(), state, begin, settings, Instant::now()).expect("opened")
}

fn lines(file: &mut Tailed) -> (Vec<String>, Read) {
    let (mut batch, mut scratch) = (LinesBatch::default(), Scratch::new());
    loop {
        let read = file.read(&mut scratch, Instant::now(), &mut batch).expect("read");
        if read != Read::More {
            assert!(!file.is_finished() || read == Read::UpToDate);
            return (super::super::test_lines(&batch), read);
        }
    }
}

#[test]
fn whole_lines_are_read_once_and_a_part_waits_for_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.log");
    std::fs::write(&path, "one\ntwo\r\npar").expect("written");
    let mut file = open(&path, Begin::At(0), FileState::default());
    assert_eq!(lines(&mut file).0, ["one", "two"]);
    assert_eq!(file.through(), 9);
    let mut writer = std::fs::OpenOptions::new().append(true).open(&path).expect("opened");
    writer.write_all(b"t\nthree\nend").expect("written");
    assert_eq!(lines(&mut file).0, ["part", "three"]);
    let (mut batch, mut scratch) = (LinesBatch::default(), Scratch::new());
    file.finish(&mut scratch, Instant::now(), &mut batch).expect("finished");
    assert_eq!(super::super::test_lines(&batch), ["end"]);
    assert!(file.is_finished());
}

#[test]
fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.log");
    let long = "x".repeat(3 * MAX_LINE_BYTES);
    std::fs::write(&path, format!("{long}\nnext\n")).expect("written");
    let mut file = open(&path, Begin::At(0), FileState::default());
    let mut found = Vec::new();
    for _ in 0..9 {
        found.extend(lines(&mut file).0);
    }
    assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE_BYTES, 4]);
}

#[test]
fn bytes_that_were_replaced_are_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.log");
    std::fs::write(&path, "first\nsecond\n").expect("written");
    let mut file = open(&path, Begin::At(0), FileState::default());
    lines(&mut file);
    // Truncated, and longer than before when it is looked at.
    std::fs::write(&path, "other lines that are\nlonger than those before\n").expect("written");
    assert_eq!(lines(&mut file), (Vec::new(), Read::Rewritten));
    std::fs::write(&path, "f").expect("written");
    assert_eq!(lines(&mut file), (Vec::new(), Read::Rewritten));
}

#[test]
fn a_file_that_is_replaced_before_anything_of_it_is_read_is_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.log");
    for old in ["short\n".to_owned(), "of the old content\n".repeat(100)] {
        std::fs::write(&path, old).expect("written");
        let mut file = open(&path, Begin::At(0), FileState::default());
        std::fs::write(&path, "of the new content\n".repeat(200)).expect("written");
        assert_eq!(lines(&mut file), (Vec::new(), Read::Rewritten));
    }
}

#[test]
fn packed_files_are_read_from_any_place_and_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.log.1.gz");
    let text: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("packed");
    encoder.write_all(b"rest").expect("packed");
    std::fs::write(&path, encoder.finish().expect("packed")).expect("written");
    let through = text.find("line 99990\n").expect("there") as u64;
    let mut file = open(&path, Begin::At(through), FileState::default());
    let (found, _) = lines(&mut file);
    assert_eq!(found.len(), 11);
    assert_eq!((found[0].as_str(), found[10].as_str()), ("line 99990", "rest"));
    assert!(file.is_finished());
    let at = through as usize;
    let mut position = Position { through, ..Position::default() };
    position.source = SourceState::File(FileState {
        head: Fingerprint::of(&text.as_bytes()[..HEAD_BYTES]),
        tail: Fingerprint::of(&text.as_bytes()[at - 100..at]),
        ..FileState::default()
    });
    assert_eq!(continues(&path, &position).expect("read"), Some(true));
    position.through -= 1;
    assert_eq!(continues(&path, &position).expect("read"), Some(false));
    position.through += 1_000_000;
    assert_eq!(continues(&path, &position).expect("read"), None);
}
