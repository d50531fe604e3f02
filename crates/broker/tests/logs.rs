//! Lines of logs against a naive list of them: through heads, flushes, merges, deletes, restarts and power
//! cuts.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;

use blockstore::{Disk, MemoryDisk};
use broker::{
    BatchIdentity, Broker, BrokerConfig, CommitError, Incarnation, Lane, LogOutcome, PushId,
};
use logstore::{Entries, NsRange, Query};
use model::LogBatch;
use model::{DEFAULT_TENANT, Labels, MatchOp, Matcher, TenantId, TimeRange};
use support::chance::Chance;
use support::*;

const MS: i64 = 1_000_000;
const OTHER: TenantId = TenantId(7);

/// A line: stream, time in nanoseconds, text. Its metadata say which of equal ones it is.
type Line = (usize, i64, String, u64);

fn stream(number: usize) -> Labels {
    let (text, app) = (number.to_string(), if number.is_multiple_of(2) { "even" } else { "odd" });
    Labels::from_pairs([("app", app), ("stream", &text)]).expect("valid")
}

fn log_batch(lines: &[Line]) -> LogBatch {
    let mut batch = LogBatch::default();
    for (number, t_ns, text, twin) in lines {
        batch.stream(&stream(*number));
        batch.push(*t_ns, text.as_bytes(), &[("twin", &twin.to_string())]).expect("short");
    }
    batch
}

fn push_as(
    broker: &Broker,
    tenant: TenantId,
    lines: &[Line],
    push: Option<PushId>,
) -> Result<LogOutcome, CommitError> {
    let (sender, receiver) = channel();
    broker.ingest_logs(tenant, log_batch(lines), push, move |result| {
        let _ = sender.send(result);
    });
    receiver.recv().expect("every push is answered")
}

fn push(broker: &Broker, lines: &[Line]) -> LogOutcome {
    push_as(broker, DEFAULT_TENANT, lines, None).expect("a sound disk")
}

/// What there should be, in the order in which it came.
#[derive(Default)]
struct Model(Vec<Line>);

impl Model {
    fn note(&mut self, lines: &[Line]) {
        for line in lines {
            let is_twin = |other: &&Line| (other.0, other.1, &other.2) == (line.0, line.1, &line.2);
            if self.0.iter().find(is_twin).is_none() {
                self.0.push(line.clone());
            }
        }
    }

    fn delete(&mut self, selector: &[Matcher], range: TimeRange) {
        self.0.retain(|(number, t_ns, ..)| {
            let labels = stream(*number);
            let is_selected = Matcher::all_match(selector, &labels);
            !(is_selected && NsRange::from(range).contains(*t_ns))
        });
    }

    #[track_caller]
    fn assert_read(&self, broker: &Broker, when: &str) {
        let (found, missing) = read(broker, DEFAULT_TENANT, &[], NsRange::all());
        assert_eq!(missing, Vec::<String>::new(), "{when}");
        assert_lines(&found, &self.0, when);
    }
}

/// Lines of one time and stream keep their order.
#[track_caller]
fn assert_lines(found: &[Line], wanted: &[Line], when: &str) {
    let sorted = |lines: &[Line]| {
        let mut lines = lines.to_vec();
        lines.sort_by_key(|line| (line.1, line.0));
        lines
    };
    let (found, wanted) = (sorted(found), sorted(wanted));
    let differs = found.iter().zip(&wanted).find(|(a, b)| a != b);
    assert!(
        found == wanted,
        "{when}: {} lines found, {} expected, first that differs: {differs:?}",
        found.len(),
        wanted.len()
    );
}

