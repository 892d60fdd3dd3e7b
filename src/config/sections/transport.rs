//! Keys of a registry about connections, such as `proxy` and `mirrors`.

use super::timeouts::{TIMEOUTS, read_timeouts};
use super::tls::{TLS, read_tls};
use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::keys::table::{Key, SafeForm, Shape, key};
use crate::config::reader::{Fields, Reader, Value};
use crate::config::yaml::node::Node;
use crate::oci::RegistryHost;
use crate::registry::{Mirror, Proxy, Transport};

/// Maximum number of mirrors. A run can ask each mirror for the same content, so the number has a limit.
const MAX_MIRRORS: usize = 8;

/// Keys of a registry about connections.
pub(crate) const TRANSPORT: &[Key] = &[
    key("tls", Shape::Map(&TLS), "Certificates, if the authorities of the system are not enough.", "").secret(),
    key(
        "http1_only",
        Shape::Bool,
        "`true` uses only HTTP/1.1, for servers and proxies that do not handle HTTP/2 \
        well.",
        "true",
    )
    .with_default("false"),
    key(
        "proxy",
        Shape::Text { pattern: "^(none|https?://.+)$" },
        "Proxy: http://HOST:PORT, http://USER:PASSWORD@HOST:PORT (percent-encoded, never shown), or none. Default: \
         HTTPS_PROXY, HTTP_PROXY and NO_PROXY.",
        r#""http://proxy.example.com:3128""#,
    )
    .secret()
    .safe_as(SafeForm::Host),
    key(
        "path_prefix",
        Shape::Text { pattern: "^/[A-Za-z0-9._~/-]+$" },
        "Path before /v2/ in the addresses of the API, for a registry that is not at the root of its host.",
        r#""/artifactory/api/docker/images""#,
    ),
    key(
        "token_service",
        Shape::Text { pattern: "^[^@ ]+$" },
        "Token service that may get the credentials at any address: HOST, HOST:PORT or a URL. Without this key, a \
         token service gets no credentials in two cases: the token service is at a private address and the registry is \
         not; or the token service is on another host than the registry and uses plain HTTP.",
        r#""auth.example.com""#,
    )
    .secret(),
    key("timeouts", Shape::Map(&TIMEOUTS), "Time limits of requests, each 1s to 1h.", ""),
    key(
        "mirrors",
        Shape::Texts { filled: false },
        "Pull-through mirrors that transship reads manifests and blobs from first, in this order: HOST or HOST/PREFIX \
         (the prefix precedes the repository's name), at most 8. Content that no mirror has is read from the registry \
         itself. Tags are always read from the registry itself. The settings of a mirror are under the mirror's own \
         host. A key `mirrors` there applies only to entries that read from that host directly.",
        r#"["mirror.example.com:5000", "harbor.example.com/hub-proxy"]"#,
    ),
];

pub(crate) fn read_transport(
    reader: &Reader<'_>,
    fields: &Fields<'_>,
    plain_http: bool,
    host: Option<&RegistryHost>,
) -> Transport {
    let tls = fields.get("tls");
    if let Some(value) = tls.filter(|_| plain_http) {
        reader.refuse_with_hint(value, "`tls` has no effect with `plain_http`", "remove one of the two keys");
    }
    let tls = tls.and_then(|value| read_tls(reader, value)).unwrap_or_default();
    let http1_only = fields.get("http1_only").and_then(|value| reader.bool(value)).unwrap_or_default();
    let proxy = fields.get("proxy").and_then(|value| read_proxy(reader, value));
    let path_prefix =
        fields.get("path_prefix").and_then(|value| reader.parsed(value, "a path like /artifactory/api/docker/x"));
    let token_service =
        fields.get("token_service").and_then(|value| reader.parsed(value, "a host like auth.example.com"));
    let timeouts = fields.get("timeouts").and_then(|value| read_timeouts(reader, value)).unwrap_or_default();
    let mirrors = fields.get("mirrors").and_then(|value| read_mirrors(reader, value, host)).unwrap_or_default();
    Transport { tls, http1_only, proxy: proxy.unwrap_or_default(), path_prefix, token_service, timeouts, mirrors }
}

/// Reads the mirrors of a registry. If the key of the registry is not a valid host, `host` is `None`.
fn read_mirrors(reader: &Reader<'_>, value: &Value<'_>, host: Option<&RegistryHost>) -> Option<Vec<Mirror>> {
    let items = reader.texts(value, "a list of mirrors, each HOST or HOST/PREFIX")?;
    if items.len() > MAX_MIRRORS {
        reader.refuse(value, format!("the list has {} mirrors, and at most {MAX_MIRRORS} are allowed", items.len()));
        return None;
    }
    let mut mirrors: Vec<(Mirror, &Value<'_>)> = Vec::new();
    for item in &items {
        let Some(mirror) = reader.parsed::<Mirror>(item, "HOST or HOST/PREFIX") else { continue };
        if host == Some(&mirror.host) {
            reader.refuse(item, format!("{mirror} is the registry itself: write another registry as its mirror"));
        } else if let Some((_, first)) = mirrors.iter().find(|(other, _)| *other == mirror) {
            let message = format!("duplicate mirror {mirror}");
            reader.add_problem(Diagnostic::new(&item.path, Part::Value, message).with_first(&first.path, Part::Value));
        } else {
            mirrors.push((mirror, item));
        }
    }
    Some(mirrors.into_iter().map(|(mirror, _)| mirror).collect())
}

fn read_proxy(reader: &Reader<'_>, value: &Value<'_>) -> Option<Proxy> {
    if *value.node == Node::Bool(false) {
        reader.refuse_with_hint(value, "expected http://HOST:PORT or none, found the boolean false", "write `none`");
        return None;
    }
    reader.parsed(value, "http://HOST:PORT or none")
}
