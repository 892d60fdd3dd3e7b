//! Translation of regsync's `creds`: the credentials and the connection settings of each registry. The import copies no
//! secret.

use super::super::draft::{Draft, Registry};
use super::super::limits::{add_remark, add_unknown, set_limits};
use super::super::page::{Map, escape_variables};
use super::super::reading::{Fields, Reading, View, quoted};
use super::super::template::{Content, Template};
use super::super::treatment::unsupported_keys;
use super::super::variable::variable_name;
use super::keys::{CREDS, SCHEME};
use crate::oci::RegistryHost;

/// Prefix of the names of Docker's credential helpers.
const HELPER: &str = "docker-credential-";

/// Translates one registry.
pub(super) fn add_registry(view: &View<'_>, draft: &mut Draft, reading: &mut Reading) {
    let fields = reading.fields(view, "credentials of a registry");
    let name = reading.text_of(&fields, "registry").unwrap_or_default();
    let Ok(host) = name.parse::<RegistryHost>() else {
        let remark =
            reading.add_unknown(view, "the name of this registry is not a plain host: the registry is skipped");
        draft.head.push(remark);
        return;
    };
    if draft.has_registry(&host) {
        let remark = reading.add_unknown(view, format!("duplicate registry {host}: the second one is skipped"));
        draft.head.push(remark);
        return;
    }
    let comments = unsupported_keys(&fields, &[&CREDS, &[SCHEME]], "`creds`", reading);
    let address = unsupported_address(&host, &fields, reading);
    let registry = draft.registry(&host);
    registry.comments.extend(comments);
    registry.unsupported = (!address.is_empty()).then(|| address.join("; "));
    registry.comments.extend(address);
    set_transport(&fields, registry, reading);
    set_credentials(view, &host, &fields, registry, reading);
    set_limits(&fields, registry, reading);
}

/// Returns the reasons why no entry can use this registry as regsync does: under this name, regsync contacts another
/// host or other repositories.
fn unsupported_address(host: &RegistryHost, fields: &Fields<'_>, reading: &mut Reading) -> Vec<String> {
    let is_other = |name: &String| name.parse::<RegistryHost>().ok().as_ref() != Some(host);
    let hostname = reading.text_of(fields, "hostname").filter(is_other).map(|name| {
        let reason = format!("`hostname` of {host} is {}: write that host in the entries instead", quoted(&name));
        ("hostname", reason)
    });
    let prefix = reading.text_of(fields, "pathPrefix").map(|prefix| {
        let reason = format!(
            "`pathPrefix` of {host} is {}: write that prefix before the names of the repositories",
            quoted(&prefix)
        );
        ("pathPrefix", reason)
    });
    let remark = |(key, reason): (&str, String)| {
        if let Some(view) = fields.get(key) {
            reading.add_remark(view, reason.clone());
        }
        reason
    };
    hostname.into_iter().chain(prefix).map(remark).collect()
}

fn set_transport(fields: &Fields<'_>, registry: &mut Registry, reading: &mut Reading) {
    let Some(written) = reading.text_of(fields, "tls") else { return };
    match written.to_ascii_lowercase().as_str() {
        "enabled" => {}
        "disabled" => registry.plain_http = true,
        "insecure" => registry.tls.verbatim("insecure_skip_verify", true),
        _ => {
            let about = "is unknown: transship uses HTTPS and verifies certificates";
            add_unknown(fields, "tls", about, registry, reading);
        }
    }
}

/// Translates the credentials. The first of these is used: a helper, a token, a user with a password. Each of the other
/// keys gets a remark.
fn set_credentials(
    view: &View<'_>,
    host: &RegistryHost,
    fields: &Fields<'_>,
    registry: &mut Registry,
    reading: &mut Reading,
) {
    let text = |reading: &mut Reading, key| reading.text_of(fields, key);
    let helper = text(reading, "credHelper").and_then(|written| helper_name(&written).map(str::to_owned));
    let token = text(reading, "token");
    let user = text(reading, "user");
    let user = user.and_then(|user| Template::parse(&user, None)?.as_text()).filter(|user| !user.contains(':'));
    let pass = text(reading, "pass");
    let mut used: &[&str] = &[];
    if let Some(helper) = helper {
        used = &["credHelper"];
        registry.credentials.text("helper", helper);
    } else if let Some(token) = token {
        used = &["token"];
        set_secret(view, "token", &token, host, registry, reading);
    } else if let (Some(user), Some(pass)) = (user, pass) {
        used = &["user", "pass"];
        registry.credentials.text("username", user);
        set_secret(view, "password", &pass, host, registry, reading);
    }
    for key in ["credHelper", "token", "user", "pass"].into_iter().filter(|key| !used.contains(key)) {
        if used.is_empty() {
            add_unknown(fields, key, "cannot be translated: write `credentials`", registry, reading);
        } else {
            add_remark(fields, key, "is skipped", registry, reading);
        }
    }
}

fn helper_name(written: &str) -> Option<&str> {
    let name = written.strip_prefix(HELPER)?;
    let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    good.then_some(name)
}

/// Translates a secret. Never writes the secret itself: a remark names the environment variable to set instead.
fn set_secret(
    view: &View<'_>,
    key: &str,
    text: &str,
    host: &RegistryHost,
    registry: &mut Registry,
    reading: &mut Reading,
) {
    let map: &mut Map = &mut registry.credentials;
    match Template::parse(text, None).and_then(|template| template.content()) {
        Some(Content::Env(name)) => map.inline_map(key, "env", name),
        Some(Content::File(path)) => map.inline_map(key, "file", escape_variables(&path)),
        Some(Content::Text) | None => {
            let name = variable_name(host, &key.to_uppercase());
            map.inline_map(key, "env", name.clone());
            let message = format!("the {key} is not carried over: set the environment variable {name}");
            registry.comments.push(reading.add_remark(view, message));
        }
    }
}
