//! Inputs to start from: made here by our own writers, so that they follow every change of a format.

use std::sync::Arc;

use blockstore::SegmentWriter;
use catalog::{
    BlockId, Command, Expected, Incarnation, LabelCondition, Lane, LogPosition, Mark, NewBlock,
    Signal, State, StoreId, Tombstone,
};
use codec::{
    encode_f64s, encode_histograms, encode_i64s, encode_postings, encode_trimmed_f64s,
    put_histogram, put_layout,
};
use labelindex::BlockIndexBuilder;
use metricstore::{Admission, LogEncoder, NewSeries, Registry, ResolvedBatch, Shard};
use model::{
    BucketLayout, DEFAULT_TENANT, Histogram, IntegerHistogram, Labels, Limits, MatchOp,
    MetricBatch, MetricMetadata, MetricType, Span, TenantId, TimeRange,
};

use crate::decompression::{ENCODINGS, pack};
use crate::storage::{SEGMENT, block_of};

fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

pub(crate) fn matchers() -> Vec<Vec<u8>> {
    texts(&[
        "a|b|c\na\nd",
        "prod-.*\nprod-1\nprod",
        "x(y|z)?\nx\nxy",
        "(?i)abc\nABC",
        "(foo|bar).+\nfoo1",
        ".*\n\n",
        "[a-c]{2,3}|é\nabc\né",
        "a.c\na\nac",
    ])
}

pub(crate) fn go_regex() -> Vec<Vec<u8>> {
    let mut seeds = matchers();
    seeds.extend(texts(&[
        "(.*):\\d+\nhost:9100",
        "\\Qa.b\\E\na.b",
        "[[:alnum:]]+\na1",
        "(?P<name>[a-z]+)_(?P<n>\\d)\nab_1",
        "\\pL\\p{Greek}[^\\d]\nab",
        "(?s:.)(?U)a*?\nxa",
        "[a&&b]\n&",
        "a{,2}\na{,2}",
        "\\x41\\101\\a\\z\nAA",
    ]));
    seeds
}

pub(crate) fn templates() -> Vec<Vec<u8>> {
    texts(&[
        "Instance {{ $labels.instance }} of {{ .Labels.job }} is at {{ $value | humanize }}",
        "{{ range query \"up\" | sortByLabel \"instance\" }}{{ .Labels.instance }}={{ .Value }} {{ end }}",
        "{{ with query \"up\" }}{{ . | first | value | printf \"%.2f\" }}{{ else }}none{{ end }}",
        "{{ define \"a\" }}{{ .arg0 }}{{ end }}{{ template \"a\" (args 1 \"x\") }}",
        "{{ (toTime \"1435065584.128\").Format \"2006\" }} {{ now | humanizeTimestamp }}",
        "{{ template \"email.default.html\" . }}",
        "{{ template \"wechat.default.message\" . }}{{ template \"jira.default.priority\" . }}",
        "<a href=\"{{ (index .Alerts 0).GeneratorURL }}\" title='{{ .CommonLabels }}'>{{ .Status }}</a>",
        "<script>var a = {{ .CommonLabels }}, b = \"{{ .Status }}\"; /{{ .Status }}/.test(`${ {{ . }} }`)</script>",
        "<style>a { color: {{ .Status }}; background: url('{{ .ExternalURL }}') } /* {{ . }} */</style>",
        "{{ range $i, $a := .Alerts.Firing }}{{ if $i }}, {{ end }}{{ $a.Labels.SortedPairs.Names.Join \"+\" }}{{ end }}",
        "{{ $l := list 1 2.5 nil }}{{ $l = append $l (dict \"k\" .CommonLabels) }}{{ toJson $l }}",
        "{{ (index .Alerts 0).StartsAt | tz \"Europe/Paris\" | date \"Mon 2 Jan 15:04 MST\" }}",
        "{{ .CommonLabels.Remove (stringSlice \"evil\") }}{{ routeLabels \"b\" }}",
        "{{- /* c */ -}} {{ if and (eq .Status \"firing\") (gt (len .Alerts) 1) }}y{{ else if true }}z{{ end }}",
        "{{ range 3 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ break }}{{ end }}",
        "{{ printf \"%[2]*[1]d|%-8.3v|%+q|%T\" 1 5 \"é\" .Alerts }}",
    ])
}

