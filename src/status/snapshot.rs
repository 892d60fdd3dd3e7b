//! State of the daemon at one moment, as `/status` prints it and `transship status` reads it.
//!
//! Its JSON is a public interface: a field may be added at any time, and renamed or removed only with a new `version`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::Warning;
use crate::journal::TagCounts;
use crate::oci::Digest;

/// State of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The version of this format: 2. It changes when a field is renamed, removed or gets another meaning.
    pub version: u32,
    /// The version of the program.
    #[serde(default)]
    pub program: String,
    /// The time at which the daemon started.
    pub started: DateTime<Utc>,
    /// The configuration in force.
    pub configuration: ConfigurationState,
    /// All entries of that configuration, in its order.
    pub entries: Vec<EntryState>,
    /// Entries that are due and wait for one of the `daemon.entries_at_once` slots, the next first.
    #[serde(default)]
    pub waiting: Vec<WaitingState>,
    /// Blobs in transfer, the oldest first; 64 at most.
    pub in_flight: Vec<TransferState>,
    /// The number of blobs in transfer, including those that are not listed.
    #[serde(default)]
    pub transfers: u64,
    /// The registries that received a request since the daemon started, by name.
    #[serde(default)]
    pub registries: Vec<RegistryState>,
    /// The last reported quotas of registries that count reads of manifests.
    #[serde(default)]
    pub quotas: Vec<Quota>,
    /// The last runs of all entries that failed or took too long, the latest first; 10 at most.
    #[serde(default)]
    pub recent_failures: Vec<FailedRun>,
    /// Warnings: those of the configuration in force, then those of the last complete run of each entry, about
    /// selected items that it did not find.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// The journal.
    pub journal: JournalState,
    /// The last time since the daemon started at which the clock was found set back by more than a minute; `None` if
    /// there was none.
    #[serde(default)]
    pub clock_set_back: Option<ClockSetback>,
    /// The time of the last iteration of the daemon's loop.
    pub loop_iterated_at: DateTime<Utc>,
    /// True while the daemon works; `false` before it has started and while it ends.
    pub ready: bool,
}

/// Configuration in force, and the result of the last edit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigurationState {
    /// The file.
    pub path: String,
    /// The time at which the configuration in force was read; `None` before the first valid one.
    pub loaded_at: Option<DateTime<Utc>>,
    /// The reasons why the last edit was rejected, as lines for people; `None` if it was applied.
    pub problem: Option<String>,
    /// The first of these problems as `FILE:LINE:COLUMN: PROBLEM`.
    #[serde(default)]
    pub first_problem: Option<String>,
    /// The time at which the edit was rejected.
    #[serde(default)]
    pub refused_at: Option<DateTime<Utc>>,
}

/// State of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EntryState {
    /// The name.
    pub name: String,
    /// The source, as in the configuration.
    pub source: String,
    /// The targets, as in the configuration.
    pub targets: Vec<String>,
    /// The cron expression, or `never`.
    pub schedule: String,
    /// The time zone of the schedule.
    pub timezone: String,
    /// The next scheduled time; `None` if the entry only runs manually.
    pub next_firing: Option<DateTime<Utc>>,
    /// The time at which the entry resumes with tags that wait until their source may be read again; `None` if no tag
    /// waits.
    #[serde(default)]
    pub deferred_until: Option<DateTime<Utc>>,
    /// The run in progress.
    pub running: Option<RunningState>,
    /// The last run that ended.
    pub last_run: Option<LastRun>,
    /// The end of the last successful run.
    pub last_success: Option<DateTime<Utc>>,
    /// The end of the last run that failed or took too long.
    pub last_failure: Option<DateTime<Utc>>,
    /// The number of consecutive failed runs; 0 after a successful one.
    #[serde(default)]
    pub failures: u32,
    /// The time since which the entry is paused; it starts no run automatically then.
    #[serde(default)]
    pub paused_since: Option<DateTime<Utc>>,
    /// The time at which the pause ends automatically; `None` also if somebody has to resume the entry.
    #[serde(default)]
    pub paused_until: Option<DateTime<Utc>>,
}

/// Run in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunningState {
    /// The start of the run.
    pub since: DateTime<Utc>,
    /// The trigger of the run: `schedule`, `start`, `continued`, `manual`, `requested`, `push_event`.
    pub trigger: String,
    /// The number of tags by outcome so far. A tag with several targets counts once for each.
    #[serde(default)]
    pub counts: TagCounts,
    /// The number of tags to process, as far as known: it grows while further repositories are listed. `None` before
    /// the first list of tags is complete.
    #[serde(default)]
    pub tags: Option<u64>,
    /// Bytes of blobs sent so far, including failed transfers.
    #[serde(default)]
    pub bytes: u64,
}

