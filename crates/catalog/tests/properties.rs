//! Any commands: the state stays sound, is a function of them, and survives a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{
    BlockId, BlockMeta, BrokerId, BrokerInfo, BrokerState, CatalogError, Command, Expected,
    Incarnation, KEEPS_DELETES, LabelCondition, Lane, LeaseClaim, LogPosition, MAX_KEPT_TOMBSTONES,
    MAX_KEY_BYTES, MAX_TOMBSTONE_BYTES, MAX_TOMBSTONE_SELECTORS, MAX_TOMBSTONES, MAX_VALUE_BYTES,
    Mark, NewBlock, NewSegment, Outcome, PushMark, Signal, State, StoreId, Tombstone,
};
use model::{MatchOp, TenantId, TimeRange};
use proptest::prelude::*;

fn any_block() -> impl Strategy<Value = NewBlock> {
    (0..24_u64, 0..2_u32, -20..20_i64, 0..10_i64, 0..3_u64, 0..4_u8).prop_map(
        |(id, tenant, start, len, rows, level)| NewBlock {
            id: BlockId(id),
            tenant: TenantId(tenant),
            signal: Signal::Metrics,
            range: TimeRange::new(start, start + len),
            rows,
            series: rows,
            size_bytes: 100 * rows,
            level,
        },
    )
}

fn any_expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        Just(Expected::Any),
        Just(Expected::Absent),
        (0..30_u64).prop_map(Expected::Version)
    ]
}

fn any_mark() -> impl Strategy<Value = Mark> {
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::Backlog)];
    ("[ab]", 0..3_u8, lane, 0..12_u64, 0..12_u64, 0..30_i64).prop_map(
        |(agent, incarnation, lane, seq, after_seq, at_ms)| Mark {
            agent: agent.into(),
            incarnation: Incarnation([incarnation; 16]),
            lane,
            seq,
            after_seq,
            at_ms,
        },
    )
}

fn any_tombstone() -> impl Strategy<Value = Tombstone> {
    let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    let condition = ("[ab]", proptest::sample::select(ops.to_vec()), "[ab.]{0,2}")
        .prop_map(|(name, op, value)| LabelCondition { name, op, value });
    let selectors = proptest::collection::vec(proptest::collection::vec(condition, 0..3), 0..3);
    (0..12_u64, 0..2_u32, -20..20_i64, 0..20_i64, selectors).prop_map(
        |(number, tenant, start, len, selectors)| Tombstone {
            number,
            tenant: TenantId(tenant),
            signal: Signal::Metrics,
            range: TimeRange::new(start, start + len),
            at_ms: start,
            selectors,
        },
    )
}

fn any_command() -> impl Strategy<Value = Command> {
    let ids = || proptest::collection::vec((0..24_u64).prop_map(BlockId), 0..4);
    let blocks = || proptest::collection::vec(any_block(), 0..3);
    let key = || "[ab]{0,2}";
    prop_oneof![
        1 => any::<[u8; 16]>().prop_map(|id| Command::CreateStore { store: StoreId(id) }),
        1 => prop_oneof![0..5_u64, any::<u64>()].prop_map(|count| Command::ReserveIds { count }),
        5 => (blocks(), 0..4_u64, 0..100_u64, 0..12_u64).prop_map(
            |(added, file, offset, deletes_through)| Command::Flush {
                added,
                flushed_through: LogPosition { file, offset },
                deletes_through,
            }
        ),
        5 => (ids(), blocks(), 0..12_u64).prop_map(|(removed, added, deletes_through)| {
            Command::Swap { removed, added, deletes_through }
        }),
        4 => any_tombstone().prop_map(Command::DeleteRows),
        2 => (ids(), 0..12_u64).prop_map(|(blocks, deletes_through)| Command::SettleDeletes {
            blocks,
            deletes_through
        }),
        1 => ids().prop_map(|removed| Command::Expire { removed }),
        1 => (0..24_u64).prop_map(|id| Command::Quarantine { block: BlockId(id) }),
        2 => (key(), proptest::collection::vec(any::<u8>(), 0..4), any_expected())
            .prop_map(|(key, value, expected)| Command::Put { key, value, expected }),
        1 => (key(), any_expected()).prop_map(|(key, expected)| Command::Delete { key, expected }),
        5 => any_mark().prop_map(Command::Mark),
        1 => (0..20_i64).prop_map(|before_ms| Command::ExpireMarks { before_ms }),
        8 => any_cluster_command(),
        2 => ("[jk]", 0..4_u64, ids()).prop_map(|(job, term, removed)| Command::Under {
            job,
            term,
            command: Box::new(Command::Expire { removed }),
        }),
    ]
}