/// A kind, a count of two bytes, and what [`crate::columns::columns`] reads after them.
pub(crate) fn columns() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for count in [1_usize, 5, 128, 300] {
        let times: Vec<i64> =
            (0..count as i64).map(|i| 1_700_000_000_000 + i * 15_000 + i % 3).collect();
        let values: Vec<f64> = (0..count).map(|i| (i * i % 97) as f64 / 10.0).collect();
        let ordinals: Vec<u32> = (0..count as u32).map(|i| i * 3 + i / 40).collect();
        let mut add = |kind: u8, write: &dyn Fn(&mut Vec<u8>)| {
            let mut seed = vec![kind, (count >> 8) as u8, count as u8];
            write(&mut seed);
            seeds.push(seed);
        };
        add(0, &|out| encode_i64s(&times, out));
        add(1, &|out| encode_f64s(&values, out));
        add(1, &|out| encode_f64s(&vec![f64::NAN; count], out));
        add(2, &|out| encode_trimmed_f64s(count, values.iter().copied(), out));
        add(3, &|out| encode_postings(&ordinals, out));
        for kind in 4..10 {
            add(kind, &|out| out.extend((0..count).map(|i| (i * 7) as u8)));
        }
    }
    seeds
}

fn histogram(schema: i32, counts: &[u64]) -> Histogram {
    let len = counts.len() as u32;
    let positive = vec![Span { offset: -2, len: len / 2 }, Span { offset: 3, len: len - len / 2 }];
    let custom_bounds = match schema {
        model::histogram::CUSTOM_BUCKETS_SCHEMA => (0..len + 3).map(f64::from).collect(),
        _ => Vec::new(),
    };
    let positive = match schema {
        model::histogram::CUSTOM_BUCKETS_SCHEMA => vec![Span { offset: 0, len }],
        _ => positive,
    };
    let layout = BucketLayout { schema, positive, custom_bounds, ..BucketLayout::default() };
    let mut histogram = IntegerHistogram::empty(Arc::new(layout));
    histogram.count = counts.iter().sum();
    histogram.sum = 12.5;
    histogram.positive = counts.to_vec();
    Histogram::Integer(histogram)
}

fn histograms() -> Vec<Histogram> {
    let integer = histogram(3, &[1, 5, 2, 7]);
    let float = Histogram::Float(integer.to_float());
    vec![integer, float, histogram(-2, &[3]), histogram(-53, &[1, 0, 4]), Histogram::stale()]
}

pub(crate) fn histogram_columns() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for one in histograms() {
        let mut row = vec![1];
        put_layout(one.layout(), &mut row);
        put_histogram(&one, &mut row);
        seeds.push(row);
        let mut column = vec![0, 5];
        encode_histograms(&vec![one; 5], &mut column);
        seeds.push(column);
    }
    seeds
}

fn label_sets() -> Vec<Labels> {
    let mut sets: Vec<Labels> = (0..40)
        .map(|number| {
            let (a, b) = ((number % 4).to_string(), format!("host-{}", number / 4));
            let pairs = [("__name__", "up"), ("a", a.as_str()), ("host", b.as_str())];
            Labels::from_pairs(pairs).expect("names differ")
        })
        .collect();
    sets.push(Labels::from_pairs([("__name__", "load"), ("job", "é")]).expect("names differ"));
    sets.sort();
    sets
}

pub(crate) fn label_index() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let sets = label_sets();
    for count in [0, 1, 7, sets.len()] {
        let mut builder = BlockIndexBuilder::new(1);
        sets.iter().take(count).for_each(|labels| builder.push(labels));
        let mut seed = vec![0];
        builder.finish(&mut seed);
        seeds.push(seed);
    }
    seeds.push((1..=120).map(|byte: u8| byte.wrapping_mul(37)).collect());
    seeds
}

fn block(id: u64) -> NewBlock {
    NewBlock {
        id: BlockId(id),
        tenant: TenantId(0),
        signal: Signal::Metrics,
        range: TimeRange::new(0, 7_200_000),
        rows: 10,
        series: 2,
        size_bytes: 300,
        level: 0,
    }
}

