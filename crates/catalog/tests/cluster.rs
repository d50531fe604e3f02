//! Logs of brokers: what is added, refused and flushed.

use catalog::{
    BROKER_LEASES, BlockId, BrokerId, BrokerInfo, BrokerState, CatalogError, Command,
    LabelCondition, LeaseClaim, MAX_LEASES, NewBlock, NewSegment, Outcome, PassedOver, PushMark,
    Signal, State, Tombstone,
};
use model::{MatchOp, TenantId, TimeRange};

const BROKER: BrokerId = BrokerId(7);

fn state() -> State {
    let mut state = State::default();
    let info = BrokerInfo {
        name: "b7".to_owned(),
        address: "b7:9596".to_owned(),
        http_address: "b7:9595".to_owned(),
        zone: String::new(),
        version: "1.2.3".to_owned(),
        feature_level: 1,
        state: BrokerState::Active,
    };
    state.apply(&Command::SetBroker { broker: BROKER, info: Box::new(info) }).expect("it is new");
    assert_eq!(state.apply(&Command::BeginLog { broker: BROKER }), Ok(Outcome::Epoch(1)));
    state
}

fn add(state: &mut State, epoch: u64, seq: u64) -> Result<Outcome, CatalogError> {
    state.apply(&Command::AddSegment(Box::new(NewSegment {
        broker: BROKER,
        epoch,
        seq,
        size_bytes: 100,
        checksum: 9,
        rows: 3,
        range: TimeRange::new(0, 10),
        marks: Vec::new(),
        pushes: Vec::new(),
    })))
}

fn block(id: u64) -> NewBlock {
    NewBlock {
        id: BlockId(id),
        tenant: TenantId(0),
        signal: Signal::Metrics,
        range: TimeRange::new(0, 10),
        rows: 3,
        series: 1,
        size_bytes: 70,
        level: 0,
    }
}

fn flush(state: &mut State, through: u64, id: Option<u64>) -> Result<Outcome, CatalogError> {
    let added = id.map(block).into_iter().collect();
    flush_without(state, through, added, &[])
}

fn flush_without(
    state: &mut State,
    through: u64,
    added: Vec<NewBlock>,
    unread: &[u64],
) -> Result<Outcome, CatalogError> {
    let (broker, epoch, deletes_through, unread) = (BROKER, 1, 0, unread.to_vec());
    state.apply(&Command::FlushLog { broker, epoch, through, added, deletes_through, unread })
}

#[test]
fn numbers_only_grow_and_a_later_epoch_shuts_the_older_out() {
    let mut state = state();
    assert_eq!(add(&mut state, 1, 4), Ok(Outcome::Segment(Vec::new())));
    for seq in [3, 4] {
        let stale = CatalogError::StaleSegment { seq, least: 5 };
        assert_eq!(add(&mut state, 1, seq), Err(stale));
    }
    assert_eq!(add(&mut state, 1, 9), Ok(Outcome::Segment(Vec::new())));
    state.apply(&Command::BeginLog { broker: BROKER }).expect("it is known");
    let fenced = CatalogError::Fenced { broker: BROKER, epoch: 1, reached: 2 };
    assert_eq!(add(&mut state, 1, 10), Err(fenced.clone()));
    assert_eq!(flush(&mut state, 10, None), Err(fenced));
    assert_eq!(add(&mut state, 2, 10), Ok(Outcome::Segment(Vec::new())));
}

/// Whoever does not know whether a flush was taken sends it again, also when its blocks were merged, and
/// so are not listed any more.
#[test]
fn a_flush_that_is_sent_again_counts_once() {
    let mut state = state();
    for seq in 0..3 {
        add(&mut state, 1, seq).expect("in order");
    }
    assert!(matches!(flush(&mut state, 2, Some(0)), Ok(Outcome::Added(_))));
    let (removed, added) = (vec![BlockId(0)], Vec::new());
    state.apply(&Command::Swap { removed, added, deletes_through: 0 }).expect("it is listed");
    let stale = CatalogError::StaleSegment { seq: 2, least: 2 };
    assert_eq!(flush(&mut state, 2, Some(0)), Err(stale));
    assert_eq!(state.blocks().len(), 0);
    let own = state.broker(BROKER).expect("it is known");
    assert_eq!((own.flushed_through, own.segments.len()), (2, 1));
    // Nothing is said twice by one that adds nothing.
    assert_eq!(flush(&mut state, 2, None), Ok(Outcome::Added(Vec::new())));
}

