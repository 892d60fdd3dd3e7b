//! Requests that reached a port of another kind than they are for: plain HTTP at a port for TLS, or TLS without the
//! certificate that the server wants. Servers say so in the page of a 400. The words for connections that end without
//! any answer are in [`super::trouble`].

use http::{Method, StatusCode};
use url::Url;

use super::Registry;
use super::answer::Answer;
use super::locate;
use super::scope::Scopes;
use super::transport::{Call, SMALL};
use super::trouble::Trouble;

/// Words of servers to plain HTTP at a port for TLS: Go's, nginx, Apache, Tomcat.
const WANT_TLS: [&str; 4] = [
    "HTTP request to an HTTPS server",
    "plain HTTP request was sent to HTTPS port",
    "plain HTTP to an SSL-enabled server port",
    "combination of host and port requires TLS",
];

/// Words of nginx to a client without a certificate, and to one whose certificate it does not take.
const WANT_CERTIFICATE: &str = "No required SSL certificate was sent";
const REFUSE_CERTIFICATE: &str = "The SSL certificate error";

/// Why an answer is no registry's, where it says that the request was of the wrong kind.
pub(crate) fn of_answer(status: StatusCode, body: &[u8], url: &Url) -> Option<Trouble> {
    if status != StatusCode::BAD_REQUEST {
        return None;
    }
    let says = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
    let host = locate::site(url);
    let told = match url.scheme() {
        "http" if WANT_TLS.iter().any(|text| says(text)) => format!("{host} speaks TLS; leave `plain_http` out"),
        "https" if says(WANT_CERTIFICATE) => {
            format!("{host} wants a certificate of ours; name its file in `tls.certificate`")
        }
        "https" if says(REFUSE_CERTIFICATE) => {
            format!("{host} does not take our certificate; see `tls.certificate`")
        }
        _ => return None,
    };
    Some(Trouble::Unusable(told))
}

impl Registry {
    /// The same of a 400 to a HEAD, which has no page: a GET of the API gets the page. `None` where the registry itself
    /// refused what was asked.
    pub(super) async fn misdirection(&self, call: &Call, answer: &Answer) -> Option<Trouble> {
        if call.method != Method::HEAD || answer.status != StatusCode::BAD_REQUEST || answer.elsewhere {
            return None;
        }
        let mut look = Call::read(Method::GET, self.base.join("v2/").ok()?, Scopes::none());
        let page = async { self.whole(self.exchange(&mut look, &self.base, None).await?, SMALL).await };
        let answer = tokio::time::timeout(self.tempo.header.unwrap_or(self.tempo.idle), page).await.ok()?.ok()?;
        of_answer(answer.status, &answer.bytes(), &answer.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_a_wrong_port_names_cause_and_remedy() {
        let said = |status: u16, scheme: &str, body: &str| {
            let url = format!("{scheme}://h:5000/v2/").parse().unwrap();
            let trouble = of_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes(), &url);
            trouble.map(|trouble| trouble.detail().to_owned())
        };
        for page in [
            "Client sent an HTTP request to an HTTPS server.\n",
            "<center>The plain HTTP request was sent to HTTPS port</center>",
            "<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
            "Bad Request\nThis combination of host and port requires TLS.\n",
        ] {
            assert_eq!(said(400, "http", page).as_deref(), Some("http://h:5000 speaks TLS; leave `plain_http` out"));
            assert_eq!(said(400, "https", page), None);
            assert_eq!(said(404, "http", page), None);
        }
        let page = "<center>No required SSL certificate was sent</center>";
        let told = "https://h:5000 wants a certificate of ours; name its file in `tls.certificate`";
        assert_eq!(said(400, "https", page).as_deref(), Some(told));
        let page = "<center>The SSL certificate error</center>";
        let told = "https://h:5000 does not take our certificate; see `tls.certificate`";
        assert_eq!(said(400, "https", page).as_deref(), Some(told));
        assert_eq!(said(400, "https", r#"{"errors":[{"code":"NAME_INVALID"}]}"#), None);
    }
}
