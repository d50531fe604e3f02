//! Temperatures, fans, voltages. Source: Linux `Documentation/hwmon/sysfs-interface.rst`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::MetricType;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::pattern::NameFilter;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const CHIP_NAMES: Family =
    Family::gauge("node_hwmon_chip_names", "Annotation metric for human-readable chip names");
const SENSOR_LABEL: Family =
    Family::gauge("node_hwmon_sensor_label", "Label for given chip and sensor");

/// The kinds of sensors, which begin the names of their files.
const KINDS: [&str; 14] = [
    "beep_enable",
    "cpu",
    "curr",
    "energy",
    "fan",
    "freq",
    "humidity",
    "in",
    "intrusion",
    "power",
    "pwm",
    "temp",
    "update_interval",
    "vrm",
];

/// `node_hwmon_*`.
pub(crate) struct Hwmon {
    root: PathBuf,
    chips: NameFilter,
    sensors: NameFilter,
}

impl Hwmon {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.hwmon;
        Hwmon {
            root: config.sys_root.join("class/hwmon"),
            chips: NameFilter::new(&settings.chip_include, &settings.chip_exclude),
            sensors: NameFilter::new(&settings.sensor_include, &settings.sensor_exclude),
        }
    }
}

impl Survey for Hwmon {
    fn name(&self) -> &'static str {
        "hwmon"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for name in sysfs::names(&self.root)? {
            let directory = self.root.join(&name);
            let chip = chip_name(&directory, &name);
            if directory.is_dir() && self.chips.takes(&chip) {
                self.read_chip(&chip, &directory, out);
            }
        }
        Ok(())
    }
}

/// What the files of one sensor say, by the part of their names after the sensor.
type Elements = BTreeMap<String, String>;

impl Hwmon {
    fn read_chip(&self, chip: &str, directory: &Path, out: &mut Reading) {
        if let Some(name) = sysfs::text(&directory.join("name")) {
            out.put(&CHIP_NAMES, &[("chip", chip), ("chip_name", &*clean(&name))], 1.0);
        }
        // Sensors by kind and number.
        let mut sensors: BTreeMap<(&'static str, u32), Elements> = BTreeMap::new();
        // Drivers from before Linux 2.6.20 put the files beside the device.
        for place in [directory.to_owned(), directory.join("device")] {
            for file in sysfs::names_if_any(&place) {
                let Some((kind, number, element)) = split_file_name(&file) else { continue };
                if !self.sensors.takes(&format!("{chip};{kind}{number}")) {
                    continue;
                }
                let Some(text) = sysfs::text(&place.join(&file)) else { continue };
                sensors.entry((kind, number)).or_default().insert(element.to_owned(), text);
            }
        }
        for ((kind, number), elements) in &sensors {
            let sensor = format!("{kind}{number}");
            if let Some(label) = elements.get("label").filter(|label| !label.is_empty()) {
                let labels = [("chip", chip), ("sensor", &*sensor), ("label", label)];
                out.put(&SENSOR_LABEL, &labels, 1.0);
            }
            put_sensor(chip, kind, &sensor, elements, out);
        }
    }
}

/// Kind, number and element of a file such as `temp1_crit_alarm`.
fn split_file_name(file: &str) -> Option<(&'static str, u32, &str)> {
    let digits = file.find(|c: char| c.is_ascii_digit()).unwrap_or(file.len());
    let kind = KINDS.into_iter().find(|kind| *kind == &file[..digits])?;
    let rest = &file[digits..];
    let digits_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, element) = rest.split_at(digits_end);
    let number = if number.is_empty() { 0 } else { number.parse().ok()? };
    match element.strip_prefix('_') {
        Some(element) => Some((kind, number, element)),
        None => element.is_empty().then_some((kind, number, "")),
    }
}

fn put_sensor(chip: &str, kind: &str, sensor: &str, elements: &Elements, out: &mut Reading) {
    let has_value = elements.contains_key("");
    let label = elements.get("label").map(|label| clean(label)).unwrap_or_default();
    for (element, text) in elements.iter().filter(|(element, _)| *element != "label") {
        let Ok(number) = text.parse::<f64>() else { continue };
        let is_frequency = kind == "freq" && element == "input" && !label.is_empty();
        let Metric { name, help, kind, value } = if is_frequency {
            Metric::gauge("node_hwmon_freq_freq_mhz", "Hardware monitor for GPU frequency in MHz")
                .with(number / 1e6)
        } else {
            metric(kind, element, has_value, number)
        };
        let sensor = if is_frequency { &label } else { sensor };
        out.put_named(&name, kind, &help, [("chip", chip), ("sensor", sensor)], value);
    }
}

struct Metric {
    name: String,
    help: String,
    kind: MetricType,
    value: f64,
}

impl Metric {
    fn gauge(name: impl Into<String>, help: impl Into<String>) -> Self {
        Metric { name: name.into(), help: help.into(), kind: MetricType::Gauge, value: 0.0 }
    }

    fn with(self, value: f64) -> Self {
        Metric { value, ..self }
    }
}

