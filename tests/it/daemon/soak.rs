//! Soak test: thousands of scheduled runs of the real daemon on a clock that the test sets. Memory, descriptors,
//! threads and the journal must not grow with the number of runs.
//!
//! The clock is Debian's libfaketime, which reads a file at each query of the time. The clock advances in steps as soon
//! as the runs of the last step have ended, so the test does not depend on the speed of the machine. Timers use the
//! monotonic clock, which stays real. `TRANSSHIP_LONG` increases the number to ten thousand runs, which take one or two
//! minutes on two cores.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::clock::Clock;
use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::Running;
use crate::support::registry::Server;
use crate::support::site::Site;

/// Number of entries that are due at full hours, and number of entries that are due at half hours. One group becomes
/// due while the other runs.
const ENTRIES_PER_HALF_HOUR: usize = 40;

/// Length of a step of the clock, in minutes.
const STEP: i64 = 30;

/// Number of runs of the quick form and of the long form.
const FIRINGS: [usize; 2] = [3_200, 10_000];

/// Maximum number of runs of a step that may still be in progress at the next step. So the loop is never idle.
const MAX_RUNNING: usize = 12;

/// Sources and rules of the entries that always fail.
const FAILING: [(&str, &str); 6] = [
    ("app", ""),
    ("app", ", tags: {include: none-EDIT, at_least: 1}"),
    ("other", ""),
    ("other", ", tags: {include: none-EDIT, at_least: 1}"),
    ("nowhere", ""),
    ("nowhere", ""),
];

/// Number of steps between two edits of the configuration.
const STEPS_PER_EDIT: usize = 10;

/// Time limit of a step on a busy machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Resources of the daemon at one time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Bytes of allocated memory (`RssAnon`), without the pages of the program's file.
    memory: u64,
    descriptors: usize,
    threads: u64,
    /// Size of the journal and its write-ahead log, in bytes.
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
        ended = daemon.wait_until_within(STEP_TIMEOUT, "the runs of the step", |_| {
            let ended = count_ends(&address, "well-")?;
            (ended + MAX_RUNNING >= steps * ENTRIES_PER_HALF_HOUR).then_some(ended)
        });
        assert!(["/status", "/"].iter().all(|page| http::get(&address, page).is_some_and(|(code, _)| code == 200)));
        samples.push(soak.sample(&daemon));
    }
    assert!(
        count_ends(&address, "bad-").is_some_and(|ended| ended > FAILING.len()),
        "the others failed, more than once"
    );
    let reloads = daemon.stderr().matches("the configuration was read again").count();
    assert!(reloads >= steps / STEPS_PER_EDIT - 1, "{reloads} reloads in {steps} steps");
    assert_flat(&samples, "bytes of memory", |sample| sample.memory, |_| 1 << 20);
    assert_flat(&samples, "descriptors", |sample| sample.descriptors as u64, |_| 4);
    assert_flat(&samples, "threads", |sample| sample.threads, |_| 2);
    assert_flat(&samples, "bytes of the journal", |sample| sample.journal, |before| before / 10 + (256 << 10));
    soak.check_the_journal(daemon, moves, ended);
}

/// Asserts that a resource does not grow over the second half of the test: the maximum in the last quarter may exceed
/// the maximum in the third quarter only by `more`.
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

    /// Writes entries into registries and folders, and entries that fail. Each edit changes a rule of the failing
    /// entries.
    fn configure(&self, edit: usize) {
        let (source, target) = (self.source.host(), self.target.host());
        let mut entries = Vec::new();
        for number in 0..2 * ENTRIES_PER_HALF_HOUR {
            let minute = if number % 2 == 0 { 0 } else { STEP };
            let target = match number % 10 {
                9 => format!("oci-layout:{}", self.site.path(&format!("out-{number}")).display()),
                _ => format!("{target}/to-{number}"),
            };
            let repository = if number < 2 { "app" } else { "other" };
            entries.push(format!(
                "- {{name: well-{number}, source: \"{source}/{repository}\", target: \"{target}\", schedule: \
                    \"{minute} * * * *\"}}"
            ));
        }
        for (number, (repository, rule)) in FAILING.iter().enumerate() {
            // A file cannot contain a layout, so these entries fail.
            let target = match number % 2 {
                0 => format!("oci-layout:{}", self.site.path("sync.yaml/bad").display()),
                _ => format!("{target}/bad-{number}"),
            };
            let rule = rule.replace("EDIT", &edit.to_string());
            entries.push(format!(
                "- {{name: bad-{number}, source: \"{source}/{repository}\", target: \"{target}\", schedule: every \
                    1h{rule}}}"
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

    /// Advances the clock. In some steps, first moves a tag or edits the configuration. Returns true if a tag moved.
    fn step(&self, step: usize) -> bool {
        if step % STEPS_PER_EDIT == STEPS_PER_EDIT - 1 {
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

    /// Checks the journal: the history covers the last day, and each copied tag has evidence.
    fn check_the_journal(&self, daemon: Running, moves: usize, ended: usize) {
        daemon.signal("TERM");
        daemon.wait(STEP_TIMEOUT).expect_success();
        let runs = self.site.history(&["--limit", "100000"]).len();
        assert!(runs > 24 * 2 * ENTRIES_PER_HALF_HOUR && runs < ended / 4 * 3, "{runs} of {ended} runs are left");
        // Each entry has evidence of its first copy. Each move of the tag adds evidence for two entries. The last move
        // may still be in progress.
        let expected = 2 * ENTRIES_PER_HALF_HOUR + 2 * moves;
        let evidence = self.site.evidence(&["--limit", "100000"]).len();
        assert!((expected - 2..=expected).contains(&evidence), "{evidence} of {expected}");
    }
}

/// Returns the number of ended runs of the entries whose names begin with `names`, from the metrics.
fn count_ends(address: &str, names: &str) -> Option<usize> {
    let (_, metrics) = http::get(address, "/metrics")?;
    let begin = format!("transship_entry_runs_total{{entry=\"{names}");
    let of_runs = metrics.lines().filter(|line| line.starts_with(&begin));
    let count = |line: &str| line.rsplit(' ').next()?.parse::<usize>().ok();
    Some(of_runs.filter_map(count).sum())
}
