//! Counts of the traffic through a meter: requests by kind, bytes, connections, and repeated transfers.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use http::{Method, StatusCode};
use serde::Serialize;

/// Traffic through one meter.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Counts {
    /// Number of requests by kind, such as `blob GET`.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Number of error responses, by kind of request and status.
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) connections: u64,
    /// Maximum number of concurrent requests.
    pub(crate) most_at_once: u64,
    /// Number of body bytes that the registry sent.
    pub(crate) bytes_read: u64,
    /// Number of body bytes that the registry received.
    pub(crate) bytes_written: u64,
    /// Number of reads and writes that transfer the same content again, by kind of request.
    pub(crate) duplicates: BTreeMap<String, u64>,
    /// Number of successful transfers of each content.
    #[serde(skip)]
    moved: HashMap<(&'static str, String), u64>,
    #[serde(skip)]
    pub(crate) last_commit: Option<Instant>,
}

/// Request with the kind under which the meter counts the request.
#[derive(Debug)]
pub(crate) struct CountedRequest {
    kind: String,
    /// Kind of the transfer, and digest or path of the content. `None` means that no content is transferred.
    moves: Option<(&'static str, String)>,
}

impl CountedRequest {
    pub(crate) fn read(method: &Method, path: &str, query: &str, is_continued: bool) -> Self {
        let kind = |object: &str| format!("{object} {method}");
        let digest = || parameter(query, "digest");
        if path.contains("/blobs/uploads/") {
            if method == Method::POST && query.contains("mount=") {
                return Self { kind: "mount POST".into(), moves: None };
            }
            let moves = digest().filter(|_| method == Method::PUT).map(|digest| ("blob PUT", digest));
            return Self { kind: kind("upload"), moves };
        }
        if let Some((_, digest)) = path.rsplit_once("/blobs/") {
            let reads = method == Method::GET && !is_continued;
            return Self { kind: kind("blob"), moves: reads.then(|| ("blob GET", digest.to_owned())) };
        }
        if path.contains("/manifests/") {
            let what = if method == Method::GET { "manifest GET" } else { "manifest PUT" };
            let moves = (method == Method::GET || method == Method::PUT).then(|| (what, path.to_owned()));
            return Self { kind: kind("manifest"), moves };
        }
        let object = match path {
            "/v2/" | "/v2" => "ping",
            "/v2/_catalog" => "catalog",
            _ if path.ends_with("/tags/list") => "tags",
            _ if path.contains("/referrers/") => "referrers",
            _ if path.contains("token") => "token",
            _ => "other",
        };
        Self { kind: kind(object), moves: None }
    }
}

impl Counts {
    pub(crate) fn answered(&mut self, request: CountedRequest, status: StatusCode) {
        if status.is_client_error() || status.is_server_error() {
            *self.refused.entry(format!("{} {}", request.kind, status.as_u16())).or_default() += 1;
        }
        *self.requests.entry(request.kind).or_default() += 1;
        if let Some(moved) = request.moves.filter(|_| status.is_success()) {
            if moved.0 == "manifest PUT" {
                self.last_commit = Some(Instant::now());
            }
            let times = self.moved.entry(moved.clone()).or_default();
            *times += 1;
            if *times > 1 {
                *self.duplicates.entry(moved.0.to_owned()).or_default() += 1;
            }
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.requests.values().sum()
    }

    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.requests.get(kind).copied().unwrap_or_default()
    }

    pub(crate) fn duplicate(&self, kind: &str) -> u64 {
        self.duplicates.get(kind).copied().unwrap_or_default()
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%3a", ":"))
}