/// What is not listed and cannot be any more is nobody's; everything else may be somebody's.
#[test]
fn orphans_are_what_cannot_come_to_count() {
    let mut state = state();
    let is_orphaned = |state: &State, epoch, seq| state.is_orphaned_segment(BROKER, epoch, seq);
    add(&mut state, 1, 4).expect("it is the first");
    assert!(is_orphaned(&state, 1, 3), "its number is passed");
    assert!(!is_orphaned(&state, 1, 4), "it is listed");
    assert!(!is_orphaned(&state, 1, 5) && !is_orphaned(&state, 2, 0), "they may be added");
    state.apply(&Command::BeginLog { broker: BROKER }).expect("it is known");
    assert!(!is_orphaned(&state, 1, 4) && is_orphaned(&state, 1, 5), "nobody adds to the old one");
    add(&mut state, 2, 5).expect("the next");
    assert!(
        is_orphaned(&state, 1, 5) && !is_orphaned(&state, 2, 5),
        "another one under its number"
    );
    let (broker, deletes_through) = (BROKER, 0);
    let (added, epoch, unread) = (Vec::new(), 2, vec![4]);
    let flush = Command::FlushLog { broker, epoch, through: 6, added, deletes_through, unread };
    state.apply(&flush).expect("all of it");
    assert!(is_orphaned(&state, 2, 5) && !is_orphaned(&state, 2, 6));
    assert!(!is_orphaned(&state, 1, 4), "it could not be read, and may be restored");
    // One that was removed and comes again has keys of its own.
    let info = state.broker(BROKER).expect("it is known").info.clone();
    state.apply(&Command::RemoveBroker { broker }).expect("it is flushed");
    assert!(is_orphaned(&state, 2, 6) && !is_orphaned(&state, 3, 0));
    state.apply(&Command::SetBroker { broker, info: Box::new(info) }).expect("it is new");
    assert_eq!(state.apply(&Command::BeginLog { broker }), Ok(Outcome::Epoch(3)));
    assert!(is_orphaned(&state, 2, 6) && !is_orphaned(&state, 3, 5));
    assert!(is_orphaned(&state, 3, 4), "numbers go on behind what could not be read");
}

#[test]
fn retired_ids_are_not_added_any_more() {
    let mut state = state();
    let below = |id| Command::RetireBlocks { below: BlockId(id) };
    assert!(state.apply(&below(1)).is_err(), "it may yet be handed out");
    state.apply(&Command::ReserveIds { count: 3 }).expect("there are more");
    add(&mut state, 1, 0).expect("the first");
    flush(&mut state, 1, Some(1)).expect("it is reserved");
    state.apply(&below(3)).expect("they were handed out");
    assert_eq!(state.blocks().len(), 1, "what is listed stays");
    add(&mut state, 1, 1).expect("the next");
    assert!(matches!(flush(&mut state, 2, Some(2)), Err(CatalogError::UnfitBlock { .. })));
    assert_eq!(state.apply(&below(1)), Ok(Outcome::Done));
    assert_eq!(state.retired_below(), BlockId(3), "it never goes back");
    flush(&mut state, 2, Some(3)).expect("written again");
}

/// Review, finding 18: what a cluster writes is read by the oldest of its brokers.
#[test]
fn a_version_comes_with_a_feature_level() {
    assert_eq!(catalog::format_version(catalog::FEATURE_LEVEL), catalog::FORMAT_VERSION);
    let known = state().broker(BROKER).expect("it is there").info.clone();
    let mut state = State::default();
    let mut says = |broker, feature_level, all| {
        let info = BrokerInfo { feature_level, ..known.clone() };
        let set = Command::SetBroker { broker: BrokerId(broker), info: Box::new(info) };
        state.apply(&set).expect("it knows enough");
        assert_eq!(state.feature_level(), all);
    };
    says(1, 1, 1);
    says(2, catalog::FEATURE_LEVEL + 1, 1);
    let version = catalog::format_version(state.feature_level());
    assert_eq!(version, 4, "level 1 reads version 4");
    let (mut bytes, mut snapshot) = (Vec::new(), Vec::new());
    Command::BeginLog { broker: BrokerId(1) }.encode_at(version, &mut bytes);
    state.encode_at(version, &mut snapshot);
    assert_eq!((bytes[0], snapshot[0]), (version, version));
    assert_eq!(State::decode(&snapshot).expect("it is whole"), state);
    assert!(Command::decode(&bytes).is_ok());
}

