//! What lies in queues and commands is bounded.

use super::*;

/// All marks of a segment are in one command, which has to reach the other brokers within a heartbeat.
#[test]
fn a_segment_is_sealed_when_it_has_a_thousand_marks() {
    let (runtime, site) = (runtime(), Arc::<Site>::default());
    let running = start(&runtime, &site, 1, &MemoryDisk::new());
    let (reply, answers) = channel();
    const AGENTS: u64 = 6_000;
    for agent in 0..AGENTS {
        let (agent, incarnation) = (format!("agent-{agent}").into(), Incarnation([1; 16]));
        let identity = BatchIdentity { agent, incarnation, lane: Lane::Live, seq: 1, after_seq: 0 };
        let reply = reply.clone();
        let nothing = MetricBatch::default();
        running.broker.ingest_from_agent(DEFAULT_TENANT, &identity, &nothing, move |result| {
            let _ = reply.send(result.map(|_| ()));
        });
    }
    for _ in 0..AGENTS {
        assert_eq!(answers.recv().expect("answered"), Ok(()));
    }
    let most = site.most_marks.load(Ordering::Relaxed);
    assert!(most <= 1_000, "{most} marks in one command");
}

#[test]
fn what_the_catalog_has_no_room_for_is_sent_again() {
    let full = CatalogError::TooLarge {
        what: "a broker's list of segments",
        found: 100_001,
        limit: 100_000,
    };
    let refused = writer::not_taken(&full);
    assert!(matches!(refused, CommitError::Store(_)), "agents come again: {refused:?}");
    assert_eq!(refused.retry_after_seconds(), Some(5));
    assert!(refused.to_string().contains("Flushes of this broker fail"), "{refused}");
}

#[test]
fn lists_of_blocks_that_nobody_took_yet_are_kept_once() {
    let feed = CatalogFeed::new(BrokerId(1));
    let (_sender, mut events) = feed.listen();
    let mut state = State::default();
    let expire = |state: &mut State| {
        let command = Command::Expire { removed: Vec::new() };
        let outcome = state.apply(&command);
        feed.applied(&command, &outcome, state);
    };
    let info = BrokerInfo {
        name: String::new(),
        address: String::new(),
        http_address: String::new(),
        zone: String::new(),
        version: String::new(),
        feature_level: 1,
        state: BrokerState::Active,
    };
    state
        .apply(&Command::SetBroker { broker: BrokerId(1), info: Box::new(info) })
        .expect("it is new");
    state.apply(&Command::BeginLog { broker: BrokerId(1) }).expect("it is known");
    (0..1_000).for_each(|_| expire(&mut state));
    let flush = Command::FlushLog {
        broker: BrokerId(1),
        epoch: 1,
        through: 7,
        added: Vec::new(),
        deletes_through: 0,
        unread: Vec::new(),
    };
    let outcome = state.apply(&flush);
    feed.applied(&flush, &outcome, &state);
    let Ok(Event::Blocks(listed)) = events.try_recv() else { panic!("one is told") };
    assert!(events.try_recv().is_err(), "and no other");
    let newest = listed.lock().take().expect("nobody took it");
    assert_eq!(newest.flushed_through, 7);
    // What comes later is told again.
    let outcome = state.apply(&flush);
    feed.applied(&flush, &outcome, &state);
    assert!(matches!(events.try_recv(), Ok(Event::Blocks(_))));
    // It was not taken. What comes behind a whole state is told behind it.
    feed.replaced(&state);
    feed.applied(&flush, &outcome, &state);
    assert!(matches!(events.try_recv(), Ok(Event::Replaced(_))));
    assert!(matches!(events.try_recv(), Ok(Event::Blocks(_))));
    let begin = Command::BeginLog { broker: BrokerId(1) };
    let begun = state.apply(&begin);
    feed.applied(&begin, &begun, &state);
    feed.applied(&flush, &outcome, &state);
    assert!(matches!(events.try_recv(), Ok(Event::Begun { .. })));
    assert!(matches!(events.try_recv(), Ok(Event::Blocks(_))));
}
