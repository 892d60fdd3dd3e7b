//! Section `credentials.azure`: an identity at Microsoft Entra. The value is a word or a map.

use std::path::PathBuf;

use url::Url;

use super::secret::read_secret;
use super::service_address::{IMDS, check_metadata_address, check_secret_address};
use super::tls::read_pem_path;
use crate::config::keys::table::{ANY, SafeForm, Shape, Table, key};
use crate::config::reader::{Fields, Reader, Value};
use crate::config::yaml::node::Node;
use crate::registry::{Azure, AzureIdentity, Pem, Secret};

const AUTHORITY: &str = "https://login.microsoftonline.com";

/// Identities at Azure that a single word selects.
pub(crate) const AZURE_WORDS: [&str; 2] = ["managed_identity", "workload_identity"];

pub(crate) static AZURE: Table = Table {
    place: "under `azure`",
    groups: &[&[
        key(
            "client_id",
            ANY,
            "Client ID of the application. Without `client_secret` and `certificate`: client ID of one of the \
             machine's managed identities.",
            r#""00000000-0000-0000-0000-000000000000""#,
        ),
        key(
            "tenant_id",
            ANY,
            "Entra tenant (directory) of the application.",
            r#""00000000-0000-0000-0000-000000000000""#,
        ),
        key(
            "client_secret",
            Shape::Secret,
            "Secret of the application. transship never shows it.",
            r#"{"env": "AZURE_SECRET"}"#,
        ),
        key(
            "certificate",
            ANY,
            "PEM file with the certificate of the application, instead of a secret.",
            r#""/etc/transship/azure.pem""#,
        )
        .safe_as(SafeForm::Path),
        key(
            "key",
            ANY,
            "PEM file with the RSA private key of the certificate. Default: the file of the certificate.",
            r#""/etc/transship/azure.key""#,
        )
        .safe_as(SafeForm::Path),
        key(
            "authority",
            ANY,
            "Address of Entra. Sovereign clouds have addresses of their own.",
            r#""https://login.microsoftonline.us""#,
        )
        .with_default(r#""https://login.microsoftonline.com""#),
        key("imds", ANY, "Address of the instance metadata service.", r#""http://127.0.0.1:8080""#)
            .with_default(r#""http://169.254.169.254""#),
    ]],
    required: &[],
};

/// Reads the section. If the reader recorded a problem, returns `None`.
pub(crate) fn read_azure(reader: &Reader<'_>, value: &Value<'_>) -> Option<Azure> {
    if matches!(value.node, Node::Map(_)) {
        let fields = reader.fields(value, &AZURE)?;
        let identity = read_identity(reader, value, &fields);
        let address =
            |name: &'static str, default: &str, read: fn(&str) -> Result<Url, &'static str>| match fields.get(name) {
                Some(value) => reader.text(value, "an address").and_then(|text| reader.accept(value, read(&text))),
                None => reader.accept(value, read(default)),
            };
        let (authority, imds) =
            (address("authority", AUTHORITY, check_secret_address), address("imds", IMDS, check_metadata_address));
        fields.assert_all_read();
        return Some(Azure { identity: identity?, imds: imds?, authority: authority? });
    }
    let (identity, authority) = match reader.text(value, "managed_identity, workload_identity or a map")?.as_str() {
        "managed_identity" => (AzureIdentity::Managed { client_id: None }, check_secret_address(AUTHORITY)),
        "workload_identity" => {
            let host = (reader.environment)("AZURE_AUTHORITY_HOST").filter(|host| !host.is_empty());
            (read_workload(reader, value)?, check_secret_address(host.as_deref().unwrap_or(AUTHORITY)))
        }
        _ => {
            reader.refuse(value, "expected managed_identity, workload_identity or a map");
            return None;
        }
    };
    let authority = authority.map_err(|reason| format!("the environment variable AZURE_AUTHORITY_HOST: {reason}"));
    Some(Azure {
        identity,
        imds: reader.accept(value, check_metadata_address(IMDS))?,
        authority: reader.accept(value, authority)?,
    })
}

/// Reads an identity from a map. With a secret or a certificate, the identity is an application. If the map has
/// neither, the identity is a managed identity.
fn read_identity(reader: &Reader<'_>, value: &Value<'_>, fields: &Fields<'_>) -> Option<AzureIdentity> {
    let text = |name: &'static str| fields.get(name).map(|value| reader.text(value, "an id"));
    let (client_id, tenant_id) = (text("client_id"), text("tenant_id"));
    let client_secret = fields.get("client_secret").map(|value| read_secret(reader, value));
    let (certificate, key) = (fields.get("certificate"), fields.get("key"));
    // One file can contain both the certificate and the key.
    let pair = certificate.map(|file| read_pair(reader, file, key.unwrap_or(file)));
    if certificate.is_none() && key.is_some() {
        reader.refuse(value, "a private key needs its certificate: write `certificate` under `azure`");
        return None;
    }
    if let (None, None, None, None) = (&client_secret, &pair, &tenant_id, &client_id) {
        return Some(AzureIdentity::Managed { client_id: None });
    }
    match (client_id, tenant_id, client_secret, pair) {
        (Some(client_id), None, None, None) => Some(AzureIdentity::Managed { client_id: Some(client_id?) }),
        (Some(client_id), Some(tenant_id), Some(client_secret), None) => Some(AzureIdentity::Application {
            client_id: client_id?,
            tenant_id: reader.accept(value, check_tenant(tenant_id?))?,
            client_secret: client_secret?,
        }),
        (Some(client_id), Some(tenant_id), None, Some(pair)) => {
            let (certificate, key) = pair?;
            let tenant_id = reader.accept(value, check_tenant(tenant_id?))?;
            Some(AzureIdentity::Certified { client_id: client_id?, tenant_id, certificate, key })
        }
        _ => {
            reader.refuse(value, "an application needs client_id, tenant_id, and either client_secret or certificate");
            None
        }
    }
}

/// Checks a certificate file and its key file, and returns the paths. The files are read again at each use.
fn read_pair(reader: &Reader<'_>, certificate: &Value<'_>, key: &Value<'_>) -> Option<(PathBuf, PathBuf)> {
    let certificate_file = read_pem_path(reader, certificate)?;
    let read = reader.accept(certificate, Pem::certificates(&certificate_file))?;
    let key_file = read_pem_path(reader, key)?;
    let read = reader.accept(key, Pem::key(&key_file, &read))?;
    if !read.has_rsa_key() {
        let message = format!(
            "the private key in the file {} is not an RSA key: Azure accepts only RSA keys",
            key_file.display()
        );
        reader.refuse(key, message);
        return None;
    }
    Some((certificate_file, key_file))
}

/// Reads a workload identity from the environment variables that Azure's workload identity webhook sets in a pod.
fn read_workload(reader: &Reader<'_>, value: &Value<'_>) -> Option<AzureIdentity> {
    let variable = |name: &str| {
        let found = (reader.environment)(name).filter(|text| !text.is_empty());
        if found.is_none() {
            reader.refuse(value, format!("workload_identity: the environment variable {name} is not set"));
        }
        found
    };
    let (client_id, tenant_id) = (variable("AZURE_CLIENT_ID"), variable("AZURE_TENANT_ID"));
    let file = variable("AZURE_FEDERATED_TOKEN_FILE");
    let tenant_id = reader.accept(value, check_tenant(tenant_id?))?;
    Some(AzureIdentity::Workload { client_id: client_id?, tenant_id, token: Secret::File(file?.into()) })
}

/// Checks a tenant id, because the id becomes a part of a URL path.
fn check_tenant(id: String) -> Result<String, &'static str> {
    let good = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    if good { Ok(id) } else { Err("a tenant_id has only letters, digits, `.` and `-`") }
}