/// What was written at a level may say what a program below does not know.
#[test]
fn the_level_of_a_cluster_never_falls() {
    let known = state().broker(BROKER).expect("it is there").info.clone();
    let mut state = State::default();
    let mut says = |broker, feature_level| {
        let info = BrokerInfo { feature_level, ..known.clone() };
        let set = Command::SetBroker { broker: BrokerId(broker), info: Box::new(info) };
        state.apply(&set).map(|_| state.feature_level())
    };
    assert_eq!((says(1, 1), says(2, 2)), (Ok(1), Ok(1)));
    assert_eq!(says(2, 1), Ok(1), "back, while another one is older");
    assert_eq!((says(2, 2), says(1, 2)), (Ok(1), Ok(2)));
    let too_old = Err(CatalogError::OldProgram { found: 1, level: 2 });
    assert_eq!((says(1, 1), says(3, 1)), (too_old.clone(), too_old));
    assert_eq!((says(3, 3), says(1, 2)), (Ok(2), Ok(2)), "nothing was changed");
}

/// A process that starts does not know what the one before it was about to do, and may do otherwise.
#[test]
fn a_log_that_begins_ends_the_leases_of_the_process_before() {
    let mut state = state();
    let take = |job: &str| Command::TakeLease {
        job: job.to_owned(),
        holder: BROKER,
        claim: LeaseClaim::Free,
        until_ms: 7_000,
    };
    let under = |term| Command::Under {
        job: "merge".to_owned(),
        term,
        command: Box::new(Command::ReserveIds { count: 1 }),
    };
    assert_eq!(state.apply(&take("merge")), Ok(Outcome::Term(2)));
    assert_eq!(state.apply(&take("merge")), Ok(Outcome::Term(2)), "it is kept for longer");
    state.apply(&Command::BeginLog { broker: BROKER }).expect("it is known");
    let lost = CatalogError::LeaseLost { job: "merge".to_owned(), term: 2 };
    assert_eq!(state.apply(&under(2)), Err(lost.clone()));
    assert_eq!(state.apply(&take("merge")), Ok(Outcome::Term(4)));
    assert_eq!(state.apply(&under(2)), Err(lost));
    assert!(state.apply(&under(4)).is_ok());
}

/// What was acknowledged and is in no block is not forgotten because it cannot be read now.
#[test]
fn a_segment_that_cannot_be_read_stays_known_until_it_is_in_blocks() {
    let mut state = state();
    for seq in 0..4 {
        add(&mut state, 1, seq).expect("in order");
    }
    let unread = |state: &State| -> Vec<(u64, u64)> {
        state.unread_segments().map(|(_, seq, segment)| (seq, segment.rows)).collect()
    };
    flush_without(&mut state, 3, Vec::new(), &[1, 2]).expect("it goes on");
    assert_eq!(unread(&state), [(1, 3), (2, 3)]);
    // The second can be read by now; what was not added cannot be missing.
    flush_without(&mut state, 4, Vec::new(), &[1, 9]).expect("it goes on");
    assert_eq!(unread(&state), [(1, 3)]);
    let mut bytes = Vec::new();
    state.encode_at(catalog::FORMAT_VERSION, &mut bytes);
    assert_eq!(State::decode(&bytes), Ok(state.clone()));
    // It neither keeps the broker in the cluster nor is mistaken for one of a later life.
    let info = state.broker(BROKER).expect("it is known").info.clone();
    state.apply(&Command::RemoveBroker { broker: BROKER }).expect("it has no segments");
    assert_eq!(unread(&state), [(1, 3)]);
    state.apply(&Command::SetBroker { broker: BROKER, info: Box::new(info) }).expect("it is new");
    state.apply(&Command::BeginLog { broker: BROKER }).expect("it is known");
    assert_eq!(add(&mut state, 2, 1), Err(CatalogError::StaleSegment { seq: 1, least: 2 }));
}

