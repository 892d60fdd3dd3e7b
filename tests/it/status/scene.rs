//! States of a daemon that the tests make by hand and serve as the daemon serves its own, with a journal of past runs.

use std::net::SocketAddr;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use transship::config;
use transship::copy::event::{Arrival, ArrivalKind, BlobCounts};
use transship::journal::{Begun, Journal, Observation, Outcome, RunEnd, TagCounts, Trigger};
use transship::listen::{Listener, serve_routes};
use transship::oci::{Digest, ManifestRef, MediaType, Tag};
use transship::status::{Metrics, Port, Snapshot};

/// Port that serves one state until the value is dropped.
pub struct Served {
    pub address: SocketAddr,
    shutdown: CancellationToken,
    _runtime: Runtime,
    _folder: Option<TempDir>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Serves a state without a journal.
pub fn serve(snapshot: Snapshot) -> Served {
    serve_with(snapshot, None)
}

/// Serves a state with a journal that has runs of these entries, and evidence and observations of their tags.
pub fn serve_with_history(snapshot: Snapshot, entries: &[&str]) -> Served {
    serve_with(snapshot, Some(entries))
}

fn serve_with(snapshot: Snapshot, entries: Option<&[&str]>) -> Served {
    let environment = |name: &str| (name == "HOME").then(|| "/nowhere".to_owned());
    let config = config::parse("sync.yaml", "version: 1\nsync: []\n", &environment).unwrap();
    let (_, config) = watch::channel(Arc::new(config));
    let (_, snapshots) = watch::channel(Arc::new(snapshot));
    let metrics = Arc::new(Metrics::new("0", Utc::now()));
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(Listener::tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let (address, shutdown) = (listener.address().unwrap(), CancellationToken::new());
    let mut port = Port::new(snapshots, metrics, Arc::new(Utc::now), config);
    let folder = entries.map(|entries| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let journal = Journal::open(&path).unwrap();
        runtime.block_on(record_history(&journal, entries));
        drop(journal);
        port = port.clone().with_history(Arc::new(Journal::open_existing(&path).unwrap()));
        folder
    });
    runtime.spawn(serve_routes(listener, port.router(), &[], shutdown.clone()));
    Served { address, shutdown, _runtime: runtime, _folder: folder }
}

/// Records runs with growing sizes: the first entry has one run, each other entry has twelve, of which some fail.
async fn record_history(journal: &Journal, entries: &[&str]) {
    for (place, entry) in entries.iter().enumerate() {
        let runs = if place == 0 { 1 } else { 12 };
        for number in 0..runs {
            let started = ago(60 * (runs - number));
            let Begun::Started(run) = journal.begin_run(entry, Trigger::Start, started).await.unwrap() else {
                panic!("a run of {entry} is in progress")
            };
            let fails = (number + place as i64) % 5 == 4;
            let outcome = if fails { Outcome::Failed } else { Outcome::Succeeded };
            let kind = [ArrivalKind::Tag, ArrivalKind::KeptPrevious, ArrivalKind::ReferrersList][number as usize % 3];
            let arrival = arrival(entry, kind, started);
            journal.record_arrival(run, entry, &arrival).await.unwrap();
            let seen = Observation {
                tag: arrival.tag.clone().unwrap(),
                source_digest: arrival.source_digest,
                target_digest: Some(arrival.digest),
            };
            journal.observe_tags(entry, &arrival.source, &arrival.target, vec![seen], started).await.unwrap();
            let error = fails.then(|| format!("source {}: listing tags: 503 Service Unavailable", arrival.source));
            let tags = TagCounts { copied: 1, unchanged: 40, failed: u64::from(fails), ..TagCounts::default() };
            let end = RunEnd { outcome, tags, bytes: 1 << (10 + 2 * number), error, deferred_until: None };
            journal.end_run(run, end, started + TimeDelta::seconds(95)).await.unwrap();
        }
    }
}

fn arrival(entry: &str, kind: ArrivalKind, time: DateTime<Utc>) -> Arrival {
    let name = match kind {
        ArrivalKind::Tag => "3.12.4-slim-bookworm".to_owned(),
        ArrivalKind::KeptPrevious => "3.12-slim.previous-0123456789ab".to_owned(),
        ArrivalKind::ReferrersList => format!("sha256-{}", "0123456789abcdef".repeat(4)),
    };
    let tag: Tag = name.parse().unwrap();
    Arrival {
        kind,
        listed: Vec::new(),
        source: format!("docker.io/library/{entry}"),
        source_reference: ManifestRef::Tag(tag.clone()),
        source_digest: Digest::of(b"source"),
        target: format!("registry.prod.example.com:5000/cache/{entry}"),
        tag: Some(tag),
        digest: Digest::of(name.as_bytes()),
        previous: None,
        media_type: MediaType::new("application/vnd.oci.image.index.v1+json"),
        manifests: 1,
        blobs: BlobCounts::default(),
        bytes: 48_000_000,
        source_identity: "anonymous".into(),
        target_identity: "mirror-bot".into(),
        left_behind: Vec::new(),
        started: time,
        ended: time,
    }
}

pub fn ago(minutes: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::minutes(minutes)
}

/// Returns an entry whose last run succeeded, or failed with this error.
pub fn entry(name: &str, failed: Option<&str>) -> Value {
    json!({
        "entry": name, "source": format!("docker.io/library/{name}"), "targets": [format!("prod.example/cache/{name}")],
        "schedule": "0 3 * * *", "timezone": "Europe/Berlin", "next_firing": ago(-90), "running": null,
        "last_run": {
            "run": 7, "outcome": if failed.is_some() { "failed" } else { "succeeded" }, "started": ago(4), "ended": ago(3),
            "counts": counts(u64::from(failed.is_some())), "bytes": 4096, "problems": failed.into_iter().collect::<Vec<_>>(),
        },
        "last_success": ago(300), "last_failure": failed.map(|_| ago(3)), "failures": if failed.is_some() { 4 } else { 0 },
    })
}

/// Returns the counts of a run with this number of failed tags.
pub fn counts(failed: u64) -> Value {
    json!({
        "copied": 2, "replaced": 0, "unchanged": 14, "held": 0, "blocked": 0, "deferred": 0, "conflict": 0,
        "failed": failed,
    })
}

/// Returns the state of a daemon that works, with these changes.
pub fn state(changes: &Value) -> Snapshot {
    let mut state = serde_json::to_value(Snapshot::starting(ago(5000))).unwrap();
    state["ready"] = true.into();
    state["loop_iterated_at"] = json!(Utc::now());
    state["journal"] = json!({"path": "/var/lib/transship/journal.db", "writable": true, "bytes": 65536});
    state["configuration"] = json!({"path": "/etc/transship/sync.yaml", "loaded_at": ago(100), "problem": null});
    for (key, value) in changes.as_object().unwrap() {
        state[key] = value.clone();
    }
    serde_json::from_value(state).unwrap()
}
