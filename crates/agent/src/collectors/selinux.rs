//! Whether SELinux is at work. Source: `selinux(8)`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const ENABLED: Family =
    Family::gauge("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false");
const CONFIG_MODE: Family =
    Family::gauge("node_selinux_config_mode", "Configured SELinux enforcement mode");
const CURRENT_MODE: Family =
    Family::gauge("node_selinux_current_mode", "Current SELinux enforcement mode");

/// `node_selinux_*`. The modes are 1 for enforcing, 0 for permissive, −1 for disabled.
pub(crate) struct Selinux {
    selinux_root: PathBuf,
    config: PathBuf,
}

impl Selinux {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Selinux {
            selinux_root: config.sys_root.join("fs/selinux"),
            config: config.root_fs.join("etc/selinux/config"),
        }
    }
}

impl Survey for Selinux {
    fn name(&self) -> &'static str {
        "selinux"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let current = sysfs::number(&self.selinux_root.join("enforce"));
        out.put(&ENABLED, &[], f64::from(u8::from(current.is_some())));
        let Some(current) = current else { return Ok(()) };
        out.put(&CURRENT_MODE, &[], current);
        let config = sysfs::read_text(&self.config)?;
        if let Some(mode) = configured_mode(&config) {
            out.put(&CONFIG_MODE, &[], mode);
        }
        Ok(())
    }
}

fn configured_mode(config: &str) -> Option<f64> {
    let mode = config.lines().find_map(|line| line.trim().strip_prefix("SELINUX="))?;
    match mode.trim() {
        "enforcing" => Some(1.0),
        "permissive" => Some(0.0),
        "disabled" => Some(-1.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(configured_mode("# x\nSELINUX=permissive\nSELINUXTYPE=targeted\n"), Some(0.0));
        assert_eq!(configured_mode("SELINUXTYPE=targeted\n"), None);
    }
}
