//! What the brokers of a test share: the store, and the ways between them.

use super::*;

#[derive(Clone)]
pub(super) struct Shared(pub(super) Arc<Site>);

impl Transport for Shared {
    fn call(&self, to: u64, member: &Member, request: Bytes, deadline: Duration) -> Call {
        let to = if to == 0 { member.address.parse().expect("a number") } else { to };
        let there = self.0.members.lock().get(&to).cloned();
        Box::pin(async move {
            match there {
                // One that was killed meanwhile never answers.
                Some(there) => tokio::time::timeout(deadline, there.answer(&request))
                    .await
                    .map_err(|_| TransportError::Lost("no answer in time".to_owned())),
                None => Err(TransportError::Unreached("connection refused".to_owned())),
            }
        })
    }
}

impl Peers for Shared {
    fn fresh(&self, _: &str, request: FreshRequest) -> FreshParts {
        self.0.asked.lock().insert(request.to, request.clone());
        if self.0.silent.lock().contains(&request.to) {
            return Box::pin(futures_util::stream::pending());
        }
        let is_torn = self.0.torn.lock().contains(&request.to);
        let feed = self.0.feeds.lock().get(&request.to).cloned();
        match feed.and_then(|feed| feed.opened()) {
            Some(broker) if is_torn => Box::pin(broker.answer_fresh(request).take(1)),
            Some(broker) => broker.answer_fresh(request),
            None => {
                let refused = Err(Status::unavailable("connection refused"));
                Box::pin(futures_util::stream::iter([refused]))
            }
        }
    }

    fn live(&self, _: &str, request: LiveRequest) -> LiveParts {
        let feed = self.0.feeds.lock().get(&request.to).cloned();
        match feed.and_then(|feed| feed.opened()) {
            Some(broker) => broker.answer_live(request),
            None => {
                let refused = Err(Status::unavailable("connection refused"));
                Box::pin(futures_util::stream::iter([refused]))
            }
        }
    }

    fn live_lines(&self, _: &str, request: LiveLinesRequest) -> LiveLineParts {
        let feed = self.0.feeds.lock().get(&request.to).cloned();
        match feed.and_then(|feed| feed.opened()) {
            Some(broker) => broker.answer_live_lines(request),
            None => {
                let refused = Err(Status::unavailable("connection refused"));
                Box::pin(futures_util::stream::iter([refused]))
            }
        }
    }
}

impl ObjectStore for Shared {
    fn put(&self, key: String, bytes: Bytes) -> StoreCall<()> {
        let site = Arc::clone(&self.0);
        Box::pin(async move {
            let is_block = key.starts_with("blocks/");
            let is_refused = is_block && site.refuses_block.fetch_sub(1, Ordering::Relaxed) == 1;
            if is_refused || site.is_full.load(Ordering::Relaxed) {
                let why = "the bucket's quota is used up: raise it".to_owned();
                return Err(StoreFault::Refused(why));
            }
            site.objects.lock().insert(key, bytes);
            Ok(())
        })
    }

    fn get(&self, key: String) -> StoreCall<Bytes> {
        let found = self.0.objects.lock().get(&key).cloned();
        let is_down = self.0.is_down.load(Ordering::Relaxed);
        let kept_back = self.0.kept_back.lock().get(&key).cloned();
        Box::pin(async move {
            if is_down {
                return Err(StoreFault::Unavailable("503 Slow Down".to_owned()));
            }
            match kept_back {
                Some(fault) => Err(fault),
                None => found.ok_or(StoreFault::NotFound(key)),
            }
        })
    }

    fn delete(&self, key: String) -> StoreCall<()> {
        self.0.objects.lock().remove(&key);
        Box::pin(async { Ok(()) })
    }

    fn list(&self, prefix: String) -> StoreCall<Vec<StoredObject>> {
        let objects = self.0.objects.lock();
        let below = objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        let object = |(key, bytes): (&String, &Bytes)| StoredObject {
            key: key.clone(),
            size_bytes: bytes.len() as u64,
        };
        let listed = below.map(object).collect();
        Box::pin(async move { Ok(listed) })
    }
}

struct Object(Bytes);

impl ReadAt for Object {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BlobError> {
        let start = usize::try_from(offset).expect("in memory");
        out.copy_from_slice(&self.0[start..start + out.len()]);
        Ok(())
    }
}

impl Shared {
    fn open_object(&self, key: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        if let Some(fault) = self.0.kept_back.lock().get(key) {
            return Err(BlobError::Damaged { key: key.to_owned(), why: fault.to_string() });
        }
        match self.0.objects.lock().get(key) {
            Some(bytes) => Ok(Arc::new(Object(bytes.clone()))),
            None => Err(BlobError::NotFound { key: key.to_owned() }),
        }
    }
}

impl Blobs for Shared {
    fn open(&self, key: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        if self.0.bad_copies.lock().contains(key) {
            return Err(BlobError::Damaged { key: key.to_owned(), why: "bits".to_owned() });
        }
        self.open_object(key)
    }

    fn forget_copies(&self, key: &str) {
        self.0.bad_copies.lock().remove(key);
    }

    fn open_past_copies(&self, key: &str) -> Result<Arc<dyn ReadAt>, BlobError> {
        self.0.opened_past_copies.fetch_add(1, Ordering::Relaxed);
        self.open_object(key)
    }

    fn create(&self, _: &str) -> Result<Box<dyn BlobWriter>, BlobError> {
        unreachable!("objects are put as a whole")
    }

    fn list(&self, _: &str) -> Result<Vec<BlobInfo>, BlobError> {
        unreachable!("nobody depends on a list")
    }

    fn delete(&self, _: &str) -> Result<(), BlobError> {
        unreachable!("objects are deleted by the other interface")
    }

    fn quarantine(&self, _: &str) -> Result<(), BlobError> {
        unreachable!("not one broker's to do")
    }
}