/// Somebody restored its object. What was deleted meanwhile stays deleted.
#[test]
fn a_block_that_was_set_aside_comes_back_with_its_deletes() {
    let mut state = state();
    for seq in 0..3 {
        add(&mut state, 1, seq).expect("it is next");
        flush(&mut state, seq + 1, Some(seq)).expect("it reaches further");
    }
    let id = BlockId(1);
    let before = *state.block(id).expect("listed");
    let restore = Command::Restore { block: id };
    assert_eq!(state.apply(&restore), Err(CatalogError::UnknownBlock { id }));
    state.apply(&Command::Quarantine { block: id }).expect("listed");
    state.apply(&restore).expect("set aside");
    assert_eq!(state.block(id), Some(&before), "in its old place");

    state.apply(&Command::Quarantine { block: id }).expect("listed");
    let delete = Tombstone {
        number: 1,
        tenant: before.tenant,
        signal: before.signal,
        range: before.range,
        at_ms: 0,
        selectors: vec![vec![LabelCondition {
            name: "series".to_owned(),
            op: MatchOp::Equal,
            value: "s".to_owned(),
        }]],
    };
    state.apply(&Command::DeleteRows(delete)).expect("it is next");
    // Its neighbours are merged, without what is deleted.
    let merged = NewBlock { id: BlockId(9), level: 1, ..block(0) };
    let (removed, added) = (vec![BlockId(0), BlockId(2)], vec![merged]);
    state.apply(&Command::Swap { removed, added, deletes_through: 1 }).expect("nothing between");
    assert_eq!(state.tombstones().len(), 1, "it hides rows of the one that is set aside");
    state.apply(&restore).expect("set aside");
    let (restored, merged) = (state.block(id).expect("listed"), state.block(BlockId(9)));
    let merged = merged.expect("listed");
    assert!(restored.first_sequence > merged.last_sequence, "{restored:?} {merged:?}");
    assert_eq!((restored.deletes_through, state.quarantined().len()), (0, 0));
    assert_eq!(state.tombstones().len(), 1);
    state.apply(&Command::Expire { removed: vec![id] }).expect("listed");
    assert_eq!(state.tombstones().len(), 0);
}

fn delete(number: u64) -> Command {
    Command::DeleteRows(Tombstone {
        number,
        tenant: TenantId(0),
        signal: Signal::Metrics,
        range: TimeRange::new(0, 10),
        at_ms: 7,
        selectors: vec![vec![LabelCondition {
            name: "job".to_owned(),
            op: MatchOp::Equal,
            value: "a".to_owned(),
        }]],
    })
}

fn deletes(state: &State) -> Vec<u64> {
    state.tombstones().map(|tombstone| tombstone.number).collect()
}

/// Its rows would be there without those that were deleted meanwhile if the delete were forgotten.
#[test]
fn a_delete_stays_while_a_segment_that_it_concerns_cannot_be_read() {
    let mut state = state();
    add(&mut state, 1, 0).expect("in order");
    add(&mut state, 1, 1).expect("in order");
    flush_without(&mut state, 2, vec![block(1)], &[0]).expect("it goes on");
    state.apply(&delete(1)).expect("it is the first");
    let clean = Command::Swap { removed: vec![BlockId(1)], added: Vec::new(), deletes_through: 1 };
    state.apply(&clean).expect("it is listed");
    assert_eq!(deletes(&state), [1], "the segment may be read some day");
    // Also when its broker left.
    let info = state.broker(BROKER).expect("it is known").info.clone();
    let other = Command::SetBroker { broker: BrokerId(8), info: Box::new(info) };
    state.apply(&other).expect("it is new");
    let mut left = state.clone();
    left.apply(&Command::RemoveBroker { broker: BROKER }).expect("it has no segments");
    assert_eq!(deletes(&left), [1]);
    let late = |seqs: Vec<u64>, deletes_through| Command::FlushUnread {
        broker: BROKER,
        seqs,
        added: vec![block(2)],
        deletes_through,
    };
    for mut state in [state, left] {
        let missing = CatalogError::NotMissing { broker: BROKER, seq: 1 };
        assert_eq!(state.apply(&late(vec![0, 1], 1)), Err(missing));
        let twice = CatalogError::NotMissing { broker: BROKER, seq: 0 };
        assert_eq!(state.apply(&late(vec![0, 0], 1)), Err(twice.clone()));
        state.apply(&late(vec![0], 1)).expect("it could not be read");
        assert_eq!(state.unread_segments().len(), 0);
        assert_eq!(deletes(&state), [0_u64; 0], "nothing is left to hide");
        assert_eq!(state.apply(&late(vec![0], 1)), Err(twice), "it counts once");
    }
}

