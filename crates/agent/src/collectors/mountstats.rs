//! Mounts of NFS as their client sees them. Source: `nfsiostat(8)`, Linux `net/sunrpc/stats.c`.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::collectors::mounts::unescape;
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

macro_rules! counters {
    ($($name:literal $help:literal,)+) => {
        &[$(Family::counter(concat!("node_mountstats_nfs_", $name, "_total"), $help),)+]
    };
}

const INFO: Family =
    Family::gauge("node_mountstats_nfs_mountpoint_info", "Info metric for an NFS mountpoint.");
const AGE: Family = Family::counter(
    "node_mountstats_nfs_age_seconds_total",
    "The age of the NFS mount in seconds.",
);

/// The numbers of the line `bytes:`.
const BYTES: &[Family] = counters![
    "read_bytes" "Number of bytes read using the read() syscall.",
    "write_bytes" "Number of bytes written using the write() syscall.",
    "direct_read_bytes" "Number of bytes read using the read() syscall in O_DIRECT mode.",
    "direct_write_bytes" "Number of bytes written using the write() syscall in O_DIRECT mode.",
    "total_read_bytes" "Number of bytes read from the NFS server, in total.",
    "total_write_bytes" "Number of bytes written to the NFS server, in total.",
    "read_pages" "Number of pages read directly via mmap()'d files.",
    "write_pages" "Number of pages written directly via mmap()'d files.",
];

/// The numbers of the line `events:`, with the place of each. The kernel dropped the event
/// between them.
const EVENTS: [&[Family]; 2] = [
    counters![
        "event_inode_revalidate"
            "Number of times cached inode attributes are re-validated from the server.",
        "event_dnode_revalidate"
            "Number of times cached dentry nodes are re-validated from the server.",
        "event_data_invalidate" "Number of times an inode cache is cleared.",
        "event_attribute_invalidate" "Number of times cached inode attributes are invalidated.",
        "event_vfs_open" "Number of times cached inode attributes are invalidated.",
        "event_vfs_lookup" "Number of times a directory lookup has occurred.",
        "event_vfs_access" "Number of times permissions have been checked.",
        "event_vfs_update_page" "Number of updates (and potential writes) to pages.",
        "event_vfs_read_page" "Number of pages read directly via mmap()'d files.",
        "event_vfs_read_pages" "Number of times a group of pages have been read.",
        "event_vfs_write_page" "Number of pages written directly via mmap()'d files.",
        "event_vfs_write_pages" "Number of times a group of pages have been written.",
        "event_vfs_getdents"
            "Number of times directory entries have been read with getdents().",
        "event_vfs_setattr" "Number of times directory entries have been read with getdents().",
        "event_vfs_flush"
            "Number of pending writes that have been forcefully flushed to the server.",
        "event_vfs_fsync" "Number of times fsync() has been called on directories and files.",
        "event_vfs_lock" "Number of times locking has been attempted on a file.",
        "event_vfs_file_release" "Number of times files have been closed and released.",
    ],
    counters![
        "event_truncation" "Number of times files have been truncated.",
        "event_write_extension"
            "Number of times a file has been grown due to writes beyond its existing end.",
        "event_silly_rename"
            "Number of times a file was removed while still open by another process.",
        "event_short_read"
            "Number of times the NFS server gave less data than expected while reading.",
        "event_short_write"
            "Number of times the NFS server wrote less data than expected while writing.",
        "event_jukebox_delay"
            "Number of times the NFS server indicated EJUKEBOX; retrieving data from offline storage.",
        "event_pnfs_read" "Number of NFS v4.1+ pNFS reads.",
        "event_pnfs_write" "Number of NFS v4.1+ pNFS writes.",
    ],
];

/// The numbers of a line of an operation; the last three are times in milliseconds.
const OPERATION: &[Family] = counters![
    "operations_requests" "Number of requests performed for a given operation.",
    "operations_transmissions"
        "Number of times an actual RPC request has been transmitted for a given operation.",
    "operations_major_timeouts"
        "Number of times a request has had a major timeout for a given operation.",
    "operations_sent_bytes"
        "Number of bytes sent for a given operation, including RPC headers and payload.",
    "operations_received_bytes"
        "Number of bytes received for a given operation, including RPC headers and payload.",
    "operations_queue_time_seconds"
        "Duration all requests spent queued for transmission for a given operation before they were sent, in seconds.",
    "operations_response_time_seconds"
        "Duration all requests took to get a reply back after a request for a given operation was transmitted, in seconds.",
    "operations_request_time_seconds"
        "Duration all requests took from when a request was enqueued to when it was completely handled for a given operation, in seconds.",
];
const FIRST_TIME: usize = 5;

