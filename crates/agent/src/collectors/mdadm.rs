//! Software RAID. Source: `md(4)` and Linux `Documentation/admin-guide/md.rst`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const BLOCKS: Family = Family::gauge("node_md_blocks", "Total number of blocks on device.");
const BLOCKS_SYNCED: Family =
    Family::gauge("node_md_blocks_synced", "Number of blocks synced on device.");
const DISKS: Family =
    Family::gauge("node_md_disks", "Number of active/failed/spare disks of device.");
const DISKS_REQUIRED: Family =
    Family::gauge("node_md_disks_required", "Total number of disks of device.");
const STATE: Family = Family::gauge("node_md_state", "Indicates the state of md-device.");
const RAID_DISKS: Family = Family::gauge("node_md_raid_disks", "Number of raid disks on device.");
const DEGRADED: Family = Family::gauge("node_md_degraded", "Number of degraded disks on device.");

/// What a device may be doing, with the word in `/proc/mdstat` that says so.
const STATES: [(&str, &str); 5] = [
    ("active", "active"),
    ("inactive", "inactive"),
    ("recovery", "recovering"),
    ("resync", "resync"),
    ("check", "check"),
];

/// `node_md_*`.
pub(crate) struct Mdadm {
    mdstat: PathBuf,
    block_root: PathBuf,
}

impl Mdadm {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Mdadm { mdstat: config.proc_root.join("mdstat"), block_root: config.sys_root.join("block") }
    }
}

impl Survey for Mdadm {
    fn name(&self) -> &'static str {
        "mdadm"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.mdstat)?;
        for array in parse_mdstat(&text) {
            let device = ("device", array.name);
            out.put(&BLOCKS, &[device], array.blocks as f64);
            out.put(&BLOCKS_SYNCED, &[device], array.blocks_synced as f64);
            out.put(&DISKS_REQUIRED, &[device], array.required as f64);
            let disks =
                [("active", array.active), ("failed", array.failed), ("spare", array.spare)];
            for (state, count) in disks {
                out.put(&DISKS, &[device, ("state", state)], count as f64);
            }
            for (word, state) in STATES {
                let value = f64::from(u8::from(array.state == word));
                out.put(&STATE, &[device, ("state", state)], value);
            }
        }
        for name in sysfs::names_if_any(&self.block_root) {
            let directory = self.block_root.join(&name).join("md");
            let Some(disks) = sysfs::number(&directory.join("raid_disks")) else { continue };
            let device = [("device", &*name)];
            out.put(&RAID_DISKS, &device, disks);
            // Levels without redundancy have no such file; they are never degraded, only lost.
            let degraded = sysfs::number(&directory.join("degraded")).unwrap_or(0.0);
            out.put(&DEGRADED, &device, degraded);
        }
        Ok(())
    }
}

/// One device of `/proc/mdstat`.
#[derive(Debug, Default, PartialEq)]
struct Array<'a> {
    name: &'a str,
    state: &'a str,
    blocks: u64,
    blocks_synced: u64,
    required: u64,
    active: u64,
    failed: u64,
    spare: u64,
}

/// The devices. Each begins with a line `md0 : active …` and goes on in lines that are indented.
fn parse_mdstat(text: &str) -> Vec<Array<'_>> {
    let mut arrays: Vec<Array<'_>> = Vec::new();
    for line in text.lines() {
        if let Some((name, rest)) = line.split_once(" : ") {
            if name.starts_with("md") {
                arrays.push(parse_device_line(name, rest));
            }
        } else if let Some(array) = arrays.last_mut().filter(|_| line.starts_with(' ')) {
            parse_detail(line, array);
        }
    }
    arrays
}

