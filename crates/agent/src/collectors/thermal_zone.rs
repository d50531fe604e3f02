//! Temperatures and cooling. Source: Linux `Documentation/driver-api/thermal/sysfs-api.rst`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const TEMPERATURE: Family = Family::gauge("node_thermal_zone_temp", "Zone temperature in Celsius");
const STATES: [(&str, Family); 2] = [
    (
        "cur_state",
        Family::gauge(
            "node_cooling_device_cur_state",
            "Current throttle state of the cooling device",
        ),
    ),
    (
        "max_state",
        Family::gauge(
            "node_cooling_device_max_state",
            "Maximum throttle state of the cooling device",
        ),
    ),
];

/// `node_thermal_zone_temp` and `node_cooling_device_*`.
pub(crate) struct ThermalZone {
    root: PathBuf,
}

impl ThermalZone {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        ThermalZone { root: config.sys_root.join("class/thermal") }
    }
}

impl Survey for ThermalZone {
    fn name(&self) -> &'static str {
        "thermal_zone"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for name in sysfs::names(&self.root)? {
            let directory = self.root.join(&name);
            let kind = sysfs::text(&directory.join("type")).unwrap_or_default();
            if let Some(zone) = sysfs::numbered(&name, "thermal_zone") {
                // A sensor that sleeps answers EAGAIN or ENODATA.
                if let Some(millicelsius) = sysfs::integer(&directory.join("temp")) {
                    let labels = [("zone", zone), ("type", &*kind)];
                    out.put(&TEMPERATURE, &labels, millicelsius as f64 / 1_000.0);
                }
            } else if let Some(device) = sysfs::numbered(&name, "cooling_device") {
                for (file, family) in &STATES {
                    if let Some(state) = sysfs::integer(&directory.join(file)) {
                        out.put(family, &[("name", device), ("type", &*kind)], state as f64);
                    }
                }
            }
        }
        Ok(())
    }
}
