//! Units of systemd. Source: `org.freedesktop.systemd1(5)`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::collector_settings::SystemdSettings;
use crate::config::AgentConfig;
use crate::dbus::{Bus, Object, Value};
use crate::error::AgentError;
use crate::pattern::NameFilter;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family::gauge(name, help)
}

const UNIT_STATE: Family = gauge("node_systemd_unit_state", "Systemd unit");
const UNITS: Family = gauge("node_systemd_units", "Summary of systemd unit states");
const RUNNING: Family = gauge(
    "node_systemd_system_running",
    "Whether the system is operational (see 'systemctl is-system-running')",
);
const VERSION: Family = gauge("node_systemd_version", "Detected systemd version");
const VIRTUALIZATION: Family =
    gauge("node_systemd_virtualization_info", "Detected virtualization technology");
const START_TIME: Family = gauge(
    "node_systemd_unit_start_time_seconds",
    "Start time of the unit since unix epoch in seconds.",
);
const TASKS: [(&str, Family); 2] = [
    (
        "TasksCurrent",
        gauge("node_systemd_unit_tasks_current", "Current number of tasks per Systemd unit"),
    ),
    ("TasksMax", gauge("node_systemd_unit_tasks_max", "Maximum number of tasks per Systemd unit")),
];
const RESTARTS: Family =
    Family::counter("node_systemd_service_restart_total", "Service unit count of Restart triggers");
const LAST_TRIGGER: Family =
    gauge("node_systemd_timer_last_trigger_seconds", "Seconds since epoch of last trigger.");
const SOCKETS: [(&str, Family); 3] = [
    (
        "NAccepted",
        Family::counter(
            "node_systemd_socket_accepted_connections_total",
            "Total number of accepted socket connections",
        ),
    ),
    (
        "NConnections",
        gauge("node_systemd_socket_current_connections", "Current number of socket connections"),
    ),
    (
        "NRefused",
        gauge(
            "node_systemd_socket_refused_connections_total",
            "Total number of refused socket connections",
        ),
    ),
];

const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";

/// The type of a service changes only when its file does, and asking costs a call for each.
const TYPES_PERIOD: Duration = Duration::from_secs(600);

/// What systemd says for a number that is not set.
const UNSET: f64 = u64::MAX as f64;

/// `node_systemd_*`, asked over the system's bus.
pub(crate) struct Systemd {
    address: PathBuf,
    settings: SystemdSettings,
    filter: NameFilter,
    bus: Option<Bus>,
    types: HashMap<String, String>,
    types_since: Option<Instant>,
}

impl Systemd {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = config.collectors.systemd.clone();
        Systemd {
            address: config.root_fs.join("run/dbus/system_bus_socket"),
            filter: NameFilter::new(&settings.unit_include, &settings.unit_exclude),
            settings,
            bus: None,
            types: HashMap::new(),
            types_since: None,
        }
    }

    fn try_read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        if self.types_since.is_none_or(|since| since.elapsed() > TYPES_PERIOD) {
            self.types.clear();
            self.types_since = Some(Instant::now());
        }
        let Systemd { address, settings, filter, bus, types, .. } = self;
        let bus = match bus {
            Some(bus) => bus,
            None => bus.insert(Bus::connect(address)?),
        };
        put_manager(bus, out)?;
        let object = Object { service: SERVICE, path: MANAGER_PATH };
        let listed = bus.call(object, MANAGER, "ListUnits", &[])?;
        let units = parse_units(listed);
        for state in STATES {
            let count = units.iter().filter(|unit| unit.active_state == state).count();
            out.put(&UNITS, &[("state", state)], count as f64);
        }
        let is_taken = |name: &str| filter.takes_unless(name.as_bytes(), is_excluded_unit);
        for unit in &units {
            if unit.load_state == "loaded" && is_taken(&unit.name) {
                put_unit(bus, unit, settings, types, out)?;
            }
        }
        Ok(())
    }
}

impl Survey for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(15)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let result = self.try_read(out);
        if result.is_err() {
            self.bus = None;
        }
        result
    }
}

/// What systemd says about itself.
fn put_manager(bus: &mut Bus, out: &mut Reading) -> Result<(), AgentError> {
    let object = Object { service: SERVICE, path: MANAGER_PATH };
    let mut text = |name: &str| -> Result<String, AgentError> {
        let value = bus.property(object, MANAGER, name)?;
        Ok(value.as_str().unwrap_or_default().to_owned())
    };
    let state = text("SystemState")?;
    out.put(&RUNNING, &[], f64::from(u8::from(state == "running")));
    let version = text("Version")?;
    out.put(&VERSION, &[("version", &*version)], major_version(&version));
    let virtualization = text("Virtualization")?;
    let kind = if virtualization.is_empty() { "none" } else { &virtualization };
    out.put(&VIRTUALIZATION, &[("virtualization_type", kind)], 1.0);
    Ok(())
}

/// The number in `252.36-1~deb12u1` or `v255`, with what follows its first point.
fn major_version(text: &str) -> f64 {
    let text = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut parts = text[..end].splitn(3, '.');
    let (whole, fraction) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("0"));
    format!("{whole}.{fraction}").parse().unwrap_or(0.0)
}

