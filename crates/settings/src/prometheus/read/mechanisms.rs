//! Mechanisms of discovery that are checked but not run.
//!
//! Their keys are a table; what Prometheus demands of the values beyond that stands in
//! [`super::mechanism_rules`].

use super::http_client;
use super::mechanism_rules as rules;
use crate::Secret;
use crate::prometheus::HttpClientConfig;
use crate::yaml::{Context, Milliseconds, Node, Section, read_map};

/// One mechanism.
pub(super) struct Mechanism {
    /// The key of the file.
    pub(super) key: &'static str,
    /// The type in Prometheus' source, for its messages.
    type_name: &'static str,
    /// Whether the keys of an HTTP client may stand beside its own.
    http: bool,
    fields: &'static [(&'static str, Kind)],
    /// What else must hold.
    rule: fn(&mut Section<'_>, &HttpClientConfig),
}

/// What a key holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Secret,
    Bool,
    Integer,
    Duration,
    Texts,
    Map,
    Tls,
    /// A list of `{name, values}`.
    Filters,
}

use Kind::{Bool, Duration, Filters, Integer, Map, Secret as SecretText, Text, Texts, Tls};

impl Mechanism {
    /// Checks one entry.
    pub(super) fn check(&self, context: &Context<'_>, node: &Node) {
        let Some(mut section) = Section::open(context, node, self.type_name) else { return };
        let http = if self.http {
            http_client::read(&mut section, HttpClientConfig::default())
        } else {
            HttpClientConfig::default()
        };
        for (key, kind) in self.fields {
            kind.check(&mut section, key);
        }
        (self.rule)(&mut section, &http);
        section.finish();
    }
}

impl Kind {
    fn check(self, section: &mut Section<'_>, key: &'static str) {
        match self {
            Text => drop(section.value::<String>(key)),
            SecretText => drop(section.value::<Secret>(key)),
            Bool => drop(section.value::<bool>(key)),
            Integer => drop(section.value::<i64>(key)),
            Duration => drop(section.value::<Milliseconds>(key)),
            Texts => drop(section.value::<Vec<String>>(key)),
            Map => {
                let context = section.context;
                section.node(key).map(|node| read_map::<String>(context, node));
            }
            Tls => drop(http_client::read_tls(section)),
            Filters => rules::filters(section, key),
        }
    }
}

const REFRESH: (&str, Kind) = ("refresh_interval", Duration);
const PORT: (&str, Kind) = ("port", Integer);

/// Keys all mechanisms of AWS share.
macro_rules! aws {
    ($key:literal, $rule:expr, [$($more:expr),*]) => {
        Mechanism {
            key: $key,
            type_name: "aws.plain",
            http: true,
            fields: &[
                ("endpoint", Text), ("region", Text), ("access_key", Text),
                ("secret_key", SecretText), ("profile", Text), ("role_arn", Text),
                ("external_id", Text), REFRESH, PORT, $($more),*
            ],
            rule: $rule,
        }
    };
}

