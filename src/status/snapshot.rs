//! The state of the daemon at one moment, as `/status` prints it and `transship status` reads it.
//!
//! Its JSON is a promise to others: a field is added freely, and renamed or removed only with a new `version`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::Warning;
use crate::journal::TagCounts;
use crate::oci::Digest;

/// What the daemon is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The version of this shape: 1. It changes where a field is renamed, removed or means another thing.
    pub version: u32,
    /// The version of the program.
    #[serde(default)]
    pub program: String,
    /// When the daemon started.
    pub started: DateTime<Utc>,
    /// The configuration in force.
    pub configuration: ConfigurationState,
    /// Every entry of that configuration, in its order.
    pub entries: Vec<EntryState>,
    /// Entries that are due and wait for one of the `daemon.entries_at_once` places, the next first.
    #[serde(default)]
    pub waiting: Vec<WaitingState>,
    /// Blobs on their way, the oldest first; 64 at most.
    pub in_flight: Vec<TransferState>,
    /// How many blobs are on their way, those that are not listed too.
    #[serde(default)]
    pub transfers: u64,
    /// The registries that have been asked since the daemon started, by name.
    #[serde(default)]
    pub registries: Vec<RegistryState>,
    /// What registries that count reads of manifests told last.
    #[serde(default)]
    pub quotas: Vec<Quota>,
    /// The last runs of all entries that failed or took too long, the latest first; 10 at most.
    #[serde(default)]
    pub recent_failures: Vec<FailedRun>,
    /// Warnings: those of the configuration in force, then those of the last whole run of each entry, about what it
    /// selected and did not find.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// The journal.
    pub journal: JournalState,
    /// The last time that the clock was found set back by more than a minute, since the daemon started; `None` where it was not.
    #[serde(default)]
    pub clock_set_back: Option<ClockSetback>,
    /// When the daemon's loop last turned.
    pub loop_turned_at: DateTime<Utc>,
    /// Whether the daemon has taken up its work. `false` again while it ends.
    pub ready: bool,
}

/// The configuration in force, and what became of the last edit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigurationState {
    /// The file.
    pub path: String,
    /// When the configuration in force was read; `None` before the first good one.
    pub loaded_at: Option<DateTime<Utc>>,
    /// Why the last edit was refused, all of it in lines for a person; `None` where it was taken over.
    pub problem: Option<String>,
    /// The first of these problems as `FILE:LINE:COLUMN: what is wrong`.
    #[serde(default)]
    pub first_problem: Option<String>,
    /// When the edit was refused.
    #[serde(default)]
    pub refused_at: Option<DateTime<Utc>>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EntryState {
    /// Its name.
    pub name: String,
    /// The source, as it is written.
    pub source: String,
    /// The targets, as they are written.
    pub targets: Vec<String>,
    /// The cron expression, or `never`.
    pub schedule: String,
    /// The time zone of the schedule.
    pub timezone: String,
    /// When it fires next; `None` when only a person starts it.
    pub next_firing: Option<DateTime<Utc>>,
    /// When it goes on with tags that wait until their source may be read again; `None` where none do.
    #[serde(default)]
    pub postponed_until: Option<DateTime<Utc>>,
    /// The run in progress.
    pub running: Option<RunningState>,
    /// The last run that ended.
    pub last_run: Option<LastRun>,
    /// When a run last ended well.
    pub last_success: Option<DateTime<Utc>>,
    /// When a run last failed or took too long.
    pub last_failure: Option<DateTime<Utc>>,
    /// How many runs failed in a row; 0 after one that ended well.
    #[serde(default)]
    pub failures: u32,
    /// Since when it is paused; it begins no run by itself then.
    #[serde(default)]
    pub paused_since: Option<DateTime<Utc>>,
    /// When its pause ends by itself; `None` also where somebody has to resume it.
    #[serde(default)]
    pub paused_until: Option<DateTime<Utc>>,
}

