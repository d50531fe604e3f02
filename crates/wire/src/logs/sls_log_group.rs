//! Lines as a `LogGroup` of Aliyun's Simple Log Service, what its `PutLogs` takes.
//!
//! Source: "Data encoding format" of the API reference of SLS:
//!
//! ```text
//! LogGroup { repeated Log = 1; string topic = 3; string source = 4; repeated LogTag = 6 }
//! Log      { uint32 time = 1; repeated Content { string key = 1; string value = 2 } = 2;
//!            fixed32 time_ns = 4 }
//! ```
//!
//! Labels and metadata become contents beside the line, so that they are fields that queries name; tags
//! belong to the whole group, and a batch has many streams.

use model::{Labels, LogBatch, LogRecord};

use crate::protobuf::{push_bytes, push_varint};

/// The field that holds the line, as SLS' own collector names it.
pub const LINE_KEY: &str = "content";

/// Appends a group with all lines of `batch`, uncompressed.
///
/// # Panics
/// The batch is not whole.
pub fn encode(batch: &LogBatch, topic: &str, source: &str, out: &mut Vec<u8>) {
    let (mut records, mut metadata) = (batch.records(), Vec::new());
    let (mut labels, mut contents) = (Labels::empty(), Vec::new());
    let (mut log, mut pair) = (Vec::new(), Vec::new());
    while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
        match record {
            LogRecord::Stream(stream) => {
                labels = stream;
                contents.clear();
                for (name, value) in labels.iter() {
                    put_content(name, value, &mut pair, &mut contents);
                }
            }
            LogRecord::Line { timestamp_ns, line } => {
                log.clear();
                log.push(0x08);
                let seconds = timestamp_ns.div_euclid(1_000_000_000);
                push_varint(&mut log, seconds.clamp(0, i64::from(u32::MAX)) as u64);
                log.extend_from_slice(&contents);
                for (name, value) in metadata.iter().filter(|(name, _)| labels.get(name).is_none())
                {
                    put_content(name, value, &mut pair, &mut log);
                }
                put_pair(LINE_KEY, &String::from_utf8_lossy(line), &mut pair, &mut log);
                log.push(0x25);
                let nanos = timestamp_ns.rem_euclid(1_000_000_000) as u32;
                log.extend_from_slice(&nanos.to_le_bytes());
                push_bytes(out, 0x0a, &log);
            }
        }
    }
    push_bytes(out, 0x1a, topic.as_bytes());
    push_bytes(out, 0x22, source.as_bytes());
}

/// A field besides the line; one of its name gets another one, as in Loki.
fn put_content(name: &str, value: &str, pair: &mut Vec<u8>, out: &mut Vec<u8>) {
    let name = if name == LINE_KEY { "content_extracted" } else { name };
    put_pair(name, value, pair, out);
}

fn put_pair(key: &str, value: &str, pair: &mut Vec<u8>, out: &mut Vec<u8>) {
    pair.clear();
    push_bytes(pair, 0x0a, key.as_bytes());
    push_bytes(pair, 0x12, value.as_bytes());
    push_bytes(out, 0x12, pair);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Aliyun's own SDK for Python (0.9.52) makes of the same group, byte by byte.
    #[test]
    fn a_group_is_what_the_sdk_sends() {
        let mut batch = LogBatch::default();
        batch.stream(&Labels::from_pairs([("content", "c"), ("job", "a")]).expect("valid"));
        batch
            .push(1_700_000_000_000_000_007, b"line", &[("job", "no"), ("user", "u")])
            .expect("small");
        let mut body = Vec::new();
        encode(&batch, "t", "10.0.0.1", &mut body);
        let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0a490880e2cfaa0612160a11636f6e74656e745f657874726163746564120163\
             12080a036a6f6212016112090a0475736572120175120f0a07636f6e74656e74\
             12046c696e6525070000001a0174220831302e302e302e31"
        );
    }
}
