//! Two tenants with the same series and different values: what one reads has nothing of the other.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::browser::root;
use crate::harness::remote_write::snappy;
use crate::harness::remote_write_2::{Exemplar2, Series2};
use crate::harness::{
    Client, Launch, Response, Scratch, WriteBody2, now_ms, push_bytes, push_varint,
};
use crate::live::websocket::WebSocket;

/// Whose data there is; whoever else reads finds none of it.
const TENANTS: [&str; 2] = ["acme", "globex"];
/// A query that takes seconds.
const LONG: &str = "quantile_over_time(0.5, vector(1)[6h:1s])";

/// Paths that tell of no data of a tenant: what is in them is the same for all, or kept apart by the
/// scope admin.
const OF_THE_PROCESS: [&str; 18] = [
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/api/v1/format_query",
    "/api/v1/parse_query",
    "/api/v1/status/buildinfo",
    "/api/v1/status/config",
    "/api/v1/status/flags",
    "/api/v1/status/runtimeinfo",
    // Of scraping and of agents, which are the default tenant's; looked at below without marks.
    "/api/v1/targets/relabel_steps",
    "/api/v1/scrape_pools",
    "/api/v1/status/active_queries/<id>",
    "/api/v1/agents/<name>",
    "/api/v1/cluster/drain",
    "/api/v1/cluster/remove",
    "/loki/api/v1/format_query",
    "/loki/api/v1/status/buildinfo",
    "/ready",
];

/// They tell of hosts, to who reaches the tenant `default` alone.
const OF_HOSTS: [&str; 3] = ["/api/v1/status/cluster", "/api/v1/status/collection", "/collection"];

/// What stands in everything of a tenant and nowhere else.
fn mark(tenant: &str) -> String {
    format!("{tenant}-only")
}

/// Fills each place that something of a tenant is kept in.
fn fill(client: &Client, tenant: &str, value: f64) -> Result<()> {
    let (client, t_ms) = (client.for_tenant(tenant), now_ms());
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let labels = vec![label("__name__", "shared"), label("job", "j")];
    let trace = vec![label("trace_id", &mark(tenant))];
    let shared = Series2 {
        labels,
        samples: vec![(t_ms - 30_000, value, 0), (t_ms, value, 0)],
        exemplars: vec![Exemplar2 { labels: trace, value, t_ms }],
        metadata: Some((2, mark(tenant), String::new())),
        ..Series2::default()
    };
    let own = Series2 {
        labels: vec![label("__name__", "own"), label("who", &mark(tenant))],
        samples: vec![(t_ms, value, 0)],
        ..Series2::default()
    };
    let replica = Series2 {
        labels: vec![
            label("__ha", "r1"),
            label("__name__", "paired"),
            label("cluster", &mark(tenant)),
        ],
        samples: vec![(t_ms, value, 0)],
        ..Series2::default()
    };
    for series in [&shared, &own, &replica] {
        let written = client.write_2(&WriteBody2::new().series(series).snappy())?;
        ensure!(written.status == 204, "{}: {}", written.status, written.text());
    }
    let pushed = format!("/metrics/job/{}", mark(tenant));
    let pushed = client.post(&pushed, &[], format!("pushed {value}\n").as_bytes())?;
    ensure!(pushed.status == 200, "{}: {}", pushed.status, pushed.text());
    push_line(&client, tenant)?;
    let view = br#"{"page":"explore","params":"q=1"}"#;
    let json = [("Content-Type", "application/json")];
    let path = format!("/api/v1/views/{}", mark(tenant));
    let saved = client.request("PUT", &path, &json, view)?;
    ensure!(saved.status == 200, "{}: {}", saved.status, saved.text());
    Ok(())
}

/// A line of the stream `shared` with its mark, and one of a stream with its mark.
fn push_line(client: &Client, tenant: &str) -> Result<()> {
    let (t_ns, own) = (format!("{}000000", now_ms()), mark(tenant));
    let line = format!("level=info msg=said who={own}");
    let body = json!({ "streams": [
        { "stream": { "app": "shared" }, "values": [[t_ns, line, { "sayer": own }]] },
        { "stream": { "app": "own", "who": own }, "values": [[t_ns, line]] },
    ] });
    let json = [("Content-Type", "application/json")];
    let answer = client.post("/loki/api/v1/push", &json, body.to_string().as_bytes())?;
    ensure!(answer.status == 204, "{}: {}", answer.status, answer.text());
    Ok(())
}