fn read(
    broker: &Broker,
    tenant: TenantId,
    matchers: &[Matcher],
    range: NsRange,
) -> (Vec<Line>, Vec<String>) {
    let reader = broker.logs_reader(tenant);
    let mut selection = reader.select(matchers, range).expect("there is memory");
    'again: loop {
        let query = Query::new(matchers.to_vec(), selection.range);
        let mut found = Vec::new();
        let entries = Entries::new(query, selection.sources.clone());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                reader.report(&selection, &error);
                selection.remove(&error);
                continue 'again;
            }
        };
        loop {
            match entries.next_entry() {
                Ok(None) => return (found, selection.missing),
                Ok(Some(entry)) => {
                    let number = entry.labels.get("stream").expect("each has one");
                    let twin = entry.metadata.get("twin").expect("each has one");
                    found.push((
                        number.parse().expect("a number"),
                        entry.timestamp_ns,
                        String::from_utf8(entry.line.to_vec()).expect("text"),
                        twin.parse().expect("a number"),
                    ));
                }
                Err(error) => {
                    reader.report(&selection, &error);
                    selection.remove(&error);
                    continue 'again;
                }
            }
        }
    }
}

fn equal(name: &str, value: &str) -> Matcher {
    Matcher::new(name, MatchOp::Equal, value).expect("no pattern")
}

/// Writes what is in the heads into blocks.
fn flush(broker: &Broker, name: u64) {
    broker.snapshot(&format!("s{name}"), true).expect("a sound disk");
}

fn in_memory(now_ms: fn() -> i64, flush_interval_ms: i64) -> BrokerConfig {
    config(Path::new("/nowhere"), now_ms, flush_interval_ms)
}

clock!(LIFE, life_ms);

#[test]
fn lines_are_the_same_through_flush_merge_and_restart() {
    let disk = Arc::new(MemoryDisk::new());
    let mut model = Model::default();
    let broker = open_on(&disk, in_memory(life_ms, 20));
    for round in 0..12_i64 {
        let at = |step: i64| START_MS + (round * 20 + step) * MINUTE_MS;
        LIFE.store(at(20), SeqCst);
        for step in 0..20_i64 {
            let t_ns = at(step) * MS + step;
            let mut lines: Vec<Line> =
                (0..10).map(|s| (s, t_ns, format!("round {round} step {step}"), 0)).collect();
            // Late, the same twice, and two of one time.
            lines.push((42, t_ns - HOUR_MS * MS, "late".to_owned(), 1));
            lines.push((42, t_ns - HOUR_MS * MS, "late".to_owned(), 2));
            lines.push((42, t_ns - HOUR_MS * MS, "also".to_owned(), 3));
            assert_eq!(push(&broker, &lines).stored, 13);
            model.note(&lines);
        }
        model.assert_read(&broker, "in the head");
        wait_for(&broker, "watchfire_broker_log_head_lines", |lines| lines == 0.0);
        model.assert_read(&broker, "in blocks");
    }
    LIFE.store(START_MS + 2 * DAY_MS, SeqCst);
    wait_for(&broker, "watchfire_broker_log_blocks", |blocks| blocks == 2.0);
    assert!(metric(&broker, "watchfire_broker_log_merges_total") >= 2.0);
    model.assert_read(&broker, "merged");
    broker.stop();
    drop(broker);
    let broker = open_on(&disk, in_memory(life_ms, NEVER_MS));
    model.assert_read(&broker, "after a restart out of blocks");
    let more = [(7, life_ms() * MS, "more".to_owned(), 9), (99, START_MS * MS, String::new(), 0)];
    push(&broker, &more);
    model.note(&more);
    broker.stop();
    drop(broker);
    let broker = open_on(&Arc::new(disk.crash(3)), in_memory(life_ms, NEVER_MS));
    assert_eq!(broker.recovered().lines, 2);
    model.assert_read(&broker, "after a power cut out of blocks and log");
    let (found, _) = read(&broker, DEFAULT_TENANT, &[equal("app", "odd")], NsRange::all());
    let odd: Vec<Line> = model.0.iter().filter(|line| line.0 % 2 == 1).cloned().collect();
    assert_lines(&found, &odd, "of some streams");
    let hour = NsRange::new(START_MS * MS, (START_MS + HOUR_MS) * MS);
    let (found, _) = read(&broker, DEFAULT_TENANT, &[], hour);
    let of_hour: Vec<Line> = model.0.iter().filter(|line| hour.contains(line.1)).cloned().collect();
    assert_lines(&found, &of_hour, "of an hour");
    assert_eq!(read(&broker, OTHER, &[], NsRange::all()).0, []);
}