/// A run in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunningState {
    /// When it began.
    pub since: DateTime<Utc>,
    /// What began it: `schedule`, `start`, `continued`, `hand`, `asked`, `pushed`.
    pub trigger: String,
    /// What became of its tags so far. A tag that goes to several targets counts once at each.
    #[serde(default)]
    pub counts: TagCounts,
    /// How many there are to settle, as far as is known: it grows while further repositories are listed. `None` until the first list
    /// of tags is there.
    #[serde(default)]
    pub tags: Option<u64>,
    /// Bytes of blobs that were sent so far, those of transfers that failed too.
    #[serde(default)]
    pub bytes: u64,
}

/// An entry that is due and waits for its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WaitingState {
    /// Its name.
    pub entry: String,
    /// Since when it waits.
    pub since: DateTime<Utc>,
    /// What made it due: `schedule`, `start`, `continued`, `hand`.
    pub trigger: String,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LastRun {
    /// Its number in the journal.
    pub run: i64,
    /// How it ended: `succeeded`, `failed`, `postponed`, `interrupted`, `timed_out`.
    pub outcome: String,
    /// When it began.
    #[serde(default)]
    pub started: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// What became of its tags. A tag that goes to several targets counts once at each.
    pub counts: TagCounts,
    /// Bytes of blobs and manifests that it sent.
    #[serde(default)]
    pub bytes: u64,
    /// What went wrong first, else why tags wait; `None` where neither is so.
    pub error: Option<String>,
}

/// A run that failed or took too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FailedRun {
    /// The entry.
    pub entry: String,
    /// Its number in the journal.
    pub run: i64,
    /// How it ended: `failed` or `timed_out`.
    pub outcome: String,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// What went wrong first.
    pub error: Option<String>,
}

/// A blob on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TransferState {
    /// The repository that it comes from.
    pub source: String,
    /// The repository that it goes to.
    pub target: String,
    /// The blob.
    #[serde(deserialize_with = "digest_from_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes handed to the target so far.
    pub sent: u64,
    /// When it began; `None` from a daemon before this was told.
    #[serde(default)]
    pub since: Option<DateTime<Utc>>,
    /// Bytes a second over the last seconds; `None` in the first one.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
}

/// A registry: what it is asked for, and under which limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RegistryState {
    /// Its name.
    pub registry: String,
    /// Who we are there, as far as the configuration says; several where entries have credentials of their own.
    pub identities: Vec<String>,
    /// Requests in flight.
    pub in_flight: u64,
    /// The limits in force.
    pub limits: LimitsState,
    /// Until when nothing is asked of it, because it wanted so (`Retry-After`); `None` where it may be asked.
    pub paused_until: Option<DateTime<Utc>>,
    /// How long requests waited for limits and for `Retry-After`, added up, since the daemon started.
    pub throttled_seconds: f64,
    /// Requests since the daemon started; each redirect and each repetition counts.
    pub requests: u64,
    /// Bytes of bodies received since the daemon started.
    pub bytes_in: u64,
    /// Bytes of bodies sent since the daemon started.
    pub bytes_out: u64,
}

/// The limits in force at a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LimitsState {
    /// How many requests may be in flight now. Lower than `concurrent_at_most` for a while after the registry asked for patience.
    pub concurrent: u64,
    /// How many requests may be in flight at most.
    pub concurrent_at_most: u64,
    /// The rates; what is not here has none.
    pub rates: Vec<RateState>,
    /// Bytes a second that may pass at this time of day, in both directions together; `None` is no limit.
    pub bandwidth: Option<u64>,
}

/// How many requests of a kind may be made in a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RateState {
    /// Which: `requests`, `reads`, `writes`, `uploads`, `deletes` or `referrer_lists`, the keys under `limits` in the configuration.
    pub of: String,
    /// How many.
    pub count: u64,
    /// In how many seconds.
    pub per_seconds: u64,
}

/// What a registry that counts reads of manifests (Docker Hub's pulls) told last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Quota {
    /// The registry.
    pub registry: String,
    /// Who is counted, as far as the configuration says.
    pub identity: String,
    /// Reads in a window.
    pub limit: u64,
    /// How long a window is.
    pub window_seconds: u64,
    /// What is left of them.
    pub remaining: u64,
    /// How many of these are left to others (`limits.keep`).
    pub kept: u64,
    /// When that was told.
    pub told: DateTime<Utc>,
}

