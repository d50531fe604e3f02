//! States of TCP connections. Source: `sock_diag(7)`.

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::netlink::{Netlink, u32_at};
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;

use std::time::Duration;

const STATES: Family = Family::gauge("node_tcp_connection_states", "Number of connection states.");

/// The states from 1, in the order of `net/tcp_states.h`.
const NAMES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

// Places in `struct inet_diag_msg`.
const STATE_AT: usize = 1;
const RECEIVE_QUEUE_AT: usize = 56;
const SEND_QUEUE_AT: usize = 60;

/// `node_tcp_connection_states`, of IPv4 and IPv6 together. The kernel lists every connection
/// for it, which is quicker than its text in `/proc/net/tcp` and still takes a millisecond for
/// each few thousand.
pub(crate) struct Tcpstat {
    netlink: Option<Netlink>,
}

impl Tcpstat {
    pub(crate) fn new(_: &AgentConfig) -> Self {
        Tcpstat { netlink: None }
    }

    fn count(&mut self) -> Result<Counts, AgentError> {
        let mut counts = Counts::default();
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            None => self.netlink.insert(Netlink::socket_diagnosis()?),
        };
        netlink.dump(SOCK_DIAG_BY_FAMILY, &request(AF_INET), |message| counts.add(message))?;
        // A host may have no IPv6.
        match netlink.dump(SOCK_DIAG_BY_FAMILY, &request(AF_INET6), |m| counts.add(m)) {
            Err(error) if !error.is_no_data() => Err(error),
            _ => Ok(counts),
        }
    }
}

impl Survey for Tcpstat {
    fn name(&self) -> &'static str {
        "tcpstat"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let counts = self.count();
        if counts.is_err() {
            self.netlink = None;
        }
        let counts = counts?;
        for (state, &count) in NAMES.iter().zip(&counts.states).filter(|(_, count)| **count > 0) {
            out.put(&STATES, &[("state", state)], count as f64);
        }
        out.put(&STATES, &[("state", "rx_queued_bytes")], counts.receive_queue as f64);
        out.put(&STATES, &[("state", "tx_queued_bytes")], counts.send_queue as f64);
        Ok(())
    }
}

/// `struct inet_diag_req_v2` for the connections of a family in any state.
fn request(family: u8) -> [u8; 56] {
    let mut request = [0; 56];
    request[0] = family;
    request[1] = IPPROTO_TCP;
    request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    request
}

#[derive(Debug, Default)]
struct Counts {
    states: [u64; NAMES.len()],
    receive_queue: u64,
    send_queue: u64,
}

impl Counts {
    fn add(&mut self, message: &[u8]) {
        let state = message.get(STATE_AT).and_then(|state| state.checked_sub(1));
        // A connection that is not yet accepted and one half open share a state.
        const NEW_SYN_RECV: u8 = 11;
        const SYN_RECV: u8 = 2;
        let state = state.map(|state| if state == NEW_SYN_RECV { SYN_RECV } else { state });
        let place = state.and_then(|state| self.states.get_mut(usize::from(state)));
        if let Some(count) = place {
            *count += 1;
            self.receive_queue += u64::from(u32_at(message, RECEIVE_QUEUE_AT).unwrap_or(0));
            self.send_queue += u64::from(u32_at(message, SEND_QUEUE_AT).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_counted_at_both_ends() {
        let mut tcpstat = Tcpstat { netlink: None };
        let before = tcpstat.count().expect("Linux has sock_diag");
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("bound");
        let _streams: Vec<_> =
            (0..40).map(|_| TcpStream::connect(address).expect("connected")).collect();
        let _accepted: Vec<_> = (0..40).map(|_| listener.accept().expect("accepted")).collect();
        let after = tcpstat.count().expect("Linux has sock_diag");
        // Other tests open and close a few meanwhile.
        assert!(after.states[0] >= before.states[0] + 60, "{before:?} {after:?}");
        assert!(after.states[9] >= 1);
    }
}
