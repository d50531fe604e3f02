//! The bytes of every version. They may never change: a later version must still read these files.
//! `UPDATE_EXPECT=1` writes those of the version of now.

use std::path::Path;

use catalog::{
    BlockId, BrokerId, BrokerInfo, BrokerState, CatalogError, Command, Expected, Incarnation,
    LabelCondition, Lane, LeaseClaim, LogPosition, Mark, NewBlock, NewSegment, PushMark, Signal,
    State, StoreId, Tombstone,
};
use model::{MatchOp, TenantId, TimeRange};

fn block(id: u64, level: u8) -> NewBlock {
    NewBlock {
        id: BlockId(id),
        tenant: TenantId(7),
        signal: Signal::Metrics,
        range: TimeRange::new(-5, 1_800_000_000_000),
        rows: 300,
        series: 2,
        size_bytes: 70_000,
        level,
    }
}

fn other_tenants(id: u64) -> NewBlock {
    NewBlock { tenant: TenantId(1 << 20), ..block(id, 0) }
}

/// Those that version 1 has.
fn first_commands() -> Vec<(&'static str, Command)> {
    let key = || "rules/node".to_owned();
    vec![
        ("create-store", Command::CreateStore { store: StoreId(*b"0123456789abcdef") }),
        ("reserve-ids", Command::ReserveIds { count: 1000 }),
        (
            "flush",
            Command::Flush {
                added: vec![block(1, 0), block(2, 0), other_tenants(3)],
                flushed_through: LogPosition { file: 3, offset: 1 << 20 },
                deletes_through: 0,
            },
        ),
        (
            "swap",
            Command::Swap {
                removed: vec![BlockId(1), BlockId(2)],
                added: vec![block(4, 1)],
                deletes_through: 0,
            },
        ),
        ("quarantine", Command::Quarantine { block: BlockId(3) }),
        ("put", Command::Put { key: key(), value: vec![0, 255, 10], expected: Expected::Absent }),
        ("delete-any", Command::Delete { key: "absent".to_owned(), expected: Expected::Any }),
        (
            "put-version",
            Command::Put { key: key(), value: Vec::new(), expected: Expected::Version(6) },
        ),
        ("expire", Command::Expire { removed: vec![BlockId(4)] }),
    ]
}

fn mark(lane: Lane, seq: u64, after_seq: u64) -> Command {
    Command::Mark(Mark {
        agent: "web-01".into(),
        incarnation: Incarnation(*b"fedcba9876543210"),
        lane,
        seq,
        after_seq,
        at_ms: 1_800_000_000_000,
    })
}

/// Those that version 2 has.
fn second_commands() -> Vec<(&'static str, Command)> {
    let mut commands = first_commands();
    commands.push(("mark", mark(Lane::Live, 300, 0)));
    // As after a damaged frame.
    commands.push(("mark-beyond", mark(Lane::Backlog, 9, 8)));
    commands.push(("expire-marks", Command::ExpireMarks { before_ms: 1_700_000_000_000 }));
    commands
}

fn condition(name: &str, op: MatchOp, value: &str) -> LabelCondition {
    LabelCondition { name: name.to_owned(), op, value: value.to_owned() }
}

fn delete(number: u64) -> Command {
    Command::DeleteRows(Tombstone {
        number,
        tenant: TenantId(7),
        signal: Signal::Metrics,
        range: TimeRange::new(i64::MIN, 1_700_000_000_000),
        at_ms: 1_800_000_000_000,
        selectors: vec![
            vec![
                condition("__name__", MatchOp::Equal, "up"),
                condition("job", MatchOp::NotRegex, "a|b.*"),
            ],
            vec![condition("é", MatchOp::Regex, ".+"), condition("x", MatchOp::NotEqual, "")],
        ],
    })
}

/// Those that version 3 has.
fn third_commands() -> Vec<(&'static str, Command)> {
    let mut commands = second_commands();
    commands.push((
        "flush-before-deletes",
        Command::Flush {
            added: vec![block(5, 0), block(6, 0)],
            flushed_through: LogPosition { file: 4, offset: 0 },
            deletes_through: 0,
        },
    ));
    commands.push(("delete-rows", delete(1)));
    // As after a damaged frame.
    commands.push(("delete-rows-later", delete(300)));
    commands.push((
        "settle-deletes",
        Command::SettleDeletes { blocks: vec![BlockId(5)], deletes_through: 300 },
    ));
    commands.push((
        "flush-after-deletes",
        Command::Flush {
            added: vec![block(7, 0)],
            flushed_through: LogPosition { file: 5, offset: 0 },
            deletes_through: 1,
        },
    ));
    commands
}

const BROKERS: [BrokerId; 2] = [BrokerId(7), BrokerId(u64::MAX)];