/// The metric of one file, in the unit the kernel documents for it.
///
/// `has_value` says that there is a file without an element besides `*_input`.
fn metric(kind: &str, element: &str, has_value: bool, number: f64) -> Metric {
    const MILLI: f64 = 0.001;
    let gauge = |name: &str, help: &str| Metric::gauge(name, help);
    match kind {
        "beep_enable" => {
            let enabled = f64::from(u8::from(number == 1.0));
            return gauge("node_hwmon_beep_enabled", "Hardware beep enabled").with(enabled);
        }
        "vrm" => {
            let name = "node_hwmon_voltage_regulator_version";
            return gauge(name, "Hardware voltage regulator").with(number);
        }
        "update_interval" => {
            let name = "node_hwmon_update_interval_seconds";
            return gauge(name, "Hardware monitor update interval").with(number * MILLI);
        }
        _ => {}
    }
    let name = match element {
        "input" if has_value => format!("node_hwmon_{kind}_input"),
        "input" | "" => format!("node_hwmon_{kind}"),
        element => format!("node_hwmon_{kind}_{}", clean(element)),
    };
    let with_unit = |unit: &str, help: &str, value: f64| {
        Metric::gauge(format!("{name}_{unit}"), help).with(value)
    };
    let of = |what: &str| format!("Hardware monitor for {what} ({element})");
    match (kind, element) {
        (_, "fault" | "alarm") => {
            gauge(&name, &format!("Hardware sensor {element} status ({kind})")).with(number)
        }
        (_, "beep") => with_unit("enabled", "Hardware monitor sensor has beeping enabled", number),
        ("in" | "cpu", _) => with_unit("volts", &of("voltage"), number * MILLI),
        ("temp", element) if element != "type" => {
            with_unit("celsius", &of("temperature"), number * MILLI)
        }
        ("curr", _) => with_unit("amps", &of("current"), number * MILLI),
        ("energy", _) => Metric {
            kind: MetricType::Counter,
            ..with_unit("joule_total", &of("joules used so far"), number / 1e6)
        },
        ("power", "accuracy") => {
            gauge(&name, "Hardware monitor power meter accuracy, as a ratio").with(number / 1e6)
        }
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            let help = format!("Hardware monitor power usage update interval ({element})");
            with_unit("seconds", &help, number * MILLI)
        }
        ("power", _) => with_unit("watt", &of("power usage in watts"), number / 1e6),
        ("humidity", _) => {
            let what = "humidity, as a ratio (multiply with 100.0 to get the humidity as a \
                        percentage)";
            gauge(&name, &of(what)).with(number / 1e6)
        }
        ("fan", "input" | "min" | "max" | "target") => {
            with_unit("rpm", &of("fan revolutions per minute"), number)
        }
        _ => gauge(&name, &format!("Hardware monitor {kind} element {element}")).with(number),
    }
}

/// A name that stays the same over reboots: that of the device the chip sits on, with the name of
/// the chip where the device has several; else the chip's own; else `hwmon7`.
fn chip_name(directory: &Path, own: &str) -> String {
    let name = sysfs::text(&directory.join("name")).map(|name| clean(&name)).unwrap_or_default();
    if let Ok(device) = directory.join("device").canonicalize() {
        let part = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).and_then(|name| name.to_str());
            name.map(clean).unwrap_or_default()
        };
        let mut parts = vec![part(device.parent()), part(Some(&device))];
        if sysfs::names_if_any(&device.join("hwmon")).len() > 1 {
            parts.push(name.clone());
        }
        parts.retain(|part| !part.is_empty());
        if !parts.is_empty() {
            return parts.join("_");
        }
    }
    if name.is_empty() { clean(own) } else { name }
}

/// In lower case, with underscores for what may not stand in a name.
fn clean(text: &str) -> String {
    sysfs::metric_name(&text.to_lowercase()).trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        assert_eq!(split_file_name("temp1_crit_alarm"), Some(("temp", 1, "crit_alarm")));
        assert_eq!(split_file_name("pwm1"), Some(("pwm", 1, "")));
        assert_eq!(split_file_name("beep_enable"), Some(("beep_enable", 0, "")));
        assert_eq!(split_file_name("pwm1_auto_point2_temp"), Some(("pwm", 1, "auto_point2_temp")));
        for other in ["name", "uevent", "temp1x", "bogus1_max", "in99999999999_input"] {
            assert_eq!(split_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn units() {
        let check = |kind: &str, element: &str, number: f64, name: &str, value: f64| {
            let metric = metric(kind, element, false, number);
            assert_eq!((metric.name.as_str(), metric.value), (name, value));
        };
        check("temp", "input", 20_000.0, "node_hwmon_temp_celsius", 20.0);
        check("temp", "type", 4.0, "node_hwmon_temp_type", 4.0);
        check("in", "min", 500.0, "node_hwmon_in_min_volts", 0.5);
        check("curr", "input", 500.0, "node_hwmon_curr_amps", 0.5);
        check("energy", "input", 5e6, "node_hwmon_energy_joule_total", 5.0);
        check("power", "average", 5e6, "node_hwmon_power_average_watt", 5.0);
        let interval = "node_hwmon_power_average_interval_seconds";
        check("power", "average_interval", 500.0, interval, 0.5);
        check("power", "accuracy", 5e5, "node_hwmon_power_accuracy", 0.5);
        check("humidity", "input", 5e5, "node_hwmon_humidity", 0.5);
        check("fan", "input", 900.0, "node_hwmon_fan_rpm", 900.0);
        check("fan", "fault", 1.0, "node_hwmon_fan_fault", 1.0);
        check("fan", "beep", 1.0, "node_hwmon_fan_beep_enabled", 1.0);
        check("vrm", "", 90.0, "node_hwmon_voltage_regulator_version", 90.0);
        check("update_interval", "", 1_000.0, "node_hwmon_update_interval_seconds", 1.0);
        check("beep_enable", "", 1.0, "node_hwmon_beep_enabled", 1.0);
    }
}