/// `POST /api/v1/read` for the series `shared`.
fn remote_read(client: &Client) -> Result<Response> {
    let mut matcher = Vec::new();
    push_bytes(&mut matcher, 2, b"__name__");
    push_bytes(&mut matcher, 3, b"own");
    let mut query = Vec::new();
    for (field, t_ms) in [(1_u8, now_ms() - 3_600_000), (2, now_ms() + 60_000)] {
        query.push(field << 3);
        push_varint(&mut query, t_ms.cast_unsigned());
    }
    push_bytes(&mut query, 3, &matcher);
    let mut request = Vec::new();
    push_bytes(&mut request, 1, &query);
    let mut answer = client.post("/api/v1/read", &[], &snappy(&request))?;
    if answer.status == 200 {
        answer.body = snap::raw::Decoder::new().decompress_vec(&answer.body)?;
    }
    Ok(answer)
}

/// A route, how it is asked, and whether the answer bears the mark of who asks.
type Read = (&'static str, String, bool);

fn reads() -> Vec<Read> {
    // Behind what was stored a moment ago.
    let now_s = now_ms() / 1_000 + 30;
    let range = format!("start={}&end={now_s}&step=15", now_s - 600);
    let read = |path: &'static str, query: &str, is_marked| {
        (path, format!("{path}{}{query}", if query.is_empty() { "" } else { "?" }), is_marked)
    };
    let everything = "%7B__name__%3D~%22.%2B%22%7D";
    let all = format!("match[]={everything}");
    vec![
        read("/api/v1/query", &format!("query={everything}"), true),
        read("/api/v1/query", "query=count%20by%20(who)(own)", true),
        read("/api/v1/query_range", &format!("query=own&{range}"), true),
        read("/api/v1/query_range", &format!("query=sum(shared)&{range}"), false),
        read("/api/v1/query_explain", &format!("query={everything}"), false),
        read("/api/v1/query_exemplars", &format!("query=shared&start=0&end={now_s}"), true),
        read("/api/v1/labels", "", false),
        ("/api/v1/label/<name>/values", "/api/v1/label/who/values".to_owned(), true),
        ("/api/v1/label/<name>/values", format!("/api/v1/label/who/values?{all}"), true),
        read("/api/v1/series", &all, true),
        read("/api/v1/metadata", "", true),
        read("/api/v1/search/metric_names", "include_metadata=true&search[]=shared", true),
        read("/api/v1/search/label_names", "", false),
        read("/api/v1/search/label_values", "label=who&search[]=only", true),
        read("/api/v1/completions", "query=own%7Bwho%3D%22", true),
        read("/api/v1/completions", "query=sha", true),
        read("/api/v1/rules", "type=alert", false),
        read("/api/v1/alerts", "", false),
        read("/api/v1/alertmanagers", "", false),
        read("/api/v1/status/walreplay", "", false),
        read("/api/v1/targets", "", false),
        read("/api/v1/targets/metadata", "", false),
        read("/api/v1/export", &all, true),
        read("/api/v1/export", &format!("{all}&format=prometheus"), true),
        read("/api/v1/export", &format!("{all}&format=parquet"), true),
        read("/api/v1/export/csv", &format!("{all}&format=who,__value__"), true),
        read("/api/v1/status/tsdb/blocks", "", false),
        read("/api/v1/status/tsdb", "", true),
        read("/api/v1/status/tsdb", "topN=100&focusLabel=who", true),
        read("/api/v1/status/active_queries", "", false),
        read("/api/v1/status/top_queries", "", false),
        read("/api/v1/status/ha_tracker", "", true),
        read("/api/v1/agents", "", false),
        read("/api/v1/views", "", true),
        read("/api/v1/tenants", "", false),
        read("/federate", &all, true),
        read("/metrics", "", false),
        read("/api/v1/metrics", "", true),
        read("/pushgateway/metrics", "", true),
    ]
}