#[test]
fn a_missing_segment_is_forgotten_with_the_deletes_that_waited_for_it() {
    let mut state = state();
    add(&mut state, 1, 0).expect("in order");
    flush_without(&mut state, 1, Vec::new(), &[0]).expect("it goes on");
    state.apply(&delete(1)).expect("it is the first");
    let forget = Command::ForgetUnread { segments: vec![(BROKER, 0), (BrokerId(9), 3)] };
    state.apply(&forget).expect("it is no matter whether they are there");
    assert_eq!((state.unread_segments().len(), deletes(&state)), (0, Vec::new()));
    assert!(state.is_orphaned_segment(BROKER, 1, 0), "its object may go");
}

/// All that are asked to leave at once must not all go.
#[test]
fn the_last_broker_that_takes_writes_stays() {
    let mut state = state();
    let info = state.broker(BROKER).expect("it is known").info.clone();
    let set = |broker: u64, to| Command::SetBroker {
        broker: BrokerId(broker),
        info: Box::new(BrokerInfo { state: to, ..info.clone() }),
    };
    let last = |broker| Err::<Outcome, _>(CatalogError::LastBroker { broker: BrokerId(broker) });
    assert_eq!(state.apply(&set(7, BrokerState::Draining)), last(7));
    state.apply(&set(8, BrokerState::Active)).expect("it is new");
    state.apply(&set(7, BrokerState::Draining)).expect("another one takes writes");
    state.apply(&set(7, BrokerState::Draining)).expect("that changes nothing");
    assert_eq!(state.apply(&set(8, BrokerState::Draining)), last(8));
    state.apply(&set(7, BrokerState::Active)).expect("it comes back");
    state.apply(&set(8, BrokerState::Draining)).expect("another one takes writes");
}

/// Whoever takes a lease from another says what it saw of it, and nobody's clock decides.
#[test]
fn a_lease_is_taken_over_only_as_it_was_seen() {
    let mut state = state();
    let info = state.broker(BROKER).expect("it is known").info.clone();
    let other = BrokerId(8);
    state.apply(&Command::SetBroker { broker: other, info: Box::new(info) }).expect("it is new");
    let take = |holder, claim| Command::TakeLease {
        job: "merge".to_owned(),
        holder,
        claim,
        // By a clock that is a day ahead: that says nothing.
        until_ms: 86_400_000,
    };
    let over = |term, renewals| LeaseClaim::Over { term, renewals };
    let held = || CatalogError::LeaseHeld {
        job: "merge".to_owned(),
        holder: BROKER,
        until_ms: 86_400_000,
    };
    assert_eq!(state.apply(&take(BROKER, LeaseClaim::Free)), Ok(Outcome::Term(2)));
    assert_eq!(state.apply(&take(other, LeaseClaim::Free)), Err(held()));
    assert_eq!(state.apply(&take(BROKER, LeaseClaim::Held { term: 2 })), Ok(Outcome::Term(2)));
    assert_eq!(state.apply(&take(other, over(2, 0))), Err(held()), "it was renewed since");
    assert_eq!(state.apply(&take(other, over(1, 1))), Err(held()));
    assert_eq!(state.apply(&take(other, over(2, 1))), Ok(Outcome::Term(3)));
    let lost = CatalogError::LeaseLost { job: "merge".to_owned(), term: 2 };
    assert_eq!(state.apply(&take(BROKER, LeaseClaim::Held { term: 2 })), Err(lost.clone()));
    // Also where the other one gave it back: nobody would give back a lease that came about so.
    let give = Command::GiveLease { job: "merge".to_owned(), term: 3 };
    state.apply(&give).expect("it is held");
    assert_eq!(state.apply(&take(BROKER, LeaseClaim::Held { term: 2 })), Err(lost));
    assert!(state.lease("merge").is_none());
    assert_eq!(state.apply(&take(BROKER, over(3, 0))), Ok(Outcome::Term(4)), "it is free");
}

