//! What is wrong with a cluster, or will be. Words and remedies are where the languages are: this says
//! which, with the values that belong into them.

use std::collections::{BTreeMap, BTreeSet};

use catalog::MAX_SEGMENTS_PER_BROKER;
use serde_json::Value;

use super::told::{
    BrokerReport, ClusterStatus, ConsensusStatus, Finding, Level, Liveness, MemberStatus, Part,
};

/// Clocks that differ by more are worth setting …
const CLOCK_WARN_MS: i64 = 1_000;
/// … and by more than this, leases of 4.5 s are no longer what they should be.
const CLOCK_BAD_MS: i64 = 3_000;
/// A segment that waits for so many intervals of the flush waits for something else.
const FLUSHES_MISSED: u64 = 3;
/// Writing takes longer than this for one in a hundred: senders wait for it.
const SLOW_PUT_MS: u64 = 2_500;
/// Entries of the consensus behind which a broker is too far for its queries to be fresh.
const LAG_ENTRIES: u64 = 1_000;

/// Everything that can be found. The names are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// This is one machine.
    OneMachine,
    /// The part of this broker in the consensus has stopped.
    ConsensusStopped,
    /// Nobody leads.
    NoLeader,
    /// A voter does not answer.
    VoterAway,
    /// One more voter lost and nothing can be agreed upon.
    NoFaultTolerance,
    /// One voter more than is of use.
    EvenVoters,
    /// A zone has so many voters that nothing can be agreed upon without it.
    ZoneMajority,
    /// A broker is silent.
    BrokerSilent,
    /// A broker lives and does not answer this one.
    BrokerUnreachable,
    /// A broker gives up its work.
    BrokerDraining,
    /// A broker left and is still counted among the members of the consensus.
    BrokerLeft,
    /// A broker is far behind.
    ConsensusLag,
    /// Segments wait for long to be in blocks.
    SegmentsUnflushed,
    /// A broker nearly has as many segments as it may.
    SegmentsNearLimit,
    /// A store failed.
    StoreErrors,
    /// A store is slow.
    StoreSlow,
    /// A shared cache is left alone.
    CacheAway,
    /// Programs of several versions.
    VersionSkew,
    /// A clock is wrong.
    ClockSkew,
    /// Something cannot be read.
    PartialAnswers,
    /// A tenant nearly has as many series as it may.
    TenantNearLimit,
    /// All brokers drain: nobody does the work of the cluster.
    NoActiveBroker,
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 22] = [
        Code::OneMachine,
        Code::ConsensusStopped,
        Code::NoLeader,
        Code::VoterAway,
        Code::NoFaultTolerance,
        Code::EvenVoters,
        Code::ZoneMajority,
        Code::BrokerSilent,
        Code::BrokerUnreachable,
        Code::BrokerDraining,
        Code::BrokerLeft,
        Code::ConsensusLag,
        Code::SegmentsUnflushed,
        Code::SegmentsNearLimit,
        Code::StoreErrors,
        Code::StoreSlow,
        Code::CacheAway,
        Code::VersionSkew,
        Code::ClockSkew,
        Code::PartialAnswers,
        Code::TenantNearLimit,
        Code::NoActiveBroker,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::OneMachine => "one_machine",
            Code::ConsensusStopped => "consensus_stopped",
            Code::NoLeader => "no_leader",
            Code::VoterAway => "voter_away",
            Code::NoFaultTolerance => "no_fault_tolerance",
            Code::EvenVoters => "even_voters",
            Code::ZoneMajority => "zone_majority",
            Code::BrokerSilent => "broker_silent",
            Code::BrokerUnreachable => "broker_unreachable",
            Code::BrokerDraining => "broker_draining",
            Code::BrokerLeft => "broker_left",
            Code::ConsensusLag => "consensus_lag",
            Code::SegmentsUnflushed => "segments_unflushed",
            Code::SegmentsNearLimit => "segments_near_limit",
            Code::StoreErrors => "store_errors",
            Code::StoreSlow => "store_slow",
            Code::CacheAway => "cache_away",
            Code::VersionSkew => "version_skew",
            Code::ClockSkew => "clock_skew",
            Code::PartialAnswers => "partial_answers",
            Code::TenantNearLimit => "tenant_near_limit",
            Code::NoActiveBroker => "no_active_broker",
        }
    }

    fn found(self, level: Level) -> Finding {
        Finding { code: self.as_str().to_owned(), level, values: BTreeMap::new() }
    }
}

impl Finding {
    fn with(mut self, name: &str, value: impl Into<Value>) -> Finding {
        self.values.insert(name.to_owned(), value.into());
        self
    }
}

