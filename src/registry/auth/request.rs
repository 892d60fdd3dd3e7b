//! Request to a registry with the credentials of one identity: the HTTP request, the scopes of the token, and the
//! effect on the pull quota.

use http::{HeaderValue, Method};
use url::Url;

use super::scope::Scopes;
use crate::registry::http::request::{Expects, HttpRequest, Payload};
use crate::registry::http::retry::Operation;
use crate::registry::limits::pull_quota::Reads;

/// Request to a registry. The client adds the credentials of one identity when the client sends the request.
#[derive(Debug)]
pub(crate) struct RegistryRequest {
    pub(super) http: HttpRequest,
    pub(super) scopes: Scopes,
    /// Effect of the request on the pull quota.
    pub(super) reads: Reads,
    /// True if the client sends credentials before the registry requires credentials.
    pub(super) is_preemptive: bool,
    /// True if the registry refused an earlier attempt of this request, and the attempt had no credentials.
    pub(super) was_refused: bool,
}

impl RegistryRequest {
    /// Creates a request without a body. The client accepts an answer of at most 64 KiB.
    pub(crate) fn new(operation: Operation, method: Method, url: Url, scopes: Scopes) -> Self {
        let http = HttpRequest::new(operation, method, url);
        Self { http, scopes, reads: Reads::Nothing, is_preemptive: false, was_refused: false }
    }

    /// Creates a GET or HEAD request.
    pub(crate) fn read(method: Method, url: Url, scopes: Scopes) -> Self {
        Self::new(Operation::Read, method, url, scopes)
    }

    pub(crate) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.http.headers.insert(name, value);
        self
    }

    pub(crate) fn payload(mut self, payload: Payload) -> Self {
        self.http.payload = payload;
        self
    }

    pub(crate) fn expects(mut self, expects: Expects) -> Self {
        self.http.expects = expects;
        self
    }

    pub(crate) fn reads(mut self, reads: Reads) -> Self {
        self.reads = reads;
        self
    }

    /// Marks the request as a request to the referrers API.
    pub(crate) fn listing_referrers(mut self) -> Self {
        self.http.lists_referrers = true;
        self
    }

    /// Makes the client accept a redirect to a storage service as the final answer. The client does not follow this
    /// redirect, because the signed URL can be valid only for GET. The client still follows a redirect to the same
    /// content at a registry.
    pub(crate) fn stopping_at_store(mut self) -> Self {
        self.http.stops_at_store = true;
        self
    }

    /// Makes the client send credentials before the registry requires credentials.
    pub(crate) fn with_credentials(self) -> Self {
        Self { is_preemptive: true, ..self }
    }

    /// Makes the client send credentials in the next attempts, because the registry refused the request without
    /// credentials.
    pub(super) fn add_credentials_after_refusal(&mut self) {
        (self.is_preemptive, self.was_refused) = (true, true);
    }

    /// Returns a HEAD request for the resource of this GET request, with the same retry policy.
    pub(super) fn to_head(&self) -> Self {
        let HttpRequest { operation, url, headers, .. } = &self.http;
        let mut head = Self::new(*operation, Method::HEAD, url.clone(), self.scopes.clone()).reads(Reads::Free);
        head.http.headers.clone_from(headers);
        head
    }
}
