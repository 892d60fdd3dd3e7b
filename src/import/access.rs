//! Credentials and TLS settings of registries. Other programs write these settings at each location or prefix, and
//! transship writes them once for each registry. If one registry has several credentials, the import writes credentials
//! into the entries.

use std::collections::HashMap;

use super::draft::Draft;
use super::page::Map;
use super::reading::{Reading, View};
use super::variable::variable_name;
use crate::oci::RegistryHost;

/// Comment for a registry whose certificate is not verified. In the other program, the same setting also permits plain
/// HTTP.
pub(super) const PLAIN_HTTP: &str = "If the registry uses plain HTTP, which is then tried automatically, write \
                                     `plain_http: true` instead of `tls`.";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// Credentials in transship's syntax. Without credentials, the map is empty.
    pub(super) credentials: Map,
    /// True if the other program does not verify the certificate.
    pub(super) is_insecure: bool,
}

/// Access settings of one entry that differ from the settings of its registry.
#[derive(Debug, Default)]
pub(super) struct OwnAccess {
    pub(super) credentials: Map,
    /// Reason to skip the entry, if the difference cannot be a setting of an entry.
    pub(super) unsupported: Option<String>,
}

/// Logins of a file in the form `USER:PASSWORD`, by host. The import writes the name of an environment variable instead
/// of each password. The position of a login in its list determines the name of the variable.
#[derive(Default)]
pub(super) struct SecretNames(HashMap<RegistryHost, Vec<String>>);

impl SecretNames {
    /// Returns credentials with the user name, and with an environment variable in place of the password. If this login
    /// is new for the host, also returns a comment that tells the user to set the variable.
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

/// If the draft has no settings for the registry, uses `access` as the settings. Otherwise, returns the differences
/// between `access` and the settings in the draft.
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

pub(super) fn anonymous() -> Map {
    let mut map = Map::default();
    map.verbatim("anonymous", true);
    map
}

/// Returns the value of the key `tls`. If `is_insecure` is false, the map is empty.
pub(super) fn insecure_tls(is_insecure: bool) -> Map {
    let mut map = Map::default();
    if is_insecure {
        map.verbatim("insecure_skip_verify", true);
    }
    map
}
