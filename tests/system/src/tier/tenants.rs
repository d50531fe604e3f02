//! Tenants through a console in a process of its own: it names the one its user named, and shows
//! nothing of others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::console::{Site, wait_until};
use crate::harness::{Client, Scratch};
use crate::live::websocket::WebSocket;

const TENANTS: [(&str, &str); 2] = [("acme", "globex"), ("globex", "acme")];

const PATHS: [&str; 11] = [
    "/api/v1/query?query=mine",
    "/api/v1/labels?match[]=mine",
    "/api/v1/label/who/values",
    "/api/v1/series?match[]=mine",
    "/api/v1/metadata",
    "/api/v1/status/tsdb",
    "/api/v1/status/tsdb?topN=10&focusLabel=who",
    "/api/v1/export?match[]=mine",
    "/federate?match[]=mine",
    "/api/v1/tenants",
    "/pushgateway/metrics",
];
/// The one whose answer bears no tenant's mark.
const UNMARKED: &str = PATHS[1];

fn write(broker: &Client, tenant: &str) -> Result<()> {
    let broker = broker.for_tenant(tenant);
    let lines = format!("# HELP mine of {tenant}\n# TYPE mine gauge\nmine{{who=\"{tenant}\"}} 1\n");
    let answer = broker.post("/api/v1/import/prometheus", &[], lines.as_bytes())?;
    ensure!(answer.status == 204, "{}: {}", answer.status, answer.text());
    let answer = broker.post(&format!("/metrics/job/{tenant}"), &[], b"pushed 1\n")?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    Ok(())
}

pub(super) fn through_a_console(scratch: &Scratch) -> Result<String> {
    let site = Site::start(scratch)?;
    let broker = site.broker.client();
    for (tenant, _) in TENANTS {
        write(&broker, tenant)?;
    }
    let console = site.member(scratch, "console")?.start()?;
    let remote = console.client();
    wait_until("the console's broker", || Ok(remote.get("/-/ready")?.status == 200))?;
    for (tenant, other) in TENANTS {
        let asking = remote.for_tenant(tenant);
        for path in PATHS {
            let answer = asking.get(path)?;
            let text = answer.text();
            ensure!(answer.status == 200, "{path} of {tenant}: {} {text}", answer.status);
            ensure!(!text.contains(other), "{path} of {tenant} tells of {other}: {text}");
            let is_marked = path != UNMARKED;
            ensure!(!is_marked || text.contains(tenant), "{path} lacks {tenant}: {text}");
        }
    }
    for nobody in ["nobody", "default"] {
        for path in PATHS {
            let text = remote.for_tenant(nobody).get(path)?.text();
            let found = TENANTS.iter().find(|(tenant, _)| text.contains(tenant));
            ensure!(found.is_none(), "{path} of {nobody}: {text}");
        }
    }
    let listed = remote.get("/api/v1/tenants")?.text();
    ensure!(TENANTS.iter().all(|(tenant, _)| listed.contains(tenant)), "not all: {listed}");
    let refused = remote.for_tenant("a|b").get("/api/v1/labels")?;
    ensure!(refused.status == 400, "{}: {}", refused.status, refused.text());
    let mut sockets = Vec::new();
    for (tenant, other) in TENANTS {
        let socket = WebSocket::subscribe(&remote.for_tenant(tenant), "mine")?;
        sockets.push((tenant, other, socket));
    }
    // A subscription passes through the console to the broker.
    std::thread::sleep(Duration::from_millis(500));
    for (tenant, _) in TENANTS {
        write(&broker, tenant)?;
    }
    for (tenant, other, socket) in &mut sockets {
        let frame = socket.receive(Duration::from_secs(5))?.context("a frame")?.to_string();
        ensure!(frame.contains(*tenant) && !frame.contains(*other), "{tenant} is shown {frame}");
    }
    console.stop()?;
    site.broker.stop()?;
    Ok(format!("{} routes, and live", PATHS.len()))
}
