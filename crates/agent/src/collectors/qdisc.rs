//! Queueing disciplines of network devices. Source: `tc(8)`, Linux `net/sched/sch_api.c`.

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::netlink::{Netlink, attribute, u32_at, u64_at};
use crate::pattern::NameFilter;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;

const BYTES: Family = Family::counter("node_qdisc_bytes_total", "Number of bytes sent.");
const PACKETS: Family = Family::counter("node_qdisc_packets_total", "Number of packets sent.");
const DROPS: Family = Family::counter("node_qdisc_drops_total", "Number of packets dropped.");
const REQUEUES: Family = Family::counter(
    "node_qdisc_requeues_total",
    "Number of packets dequeued, not transmitted, and requeued.",
);
const OVERLIMITS: Family =
    Family::counter("node_qdisc_overlimits_total", "Number of overlimit packets.");
const QUEUE_LENGTH: Family = Family::gauge(
    "node_qdisc_current_queue_length",
    "Number of packets currently in queue to be sent.",
);
const BACKLOG: Family =
    Family::gauge("node_qdisc_backlog", "Number of bytes currently in queue to be sent.");

const RTM_GETQDISC: u16 = 38;
/// Bytes of `struct tcmsg`, which precedes the attributes.
const HEADER_BYTES: usize = 20;
const INDEX_AT: usize = 4;
const PARENT_AT: usize = 12;

/// What stands for a parent at the root of a device.
const TC_H_ROOT: u32 = u32::MAX;

// Attributes, from `linux/rtnetlink.h` and `linux/gen_stats.h`.
const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;

/// `node_qdisc_*` of the disciplines at the roots of devices.
pub(crate) struct Qdisc {
    filter: NameFilter,
}

impl Qdisc {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.qdisc;
        Qdisc { filter: NameFilter::new(&settings.device_include, &settings.device_exclude) }
    }
}

impl Survey for Qdisc {
    fn name(&self) -> &'static str {
        "qdisc"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let mut netlink = Netlink::route()?;
        let mut disciplines = Vec::new();
        netlink.dump(RTM_GETQDISC, &[0; HEADER_BYTES], |message| {
            disciplines.extend(Discipline::parse(message));
        })?;
        for discipline in &disciplines {
            let device = netlink.device_name(discipline.device);
            if let Some(device) = device.filter(|device| self.filter.takes(device)) {
                discipline.put(&device, out);
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default, PartialEq)]
struct Discipline {
    device: u32,
    kind: String,
    bytes: u64,
    packets: u32,
    queue_length: u32,
    backlog: u32,
    drops: u32,
    requeues: u32,
    overlimits: u32,
}

impl Discipline {
    /// `None` for what is not at the root of a device and for what is cut short.
    fn parse(message: &[u8]) -> Option<Self> {
        let device = u32_at(message, INDEX_AT)?;
        if !matches!(u32_at(message, PARENT_AT)?, 0 | TC_H_ROOT) {
            return None;
        }
        let attributes = message.get(HEADER_BYTES..)?;
        let kind = attribute(attributes, TCA_KIND)?;
        let kind = String::from_utf8_lossy(kind.strip_suffix(b"\0").unwrap_or(kind)).into_owned();
        let statistics = attribute(attributes, TCA_STATS2)?;
        let basic = attribute(statistics, TCA_STATS_BASIC)?;
        let queue = attribute(statistics, TCA_STATS_QUEUE)?;
        Some(Discipline {
            device,
            kind,
            bytes: u64_at(basic, 0)?,
            packets: u32_at(basic, 8)?,
            queue_length: u32_at(queue, 0)?,
            backlog: u32_at(queue, 4)?,
            drops: u32_at(queue, 8)?,
            requeues: u32_at(queue, 12)?,
            overlimits: u32_at(queue, 16)?,
        })
    }

    fn put(&self, device: &str, out: &mut Reading) {
        let labels = [("device", device), ("kind", &*self.kind)];
        out.put(&BYTES, &labels, self.bytes as f64);
        for (family, number) in [
            (&PACKETS, self.packets),
            (&DROPS, self.drops),
            (&REQUEUES, self.requeues),
            (&OVERLIMITS, self.overlimits),
            (&QUEUE_LENGTH, self.queue_length),
            (&BACKLOG, self.backlog),
        ] {
            out.put(family, &labels, f64::from(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute_bytes(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(parent: u32) -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES];
        message[INDEX_AT] = 2;
        message[PARENT_AT..PARENT_AT + 4].copy_from_slice(&parent.to_ne_bytes());
        message.extend(attribute_bytes(TCA_KIND, b"fq\0"));
        let basic = [83_u64.to_ne_bytes().as_slice(), &84_u32.to_ne_bytes()].concat();
        let queue: Vec<u8> = (1_u32..=5).flat_map(u32::to_ne_bytes).collect();
        let mut statistics = attribute_bytes(TCA_STATS_BASIC, &basic);
        statistics.extend(attribute_bytes(TCA_STATS_QUEUE, &queue));
        message.extend(attribute_bytes(TCA_STATS2, &statistics));
        message
    }

    #[test]
    fn statistics_of_a_discipline() {
        let kind = "fq".to_owned();
        let wanted = Discipline {
            device: 2,
            kind,
            bytes: 83,
            packets: 84,
            queue_length: 1,
            backlog: 2,
            drops: 3,
            requeues: 4,
            overlimits: 5,
        };
        assert_eq!(Discipline::parse(&message(TC_H_ROOT)), Some(wanted));
        assert_eq!(Discipline::parse(&message(0x8001_0000)), None);
        let whole = message(0);
        for length in 0..whole.len() {
            assert_eq!(Discipline::parse(&whole[..length]), None, "{length}");
        }
    }
}