/// Entry that is due and waits for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WaitingState {
    /// The entry's name.
    pub entry: String,
    /// The time since which it waits.
    pub since: DateTime<Utc>,
    /// The trigger that made it due: `schedule`, `start`, `continued`, `manual`.
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
    pub started: Option<DateTime<Utc>>,
    /// The end of the run.
    pub ended: DateTime<Utc>,
    /// The number of tags by outcome. A tag with several targets counts once for each.
    pub counts: TagCounts,
    /// Bytes of blobs and manifests sent by the run.
    #[serde(default)]
    pub bytes: u64,
    /// The first error, or else the reason why tags wait; `None` if there is neither.
    pub error: Option<String>,
}

/// Run that failed or took too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FailedRun {
    /// The entry.
    pub entry: String,
    /// The run's number in the journal.
    pub run: i64,
    /// The outcome: `failed` or `timed_out`.
    pub outcome: String,
    /// The end of the run.
    pub ended: DateTime<Utc>,
    /// The first error.
    pub error: Option<String>,
}

/// Blob in transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TransferState {
    /// The repository that the blob comes from.
    pub source: String,
    /// The repository that the blob goes to.
    pub target: String,
    /// The blob's digest.
    #[serde(deserialize_with = "digest_from_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// Bytes passed to the target so far.
    pub sent: u64,
    /// The start of the transfer; `None` from a daemon that does not report it yet.
    #[serde(default)]
    pub since: Option<DateTime<Utc>>,
    /// Bytes per second over the last seconds; `None` in the first one.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
}

/// State of a registry: its requests and the limits that apply to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RegistryState {
    /// The registry's name.
    pub registry: String,
    /// The identities used there, as far as the configuration names them; several if entries have credentials of
    /// their own.
    pub identities: Vec<String>,
    /// Requests in flight.
    pub in_flight: u64,
    /// The limits in force.
    pub limits: LimitsState,
    /// The time until which no request is sent to the registry, because it asked for that (`Retry-After`); `None` if
    /// requests are allowed.
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
    /// The number of requests that may be in flight now. Lower than `concurrent_at_most` for a while after the
    /// registry throttled requests.
    pub concurrent: u64,
    /// The maximum number of requests in flight.
    pub concurrent_at_most: u64,
    /// The rate limits; a kind of request that is not listed has none.
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
    /// The number of requests.
    pub count: u64,
    /// The time in seconds in which this number is allowed.
    pub per_seconds: u64,
}

/// Quota last reported by a registry that counts reads of manifests (Docker Hub's pulls).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Quota {
    /// The registry.
    pub registry: String,
    /// The identity that is counted, as far as the configuration names it.
    pub identity: String,
    /// The number of reads in a window.
    pub limit: u64,
    /// The length of a window.
    pub window_seconds: u64,
    /// The number of reads that remain.
    pub remaining: u64,
    /// The number of remaining reads that are reserved for others (`limits.reserve_pulls`).
    pub reserved: u64,
    /// The time of that report.
    pub reported: DateTime<Utc>,
}

/// State of the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct JournalState {
    /// The file.
    pub path: String,
    /// True if the last write succeeded.
    pub writable: bool,
    /// The size of the file and of its write-ahead log; `None` if it is unknown.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Damage to the file while the daemon has it open, such as its removal; `None` if there is none.
    #[serde(default)]
    pub problem: Option<String>,
}

/// Clock that was set back. Schedules follow the new time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClockSetback {
    /// The time at which the daemon noticed it, by the new time.
    pub noticed: DateTime<Utc>,
    /// The number of seconds by which the clock was behind the time that it, or the journal, had shown before.
    pub seconds: u64,
}

impl Snapshot {
    /// The version of the format that this program writes.
    pub const VERSION: u32 = 2;

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

    /// Returns the reasons why the daemon cannot work, each as a sentence for people. Empty if it is ready.
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

/// JSON Schema of `/status` (draft 2020-12), the same file as in `docs/`; a test compares it with the types.
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
                    bytes: 250,
                }),
                last_run: Some(LastRun {
                    run: 7,
                    outcome: "failed".into(),
                    started: Some(second(-90)),
                    ended: second(-60),
                    counts: TagCounts { copied: 2, unchanged: 14, failed: 1, ..TagCounts::default() },
                    bytes: 4096,
                    error: Some("docker.io/library/python: resolving <b>3.13</b>: denied".into()),
                }),
                last_success: None,
                last_failure: Some(second(-60)),
                failures: 0,
                paused_since: None,
                paused_until: None,
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
        assert!(json.starts_with(r#"{"version":2,"#), "{json}");
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
