//! What one host exposes: tables of families and how their values move.
//!
//! [`Fleet::Node`] are Node Exporter's families. The shape follows what `prometheus-node-exporter` 1.5 shows of a server with 8 CPUs, 4 disks,
//! 6 file systems and 5 network devices. About 70 % of its series hold still for hours, which was
//! also measured on real hosts; the rest are counters of very different pace, gauges with few
//! decimals, and a few values that use all bits of a double.
//!
//! [`Fleet::Devops`] is like the use case `devops` of the Time Series Benchmark Suite
//! (<https://github.com/timescale/tsbs>): nine programs of a host, every value a walk, and ten tags
//! on each series.

/// How the values of a series move from scrape to scrape.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    /// Drawn once from `0..=up_to`, then still.
    Still { up_to: i64 },
    /// Grows by about `pace` units of `10^-decimals` per scrape, but only in `busy_percent` of the
    /// scrapes.
    Counter { pace: i64, decimals: u8, busy_percent: u8 },
    /// Walks around `around` in steps of up to `stride` times `quantum`, all in units of
    /// `10^-decimals`.
    Gauge { around: i64, stride: i64, quantum: i64, decimals: u8 },
    /// `scale` times a factor between 0.5 and 1.5 with all 52 bits of a double.
    Float { scale: f64 },
    /// The time of the scrape in seconds, with seven decimals.
    Clock,
}

/// Families that have the same labels and behave alike.
#[derive(Debug)]
pub(crate) struct Families {
    pub(crate) names: &'static [&'static str],
    /// Each name occurs with every combination of these values, the first label slowest.
    pub(crate) labels: &'static [(&'static str, &'static [&'static str])],
    /// So many of the combinations move; the others stay at their first value. 0 for `Still`.
    pub(crate) moving: usize,
    pub(crate) behaviour: Behaviour,
}

const CPU: (&str, &[&str]) = ("cpu", &["0", "1", "2", "3", "4", "5", "6", "7"]);
const DISK: (&str, &[&str]) = ("device", &["nvme0n1", "nvme1n1", "sda", "sr0"]);
const NETWORK: (&str, &[&str]) = ("device", &["eth0", "lo", "eth1", "docker0", "br-2c81d0f6a9e4"]);
const MOUNT: (&str, &[&str]) =
    ("mountpoint", &["/", "/var", "/boot", "/boot/efi", "/run", "/srv/backup/2026"]);
const CHIP: (&str, &[&str]) = ("chip", &["platform_coretemp_0", "platform_coretemp_1"]);
const SENSOR: (&str, &[&str]) = ("sensor", &["temp1", "temp2", "temp3", "temp4"]);
const COLLECTOR: (&str, &[&str]) = (
    "collector",
    &[
        "arp",
        "bonding",
        "conntrack",
        "cpu",
        "diskstats",
        "edac",
        "entropy",
        "filefd",
        "filesystem",
        "hwmon",
        "loadavg",
        "meminfo",
        "netclass",
        "netdev",
        "netstat",
        "pressure",
        "schedstat",
        "softnet",
        "stat",
        "vmstat",
    ],
);

const fn families(
    names: &'static [&'static str],
    labels: &'static [(&'static str, &'static [&'static str])],
    moving: usize,
    behaviour: Behaviour,
) -> Families {
    Families { names, labels, moving, behaviour }
}

const fn still(
    up_to: i64,
    labels: &'static [(&'static str, &'static [&'static str])],
    names: &'static [&'static str],
) -> Families {
    families(names, labels, 0, Behaviour::Still { up_to })
}

const fn counter(pace: i64, decimals: u8, busy_percent: u8) -> Behaviour {
    Behaviour::Counter { pace, decimals, busy_percent }
}

const fn gauge(around: i64, stride: i64, quantum: i64, decimals: u8) -> Behaviour {
    Behaviour::Gauge { around, stride, quantum, decimals }
}

