//! Translation of the source or the target of a task: its registry with credentials and TLS settings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::access::{Access, OwnAccess, SecretNames, anonymous, set_access};
use super::super::draft::Draft;
use super::super::page::{Map, escape_variables};
use super::super::reading::{Fields, Reading, View, quoted};
use super::super::treatment::unsupported_keys;
use super::keys;
use crate::oci::{RegistryHost, names_host};

/// Source or target of a task.
pub(super) struct Location {
    /// Registry as written.
    pub(super) registry: String,
    /// Access that differs from the access of the registry.
    pub(super) own: OwnAccess,
    /// True if the repositories are not listed by the catalog of the registry.
    pub(super) has_other_lister: bool,
}

/// Reader of all locations of a file.
#[derive(Default)]
pub(super) struct Locations {
    secrets: SecretNames,
}

impl Locations {
    /// Reads a location and sets the access to its registry. `None` if the location has no registry.
    pub(super) fn read(&mut self, view: &View<'_>, draft: &mut Draft, reading: &mut Reading) -> Option<Location> {
        let fields = reading.fields(view, "a source or a target");
        let registry = reading.text_of(&fields, "registry")?;
        let mut comments = unsupported_keys(&fields, &[&keys::LOCATION], "a source or a target", reading);
        let lister = fields.get("lister").map(|view| reading.fields(view, "`lister`")).unwrap_or_default();
        let lister = reading.text_of(&lister, "type").unwrap_or_else(|| "catalog".to_owned());
        let host = registry.parse::<RegistryHost>().ok().filter(|_| names_host(&registry));
        let own = match host {
            Some(host) => {
                let is_insecure = reading.bool_of(&fields, "skip-tls-verify").unwrap_or(false);
                let credentials = self.credentials(&host, &fields, &mut comments, reading);
                set_access(&host, Access { credentials, is_insecure }, comments, draft)
            }
            None => {
                draft.head.extend(comments);
                let reason = format!("the registry {} is not a plain host with a `.` or a port", quoted(&registry));
                OwnAccess { unsupported: Some(reason), ..OwnAccess::default() }
            }
        };
        let has_other_lister = lister != "catalog";
        Some(Location { registry, own, has_other_lister })
    }

    /// Translates `auth`, which is a user name with a password in base64. Without it, dregsy uses the identity of the
    /// machine at registries of AWS and Google.
    fn credentials(
        &mut self,
        host: &RegistryHost,
        fields: &Fields<'_>,
        comments: &mut Vec<String>,
        reading: &mut Reading,
    ) -> Map {
        let is_refreshed = fields.get("auth-refresh").is_some();
        let written = reading.text_of(fields, "auth");
        let (Some(view), Some(written)) = (fields.get("auth"), written.filter(|_| !is_refreshed)) else {
            return machine_identity(host, is_refreshed);
        };
        if written == "none" {
            return anonymous();
        }
        let Some((username, password)) = decode_auth(&written).filter(|(username, _)| !username.contains(':')) else {
            comments.push(reading.add_unknown(view, "`auth` cannot be decoded: write `credentials`"));
            return Map::default();
        };
        let username = escape_variables(&username);
        let (credentials, comment) = self.secrets.credentials((host, &username), &password, view, reading);
        comments.extend(comment);
        credentials
    }
}

/// Returns credentials by the identity of the machine, or no credentials at other registries.
fn machine_identity(host: &RegistryHost, is_refreshed: bool) -> Map {
    let name = host.as_str();
    let is_aws = is_refreshed || name.contains(".dkr.ecr.") && name.contains(".amazonaws.com");
    let is_google = name == "gcr.io" || name.ends_with(".gcr.io") || name.ends_with("-docker.pkg.dev");
    let mut map = Map::default();
    if is_aws {
        map.verbatim("aws", "{}");
    } else if is_google {
        map.verbatim("gcp", "{}");
    }
    map
}

/// Decodes `auth`: JSON with `username` and `password`, or USER:PASSWORD.
fn decode_auth(written: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(written.trim()).ok()?).ok()?;
    let parsed = serde_json::from_str::<serde_json::Value>(&text).ok().filter(serde_json::Value::is_object);
    let (username, password) = match &parsed {
        Some(json) => (json["username"].as_str()?.to_owned(), json["password"].as_str()?.to_owned()),
        None => text.split_once(':').map(|(username, password)| (username.to_owned(), password.to_owned()))?,
    };
    (!username.is_empty()).then_some((username, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_is_decoded_from_json_or_from_basic_form() {
        let decoded = |text: &str| decode_auth(&STANDARD.encode(text));
        let pair = Some(("alex".to_owned(), "secret".to_owned()));
        assert_eq!(decoded("{\"username\": \"alex\", \"password\": \"secret\"}\n"), pair);
        assert_eq!(decoded("alex:secret"), pair);
        assert_eq!(decoded("{\"user\": \"alex\"}"), None);
        assert_eq!(decode_auth("${AUTH}"), None);
    }
}
