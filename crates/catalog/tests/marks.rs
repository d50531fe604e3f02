//! Marks: nothing stored is taken again, nothing lost is taken for stored.

use catalog::{
    CatalogError, Command, Incarnation, Lane, MAX_AGENT_NAME_BYTES, MAX_INCARNATIONS_PER_AGENT,
    Mark, Outcome, Standing, State,
};
use proptest::prelude::*;

const SPOOL: Incarnation = Incarnation([7; 16]);

fn mark(seq: u64, after_seq: u64) -> Mark {
    let lane = Lane::Live;
    Mark { agent: "a".into(), incarnation: SPOOL, lane, seq, after_seq, at_ms: seq as i64 }
}

fn store(state: &mut State, mark: Mark) -> Result<Outcome, CatalogError> {
    state.apply(&Command::Mark(mark))
}

proptest! {
    /// What a start finds of a lane: some frames of a log in which each batch follows the one
    /// before. The agent then sends everything again, in order.
    #[test]
    fn lost_frames_are_taken_again_and_others_not(
        frames in proptest::collection::vec((any::<bool>(), 1_u64..4), 1..40),
    ) {
        let (mut state, mut batches, mut last) = (State::default(), Vec::new(), 0);
        for (is_lost, step) in frames {
            let next = mark(last + step, last);
            last = next.seq;
            if !is_lost {
                store(&mut state, next.clone()).expect("sound");
            }
            batches.push((next, is_lost));
        }
        for (batch, is_lost) in &batches {
            prop_assert_eq!(state.standing(batch) == Standing::Known, !is_lost);
        }
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        prop_assert_eq!(State::decode(&bytes), Ok(state.clone()));
        for (batch, is_lost) in &batches {
            let standing = state.standing(batch);
            prop_assert_eq!(standing, if *is_lost { Standing::Next } else { Standing::Known });
            if *is_lost {
                store(&mut state, batch.clone()).expect("sound");
            }
        }
        prop_assert_eq!(state.marks_of("a", SPOOL).live_through, last);
        // Nothing is left of the gaps.
        let mut smooth = State::default();
        store(&mut smooth, Mark { at_ms: 1, ..mark(last, 0) }).expect("sound");
        prop_assert_eq!(smooth.marks_of("a", SPOOL).live_through, last);
        let next = mark(last + 1, last);
        prop_assert_eq!(state.standing(&next), Standing::Next);
    }
}

#[test]
fn a_batch_never_overtakes_the_one_it_follows() {
    let mut state = State::default();
    assert_eq!(state.standing(&mark(2, 1)), Standing::Gap { through: 0 });
    store(&mut state, mark(1, 0)).expect("sound");
    assert_eq!(state.standing(&mark(1, 0)), Standing::Known);
    assert_eq!(state.standing(&mark(2, 1)), Standing::Next);
    // The spool dropped 2 to 9; a new stream says it follows nothing.
    assert_eq!(state.standing(&mark(10, 1)), Standing::Next);
    assert_eq!(state.standing(&mark(10, 0)), Standing::Next);
    store(&mut state, mark(10, 0)).expect("sound");
    assert_eq!(state.standing(&mark(9, 8)), Standing::Known);
    // Lanes, incarnations and agents are apart.
    let others = [
        Mark { lane: Lane::Backlog, ..mark(10, 0) },
        Mark { incarnation: Incarnation([8; 16]), ..mark(10, 0) },
        Mark { agent: "b".into(), ..mark(10, 0) },
    ];
    for other in others {
        assert_eq!(state.standing(&other), Standing::Next, "{other:?}");
    }
    let error = store(&mut state, mark(11, 11)).expect_err("follows itself");
    assert_eq!(error, CatalogError::UnfitMark { seq: 11, after_seq: 11 });
    let agent = "n".repeat(MAX_AGENT_NAME_BYTES + 1).into();
    assert!(store(&mut state, Mark { agent, ..mark(1, 0) }).is_err());
}

#[test]
fn a_clock_that_is_behind_makes_nobody_silent() {
    let mut state = State::default();
    store(&mut state, Mark { at_ms: 1_000, ..mark(1, 0) }).expect("sound");
    store(&mut state, Mark { at_ms: -9_000, ..mark(2, 1) }).expect("sound");
    state.apply(&Command::ExpireMarks { before_ms: 1_000 }).expect("applies");
    assert_eq!(state.marks_of("a", SPOOL).live_through, 2);
}

#[test]
fn marks_expire_and_their_number_is_bounded() {
    let mut state = State::default();
    let spools = MAX_INCARNATIONS_PER_AGENT as u8 + 3;
    for byte in 0..spools {
        let incarnation = Incarnation([byte; 16]);
        let at_ms = i64::from(byte);
        store(&mut state, Mark { incarnation, at_ms, ..mark(5, 0) }).expect("sound");
    }
    let kept: Vec<u8> = state.marks().map(|(_, incarnation, _)| incarnation.0[0]).collect();
    assert_eq!(kept, (3..spools).collect::<Vec<_>>(), "the longest silent are forgotten");
    state.apply(&Command::ExpireMarks { before_ms: 9 }).expect("applies");
    assert!(state.marks().all(|(_, _, marks)| marks.at_ms >= 9));
    assert_eq!(state.marks().count(), usize::from(spools) - 9);
    state.apply(&Command::ExpireMarks { before_ms: 1_000 }).expect("applies");
    assert_eq!(state.marks().count(), 0);
    assert_eq!(state.standing(&mark(5, 0)), Standing::Next);
}
