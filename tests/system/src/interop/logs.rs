//! Programs of others send lines: `python-logging-loki`, OpenTelemetry's SDK, `logger`, rsyslog.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::python;
use crate::harness::{Client, Launch, Scratch};

/// What a program does that logs to Loki.
const LOKI: &str = r#"
import logging, sys
import logging_loki
handler = logging_loki.LokiHandler(url=sys.argv[1] + "/loki/api/v1/push",
                                   tags={"application": "shop"}, version="1")
logger = logging.getLogger("shop")
logger.setLevel(logging.DEBUG)
logger.addHandler(handler)
handler.handleError = lambda record: sys.exit("a line was not taken: %r" % (sys.exc_info(),))
for number in range(20):
    logger.error("order %d failed", number, extra={"tags": {"service": "orders"}})
"#;

/// What an instrumented program does.
const OPENTELEMETRY: &str = r#"
import logging, sys
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
kind, endpoint = sys.argv[1:3]
if kind == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    exporter = OTLPLogExporter(endpoint=endpoint, insecure=True)
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    exporter = OTLPLogExporter(endpoint=endpoint)
provider = LoggerProvider(resource=Resource.create({"service.name": kind, "host.arch": "arm"}))
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)
logger.addHandler(LoggingHandler(logger_provider=provider))
for number in range(30):
    logger.warning("stock of %d is low", number, extra={"warehouse": "north"})
assert provider.force_flush(20000)
provider.shutdown()
"#;

/// Lines that the default tenant has stored.
fn stored(client: &Client) -> Result<u64> {
    let lines = client.metric("watchfire_broker_tenant_log_lines_total{tenant=\"default\"}")?;
    Ok(lines as u64)
}

