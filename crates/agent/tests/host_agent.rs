//! The agent on the host that runs the tests.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent::{AgentConfig, AgentError, HostAgent, RecvError};

fn config() -> AgentConfig {
    AgentConfig { interval_ms: 100, instance: "here".to_owned(), ..AgentConfig::default() }
}

#[test]
fn every_pass_is_one_batch_with_one_timestamp() {
    let (agent, mut receiver) = HostAgent::start(config()).expect("agent starts");
    assert!(agent.found().iter().any(|line| line.starts_with("host here (Linux")));
    let mut last_ms = 0;
    let mut on_tick = 0;
    // A loaded machine is late once in a while, so as many passes as it takes.
    while on_tick < 3 {
        let batch = receiver.recv_timeout(Duration::from_secs(5)).expect("a pass");
        assert!(batch.rows() > 100, "{} samples", batch.rows());
        let t_ms = batch.timestamps_ms[0];
        assert!(batch.timestamps_ms.iter().all(|&other| other == t_ms));
        assert!(t_ms > last_ms);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        assert!((now.as_millis() as i64 - t_ms).abs() < 5_000);
        on_tick += usize::from(t_ms % 100 == 0);
        last_ms = t_ms;
        receiver.recycle(batch);
    }
    let began = Instant::now();
    agent.stop();
    assert!(began.elapsed() < Duration::from_secs(2));
    while receiver.recv().is_some() {}
    assert_eq!(receiver.recv_timeout(Duration::from_secs(1)), Err(RecvError::Closed));
}

#[test]
fn a_full_queue_drops_the_newest_pass_and_counts_it() {
    let config = AgentConfig { queue_passes: 2, ..config() };
    let (agent, mut receiver) = HostAgent::start(config).expect("agent starts");
    let deadline = Instant::now() + Duration::from_secs(10);
    while agent.counters().dropped_batches() < 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(agent.counters().dropped_batches() >= 3);
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(receiver.recv().expect("a pass").timestamps_ms[0]);
    }
    // Two passes from before the gap, then one from after it.
    assert!(kept[2] - kept[1] >= 300, "{kept:?}");
    let dropped = agent.counters().rows().into_iter();
    let dropped = dropped.filter(|row| row.name == "watchfire_agent_dropped_samples_total");
    assert!(dropped.map(|row| row.value).sum::<f64>() > 300.0);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_remedy() {
    let message = |config| HostAgent::start(config).err().expect("refused").to_string();
    let unknown = AgentConfig { disabled_collectors: vec!["cpus".to_owned()], ..config() };
    assert!(
        message(unknown).starts_with("unknown collector \"cpus\"; the collectors are cpu, stat")
    );
    let fast = AgentConfig { interval_ms: 1, ..config() };
    assert_eq!(message(fast), "interval_ms is 1, it must be from 100 to 3600000");
    let empty = AgentConfig { queue_passes: 0, ..config() };
    let refused = HostAgent::start(empty).err().expect("refused");
    assert!(matches!(refused, AgentError::OutOfRange { key: "queue_passes", .. }));
}

#[tokio::test]
async fn whoever_asks_gets_the_samples_of_the_last_pass_as_text() {
    let (agent, mut receiver) = HostAgent::start(config()).expect("agent starts");
    let batch = receiver.recv().expect("a pass");
    let (first, second) = tokio::join!(agent.exposition().page(), agent.exposition().page());
    let page = first.expect("it runs");
    assert!(second.is_some_and(|other| other.lines().count() == page.lines().count()));
    let samples = page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(samples >= batch.rows(), "{samples} lines for {} samples", batch.rows());
    let families: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(families.is_sorted() && families.contains(&"node_load1 gauge"));
    assert!(!page.contains("instance=\"here\"") && !page.contains("job=\"node\""));
    let exposition = agent.exposition().clone();
    agent.stop();
    assert_eq!(exposition.page().await, None);
}
