//! InfluxDB's Python client writes, and what Telegraf sends is taken.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::python;
use crate::harness::{Client, Launch, Scratch, now_ms};

/// What a program does that was written for InfluxDB 2.
const SCRIPT: &str = r#"
import sys
from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
url, now_ns = sys.argv[1], int(sys.argv[2])
with InfluxDBClient(url=url, token="any", org="home") as client:
    assert client.ping(), "ping"
    assert client.health().status == "pass", "health"
    with client.write_api(write_options=SYNCHRONOUS) as api:
        api.write("attic", record=Point("air").tag("room", "a b").field("temp", 21.5)
                  .field("open", True).field("note", "warm").time(now_ns, WritePrecision.NS))
        api.write("attic", record="air,room=c temp=1i %d" % (now_ns // 10**9), write_precision="s")
        try:
            api.write("attic", record="air,room=d temp=2\nnonsense")
            sys.exit("a wrong line was taken")
        except ApiException as error:
            assert error.status == 400, error
            print(error.body)
"#;

fn value(client: &Client, query: &str) -> Result<Value> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    Ok(data["result"][0]["value"][1].clone())
}

pub(super) fn client_writes(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let t_ms = now_ms() / 1_000 * 1_000;
    let url = format!("http://{}", client.address());
    let told = python::run(SCRIPT, &[url, format!("{t_ms}000000")])?;
    let told: Value = serde_json::from_str(told.trim())?;
    ensure!(told["code"] == "invalid", "{told}");
    let message = told["message"].as_str().unwrap_or_default();
    ensure!(message.contains("unable to parse 'nonsense': missing fields dropped=0"), "{message}");
    for (query, wanted) in [
        (r#"air_temp{room="a b",db="attic"}"#, json!("21.5")),
        (r#"air_open{room="a b"}"#, json!("1")),
        (r#"air_temp{room="c"}"#, json!("1")),
        (r#"air_temp{room="d"}"#, json!("2")),
        ("count(air_note)", Value::Null),
    ] {
        let found = value(&client, query)?;
        ensure!(found == wanted, "{query} is {found}, not {wanted}");
    }
    telegraf(&client, t_ms)?;
    server.stop()?;
    Ok("client 1.50, Telegraf's requests".to_owned())
}

/// What Telegraf's output for InfluxDB 1 sends: it makes its database first.
fn telegraf(client: &Client, t_ms: i64) -> Result<()> {
    let form = b"q=CREATE+DATABASE+%22telegraf%22";
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = client.post("/query", &headers, form)?;
    let wanted = r#"{"results":[{"statement_id":0}]}"#;
    ensure!(answer.status == 200 && answer.text() == wanted, "{}", answer.text());
    ensure!(client.get("/ping")?.status == 204, "ping");
    let s = t_ms / 1_000;
    let lines = format!(
        "cpu,cpu=cpu0,host=web-1 usage_idle=98.1,usage_user=0.5 {s}000000000\n\
         system,host=web-1 uptime=5i,uptime_format=\"0 days\" {s}000000000\n\
         disk,device=sda1,fstype=ext4,host=web-1,mode=rw,path=/var/log used_percent=12 {s}000000000\n"
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, lines.as_bytes())?;
    let packed = gzip.finish()?;
    let path = "/write?db=telegraf&precision=ns&consistency=any";
    let headers = [("Content-Encoding", "gzip"), ("Content-Type", "text/plain; charset=utf-8")];
    let answer = client.post(path, &headers, &packed)?;
    ensure!(answer.status == 204 && answer.body.is_empty(), "{}", answer.text());
    for (query, wanted) in [
        (r#"cpu_usage_idle{cpu="cpu0",host="web-1",db="telegraf"}"#, "98.1"),
        (r#"disk_used_percent{path="/var/log"}"#, "12"),
        (r#"system_uptime{host="web-1"}"#, "5"),
    ] {
        let found = value(client, query)?;
        ensure!(found == wanted, "{query} is {found}, not {wanted}");
    }
    // Two points of one millisecond: the first stays, and the sender is not told to mind.
    let close = format!("burst v=1 {s}000000001\nburst v=2 {s}000000002");
    let answer = client.post("/write?db=telegraf", &[], close.as_bytes())?;
    ensure!(answer.status == 204, "{}", answer.text());
    ensure!(value(client, "burst_v")? == "1", "the first of two stays");
    let counted = client.metric("watchfire_broker_samples_conflicting_total")?;
    ensure!(counted == 1.0, "{counted} conflicts counted");
    let answer = client.post("/write?db=telegraf&precision=ms", &[], b"a v=1\nb v")?;
    let error: Value = serde_json::from_slice(&answer.body)?;
    let wanted = "partial write: unable to parse 'b v': invalid field format dropped=0";
    ensure!(answer.status == 400 && error == json!({"error": wanted}), "{}", answer.text());
    let answer = client.post("/write?precision=year", &[], b"a v=1")?;
    ensure!(answer.status == 400 && answer.text().contains("precision"), "{}", answer.text());
    Ok(())
}
