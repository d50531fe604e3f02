//! What Prometheus demands of each mechanism's values, in its words.
//!
//! Keys have been read once already; reading them again only yields their values.

use super::discovery::read_http_url;
use super::http_client::is_custom;
use super::kubernetes_selectors;
use crate::HttpUrl;
use crate::prometheus::HttpClientConfig;
use crate::suggestion::nearest;
use crate::yaml::{Milliseconds, Section};

fn text(section: &mut Section<'_>, key: &'static str) -> String {
    section.value(key)
}

/// Notes `message` at a key that is absent or empty.
fn require(section: &mut Section<'_>, key: &'static str, message: &str) {
    if text(section, key).is_empty() {
        section.fault(key, message, Some(&format!("add {key}: …")));
    }
}

/// Notes a fault unless the value of `key` is one of `known`; an empty one is left to others.
fn one_of(
    section: &mut Section<'_>,
    key: &'static str,
    known: &[&'static str],
    message: impl Fn(&str) -> String,
) {
    let value = text(section, key);
    if value.is_empty() || known.contains(&value.as_str()) {
        return;
    }
    let help = match nearest(&value, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", known.join(", ")),
    };
    section.fault(key, message(&value), Some(&help));
}

fn exclusive(section: &mut Section<'_>, one: &'static str, other: &'static str, message: &str) {
    if !text(section, one).is_empty() && !text(section, other).is_empty() {
        section.fault(other, message, Some("keep one of them"));
    }
}

/// The server of a mechanism as a URL with a scheme and a host.
fn has_scheme_and_host(section: &mut Section<'_>, key: &'static str) -> bool {
    let server: HttpUrl = section.value(key);
    !server.scheme().is_empty() && !server.host().is_empty()
}

/// Nothing beyond the keys.
pub(super) fn none(_: &mut Section<'_>, _: &HttpClientConfig) {}

/// A list of `{name, values}`.
pub(super) fn filters(section: &mut Section<'_>, key: &'static str) {
    let context = section.context;
    for node in section.items(key) {
        let Some(mut filter) = Section::open(context, node, "aws.Filter") else { continue };
        filter.value::<String>("name");
        let values: Vec<String> = filter.value("values");
        // Docker takes a filter without values, EC2 does not.
        if values.is_empty() && section.type_name() == "aws.plain" {
            let message = "EC2 SD configuration filter values cannot be empty";
            filter.fault("values", message, Some("list at least one value"));
        }
        filter.finish();
    }
}

pub(super) fn aws(section: &mut Section<'_>, _: &HttpClientConfig) {
    let known = ["ec2", "ecs", "elasticache", "lightsail", "msk", "rds"];
    let role = text(section, "role");
    if role.is_empty() {
        let help = format!("add role: one of {}", known.join(", "));
        section.fault("role", "unknown AWS SD role \"\"", Some(&help));
    }
    one_of(section, "role", &known, |role| format!("unknown AWS SD role {role:?}"));
}

pub(super) fn azure(section: &mut Section<'_>, _: &HttpClientConfig) {
    let method: String = section.or("authentication_method", "OAuth".to_owned());
    require(section, "subscription_id", "azure SD configuration requires a subscription_id");
    if method == "OAuth" {
        require(section, "tenant_id", "azure SD configuration requires a tenant_id");
        require(section, "client_id", "azure SD configuration requires a client_id");
        require(section, "client_secret", "azure SD configuration requires a client_secret");
    }
    let known = ["OAuth", "ManagedIdentity", "SDK", "WorkloadIdentity"];
    if !known.contains(&method.as_str()) {
        let message = format!(
            "unknown authentication_type {method:?}. Supported types are \"OAuth\", \
             \"ManagedIdentity\", \"SDK\" or \"WorkloadIdentity\""
        );
        let help = nearest(&method, known).map(|name| format!("did you mean `{name}`?"));
        section.fault("authentication_method", message, help.as_deref());
    }
}

pub(super) fn consul(section: &mut Section<'_>, http: &HttpClientConfig) {
    let server: String = section.or("server", "localhost:8500".to_owned());
    if server.trim().is_empty() {
        let message = "consul SD configuration requires a server address";
        section.fault("server", message, Some("write server: host:8500"));
    }
    let named = !text(section, "username").is_empty() || !text(section, "password").is_empty();
    if named && http.basic_auth.is_some() {
        let message = "at most one of consul SD configuration username and password and basic \
                       auth can be configured";
        section.fault("basic_auth", message, Some("keep basic_auth"));
    }
    let token = !text(section, "token").is_empty();
    if token && (http.authorization.is_some() || http.oauth2.is_some()) {
        let message = "at most one of consul SD token, authorization, or oauth2 can be configured";
        section.fault("token", message, Some("keep one of them"));
    }
}

pub(super) fn docker(section: &mut Section<'_>, _: &HttpClientConfig) {
    require(section, "host", "host missing");
    section.value::<HttpUrl>("host");
}

pub(super) fn dockerswarm(section: &mut Section<'_>, http: &HttpClientConfig) {
    docker(section, http);
    require(section, "role", "role missing (one of: tasks, services, nodes)");
    one_of(section, "role", &["tasks", "services", "nodes"], |role| {
        format!("invalid role {role}, expected tasks, services, or nodes")
    });
}

pub(super) fn eureka(section: &mut Section<'_>, _: &HttpClientConfig) {
    if text(section, "server").is_empty() {
        let message = "eureka_sd: empty or null eureka server";
        section.fault("server", message, Some("write server: http://host:8761/eureka"));
    } else if !has_scheme_and_host(section, "server") {
        let message = "eureka_sd: invalid eureka server URL";
        section.fault("server", message, Some("write server: http://host:8761/eureka"));
    }
}

pub(super) fn gce(section: &mut Section<'_>, _: &HttpClientConfig) {
    require(section, "project", "GCE SD configuration requires a project");
    require(section, "zone", "GCE SD configuration requires a zone");
}

pub(super) fn hetzner(section: &mut Section<'_>, _: &HttpClientConfig) {
    require(section, "role", "role missing (one of: robot, hcloud)");
    one_of(section, "role", &["robot", "hcloud"], |role| format!("unknown role {role:?}"));
}

pub(super) fn ionos(section: &mut Section<'_>, _: &HttpClientConfig) {
    require(section, "datacenter_id", "datacenter id can't be empty");
}

const KUBERNETES_ROLES: [&str; 6] =
    ["pod", "service", "endpoints", "endpointslice", "node", "ingress"];

pub(super) fn kubernetes(section: &mut Section<'_>, http: &HttpClientConfig) {
    require(
        section,
        "role",
        "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)",
    );
    one_of(section, "role", &KUBERNETES_ROLES, |role| {
        format!("unknown Kubernetes SD role {role:?}")
    });
    let api_server =
        section.read::<HttpUrl>("api_server").is_some_and(|url| !url.reveal().is_empty());
    let kubeconfig = !text(section, "kubeconfig_file").is_empty();
    if api_server && kubeconfig {
        let message = "cannot use 'kubeconfig_file' and 'api_server' simultaneously";
        section.fault("kubeconfig_file", message, Some("keep one of them"));
    }
    if is_custom(http) {
        if kubeconfig {
            let message = "cannot use a custom HTTP client configuration together with \
                           'kubeconfig_file'";
            section.fault("kubeconfig_file", message, Some("keep one of them"));
        } else if !api_server {
            let message = "to use custom HTTP client configuration please provide the \
                           'api_server' URL explicitly";
            section.fault("api_server", message, Some("add api_server: https://…"));
        }
    }
    let context = section.context;
    let own_namespace =
        section.section("namespaces", "kubernetes.plain").is_some_and(|mut inner| {
            inner.value::<Vec<String>>("names");
            let own = inner.value::<bool>("own_namespace");
            inner.finish();
            own
        });
    for (set, key) in [(api_server, "api_server"), (kubeconfig, "kubeconfig_file")] {
        if own_namespace && set {
            let message =
                format!("cannot use '{key}' and 'namespaces.own_namespace' simultaneously");
            let help = "own_namespace is for a Prometheus inside the cluster; name the namespaces";
            section.fault("namespaces", message, Some(help));
        }
    }
    if let Some(mut inner) = section.section("attach_metadata", "kubernetes.plain") {
        for key in ["node", "namespace", "deployment", "job", "cronjob"] {
            inner.value::<bool>(key);
        }
        inner.finish();
    }
    let role = text(section, "role");
    let selectors = section.items("selectors");
    kubernetes_selectors::check(context, &role, &selectors);
}

pub(super) fn kuma(section: &mut Section<'_>, _: &HttpClientConfig) {
    let server = text(section, "server");
    let help = Some("write server: http://host:5676");
    if server.is_empty() {
        section.fault("server", "kuma SD server must not be empty: ", help);
    } else if !has_scheme_and_host(section, "server") {
        let message = format!("kuma SD server must not be empty and have a scheme: {server}");
        section.fault("server", message, help);
    }
}

pub(super) fn marathon(section: &mut Section<'_>, http: &HttpClientConfig) {
    if section.value::<Vec<String>>("servers").is_empty() {
        let message = "marathon_sd: must contain at least one Marathon server";
        section.fault("servers", message, Some("add servers: [https://host]"));
    }
    exclusive(
        section,
        "auth_token",
        "auth_token_file",
        "marathon_sd: at most one of auth_token & auth_token_file must be configured",
    );
    let token =
        !text(section, "auth_token").is_empty() || !text(section, "auth_token_file").is_empty();
    if !token {
        return;
    }
    let bearer =
        !text(section, "bearer_token").is_empty() || !text(section, "bearer_token_file").is_empty();
    let one = Some("keep one of them");
    if http.basic_auth.is_some() {
        let message = "marathon_sd: at most one of basic_auth, auth_token & auth_token_file must \
                       be configured";
        section.fault("basic_auth", message, one);
    }
    if bearer {
        let message = "marathon_sd: at most one of bearer_token, bearer_token_file, auth_token & \
                       auth_token_file must be configured";
        let key = if section.has("bearer_token") { "bearer_token" } else { "bearer_token_file" };
        section.fault(key, message, one);
    } else if http.authorization.is_some() {
        let message = "marathon_sd: at most one of auth_token, auth_token_file & authorization \
                       must be configured";
        section.fault("authorization", message, one);
    }
}

pub(super) fn nerve(section: &mut Section<'_>, _: &HttpClientConfig) {
    zookeeper(section, "nerve");
}

pub(super) fn serverset(section: &mut Section<'_>, _: &HttpClientConfig) {
    zookeeper(section, "serverset");
}

fn zookeeper(section: &mut Section<'_>, name: &str) {
    if section.value::<Vec<String>>("servers").is_empty() {
        let message = format!("{name} SD config must contain at least one Zookeeper server");
        section.fault("servers", message, Some("add servers: [host:2181]"));
    }
    let paths: Vec<String> = section.value("paths");
    if paths.is_empty() {
        let message = format!("{name} SD config must contain at least one path");
        section.fault("paths", message, Some("add paths: [/path]"));
    }
    for path in paths.iter().filter(|path| !path.starts_with('/')) {
        let message = format!("{name} SD config paths must begin with '/': {path}");
        section.fault("paths", message, Some("begin it with /"));
    }
}

pub(super) fn nomad(section: &mut Section<'_>, _: &HttpClientConfig) {
    let server: String = section.or("server", "http://localhost:4646".to_owned());
    if server.trim().is_empty() {
        let message = "nomad SD configuration requires a server address";
        section.fault("server", message, Some("write server: http://host:4646"));
    }
}

pub(super) fn oci(section: &mut Section<'_>, _: &HttpClientConfig) {
    let auth: String = section.or("auth", "api_key".to_owned());
    require(section, "region", "oci_sd: region is required");
    let own_keys =
        ["tenancy", "user", "fingerprint", "key_file", "key_passphrase", "key_passphrase_file"];
    match auth.as_str() {
        "api_key" => {
            for key in &own_keys[..4] {
                require(section, key, &format!("oci_sd: api_key auth requires {key}"));
            }
            exclusive(
                section,
                "key_passphrase",
                "key_passphrase_file",
                "oci_sd: at most one of key_passphrase and key_passphrase_file must be configured",
            );
        }
        "instance_principal" => {
            if let Some(key) = own_keys.into_iter().find(|key| !text(section, key).is_empty()) {
                let message = "oci_sd: instance_principal auth must not have tenancy, user, \
                               fingerprint, key_file, key_passphrase, or key_passphrase_file set";
                section.fault(key, message, Some("remove it"));
            }
        }
        _ => {
            let message = format!(
                "oci_sd: unknown auth method {auth:?}, expected \"api_key\" or \
                 \"instance_principal\""
            );
            section.fault("auth", message, None);
        }
    }
    let compartments: Vec<String> = section.value("compartments");
    for (index, _) in compartments.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        let message = format!("oci_sd: compartments[{index}] must not be empty");
        section.fault("compartments", message, None);
    }
    refresh_is_positive(section, "oci_sd: refresh_interval must be positive, got 0s");
}

fn refresh_is_positive(section: &mut Section<'_>, message: &str) {
    if section.read::<Milliseconds>("refresh_interval") == Some(Milliseconds(0)) {
        section.fault("refresh_interval", message, Some("write 30s or more"));
    }
}

pub(super) fn openstack(section: &mut Section<'_>, _: &HttpClientConfig) {
    let availability: String = section.or("availability", "public".to_owned());
    if !matches!(availability.as_str(), "public" | "internal" | "admin") {
        let message = format!(
            "unknown availability {availability}, must be one of admin, internal or public"
        );
        section.fault("availability", message, None);
    }
    require(section, "role", "role missing (one of: instance, hypervisor, loadbalancer)");
    one_of(section, "role", &["instance", "hypervisor", "loadbalancer"], |role| {
        format!("unknown OpenStack SD role {role:?}")
    });
    require(section, "region", "openstack SD configuration requires a region");
}

pub(super) fn outscale(section: &mut Section<'_>, _: &HttpClientConfig) {
    let region: String = section.or("region", "eu-west-2".to_owned());
    if region.is_empty() {
        let message = "outscale SD configuration requires a region";
        section.fault("region", message, Some("add region: eu-west-2"));
    }
    require(section, "access_key", "outscale SD configuration requires access_key");
    secret_key(section);
}

/// Exactly one of `secret_key` and `secret_key_file`.
fn secret_key(section: &mut Section<'_>) {
    if text(section, "secret_key").is_empty() && text(section, "secret_key_file").is_empty() {
        let message = "one of secret_key & secret_key_file must be configured";
        section.fault("secret_key", message, Some("add secret_key_file: …"));
    }
    exclusive(
        section,
        "secret_key",
        "secret_key_file",
        "at most one of secret_key & secret_key_file must be configured",
    );
}

pub(super) fn ovhcloud(section: &mut Section<'_>, _: &HttpClientConfig) {
    let endpoint: String = section.or("endpoint", "ovh-eu".to_owned());
    if endpoint.is_empty() {
        section.fault("endpoint", "endpoint can not be empty", Some("write ovh-eu"));
    }
    require(section, "application_key", "application key can not be empty");
    require(section, "application_secret", "application secret can not be empty");
    require(section, "consumer_key", "consumer key can not be empty");
    let service = text(section, "service");
    if !matches!(service.as_str(), "vps" | "dedicated_server") {
        let message = format!("unknown service: {service}");
        section.fault("service", message, Some("write vps or dedicated_server"));
    }
}

pub(super) fn puppetdb(section: &mut Section<'_>, _: &HttpClientConfig) {
    read_http_url(section, "url", "URL is missing");
    require(section, "query", "query missing");
}

pub(super) fn scaleway(section: &mut Section<'_>, _: &HttpClientConfig) {
    require(section, "role", "role missing (one of: instance, baremetal)");
    one_of(section, "role", &["instance", "baremetal"], |role| format!("unknown role {role:?}"));
    require(section, "project_id", "project_id is mandatory");
    secret_key(section);
    require(section, "access_key", "access_key is mandatory");
}

pub(super) fn stackit(section: &mut Section<'_>, _: &HttpClientConfig) {
    let region: String = section.or("region", "eu01".to_owned());
    let endpoint = text(section, "endpoint");
    if region.is_empty() && endpoint.is_empty() {
        section.fault("region", "endpoint or region missing", Some("add region: eu01"));
    }
    if let Err(error) = HttpUrl::parse(&endpoint) {
        let message = format!("invalid endpoint {endpoint:?}: {error}");
        section.fault("endpoint", message, Some("write a URL: https://host"));
    }
}

pub(super) fn triton(section: &mut Section<'_>, _: &HttpClientConfig) {
    let role: String = section.or("role", "container".to_owned());
    if !matches!(role.as_str(), "container" | "cn") {
        let message = "triton SD configuration requires role to be 'container' or 'cn'";
        section.fault("role", message, None);
    }
    require(section, "account", "triton SD configuration requires an account");
    require(section, "dns_suffix", "triton SD configuration requires a dns_suffix");
    require(section, "endpoint", "triton SD configuration requires an endpoint");
    refresh_is_positive(
        section,
        "triton SD configuration requires RefreshInterval to be a positive integer",
    );
}

pub(super) fn uyuni(section: &mut Section<'_>, _: &HttpClientConfig) {
    require(section, "server", "Uyuni SD configuration requires server host");
    section.value::<HttpUrl>("server");
    require(section, "username", "Uyuni SD configuration requires a username");
    require(section, "password", "Uyuni SD configuration requires a password");
}