/// Those of lines.
fn reads_of_lines() -> Vec<Read> {
    let now_s = now_ms() / 1_000 + 30;
    let range = format!("start={}&end={now_s}", now_s - 600);
    let read = |path: &'static str, query: &str, is_marked| {
        (path, format!("{path}?{query}&{range}"), is_marked)
    };
    let (all, shared) = ("query=%7Bapp%3D~%22.%2B%22%7D", "query=%7Bapp%3D%22shared%22%7D");
    let selected = all.trim_start_matches("query=");
    let count = |by: &str| format!("query=sum%20by%20({by})%20(count_over_time({selected}[10m]))");
    let time = format!("time={now_s}");
    vec![
        read("/loki/api/v1/query_range", all, true),
        read("/loki/api/v1/query_range", &format!("{shared}%20%7C%3D%20%22only%22"), true),
        read("/loki/api/v1/query_range", &format!("{}&step=60", count("who")), true),
        read("/loki/api/v1/query", &format!("{}&{time}", count("sayer")), true),
        read("/loki/api/v1/export", all, true),
        read("/loki/api/v1/context", &format!("{all}&{time}"), true),
        read("/loki/api/v1/labels", "", false),
        read("/loki/api/v1/label", "", false),
        (
            "/loki/api/v1/label/<name>/values",
            format!("/loki/api/v1/label/who/values?{range}"),
            true,
        ),
        read("/loki/api/v1/series", &all.replace("query", "match[]"), true),
        read("/loki/api/v1/index/stats", all, false),
        read("/loki/api/v1/index/volume", &format!("{all}&targetLabels=who"), true),
        read("/loki/api/v1/index/volume_range", &format!("{all}&targetLabels=who&step=60"), true),
        read("/loki/api/v1/patterns", all, false),
        read("/loki/api/v1/detected_labels", all, false),
        read("/loki/api/v1/detected_fields", all, false),
        (
            "/loki/api/v1/detected_field/<name>/values",
            format!("/loki/api/v1/detected_field/who/values?{all}&{range}"),
            true,
        ),
        read("/loki/api/v1/completions", "query=%7Bwho%3D%22", true),
        read("/loki/api/v1/drilldown-limits", "", false),
        read("/api/prom/query", all, true),
        read("/api/prom/label", "", false),
        ("/api/prom/label/<name>/values", format!("/api/prom/label/who/values?{range}"), true),
        read("/api/prom/series", &all.replace("query", "match[]"), true),
    ]
}

/// Every path that the pages' tables of reading tell.
fn documented() -> Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    for page in ["api.md", "logs-reading.md"] {
        let page = std::fs::read_to_string(root().join("docs/operating").join(page))?;
        let mut parts = page.split("\n## ");
        let reading = parts.find(|part| part.starts_with("Reading")).context("a part")?;
        add_documented(reading, &mut paths);
    }
    Ok(paths)
}

fn add_documented(reading: &str, paths: &mut BTreeSet<String>) {
    for line in reading.lines().filter(|line| line.starts_with("| `")) {
        let cell = line.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
        for path in cell.split('`').filter(|part| part.contains('/')) {
            let path = path.split(' ').next_back().unwrap_or_default();
            match path.split_once('{') {
                None => paths.insert(path.to_owned()),
                Some((before, rest)) => {
                    let names = rest.trim_end_matches('}').split(',');
                    paths.extend(names.map(|name| format!("{before}{name}")));
                    true
                }
            };
        }
    }
}

/// Nothing of another tenant may stand in an answer, and what should stand there does.
fn check(tenant: &str, path: &str, answer: &Response, is_marked: bool) -> Result<()> {
    let text = answer.text();
    ensure!(answer.status == 200, "{path} of {tenant}: {} {text}", answer.status);
    for other in TENANTS.iter().filter(|other| **other != tenant) {
        ensure!(!text.contains(other), "{path} of {tenant} tells of {other}: {text}");
    }
    let own = mark(tenant);
    let is_one = TENANTS.contains(&tenant);
    ensure!(!(is_marked && is_one) || text.contains(&own), "{path} lacks {own}: {text}");
    Ok(())
}

