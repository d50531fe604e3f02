//! A name gets its number once.

use anyhow::{Context, Result, ensure};

use crate::harness::{Client, Launch, Scratch, WriteBody, now_ms};

const KILLS: u32 = 12;

fn value(client: &Client, query: &str) -> Result<Option<String>> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    let found = data["result"].as_array().map_or(0, Vec::len);
    ensure!(found <= 1, "{found} results of {query}");
    Ok(data["result"][0]["value"][1].as_str().map(str::to_owned))
}

fn write(client: &Client, value: f64) -> Result<u16> {
    let body = WriteBody::new().series(&[("__name__", "mine")], &[(now_ms(), value)]);
    Ok(client.write(&body.snappy())?.status)
}

/// kill -9 as soon as a tenant's first write is acknowledged: after the restart its sample is its own,
/// and that of no other, and the next tenant gets another number.
pub(super) fn kills(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data"));
    for number in 0..=KILLS {
        let server = launch.start()?;
        let client = server.client();
        for known in 0..number {
            let tenant = client.for_tenant(&format!("tenant-{known}"));
            let found = value(&tenant, "mine")?;
            ensure!(found == Some(known.to_string()), "tenant {known} of {number} has {found:?}");
        }
        ensure!(value(&client, "mine")?.is_none(), "the default tenant has what is of others");
        if number == KILLS {
            server.stop()?;
            break;
        }
        let tenant = client.for_tenant(&format!("tenant-{number}"));
        ensure!(value(&tenant, "mine")?.is_none(), "tenant {number} has what is of others");
        let status = write(&tenant, f64::from(number))?;
        server.kill().context("kill")?;
        ensure!(status == 204, "the write was answered {status}");
    }
    Ok(format!("{KILLS} kills right after a first write"))
}

/// Who reads does not become a tenant; who writes does, up to the limit; those of the configuration are
/// always let in.
pub(super) fn only_so_many(scratch: &Scratch) -> Result<String> {
    let config = "limits:\n  max_tenants: 2\ntenants:\n  named: {}\n";
    let launch = Launch::broker(&scratch.join("data")).config(config);
    let server = launch.start()?;
    let client = server.client();
    for number in 0..20 {
        let nobody = client.for_tenant(&format!("reader-{number}"));
        ensure!(value(&nobody, "mine")?.is_none(), "nobody has something");
        let bad = nobody.post("/api/v1/write", &[("Content-Encoding", "snappy")], b"garbage")?;
        ensure!(bad.status == 400, "{}: {}", bad.status, bad.text());
        let nothing = nobody.post("/api/v1/import/prometheus", &[], b"# nothing\n")?;
        ensure!(nothing.status == 204, "{}: {}", nothing.status, nothing.text());
    }
    for (name, status) in
        [("a", 204), ("b", 204), ("c", 429), ("a", 204), ("named", 204), ("default", 204)]
    {
        let got = write(&client.for_tenant(name), 1.0)?;
        ensure!(got == status, "{name} is answered {got}, not {status}");
    }
    let body = WriteBody::new().series(&[("__name__", "mine")], &[(now_ms(), 1.0)]);
    let refused = client.for_tenant("c").write(&body.snappy())?;
    ensure!(refused.text().contains("limits.max_tenants"), "{}", refused.text());
    ensure!(refused.header("retry-after").is_some(), "no Retry-After");
    let listed = client.get_data("/api/v1/tenants")?;
    let names: Vec<_> = listed["tenants"].as_array().into_iter().flatten().collect();
    let names: Vec<_> = names.iter().filter_map(|tenant| tenant["name"].as_str()).collect();
    ensure!(names == ["a", "b", "default", "named"], "{names:?}");
    ensure!(client.metric("watchfire_broker_tenants")? == 4.0, "not counted");
    ensure!(client.metric("watchfire_broker_tenants_refused_total")? == 2.0, "not counted");
    let before = client.metric("watchfire_broker_tenant_samples_total{tenant=\"a\"}")?;
    ensure!(before == 2.0, "{before} samples of a");
    server.stop()?;
    Ok("2 by a write, those of the configuration besides".to_owned())
}