/// Everything Node Exporter shows of one host.
#[rustfmt::skip]
const NODE: &[Families] = &[
    families(&["node_cpu_seconds_total"],
        &[("mode", &["idle", "user", "system", "softirq", "iowait", "irq", "nice", "steal"]), CPU],
        32, counter(350, 2, 90)),
    still(0, &[CPU, ("mode", &["nice", "user"])], &["node_cpu_guest_seconds_total"]),
    families(&["node_cpu_scaling_frequency_hertz"], &[CPU], 8,
        gauge(2_600_000_000, 400, 1_000_000, 0)),
    families(&["node_schedstat_running_seconds_total", "node_schedstat_waiting_seconds_total"],
        &[CPU], 8, counter(4_100_000_000, 9, 100)),
    families(&["node_schedstat_timeslices_total"], &[CPU], 8, counter(21_000, 0, 100)),
    families(&["node_softnet_processed_total"], &[CPU], 8, counter(8_400, 0, 100)),
    still(3, &[CPU], &["node_softnet_dropped_total", "node_softnet_times_squeezed_total"]),
    families(&["node_disk_reads_completed_total", "node_disk_reads_merged_total"], &[DISK], 1,
        counter(40, 0, 60)),
    families(&["node_disk_writes_completed_total", "node_disk_writes_merged_total"], &[DISK], 2,
        counter(300, 0, 95)),
    families(&["node_disk_written_bytes_total"], &[DISK], 2, counter(4_096 * 900, 0, 95)),
    families(&["node_disk_read_bytes_total"], &[DISK], 1, counter(4_096 * 50, 0, 60)),
    families(&["node_disk_write_time_seconds_total", "node_disk_io_time_seconds_total",
        "node_disk_io_time_weighted_seconds_total"], &[DISK], 2, counter(230, 3, 95)),
    families(&["node_disk_read_time_seconds_total"], &[DISK], 1, counter(20, 3, 60)),
    still(0, &[DISK], &["node_disk_io_now", "node_disk_discards_completed_total",
        "node_disk_discards_merged_total", "node_disk_discarded_sectors_total",
        "node_disk_discard_time_seconds_total", "node_disk_flush_requests_total",
        "node_disk_flush_requests_time_seconds_total", "node_disk_info"]),
    families(&["node_filesystem_avail_bytes", "node_filesystem_free_bytes"], &[MOUNT], 2,
        gauge(180_000_000_000, 900, 4_096, 0)),
    families(&["node_filesystem_files_free"], &[MOUNT], 2, gauge(12_000_000, 12, 1, 0)),
    still(500_000_000_000, &[MOUNT], &["node_filesystem_size_bytes"]),
    still(30_000_000, &[MOUNT], &["node_filesystem_files"]),
    still(0, &[MOUNT], &["node_filesystem_readonly", "node_filesystem_device_error"]),
    families(&["node_network_receive_bytes_total", "node_network_transmit_bytes_total"],
        &[NETWORK], 2, counter(1_900_000, 0, 100)),
    families(&["node_network_receive_packets_total", "node_network_transmit_packets_total"],
        &[NETWORK], 2, counter(2_700, 0, 100)),
    still(0, &[NETWORK], &["node_network_receive_errs_total", "node_network_receive_drop_total",
        "node_network_receive_fifo_total", "node_network_receive_frame_total",
        "node_network_receive_compressed_total", "node_network_receive_multicast_total",
        "node_network_transmit_errs_total", "node_network_transmit_drop_total",
        "node_network_transmit_fifo_total", "node_network_transmit_colls_total",
        "node_network_transmit_carrier_total", "node_network_transmit_compressed_total"]),
    still(3, &[NETWORK], &["node_network_up", "node_network_carrier",
        "node_network_carrier_changes_total"]),
    still(1_000, &[NETWORK], &["node_network_address_assign_type", "node_network_device_id",
        "node_network_dormant", "node_network_flags", "node_network_iface_id",
        "node_network_iface_link", "node_network_iface_link_mode",
        "node_network_name_assign_type", "node_network_net_dev_group",
        "node_network_protocol_type"]),
    still(9_000, &[NETWORK], &["node_network_mtu_bytes", "node_network_transmit_queue_length"]),
    still(1_250_000_000, &[NETWORK], &["node_network_speed_bytes"]),
    families(&["node_memory_MemFree_bytes", "node_memory_MemAvailable_bytes",
        "node_memory_Cached_bytes", "node_memory_Active_bytes", "node_memory_Inactive_bytes",
        "node_memory_Active_anon_bytes", "node_memory_Active_file_bytes",
        "node_memory_Inactive_file_bytes", "node_memory_AnonPages_bytes",
        "node_memory_Committed_AS_bytes"], &[], 1, gauge(9_000_000_000, 4_000, 4_096, 0)),
    families(&["node_memory_Dirty_bytes", "node_memory_Buffers_bytes", "node_memory_Mapped_bytes",
        "node_memory_Slab_bytes", "node_memory_SReclaimable_bytes", "node_memory_PageTables_bytes"],
        &[], 1, gauge(120_000_000, 60, 4_096, 0)),
    still(33_000_000_000, &[], &["node_memory_MemTotal_bytes", "node_memory_CommitLimit_bytes",
        "node_memory_DirectMap1G_bytes", "node_memory_DirectMap2M_bytes",
        "node_memory_DirectMap4k_bytes", "node_memory_Hugepagesize_bytes",
        "node_memory_KernelStack_bytes", "node_memory_Mlocked_bytes", "node_memory_Percpu_bytes",
        "node_memory_Shmem_bytes", "node_memory_SUnreclaim_bytes", "node_memory_Unevictable_bytes",
        "node_memory_VmallocTotal_bytes", "node_memory_VmallocUsed_bytes"]),
    still(0, &[], &["node_memory_AnonHugePages_bytes", "node_memory_Bounce_bytes",
        "node_memory_HardwareCorrupted_bytes", "node_memory_HugePages_Free",
        "node_memory_HugePages_Rsvd", "node_memory_HugePages_Surp", "node_memory_HugePages_Total",
        "node_memory_NFS_Unstable_bytes", "node_memory_SwapCached_bytes",
        "node_memory_SwapFree_bytes", "node_memory_SwapTotal_bytes",
        "node_memory_WritebackTmp_bytes", "node_memory_Writeback_bytes"]),
    families(&["node_vmstat_pgfault", "node_vmstat_pgpgout"], &[], 1, counter(52_000, 0, 100)),
    families(&["node_vmstat_pgmajfault", "node_vmstat_pgpgin"], &[], 1, counter(11, 0, 30)),
    still(40, &[], &["node_vmstat_oom_kill", "node_vmstat_pswpin", "node_vmstat_pswpout"]),
    families(&["node_netstat_IpExt_InOctets", "node_netstat_IpExt_OutOctets"], &[], 1,
        counter(2_300_000, 0, 100)),
    families(&["node_netstat_Tcp_InSegs", "node_netstat_Tcp_OutSegs"], &[], 1,
        counter(5_100, 0, 100)),
    families(&["node_netstat_Tcp_ActiveOpens", "node_netstat_Tcp_PassiveOpens",
        "node_netstat_Udp_InDatagrams", "node_netstat_Udp_OutDatagrams"], &[], 1,
        counter(23, 0, 95)),
    families(&["node_netstat_Tcp_RetransSegs", "node_netstat_Tcp_OutRsts",
        "node_netstat_TcpExt_TCPTimeouts", "node_netstat_Icmp_InMsgs"], &[], 1, counter(2, 0, 15)),
    families(&["node_netstat_Tcp_CurrEstab"], &[], 1, gauge(140, 3, 1, 0)),
    still(900, &[], &["node_netstat_Icmp_InErrors", "node_netstat_Icmp_OutMsgs",
        "node_netstat_Icmp6_InErrors", "node_netstat_Icmp6_InMsgs", "node_netstat_Icmp6_OutMsgs",
        "node_netstat_Ip6_InOctets", "node_netstat_Ip6_OutOctets", "node_netstat_Ip_Forwarding",
        "node_netstat_TcpExt_ListenDrops", "node_netstat_TcpExt_ListenOverflows",
        "node_netstat_TcpExt_SyncookiesFailed", "node_netstat_TcpExt_SyncookiesRecv",
        "node_netstat_TcpExt_SyncookiesSent", "node_netstat_TcpExt_TCPSynRetrans",
        "node_netstat_Tcp_InErrs", "node_netstat_Udp_InErrors", "node_netstat_Udp_NoPorts",
        "node_netstat_Udp_RcvbufErrors", "node_netstat_Udp_SndbufErrors",
        "node_netstat_Udp6_InDatagrams", "node_netstat_Udp6_InErrors", "node_netstat_Udp6_NoPorts",
        "node_netstat_Udp6_OutDatagrams", "node_netstat_Udp6_RcvbufErrors",
        "node_netstat_Udp6_SndbufErrors", "node_netstat_UdpLite_InErrors"]),
    families(&["node_sockstat_TCP_alloc", "node_sockstat_TCP_inuse", "node_sockstat_TCP_tw",
        "node_sockstat_sockets_used"], &[], 1, gauge(190, 4, 1, 0)),
    still(20, &[], &["node_sockstat_FRAG_inuse", "node_sockstat_RAW_inuse",
        "node_sockstat_TCP_orphan", "node_sockstat_TCP_mem", "node_sockstat_TCP6_inuse",
        "node_sockstat_UDP_inuse", "node_sockstat_UDP_mem", "node_sockstat_UDPLITE_inuse"]),
    families(&["node_load1", "node_load5", "node_load15"], &[], 1, gauge(140, 9, 1, 2)),
    families(&["node_pressure_cpu_waiting_seconds_total", "node_pressure_io_waiting_seconds_total",
        "node_pressure_io_stalled_seconds_total"], &[], 1, counter(190_000, 6, 80)),
    still(4, &[], &["node_pressure_memory_stalled_seconds_total",
        "node_pressure_memory_waiting_seconds_total"]),
    families(&["node_scrape_collector_duration_seconds"], &[COLLECTOR], 20,
        gauge(480_000, 90_000, 1, 9)),
    still(1, &[COLLECTOR], &["node_scrape_collector_success"]),
    families(&["node_context_switches_total", "node_intr_total"], &[], 1, counter(61_000, 0, 100)),
    families(&["node_forks_total"], &[], 1, counter(55, 0, 100)),
    families(&["node_procs_running"], &[], 1, gauge(3, 2, 1, 0)),
    families(&["node_filefd_allocated"], &[], 1, gauge(3_200, 2, 32, 0)),
    families(&["node_time_seconds"], &[], 1, Behaviour::Clock),
    families(&["node_timex_offset_seconds", "node_timex_maxerror_seconds"], &[], 1,
        gauge(410_000, 30_000, 1, 9)),
    still(500, &[], &["node_procs_blocked", "node_filefd_maximum", "node_boot_time_seconds",
        "node_timex_estimated_error_seconds", "node_timex_loop_time_constant",
        "node_timex_pps_error_total", "node_timex_pps_frequency_hertz", "node_timex_status",
        "node_timex_sync_status", "node_timex_tai_offset_seconds", "node_timex_tick_seconds",
        "node_entropy_available_bits", "node_entropy_pool_size_bits", "node_arp_entries",
        "node_nf_conntrack_entries_limit", "node_textfile_scrape_error", "node_selinux_enabled",
        "node_time_zone_offset_seconds"]),
    families(&["node_hwmon_temp_celsius"], &[CHIP, SENSOR], 8, gauge(470, 2, 5, 1)),
    still(100, &[CHIP, SENSOR], &["node_hwmon_temp_crit_celsius"]),
    families(&["go_memstats_alloc_bytes", "go_memstats_heap_inuse_bytes"], &[], 1,
        gauge(3_400_000, 9_000, 8, 0)),
    families(&["go_memstats_mallocs_total", "go_memstats_frees_total"], &[], 1,
        counter(33_000, 0, 100)),
    families(&["process_cpu_seconds_total"], &[], 1, counter(4, 2, 90)),
    families(&["scrape_duration_seconds"], &[], 1, Behaviour::Float { scale: 0.02 }),
    still(9_000_000, &[], &["go_memstats_sys_bytes", "go_memstats_stack_inuse_bytes", "go_threads",
        "process_max_fds", "process_start_time_seconds", "process_virtual_memory_bytes",
        "scrape_samples_scraped", "up"]),
    still(1, &[], &["node_uname_info", "node_os_info", "node_os_version",
        "node_exporter_build_info", "node_time_clocksource_current_info", "go_info",
        "go_memstats_gc_sys_bytes", "go_memstats_mspan_sys_bytes",
        "process_virtual_memory_max_bytes", "promhttp_metric_handler_requests_in_flight"]),
];

