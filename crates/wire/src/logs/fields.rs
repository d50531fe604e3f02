//! Lines that come as an object of fields: which of them is the line, the time, the stream.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::intake::Intake;
use super::loki_json::MaybeText;
use super::pairs::Pairs;
use super::{LogPushError, timestamp};

/// Objects nested deeper are no line.
const MAX_DEPTH: usize = 32;
/// Most fields of a line, whatever the limits are: an empty one takes little of a body.
const MAX_FIELDS: usize = 10_000;

/// Which fields of an object mean what. `Default` is what senders use that say nothing.
///
/// Source: <https://docs.victoriametrics.com/victorialogs/data-ingestion/#http-parameters>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldOptions {
    /// Fields that may hold the line, of which the first that is there does (`_msg_field`). Without
    /// any the line is the object as it came.
    pub message: Vec<String>,
    /// Fields that may hold the time, of which the first that is there does (`_time_field`). Without
    /// any it is now.
    pub time: Vec<String>,
    /// Fields that become labels of the stream (`_stream_fields`).
    pub stream: Vec<String>,
    /// Fields that are left out (`ignore_fields`).
    pub ignored: Vec<String>,
    /// Fields that are added, in place of those of the line (`extra_fields`).
    pub extra: Vec<(String, String)>,
}

impl Default for FieldOptions {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        FieldOptions {
            message: owned(&["_msg", "message", "msg", "log"]),
            time: owned(&["_time", "@timestamp", "timestamp", "time"]),
            stream: owned(&[
                "service.name",
                "service_name",
                "service",
                "app",
                "job",
                "namespace",
                "kubernetes.namespace",
                "kubernetes.namespace_name",
                "kubernetes.container.name",
                "kubernetes.container_name",
                "container.name",
                "container_name",
                "container",
                "host.name",
                "hostname",
                "host",
                "env",
                "environment",
            ]),
            ignored: Vec::new(),
            extra: Vec::new(),
        }
    }
}

/// Takes one object after the other; memory to be used again.
#[derive(Default)]
pub(super) struct FieldLines {
    fields: Pairs,
    labels: Pairs,
    metadata: Pairs,
    /// The number of the line of the request that is read, from 1; 0 where the answer tells of each anyway.
    number: usize,
}

impl FieldLines {
    /// Tells the number of the line that comes next, from 1.
    pub(super) fn at_line(&mut self, number: usize) {
        self.number = number;
    }

    /// Takes the line that an object in JSON is; yields whether it was taken.
    ///
    /// # Errors
    /// The batch is full.
    pub(super) fn json(
        &mut self,
        json: &[u8],
        options: &FieldOptions,
        intake: &mut Intake<'_>,
    ) -> Result<bool, LogPushError> {
        self.fields.clear();
        let read = std::str::from_utf8(json).map_err(|error| error.to_string());
        let read = read.and_then(|text| flatten(text, &mut String::new(), 0, &mut self.fields));
        match read {
            Ok(()) => self.take(json, options, intake),
            Err(reason) => {
                let reason = match self.number {
                    0 => reason,
                    number => format!("line {number}: {reason}"),
                };
                intake.refuse_malformed(reason, json.len());
                Ok(false)
            }
        }
    }

    fn take(
        &mut self,
        whole: &[u8],
        options: &FieldOptions,
        intake: &mut Intake<'_>,
    ) -> Result<bool, LogPushError> {
        for (name, value) in &options.extra {
            let known = self.fields.iter().position(|(known, _)| known == name);
            match known {
                Some(index) => self.fields.set_value(index, value),
                None => self.fields.push(name, value),
            }
        }
        let FieldLines { fields, labels, metadata, .. } = self;
        let find = |names: &[String]| {
            names.iter().find_map(|name| fields.iter().position(|(known, _)| known == name))
        };
        let time = find(&options.time);
        let timestamp_ns = match time.map(|index| fields.at(index)) {
            None | Some((_, "" | "0" | "-")) => intake.arrival_ns(),
            Some((name, text)) => match timestamp::parse(text) {
                Some(timestamp_ns) => timestamp_ns,
                None => {
                    let shown = crate::json_list::shown(text);
                    let reason = format!("cannot parse timestamp from field {name:?}: {shown:?}");
                    intake.refuse_malformed(reason, whole.len());
                    return Ok(false);
                }
            },
        };
        let message = find(&options.message).filter(|index| !fields.at(*index).1.is_empty());
        labels.clear();
        metadata.clear();
        for (index, (name, value)) in fields.iter().enumerate() {
            let is_in = |names: &[String]| names.iter().any(|listed| listed == name);
            if Some(index) == time
                || Some(index) == message
                || value.is_empty()
                || is_in(&options.ignored)
            {
                continue;
            }
            if is_in(&options.stream) {
                push_label(labels, name, value);
            } else if message.is_some() {
                metadata.push_named(name, value);
            }
        }
        intake.begin_any(labels);
        // Where the line is the whole object, its fields are in it.
        let line = message.map_or(whole, |index| fields.at(index).1.as_bytes());
        intake.line(timestamp_ns, line, metadata)
    }
}

