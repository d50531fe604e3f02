//! Which collectors there are, which run by default, and what is left out.

use crate::collector::Collector;
use crate::config::AgentConfig;
use crate::survey::Survey;

/// What is known about a collector before it runs.
#[derive(Debug)]
pub struct CollectorInfo {
    /// The value of the label `collector`, and its name in the configuration.
    pub name: &'static str,
    /// Whether it runs unless the configuration disables it.
    pub by_default: bool,
    /// Where its data comes from; paths below the configured roots.
    pub source: &'static str,
    /// The metrics it yields.
    pub metrics: &'static str,
    make: fn(&AgentConfig) -> Made,
}

/// A collector that was made, in one of two kinds.
pub(crate) enum Made {
    /// Runs in every pass.
    InPass(Box<dyn Collector>),
    /// Runs on its own thread.
    Survey(Box<dyn Survey>),
}

/// Makes a collector for the host in `config`.
pub(crate) fn make(info: &CollectorInfo, config: &AgentConfig) -> Made {
    (info.make)(config)
}

/// A collector of Node Exporter, or a part of one, that this agent does not have.
#[derive(Debug)]
pub struct LeftOut {
    /// Its name there.
    pub name: &'static str,
    /// The prefixes of the metrics that are missing.
    pub metrics: &'static [&'static str],
    /// Why it is missing, and what to do instead.
    pub why: &'static str,
}

macro_rules! collectors {
    ($($name:literal $default:ident $made:ident($type:ident::$new:ident) $source:literal $metrics:literal;)+) => {
        &[$(CollectorInfo {
            name: $name,
            by_default: collectors!(@$default),
            source: $source,
            metrics: $metrics,
            make: |config| Made::$made(Box::new(super::$type::$new::new(config))),
        },)+]
    };
    (@on) => { true };
    (@off) => { false };
}

