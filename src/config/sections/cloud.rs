//! Sections `aws` and `gcp` under `credentials`: identities at Amazon and Google. Also the checks of addresses to which
//! the secrets of a cloud may be sent.

use url::{Host, Url};

use super::cloud_keys::{AWS, GCP};
use super::credentials::readable;
use crate::config::decode::path;
use crate::config::reader::{Reader, Value};
use crate::registry::{Aws, Gcp, Variables, is_loopback};

const METADATA: &str = "http://metadata.google.internal";

/// Address of the metadata services of Azure and of Amazon.
pub(crate) const IMDS: &str = "http://169.254.169.254";

/// Reads the identity at Amazon. Returns `None` if the reader kept a problem.
pub(crate) fn aws(reader: &Reader<'_>, value: &Value<'_>) -> Option<Aws> {
    let fields = reader.fields(value, &AWS)?;
    let place = |key| fields.get(key).map(|value| address(reader, value, secret_place));
    let region = fields.get("region").map(|value| region(reader, value));
    let profile = fields.get("profile").map(|value| reader.text(value, "the name of a profile"));
    let (endpoint, sts) = (place("endpoint"), place("sts"));
    let imds = fields.get("imds").map_or_else(|| IMDS.parse().ok(), |value| address(reader, value, near_place));
    fields.done();
    Some(Aws {
        region: region.map_or(Some(None), |region| region.map(Some))?,
        profile: profile.map_or(Some(None), |profile| profile.map(Some))?,
        endpoint: endpoint.map_or(Some(None), |place| place.map(Some))?,
        sts: sts.map_or(Some(None), |place| place.map(Some))?,
        imds: imds?,
        variables: Variables::from_environment(reader.environment),
    })
}

/// Reads the identity at Google. Returns `None` if the reader kept a problem.
pub(crate) fn gcp(reader: &Reader<'_>, value: &Value<'_>) -> Option<Gcp> {
    let fields = reader.fields(value, &GCP)?;
    let said = |name: &str| (reader.environment)(name).filter(|text| !text.is_empty());
    let file = |value: &Value<'_>| {
        let file = path(reader, value, "the path of a service account's key")?;
        reader.keep(value, readable(&file))?;
        Some(file)
    };
    let key = match fields.get("key") {
        Some(value) => file(value).map(Some),
        // An operator who names the address of the metadata service wants no token from a key.
        None if fields.has("metadata") => Some(None),
        None => Some(said("GOOGLE_APPLICATION_CREDENTIALS").map(Into::into)),
    };
    let metadata = match (fields.get("metadata"), said("GCE_METADATA_HOST")) {
        (Some(value), _) => address(reader, value, near_place),
        (None, Some(host)) => {
            let said = |what| format!("the environment variable GCE_METADATA_HOST: {what}");
            reader.keep(value, near_place(&format!("http://{host}")).map_err(said))
        }
        (None, None) => reader.keep(value, near_place(METADATA)),
    };
    fields.done();
    Some(Gcp { key: key?, metadata: metadata? })
}

fn region(reader: &Reader<'_>, value: &Value<'_>) -> Option<String> {
    let text = reader.text(value, "a region like eu-west-1")?;
    // The region becomes a part of an address.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        reader.wrong(value, "a region has small letters, digits and `-` alone, like eu-west-1");
        return None;
    }
    Some(text)
}

fn address(reader: &Reader<'_>, value: &Value<'_>, read: fn(&str) -> Result<Url, &'static str>) -> Option<Url> {
    let text = reader.text(value, "an address")?;
    reader.keep(value, read(&text))
}

/// Checks the address of a service that receives secrets: it uses TLS or is on this machine.
pub(crate) fn secret_place(text: &str) -> Result<Url, &'static str> {
    let url = plain(text).ok_or("expected an address like https://service.example, without user name and password")?;
    if url.scheme() == "https" || is_loopback(&url) {
        return Ok(url);
    }
    Err("this address is shown secrets: it is asked by https alone")
}

/// Checks the address of a metadata service, which gives out secrets: it is near or uses TLS.
pub(crate) fn near_place(text: &str) -> Result<Url, &'static str> {
    let url = plain(text).ok_or("expected an address like http://169.254.169.254, without user name and password")?;
    if url.scheme() == "https" || is_loopback(&url) || is_link_local(&url) {
        return Ok(url);
    }
    Err("a metadata service gives secrets: other than 169.254.0.0/16 and the like, it is asked by https alone")
}

fn plain(text: &str) -> Option<Url> {
    let url: Url = text.parse().ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none();
    plain.then_some(url)
}

fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => matches!(name, "metadata.google.internal" | "metadata"),
        Some(Host::Ipv4(address)) => address.is_link_local(),
        // Amazon assigned the second range to its own services.
        Some(Host::Ipv6(address)) => address.is_unicast_link_local() || address.segments()[..2] == [0xfd00, 0xec2],
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_tls_or_stay_on_this_machine() {
        for good in ["https://sts.example/", "http://127.0.0.1:9", "http://[::1]/x", "http://localhost:80"] {
            assert!(secret_place(good).is_ok() && near_place(good).is_ok(), "{good}");
        }
        for bad in ["http://sts.example", "http://localhost.example", "ftp://127.0.0.1", "127.0.0.1", "https://me:x@h/"]
        {
            assert!(secret_place(bad).is_err() && near_place(bad).is_err(), "{bad}");
        }
        for near in ["http://169.254.169.254", "http://metadata.google.internal", "http://[fd00:ec2::254]"] {
            assert!(secret_place(near).is_err() && near_place(near).is_ok(), "{near}");
        }
    }
}
