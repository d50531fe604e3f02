//! What a resource and a scope give to the labels of all their points.

use std::ops::Range;

use super::attributes::{Attributes, sub_message};
use super::names::LabelRules;
use super::{Options, TranslationStrategy};
use crate::pair_rows::push_pair;
use crate::protobuf::{Fault, Field, each_message};
use crate::type_and_unit::TYPE;

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const INSTANCE_ID: &str = "service.instance.id";
const IDENTIFYING: [&str; 3] = [SERVICE_NAME, SERVICE_NAMESPACE, INSTANCE_ID];

/// Labels that every point of a resource and scope has.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Labels that give way to a point's attribute of the same name.
    pub(super) promoted: Vec<(Vec<u8>, Vec<u8>)>,
    /// Labels that win over a point's attribute.
    pub(super) fixed: Vec<(Vec<u8>, Vec<u8>)>,
    scope_labels: usize,
}

/// A resource.
#[derive(Debug, Default)]
pub(super) struct Resource {
    attributes: Attributes,
    pub(super) shared: Shared,
}

pub(super) fn rules(options: &Options) -> LabelRules {
    let strategy: TranslationStrategy = options.translation_strategy;
    LabelRules::new(
        strategy,
        options.label_name_underscore_sanitization,
        options.label_name_preserve_multiple_underscores,
    )
}

impl Resource {
    /// Takes the resource of a `ResourceMetrics` in place of the one before.
    pub(super) fn read(
        &mut self,
        body: &[u8],
        message: Range<usize>,
        options: &Options,
    ) -> Result<(), Fault> {
        self.attributes.clear();
        if let Some(resource) = sub_message(body, message, 1)? {
            read_attributes(body, resource, 1, rules(options), &mut self.attributes)?;
        }
        let shared = &mut self.shared;
        shared.promoted.clear();
        shared.fixed.clear();
        shared.scope_labels = 0;
        for (key, name, value) in self.attributes.iter() {
            let is_in = |list: &[String]| list.iter().any(|listed| listed.as_bytes() == key);
            let is_promoted = if options.promote_all_resource_attributes {
                !is_in(&options.ignore_resource_attributes)
            } else {
                is_in(&options.promote_resource_attributes)
            };
            if is_promoted {
                shared.promoted.push((name.to_vec(), value.to_vec()));
            }
        }
        if let Some(service) = self.attributes.value(SERVICE_NAME) {
            let mut job = match self.attributes.value(SERVICE_NAMESPACE) {
                Some(namespace) => [namespace, b"/"].concat(),
                None => Vec::new(),
            };
            job.extend_from_slice(service);
            shared.fixed.push((b"job".to_vec(), job));
        }
        if let Some(instance) = self.attributes.value(INSTANCE_ID) {
            shared.fixed.push((b"instance".to_vec(), instance.to_vec()));
        }
        Ok(())
    }

    /// Takes the scope of a `ScopeMetrics` in place of the one before.
    pub(super) fn read_scope(
        &mut self,
        body: &[u8],
        message: Range<usize>,
        options: &Options,
    ) -> Result<(), Fault> {
        let fixed = &mut self.shared.fixed;
        fixed.truncate(fixed.len() - self.shared.scope_labels);
        self.shared.scope_labels = 0;
        if !options.promote_scope_metadata {
            return Ok(());
        }
        let before = fixed.len();
        let text = |range: Option<Range<usize>>| range.map_or(&b""[..], |range| &body[range]);
        let scope = sub_message(body, message.clone(), 1)?.unwrap_or(0..0);
        let name = text(sub_message(body, scope.clone(), 1)?);
        if name.is_empty() {
            return Ok(());
        }
        let parts = [
            ("otel_scope_name", name),
            ("otel_scope_version", text(sub_message(body, scope.clone(), 2)?)),
            ("otel_scope_schema_url", text(sub_message(body, message, 3)?)),
        ];
        for (name, value) in parts {
            fixed.push((name.as_bytes().to_vec(), value.to_vec()));
        }
        let mut attributes = Attributes::default();
        read_attributes(body, scope, 3, rules(options), &mut attributes)?;
        for (key, _, value) in attributes.iter() {
            let mut label = Vec::new();
            rules(options).append(&[b"otel_scope_", key].concat(), &mut label);
            fixed.retain(|(known, _)| *known != label);
            fixed.push((label, value.to_vec()));
        }
        self.shared.scope_labels = fixed.len() - before;
        Ok(())
    }

    /// Appends the labels of the resource's `target_info`; `false` and nothing if it has none.
    pub(super) fn write_target_info(&self, options: &Options, out: &mut Vec<u8>) -> bool {
        let is_identifying = |key: &[u8]| IDENTIFYING.iter().any(|known| known.as_bytes() == key);
        let others = self.attributes.iter().filter(|(key, ..)| !is_identifying(key)).count();
        let resource_labels = self.shared.fixed.len() - self.shared.scope_labels;
        let identity = &self.shared.fixed[..resource_labels];
        if others == 0 || identity.is_empty() {
            return false;
        }
        push_pair(out, model::METRIC_NAME.as_bytes(), b"target_info");
        for (name, value) in identity {
            push_pair(out, name, value);
        }
        let is_written = |name: &[u8]| {
            let is_identity = identity.iter().any(|(known, _)| known == name);
            // The information is of no type, which as Prometheus has it takes an attribute's away.
            let is_type = options.type_and_unit_labels && name == TYPE.as_bytes();
            is_identity || is_type || name == model::METRIC_NAME.as_bytes()
        };
        for (key, name, value) in self.attributes.iter() {
            let is_left_out = is_identifying(key) && !options.keep_identifying_resource_attributes;
            if !is_left_out && !is_written(name) {
                push_pair(out, name, value);
            }
        }
        true
    }
}

/// Reads the attributes in the fields `number` of a message.
pub(super) fn read_attributes(
    body: &[u8],
    message: Range<usize>,
    number: u64,
    rules: LabelRules,
    out: &mut Attributes,
) -> Result<(), Fault> {
    each_message(body, message, |found, field| match field {
        Field::Bytes { start, end } if found == number => out.read(body, start..end, rules),
        _ => Ok(()),
    })?;
    out.unite_names();
    Ok(())
}