fn commands() -> Vec<Command> {
    let mark = Mark {
        agent: "host-1".into(),
        incarnation: Incarnation([3; 16]),
        lane: Lane::Live,
        seq: 1,
        after_seq: 0,
        at_ms: 5,
    };
    let flushed_through = LogPosition { file: 1, offset: 90 };
    let condition =
        LabelCondition { name: "job".to_owned(), op: MatchOp::Regex, value: "n.*".to_owned() };
    let tombstone = Tombstone {
        number: 1,
        tenant: TenantId(0),
        signal: Signal::Metrics,
        range: TimeRange::new(0, 1_000),
        at_ms: 5,
        selectors: vec![vec![condition]],
    };
    vec![
        Command::CreateStore { store: StoreId([7; 16]) },
        Command::ReserveIds { count: 4 },
        Command::Flush { added: vec![block(0), block(1)], flushed_through, deletes_through: 0 },
        Command::DeleteRows(tombstone),
        Command::Swap {
            removed: vec![BlockId(0), BlockId(1)],
            added: vec![block(2)],
            deletes_through: 0,
        },
        Command::SettleDeletes { blocks: vec![BlockId(2)], deletes_through: 1 },
        Command::Put { key: "a".into(), value: b"v".to_vec(), expected: Expected::Absent },
        Command::Delete { key: "a".into(), expected: Expected::Version(5) },
        Command::Mark(mark.clone()),
        Command::Mark(Mark { seq: 9, after_seq: 4, lane: Lane::Backlog, ..mark }),
        Command::Quarantine { block: BlockId(2) },
        Command::Expire { removed: vec![BlockId(2)] },
        Command::ExpireMarks { before_ms: 9 },
    ]
}

/// Without their checksums, which the target puts behind them.
pub(crate) fn catalog() -> Vec<Vec<u8>> {
    let mut state = State::default();
    let mut all = vec![0, 0];
    let mut seeds = Vec::new();
    for command in commands() {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        let body = &bytes[..bytes.len() - 4];
        all.extend_from_slice(&(body.len() as u16).to_be_bytes());
        all.extend_from_slice(body);
        // A command of this list that is refused would make a poor seed.
        let _ = state.apply(&command);
        let mut snapshot = Vec::new();
        state.encode(&mut snapshot);
        let body = &snapshot[..snapshot.len() - 4];
        seeds.push([&(body.len() as u16).to_be_bytes()[..], body].concat());
    }
    seeds.push(all);
    seeds
}

pub(crate) fn log() -> Vec<Vec<u8>> {
    let frame = |kind: u8| [&[3, kind, 0, 4][..], b"data"].concat();
    vec![
        [frame(0), frame(1), frame(2), frame(4), frame(6)].concat(),
        [frame(2), vec![0], frame(0), frame(2)].concat(),
        [frame(2), vec![1, 0, 3, 9, 9, 9], frame(2), vec![2, 0, 60, 4], frame(2)].concat(),
    ]
}

fn batch() -> MetricBatch {
    let mut batch = MetricBatch::default();
    for (number, labels) in label_sets().iter().enumerate().take(9) {
        for step in 0..5_i64 {
            let t_ms = 1_700_000_000_000 + step * 15_000 + number as i64 % 2;
            batch.push(labels, t_ms, number as f64 * 0.25 + step as f64);
            batch.set_last_start([0, 1_600_000_000_000, t_ms - 15_000][number % 3]);
        }
    }
    for (number, one) in histograms().into_iter().enumerate() {
        let name = format!("h{number}");
        let labels = Labels::from_pairs([("__name__", name.as_str())]).expect("one name");
        batch.push_histogram(&labels, 1_700_000_000_000, Some(1_600_000_000_000), one);
    }
    batch.metadata.push(MetricMetadata {
        metric: "up".into(),
        kind: MetricType::Gauge,
        help: "Whether it answers.".into(),
        unit: String::new(),
    });
    batch
}

fn resolved(registry: &Registry) -> ResolvedBatch {
    let limits = Limits::default();
    let admission = Admission {
        limits: &limits,
        now_ms: 1_700_000_100_000,
        oldest_ms: 0,
        new_series: NewSeries::ANY,
        name: |_, _| String::new(),
    };
    let decode = |_, bytes: &[u8]| Labels::from_packed(bytes).map_err(|error| error.to_string());
    let mut out = ResolvedBatch::default();
    registry.resolve(DEFAULT_TENANT, &batch(), 2, admission, &decode, &mut out);
    out
}

