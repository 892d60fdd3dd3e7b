//! HTTP requests to one registry: connections, retries, redirects, responses, and parsers for response headers.

pub(super) mod blob_body;
pub(super) mod body;
pub(super) mod challenge;
pub(super) mod connect;
pub(super) mod context;
pub(super) mod denial;
pub(super) mod error;
pub(super) mod examine;
pub(super) mod exchange;
pub(super) mod hints;
pub(super) mod link_header;
pub(super) mod nearness;
pub(super) mod pagination;
pub(super) mod redact;
pub(super) mod redirect;
pub(super) mod request;
pub(super) mod resolver;
pub(super) mod response;
pub(super) mod retry;
pub(super) mod retry_budget;
pub(super) mod send;
pub(super) mod sender;
mod tls_config;
pub(super) mod wrong_port;
