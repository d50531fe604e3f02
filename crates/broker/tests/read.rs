//! Consoles at a broker's real socket, with mutual TLS: who may read, what they get, and what ends it.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use blockstore::{Disk as _, MemoryDisk};
use model::{DEFAULT_TENANT, NameSearch, SearchAlgorithm, SearchOrder, TimeRange};
use net::rpc::read_client::ReadClient;
use net::rpc::{
    self, HandleRequest, LabelsRequest, PageRequest, SelectRequest, SelectResponse, Selector,
    StateRequest, SubscribeRequest, matcher::Op,
};
use net::{Identity, Role};
use support::site::{Site, admin};
use support::*;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// For what happens soon, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(10);

fn client(site: &Site, identity: &Arc<Identity>) -> ReadClient<Channel> {
    let tls = identity.tls().expect("a certificate");
    ReadClient::new(net::channel(&site.address.to_string(), &tls).expect("a valid address"))
}

fn named(name: &str) -> Selector {
    let matcher =
        rpc::Matcher { op: Op::Equal.into(), name: "__name__".to_owned(), value: name.to_owned() };
    Selector { matchers: vec![matcher] }
}

fn everything() -> SelectRequest {
    SelectRequest {
        tenant: "default".to_owned(),
        selector: Some(named("m")),
        start_ms: i64::MIN,
        end_ms: i64::MAX,
        max_series: 0,
        with_starts: true,
    }
}

async fn select(
    client: &mut ReadClient<Channel>,
    request: SelectRequest,
) -> Result<Vec<SelectResponse>, Status> {
    let mut stream = client.select(request).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// Samples out of messages, by the rules of the format.
fn samples(messages: &[SelectResponse]) -> Samples {
    let (mut found, mut labels) = (Samples::new(), None);
    for chunk in messages.iter().flat_map(|message| &message.series) {
        if !chunk.continues {
            labels = Some(model::Labels::from_packed(&chunk.labels).expect("labels"));
        }
        let labels = labels.as_ref().expect("a series begins with its labels");
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        let count = chunk.samples as usize;
        assert!(count <= 1 << 16, "a chunk of {count}");
        codec::decode_i64s(&mut &chunk.timestamps[..], count, &mut timestamps).expect("whole");
        codec::decode_f64s(&mut &chunk.values[..], count, &mut values).expect("whole");
        for (t_ms, value) in timestamps.into_iter().zip(values) {
            let known = found.insert((labels.to_string(), t_ms), value.to_bits());
            assert_eq!(known, None, "{labels} at {t_ms} comes twice");
        }
    }
    found
}

clock!(WHOLE, whole_ms);

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_is_whole_and_its_messages_are_bounded() {
    let site = Site::start(whole_ms).await;
    // One series has more samples than a chunk holds; others have odd values.
    let long: Vec<_> =
        (0..150_000_i64).map(|n| (0, START_MS - 200_000 + n, noise(n as u64))).collect();
    ingest(&site.broker, &long).expect("stored");
    let odd = [f64::NAN, -0.0, f64::INFINITY, f64::from_bits(model::STALE_NAN_BITS), 1e-300];
    let rows: Vec<_> = (1..400_usize)
        .flat_map(|series| (0..5).map(move |n| (series, START_MS + n as i64, odd[n])))
        .collect();
    ingest(&site.broker, &rows).expect("stored");
    let console = site.join_as("console-1", Role::Console).await;
    let mut client = client(&site, &console);
    let messages = select(&mut client, everything()).await.expect("answered");
    assert_same(&samples(&messages), &read_all(&site.broker), "over the wire");
    let largest = messages.iter().map(prost_len).max().expect("some");
    assert!(largest < 2 << 20, "a message of {largest} bytes");
    assert!(messages.len() > 1);
    let ends: Vec<bool> = messages.iter().map(|message| message.is_last).collect();
    assert_eq!(ends.iter().filter(|is_last| **is_last).count(), 1);
    assert!(messages.last().is_some_and(|message| message.is_last && message.nothing_missing));
    // A part of the time, and the limit of whoever asks.
    let (start_ms, end_ms) = (START_MS + 1, START_MS + 2);
    let part = SelectRequest { start_ms, end_ms, ..everything() };
    let range = TimeRange::new(start_ms, end_ms + 1);
    let messages = select(&mut client, part).await.expect("answered");
    assert_same(&samples(&messages), &read(&site.broker, range), "both ends included");
    let few = SelectRequest { max_series: 399, ..everything() };
    let status = select(&mut client, few).await.expect_err("400 series");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("399"), "{status:?}");
}

