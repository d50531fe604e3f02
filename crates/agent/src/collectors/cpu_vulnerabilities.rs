//! Known flaws of the CPU. Source: Linux `Documentation/ABI/testing/sysfs-devices-system-cpu`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const INFO: Family = Family::gauge(
    "node_cpu_vulnerabilities_info",
    "Details of each CPU vulnerability reported by sysfs. The value of the series is an int \
     encoded state of the vulnerability. The same state is stored as a string in the label",
);

/// `node_cpu_vulnerabilities_info`.
pub(crate) struct CpuVulnerabilities {
    root: PathBuf,
}

impl CpuVulnerabilities {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        CpuVulnerabilities { root: config.sys_root.join("devices/system/cpu/vulnerabilities") }
    }
}

impl Survey for CpuVulnerabilities {
    fn name(&self) -> &'static str {
        "cpu_vulnerabilities"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for codename in sysfs::names(&self.root)? {
            let Some(text) = sysfs::text(&self.root.join(&codename)) else { continue };
            let Some((state, mitigation)) = state_of(&text) else { continue };
            let labels = [("codename", &*codename), ("state", state), ("mitigation", mitigation)];
            out.put(&INFO, &labels, 1.0);
        }
        Ok(())
    }
}

/// State and mitigation in a line such as `Mitigation: PTI` or `Not affected`.
fn state_of(text: &str) -> Option<(&'static str, &str)> {
    if let Some(mitigation) = text.strip_prefix("Mitigation") {
        return Some(("mitigation", mitigation.trim_start_matches([':', ' '])));
    }
    if let Some(detail) = text.strip_prefix("Vulnerable") {
        return Some(("vulnerable", detail.trim_start_matches([':', ' '])));
    }
    text.starts_with("Not affected").then_some(("not affected", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        assert_eq!(state_of("Not affected"), Some(("not affected", "")));
        assert_eq!(state_of("Vulnerable"), Some(("vulnerable", "")));
        let detail = "Clear CPU buffers attempted, no microcode";
        assert_eq!(state_of(&format!("Vulnerable: {detail}")), Some(("vulnerable", detail)));
        assert_eq!(state_of("Mitigation: PTI"), Some(("mitigation", "PTI")));
        assert_eq!(state_of("KVM: Mitigation: VMX disabled"), None);
    }
}
