//! Connection options: decoder of the keys for connections to one registry, such as `tls`.

use super::registry_keys::{TIMEOUTS, TLS};
use crate::config::decode::path;
use crate::config::diagnostics::report::{Diagnostic, Part};
use crate::config::keys::MAX_WAIT;
use crate::config::reader::{Fields, Reader, Value};
use crate::config::yaml::node::Node;
use crate::oci::RegistryHost;
use crate::registry::{Mirror, Pem, Proxy, Timeouts, Tls, Transport};

/// Maximum number of mirrors: each may cost a request for content that no mirror has.
const MAX_MIRRORS: usize = 8;

/// Reads the keys of a registry that concern connections.
pub(crate) fn transport(
    reader: &Reader<'_>,
    fields: &Fields<'_>,
    plain_http: bool,
    host: Option<&RegistryHost>,
) -> Transport {
    let tls = fields.get("tls");
    if let Some(value) = tls.filter(|_| plain_http) {
        reader.wrong_with_hint(value, "there is no TLS by plain_http", "leave one of the two out");
    }
    let tls = tls.and_then(|value| read_tls(reader, value)).unwrap_or_default();
    let http1_only = fields.get("http1_only").and_then(|value| reader.bool(value)).unwrap_or_default();
    let proxy = fields.get("proxy").and_then(|value| proxy(reader, value));
    let path_prefix =
        fields.get("path_prefix").and_then(|value| reader.parsed(value, "a path like /artifactory/api/docker/x"));
    let token_service =
        fields.get("token_service").and_then(|value| reader.parsed(value, "a host like auth.example.com"));
    let timeouts = fields.get("timeouts").and_then(|value| timeouts(reader, value)).unwrap_or_default();
    let mirrors = fields.get("mirrors").and_then(|value| mirrors(reader, value, host)).unwrap_or_default();
    Transport { tls, http1_only, proxy: proxy.unwrap_or_default(), path_prefix, token_service, timeouts, mirrors }
}

/// Reads the mirrors of the registry at `host`. `host` is `None` if the key is not a valid host.
fn mirrors(reader: &Reader<'_>, value: &Value<'_>, host: Option<&RegistryHost>) -> Option<Vec<Mirror>> {
    let items = reader.texts(value, "a list of mirrors, each HOST or HOST/PREFIX")?;
    if items.len() > MAX_MIRRORS {
        reader.wrong(value, format!("these are {} mirrors: {MAX_MIRRORS} at most", items.len()));
        return None;
    }
    let mut mirrors: Vec<(Mirror, &Value<'_>)> = Vec::new();
    for item in &items {
        let Some(mirror) = reader.parsed::<Mirror>(item, "HOST or HOST/PREFIX") else { continue };
        if host == Some(&mirror.host) {
            reader.wrong(item, format!("{mirror} is the registry itself: a mirror is another one"));
        } else if let Some((_, first)) = mirrors.iter().find(|(other, _)| *other == mirror) {
            let message = format!("the mirror {mirror} is here twice");
            reader.add(Diagnostic::new(&item.path, Part::Value, message).first(&first.path, Part::Value));
        } else {
            mirrors.push((mirror, item));
        }
    }
    Some(mirrors.into_iter().map(|(mirror, _)| mirror).collect())
}

fn timeouts(reader: &Reader<'_>, value: &Value<'_>) -> Option<Timeouts> {
    let fields = reader.fields(value, &TIMEOUTS)?;
    let of = |key| fields.get(key).and_then(|value| reader.duration(value, 1..=MAX_WAIT));
    let timeouts = Timeouts { connect: of("connect"), idle: of("idle"), header: of("header") };
    fields.done();
    Some(timeouts)
}

fn proxy(reader: &Reader<'_>, value: &Value<'_>) -> Option<Proxy> {
    if *value.node == Node::Bool(false) {
        reader.wrong_with_hint(value, "expected http://HOST:PORT or none, found the boolean false", "write none");
        return None;
    }
    reader.parsed(value, "http://HOST:PORT or none")
}

fn read_tls(reader: &Reader<'_>, value: &Value<'_>) -> Option<Tls> {
    let fields = reader.fields(value, &TLS)?;
    let ca = fields.get("ca").and_then(|value| certificates(reader, value));
    let certificate = fields.get("certificate");
    // Many operators keep both in one file.
    let key = fields.get("key").or(certificate);
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => identity(reader, certificate, key),
        (None, Some(key)) => {
            reader.wrong_with_hint(key, "a key alone proves nothing", "write the certificate's file to `certificate`");
            None
        }
        _ => None,
    };
    let insecure = fields.get("insecure_skip_verify").and_then(|value| reader.bool(value));
    fields.done();
    Some(Tls { ca, identity, insecure_skip_verify: insecure.unwrap_or_default() })
}

fn identity(reader: &Reader<'_>, certificate: &Value<'_>, key: &Value<'_>) -> Option<(Pem, Pem)> {
    let certificate = certificates(reader, certificate)?;
    let path = file(reader, key)?;
    let key = reader.keep(key, Pem::key(&path, &certificate))?;
    Some((certificate, key))
}

fn certificates(reader: &Reader<'_>, value: &Value<'_>) -> Option<Pem> {
    let path = file(reader, value)?;
    reader.keep(value, Pem::certificates(&path))
}

/// Reads the path of a file in PEM form.
pub(crate) fn file(reader: &Reader<'_>, value: &Value<'_>) -> Option<std::path::PathBuf> {
    // The message does not repeat the text: it may be the key itself.
    if matches!(value.node, Node::Text(text) if text.contains("-----BEGIN")) {
        reader.wrong_with_hint(value, "expected the path of a file, found what should be in it", "write it to a file");
        return None;
    }
    path(reader, value, "the path of a file")
}
