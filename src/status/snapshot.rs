//! State of the daemon at one moment, as `/status` prints it and `transship status` reads it.
//!
//! Its JSON is a public interface: a field may be added at any time. A field is renamed or removed only with a new
//! `version`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::Warning;
use crate::journal::TagCounts;
use crate::json_form;
use crate::oci::Digest;

/// State of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The version of this format: 3. The version increases when a field is renamed, removed or gets another meaning.
    pub version: u32,
    /// The version of the program.
    #[serde(default)]
    pub program: String,
    /// The time at which the daemon started.
    #[serde(serialize_with = "json_form::instant")]
    pub started: DateTime<Utc>,
    /// The configuration in force.
    pub configuration: ConfigurationState,
    /// The entries of the configuration in force, in the order of the configuration.
    pub entries: Vec<EntryState>,
    /// Entries that are due and wait for one of the `daemon.entries_at_once` slots, in the order of their starts.
    #[serde(default)]
    pub waiting: Vec<WaitingState>,
    /// Blobs in transfer, the oldest first; 64 at most.
    pub in_flight: Vec<TransferState>,
    /// The number of blobs in transfer, including blobs that `in_flight` does not list.
    #[serde(default)]
    pub transfers: u64,
    /// The registries that received a request since the daemon started, by name.
    #[serde(default)]
    pub registries: Vec<RegistryState>,
    /// The last reported quotas of registries that count reads of manifests.
    #[serde(default)]
    pub quotas: Vec<Quota>,
    /// The last runs of all entries that failed or timed out, the latest first; 10 at most.
    #[serde(default)]
    pub recent_failures: Vec<FailedRun>,
    /// The warnings of the configuration in force, followed by the warnings of the last complete run of each entry. The
    /// warnings of a run are about selected items that the run did not find.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// The journal.
    pub journal: JournalState,
    /// The last time at which the daemon detected that the clock was set back by more than a minute; `None` if this did
    /// not happen since the daemon started.
    #[serde(default)]
    pub clock_set_back: Option<ClockSetback>,
    /// The time of the last iteration of the daemon's loop.
    #[serde(serialize_with = "json_form::instant")]
    pub loop_iterated_at: DateTime<Utc>,
    /// True while the daemon works. False while the daemon starts and while it shuts down.
    pub ready: bool,
}

/// Configuration in force, and the result of the last edit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigurationState {
    /// The path of the configuration file.
    pub path: String,
    /// The time at which the configuration in force was read; `None` before the first valid configuration.
    #[serde(serialize_with = "json_form::optional_instant")]
    pub loaded_at: Option<DateTime<Utc>>,
    /// The reasons why the last edit was rejected, as a text for people; `None` if the edit was applied.
    pub problem: Option<String>,
    /// The first reason why the last edit was rejected, as `FILE:LINE:COLUMN: PROBLEM`.
    #[serde(default)]
    pub first_problem: Option<String>,
    /// The time at which the last edit was rejected; `None` if the edit was applied.
    #[serde(default)]
    #[serde(serialize_with = "json_form::optional_instant")]
    pub refused_at: Option<DateTime<Utc>>,
}

/// State of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EntryState {
    /// The name of the entry.
    #[serde(rename = "entry")]
    pub name: String,
    /// The source, as in the configuration.
    pub source: String,
    /// The targets, as in the configuration.
    pub targets: Vec<String>,
    /// The cron expression, or `never`.
    pub schedule: String,
    /// The time zone of the schedule.
    pub timezone: String,
    /// The time of the next automatic run; `None` if the entry is paused or only runs manually.
    #[serde(serialize_with = "json_form::optional_instant")]
    pub next_firing: Option<DateTime<Utc>>,
    /// The time at which the entry resumes with its deferred tags, which wait until their source may be read again;
    /// `None` if no tag is deferred.
    #[serde(default)]
    #[serde(serialize_with = "json_form::optional_instant")]
    pub deferred_until: Option<DateTime<Utc>>,
    /// The run in progress; `None` if the entry is not running.
    pub running: Option<RunningState>,
    /// The last run that ended.
    pub last_run: Option<LastRun>,
    /// The end of the last successful run.
    #[serde(serialize_with = "json_form::optional_instant")]
    pub last_success: Option<DateTime<Utc>>,
    /// The end of the last run that failed or timed out.
    #[serde(serialize_with = "json_form::optional_instant")]
    pub last_failure: Option<DateTime<Utc>>,
    /// The number of consecutive failed runs; 0 after a successful one.
    #[serde(default)]
    pub failures: u32,
    /// The time since which the entry is paused; `None` if the entry is not paused. A paused entry starts no run
    /// automatically.
    #[serde(default)]
    #[serde(serialize_with = "json_form::optional_instant")]
    pub paused_since: Option<DateTime<Utc>>,
    /// The time at which the pause ends automatically; `None` if the entry is not paused, or if a person has to resume
    /// the entry.
    #[serde(default)]
    #[serde(serialize_with = "json_form::optional_instant")]
    pub paused_until: Option<DateTime<Utc>>,
    /// True if the last complete run found no tag for the selection, or no tag for a part of the selection, such as a
    /// pattern of `include`.
    #[serde(default)]
    pub never_matched: bool,
}

