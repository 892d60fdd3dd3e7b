//! Thousands of firings of the real daemon, on a clock that the test sets: what it holds must not grow with them.
//!
//! The clock is Debian's libfaketime, by a file that is read at every look at the time. It moves in steps, as fast as the runs end,
//! so the test takes as long as its runs take and depends on no speed. Timers go by the monotonic clock, which stays real.
//! `TRANSSHIP_LONG` makes it ten thousand firings, a minute or two of two cores.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::clock::Clock;
use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::Running;
use crate::support::registry::Server;
use crate::support::site::Site;

/// Entries that fire at the full hours, and as many that do at the half ones: while the ones run the others become due.
const OF_A_KIND: usize = 40;

/// The minutes of one step of the clock.
const STEP: i64 = 30;

/// The firings of the quick form, and of the long one.
const FIRINGS: [usize; 2] = [3_200, 10_000];

/// How many runs of a step may still go on when the clock makes the next one: so the loop is never idle.
const BEHIND: usize = 12;

/// The sources and rules of the entries that always fail.
const BAD: [(&str, &str); 6] = [
    ("app", ""),
    ("app", ", tags: {include: none-EDIT, at_least: 1}"),
    ("other", ""),
    ("other", ", tags: {include: none-EDIT, at_least: 1}"),
    ("nowhere", ""),
    ("nowhere", ""),
];

/// After how many steps the configuration is edited again.
const EDITED_EVERY: usize = 10;

/// How long one step may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the daemon holds at one time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Bytes that the process has allocated and holds in memory (`RssAnon`): the pages of the program's file do not count.
    memory: u64,
    descriptors: usize,
    threads: u64,
    /// Bytes of the journal and of its log.
    journal: u64,
}

#[test]
fn thousands_of_runs_and_reloads_leave_memory_and_threads_constant() {
    let firings = FIRINGS[usize::from(std::env::var_os("TRANSSHIP_LONG").is_some())];
    let soak = Soak::begin();
    let (mut daemon, address) = soak.start();
    let (mut samples, mut ended, mut moves) = (Vec::new(), 0, 0);
    let mut steps = 0;
    while ended < firings {
        moves += usize::from(soak.step(steps));
        steps += 1;
        ended = daemon.wait_until_within(PATIENCE, "the runs of the step", |_| {
            let ended = count_ends(&address, "well-")?;
            (ended + BEHIND >= steps * OF_A_KIND).then_some(ended)
        });
        assert!(["/status", "/"].iter().all(|page| http::get(&address, page).is_some_and(|(code, _)| code == 200)));
        samples.push(soak.sample(&daemon));
    }
    assert!(count_ends(&address, "bad-").is_some_and(|ended| ended > BAD.len()), "the others failed, more than once");
    let reloads = daemon.stderr().matches("the configuration was read again").count();
    assert!(reloads >= steps / EDITED_EVERY - 1, "{reloads} reloads in {steps} steps");
    assert_flat(&samples, "bytes of memory", |sample| sample.memory, |_| 1 << 20);
    assert_flat(&samples, "descriptors", |sample| sample.descriptors as u64, |_| 4);
    assert_flat(&samples, "threads", |sample| sample.threads, |_| 2);
    assert_flat(&samples, "bytes of the journal", |sample| sample.journal, |before| before / 10 + (256 << 10));
    soak.check_the_journal(daemon, moves, ended);
}

/// Over the last half of the firings, by the greatest value in its first part and in its last: what is not flat by then goes on growing.
#[track_caller]
fn assert_flat(samples: &[Sample], what: &str, of: impl Fn(&Sample) -> u64, more: impl Fn(u64) -> u64) {
    let quarters = samples.chunks(samples.len().div_ceil(4)).map(|quarter| quarter.iter().map(&of).max());
    let quarters: Vec<u64> = quarters.flatten().collect();
    let [_, _, third, fourth] = quarters[..] else { panic!("four quarters: {quarters:?}") };
    assert!(fourth <= third + more(third), "{what} by quarters of the firings: {quarters:?}");
}

struct Soak {
    source: Server,
    target: Server,
    site: Site,
    clock: Clock,
}

