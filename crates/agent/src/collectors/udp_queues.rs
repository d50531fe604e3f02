//! Memory in the queues of UDP sockets.

use std::time::Duration;

use crate::collector::{Cadence, Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, lines, parse_hex};
use crate::series::{Family, Samples, SeriesRef};

const QUEUES: Family = Family::gauge(
    "node_udp_queues",
    "Number of allocated memory in the kernel for UDP datagrams in bytes.",
);

/// The kernel writes one line per socket and walks its whole table for it.
const PERIOD: Duration = Duration::from_secs(10);

/// `node_udp_queues`.
pub(crate) struct UdpQueues {
    cadence: Cadence,
    families: [AddressFamily; 2],
}

struct AddressFamily {
    file: ProcFile,
    label: &'static str,
    transmit: Option<SeriesRef>,
    receive: Option<SeriesRef>,
}

impl UdpQueues {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let family = |file, label| AddressFamily {
            file: ProcFile::new(config.proc_root.join(file)),
            label,
            transmit: None,
            receive: None,
        };
        UdpQueues {
            cadence: Cadence::new(PERIOD),
            families: [family("net/udp", "v4"), family("net/udp6", "v6")],
        }
    }
}

impl Collector for UdpQueues {
    fn name(&self) -> &'static str {
        "udp_queues"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        if !self.cadence.due(host.now) {
            return Ok(Outcome::NotDue);
        }
        for AddressFamily { file, label, transmit, receive } in &mut self.families {
            match file.read() {
                Ok(_) => {}
                // The kernel runs without this address family.
                Err(error) if error.is_no_data() => continue,
                Err(error) => return Err(error),
            }
            let (mut transmit_bytes, mut receive_bytes) = (0_u64, 0_u64);
            for line in lines(file.last()).skip(1) {
                let Some(queues) = fields(line).nth(4) else { continue };
                let mut sizes = queues.splitn(2, |&b| b == b':').map(parse_hex);
                let (Some(Some(tx)), Some(Some(rx))) = (sizes.next(), sizes.next()) else {
                    continue;
                };
                transmit_bytes = transmit_bytes.saturating_add(tx);
                receive_bytes = receive_bytes.saturating_add(rx);
            }
            for (place, queue, bytes) in
                [(transmit, "tx", transmit_bytes), (receive, "rx", receive_bytes)]
            {
                out.put(place, bytes as f64, |out| {
                    out.register(&QUEUES, &[("ip", label), ("queue", queue)])
                });
            }
        }
        Ok(Outcome::Collected)
    }
}