clock!(RANDOM, random_ms);

#[test]
fn lines_are_those_of_a_naive_list_whatever_happens() {
    for seed in 0..24 {
        random_life(seed);
    }
}

fn random_life(seed: u64) {
    RANDOM.store(START_MS, SeqCst);
    let mut chance = Chance(seed);
    // With odd seeds there are flushes and merges all the time.
    let interval_ms = if seed % 2 == 1 { 5 } else { NEVER_MS };
    let mut disk = Arc::new(MemoryDisk::new());
    let mut broker = open_on(&disk, in_memory(random_ms, interval_ms));
    let (mut model, mut samples) = (Model::default(), Samples::new());
    for step in 0..40 {
        let when = format!("seed {seed}, step {step}");
        match chance.below(14) {
            0..=5 => {
                let lines: Vec<Line> =
                    (0..=chance.below(30)).map(|_| some_line(&mut chance)).collect();
                push(&broker, &lines);
                model.note(&lines);
            }
            6 => flush(&broker, step),
            7 => {
                drop(broker);
                disk = Arc::new(if chance.below(2) == 0 { disk.kill() } else { disk.crash(step) });
                broker = open_on(&disk, in_memory(random_ms, interval_ms));
            }
            8 | 9 => {
                let (selector, range) = some_delete(&mut chance);
                broker
                    .delete_logs(DEFAULT_TENANT, std::slice::from_ref(&selector), range)
                    .expect("a sound disk");
                model.delete(&selector, range);
            }
            10 => broker.clean_deleted().expect("a sound disk"),
            11 => _ = RANDOM.fetch_add(HOUR_MS, SeqCst),
            12 => {
                let rows = [(1, START_MS + step as i64, 1.0), (2, START_MS + step as i64, 2.0)];
                ingest(&broker, &rows).expect("a sound disk");
                note(&mut samples, &rows);
            }
            // Deletes of both have one row of numbers.
            _ => {
                let matcher = equal("series", "2");
                let wanted = [vec![matcher]];
                broker
                    .delete_series(DEFAULT_TENANT, &wanted, TimeRange::all())
                    .expect("a sound disk");
                samples.retain(|(labels, _), _| !labels.contains("series=\"2\""));
            }
        }
        model.assert_read(&broker, &when);
        assert_same(&read_all(&broker), &samples, &when);
        assert_eq!(metric(&broker, "watchfire_broker_merge_failures_total"), 0.0, "{when}");
    }
    RANDOM.fetch_add(3 * DAY_MS, SeqCst);
    flush(&broker, 1_000);
    model.assert_read(&broker, &format!("seed {seed}, flushed"));
    broker.clean_deleted().expect("a sound disk");
    assert_eq!(metric(&broker, "watchfire_broker_log_deletes_pending"), 0.0, "seed {seed}");
    model.assert_read(&broker, &format!("seed {seed}, cleaned"));
    broker.stop();
    drop(broker);
    let broker = open_on(&disk, in_memory(random_ms, NEVER_MS));
    model.assert_read(&broker, &format!("seed {seed}, at the end"));
    assert_same(&read_all(&broker), &samples, &format!("seed {seed}, at the end"));
}

/// Texts and times recur, so that equal lines come by several ways.
fn some_line(chance: &mut Chance) -> Line {
    let number = chance.below(6) as usize;
    let t_ms = START_MS - 3 * HOUR_MS + 10 * MINUTE_MS * chance.below(18) as i64;
    (
        number,
        t_ms * MS + chance.below(3) as i64,
        format!("line {}", chance.below(4)),
        chance.below(9),
    )
}

