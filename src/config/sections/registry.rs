//! Section `registries`: the options of one registry, by its host.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::credentials::{CREDENTIAL_ALTERNATIVES, CREDENTIALS, read_credentials};
use super::limits::{LIMITS, read_limits};
use super::transport::{TRANSPORT, read_transport};
use super::upload::{UPLOAD, read_upload};
use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::diagnostics::schema_place::is_host_like;
use crate::config::keys::schema::Secrecy;
use crate::config::keys::table::{Shape, Table, key};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::node::Node;
use crate::config::yaml::scalar;
use crate::oci::RegistryHost;
use crate::registry::{Flavor, Options};

/// Bounds of `max_manifest`, the size of the largest manifest that transship reads, in bytes.
pub(crate) const MANIFEST_BOUNDS: RangeInclusive<u64> = 4 << 20..=8 << 20;

pub(crate) static REGISTRY: Table = Table {
    place: "under a registry",
    groups: &[
        &[
            key(
                "credentials",
                Shape::OneOf(&CREDENTIALS, CREDENTIAL_ALTERNATIVES),
                "Credentials, of one of several kinds. Default: the docker configuration of this machine \
                 ($DOCKER_CONFIG/config.json, else ~/.docker/config.json, then $REGISTRY_AUTH_FILE, else podman's), \
                 else anonymous.",
                "",
            )
            .secret(),
            key(
                "plain_http",
                Shape::Bool,
                "`true` uses HTTP instead of HTTPS. transship never chooses HTTP automatically.",
                "true",
            )
            .with_default("false"),
            key(
                "kind",
                Shape::Word(&Flavor::KINDS),
                "Flavour of the registry. The key is needed if the host name does not show the flavour, for example \
                 with a domain of your own. Values: acr (Azure), ecr (Amazon), google, ghcr (GitHub), or plain. \
                 Default: by the host name.",
                r#""acr""#,
            ),
            key(
                "limits",
                Shape::Map(&LIMITS),
                "Limits of requests to the registry. All entries share the limits and take turns. Default: the limits \
                 of `profile`.",
                "",
            ),
            key(
                "max_manifest",
                Shape::Size,
                "Size of the largest manifest that transship reads from the registry, 4MiB to 8MiB. The copy of a \
                 larger manifest fails.",
                r#""8MiB""#,
            )
            .with_default(r#""4MiB""#),
            key(
                "upload",
                Shape::Map(&UPLOAD),
                "Form of blob uploads to the registry. Default: the form that the registry accepts.",
                "",
            ),
        ],
        TRANSPORT,
    ],
    required: &[],
};

/// Reads the options of all registries.
pub(crate) fn read_registries(reader: &Reader<'_>, value: &Value<'_>) -> BTreeMap<RegistryHost, Options> {
    let expected = "a map with the hosts of registries as its keys";
    match value.node {
        Node::Map(_) | Node::Null => {}
        Node::List(_) => {
            let hint = "write each registry without `- `, as in `ghcr.io: {plain_http: true}`";
            reader.refuse_type_with_hint(value, expected, hint);
        }
        _ => reader.refuse_type(value, expected),
    }
    let mut registries = BTreeMap::new();
    let mut places: BTreeMap<RegistryHost, Vec<usize>> = BTreeMap::new();
    for (name, value) in value.pairs() {
        let host: Result<RegistryHost, _> = name.parse();
        let options = read_options(reader, &value, host.as_ref().ok());
        let host = match host {
            Ok(host) => host,
            Err(error) => {
                let is_shown = reader.schema().may_show(name, Secrecy::Settings) && is_host_like(name);
                let message = if is_shown { error.to_string() } else { "this key is not a registry host".to_owned() };
                let found = Diagnostic::new(&value.path, Part::Key, message);
                let hint = host_in_url(name).filter(|_| is_shown);
                reader.add_problem(match hint {
                    Some(host) if name.starts_with("http://") => {
                        found.with_hint(format!("write `{host}`, and `plain_http: true` below it"))
                    }
                    Some(host) => found.with_hint(format!("write `{host}`")),
                    None => found,
                });
                continue;
            }
        };
        if let Some(first) = places.get(&host) {
            let also = if host.as_str() == name { String::new() } else { format!(", which is {host}") };
            let message = format!("duplicate registry `{name}`{also}");
            reader.add_problem(Diagnostic::new(&value.path, Part::Key, message).with_first(first, Part::Key));
        } else {
            places.insert(host.clone(), value.path.clone());
            registries.insert(host, options.unwrap_or_default());
        }
    }
    registries
}

/// Returns the host of a text that is a URL, or a host with a path.
fn host_in_url(text: &str) -> Option<RegistryHost> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split('/').next().and_then(|host| host.parse().ok())
}

/// Reads the options of the registry at `host`. `host` is `None` if the key is not a valid host.
fn read_options(reader: &Reader<'_>, value: &Value<'_>, host: Option<&RegistryHost>) -> Option<Options> {
    let fields = reader.fields(value, &REGISTRY)?;
    let credentials = match fields.get("credentials") {
        Some(value) => read_credentials(reader, value),
        None => Options::unlisted(reader.environment).credentials,
    };
    let plain_http = fields.get("plain_http").and_then(|value| reader.bool(value)).unwrap_or_default();
    let flavor = fields.get("kind").and_then(|value| read_kind(reader, value));
    let limits = fields.get("limits").and_then(|value| read_limits(reader, value)).unwrap_or_default();
    let upload = fields.get("upload").and_then(|value| read_upload(reader, value)).unwrap_or_default();
    let max_manifest = fields.get("max_manifest").and_then(|value| read_max_manifest(reader, value));
    let transport = read_transport(reader, &fields, plain_http, host);
    fields.assert_all_read();
    Some(Options { credentials, plain_http, flavor, limits, upload, max_manifest, transport })
}

fn read_max_manifest(reader: &Reader<'_>, value: &Value<'_>) -> Option<u64> {
    let size = reader.size(value, *MANIFEST_BOUNDS.start())?;
    if size > *MANIFEST_BOUNDS.end() {
        let most = scalar::format_size(*MANIFEST_BOUNDS.end());
        reader.refuse(value, format!("{} is too large: the maximum is {most}", scalar::format_size(size)));
    }
    // The minimum equals the default, which is `None`.
    Some(size).filter(|size| size > MANIFEST_BOUNDS.start())
}

fn read_kind(reader: &Reader<'_>, value: &Value<'_>) -> Option<&'static Flavor> {
    let text = reader.word_text(value, &Flavor::kinds_text())?;
    reader.accept(value, text.parse())
}
