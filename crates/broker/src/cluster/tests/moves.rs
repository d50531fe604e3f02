//! Blocks and keys that move in from one machine.

use axum::body::{Body, to_bytes};
use catalog::{BlockId, BlockMeta, StoreId};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

struct Cluster {
    running: Running,
    site: Arc<Site>,
    runtime: Runtime,
}

impl Cluster {
    fn start() -> Cluster {
        let (runtime, site) = (runtime(), Arc::<Site>::default());
        let running = start(&runtime, &site, 1, &MemoryDisk::new());
        let create = Command::CreateStore { store: StoreId([7; 16]) };
        let created = running.consensus.propose(create, Duration::from_secs(5));
        runtime.block_on(created).expect("it has none");
        Cluster { running, site, runtime }
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let routes = crate::routes(&self.running.broker);
        let router = net::auth::without_login(routes.into_router());
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).expect("a request");
        self.runtime.block_on(async {
            let response = router.oneshot(request).await.expect("answers");
            let status = response.status();
            let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
            (status, serde_json::from_slice(&body).unwrap_or_default())
        })
    }

    fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call("POST", path, body)
    }

    fn begin(&self, deletes: u64, is_deleted_again: bool) -> StatusCode {
        let body = json!({
            "source": "ab", "source_deletes": deletes, "is_deleted_again": is_deleted_again,
        });
        self.post("/api/v1/admin/moves", &body).0
    }

    fn reserve(&self) -> (u64, String) {
        let (status, told) = self.post("/api/v1/admin/blocks/reserve", &json!({}));
        assert_eq!(status, StatusCode::OK, "{told}");
        assert_eq!(told["data"]["cluster"], "07".repeat(16));
        let key = told["data"]["key"].as_str().expect("a key").to_owned();
        (told["data"]["id"].as_u64().expect("an id"), key)
    }

    fn add(&self, source_id: u64, id: u64, meta: &BlockMeta) -> StatusCode {
        let body = json!({
            "source": "ab", "source_id": source_id, "id": id, "tenant": "default",
            "start_ms": meta.range.start_ms, "end_ms": meta.range.end_ms, "rows": meta.rows,
            "series": meta.series, "size_bytes": meta.size_bytes, "level": meta.level,
        });
        self.post("/api/v1/admin/blocks", &body).0
    }

    fn is_shown(&self, id: u64) {
        let end = Instant::now() + Duration::from_secs(10);
        let blocks = &self.running.broker.inner.blocks;
        while !blocks.snapshot().iter().any(|open| open.meta.id == BlockId(id)) {
            assert!(Instant::now() < end, "block {id} counts and is not read");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn series(&self) -> Vec<String> {
        let found = read(&self.running.broker);
        found.into_keys().map(|(series, _)| series).collect()
    }
}

#[test]
fn a_block_comes_once_and_what_was_deleted_does_not_come_back() {
    let cluster = Cluster::start();
    let broker = &cluster.running.broker;
    for series in ["gone", "kept"] {
        send(broker, &batch(series, START_MS, 1.0)).recv().expect("answered").expect("stored");
    }
    flush(broker);
    // What is in it may as well be what another store has.
    let meta = broker.block_metas()[0].0;
    let bytes = cluster.site.objects.lock()[&meta.key()].clone();
    let upload = |key: String| _ = cluster.site.objects.lock().insert(key, bytes.clone());
    let (first, key) = cluster.reserve();
    assert_eq!(cluster.add(1, first, &meta), StatusCode::BAD_REQUEST, "it has not begun");
    assert_eq!(cluster.begin(0, false), StatusCode::OK);
    assert_eq!(cluster.add(1, first, &meta), StatusCode::GONE, "nothing was written");
    upload(key);
    assert_eq!(cluster.add(1, first, &meta), StatusCode::OK);
    // A proxy that sends it twice, and a broker that ended before it was noted.
    assert_eq!(cluster.add(1, first, &meta), StatusCode::OK);
    let mark = "moved/ab/1";
    broker.delete_key(mark, Expected::Any).expect("it was noted");
    assert_eq!(cluster.add(1, first, &meta), StatusCode::OK);
    assert_eq!(broker.get_key(mark).expect("noted").value, first.to_string().into_bytes());
    let (second, key) = cluster.reserve();
    upload(key);
    assert_eq!(cluster.add(1, second, &meta), StatusCode::CONFLICT);
    assert_eq!(cluster.add(2, first, &meta), StatusCode::OK, "who says so has it under that id");

    let matcher = Matcher::new("series", MatchOp::Equal, "gone").expect("no regex");
    broker.delete_series(DEFAULT_TENANT, &[vec![matcher]], TimeRange::all()).expect("a leader");
    broker.clean_deleted().expect("it is written anew");
    assert_eq!(cluster.series(), ["kept"]);
    // What is left of it at the machine comes in another block.
    assert_eq!(cluster.begin(0, false), StatusCode::OK);
    assert_eq!(cluster.add(3, second, &meta), StatusCode::OK);
    cluster.is_shown(second);
    assert_eq!(cluster.series(), ["kept"]);

    assert_eq!(cluster.begin(1, false), StatusCode::PRECONDITION_FAILED, "deleted there");
    assert_eq!(cluster.begin(1, true), StatusCode::OK);
    let (_, known) = cluster.call("GET", "/api/v1/admin/blocks?source=ab", &json!({}));
    assert_eq!(known["data"]["blocks"], json!([1, 2, 3]));
    assert_eq!(known["data"]["source_deletes"], 1);
    assert_eq!(known["data"]["kept_ms"], 365 * 86_400_000_i64);
    assert_eq!(known["data"]["samples_kept_ms"], 15 * 86_400_000_i64);
    let (status, _) = cluster.post("/api/v1/admin/moves/end", &json!({ "source": "ab" }));
    assert_eq!(status, StatusCode::OK);
    assert_eq!(cluster.begin(1, false), StatusCode::PRECONDITION_FAILED, "it was ended");
    cluster.running.stop(&cluster.runtime, &cluster.site, 1);
}

#[test]
fn keys_come_once_and_to_nobody_else() {
    let cluster = Cluster::start();
    let broker = &cluster.running.broker;
    let put = |key: &str, tenant: Option<&str>| {
        let body = json!({ "source": "ab", "key": key, "tenant": tenant, "value": "e30=" });
        let (status, told) = cluster.post("/api/v1/admin/keys", &body);
        (status.as_u16(), told["data"]["new"].as_bool())
    };
    assert_eq!(put("views/a", None), (200, Some(true)));
    assert_eq!(put("views/a", None), (200, Some(false)));
    broker.delete_key("views/a", Expected::Any).expect("it was put");
    assert_eq!(put("views/a", None), (200, Some(false)));
    assert_eq!(broker.get_key("views/a"), None, "it was deleted here");
    assert_eq!(put("metadata/3/up", None), (400, None), "whose it is, is not known");
    assert_eq!(put("metadata/3/up", Some("default")), (200, Some(true)));
    assert_eq!(put("auth/users/a", None), (400, None));
    cluster.running.stop(&cluster.runtime, &cluster.site, 1);
}
