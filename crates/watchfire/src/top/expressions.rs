//! What `top` asks, in PromQL over Node Exporter's metrics, so that any Prometheus can answer.
//!
//! Many small questions travel as one: each gets a label [`OF`] with its name, and `or` joins
//! them. One round trip then shows one moment, which also matters over a slow line.
//!
//! Two Prometheus that collect the same host write two of each of its series, which differ in
//! labels of their own. Every question therefore names the labels that tell a host's series
//! apart, and series alike in them are averaged, never added.

use super::fleet::{HostKey, Vital};

/// The label that tells which question a series answers.
pub(crate) const OF: &str = "watchfire_top";

/// How far back a rate looks for its two newest samples: twice the slowest interval in common
/// use. A host collected each second still shows its last second.
const WINDOW: &str = "2m";
/// Mounts that are always full or always empty and say nothing about a disk.
const PSEUDO_FILESYSTEMS: &str =
    "tmpfs|ramfs|devtmpfs|overlay|squashfs|iso9660|erofs|nsfs|fuse.*|autofs";
/// Devices that carry the same packets as the physical one, or none that leave the host.
const VIRTUAL_DEVICES: &str =
    "lo|veth.*|docker.*|br-.*|virbr.*|cni.*|flannel.*|cali.*|ifb.*|dummy.*|tun.*|tap.*";
/// Block devices that lie on others, and whose bytes would be counted twice.
const STACKED_DISKS: &str = "dm-.*|md.*|loop.*|ram.*|sr.*|zram.*";

/// Every vital of every host, and when each was last heard.
pub(crate) fn fleet() -> String {
    let per_host: Vec<(&str, String)> =
        Vital::ALL.iter().map(|vital| (vital.name(), vital_expression(*vital))).collect();
    union(&per_host)
}

/// The time of the newest sample of every host heard of within the hour.
pub(crate) fn heard_within_the_hour() -> String {
    "max by (instance, job) (max_over_time(timestamp(node_load1)[1h:30s]))".to_owned()
}

/// CPU of every host, for its history.
pub(crate) fn fleet_history() -> String {
    vital_expression(Vital::Cpu)
}

fn vital_expression(vital: Vital) -> String {
    let sum = |metric: &str, without: &str| {
        format!(
            "sum by (instance, job) (avg by (instance, job, device) \
             (irate({metric}{{device!~\"{without}\"}}[{WINDOW}])))"
        )
    };
    let gauge = |metric: &str| format!("max by (instance, job) ({metric})");
    let waiting = |what: &str| {
        format!(
            "max by (instance, job) (irate(node_pressure_{what}_waiting_seconds_total[{WINDOW}]))"
        )
    };
    match vital {
        Vital::Heard => gauge("timestamp(node_load1)"),
        Vital::PerMinute => gauge("count_over_time(node_load1[1m])"),
        Vital::Cpu => format!(
            "1 - avg by (instance, job) (irate(node_cpu_seconds_total{{mode=\"idle\"}}[{WINDOW}]))"
        ),
        Vital::Memory => gauge("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"),
        Vital::Load => gauge("node_load1"),
        Vital::NetworkIn => sum("node_network_receive_bytes_total", VIRTUAL_DEVICES),
        Vital::NetworkOut => sum("node_network_transmit_bytes_total", VIRTUAL_DEVICES),
        Vital::DiskRead => sum("node_disk_read_bytes_total", STACKED_DISKS),
        Vital::DiskWrite => sum("node_disk_written_bytes_total", STACKED_DISKS),
        // Like df: of what users may fill, without the blocks kept back for root.
        Vital::Filesystem => {
            let used = format!(
                "(node_filesystem_size_bytes{{fstype!~\"{PSEUDO_FILESYSTEMS}\"}} \
                 - node_filesystem_free_bytes)"
            );
            gauge(&format!("{used} / ({used} + node_filesystem_avail_bytes > 0)"))
        }
        Vital::PressureCpu => waiting("cpu"),
        Vital::PressureMemory => waiting("memory"),
        Vital::PressureIo => waiting("io"),
    }
}

