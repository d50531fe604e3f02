//! Collecting into a store that knows numbers, over rotations and restarts.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use model::LogRecord;
use parking_lot::Mutex;

use super::*;
use crate::spool::SpoolConfig;

const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps lines, and through which number of which spool it has them.
#[derive(Default)]
struct Kept {
    through: BTreeMap<[u8; 16], u64>,
    lines: Vec<String>,
    refuses: bool,
    /// Answers are lost, as when the process is killed behind the sync.
    is_mute: bool,
}

#[derive(Clone, Default)]
struct Store(Arc<Mutex<Kept>>);

impl LineStore for Store {
    fn stored_through(&self, incarnation: [u8; 16]) -> Option<u64> {
        Some(self.0.lock().through.get(&incarnation).copied().unwrap_or(0))
    }

    fn store(&self, incarnation: [u8; 16], lines: NumberedLines, done: OnDelivered) {
        let mut kept = self.0.lock();
        if kept.refuses {
            return done(Err(LinesRefused::Now("full".to_owned())));
        }
        let through = kept.through.entry(incarnation).or_default();
        assert!(lines.after_seq <= *through, "nothing is overtaken");
        if lines.seq > *through {
            *through = lines.seq;
            let (mut records, mut metadata) = (lines.lines.records(), Vec::new());
            while let Some(record) = records.next_record(&mut metadata).expect("own parts") {
                if let LogRecord::Line { line, .. } = record {
                    kept.lines.push(String::from_utf8_lossy(line).into_owned());
                }
            }
        }
        if !kept.is_mute {
            done(Ok(lines.lines.lines()));
        }
    }
}

struct Scene {
    directory: tempfile::TempDir,
    store: Store,
    collection: Option<LocalCollection>,
    stages: Arc<dyn Stages>,
    pattern: &'static str,
    /// Patterns of another group.
    others: Vec<Glob>,
    take_over: Vec<ForeignPositions>,
}

impl Scene {
    fn new(pattern: &'static str) -> Scene {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("logs")).expect("made");
        let (store, stages) = (Store::default(), Arc::new(Unchanged));
        let (others, take_over) = (vec![], vec![]);
        Scene { directory, store, collection: None, stages, pattern, others, take_over }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("logs").join(name)
    }

    fn start(&mut self) {
        let pattern = self.path(self.pattern).display().to_string();
        let group = FileGroup {
            paths: vec![Glob::new(&pattern).expect("a pattern")],
            exclude: vec![],
            labels: BTreeMap::from([("job".to_owned(), "test".to_owned())]),
            encoding: Encoding::Utf8,
            start: Start::Beginning,
            stages: Arc::clone(&self.stages),
            layout: Layout::Plain,
        };
        let mut files = vec![group];
        if !self.others.is_empty() {
            let paths = self.others.clone();
            let labels = BTreeMap::from([("job".to_owned(), "other".to_owned())]);
            files.push(FileGroup { paths, labels, ..files[0].clone() });
        }
        let config = LogsConfig {
            files,
            journal: None,
            syslog: vec![],
            stdin: None,
            take_over: self.take_over.clone(),
            host: "here".to_owned(),
            directory: self.directory.path().join("spool"),
            linger: super::LINGER,
            spool: SpoolConfig { disk_share_percent: 90, ..SpoolConfig::default() },
        };
        let store = Arc::new(self.store.clone());
        self.collection = Some(LocalCollection::start(config, store).expect("started"));
    }

    fn stop(&mut self) {
        self.collection.take().expect("it runs").stop();
    }

    fn append(&self, name: &str, text: &str) {
        let file = OpenOptions::new().create(true).append(true).open(self.path(name));
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    }

