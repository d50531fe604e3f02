//! Interrupts by CPU. Source: `proc_interrupts(5)`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::pattern::NameFilter;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const INTERRUPTS: Family = Family::counter("node_interrupts_total", "Interrupt details.");

/// `node_interrupts_total`.
pub(crate) struct Interrupts {
    path: PathBuf,
    filter: NameFilter,
    exclude_zeros: bool,
}

impl Interrupts {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.interrupts;
        Interrupts {
            path: config.proc_root.join("interrupts"),
            filter: NameFilter::new(&settings.name_include, &settings.name_exclude),
            exclude_zeros: settings.exclude_zeros,
        }
    }
}

impl Survey for Interrupts {
    fn name(&self) -> &'static str {
        "interrupts"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        let mut lines = text.lines();
        let cpus = lines.next().unwrap_or_default();
        let cpus: Vec<&str> =
            cpus.split_ascii_whitespace().filter_map(|cpu| sysfs::numbered(cpu, "CPU")).collect();
        if cpus.is_empty() {
            return Err(AgentError::Malformed { path: self.path.clone(), expected: "CPU" });
        }
        for line in lines {
            let Some(interrupt) = Interrupt::parse(line, cpus.len()) else { continue };
            let Interrupt { kind, ref counts, ref info, ref devices } = interrupt;
            if !self.filter.takes(&format!("{kind};{info};{devices}")) {
                continue;
            }
            for (cpu, &count) in cpus.iter().zip(counts) {
                if self.exclude_zeros && count == 0 {
                    continue;
                }
                let labels = [("cpu", *cpu), ("devices", devices), ("info", info), ("type", kind)];
                out.put(&INTERRUPTS, &labels, count as f64);
            }
        }
        Ok(())
    }
}

/// One line of the table.
struct Interrupt<'a> {
    /// A number, or a short name for those that have none.
    kind: &'a str,
    /// One per CPU.
    counts: Vec<u64>,
    info: String,
    devices: String,
}

impl<'a> Interrupt<'a> {
    /// `None` for lines that count all CPUs together, such as `ERR: 0`.
    fn parse(line: &'a str, cpus: usize) -> Option<Self> {
        let (kind, rest) = line.split_once(':')?;
        let kind = kind.trim();
        let mut fields = rest.split_ascii_whitespace();
        let counts: Vec<u64> = fields.by_ref().take(cpus).map_while(|n| n.parse().ok()).collect();
        if counts.len() != cpus {
            return None;
        }
        let words: Vec<&str> = fields.collect();
        // Numbered interrupts name their controller first, then the devices that share it.
        let numbered = kind.bytes().all(|byte| byte.is_ascii_digit());
        let (info, devices) = match (numbered, words.split_first()) {
            (true, Some((controller, devices))) => ((*controller).to_owned(), devices.join(" ")),
            _ => (words.join(" "), String::new()),
        };
        Some(Interrupt { kind, counts, info, devices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_interrupts() {
        let line = " 16:     328511     322879  IR-IO-APIC-fasteoi   ehci_hcd:usb1, mmc0";
        let parsed = Interrupt::parse(line, 2).expect("complete");
        assert_eq!((parsed.kind, &*parsed.counts), ("16", &[328_511, 322_879][..]));
        assert_eq!(parsed.info, "IR-IO-APIC-fasteoi");
        assert_eq!(parsed.devices, "ehci_hcd:usb1, mmc0");
        let line = "IPI0:      1      2       Rescheduling interrupts";
        let parsed = Interrupt::parse(line, 2).expect("complete");
        assert_eq!((&*parsed.info, &*parsed.devices), ("Rescheduling interrupts", ""));
        assert!(Interrupt::parse("ERR:          0", 2).is_none());
        assert!(Interrupt::parse("no colon", 2).is_none());
    }
}