/// Walks every route that reads, as each tenant, as the default one and as one that there is not.
pub(super) fn no_route_leaks(scratch: &Scratch) -> Result<String> {
    let config =
        "ha_tracker:\n  enabled: true\n  replica_label: __ha\nstorage:\n  flush_interval: 300ms\n";
    let server = Launch::broker(&scratch.join("data")).config(config).start()?;
    let client = server.client();
    for (tenant, value) in TENANTS.iter().zip([111.0, 222.0]) {
        fill(&client, tenant, value).with_context(|| format!("fill {tenant}"))?;
    }
    let mut reads = reads();
    reads.append(&mut reads_of_lines());
    let walked: BTreeSet<&str> = reads.iter().map(|(path, ..)| *path).collect();
    for path in documented()? {
        let path = path.as_str();
        // Asked in ways of their own.
        let is_known = walked.contains(path)
            || ["/api/v1/read", "/loki/api/v1/tail", "/api/prom/tail"].contains(&path)
            || OF_HOSTS.contains(&path);
        ensure!(
            is_known || OF_THE_PROCESS.contains(&path),
            "{path} reads and is not walked here: add it, so that it is proven to keep tenants apart"
        );
    }
    let mut count = 0;
    // From memory, from blocks, and what was kept of the first round.
    for round in 0..3 {
        for tenant in ["acme", "globex", "default", "nobody"] {
            let asking = client.for_tenant(tenant);
            for (path, target, is_marked) in &reads {
                let answer = asking.get(target).with_context(|| format!("as {tenant}"))?;
                // The marks of what is kept beside series are there for ever, those of series as well.
                check(tenant, path, &answer, *is_marked)?;
                count += 1;
            }
            let answer = remote_read(&asking)?;
            check(tenant, "/api/v1/read", &answer, true)?;
            for path in OF_HOSTS {
                let answer = asking.get(path)?;
                match tenant {
                    "default" => check(tenant, path, &answer, false)?,
                    _ => ensure!(answer.status == 403, "{path} of {tenant}: {}", answer.text()),
                }
            }
            let sum = asking.data("/api/v1/query", &[("query", "sum(shared)")])?;
            let wanted = match tenant {
                "acme" => Some("111"),
                "globex" => Some("222"),
                _ => None,
            };
            ensure!(sum["result"][0]["value"][1].as_str() == wanted, "{tenant}: {sum}");
        }
        if round == 0 {
            std::thread::sleep(Duration::from_millis(800));
        }
    }
    live(&client)?;
    tails(&client)?;
    autocompletion_of_nobody(&client)?;
    server.stop()?;
    Ok(format!("{count} answers of {} routes", walked.len()))
}

/// Each sees their own live samples and no others.
fn live(client: &Client) -> Result<()> {
    let mut sockets = Vec::new();
    for tenant in TENANTS {
        sockets.push((tenant, WebSocket::subscribe(&client.for_tenant(tenant), "shared")?));
    }
    // Both are subscribed when the first has been told of a sample.
    std::thread::sleep(Duration::from_millis(200));
    for (tenant, value) in TENANTS.iter().zip([333.5, 444.5]) {
        fill(client, tenant, value)?;
    }
    for ((tenant, socket), wanted) in sockets.iter_mut().zip(["333.5", "444.5"]) {
        let frame = socket.receive(Duration::from_secs(5))?.context("a frame")?.to_string();
        // With a point, as digits alone may be those of a time.
        let other = if wanted == "333.5" { "444.5" } else { "333.5" };
        let mut seen = frame;
        while !seen.contains(wanted) {
            let next = socket.receive(Duration::from_secs(5))?.context("one more frame")?;
            seen.push_str(&next.to_string());
        }
        ensure!(!seen.contains(other), "{tenant} is shown samples of the other: {seen}");
    }
    // A name that is none, one that is given twice.
    for query in ["tenant=a%7Cb", "tenant=a&tenant=b"] {
        let headers = [
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let head: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET /api/v1/live?{query} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n{head}\r\n",
            client.address()
        );
        let mut stream = client.connect()?;
        stream.write_all(request.as_bytes())?;
        let mut first = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut first)?;
        ensure!(&first == b"HTTP/1.1 400", "{query}: {}", String::from_utf8_lossy(&first));
    }
    Ok(())
}

/// Each is shown their own lines as they come and no others.
fn tails(client: &Client) -> Result<()> {
    let mut sockets = Vec::new();
    for tenant in TENANTS {
        let start = format!("{}000000", now_ms());
        let query = "query=%7Bapp%3D~%22.%2B%22%7D";
        let target = format!("/loki/api/v1/tail?{query}&start={start}&tenant={tenant}");
        sockets.push((tenant, WebSocket::open_at(&client.for_tenant(tenant), &target)?));
    }
    std::thread::sleep(Duration::from_millis(200));
    for tenant in TENANTS {
        push_line(&client.for_tenant(tenant), tenant)?;
    }
    for (tenant, socket) in &mut sockets {
        let (mut seen, deadline) = (String::new(), Instant::now() + Duration::from_secs(10));
        // Both lines, and whatever else comes within a moment.
        while seen.matches("msg=said").count() < 2 {
            ensure!(Instant::now() < deadline, "{tenant} is shown too little: {seen}");
            let frame = socket.receive(Duration::from_secs(5))?;
            seen.push_str(&frame.map(|frame| frame.to_string()).unwrap_or_default());
        }
        let more = socket.receive(Duration::from_millis(300))?;
        seen.push_str(&more.map(|frame| frame.to_string()).unwrap_or_default());
        for other in TENANTS.iter().filter(|other| **other != *tenant) {
            ensure!(!seen.contains(other), "{tenant} is shown lines of {other}: {seen}");
        }
    }
    Ok(())
}

