//! What is shown below the help of each role.

pub(super) const BROKER_EXAMPLES: &str = "\
Serves the same API and console as `watchfire` alone.

Examples:
  watchfire broker --data /var/lib/watchfire
      one broker, whose data lies on its own disk
  watchfire broker --store s3://BUCKET/PREFIX --peer-listen 0.0.0.0:9596
      found a cluster whose data lies in that bucket
  watchfire token create --role broker
      on a host of the cluster: prints the next command with its token
  watchfire broker --store s3://BUCKET/PREFIX --peer-listen 0.0.0.0:9596 \\
      --join first.example.com:9596 --join-token TOKEN
      on each other host; after that --store is enough";

pub(super) const AGENT_EXAMPLES: &str = "\
Examples:
  watchfire token create
      on the broker's host: prints the next command with its token
  watchfire agent --broker monitor.example.com:9596 --join TOKEN
      on each other host; the token is needed at the first start only
  curl http://127.0.0.1:9597/metrics
      what the agent sees, for any Prometheus";

pub(super) const CONSOLE_EXAMPLES: &str = "\
Examples:
  watchfire token create --role console
      on the broker's host: prints the next command with its token
  watchfire console --broker monitor.example.com:9596 --join TOKEN
      the API and the pages, on http://127.0.0.1:9598; the token is needed at the first start only
  watchfire console --broker monitor.example.com:9596 --listen 0.0.0.0:9598
      for others too: with TLS, and a link to make the first user";

pub(super) const QUERY_EXAMPLES: &str = "\
Examples:
  watchfire query node_load1
  watchfire query --time 2026-11-21T10:00:00Z 'node_load1'
  watchfire query --range 1h --step 5m 'sum by (mode) (rate(node_cpu_seconds_total[5m]))'
  watchfire query -o json 'topk(3, node_filesystem_avail_bytes)'";