/// Everything `devops` has of one host.
#[rustfmt::skip]
const DEVOPS: &[Families] = &[
    families(&["cpu_usage_user", "cpu_usage_system", "cpu_usage_idle", "cpu_usage_nice",
        "cpu_usage_iowait", "cpu_usage_irq", "cpu_usage_softirq", "cpu_usage_steal",
        "cpu_usage_guest", "cpu_usage_guest_nice"], &[], 1, gauge(50, 1, 1, 0)),
    families(&["diskio_reads", "diskio_writes", "diskio_read_bytes", "diskio_write_bytes",
        "diskio_read_time", "diskio_write_time", "diskio_io_time"], &[("serial", &["694-511-162"])],
        1, counter(50, 0, 100)),
    families(&["disk_free", "disk_used", "disk_inodes_free", "disk_inodes_used"],
        &[("path", &["/dev/sda1"]), ("fstype", &["ext4"])], 1, gauge(600_000_000, 500, 1_000, 0)),
    families(&["disk_used_percent"], &[("path", &["/dev/sda1"]), ("fstype", &["ext4"])], 1,
        gauge(50, 1, 1, 0)),
    still(1_099_511_627_776, &[("path", &["/dev/sda1"]), ("fstype", &["ext4"])],
        &["disk_total", "disk_inodes_total"]),
    still(2_000_000_000, &[], &["kernel_boot_time"]),
    families(&["kernel_interrupts", "kernel_context_switches", "kernel_processes_forked",
        "kernel_disk_pages_in", "kernel_disk_pages_out"], &[], 1, counter(5, 0, 100)),
    still(34_359_738_368, &[], &["mem_total"]),
    families(&["mem_available", "mem_used", "mem_free", "mem_cached", "mem_buffered"], &[], 1,
        gauge(17_000_000_000, 900_000, 64, 0)),
    families(&["mem_used_percent", "mem_available_percent", "mem_buffered_percent"], &[], 1,
        Behaviour::Float { scale: 50.0 }),
    families(&["net_bytes_sent", "net_bytes_recv", "net_packets_sent", "net_packets_recv",
        "net_err_in", "net_err_out", "net_drop_in", "net_drop_out"],
        &[("interface", &["eth0"])], 1, counter(50, 0, 100)),
    families(&["nginx_accepts", "nginx_handled", "nginx_requests"], &[("port", &["12552"])], 1,
        counter(5, 0, 100)),
    families(&["nginx_active", "nginx_waiting", "nginx_reading", "nginx_writing"],
        &[("port", &["12552"])], 1, gauge(50, 1, 1, 0)),
    families(&["postgresl_numbackends", "postgresl_xact_commit", "postgresl_xact_rollback",
        "postgresl_blks_read", "postgresl_blks_hit", "postgresl_tup_returned",
        "postgresl_tup_fetched", "postgresl_tup_inserted", "postgresl_tup_updated",
        "postgresl_tup_deleted", "postgresl_conflicts", "postgresl_temp_files",
        "postgresl_temp_bytes", "postgresl_deadlocks", "postgresl_blk_read_time",
        "postgresl_blk_write_time"], &[], 1, gauge(500, 5, 1, 0)),
    families(&["redis_uptime_in_seconds", "redis_total_connections_received",
        "redis_expired_keys", "redis_evicted_keys", "redis_keyspace_hits",
        "redis_keyspace_misses", "redis_instantaneous_ops_per_sec",
        "redis_instantaneous_input_kbps", "redis_instantaneous_output_kbps",
        "redis_connected_clients", "redis_used_memory", "redis_used_memory_rss",
        "redis_used_memory_peak", "redis_used_memory_lua", "redis_rdb_changes_since_last_save",
        "redis_sync_full", "redis_sync_partial_ok", "redis_sync_partial_err",
        "redis_pubsub_channels", "redis_pubsub_patterns", "redis_latest_fork_usec",
        "redis_connected_slaves", "redis_master_repl_offset", "redis_repl_backlog_active",
        "redis_repl_backlog_size", "redis_repl_backlog_histlen", "redis_mem_fragmentation_ratio",
        "redis_used_cpu_sys", "redis_used_cpu_user", "redis_used_cpu_sys_children"],
        &[("port", &["6379"])], 1, counter(50, 0, 100)),
];