fn some_delete(chance: &mut Chance) -> (Vec<Matcher>, TimeRange) {
    let selector = match chance.below(3) {
        0 => equal("app", "even"),
        1 => equal("stream", &chance.below(6).to_string()),
        _ => Matcher::new("stream", MatchOp::Regex, "[0-2]").expect("a pattern"),
    };
    let from = START_MS - 3 * HOUR_MS + 10 * MINUTE_MS * chance.below(18) as i64;
    let range = match chance.below(3) {
        0 => TimeRange::all(),
        1 => TimeRange::new(from, from + HOUR_MS),
        _ => TimeRange::new(i64::MIN, from),
    };
    (vec![selector], range)
}

clock!(TWICE, twice_ms);

#[test]
fn a_push_that_comes_again_within_ten_minutes_is_not_stored_again() {
    TWICE.store(START_MS, SeqCst);
    let mut disk = Arc::new(MemoryDisk::new());
    let mut broker = open_on(&disk, in_memory(twice_ms, NEVER_MS));
    // As lines without a time of their own get: what comes again has another.
    let line = |at: i64| [(1, (START_MS + at) * MS, "stamped".to_owned(), 0)];
    let id = PushId::of(DEFAULT_TENANT, "", b"body");
    let send = |broker: &Broker, at, id| {
        push_as(broker, DEFAULT_TENANT, &line(at), Some(id)).expect("a sound disk").was_known
    };
    disk.set_capacity_bytes(Some(0));
    let refused = push_as(&broker, DEFAULT_TENANT, &line(0), Some(id));
    assert_eq!(refused, Err(CommitError::Full), "and not known after it");
    disk.set_capacity_bytes(None);
    assert!(!send(&broker, 1, id));
    assert!(send(&broker, 2, id), "in the same run");
    assert!(!send(&broker, 3, PushId::of(DEFAULT_TENANT, "", b"other")));
    assert!(!send(&broker, 4, PushId::of(OTHER, "", b"body")));
    for round in 0..3 {
        let flushed = round > 0;
        if flushed {
            flush(&broker, round);
        }
        drop(broker);
        disk = Arc::new(disk.crash(5));
        broker = open_on(&disk, in_memory(twice_ms, NEVER_MS));
        TWICE.fetch_add(3 * MINUTE_MS, SeqCst);
        assert!(send(&broker, 5, id), "after restart {round}, flushed: {flushed}");
    }
    let (found, _) = read(&broker, DEFAULT_TENANT, &[], NsRange::all());
    let wanted: Vec<Line> = [1, 3, 4].into_iter().flat_map(line).collect();
    assert_lines(&found, &wanted, "each once");
    assert_eq!(metric(&broker, "watchfire_broker_log_pushes_known_total"), 1.0, "of this run");
    TWICE.store(START_MS + 10 * MINUTE_MS + 1, SeqCst);
    assert!(!send(&broker, 6, id), "it is forgotten");
}

clock!(AGENT, agent_ms);

/// Sends the batch of a number, whose lines say which it is.
fn from_agent(broker: &Broker, seq: u64, after_seq: u64) -> Result<LogOutcome, CommitError> {
    let incarnation = Incarnation([4; 16]);
    let identity =
        BatchIdentity { agent: "web-01".into(), incarnation, lane: Lane::Live, seq, after_seq };
    let lines = of_batch(seq);
    let (sender, receiver) = channel();
    broker.ingest_logs_from_agent(OTHER, &identity, log_batch(&lines), move |result| {
        let _ = sender.send(result);
    });
    receiver.recv().expect("every batch is answered")
}

/// Lines that another batch has as well, at other times: only marks tell batches apart.
fn of_batch(seq: u64) -> [Line; 2] {
    [0, 1].map(|row| (row, (START_MS + seq as i64) * MS + row as i64, "same".to_owned(), 0))
}

