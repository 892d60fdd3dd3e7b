//! Credentials and TLS settings, which another program states at each location or prefix. transship has one access for
//! each registry. If one registry has different credentials, the import writes credentials into single entries.

use std::collections::HashMap;

use super::draft::Draft;
use super::page::Map;
use super::reading::{Reading, View};
use super::variable::variable_name;
use crate::oci::RegistryHost;

/// Comment beside a TLS setting that also permits plain HTTP in the other program.
pub(super) const PLAIN_HTTP: &str = "If the registry uses plain HTTP, which is then tried automatically, write \
                                     `plain_http: true` instead of `tls`.";

/// Access to a registry: credentials and TLS settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// Credentials in transship's syntax. The map is empty if there are no credentials.
    pub(super) credentials: Map,
    /// True if the program does not verify the certificate.
    pub(super) is_insecure: bool,
}

/// Access of one entry, if the entry needs another access than the registry.
#[derive(Debug, Default)]
pub(super) struct OwnAccess {
    pub(super) credentials: Map,
    /// Reason why no entry can have this access. `None` means that an entry can have the access.
    pub(super) unsupported: Option<String>,
}

/// Names of the environment variables that replace the secrets of a file.
#[derive(Default)]
pub(super) struct SecretNames(HashMap<RegistryHost, Vec<String>>);

impl SecretNames {
    /// Returns credentials with a user name and the name of an environment variable for the password. For a new
    /// password, also returns a comment.
    pub(super) fn credentials(
        &mut self,
        (host, username): (&RegistryHost, &str),
        password: &str,
        view: &View<'_>,
        reading: &mut Reading,
    ) -> (Map, Option<String>) {
        let secrets = self.0.entry(host.clone()).or_default();
        let secret = format!("{username}:{password}");
        let known = secrets.iter().position(|known| *known == secret);
        let at = known.unwrap_or(secrets.len());
        let stem = variable_name(host, "PASSWORD");
        let name = if at == 0 { stem } else { format!("{stem}_{}", at + 1) };
        let mut credentials = Map::default();
        credentials.text("username", username);
        credentials.inline_map("password", "env", name.clone());
        let comment = known.is_none().then(|| {
            secrets.push(secret);
            let message = format!("the password is not copied: set the environment variable {name}");
            reading.add_remark(view, message)
        });
        (credentials, comment)
    }
}

/// Sets the access to a registry without settings. If the registry has settings, returns the differences.
pub(super) fn set_access(host: &RegistryHost, access: Access, comments: Vec<String>, draft: &mut Draft) -> OwnAccess {
    let is_new = !draft.has_registry(host);
    let registry = draft.registry(host);
    registry.comments.extend(comments);
    if is_new {
        registry.credentials = access.credentials;
        registry.tls = insecure_tls(access.is_insecure);
        if access.is_insecure {
            registry.comments.push(PLAIN_HTTP.into());
        }
        return OwnAccess::default();
    }
    let unsupported = (registry.tls != insecure_tls(access.is_insecure)).then(|| {
        format!(
            "the file verifies the certificate of {host} only in some places, but `tls` applies to the whole \
            registry"
        )
    });
    let credentials = if registry.credentials == access.credentials {
        Map::default()
    } else if access.credentials.is_empty() {
        anonymous()
    } else {
        access.credentials
    };
    OwnAccess { credentials, unsupported }
}

/// Returns credentials for anonymous access.
pub(super) fn anonymous() -> Map {
    let mut map = Map::default();
    map.verbatim("anonymous", true);
    map
}

/// Returns the map of the key `tls`. If the certificate is verified, the map is empty.
pub(super) fn insecure_tls(is_insecure: bool) -> Map {
    let mut map = Map::default();
    if is_insecure {
        map.verbatim("insecure_skip_verify", true);
    }
    map
}
