//! What is found, of clusters that are told.

use super::super::told::{Amount, DrainReport, OperationReport, StoreReport, TenantLoad};
use super::*;

const FLUSH_MS: u64 = 300_000;

/// As many voters, all well, in zones a, b and c.
fn cluster(voters: u64) -> ClusterStatus {
    let member = |number: u64| MemberStatus {
        id: format!("{number:016x}"),
        name: format!("b{number}"),
        zone: ["a", "b", "c"][number as usize % 3].to_owned(),
        liveness: Liveness::Alive,
        part: Part::Voter,
        is_leader: number == 0,
        report: Some(BrokerReport { version: "1.0.0".to_owned(), ..BrokerReport::default() }),
        clock_ahead_ms: Some(3),
        ..MemberStatus::default()
    };
    let consensus = ConsensusStatus {
        leader: Some("b0".to_owned()),
        voters,
        voters_alive: voters,
        majority: voters / 2 + 1,
        ..ConsensusStatus::default()
    };
    let members = (0..voters).map(member).collect();
    let consensus = Some(consensus);
    ClusterStatus { is_cluster: true, consensus, members, ..ClusterStatus::default() }
}

fn lose(status: &mut ClusterStatus, number: usize) {
    let member = &mut status.members[number];
    member.liveness = Liveness::Silent;
    member.silent_ms = 42_000;
    member.report = None;
    member.fault = "connection refused".to_owned();
    member.segments = Amount { count: 3, bytes: 4_096 };
    status.consensus.as_mut().expect("a cluster").voters_alive -= 1;
}

/// `bad no_leader {"alive":1,…}` and so on.
fn told(status: &ClusterStatus) -> Vec<String> {
    let words = |finding: &Finding| {
        let level = serde_json::to_value(finding.level).expect("a word");
        let values = serde_json::to_string(&finding.values).expect("values");
        format!("{} {} {values}", level.as_str().expect("a word"), finding.code)
    };
    find(status, FLUSH_MS).iter().map(words).collect()
}

#[test]
fn nothing_is_said_of_what_is_well() {
    for voters in [3, 5] {
        assert_eq!(told(&cluster(voters)), Vec::<String>::new(), "{voters} voters");
    }
    assert_eq!(told(&ClusterStatus::default()), ["ok one_machine {}"]);
}

#[test]
fn brokers_that_all_leave_leave_the_work_to_nobody() {
    let mut all = cluster(3);
    for member in &mut all.members[..2] {
        member.is_draining = true;
    }
    let codes = |status: &ClusterStatus| -> Vec<(String, Level)> {
        let found = find(status, FLUSH_MS);
        found.into_iter().map(|finding| (finding.code, finding.level)).collect()
    };
    let nobody = ("no_active_broker".to_owned(), Level::Bad);
    assert!(!codes(&all).contains(&nobody));
    all.members[2].is_draining = true;
    assert!(codes(&all).contains(&nobody));
    all.members[2].is_draining = false;
    lose(&mut all, 2);
    assert!(codes(&all).contains(&nobody), "the one that is left is silent");
}

#[test]
fn a_lost_voter_is_worse_when_no_other_may_follow() {
    let mut three = cluster(3);
    lose(&mut three, 2);
    assert_eq!(
        told(&three),
        [
            r#"bad voter_away {"alive":2,"majority":2,"name":"b2","seconds":42,"voters":3}"#,
            r#"warn no_fault_tolerance {"alive":2,"majority":2,"voters":3}"#,
            r#"warn broker_silent {"bytes":4096,"name":"b2","seconds":42,"segments":3}"#,
        ]
    );
    let mut five = cluster(5);
    lose(&mut five, 4);
    assert_eq!(
        told(&five),
        [
            r#"warn voter_away {"alive":4,"majority":3,"name":"b4","seconds":42,"voters":5}"#,
            r#"warn broker_silent {"bytes":4096,"name":"b4","seconds":42,"segments":3}"#,
        ]
    );
}