/// Adds a label, unless there is one of that name: fields that are written alike are no fault.
fn push_label(labels: &mut Pairs, name: &str, value: &str) {
    let before = labels.len();
    labels.push_named(name, value);
    if labels.len() > before {
        let (name, _) = labels.at(before);
        if (0..before).any(|index| labels.at(index).0 == name) {
            labels.truncate(before);
        }
    }
}

/// Appends the members of an object, those of objects inside of it by their path with `.` between.
/// Lists stay JSON; `null` is no field; of equal names the first counts where one is looked for.
fn flatten(json: &str, path: &mut String, depth: usize, out: &mut Pairs) -> Result<(), String> {
    if depth == MAX_DEPTH {
        return Err(format!("objects are nested more than {MAX_DEPTH} deep"));
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    let mut fault = None;
    let members = Members { path, depth, out, fault: &mut fault };
    let read = reader.deserialize_map(members).and_then(|()| reader.end());
    match fault {
        Some(fault) => Err(fault),
        // Within a member the place is that in the member.
        None if depth > 0 => read.map_err(|error| crate::json_list::reason(&error)),
        None => read.map_err(|error| {
            format!("{} at column {}", crate::json_list::reason(&error), error.column())
        }),
    }
}

struct Members<'r> {
    path: &'r mut String,
    depth: usize,
    out: &'r mut Pairs,
    /// What is wrong inside of a member.
    fault: &'r mut Option<String>,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<MaybeText<'de>>()? {
            let value: &RawValue = map.next_value()?;
            let before = self.path.len();
            if before > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name.0.unwrap_or_default());
            let added = Self::add(self.path, self.depth, self.out, value.get());
            self.path.truncate(before);
            if let Err(fault) = added {
                *self.fault = Some(fault);
                return Err(serde::de::Error::custom("a field is refused"));
            }
        }
        Ok(())
    }
}

impl Members<'_> {
    fn add(path: &mut String, depth: usize, out: &mut Pairs, value: &str) -> Result<(), String> {
        if out.len() == MAX_FIELDS {
            return Err(format!("more than {MAX_FIELDS} fields"));
        }
        match value.as_bytes().first() {
            Some(b'{') => return flatten(value, path, depth + 1, out),
            Some(b'"') => {
                let text: Cow<'_, str> = match serde_json::from_str::<MaybeText<'_>>(value) {
                    Ok(text) => text.0.unwrap_or_default(),
                    Err(error) => return Err(crate::json_list::reason(&error)),
                };
                out.push(path, &text);
            }
            Some(b'n') | None => {}
            Some(_) => out.push(path, value),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(json: &str) -> Result<Vec<(String, String)>, String> {
        let mut out = Pairs::default();
        flatten(json, &mut String::new(), 0, &mut out)?;
        Ok(out.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn objects_become_paths() {
        let json =
            r#"{"a":{"b":1.50,"c":{"d":"x\ny"},"e":{}},"l":[1,{"z":2}],"n":null,"t":true,"":"e"}"#;
        let all = flat(json).expect("valid");
        let shown: Vec<_> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let wanted =
            [("a.b", "1.50"), ("a.c.d", "x\ny"), ("l", "[1,{\"z\":2}]"), ("t", "true"), ("", "e")];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn what_is_no_object_or_too_large_is_refused() {
        for json in ["", "1", "[]", "{", r#"{"a":1}x"#, r#"{"a":{"b":}}"#, r#"{"a":"\ud800"}"#] {
            assert!(flat(json).is_err(), "{json}");
        }
        let deep = r#"{"a":"#.repeat(20_000) + "1" + &"}".repeat(20_000);
        assert!(flat(&deep).expect_err("too deep").contains("nested"), "{deep}");
        let wide: Vec<String> = (0..MAX_FIELDS + 1).map(|n| format!("\"k{n}\":1")).collect();
        assert!(flat(&format!("{{{}}}", wide.join(","))).expect_err("too wide").contains("fields"));
    }
}