/// Which table the hosts follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fleet {
    /// Node Exporter's families, most of which hold still
    Node,
    /// Like TSBS' use case devops: ten tags, everything moves
    Devops,
}

impl Fleet {
    /// Everything one host exposes.
    pub(crate) fn families(self) -> &'static [Families] {
        match self {
            Fleet::Node => NODE,
            Fleet::Devops => DEVOPS,
        }
    }

    /// Series one host exposes. 16 hosts of `Node` are 10,000 series.
    pub(crate) fn series_per_host(self) -> usize {
        match self {
            Fleet::Node => 625,
            Fleet::Devops => 100,
        }
    }

    /// The family that every host has once.
    pub(crate) fn one_per_host(self) -> &'static str {
        match self {
            Fleet::Node => "node_load1",
            Fleet::Devops => "cpu_usage_user",
        }
    }

    /// The family of which samples are counted after a crash.
    pub(crate) fn counted(self) -> &'static str {
        match self {
            Fleet::Node => "node_cpu_seconds_total",
            Fleet::Devops => "redis_keyspace_hits",
        }
    }

    /// Labels that all series of a host have; it was replaced by a new one so many times.
    pub(crate) fn host_labels(self, host: usize, replaced: usize) -> Vec<(&'static str, String)> {
        // Like the names of pods, which end in something new.
        let life = if replaced == 0 { String::new() } else { format!("-{replaced:x}") };
        match self {
            Fleet::Node => vec![
                ("instance", format!("host-{host:05}{life}.example.com:9100")),
                ("job", "node".to_owned()),
            ],
            Fleet::Devops => {
                let region = DEVOPS_REGIONS[host % DEVOPS_REGIONS.len()];
                vec![
                    ("hostname", format!("host_{host}{life}")),
                    ("region", region.to_owned()),
                    ("datacenter", format!("{region}{}", ["a", "b", "c"][host / 9 % 3])),
                    ("rack", (host * 7 % 100).to_string()),
                    ("os", ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"][host % 3].to_owned()),
                    ("arch", ["x64", "x86"][host / 3 % 2].to_owned()),
                    ("team", ["SF", "NYC", "LON", "CHI"][host / 5 % 4].to_owned()),
                    ("service", (host * 3 % 20).to_string()),
                    ("service_version", (host % 2).to_string()),
                    (
                        "service_environment",
                        ["production", "staging", "test"][host / 2 % 3].to_owned(),
                    ),
                ]
            }
        }
    }
}