impl Soak {
    fn begin() -> Self {
        let soak = Self { source: Server::start(), target: Server::start(), site: Site::new(), clock: Clock::new() };
        images::small(Family::Oci, 0).put(&soak.source, "app", Some("v1"));
        images::small(Family::Oci, 1).put(&soak.source, "other", Some("v1"));
        soak.configure(0);
        soak
    }

    /// Entries over registries and into folders, and some that fail. An edit changes a rule of these.
    fn configure(&self, edit: usize) {
        let (source, target) = (self.source.host(), self.target.host());
        let mut entries = Vec::new();
        for number in 0..2 * OF_A_KIND {
            let minute = if number % 2 == 0 { 0 } else { STEP };
            let target = match number % 10 {
                9 => format!("oci-layout:{}", self.site.path(&format!("out-{number}")).display()),
                _ => format!("{target}/to-{number}"),
            };
            let repository = if number < 2 { "app" } else { "other" };
            entries.push(format!(
                "- {{name: well-{number}, source: \"{source}/{repository}\", target: \"{target}\", schedule: \"{minute} * * * *\"}}"
            ));
        }
        for (number, (repository, rule)) in BAD.iter().enumerate() {
            // Below a file there is no folder.
            let target = match number % 2 {
                0 => format!("oci-layout:{}", self.site.path("sync.yaml/bad").display()),
                _ => format!("{target}/bad-{number}"),
            };
            let rule = rule.replace("EDIT", &edit.to_string());
            entries.push(format!(
                "- {{name: bad-{number}, source: \"{source}/{repository}\", target: \"{target}\", schedule: every 1h{rule}}}"
            ));
        }
        let registries = [source, target].map(|host| format!("\"{host}\": {{plain_http: true}}"));
        self.site.configure_fully(
            "status: \"127.0.0.1:0\", keep_history: 1d, entries_at_once: 8",
            &registries.join(", "),
            &entries.join("\n"),
        );
    }

    fn start(&self) -> (Running, String) {
        let mut command = self.site.command(&["run"]);
        self.clock.apply_to(&mut command);
        let mut daemon = Running::start(&mut command);
        let address = daemon.ready();
        (daemon, address)
    }

    /// Sets the clock forward, after what happens now and then. Whether a tag moved.
    fn step(&self, step: usize) -> bool {
        if step % EDITED_EVERY == EDITED_EVERY - 1 {
            self.configure(step);
        }
        let moves = step % 12 == 5;
        if moves {
            images::small(Family::Oci, 100 + step as u64).put(&self.source, "app", Some("v1"));
        }
        self.clock.advance(STEP * 60);
        moves
    }

    fn sample(&self, daemon: &Running) -> Sample {
        let process = PathBuf::from(format!("/proc/{}", daemon.id()));
        let status = std::fs::read_to_string(process.join("status")).expect("the daemon runs");
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field of the kernel");
            line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        Sample {
            memory: number("RssAnon:") << 10,
            descriptors: std::fs::read_dir(process.join("fd")).expect("our own child").count(),
            threads: number("Threads:"),
            journal: size(&self.site.journal()) + size(&self.site.path("journal.db-wal")),
        }
    }

    /// History is that of the last day; whatever arrived has its evidence.
    fn check_the_journal(&self, daemon: Running, moves: usize, ended: usize) {
        daemon.signal("TERM");
        daemon.wait(PATIENCE).expect_success();
        let runs = self.site.history(&["--limit", "100000"]).len();
        assert!(runs > 24 * 2 * OF_A_KIND && runs < ended / 4 * 3, "{runs} of {ended} runs are left");
        // What came first to each entry, and each move to the two entries that read that tag. The last may be on its way.
        let expected = 2 * OF_A_KIND + 2 * moves;
        let evidence = self.site.evidence(&["--limit", "100000"]).len();
        assert!((expected - 2..=expected).contains(&evidence), "{evidence} of {expected}");
    }
}

/// How many runs of the entries whose names begin so are over, by the metrics.
fn count_ends(address: &str, names: &str) -> Option<usize> {
    let (_, metrics) = http::get(address, "/metrics")?;
    let begin = format!("transship_entry_runs_total{{entry=\"{names}");
    let of_runs = metrics.lines().filter(|line| line.starts_with(&begin));
    let count = |line: &str| line.rsplit(' ').next()?.parse::<usize>().ok();
    Some(of_runs.filter_map(count).sum())
}