/// Run in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunningState {
    /// The start of the run.
    #[serde(serialize_with = "json_form::instant")]
    pub since: DateTime<Utc>,
    /// The trigger of the run: `schedule`, `start`, `continued`, `manual`, `requested`, `push_event`.
    pub trigger: String,
    /// The number of tags by outcome so far. A tag with several targets counts once for each.
    #[serde(default)]
    pub counts: TagCounts,
    /// The number of tags to process. The number grows while further repositories are listed. `None` before the first
    /// list of tags is complete.
    #[serde(default)]
    pub tags: Option<u64>,
    /// Bytes of blobs sent so far, including failed transfers.
    #[serde(default, rename = "bytes")]
    pub bytes_sent: u64,
    /// Bytes of blobs that the run sends in total, as far as they are known: the bytes sent so far, and the remaining
    /// bytes of the blobs in transfer. The number grows while the run starts further transfers. `None` if an older
    /// daemon does not report the number.
    #[serde(default)]
    pub bytes_expected: Option<u64>,
    /// The rate over the last seconds, in bytes per second, of all transfers of the run together; `None` in the first
    /// second.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
}

/// Entry that is due and waits for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WaitingState {
    /// The name of the entry.
    pub entry: String,
    /// The time since which the entry waits.
    #[serde(serialize_with = "json_form::instant")]
    pub since: DateTime<Utc>,
    /// The trigger of the run: `schedule`, `start`, `continued`, `requested`, `push_event`.
    pub trigger: String,
}

/// Run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LastRun {
    /// The run's number in the journal.
    pub run: i64,
    /// The outcome: `succeeded`, `failed`, `deferred`, `interrupted`, `timed_out`.
    pub outcome: String,
    /// The start of the run.
    #[serde(default)]
    #[serde(serialize_with = "json_form::optional_instant")]
    pub started: Option<DateTime<Utc>>,
    /// The end of the run.
    #[serde(serialize_with = "json_form::instant")]
    pub ended: DateTime<Utc>,
    /// The number of tags by outcome. A tag with several targets counts once for each.
    pub counts: TagCounts,
    /// Bytes of blobs and manifests sent by the run.
    #[serde(default, rename = "bytes")]
    pub bytes_sent: u64,
    /// The first error of the run. Without an error, the reason why tags are deferred. Empty if there is neither.
    #[serde(rename = "problems", default, with = "json_form::one_as_list")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub error: Option<String>,
}

/// Run that failed or timed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FailedRun {
    /// The name of the entry.
    pub entry: String,
    /// The run's number in the journal.
    pub run: i64,
    /// The outcome: `failed` or `timed_out`.
    pub outcome: String,
    /// The end of the run.
    #[serde(serialize_with = "json_form::instant")]
    pub ended: DateTime<Utc>,
    /// The first error; empty if it was not recorded.
    #[serde(rename = "problems", default, with = "json_form::one_as_list")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub error: Option<String>,
}

/// Blob in transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TransferState {
    /// The source repository of the blob.
    pub source: String,
    /// The target repository of the blob.
    pub target: String,
    /// The blob's digest.
    #[serde(deserialize_with = "digest_from_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// Bytes sent to the target so far, including bytes that an earlier transfer sent.
    pub sent: u64,
    /// The start of the transfer; `None` if an older daemon does not report the start.
    #[serde(default)]
    #[serde(serialize_with = "json_form::optional_instant")]
    pub since: Option<DateTime<Utc>>,
    /// The transfer rate over the last seconds, in bytes per second; `None` in the first second.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
}