#[test]
fn without_a_majority_nobody_leads() {
    let mut three = cluster(3);
    lose(&mut three, 1);
    lose(&mut three, 2);
    three.consensus.as_mut().expect("a cluster").leader = None;
    let told = told(&three);
    assert_eq!(told[0], r#"bad no_leader {"alive":1,"majority":2,"voters":3}"#);
    three.consensus.as_mut().expect("a cluster").stopped = Some("disk".to_owned());
    assert_eq!(find(&three, FLUSH_MS)[0].code, "consensus_stopped");
}

#[test]
fn one_two_and_four_voters_are_not_what_they_could_be() {
    let alone = r#"warn no_fault_tolerance {"alive":1,"majority":1,"voters":1}"#;
    assert_eq!(told(&cluster(1)), [alone]);
    let two = r#"warn no_fault_tolerance {"alive":2,"majority":2,"voters":2}"#;
    assert_eq!(told(&cluster(2)), [two]);
    // Two of them must share one of three zones.
    let zone = r#"warn zone_majority {"count":2,"voters":4,"zone":"a"}"#;
    assert_eq!(told(&cluster(4)), [r#"warn even_voters {"voters":4}"#, zone]);
}

#[test]
fn a_zone_must_not_have_the_majority_where_there_are_three() {
    let mut status = cluster(3);
    status.members[1].zone = "a".to_owned();
    status.members.push(MemberStatus {
        zone: "b".to_owned(),
        liveness: Liveness::Alive,
        ..MemberStatus::default()
    });
    let told = told(&status);
    assert_eq!(told, [r#"warn zone_majority {"count":2,"voters":3,"zone":"a"}"#]);
}

#[test]
fn brokers_that_cannot_be_asked_lag_or_leave_are_told() {
    let mut status = cluster(3);
    status.members[0].fault = "no route".to_owned();
    status.members[0].address = "h:1".to_owned();
    status.members[1].lag_entries = Some(1_001);
    status.members[1].is_draining = true;
    status.members[2].has_left = true;
    assert_eq!(
        told(&status),
        [
            r#"warn broker_unreachable {"address":"h:1","name":"b0","reason":"no route"}"#,
            r#"warn consensus_lag {"entries":1001,"name":"b1"}"#,
            r#"ok broker_draining {"name":"b1","segments":0}"#,
            r#"ok broker_left {"name":"b2"}"#,
        ]
    );
}

#[test]
fn a_broker_that_cannot_finish_leaving_says_why() {
    let mut status = cluster(3);
    status.members[0].is_draining = true;
    let mut drain = DrainReport { step: "flushing".to_owned(), ..DrainReport::default() };
    let stuck = |status: &ClusterStatus| told(status).iter().any(|one| one.contains("drain_stuck"));
    let report = status.members[0].report.get_or_insert_default();
    report.drain = Some(drain.clone());
    assert!(!stuck(&status), "it gets on");
    drain.trouble = Some("the store is full".to_owned());
    status.members[0].report.get_or_insert_default().drain = Some(drain);
    let expected = r#"warn drain_stuck {"name":"b0","why":"the store is full"}"#;
    assert!(told(&status).iter().any(|one| one == expected), "{:?}", told(&status));
}

#[test]
fn segments_must_become_blocks() {
    let mut status = cluster(3);
    status.members[0].segments = Amount { count: 50_000, bytes: 1 };
    status.members[1].segments = Amount { count: 90_000, bytes: 1 };
    status.members[2].unflushed_ms = 3 * FLUSH_MS + 1;
    let told = told(&status);
    assert!(told[0].starts_with("bad segments_near_limit {\"bytes\":1,\"limit\":100000"));
    assert!(told[1].starts_with("warn segments_near_limit") && told[1].contains("50000"));
    assert!(told[2].starts_with("warn segments_unflushed") && told[2].contains("900"));
}

#[test]
fn stores_versions_clocks_and_damage_are_told() {
    let mut status = cluster(3);
    let report = status.members[0].report.as_mut().expect("asked");
    let errors = BTreeMap::from([("full".to_owned(), 2), ("busy".to_owned(), 1)]);
    let (requests, p99_ms) = (100, Some(5_000));
    let put = OperationReport {
        operation: "put".to_owned(),
        requests,
        p99_ms,
        errors,
        ..OperationReport::default()
    };
    let store = "truth".to_owned();
    report.stores = vec![StoreReport { store, operations: vec![put], ..Default::default() }];
    report.missing = vec!["block 7".to_owned()];
    status.members[1].report.as_mut().expect("asked").version = "1.1.0".to_owned();
    status.members[1].clock_ahead_ms = Some(-1_500);
    status.members[2].clock_ahead_ms = Some(3_000);
    let store = r#""name":"b0","operation":"put","requests":100,"store":"truth""#;
    assert_eq!(
        told(&status),
        [
            r#"bad clock_skew {"milliseconds":3000,"name":"b2"}"#.to_owned(),
            format!(r#"bad store_errors {{"count":2,"kind":"full",{store}}}"#),
            r#"bad partial_answers {"count":1,"name":"b0","what":"block 7"}"#.to_owned(),
            r#"warn clock_skew {"milliseconds":-1500,"name":"b1"}"#.to_owned(),
            r#"warn version_skew {"versions":"1.0.0 (b0, b2), 1.1.0 (b1)"}"#.to_owned(),
            format!(r#"warn store_errors {{"count":1,"kind":"busy",{store}}}"#),
            r#"warn store_slow {"name":"b0","requests":100,"seconds":"5","store":"truth"}"#
                .to_owned(),
        ]
    );
}

#[test]
fn a_shared_cache_that_is_away_costs_time_only() {
    let mut status = cluster(3);
    let errors = BTreeMap::from([("late".to_owned(), 90)]);
    let get = OperationReport { requests: 100, errors, ..OperationReport::default() };
    let cache = StoreReport {
        store: SHARED_CACHE.to_owned(),
        operations: vec![get],
        ..StoreReport::default()
    };
    status.members[0].report.as_mut().expect("asked").stores = vec![cache.clone()];
    assert_eq!(told(&status), Vec::<String>::new());
    let away = vec!["r:1: late".to_owned(), "r:2: late".to_owned()];
    let cache = StoreReport { away, ..cache };
    status.members[0].report.as_mut().expect("asked").stores = vec![cache];
    let found = r#"warn cache_away {"count":2,"name":"b0","store":"cache","why":"r:1: late"}"#;
    assert_eq!(told(&status), [found]);
}

#[test]
fn a_tenant_near_its_limit_is_told_where_the_limit_is_that_of_all() {
    let tenant = |active_series| TenantLoad {
        name: "acme".to_owned(),
        active_series,
        max_active_series: 1_000,
        ..TenantLoad::default()
    };
    let mut status = ClusterStatus { tenants: vec![tenant(900)], ..ClusterStatus::default() };
    let near = r#"warn tenant_near_limit {"limit":1000,"series":900,"tenant":"acme"}"#;
    assert_eq!(told(&status), [near, "ok one_machine {}"]);
    status.tenants = vec![tenant(899)];
    assert_eq!(told(&status).len(), 1);
}

#[test]
fn every_code_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(names.len(), Code::ALL.len());
}

#[test]
fn rules_of_retention_that_differ_are_told_with_who_has_which() {
    let mut status = cluster(3);
    let set = |status: &mut ClusterStatus, number: usize, rules: &str| {
        let report = status.members[number].report.as_mut().expect("asked");
        report.retention_rules = Some(rules.to_owned());
    };
    for number in 0..2 {
        set(&mut status, number, "none");
    }
    // The third is of a version that does not tell.
    assert_eq!(told(&status), Vec::<String>::new());
    set(&mut status, 2, "{a=\"b\"} for 1d");
    let rules = r#""none (b0, b1); {a=\"b\"} for 1d (b2)""#;
    let found = format!(r#"warn retention_rules_differ {{"rules":{rules}}}"#);
    assert_eq!(told(&status), [found]);
}

#[test]
fn brokers_with_other_rules_are_told_before_it_is_their_turn() {
    let mut status = cluster(3);
    let set = |status: &mut ClusterStatus, number: usize, files: &str| {
        let report = status.members[number].report.as_mut().expect("asked");
        report.alerting = Some(files.to_owned());
    };
    set(&mut status, 0, "rules 1, receivers 2");
    // The second evaluates none, and the third the same.
    set(&mut status, 2, "rules 1, receivers 2");
    assert_eq!(told(&status), Vec::<String>::new());
    set(&mut status, 2, "rules 3, receivers 2");
    let files = r#""rules 1, receivers 2 (b0); rules 3, receivers 2 (b2)""#;
    assert_eq!(told(&status), [format!(r#"warn alerting_differs {{"files":{files}}}"#)]);
}
