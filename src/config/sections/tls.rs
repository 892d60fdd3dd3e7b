//! Section `tls` of a registry: certificate authorities and a client certificate.

use std::path::PathBuf;

use crate::config::keys::table::{ANY, SafeForm, Shape, Table, key};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::node::Node;
use crate::registry::{Pem, Tls};

pub(crate) static TLS: Table = Table {
    place: "under `tls`",
    groups: &[&[
        key(
            "ca",
            ANY,
            "PEM file with authorities that transship trusts in addition to those of the system.",
            r#""/etc/transship/ca.pem""#,
        )
        .safe_as(SafeForm::Path),
        key(
            "certificate",
            ANY,
            "PEM file with the client certificate, for servers that request one.",
            r#""/etc/transship/me.pem""#,
        )
        .safe_as(SafeForm::Path),
        key(
            "key",
            ANY,
            "PEM file with the private key of the certificate. Default: the file of the certificate.",
            r#""/etc/transship/me.key""#,
        )
        .safe_as(SafeForm::Path),
        key(
            "insecure_skip_verify",
            Shape::Bool,
            "`true` verifies no certificate of this registry, its token service and its storage: an attacker can \
             steal credentials and change images. Each start logs a warning.",
            "true",
        )
        .with_default("false")
        .safe_as(SafeForm::Words),
    ]],
    required: &[],
};

/// Reads the section. If the value is not a map, returns `None`.
pub(crate) fn read_tls(reader: &Reader<'_>, value: &Value<'_>) -> Option<Tls> {
    if let Some(hint) = explain_switch(value.node) {
        reader.refuse_type_with_hint(value, "a map of keys like ca, certificate", hint);
        return None;
    }
    let fields = reader.fields(value, &TLS)?;
    let ca = fields.get("ca").and_then(|value| read_certificates(reader, value));
    let certificate = fields.get("certificate");
    // One file can contain both the certificate and the key.
    let key = fields.get("key").or(certificate);
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => read_identity(reader, certificate, key),
        (None, Some(key)) => {
            reader.refuse_with_hint(
                key,
                "a private key needs its certificate",
                "write the file of the certificate as `certificate`",
            );
            None
        }
        _ => None,
    };
    let insecure = fields.get("insecure_skip_verify").and_then(|value| reader.bool(value));
    fields.assert_all_read();
    Some(Tls { ca, identity, insecure_skip_verify: insecure.unwrap_or_default() })
}

/// Returns a remedy for a word that enables or disables TLS in other programs.
fn explain_switch(node: &Node) -> Option<&'static str> {
    let is_on = match node {
        Node::Bool(is_on) => *is_on,
        Node::Text(text) => match text.to_lowercase().as_str() {
            "enabled" | "on" | "yes" => true,
            "disabled" | "insecure" | "off" | "no" => false,
            _ => return None,
        },
        _ => return None,
    };
    Some(if is_on {
        "remove the key: transship uses TLS unless `plain_http: true` is written"
    } else {
        "write `plain_http: true` for HTTP, or `tls: {insecure_skip_verify: true}` to verify no certificate"
    })
}

fn read_identity(reader: &Reader<'_>, certificate: &Value<'_>, key: &Value<'_>) -> Option<(Pem, Pem)> {
    let certificate = read_certificates(reader, certificate)?;
    let path = read_pem_path(reader, key)?;
    let key = reader.accept(key, Pem::key(&path, &certificate))?;
    Some((certificate, key))
}

fn read_certificates(reader: &Reader<'_>, value: &Value<'_>) -> Option<Pem> {
    let path = read_pem_path(reader, value)?;
    reader.accept(value, Pem::certificates(&path))
}

/// Reads the path of a PEM file.
pub(crate) fn read_pem_path(reader: &Reader<'_>, value: &Value<'_>) -> Option<PathBuf> {
    // The text may be a private key, so the message does not repeat the text.
    if matches!(value.node, Node::Text(text) if text.contains("-----BEGIN")) {
        reader.refuse_with_hint(
            value,
            "expected the path of a file, found the content of a PEM file",
            "write the content to a file, and the path of the file here",
        );
        return None;
    }
    reader.path(value, "the path of a file")
}