/// Without what the target puts around it.
pub(crate) fn segment() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for batches in
        [&[][..], &[(0, &b"one"[..])], &[(0, b"one"), (7, b"other's"), (0, b""), (0, b"two")]]
    {
        let mut writer = SegmentWriter::new();
        for (tenant, payload) in batches {
            writer.add(TenantId(*tenant), Signal::Metrics, payload);
        }
        let sealed = writer.seal(SEGMENT);
        let (sealed, tail) = sealed.split_at(sealed.len() - 16);
        seeds.push([&[tail[1], tail[0]], &sealed[40..]].concat());
    }
    seeds
}

pub(crate) fn metric_payload() -> Vec<Vec<u8>> {
    let registry = Registry::new(1);
    let rows = resolved(&registry);
    let mut encoder = LogEncoder::new();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    encoder.encode(&rows, &registry, &mut first);
    encoder.encode(&rows, &registry, &mut second);
    vec![first, second]
}

pub(crate) fn metric_block() -> Vec<Vec<u8>> {
    let registry = Registry::new(1);
    let rows = resolved(&registry);
    let mut shard = Shard::new(0, 2);
    shard.append(&rows.shards[0]);
    vec![block_of(&mut shard, &registry)]
}

pub(crate) fn decompression() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, encoding) in (0..).zip(ENCODINGS) {
        for text in [&b""[..], b"up 1\nup 2\n", &[b'a'; 3_000]] {
            let mut seed = pack(encoding, text);
            seed.push(number);
            seeds.push(seed);
        }
    }
    seeds
}

pub(crate) fn exposition() -> Vec<Vec<u8>> {
    texts(&[
        "# HELP up Whether it\\nanswers.\n# TYPE up gauge\nup{a=\"b\",c=\"\\\"\\\\\"} 1 1700000000000\nup 2\n",
        "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 5\nh_sum 7.5\nh_count 5\n",
        "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum NaN\ns_count 2\n",
        "{\"http.requests\",\"a b\"=\"c\"} +Inf\n{\"x\"} -0\n",
        "# a comment\n\nc_total 0x1p-2\n\tm { a = \"b\" , } 1e3 \n",
    ])
}

pub(crate) fn openmetrics() -> Vec<Vec<u8>> {
    texts(&[
        "# HELP a_seconds Help.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\na_seconds_bucket{le=\"1\"} 1 # {trace_id=\"x\"} 0.5 1.5\na_seconds_bucket{le=\"+Inf\"} 2\na_seconds_sum 3\na_seconds_count 2\na_seconds_created 1.7e9\n# EOF\n",
        "# TYPE c counter\nc_total{a=\"b\"} 1 2.5\nc_created{a=\"b\"} 1\n# EOF\n",
        "# TYPE s stateset\ns{s=\"on\"} 1\n# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 1\ng_gcount 1\ng_gsum 2\n# EOF\n",
    ])
}

/// Fields by hand: there is no writer of this format in the program.
pub(crate) fn protobuf_exposition() -> Vec<Vec<u8>> {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let len = u8::try_from(content.len()).ok().filter(|len| *len < 128).expect("short");
        [&[number << 3 | 2, len], content].concat()
    }
    fn double(number: u8, value: f64) -> Vec<u8> {
        [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
    }
    let number = |field: u8, value: u8| vec![field << 3, value];
    let family = |name: &[u8], kind: u8, metric: &[u8]| {
        let message = [field(1, name), field(2, b"help"), number(3, kind), field(4, metric)];
        field(0, &message.concat())[1..].to_vec()
    };
    let label = field(1, &[field(1, b"a"), field(2, b"b")].concat());
    let bucket = |count: u8, bound| field(3, &[number(1, count), double(2, bound)].concat());
    let classic = [number(1, 3), double(2, 4.5), bucket(1, 1.0), bucket(3, 2.5)].concat();
    let span = field(12, &[number(1, 6), number(2, 2)].concat());
    let native = [number(1, 3), double(2, 4.5), number(5, 4), span, number(13, 2), number(13, 2)];
    let quantile = field(3, &[double(1, 0.5), double(2, 9.0)].concat());
    let summary = [number(1, 8), double(2, 16.0), quantile].concat();
    vec![
        family(b"c_total", 0, &[label, field(3, &double(1, 3.0)), number(6, 99)].concat()),
        family(b"g", 1, &field(2, &double(1, -1.0))),
        family(b"s", 2, &field(4, &summary)),
        family(b"h", 4, &field(7, &classic)),
        family(b"n", 4, &field(7, &native.concat())),
        [family(b"u", 3, &field(5, &double(1, 1.0))), family(b"e", 1, b"")].concat(),
    ]
}

