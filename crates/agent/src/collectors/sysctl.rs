//! Chosen kernel parameters. Source: `sysctl(8)`.

use std::path::PathBuf;

use model::MetricType;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const INFO: Family = Family::gauge("node_sysctl_info", "sysctl info");

/// `node_sysctl_*` for the parameters in the configuration.
pub(crate) struct Sysctl {
    root: PathBuf,
    parameters: Vec<Parameter>,
}

struct Parameter {
    name: String,
    /// A name for each number on the line, where the configuration gives them; an empty one
    /// leaves its number out.
    keys: Vec<String>,
    is_info: bool,
}

impl Sysctl {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.sysctl;
        let numbers = settings.include.iter().map(|text| (text, false));
        let words = settings.include_info.iter().map(|text| (text, true));
        let parameters = numbers.chain(words).map(|(text, is_info)| {
            let (name, keys) = text.split_once(':').unwrap_or((text, ""));
            let keys = match keys {
                "" => Vec::new(),
                keys => keys.split(',').map(str::to_owned).collect(),
            };
            Parameter { name: name.to_owned(), keys, is_info }
        });
        Sysctl { root: config.proc_root.join("sys"), parameters: parameters.collect() }
    }
}

impl Survey for Sysctl {
    fn name(&self) -> &'static str {
        "sysctl"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for parameter in &self.parameters {
            // A name with a part that has dots itself, such as `net/ipv4/conf/eth0.7/mtu`, is
            // written with slashes, as `sysctl(8)` takes it.
            let slashes = parameter.name.contains('/');
            let file =
                if slashes { parameter.name.clone() } else { parameter.name.replace('.', "/") };
            let path = self.root.join(file);
            let text = sysfs::read_text(&path)?;
            let values: Vec<&str> = text.split_ascii_whitespace().collect();
            if parameter.is_info {
                put_words(parameter, &values, out);
            } else if !put_numbers(parameter, &values, out) {
                return Err(AgentError::Malformed {
                    path,
                    expected: "number for each name in the configuration",
                });
            }
        }
        Ok(())
    }
}

fn put_words(parameter: &Parameter, values: &[&str], out: &mut Reading) {
    for (index, value) in values.iter().enumerate() {
        let index = index.to_string();
        let labels = [("name", &*parameter.name), ("value", value), ("index", &index)];
        out.put(&INFO, &labels, 1.0);
    }
}

/// Whether the line held what the configuration expects.
fn put_numbers(parameter: &Parameter, values: &[&str], out: &mut Reading) -> bool {
    let Ok(numbers) = values.iter().map(|text| text.parse::<f64>()).collect::<Result<Vec<_>, _>>()
    else {
        return false;
    };
    let metric = format!("node_sysctl_{}", sysfs::metric_name(&parameter.name));
    let help = format!("sysctl {}", parameter.name);
    if !parameter.keys.is_empty() {
        for (index, (key, value)) in parameter.keys.iter().zip(&numbers).enumerate() {
            if !key.is_empty() {
                let metric = format!("{metric}_{}", sysfs::metric_name(key));
                let help = format!("sysctl {}, field {index}", parameter.name);
                out.put_named(&metric, MetricType::Unknown, &help, [], *value);
            }
        }
        return parameter.keys.len() == numbers.len();
    }
    if let [value] = numbers[..] {
        out.put_named(&metric, MetricType::Unknown, &help, [], value);
        return true;
    }
    for (index, value) in numbers.iter().enumerate() {
        let index = index.to_string();
        out.put_named(&metric, MetricType::Unknown, &help, [("index", &*index)], *value);
    }
    !numbers.is_empty()
}
