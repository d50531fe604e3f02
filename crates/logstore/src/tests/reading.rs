//! What is read is what a filter over the lines that were written yields.

use std::sync::Arc;

use proptest::prelude::*;

use super::model::{
    Asked, Line, Place, asked, expected, expected_by_stream, found, places, sources,
};
use crate::{Entries, Order, Streams, StreamsPart, Together};

/// A thread for each job.
struct Threads;

impl Together for Threads {
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for number in 0..jobs {
                scope.spawn(move || job(number));
            }
        });
    }
}

fn check(places: &[Place], asked: &Asked) {
    let query = asked.query();
    for query in [query.clone(), query.clone().with_together(Arc::new(Threads))] {
        let mut entries =
            Entries::new(query.clone(), sources(places, &query)).expect("nothing is damaged");
        let mut all = Vec::new();
        while let Some(entry) = entries.next_entry().expect("nothing is damaged") {
            all.push(found(&entry));
        }
        assert_eq!(all, expected(places, asked), "in order of time");
    }
    let mut streams =
        Streams::new(query.clone(), sources(places, &query)).expect("nothing is damaged");
    let mut all = Vec::new();
    while let Some(labels) = streams.next_stream().expect("nothing is damaged") {
        let labels = labels.clone();
        while let Some(entry) = streams.next_entry().expect("nothing is damaged") {
            assert_eq!(*entry.labels, labels);
            all.push(found(&entry));
        }
    }
    assert_eq!(all, expected_by_stream(places, asked), "stream by stream");
    for count in 1..5 {
        let parts = StreamsPart::split_with(&query, sources(places, &query), count, 1);
        let parts = parts.expect("nothing is damaged");
        assert!(parts.len() <= count);
        let mut all = Vec::new();
        for mut part in parts {
            while let Some(labels) = part.next_stream() {
                let labels = labels.clone();
                while let Some(entry) = part.next_entry().expect("nothing is damaged") {
                    assert_eq!(*entry.labels, labels);
                    all.push(found(&entry));
                }
            }
        }
        assert_eq!(all, expected_by_stream(places, asked), "in {count} parts");
    }
}

#[test]
fn parts_are_of_about_one_size_also_of_one_stream() {
    let lines: Vec<Line> =
        (0..1_000).map(|n| line(n, &format!("some text that is line {n}"))).collect();
    let places = [Place { lines, group_bytes: Some(1 << 10), deletes: Vec::new() }];
    let query = Asked::everything().query();
    let parts = StreamsPart::split_with(&query, sources(&places, &query), 4, 1);
    let sizes = parts.expect("nothing is damaged").into_iter().map(|mut part| {
        let mut lines = 0;
        while part.next_stream().is_some() {
            while part.next_entry().expect("nothing is damaged").is_some() {
                lines += 1;
            }
        }
        lines
    });
    let sizes: Vec<usize> = sizes.collect();
    assert!(sizes.len() == 4 && sizes.iter().all(|size| (150..350).contains(size)), "{sizes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_query_over_any_sources_yields_what_a_naive_filter_does(
        places in places(24),
        asked in asked(),
    ) {
        check(&places, &asked);
    }
}

fn line(timestamp_ns: i64, text: &str) -> Line {
    Line { stream: 0, timestamp_ns, text: text.to_owned(), metadata: Vec::new() }
}

#[test]
fn equal_lines_of_one_time_are_one_and_others_stay_in_order_of_arrival() {
    let places: Vec<Place> = [
        vec![line(5, "b"), line(5, "a"), line(5, "b"), line(4, "x")],
        vec![line(5, "c"), line(5, "a"), line(6, "a")],
    ]
    .into_iter()
    .zip([Some(1), None])
    .map(|(lines, group_bytes)| Place { lines, group_bytes, deletes: Vec::new() })
    .collect();
    for order in [Order::Forward, Order::Backward] {
        let asked = Asked { order, ..Asked::everything() };
        check(&places, &asked);
        let mut texts: Vec<String> =
            expected(&places, &asked).into_iter().map(|(_, _, text, _)| text).collect();
        if order == Order::Backward {
            texts.reverse();
        }
        assert_eq!(texts, ["x", "b", "a", "c", "a"]);
    }
}
