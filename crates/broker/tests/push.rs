//! Agents at a broker's real socket, with mutual TLS: greeting, acknowledgements, refusals, ends.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::Broker;
use bytes::Bytes;
use logstore::{Entries, NsRange, Query};
use model::{DEFAULT_TENANT, Labels, LogBatch, MetricBatch, TenantId, TimeRange};
use net::Identity;
use net::rpc::ingest_client::IngestClient;
use net::rpc::{
    Ack, AgentMessage, Batch, BrokerMessage, Hello, Lane, Refusal, Status, Welcome,
    agent_message::Message as ToBroker, broker_message::Message as FromBroker,
};
use support::site::Site;
use support::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use wire::agent_batch::{MAX_PAYLOAD_BYTES, encode};
use wire::agent_lines;

impl Site {
    /// Opens a stream and greets, over a new connection.
    async fn connect(&self, identity: &Arc<Identity>) -> (Welcome, Agent) {
        let mut agent = self.dial(identity).await;
        agent.say(ToBroker::Hello(hello())).await;
        match agent.hear().await {
            FromBroker::Welcome(welcome) => (welcome, agent),
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    async fn dial(&self, identity: &Arc<Identity>) -> Agent {
        let tls = identity.tls().expect("a certificate");
        let channel = net::channel(&self.address.to_string(), &tls).expect("a valid address");
        let (sender, messages) = mpsc::channel(64);
        let mut client = IngestClient::new(channel);
        let answers = client.push(ReceiverStream::new(messages)).await.expect("admitted");
        Agent { sender, answers: answers.into_inner(), sent: HashMap::new() }
    }
}

fn hello() -> Hello {
    Hello {
        incarnation: Bytes::from_static(&[7; 16]),
        version: "1.2.3".to_owned(),
        hostname: "web-01.example.com".to_owned(),
        started_ms: START_MS - 5,
        labels: HashMap::from([("rack".to_owned(), "r7".to_owned())]),
        config_hash: "0123456789abcdef".to_owned(),
        ..Hello::default()
    }
}

/// An agent's end of a stream.
struct Agent {
    sender: mpsc::Sender<AgentMessage>,
    answers: Streaming<BrokerMessage>,
    /// The newest batch sent, by lane.
    sent: HashMap<Lane, u64>,
}

impl Agent {
    async fn say(&self, message: ToBroker) {
        // The broker may have ended the stream.
        let _ = self.sender.send(AgentMessage { message: Some(message) }).await;
    }

    async fn hear(&mut self) -> FromBroker {
        self.next().await.expect("no end yet").expect("no error").message.expect("a known message")
    }

    async fn next(&mut self) -> Option<Result<BrokerMessage, tonic::Status>> {
        let message = tokio::time::timeout(Duration::from_secs(20), self.answers.message()).await;
        message.expect("an answer within 20 s").transpose()
    }

    async fn send(&mut self, lane: Lane, seq: u64, payload: Bytes) {
        let after_seq = self.sent.insert(lane, seq).unwrap_or(0);
        let lane = lane as i32;
        self.say(ToBroker::Batch(Batch { lane, seq, after_seq, created_ms: 0, payload })).await;
    }

    /// Hears acknowledgements until the lane is acknowledged through `seq`.
    async fn acknowledged(&mut self, lane: Lane, seq: u64) -> Ack {
        loop {
            match self.hear().await {
                FromBroker::Ack(ack) if ack.lane() == lane && ack.through_seq >= seq => return ack,
                FromBroker::Ack(_) => {}
                other => panic!("{other:?} instead of an acknowledgement"),
            }
        }
    }

    async fn refused(&mut self) -> Refusal {
        loop {
            match self.hear().await {
                FromBroker::Refusal(refusal) => return refusal,
                FromBroker::Ack(_) => {}
                FromBroker::Welcome(welcome) => panic!("a second {welcome:?}"),
            }
        }
    }

    /// The error with which the broker ends the stream.
    async fn error(&mut self) -> tonic::Status {
        loop {
            match self.next().await {
                Some(Ok(_)) => {}
                Some(Err(status)) => return status,
                None => panic!("ended without an error"),
            }
        }
    }
}

fn packed(batch: &MetricBatch) -> Bytes {
    let mut payload = Vec::new();
    encode(batch, &mut payload);
    payload.into()
}

fn rows(lane: Lane, seq: u64) -> Vec<(usize, i64, f64)> {
    let t_ms = START_MS + seq as i64;
    (0..5).map(|n| (10 * lane as usize + n, t_ms, seq as f64)).collect()
}

fn payload(lane: Lane, seq: u64) -> Bytes {
    packed(&batch(&rows(lane, seq)))
}

clock!(TOLD, told_ms);

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_acknowledged_and_known_when_they_come_again() {
    let site = Site::start(told_ms).await;
    let identity = site.join("web-01").await;
    let (welcome, mut agent) = site.connect(&identity).await;
    assert_eq!((welcome.live_through_seq, welcome.backlog_through_seq), (0, 0));
    assert_eq!(welcome.broker, "broker-1");
    assert!(welcome.window_bytes >= 1 << 20, "{welcome:?}");
    let mut model = Samples::new();
    for seq in 1..=40 {
        // Numbers grow and need not be dense.
        agent.send(Lane::Live, 3 * seq, payload(Lane::Live, 3 * seq)).await;
        agent.send(Lane::Backlog, seq, payload(Lane::Backlog, seq)).await;
        note(&mut model, &rows(Lane::Live, 3 * seq));
        note(&mut model, &rows(Lane::Backlog, seq));
    }
    let ack = agent.acknowledged(Lane::Live, 120).await;
    assert_eq!((ack.refused_samples, ack.complaint.as_str()), (0, ""));
    drop(agent);
    let (welcome, mut agent) = site.connect(&identity).await;
    assert_eq!(welcome.live_through_seq, 120);
    agent.send(Lane::Live, 117, payload(Lane::Live, 117)).await;
    agent.send(Lane::Live, 120, payload(Lane::Live, 120)).await;
    agent.send(Lane::Live, 121, payload(Lane::Live, 121)).await;
    note(&mut model, &rows(Lane::Live, 121));
    agent.acknowledged(Lane::Live, 121).await;
    assert_eq!(metric(&site.broker, "watchfire_broker_agent_batches_known_total"), 2.0);
    assert_eq!(metric(&site.broker, "watchfire_broker_samples_duplicate_total"), 0.0);
    // What has no place is told with the acknowledgement.
    agent.send(Lane::Live, 122, packed(&batch(&[(1, START_MS - 20 * DAY_MS, 1.0)]))).await;
    let ack = agent.acknowledged(Lane::Live, 122).await;
    assert_eq!(ack.refused_samples, 1);
    assert!(ack.complaint.contains("older than the retention"), "{ack:?}");
    // An agent that closes its side hears the rest.
    for seq in 41..=60 {
        agent.send(Lane::Backlog, seq, payload(Lane::Backlog, seq)).await;
        note(&mut model, &rows(Lane::Backlog, seq));
    }
    let Agent { sender, mut answers, .. } = agent;
    drop(sender);
    let mut last = None;
    while let Some(message) = answers.message().await.expect("no error") {
        last = message.message;
    }
    let is_last = matches!(last, Some(FromBroker::Ack(Ack { through_seq: 60, .. })));
    assert!(is_last, "{last:?}");
    assert_same(&read(&site.broker, TimeRange::all()), &model, "once each");
}

clock!(LINES, lines_ms);

/// Some lines, in the form in which agents send them.
fn lines_payload(tenant: Option<&str>, seq: u64, texts: &[&str]) -> Bytes {
    let mut batch = LogBatch::default();
    batch.stream(&Labels::from_pairs([("job", "app")]).expect("valid"));
    for (row, text) in (0..).zip(texts) {
        let t_ns = (START_MS + seq as i64) * 1_000_000 + row;
        batch.push(t_ns, text.as_bytes(), &[]).expect("short");
    }
    let mut payload = Vec::new();
    agent_lines::encode(tenant, &batch, &mut payload);
    payload.into()
}

fn lines_of(broker: &Broker, tenant: TenantId) -> Vec<String> {
    let selection = broker.logs_reader(tenant).select(&[], NsRange::all()).expect("memory");
    let query = Query::new(Vec::new(), selection.range);
    let mut entries = Entries::new(query, selection.sources).expect("readable");
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().expect("readable") {
        let level = entry.metadata.get("detected_level").unwrap_or_default();
        found.push(format!("{} {} {level}", entry.labels, String::from_utf8_lossy(entry.line)));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_travel_in_a_lane_of_their_own_and_are_stored_once() {
    let site = Site::start(lines_ms).await;
    let identity = site.join("web-01").await;
    let mut agent = site.dial(&identity).await;
    agent.say(ToBroker::Hello(hello())).await;
    let FromBroker::Welcome(welcome) = agent.hear().await else { panic!("no welcome") };
    assert!(!welcome.takes_lines, "it has none");
    agent.send(Lane::Lines, 1, lines_payload(None, 1, &["unasked"])).await;
    assert_eq!(agent.error().await.code(), Code::InvalidArgument);
    let of_lines = Hello { lines_incarnation: Bytes::from_static(&[8; 16]), ..hello() };
    let connect = async || {
        let mut agent = site.dial(&identity).await;
        agent.say(ToBroker::Hello(of_lines.clone())).await;
        match agent.hear().await {
            FromBroker::Welcome(welcome) => (welcome.takes_lines, welcome.lines_through_seq, agent),
            other => panic!("{other:?} instead of a welcome"),
        }
    };
    let (takes, through, mut agent) = connect().await;
    assert_eq!((takes, through), (true, 0));
    let first = lines_payload(None, 1, &["level=warn first", "second"]);
    // Samples of the same number are something else.
    agent.send(Lane::Live, 1, payload(Lane::Live, 1)).await;
    agent.send(Lane::Lines, 1, first.clone()).await;
    agent.acknowledged(Lane::Lines, 1).await;
    agent.send(Lane::Lines, 2, lines_payload(Some("acme"), 2, &["of another tenant"])).await;
    agent.acknowledged(Lane::Lines, 2).await;
    let (takes, through, mut agent) = connect().await;
    assert_eq!((takes, through), (true, 2));
    agent.send(Lane::Lines, 1, first).await;
    agent.acknowledged(Lane::Lines, 1).await;
    let stream = "{job=\"app\", service_name=\"app\"}";
    let wanted = [format!("{stream} level=warn first warn"), format!("{stream} second unknown")];
    assert_eq!(lines_of(&site.broker, DEFAULT_TENANT), wanted, "each once");
    let of_acme = lines_of(&site.broker, TenantId(DEFAULT_TENANT.0 + 1));
    assert_eq!(of_acme, [format!("{stream} of another tenant unknown")]);
    // What can never be stored does not hold up what comes behind it.
    let long = "x".repeat(300 << 10);
    agent.send(Lane::Lines, 3, lines_payload(None, 3, &[&long, "short"])).await;
    let ack = agent.acknowledged(Lane::Lines, 3).await;
    assert_eq!(ack.refused_samples, 1);
    assert!(ack.complaint.contains("max entry size '262144' bytes exceeded"), "{}", ack.complaint);
    agent.send(Lane::Lines, 4, Bytes::from_static(b"no batch")).await;
    let refusal = agent.refused().await;
    assert_eq!((refusal.lane(), refusal.seq, refusal.permanent), (Lane::Lines, 4, true));
    agent.send(Lane::Lines, 5, lines_payload(None, 5, &["last"])).await;
    agent.acknowledged(Lane::Lines, 5).await;
    assert_eq!(lines_of(&site.broker, DEFAULT_TENANT).len(), 4);
}

clock!(DAMAGED, damaged_ms);

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_stored_is_passed_over_for_good() {
    let site = Site::start(damaged_ms).await;
    let identity = site.join("web-01").await;
    let (_, mut agent) = site.connect(&identity).await;
    let mut damaged = payload(Lane::Live, 1).to_vec();
    damaged[9] ^= 4;
    agent.send(Lane::Live, 1, damaged.into()).await;
    agent.send(Lane::Live, 2, vec![1; MAX_PAYLOAD_BYTES + 1].into()).await;
    agent.send(Lane::Live, 3, payload(Lane::Live, 3)).await;
    let first = agent.refused().await;
    assert_eq!((first.seq, first.permanent, first.lane()), (1, true, Lane::Live));
    assert!(first.reason.contains("checksum"), "{first:?}");
    let second = agent.refused().await;
    assert_eq!((second.seq, second.permanent), (2, true));
    assert!(second.reason.contains("limit of 4194304 bytes"), "{second:?}");
    agent.acknowledged(Lane::Live, 3).await;
    assert_eq!(metric(&site.broker, "watchfire_broker_agent_batches_passed_over_total"), 2.0);
    let row = site.broker.fleet().remove(0);
    assert!(row.last_complaint.contains("4194304"), "{row:?}");
    drop(agent);
    // Durably: after a power cut the broker still does not ask for them.
    let site = Site::start_on(Arc::new(site.disk.crash(3)), damaged_ms).await;
    let identity = site.join("web-01").await;
    let (welcome, _) = site.connect(&identity).await;
    assert_eq!(welcome.live_through_seq, 3);
}

clock!(REFUSED, refused_ms);

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_now_ends_the_stream_and_is_taken_later() {
    let site = Site::start(refused_ms).await;
    let identity = site.join("web-01").await;
    let (_, mut agent) = site.connect(&identity).await;
    agent.send(Lane::Live, 1, payload(Lane::Live, 1)).await;
    agent.acknowledged(Lane::Live, 1).await;
    site.disk.set_capacity_bytes(Some(0));
    for seq in 2..9 {
        agent.send(Lane::Live, seq, payload(Lane::Live, seq)).await;
    }
    let refusal = agent.refused().await;
    assert_eq!((refusal.seq, refusal.permanent), (2, false));
    assert!(refusal.retry_after_ms >= 1_000, "{refusal:?}");
    assert!(refusal.reason.contains("no space left"), "{refusal:?}");
    assert!(agent.next().await.is_none(), "the stream is over");
    site.disk.set_capacity_bytes(None);
    let (welcome, mut agent) = site.connect(&identity).await;
    assert_eq!(welcome.live_through_seq, 1);
    let mut model = Samples::new();
    note(&mut model, &rows(Lane::Live, 1));
    for seq in 2..9 {
        agent.send(Lane::Live, seq, payload(Lane::Live, seq)).await;
        note(&mut model, &rows(Lane::Live, seq));
    }
    agent.acknowledged(Lane::Live, 8).await;
    assert_same(&read_all(&site.broker), &model, "with space again");
    // A batch of a newer agent waits for the broker's upgrade, and nothing overtakes it.
    let mut newer = payload(Lane::Live, 9).to_vec();
    newer[0] = 2;
    let end = newer.len() - 4;
    let checksum = codec::checksum(&newer[..end]).to_le_bytes();
    newer[end..].copy_from_slice(&checksum);
    agent.send(Lane::Live, 9, newer.into()).await;
    agent.send(Lane::Live, 10, payload(Lane::Live, 10)).await;
    let refusal = agent.refused().await;
    assert_eq!((refusal.seq, refusal.permanent), (9, false));
    assert!(refusal.reason.contains("upgrade brokers before agents"), "{refusal:?}");
    assert_eq!(site.connect(&identity).await.0.live_through_seq, 8);
}

clock!(RULES, rules_ms);

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_the_protocol_is_told_and_sent_away() {
    let site = Site::start(rules_ms).await;
    let identity = site.join("web-01").await;
    let batch = |lane, seq, after_seq| {
        let payload = payload(Lane::Live, 1);
        ToBroker::Batch(Batch { lane, seq, after_seq, created_ms: 0, payload })
    };
    let first = [
        (batch(1, 1, 0), "must be a Hello"),
        (ToBroker::Hello(Hello { incarnation: Bytes::new(), ..hello() }), "16 bytes"),
    ];
    for (message, expected) in first {
        let mut agent = site.dial(&identity).await;
        agent.say(message).await;
        let error = agent.error().await;
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(expected), "{error}");
    }
    let later = [
        (batch(0, 1, 0), "no lane"),
        (batch(7, 1, 0), "no lane"),
        (batch(1, 0, 0), "cannot follow"),
        (batch(1, 5, 6), "cannot follow"),
        (ToBroker::Hello(hello()), "second Hello"),
    ];
    for (message, expected) in later {
        let (_, mut agent) = site.connect(&identity).await;
        agent.say(message).await;
        let error = agent.error().await;
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(expected), "{error}");
    }
    // A gap is no fault: the agent comes again at once, from where the marks say.
    let (_, mut agent) = site.connect(&identity).await;
    agent.say(batch(1, 5, 4)).await;
    let refusal = agent.refused().await;
    assert_eq!((refusal.seq, refusal.permanent, refusal.retry_after_ms), (5, false, 0));
}

clock!(ENDS, ends_ms);

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_for_a_newer_one_and_for_the_brokers_end() {
    let site = Site::start(ends_ms).await;
    let identity = site.join("web-01").await;
    let (_, mut old) = site.connect(&identity).await;
    old.send(Lane::Live, 1, payload(Lane::Live, 1)).await;
    old.acknowledged(Lane::Live, 1).await;
    let (welcome, mut agent) = site.connect(&identity).await;
    assert_eq!(welcome.live_through_seq, 1);
    assert_eq!(old.error().await.code(), Code::Aborted);
    assert_eq!(site.broker.fleet().len(), 1);
    assert!(site.broker.fleet()[0].connected);
    for seq in 2..=30 {
        agent.send(Lane::Live, seq, payload(Lane::Live, seq)).await;
    }
    let broker = site.broker.clone();
    let stopping = tokio::task::spawn_blocking(move || broker.stop());
    let mut through = 1;
    let refusal = loop {
        match agent.hear().await {
            FromBroker::Ack(ack) => through = ack.through_seq,
            FromBroker::Refusal(refusal) => break refusal,
            FromBroker::Welcome(welcome) => panic!("a second {welcome:?}"),
        }
    };
    assert!(!refusal.permanent && refusal.retry_after_ms >= 1_000, "{refusal:?}");
    assert!(refusal.reason.contains("stopping"), "{refusal:?}");
    assert!(agent.next().await.is_none());
    stopping.await.expect("no panic");
    // All that was stored was told.
    let mut model = Samples::new();
    (1..=through).for_each(|seq| note(&mut model, &rows(Lane::Live, seq)));
    assert_same(&read_all(&site.broker), &model, "after the stop");
    let (_, mut late) = (0, site.dial(&identity).await);
    late.say(ToBroker::Hello(hello())).await;
    assert!(!late.refused().await.permanent);
}

clock!(FLEET, fleet_ms);

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_knows_who_is_there_and_who_was() {
    let site = Site::start(fleet_ms).await;
    FLEET.store(START_MS, std::sync::atomic::Ordering::SeqCst);
    let identity = site.join("web-01").await;
    let (_, mut agent) = site.connect(&identity).await;
    agent.send(Lane::Live, 4, payload(Lane::Live, 4)).await;
    agent.send(Lane::Backlog, 2, payload(Lane::Backlog, 2)).await;
    agent.acknowledged(Lane::Backlog, 2).await;
    agent
        .say(ToBroker::Status(Status {
            now_ms: START_MS + 90_000,
            spool_bytes: 77,
            oldest_unacknowledged_ms: START_MS + 60_000,
            samples_dropped: 3,
            ..Status::default()
        }))
        .await;
    wait_until("the status to arrive", || site.broker.fleet()[0].status.spool_bytes == 77);
    let row = site.broker.fleet().remove(0);
    assert!(row.connected);
    assert_eq!((row.name.as_str(), row.hostname.as_str()), ("web-01", "web-01.example.com"));
    assert_eq!((row.version.as_str(), row.address.as_str()), ("1.2.3", "127.0.0.1"));
    assert_eq!(row.labels.get("rack").map(String::as_str), Some("r7"));
    assert_eq!((row.live_through, row.backlog_through), (4, 2));
    assert_eq!((row.lag_ms, row.batches_stored, row.started_ms), (30_000, 2, START_MS - 5));
    assert!(row.certificate_expires_ms > 0);
    let metrics = rendered(&site.broker);
    assert!(metrics.contains("watchfire_agent_up{agent=\"web-01\"} 1\n"), "{metrics}");
    assert!(metrics.contains("watchfire_agent_lag_seconds{agent=\"web-01\"} 30\n"), "{metrics}");
    // Saying the same again writes nothing.
    let version = site.broker.get_key("fleet/web-01").expect("kept").version;
    drop(agent);
    wait_until("the end of the stream", || !site.broker.fleet()[0].connected);
    FLEET.fetch_add(5_000, std::sync::atomic::Ordering::SeqCst);
    let (_, agent) = site.connect(&identity).await;
    assert_eq!(site.broker.get_key("fleet/web-01").expect("kept").version, version);
    drop(agent);
    let site = Site::start_on(Arc::new(site.disk.crash(9)), fleet_ms).await;
    FLEET.fetch_add(60_000, std::sync::atomic::Ordering::SeqCst);
    let row = site.broker.fleet().remove(0);
    assert!(!row.connected);
    assert_eq!((row.hostname.as_str(), row.live_through), ("web-01.example.com", 4));
    assert_eq!((row.last_seen_ms, row.lag_ms), (START_MS, 65_000));
    assert!(rendered(&site.broker).contains("watchfire_agent_up{agent=\"web-01\"} 0\n"));
}

fn rendered(broker: &Broker) -> String {
    let mut page = Vec::new();
    broker.render_fleet(&mut wire::text_encode::TextEncoder::new(&mut page));
    String::from_utf8(page).expect("metrics are text")
}

clock!(LINKS, links_ms);

#[tokio::test(flavor = "multi_thread")]
async fn links_that_break_at_any_time_lose_and_double_nothing() {
    let mut site = Site::start(links_ms).await;
    let mut identity = site.join("web-01").await;
    let mut model = Samples::new();
    let mut chance = 11_u64;
    let mut coin = |of: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (chance >> 33) % of
    };
    let (mut known, mut doubled) = (0.0, 0.0);
    for seq in 1..=200 {
        note(&mut model, &rows(Lane::Live, seq));
    }
    let mut acknowledged = 0;
    for round in 0..40 {
        if round % 8 == 7 {
            known += metric(&site.broker, "watchfire_broker_agent_batches_known_total");
            doubled += metric(&site.broker, "watchfire_broker_samples_duplicate_total");
            site = Site::start_on(Arc::new(site.disk.crash(round)), links_ms).await;
            identity = site.join("web-01").await;
        }
        let (welcome, mut agent) = site.connect(&identity).await;
        acknowledged = welcome.live_through_seq.max(acknowledged);
        let until = (acknowledged + 1 + coin(20)).min(200);
        for seq in acknowledged + 1..=until {
            agent.send(Lane::Live, seq, payload(Lane::Live, seq)).await;
        }
        // Some acknowledgements are heard, then the link breaks.
        for _ in 0..coin(3) {
            if acknowledged < until
                && let FromBroker::Ack(ack) = agent.hear().await
            {
                acknowledged = ack.through_seq;
            }
        }
    }
    let (welcome, mut agent) = site.connect(&identity).await;
    for seq in welcome.live_through_seq + 1..=200 {
        agent.send(Lane::Live, seq, payload(Lane::Live, seq)).await;
    }
    if welcome.live_through_seq < 200 {
        agent.acknowledged(Lane::Live, 200).await;
    }
    doubled += metric(&site.broker, "watchfire_broker_samples_duplicate_total");
    assert_same(&read_all(&site.broker), &model, "after 40 broken links");
    assert_eq!(doubled, 0.0, "{known} batches were known");
}
