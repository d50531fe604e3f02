//! Energy used by CPUs and memory. Source: Linux `Documentation/power/powercap/powercap.rst`.

use std::collections::HashMap;
use std::path::PathBuf;

use model::MetricType;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const JOULES: Family = Family::counter("node_rapl_joules_total", "Current RAPL value in joules");

const JOULES_PER_MICROJOULE: f64 = 1_000_000.0;

/// `node_rapl_*`. Since Linux 5.10 only root may read the meters, as they betray secrets.
pub(crate) struct Rapl {
    root: PathBuf,
    zone_label: bool,
}

impl Rapl {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Rapl {
            root: config.sys_root.join("class/powercap"),
            zone_label: config.collectors.rapl.enable_zone_label,
        }
    }
}

impl Survey for Rapl {
    fn name(&self) -> &'static str {
        "rapl"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        // Zones of one name, such as the DRAM of each package, are numbered as they come.
        let mut indexes: HashMap<String, u32> = HashMap::new();
        for name in sysfs::names(&self.root)? {
            if !name.starts_with("intel-rapl:") {
                continue;
            }
            let directory = self.root.join(&name);
            let Some(zone) = sysfs::text(&directory.join("name")) else { continue };
            // `package-0` has its number in its name.
            let (zone, index) = match zone.rsplit_once('-') {
                Some((kind, digits)) if sysfs::numbered(digits, "").is_some() => {
                    (kind.to_owned(), digits.to_owned())
                }
                _ => {
                    let next = indexes.entry(zone.clone()).or_default();
                    let index = next.to_string();
                    *next += 1;
                    (zone, index)
                }
            };
            let energy = sysfs::read_text(&directory.join("energy_uj"))?;
            let Ok(microjoules) = energy.trim().parse::<f64>() else { continue };
            let joules = microjoules / JOULES_PER_MICROJOULE;
            let path = directory.display().to_string();
            let labels = [("index", &*index), ("path", &*path), ("rapl_zone", &*zone)];
            if self.zone_label {
                out.put(&JOULES, &labels, joules);
            } else {
                let metric = format!("node_rapl_{}_joules_total", sysfs::metric_name(&zone));
                let help = format!("Current RAPL {zone} value in joules");
                let labels = labels[..2].iter().copied();
                out.put_named(&metric, MetricType::Counter, &help, labels, joules);
            }
        }
        Ok(())
    }
}
