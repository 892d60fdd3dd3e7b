//! Detection of requests that do not fit the port: plain HTTP to a TLS port, or TLS without a required client
//! certificate. In both cases, the server answers 400 with a web page.

use http::{Method, StatusCode};
use url::Url;

use super::error::TransportError;
use super::exchange::Authorization;
use super::redirect;
use super::request::{HttpRequest, SMALL};
use super::response::Response;
use super::retry::Operation;
use super::sender::Sender;

/// Phrases by which servers report plain HTTP at a TLS port: Go's net/http, nginx, Apache, Tomcat.
const WANT_TLS: [&str; 4] = [
    "HTTP request to an HTTPS server",
    "plain HTTP request was sent to HTTPS port",
    "plain HTTP to an SSL-enabled server port",
    "combination of host and port requires TLS",
];

/// Phrase by which nginx reports a missing client certificate.
const WANT_CERTIFICATE: &str = "No required SSL certificate was sent";
/// Phrase by which nginx refuses a client certificate.
const REFUSE_CERTIFICATE: &str = "The SSL certificate error";

/// Returns the error if a response reports that the port expects TLS or a client certificate.
pub(crate) fn error_from_response(status: StatusCode, body: &[u8], url: &Url) -> Option<TransportError> {
    if status != StatusCode::BAD_REQUEST {
        return None;
    }
    let contains = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
    let host = redirect::site(url);
    let message = match url.scheme() {
        "http" if WANT_TLS.iter().any(|text| contains(text)) => format!("{host} requires TLS; remove `plain_http`"),
        "https" if contains(WANT_CERTIFICATE) => {
            format!("{host} requires a client certificate; set `tls.certificate` to its file")
        }
        "https" if contains(REFUSE_CERTIFICATE) => {
            format!("{host} rejected the client certificate; check `tls.certificate`")
        }
        _ => return None,
    };
    Some(TransportError::Unusable(message))
}

impl Sender {
    /// Returns the error if a 400 response to a HEAD means that the port expects TLS or a client certificate. A
    /// response to a HEAD has no body. The method therefore sends a GET to the root of the API, and reads the server's
    /// page. Returns `None` if the registry itself refused the request.
    pub(super) async fn check_protocol(&self, request: &HttpRequest, answer: &Response) -> Option<TransportError> {
        if request.method != Method::HEAD || answer.status != StatusCode::BAD_REQUEST || answer.elsewhere {
            return None;
        }
        let mut probe = HttpRequest::new(Operation::Read, Method::GET, self.base.join("v2/").ok()?);
        let page = self.exchange_whole(&mut probe, Authorization::anonymous(&self.base), SMALL);
        let limit = self.retry_policy.header.unwrap_or(self.retry_policy.idle);
        let answer = tokio::time::timeout(limit, page).await.ok()?.ok()?;
        error_from_response(answer.status, &answer.bytes(), &answer.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_of_a_wrong_port_names_cause_and_remedy() {
        let message_of = |status: u16, scheme: &str, body: &str| {
            let url = format!("{scheme}://h:5000/v2/").parse().unwrap();
            let error = error_from_response(StatusCode::from_u16(status).unwrap(), body.as_bytes(), &url);
            error.map(|error| error.detail().to_owned())
        };
        for page in [
            "Client sent an HTTP request to an HTTPS server.\n",
            "<center>The plain HTTP request was sent to HTTPS port</center>",
            "<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
            "Bad Request\nThis combination of host and port requires TLS.\n",
        ] {
            assert_eq!(
                message_of(400, "http", page).as_deref(),
                Some("http://h:5000 requires TLS; remove `plain_http`")
            );
            assert_eq!(message_of(400, "https", page), None);
            assert_eq!(message_of(404, "http", page), None);
        }
        let page = "<center>No required SSL certificate was sent</center>";
        let message = "https://h:5000 requires a client certificate; set `tls.certificate` to its file";
        assert_eq!(message_of(400, "https", page).as_deref(), Some(message));
        let page = "<center>The SSL certificate error</center>";
        let message = "https://h:5000 rejected the client certificate; check `tls.certificate`";
        assert_eq!(message_of(400, "https", page).as_deref(), Some(message));
        assert_eq!(message_of(400, "https", r#"{"errors":[{"code":"NAME_INVALID"}]}"#), None);
    }
}