/// A value that no codec makes short.
fn noise(n: u64) -> f64 {
    f64::from_bits(1.0_f64.to_bits() | (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12)
}

fn prost_len(message: &SelectResponse) -> usize {
    let chunks = message.series.iter();
    chunks.map(|one| one.labels.len() + one.timestamps.len() + one.values.len() + 16).sum()
}

clock!(ROLES, roles_ms);

#[tokio::test(flavor = "multi_thread")]
async fn only_consoles_read_and_only_while_they_count() {
    let site = Site::start(roles_ms).await;
    let agent = site.join("web-01").await;
    let mut as_agent = client(&site, &agent);
    let status = select(&mut as_agent, everything()).await.expect_err("an agent");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("is for console"), "{status:?}");
    let console = site.join_as("console-1", Role::Console).await;
    let mut client = client(&site, &console);
    let request = HandleRequest {
        method: "POST".to_owned(),
        path_and_query: "/api/v2/silences".to_owned(),
        body: b"a silence".to_vec().into(),
        ..HandleRequest::default()
    };
    let mut stream = client.handle(request.clone()).await.expect("answered").into_inner();
    assert_eq!(stream.message().await.expect("no error").expect("a head").status, 200);
    let echoed = stream.message().await.expect("no error").expect("a body");
    assert_eq!(&*echoed.body, b"a silence");
    // What is told to a question is told to no change.
    for (method, path, status) in [("GET", "/api/v2/silences", 405), ("POST", "/long", 404)] {
        let (method, path_and_query) = (method.to_owned(), path.to_owned());
        let asked = HandleRequest { method, path_and_query, ..request.clone() };
        let mut stream = client.handle(asked).await.expect("answered").into_inner();
        let head = stream.message().await.expect("no error").expect("a head");
        assert_eq!(head.status, status, "{path}");
    }
    let wrong = HandleRequest { method: "a b".to_owned(), ..request };
    let status = client.handle(wrong).await.expect_err("no method");
    assert_eq!(status.code(), Code::InvalidArgument);
    let request = SubscribeRequest { selector: Some(named("m")), ..SubscribeRequest::default() };
    let mut live = client.subscribe(request).await.expect("a console").into_inner();
    ingest(&site.broker, &[(1, START_MS, 1.5)]).expect("stored");
    let events = live.message().await.expect("open").expect("a sample");
    assert_eq!((events.series.len(), events.values), (1, vec![1.5]));
    let peers = Arc::clone(&site.peers);
    let is_gone = tokio::task::spawn_blocking(move || peers.revoke("console-1", &admin())).await;
    assert!(is_gone.expect("no panic").expect("written"));
    live.message().await.expect_err("sent away");
    let mut status = select(&mut client, everything()).await.expect_err("revoked");
    // The connection that is being cut may take a request with it.
    let begin = Instant::now();
    while status.code() != Code::Unauthenticated && begin.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
        status = select(&mut client, everything()).await.expect_err("revoked");
    }
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
}

clock!(GONE, gone_ms);

#[tokio::test(flavor = "multi_thread")]
async fn a_read_stops_when_nobody_takes_it_and_frees_its_place() {
    let site = Site::start(gone_ms).await;
    for part in 0..6_usize {
        let rows: Vec<_> = (0..100_usize)
            .flat_map(|series| {
                (0..2_000_i64)
                    .map(move |n| (100 * part + series, START_MS - 5_000 + n, noise(n as u64)))
            })
            .collect();
        ingest(&site.broker, &rows).expect("stored");
    }
    let console = site.join_as("console-1", Role::Console).await;
    let mut client = client(&site, &console);
    // More than may run at once, none of which is read to its end.
    for _ in 0..5 {
        let mut stream = client.select(everything()).await.expect("its turn").into_inner();
        stream.message().await.expect("no error").expect("a message");
    }
    wait_until("the reads to be given up", || {
        metric(&site.broker, "watchfire_broker_reads_abandoned_total") == 5.0
    });
    let messages = select(&mut client, everything()).await.expect("a place is free");
    let chunks = messages.iter().flat_map(|message| &message.series);
    assert_eq!(chunks.map(|chunk| chunk.samples).sum::<u32>(), 600 * 2_000);
}

clock!(DAMAGE, damage_ms);

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_as_it_is_locally() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, config("unused".as_ref(), damage_ms, 20));
    ingest(&broker, &[(1, START_MS, 1.0)]).expect("stored");
    wait_for_empty_head(&broker);
    ingest(&broker, &[(1, START_MS - 5 * HOUR_MS, 2.0)]).expect("stored");
    wait_for_empty_head(&broker);
    let site = Site::with_broker(Arc::clone(&disk), broker).await;
    let path = disk.list("blocks").expect("memory").into_iter().map(|file| file.key).min();
    disk.damage(&path.expect("two blocks"), |bytes| bytes[40..].fill(0xa5));
    let reader = site.broker.reader(DEFAULT_TENANT);
    let console = site.join_as("console-1", Role::Console).await;
    let mut client = client(&site, &console);
    let status = select(&mut client, everything()).await.expect_err("damaged");
    assert_eq!(status.code(), Code::DataLoss);
    assert!(status.message().starts_with("block "), "{status:?}");
    wait_until("the catalog to know", || !reader.missing(TimeRange::all()).is_empty());
    let messages = select(&mut client, everything()).await.expect("without the block");
    assert!(messages.iter().all(|message| !message.nothing_missing));
    assert_eq!(samples(&messages).len(), 1);
    let lacking =
        |missing: &[String]| missing.len() == 1 && missing[0].starts_with("partial answer: block");
    assert!(lacking(&messages.last().expect("an end").missing), "{messages:?}");
    let request =
        LabelsRequest { start_ms: i64::MIN, end_ms: i64::MAX, ..LabelsRequest::default() };
    let mut stream = client.labels(request).await.expect("answered").into_inner();
    let mut last = None;
    while let Some(message) = stream.message().await.expect("no error") {
        last = Some(message);
    }
    assert!(lacking(&last.expect("an end").missing));
    let request =
        StateRequest { tenant: String::new(), start_ms: START_MS - DAY_MS, end_ms: START_MS };
    let state = client.state(request).await.expect("answered").into_inner();
    assert_eq!(state.missing, reader.missing(TimeRange::all()));
    assert_eq!((state.corruptions, state.not_ready.as_str()), (1, ""));
    assert_eq!(state.external_labels["dc"], "east");
}

