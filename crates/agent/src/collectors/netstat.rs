//! Counters of the network protocols.

use model::MetricType;

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::pattern::Pattern;
use crate::proc_reader::{ProcFile, fields, lines, parse_f64};
use crate::series::{Keyed, Row, Samples};

/// `node_netstat_*`, the fields in the configuration or those Node Exporter takes by default.
pub(crate) struct Netstat {
    /// `net/netstat` and `net/snmp`: pairs of lines, names over numbers.
    tables: [(ProcFile, Keyed<MAX_COLUMNS, Header>); 2],
    snmp6: ProcFile,
    choice: Choice,
    snmp6_fields: Keyed<1, Option<bool>>,
}

/// More columns than any protocol has; `TcpExt` has about 130.
const MAX_COLUMNS: usize = 256;

/// The last seen line of names, and which of them are taken.
#[derive(Debug, Default)]
struct Header {
    names: Vec<u8>,
    taken: Vec<bool>,
}

/// Which fields are taken.
struct Choice(Option<Pattern>);

impl Choice {
    fn takes(&self, protocol: &[u8], field: &[u8]) -> bool {
        match &self.0 {
            None => is_default_field(protocol, field),
            Some(pattern) => pattern.is_match(&[protocol, b"_", field].concat()),
        }
    }
}

impl Netstat {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let file = |name| ProcFile::new(config.proc_root.join(name));
        Netstat {
            tables: [(file("net/netstat"), Keyed::new()), (file("net/snmp"), Keyed::new())],
            snmp6: file("net/snmp6"),
            choice: Choice(config.collectors.netstat.fields.clone()),
            snmp6_fields: Keyed::new(),
        }
    }

    /// Lines such as `Icmp6InMsgs  7`; the file is absent without IPv6.
    fn collect_snmp6(&mut self, out: &mut Samples) -> Result<(), AgentError> {
        match self.snmp6.read() {
            Ok(_) => {}
            Err(error) if error.is_no_data() => {}
            Err(error) => return Err(error),
        }
        self.snmp6_fields.begin();
        for line in lines(self.snmp6.last()) {
            let mut columns = fields(line);
            let (Some(key), Some(value)) = (columns.next(), columns.next()) else { continue };
            // The protocol ends with its digit 6.
            let Some(six) = key.iter().position(|&b| b == b'6') else { continue };
            let (protocol, field) = key.split_at(six + 1);
            let row = self.snmp6_fields.row(key);
            let choice = &self.choice;
            let taken = *row.extra.get_or_insert_with(|| choice.takes(protocol, field));
            if !taken {
                continue;
            }
            if let Some(value) = parse_f64(value) {
                out.put(&mut row.series[0], value, |out| register(out, protocol, field));
            }
        }
        self.snmp6_fields.finish(out);
        Ok(())
    }
}

impl Collector for Netstat {
    fn name(&self) -> &'static str {
        "netstat"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        for (file, protocols) in &mut self.tables {
            file.read()?;
            protocols.begin();
            let mut lines = lines(file.last());
            while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
                let (Some((protocol, names)), Some((of, numbers))) =
                    (split_protocol(names), split_protocol(numbers))
                else {
                    return Err(file.malformed("protocol before a colon"));
                };
                if protocol != of {
                    return Err(file.malformed("line of numbers after each line of names"));
                }
                let row = protocols.row(protocol);
                collect_protocol(row, &self.choice, protocol, names, numbers, out);
            }
            protocols.finish(out);
        }
        self.collect_snmp6(out)?;
        Ok(Outcome::Collected)
    }
}

fn split_protocol(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&b| b == b':')?;
    Some((&line[..colon], &line[colon + 1..]))
}

fn collect_protocol(
    row: &mut Row<MAX_COLUMNS, Header>,
    choice: &Choice,
    protocol: &[u8],
    names: &[u8],
    numbers: &[u8],
    out: &mut Samples,
) {
    // The columns never change while a kernel runs, so names are matched once.
    if row.extra.names != names {
        row.series.iter_mut().filter_map(Option::take).for_each(|series| out.release(series));
        row.extra.names = names.to_vec();
        row.extra.taken = fields(names).map(|name| choice.takes(protocol, name)).collect();
    }
    let columns = row.extra.taken.iter().zip(&mut row.series).zip(fields(numbers)).enumerate();
    for (at, ((taken, place), number)) in columns {
        if !taken {
            continue;
        }
        if let Some(value) = parse_f64(number) {
            out.put(place, value, |out| {
                let name = fields(names).nth(at).expect("a column that is taken has a name");
                register(out, protocol, name)
            });
        }
    }
}

fn register(out: &mut Samples, protocol: &[u8], field: &[u8]) -> crate::series::SeriesRef {
    let protocol = String::from_utf8_lossy(protocol);
    let field = String::from_utf8_lossy(field);
    out.register_named(
        &format!("node_netstat_{protocol}_{field}"),
        MetricType::Unknown,
        &format!("Statistic {protocol}{field}."),
        &[],
    )
}

/// Node Exporter's default of `--collector.netstat.fields`.
fn is_default_field(protocol: &[u8], field: &[u8]) -> bool {
    let among = |names: &[&[u8]]| names.contains(&field);
    if among(&[b"InErrors", b"InErrs"]) {
        return true;
    }
    match protocol {
        b"Ip" => among(&[b"Forwarding"]),
        b"Ip6" | b"IpExt" => among(&[b"InOctets", b"OutOctets"]),
        b"Icmp" | b"Icmp6" => among(&[b"InMsgs", b"OutMsgs"]),
        b"TcpExt" => {
            field.starts_with(b"Listen")
                || field.starts_with(b"Syncookies")
                || among(&[b"TCPSynRetrans", b"TCPTimeouts", b"TCPOFOQueue", b"TCPRcvQDrop"])
        }
        b"Tcp" => among(&[
            b"ActiveOpens",
            b"InSegs",
            b"OutSegs",
            b"OutRsts",
            b"PassiveOpens",
            b"RetransSegs",
            b"CurrEstab",
        ]),
        b"Udp" | b"Udp6" => {
            among(&[b"InDatagrams", b"OutDatagrams", b"NoPorts", b"RcvbufErrors", b"SndbufErrors"])
        }
        _ => false,
    }
}
