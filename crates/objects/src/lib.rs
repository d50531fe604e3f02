//! Stores that all brokers of a cluster share.
//!
//! An object is written once under a key that nobody else uses, and never over: nothing here asks a
//! store for conditional writes, which some ignore. A write whose outcome is not known may still
//! arrive later ([`StoreError::Unknown`]); what refers to objects therefore names only those whose
//! writes were confirmed, and the others are orphans.
//!
//! | URL | store |
//! |---|---|
//! | `s3://BUCKET/PREFIX?endpoint=…&region=…&path_style=true` | Amazon S3, Garage, Ceph, MinIO and others |
//! | `gs://BUCKET/PREFIX` | Google Cloud Storage |
//! | `az://CONTAINER/PREFIX?account=…` | Azure Blob Storage |
//! | `redis://HOST:PORT/PREFIX`, `redis+cluster://HOST:PORT,HOST:PORT/PREFIX?ttl=…&wait=…` | Redis 7 |
//! | `file:///DIRECTORY` | a directory, synced; of a network file system if there are several brokers |
//! | `memory://` | this process, for tests |
//!
//! | module | what |
//! |---|---|
//! | `url` | [`StoreUrl`]: what a URL says, and how it is shown without secrets |
//! | `options`, `credentials` | [`StoreOptions`], [`Credentials`]: what a URL does not say |
//! | `store` | [`Store`]: the one interface, with deadlines, further attempts and counters |
//! | `upload` | [`Upload`]: an object too large for one request |
//! | `backend` | [`Backend`]: what a store can do once, without patience |
//! | `cloud`, `answer`, `http_service` | S3, Google and Azure over this program's own HTTP client |
//! | `directory`, `redis_store`, `redis_link`, `redis_parts`, `memory` | the other stores |
//! | `faulty` | a store that fails as stores do, for tests and simulations |
//! | `blobs`, `page_cache` | [`SharedBlobs`]: a store as the engines see one, with a cache on the local disk |
//! | `redis_cache`, `redis_nodes`, `redis_slot` | [`RedisCache`]: a cache between those of several brokers and the store |
//! | `counters` | what was done, as metrics |
//! | `error` | [`StoreError`] |

mod answer;
mod backend;
mod blobs;
mod cloud;
mod counters;
mod credentials;
mod directory;
mod error;
mod faulty;
mod http_service;
mod memory;
mod options;
mod page_cache;
mod redis_cache;
mod redis_link;
mod redis_nodes;
mod redis_parts;
mod redis_slot;
mod redis_store;
mod store;
mod upload;
mod url;

pub use backend::{Backend, ObjectInfo, PartsBackend};
pub use blobs::{NeighbourCall, Neighbours, SharedBlobs};
pub use counters::{Operation, StoreCounters};
pub use credentials::Credentials;
pub use directory::DirectoryStore;
pub use error::{Refusal, StoreError};
pub use faulty::{Decide, Fault, FaultyStore};
pub use memory::MemoryStore;
pub use options::{Purpose, StoreOptions};
pub use page_cache::{CacheCounters, PageCache};
pub use redis_cache::RedisCache;
pub use redis_nodes::NodeAway;
pub use store::Store;
pub use upload::{PART_BYTES, Upload};
pub use url::{RedisPlace, StoreKind, StoreUrl, UrlError};
