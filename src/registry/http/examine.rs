//! First request of `login-check` to a server: a GET without credentials over a new connection, without retries.
//! `login-check` inspects the server's certificate on this connection.

use bytes::BytesMut;
use http::{Method, Version};
use reqwest::tls::TlsInfo;

use super::connect;
use super::context::Context;
use super::error::describe;
use super::request::{HttpRequest, SMALL};
use super::response::{Body, Response, ResponseHead};
use super::retry::Operation;
use super::sender::Sender;
use super::wrong_port;
use crate::registry::limits::concurrency::Permit;
use crate::store::{ErrorKind, StoreError};

/// Answer to the first request of `login-check`. The client has not read the body of the answer yet.
pub(crate) struct Examined {
    pub(crate) head: ResponseHead,
    pub(crate) version: Version,
    response: reqwest::Response,
    _permit: Permit,
}

impl Examined {
    /// Returns the server's certificate in DER form; `None` if the server sent no certificate.
    pub(crate) fn certificate(&self) -> Option<&[u8]> {
        self.response.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate)
    }
}

impl Sender {
    /// Opens a connection and requests `path` once.
    ///
    /// # Errors
    /// Returns an error if the server sends no answer.
    pub(crate) async fn examine(&self, context: &Context, path: &str) -> Result<Examined, StoreError> {
        let invalid = |detail: String| context.error(ErrorKind::Invalid, detail);
        let url = self.address(path).map_err(|error| invalid(error.to_string()))?;
        let http = connect::examining_client(&self.base, &self.retry_policy, &self.transport)
            .map_err(|error| invalid(error.without_url().to_string()))?;
        let request = HttpRequest::new(Operation::Read, Method::GET, url);
        let permit = self.acquire_permit(context.tenant, &request).await;
        let limit = self.retry_policy.total;
        let sent = tokio::time::timeout(limit, http.get(request.url.clone()).send()).await;
        let sent = sent.map_err(|_| {
            context.error(ErrorKind::Unavailable, format!("no answer within {}", humantime::format_duration(limit)))
        })?;
        self.meter.answered(&Method::GET, sent.as_ref().ok().map(reqwest::Response::status));
        let response = sent.map_err(|error| {
            let error = describe(&error, &request.url, &self.approach(&request.url));
            context.error(error.kind(), error.detail())
        })?;
        let (head, version) = (ResponseHead::from_reqwest(&response), response.version());
        Ok(Examined { head, version, response, _permit: permit })
    }

    /// Reads the beginning of the body, and returns the answer with this part of the body.
    ///
    /// # Errors
    /// Returns an error if the body reports that the port expects TLS or a client certificate.
    pub(crate) async fn read_examined(&self, context: &Context, examined: Examined) -> Result<Response, StoreError> {
        let Examined { head, mut response, .. } = examined;
        let mut body = BytesMut::new();
        while let Ok(Ok(Some(piece))) = tokio::time::timeout(self.retry_policy.idle, response.chunk()).await {
            body.extend_from_slice(&piece);
            if body.len() > SMALL {
                break;
            }
        }
        match wrong_port::error_from_response(head.status, &body, &head.url) {
            Some(error) => Err(context.error(error.kind(), error.detail())),
            None => Ok(head.with_body(Body::Whole(body.freeze()))),
        }
    }
}