/// State of a registry: its requests and the limits that apply to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RegistryState {
    /// The registry's name.
    pub registry: String,
    /// The identities that the daemon uses at the registry, as far as the configuration names them. There are several
    /// identities if entries have credentials of their own.
    pub identities: Vec<String>,
    /// Requests in flight.
    pub in_flight: u64,
    /// The limits in force.
    pub limits: LimitsState,
    /// The time until which no request is sent to the registry, because the registry requested a wait (`Retry-After`);
    /// `None` if requests are allowed.
    #[serde(serialize_with = "json_form::optional_instant")]
    pub paused_until: Option<DateTime<Utc>>,
    /// The total time that requests waited for limits and for `Retry-After` since the daemon started.
    pub throttled_seconds: f64,
    /// Requests since the daemon started; each redirect and each repetition counts.
    pub requests: u64,
    /// Bytes of bodies received since the daemon started.
    pub bytes_in: u64,
    /// Bytes of bodies sent since the daemon started.
    pub bytes_out: u64,
}

/// Limits in force at a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LimitsState {
    /// The number of requests that may be in flight now. For a while after the registry throttled requests, this number
    /// is lower than `concurrent_at_most`.
    pub concurrent: u64,
    /// The maximum number of requests in flight.
    pub concurrent_at_most: u64,
    /// The rate limits. A kind of request that is not listed has no rate limit.
    pub rates: Vec<RateState>,
    /// The bandwidth limit in bytes per second at this time of day, for both directions together; `None` if there is
    /// no limit.
    pub bandwidth: Option<u64>,
}

/// Rate limit of a kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RateState {
    /// The kind: `requests`, `reads`, `writes`, `uploads`, `deletes` or `referrer_lists`, the keys under `limits` in
    /// the configuration.
    pub of: String,
    /// The number of requests that are allowed in a period.
    pub count: u64,
    /// The length in seconds of the period in which `count` requests are allowed.
    pub per_seconds: u64,
}

/// Quota last reported by a registry that counts reads of manifests (Docker Hub's pulls).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Quota {
    /// The registry.
    pub registry: String,
    /// The identity whose reads the registry counts, as far as the configuration names the identity.
    pub identity: String,
    /// The number of reads that are allowed in a window.
    pub limit: u64,
    /// The length of a window in seconds.
    pub window_seconds: u64,
    /// The number of reads that remain.
    pub remaining: u64,
    /// The number of remaining reads that are reserved for other clients (`limits.reserve_pulls`).
    pub reserved: u64,
    /// The time at which the registry reported these numbers.
    #[serde(serialize_with = "json_form::instant")]
    pub reported: DateTime<Utc>,
}

/// State of the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct JournalState {
    /// The path of the journal's file.
    pub path: String,
    /// True if the last write succeeded.
    pub writable: bool,
    /// The size in bytes of the file and of its write-ahead log; `None` if the size is unknown.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// A problem with the open file, such as its removal or replacement; `None` if there is none.
    #[serde(default)]
    pub problem: Option<String>,
}

/// Clock that was set back. Schedules follow the new time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClockSetback {
    /// The time at which the daemon detected the setback, by the clock after the setback.
    #[serde(serialize_with = "json_form::instant")]
    pub noticed: DateTime<Utc>,
    /// The number of seconds by which the clock was set back: the difference to the latest time that the clock or the
    /// journal had shown before.
    pub seconds: u64,
}

impl Snapshot {
    /// The version of the format that this program writes.
    pub const VERSION: u32 = 3;

    /// Returns the state of a daemon that has just started.
    #[must_use]
    pub fn starting(now: DateTime<Utc>) -> Self {
        Self {
            version: Self::VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started: now,
            configuration: ConfigurationState::default(),
            entries: Vec::new(),
            waiting: Vec::new(),
            in_flight: Vec::new(),
            transfers: 0,
            registries: Vec::new(),
            quotas: Vec::new(),
            recent_failures: Vec::new(),
            warnings: Vec::new(),
            journal: JournalState::default(),
            clock_set_back: None,
            loop_iterated_at: now,
            ready: false,
        }
    }

    /// Returns the reasons why the daemon is not ready, each as a sentence for people. Empty if the daemon is ready.
    #[must_use]
    pub fn obstacles(&self) -> Vec<&'static str> {
        let mut obstacles = Vec::new();
        if self.configuration.loaded_at.is_none() {
            obstacles.push("no configuration is loaded");
        }
        match (self.journal.writable, &self.journal.problem) {
            (true, _) => {}
            (false, None) => obstacles.push("the journal cannot be written"),
            (false, Some(_)) => obstacles.push("the journal was removed or replaced"),
        }
        if !self.ready {
            obstacles.push("the daemon is starting or shutting down");
        }
        obstacles
    }
}

