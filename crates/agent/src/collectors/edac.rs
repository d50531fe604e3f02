//! Errors of memory that were detected. Source: Linux
//! `Documentation/ABI/testing/sysfs-devices-edac`.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family::counter(name, help)
}

/// Of a memory controller: correctable, uncorrectable.
const CONTROLLER: [Family; 2] = [
    counter("node_edac_correctable_errors_total", "Total correctable memory errors."),
    counter("node_edac_uncorrectable_errors_total", "Total uncorrectable memory errors."),
];
const CSROW: [Family; 2] = [
    counter(
        "node_edac_csrow_correctable_errors_total",
        "Total correctable memory errors for this csrow.",
    ),
    counter(
        "node_edac_csrow_uncorrectable_errors_total",
        "Total uncorrectable memory errors for this csrow.",
    ),
];
const CHANNEL: [Family; 2] = [
    counter(
        "node_edac_channel_correctable_errors_total",
        "Total correctable memory errors for this channel.",
    ),
    counter(
        "node_edac_channel_uncorrectable_errors_total",
        "Total uncorrectable memory errors for this channel.",
    ),
];

/// How the kernel abbreviates the two kinds of errors.
const KINDS: [&str; 2] = ["ce", "ue"];

/// `node_edac_*`.
pub(crate) struct Edac {
    root: PathBuf,
}

impl Edac {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Edac { root: config.sys_root.join("devices/system/edac/mc") }
    }
}

impl Survey for Edac {
    fn name(&self) -> &'static str {
        "edac"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for name in sysfs::names_if_any(&self.root) {
            let Some(controller) = sysfs::numbered(&name, "mc") else { continue };
            let directory = self.root.join(&name);
            let of_controller = ("controller", controller);
            for (at, kind) in KINDS.into_iter().enumerate() {
                let count = |file: &str| sysfs::number(&directory.join(format!("{kind}_{file}")));
                if let Some(count) = count("count") {
                    out.put(&CONTROLLER[at], &[of_controller], count);
                }
                if let Some(count) = count("noinfo_count") {
                    out.put(&CSROW[at], &[of_controller, ("csrow", "unknown")], count);
                }
            }
            for row in sysfs::names_if_any(&directory) {
                if let Some(csrow) = sysfs::numbered(&row, "csrow") {
                    read_row(&directory.join(&row), of_controller, csrow, out);
                }
            }
        }
        Ok(())
    }
}

fn read_row(directory: &Path, controller: (&str, &str), csrow: &str, out: &mut Reading) {
    let row = [controller, ("csrow", csrow)];
    for (at, kind) in KINDS.into_iter().enumerate() {
        if let Some(count) = sysfs::number(&directory.join(format!("{kind}_count"))) {
            out.put(&CSROW[at], &row, count);
        }
        let suffix = format!("_{kind}_count");
        for file in sysfs::names_if_any(directory) {
            let channel = file.strip_suffix(&suffix);
            let Some(channel) = channel.and_then(|name| sysfs::numbered(name, "ch")) else {
                continue;
            };
            let label = sysfs::text(&directory.join(format!("ch{channel}_dimm_label")));
            let label = spell_out(&label.unwrap_or_default());
            let Some(count) = sysfs::number(&directory.join(&file)) else { continue };
            let labels = [row[0], row[1], ("channel", channel), ("dimm_label", &*label)];
            out.put(&CHANNEL[at], &labels, count);
        }
    }
}

/// The kernel's own labels, such as `mc#0csrow#1channel#0`, as Node Exporter spells them:
/// `mc0_csrow1_channel0`. Labels from the firmware or from a user stay as they are.
fn spell_out(label: &str) -> String {
    label.replace('#', "").replace("csrow", "_csrow").replace("channel", "_channel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_dimms() {
        assert_eq!(spell_out("mc#0csrow#1channel#0"), "mc0_csrow1_channel0");
        assert_eq!(spell_out("CPU_SrcID#0_Ha#0_Chan#1_DIMM#0"), "CPU_SrcID0_Ha0_Chan1_DIMM0");
        assert_eq!(spell_out("DIMM_A1"), "DIMM_A1");
    }
}
