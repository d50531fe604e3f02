//! `object_store` over this program's own HTTP client: one TLS, one resolver, one rule of addresses.

use std::error::Error as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::Uri;
use http_body_util::BodyExt;
use net::client::{AddressCheck, Client, ClientError, ClientOptions, Outgoing, operator_addresses};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use settings::prometheus::{HttpClientConfig, TlsConfig};

use crate::answer::Answer;
use crate::{StoreError, StoreOptions};

/// A request that nobody has given up until then is given up here.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// A metadata service is one hop away or not there at all.
const METADATA_DEADLINE: Duration = Duration::from_secs(2);

/// Largest answer that is always read: a page of a listing has 1,000 keys of at most 1 KiB, in XML.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// How much of a refusal is read.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// How clouds name the services that hand out credentials of the machine. The addresses are those of
/// [`operator_addresses`], which refuses them.
const METADATA_HOSTS: [&str; 6] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "metadata.google.internal",
];

/// Sends requests of one store.
///
/// Those to the bucket go to every address but the metadata services. Only a request that names
/// such a service itself, which `object_store` makes for credentials and for nothing else, goes
/// there, and it goes nowhere else; no URL of a store may name one.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    data: Arc<Client>,
    metadata: Arc<Client>,
    /// Hosts that the environment names for credentials.
    credential_hosts: Arc<[String]>,
    max_object_bytes: u64,
}

/// Where else the environment may say that credentials are.
const CREDENTIAL_URLS: [&str; 3] =
    ["AWS_METADATA_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AZURE_MSI_ENDPOINT"];

impl Connector {
    /// `ca_file`: the authorities to trust instead of the system's.
    pub(crate) async fn open(
        ca_file: Option<PathBuf>,
        options: &StoreOptions,
    ) -> Result<Connector, StoreError> {
        let tls = TlsConfig { ca_file, ..TlsConfig::default() };
        let config = HttpClientConfig {
            tls,
            follow_redirects: false,
            enable_http2: false,
            ..HttpClientConfig::default()
        };
        let for_data = ClientOptions::operator();
        let addresses: AddressCheck = Arc::new(metadata_addresses);
        let for_metadata = ClientOptions { addresses, ..for_data.clone() };
        let host = |name: &&str| {
            let uri: Uri = options.credentials.get(name)?.reveal().parse().ok()?;
            Some(uri.authority()?.as_str().to_owned())
        };
        let unfit = |error: ClientError| StoreError::Settings(format!("the store: {error}"));
        Ok(Connector {
            data: Arc::new(Client::open(&config, &for_data).await.map_err(unfit)?),
            metadata: Arc::new(Client::open(&config, &for_metadata).await.map_err(unfit)?),
            credential_hosts: CREDENTIAL_URLS.iter().filter_map(host).collect(),
            max_object_bytes: options.max_object_bytes,
        })
    }

    /// Refuses an endpoint that would make requests to a bucket look like such for credentials.
    pub(crate) fn check_endpoint(endpoint: &str) -> Result<(), StoreError> {
        let uri: Uri = endpoint.parse().map_err(|_| no_endpoint(endpoint))?;
        let (Some(host), Some("http" | "https")) = (uri.host(), uri.scheme_str()) else {
            return Err(no_endpoint(endpoint));
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let literal = bare.parse::<IpAddr>().ok().and_then(|ip| operator_addresses(ip).err());
        let named = is_metadata(host).then(|| format!("{host} is a cloud's metadata service"));
        match literal.or(named) {
            Some(why) => Err(StoreError::Settings(format!("the endpoint of the store: {why}"))),
            None => Ok(()),
        }
    }
}

fn no_endpoint(endpoint: &str) -> StoreError {
    // It may hold a password by mistake.
    let shown = endpoint.rsplit('@').next().unwrap_or_default();
    StoreError::Settings(format!(
        "the endpoint of the store is {shown:?}, and should be http://HOST:PORT or https://HOST"
    ))
}

fn is_metadata(host: &str) -> bool {
    METADATA_HOSTS.iter().any(|known| known.eq_ignore_ascii_case(host))
}

/// Only where the others may not go.
fn metadata_addresses(address: IpAddr) -> Result<(), String> {
    match operator_addresses(address) {
        Err(_) => Ok(()),
        Ok(()) => Err(format!("{address} is no metadata service")),
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// No credentials were given, and the machine has none.
#[derive(Debug, thiserror::Error)]
#[error("no credentials were given, and the metadata service {host} has none: {why}")]
pub(crate) struct NoCredentials {
    host: String,
    why: String,
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let object = usize::try_from(self.max_object_bytes).unwrap_or(usize::MAX);
        let limit = object.max(MAX_ANSWER_BYTES);
        let is_metadata = is_metadata(&host);
        let is_credential =
            is_metadata || authority.is_some_and(|a| self.credential_hosts.contains(&a));
        let client = if is_metadata { &self.metadata } else { &self.data };
        let within = if is_credential { METADATA_DEADLINE } else { REQUEST_DEADLINE };
        let sent = send(client, request, within, limit).await;
        if !is_credential {
            return sent;
        }
        sent.map_err(|error| {
            let why = error.source().map_or(String::new(), chain);
            HttpError::new(HttpErrorKind::Connect, NoCredentials { host, why })
        })
    }
}

async fn send(
    client: &Client,
    request: HttpRequest,
    within: Duration,
    limit: usize,
) -> Result<HttpResponse, HttpError> {
    let (parts, body) = request.into_parts();
    // A body of ours is one piece and is not copied.
    let body = body.collect().await?.to_bytes();
    let outgoing = Outgoing {
        url: &parts.uri,
        headers: &parts.headers,
        method: parts.method,
        body,
        deadline: Instant::now() + within,
    };
    let answer = client.exchange(&outgoing).await.map_err(failed)?;
    let (status, headers) = (answer.status, answer.headers.clone());
    let mut bytes = Vec::new();
    let is_refusal = !status.is_success();
    let limit = if is_refusal { MAX_REFUSAL_BYTES } else { limit };
    match answer.read(limit, &mut bytes).await {
        Ok(()) => {}
        Err(ClientError::BodyTooLarge { .. }) if is_refusal => {}
        Err(error) => return Err(failed(error)),
    }
    if is_refusal {
        let answer = Answer::new(status, &headers, &bytes);
        return Err(HttpError::new(HttpErrorKind::Unknown, answer));
    }
    let mut response = HttpResponse::new(Bytes::from(bytes).into());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn failed(error: ClientError) -> HttpError {
    let kind = match &error {
        ClientError::Timeout(_) => HttpErrorKind::Timeout,
        ClientError::Broken(_) => HttpErrorKind::Interrupted,
        ClientError::Unreachable(_) | ClientError::RefusedAddress(_) => HttpErrorKind::Connect,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}

/// The error with its causes, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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
