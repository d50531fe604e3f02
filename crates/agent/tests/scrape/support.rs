//! Targets that answer what a test wants, and what a scraper made of it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::scrape::{Scraper, ScraperOptions, Sharing};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use model::{Labels, MetricBatch, is_stale_nan};
use net::client::ClientOptions;
use settings::prometheus::{Config, Surroundings};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What a target answers.
pub(crate) type Answer = dyn Fn(&Uri, &HeaderMap) -> Response<Full<Bytes>> + Send + Sync;

/// A target on a port of its own.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Box<Answer>>>,
    pub(crate) seen: Arc<Mutex<Vec<(Uri, HeaderMap)>>>,
}

impl Target {
    /// Answers everything with this text.
    pub(crate) async fn text(body: &str) -> Self {
        let target = Self::new(|_, _| text("")).await;
        target.expose(body);
        target
    }

    pub(crate) async fn new(
        answer: impl Fn(&Uri, &HeaderMap) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("bound");
        let target = Target {
            address,
            answer: Arc::new(Mutex::new(Box::new(answer))),
            seen: Arc::default(),
        };
        let (answer, seen) = (Arc::clone(&target.answer), Arc::clone(&target.seen));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (uri, headers) = (request.uri().clone(), request.headers().clone());
                    let response = answer.lock().expect("no panic")(&uri, &headers);
                    seen.lock().expect("no panic").push((uri, headers));
                    async move { Ok::<_, Infallible>(response) }
                });
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        target
    }

    pub(crate) fn expose(&self, body: &str) {
        let body = body.to_owned();
        self.answers(move |_, _| text(&body));
    }

    pub(crate) fn answers(
        &self,
        answer: impl Fn(&Uri, &HeaderMap) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) {
        *self.answer.lock().expect("no panic") = Box::new(answer);
    }

    pub(crate) fn requests(&self) -> Vec<(Uri, HeaderMap)> {
        self.seen.lock().expect("no panic").clone()
    }
}

pub(crate) fn text(body: &str) -> Response<Full<Bytes>> {
    answer(200, &[("content-type", "text/plain; version=0.0.4")], body.as_bytes())
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(Bytes::copy_from_slice(body))).expect("a response")
}

/// A configuration file that lies in memory.
struct InMemory<'a>(&'a str);

impl Surroundings for InMemory<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("prometheus.yml") => Ok(self.0.as_bytes().to_vec()),
            _ => std::fs::read(path),
        }
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

pub(crate) fn config(yaml: &str) -> Config {
    match Config::load(&PathBuf::from("prometheus.yml"), &InMemory(yaml)) {
        Ok(loaded) => loaded.config,
        Err(faults) => panic!("{faults}"),
    }
}

/// One sample: time, and value or `None` for a staleness marker.
pub(crate) type Sample = (i64, Option<f64>);

/// A scraper and everything it sent.
pub(crate) struct Scraped {
    pub(crate) scraper: Scraper,
    batches: mpsc::Receiver<MetricBatch>,
    pub(crate) series: BTreeMap<String, Vec<Sample>>,
    /// Native histograms: time, and sum or `None` for a staleness marker.
    pub(crate) histograms: BTreeMap<String, Vec<Sample>>,
    pub(crate) families: Vec<model::MetricMetadata>,
}

impl Scraped {
    pub(crate) async fn start(yaml: &str) -> Self {
        Self::start_sharing(yaml, None).await
    }

    pub(crate) async fn start_sharing(yaml: &str, sharing: Option<Arc<dyn Sharing>>) -> Self {
        let (sender, batches) = mpsc::channel(64);
        let options = ScraperOptions {
            sharing,
            client: ClientOptions::operator(),
            adds_external_labels: true,
            folds_created: false,
            type_and_unit_labels: false,
            seed: 7,
        };
        let scraper = Scraper::start(&config(yaml), options, sender).await.expect("it starts");
        Scraped {
            scraper,
            batches,
            series: BTreeMap::new(),
            histograms: BTreeMap::new(),
            families: Vec::new(),
        }
    }

    pub(crate) async fn reload(&self, yaml: &str) {
        self.scraper.reload(&config(yaml)).await.expect("it reloads");
    }

    /// Takes batches until `enough`, at most half a minute: a target is scraped at its own moment within the
    /// interval, and machines that test are busy.
    pub(crate) async fn until(&mut self, enough: impl Fn(&Scraped) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !enough(self) {
            match tokio::time::timeout_at(deadline, self.batches.recv()).await {
                Ok(Some(batch)) => self.take(&batch),
                Ok(None) => panic!("the scraper ended"),
                Err(_) => panic!("not enough in time: {:#?}", self.series),
            }
        }
    }

    /// Takes what is there and what comes within `wait`.
    pub(crate) async fn during(&mut self, wait: Duration) {
        let deadline = tokio::time::Instant::now() + wait;
        while let Ok(Some(batch)) = tokio::time::timeout_at(deadline, self.batches.recv()).await {
            self.take(&batch);
        }
    }

    fn take(&mut self, batch: &MetricBatch) {
        for series in &batch.series {
            let labels = Labels::from_packed(batch.label_bytes_of(series)).expect("good labels");
            let row = series.first_row as usize;
            let value = Some(batch.values[row]).filter(|value| !is_stale_nan(*value));
            let samples = self.series.entry(labels.to_string()).or_default();
            samples.push((batch.timestamps_ms[row], value));
        }
        for sample in &batch.histograms {
            let bytes = batch.label_bytes_of_histogram(sample);
            let labels = Labels::from_packed(bytes).expect("good labels");
            let sum = Some(&sample.histogram).filter(|histogram| !histogram.is_stale());
            let samples = self.histograms.entry(labels.to_string()).or_default();
            samples.push((sample.t_ms, sum.map(model::Histogram::sum)));
        }
        self.families.extend(batch.metadata.iter().cloned());
    }

    /// The samples of a series, oldest first.
    pub(crate) fn of(&self, series: &str) -> &[Sample] {
        self.series.get(series).map_or(&[], Vec::as_slice)
    }

    /// The value of its last sample; `None` if that is a marker.
    pub(crate) fn last(&self, series: &str) -> Option<f64> {
        self.of(series).last().unwrap_or_else(|| panic!("no {series} in {:#?}", self.series)).1
    }

    pub(crate) fn count(&self, series: &str) -> usize {
        self.of(series).len()
    }
}