/// Everything the page of one host shows of this moment.
pub(crate) fn host(key: &HostKey) -> String {
    let is = matchers(key);
    let irate = |metric: &str, more: &str| format!("irate({metric}{{{is}{more}}}[{WINDOW}])");
    let by = |label: &str, metric: &str, without: &str| {
        let more = format!(",device!~\"{without}\"");
        format!("avg by ({label}) ({})", irate(metric, &more))
    };
    let filesystem = |what: &str| {
        format!(
            "max by (mountpoint) (node_filesystem_{what}_bytes{{{is},fstype!~\"{PSEUDO_FILESYSTEMS}\"}})"
        )
    };
    let gauge = |metric: &str| format!("avg({metric}{{{is}}})");
    let process = |metric: &str| format!("avg by (pid, name) ({metric}{{{is}}})");
    let pressure = |what: &str| {
        format!("avg({})", irate(&format!("node_pressure_{what}_waiting_seconds_total"), ""))
    };
    union(&[
        (
            "cpu",
            format!("1 - avg by (cpu) ({})", irate("node_cpu_seconds_total", ",mode=\"idle\"")),
        ),
        ("mode", format!("avg by (mode) ({})", irate("node_cpu_seconds_total", ""))),
        ("memory_total", gauge("node_memory_MemTotal_bytes")),
        ("memory_available", gauge("node_memory_MemAvailable_bytes")),
        ("memory_free", gauge("node_memory_MemFree_bytes")),
        ("memory_cached", gauge("node_memory_Cached_bytes")),
        ("swap_total", gauge("node_memory_SwapTotal_bytes")),
        ("swap_free", gauge("node_memory_SwapFree_bytes")),
        ("load1", gauge("node_load1")),
        ("load5", gauge("node_load5")),
        ("load15", gauge("node_load15")),
        ("uptime", format!("time() - {}", gauge("node_boot_time_seconds"))),
        ("uname", format!("group by (sysname, release) (node_uname_info{{{is}}})")),
        ("pressure_cpu", pressure("cpu")),
        ("pressure_memory", pressure("memory")),
        ("pressure_io", pressure("io")),
        ("network_in", by("device", "node_network_receive_bytes_total", VIRTUAL_DEVICES)),
        ("network_out", by("device", "node_network_transmit_bytes_total", VIRTUAL_DEVICES)),
        ("disk_read", by("device", "node_disk_read_bytes_total", STACKED_DISKS)),
        ("disk_write", by("device", "node_disk_written_bytes_total", STACKED_DISKS)),
        ("disk_busy", by("device", "node_disk_io_time_seconds_total", STACKED_DISKS)),
        ("filesystem_size", filesystem("size")),
        ("filesystem_free", filesystem("free")),
        ("filesystem_available", filesystem("avail")),
        ("process_cpu", process("node_top_process_cpu_ratio")),
        ("process_memory", process("node_top_process_resident_bytes")),
    ])
}

/// What the page of one host draws over the last minutes.
pub(crate) fn host_history(key: &HostKey) -> String {
    let is = matchers(key);
    let sum = |metric: &str, without: &str| {
        format!("sum(avg by (device) (irate({metric}{{{is},device!~\"{without}\"}}[{WINDOW}])))")
    };
    union(&[
        ("cpu", format!("1 - avg(irate(node_cpu_seconds_total{{{is},mode=\"idle\"}}[{WINDOW}]))")),
        (
            "memory",
            format!(
                "1 - max(node_memory_MemAvailable_bytes{{{is}}}) \
                 / max(node_memory_MemTotal_bytes{{{is}}})"
            ),
        ),
        ("network_in", sum("node_network_receive_bytes_total", VIRTUAL_DEVICES)),
        ("network_out", sum("node_network_transmit_bytes_total", VIRTUAL_DEVICES)),
        ("disk_read", sum("node_disk_read_bytes_total", STACKED_DISKS)),
        ("disk_write", sum("node_disk_written_bytes_total", STACKED_DISKS)),
    ])
}

fn matchers(key: &HostKey) -> String {
    format!("instance={},job={}", quoted(&key.instance), quoted(&key.job))
}

/// A string literal of PromQL.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn union(questions: &[(&str, String)]) -> String {
    let named: Vec<String> = questions
        .iter()
        .map(|(name, expression)| {
            // An empty source label matches the empty regex everywhere, so every series gets it.
            format!("label_replace({expression}, \"{OF}\", \"{name}\", \"\", \"\")")
        })
        .collect();
    named.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_promql() {
        let key = HostKey { instance: "a\"b\\c\nd".to_owned(), job: String::new() };
        for expression in
            [fleet(), fleet_history(), heard_within_the_hour(), host(&key), host_history(&key)]
        {
            promql::parse(&expression).unwrap_or_else(|error| panic!("{error:?}: {expression}"));
        }
    }
}
