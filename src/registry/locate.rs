//! Addresses that a registry hands out (`Location`, `Link`, redirects): where they lead, and whether we go there.
//! Nothing is sent from here.

use url::Url;

/// Why an address is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Astray {
    #[error("the address it gave cannot be read")]
    Unreadable,
    #[error("it leads from HTTPS to plain HTTP at {0}, which is refused")]
    Downgrade(String),
    #[error("it leads to {0}, which is neither HTTP nor HTTPS")]
    Scheme(String),
}

/// Resolves `location` against the address that answered with it (RFC 3986), without user information.
pub(crate) fn follow(base: &Url, location: &str) -> Result<Url, Astray> {
    let mut url = base.join(location).map_err(|_| Astray::Unreadable)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Astray::Scheme(shown(&url)));
    }
    if base.scheme() == "https" && url.scheme() == "http" {
        return Err(Astray::Downgrade(shown(&url)));
    }
    // The HTTP client would send it as a credential that we did not choose.
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| Astray::Unreadable)?;
    url.set_fragment(None);
    Ok(url)
}

/// Whether two addresses have one scheme, host and port.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// The address as it may be shown: no user information, query or fragment.
pub(crate) fn shown(url: &Url) -> String {
    site(url) + url.path()
}

/// Scheme, host and port alone.
pub(crate) fn site(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base: &str, location: &str) -> Result<String, String> {
        follow(&base.parse().unwrap(), location).map(|url| url.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_location_is_resolved_by_rfc_3986() {
        let base = "https://h/v2/a/blobs/uploads/?mount=x";
        assert_eq!(at(base, "/v2/a/blobs/uploads/1?_state=s").unwrap(), "https://h/v2/a/blobs/uploads/1?_state=s");
        assert_eq!(at(base, "1?s").unwrap(), "https://h/v2/a/blobs/uploads/1?s");
        assert_eq!(at(base, "?s=2").unwrap(), "https://h/v2/a/blobs/uploads/?s=2");
        assert_eq!(at(base, "//other:8443/x").unwrap(), "https://other:8443/x");
        assert_eq!(at(base, "https://user:pass@h/x#f").unwrap(), "https://h/x");
        assert_eq!(at("http://h/", "https://h/x").unwrap(), "https://h/x");
    }

    #[test]
    fn a_way_to_plain_http_or_another_scheme_is_refused_and_shows_no_query() {
        assert_eq!(
            at("https://h/", "http://u:p@h:81/x?secret=1").unwrap_err(),
            "it leads from HTTPS to plain HTTP at http://h:81/x, which is refused"
        );
        assert_eq!(
            at("https://h/", "file:///etc/passwd").unwrap_err(),
            "it leads to file:///etc/passwd, which is neither HTTP nor HTTPS"
        );
    }

    #[test]
    fn default_ports_are_the_same_origin_and_other_ports_are_not() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        assert!(same_origin(&url("https://h/a"), &url("https://h:443/b?c")));
        for other in ["https://h:444/", "http://h/", "https://h.evil/", "https://i/"] {
            assert!(!same_origin(&url("https://h/"), &url(other)), "{other}");
        }
    }
}
