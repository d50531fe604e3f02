//! The message that Alertmanager sends to webhooks, which incident.io takes as well.

use alerting::templates::notice::Data;
use gotemplate::{Value, write_json};

use crate::message::{Failure, Message};

/// Largest message in bytes.
const MAX_BYTES: usize = 64 << 20;

/// The message as JSON with a line break at the end, as Go writes it: the fields of the data, then
/// `version`, `groupKey`, `truncatedAlerts`, and `note` if there is one.
pub(crate) fn write(
    message: &Message<'_>,
    data: &Data,
    version: &str,
    truncated: usize,
) -> Result<String, Failure> {
    let mut data = data.clone();
    if !data.route_labels_rendered {
        let mut rendered = data.route_labels.clone();
        for value in rendered.values_mut() {
            *value = message.text_of(value, &data)?;
        }
        data.route_labels = rendered;
        data.route_labels_rendered = true;
    }
    let mut out = String::new();
    let append = |out: &mut String, value: &Value<'_>| {
        write_json(value, out, MAX_BYTES).map_err(|error| {
            Failure::fatal(format!("the message cannot be written as JSON: {error}"))
        })
    };
    append(&mut out, &data.value())?;
    // The fields of the data and these are one object.
    out.pop();
    for (name, value) in [("version", version), ("groupKey", &*message.notification.group_key)] {
        out.push_str(",\"");
        out.push_str(name);
        out.push_str("\":");
        append(&mut out, &Value::text(value))?;
    }
    out.push_str(&format!(",\"truncatedAlerts\":{truncated}"));
    if let Some(note) = message.note {
        out.push_str(",\"note\":");
        append(&mut out, &Value::text(note))?;
    }
    out.push_str("}\n");
    if out.len() > MAX_BYTES {
        return Err(Failure::fatal(format!(
            "the message has {} bytes, and {MAX_BYTES} are sent at most; set max_alerts, or group \
             by more labels",
            out.len()
        )));
    }
    Ok(out)
}