/// Who there is not has nothing, not even names.
fn autocompletion_of_nobody(client: &Client) -> Result<()> {
    let nobody = client.for_tenant("nobody");
    for path in ["/api/v1/labels", "/api/v1/label/__name__/values"] {
        let found = nobody.get_data(path)?;
        ensure!(found == json!([]), "{path} of nobody: {found}");
    }
    Ok(())
}

/// A delete hides what is of its tenant; a query is stopped, and seen, by who may see its tenant.
pub(super) fn deletes_and_kills(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data"));
    let server = launch.start()?;
    let client = server.client();
    for (tenant, value) in TENANTS.iter().zip([111.0, 222.0]) {
        fill(&client, tenant, value)?;
    }
    let shared = |tenant: &str| -> Result<bool> {
        let tenant = client.for_tenant(tenant);
        let found = tenant.data("/api/v1/query", &[("query", "shared")])?;
        Ok(found["result"].as_array().is_some_and(|found| !found.is_empty()))
    };
    let delete = "/api/v1/admin/tsdb/delete_series?match[]=shared";
    for nobody in ["nobody", "default"] {
        ensure!(client.for_tenant(nobody).post(delete, &[], &[])?.status == 204, "not answered");
    }
    ensure!(shared("acme")? && shared("globex")?, "what is of others was deleted");
    ensure!(client.for_tenant("acme").post(delete, &[], &[])?.status == 204, "not answered");
    ensure!(!shared("acme")? && shared("globex")?, "the wrong one was deleted");
    let wiped = client.for_tenant("acme").request("PUT", "/api/v1/admin/wipe", &[], &[])?;
    ensure!(wiped.status == 202, "{}", wiped.status);
    let pushed = |tenant: &str| Ok(client.for_tenant(tenant).get("/pushgateway/metrics")?.text());
    let pushed = |tenant: &str| -> Result<String> { pushed(tenant) };
    ensure!(pushed("acme")?.is_empty() && pushed("globex")?.contains("pushed"), "wrong groups");

    let form: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("start", "0"), ("end", "11000"), ("step", "1"), ("query", LONG)])
        .finish();
    let mut stream = client.connect()?;
    let request = format!(
        "GET /api/v1/query_range?{form} HTTP/1.1\r\nHost: {}\r\nX-Scope-OrgID: globex\r\n\r\n",
        client.address()
    );
    stream.write_all(request.as_bytes())?;
    let running = |client: &Client| -> Result<Option<String>> {
        let text = client.get("/api/v1/status/active_queries")?.text();
        let list: serde_json::Value = serde_json::from_str(&text)?;
        let mut rows = list["data"].as_array().into_iter().flatten();
        let row = rows.find(|row| row["query"] == LONG);
        Ok(row.and_then(|row| row["id"].as_str()).map(str::to_owned))
    };
    let begin = Instant::now();
    let id = loop {
        if let Some(id) = running(&client.for_tenant("globex"))? {
            break id;
        }
        ensure!(begin.elapsed() < Duration::from_secs(10), "the query never ran");
    };
    ensure!(running(&client.for_tenant("acme"))?.is_none(), "another tenant sees the query");
    ensure!(running(&client)?.is_some(), "who reaches all tenants does not see it");
    let path = format!("/api/v1/status/active_queries/{id}");
    let refused = client.for_tenant("acme").request("DELETE", &path, &[], &[])?;
    ensure!(refused.status == 404, "{}: {}", refused.status, refused.text());
    ensure!(running(&client)?.is_some(), "another tenant stopped it");
    let stopped = client.for_tenant("globex").request("DELETE", &path, &[], &[])?;
    ensure!(stopped.status == 200, "{}: {}", stopped.status, stopped.text());
    drop(stream);
    let top = client.for_tenant("acme").get("/api/v1/status/top_queries")?.text();
    ensure!(!top.contains("quantile_over_time"), "another tenant sees what ran: {top}");
    server.stop()?;
    // Deletes hold after a restart, for the one tenant.
    let server = launch.start()?;
    let again = |tenant: &str| -> Result<usize> {
        let tenant = server.client().for_tenant(tenant);
        let found = tenant.data("/api/v1/query", &[("query", "shared")])?;
        Ok(found["result"].as_array().map_or(0, Vec::len))
    };
    ensure!((again("acme")?, again("globex")?) == (0, 1), "not after a restart");
    server.stop()?;
    Ok("one delete, one wipe, one kill".to_owned())
}
