//! Lists of lines, what a query yields of them, and the same lines in blocks and heads.

use std::sync::Arc;

use blockstore::InMemory;
use model::{Labels, LogBatch, MatchOp, Matcher};
use proptest::prelude::*;

use crate::metadata::settled;
use crate::time::MINUTE_NS;
use crate::{
    BlockWriter, Entry, IndexCache, LogBlock, LogDelete, LogHead, MetadataWanted, NsRange, Order,
    Query, Source,
};

/// Names and values.
pub(crate) type Pairs = Vec<(String, String)>;

/// A line that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) stream: usize,
    pub(crate) timestamp_ns: i64,
    pub(crate) text: String,
    pub(crate) metadata: Pairs,
}

/// A line that was found.
pub(crate) type Found = (Labels, i64, String, Pairs);

/// Labels of the streams that lines are of, ascending.
pub(crate) fn labels(stream: usize) -> Labels {
    let [app, host] = [["a", "b"][stream / 2], ["1", "2"][stream % 2]];
    Labels::from_pairs([("app", app), ("host", host)]).expect("valid labels")
}

/// Some lines in one place.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) lines: Vec<Line>,
    /// Bytes of a group of the block that they are in; `None` if they are in a head.
    pub(crate) group_bytes: Option<usize>,
    /// What is deleted there.
    pub(crate) deletes: Vec<Delete>,
}

/// Streams, from when to when, and what has to be in the line.
#[derive(Debug, Clone)]
pub(crate) struct Delete {
    app: &'static str,
    range: NsRange,
    piece: Option<&'static str>,
}

impl Delete {
    pub(crate) fn hides(&self, line: &Line) -> bool {
        labels(line.stream).get("app") == Some(self.app)
            && self.range.contains(line.timestamp_ns)
            && self.piece.is_none_or(|piece| line.text.contains(piece))
    }

    pub(crate) fn made(&self) -> Arc<LogDelete> {
        let matcher = Matcher::new("app", MatchOp::Equal, self.app).expect("a matcher");
        let piece = self.piece;
        Arc::new(LogDelete {
            selectors: vec![vec![matcher]],
            range: self.range,
            line_test: piece.map(|piece| {
                let finder = memchr::memmem::Finder::new(piece);
                Arc::new(move |line: &[u8]| finder.find(line).is_some()) as crate::LineTest
            }),
        })
    }
}

/// A query in parts.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) app: Option<&'static str>,
    pub(crate) range: NsRange,
    pub(crate) needles: Vec<String>,
    pub(crate) field: Option<(String, String)>,
    pub(crate) test: Option<&'static str>,
    pub(crate) order: Order,
    pub(crate) metadata: MetadataWanted,
}

impl Asked {
    pub(crate) fn everything() -> Self {
        Asked {
            app: None,
            range: NsRange::all(),
            needles: Vec::new(),
            field: None,
            test: None,
            order: Order::Forward,
            metadata: MetadataWanted::All,
        }
    }

    pub(crate) fn query(&self) -> Query {
        let matcher = |app| Matcher::new("app", MatchOp::Equal, app).expect("a matcher");
        let mut query = Query::new(self.app.map(matcher).into_iter().collect(), self.range)
            .in_order(self.order)
            .with_metadata(self.metadata.clone());
        for needle in &self.needles {
            query = query.with_needle(needle.as_bytes());
        }
        if let Some((name, value)) = &self.field {
            query = query.with_field(name, value);
        }
        if let Some(test) = self.test {
            query = query.with_line_test(Arc::new(move |line: &[u8]| {
                memchr::memmem::find(line, test.as_bytes()).is_some()
            }));
        }
        query
    }

    fn wants(&self, line: &Line) -> bool {
        self.app.is_none_or(|app| labels(line.stream).get("app") == Some(app))
            && self.range.contains(line.timestamp_ns)
            && self.needles.iter().all(|needle| line.text.contains(needle.as_str()))
            && self.test.is_none_or(|test| line.text.contains(test))
            && self.field.as_ref().is_none_or(|field| kept(&line.metadata).contains(field))
    }
}

