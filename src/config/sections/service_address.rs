//! Checks of the addresses of cloud services. These services receive or return secrets.

use url::{Host, Url};

use crate::config::reader::{Reader, Value};
use crate::registry::is_loopback;

/// Address of the metadata service at Azure and Amazon.
pub(crate) const IMDS: &str = "http://169.254.169.254";

/// Reads an address. `check` validates the address.
pub(crate) fn read_address(
    reader: &Reader<'_>,
    value: &Value<'_>,
    check: fn(&str) -> Result<Url, &'static str>,
) -> Option<Url> {
    let text = reader.text(value, "an address")?;
    reader.accept(value, check(&text))
}

/// Checks the address of a service that receives secrets. The service must use TLS or run on this machine.
pub(crate) fn check_secret_address(text: &str) -> Result<Url, &'static str> {
    let url = parse_plain_url(text)
        .ok_or("expected an address like https://service.example, without user name and password")?;
    if url.scheme() == "https" || is_loopback(&url) {
        return Ok(url);
    }
    Err("transship sends secrets to this address: use https")
}

/// Checks the address of a metadata service, which returns secrets. The service must use TLS, run on this machine, or
/// have a link-local address.
pub(crate) fn check_metadata_address(text: &str) -> Result<Url, &'static str> {
    let url = parse_plain_url(text)
        .ok_or("expected an address like http://169.254.169.254, without user name and password")?;
    if url.scheme() == "https" || is_loopback(&url) || is_link_local(&url) {
        return Ok(url);
    }
    Err("a metadata service returns secrets: use https for any address but a loopback or link-local one")
}

fn parse_plain_url(text: &str) -> Option<Url> {
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
        // Amazon uses the range `fd00:ec2::/32` for metadata services.
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
            assert!(check_secret_address(good).is_ok() && check_metadata_address(good).is_ok(), "{good}");
        }
        for bad in ["http://sts.example", "http://localhost.example", "ftp://127.0.0.1", "127.0.0.1", "https://me:x@h/"]
        {
            assert!(check_secret_address(bad).is_err() && check_metadata_address(bad).is_err(), "{bad}");
        }
        for near in ["http://169.254.169.254", "http://metadata.google.internal", "http://[fd00:ec2::254]"] {
            assert!(check_secret_address(near).is_err() && check_metadata_address(near).is_ok(), "{near}");
        }
    }
}