/// Every collector, in the order in which a pass runs them.
pub const COLLECTORS: &[CollectorInfo] = collectors![
    "cpu" on InPass(cpu::Cpu)
        "/proc/stat, /sys/devices/system/cpu"
        "node_cpu_seconds_total and other node_cpu_*";
    "stat" on InPass(stat::Stat)
        "/proc/stat"
        "node_boot_time_seconds, node_context_switches_total, node_forks_total, node_intr_total, node_procs_*, node_softirqs_total";
    "meminfo" on InPass(meminfo::Meminfo)
        "/proc/meminfo"
        "node_memory_*";
    "loadavg" on InPass(loadavg::Loadavg)
        "/proc/loadavg"
        "node_load1, node_load5, node_load15";
    "pressure" on InPass(pressure::Pressure)
        "/proc/pressure"
        "node_pressure_*";
    "vmstat" on InPass(vmstat::Vmstat)
        "/proc/vmstat"
        "node_vmstat_*";
    "diskstats" on InPass(diskstats::Diskstats)
        "/proc/diskstats, udev"
        "node_disk_*";
    "netdev" on InPass(netdev::Netdev)
        "/proc/net/dev"
        "node_network_receive_*, node_network_transmit_*";
    "netstat" on InPass(netstat::Netstat)
        "/proc/net/netstat, snmp, snmp6"
        "node_netstat_*";
    "sockstat" on InPass(sockstat::Sockstat)
        "/proc/net/sockstat, sockstat6"
        "node_sockstat_*";
    "softnet" on InPass(softnet::Softnet)
        "/proc/net/softnet_stat"
        "node_softnet_*";
    "arp" on Survey(arp::Arp)
        "/proc/net/arp"
        "node_arp_entries";
    "udp_queues" on InPass(udp_queues::UdpQueues)
        "/proc/net/udp, udp6"
        "node_udp_queues";
    "schedstat" on InPass(schedstat::Schedstat)
        "/proc/schedstat"
        "node_schedstat_*";
    "conntrack" on InPass(conntrack::Conntrack)
        "/proc/sys/net/netfilter, /proc/net/stat/nf_conntrack"
        "node_nf_conntrack_*";
    "filefd" on InPass(filefd::Filefd)
        "/proc/sys/fs/file-nr"
        "node_filefd_*";
    "entropy" on InPass(entropy::Entropy)
        "/proc/sys/kernel/random"
        "node_entropy_*";
    "time" on InPass(time::Time)
        "clock, /sys/devices/system/clocksource"
        "node_time_*";
    "timex" on InPass(timex::Timex)
        "adjtimex(2)"
        "node_timex_*";
    "uname" on InPass(uname::Uname)
        "uname(2)"
        "node_uname_info";
    "os" on InPass(os::Os)
        "/etc/os-release"
        "node_os_*";
    "filesystem" on InPass(filesystem::Filesystem)
        "/proc/1/mountinfo, statvfs(3)"
        "node_filesystem_*";
    "processes" on InPass(processes::Processes)
        "/proc/<pid>/stat"
        "node_processes_*, node_top_process_*";
    "cpufreq" on Survey(cpufreq::Cpufreq)
        "/sys/devices/system/cpu/cpu*/cpufreq"
        "node_cpu_frequency_*, node_cpu_scaling_*";
    "netclass" on Survey(netclass::Netclass)
        "/sys/class/net"
        "node_network_up, node_network_info and other properties";
    "hwmon" on Survey(hwmon::Hwmon)
        "/sys/class/hwmon"
        "node_hwmon_*";
    "thermal_zone" on Survey(thermal_zone::ThermalZone)
        "/sys/class/thermal"
        "node_thermal_zone_temp, node_cooling_device_*";
    "mdadm" on Survey(mdadm::Mdadm)
        "/proc/mdstat, /sys/block/md*"
        "node_md_*";
    "nvme" on Survey(nvme::Nvme)
        "/sys/class/nvme"
        "node_nvme_*";
    "powersupplyclass" on Survey(powersupplyclass::Powersupplyclass)
        "/sys/class/power_supply"
        "node_power_supply_*";
    "rapl" on Survey(rapl::Rapl)
        "/sys/class/powercap"
        "node_rapl_*";
    "edac" on Survey(edac::Edac)
        "/sys/devices/system/edac/mc"
        "node_edac_*";
    "bonding" on Survey(bonding::Bonding)
        "/sys/class/net/*/bonding"
        "node_bonding_*";
    "infiniband" on Survey(infiniband::Infiniband)
        "/sys/class/infiniband"
        "node_infiniband_*";
    "fibrechannel" on Survey(fibrechannel::Fibrechannel)
        "/sys/class/fc_host"
        "node_fibrechannel_*";
    "tapestats" on Survey(tapestats::Tapestats)
        "/sys/class/scsi_tape"
        "node_tape_*";
    "watchdog" on Survey(watchdog::Watchdog)
        "/sys/class/watchdog"
        "node_watchdog_*";
    "dmi" on Survey(dmi::Dmi)
        "/sys/class/dmi/id"
        "node_dmi_info";
    "dmmultipath" on Survey(dmmultipath::Dmmultipath)
        "/sys/block/dm-*"
        "node_dmmultipath_*";
    "selinux" on Survey(selinux::Selinux)
        "/sys/fs/selinux"
        "node_selinux_*";
    "kernel_hung" on Survey(kernel_hung::KernelHung)
        "/proc/sys/kernel/hung_task_detect_count"
        "node_kernel_hung_tasks_total";
    "ipvs" on Survey(ipvs::Ipvs)
        "/proc/net/ip_vs, ip_vs_stats"
        "node_ipvs_*";
    "nfs" on Survey(nfs::Nfs)
        "/proc/net/rpc/nfs"
        "node_nfs_*";
    "nfsd" on Survey(nfsd::Nfsd)
        "/proc/net/rpc/nfsd"
        "node_nfsd_*";
    "xfs" on Survey(xfs::Xfs)
        "/sys/fs/xfs"
        "node_xfs_*";
    "btrfs" on Survey(btrfs::Btrfs)
        "/sys/fs/btrfs"
        "node_btrfs_*";
    "bcache" on Survey(bcache::Bcache)
        "/sys/fs/bcache"
        "node_bcache_*";
    "bcachefs" on Survey(bcachefs::Bcachefs)
        "/sys/fs/bcachefs"
        "node_bcachefs_*";
    "zfs" on Survey(zfs::Zfs)
        "/proc/spl/kstat/zfs"
        "node_zfs_*";
    "textfile" on Survey(textfile::Textfile)
        "files *.prom"
        "node_textfile_* and what the files hold";
    "interrupts" off Survey(interrupts::Interrupts)
        "/proc/interrupts"
        "node_interrupts_total";
    "softirqs" off Survey(softirqs::Softirqs)
        "/proc/softirqs"
        "node_softirqs_functions_total";
    "buddyinfo" off Survey(buddyinfo::Buddyinfo)
        "/proc/buddyinfo"
        "node_buddyinfo_blocks";
    "zoneinfo" off Survey(zoneinfo::Zoneinfo)
        "/proc/zoneinfo"
        "node_zoneinfo_*";
    "slabinfo" off Survey(slabinfo::Slabinfo)
        "/proc/slabinfo"
        "node_slabinfo_*";
    "meminfo_numa" off Survey(meminfo_numa::MeminfoNuma)
        "/sys/devices/system/node"
        "node_memory_numa_*";
    "ksmd" off Survey(ksmd::Ksmd)
        "/sys/kernel/mm/ksm"
        "node_ksmd_*";
    "cgroups" off Survey(cgroups::Cgroups)
        "/proc/cgroups"
        "node_cgroups_*";
    "cpu_info" off Survey(cpu_info::CpuInfo)
        "/proc/cpuinfo"
        "node_cpu_info, node_cpu_flag_info, node_cpu_bug_info, node_cpu_frequency_hertz";
    "cpu_vulnerabilities" off Survey(cpu_vulnerabilities::CpuVulnerabilities)
        "/sys/devices/system/cpu/vulnerabilities"
        "node_cpu_vulnerabilities_info";
    "sysctl" off Survey(sysctl::Sysctl)
        "/proc/sys"
        "node_sysctl_*";
    "lnstat" off Survey(lnstat::Lnstat)
        "/proc/net/stat"
        "node_lnstat_*";
    "xfrm" off Survey(xfrm::Xfrm)
        "/proc/net/xfrm_stat"
        "node_xfrm_*";
    "mountstats" off Survey(mountstats::Mountstats)
        "/proc/self/mountstats"
        "node_mountstats_nfs_*";
    "pcidevice" off Survey(pcidevice::Pcidevice)
        "/sys/bus/pci/devices, pci.ids"
        "node_pcidevice_*";
    "tcpstat" off Survey(tcpstat::Tcpstat)
        "netlink, SOCK_DIAG"
        "node_tcp_connection_states";
    "qdisc" off Survey(qdisc::Qdisc)
        "netlink, ROUTE"
        "node_qdisc_*";
    "network_route" off Survey(network_route::NetworkRoute)
        "netlink, ROUTE"
        "node_network_route_info, node_network_routes";
    "systemd" off Survey(systemd::Systemd)
        "D-Bus, org.freedesktop.systemd1"
        "node_systemd_*";
    "logind" off Survey(logind::Logind)
        "D-Bus, org.freedesktop.login1"
        "node_logind_sessions";
    "container" off Survey(container::Container)
        "/sys/fs/cgroup"
        "container_*, with cAdvisor's names";
    "process_group" off Survey(process_group::ProcessGroup)
        "/proc/<pid>/stat, io"
        "namedprocess_namegroup_*, with process-exporter's names";
    "drbd" off Survey(drbd::Drbd)
        "/proc/drbd"
        "node_drbd_*";
];