fn any_claim() -> impl Strategy<Value = LeaseClaim> {
    prop_oneof![
        Just(LeaseClaim::Free),
        (0..6_u64).prop_map(|term| LeaseClaim::Held { term }),
        (0..6_u64, 0..3_u64).prop_map(|(term, renewals)| LeaseClaim::Over { term, renewals }),
    ]
}

fn any_cluster_command() -> impl Strategy<Value = Command> {
    let broker = || (0..3_u64).prop_map(BrokerId);
    let blocks = || proptest::collection::vec(any_block(), 0..3);
    let marks = proptest::collection::vec((0..4_u32, any_mark()), 0..3);
    let unread = proptest::collection::vec(0..9_u64, 0..3);
    let push = (0..3_u8).prop_map(|id| PushMark([id; 16]));
    let pushes = proptest::collection::vec((0..4_u32, push), 0..3);
    let info = ("[xy]", any::<bool>(), 0..3_u32).prop_map(|(name, drains, feature_level)| {
        let state = if drains { BrokerState::Draining } else { BrokerState::Active };
        let (address, zone) = (name.clone(), name.clone());
        let (http_address, version) = (String::new(), feature_level.to_string());
        BrokerInfo { name, address, http_address, zone, version, feature_level, state }
    });
    let segment = (broker(), 0..6_u64, 0..8_u64, 0..5_u64, marks, pushes).prop_map(
        |(broker, epoch, seq, rows, marks, pushes)| NewSegment {
            broker,
            epoch,
            seq,
            size_bytes: rows,
            checksum: 7,
            rows,
            range: TimeRange::new(0, 9),
            marks,
            pushes,
        },
    );
    prop_oneof![
        2 => (broker(), info).prop_map(|(broker, info)| Command::SetBroker { broker, info: Box::new(info) }),
        1 => broker().prop_map(|broker| Command::RemoveBroker { broker }),
        2 => broker().prop_map(|broker| Command::BeginLog { broker }),
        8 => segment.prop_map(|segment| Command::AddSegment(Box::new(segment))),
        4 => (broker(), 0..6_u64, 0..9_u64, blocks(), 0..12_u64, unread).prop_map(
            |(broker, epoch, through, added, deletes_through, unread)| Command::FlushLog {
                broker,
                epoch,
                through,
                added,
                deletes_through,
                unread,
            }
        ),
        3 => ("[jk]", broker(), any_claim(), 0..9_i64).prop_map(|(job, holder, claim, until_ms)| {
            Command::TakeLease { job, holder, claim, until_ms }
        }),
        2 => (broker(), proptest::collection::vec(0..9_u64, 0..3), blocks(), 0..12_u64).prop_map(
            |(broker, seqs, added, deletes_through)| Command::FlushUnread {
                broker,
                seqs,
                added,
                deletes_through,
            }
        ),
        1 => proptest::collection::vec((broker(), 0..9_u64), 0..3)
            .prop_map(|segments| Command::ForgetUnread { segments }),
        1 => ("[jk]", 0..4_u64).prop_map(|(job, term)| Command::GiveLease { job, term }),
        1 => (0..24_u64).prop_map(|id| Command::RetireBlocks { below: BlockId(id) }),
        3 => (0..24_u64).prop_map(|id| Command::Restore { block: BlockId(id) }),
    ]
}

fn encoded(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    bytes
}

