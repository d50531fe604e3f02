//! Shards against a server on a socket: nothing lost, nothing out of order, however they change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::HeaderMap;
use model::{Labels, Limits, MetricBatch};
use net::client::{Client, ClientOptions};
use parking_lot::Mutex;
use settings::prometheus::{
    HttpClientConfig, MetadataConfig, QueueConfig, RemoteWrite, RemoteWriteMessage,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::delivery::{Delivery, Parts};
use super::rows::{Chunk, Row, Value};
use super::shards::{ShardSet, spread};
use crate::metadata::MetadataBook;

type Taken = Arc<Mutex<Vec<(String, i64)>>>;

/// Takes every request but each third, which it refuses with 503.
async fn serve(stream: TcpStream, taken: Taken, count: Arc<AtomicUsize>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(number) = line.strip_prefix("content-length: ") {
                length = number.parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).await?;
        let status = if count.fetch_add(1, Ordering::Relaxed) % 3 == 2 { 503 } else { 204 };
        if status == 204 {
            let mut batch = MetricBatch::default();
            let encoding = wire::decompress::Encoding::from_content_encoding("snappy");
            let mut message = Vec::new();
            wire::decompress::decompress(
                encoding.expect("it is known"),
                &body,
                1 << 20,
                &mut message,
            )
            .expect("snappy");
            wire::remote_write::decode(message, &Limits::default(), &mut batch).expect("a request");
            let mut taken = taken.lock();
            for series in &batch.series {
                let bytes = batch.label_bytes_of(series);
                let labels = wire::decode_labels(series.form, bytes, &Limits::default());
                let labels = labels.expect("labels").to_string();
                let rows = series.first_row as usize..(series.first_row + series.rows) as usize;
                taken.extend(batch.timestamps_ms[rows].iter().map(|&t_ms| (labels.clone(), t_ms)));
            }
        }
        let length = if status == 204 { "" } else { "Content-Length: 0\r\n" };
        writer.write_all(format!("HTTP/1.1 {status} Said\r\n{length}\r\n").as_bytes()).await?;
    }
}

async fn delivery(url: &str) -> Delivery {
    let options = ClientOptions::operator();
    let http = HttpClientConfig::default();
    let client = Client::open(&http, &options).await.expect("nothing is configured");
    Delivery::new(Parts {
        remote: RemoteWrite {
            url: settings::HttpUrl::parse(url).expect("a URL"),
            remote_timeout: Duration::from_secs(5),
            headers: Vec::new(),
            write_relabel_configs: Vec::new(),
            name: "test".to_owned(),
            send_exemplars: false,
            send_native_histograms: false,
            round_robin_dns: false,
            protobuf_message: RemoteWriteMessage::V1,
            http,
            queue: QueueConfig {
                capacity: 100,
                max_samples_per_send: 17,
                batch_send_deadline: Duration::from_millis(5),
                min_backoff: Duration::from_millis(1),
                max_backoff: Duration::from_millis(5),
                ..QueueConfig::default()
            },
            metadata: MetadataConfig::default(),
        },
        name: "test".to_owned(),
        client,
        uri: url.parse().expect("a URL"),
        headers: HeaderMap::new(),
        metadata: Arc::new(MetadataBook::default()),
        runtime: tokio::runtime::Handle::current(),
        now_ms: || 0,
        seed: 1,
    })
}

/// Rows of all series at one time.
fn chunk(series: &[Labels], frame: u64) -> Chunk {
    let rows = series.iter().zip(0_u32..).map(|(labels, number)| Row {
        labels: labels.clone(),
        hash: number.wrapping_mul(0x9e37_79b9),
        t_ms: frame as i64,
        value: Value::Float { value: frame as f64, start_ms: 0 },
    });
    Chunk { frame, at: Instant::now(), rows: rows.collect() }
}

/// The number of shards changes while requests fail and queues are full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_stay_in_order_whatever_the_number_of_shards() {
    const FRAMES: u64 = 120;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (taken, count) = (Taken::default(), Arc::new(AtomicUsize::new(0)));
    let shared = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&shared), Arc::clone(&count)));
        }
    });
    let delivery = Arc::new(delivery(&format!("http://{address}/")).await);
    let series: Vec<Labels> = (0..13)
        .map(|n| {
            let n = n.to_string();
            Labels::from_pairs([("__name__", "m"), ("n", n.as_str())]).expect("labels")
        })
        .collect();
    let (for_thread, of_thread) = (Arc::clone(&delivery), series.clone());
    let work = tokio::task::spawn_blocking(move || {
        let mut shards = ShardSet::start(&for_thread, 1);
        let mut state = 7_u64;
        for frame in 0..FRAMES {
            for (shard, mut chunk) in spread(chunk(&of_thread, frame), shards.count()) {
                while let Err(back) = shards.push(shard, chunk) {
                    chunk = back;
                    shards.space().wait(Duration::from_millis(5));
                }
            }
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if frame % 9 == 8 {
                shards.resize(1 + (state >> 33) as usize % 6);
                let outstanding = shards.first_outstanding();
                assert!(outstanding.is_none_or(|first| first <= frame), "{outstanding:?}");
            }
        }
        shards.finish(Instant::now() + Duration::from_secs(20));
        assert_eq!(shards.first_outstanding(), None);
    });
    work.await.expect("no panic");
    let mut by_series: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (labels, t_ms) in taken.lock().drain(..) {
        by_series.entry(labels).or_default().push(t_ms);
    }
    assert_eq!(by_series.len(), series.len());
    let wanted: Vec<i64> = (0..FRAMES as i64).collect();
    for (labels, times) in by_series {
        assert_eq!(times, wanted, "{labels}");
    }
    let counters = delivery.counters();
    let all = FRAMES * series.len() as u64;
    assert_eq!(counters.floats.total.load(Ordering::Relaxed), all);
    assert_eq!(counters.floats.pending.load(Ordering::Relaxed), 0);
    assert!(counters.floats.retried.load(Ordering::Relaxed) > 0);
}
