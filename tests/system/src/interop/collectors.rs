//! Configurations of Promtail and Alloy as people have them: each is checked, run, and its lines are
//! both in the broker and in the system that the file names.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::{Client, Launch, Scratch, binary, now_ms};

const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration, what there is to collect, and what is to come of it.
struct Case {
    name: &'static str,
    text: &'static str,
    /// Paths below the root of logs, and what is in them.
    files: &'static [(&'static str, &'static str)],
    /// What `check` says besides how many jobs there are; nothing if all is valid.
    said: &'static [&'static str],
    /// The tenant that the other system is told.
    tenant: &'static str,
    /// A query, and the lines it has to yield, in order of time. `tenant|query` asks for another tenant.
    wanted: &'static [(&'static str, &'static [&'static str])],
}

macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("collectors/", $name))
    };
}

const NGINX: &str = "\
10.0.0.1 - - [TODAY:10:00:01 +0000] \"GET / HTTP/1.1\" 200 612 \"-\" \"curl/8\"\n\
10.0.0.2 - bob [TODAY:10:00:02 +0000] \"POST /orders HTTP/1.1\" 500 17 \"-\" \"Mozilla/5.0 (X11)\"\n\
10.0.0.1 - - [TODAY:10:00:03 +0000] \"GET /healthz HTTP/1.1\" 200 2 \"-\" \"kube-probe\"\n";
const JAVA: &str = "\
DATE 10:00:01,120 INFO  [main] com.example.Orders - started\n\
DATE 10:00:02,500 ERROR [pool-1] com.example.Orders - failed\n\
java.lang.IllegalStateException: no stock\n\
\tat com.example.Orders.take(Orders.java:42)\n\
DATE 10:00:03,000 INFO  [main] com.example.Orders - goes on\n";
const CRI: &str = "\
NOW.000000001Z stdout P one \n\
NOW.000000002Z stdout F line\n\
NOW.000000003Z stderr F level=warn code=500 msg=second\n";