/// The invariants that `State` documents, checked the slow way.
fn check_sound(state: &State) {
    let blocks: Vec<&BlockMeta> = state.blocks().collect();
    let quarantined: BTreeSet<BlockId> = state.quarantined().map(|block| block.id).collect();
    assert!(blocks.iter().all(|block| !quarantined.contains(&block.id)));
    for (index, a) in blocks.iter().enumerate() {
        for b in &blocks[index + 1..] {
            let same = (a.tenant, a.signal) == (b.tenant, b.signal);
            let apart = a.last_sequence < b.first_sequence || b.last_sequence < a.first_sequence;
            let one_commit =
                (a.first_sequence, a.last_sequence) == (b.first_sequence, b.last_sequence);
            assert!(
                !same || !a.range.overlaps(&b.range) || apart || one_commit,
                "{a:?} and {b:?} interleave"
            );
        }
    }
    assert!(state.flushed_deletes() <= state.last_delete());
    assert!(blocks.iter().all(|block| block.deletes_through <= state.last_delete()));
    for tombstone in state.tombstones() {
        assert!(tombstone.number <= state.last_delete());
        let is_needed = concerns_log(state, tombstone) || concerns_block(state, tombstone);
        assert!(is_needed, "{tombstone:?} concerns nothing");
    }
    for (_, broker) in state.brokers() {
        assert!(broker.segments.keys().all(|seq| *seq >= broker.flushed_through));
        assert!(broker.segments.values().all(|segment| segment.epoch <= broker.epoch));
    }
    for (job, lease) in state.leases("") {
        assert!(state.broker(lease.holder).is_some(), "{job} is held by nobody");
    }
}

/// Whether what is in no block may be older than a delete.
fn concerns_log(state: &State, tombstone: &Tombstone) -> bool {
    let listed = state.brokers().flat_map(|(_, broker)| broker.segments.values());
    let mut segments = listed.chain(state.unread_segments().map(|(_, _, segment)| segment));
    let is_in_log = state.brokers().len() == 0 && tombstone.number > state.flushed_deletes();
    is_in_log || segments.any(|segment| segment.deletes_through < tombstone.number)
}

/// Whether a block that is listed, or may be again, has rows that are older than a delete.
fn concerns_block(state: &State, tombstone: &Tombstone) -> bool {
    let is_cluster = state.brokers().len() > 0;
    let set_aside = state.quarantined().filter(|_| is_cluster);
    state.blocks().chain(set_aside).any(|block| tombstone.concerns(block))
}

/// No delete goes while it concerns a block that was there before, or the head.
fn check_deletes_kept(before: &State, after: &State) {
    for tombstone in before.tombstones() {
        let is_needed = concerns_log(after, tombstone) || concerns_block(after, tombstone);
        let is_listed = after.tombstones().any(|kept| kept == tombstone);
        assert_eq!(is_needed, is_listed, "{tombstone:?}");
    }
    for block in after.blocks() {
        let known = before.blocks().find(|b| b.id == block.id);
        assert!(known.is_none_or(|b| b.deletes_through <= block.deletes_through));
    }
}

