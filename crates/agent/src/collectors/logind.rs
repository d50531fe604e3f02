//! Sessions of people who are logged in. Source: `org.freedesktop.login1(5)`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::dbus::{Bus, Object, Value};
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;

const SESSIONS: Family =
    Family::gauge("node_logind_sessions", "Number of sessions registered in logind.");

const SERVICE: &str = "org.freedesktop.login1";
const SESSION: &str = "org.freedesktop.login1.Session";
const MANAGER: Object<'static> = Object { service: SERVICE, path: "/org/freedesktop/login1" };

/// Values of the labels that are told apart; others count as `other`.
const TYPES: [&str; 5] = ["other", "unspecified", "tty", "x11", "wayland"];
const CLASSES: [&str; 5] = ["other", "user", "greeter", "lock-screen", "background"];

/// `node_logind_sessions`, asked over the system's bus.
pub(crate) struct Logind {
    address: PathBuf,
}

impl Logind {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Logind { address: config.root_fs.join("run/dbus/system_bus_socket") }
    }
}

impl Survey for Logind {
    fn name(&self) -> &'static str {
        "logind"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let mut bus = Bus::connect(&self.address)?;
        let mut counts: BTreeMap<(String, &str, &str, &str), u64> = BTreeMap::new();
        // Each session is `(susso)`: identifier, user, name, seat, path.
        for session in first(bus.call(MANAGER, SERVICE_MANAGER, "ListSessions", &[])?) {
            let fields = session.into_items();
            let text = |at: usize| fields.get(at).and_then(Value::as_str).unwrap_or_default();
            let object = Object { service: SERVICE, path: text(4) };
            // A session that ended since it was listed is no session any more.
            let Ok(remote) = bus.property(object, SESSION, "Remote") else { continue };
            let remote = if remote.as_f64() == Some(1.0) { "true" } else { "false" };
            let kind = known(&TYPES, &bus.property(object, SESSION, "Type")?);
            let class = known(&CLASSES, &bus.property(object, SESSION, "Class")?);
            *counts.entry((text(3).to_owned(), remote, kind, class)).or_default() += 1;
        }
        for ((seat, remote, kind, class), count) in &counts {
            let labels = [("seat", &**seat), ("remote", remote), ("type", kind), ("class", class)];
            out.put(&SESSIONS, &labels, *count as f64);
        }
        Ok(())
    }
}

const SERVICE_MANAGER: &str = "org.freedesktop.login1.Manager";

fn first(returned: Vec<Value>) -> Vec<Value> {
    returned.into_iter().next().map(Value::into_items).unwrap_or_default()
}

fn known(names: &[&'static str; 5], value: &Value) -> &'static str {
    let text = value.as_str().unwrap_or_default();
    names.iter().find(|name| **name == text).copied().unwrap_or("other")
}