fn info(name: &str, state: BrokerState) -> BrokerInfo {
    let (name, address) = (name.to_owned(), format!("{name}.example.org:9596"));
    let http_address = format!("{name}.example.org:9595");
    let (zone, version) = ("a".to_owned(), "1.2.3".to_owned());
    BrokerInfo { name, address, http_address, zone, version, feature_level: 1, state }
}

fn segment(seq: u64, marks: Vec<(u32, Mark)>) -> Command {
    Command::AddSegment(Box::new(NewSegment {
        broker: BROKERS[0],
        epoch: 1,
        seq,
        size_bytes: 70_000,
        checksum: 0xdead_beef,
        rows: 300,
        range: TimeRange::new(-5, 1_800_000_000_000),
        marks,
        pushes: Vec::new(),
    }))
}

fn of_batch(batch: u32, seq: u64, after_seq: u64) -> (u32, Mark) {
    match mark(Lane::Live, seq, after_seq) {
        Command::Mark(mark) => (batch, mark),
        _ => unreachable!("that is what it makes"),
    }
}

/// Those that version 4 has.
fn fourth_commands() -> Vec<(&'static str, Command)> {
    let mut commands = third_commands();
    let set =
        |broker, name, state| Command::SetBroker { broker, info: Box::new(info(name, state)) };
    let job = || "merge/metrics".to_owned();
    let until_ms = 1_800_000_030_000;
    let expire = Box::new(Command::Expire { removed: vec![BlockId(6)] });
    // One batch that is next, one that is stored already, one behind a gap.
    let marks = vec![of_batch(0, 301, 300), of_batch(2, 300, 0), of_batch(300, 400, 399)];
    let flush = Command::FlushLog {
        broker: BROKERS[0],
        epoch: 1,
        through: 3,
        added: vec![block(8, 0)],
        deletes_through: 300,
        // The first of two could not be read.
        unread: vec![0],
    };
    let lease = |claim| Command::TakeLease { job: job(), holder: BROKERS[0], claim, until_ms };
    let late = Command::FlushUnread {
        broker: BROKERS[0],
        seqs: vec![0],
        added: vec![block(11, 0)],
        deletes_through: 300,
    };
    commands.extend([
        ("set-broker", set(BROKERS[0], "one", BrokerState::Active)),
        ("set-broker-draining", set(BROKERS[1], "two", BrokerState::Draining)),
        ("begin-log", Command::BeginLog { broker: BROKERS[0] }),
        ("add-segment", segment(0, Vec::new())),
        ("add-segment-marks", segment(3, marks)),
        ("flush-log", flush),
        ("take-lease", lease(LeaseClaim::Free)),
        ("keep-lease", lease(LeaseClaim::Held { term: 2 })),
        ("take-lease-over", lease(LeaseClaim::Over { term: 2, renewals: 1 })),
        ("under", Command::Under { job: job(), term: 2, command: expire }),
        (
            "add-blocks",
            Command::AddBlocks { added: vec![block(9, 1), other_tenants(10)], deletes_through: 1 },
        ),
        ("flush-unread", late),
        ("forget-unread", Command::ForgetUnread { segments: vec![(BROKERS[1], 300)] }),
        ("give-lease", Command::GiveLease { job: job(), term: 2 }),
        ("remove-broker", Command::RemoveBroker { broker: BROKERS[1] }),
        ("retire-blocks", Command::RetireBlocks { below: BlockId(9) }),
        ("quarantine-other", Command::Quarantine { block: BlockId(10) }),
        ("restore", Command::Restore { block: BlockId(3) }),
    ]);
    commands
}

fn lines(id: u64) -> NewBlock {
    NewBlock { signal: Signal::Logs, ..block(id, 0) }
}

/// Those that version 5 has.
fn fifth_commands() -> Vec<(&'static str, Command)> {
    let mut commands = fourth_commands();
    let Command::DeleteRows(rows) = delete(301) else { unreachable!("that is what it makes") };
    commands.extend([
        ("delete-lines", Command::DeleteRows(Tombstone { signal: Signal::Logs, ..rows })),
        (
            "flush-lines",
            Command::Flush {
                added: vec![lines(12), block(13, 0)],
                flushed_through: LogPosition { file: 6, offset: 0 },
                deletes_through: 300,
            },
        ),
        ("quarantine-lines", Command::Quarantine { block: BlockId(12) }),
    ]);
    commands
}

fn commands() -> Vec<(&'static str, Command)> {
    let mut commands = fifth_commands();
    let Command::AddSegment(new) = segment(4, vec![of_batch(1, 302, 301)]) else {
        unreachable!("that is what it makes")
    };
    // The second one is the first again.
    let (first, second) = (PushMark(*b"0123456789abcdef"), PushMark(*b"fedcba9876543210"));
    let pushes = vec![(0, first), (300, first), (301, second)];
    commands
        .push(("add-segment-pushes", Command::AddSegment(Box::new(NewSegment { pushes, ..*new }))));
    commands
}

