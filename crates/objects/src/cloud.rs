//! S3, Google, Azure and directories, by the crate `object_store`.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpConnector;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};

use crate::{Backend, ObjectInfo, StoreError, StoreKind};

/// One of them.
pub(crate) struct CloudStore(Box<dyn ObjectStore>);

/// Further attempts are [`crate::Store`]'s.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

impl CloudStore {
    pub(crate) fn open(
        kind: &StoreKind,
        connector: impl HttpConnector + Clone,
    ) -> Result<CloudStore, StoreError> {
        let unfit = |error: object_store::Error| StoreError::Settings(format!("the store: {error}"));
        let store: Box<dyn ObjectStore> = match kind {
            StoreKind::S3 { bucket, endpoint, region, path_style } => {
                let mut builder = AmazonS3Builder::from_env()
                    .with_bucket_name(bucket)
                    .with_region(region)
                    .with_virtual_hosted_style_request(!path_style)
                    .with_retry(once())
                    .with_http_connector(connector);
                if let Some(endpoint) = endpoint {
                    builder = builder
                        .with_endpoint(endpoint)
                        .with_allow_http(endpoint.starts_with("http://"));
                }
                Box::new(builder.build().map_err(unfit)?)
            }
            StoreKind::Gcs { bucket } => {
                let builder = GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(bucket)
                    .with_retry(once())
                    .with_http_connector(connector);
                Box::new(builder.build().map_err(unfit)?)
            }
            StoreKind::Azure { container, account, endpoint } => {
                let mut builder = MicrosoftAzureBuilder::from_env()
                    .with_container_name(container)
                    .with_retry(once())
                    .with_http_connector(connector);
                if let Some(account) = account {
                    builder = builder.with_account(account);
                }
                if let Some(endpoint) = endpoint {
                    builder = builder
                        .with_endpoint(endpoint.clone())
                        .with_allow_http(endpoint.starts_with("http://"));
                }
                Box::new(builder.build().map_err(unfit)?)
            }
            StoreKind::File { directory } => {
                std::fs::create_dir_all(directory).map_err(|error| {
                    let shown = directory.display();
                    StoreError::Settings(format!("the store's directory {shown}: {error}"))
                })?;
                let local = LocalFileSystem::new_with_prefix(directory).map_err(unfit)?;
                Box::new(local.with_fsync(true))
            }
            StoreKind::Redis { .. } | StoreKind::Memory => {
                unreachable!("these have stores of their own")
            }
        };
        Ok(CloudStore(store))
    }
}

#[async_trait]
impl Backend for CloudStore {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.0.put(&Path::from(key), bytes.into());
        put.await.map(|_| ()).map_err(|error| sorted("write", key, error))
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let fault = |error| sorted("read", key, error);
        let found = self.0.get(&Path::from(key)).await.map_err(fault)?;
        found.bytes().await.map_err(fault)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let got = self.0.get_range(&Path::from(key), range).await;
        got.map_err(|error| sorted("read", key, error))
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let head = self.0.head(&Path::from(key)).await;
        head.map(|meta| meta.size).map_err(|error| sorted("look at", key, error))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let below = (!prefix.is_empty()).then(|| Path::from(prefix));
        let listed = self.0.list(below.as_ref()).map_ok(|meta| ObjectInfo {
            key: meta.location.to_string(),
            size_bytes: meta.size,
        });
        listed.try_collect().await.map_err(|error| sorted("list", prefix, error))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.0.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(sorted("delete", key, error)),
        }
    }
}

/// By what can be done about it.
fn sorted(action: &'static str, key: &str, error: object_store::Error) -> StoreError {
    use object_store::Error as Cause;
    let why = chain(&error);
    let key = key.to_owned();
    match error {
        Cause::NotFound { .. } => StoreError::NotFound { key },
        Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => {
            StoreError::Denied { action, key, why }
        }
        _ if is_full(&why) => StoreError::Full { why },
        _ => StoreError::Unavailable { action, key, why },
    }
}

/// Stores and systems say in words that there is no room: no error of `object_store` does.
fn is_full(why: &str) -> bool {
    let signs = ["507", "InsufficientStorage", "QuotaExceeded", "No space left", "Read-only file"];
    signs.iter().any(|sign| why.contains(sign))
}

/// The error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}