/// What Node Exporter has and this agent has not.
pub const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        name: "ethtool",
        metrics: &[
            "node_ethtool_",
            "node_network_asymmetricpause_",
            "node_network_autonegotiate",
            "node_network_pause_",
            "node_network_port_",
            "node_network_supported_",
            "node_network_advertised_",
        ],
        why: "the counters of a driver come only from an ioctl on memory the caller lays out, \
              which no safe interface offers; the common ones are in netdev and netclass",
    },
    LeftOut {
        name: "perf",
        metrics: &["node_perf_"],
        why: "perf_event_open has no safe interface; the processes and vmstat collectors count \
              context switches and page faults",
    },
    LeftOut {
        name: "wifi",
        metrics: &["node_wifi_"],
        why: "servers have no wireless stations; node_network_* covers the traffic",
    },
    LeftOut {
        name: "processes, states of threads",
        metrics: &["node_processes_threads_state"],
        why: "it costs one file for each thread of the host; node_processes_threads counts them",
    },
    LeftOut {
        name: "btrfs, what only an ioctl tells",
        metrics: &["node_btrfs_device_unused_bytes", "node_btrfs_device_errors_total"],
        why: "they come only from an ioctl, for which there is no safe interface",
    },
    LeftOut {
        name: "ntp",
        metrics: &["node_ntp_"],
        why: "Node Exporter deprecates it; timex says how well the clock is disciplined",
    },
    LeftOut {
        name: "runit",
        metrics: &["node_service_"],
        why: "Node Exporter deprecates it; the textfile collector takes the output of sv",
    },
    LeftOut {
        name: "supervisord",
        metrics: &["node_supervisord_"],
        why: "Node Exporter deprecates it; supervisord has exporters of its own to scrape",
    },
];

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use super::*;

    /// The part of the documentation about collectors, as the tables here have it.
    fn tables() -> [(&'static str, String); 2] {
        let config = AgentConfig::default();
        let mut collectors =
            "| collector | default | read | from | metrics |\n|---|---|---|---|---|\n".to_owned();
        for info in COLLECTORS {
            let read = match make(info, &config) {
                Made::InPass(_) => "each pass".to_owned(),
                Made::Survey(survey) => format!("every {} s", survey.period().as_secs()),
            };
            let default = if info.by_default { "on" } else { "off" };
            let CollectorInfo { name, source, .. } = info;
            // Or the stars would make the text between them stand slanted.
            let (source, metrics) = (source.replace('*', r"\*"), info.metrics.replace('*', r"\*"));
            writeln!(collectors, "| `{name}` | {default} | {read} | {source} | {metrics} |")
                .expect("a string takes every text");
        }
        let mut left_out = "| part | metrics | why |\n|---|---|---|\n".to_owned();
        for LeftOut { name, metrics, why } in LEFT_OUT {
            let metrics: Vec<_> = metrics.iter().map(|metric| format!("`{metric}*`")).collect();
            writeln!(left_out, "| {name} | {} | {why} |", metrics.join(", "))
                .expect("a string takes every text");
        }
        [("collectors", collectors), ("left out", left_out)]
    }

    #[test]
    fn each_is_named_as_it_names_itself() {
        let config = AgentConfig::default();
        for info in COLLECTORS {
            let name = match make(info, &config) {
                Made::InPass(collector) => collector.name(),
                Made::Survey(survey) => survey.name(),
            };
            assert_eq!(name, info.name);
        }
    }

    /// `UPDATE_EXPECT=1` writes the tables into the documentation.
    #[test]
    fn the_documentation_has_the_tables() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating/collectors.md");
        let mut text = std::fs::read_to_string(&path).expect("documentation");
        for (name, table) in tables() {
            let start = format!("<!-- {name} -->\n");
            let from = text.find(&start).expect("its place is marked") + start.len();
            let to = from + text[from..].find("<!-- end -->").expect("its end is marked");
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                text.replace_range(from..to, &table);
            } else {
                assert_eq!(&text[from..to], table, "UPDATE_EXPECT=1 renews it");
            }
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, text).expect("write");
        }
    }
}
