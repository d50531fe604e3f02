//! Errors of IPsec. Source: Linux `Documentation/networking/xfrm_proc.rst`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

macro_rules! counters {
    ($($field:literal $name:literal $help:literal,)+) => {
        &[$(($field, Family::counter(concat!("node_xfrm_", $name, "_packets_total"), $help)),)+]
    };
}

/// The fields of `/proc/net/xfrm_stat`.
const FIELDS: &[(&str, Family)] = counters![
    "XfrmInError" "in_error" "All errors not matched by other",
    "XfrmInBufferError" "in_buffer_error" "No buffer is left",
    "XfrmInHdrError" "in_hdr_error" "Header error",
    "XfrmInNoStates" "in_no_states"
        "No state is found i.e. Either inbound SPI, address, or IPsec protocol at SA is wrong",
    "XfrmInStateProtoError" "in_state_proto_error"
        "Transformation protocol specific error e.g. SA key is wrong",
    "XfrmInStateModeError" "in_state_mode_error" "Transformation mode specific error",
    "XfrmInStateSeqError" "in_state_seq_error"
        "Sequence error i.e. Sequence number is out of window",
    "XfrmInStateExpired" "in_state_expired" "State is expired",
    "XfrmInStateMismatch" "in_state_mismatch"
        "State has mismatch option e.g. UDP encapsulation type is mismatch",
    "XfrmInStateInvalid" "in_state_invalid" "State is invalid",
    "XfrmInTmplMismatch" "in_tmpl_mismatch"
        "No matching template for states e.g. Inbound SAs are correct but SP rule is wrong",
    "XfrmInNoPols" "in_no_pols"
        "No policy is found for states e.g. Inbound SAs are correct but no SP is found",
    "XfrmInPolBlock" "in_pol_block" "Policy discards",
    "XfrmInPolError" "in_pol_error" "Policy error",
    "XfrmOutError" "out_error" "All errors which is not matched others",
    "XfrmOutBundleGenError" "out_bundle_gen_error" "Bundle generation error",
    "XfrmOutBundleCheckError" "out_bundle_check_error" "Bundle check error",
    "XfrmOutNoStates" "out_no_states" "No state is found",
    "XfrmOutStateProtoError" "out_state_proto_error" "Transformation protocol specific error",
    "XfrmOutStateModeError" "out_state_mode_error" "Transformation mode specific error",
    "XfrmOutStateSeqError" "out_state_seq_error" "Sequence error i.e. Sequence number overflow",
    "XfrmOutStateExpired" "out_state_expired" "State is expired",
    "XfrmOutPolBlock" "out_pol_block" "Policy discards",
    "XfrmOutPolDead" "out_pol_dead" "Policy is dead",
    "XfrmOutPolError" "out_pol_error" "Policy error",
    "XfrmFwdHdrError" "fwd_hdr_error" "Forward routing of a packet is not allowed",
    "XfrmOutStateInvalid" "out_state_invalid" "State is invalid, perhaps expired",
    "XfrmAcquireError" "acquire_error" "State hasn’t been fully acquired before use",
];

/// `node_xfrm_*`.
pub(crate) struct Xfrm {
    path: PathBuf,
}

impl Xfrm {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Xfrm { path: config.proc_root.join("net/xfrm_stat") }
    }
}

impl Survey for Xfrm {
    fn name(&self) -> &'static str {
        "xfrm"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some(name), Some(count)) = (fields.next(), fields.next()) else { continue };
            let family = FIELDS.iter().find(|(field, _)| *field == name);
            if let (Some((_, family)), Ok(count)) = (family, count.parse::<u64>()) {
                out.put(family, &[], count as f64);
            }
        }
        Ok(())
    }
}