const CASES: &[Case] = &[
    Case {
        name: "nginx.yml",
        text: text!("nginx.yml"),
        files: &[("nginx/access.log", NGINX)],
        said: &["server has no effect"],
        tenant: "",
        wanted: &[
            (
                "{job=\"nginx\", datacenter=\"fsn1\", status=\"200\", method=\"GET\"}",
                &[
                    "10.0.0.1 - - [TODAY:10:00:01 +0000] \"GET / HTTP/1.1\" 200 612 \"-\" \"curl/8\"",
                ],
            ),
            ("{job=\"nginx\"} |= \"healthz\"", &[]),
            (
                "{status=\"500\"} | pattern \"<_> - <user> <_>\" | user = \"bob\" | line_format \"{{.user}}\"",
                &["bob"],
            ),
        ],
    },
    Case {
        name: "java-multiline.yml",
        text: text!("java-multiline.yml"),
        files: &[("orders/orders.log", JAVA)],
        said: &["max_retries has no effect"],
        tenant: "backend",
        wanted: &[
            (
                "{job=\"orders\", env=\"production\", level=\"error\"}",
                &["DATE 10:00:02,500 ERROR [pool-1] com.example.Orders - failed\n\
                   java.lang.IllegalStateException: no stock\n\tat com.example.Orders.take(Orders.java:42)"],
            ),
            (
                "{level=\"info\"} | logger=\"com.example.Orders\" | line_format \"{{.thread}}\"",
                &["main", "main"],
            ),
        ],
    },
    Case {
        name: "docker-json.yml",
        text: text!("docker-json.yml"),
        files: &[(
            "containers-of-docker/0a1b/0a1b-json.log",
            "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"attrs\":{\"tag\":\"shop/web:1.2|web_1\"},\
             \"time\":\"NOW.5Z\"}\n",
        )],
        said: &[],
        tenant: "",
        wanted: &[(
            "{job=\"containerlogs\", stream=\"stdout\", image_name=\"shop/web:1.2\", \
             container_name=\"web_1\"}",
            &["hello\n"],
        )],
    },
    Case {
        name: "system-and-json.yml",
        text: text!("system-and-json.yml"),
        files: &[
            ("syslog", "one\n"),
            ("auth.log", "two\n"),
            (
                "api/a.json",
                "{\"severity\":\"info\",\"message\":\"in\",\"timestamp\":\"NOW.25Z\",\"traceId\":\"t1\",\
                 \"password\":\"hunter2\"}\n{\"severity\":\"debug\",\"message\":\"noise\"}\n",
            ),
        ],
        said: &[],
        tenant: "",
        wanted: &[
            ("{job=\"varlogs\", kind=\"logs\"} |= \"o\"", &["one", "two"]),
            ("{job=\"api\"}", &[]),
            (
                "api-team|{job=\"api\", filename=\"\"} | trace_id=\"t1\" | line_format \"{{.level}}\"",
                &["info"],
            ),
            ("api-team|{job=\"api\"} |= \"hunter2\"", &[]),
        ],
    },
    Case {
        name: "kubernetes.yml",
        text: text!("kubernetes.yml"),
        files: &[
            ("pods/shop_web-6d4b75cb6d-x7k2p_0b1c2d3e/nginx/0.log", CRI),
            ("pods/shop_db-0_77aa/postgres/1.log", "NOW.000000009Z stdout F ready\n"),
        ],
        said: &["__meta_kubernetes_pod_label_app", "of pods are empty"],
        tenant: "",
        wanted: &[
            (
                "{namespace=\"shop\", app=\"web\", job=\"shop/web\", container=\"nginx\", \
                 pod=\"web-6d4b75cb6d-x7k2p\", stream=\"stdout\"}",
                &["one line"],
            ),
            ("{app=\"db\"}", &["ready"]),
            ("{stream=\"stderr\"}", &["level=warn code=500 msg=second"]),
        ],
    },
    Case {
        name: "journal-and-syslog.yml",
        text: text!("journal-and-syslog.yml"),
        files: &[],
        said: &[],
        tenant: "",
        wanted: &[],
    },
    Case {
        name: "files.alloy",
        text: text!("files.alloy"),
        files: &[(
            "auth.log",
            "Accepted publickey for ada\nConnection closed by authenticating user root 10.0.0.1\n",
        )],
        said: &[],
        tenant: "",
        wanted: &[("{job=\"system\", hostname!=\"\"}", &["Accepted publickey for ada"])],
    },
    Case {
        name: "kubernetes.alloy",
        text: text!("kubernetes.alloy"),
        files: &[
            ("pods/shop_web-6d4b75cb6d-x7k2p_0b1c2d3e/web/0.log", CRI),
            ("pods/kube-system_dns-zzzzz_01/dns/0.log", "NOW.1Z stdout F not collected\n"),
        ],
        said: &[],
        tenant: "k8s",
        wanted: &[
            (
                "{job=\"shop/web\", cluster=\"prod\", region=\"eu\", namespace=\"shop\", level=\"warn\"}",
                &["level=warn code=500 msg=second"],
            ),
            ("{stream=\"stdout\"}", &["one line"]),
        ],
    },
    Case {
        name: "journal-and-docker.alloy",
        text: text!("journal-and-docker.alloy"),
        files: &[],
        said: &[],
        tenant: "",
        wanted: &[],
    },
    Case {
        name: "node.alloy",
        text: text!("node.alloy"),
        files: &[(
            "app/app.log",
            "{\"level\":\"error\",\"time\":\"NOW.1Z\",\"msg\":\"no\"}\n\
             {\"level\":\"info\",\"time\":\"NOW.2Z\",\"msg\":\"yes\"}\n",
        )],
        said: &["otelcol.exporter.otlphttp"],
        tenant: "",
        wanted: &[
            ("{job=\"app\", level=\"error\"} | json | line_format \"{{.msg}}\"", &["no"]),
            ("{job=\"app\"} | json | line_format \"{{.msg}}\"", &["no", "yes"]),
        ],
    },
];