#[derive(Debug, PartialEq)]
struct Unit {
    name: String,
    load_state: String,
    active_state: String,
    path: String,
}

/// The structures `(ssssssouso)`: name, description, load state, active state, sub state,
/// followed unit, path, and three about a job.
fn parse_units(listed: Vec<Value>) -> Vec<Unit> {
    let units = listed.into_iter().next().map(Value::into_items).unwrap_or_default();
    let parse = |unit: Value| {
        let fields = unit.into_items();
        let text = |at: usize| fields.get(at).and_then(Value::as_str).map(str::to_owned);
        Some(Unit { name: text(0)?, load_state: text(2)?, active_state: text(3)?, path: text(6)? })
    };
    units.into_iter().filter_map(parse).collect()
}

/// `.+\.(automount|device|mount|scope|slice)`, Node Exporter's default of
/// `--collector.systemd.unit-exclude`.
fn is_excluded_unit(name: &[u8]) -> bool {
    let kinds: [&[u8]; 5] = [b".automount", b".device", b".mount", b".scope", b".slice"];
    kinds.iter().any(|kind| name.strip_suffix(*kind).is_some_and(|rest| !rest.is_empty()))
}

fn put_unit(
    bus: &mut Bus,
    unit: &Unit,
    settings: &SystemdSettings,
    types: &mut HashMap<String, String>,
    out: &mut Reading,
) -> Result<(), AgentError> {
    let object = Object { service: SERVICE, path: &unit.path };
    let name = ("name", unit.name.as_str());
    let kind = unit.name.rsplit('.').next().unwrap_or_default();
    let interface = match kind {
        "service" => "org.freedesktop.systemd1.Service",
        "mount" => "org.freedesktop.systemd1.Mount",
        "socket" => "org.freedesktop.systemd1.Socket",
        "timer" => "org.freedesktop.systemd1.Timer",
        _ => "",
    };
    if matches!(kind, "service" | "mount") && !types.contains_key(&unit.name) {
        let kind = bus.property(object, interface, "Type")?;
        types.insert(unit.name.clone(), kind.as_str().unwrap_or_default().to_owned());
    }
    let unit_type = types.get(&unit.name).map_or("", String::as_str);
    for state in STATES {
        let is = f64::from(u8::from(unit.active_state == state));
        out.put(&UNIT_STATE, &[name, ("state", state), ("type", unit_type)], is);
    }
    let mut number = |interface: &str, property: &str| -> Result<Option<f64>, AgentError> {
        let value = bus.property(object, interface, property)?;
        Ok(value.as_f64().filter(|&value| value != UNSET))
    };
    match kind {
        "socket" => {
            for (property, family) in &SOCKETS {
                let value = number(interface, property)?;
                value.into_iter().for_each(|value| out.put(family, &[name], value));
            }
        }
        "timer" => {
            let value = number(interface, "LastTriggerUSec")?;
            value.into_iter().for_each(|usec| out.put(&LAST_TRIGGER, &[name], usec / 1e6));
        }
        "service" => {
            if settings.enable_restarts_metrics {
                let value = number(interface, "NRestarts")?;
                value.into_iter().for_each(|count| out.put(&RESTARTS, &[name], count));
            }
            if settings.enable_task_metrics {
                for (property, family) in &TASKS {
                    let value = number(interface, property)?;
                    value.into_iter().for_each(|value| out.put(family, &[name], value));
                }
            }
        }
        _ => {}
    }
    if settings.enable_start_time_metrics {
        let since = match unit.active_state.as_str() {
            "active" => number("org.freedesktop.systemd1.Unit", "ActiveEnterTimestamp")?,
            _ => Some(0.0),
        };
        since.into_iter().for_each(|usec| out.put(&START_TIME, &[name], usec / 1e6));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(major_version("252.36-1~deb12u1"), 252.36);
        assert_eq!(major_version("v255"), 255.0);
        assert_eq!(major_version("256~rc3-g1"), 256.0);
        assert_eq!(major_version("x"), 0.0);
    }

    #[test]
    fn units_of_other_kinds_are_left_out() {
        for name in ["dev-sda.device", "a.b.mount", "init.scope"] {
            assert!(is_excluded_unit(name.as_bytes()), "{name}");
        }
        for name in ["ssh.service", ".mount", "mount", "a.timer"] {
            assert!(!is_excluded_unit(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_list_of_units() {
        let text = |text: &str| Value::Text(text.to_owned());
        let fields = ["a.service", "d", "loaded", "active", "running", "", "/o/a"].map(text);
        let whole = Value::List(fields.to_vec());
        let cut = Value::List(fields[..3].to_vec());
        let units = parse_units(vec![Value::List(vec![cut, whole])]);
        let names: Vec<_> = units.iter().map(|unit| (&*unit.name, &*unit.path)).collect();
        assert_eq!(names, [("a.service", "/o/a")]);
        assert!(parse_units(vec![]).is_empty());
    }
}