pub(crate) fn remote_write() -> Vec<Vec<u8>> {
    let mut written = Vec::new();
    wire::remote_write::encode(&batch(), &mut written).expect("labels are valid");
    let mut one = MetricBatch::default();
    one.push(&label_sets()[0], -5, f64::NAN);
    let mut small = Vec::new();
    wire::remote_write::encode(&one, &mut small).expect("labels are valid");
    vec![written, small]
}

pub(crate) fn agent_batch() -> Vec<Vec<u8>> {
    let mut written = Vec::new();
    wire::agent_batch::encode(&batch(), &mut written);
    let mut empty = Vec::new();
    wire::agent_batch::encode(&MetricBatch::default(), &mut empty);
    vec![written, empty]
}

pub(crate) fn grouping_key() -> Vec<Vec<u8>> {
    texts(&[
        "job/a/instance/b",
        "job@base64/L3Zhci90bXA/empty@base64/=",
        "job/a%2Fb/x/%C3%A9",
        "job/a/b@base64/_-8",
    ])
}

pub(crate) fn yaml() -> Vec<Vec<u8>> {
    texts(&[
        "a: 1\nb:\n  - x\n  - {y: [1, 2], z: 'q''r'}\nc: |\n  text\n  more\n",
        "a: &x {b: 1}\nc:\n  <<: *x\n  d: \"\\u00e9\\n\"\n",
        "global:\n  scrape_interval: ${A}\n---\nsecond: true\n",
        "- 1\n- ~\n- 0o17\n- .inf\n- 2001-01-01\n",
        "? complex\n: value\n",
    ])
}

pub(crate) fn prometheus_config() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../crates/settings/tests/sample.yml"),
        "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: p}\n  static_configs:\n  - targets: ['h:1']\n",
        "scrape_configs:\n- job_name: a\n  authorization:\n    credentials: |\n      secret\n      lines\n  proxy_url: http://u:p@proxy:1/\n",
        "scrape_configs:\n- job_name: a\n  http_sd_configs:\n  - url: http://u:pw@h/x\n    oauth2: {client_id: i, client_secret: s, token_url: 'http://t/'}\n    tls_config: {key: k, cert: c}\n",
        "remote_write:\n- url: http://h/\n  http_headers:\n    X-A: {secrets: [s], values: [v]}\nscrape_config_files: ['jobs/*.yml']\n",
        "global: {external_labels: {a: '${A}'}}\nalerting:\n  alertmanagers:\n  - static_configs: [{targets: [a]}]\n",
    ])
}

pub(crate) fn target_groups() -> Vec<Vec<u8>> {
    texts(&[
        "[{\"targets\": [\"a:1\", \"b:2\"], \"labels\": {\"x\": \"y\"}}, {\"targets\": null}]",
        "- targets: [a:1, 'b:2']\n  labels:\n    x: y\n- targets:\n",
        "[]",
    ])
}

pub(crate) fn scalars() -> Vec<Vec<u8>> {
    texts(&[
        "1h30m",
        "15d",
        "1y2w3d4h5m6s7ms",
        "1.5GiB",
        "1GB512MB",
        "http://user:pass@host:9090/a@b?c#d",
        "https://[::1]:9090/%41",
        "a*b?[^c-e]\\*\naxbyd*",
    ])
}

pub(crate) fn relabel_rules() -> Vec<Vec<u8>> {
    texts(&[
        "- source_labels: [__address__]\n  regex: '([^:]+):(\\d+)'\n  target_label: host_$2\n  replacement: ${1}x\n",
        "- action: labelmap\n  regex: __meta_(.+)\n- action: labeldrop\n  regex: __.*\n",
        "- {source_labels: [job, a], separator: '', action: hashmod, modulus: 8, target_label: t}\n- {source_labels: [t], action: keepequal, target_label: job}\n",
        "- {source_labels: [__meta_a], action: uppercase, target_label: u}\n- {source_labels: [u], regex: 'É.*', action: keep}\n",
    ])
}