proptest! {
    #[test]
    fn any_commands_keep_the_state_sound(
        commands in proptest::collection::vec(any_command(), 0..60),
    ) {
        let mut state = State::default();
        let mut twin = State::default();
        for command in &commands {
            let before = state.clone();
            let outcome = state.apply(command);
            match &outcome {
                Ok(_) => {
                    let counts = u64::from(!matches!(command, Command::Mark(_)));
                    prop_assert_eq!(state.version(), before.version() + counts);
                }
                Err(_) => prop_assert_eq!(&state, &before),
            }
            check_sound(&state);
            check_deletes_kept(&before, &state);
            // The twin lives from snapshots and encoded commands only.
            let mut bytes = Vec::new();
            command.encode(&mut bytes);
            let command = Command::decode(&bytes).expect("own bytes");
            twin = State::decode(&encoded(&twin)).expect("own bytes");
            prop_assert_eq!(twin.apply(&command), outcome);
            prop_assert_eq!(encoded(&twin), encoded(&state));
        }
    }

    #[test]
    fn keys_behave_like_a_map_with_versions(
        commands in proptest::collection::vec(any_command(), 0..60),
    ) {
        let mut state = State::default();
        let mut map = BTreeMap::new();
        for command in &commands {
            let before = state.clone();
            let outcome = state.apply(command);
            let allowed = |key: &str, expected: &Expected| match expected {
                Expected::Any => true,
                Expected::Absent => before.get(key).is_none(),
                Expected::Version(0) => before.get(key).is_none(),
                Expected::Version(v) => before.get(key).is_some_and(|e| e.version == *v),
            };
            match command {
                Command::Put { key, value, expected } => {
                    prop_assert_eq!(outcome.is_ok(), allowed(key, expected));
                    if let Ok(Outcome::Written(version)) = outcome {
                        map.insert(key.clone(), (value.clone(), version));
                    }
                }
                Command::Delete { key, expected } => {
                    prop_assert_eq!(outcome.is_ok(), allowed(key, expected));
                    if outcome.is_ok() {
                        map.remove(key);
                    }
                }
                _ => {}
            }
            for prefix in ["", "a", "b", "ab"] {
                let found: Vec<_> =
                    state.keys(prefix).map(|(k, e)| (k, (&e.value, e.version))).collect();
                let wanted: Vec<_> = map
                    .iter()
                    .filter(|(k, _)| k.starts_with(prefix))
                    .map(|(k, (v, n))| (k.as_str(), (v, *n)))
                    .collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut sealed = vec![catalog::FORMAT_VERSION];
        sealed.extend_from_slice(&bytes);
        sealed.extend_from_slice(&codec::checksum(&sealed).to_le_bytes());
        // The checksum fits, so only the fields themselves can refuse.
        if let Ok(command) = Command::decode(&sealed) {
            let mut again = Vec::new();
            command.encode(&mut again);
            prop_assert_eq!(&again, &sealed);
        }
        if let Ok(state) = State::decode(&sealed) {
            prop_assert_eq!(encoded(&state), sealed);
        }
    }
}

fn flush(state: &mut State, ids: &[u64], offset: u64) -> Result<Outcome, CatalogError> {
    let added = ids
        .iter()
        .map(|&id| NewBlock {
            id: BlockId(id),
            tenant: TenantId(0),
            signal: Signal::Metrics,
            range: TimeRange::new(0, 10),
            rows: 1,
            series: 1,
            size_bytes: 1,
            level: 0,
        })
        .collect();
    state.apply(&Command::Flush {
        added,
        flushed_through: LogPosition { file: 1, offset },
        deletes_through: 0,
    })
}

#[test]
fn swaps_keep_the_order_of_commits_decidable() {
    let mut state = State::default();
    for (id, offset) in [(1, 10), (2, 20), (3, 30)] {
        flush(&mut state, &[id], offset).expect("new ids");
    }
    let swap = |removed: &[u64]| Command::Swap {
        removed: removed.iter().map(|&id| BlockId(id)).collect(),
        added: Vec::new(),
        deletes_through: 0,
    };
    let error = state.apply(&swap(&[1, 3])).expect_err("2 lies between");
    assert!(matches!(error, CatalogError::UnfitBlock { id: BlockId(2), .. }), "{error}");
    assert_eq!(state.apply(&swap(&[2, 2])), Err(CatalogError::DuplicateBlock { id: BlockId(2) }));
    assert_eq!(state.apply(&swap(&[9])), Err(CatalogError::UnknownBlock { id: BlockId(9) }));
    assert_eq!(state.apply(&swap(&[2, 3])), Ok(Outcome::Added(Vec::new())));
    assert_eq!(state.blocks().len(), 1);
}

#[test]
fn ids_are_reserved_in_order_and_never_twice() {
    let mut state = State::default();
    let reserve = Command::ReserveIds { count: 3 };
    assert_eq!(state.apply(&reserve), Ok(Outcome::Reserved(0..3)));
    // As after a reservation that was lost with a damaged frame.
    flush(&mut state, &[10], 10).expect("a new id");
    assert_eq!(state.apply(&reserve), Ok(Outcome::Reserved(11..14)));
    assert_eq!(flush(&mut state, &[10], 20), Err(CatalogError::DuplicateBlock { id: BlockId(10) }));
    assert!(matches!(flush(&mut state, &[20], 5), Err(CatalogError::FlushedBackwards { .. })));
    assert!(state.apply(&Command::ReserveIds { count: u64::MAX }).is_err());
}

#[test]
fn keys_and_values_have_limits() {
    let mut state = State::default();
    let mut put = |key: usize, value: usize| {
        let (key, value) = ("k".repeat(key), vec![0; value]);
        state.apply(&Command::Put { key, value, expected: Expected::Any })
    };
    assert!(put(MAX_KEY_BYTES, MAX_VALUE_BYTES).is_ok());
    let error = put(MAX_KEY_BYTES + 1, 0).expect_err("too long a key");
    assert_eq!(
        error.to_string(),
        "a key of the catalog has 1025, the limit is 1024: keep large things in blobs"
    );
    assert!(put(1, MAX_VALUE_BYTES + 1).is_err());
}

#[test]
fn a_store_is_created_once() {
    let mut state = State::default();
    let create = |byte| Command::CreateStore { store: StoreId([byte; 16]) };
    assert_eq!(state.apply(&create(1)), Ok(Outcome::Done));
    assert_eq!(state.apply(&create(1)), Err(CatalogError::StoreExists));
    assert_eq!(state.store(), Some(StoreId([1; 16])));
}

fn tombstone(number: u64) -> Tombstone {
    let condition =
        LabelCondition { name: "job".to_owned(), op: MatchOp::Equal, value: "a".to_owned() };
    Tombstone {
        number,
        tenant: TenantId(0),
        signal: Signal::Metrics,
        range: TimeRange::new(0, 5),
        at_ms: 0,
        selectors: vec![vec![condition]],
    }
}

fn numbers(state: &State) -> Vec<u64> {
    state.tombstones().map(|tombstone| tombstone.number).collect()
}

#[test]
fn a_delete_goes_with_the_last_block_it_concerns() {
    let mut state = State::default();
    flush(&mut state, &[1, 2], 10).expect("new ids");
    for number in [1, 2] {
        state.apply(&Command::DeleteRows(tombstone(number))).expect("a higher number");
    }
    let flush = |offset, deletes_through| Command::Flush {
        added: Vec::new(),
        flushed_through: LogPosition { file: 1, offset },
        deletes_through,
    };
    state.apply(&flush(20, 2)).expect("further on");
    assert_eq!(numbers(&state), [1, 2], "two blocks may have rows of it");
    let settle = |ids: &[u64], deletes_through| Command::SettleDeletes {
        blocks: ids.iter().map(|&id| BlockId(id)).collect(),
        deletes_through,
    };
    state.apply(&settle(&[1], 2)).expect("listed");
    assert_eq!(numbers(&state), [1, 2]);
    state.apply(&settle(&[2], 1)).expect("listed");
    assert_eq!(numbers(&state), [2]);
    let backwards = state.apply(&settle(&[1, 2], 1)).expect_err("1 is further");
    assert_eq!(backwards, CatalogError::DeletesBackwards { found: 1, reached: 2 });
    let swap = |deletes_through| Command::Swap {
        removed: vec![BlockId(1), BlockId(2)],
        added: Vec::new(),
        deletes_through,
    };
    assert!(state.apply(&swap(1)).is_err());
    state.apply(&swap(2)).expect("all done");
    assert_eq!(numbers(&state), [] as [u64; 0]);
    let stale = state.apply(&Command::DeleteRows(tombstone(2))).expect_err("used");
    assert_eq!(stale, CatalogError::StaleDelete { number: 2, last: 2 });
}

#[test]
fn deletes_wait_for_blocks_that_are_about_to_come() {
    let mut state = State::default();
    let delete = |state: &mut State, number| {
        state.apply(&Command::DeleteRows(tombstone(number))).expect("a higher number");
    };
    let info = BrokerInfo {
        name: "b".to_owned(),
        address: String::new(),
        http_address: String::new(),
        zone: String::new(),
        version: String::new(),
        feature_level: 1,
        state: BrokerState::Active,
    };
    let set = Command::SetBroker { broker: BrokerId(1), info: Box::new(info) };
    state.apply(&set).expect("few");
    delete(&mut state, 1);
    assert_eq!(numbers(&state), [] as [u64; 0], "nobody needs it");
    let key = format!("{KEEPS_DELETES}x");
    let put = |value: &[u8]| Command::Put {
        key: key.clone(),
        value: value.to_vec(),
        expected: Expected::Any,
    };
    state.apply(&put(b"1 and more")).expect("small");
    assert!(state.knows_deletes_since(1) && !state.knows_deletes_since(0));
    for number in 2..=MAX_KEPT_TOMBSTONES as u64 + 1 {
        delete(&mut state, number);
    }
    assert!(state.knows_deletes_since(1));
    // An older block comes: they hide what is in it.
    let block = NewBlock {
        id: BlockId(7),
        tenant: TenantId(0),
        signal: Signal::Metrics,
        range: TimeRange::new(0, 10),
        rows: 1,
        series: 1,
        size_bytes: 1,
        level: 0,
    };
    let add = Command::AddBlocks { added: vec![block], deletes_through: 1 };
    let Ok(Outcome::Added(added)) = state.apply(&add) else { panic!("its id is new") };
    assert!(state.tombstones().all(|tombstone| tombstone.concerns(&added[0])));
    state.apply(&Command::Expire { removed: vec![BlockId(7)] }).expect("listed");
    delete(&mut state, MAX_KEPT_TOMBSTONES as u64 + 2);
    assert_eq!(numbers(&state).len(), MAX_KEPT_TOMBSTONES);
    assert!(!state.knows_deletes_since(1) && state.knows_deletes_since(2), "the newest stay");
    state.apply(&Command::Delete { key, expected: Expected::Any }).expect("there");
    delete(&mut state, MAX_KEPT_TOMBSTONES as u64 + 3);
    assert_eq!(numbers(&state), [] as [u64; 0]);
}

#[test]
fn deletes_have_limits() {
    let mut state = State::default();
    let mut void = tombstone(1);
    void.range = TimeRange::new(5, 5);
    assert_eq!(state.apply(&Command::DeleteRows(void)), Err(CatalogError::VoidDelete));
    let mut large = tombstone(1);
    large.selectors[0][0].value = "x".repeat(MAX_TOMBSTONE_BYTES);
    assert!(matches!(state.apply(&Command::DeleteRows(large)), Err(CatalogError::TooLarge { .. })));
    let with_selectors = |number, count| {
        let one = tombstone(number);
        Tombstone { selectors: vec![one.selectors[0].clone(); count], ..one }
    };
    let many = with_selectors(1, MAX_TOMBSTONE_SELECTORS + 1);
    let error = state.apply(&Command::DeleteRows(many)).expect_err("too many selectors");
    assert_eq!(
        error.to_string(),
        "a delete has 65 selectors, the limit is 64: make several deletes, or unite selectors by a \
         pattern"
    );
    let most = with_selectors(1, MAX_TOMBSTONE_SELECTORS);
    state.apply(&Command::DeleteRows(most)).expect("within the limit");
    for number in 2..=MAX_TOMBSTONES as u64 {
        state.apply(&Command::DeleteRows(tombstone(number))).expect("within the limit");
    }
    let error = state.apply(&Command::DeleteRows(tombstone(u64::MAX))).expect_err("too many");
    assert_eq!(
        error.to_string(),
        "1000 deletes wait for their rows to be removed, which is the limit: call \
         /api/v1/admin/tsdb/clean_tombstones, then delete again"
    );
}