#[test]
fn lines_of_agents_are_stored_once_and_never_overtake() {
    AGENT.store(START_MS + MINUTE_MS, SeqCst);
    let mut disk = Arc::new(MemoryDisk::new());
    let mut broker = open_on(&disk, in_memory(agent_ms, NEVER_MS));
    let was_known = |result: Result<LogOutcome, CommitError>| result.expect("stored").was_known;
    assert!(!was_known(from_agent(&broker, 1, 0)));
    disk.set_capacity_bytes(Some(0));
    assert_eq!(from_agent(&broker, 2, 1), Err(CommitError::Full));
    disk.set_capacity_bytes(None);
    assert_eq!(from_agent(&broker, 3, 2), Err(CommitError::Gap { through: 1 }));
    for round in 0..3_u64 {
        let next = 2 + round;
        assert!(!was_known(from_agent(&broker, next, next - 1)), "{next}");
        assert!(was_known(from_agent(&broker, next, next - 1)), "{next} again");
        if round == 1 {
            flush(&broker, round);
        }
        drop(broker);
        disk = Arc::new(disk.crash(7 + round));
        broker = open_on(&disk, in_memory(agent_ms, NEVER_MS));
        assert!(was_known(from_agent(&broker, next, next - 1)), "{next} after a power cut");
        let (found, missing) = read(&broker, OTHER, &[], NsRange::all());
        let wanted: Vec<Line> = (1..=next).flat_map(of_batch).collect();
        assert_eq!(missing, Vec::<String>::new());
        assert_lines(&found, &wanted, "each once");
    }
    // Of a batch of which nothing is kept the mark moves all the same.
    AGENT.store(START_MS + 100 * DAY_MS, SeqCst);
    let outcome = from_agent(&broker, 5, 4).expect("passed over");
    assert_eq!((outcome.stored, outcome.too_old, outcome.was_known), (0, 2, false));
    assert!(was_known(from_agent(&broker, 5, 4)));
    drop(broker);
    let broker = open_on(&Arc::new(disk.crash(1)), in_memory(agent_ms, NEVER_MS));
    assert!(was_known(from_agent(&broker, 5, 4)));
}

clock!(EXPIRY, expiry_ms);

#[test]
fn lines_that_are_too_old_go_and_are_refused_apart_from_samples() {
    EXPIRY.store(START_MS, SeqCst);
    let disk = Arc::new(MemoryDisk::new());
    let config = BrokerConfig { logs_retention_ms: Some(DAY_MS), ..in_memory(expiry_ms, 20) };
    let broker = open_on(&disk, config);
    let line = |at_ms: i64| (1, at_ms * MS, "line".to_owned(), 0);
    let rows = [(1, START_MS, 1.0)];
    ingest(&broker, &rows).expect("stored");
    push(&broker, &[line(START_MS)]);
    wait_for(&broker, "watchfire_broker_log_head_lines", |lines| lines == 0.0);
    EXPIRY.store(START_MS + DAY_MS + HOUR_MS, SeqCst);
    let now_ms = expiry_ms();
    let outcome = push(
        &broker,
        &[line(START_MS), line(now_ms), line(now_ms + 10 * MINUTE_MS), line(now_ms + DAY_MS)],
    );
    assert_eq!(outcome, LogOutcome { stored: 2, was_known: false, too_old: 1, too_new: 1 });
    assert_eq!(push(&broker, &[line(START_MS)]).stored, 0);
    let kept = [line(now_ms), line(now_ms + 10 * MINUTE_MS)];
    assert_lines(&read(&broker, DEFAULT_TENANT, &[], NsRange::all()).0, &kept, "hidden");
    wait_for(&broker, "watchfire_broker_expired_blocks_total", |expired| expired >= 1.0);
    wait_for(&broker, "watchfire_broker_log_head_lines", |lines| lines == 0.0);
    let files = disk.list("blocks/logs").expect("memory");
    assert_eq!(files.len() as f64, metric(&broker, "watchfire_broker_log_blocks"));
    assert_lines(&read(&broker, DEFAULT_TENANT, &[], NsRange::all()).0, &kept, "removed");
    let mut samples = Samples::new();
    note(&mut samples, &rows);
    assert_same(&read_all(&broker), &samples, "those are kept for longer");
}

