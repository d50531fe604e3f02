//! Which process may make which call between Watchfire's own processes. What is not listed, nobody
//! may.

use axum::body::Body;
use axum::response::Response;
use tonic::Status;

use crate::authority::Role;
use crate::peers::PeerIdentity;

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callers {
    /// Also who has no certificate: the call itself asks for a token.
    Anyone,
    /// Who has a certificate in force for one of these.
    Roles(&'static [Role]),
}

/// Every call of `proto/`; a test compares.
const CALLS: &[(&str, Callers)] = &[
    ("/watchfire.v1.Cluster/Consensus", Callers::Roles(&[Role::Broker])),
    ("/watchfire.v1.Cluster/About", Callers::Roles(&[Role::Broker])),
    ("/watchfire.v1.Cluster/Fresh", Callers::Roles(&[Role::Broker])),
    ("/watchfire.v1.Cluster/Live", Callers::Roles(&[Role::Broker])),
    ("/watchfire.v1.Cluster/LiveLines", Callers::Roles(&[Role::Broker])),
    ("/watchfire.v1.BlockCache/Chunk", Callers::Roles(&[Role::Broker])),
    ("/watchfire.v1.Evaluation/Evaluate", Callers::Roles(&[Role::Broker])),
    ("/watchfire.v1.Ingest/Enroll", Callers::Anyone),
    ("/watchfire.v1.Ingest/Renew", Callers::Roles(EVERYONE)),
    ("/watchfire.v1.Ingest/Push", Callers::Roles(&[Role::Agent])),
    ("/watchfire.v1.Read/Select", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/Labels", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/Series", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/Exemplars", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/Metadata", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/Cardinality", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/Census", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/State", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/Changes", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/Subscribe", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/Page", Callers::Roles(READERS)),
    ("/watchfire.v1.Read/Handle", Callers::Roles(READERS)),
    ("/watchfire.v1.ClusterStatus/Report", Callers::Roles(&[Role::Broker])),
    ("/watchfire.v1.ClusterStatus/Drain", Callers::Roles(&[Role::Broker])),
];

const EVERYONE: &[Role] = &[Role::Agent, Role::Console, Role::Broker];
const READERS: &[Role] = &[Role::Console, Role::Broker];

/// Whether `peer` may call `path`.
///
/// # Errors
/// Why not, as gRPC says it.
pub(crate) fn check(path: &str, peer: Option<&PeerIdentity>) -> Result<(), Status> {
    let callers = CALLS.iter().find(|(call, _)| *call == path).map(|(_, callers)| *callers);
    match (callers, peer) {
        (None, _) => {
            let shown: String = path.chars().take(100).collect();
            Err(Status::unimplemented(format!("there is no call {shown:?} here")))
        }
        (Some(Callers::Anyone), _) => Ok(()),
        (Some(Callers::Roles(_)), None) => Err(Status::unauthenticated(
            "this call needs a certificate; join first with a token from `watchfire token create`",
        )),
        (Some(Callers::Roles(roles)), Some(peer)) if roles.contains(&peer.role) => Ok(()),
        (Some(Callers::Roles(roles)), Some(peer)) => {
            let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
            Err(Status::permission_denied(format!(
                "{} {:?} may not make this call, which is for {}; join with a token of that role",
                peer.role,
                peer.name,
                roles.join(" and ")
            )))
        }
    }
}

/// The refusal as a response.
pub(crate) fn refusal(status: Status) -> Response {
    status.into_http::<Body>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn peer(role: Role) -> PeerIdentity {
        PeerIdentity { name: "web-1".into(), role, serial: "01".into(), expires_ms: i64::MAX }
    }

    #[test]
    fn every_call_of_the_protocol_is_listed_and_no_other() {
        let mut calls = Vec::new();
        for file in ["cluster", "ingest", "read"] {
            let path =
                format!("{}/../../proto/watchfire/v1/{file}.proto", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).expect("the protocol is there");
            let mut service = "";
            for line in text.lines() {
                let mut words = line.trim().split([' ', '(']);
                match (words.next(), words.next()) {
                    (Some("service"), Some(name)) => service = name,
                    (Some("rpc"), Some(name)) => {
                        calls.push(format!("/watchfire.v1.{service}/{name}"));
                    }
                    _ => {}
                }
            }
        }
        calls.sort();
        let mut listed: Vec<_> = CALLS.iter().map(|(call, _)| (*call).to_owned()).collect();
        listed.sort();
        assert_eq!(listed, calls);
    }

    #[test]
    fn nobody_gets_in_without_a_certificate_of_the_right_role() {
        let code = |path, peer: Option<&PeerIdentity>| check(path, peer).err().map(|s| s.code());
        for (path, _) in CALLS {
            let open = path.ends_with("/Enroll");
            assert_eq!(code(path, None), (!open).then_some(Code::Unauthenticated), "{path}");
        }
        let (agent, console) = (peer(Role::Agent), peer(Role::Console));
        let denied = Some(Code::PermissionDenied);
        assert_eq!(code("/watchfire.v1.Ingest/Push", Some(&agent)), None);
        assert_eq!(code("/watchfire.v1.Ingest/Push", Some(&console)), denied);
        assert_eq!(code("/watchfire.v1.Read/Select", Some(&agent)), denied);
        assert_eq!(code("/watchfire.v1.Read/Select", Some(&console)), None);
        for peer in [&agent, &console] {
            assert_eq!(code("/watchfire.v1.Cluster/Consensus", Some(peer)), denied);
        }
        let broker = peer(Role::Broker);
        assert_eq!(code("/watchfire.v1.Cluster/Consensus", Some(&broker)), None);
        for path in ["/", "/watchfire.v1.Ingest/push", "//watchfire.v1.Ingest/Push", "/x"] {
            assert_eq!(code(path, Some(&agent)), Some(Code::Unimplemented), "{path}");
        }
    }
}
