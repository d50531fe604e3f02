//! Rules that Watchfire brings along: they watch hosts and Watchfire itself.
//!
//! Each can be switched off by its name. Metrics of hosts have Node Exporter's names, so the rules
//! also hold for hosts whose metrics come from there. A rule whose metrics nobody stores does nothing.

use std::time::Duration;

use settings::prometheus::rules::{Rule, RuleFile, RuleGroup, RuleKind};

/// The file that these rules seem to be in.
pub const BUILTIN_FILE: &str = "built-in";

/// How often they are evaluated.
const INTERVAL: Duration = Duration::from_secs(30);

/// One rule that Watchfire brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltinRule {
    /// Its group: what it watches.
    pub group: &'static str,
    /// The alert, by which the rule is also switched on and off.
    pub name: &'static str,
    /// What is evaluated.
    pub expr: &'static str,
    /// `for`, in minutes.
    pub hold_min: u64,
    /// The label `severity`: `critical` if somebody must act now, `warning` if soon, `none` if not.
    pub severity: &'static str,
    /// What has happened, as a template.
    pub summary: &'static str,
    /// What to do, as a template.
    pub description: &'static str,
}

/// Filesystems that are of no interest: in memory, or never anything but full.
macro_rules! disks {
    ($metric:literal) => {
        concat!($metric, "{fstype!~\"tmpfs|ramfs|squashfs|overlay|iso9660|erofs\"}")
    };
}