    #[track_caller]
    fn wait(&self, wanted: &[&str]) {
        let until = Instant::now() + PATIENCE;
        let mut wanted: Vec<&str> = wanted.to_vec();
        wanted.sort_unstable();
        loop {
            let mut found = self.store.0.lock().lines.clone();
            found.sort_unstable();
            if found == wanted {
                return;
            }
            assert!(Instant::now() < until, "found {found:?}, wanted {wanted:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn pack(from: &Path, to: &Path) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&fs::read(from).expect("read")).expect("packed");
    fs::write(to, encoder.finish().expect("packed")).expect("written");
}

#[test]
fn lines_are_stored_once_over_restarts() {
    let mut scene = Scene::new("*.log");
    scene.append("a.log", "1\n2\n");
    scene.start();
    scene.wait(&["1", "2"]);
    scene.append("a.log", "3\nhal");
    scene.wait(&["1", "2", "3"]);
    scene.stop();
    scene.append("a.log", "f\n5\n");
    scene.append("b.log", "6\n");
    scene.start();
    scene.wait(&["1", "2", "3", "half", "5", "6"]);
    scene.stop();
    scene.start();
    scene.append("b.log", "7\n");
    scene.wait(&["1", "2", "3", "half", "5", "6", "7"]);
}

#[test]
fn answers_that_are_lost_double_nothing_and_a_store_that_refuses_loses_nothing() {
    let mut scene = Scene::new("*.log");
    scene.store.0.lock().is_mute = true;
    scene.append("a.log", "1\n");
    scene.start();
    scene.wait(&["1"]);
    scene.stop();
    scene.append("a.log", "2\n");
    {
        let mut kept = scene.store.0.lock();
        (kept.is_mute, kept.refuses) = (false, true);
    }
    scene.start();
    scene.append("a.log", "3\n");
    std::thread::sleep(Duration::from_millis(700));
    scene.wait(&["1"]);
    scene.stop();
    scene.store.0.lock().refuses = false;
    scene.append("a.log", "4\n");
    scene.start();
    scene.wait(&["1", "2", "3", "4"]);
}

#[test]
fn files_that_are_renamed_are_read_to_their_end_while_running_and_while_not() {
    let mut scene = Scene::new("a.log");
    scene.append("a.log", "1\n");
    scene.start();
    scene.wait(&["1"]);
    let mut writer = OpenOptions::new().append(true).open(scene.path("a.log")).expect("opened");
    fs::rename(scene.path("a.log"), scene.path("a.log.1")).expect("renamed");
    scene.append("a.log", "3\n");
    std::thread::sleep(Duration::from_millis(300));
    writer.write_all(b"2\n").expect("written");
    scene.wait(&["1", "2", "3"]);
    scene.stop();
    scene.append("a.log", "4\n");
    fs::rename(scene.path("a.log"), scene.path("a.log.2")).expect("renamed");
    scene.append("a.log", "5\n");
    scene.start();
    scene.wait(&["1", "2", "3", "4", "5"]);
}

#[test]
fn files_that_are_copied_and_truncated_are_read_once() {
    let mut scene = Scene::new("a.log*");
    scene.append("a.log", "1\n2\n");
    scene.start();
    scene.wait(&["1", "2"]);
    // What comes between the last look and the truncation is in the copy.
    scene.append("a.log", "3\n");
    fs::copy(scene.path("a.log"), scene.path("a.log.1")).expect("copied");
    fs::write(scene.path("a.log"), "").expect("truncated");
    scene.wait(&["1", "2", "3"]);
    // A copy that is there for a while before the truncation is not read beside what it is of.
    scene.append("a.log", "3a\n");
    fs::copy(scene.path("a.log"), scene.path("a.log.3")).expect("copied");
    std::thread::sleep(Duration::from_millis(2_500));
    fs::write(scene.path("a.log"), "").expect("truncated");
    scene.wait(&["1", "2", "3", "3a"]);
    scene.append("a.log", "4\n");
    scene.wait(&["1", "2", "3", "3a", "4"]);
    scene.stop();
    scene.append("a.log", "5\n");
    fs::copy(scene.path("a.log"), scene.path("a.log.2")).expect("copied");
    fs::write(scene.path("a.log"), "6\n").expect("truncated");
    scene.start();
    scene.wait(&["1", "2", "3", "3a", "4", "5", "6"]);
}

#[test]
fn files_that_are_packed_are_read_from_where_they_were_read_to() {
    let mut scene = Scene::new("a.log*");
    scene.append("a.log", "1\n");
    scene.start();
    scene.wait(&["1"]);
    scene.stop();
    scene.append("a.log", "2\n");
    pack(&scene.path("a.log"), &scene.path("a.log.1.gz"));
    fs::remove_file(scene.path("a.log")).expect("removed");
    scene.append("a.log", "3\n");
    scene.start();
    scene.wait(&["1", "2", "3"]);
    // One that was never seen is read as a whole.
    scene.append("tmp", "0\n");
    pack(&scene.path("tmp"), &scene.path("a.log.9.gz"));
    scene.wait(&["0", "1", "2", "3"]);
    scene.stop();
    scene.start();
    scene.append("a.log", "4\n");
    scene.wait(&["0", "1", "2", "3", "4"]);
}

#[test]
fn a_file_that_is_renamed_and_packed_at_once_is_read_once() {
    let mut scene = Scene::new("a.log*");
    scene.append("a.log", "1\n");
    scene.start();
    scene.wait(&["1"]);
    scene.append("a.log", "2\n");
    fs::rename(scene.path("a.log"), scene.path("a.log.1")).expect("renamed");
    scene.append("a.log.1", "3\n");
    pack(&scene.path("a.log.1"), &scene.path("a.log.1.gz"));
    fs::remove_file(scene.path("a.log.1")).expect("removed");
    scene.append("a.log", "4\n");
    scene.wait(&["1", "2", "3", "4"]);
    std::thread::sleep(Duration::from_secs(6));
    scene.append("a.log", "5\n");
    scene.wait(&["1", "2", "3", "4", "5"]);
}

#[test]
fn a_file_that_is_removed_ends_with_what_stood_behind_its_last_line() {
    let mut scene = Scene::new("*.log");
    scene.append("a.log", "1\nend");
    scene.start();
    scene.wait(&["1"]);
    fs::remove_file(scene.path("a.log")).expect("removed");
    scene.wait(&["1", "end"]);
    scene.append("a.log", "2\n");
    scene.wait(&["1", "end", "2"]);
}

/// Joins lines that begin with a blank to the one before, as `multiline` does.
#[derive(Debug)]
struct Joining;

#[derive(Default)]
struct Joined {
    held: Option<(Entry, Vec<u64>)>,
}

impl Stages for Joining {
    fn start(&self) -> Box<dyn Pipeline> {
        Box::new(Joined::default())
    }
}

impl Pipeline for Joined {
    fn process(&mut self, entry: &mut Entry, _now: Instant, out: &mut dyn Entries) {
        if entry.line == b"dropped" {
            return;
        }
        if let (Some((held, offsets)), true) = (&mut self.held, entry.line.starts_with(b" ")) {
            held.line.extend_from_slice(&entry.line);
            offsets.push(entry.offset);
            return;
        }
        if entry.line.starts_with(b"!") {
            return out.take(entry);
        }
        self.flush(None, out);
        self.held = Some((entry.clone(), vec![entry.offset]));
    }

    fn flush(&mut self, _now: Option<Instant>, out: &mut dyn Entries) {
        if let Some((held, _)) = self.held.take() {
            out.take(&held);
        }
    }

    fn held(&self, offsets: &mut Vec<u64>) {
        offsets.extend(self.held.iter().flat_map(|(_, held)| held));
    }
}

#[test]
fn lines_that_are_held_back_survive_a_restart_and_those_between_are_not_doubled() {
    let mut scene = Scene::new("*.log");
    scene.stages = Arc::new(Joining);
    scene.append("a.log", "0\n1\n!x\ndropped\n a\n!y\n");
    scene.start();
    scene.wait(&["!x", "!y", "0"]);
    scene.stop();
    scene.append("a.log", " b\n!z\n2\n");
    scene.start();
    scene.wait(&["!x", "!y", "!z", "0", "1 a b"]);
    scene.stop();
    scene.start();
    scene.append("a.log", "3\n");
    scene.wait(&["!x", "!y", "!z", "0", "1 a b", "2"]);
}

#[test]
fn the_journal_goes_on_behind_its_cursor_also_when_that_is_gone() {
    let scene = Scene::new("*.none");
    // In place of `journalctl`: entries of a file, from the one that the cursor names, or if that is gone
    // from the next one.
    let command = scene.path("journalctl");
    let script = format!(
        "#!/bin/sh\nfrom=0\nfor arg; do case $arg in --cursor=*) from=${{arg#*=c}};; esac; done\n\
         first=$(cat {})\n[ $from -gt $first ] || from=$first\ni=0\nwhile :; do\n  total=$(cat {})\n  while [ $i -lt $total ]; do i=$((i+1)); \
         [ $i -lt $from ] || printf '__CURSOR=c%s\\n__REALTIME_TIMESTAMP=17000000000000%02d\\n_HOSTNAME=h\\nMESSAGE=m%s\\n\\n' $i $i $i; done\n  sleep 0.05\ndone\n",
        scene.path("first").display(),
        scene.path("total").display()
    );
    fs::write(&command, script).expect("written");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).expect("made runnable");
    let start = |scene: &Scene, first: &str, total: &str| {
        fs::write(scene.path("first"), first).expect("written");
        fs::write(scene.path("total"), total).expect("written");
        let config = LogsConfig {
            files: vec![],
            journal: Some(JournalConfig {
                command: command.clone(),
                arguments: vec![],
                labels: BTreeMap::new(),
                first: FirstEntries::Last(10),
                as_json: false,
                stages: Arc::new(Unchanged),
            }),
            syslog: vec![],
            stdin: None,
            take_over: vec![],
            host: "here".to_owned(),
            directory: scene.directory.path().join("spool"),
            linger: super::LINGER,
            spool: SpoolConfig { disk_share_percent: 90, ..SpoolConfig::default() },
        };
        LocalCollection::start(config, Arc::new(scene.store.clone())).expect("started")
    };
    let collection = start(&scene, "1", "2");
    scene.wait(&["m1", "m2"]);
    collection.stop();
    let collection = start(&scene, "1", "4");
    scene.wait(&["m1", "m2", "m3", "m4"]);
    collection.stop();
    // The journal has let go of all that is known.
    let collection = start(&scene, "6", "7");
    scene.wait(&["m1", "m2", "m3", "m4", "m6", "m7"]);
    collection.stop();
}

#[test]
fn what_another_collector_has_read_is_not_read_again_and_what_it_has_not_is() {
    let mut scene = Scene::new("*.log");
    scene.append("a.log", "1\n2\n3\n");
    scene.append("b.log", "4\n");
    let noted = format!("positions:\n  {}: \"4\"\n", scene.path("a.log").display());
    let path = scene.path("positions.yaml");
    fs::write(&path, noted).expect("written");
    scene.take_over = vec![ForeignPositions { path, older: None, journal: None, unpacks: false }];
    scene.start();
    scene.wait(&["3", "4"]);
    scene.stop();
    // It stays there, and says nothing any more: also not of a file that comes under the name.
    fs::remove_file(scene.path("a.log")).expect("removed");
    scene.append("a.log", "5\n6\n7\n");
    scene.append("b.log", "8\n");
    scene.start();
    scene.wait(&["3", "4", "5", "6", "7", "8"]);
}

#[test]
fn a_file_of_two_groups_is_told_to_be_of_the_first() {
    let mut scene = Scene::new("a.log");
    scene.append("a.log", "1\n");
    scene.append("b.log", "2\n");
    let pattern = scene.path("*.log").display().to_string();
    scene.others = vec![Glob::new(&pattern).expect("a pattern")];
    scene.start();
    scene.wait(&["1", "2"]);
    let looked = scene.collection.as_ref().expect("it runs").status().looked();
    let [passed] = &looked.passed_over[..] else { panic!("{looked:?}") };
    assert!(passed.path.ends_with("/a.log"), "{passed:?}");
    let wanted = format!("it is collected already, by {}", scene.path("a.log").display());
    assert!(passed.reason.starts_with(&wanted) && passed.reason.contains("*.log"), "{passed:?}");
    scene.stop();
}

#[test]
fn it_is_told_which_files_are_collected_and_why_others_are_not() {
    let mut scene = Scene::new("*.{log,gz}");
    scene.append("a.log", "1\nhalf");
    fs::hard_link(scene.path("a.log"), scene.path("b.log")).expect("linked");
    pack(&scene.path("a.log"), &scene.path("c.gz"));
    scene.start();
    let until = Instant::now() + PATIENCE;
    let (sources, looked) = loop {
        let status = scene.collection.as_ref().expect("it runs").status();
        let (sources, looked) = (status.sources(), status.looked());
        let reasons: Vec<&str> =
            looked.passed_over.iter().map(|passed| passed.reason.as_str()).collect();
        if sources.len() == 1 && reasons.iter().any(|reason| reason.contains("another name")) {
            break (sources, looked);
        }
        assert!(Instant::now() < until, "{sources:?} {looked:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((sources[0].read, sources[0].size_bytes, sources[0].lag_bytes), (2, 6, 4));
    assert_eq!((sources[0].state, sources[0].lines), (Progress::Reading, 1));
    assert_eq!((looked.patterns.len(), looked.patterns[0].files), (1, 3));
    scene.stop();
    let nothing = Glob::new("/none/of/these/*.log").expect("a pattern").why_nothing();
    assert!(nothing.starts_with("/none: "), "{nothing}");
}

#[test]
fn messages_of_syslog_come_by_datagram_and_by_connection() {
    use std::net::{TcpStream, UdpSocket};
    let scene = Scene::new("*.none");
    let syslog = |listen: &str| SyslogConfig {
        listen: SyslogListen::parse(listen).expect("an address"),
        labels: BTreeMap::from([("zone".to_owned(), "z".to_owned())]),
        stages: Arc::new(Unchanged),
    };
    let config = LogsConfig {
        files: vec![],
        journal: None,
        syslog: vec![syslog("udp://127.0.0.1:0"), syslog("tcp://127.0.0.1:0")],
        stdin: None,
        take_over: vec![],
        host: "here".to_owned(),
        directory: scene.directory.path().join("spool"),
        linger: super::LINGER,
        spool: SpoolConfig { disk_share_percent: 90, ..SpoolConfig::default() },
    };
    let collection =
        LocalCollection::start(config, Arc::new(scene.store.clone())).expect("started");
    let addresses = collection.syslog_addresses();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let message = b"<34>1 2026-11-29T22:14:15.003Z host app 7 ID - by datagram";
    socket.send_to(message, addresses[0]).expect("sent");
    let mut stream = TcpStream::connect(addresses[1]).expect("connected");
    stream.write_all(b"<13>Nov 29 22:14:15 host app[7]: by newline\n").expect("sent");
    let framed = "<34>1 2026-11-29T22:14:15Z host app 7 ID - same";
    stream.write_all(format!("{} {framed}", framed.len()).repeat(2).as_bytes()).expect("sent");
    scene.wait(&["by datagram", "by newline", "same", "same"]);
    stream.write_all(b"<13>Nov 29 22:14:15 host app[7]: last\n").expect("sent");
    drop(stream);
    scene.wait(&["by datagram", "by newline", "last", "same", "same"]);
    collection.stop();
}

#[test]
fn many_files_are_followed_with_little() {
    let mut scene = Scene::new("*.log");
    for number in 0..2_000 {
        scene.append(&format!("{number}.log"), &format!("first of {number}\n"));
    }
    scene.start();
    let wait = |wanted: usize| {
        let until = Instant::now() + PATIENCE;
        while scene.store.0.lock().lines.len() < wanted {
            assert!(Instant::now() < until, "{} lines", scene.store.0.lock().lines.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait(2_000);
    for number in 0..2_000 {
        scene.append(&format!("{number}.log"), &format!("second of {number}\n"));
    }
    wait(4_000);
    let mut lines = scene.store.0.lock().lines.clone();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 4_000);
}