fn digest_from_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// JSON Schema of `/status` (draft 2020-12), from `docs/reference/`. A test compares the schema with the types.
pub const SCHEMA: &str = include_str!("../../docs/reference/status.schema.json");

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn second(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    /// Returns the state of a working daemon, at second 0.
    pub(crate) fn working() -> Snapshot {
        Snapshot {
            configuration: ConfigurationState {
                path: "/etc/transship/sync.yaml".into(),
                loaded_at: Some(second(-100)),
                ..ConfigurationState::default()
            },
            entries: vec![EntryState {
                name: "python-base".into(),
                source: "docker.io/library/python".into(),
                targets: vec!["prod.example/cache/python".into()],
                schedule: "0 3 * * *".into(),
                timezone: "Europe/Berlin".into(),
                next_firing: Some(second(3600)),
                deferred_until: None,
                running: Some(RunningState {
                    since: second(-5),
                    trigger: "schedule".into(),
                    counts: TagCounts { unchanged: 3, ..TagCounts::default() },
                    tags: Some(17),
                    bytes_sent: 250,
                    bytes_expected: Some(1000),
                    bytes_per_second: Some(100),
                }),
                last_run: Some(LastRun {
                    run: 7,
                    outcome: "failed".into(),
                    started: Some(second(-90)),
                    ended: second(-60),
                    counts: TagCounts { copied: 2, unchanged: 14, failed: 1, ..TagCounts::default() },
                    bytes_sent: 4096,
                    error: Some("docker.io/library/python: resolving <b>3.13</b>: denied".into()),
                }),
                last_success: None,
                last_failure: Some(second(-60)),
                failures: 0,
                paused_since: None,
                paused_until: None,
                never_matched: false,
            }],
            waiting: vec![WaitingState { entry: "team".into(), since: second(-2), trigger: "schedule".into() }],
            in_flight: vec![TransferState {
                source: "docker.io/library/python".into(),
                target: "prod.example/cache/python".into(),
                digest: Digest::of(b"layer"),
                size: 1000,
                sent: 250,
                since: Some(second(-3)),
                bytes_per_second: Some(100),
            }],
            transfers: 1,
            registries: vec![RegistryState {
                registry: "docker.io".into(),
                identities: vec!["mirror-bot".into()],
                in_flight: 2,
                limits: LimitsState {
                    concurrent: 8,
                    concurrent_at_most: 16,
                    rates: vec![RateState { of: "reads".into(), count: 600, per_seconds: 60 }],
                    bandwidth: Some(1 << 20),
                },
                paused_until: Some(second(20)),
                throttled_seconds: 1.5,
                requests: 41,
                bytes_in: 5000,
                bytes_out: 0,
            }],
            quotas: vec![Quota {
                registry: "docker.io".into(),
                identity: "mirror-bot".into(),
                limit: 200,
                window_seconds: 21_600,
                remaining: 76,
                reserved: 20,
                reported: second(-9),
            }],
            recent_failures: vec![FailedRun {
                entry: "python-base".into(),
                run: 7,
                outcome: "failed".into(),
                ended: second(-60),
                error: Some("docker.io/library/python: resolving <b>3.13</b>: denied".into()),
            }],
            journal: JournalState {
                path: "/var/lib/transship/journal.db".into(),
                writable: true,
                bytes: Some(65_536),
                problem: None,
            },
            ready: true,
            ..Snapshot::starting(second(0))
        }
    }

    #[test]
    fn snapshot_survives_a_round_trip_through_json() {
        let json = serde_json::to_string(&working()).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), working());
        assert!(json.starts_with(r#"{"version":3,"#), "{json}");
    }

    #[test]
    fn counts_print_without_zeros() {
        assert_eq!(
            working().entries[0].last_run.as_ref().unwrap().counts.to_string(),
            "2 copied, 14 unchanged, 1 failed"
        );
        assert_eq!(TagCounts::default().to_string(), "no tags");
    }

    #[test]
    fn each_obstacle_of_readiness_is_named() {
        assert_eq!(working().obstacles(), Vec::<&str>::new());
        assert_eq!(Snapshot::starting(second(0)).obstacles().len(), 3);
    }
}
