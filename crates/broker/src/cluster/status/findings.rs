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
    /// One that does so does not get on.
    DrainStuck,
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
    /// Brokers have different rules of retention.
    RetentionRulesDiffer,
    /// Brokers would evaluate other rules, or notify by another configuration, when it is their turn.
    AlertingDiffers,
    /// Something cannot be read.
    PartialAnswers,
    /// A tenant nearly has as many series as it may.
    TenantNearLimit,
    /// All brokers drain: nobody does the work of the cluster.
    NoActiveBroker,
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 25] = [
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
        Code::DrainStuck,
        Code::BrokerLeft,
        Code::ConsensusLag,
        Code::SegmentsUnflushed,
        Code::SegmentsNearLimit,
        Code::StoreErrors,
        Code::StoreSlow,
        Code::CacheAway,
        Code::VersionSkew,
        Code::ClockSkew,
        Code::RetentionRulesDiffer,
        Code::AlertingDiffers,
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
            Code::DrainStuck => "drain_stuck",
            Code::BrokerLeft => "broker_left",
            Code::ConsensusLag => "consensus_lag",
            Code::SegmentsUnflushed => "segments_unflushed",
            Code::SegmentsNearLimit => "segments_near_limit",
            Code::StoreErrors => "store_errors",
            Code::StoreSlow => "store_slow",
            Code::CacheAway => "cache_away",
            Code::VersionSkew => "version_skew",
            Code::ClockSkew => "clock_skew",
            Code::RetentionRulesDiffer => "retention_rules_differ",
            Code::AlertingDiffers => "alerting_differs",
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
        retention_rules(&status.members, &mut found);
        alerting(&status.members, &mut found);
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
    let drain = member.report.as_ref().and_then(|report| report.drain.as_ref());
    if let Some(why) = drain.and_then(|drain| drain.trouble.as_deref()) {
        found.push(about(Code::DrainStuck, Level::Warn).with("why", why));
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

/// Who says what, of those that do not all say the same: `1.0.0 (b1, b3), 1.1.0 (b2)`.
fn differing(
    members: &[MemberStatus],
    said: impl Fn(&BrokerReport) -> Option<&str>,
    separator: &str,
) -> Option<String> {
    let mut brokers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for member in members {
        if let Some(said) = member.report.as_ref().and_then(&said) {
            brokers.entry(said).or_default().push(&member.name);
        }
    }
    let told = brokers.iter().map(|(said, names)| format!("{said} ({})", names.join(", ")));
    (brokers.len() > 1).then(|| told.collect::<Vec<_>>().join(separator))
}

fn versions(members: &[MemberStatus], found: &mut Vec<Finding>) {
    if let Some(told) = differing(members, |report| Some(&report.version), ", ") {
        found.push(Code::VersionSkew.found(Level::Warn).with("versions", told));
    }
}

/// Whoever is nearest to a day removes by its own rules for all.
fn retention_rules(members: &[MemberStatus], found: &mut Vec<Finding>) {
    if let Some(told) = differing(members, |report| report.retention_rules.as_deref(), "; ") {
        found.push(Code::RetentionRulesDiffer.found(Level::Warn).with("rules", told));
    }
}

/// Whoever takes over goes by its own files.
fn alerting(members: &[MemberStatus], found: &mut Vec<Finding>) {
    if let Some(told) = differing(members, |report| report.alerting.as_deref(), "; ") {
        found.push(Code::AlertingDiffers.found(Level::Warn).with("files", told));
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
mod tests;