/// The journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct JournalState {
    /// The file.
    pub path: String,
    /// Whether the last write succeeded.
    pub writable: bool,
    /// The size of the file and of its write-ahead log; `None` where it cannot be told.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// What happened to the file while the daemon had it open; `None` while nothing did.
    #[serde(default)]
    pub problem: Option<String>,
}

/// A clock that was set back. Schedules follow the new time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClockSetback {
    /// When the daemon noticed it, by the new time.
    pub noticed: DateTime<Utc>,
    /// By how many seconds the clock was behind what it, or the journal, had shown before.
    pub seconds: u64,
}

impl Snapshot {
    /// The version of the shape that this program writes.
    pub const VERSION: u32 = 1;

    /// A daemon that has just started and knows nothing yet.
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
            loop_turned_at: now,
            ready: false,
        }
    }

    /// What keeps the daemon from its work, each as a sentence for a person. Empty when it is ready.
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
            obstacles.push("the daemon is starting or ending");
        }
        obstacles
    }
}

fn digest_from_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// The JSON Schema of `/status` (draft 2020-12), as it stands in `docs/` too; a test holds it against the types.
pub const SCHEMA: &str = include_str!("../../docs/status.schema.json");

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    /// A daemon at work, at second 0.
    pub(in super::super) fn working() -> Snapshot {
        Snapshot {
            configuration: ConfigurationState {
                path: "/etc/transship/sync.yaml".into(),
                loaded_at: Some(at(-100)),
                ..ConfigurationState::default()
            },
            entries: vec![EntryState {
                name: "python-base".into(),
                source: "docker.io/library/python".into(),
                targets: vec!["prod.example/cache/python".into()],
                schedule: "0 3 * * *".into(),
                timezone: "Europe/Berlin".into(),
                next_firing: Some(at(3600)),
                postponed_until: None,
                running: Some(RunningState {
                    since: at(-5),
                    trigger: "schedule".into(),
                    counts: TagCounts { kept: 3, ..TagCounts::default() },
                    tags: Some(17),
                    bytes: 250,
                }),
                last_run: Some(LastRun {
                    run: 7,
                    outcome: "failed".into(),
                    started: Some(at(-90)),
                    ended: at(-60),
                    counts: TagCounts { copied: 2, kept: 14, failed: 1, ..TagCounts::default() },
                    bytes: 4096,
                    error: Some("docker.io/library/python: resolving <b>3.13</b>: denied".into()),
                }),
                last_success: None,
                last_failure: Some(at(-60)),
                failures: 0,
                paused_since: None,
                paused_until: None,
            }],
            waiting: vec![WaitingState { entry: "team".into(), since: at(-2), trigger: "schedule".into() }],
            in_flight: vec![TransferState {
                source: "docker.io/library/python".into(),
                target: "prod.example/cache/python".into(),
                digest: Digest::of(b"layer"),
                size: 1000,
                sent: 250,
                since: Some(at(-3)),
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
                paused_until: Some(at(20)),
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
                kept: 20,
                told: at(-9),
            }],
            recent_failures: vec![FailedRun {
                entry: "python-base".into(),
                run: 7,
                outcome: "failed".into(),
                ended: at(-60),
                error: Some("docker.io/library/python: resolving <b>3.13</b>: denied".into()),
            }],
            journal: JournalState {
                path: "/var/lib/transship/journal.db".into(),
                writable: true,
                bytes: Some(65_536),
                problem: None,
            },
            ready: true,
            ..Snapshot::starting(at(0))
        }
    }

    #[test]
    fn a_snapshot_is_read_back_as_it_was_written() {
        let json = serde_json::to_string(&working()).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), working());
        assert!(json.starts_with(r#"{"version":1,"#), "{json}");
    }

    #[test]
    fn counts_are_told_without_zeros() {
        assert_eq!(working().entries[0].last_run.as_ref().unwrap().counts.to_string(), "2 copied, 14 kept, 1 failed");
        assert_eq!(TagCounts::default().to_string(), "no tags");
    }

    #[test]
    fn every_obstacle_is_named() {
        assert_eq!(working().obstacles(), Vec::<&str>::new());
        assert_eq!(Snapshot::starting(at(0)).obstacles().len(), 3);
    }
}