/// A rewrite of one of the blocks that one flush, or one merge, wrote is no change of order.
#[test]
fn blocks_of_the_same_commits_are_written_anew_one_by_one() {
    let mut state = state();
    add(&mut state, 1, 0).expect("in order");
    flush_without(&mut state, 1, vec![block(1), block(2)], &[]).expect("it is whole");
    let swap = |removed: &[u64], added: &[u64]| Command::Swap {
        removed: removed.iter().copied().map(BlockId).collect(),
        added: added.iter().copied().map(block).collect(),
        deletes_through: 0,
    };
    state.apply(&swap(&[1], &[3])).expect("the other one is beside it as before");
    add(&mut state, 1, 1).expect("in order");
    flush_without(&mut state, 2, vec![block(4)], &[]).expect("it is whole");
    let split = state.apply(&swap(&[3, 4], &[5]));
    assert!(matches!(split, Err(CatalogError::UnfitBlock { .. })), "{split:?}");
    state.apply(&swap(&[2, 3, 4], &[5, 6])).expect("all of them");
    state.apply(&swap(&[6], &[7])).expect("the other one is beside it as before");
}

/// However many jobs nobody gave back.
#[test]
fn a_broker_can_always_say_that_it_is_there() {
    let mut state = state();
    let take = |job: String| Command::TakeLease {
        job,
        holder: BROKER,
        claim: LeaseClaim::Free,
        until_ms: 0,
    };
    for day in 0..MAX_LEASES {
        state.apply(&take(format!("merge/1/{day}"))).expect("there is room");
    }
    let one_more = state.apply(&take("merge/2/0".to_owned()));
    assert!(matches!(one_more, Err(CatalogError::TooLarge { .. })), "{one_more:?}");
    state.apply(&take(format!("{BROKER_LEASES}{BROKER}"))).expect("it has room of its own");
}

/// What a sender repeats at another broker counts once, whichever of the two is agreed upon first.
#[test]
fn a_push_counts_in_one_segment() {
    let mut state = state();
    let mut add = |seq, pushes: &[(u32, u8)]| {
        let pushes = pushes.iter().map(|(batch, push)| (*batch, PushMark([*push; 16])));
        let segment = NewSegment {
            broker: BROKER,
            epoch: 1,
            seq,
            size_bytes: 100,
            checksum: 9,
            rows: 3,
            range: TimeRange::new(0, 10),
            marks: Vec::new(),
            pushes: pushes.collect(),
        };
        let outcome = state.apply(&Command::AddSegment(Box::new(segment)));
        let known = |(batch, why)| {
            assert_eq!(why, PassedOver::Known);
            batch
        };
        outcome.map(|outcome| match outcome {
            Outcome::Segment(passed_over) => passed_over.into_iter().map(known).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(add(0, &[(0, 1), (2, 1), (5, 2)]), Ok(vec![2]));
    assert_eq!(add(1, &[(0, 3), (7, 2)]), Ok(vec![7]));
    assert!(add(1, &[(0, 4)]).is_err(), "it is refused as a whole");
    assert_eq!(add(2, &[(1, 4)]), Ok(vec![]), "and nothing of it is known then");
    let unfit = Err(CatalogError::UnfitSegment { seq: 3 });
    assert_eq!(add(3, &[(1, 5), (1, 6)]), unfit);
    assert_eq!(add(3, &[(0, 5), (1, 1)]), Ok(vec![1]));
    assert!(state.is_known_push(&PushMark([5; 16])) && !state.is_known_push(&PushMark([6; 16])));
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    assert_eq!(State::decode(&bytes), Ok(state));
}