/// What follows from a status, the worst first; `flush_interval_ms` is how often heads become blocks.
pub(super) fn find(status: &ClusterStatus, flush_interval_ms: u64) -> Vec<Finding> {
    let mut found = Vec::new();
    if status.is_cluster {
        if let Some(consensus) = &status.consensus {
            votes(consensus, &status.members, &mut found);
        }
        for member in &status.members {
            life(member, &mut found);
            segments(member, flush_interval_ms, &mut found);
            clock(member, &mut found);
        }
        let is_idle = |member: &MemberStatus| member.is_draining || is_away(member);
        let listed = || status.members.iter().filter(|member| !member.has_left);
        if listed().any(|member| member.is_draining) && listed().all(is_idle) {
            found.push(Code::NoActiveBroker.found(Level::Bad));
        }
        versions(&status.members, &mut found);
    } else {
        found.push(Code::OneMachine.found(Level::Ok));
    }
    for member in &status.members {
        if let Some(report) = &member.report {
            reported(&member.name, report, &mut found);
        }
    }
    for tenant in &status.tenants {
        let (series, limit) = (tenant.active_series, tenant.max_active_series);
        // Limits are those of each broker, and what all have together may be more: then nothing is said.
        if !status.is_cluster && limit > 0 && series >= limit / 10 * 9 {
            let near =
                Code::TenantNearLimit.found(Level::Warn).with("tenant", tenant.name.as_str());
            found.push(near.with("series", series).with("limit", limit));
        }
    }
    // Stable: causes stand before what follows from them.
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found
}

/// Whether anything can be agreed upon, and for how long.
fn votes(consensus: &ConsensusStatus, members: &[MemberStatus], found: &mut Vec<Finding>) {
    let ConsensusStatus { voters, voters_alive, majority, .. } = *consensus;
    if let Some(reason) = &consensus.stopped {
        found.push(Code::ConsensusStopped.found(Level::Bad).with("reason", reason.as_str()));
    }
    if consensus.leader.is_none() {
        let finding = Code::NoLeader.found(Level::Bad).with("voters", voters);
        found.push(finding.with("alive", voters_alive).with("majority", majority));
    }
    let away = |member: &&MemberStatus| member.part == Part::Voter && is_away(member);
    for member in members.iter().filter(away) {
        let level = if voters_alive <= majority { Level::Bad } else { Level::Warn };
        let finding = Code::VoterAway.found(level).with("name", member.name.as_str());
        found.push(
            finding
                .with("seconds", member.silent_ms / 1_000)
                .with("alive", voters_alive)
                .with("voters", voters)
                .with("majority", majority),
        );
    }
    if voters > 0 && voters_alive == majority {
        let finding = Code::NoFaultTolerance.found(Level::Warn).with("voters", voters);
        found.push(finding.with("alive", voters_alive).with("majority", majority));
    } else if voters % 2 == 0 && voters > 0 {
        found.push(Code::EvenVoters.found(Level::Warn).with("voters", voters));
    }
    let voting = members.iter().filter(|member| member.part == Part::Voter);
    let mut zones: BTreeMap<&str, u64> = BTreeMap::new();
    for member in voting.filter(|member| !member.zone.is_empty()) {
        *zones.entry(&member.zone).or_default() += 1;
    }
    let all_zones: BTreeSet<&str> = members.iter().map(|member| member.zone.as_str()).collect();
    for (zone, count) in zones {
        // Where there is one zone alone, nobody meant to survive its loss; with two, one always has it.
        if voters - count < majority && all_zones.len() >= 3 {
            let finding = Code::ZoneMajority.found(Level::Warn).with("zone", zone);
            found.push(finding.with("count", count).with("voters", voters));
        }
    }
}

fn is_away(member: &MemberStatus) -> bool {
    member.liveness == Liveness::Silent
}

fn life(member: &MemberStatus, found: &mut Vec<Finding>) {
    let about = |code: Code, level| code.found(level).with("name", member.name.as_str());
    if member.has_left {
        found.push(about(Code::BrokerLeft, Level::Ok));
        return;
    }
    if is_away(member) {
        let finding = about(Code::BrokerSilent, Level::Warn);
        found.push(
            finding
                .with("seconds", member.silent_ms / 1_000)
                .with("segments", member.segments.count)
                .with("bytes", member.segments.bytes),
        );
    } else if !member.fault.is_empty() {
        let finding = about(Code::BrokerUnreachable, Level::Warn);
        let finding = finding.with("address", member.address.as_str());
        found.push(finding.with("reason", member.fault.as_str()));
    }
    if member.is_draining {
        let finding = about(Code::BrokerDraining, Level::Ok);
        found.push(finding.with("segments", member.segments.count));
    }
    if let Some(entries) = member.lag_entries.filter(|lag| *lag > LAG_ENTRIES)
        && !is_away(member)
    {
        found.push(about(Code::ConsensusLag, Level::Warn).with("entries", entries));
    }
}

