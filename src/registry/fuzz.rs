//! Fuzz targets of the parsers of response headers and lists.

use bytes::Bytes;
use chrono::DateTime;
use http::header::{LINK, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use url::Url;

use super::api::{blobs, catalog, tags};
use super::auth::realm;
use super::http::challenge::challenges;
use super::http::link_header::Pages;
use super::http::redirect;
use super::http::response::{self, Body, ResponseHead};
use super::upload::chunked;

fn headers(name: HeaderName, data: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(data).ok()?;
    Some(HeaderMap::from_iter([(name, value)]))
}

/// Parses a `Link` header. Asserts that the URL of the next page differs from the URL of the current page, and has the
/// same origin.
pub(crate) fn link(data: &[u8]) {
    let Some(headers) = headers(LINK, data) else { return };
    let page: Url = "https://registry.example.com/v2/a/tags/list?n=2".parse().expect("an address");
    if let Ok(Some(next)) = Pages::starting_at(&page).linked_page(&page, &headers) {
        assert!(redirect::same_origin(&page, &next), "{next} has another origin");
        assert_ne!(page, next);
    }
}

/// Parses a `WWW-Authenticate` header and the realm of each challenge. Asserts that every accepted realm uses HTTPS.
pub(crate) fn challenge(data: &[u8]) {
    let Some(headers) = headers(WWW_AUTHENTICATE, data) else { return };
    let registry: Url = "https://registry.example.com/".parse().expect("an address");
    for challenge in challenges(&headers) {
        assert_eq!(challenge.scheme, challenge.scheme.to_ascii_lowercase());
        let Some(text) = challenge.get("realm") else { continue };
        if let Ok(realm) = realm::read(text, &registry, None) {
            assert_eq!(realm.scheme(), "https", "credentials would go to {realm}");
        }
    }
}

/// Parses `data` as a `Content-Range` header of a blob, and as a `Range` header of an upload session. Asserts that a
/// valid `Range` header never states zero stored bytes.
pub(crate) fn range(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        blobs::first_byte(text);
    }
    let Some(headers) = headers(RANGE, data) else { return };
    let url = "https://registry.example.com/v2/a/blobs/uploads/1".parse().expect("an address");
    let (status, body) = (StatusCode::ACCEPTED, Body::Whole(Bytes::new()));
    let stored = chunked::stored_bytes(&ResponseHead::new(status, headers, url).with_body(body));
    assert_ne!(stored, Some(0), "a range has at least one byte");
}

/// Parses a `Retry-After` header. Asserts that the wait is at most [`response::LONGEST_WAIT`].
pub(crate) fn retry_after(data: &[u8]) {
    let Some(headers) = headers(RETRY_AFTER, data) else { return };
    if let Some(wait) = response::retry_after(&headers, DateTime::UNIX_EPOCH) {
        assert!(wait <= response::LONGEST_WAIT);
    }
}

/// Parses `data` as a page of a tag list: in the format of the specification, and in the format of Azure.
pub(crate) fn tag_page(data: &[u8]) {
    for entries in tags::read_every_form(data).into_iter().flatten() {
        assert!(entries <= data.len(), "a page has more names than bytes");
    }
}

/// Parses a page of a catalog.
pub(crate) fn catalog_page(data: &[u8]) {
    if let Ok(names) = catalog::read_names(data) {
        assert!(names.len() <= data.len(), "a page has more names than bytes");
    }
}