/// Waits until so many are.
fn wait_for(client: &Client, lines: u64, of: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        let found = stored(client)?;
        if found == lines {
            // Nothing comes behind it.
            std::thread::sleep(Duration::from_millis(300));
            let later = stored(client)?;
            ensure!(later == lines, "{of}: {later} lines, {lines} were sent");
            return Ok(());
        }
        let seconds = begin.elapsed().as_secs();
        ensure!(found < lines && seconds < 20, "{of}: {found} lines of {lines}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(super) fn libraries_push(scratch: &Scratch) -> Result<String> {
    let (grpc, http) =
        (crate::harness::free_address()?.to_string(), crate::harness::free_address()?.to_string());
    let ports = ["--otlp-grpc-listen", &grpc, "--otlp-http-listen", &http];
    let server = Launch::broker(&scratch.join("data")).arguments(&ports).start()?;
    let client = server.client();
    let url = format!("http://{}", client.address());
    python::run(LOKI, std::slice::from_ref(&url))?;
    wait_for(&client, 20, "python-logging-loki")?;
    for (index, (kind, endpoint)) in [
        ("http", format!("http://{http}/v1/logs")),
        ("http", format!("{url}/otlp/v1/logs")),
        ("grpc", format!("http://{grpc}")),
        ("grpc", url.clone()),
    ]
    .into_iter()
    .enumerate()
    {
        python::run(OPENTELEMETRY, &[kind.to_owned(), endpoint.clone()])?;
        wait_for(&client, 20 + 30 * (index as u64 + 1), &endpoint)?;
    }
    let discarded = client.get("/metrics")?.text();
    ensure!(!discarded.contains("log_lines_discarded_total{"), "{discarded}");
    server.stop()?;
    Ok("20 lines of python-logging-loki, 120 of OpenTelemetry's SDK".to_owned())
}

pub(super) fn syslog_comes(scratch: &Scratch) -> Result<String> {
    let [udp, tcp, tls] = [(); 3].map(|()| crate::harness::free_address());
    let (udp, tcp, tls) = (udp?, tcp?, tls?);
    let server = Launch::broker(&scratch.join("data"))
        .config("syslog:\n  labels: {site: attic}\n")
        .arguments(&["--syslog-udp-listen", &udp.to_string()])
        .arguments(&["--syslog-tcp-listen", &tcp.to_string()])
        .arguments(&["--syslog-tls-listen", &tls.to_string()])
        .start()?;
    let client = server.client();
    let mut sent = 0;
    for (address, way) in [(udp, "--udp"), (tcp, "--tcp")] {
        for more in [&[][..], &["--rfc3164"], &["--rfc5424=notq", "--octet-count"]] {
            if way == "--udp" && more.contains(&"--octet-count") {
                continue;
            }
            let port = address.port().to_string();
            // Twice the same in one second is two.
            for _ in 0..2 {
                let mut logger = Command::new("logger");
                logger.args(["--server", "127.0.0.1", "--port", &port, way]).args(more);
                let status =
                    logger.args(["--", "disk is full"]).status().context("start logger")?;
                ensure!(status.success(), "logger ended with {status}");
                sent += 1;
            }
        }
    }
    wait_for(&client, sent, "logger")?;
    let script = format!(
        "printf '<11>1 - web shop - - - over tls\\n<11>1 - web shop - - - the second\\n' | \
         openssl s_client -quiet -no_ign_eof -connect {tls}"
    );
    let output = Command::new("sh").args(["-c", &script]).output().context("start openssl")?;
    wait_for(&client, sent + 2, &String::from_utf8_lossy(&output.stderr))?;
    sent += 2;
    sent += rsyslog_forwards(scratch, &client, sent, tcp.port(), udp.port())?;
    server.stop()?;
    Ok(format!("{sent} messages of logger, openssl and rsyslog"))
}

/// rsyslog reads a file and sends each line in four ways; yields how many came.
fn rsyslog_forwards(
    scratch: &Scratch,
    client: &Client,
    before: u64,
    tcp: u16,
    udp: u16,
) -> Result<u64> {
    const LINES: u64 = 500;
    let directory = scratch.join("rsyslog");
    std::fs::create_dir_all(&directory)?;
    let (log, work) = (directory.join("app.log"), directory.display().to_string());
    let http = client.address();
    let config = directory.join("rsyslog.conf");
    std::fs::write(
        &config,
        format!(
            "global(workDirectory=\"{work}\")\n\
             module(load=\"imfile\" mode=\"polling\" pollingInterval=\"1\")\n\
             module(load=\"omelasticsearch\")\n\
             template(name=\"doc\" type=\"list\" option.jsonf=\"on\") {{\n\
             property(outname=\"@timestamp\" name=\"timereported\" dateFormat=\"rfc3339\" format=\"jsonf\")\n\
             property(outname=\"host\" name=\"hostname\" format=\"jsonf\")\n\
             property(outname=\"message\" name=\"msg\" format=\"jsonf\") }}\n\
             input(type=\"imfile\" file=\"{}\" tag=\"app\")\n\
             action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{tcp}\" protocol=\"tcp\")\n\
             action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{tcp}\" protocol=\"tcp\" \
             TCP_Framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\")\n\
             action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{udp}\" protocol=\"udp\")\n\
             action(type=\"omelasticsearch\" server=\"http://{http}/elasticsearch\" template=\"doc\" \
             bulkmode=\"on\" searchIndex=\"logs\" searchType=\"\" errorFile=\"{work}/errors\")\n",
            log.display()
        ),
    )?;
    let mut lines = String::new();
    for number in 0..LINES {
        lines.push_str(&format!("line {number} of an app\n"));
    }
    std::fs::write(&log, lines)?;
    let pid_file = directory.join("pid");
    let mut rsyslog = Command::new("/usr/sbin/rsyslogd")
        .args(["-n", "-i", &pid_file.display().to_string(), "-f", &config.display().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Running)
        .context("start rsyslogd")?;
    let came = wait_for(client, before + 4 * LINES, "rsyslog in four ways");
    rsyslog.0.kill()?;
    let errors = std::fs::read_to_string(directory.join("errors")).unwrap_or_default();
    ensure!(errors.is_empty(), "omelasticsearch was refused: {errors}");
    came?;
    Ok(4 * LINES)
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
