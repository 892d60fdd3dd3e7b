//! HTTP request to a registry or to a token service: method, URL, headers, body, and the expected answer. The request
//! has no credentials. The operation of the request determines the retry policy and the limits.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use super::body::Outgoing;
use super::error::TransportError;
use super::retry::Operation;
use crate::registry::limits::concurrency::RequestClass;
use crate::registry::limits::pace::Class;

/// Default maximum length of an answer that is not a blob, in bytes.
pub(crate) const SMALL: usize = 64 * 1024;

/// HTTP request without credentials. The client can send the request several times.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    pub(crate) operation: Operation,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    pub(crate) expects: Expects,
    /// True if the request uses the referrers API.
    pub(crate) lists_referrers: bool,
    /// True if the client returns a redirect to a storage service as the answer, and does not follow the redirect.
    pub(crate) stops_at_store: bool,
}

/// Body of a request.
#[derive(Debug)]
pub(crate) enum Payload {
    Empty,
    /// Body in memory. The client can send the body several times.
    Bytes(Bytes),
    /// Streamed body. The client can send the body only once.
    Stream(Outgoing),
}

/// Expected body of the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expects {
    /// Body of at most this many bytes, which the client reads completely.
    Small(usize),
    /// Blob, which the caller reads piece by piece.
    Blob(RequestClass),
}

impl HttpRequest {
    /// Creates a request without a body. The client accepts an answer of at most 64 KiB ([`SMALL`]).
    pub(crate) fn new(operation: Operation, method: Method, url: Url) -> Self {
        let (headers, payload, expects) = (HeaderMap::new(), Payload::Empty, Expects::Small(SMALL));
        Self { operation, method, url, headers, payload, expects, lists_referrers: false, stops_at_store: false }
    }

    /// Returns the class of the request, for the concurrency limiter.
    pub(crate) fn request_class(&self) -> RequestClass {
        match (self.expects, self.operation) {
            (_, Operation::Token) => RequestClass::Token,
            (Expects::Blob(class), _) => class,
            (Expects::Small(_), Operation::Chunk | Operation::Commit | Operation::Streamed) => RequestClass::Continued,
            (Expects::Small(_), _) => RequestClass::Common,
        }
    }

    /// Returns the class of the request, for rate limits.
    pub(crate) fn rate_class(&self) -> Class {
        match self.operation {
            Operation::Read | Operation::MirrorManifest | Operation::FindBlob | Operation::FindBlobOnce
                if self.lists_referrers =>
            {
                Class::ReferrerList
            }
            Operation::Read | Operation::MirrorManifest | Operation::FindBlob | Operation::FindBlobOnce => Class::Read,
            Operation::Token => Class::Token,
            Operation::Delete => Class::Delete,
            Operation::OpenUpload | Operation::Mount => Class::Upload,
            Operation::Chunk
            | Operation::Commit
            | Operation::Streamed
            | Operation::WriteManifest
            | Operation::CancelUpload => Class::Write,
        }
    }

    pub(crate) fn can_be_sent_again(&self) -> bool {
        !matches!(self.payload, Payload::Stream(_))
    }

    /// Returns the length of the request's body if the body is in memory, otherwise 0.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        match &self.payload {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Empty | Payload::Stream(_) => 0,
        }
    }

    /// Builds the request for the HTTP client. After a redirect, `url` differs from the URL of this request. Moves a
    /// streamed body out of `self`.
    pub(super) fn build(
        &mut self,
        url: Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<reqwest::Request, TransportError> {
        let mut request = reqwest::Request::new(self.method.clone(), url);
        request.headers_mut().clone_from(&self.headers);
        if let Some(authorization) = authorization {
            request.headers_mut().insert(http::header::AUTHORIZATION, authorization.clone());
        }
        match &mut self.payload {
            Payload::Empty => {}
            Payload::Bytes(bytes) => *request.body_mut() = Some(bytes.clone().into()),
            Payload::Stream(outgoing) => {
                let body = outgoing
                    .take()
                    .ok_or_else(|| TransportError::Unusable("the bytes have been sent already".to_owned()))?;
                *request.body_mut() = Some(body);
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_class_follows_from_the_operation() {
        let request = |operation| HttpRequest::new(operation, Method::GET, "https://h/v2/".parse().unwrap());
        for (operation, class) in [
            (Operation::Read, Class::Read),
            (Operation::Token, Class::Token),
            (Operation::Delete, Class::Delete),
            (Operation::OpenUpload, Class::Upload),
            (Operation::Chunk, Class::Write),
            (Operation::Commit, Class::Write),
            (Operation::Streamed, Class::Write),
            (Operation::WriteManifest, Class::Write),
            (Operation::CancelUpload, Class::Write),
        ] {
            assert_eq!(request(operation).rate_class(), class, "{operation:?}");
        }
        let lists = HttpRequest { lists_referrers: true, ..request(Operation::Read) };
        assert_eq!(lists.rate_class(), Class::ReferrerList);
    }
}