/// `active raid1 sdb2[2](F) sdc[1](S) sda2[0]`
fn parse_device_line<'a>(name: &'a str, rest: &'a str) -> Array<'a> {
    let state = rest.split_ascii_whitespace().next().unwrap_or_default();
    let disks = rest.split_ascii_whitespace().filter(|word| word.contains('['));
    let (mut all, mut failed, mut spare) = (0, 0, 0);
    for disk in disks {
        all += 1;
        failed += u64::from(disk.contains("(F)"));
        spare += u64::from(disk.contains("(S)"));
    }
    // Levels without redundancy do not say how many disks they need: all they have.
    let active = if state == "active" { all } else { 0 };
    Array { name, state, required: active, active, failed, spare, ..Array::default() }
}

/// `195310144 blocks [2/1] [U_]`, or `[=>…]  recovery =  8.5% (16775552/195310144) …`.
fn parse_detail<'a>(line: &'a str, array: &mut Array<'a>) {
    let words = || line.split_ascii_whitespace();
    if words().nth(1) == Some("blocks") {
        array.blocks = words().next().and_then(|number| number.parse().ok()).unwrap_or(0);
        array.blocks_synced = array.blocks;
        let fraction = words().filter_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        let fraction = fraction.filter_map(parse_fraction).next();
        if let Some((required, active)) = fraction.filter(|_| array.state == "active") {
            (array.required, array.active) = (required, active);
        }
        return;
    }
    for activity in ["recovery", "resync", "check", "reshape"] {
        if words().any(|word| word == activity) {
            array.state = activity;
            let done = words().filter_map(|word| word.strip_prefix('(')?.strip_suffix(')'));
            if let Some((done, _)) = done.filter_map(parse_fraction).next() {
                array.blocks_synced = done;
            }
        } else if words().any(|word| word.strip_prefix(activity).is_some_and(is_postponed)) {
            array.state = activity;
            array.blocks_synced = 0;
        }
    }
}

/// The rest of `resync=PENDING` and the like.
fn is_postponed(rest: &str) -> bool {
    matches!(rest, "=PENDING" | "=DELAYED" | "=REMOTE")
}

/// Both numbers of `4/3`.
fn parse_fraction(text: &str) -> Option<(u64, u64)> {
    let (left, right) = text.split_once('/')?;
    Some((left.parse().ok()?, right.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_mdstat() {
        let text = "Personalities : [raid1]\n\
                    md6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]\n\
                    \x20     195310144 blocks [2/1] [U_]\n\
                    \x20     [=>...]  recovery =  8.5% (16775552/195310144) finish=17.0min\n\n\
                    md5 : inactive sdb[2](S)\n        7932 blocks super external:imsm\n\n\
                    md4 : active raid0 sda[0] sdb[1]\n      10 blocks 64k chunks\n\
                    md3 : active raid1 sda[0] sdb[1]\n      10 blocks [2/2] [UU]\n\
                    \x20     resync=DELAYED\n\
                    unused devices: <none>\n";
        let (blocks, synced) = (195_310_144, 16_775_552);
        let recovering = Array {
            name: "md6",
            state: "recovery",
            blocks,
            blocks_synced: synced,
            required: 2,
            active: 1,
            failed: 1,
            spare: 1,
        };
        let inactive = Array {
            name: "md5",
            state: "inactive",
            blocks: 7_932,
            blocks_synced: 7_932,
            spare: 1,
            ..Array::default()
        };
        let plain = Array {
            name: "md4",
            state: "active",
            blocks: 10,
            blocks_synced: 10,
            required: 2,
            active: 2,
            ..Array::default()
        };
        let delayed = Array { name: "md3", state: "resync", blocks_synced: 0, ..plain };
        let plain = Array {
            name: "md4",
            state: "active",
            blocks: 10,
            blocks_synced: 10,
            required: 2,
            active: 2,
            ..Array::default()
        };
        assert_eq!(parse_mdstat(text), [recovering, inactive, plain, delayed]);
    }

    #[test]
    fn cut_lines_are_no_panic() {
        for text in
            ["md0 : ", "md0 : active\n blocks", "md0 : active\n x blocks [a/b]", " 1 blocks"]
        {
            parse_mdstat(text);
        }
    }
}
