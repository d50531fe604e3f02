//! Memory by NUMA node. Source: Linux `Documentation/ABI/stable/sysfs-devices-node`.

use std::path::PathBuf;

use model::MetricType;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::survey::Survey;
use crate::sysfs;

/// `node_memory_numa_*`.
pub(crate) struct MeminfoNuma {
    root: PathBuf,
}

impl MeminfoNuma {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        MeminfoNuma { root: config.sys_root.join("devices/system/node") }
    }
}

impl Survey for MeminfoNuma {
    fn name(&self) -> &'static str {
        "meminfo_numa"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for name in sysfs::names(&self.root)? {
            let Some(node) = sysfs::numbered(&name, "node") else { continue };
            let directory = self.root.join(&name);
            for line in sysfs::read_text(&directory.join("meminfo"))?.lines() {
                if let Some((field, bytes)) = parse_line(line) {
                    put(out, &field, MetricType::Gauge, node, bytes);
                }
            }
            for line in sysfs::read_text(&directory.join("numastat"))?.lines() {
                let Some((field, count)) = line.split_once(' ') else { continue };
                let Ok(count) = count.trim().parse::<f64>() else { continue };
                put(out, &format!("{field}_total"), MetricType::Counter, node, count);
            }
        }
        Ok(())
    }
}

fn put(out: &mut Reading, field: &str, kind: MetricType, node: &str, value: f64) {
    let name = format!("node_memory_numa_{field}");
    let help = format!("Memory information field {field}.");
    out.put_named(&name, kind, &help, [("node", node)], value);
}

/// Field and bytes of a line such as `Node 0 Active(anon):     691324 kB`.
fn parse_line(line: &str) -> Option<(String, f64)> {
    let (left, right) = line.split_once(':')?;
    let field = left.split_ascii_whitespace().nth(2)?;
    let field = field.replace('(', "_").replace(')', "");
    let mut right = right.split_ascii_whitespace();
    let number = right.next()?.parse::<f64>().ok()?;
    Some((field, if right.next() == Some("kB") { number * 1_024.0 } else { number }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_meminfo() {
        let parse = |line| parse_line(line).map(|(field, bytes)| format!("{field} {bytes}"));
        assert_eq!(parse("Node 0 Active(anon):  2 kB").as_deref(), Some("Active_anon 2048"));
        assert_eq!(parse("Node 12 HugePages_Total: 3").as_deref(), Some("HugePages_Total 3"));
        assert_eq!(parse("Node 0 Active"), None);
    }
}