/// The kernel's sums of times can fall below zero and wrap. Node Exporter takes them modulo the
/// greatest whole number a float holds exactly, so that they still rise by the right amounts.
const FLOAT_MANTISSA: u64 = 1 << 53;

/// Of a connection, each with its place on the line `xprt:` for TCP and for UDP, which has no
/// connections.
const TRANSPORT: [(Family, Option<usize>, Option<usize>); 10] = [
    (
        Family::counter(
            "node_mountstats_nfs_transport_bind_total",
            "Number of times the client has had to establish a connection from scratch to the NFS \
             server.",
        ),
        Some(1),
        Some(1),
    ),
    (
        Family::counter(
            "node_mountstats_nfs_transport_connect_total",
            "Number of times the client has made a TCP connection to the NFS server.",
        ),
        Some(2),
        None,
    ),
    (
        Family::gauge(
            "node_mountstats_nfs_transport_idle_time_seconds",
            "Duration since the NFS mount last saw any RPC traffic, in seconds.",
        ),
        Some(4),
        None,
    ),
    (
        Family::counter(
            "node_mountstats_nfs_transport_sends_total",
            "Number of RPC requests for this mount sent to the NFS server.",
        ),
        Some(5),
        Some(2),
    ),
    (
        Family::counter(
            "node_mountstats_nfs_transport_receives_total",
            "Number of RPC responses for this mount received from the NFS server.",
        ),
        Some(6),
        Some(3),
    ),
    (
        Family::counter(
            "node_mountstats_nfs_transport_bad_transaction_ids_total",
            "Number of times the NFS server sent a response with a transaction ID unknown to this \
             client.",
        ),
        Some(7),
        Some(4),
    ),
    (
        Family::counter(
            "node_mountstats_nfs_transport_backlog_queue_total",
            "Total number of items added to the RPC backlog queue.",
        ),
        Some(9),
        Some(6),
    ),
    (
        Family::gauge(
            "node_mountstats_nfs_transport_maximum_rpc_slots",
            "Maximum number of simultaneously active RPC requests ever used.",
        ),
        Some(10),
        Some(7),
    ),
    (
        Family::counter(
            "node_mountstats_nfs_transport_sending_queue_total",
            "Total number of items added to the RPC transmission sending queue.",
        ),
        Some(11),
        Some(8),
    ),
    (
        Family::counter(
            "node_mountstats_nfs_transport_pending_queue_total",
            "Total number of items added to the RPC transmission pending queue.",
        ),
        Some(12),
        Some(9),
    ),
];

/// `node_mountstats_nfs_*`.
pub(crate) struct Mountstats {
    mountstats: PathBuf,
    mountinfo: PathBuf,
}

impl Mountstats {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let own = config.proc_root.join("self");
        Mountstats { mountstats: own.join("mountstats"), mountinfo: own.join("mountinfo") }
    }
}

impl Survey for Mountstats {
    fn name(&self) -> &'static str {
        "mountstats"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.mountstats)?;
        let mountinfo = sysfs::read_text(&self.mountinfo)?;
        // One export mounted twice over one protocol has its statistics in common.
        let mut seen = HashSet::new();
        for mount in split_mounts(&text) {
            let protocol = mount.lines("xprt:").next().and_then(|line| line.first().copied());
            let protocol = protocol.unwrap_or_default();
            let address = address_of(&mountinfo, &mount).unwrap_or_default();
            let labels = [("export", mount.device), ("protocol", protocol), ("mountaddr", address)];
            let mountpoint = unescape(mount.mountpoint.as_bytes());
            out.put(&INFO, &[labels[0], labels[1], labels[2], ("mountpoint", &mountpoint)], 1.0);
            if seen.insert((mount.device, protocol, address)) {
                put_mount(&mount, &labels, out);
            }
        }
        Ok(())
    }
}

/// The lines about one mount of NFS.
struct Mount<'a> {
    device: &'a str,
    mountpoint: &'a str,
    fstype: &'a str,
    lines: Vec<&'a str>,
}

