//! Tests of the text of a snapshot, and a snapshot for the tests of commands.

use super::*;
use crate::cli::output::table_layout;
use crate::cli::output::writer::tests::OutputBuffer;
use crate::journal::TagCounts;
use crate::oci::Digest;
use crate::status::{ConfigurationState, LastRun, WaitingState};

pub(crate) fn time_at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

pub(crate) fn snapshot() -> Snapshot {
    let configuration = ConfigurationState {
        path: "/etc/transship/sync.yaml".into(),
        loaded_at: Some(time_at(0)),
        problem: Some("sync.yaml:3:1: unknown key".into()),
        ..ConfigurationState::default()
    };
    let last_run = LastRun {
        run: 1,
        outcome: "failed".into(),
        started: Some(time_at(20)),
        ended: time_at(30),
        bytes_sent: 0,
        counts: TagCounts { unchanged: 2, failed: 1, ..TagCounts::default() },
        error: Some("source: listing tags: denied".into()),
    };
    let entry = EntryState {
        name: "api".into(),
        source: "h/a".into(),
        targets: vec!["t/a".into()],
        schedule: "* * * * *".into(),
        timezone: "UTC".into(),
        next_firing: None,
        deferred_until: None,
        running: None,
        last_run: Some(last_run),
        last_success: None,
        last_failure: Some(time_at(30)),
        failures: 3,
        paused_since: None,
        paused_until: None,
        never_matched: false,
    };
    let transfer = TransferState {
        source: "h/a".into(),
        target: "t/a".into(),
        digest: Digest::of(b"x"),
        size: 2048,
        sent: 1024,
        since: None,
        bytes_per_second: None,
    };
    let quota = Quota {
        registry: "docker.io".into(),
        identity: "mirror-bot".into(),
        limit: 200,
        window_seconds: 21_600,
        remaining: 76,
        reserved: 20,
        reported: time_at(0),
    };
    let quotas = vec![quota];
    Snapshot {
        configuration,
        entries: vec![entry],
        in_flight: vec![transfer],
        quotas,
        ..Snapshot::starting(time_at(0))
    }
}

#[test]
fn text_shows_entries_errors_and_transfers() {
    let buffer = OutputBuffer::default();
    print(&snapshot(), time_at(60), &mut buffer.terminal(90)).unwrap();
    let expected = format!(
        "running for 1m, not ready\n  the journal cannot be written\n  the daemon is starting or shutting down\n\
             configuration /etc/transship/sync.yaml read 60s ago\n\
             the last edit was refused, the previous configuration stays active:\nsync.yaml:3:1: unknown key\n\n\
             ENTRY  NOW   LAST RUN  OUTCOME  TAGS                   NEXT RUN\n\
             api    idle  30s ago   failed   2 unchanged, 1 failed  manual only\n\
             api: source: listing tags: denied (3 times in a row)\n\
             docker.io as mirror-bot: 76 of 200 pulls left in 6h, 20 reserved (reported 60s ago)\n\n\
             BLOB                    SENT       OF  FROM  TO\nsha256:{}  1.0 KiB  2.0 KiB  h/a   t/a\n",
        Digest::of(b"x").short()
    );
    assert_eq!(buffer.text(), expected);
}

#[test]
fn text_shows_running_waiting_paused_throttled_and_failed() {
    let calm = snapshot();
    let idle = EntryState { last_run: None, failures: 0, ..calm.entries[0].clone() };
    let counts = TagCounts { copied: 2, unchanged: 1, ..TagCounts::default() };
    let run = RunningState {
        since: time_at(10),
        trigger: "schedule".into(),
        counts,
        tags: Some(5),
        bytes_sent: 3 << 20,
        bytes_expected: None,
        bytes_per_second: None,
    };
    let entries = vec![
        EntryState { name: "runs".into(), running: Some(run), next_firing: Some(time_at(3600)), ..idle.clone() },
        EntryState {
            name: "waits".into(),
            next_firing: Some(time_at(90)),
            deferred_until: Some(time_at(90)),
            ..idle.clone()
        },
        EntryState {
            name: "rests".into(),
            paused_since: Some(time_at(0)),
            paused_until: Some(time_at(86_400)),
            ..idle
        },
    ];
    let registry = |name: &str, concurrent, paused_until| RegistryState {
        registry: name.into(),
        identities: Vec::new(),
        in_flight: 0,
        limits: LimitsState { concurrent, concurrent_at_most: 32, ..LimitsState::default() },
        paused_until,
        throttled_seconds: 0.0,
        requests: 0,
        bytes_in: 0,
        bytes_out: 0,
    };
    let (entry, outcome, error) = ("runs".into(), "failed".into(), Some("source: listing tags: denied".into()));
    let snapshot = Snapshot {
        configuration: ConfigurationState::default(),
        entries,
        waiting: vec![WaitingState { entry: "waits".into(), since: time_at(30), trigger: "schedule".into() }],
        registries: vec![registry("a", 32, None), registry("b", 8, None), registry("c", 16, Some(time_at(120)))],
        transfers: 3,
        recent_failures: vec![FailedRun { entry, run: 7, outcome, ended: time_at(5), error }],
        quotas: Vec::new(),
        ..calm
    };
    let buffer = OutputBuffer::default();
    print(&snapshot, time_at(60), &mut buffer.terminal(120)).unwrap();
    let text = buffer.text();
    let expected = format!(
        "\
ENTRY  NOW                                    LAST RUN  OUTCOME  TAGS  NEXT RUN
runs   running for 50s, 3 of 5 tags, 3.0 MiB  none yet                 in 59m
waits  idle                                   none yet                 in 30s for tags that wait
rests  paused for 60s, for another 24h        none yet                 none while paused
waits: waiting for a slot for 30s
b: throttled, at most 8 instead of 32 requests are in flight
c: throttled for another 60s

BLOB                    SENT       OF  FROM  TO
sha256:{}  1.0 KiB  2.0 KiB  h/a   t/a
and 2 more

FAILED RUN  ENTRY  ENDED    OUTCOME  WHY
         7  runs   55s ago  failed   source: listing tags: denied
",
        Digest::of(b"x").short()
    );
    assert_eq!(text.split_once("\n\n").unwrap().1, expected);
}

#[test]
fn scheduled_run_within_a_pause_is_never_the_next_run() {
    let entry =
        EntryState { paused_since: Some(time_at(0)), next_firing: Some(time_at(90)), ..snapshot().entries.remove(0) };
    let shown = |entry: EntryState| {
        let mut table = Table::new(&[Column::left("NEXT RUN")]);
        table.row([next_run(&entry, time_at(60))]);
        table_layout::tab_separated(&table, false).remove(1)
    };
    assert_eq!(shown(entry.clone()), NONE_WHILE_PAUSED);
    assert_eq!(shown(EntryState { paused_until: Some(time_at(100)), ..entry.clone() }), NONE_WHILE_PAUSED);
    assert_eq!(shown(EntryState { paused_until: Some(time_at(80)), ..entry }), "2027-01-15T08:01:30Z");
}