pub(crate) fn queries() -> Vec<Vec<u8>> {
    texts(&[
        "up{job=~\"a|b\",i!=\"c\"} offset -5m @ 1.5",
        "sum by (x) (rate(c_total[1m]))",
        "increase({__name__=~\"s_total|h\"}[5m])",
        "histogram_quantile(0.9, sum by (le) (rate(h_bucket[2m])))",
        "histogram_quantile(0.5, rate(h[1m]))",
        "m * on (x) group_left n",
        "topk without (y) (1, m) > bool 2",
        "max_over_time(rate(c_total[1m])[5m:15s] @ end())",
        "label_replace(m, \"z\", \"$1-${1}\", \"x\", \"(.)\")",
        "count_values(\"v\", m) or absent(q{a=\"b\"}) unless on () vector(1)",
        "quantile_over_time(0.5, m[2m]) + ignoring (y) n / fill (1) n",
        "-(m ^ 2 % 3) atan2 scalar(n)",
        "rate(c_total[range() / 2 + 1m] anchored)",
        "sort_by_label(info(c_total, {v=~\".*\"}), \"x\")",
        "sum(h) + avg(h) * 2",
        "predict_linear(m[1m], 3600) and deriv(m[1m])",
    ])
}

pub(crate) fn log_queries() -> Vec<Vec<u8>> {
    texts(&[
        "{app=\"a\", pod=~\"x.*\"} |= \"b\" or \"c\" != `d` |~ \"e+\" !> \"<_> f\"",
        "{} |= ip(\"10.0.0.0/8\") | json | status >= 500 and took > 1.5s, size < 3KiB",
        "{app=\"a\"} | logfmt --strict k, v=\"w\" | drop k=\"1\", v | keep app | decolorize",
        "{app=\"a\"} | pattern \"<m> <_>\" | regexp `(?P<n>\\d+)` | label_format x=n, y=\"{{.m}}\"",
        "{app=\"a\"} | unpack | line_format \"{{ if .k }}{{ .k | ToUpper }}{{ end }}\" # end",
        "sum by (k) (count_over_time({app=\"a\"} | logfmt | k!=\"\" [1m] offset -5s))",
        "quantile_over_time(0.9, {app=\"a\"} | logfmt | unwrap duration(v) | __error__=\"\" [1m]) by (k)",
        "topk(1, rate({app=~\".+\"}[10s])) > bool on (app) group_left (k) vector(0.5) ^ 2",
        "label_replace(sort_desc(bytes_rate({app=\"a\"}[1h30m])), \"z\", \"$1\", \"app\", \"(.)\")",
        "absent_over_time({app=\"q\"}[1m]) or rate_counter({app=\"a\"} | json | unwrap bytes(v) [1m])",
        "(first_over_time({app=\"a\"} | logfmt | unwrap v [1m]) without (k) unless 2 * vector(1)) % 3",
    ])
}

/// A pipeline, and lines it is for.
pub(crate) fn log_pipelines() -> Vec<Vec<u8>> {
    texts(&[
        "| json | a_b > 5 or c=\"d\" | line_format \"{{.a_b}} {{__line__}}\"\n{\"a\":{\"b\":7},\"c\":\"\\u00e9\"}\n{\"a\n",
        "| json x=\"a[1].b\", y=\"c\" | x=~\".+\"\n{\"a\":[0,{\"b\":\"v\"}],\"c\":null}\n[1]",
        "| logfmt --keep-empty | took > 1s | drop took\na=1 b=\"x \\\" y\" took=2m c=\na= =b \"",
        "| logfmt --strict a, z=\"b\" | label_format app=a\na=1 b=2\na=\"",
        "|~ \"(?i)err|warn\" != \"x\" | pattern \"<ip> - <_> [<t>]\" | ip=ip(\"10.0.0.0/8\")\n10.1.2.3 - u [now] ERR\n",
        "|= ip(\"2001:db8::/32\") or \"::\" |> \"<_> to <_>\"\nfrom 2001:db8::1 to ::1\n1.2.3.4:80",
        "| regexp `(?P<m>\\w+) (?P<app>\\w+)?` | keep m=~\"G.*\", app_extracted\nGET x\n",
        "| unpack | decolorize | unwrap bytes(n)\n{\"_entry\":\"\\u001b[31mred\",\"n\":\"5KB\"}\n{}",
        "| line_format `{{ range $k, $v := fromJson __line__ }}{{ printf \"%5v|%-3d\" $k 3 }}{{ end }}`\n{\"a\":[1]}",
        "| label_format t=`{{ __timestamp__ | date \"2006-01-02\" }}{{ addf 0.1 .n | round 2 }}`\nn",
    ])
}

