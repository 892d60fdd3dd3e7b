//! What a meter saw: requests by kind, bytes, connections, and what was moved more often than needed.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use http::{Method, StatusCode};
use serde::Serialize;

/// All that passed one meter.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Counts {
    /// Kind, such as `blob GET`, to how many requests.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Kind and status of answers that were refusals.
    pub(crate) refused: BTreeMap<String, u64>,
    /// New connections.
    pub(crate) connections: u64,
    /// The most requests that were in progress at the same time.
    pub(crate) most_at_once: u64,
    /// Bytes of bodies that the registry sent.
    pub(crate) bytes_read: u64,
    /// Bytes of bodies that it was sent.
    pub(crate) bytes_written: u64,
    /// Blobs read more than once, manifests read more than once, and likewise written: how many times too often.
    pub(crate) duplicates: BTreeMap<String, u64>,
    /// Answered requests by what they moved, for the duplicates.
    #[serde(skip)]
    moved: HashMap<(&'static str, String), u64>,
    #[serde(skip)]
    pub(crate) last_commit: Option<Instant>,
}

/// A request, as far as it is counted.
#[derive(Debug)]
pub(crate) struct Asked {
    kind: String,
    /// What it moves, if it moves anything: the kind of thing and its name.
    moves: Option<(&'static str, String)>,
}

impl Asked {
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
    pub(crate) fn answered(&mut self, asked: Asked, status: StatusCode) {
        if status.is_client_error() || status.is_server_error() {
            *self.refused.entry(format!("{} {}", asked.kind, status.as_u16())).or_default() += 1;
        }
        *self.requests.entry(asked.kind).or_default() += 1;
        if let Some(moved) = asked.moves.filter(|_| status.is_success()) {
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

    pub(crate) fn of(&self, kind: &str) -> u64 {
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
