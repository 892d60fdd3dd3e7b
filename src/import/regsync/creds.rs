//! `creds` of regsync: one registry each, who to be there and how it is spoken to. No secret is carried over.

use super::super::draft::{Draft, Registry};
use super::super::page::{Map, plain};
use super::super::reading::{Fields, Reading, View, told};
use super::super::template::{Content, Template};
use super::super::variable::variable;
use super::comments;
use super::keys::{CREDS, SCHEME};
use crate::oci::RegistryHost;

/// What the name of each credential helper of docker's begins with.
const HELPER: &str = "docker-credential-";

/// The requests a second that we can say.
const RATES: std::ops::Range<f64> = 0.02..1e6;

/// The most requests at once that we can say.
const MOST_AT_ONCE: f64 = 1000.0;

/// Reads one registry.
pub(super) fn registry(view: &View<'_>, draft: &mut Draft, reading: &mut Reading) {
    let fields = reading.fields(view, "credentials of a registry");
    let name = reading.text_of(&fields, "registry").unwrap_or_default();
    let Ok(host) = name.parse::<RegistryHost>() else {
        let remark = reading.unknown(view, "a registry whose name is no plain host: left out");
        draft.head.push(remark);
        return;
    };
    if draft.has_registry(&host) {
        let remark = reading.unknown(view, format!("{host} is here twice: left out the second time"));
        draft.head.push(remark);
        return;
    }
    let comments = comments(&fields, &[&CREDS, &[SCHEME]], "`creds`", reading);
    let address = address(&host, &fields, reading);
    let sheet = draft.registry(&host);
    sheet.comments.extend(comments);
    sheet.no_equal = (!address.is_empty()).then(|| address.join("; "));
    sheet.comments.extend(address);
    transport(&fields, sheet, reading);
    identity(view, &host, &fields, sheet, reading);
    limits(&fields, sheet, reading);
}

/// The reason why no entry can speak to this registry as regsync does: under its name regsync asks another host, or for
/// other repositories.
fn address(host: &RegistryHost, fields: &Fields<'_>, reading: &mut Reading) -> Vec<String> {
    let is_other = |name: &String| name.parse::<RegistryHost>().ok().as_ref() != Some(host);
    let hostname = reading.text_of(fields, "hostname").filter(is_other).map(|name| {
        let reason = format!("`hostname` of {host} is {}: write that host in its place", told(&name));
        ("hostname", reason)
    });
    let prefix = reading.text_of(fields, "pathPrefix").map(|prefix| {
        let reason = format!("`pathPrefix` of {host} is {}: write it before the names of repositories", told(&prefix));
        ("pathPrefix", reason)
    });
    let remark = |(key, reason): (&str, String)| {
        if let Some(view) = fields.get(key) {
            reading.remark(view, reason.clone());
        }
        reason
    };
    hostname.into_iter().chain(prefix).map(remark).collect()
}

fn transport(fields: &Fields<'_>, sheet: &mut Registry, reading: &mut Reading) {
    let Some(written) = reading.text_of(fields, "tls") else { return };
    match written.to_ascii_lowercase().as_str() {
        "enabled" => {}
        "disabled" => sheet.plain_http = true,
        "insecure" => sheet.tls.verbatim("insecure_skip_verify", true),
        _ => {
            unknown(fields, "tls", "is not understood: HTTPS is spoken and certificates are looked at", sheet, reading)
        }
    }
}

/// The first of a helper, a token, and a user with a password counts. What else is said is told.
fn identity(view: &View<'_>, host: &RegistryHost, fields: &Fields<'_>, sheet: &mut Registry, reading: &mut Reading) {
    let text = |reading: &mut Reading, key| reading.text_of(fields, key);
    let helper = text(reading, "credHelper").and_then(|written| helper(&written).map(str::to_owned));
    let token = text(reading, "token");
    let user = text(reading, "user");
    let user = user.and_then(|user| Template::read(&user, None)?.as_text()).filter(|user| !user.contains(':'));
    let pass = text(reading, "pass");
    let mut used: &[&str] = &[];
    if let Some(helper) = helper {
        used = &["credHelper"];
        sheet.credentials.text("helper", helper);
    } else if let Some(token) = token {
        used = &["token"];
        secret(view, "token", &token, host, sheet, reading);
    } else if let (Some(user), Some(pass)) = (user, pass) {
        used = &["user", "pass"];
        sheet.credentials.text("username", user);
        secret(view, "password", &pass, host, sheet, reading);
    }
    for key in ["credHelper", "token", "user", "pass"].into_iter().filter(|key| !used.contains(key)) {
        if used.is_empty() {
            unknown(fields, key, "is not understood: write `credentials`", sheet, reading);
        } else {
            remark(fields, key, "is left out", sheet, reading);
        }
    }
}

fn helper(written: &str) -> Option<&str> {
    let name = written.strip_prefix(HELPER)?;
    let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    good.then_some(name)
}

/// Never the secret itself; what is to be done where it stood there.
fn secret(view: &View<'_>, key: &str, text: &str, host: &RegistryHost, sheet: &mut Registry, reading: &mut Reading) {
    let map: &mut Map = &mut sheet.credentials;
    match Template::read(text, None).and_then(|template| template.content()) {
        Some(Content::Env(name)) => map.one(key, "env", name),
        Some(Content::File(path)) => map.one(key, "file", plain(&path)),
        Some(Content::Text) | None => {
            let name = variable(host, &key.to_uppercase());
            map.one(key, "env", name.clone());
            let message = format!("the {key} is not carried over: set the environment variable {name}");
            sheet.comments.push(reading.remark(view, message));
        }
    }
}

/// Nothing and 0 are no limit.
fn limits(fields: &Fields<'_>, sheet: &mut Registry, reading: &mut Reading) {
    match reading.number_of(fields, "reqPerSec") {
        None | Some(0.0) => {}
        Some(rate) if RATES.contains(&rate) => {
            sheet.limits.text("requests", format!("{}/min", (rate * 60.0).floor().max(1.0)));
        }
        Some(rate) => remark(fields, "reqPerSec", &format!("of {rate} cannot be said here: no limit"), sheet, reading),
    }
    match reading.number_of(fields, "reqConcurrent") {
        None | Some(0.0) => {}
        Some(most) if (1.0..=MOST_AT_ONCE).contains(&most) => sheet.limits.verbatim("concurrent", most.floor()),
        Some(most) if most > MOST_AT_ONCE => {
            sheet.limits.verbatim("concurrent", MOST_AT_ONCE);
            let about = format!("of {} is more than can be said here", told(&most.to_string()));
            remark(fields, "reqConcurrent", &about, sheet, reading);
        }
        Some(most) => unknown(fields, "reqConcurrent", &format!("of {most} is not understood"), sheet, reading),
    }
}

/// Says something of a key that is there.
fn remark(fields: &Fields<'_>, key: &str, about: &str, sheet: &mut Registry, reading: &mut Reading) {
    if let Some(view) = fields.get(key) {
        sheet.comments.push(reading.remark(view, format!("`{key}` {about}")));
    }
}

/// Says that a value is not understood.
fn unknown(fields: &Fields<'_>, key: &str, about: &str, sheet: &mut Registry, reading: &mut Reading) {
    if let Some(view) = fields.get(key) {
        sheet.comments.push(reading.unknown(view, format!("`{key}` {about}")));
    }
}