/// Two symbols, one series of them with a sample, a histogram and metadata.
pub(crate) fn remote_write_2() -> Vec<Vec<u8>> {
    let mut seed = vec![0x22, 0, 0x22, 8];
    seed.extend_from_slice(b"__name__");
    seed.extend_from_slice(&[0x22, 1, b'm']);
    let mut series = vec![0x0a, 2, 1, 2, 0x12, 11, 0x09];
    series.extend_from_slice(&1.5_f64.to_le_bytes());
    series.extend_from_slice(&[0x10, 7, 0x1a, 4, 0x08, 0, 0x78, 9, 0x2a, 4, 0x08, 1, 0x18, 2]);
    seed.extend_from_slice(&[0x2a, series.len() as u8]);
    seed.extend_from_slice(&series);
    vec![seed]
}

pub(crate) fn otlp_metrics() -> Vec<Vec<u8>> {
    let resource = r#"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}},
        {"key":"a.b","value":{"arrayValue":{"values":[{"intValue":"1"}]}}}]},"scopeMetrics":[{
        "scope":{"name":"x"},"metrics":[METRIC]}]}"#;
    let metrics = [
        r#"{"name":"g","unit":"By/s","gauge":{"dataPoints":[{"timeUnixNano":"1000000","asDouble":1}]}}"#,
        r#"{"name":"c","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[
            {"timeUnixNano":"1000000","asInt":"5"}]}}"#,
        r#"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1000000",
            "count":"3","sum":1,"bucketCounts":["1","2"],"explicitBounds":[1]}]}}"#,
        r#"{"name":"e","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[
            {"timeUnixNano":"1000000","count":"3","scale":9,"positive":{"offset":-1,"bucketCounts":["3"]}}]}}"#,
        r#"{"name":"s","summary":{"dataPoints":[{"timeUnixNano":"1000000","count":"1","sum":2,
            "quantileValues":[{"quantile":0.5,"value":1}]}]}}"#,
    ];
    let mut seeds = Vec::new();
    for metric in metrics {
        let json = format!("{{\"resourceMetrics\":[{}]}}", resource.replace("METRIC", metric));
        seeds.push(wire::otlp::to_protobuf(json.as_bytes()).expect("JSON of OTLP"));
        seeds.push(json.into_bytes());
    }
    seeds
}

pub(crate) fn influx_lines() -> Vec<Vec<u8>> {
    texts(&[
        "cpu,host=a,cpu=cpu0 usage_idle=98.5,n=3i,u=7u,b=t,s=\"x y\" 1700000000000000000\n",
        "my\\ m\\,1,t\\=a=b\\ c f\\ x=1\n# comment\nm v=\"two\nlines\",w=1\n",
    ])
}

pub(crate) fn imports() -> Vec<Vec<u8>> {
    texts(&[
        "a.b;dc=eu 1.5 1700000000\nc 2 -1\n",
        "put sys.cpu 1700000000 18 host=web-1\n",
        r#"[{"metric":"a","timestamp":1700000000,"value":"1","tags":{"h":"x"}}]"#,
        r#"{"metric":{"__name__":"m","a":"b"},"values":[1,null,"NaN"],"timestamps":[1,2,3]}"#,
        r#"{"series":[{"metric":"a","points":[[1700000000,1.5]],"host":"h","tags":["k:v","b"]}]}"#,
        r#"{"series":[{"metric":"a","points":[{"timestamp":1,"value":2}],"resources":[{"type":"host","name":"h"}]}]}"#,
        "1:metric:a,2:label:b,3:time:unix_s\n1.5,\"x,\"\"y\",1700000000\n",
    ])
}

pub(crate) fn parquet() -> Vec<Vec<u8>> {
    let mut writer = wire::parquet_export::ParquetWriter::new();
    let mut file = Vec::new();
    for pairs in [&[("__name__", "m"), ("a", "b"), ("c", "d")][..], &[("__name__", "n")]] {
        let labels = Labels::from_pairs(pairs.iter().copied()).expect("valid");
        writer.push(&labels, &[1, 2, 3], &[1.5, f64::NAN, -0.0], &mut file);
    }
    writer.finish(&mut file);
    macro_rules! foreign {
        ($($name:literal),*) => {
            [$(&include_bytes!(concat!(
                "../../crates/wire/src/parquet_import/files/", $name, ".parquet"
            ))[..]),*]
        };
    }
    let foreign =
        foreign!("snappy", "gzip-v2-groups", "delta", "int96", "pairs", "fields").map(Vec::from);
    [vec![file], foreign.into()].concat()
}