/// All of them, group by group.
const RULES: &[BuiltinRule] = &[
    BuiltinRule {
        group: "hosts",
        name: "DiskFullIn4Hours",
        expr: concat!(
            "predict_linear(",
            disks!("node_filesystem_avail_bytes"),
            "[1h], 4 * 3600) < 0 and ",
            disks!("node_filesystem_avail_bytes"),
            " / ",
            disks!("node_filesystem_size_bytes"),
            " < 0.4 and ",
            disks!("node_filesystem_readonly"),
            " == 0"
        ),
        hold_min: 15,
        severity: "critical",
        summary: "{{ $labels.mountpoint }} on {{ $labels.instance }} will be full within 4 hours",
        description: "At the pace of the last hour {{ $labels.device }} runs out of space. See what \
                      writes there, and make room.",
    },
    BuiltinRule {
        group: "hosts",
        name: "DiskNearlyFull",
        expr: concat!(
            disks!("node_filesystem_avail_bytes"),
            " / ",
            disks!("node_filesystem_size_bytes"),
            " < 0.05 and ",
            disks!("node_filesystem_readonly"),
            " == 0"
        ),
        hold_min: 10,
        severity: "critical",
        summary: "{{ $labels.mountpoint }} on {{ $labels.instance }} has {{ $value | \
                  humanizePercentage }} left",
        description: "Make room on {{ $labels.device }}, or make it larger.",
    },
    BuiltinRule {
        group: "hosts",
        name: "InodesNearlyGone",
        expr: concat!(
            disks!("node_filesystem_files_free"),
            " / ",
            disks!("node_filesystem_files"),
            " < 0.05 and ",
            disks!("node_filesystem_readonly"),
            " == 0"
        ),
        hold_min: 10,
        severity: "warning",
        summary: "{{ $labels.mountpoint }} on {{ $labels.instance }} has inodes for {{ $value | \
                  humanizePercentage }} of its files left",
        description: "Look for a directory with very many small files; space alone does not help.",
    },
    BuiltinRule {
        group: "hosts",
        name: "FilesystemHangs",
        expr: "node_filesystem_device_error == 1",
        hold_min: 10,
        severity: "warning",
        summary: "{{ $labels.mountpoint }} on {{ $labels.instance }} does not answer",
        description: "The server of a network filesystem is gone, or its disk has failed.",
    },
    BuiltinRule {
        group: "hosts",
        name: "ClockSkew",
        expr: "abs(node_timex_offset_seconds) > 0.05",
        hold_min: 10,
        severity: "warning",
        summary: "The clock of {{ $labels.instance }} is off by {{ $value | humanizeDuration }}",
        description: "See whether its time service runs and reaches its servers. Samples and lines of \
                      this host bear wrong times until then.",
    },
    BuiltinRule {
        group: "hosts",
        name: "ClockNotSynchronised",
        expr: "node_timex_sync_status == 0 and node_timex_maxerror_seconds >= 16",
        hold_min: 10,
        severity: "warning",
        summary: "Nothing keeps the clock of {{ $labels.instance }} right",
        description: "Start chrony, ntpd or systemd-timesyncd on the host.",
    },
    BuiltinRule {
        group: "hosts",
        name: "MemoryNearlyExhausted",
        expr: "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes < 0.05",
        hold_min: 10,
        severity: "warning",
        summary: "{{ $labels.instance }} has {{ $value | humanizePercentage }} of its memory left",
        description: "See which process grew; the kernel will stop one when nothing is left.",
    },
    BuiltinRule {
        group: "hosts",
        name: "MemoryPressure",
        expr: "rate(node_pressure_memory_waiting_seconds_total[5m]) > 0.2",
        hold_min: 10,
        severity: "warning",
        summary: "Processes of {{ $labels.instance }} wait for memory {{ $value | \
                  humanizePercentage }} of the time",
        description: "The host pages, or reclaims what it needs again at once. Give it memory, or move \
                      work away.",
    },
    BuiltinRule {
        group: "hosts",
        name: "OutOfMemoryKill",
        expr: "increase(node_vmstat_oom_kill[10m]) > 0",
        hold_min: 0,
        severity: "warning",
        summary: "The kernel of {{ $labels.instance }} stopped a process for want of memory",
        description: "The kernel's log says which; see whether its service runs again.",
    },
    BuiltinRule {
        group: "hosts",
        name: "TargetGone",
        expr: "up == 0",
        hold_min: 5,
        severity: "warning",
        summary: "{{ $labels.instance }} of job {{ $labels.job }} cannot be scraped",
        description: "The page of targets says why its last scrape failed.",
    },
    BuiltinRule {
        group: "agents",
        name: "AgentGone",
        expr: "watchfire_agent_up == 0",
        hold_min: 5,
        severity: "critical",
        summary: "The agent {{ $labels.agent }} is not connected",
        description: "Its host is down, the network between is, or the agent has stopped. What it \
                      collects meanwhile is in its spool and comes later.",
    },
    BuiltinRule {
        group: "agents",
        name: "AgentBehind",
        expr: "watchfire_agent_lag_seconds > 300 and watchfire_agent_up == 1",
        hold_min: 10,
        severity: "warning",
        summary: "What the agent {{ $labels.agent }} has is {{ $value | humanizeDuration }} old when it \
                  is stored",
        description: "The network is too slow for it, or the brokers are; both are told by \
                      `watchfire doctor` on its host.",
    },
    BuiltinRule {
        group: "agents",
        name: "AgentLosesSamples",
        expr: "increase(watchfire_agent_reported_dropped_samples_total[10m]) > 0",
        hold_min: 0,
        severity: "critical",
        summary: "The agent {{ $labels.agent }} had to drop samples",
        description: "Its spool is full. Give it more space, or reach a broker from there again.",
    },
    BuiltinRule {
        group: "agents",
        name: "AgentCertificateEnds",
        expr: "watchfire_agent_certificate_expiry_timestamp_seconds - time() < 3 * 86400 and \
               watchfire_agent_certificate_expiry_timestamp_seconds > 0",
        hold_min: 60,
        severity: "warning",
        summary: "The certificate of the agent {{ $labels.agent }} ends in {{ $value | \
                  humanizeDuration }}",
        description: "It renews itself while it is connected: see why it could not, or let it join \
                      again.",
    },
    BuiltinRule {
        group: "agents",
        name: "LinesNotRead",
        expr: "watchfire_agent_logs_waiting == 1",
        hold_min: 10,
        severity: "warning",
        summary: "{{ $labels.instance }} reads no log files, for its spool of lines is full",
        description: "Lines stay in their files. Reach a broker again before the files are rotated \
                      away.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "DeadMansSwitch",
        expr: "vector(1)",
        hold_min: 0,
        severity: "none",
        summary: "Rules are evaluated and notifications are sent",
        description: "This alert always fires. Send it to a service that raises an alarm when it no \
                      longer comes.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "IngestRefused",
        expr: "rate(watchfire_broker_commits_refused_full_total[5m]) > 0 \
               or rate(watchfire_broker_batches_refused_head_full_total[5m]) > 0 \
               or rate(watchfire_broker_batches_refused_store_behind_total[5m]) > 0 \
               or rate(watchfire_governor_series_refused_total[5m]) > 0",
        hold_min: 2,
        severity: "critical",
        summary: "{{ $labels.instance }} refuses what it is sent",
        description: "The disk is full, memory is short, or the shared store does not keep up: \
                      `watchfire doctor` says which.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "SamplesRejected",
        expr: "rate(watchfire_broker_samples_rejected_total[10m]) > 0",
        hold_min: 15,
        severity: "warning",
        summary: "{{ $labels.instance }} rejects samples because of their labels, time or a limit",
        description: "Answers to senders, and the log of the broker, say which limit and its value.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "TenantLimitReached",
        expr: "sum by (tenant, limit) (rate(watchfire_broker_tenant_samples_refused_total[10m])) > 0",
        hold_min: 10,
        severity: "warning",
        summary: "The tenant {{ $labels.tenant }} has reached its limit {{ $labels.limit }}",
        description: "Raise the limit, or see on the page of cardinality which labels grew.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "QueriesRefused",
        expr: "rate(watchfire_console_queries_refused_total[5m]) > 0 \
               or rate(watchfire_governor_queries_refused_total[5m]) > 0 \
               or rate(watchfire_governor_queries_stopped_total[5m]) > 0",
        hold_min: 5,
        severity: "warning",
        summary: "{{ $labels.instance }} refuses or stops queries",
        description: "Too many run at once, or they take too much memory: the page of queries shows \
                      them.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "MemoryNearLimit",
        expr: "watchfire_governor_measured_bytes / watchfire_governor_limit_bytes > 0.9",
        hold_min: 10,
        severity: "warning",
        summary: "{{ $labels.instance }} takes {{ $value | humanizePercentage }} of its memory limit",
        description: "Soon new series and large queries are refused. Raise memory.limit_bytes, or keep \
                      fewer series.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "DataDamaged",
        expr: "watchfire_blockstore_log_damaged_ranges_total > 0 \
               or watchfire_blockstore_blocks_damaged_total > 0 \
               or watchfire_broker_quarantined_blocks_total > 0",
        hold_min: 0,
        severity: "critical",
        summary: "{{ $labels.instance }} found damaged data since its start",
        description: "Its log names the files; what is damaged is in the directory quarantine. See \
                      whether the disk fails.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "FlushFails",
        expr: "rate(watchfire_broker_flush_failures_total[10m]) > 0 \
               or rate(watchfire_broker_merge_failures_total[10m]) > 0",
        hold_min: 15,
        severity: "critical",
        summary: "{{ $labels.instance }} cannot write blocks",
        description: "What is not flushed stays in the log and in memory. The log of the broker says \
                      why it fails.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "SegmentsFail",
        expr: "rate(watchfire_broker_segment_put_failures_total[5m]) > 0 \
               or rate(watchfire_broker_segments_in_doubt_total[5m]) > 0",
        hold_min: 5,
        severity: "critical",
        summary: "The shared store does not take what {{ $labels.instance }} writes",
        description: "Senders are told to send again. See whether the store is reached and has room.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "RemoteWriteBehind",
        expr: "watchfire_broker_remote_write_behind_bytes > 1e9",
        hold_min: 15,
        severity: "warning",
        summary: "{{ $value | humanize1024 }}B wait for {{ $labels.remote_name }}",
        description: "The other system is away or too slow. The log grows until it takes them.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "RuleEvaluationsMissed",
        expr: "increase(prometheus_rule_group_iterations_missed_total[15m]) > 0",
        hold_min: 15,
        severity: "warning",
        summary: "Rules of {{ $labels.rule_group }} are evaluated too seldom",
        description: "Its queries take longer than its interval. Make them cheaper, or the interval \
                      longer.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "RuleEvaluationsFail",
        expr: "increase(prometheus_rule_evaluation_failures_total[5m]) > 0",
        hold_min: 15,
        severity: "warning",
        summary: "Rules of {{ $labels.rule_group }} cannot be evaluated",
        description: "The page of rules shows the error of each.",
    },
    BuiltinRule {
        group: "watchfire",
        name: "NotificationsFail",
        expr: "rate(alertmanager_notifications_failed_total[5m]) > 0 \
               or rate(prometheus_notifications_dropped_total[5m]) > 0",
        hold_min: 5,
        severity: "critical",
        summary: "Notifications do not reach {{ with $labels.integration }}{{ . }}{{ else with \
                  $labels.alertmanager }}{{ . }}{{ else }}their receiver{{ end }}",
        description: "See whether the receiver answers and its credentials are right.",
    },
];