impl<'a> Mount<'a> {
    /// The words of each line that begins with `key`, after it.
    fn lines(&self, key: &str) -> impl Iterator<Item = Vec<&'a str>> {
        let lines = self.lines.iter().filter_map(move |line| line.trim_start().strip_prefix(key));
        lines.map(|rest| rest.split_ascii_whitespace().collect())
    }
}

/// Each mount begins with a line `device … mounted on … with fstype …`; only NFS has statistics.
fn split_mounts(text: &str) -> Vec<Mount<'_>> {
    let mut mounts: Vec<Mount<'_>> = Vec::new();
    let mut is_nfs = false;
    for line in text.lines() {
        if line.starts_with("device ") {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            is_nfs = false;
            if let [_, device, "mounted", "on", mountpoint, "with", "fstype", fstype, ..] =
                fields[..]
                && fstype.starts_with("nfs")
            {
                is_nfs = true;
                mounts.push(Mount { device, mountpoint, fstype, lines: Vec::new() });
            }
        } else if let Some(mount) = mounts.last_mut().filter(|_| is_nfs) {
            mount.lines.push(line);
        }
    }
    mounts
}

/// The address of the server, from the options of the mount.
fn address_of<'a>(mountinfo: &'a str, mount: &Mount<'_>) -> Option<&'a str> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mountpoint = before.split_ascii_whitespace().nth(4)?;
        let mut fields = after.split_ascii_whitespace();
        let (fstype, device) = (fields.next()?, fields.next()?);
        if (mountpoint, fstype, device) != (mount.mountpoint, mount.fstype, mount.device) {
            return None;
        }
        fields.next()?.split(',').find_map(|option| option.strip_prefix("addr="))
    })
}

fn put_mount(mount: &Mount<'_>, labels: &[(&str, &str); 3], out: &mut Reading) {
    let put_all = |out: &mut Reading, families: &[Family], numbers: &[&str]| {
        for (family, number) in families.iter().zip(numbers) {
            number.parse::<f64>().into_iter().for_each(|number| out.put(family, labels, number));
        }
    };
    for age in mount.lines("age:") {
        put_all(out, &[AGE], &age);
    }
    for bytes in mount.lines("bytes:") {
        put_all(out, BYTES, &bytes);
    }
    for events in mount.lines("events:") {
        let [before, after] = EVENTS;
        put_all(out, before, &events);
        put_all(out, after, events.get(before.len() + 1..).unwrap_or_default());
    }
    for (transport, line) in mount.lines("xprt:").enumerate() {
        put_transport(&transport.to_string(), &line, labels, out);
    }
    let operations = mount.lines.iter().skip_while(|line| !line.contains("per-op statistics"));
    for line in operations.skip(1) {
        let Some((operation, numbers)) = line.trim_start().split_once(": ") else { continue };
        let labels = [labels[0], labels[1], labels[2], ("operation", operation)];
        for (at, (family, number)) in
            OPERATION.iter().zip(numbers.split_ascii_whitespace()).enumerate()
        {
            let Ok(number) = number.parse::<u64>() else { break };
            let value = if at < FIRST_TIME {
                number as f64
            } else {
                (number % FLOAT_MANTISSA) as f64 / 1_000.0
            };
            out.put(family, &labels, value);
        }
    }
}

fn put_transport(transport: &str, line: &[&str], labels: &[(&str, &str); 3], out: &mut Reading) {
    let Some((protocol, numbers)) = line.split_first() else { return };
    let labels = [labels[0], labels[1], labels[2], ("transport", transport)];
    for (family, connected, connectionless) in &TRANSPORT {
        let place = if *protocol == "udp" { connectionless } else { connected };
        let number = place.map_or(Some("0"), |place| numbers.get(place).copied());
        if let Some(Ok(number)) = number.map(str::parse::<f64>) {
            out.put(family, &labels, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_nfs_are_read() {
        let text = "device proc mounted on /proc with fstype proc\n\
                    device s:/x mounted on /mnt with fstype nfs4 statvers=1.1\n\tage:\t7\n\
                    device cut\n\tage:\t9\n";
        let mounts = split_mounts(text);
        assert_eq!(mounts.len(), 1);
        assert_eq!((mounts[0].device, mounts[0].lines.len()), ("s:/x", 1));
        let mountinfo = "5 1 0:9 / /mnt rw - nfs4 s:/x rw,addr=10.0.0.1\n";
        assert_eq!(address_of(mountinfo, &mounts[0]), Some("10.0.0.1"));
        assert_eq!(address_of("", &mounts[0]), None);
    }
}
