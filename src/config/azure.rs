//! `azure` under `credentials`: an identity of Entra's, by a word or by keys.

use url::{Host, Url};

use super::credentials::secret;
use super::node::Node;
use super::reader::{Fields, Reader, Value};
use super::registry_keys::AZURE;
use crate::registry::{Azure, AzureIdentity, Secret};

const AUTHORITY: &str = "https://login.microsoftonline.com";
const IMDS: &str = "http://169.254.169.254";

/// The identity; `None` where something is wrong, which has been kept.
pub(super) fn azure(reader: &Reader<'_>, value: &Value<'_>) -> Option<Azure> {
    let place = |text: &str| reader.keep(value, address(text));
    if matches!(value.node, Node::Map(_)) {
        let fields = reader.fields(value, &AZURE)?;
        let identity = identity(reader, value, &fields);
        let place_of = |name: &'static str, default: &str| match fields.get(name) {
            Some(value) => reader.text(value, "an address").and_then(|text| reader.keep(value, address(&text))),
            None => place(default),
        };
        let (authority, imds) = (place_of("authority", AUTHORITY), place_of("imds", IMDS));
        fields.done();
        let in_the_clear = authority.as_ref().is_some_and(|url| url.scheme() == "http" && !is_this_machine(url));
        if in_the_clear {
            reader.wrong(value, "the authority is shown secrets: it is asked by https alone");
            return None;
        }
        return Some(Azure { identity: identity?, imds: imds?, authority: authority? });
    }
    let (identity, authority) = match reader.text(value, "managed_identity, workload_identity or a map")?.as_str() {
        "managed_identity" => (AzureIdentity::Managed { client_id: None }, AUTHORITY.to_owned()),
        "workload_identity" => {
            let authority = (reader.environment)("AZURE_AUTHORITY_HOST").filter(|host| !host.is_empty());
            (workload(reader, value)?, authority.unwrap_or_else(|| AUTHORITY.to_owned()))
        }
        _ => {
            reader.wrong(value, "expected managed_identity, workload_identity or a map");
            return None;
        }
    };
    Some(Azure { identity, imds: place(IMDS)?, authority: place(&authority)? })
}

/// By keys: an application where there is a secret, else a managed identity.
fn identity(reader: &Reader<'_>, value: &Value<'_>, fields: &Fields<'_>) -> Option<AzureIdentity> {
    let text = |name: &'static str| fields.get(name).map(|value| reader.text(value, "an id"));
    let (client_id, tenant_id) = (text("client_id"), text("tenant_id"));
    let client_secret = fields.get("client_secret").map(|value| secret(reader, value));
    match (client_id, tenant_id, client_secret) {
        (client_id, None, None) => {
            Some(AzureIdentity::Managed { client_id: client_id.map_or(Some(None), |id| id.map(Some))? })
        }
        (Some(client_id), Some(tenant_id), Some(client_secret)) => Some(AzureIdentity::Application {
            client_id: client_id?,
            tenant_id: reader.keep(value, tenant(tenant_id?))?,
            client_secret: client_secret?,
        }),
        _ => {
            reader.wrong(value, "an application needs client_id, tenant_id and client_secret");
            None
        }
    }
}

/// By the variables that the webhook of a cluster sets.
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

/// It becomes a part of a path.
fn tenant(id: String) -> Result<String, &'static str> {
    let good = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    if good { Ok(id) } else { Err("a tenant_id has letters, digits, `.` and `-` alone") }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn address(text: &str) -> Result<Url, &'static str> {
    let url: Option<Url> = text.parse().ok();
    let usable = url.filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    });
    usable.ok_or("expected an address like https://login.microsoftonline.com, without user name and password")
}
