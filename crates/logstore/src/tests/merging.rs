//! What is merged is what was in the inputs.

use std::sync::Arc;

use blockstore::{BlockFormat, InMemory, MergeInput, MergePart};
use model::TimeRange;
use proptest::prelude::*;

use super::model::{
    Asked, Delete, Found, Place, block_bytes, expected_by_stream, found, head_with, lines, opened,
    places,
};
use crate::{IndexCache, LogBlock, LogDelete, LogFormat, NsRange, Query, Source, Streams};

pub(crate) fn contents(block: &Arc<LogBlock>) -> Vec<Found> {
    let query = Query::new(Vec::new(), NsRange::all());
    let sources = vec![Source::block(Arc::clone(block))];
    let mut streams = Streams::new(query, sources).expect("nothing is damaged");
    let mut all = Vec::new();
    while streams.next_stream().expect("nothing is damaged").is_some() {
        while let Some(entry) = streams.next_entry().expect("nothing is damaged") {
            all.push(found(&entry));
        }
    }
    all
}

fn format() -> LogFormat {
    LogFormat::new(11, IndexCache::new(1 << 20))
}

fn inputs(places: &[Place]) -> Vec<MergeInput<LogBlock, LogDelete>> {
    let input = |place: &Place| MergeInput {
        block: opened(block_bytes(&place.lines, place.group_bytes.unwrap_or(1 << 20))),
        deletes: place.deletes.iter().map(Delete::made).collect(),
    };
    places.iter().map(input).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_merge_has_what_its_inputs_have(
        places in places(24),
        keep in prop_oneof![
            Just(TimeRange::all()),
            (-120_i64..180, 0_i64..300)
                .prop_map(|(from, len)| TimeRange::new(from * 1_000, (from + len) * 1_000)),
        ],
    ) {
        let asked = Asked { range: keep.into(), ..Asked::everything() };
        let wanted = expected_by_stream(&places, &asked);
        let mut out = InMemory::default();
        let summary = format().merge(&inputs(&places), keep, 1, &mut out).expect("it merges");
        let block = opened(out.0);
        prop_assert_eq!(summary, block.summary());
        prop_assert_eq!(summary.rows, wanted.len() as u64);
        for (_, t_ns, ..) in &wanted {
            prop_assert!(summary.range.contains(t_ns.div_euclid(1_000_000)));
        }
        prop_assert_eq!(contents(&block), wanted);
    }

    #[test]
    fn parts_of_a_merge_have_together_what_one_has(places in places(24)) {
        let inputs = inputs(&places);
        let mut part = MergePart { behind: None, most_bytes: 1 };
        let mut all = Vec::new();
        for count in 0.. {
            let mut out = InMemory::default();
            let merged = format().merge_part(&inputs, TimeRange::all(), 1, &part, &mut out);
            let (_, last) = merged.expect("it merges");
            let block = opened(out.0);
            prop_assert!(block.summary().series <= 1 && count < 4);
            all.extend(contents(&block));
            let Some(last) = last else { break };
            part.behind = Some(last);
        }
        prop_assert_eq!(all, expected_by_stream(&places, &Asked::everything()));
    }

    #[test]
    fn a_head_becomes_a_block(lines in lines(80)) {
        let head = head_with(&lines);
        prop_assert_eq!(head.rows(), lines.len() as u64);
        let mut out = InMemory::default();
        format().flush(&head, &mut out).expect("memory takes all");
        let place = Place { lines, group_bytes: None, deletes: Vec::new() };
        let wanted = expected_by_stream(&[place], &Asked::everything());
        prop_assert_eq!(contents(&opened(out.0)), wanted);
    }
}

#[test]
fn deletes_that_meet_no_stream_or_no_time_touch_no_block() {
    let line = |stream, timestamp_ns| super::model::Line {
        stream,
        timestamp_ns,
        text: "x".to_owned(),
        metadata: Vec::new(),
    };
    let block = opened(block_bytes(&[line(0, 5), line(1, 9)], 1));
    let delete = |app, start_ns, end_ns| {
        let matcher = model::Matcher::new("app", model::MatchOp::Equal, app).expect("a matcher");
        let (selectors, range) = (vec![vec![matcher]], NsRange::new(start_ns, end_ns));
        Arc::new(LogDelete { selectors, range, line_test: None })
    };
    for (delete, touches) in [
        (delete("a", 0, 6), true),
        (delete("a", 9, 10), true),
        (delete("a", 10, 99), false),
        (delete("b", 0, 99), false),
    ] {
        assert_eq!(block.may_be_touched_by(&[Arc::clone(&delete)]), touches, "{delete:?}");
    }
}
