//! Translation of zot's `sync` extension: registries, each with the contents that zot polls. zot copies into itself, so
//! that the target is an option of the import. zot reads its keys without regard to upper and lower case.

mod content;
mod keys;
mod prefix;
mod upstream;

use super::access::{Access, PLAIN_HTTP, anonymous, insecure_tls};
use super::draft::{Draft, Entry};
use super::duration::{is_zero_interval, translate_duration};
use super::image_syncer::{AuthRules, read_auth};
use super::limits::set_limits;
use super::reading::{Fields, Reading, View, quoted};
use super::skopeo::Destination;
use super::treatment::unsupported_keys;
use crate::config::Node;
use crate::oci::RegistryHost;
use content::add_contents;
use upstream::{Upstream, fold};

/// Returns the `sync` extension of a file: the whole file, or the part of a configuration of zot.
pub(super) fn find_sync(root: &Node) -> Option<View<'_>> {
    let root = View::root(root);
    let below = find_folded(&root, "extensions").and_then(|view| find_folded(&view, "sync"));
    let sync = below.or_else(|| find_folded(&root, "sync")).unwrap_or(root);
    let registries = find_folded(&sync, "registries")?;
    let has_urls = |node: &Node| match node {
        Node::Map(keys) => keys.iter().any(|(key, _)| key.eq_ignore_ascii_case("urls")),
        _ => false,
    };
    matches!(registries.node, Node::List(items) if items.iter().any(has_urls)).then_some(sync)
}

/// Returns the value of a key, without regard to upper and lower case.
fn find_folded<'n>(view: &View<'n>, key: &str) -> Option<View<'n>> {
    view.find(|known| known.eq_ignore_ascii_case(key))
}

/// Translates the whole file. `separate` is the file of credentials, if there is one.
pub(super) fn translate(
    root: &Node,
    target: &Destination,
    separate: Option<(&Node, &mut Reading)>,
    reading: &mut Reading,
) -> Draft {
    let mut draft = Draft::default();
    draft.head.push("The import reads only zot's `sync` extension.".into());
    draft.head.push(
        "zot converts images of Docker's format unless `preserveDigest` is true; transship copies all images byte for \
         byte."
            .into(),
    );
    let sync = find_sync(root).unwrap_or_else(|| View::root(root));
    let fields = fold(reading.fields(&sync, "`sync`"), &keys::SYNC);
    draft.head.extend(unsupported_keys(&fields, &[&keys::SYNC], "`sync`", reading));
    let auth = separate.map(|(node, reading)| read_auth(&View::root(node), false, reading));
    if let (Some(view), None) = (fields.get("credentialsFile"), &auth) {
        let file = reading.text(view, "`credentialsFile`");
        let message = format!("`credentialsFile` {}: name this file by --auth FILE", quoted(&file));
        draft.head.push(reading.add_remark(view, message));
    }
    let auth = auth.unwrap_or_default();
    draft.head.extend(auth.comments());
    let is_disabled = reading.bool_of(&fields, "enable") == Some(false);
    let registries = fields.get("registries").map(|view| reading.items(view, "`registries`")).unwrap_or_default();
    for view in registries {
        add_registry(&view, target, (&auth, is_disabled), &mut draft, reading);
    }
    draft
}

fn add_registry(
    view: &View<'_>,
    target: &Destination,
    (auth, is_disabled): (&AuthRules, bool),
    draft: &mut Draft,
    reading: &mut Reading,
) {
    let fields = fold(reading.fields(view, "a registry"), &keys::REGISTRY);
    let unknown = reading.unknown;
    let mut comments = unsupported_keys(&fields, &[&keys::REGISTRY], "a registry", reading);
    let has_unknown = reading.unknown > unknown;
    let urls = reading.texts_of(&fields, "urls");
    let Some((host, is_plain)) = urls.first().and_then(|url| read_url(url)) else {
        let message = "the first of `urls` is not the URL of a registry: the registry is skipped";
        draft.head.push(reading.add_unknown(fields.get("urls").unwrap_or(view), message));
        return;
    };
    if let Some(view) = fields.get("urls").filter(|_| urls.len() > 1) {
        let message = "`urls` has further registries, which zot reads if the first one fails: write `mirrors: [HOST]`";
        comments.push(reading.add_remark(view, message));
    }
    let mut entry = Entry::default();
    set_registry(&host, is_plain, (&fields, comments), auth, &mut entry, draft, reading);
    set_rules(&mut entry, &fields, reading);
    if has_unknown {
        entry.skip("the registry has an unknown key, which may change the copied content");
    }
    if is_disabled {
        entry.skip("`enable: false` turns the synchronisation off");
    }
    let upstream = Upstream { host, target, entry };
    add_contents(view, &fields, &upstream, draft, reading);
}