/// All rules that Watchfire brings along.
pub fn builtin_rules() -> &'static [BuiltinRule] {
    RULES
}

/// Those of them that are switched on, as a file would say it.
pub fn builtin_groups(is_on: &dyn Fn(&str) -> bool) -> RuleFile {
    let mut file = RuleFile::default();
    for (index, builtin) in RULES.iter().enumerate().filter(|(_, rule)| is_on(rule.name)) {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let rule = Rule {
            kind: RuleKind::Alerting,
            name: builtin.name.to_owned(),
            expr: builtin.expr.to_owned(),
            hold: Duration::from_secs(builtin.hold_min * 60),
            keep_firing_for: Duration::ZERO,
            labels: vec![pair("severity", builtin.severity)],
            annotations: vec![
                pair("description", builtin.description),
                pair("summary", builtin.summary),
            ],
            line: index + 1,
        };
        match file.groups.iter_mut().find(|group| group.name == builtin.group) {
            Some(group) => group.rules.push(rule),
            None => file.groups.push(RuleGroup {
                name: builtin.group.to_owned(),
                interval: Some(INTERVAL),
                rules: vec![rule],
                ..RuleGroup::default()
            }),
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_can_be_switched_off() {
        let names: std::collections::BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
        let all = builtin_groups(&|_| true);
        assert_eq!(all.groups.iter().map(|group| group.rules.len()).sum::<usize>(), RULES.len());
        assert_eq!(all.groups.len(), 3);
        let only = builtin_groups(&|name| name == "DeadMansSwitch");
        assert_eq!((only.groups.len(), only.groups[0].rules[0].expr.as_str()), (1, "vector(1)"));
        assert_eq!(builtin_groups(&|_| false), RuleFile::default());
    }

    #[test]
    fn severities_are_few() {
        for rule in RULES {
            assert!(["critical", "warning", "none"].contains(&rule.severity), "{}", rule.name);
        }
    }
}
