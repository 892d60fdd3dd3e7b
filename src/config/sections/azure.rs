//! Section `azure` under `credentials`: an identity at Entra, written as a word or as keys.

use std::path::PathBuf;

use url::Url;

use super::cloud::{IMDS, near_place, secret_place};
use super::credentials::secret;
use super::registry_keys::AZURE;
use super::transport::file;
use crate::config::reader::{Fields, Reader, Value};
use crate::config::yaml::node::Node;
use crate::registry::{Azure, AzureIdentity, Pem, Secret};

const AUTHORITY: &str = "https://login.microsoftonline.com";

/// Reads the identity. Returns `None` if the reader kept a problem.
pub(crate) fn azure(reader: &Reader<'_>, value: &Value<'_>) -> Option<Azure> {
    if matches!(value.node, Node::Map(_)) {
        let fields = reader.fields(value, &AZURE)?;
        let identity = identity(reader, value, &fields);
        let place =
            |name: &'static str, default: &str, read: fn(&str) -> Result<Url, &'static str>| match fields.get(name) {
                Some(value) => reader.text(value, "an address").and_then(|text| reader.keep(value, read(&text))),
                None => reader.keep(value, read(default)),
            };
        let (authority, imds) = (place("authority", AUTHORITY, secret_place), place("imds", IMDS, near_place));
        fields.done();
        return Some(Azure { identity: identity?, imds: imds?, authority: authority? });
    }
    let (identity, authority) = match reader.text(value, "managed_identity, workload_identity or a map")?.as_str() {
        "managed_identity" => (AzureIdentity::Managed { client_id: None }, secret_place(AUTHORITY)),
        "workload_identity" => {
            let said = (reader.environment)("AZURE_AUTHORITY_HOST").filter(|host| !host.is_empty());
            (workload(reader, value)?, secret_place(said.as_deref().unwrap_or(AUTHORITY)))
        }
        _ => {
            reader.wrong(value, "expected managed_identity, workload_identity or a map");
            return None;
        }
    };
    let authority = authority.map_err(|what| format!("the environment variable AZURE_AUTHORITY_HOST: {what}"));
    Some(Azure { identity, imds: reader.keep(value, near_place(IMDS))?, authority: reader.keep(value, authority)? })
}

/// Reads the identity from keys: an application if there is a secret or a certificate, otherwise a managed identity.
fn identity(reader: &Reader<'_>, value: &Value<'_>, fields: &Fields<'_>) -> Option<AzureIdentity> {
    let text = |name: &'static str| fields.get(name).map(|value| reader.text(value, "an id"));
    let (client_id, tenant_id) = (text("client_id"), text("tenant_id"));
    let client_secret = fields.get("client_secret").map(|value| secret(reader, value));
    let (certificate, key) = (fields.get("certificate"), fields.get("key"));
    // Many operators keep both in one file.
    let pair = certificate.map(|file| pair(reader, file, key.unwrap_or(file)));
    if certificate.is_none() && key.is_some() {
        reader.wrong(value, "a key alone proves nothing: `certificate` is missing under `azure`");
        return None;
    }
    if let (None, None, None, None) = (&client_secret, &pair, &tenant_id, &client_id) {
        return Some(AzureIdentity::Managed { client_id: None });
    }
    match (client_id, tenant_id, client_secret, pair) {
        (Some(client_id), None, None, None) => Some(AzureIdentity::Managed { client_id: Some(client_id?) }),
        (Some(client_id), Some(tenant_id), Some(client_secret), None) => Some(AzureIdentity::Application {
            client_id: client_id?,
            tenant_id: reader.keep(value, tenant(tenant_id?))?,
            client_secret: client_secret?,
        }),
        (Some(client_id), Some(tenant_id), None, Some(pair)) => {
            let (certificate, key) = pair?;
            let tenant_id = reader.keep(value, tenant(tenant_id?))?;
            Some(AzureIdentity::Certified { client_id: client_id?, tenant_id, certificate, key })
        }
        _ => {
            reader.wrong(value, "an application needs client_id, tenant_id, and either client_secret or certificate");
            None
        }
    }
}

/// Returns the files of a certificate and of its key. The files are checked now and read when they are needed.
fn pair(reader: &Reader<'_>, certificate: &Value<'_>, key: &Value<'_>) -> Option<(PathBuf, PathBuf)> {
    let certificate_file = file(reader, certificate)?;
    let read = reader.keep(certificate, Pem::certificates(&certificate_file))?;
    let key_file = file(reader, key)?;
    let read = reader.keep(key, Pem::key(&key_file, &read))?;
    if !read.has_rsa_key() {
        let message = format!("the private key in the file {} is no RSA key: Azure takes no other", key_file.display());
        reader.wrong(key, message);
        return None;
    }
    Some((certificate_file, key_file))
}

/// Reads the identity from the variables that the webhook of a cluster sets.
fn workload(reader: &Reader<'_>, value: &Value<'_>) -> Option<AzureIdentity> {
    let variable = |name: &str| {
        let found = (reader.environment)(name).filter(|text| !text.is_empty());
        if found.is_none() {
            reader.wrong(value, format!("workload_identity: the environment variable {name} is not set"));
        }
        found
    };
    let (client_id, tenant_id) = (variable("AZURE_CLIENT_ID"), variable("AZURE_TENANT_ID"));
    let file = variable("AZURE_FEDERATED_TOKEN_FILE");
    let tenant_id = reader.keep(value, tenant(tenant_id?))?;
    Some(AzureIdentity::Workload { client_id: client_id?, tenant_id, token: Secret::File(file?.into()) })
}

/// Checks a tenant id, which becomes a part of a path.
fn tenant(id: String) -> Result<String, &'static str> {
    let good = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    if good { Ok(id) } else { Err("a tenant_id has letters, digits, `.` and `-` alone") }
}
