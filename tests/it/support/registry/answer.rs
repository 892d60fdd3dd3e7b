//! Builders of responses, with the error envelope of distribution-spec, "Error Codes".

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

/// Returns a response without a body.
pub(super) fn empty(status: u16, headers: &[(&'static str, String)]) -> Response {
    with(status, headers, Body::empty())
}

/// Returns a response with these headers and this body.
pub(super) fn with(status: u16, headers: &[(&'static str, String)], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("the status is valid");
    add(response.headers_mut(), headers);
    response
}

pub(super) fn add(to: &mut HeaderMap, headers: &[(&'static str, String)]) {
    for (name, value) in headers {
        to.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("the header value is valid"));
    }
}

/// Returns a 200 response with a JSON body.
pub(super) fn json(value: &serde_json::Value) -> Response {
    with(200, &[("content-type", "application/json".into())], value.to_string())
}

/// Returns an error in its envelope.
pub(super) fn error(status: u16, code: &str, detail: &str) -> Response {
    let message = code.to_lowercase().replace('_', " ");
    let body = serde_json::json!({"errors": [{"code": code, "message": message, "detail": detail}]});
    with(status, &[("content-type", "application/json".into())], body.to_string())
}

/// Returns the response to a method that the object does not support.
pub(super) fn not_allowed() -> Response {
    error(405, "UNSUPPORTED", "the method is not allowed here")
}

/// Returns a header's text; empty if the header is missing.
pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
