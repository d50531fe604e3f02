//! Both indexes against a list of label sets that is searched one by one.

use std::collections::{BTreeMap, BTreeSet};

use labelindex::{BlockIndex, BlockIndexBuilder, LabelIndex, MemIndex};
use model::{Labels, MatchOp, Matcher};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["__name__", "a", "b", "job"];
const VALUES: [&str; 7] = ["", "1", "10", "x", "xy", "xyz", "é"];
const PATTERNS: [&str; 16] = [
    "", "1", "x", "xy", "nothing", ".*", ".+", "x.*", "x.+", "1|xy", "1|", "(x|y).*", "[^x]*",
    "x?y?", "é", "1.*|x",
];

fn label_set() -> impl Strategy<Value = Labels> {
    proptest::collection::vec(proptest::sample::select(&VALUES[..]), NAMES.len()).prop_map(
        |values| Labels::from_pairs(NAMES.into_iter().zip(values)).expect("names are unique"),
    )
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let name = proptest::sample::select(&["__name__", "a", "b", "job", "absent"][..]);
    let op = proptest::sample::select(
        &[MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex][..],
    );
    (name, op, proptest::sample::select(&PATTERNS[..]))
        .prop_map(|(name, op, value)| Matcher::new(name, op, value).expect("pattern compiles"))
}

fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
    proptest::collection::vec(matcher(), 0..4)
}

/// What is expected of an index that holds `series`.
fn check(index: &dyn LabelIndex, series: &BTreeMap<u32, Labels>, matchers: &[Matcher]) {
    let matches = |labels: &Labels| {
        matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()))
    };
    let expected: BTreeMap<u32, &Labels> =
        series.iter().filter(|(_, labels)| matches(labels)).map(|(o, l)| (*o, l)).collect();
    let ordinals: Vec<u32> = expected.keys().copied().collect();
    assert_eq!(index.select(matchers), ordinals, "{matchers:?}");
    assert_eq!(index.series_count(), series.len());
    for (ordinal, labels) in series {
        assert_eq!(&index.labels(*ordinal), labels);
    }
    let pairs = || expected.values().flat_map(|labels| labels.iter());
    let names: BTreeSet<&str> = pairs().map(|(name, _)| name).collect();
    let mut visited = BTreeSet::new();
    index.visit_names(matchers, &mut |name| _ = visited.insert(name.to_owned()));
    assert!(visited.iter().eq(&names), "{visited:?}, not {names:?}");
    assert_eq!(index.label_names(matchers), names.into_iter().collect::<Vec<_>>());
    for name in ["__name__", "a", "absent"] {
        let values: BTreeSet<&str> = pairs().filter(|(n, _)| *n == name).map(|(_, v)| v).collect();
        let mut visited = BTreeSet::new();
        index.visit_values(name, matchers, &mut |value| _ = visited.insert(value.to_owned()));
        assert!(visited.iter().eq(&values), "{visited:?}, not {values:?}");
        assert_eq!(index.label_values(name, matchers), values.into_iter().collect::<Vec<_>>());
    }
}

fn block(series: &BTreeSet<Labels>) -> Vec<u8> {
    let mut builder = BlockIndexBuilder::new(1);
    for labels in series {
        builder.push(labels);
    }
    let mut bytes = vec![7];
    builder.finish(&mut bytes);
    bytes.split_off(1)
}

proptest! {
    #[test]
    fn a_block_answers_as_a_list_does(
        series in proptest::collection::btree_set(label_set(), 0..60),
        selectors in proptest::collection::vec(matchers(), 1..8),
    ) {
        let index = BlockIndex::open(&block(&series)).expect("own bytes");
        let list = (0..).zip(series).collect();
        for matchers in selectors {
            check(&index, &list, &matchers);
        }
    }

    #[test]
    fn a_head_answers_as_a_list_does(
        // Ordinals are removed, and used again for other series.
        steps in proptest::collection::vec(
            (0_u32..40, proptest::option::weighted(0.7, label_set())), 0..120),
        selectors in proptest::collection::vec(matchers(), 1..8),
    ) {
        let mut index = MemIndex::new(1);
        let mut list = BTreeMap::new();
        for (ordinal, labels) in steps {
            match labels {
                Some(labels) => {
                    index.insert(ordinal, &labels);
                    list.insert(ordinal, labels);
                }
                None => {
                    index.remove(ordinal);
                    list.remove(&ordinal);
                }
            }
        }
        for matchers in selectors {
            check(&index, &list, &matchers);
        }
    }
}