clock!(ROTTEN, rotten_ms);

#[test]
fn a_damaged_block_is_set_aside_and_told() {
    ROTTEN.store(START_MS, SeqCst);
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, in_memory(rotten_ms, NEVER_MS));
    let line = |at: i64| (1, (START_MS + at) * MS, format!("line {at}"), 0);
    push(&broker, &[line(1)]);
    flush(&broker, 1);
    push(&broker, &[line(2)]);
    flush(&broker, 2);
    push(&broker, &[line(3)]);
    let first = disk.list("blocks/logs").expect("memory")[0].key.clone();
    // A page: the block is opened and read without a fault until its lines are wanted.
    disk.damage(&first, |bytes| bytes[8..24].iter_mut().for_each(|b| *b ^= 1));
    let (found, missing) = read(&broker, DEFAULT_TENANT, &[], NsRange::all());
    assert_lines(&found, &[line(2), line(3)], "the others are there");
    assert_eq!(missing.len(), 1, "{missing:?}");
    wait_for(&broker, "watchfire_broker_quarantined_blocks_total", |blocks| blocks == 1.0);
    wait_until("the file is moved", || disk.list("blocks/logs").expect("memory").len() == 1);
    for restarted in [false, true] {
        let broker = match restarted {
            false => broker.clone(),
            true => {
                broker.stop();
                open_on(&Arc::new(disk.crash(1)), in_memory(rotten_ms, NEVER_MS))
            }
        };
        let (found, missing) = read(&broker, DEFAULT_TENANT, &[], NsRange::all());
        assert_lines(&found, &[line(2), line(3)], "set aside");
        assert!(missing.len() == 1 && missing[0].contains("was damaged"), "{missing:?}");
        let samples = broker.reader(DEFAULT_TENANT).missing(TimeRange::all());
        assert_eq!(samples, Vec::<String>::new(), "no sample is missing");
    }
}

clock!(FULL, full_ms);

#[test]
fn a_flush_that_finds_no_space_leaves_nothing_behind_and_loses_nothing() {
    FULL.store(START_MS, SeqCst);
    let line = |at: i64| (1, (START_MS - 3 * HOUR_MS + at * HOUR_MS) * MS, format!("line {at}"), 0);
    let lines: Vec<Line> = (0..4).map(line).collect();
    let mut blocks = BTreeSet::new();
    // With every step a little more of the flush fits: the new log file, ids, blocks, the command.
    for step in 0..60 {
        let disk = Arc::new(MemoryDisk::new());
        let broker = open_on(&disk, in_memory(full_ms, NEVER_MS));
        push(&broker, &lines);
        let used =
            disk.list("log").expect("memory").iter().map(|file| file.size_bytes).sum::<u64>();
        disk.set_capacity_bytes(Some(used + 256 * step));
        let _ = broker.snapshot("s", true);
        assert_lines(&read(&broker, DEFAULT_TENANT, &[], NsRange::all()).0, &lines, "before");
        drop(broker);
        let disk = Arc::new(disk.crash(step));
        disk.set_capacity_bytes(None);
        let broker = open_on(&disk, in_memory(full_ms, NEVER_MS));
        let when = format!("step {step}");
        assert_lines(&read(&broker, DEFAULT_TENANT, &[], NsRange::all()).0, &lines, &when);
        let files = disk.list("blocks/logs").expect("memory").len();
        assert_eq!(files as f64, metric(&broker, "watchfire_broker_log_blocks"), "{when}");
        blocks.insert(files);
    }
    assert_eq!(blocks, BTreeSet::from([0, 3]), "some went through, some did not");
}