/// Returns the host of a URL, and true for plain HTTP.
fn read_url(url: &str) -> Option<(RegistryHost, bool)> {
    let (scheme, rest) = url.split_once("://")?;
    let is_plain = match scheme.to_ascii_lowercase().as_str() {
        "http" => true,
        "https" => false,
        _ => return None,
    };
    let host = rest.trim_end_matches('/');
    // Three names stand for Docker Hub.
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
    Some((host.parse().ok()?, is_plain))
}

fn set_registry(
    host: &RegistryHost,
    is_plain: bool,
    (fields, mut comments): (&Fields<'_>, Vec<String>),
    auth: &AuthRules,
    entry: &mut Entry,
    draft: &mut Draft,
    reading: &mut Reading,
) {
    let is_insecure = reading.bool_of(fields, "tlsVerify") == Some(false) && !is_plain;
    let credentials = match reading.text_of(fields, "credentialHelper").as_deref() {
        None => auth.registry_credentials(host),
        Some(helper @ ("ecr" | "gcp")) => {
            let mut map = super::page::Map::default();
            map.verbatim(if helper == "ecr" { "aws" } else { "gcp" }, "{}");
            map
        }
        Some(_) => {
            let view = fields.get("credentialHelper");
            let message = "`credentialHelper` cannot be translated: write `credentials`";
            comments.extend(view.map(|view| reading.add_unknown(view, message)));
            super::page::Map::default()
        }
    };
    if let (Some(folder), Some(view)) = (reading.text_of(fields, "certDir"), fields.get("certDir")) {
        let message = format!(
            "`certDir` {}: name its files under `tls`: ca.crt as `ca`, client.cert as `certificate`, client.key as \
             `key`",
            quoted(&folder)
        );
        comments.push(reading.add_remark(view, message));
    }
    if draft.has_registry(host) {
        return add_second(host, (Access { credentials, is_insecure }, is_plain), comments, entry, draft);
    }
    let registry = draft.registry(host);
    registry.comments.extend(comments);
    registry.plain_http = is_plain;
    registry.credentials = credentials;
    registry.tls = insecure_tls(is_insecure);
    if is_insecure {
        registry.comments.push(PLAIN_HTTP.into());
    }
    set_limits(fields, registry, reading);
}

/// Compares a registry with an earlier one of the same host. Entries cannot have connection settings of their own.
fn add_second(
    host: &RegistryHost,
    (access, is_plain): (Access, bool),
    comments: Vec<String>,
    entry: &mut Entry,
    draft: &mut Draft,
) {
    entry.comments.extend(comments);
    let registry = draft.registry(host);
    if registry.plain_http != is_plain || registry.tls != insecure_tls(access.is_insecure) {
        entry.skip(format!("{host} occurs twice, with different connection settings"));
    }
    if registry.credentials != access.credentials {
        entry.source_credentials = if access.credentials.is_empty() { anonymous() } else { access.credentials };
    }
}

/// Translates the keys that all contents of a registry share. zot polls each registry at its start.
fn set_rules(entry: &mut Entry, fields: &Fields<'_>, reading: &mut Reading) {
    let is_on_demand = reading.bool_of(fields, "onDemand").unwrap_or(false);
    let interval = reading.text_of(fields, "pollInterval").filter(|interval| !is_zero_interval(interval));
    if is_on_demand {
        entry.comments.push(
            "zot also copies an image when a client pulls it (`onDemand`); transship copies by the schedule only."
                .into(),
        );
    }
    match interval {
        None if is_on_demand => entry.skip("zot copies these images only when a client pulls them (`onDemand`)"),
        None => entry.skip("zot never polls a registry without `pollInterval`"),
        Some(interval) => match translate_duration(&interval) {
            Some(schedule) => entry.rest.text("schedule", schedule),
            None => entry.skip(format!("the interval {} has no equivalent", quoted(&interval))),
        },
    }
    entry.rest.verbatim("on_start", true);
    if reading.bool_of(fields, "onlySigned") == Some(true) {
        entry.skip("`onlySigned` copies only signed images, and has no equivalent");
    }
    if reading.bool_of(fields, "syncLegacyCosignTags") == Some(false) {
        entry.skip(
            "`syncLegacyCosignTags: false` copies no signatures whose tag is made of the digest, and has no equivalent",
        );
    }
}