clock!(LISTS, lists_ms);

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_pages_come_in_pieces_and_streams_end_with_the_broker() {
    let site = Site::start(lists_ms).await;
    let rows: Vec<_> = (0..90_000).map(|series| (series, START_MS, 0.0)).collect();
    ingest(&site.broker, &rows).expect("stored");
    let console = site.join_as("console-1", Role::Console).await;
    let mut client = client(&site, &console);
    let request = LabelsRequest {
        selectors: vec![named("m")],
        start_ms: i64::MIN,
        end_ms: i64::MAX,
        name: "series".to_owned(),
        ..LabelsRequest::default()
    };
    let mut stream = client.labels(request).await.expect("answered").into_inner();
    let (mut values, mut messages) = (Vec::new(), 0);
    while let Some(message) = stream.message().await.expect("no error") {
        values.extend(message.values);
        messages += 1;
    }
    assert!(messages > 1 && values.is_sorted(), "{messages} messages");
    assert_eq!(values.len(), 90_000);
    // Of those that are searched only the first come, and only they are held.
    let search = rpc::NameSearch {
        terms: vec!["77".to_owned()],
        order: rpc::name_search::Order::Descending.into(),
        limit: 2,
        ..rpc::NameSearch::default()
    };
    let request = LabelsRequest {
        start_ms: i64::MIN,
        end_ms: i64::MAX,
        name: "series".to_owned(),
        search: Some(search),
        ..LabelsRequest::default()
    };
    let mut stream = client.labels(request).await.expect("answered").into_inner();
    let message = stream.message().await.expect("no error").expect("names");
    assert_eq!(message.values, ["9977", "9877"]);
    let governor = governor::Governor::unlimited();
    let account = governor.account();
    let reader = site.broker.reader_for(DEFAULT_TENANT, Arc::clone(&account));
    let asked = |limit| NameSearch {
        terms: vec![String::new()],
        algorithm: SearchAlgorithm::Subsequence,
        threshold: 0.0,
        folds_case: false,
        order: SearchOrder::Score,
        limit,
    };
    let find = |limit| reader.search(Some("series"), &[], TimeRange::all(), &asked(limit));
    assert_eq!(find(100).expect("memory suffices").len(), 100);
    assert!(account.peak_bytes() < 256 << 10, "{} bytes were held", account.peak_bytes());
    assert_eq!(find(usize::MAX).expect("memory suffices").len(), 90_000);
    assert!(account.peak_bytes() > 90_000 * 50 && account.bytes() == 0);
    account.stop("nobody waits".to_owned());
    find(1).expect_err("it is stopped");
    let request = PageRequest { path_and_query: "/long?x=1".to_owned(), ..PageRequest::default() };
    let mut stream = client.page(request).await.expect("answered").into_inner();
    let first = stream.message().await.expect("no error").expect("a head");
    assert_eq!(first.status, 200);
    let mut body = 0;
    while let Some(message) = stream.message().await.expect("no error") {
        body += message.body.len();
    }
    assert_eq!(body, "a page ".len() * 200_000);
    for wrong in ["elsewhere.example/long", "http://elsewhere.example/long", "/ /", ""] {
        let wrong = PageRequest { path_and_query: wrong.to_owned(), ..PageRequest::default() };
        let status = client.page(wrong).await.expect_err("no path");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let unknown =
        PageRequest { path_and_query: "/api/v1/users".to_owned(), ..PageRequest::default() };
    let mut stream = client.page(unknown).await.expect("answered").into_inner();
    assert_eq!(stream.message().await.expect("no error").expect("a head").status, 404);
    let request = SubscribeRequest { selector: Some(named("m")), ..SubscribeRequest::default() };
    let mut live = client.subscribe(request).await.expect("open").into_inner();
    let broker = site.broker.clone();
    tokio::task::spawn_blocking(move || broker.stop()).await.expect("stopped");
    let status = live.message().await.expect_err("the broker ends");
    assert_eq!(status.code(), Code::Unavailable);
    let status = select(&mut client, everything()).await.expect_err("not ready");
    assert_eq!(status.code(), Code::Unavailable);
}
