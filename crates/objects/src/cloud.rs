//! S3, Google and Azure, by the crate `object_store`.

use std::error::Error as _;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use net::client::ClientError;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, ObjectStoreExt, RetryConfig};
use parking_lot::Mutex;

use crate::answer::Answer;
use crate::http_service::{Connector, NoCredentials, chain};
use crate::{
    Backend, Credentials, ObjectInfo, PartsBackend, Refusal, StoreError, StoreKind, StoreOptions,
};

/// All that is asked of one of them.
trait Cloud: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Cloud for T {}

/// One of them.
pub(crate) struct CloudStore(Arc<dyn Cloud>);

/// Further attempts are [`crate::Store`]'s.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

fn unfit(error: object_store::Error) -> StoreError {
    StoreError::Settings(format!("the store: {}", chain(&error)))
}

impl CloudStore {
    pub(crate) async fn open(
        kind: &StoreKind,
        options: &StoreOptions,
    ) -> Result<CloudStore, StoreError> {
        let credentials = &options.credentials;
        let connect = async |endpoint: Option<&str>, ca_file: Option<&FilePath>| {
            endpoint.map_or(Ok(()), Connector::check_endpoint)?;
            Connector::open(ca_file.map(FilePath::to_owned), options).await
        };
        let store: Arc<dyn Cloud> = match kind {
            StoreKind::S3 { bucket, endpoint, region, path_style, ca_file } => {
                let named =
                    |name: &str| credentials.get(name).map(|value| value.reveal().to_owned());
                let endpoint = endpoint
                    .clone()
                    .or_else(|| named("AWS_ENDPOINT_URL_S3"))
                    .or_else(|| named("AWS_ENDPOINT_URL"));
                let region = region
                    .clone()
                    .or_else(|| named("AWS_REGION"))
                    .or_else(|| named("AWS_DEFAULT_REGION"));
                let is_path_style = path_style.unwrap_or(endpoint.is_some());
                let mut builder = with_aws(AmazonS3Builder::new(), credentials)
                    .with_bucket_name(bucket)
                    .with_region(region.as_deref().unwrap_or("us-east-1"))
                    .with_virtual_hosted_style_request(!is_path_style)
                    .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true")
                    .with_retry(once())
                    .with_http_connector(connect(endpoint.as_deref(), ca_file.as_deref()).await?);
                if let Some(endpoint) = endpoint {
                    // `object_store` takes the endpoint of another style for the bucket's own.
                    let place = match is_path_style {
                        true => endpoint.clone(),
                        false => at_bucket(&endpoint, bucket),
                    };
                    builder = builder
                        .with_endpoint(place)
                        .with_allow_http(endpoint.starts_with("http://"));
                }
                Arc::new(builder.build().map_err(unfit)?)
            }
            StoreKind::Gcs { bucket, endpoint, ca_file } => {
                let mut builder = with_google(GoogleCloudStorageBuilder::new(), credentials)
                    .with_bucket_name(bucket)
                    .with_retry(once())
                    .with_http_connector(connect(endpoint.as_deref(), ca_file.as_deref()).await?);
                if let Some(endpoint) = endpoint {
                    builder = builder.with_base_url(endpoint);
                }
                Arc::new(builder.build().map_err(unfit)?)
            }
            StoreKind::Azure { container, account, endpoint, ca_file } => {
                let mut builder = with_azure(MicrosoftAzureBuilder::new(), credentials)
                    .with_container_name(container)
                    .with_retry(once())
                    .with_http_connector(connect(endpoint.as_deref(), ca_file.as_deref()).await?);
                if let Some(account) = account {
                    builder = builder.with_account(account);
                }
                if let Some(endpoint) = endpoint {
                    let is_plain = endpoint.starts_with("http://");
                    builder = builder.with_endpoint(endpoint.clone()).with_allow_http(is_plain);
                }
                Arc::new(builder.build().map_err(unfit)?)
            }
            StoreKind::File { .. } | StoreKind::Redis(_) | StoreKind::Memory => {
                unreachable!("these have stores of their own")
            }
        };
        Ok(CloudStore(store))
    }
}

/// `http://HOST` as `http://BUCKET.HOST`.
fn at_bucket(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) => format!("{scheme}://{bucket}.{host}"),
        None => endpoint.to_owned(),
    }
}

/// What `object_store` knows of the given names, but for where the bucket is.
fn with_aws(mut builder: AmazonS3Builder, credentials: &Credentials) -> AmazonS3Builder {
    for (name, value) in credentials.below("AWS_") {
        match name.parse() {
            Ok(
                AmazonS3ConfigKey::Endpoint
                | AmazonS3ConfigKey::S3Endpoint
                | AmazonS3ConfigKey::Bucket
                | AmazonS3ConfigKey::ImdsV1Fallback
                | AmazonS3ConfigKey::ConditionalPut
                | AmazonS3ConfigKey::CopyIfNotExists,
            )
            | Err(_) => {}
            Ok(key) => builder = builder.with_config(key, value),
        }
    }
    builder
}

fn with_google(
    mut builder: GoogleCloudStorageBuilder,
    credentials: &Credentials,
) -> GoogleCloudStorageBuilder {
    for (name, value) in credentials.below("GOOGLE_") {
        match name.parse() {
            Ok(GoogleConfigKey::Bucket | GoogleConfigKey::BaseUrl) | Err(_) => {}
            Ok(key) => builder = builder.with_config(key, value),
        }
    }
    builder
}

