//! Counters tell what counting lines one by one does.

use std::collections::BTreeMap;

use model::Labels;
use proptest::prelude::*;

use super::model::{Asked, asked, expected_by_stream, places, sources};
use crate::time::minute_of;
use crate::{LEVEL, MetadataWanted, count};

type Counts = BTreeMap<(Labels, String, i64), (u64, u64)>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn counts_are_those_of_the_lines(
        places in places(24),
        asked in asked(),
        has_tests: bool,
        refuses_above_ns in prop_oneof![Just(i64::MAX), any::<i16>().prop_map(i64::from)],
    ) {
        let metadata = MetadataWanted::All;
        let asked = match has_tests {
            true => Asked { metadata, ..asked },
            false => Asked { metadata, needles: vec![], field: None, test: None, ..asked },
        };
        let mut wanted = Counts::new();
        for (labels, t_ns, text, metadata) in expected_by_stream(&places, &asked) {
            let level = metadata.into_iter().find(|(name, _)| name == LEVEL);
            let key = (labels, level.unwrap_or_default().1, minute_of(t_ns));
            let count = wanted.entry(key).or_default();
            *count = (count.0 + 1, count.1 + text.len() as u64);
        }
        let mut counts = Counts::new();
        let query = asked.query();
        let mut takes = |_: i64, last_ns: i64| last_ns <= refuses_above_ns;
        count(&query, sources(&places, &query), &mut takes, &mut |count| {
            assert!(count.lines == 1 || count.last_ns <= refuses_above_ns);
            assert_eq!(minute_of(count.first_ns), minute_of(count.last_ns));
            assert!(asked.range.covers(count.first_ns, count.last_ns));
            let key = (count.labels.clone(), count.level.to_owned(), minute_of(count.first_ns));
            let sum = counts.entry(key).or_default();
            *sum = (sum.0 + count.lines, sum.1 + count.bytes);
        }).expect("nothing is damaged");
        prop_assert_eq!(counts, wanted);
    }
}