/// Places of files and times of their lines, as they are in this run.
fn placed(text: &str, root: &Path, pushed: &str) -> Result<String> {
    let date = |format: &str| {
        let output = Command::new("date").args(["-u", "-d", "yesterday", format]).output();
        let output = output.context("start date")?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    Ok(text
        .replace("/var/log", &root.display().to_string())
        .replace("http://loki:3100", pushed)
        .replace("127.0.0.1:1514", &crate::harness::free_address()?.to_string())
        .replace("TODAY", &date("+%d/%b/%Y")?)
        .replace("DATE", &date("+%Y-%m-%d")?)
        .replace("NOW", &date("+%Y-%m-%dT10:00:00")?))
}

pub(super) fn configurations_run(scratch: &Scratch) -> Result<String> {
    let (mut ran, mut lines) = (0, 0);
    for case in CASES {
        lines += run(scratch, case).with_context(|| case.name.to_owned())?;
        ran += 1;
    }
    Ok(format!("{ran} configurations checked and run, {lines} lines in two systems each"))
}

fn run(scratch: &Scratch, case: &Case) -> Result<usize> {
    let home = scratch.join(&case.name.replace('.', "-"));
    let root = home.join("logs");
    for directory in ["here", "there", "logs"] {
        fs::create_dir_all(home.join(directory))?;
    }
    let collects_nothing = "agent:\n  enabled: false\nlogs:\n  collect: false\n";
    let there = Launch::broker(&home.join("there/data")).config(collects_nothing).start()?;
    let pushed = format!("http://{}", there.client().address());
    let config = home.join(case.name);
    fs::write(&config, placed(case.text, &root, &pushed)?)?;
    for (path, text) in case.files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a directory")?)?;
        fs::write(&path, placed(text, &root, &pushed)?)?;
    }
    let flag = if case.name.ends_with(".alloy") { "--alloy-config" } else { "--promtail-config" };
    let config = config.to_string_lossy();
    let checked =
        Command::new(binary()).args(["check", flag, &config]).output().context("check")?;
    let text = String::from_utf8_lossy(&checked.stderr).into_owned()
        + &String::from_utf8_lossy(&checked.stdout);
    ensure!(!text.contains("cannot be used"), "{text}");
    for said in case.said {
        ensure!(text.contains(said), "check does not say {said:?}: {text}");
    }
    let here = Launch::all(&home.join("here/data"))
        .config("logs:\n  containers: false\n")
        .arguments(&[flag, &config, "--keep-clients"]);
    let here = here.start()?;
    let mut found = 0;
    for (query, wanted) in case.wanted {
        let (own, query) = match query.split_once('|') {
            Some((tenant, query)) if query.starts_with('{') => (tenant, query),
            _ => ("", *query),
        };
        let pushed_to = if own.is_empty() { case.tenant } else { own };
        for (server, tenant) in [(&here, own), (&there, pushed_to)] {
            let client = match tenant {
                "" => server.client(),
                tenant => server.client().for_tenant(tenant),
            };
            let wanted: Vec<String> =
                wanted.iter().map(|line| placed(line, &root, &pushed)).collect::<Result<_>>()?;
            yields(&client, query, &wanted)?;
            found += wanted.len();
        }
    }
    here.stop()?;
    there.stop()?;
    Ok(found / 2)
}

/// Waits until a query yields these lines.
fn yields(client: &Client, query: &str, wanted: &[String]) -> Result<()> {
    let mut wanted = wanted.to_vec();
    wanted.sort();
    let begin = Instant::now();
    loop {
        let (from_ns, end_ns) =
            ((now_ms() - 3 * 86_400_000) * 1_000_000, (now_ms() + 60_000) * 1_000_000);
        let form = [
            ("query", query.to_owned()),
            ("start", from_ns.to_string()),
            ("end", end_ns.to_string()),
            ("direction", "forward".to_owned()),
        ];
        let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let data = client.data("/loki/api/v1/query_range", &form)?;
        let mut lines: Vec<(String, String)> = Vec::new();
        for stream in data["result"].as_array().context("streams")? {
            for value in stream["values"].as_array().context("lines")? {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                lines.push((text(&value[0]), text(&value[1])));
            }
        }
        lines.sort();
        let mut found: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
        // Files of one pattern are read in any order.
        found.sort();
        if found == wanted {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "{query}: {found:?}, wanted {wanted:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
