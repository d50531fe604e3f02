//! One collector per file, named as in Node Exporter.

mod arp;
mod conntrack;
mod cpu;
mod cpufreq;
mod disk_info;
mod diskstats;
mod entropy;
mod filefd;
mod filesystem;
mod loadavg;
mod meminfo;
mod mounts;
mod netclass;
mod netdev;
mod netstat;
mod os;
mod pressure;
mod processes;
mod schedstat;
mod sockstat;
mod softnet;
mod stat;
mod statvfs_prober;
mod time;
mod timezone;
mod udp_queues;
mod uname;
mod vmstat;

pub(crate) use diskstats::is_excluded_disk;
pub(crate) use mounts::parse_mounts;
pub(crate) use netdev::split_device;

use crate::collector::Collector;
use crate::config::AgentConfig;

/// Every collector, in the order in which a pass runs them.
pub(crate) fn all(config: &AgentConfig) -> Vec<Box<dyn Collector>> {
    vec![
        Box::new(cpu::Cpu::new(config)),
        Box::new(stat::Stat::new()),
        Box::new(meminfo::Meminfo::new(config)),
        Box::new(loadavg::Loadavg::new(config)),
        Box::new(pressure::Pressure::new(config)),
        Box::new(vmstat::Vmstat::new(config)),
        Box::new(diskstats::Diskstats::new(config)),
        Box::new(netdev::Netdev::new(config)),
        Box::new(netstat::Netstat::new(config)),
        Box::new(sockstat::Sockstat::new(config)),
        Box::new(softnet::Softnet::new(config)),
        Box::new(arp::Arp::new(config)),
        Box::new(udp_queues::UdpQueues::new(config)),
        Box::new(schedstat::Schedstat::new(config)),
        Box::new(conntrack::Conntrack::new(config)),
        Box::new(filefd::Filefd::new(config)),
        Box::new(entropy::Entropy::new(config)),
        Box::new(time::Time::new(config)),
        Box::new(uname::Uname::new()),
        Box::new(os::Os::new(config)),
        Box::new(cpufreq::Cpufreq::new(config)),
        Box::new(netclass::Netclass::new(config)),
        Box::new(filesystem::Filesystem::new(config)),
        Box::new(processes::Processes::new(config)),
    ]
}
