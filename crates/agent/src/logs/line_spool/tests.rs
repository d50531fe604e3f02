//! A source, its spool and a broker, with power cuts at every step and kills anywhere.

use std::sync::Arc;
use std::time::Instant;

use blockstore::MemoryDisk;
use model::{Labels, LogBatch, LogRecord};
use proptest::prelude::*;

use super::super::position::{Position, Positions, Update};
use super::*;

/// Lines of a source are its numbers. Those of even numbers are of a tenant of their own.
struct World {
    disk: MemoryDisk,
    spool: LineSpool,
    /// The next line that is read.
    reading: u64,
    stored_through: u64,
    stored: Vec<u64>,
    at_ms: i64,
}

fn open(disk: &MemoryDisk) -> (LineSpool, Positions) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let config = SpoolConfig { limit_bytes: 1 << 20, ..SpoolConfig::default() };
    LineSpool::open(disk, config, [7; 16], Arc::default()).expect("opened")
}

impl World {
    fn new(disk: MemoryDisk) -> World {
        let (spool, _) = open(&disk);
        World { disk, spool, reading: 0, stored_through: 0, stored: Vec::new(), at_ms: 1 << 40 }
    }

    fn now(&mut self) -> Now {
        self.at_ms += 1;
        Now { at: Instant::now(), wall_ms: self.at_ms }
    }

    fn read(&mut self, lines: u64) {
        let (mut own, mut even) = (LogBatch::default(), LogBatch::default());
        for number in self.reading..self.reading + lines {
            let batch = if number % 2 == 0 { &mut even } else { &mut own };
            if batch.is_empty() {
                batch.stream(&Labels::from_pairs([("job", "a")]).expect("valid"));
            }
            batch.push(1, number.to_string().as_bytes(), &[]).expect("short");
        }
        let all = [(None, &own), (Some("even"), &even)];
        let batches: Vec<_> = all.into_iter().filter(|(_, batch)| !batch.is_empty()).collect();
        let position = Position { through: self.reading + lines, ..Position::default() };
        let now = self.now();
        if self.spool.put(&batches, &[Update { id: 0, position }], now) {
            self.reading += lines;
        }
    }

    /// The broker takes what is to be sent. Its answers may get lost.
    fn send(&mut self, is_answered: bool) {
        while let Some(record) = self.spool.next() {
            if record.seq > self.stored_through {
                self.stored_through = record.seq;
                let (_, batch) =
                    wire::agent_lines::decode(&record.payload, 1 << 20).expect("whole");
                let (mut records, mut metadata) = (batch.records(), Vec::new());
                while let Some(record) = records.next_record(&mut metadata).expect("own parts") {
                    if let LogRecord::Line { line, .. } = record {
                        let text = std::str::from_utf8(line).expect("digits");
                        self.stored.push(text.parse().expect("a number"));
                    }
                }
            }
            if is_answered {
                self.spool.acknowledge(record.seq);
            }
        }
    }

    fn write_positions(&mut self) {
        let now = self.now();
        self.spool.write_positions(now, true);
    }

    /// A new process, which the broker tells what it has.
    fn restart(&mut self, disk: MemoryDisk) {
        self.disk = disk;
        let (spool, positions) = open(&self.disk);
        self.spool = spool;
        self.reading = positions.get(0).map_or(0, |position| position.through);
        if self.stored_through > 0 {
            self.spool.acknowledge(self.stored_through);
        }
        self.spool.rewind();
    }

    /// All that is left comes through; each line is there once.
    fn check(&mut self) {
        self.read(3);
        self.send(true);
        self.write_positions();
        let mut stored = self.stored.clone();
        stored.sort_unstable();
        assert_eq!(stored, (0..self.reading).collect::<Vec<_>>());
    }

    fn script(&mut self) {
        self.read(4);
        self.send(true);
        self.write_positions();
        self.read(1);
        self.send(false);
        self.read(5);
        self.send(true);
        self.read(2);
        self.write_positions();
        self.read(2);
        self.send(true);
        self.write_positions();
    }
}

#[test]
fn a_power_cut_at_any_step_loses_and_doubles_nothing() {
    let mut whole = World::new(MemoryDisk::new());
    whole.script();
    let steps = whole.disk.steps();
    assert!(steps > 20, "{steps} steps");
    for cut in 0..steps {
        for seed in 0..4 {
            let disk = MemoryDisk::new();
            let mut world = World::new(disk.clone());
            disk.cut_power_after(cut);
            world.script();
            let disk = world.disk.crash(seed);
            world.restart(disk);
            world.check();
        }
    }
}

proptest! {
    #[test]
    fn kills_anywhere_lose_and_double_nothing(steps in prop::collection::vec(0_u8..7, 1..60)) {
        let mut world = World::new(MemoryDisk::new());
        for step in steps {
            match step {
                0 | 1 => world.read(1 + u64::from(step) * 3),
                2 => world.send(true),
                3 => world.send(false),
                4 => world.write_positions(),
                5 => {
                    world.spool.rewind();
                    let through = world.stored_through;
                    world.spool.acknowledge(through);
                }
                _ => {
                    let disk = world.disk.kill();
                    world.restart(disk);
                }
            }
        }
        world.check();
    }
}

#[test]
fn a_full_spool_takes_nothing_and_goes_on_when_there_is_room() {
    let disk = MemoryDisk::new();
    let mut world = World::new(disk.clone());
    world.read(3);
    disk.set_capacity_bytes(Some(0));
    world.read(3);
    assert_eq!(world.reading, 3);
    disk.set_capacity_bytes(None);
    world.check();
}

#[test]
fn positions_that_move_without_lines_count_behind_what_was_put_before() {
    let disk = MemoryDisk::new();
    let mut world = World::new(disk.clone());
    world.read(2);
    let position = Position { through: 9, ..Position::default() };
    world.spool.note(vec![Update { id: 0, position }]);
    world.write_positions();
    let (_, positions) = open(&disk.kill());
    assert_eq!(positions.get(0).expect("known").through, 2);
    world.send(true);
    world.write_positions();
    let (_, positions) = open(&disk.kill());
    assert_eq!(positions.get(0).expect("known").through, 9);
}

#[test]
fn damaged_positions_stop_the_start() {
    let disk = MemoryDisk::new();
    let mut world = World::new(disk.clone());
    world.read(2);
    world.send(true);
    world.write_positions();
    disk.damage(POSITIONS, |bytes| bytes.truncate(9));
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let opened = LineSpool::open(disk, SpoolConfig::default(), [7; 16], Arc::default());
    let error = opened.err().expect("it is no file of positions").to_string();
    assert!(error.contains("positions.json"), "{error}");
}
