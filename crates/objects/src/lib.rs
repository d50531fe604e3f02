//! Stores that all brokers of a cluster share.
//!
//! An object is written once under a key that nobody else uses, and never over: nothing here asks a
//! store for conditional writes, which some ignore. A write that failed may still arrive later; what
//! refers to objects therefore names only those whose writes were confirmed.
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
//! | `store` | [`Store`]: the one interface, with deadlines, further attempts and counters |
//! | `cloud`, `redis_store`, `memory` | what stands behind it |
//! | `faulty` | a store that fails as stores do, for tests and simulations |
//! | `error` | [`StoreError`] |

mod cloud;
mod error;
mod faulty;
mod memory;
mod store;
mod url;

pub use error::StoreError;
pub use faulty::{Fault, FaultyStore};
pub use memory::MemoryStore;
pub use object_store::client::{HttpConnector, HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};
pub use store::{Backend, ObjectInfo, Store, StoreCounters, StoreOptions};
pub use url::{StoreKind, StoreUrl, UrlError};
