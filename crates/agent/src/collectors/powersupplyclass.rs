//! Batteries and mains. Source: Linux `Documentation/ABI/testing/sysfs-class-power`.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

/// What one unit of a file is in the unit of its metric.
#[derive(Clone, Copy)]
enum Unit {
    One,
    /// Of volts, amperes, watts, ampere-hours or watt-hours.
    Micro,
    /// Of degrees.
    Tenth,
}

macro_rules! gauges {
    ($($unit:ident { $($file:literal $name:literal,)+ })+) => {
        &[$($((
            $file,
            Unit::$unit,
            Family::gauge(
                concat!("node_power_supply_", $name),
                concat!($name, " value of /sys/class/power_supply/<power_supply>."),
            ),
        ),)+)+]
    };
}

/// The files with a number.
const NUMBERS: &[(&str, Unit, Family)] = gauges![
    One {
        "authentic" "authentic",
        "calibrate" "calibrate",
        "capacity" "capacity",
        "capacity_alert_max" "capacity_alert_max",
        "capacity_alert_min" "capacity_alert_min",
        "cycle_count" "cyclecount",
        "online" "online",
        "present" "present",
        "time_to_empty_now" "time_to_empty_seconds",
        "time_to_full_now" "time_to_full_seconds",
    }
    Micro {
        "charge_control_limit" "charge_control_limit",
        "charge_control_limit_max" "charge_control_limit_max",
        "charge_counter" "charge_counter",
        "charge_empty" "charge_empty",
        "charge_empty_design" "charge_empty_design",
        "charge_full" "charge_full",
        "charge_full_design" "charge_full_design",
        "charge_now" "charge_ampere",
        "charge_term_current" "charge_term_current",
        "constant_charge_current" "constant_charge_current",
        "constant_charge_current_max" "constant_charge_current_max",
        "constant_charge_voltage" "constant_charge_voltage",
        "constant_charge_voltage_max" "constant_charge_voltage_max",
        "current_boot" "current_boot",
        "current_max" "current_max",
        "current_now" "current_ampere",
        "energy_empty" "energy_empty",
        "energy_empty_design" "energy_empty_design",
        "energy_full" "energy_full",
        "energy_full_design" "energy_full_design",
        "energy_now" "energy_watthour",
        "input_current_limit" "input_current_limit",
        "power_now" "power_watt",
        "precharge_current" "precharge_current",
        "voltage_boot" "voltage_boot",
        "voltage_max" "voltage_max",
        "voltage_max_design" "voltage_max_design",
        "voltage_min" "voltage_min",
        "voltage_min_design" "voltage_min_design",
        "voltage_now" "voltage_volt",
        "voltage_ocv" "voltage_ocv",
    }
    Tenth {
        "temp" "temp_celsius",
        "temp_alert_max" "temp_alert_max_celsius",
        "temp_alert_min" "temp_alert_min_celsius",
        "temp_ambient" "temp_ambient_celsius",
        "temp_ambient_max" "temp_ambient_max_celsius",
        "temp_ambient_min" "temp_ambient_min_celsius",
        "temp_max" "temp_max_celsius",
        "temp_min" "temp_min_celsius",
    }
];

const INFO: Family =
    Family::gauge("node_power_supply_info", "info of /sys/class/power_supply/<power_supply>.");

/// The files with words, which are labels of `node_power_supply_info`.
const WORDS: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];

/// `node_power_supply_*`.
pub(crate) struct Powersupplyclass {
    root: PathBuf,
    ignored: Option<crate::pattern::Pattern>,
}

impl Powersupplyclass {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Powersupplyclass {
            root: config.sys_root.join("class/power_supply"),
            ignored: config.collectors.powersupplyclass.ignored_supplies.clone(),
        }
    }
}

impl Survey for Powersupplyclass {
    fn name(&self) -> &'static str {
        "powersupplyclass"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for name in sysfs::names(&self.root)? {
            if !self.ignored.as_ref().is_some_and(|p| p.is_match(name.as_bytes())) {
                read_supply(&name, &self.root.join(&name), out);
            }
        }
        Ok(())
    }
}

fn read_supply(name: &str, directory: &Path, out: &mut Reading) {
    let supply = ("power_supply", name);
    // Only files that are there are read: each read may ask the firmware, which takes its time.
    let files = sysfs::names_if_any(directory);
    for (file, unit, family) in NUMBERS {
        if files.binary_search_by(|name| name.as_str().cmp(file)).is_err() {
            continue;
        }
        let Some(number) = sysfs::integer(&directory.join(file)) else { continue };
        let value = match unit {
            Unit::One => number as f64,
            Unit::Micro => number as f64 / 1e6,
            Unit::Tenth => number as f64 / 10.0,
        };
        out.put(family, &[supply], value);
    }
    let words = WORDS.map(|file| sysfs::text(&directory.join(file)).unwrap_or_default());
    let labels = WORDS.into_iter().zip(words.iter().map(String::as_str));
    let labels: Vec<(&str, &str)> = labels.chain([supply]).collect();
    out.put(&INFO, &labels, 1.0);
}