/// Like series of hosts: enough for bitmaps, packed postings and several whole rows.
fn fleet(hosts: usize) -> BTreeSet<Labels> {
    let mut all = BTreeSet::new();
    for host in 0..hosts {
        for cpu in 0..16 {
            for mode in ["idle", "iowait", "system", "user"] {
                let host = format!("host-{host:03}:9100");
                let cpu = cpu.to_string();
                let pairs = [
                    ("__name__", "node_cpu_seconds_total"),
                    ("cpu", cpu.as_str()),
                    ("instance", host.as_str()),
                    ("job", "node"),
                    ("mode", mode),
                ];
                all.insert(Labels::from_pairs(pairs).expect("labels"));
            }
        }
        let host = format!("host-{host:03}:9100");
        for name in ["up", "node_load1", "node_boot_time_seconds"] {
            let pairs = [("__name__", name), ("instance", host.as_str()), ("job", "node")];
            all.insert(Labels::from_pairs(pairs).expect("labels"));
        }
    }
    all
}

#[test]
fn long_lists_answer_as_a_list_does() {
    let series = fleet(50);
    let bytes = block(&series);
    let block = BlockIndex::open(&bytes).expect("own bytes");
    let mut head = MemIndex::new(3);
    for (ordinal, labels) in (0..).zip(&series) {
        head.insert(ordinal, labels);
    }
    let list: BTreeMap<u32, Labels> = (0..).zip(series).collect();
    let matcher = |name, op, value: &str| Matcher::new(name, op, value).expect("pattern compiles");
    for matchers in [
        vec![],
        vec![matcher("__name__", MatchOp::Equal, "up"), matcher("job", MatchOp::Equal, "node")],
        vec![matcher("__name__", MatchOp::Equal, "up"), matcher("job", MatchOp::NotEqual, "node")],
        vec![
            matcher("instance", MatchOp::Regex, "host-0[1-3].*"),
            matcher("mode", MatchOp::NotRegex, "idle|user"),
        ],
        vec![matcher("mode", MatchOp::Equal, "")],
        vec![matcher("mode", MatchOp::Regex, ".+"), matcher("cpu", MatchOp::Regex, "1.?")],
        vec![matcher("cpu", MatchOp::NotEqual, "3"), matcher("instance", MatchOp::Regex, ".*7.*")],
    ] {
        check(&block, &list, &matchers);
        check(&head, &list, &matchers);
    }
}

#[test]
fn a_head_forgets_in_bulk() {
    let series: Vec<Labels> = fleet(60).into_iter().collect();
    let mut head = MemIndex::new(3);
    for (ordinal, labels) in (0..).zip(&series) {
        head.insert(ordinal, labels);
    }
    let full = head.bytes();
    let mut list: BTreeMap<u32, Labels> = (0..).zip(series.iter().cloned()).collect();
    let is_gone = |ordinal: &u32| !ordinal.is_multiple_of(8);
    for ordinal in (0..series.len() as u32).filter(is_gone) {
        head.remove(ordinal);
        list.remove(&ordinal);
    }
    assert!(head.bytes() < full / 2, "{} of {full}", head.bytes());
    check(&head, &list, &[]);
    // The ordinals are used again, by other series than before.
    for (ordinal, labels) in (0..series.len() as u32).filter(is_gone).zip(series.iter().rev()) {
        head.insert(ordinal, labels);
        list.insert(ordinal, labels.clone());
    }
    let idle = Matcher::new("mode", MatchOp::Equal, "idle").expect("matcher");
    check(&head, &list, &[idle]);
}

#[test]
fn a_flipped_byte_is_noticed() {
    let series = fleet(2);
    let bytes = block(&series);
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert!(BlockIndex::open(&damaged).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
    for len in 0..bytes.len() {
        assert!(BlockIndex::open(&bytes[..len]).is_err(), "{len} bytes");
    }
}