fn segments(member: &MemberStatus, flush_interval_ms: u64, found: &mut Vec<Finding>) {
    let count = member.segments.count;
    let limit = MAX_SEGMENTS_PER_BROKER as u64;
    let about = |code: Code, level| {
        let finding = code.found(level).with("name", member.name.as_str());
        finding.with("segments", count).with("bytes", member.segments.bytes)
    };
    if member.unflushed_ms > FLUSHES_MISSED * flush_interval_ms {
        let finding = about(Code::SegmentsUnflushed, Level::Warn);
        found.push(finding.with("seconds", member.unflushed_ms / 1_000));
    }
    if count >= limit / 2 {
        let level = if count >= limit / 10 * 9 { Level::Bad } else { Level::Warn };
        found.push(about(Code::SegmentsNearLimit, level).with("limit", limit));
    }
}

fn clock(member: &MemberStatus, found: &mut Vec<Finding>) {
    let Some(ahead_ms) = member.clock_ahead_ms else { return };
    let level = match ahead_ms.abs() {
        off if off >= CLOCK_BAD_MS => Level::Bad,
        off if off >= CLOCK_WARN_MS => Level::Warn,
        _ => return,
    };
    let finding = Code::ClockSkew.found(level).with("name", member.name.as_str());
    found.push(finding.with("milliseconds", ahead_ms));
}

fn versions(members: &[MemberStatus], found: &mut Vec<Finding>) {
    let mut brokers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for member in members {
        if let Some(report) = &member.report {
            brokers.entry(&report.version).or_default().push(&member.name);
        }
    }
    if brokers.len() > 1 {
        let told =
            brokers.iter().map(|(version, names)| format!("{version} ({})", names.join(", ")));
        let told = told.collect::<Vec<_>>().join(", ");
        found.push(Code::VersionSkew.found(Level::Warn).with("versions", told));
    }
}

/// Errors of a store that pass by themselves, if they pass; anything else waits for somebody.
const PASSING: [&str; 5] = ["busy", "unreachable", "failed", "late", "unknown"];

/// The tier of a cache that brokers share.
pub const SHARED_CACHE: &str = "cache";

fn reported(name: &str, report: &BrokerReport, found: &mut Vec<Finding>) {
    for store in &report.stores {
        let about = |code: Code, level| {
            code.found(level).with("name", name).with("store", store.store.as_str())
        };
        if let Some(first) = store.away.first() {
            let finding = about(Code::CacheAway, Level::Warn).with("why", first.as_str());
            found.push(finding.with("count", store.away.len() as u64));
        }
        // What it does not answer in time, it is not waited for.
        if store.store == SHARED_CACHE {
            continue;
        }
        let mut kinds: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        for operation in &store.operations {
            for (kind, count) in &operation.errors {
                let known = kinds.entry(kind).or_insert((0, &operation.operation));
                known.0 += count;
            }
        }
        let requests: u64 = store.operations.iter().map(|operation| operation.requests).sum();
        for (kind, (count, operation)) in kinds {
            // Of requests that pass, a few may fail: they are tried again, and nothing waits for anybody.
            let passes = PASSING.contains(&kind);
            let level = if passes && count * 4 < requests { Level::Warn } else { Level::Bad };
            let finding = about(Code::StoreErrors, level).with("kind", kind);
            found.push(
                finding
                    .with("operation", operation)
                    .with("count", count)
                    .with("requests", requests),
            );
        }
        let puts = store.operations.iter().filter(|operation| operation.operation == "put");
        for put in puts.filter(|put| put.p99_ms.is_none_or(|p99| p99 > SLOW_PUT_MS)) {
            let seconds =
                put.p99_ms.map_or_else(|| "> 15".to_owned(), |ms| format!("{}", ms / 1_000));
            let finding = about(Code::StoreSlow, Level::Warn).with("seconds", seconds);
            found.push(finding.with("requests", put.requests));
        }
    }
    if let Some(first) = report.missing.first() {
        let finding = Code::PartialAnswers.found(Level::Bad).with("name", name);
        found.push(
            finding
                .with("count", report.missing_count.max(report.missing.len() as u64))
                .with("what", first.as_str()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::{Amount, OperationReport, StoreReport, TenantLoad};
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
}