/// The state after commands, but for the expiry, which would leave little to see.
fn state_after(commands: Vec<(&str, Command)>) -> State {
    let mut state = State::default();
    let hidden = ["expire", "give-lease", "remove-broker", "flush-unread"];
    for (name, command) in commands.into_iter().filter(|(name, _)| !hidden.contains(name)) {
        state.apply(&command).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    state
}

fn state() -> State {
    state_after(commands())
}

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).expect("the golden file exists")
}

fn check_golden(name: &str, bytes: &[u8]) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        std::fs::write(&path, bytes).expect("golden files can be written");
    }
    assert_eq!(bytes, golden(name), "{name}: the format changed");
}

#[test]
fn version_1_is_read() {
    for (name, command) in first_commands() {
        assert_eq!(Command::decode(&golden(&format!("command-{name}.v1"))), Ok(command), "{name}");
    }
    assert_eq!(State::decode(&golden("snapshot.v1")), Ok(state_after(first_commands())));
}

#[test]
fn version_2_is_read() {
    for (name, command) in second_commands() {
        assert_eq!(Command::decode(&golden(&format!("command-{name}.v2"))), Ok(command), "{name}");
    }
    assert_eq!(State::decode(&golden("snapshot.v2")), Ok(state_after(second_commands())));
}

#[test]
fn version_3_is_read() {
    for (name, command) in third_commands() {
        assert_eq!(Command::decode(&golden(&format!("command-{name}.v3"))), Ok(command), "{name}");
    }
    assert_eq!(State::decode(&golden("snapshot.v3")), Ok(state_after(third_commands())));
}

#[test]
fn version_4_is_read() {
    for (name, command) in fourth_commands() {
        assert_eq!(Command::decode(&golden(&format!("command-{name}.v4"))), Ok(command), "{name}");
    }
    assert_eq!(State::decode(&golden("snapshot.v4")), Ok(state_after(fourth_commands())));
}

#[test]
fn version_5_is_read() {
    for (name, command) in fifth_commands() {
        assert_eq!(Command::decode(&golden(&format!("command-{name}.v5"))), Ok(command), "{name}");
    }
    assert_eq!(State::decode(&golden("snapshot.v5")), Ok(state_after(fifth_commands())));
}

/// In a cluster whose oldest program is of an earlier version that one is still written.
#[test]
fn earlier_versions_are_written_where_they_are_wanted() {
    for (version, commands) in [(4, fourth_commands()), (5, fifth_commands())] {
        for (name, command) in &commands {
            let mut bytes = Vec::new();
            command.encode_at(version, &mut bytes);
            assert_eq!(bytes, golden(&format!("command-{name}.v{version}")), "{name}");
        }
        let mut bytes = Vec::new();
        state_after(commands).encode_at(version, &mut bytes);
        assert_eq!(bytes, golden(&format!("snapshot.v{version}")));
    }
}

/// No program of version 4 wrote a signal that it did not know.
#[test]
fn lines_are_not_before_version_5() {
    let mut bytes = Vec::new();
    Command::Flush {
        added: vec![lines(1)],
        flushed_through: LogPosition { file: 6, offset: 0 },
        deletes_through: 0,
    }
    .encode_at(4, &mut bytes);
    let error = Command::decode(&bytes).expect_err("it says version 4");
    assert!(error.to_string().contains("unknown signal"), "{error}");
}

#[test]
fn commands_keep_their_bytes() {
    let mut state = State::default();
    for (name, command) in commands() {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        check_golden(&format!("command-{name}.v6"), &bytes);
        assert_eq!(Command::decode(&bytes), Ok(command.clone()), "{name}");
        state.apply(&command).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn snapshots_keep_their_bytes() {
    let state = state();
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    check_golden("snapshot.v6", &bytes);
    assert_eq!(State::decode(&bytes), Ok(state));
}

#[test]
fn a_newer_version_is_refused_and_says_what_it_needs() {
    let mut bytes = Vec::new();
    state().encode(&mut bytes);
    bytes.truncate(bytes.len() - 4);
    bytes[0] = 7;
    bytes.extend_from_slice(&codec::checksum(&bytes).to_le_bytes());
    let error = State::decode(&bytes).expect_err("version 7 is unknown");
    assert_eq!(error, CatalogError::NewerVersion { found: 7, supported: 6 });
    assert!(error.to_string().contains("needs a watchfire that reads catalog format >= 7"));
    assert_eq!(Command::decode(&bytes), Err(error));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let mut snapshot = Vec::new();
    state().encode(&mut snapshot);
    for at in 0..snapshot.len() {
        assert!(State::decode(&snapshot[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            snapshot[at] ^= 1 << bit;
            let error = State::decode(&snapshot).expect_err("damaged");
            assert!(matches!(error, CatalogError::Corrupt { .. }), "bit {bit} of byte {at}");
            snapshot[at] ^= 1 << bit;
        }
    }
}