const DEVOPS_REGIONS: [&str; 9] = [
    "ap-northeast-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "eu-central-1",
    "eu-west-1",
    "sa-east-1",
    "us-east-1",
    "us-west-1",
    "us-west-2",
];

impl Families {
    /// Combinations of label values, each with the names and values of the labels.
    pub(crate) fn combinations(&self) -> Vec<Vec<(&'static str, &'static str)>> {
        let mut combinations = vec![Vec::new()];
        for (name, values) in self.labels {
            combinations = combinations
                .iter()
                .flat_map(|before| {
                    values.iter().map(move |value| {
                        let mut labels = before.clone();
                        labels.push((*name, *value));
                        labels
                    })
                })
                .collect();
        }
        combinations
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_host_has_the_stated_series() {
        for fleet in [Fleet::Node, Fleet::Devops] {
            let still = still_percent(fleet);
            let wanted = if fleet == Fleet::Node { 66..=74 } else { 0..=5 };
            assert!(wanted.contains(&still), "{still} % of {fleet:?} hold still");
        }
    }

    fn still_percent(fleet: Fleet) -> usize {
        let (mut series, mut moving) = (HashSet::new(), 0);
        for families in fleet.families() {
            let combinations = families.combinations();
            assert!(families.moving <= combinations.len(), "{:?}", families.names);
            for name in families.names {
                moving += families.moving;
                for labels in &combinations {
                    assert!(series.insert((*name, labels.clone())), "{name} {labels:?} twice");
                }
            }
        }
        assert_eq!(series.len(), fleet.series_per_host(), "{moving} move");
        100 - moving * 100 / series.len()
    }
}