/// All of them.
pub(super) const ALL: &[Mechanism] = &[
    aws!(
        "aws_sd_configs",
        rules::aws,
        [
            ("role", Text),
            ("filters", Filters),
            ("clusters", Texts),
            ("request_concurrency", Integer)
        ]
    ),
    aws!("ec2_sd_configs", rules::none, [("filters", Filters)]),
    aws!("ecs_sd_configs", rules::none, [("clusters", Texts), ("request_concurrency", Integer)]),
    aws!(
        "elasticache_sd_configs",
        rules::none,
        [("clusters", Texts), ("request_concurrency", Integer)]
    ),
    aws!("lightsail_sd_configs", rules::none, []),
    aws!("msk_sd_configs", rules::none, [("clusters", Texts), ("request_concurrency", Integer)]),
    aws!("rds_sd_configs", rules::none, [("clusters", Texts), ("request_concurrency", Integer)]),
    Mechanism {
        key: "azure_sd_configs",
        type_name: "azure.plain",
        http: true,
        fields: &[
            ("environment", Text),
            PORT,
            ("subscription_id", Text),
            ("tenant_id", Text),
            ("client_id", Text),
            ("client_secret", SecretText),
            REFRESH,
            ("authentication_method", Text),
            ("resource_group", Text),
        ],
        rule: rules::azure,
    },
    Mechanism {
        key: "consul_sd_configs",
        type_name: "consul.plain",
        http: true,
        fields: &[
            ("server", Text),
            ("path_prefix", Text),
            ("token", SecretText),
            ("datacenter", Text),
            ("namespace", Text),
            ("partition", Text),
            ("tag_separator", Text),
            ("scheme", Text),
            ("username", Text),
            ("password", SecretText),
            ("allow_stale", Bool),
            REFRESH,
            ("services", Texts),
            ("tags", Texts),
            ("node_meta", Map),
            ("filter", Text),
            ("health_filter", Text),
        ],
        rule: rules::consul,
    },
    Mechanism {
        key: "digitalocean_sd_configs",
        type_name: "digitalocean.plain",
        http: true,
        fields: &[REFRESH, PORT, ("role", Text)],
        rule: rules::none,
    },
    Mechanism {
        key: "docker_sd_configs",
        type_name: "moby.plain",
        http: true,
        fields: &[
            ("host", Text),
            PORT,
            ("filters", Filters),
            ("host_networking_host", Text),
            REFRESH,
            ("match_first_network", Bool),
        ],
        rule: rules::docker,
    },
    Mechanism {
        key: "dockerswarm_sd_configs",
        type_name: "moby.plain",
        http: true,
        fields: &[("host", Text), ("role", Text), PORT, ("filters", Filters), REFRESH],
        rule: rules::dockerswarm,
    },
    Mechanism {
        key: "eureka_sd_configs",
        type_name: "eureka.plain",
        http: true,
        fields: &[("server", Text), REFRESH],
        rule: rules::eureka,
    },
    Mechanism {
        key: "gce_sd_configs",
        type_name: "gce.plain",
        http: true,
        fields: &[
            ("project", Text),
            ("zone", Text),
            ("filter", Text),
            REFRESH,
            PORT,
            ("tag_separator", Text),
        ],
        rule: rules::gce,
    },
    Mechanism {
        key: "hetzner_sd_configs",
        type_name: "hetzner.plain",
        http: true,
        fields: &[REFRESH, PORT, ("role", Text), ("label_selector", Text)],
        rule: rules::hetzner,
    },
    Mechanism {
        key: "ionos_sd_configs",
        type_name: "ionos.plain",
        http: true,
        fields: &[REFRESH, PORT, ("datacenter_id", Text)],
        rule: rules::ionos,
    },
    Mechanism {
        key: "kubernetes_sd_configs",
        type_name: "kubernetes.plain",
        http: true,
        fields: &[("api_server", Text), ("role", Text), ("kubeconfig_file", Text)],
        rule: rules::kubernetes,
    },
    Mechanism {
        key: "kuma_sd_configs",
        type_name: "xds.plain",
        http: true,
        fields: &[("server", Text), ("client_id", Text), REFRESH, ("fetch_timeout", Duration)],
        rule: rules::kuma,
    },
    Mechanism {
        key: "linode_sd_configs",
        type_name: "linode.plain",
        http: true,
        fields: &[REFRESH, PORT, ("tag_separator", Text), ("region", Text)],
        rule: rules::none,
    },
    Mechanism {
        key: "marathon_sd_configs",
        type_name: "marathon.plain",
        http: true,
        fields: &[
            ("servers", Texts),
            REFRESH,
            ("auth_token", SecretText),
            ("auth_token_file", Text),
        ],
        rule: rules::marathon,
    },
    Mechanism {
        key: "nerve_sd_configs",
        type_name: "zookeeper.plain",
        http: false,
        fields: &[("servers", Texts), ("paths", Texts), ("timeout", Duration)],
        rule: rules::nerve,
    },
    Mechanism {
        key: "nomad_sd_configs",
        type_name: "nomad.plain",
        http: true,
        fields: &[
            ("allow_stale", Bool),
            ("namespace", Text),
            REFRESH,
            ("region", Text),
            ("server", Text),
            ("tag_separator", Text),
        ],
        rule: rules::nomad,
    },
    Mechanism {
        key: "oci_sd_configs",
        type_name: "oci.plain",
        http: true,
        fields: &[
            ("auth", Text),
            ("tenancy", Text),
            ("user", Text),
            ("fingerprint", Text),
            ("key_file", Text),
            ("key_passphrase", SecretText),
            ("key_passphrase_file", Text),
            ("region", Text),
            ("compartments", Texts),
            PORT,
            REFRESH,
        ],
        rule: rules::oci,
    },
    Mechanism {
        key: "openstack_sd_configs",
        type_name: "openstack.plain",
        http: false,
        fields: &[
            ("identity_endpoint", Text),
            ("username", Text),
            ("userid", Text),
            ("password", SecretText),
            ("project_name", Text),
            ("project_id", Text),
            ("domain_name", Text),
            ("domain_id", Text),
            ("application_credential_name", Text),
            ("application_credential_id", Text),
            ("application_credential_secret", SecretText),
            ("role", Text),
            ("region", Text),
            REFRESH,
            PORT,
            ("all_tenants", Bool),
            ("tls_config", Tls),
            ("availability", Text),
        ],
        rule: rules::openstack,
    },
    Mechanism {
        key: "outscale_sd_configs",
        type_name: "outscale.plain",
        http: true,
        fields: &[
            ("endpoint", Text),
            ("region", Text),
            ("access_key", Text),
            ("secret_key", SecretText),
            ("secret_key_file", Text),
            REFRESH,
            PORT,
        ],
        rule: rules::outscale,
    },
    Mechanism {
        key: "ovhcloud_sd_configs",
        type_name: "ovhcloud.plain",
        http: false,
        fields: &[
            ("endpoint", Text),
            ("application_key", Text),
            ("application_secret", SecretText),
            ("consumer_key", SecretText),
            REFRESH,
            ("service", Text),
        ],
        rule: rules::ovhcloud,
    },
    Mechanism {
        key: "puppetdb_sd_configs",
        type_name: "puppetdb.plain",
        http: true,
        fields: &[REFRESH, ("query", Text), ("include_parameters", Bool), PORT],
        rule: rules::puppetdb,
    },
    Mechanism {
        key: "scaleway_sd_configs",
        type_name: "scaleway.plain",
        http: true,
        fields: &[
            ("project_id", Text),
            ("api_url", Text),
            ("zone", Text),
            ("access_key", Text),
            ("secret_key", SecretText),
            ("secret_key_file", Text),
            ("name_filter", Text),
            ("tags_filter", Texts),
            REFRESH,
            PORT,
            ("role", Text),
        ],
        rule: rules::scaleway,
    },
    Mechanism {
        key: "serverset_sd_configs",
        type_name: "zookeeper.plain",
        http: false,
        fields: &[("servers", Texts), ("paths", Texts), ("timeout", Duration)],
        rule: rules::serverset,
    },
    Mechanism {
        key: "stackit_sd_configs",
        type_name: "stackit.plain",
        http: true,
        fields: &[
            REFRESH,
            PORT,
            ("region", Text),
            ("endpoint", Text),
            ("project", Text),
            ("service_account_key", SecretText),
            ("private_key", SecretText),
            ("service_account_key_path", Text),
            ("private_key_path", Text),
            ("credentials_file_path", Text),
        ],
        rule: rules::stackit,
    },
    Mechanism {
        key: "triton_sd_configs",
        type_name: "triton.plain",
        http: false,
        fields: &[
            ("account", Text),
            ("role", Text),
            ("dns_suffix", Text),
            ("endpoint", Text),
            ("groups", Texts),
            PORT,
            REFRESH,
            ("tls_config", Tls),
            ("version", Integer),
        ],
        rule: rules::triton,
    },
    Mechanism {
        key: "uyuni_sd_configs",
        type_name: "uyuni.plain",
        http: true,
        fields: &[
            ("server", Text),
            ("username", Text),
            ("password", SecretText),
            ("entitlement", Text),
            ("separator", Text),
            REFRESH,
        ],
        rule: rules::uyuni,
    },
    Mechanism {
        key: "vultr_sd_configs",
        type_name: "vultr.plain",
        http: true,
        fields: &[REFRESH, PORT],
        rule: rules::none,
    },
];