/// Metadata as it is kept.
fn kept(pairs: &Pairs) -> Pairs {
    let texts: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    settled(&texts).iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

/// What is wanted of each stream: in order of time and arrival, each line once, without what is deleted.
fn by_stream(places: &[Place], asked: &Asked) -> Vec<Vec<Line>> {
    (0..4)
        .map(|stream| {
            let of_place = |place: &Place| {
                // In one place a line that is there already is no second line, whatever is deleted.
                let of_stream = place.lines.iter().filter(|line| line.stream == stream);
                let mut lines = once(of_stream.cloned().collect());
                lines.retain(|line| !place.deletes.iter().any(|delete| delete.hides(line)));
                // Conditions come before places are compared: equal lines may differ in metadata.
                lines.retain(|line| asked.wants(line));
                lines
            };
            once(places.iter().flat_map(of_place).collect())
        })
        .collect()
}

fn once(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by_key(|line| line.timestamp_ns);
    let mut known = std::collections::BTreeSet::new();
    lines.retain(|line| known.insert((line.timestamp_ns, line.text.clone())));
    lines
}

/// What a query has to yield, stream by stream.
pub(crate) fn expected_by_stream(places: &[Place], asked: &Asked) -> Vec<Found> {
    let mut found = Vec::new();
    for mut lines in by_stream(places, asked) {
        if asked.order == Order::Backward {
            lines.reverse();
        }
        found.extend(lines.into_iter().map(|line| {
            let metadata = kept(&line.metadata).into_iter();
            let metadata = metadata.filter(|(name, _)| asked.metadata.has(name)).collect();
            (labels(line.stream), line.timestamp_ns, line.text, metadata)
        }));
    }
    found
}

/// The same in one order of time.
pub(crate) fn expected(places: &[Place], asked: &Asked) -> Vec<Found> {
    let mut found = expected_by_stream(places, asked);
    found.sort_by_key(|(_, t_ns, ..)| asked.order.key(*t_ns));
    found
}

pub(crate) fn found(entry: &Entry<'_>) -> Found {
    assert_eq!(entry.line.len() as u64, entry.line_bytes);
    let metadata = entry.metadata.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let line = String::from_utf8(entry.line.to_vec()).expect("lines of tests are texts");
    (entry.labels.clone(), entry.timestamp_ns, line, metadata)
}

/// A block with these lines.
pub(crate) fn block_bytes(lines: &[Line], group_bytes: usize) -> Vec<u8> {
    let mut out = InMemory::default();
    let writer = BlockWriter::new(&mut out, 1, 7).expect("memory takes all");
    let mut writer = writer.with_group_bytes(group_bytes);
    if group_bytes.is_multiple_of(2) {
        writer = writer.with_templates();
    }
    for stream in 0..4 {
        writer.stream(&labels(stream));
        let mut of_stream: Vec<&Line> = lines.iter().filter(|l| l.stream == stream).collect();
        of_stream.sort_by_key(|line| line.timestamp_ns);
        for line in of_stream {
            let metadata = line.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            let metadata: Vec<(&str, &str)> = metadata.collect();
            let taken = writer.push(line.timestamp_ns, line.text.as_bytes(), &metadata);
            taken.expect("memory takes all");
        }
    }
    writer.finish().expect("memory takes all");
    out.0
}

pub(crate) fn opened(bytes: Vec<u8>) -> Arc<LogBlock> {
    let file = Arc::new(InMemory(bytes));
    Arc::new(LogBlock::open(file, &IndexCache::new(1 << 20)).expect("it was written so"))
}

pub(crate) fn head_with(lines: &[Line]) -> LogHead {
    let (mut head, mut batch) = (LogHead::new(3), LogBatch::default());
    for line in lines {
        batch.stream(&labels(line.stream));
        let metadata = line.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let metadata: Vec<(&str, &str)> = metadata.collect();
        let taken = batch.push(line.timestamp_ns, line.text.as_bytes(), &metadata);
        taken.expect("lines of tests are short");
    }
    head.push_batch(&batch);
    head
}

impl Place {
    pub(crate) fn source(&self, query: &Query) -> Source {
        let deletes = self.deletes.iter().map(Delete::made).collect();
        match self.group_bytes {
            Some(group_bytes) => {
                let block = opened(block_bytes(&self.lines, group_bytes));
                Source::Block { block, deletes }
            }
            None => {
                let head = head_with(&self.lines).snapshot(query.matchers(), query.range());
                Source::Head { head, deletes }
            }
        }
    }
}

pub(crate) fn sources(places: &[Place], query: &Query) -> Vec<Source> {
    places.iter().map(|place| place.source(query)).collect()
}

fn timestamp() -> impl Strategy<Value = i64> {
    let inside = prop_oneof![Just(0_i64), Just(1), Just(MINUTE_NS - 1), 0..MINUTE_NS];
    (-2_i64..3, inside).prop_map(|(minute, inside)| minute * MINUTE_NS + inside)
}

fn range() -> impl Strategy<Value = NsRange> {
    prop_oneof![
        2 => Just(NsRange::all()),
        1 => (-2_i64..3, 0_i64..4)
            .prop_map(|(from, len)| NsRange::new(from * MINUTE_NS, (from + len) * MINUTE_NS)),
        2 => (timestamp(), timestamp()).prop_map(|(a, b)| NsRange::new(a.min(b), a.max(b))),
    ]
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("error "),
        Just("ok"),
        Just(" user=7 "),
        Just("4bf92f3577b34da6a3ce929d0e0e4736"),
        Just("失败"),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

fn metadata() -> impl Strategy<Value = Pairs> {
    let pair = prop_oneof![
        prop_oneof![Just("info"), Just("error")].prop_map(|level| (crate::LEVEL, level.to_owned())),
        (0_u64..5).prop_map(|n| ("trace", format!("{:016x}", crate::grams::mixed(n)))),
        (0..40).prop_map(|n: i32| ("took", n.to_string())),
        "[ab]{0,2}".prop_map(|value| ("b", value)),
    ];
    let pair = pair.prop_map(|(name, value)| (name.to_owned(), value));
    prop::collection::vec(pair, 0..4)
}

pub(crate) fn lines(most: usize) -> impl Strategy<Value = Vec<Line>> {
    let line = (0_usize..4, timestamp(), text(), metadata()).prop_map(
        |(stream, timestamp_ns, text, metadata)| Line { stream, timestamp_ns, text, metadata },
    );
    prop::collection::vec(line, 0..most)
}

fn delete() -> impl Strategy<Value = Delete> {
    let piece = prop_oneof![Just(None), Just(Some("ok")), Just(Some("error"))];
    let app = prop_oneof![Just("a"), Just("b")];
    (app, range(), piece).prop_map(|(app, range, piece)| Delete { app, range, piece })
}

pub(crate) fn places(most: usize) -> impl Strategy<Value = Vec<Place>> {
    let group_bytes = prop_oneof![1 => Just(None), 2 => (1_usize..200).prop_map(Some)];
    let deletes = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(delete(), 1..3),
    ];
    let place = (lines(most), group_bytes, deletes)
        .prop_map(|(lines, group_bytes, deletes)| Place { lines, group_bytes, deletes });
    prop::collection::vec(place, 0..4)
}

pub(crate) fn asked() -> impl Strategy<Value = Asked> {
    let app = prop_oneof![Just(None), Just(Some("a")), Just(Some("b")), Just(Some("c"))];
    let needle = prop_oneof![
        Just(""),
        Just("rr"),
        Just("ok"),
        Just(" user=7 "),
        Just("f3577b34da6a3ce929d"),
        Just("败"),
        Just("7 error 失"),
        Just("none"),
    ];
    let needle = needle.prop_map(str::to_owned);
    let field = prop_oneof![
        3 => Just(None),
        1 => (0..41).prop_map(|n: i32| Some(("took".to_owned(), n.to_string()))),
        1 => Just(Some((crate::LEVEL.to_owned(), "error".to_owned()))),
        1 => (0_u64..5).prop_map(|n| {
            Some(("trace".to_owned(), format!("{:016x}", crate::grams::mixed(n))))
        }),
    ];
    let test = prop_oneof![3 => Just(None), 1 => Just(Some("o"))];
    let order = prop_oneof![Just(Order::Forward), Just(Order::Backward)];
    let named = || MetadataWanted::Named(vec!["b".to_owned(), "took".to_owned()]);
    let metadata = prop_oneof![
        2 => Just(MetadataWanted::All),
        1 => Just(MetadataWanted::None),
        1 => Just(named()),
    ];
    let needles = prop_oneof![
        2 => Just(Vec::new()),
        2 => prop::collection::vec(needle, 1..3),
    ];
    (app, range(), needles, field, test, order, metadata).prop_map(
        |(app, range, needles, field, test, order, metadata)| Asked {
            app,
            range,
            needles,
            field,
            test,
            order,
            metadata,
        },
    )
}
