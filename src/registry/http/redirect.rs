//! URLs that a registry sends in `Location` and `Link`. The functions resolve a URL, add a missing path prefix, and
//! decide whether the client may follow the URL.

use http::HeaderMap;
use http::header::{LINK, LOCATION};
use url::Url;

/// Reason why the client does not follow a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RedirectError {
    #[error("the URL is not valid")]
    Unreadable,
    #[error("the URL must not lead from HTTPS to plain HTTP: {0}")]
    Downgrade(String),
    #[error("the URL {0} is neither HTTP nor HTTPS")]
    Scheme(String),
}

/// Resolves `location` against `base`, the URL of the response (RFC 3986). Removes user information and the fragment.
pub(crate) fn resolve_location(base: &Url, location: &str) -> Result<Url, RedirectError> {
    let mut url = base.join(location).map_err(|_| RedirectError::Unreadable)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(RedirectError::Scheme(shown(&url)));
    }
    if base.scheme() == "https" && url.scheme() == "http" {
        return Err(RedirectError::Downgrade(shown(&url)));
    }
    // The HTTP client would send the user information of the URL as credentials. The client must send only configured
    // credentials.
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| RedirectError::Unreadable)?;
    url.set_fragment(None);
    Ok(url)
}

/// Adds the path prefix of `base`, the base URL of the API, to `Location` and `Link` in a response. If a registry
/// behind a reverse proxy does not know the prefix, the registry sends `/v2/…` instead of `PREFIX/v2/…`. If `base` has
/// no prefix, the function does nothing.
pub(crate) fn add_prefix(base: &Url, headers: &mut HeaderMap) {
    if base.path() == "/" {
        return;
    }
    for (name, with_prefix) in [(LOCATION, prefixed as fn(&Url, &str) -> Option<String>), (LINK, prefixed_link)] {
        for value in headers.get_all(&name).iter().cloned().collect::<Vec<_>>() {
            let new = value.to_str().ok().and_then(|text| with_prefix(base, text)?.parse().ok());
            if let Some(new) = new {
                headers.insert(&name, new);
            }
        }
    }
}

/// Returns the URL of `target` with the prefix of `base`; `None` if `target` already has the prefix, or is not a URL of
/// the API.
fn prefixed(base: &Url, target: &str) -> Option<String> {
    let is_absolute = target.starts_with("/v2/") || target.contains("://");
    let mut url = base.join(target).ok().filter(|url| is_absolute && same_origin(url, base))?;
    if url.path().starts_with(base.path()) || !url.path().starts_with("/v2/") {
        return None;
    }
    let path = base.path().trim_end_matches('/').to_owned() + url.path();
    url.set_path(&path);
    Some(url.into())
}

/// Returns a `Link` header with the prefix added to the first link; `None` if the first link needs no prefix.
fn prefixed_link(base: &Url, value: &str) -> Option<String> {
    let (before, rest) = value.split_once('<')?;
    let (target, after) = rest.split_once('>')?;
    Some(format!("{before}<{}>{after}", prefixed(base, target.trim())?))
}

/// Returns true if two URLs have the same scheme, host and port.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// Returns the URL without user information, query and fragment, for display.
pub(crate) fn shown(url: &Url) -> String {
    site(url) + url.path()
}

/// Returns only the scheme, the host and the port of a URL.
pub(crate) fn site(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(base: &str, location: &str) -> Result<String, String> {
        resolve_location(&base.parse().unwrap(), location).map(|url| url.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn location_is_resolved_by_rfc_3986() {
        let base = "https://h/v2/a/blobs/uploads/?mount=x";
        assert_eq!(
            resolved(base, "/v2/a/blobs/uploads/1?_state=s").unwrap(),
            "https://h/v2/a/blobs/uploads/1?_state=s"
        );
        assert_eq!(resolved(base, "1?s").unwrap(), "https://h/v2/a/blobs/uploads/1?s");
        assert_eq!(resolved(base, "?s=2").unwrap(), "https://h/v2/a/blobs/uploads/?s=2");
        assert_eq!(resolved(base, "//other:8443/x").unwrap(), "https://other:8443/x");
        assert_eq!(resolved(base, "https://user:pass@h/x#f").unwrap(), "https://h/x");
        assert_eq!(resolved("http://h/", "https://h/x").unwrap(), "https://h/x");
    }

    #[test]
    fn unknown_prefix_is_added_to_location_and_link() {
        let base: Url = "https://h/art/x/".parse().unwrap();
        let location = |text| prefixed(&base, text);
        assert_eq!(location("/v2/a/b?c=%2F").as_deref(), Some("https://h/art/x/v2/a/b?c=%2F"));
        assert_eq!(location("https://h/v2/a").as_deref(), Some("https://h/art/x/v2/a"));
        for unchanged in
            ["/art/x/v2/a", "https://h/art/x/v2/a", "https://cdn/v2/a", "1?s", "?s", "/other", "http://h/v2/a"]
        {
            assert_eq!(location(unchanged), None, "{unchanged}");
        }
        let link = prefixed_link(&base, r#"</v2/a/tags/list?last=b>; rel="next""#);
        assert_eq!(link.as_deref(), Some(r#"<https://h/art/x/v2/a/tags/list?last=b>; rel="next""#));
        let mut headers = HeaderMap::from_iter([(LOCATION, "/v2/a".parse().unwrap())]);
        add_prefix(&"https://h/".parse().unwrap(), &mut headers);
        assert_eq!(headers[LOCATION], "/v2/a");
        add_prefix(&base, &mut headers);
        assert_eq!(headers[LOCATION], "https://h/art/x/v2/a");
    }

    #[test]
    fn downgrade_or_other_scheme_is_refused_without_its_query() {
        assert_eq!(
            resolved("https://h/", "http://u:p@h:81/x?secret=1").unwrap_err(),
            "the URL must not lead from HTTPS to plain HTTP: http://h:81/x"
        );
        assert_eq!(
            resolved("https://h/", "file:///etc/passwd").unwrap_err(),
            "the URL file:///etc/passwd is neither HTTP nor HTTPS"
        );
    }

    #[test]
    fn default_port_is_the_same_origin_another_is_not() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        assert!(same_origin(&url("https://h/a"), &url("https://h:443/b?c")));
        for other in ["https://h:444/", "http://h/", "https://h.evil/", "https://i/"] {
            assert!(!same_origin(&url("https://h/"), &url(other)), "{other}");
        }
    }
}
