//! Inputs to start from, of lines that other systems send.

use model::{Labels, LogBatch};

fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

pub(crate) fn log_pushes() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        "{\"streams\":[{\"stream\":{\"app\":\"a\"},\"values\":[[\"1700000000000000000\",\"an err\",{\"k\":\"v\"}],\
         [\"1700000000000000000\",\"an err\"],[1,2]]},{\"values\":[[\"1\",\"x\"]],\"stream\":{\"a-b\":\"c\"}}]}",
        "{\"streams\":[{\"stream\":{\"level\":\"ERR\"},\"values\":[[\"1700000000000000001\",\"a line that is far too long\"]]}]}",
    ]);
    let mut batch = LogBatch::default();
    for (app, line) in [("a", "one"), ("b", "two \u{e9}"), ("a", "one")] {
        batch.stream(&Labels::from_pairs([("app", app), ("service_name", app)]).expect("valid"));
        let metadata = [("trace_id", "5b8e"), ("detected_level", "err")];
        batch.push(1_700_000_000_000_000_005, line.as_bytes(), &metadata).expect("it is small");
        batch.push(1_700_000_000_000_000_005, b"\xff", &[]).expect("it is small");
    }
    let mut push = Vec::new();
    wire::logs::loki_push::encode(&batch, &mut push);
    seeds.push(push);
    seeds
}

pub(crate) fn otlp_logs() -> Vec<Vec<u8>> {
    let json = "{\"resourceLogs\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"s\"}},\
        {\"key\":\"os\",\"value\":{\"stringValue\":\"x\"}}]},\"scopeLogs\":[{\"scope\":{\"name\":\"n\",\"version\":\"1\"},\
        \"logRecords\":[{\"timeUnixNano\":\"1700000000000000000\",\"observedTimeUnixNano\":\"1700000000000000001\",\
        \"severityNumber\":17,\"severityText\":\"Error\",\"body\":{\"stringValue\":\"a line\"},\"flags\":1,\
        \"attributes\":[{\"key\":\"m\",\"value\":{\"kvlistValue\":{\"values\":[{\"key\":\"k\",\"value\":{\"intValue\":\"1\"}}]}}}],\
        \"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee19b7ec3c1b174\"}]}]}]}";
    let protobuf = wire::otlp::logs_to_protobuf(json.as_bytes()).expect("valid JSON");
    vec![json.as_bytes().to_vec(), protobuf]
}

pub(crate) fn log_objects() -> Vec<Vec<u8>> {
    texts(&[
        "{\"_time\":\"2023-11-14T22:13:20Z\",\"_msg\":\"a\",\"app\":\"b\",\"u\":{\"id\":7}}\n{\"x\":[1]}\nfoo\n",
        "{\"create\":{}}\n{\"@timestamp\":1700000000123,\"message\":\"a\"}\n{\"index\":{\"_index\":\"i\"}}\n{}\n",
        "{\"create\":{}}\nfoo\n{\"delete\":{}}\n{\"update\":{}}\n{}\n",
    ])
}

pub(crate) fn syslog() -> Vec<Vec<u8>> {
    texts(&[
        "<165>1 2023-11-14T22:13:20.003Z host app 123 ID47 [ex@1 a=\"3\" b=\"\\]\"][o] \u{feff}text\n",
        "<34>Nov 14 22:13:20 host su[230]: text\n<13>2023-11-14T22:13:20+08:00 host app: x",
        "17 <13>1 - - - - - -8 <13>text<13>last",
    ])
}

pub(crate) fn journal() -> Vec<Vec<u8>> {
    texts(&["__REALTIME_TIMESTAMP=1700000000000001\n_HOSTNAME=h\nPRIORITY=3\nMESSAGE=a\n\n\
         MESSAGE\n\u{3}\0\0\0\0\0\0\0a\nb\n_PID=1\n\n"])
}
