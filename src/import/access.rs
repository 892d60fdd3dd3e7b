//! Credentials and TLS settings that another program states at each location or prefix. transship states them once for
//! each registry. Different credentials for one registry become credentials of single entries.

use std::collections::HashMap;

use super::draft::Draft;
use super::page::Map;
use super::reading::{Reading, View};
use super::variable::variable_name;
use crate::oci::RegistryHost;

/// Comment beside a TLS setting that the other program also uses for plain HTTP.
pub(super) const PLAIN_HTTP: &str = "If the registry uses plain HTTP, which is then tried automatically, write \
                                     `plain_http: true` instead of `tls`.";

/// Access to a registry: credentials and TLS settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// Credentials in transship's syntax; empty for none.
    pub(super) credentials: Map,
    /// True if the program does not verify the certificate.
    pub(super) is_insecure: bool,
}

/// Part of an access that an entry states itself, because the registry has another access.
#[derive(Debug, Default)]
pub(super) struct OwnAccess {
    pub(super) credentials: Map,
    /// Reason why no entry can have this access; `None` for a possible access.
    pub(super) unsupported: Option<String>,
}

/// Names of the environment variables that replace the secrets of a file.
#[derive(Default)]
pub(super) struct SecretNames(HashMap<RegistryHost, Vec<String>>);

impl SecretNames {
    /// Returns credentials with a user name, in transship's syntax, and a password. The result names an environment
    /// variable in place of the password. The comment is `None` for a password that has been named before.
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
            let message = format!("the password is not carried over: set the environment variable {name}");
            reading.add_remark(view, message)
        });
        (credentials, comment)
    }
}

/// Sets the access to a registry that has no settings yet. Otherwise, returns the part that differs.
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
        format!("the file verifies the certificate of {host} in only some places, and `tls` is a key of the registry")
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

/// Returns the credentials of an access without credentials.
pub(super) fn anonymous() -> Map {
    let mut map = Map::default();
    map.verbatim("anonymous", true);
    map
}

/// Returns the key `tls` for a registry whose certificate is not verified, otherwise an empty map.
pub(super) fn insecure_tls(is_insecure: bool) -> Map {
    let mut map = Map::default();
    if is_insecure {
        map.verbatim("insecure_skip_verify", true);
    }
    map
}