fn with_azure(
    mut builder: MicrosoftAzureBuilder,
    credentials: &Credentials,
) -> MicrosoftAzureBuilder {
    for (name, value) in credentials.below("AZURE_") {
        match name.parse() {
            Ok(AzureConfigKey::ContainerName | AzureConfigKey::Endpoint) | Err(_) => {}
            Ok(key) => builder = builder.with_config(key, value),
        }
    }
    builder
}

#[async_trait]
impl Backend for CloudStore {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.0.put(&Path::from(key), bytes.into()).await;
        put.map(|_| ()).map_err(|error| sorted("write", key, &error))
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        let fault = |error| sorted("read", key, &error);
        let found = self.0.get(&Path::from(key)).await.map_err(fault)?;
        let size = found.meta.size;
        if size > limit {
            return Err(StoreError::TooLarge { key: key.to_owned(), bytes: size, limit });
        }
        let bytes = found.bytes().await.map_err(fault)?;
        if bytes.len() as u64 == size {
            return Ok(bytes);
        }
        let why = format!("{} of its {size} bytes came", bytes.len());
        Err(StoreError::Damaged { key: key.to_owned(), why })
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let got = self.0.get_range(&Path::from(key), range).await;
        got.map_err(|error| sorted("read", key, &error))
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let head = self.0.head(&Path::from(key)).await;
        head.map(|meta| meta.size).map_err(|error| sorted("look at", key, &error))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let below = (!prefix.is_empty()).then(|| Path::from(prefix));
        let listed = self
            .0
            .list(below.as_ref())
            .map_ok(|meta| ObjectInfo { key: meta.location.to_string(), size_bytes: meta.size });
        listed.try_collect().await.map_err(|error| sorted("list", prefix, &error))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.0.delete(&Path::from(key)).await.map_err(|e| sorted("delete", key, &e)) {
            Err(StoreError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn begin(&self, key: &str) -> Result<Arc<dyn PartsBackend>, StoreError> {
        let path = Path::from(key);
        let id = self.0.create_multipart(&path).await.map_err(|e| sorted("write", key, &e))?;
        let store = Arc::clone(&self.0);
        Ok(Arc::new(CloudParts { store, key: key.to_owned(), path, id, parts: Mutex::default() }))
    }
}

struct CloudParts {
    store: Arc<dyn Cloud>,
    key: String,
    path: Path,
    id: MultipartId,
    parts: Mutex<Vec<PartId>>,
}

#[async_trait]
impl PartsBackend for CloudParts {
    async fn part(&self, number: u32, bytes: Bytes) -> Result<(), StoreError> {
        let number = number as usize;
        let put = self.store.put_part(&self.path, &self.id, number, bytes.into()).await;
        let part = put.map_err(|error| sorted("write", &self.key, &error))?;
        let mut parts = self.parts.lock();
        parts.truncate(number);
        parts.push(part);
        Ok(())
    }

    async fn finish(&self) -> Result<(), StoreError> {
        let parts = self.parts.lock().clone();
        let done = self.store.complete_multipart(&self.path, &self.id, parts).await;
        done.map(|_| ()).map_err(|error| sorted("write", &self.key, &error))
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let done = self.store.abort_multipart(&self.path, &self.id).await;
        done.map_err(|error| sorted("delete", &self.key, &error))
    }
}

/// By what can be done about it.
fn sorted(action: &'static str, key: &str, error: &object_store::Error) -> StoreError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(answer) = inner.downcast_ref::<Answer>() {
            return answer.meaning(action, key);
        }
        if let Some(none) = inner.downcast_ref::<NoCredentials>() {
            return refused(Refusal::Credentials, action, key, none.to_string());
        }
        if let Some(fault) = inner.downcast_ref::<ClientError>() {
            return of_client(action, key, fault);
        }
        cause = inner.source();
    }
    let (key, why) = (key.to_owned(), chain(error));
    match error {
        object_store::Error::NotFound { .. } => StoreError::NotFound { key },
        // Files with credentials that cannot be read, keys that are none.
        _ if why.contains("credential") || why.contains("Decode") => {
            refused(Refusal::Credentials, action, &key, why)
        }
        _ => StoreError::Failed { action, key, why },
    }
}

fn refused(refusal: Refusal, action: &'static str, key: &str, why: String) -> StoreError {
    StoreError::Refused { refusal, action, key: key.to_owned(), why }
}

fn of_client(action: &'static str, key: &str, fault: &ClientError) -> StoreError {
    let (why, key) = (fault.to_string(), key.to_owned());
    match fault {
        ClientError::Unreachable(_) => StoreError::Unreachable { action, key, why },
        ClientError::Broken(_) => StoreError::Failed { action, key, why },
        ClientError::Timeout(waited) => StoreError::Late { action, key, waited: *waited },
        ClientError::BodyTooLarge { limit } => {
            let limit = *limit as u64;
            StoreError::TooLarge { key, bytes: limit + 1, limit }
        }
        ClientError::Config(_)
        | ClientError::Url(_)
        | ClientError::RefusedAddress(_)
        | ClientError::Redirect(_) => refused(Refusal::Place, action, &key, why),
        ClientError::Credentials(_) => refused(Refusal::Credentials, action, &key, why),
    }
}
