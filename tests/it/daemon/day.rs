//! A day in the life of the daemon, as its package installs it: from the installation in the morning to SIGTERM in the midst of
//! a gigabyte, and what came of that. After each step is looked at what an operator looks at; skopeo tells what arrived.
//!
//! The minutes by which entries fire pass as soon as a run had the time that it needs (`support::clock`). All else is real.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use transship::oci::Digest;

use crate::packaging::debian::{self, Root};
use crate::packaging::prometheus::Prometheus;
use crate::support::chromium::Chromium;
use crate::support::clock::Clock;
use crate::support::gate::Gate;
use crate::support::programs::{DEADLINE, DebianRegistry, Output, Running, skopeo, skopeo_copy, skopeo_manifest};
use crate::support::site::parse;
use crate::support::{http, large};

/// How long a minute of the daemon's clock takes.
const MINUTE: Duration = Duration::from_secs(4);

/// How long some firings and their runs may take, on a busy machine.
const SOME_MINUTES: Duration = Duration::from_secs(150);

/// How long a gigabyte may take there.
const A_GIGABYTE: Duration = Duration::from_secs(300);

/// Passwords of `mirror` at the target, one after the other, each with its line in the registry's file.
const PASSWORD: &str = "c4nary-p4ss";
const HTPASSWD: &str = "mirror:$2y$05$abcdefghijklmnopqrstuuXvrSL3Pi/EvKlC12beLQZLHpQxc1wUa\n";
const NEXT_PASSWORD: &str = "the-second-c4nary";
const NEXT_HTPASSWD: &str = "mirror:$2b$05$abcdefghijklmnopqrstuuNINJ1Vz8KCUntIfkFW6H9rBuc2UaagG\n";

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// The machine of the operator: where the package is installed, and the registries that its daemon knows.
struct Machine {
    root: Root,
    /// Where images are built.
    build: DebianRegistry,
    /// Where they are mirrored to; it lets nobody in without a password.
    mirror: DebianRegistry,
    to_build: Gate,
    to_mirror: Gate,
    /// By which the daemon goes, and whoever asks it.
    clock: Clock,
    /// What systemd was told.
    systemd: Arc<Mutex<String>>,
    daemon: Option<Running>,
    /// Where its status port is.
    status: String,
    /// What goes on, for whoever reads of a failure.
    step: &'static str,
    /// What daemons have logged that ended.
    logged: String,
}

#[test]
fn a_day_in_the_life_of_the_daemon_that_the_package_installs() {
    let mut machine = Machine::with_the_package_installed();
    machine.the_daemon_starts();
    let scraped = Gate::start(&machine.status);
    let mut prometheus = Prometheus::start(&scraped.host(), None);
    machine.two_entries_fire_by_cron();
    machine.an_edit_breaks_the_file_and_is_mended(&mut prometheus);
    machine.an_entry_is_added_and_the_password_changes();
    machine.an_entry_is_triggered_paused_and_resumed(&mut prometheus);
    machine.a_registry_dies_and_returns(&mut prometheus);
    machine.the_daemon_ends_in_the_midst_of_a_gigabyte_and_goes_on_from_there(&scraped);
    machine.prometheus_has_seen_the_day(&mut prometheus);
    machine.the_journal_tells_of_the_day();
}

impl Machine {
    fn with_the_package_installed() -> Self {
        let (folder, root) = (TempDir::new().unwrap(), Root::new());
        let package = debian::build(folder.path());
        root.dpkg(&["--install", package.to_str().unwrap()]);
        for folder in ["var/lib/transship", "run/transship", "run/credentials"] {
            fs::create_dir_all(root.path(folder)).unwrap();
        }
        let systemd = systemd_listens(&root.path("run/notify"));
        let (build, mirror) = (DebianRegistry::start(), DebianRegistry::guarded(HTPASSWD));
        let (to_build, to_mirror) = (Gate::start(build.host()), Gate::start(mirror.host()));
        let (daemon, status, step, logged) = (None, String::new(), "the package is installed", String::new());
        let clock = Clock::new();
        let machine = Self { root, build, mirror, to_build, to_mirror, clock, systemd, daemon, status, step, logged };
        machine.hand_over_password(PASSWORD);
        machine.build_pushes("team/app", "1.0.0");
        machine.build_pushes("team/base", "1.0.0");
        machine
    }

    fn the_daemon_starts(&mut self) {
        self.step = "the daemon starts";
        self.write_configuration(&[self.entry("app"), self.entry("base")], "");
        self.transship(&["check"]).expect_success();
        self.start();
        self.wait(DEADLINE, "readiness", |machine| machine.answers("/readyz", 200));
        self.wait(DEADLINE, "systemd to be told", |machine| machine.has_told_systemd("READY=1"));
        let shown = self.transship(&["status", "--at", &self.status]).expect_success().stdout;
        assert!(shown.contains("ready") && shown.contains("app") && shown.contains("none yet"), "{shown}");
    }

    fn two_entries_fire_by_cron(&mut self) {
        self.step = "two entries fire by cron";
        for name in ["app", "base"] {
            self.wait_over_minutes(name, |machine| machine.last_run(name).filter(|run| run["outcome"] == "succeeded"));
            self.has_arrived(name, "1.0.0", PASSWORD);
            let evidence = self.listed(&["evidence", "--json", "--entry", name]);
            assert_eq!(evidence[0]["target_identity"], "mirror", "{evidence:#?}");
        }
    }

    fn an_edit_breaks_the_file_and_is_mended(&mut self, prometheus: &mut Prometheus) {
        self.step = "an edit breaks the file";
        let good = fs::read_to_string(self.configuration()).unwrap();
        self.save(&good.replace("schedule: \"* * * * *\"", "schedule: \"* * * *\""));
        let problem = self.wait(DEADLINE, "the refusal in /status", |machine| {
            http::status(&machine.status)?["configuration"]["problem"].as_str().map(str::to_owned)
        });
        assert!(problem.contains("sync.yaml:"), "{problem}");
        let line = problem.lines().find(|line| line.contains("sync.yaml:")).unwrap_or_default().trim().to_owned();
        assert!(self.log().contains(&line), "{line}");
        prometheus.finds("transship_configuration_last_reload_successful == 0");
        let shown = self.transship(&["status", "--at", &self.status]).expect_success().stdout;
        assert!(shown.contains("refused") && shown.contains(&line), "{shown}");
        assert_eq!(self.transship(&["check"]).code(), 2);
        assert!(self.answers("/readyz", 200).is_some() && self.next_firing("app").is_some(), "the old one goes on");

        self.step = "the file is mended";
        self.save(&good);
        self.wait(DEADLINE, "the good edit", |machine| {
            http::status(&machine.status)?["configuration"]["problem"].is_null().then_some(())
        });
        prometheus.finds("transship_configuration_last_reload_successful == 1");
    }

    fn an_entry_is_added_and_the_password_changes(&mut self) {
        self.step = "an entry is added";
        self.build_pushes("team/model", "1.0.0");
        self.build_pushes("team/app", "1.1.0");
        self.save_when_nothing_fires(&[self.entry("app"), self.entry("base"), self.entry("model")], "");
        self.wait(DEADLINE, "the entry", |machine| machine.next_firing("model"));
        self.step = "the password of the mirror changes";
        self.hand_over_password(NEXT_PASSWORD);
        self.mirror.set_htpasswd(NEXT_HTPASSWD);
        assert!(!self.inspect("app", "1.0.0", PASSWORD).status.success(), "the old one is not let in");
        self.wait_over_minutes("the added entry", |machine| {
            machine.last_run("model").filter(|run| run["outcome"] == "succeeded")
        });
        self.has_arrived("model", "1.0.0", NEXT_PASSWORD);
        self.wait_over_minutes("the tag that is new", |machine| {
            machine.inspect("app", "1.1.0", NEXT_PASSWORD).status.success().then_some(())
        });
        self.has_arrived("app", "1.1.0", NEXT_PASSWORD);
        let failed = self.listed(&["history", "--json"]).into_iter().find(|run| run["outcome"] == "failed");
        assert_eq!(failed, None, "nobody noticed the new password");
    }

    fn an_entry_is_triggered_paused_and_resumed(&mut self, prometheus: &mut Prometheus) {
        self.step = "an entry is triggered";
        self.build_pushes("team/base", "1.1.0");
        self.wait_for_a_quiet_moment();
        let said = self.transship(&["trigger", "base", "--wait"]).expect_success().stdout;
        assert!(said.contains("base: succeeded, "), "{said}");
        self.has_arrived("base", "1.1.0", NEXT_PASSWORD);
        let runs = self.listed(&["history", "--json", "--entry", "base"]);
        assert!(runs.iter().any(|run| run["trigger"] == "requested"), "{runs:#?}");

        self.step = "an entry is paused";
        self.wait_for_a_quiet_moment();
        self.transship(&["pause", "base"]).expect_success();
        let last = self.last_run("base");
        self.build_pushes("team/base", "latest");
        for _ in 0..2 {
            let before = self.last_run("app");
            self.wait_over_minutes("another entry to fire", |machine| {
                machine.last_run("app").filter(|run| Some(run) != before.as_ref())
            });
        }
        assert_eq!(self.last_run("base"), last, "it began nothing");
        assert!(!self.inspect("base", "latest", NEXT_PASSWORD).status.success());
        assert!(self.told_of("base").unwrap()["paused_since"].is_string());
        let shown = self.transship(&["status", "--at", &self.status]).expect_success().stdout;
        assert!(shown.contains("paused since"), "{shown}");
        prometheus.finds("transship_entry_paused{entry=\"base\"} == 1");

        self.step = "an entry is resumed";
        self.transship(&["resume", "base"]).expect_success();
        self.wait_over_minutes("what waited for the end of the pause", |machine| {
            machine.inspect("base", "latest", NEXT_PASSWORD).status.success().then_some(())
        });
        self.has_arrived("base", "latest", NEXT_PASSWORD);
        prometheus.finds("transship_entry_paused{entry=\"base\"} == 0");
    }

    fn a_registry_dies_and_returns(&mut self, prometheus: &mut Prometheus) {
        self.step = "the mirror dies";
        self.to_mirror.close();
        self.mirror.kill();
        self.build_pushes("team/app", "latest");
        let run = self.wait_over_minutes("a run that fails", |machine| {
            machine.last_run("app").filter(|run| run["outcome"] == "failed")
        });
        let error = run["error"].as_str().unwrap_or_default();
        assert!(error.contains("target") && error.contains(&self.to_mirror.host()), "{error}");
        let shown = self.transship(&["status", "--at", &self.status]).expect_success().stdout;
        assert!(shown.contains(error), "{shown}");
        for path in ["/healthz", "/readyz"] {
            assert!(self.answers(path, 200).is_some(), "{path}: a dead registry is no trouble of the daemon");
        }
        prometheus.finds("transship_entry_last_failure_timestamp_seconds{entry=\"app\"}");

        self.step = "the mirror returns";
        self.mirror.restart_on_other_port();
        self.to_mirror.forward_to(self.mirror.host());
        self.wait_over_minutes("a run that succeeds", |machine| {
            machine.last_run("app").filter(|run| run["outcome"] == "succeeded")
        });
        self.has_arrived("app", "latest", NEXT_PASSWORD);
    }

    fn the_daemon_ends_in_the_midst_of_a_gigabyte_and_goes_on_from_there(&mut self, scraped: &Gate) {
        self.step = "a gigabyte is on its way";
        let entries = [self.entry("app"), self.entry("base"), self.entry("model")];
        self.write_configuration(&entries, ", limits: {bandwidth: 20MiB/s}");
        let mut browser = Chromium::start();
        let (read, written) = (self.to_build.bytes_received(), self.to_mirror.bytes_sent());
        let (manifest, layer) = large::put(self.build.storage(), "team/model", GIB);
        self.build_takes_manifest("team/model", "large", &manifest);
        self.wait_over_minutes("a good part of it to arrive", |machine| {
            (machine.to_mirror.bytes_sent() - written > 100 * MIB).then_some(())
        });
        let shown = self.transship(&["status", "--at", &self.status]).expect_success().stdout;
        assert!(shown.contains("1.0 GiB") && shown.contains(&layer.short()), "{shown}");
        self.chromium_reads_the_page(&mut browser, layer);

        self.step = "SIGTERM in the midst of it";
        let log = self.end();
        let confirmed = self.confirmed(layer);
        let by_first = self.to_mirror.bytes_sent() - written;
        assert!(by_first < 900 * MIB, "it did not wait for the rest: {} MiB", by_first / MIB);
        assert!(confirmed > 90 * MIB && confirmed <= by_first, "{} of {} MiB", confirmed / MIB, by_first / MIB);
        assert!(!self.inspect("model", "large", NEXT_PASSWORD).status.success(), "no tag moves half-way");
        assert_eq!(self.listed(&["history", "--json", "--entry", "model"])[0]["outcome"], "interrupted", "{log}");

        self.step = "the next start";
        self.write_configuration(&entries, "");
        self.start();
        scraped.forward_to(&self.status);
        self.wait(A_GIGABYTE, "the rest", |machine| {
            machine.last_run("model").filter(|run| run["outcome"] == "succeeded")
        });
        self.has_arrived("model", "large", NEXT_PASSWORD);
        assert_eq!(large::digest_of(&large::blob_path(self.mirror.storage(), layer)), layer);
        let (read, by_next) = (self.to_build.bytes_received() - read, self.to_mirror.bytes_sent() - written - by_first);
        // Beside the layer there are heads of requests, and small images.
        let rest = GIB - confirmed;
        assert!((rest..rest + 2 * MIB).contains(&by_next), "{} MiB were sent of {}", by_next / MIB, rest / MIB);
        assert!(read < GIB + 64 * MIB, "{} MiB were read in all", read / MIB);
        let evidence = self.listed(&["evidence", "--json", "--entry", "model"]);
        let of_large = evidence.iter().find(|arrival| arrival["tag"] == "large").expect("evidence of it");
        assert!(of_large["bytes"].as_u64() >= Some(GIB), "the whole is proven: {of_large:#?}");
    }

    /// What moves is on it, what happened since the morning, and nothing that the browser finds fault with.
    fn chromium_reads_the_page(&mut self, browser: &mut Chromium, layer: Digest) {
        self.step = "Chromium reads the page";
        browser.open(&format!("http://{}/", self.status));
        let told = browser.text("main");
        for words in ["Running now", "model", "Transfers", &layer.short(), "% of 1.00 GiB", "app", "base"] {
            assert!(told.contains(words), "{words} is missing in {told}");
        }
        assert_eq!(browser.evaluate("document.querySelectorAll('svg.small').length"), 3);
        browser.open(&format!("http://{}/entry?name=app", self.status));
        assert!(browser.text("main").contains("failed"), "{}", browser.text("main"));
        browser.open(&format!("http://{}/search?q=1.1.0", self.status));
        assert!(browser.text("main").contains("Arrivals"), "{}", browser.text("main"));
        assert_eq!(browser.problems(), Vec::<String>::new());
    }

    fn prometheus_has_seen_the_day(&mut self, prometheus: &mut Prometheus) {
        self.step = "Prometheus is asked";
        prometheus.finds("up{job=\"transship\"} == 1");
        prometheus.finds("transship_entry_last_success_timestamp_seconds{entry=\"model\"}");
        let last = prometheus.finds("max_over_time(transship_configuration_last_reload_successful[10m])");
        assert_eq!(last[0]["value"][1], "1");
    }

    fn the_journal_tells_of_the_day(&mut self) {
        self.step = "the evening";
        let log = self.end();
        let told = self.transship(&["status", "--at", &self.status]);
        assert_eq!(told.code(), 1, "nobody answers any more: {}", told.stderr);
        let runs = self.listed(&["history", "--json"]);
        assert!(runs.iter().all(|run| run["outcome"] != "running" && !run["outcome"].is_null()), "{runs:#?}");
        let arrived = |tag: &str| self.listed(&["evidence", "--json"]).iter().any(|arrival| arrival["tag"] == tag);
        for tag in ["1.0.0", "1.1.0", "latest", "large"] {
            assert!(arrived(tag), "{tag}: {log}");
        }
        for secret in [PASSWORD, NEXT_PASSWORD] {
            assert!(!self.logged.contains(secret), "a password is in the log");
        }
    }
}

/// What the steps are made of.
impl Machine {
    fn configuration(&self) -> std::path::PathBuf {
        self.root.path("etc/transship/sync.yaml")
    }

    /// An entry from the build registry to its namesake in the mirror, each minute.
    fn entry(&self, name: &str) -> String {
        let (build, mirror) = (self.to_build.host(), self.to_mirror.host());
        format!(
            "- {{name: {name}, source: \"{build}/team/{name}\", target: \"{mirror}/prod/{name}\", schedule: \"* * * * *\"}}"
        )
    }

    /// `sync.yaml` with these entries; `more` is said of the mirror.
    fn write_configuration(&self, entries: &[String], more: &str) {
        let (build, mirror) = (self.to_build.host(), self.to_mirror.host());
        self.save(&format!(
            "version: 1\ndaemon: {{status: \"127.0.0.1:0\", shutdown_grace: 1s}}\nregistries:\n  \"{build}\": {{plain_http: true}}\n  \
             \"{mirror}\": {{plain_http: true, upload: {{mode: chunked}}, credentials: {{username: mirror, password: {{file: \"${{CREDENTIALS_DIRECTORY}}/mirror\"}}}}{more}}}\n\
             sync:\n{}\n",
            entries.join("\n")
        ));
    }

    /// The same, at a moment at which no run begins soon.
    fn save_when_nothing_fires(&mut self, entries: &[String], more: &str) {
        self.wait_for_a_quiet_moment();
        self.write_configuration(entries, more);
    }

    /// Waits until no run goes on and none begins soon. The clock of the daemon goes ahead of ours by whole minutes.
    fn wait_for_a_quiet_moment(&mut self) {
        self.wait(SOME_MINUTES, "a quiet moment", |machine| {
            let status = http::status(&machine.status)?;
            let is_idle = status["entries"].as_array()?.iter().all(|entry| entry["running"].is_null());
            (is_idle && (2..40).contains(&(chrono::Utc::now().timestamp() % 60))).then_some(())
        });
    }

    /// Replaces the configuration as an editor does.
    fn save(&self, text: &str) {
        let new = self.root.path("etc/transship/.sync.yaml.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.configuration()).unwrap();
    }

    /// What systemd's LoadCredential= leaves there at a start. systemd itself changes it with a restart only; Kubernetes, and whoever
    /// keeps the files in a folder of their own, replace them while the daemon runs.
    fn hand_over_password(&self, password: &str) {
        let (new, file) = (self.root.path("run/credentials/.new"), self.root.path("run/credentials/mirror"));
        fs::write(&new, password).unwrap();
        fs::rename(new, file).unwrap();
    }

    /// The installed program, with what systemd gives to the service.
    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("TRANSSHIP_CONFIG", self.configuration());
        for (variable, folder) in [
            ("STATE_DIRECTORY", "var/lib/transship"),
            ("RUNTIME_DIRECTORY", "run/transship"),
            ("CREDENTIALS_DIRECTORY", "run/credentials"),
            ("NOTIFY_SOCKET", "run/notify"),
        ] {
            command.env(variable, self.root.path(folder));
        }
        self.clock.apply_to(&mut command);
        command
    }

    /// The installed program, run to its end.
    fn transship(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(&self.root.path("usr/bin/transship"), arguments);
        Running::start(command.env_remove("NOTIFY_SOCKET")).wait(DEADLINE)
    }

    /// The rows of a list that it prints.
    #[track_caller]
    fn listed(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.transship(arguments).expect_success();
        parse(&output.stdout).as_array().expect("a list").clone()
    }

    /// Starts the service by the command of its unit.
    fn start(&mut self) {
        let unit = fs::read_to_string(self.root.path("usr/lib/systemd/system/transship.service")).unwrap();
        let started = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("the unit starts something");
        let in_root = |word: &str| match word.strip_prefix('/') {
            Some(path) => self.root.path(path).display().to_string(),
            None => word.to_owned(),
        };
        let words: Vec<String> = started.split_whitespace().map(in_root).collect();
        let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let mut daemon = Running::start(&mut self.command(Path::new(&words[0]), &arguments));
        self.status = daemon.ready();
        self.daemon = Some(daemon);
    }

    /// Ends the service as systemd does; what it logged.
    #[track_caller]
    fn end(&mut self) -> String {
        let daemon = self.daemon.take().expect("a daemon runs");
        daemon.signal("TERM");
        let log = daemon.wait(DEADLINE).expect_success().stderr;
        self.logged.push_str(&log);
        log
    }

    fn log(&self) -> String {
        self.daemon.as_ref().map(Running::stderr).unwrap_or_default()
    }

    /// Waits until `found` sees what it looks for, while the daemon runs.
    #[track_caller]
    fn wait<T>(&mut self, longest: Duration, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        let seen = daemon.wait_until_within(longest, what, |_| found(self));
        self.daemon = Some(daemon);
        seen
    }

    /// The same, while minutes pass on the clock of the daemon.
    #[track_caller]
    fn wait_over_minutes<T>(&mut self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let mut passed: Option<Instant> = None;
        self.wait(SOME_MINUTES, what, |machine| {
            let seen = found(machine);
            if seen.is_none() && passed.is_none_or(|passed| passed.elapsed() >= MINUTE) {
                machine.clock.advance(60);
                passed = Some(Instant::now());
            }
            seen
        })
    }

    /// How many bytes of a layer the mirror has acknowledged, by the journal.
    #[track_caller]
    fn confirmed(&self, layer: Digest) -> u64 {
        let journal = rusqlite::Connection::open(self.root.path("var/lib/transship/journal.db")).unwrap();
        let stored = "SELECT stored FROM uploads WHERE digest = ?1";
        journal.query_row(stored, [layer.to_string()], |row| row.get::<_, u32>(0)).unwrap().into()
    }

    fn answers(&self, path: &str, expected: u16) -> Option<()> {
        http::get(&self.status, path).filter(|(status, _)| *status == expected).map(|_| ())
    }

    /// Whether a line of this beginning was among what systemd was told.
    fn has_told_systemd(&self, line: &str) -> Option<()> {
        self.systemd.lock().unwrap().lines().any(|told| told.starts_with(line)).then_some(())
    }

    /// An entry in `/status`.
    fn told_of(&self, name: &str) -> Option<Value> {
        http::status(&self.status)?["entries"].as_array()?.iter().find(|entry| entry["name"] == name).cloned()
    }

    fn last_run(&self, name: &str) -> Option<Value> {
        self.told_of(name).map(|entry| entry["last_run"].clone()).filter(Value::is_object)
    }

    fn next_firing(&self, name: &str) -> Option<String> {
        self.told_of(name)?["next_firing"].as_str().map(str::to_owned)
    }

    /// Somebody pushes the example of this tag.
    fn build_pushes(&self, repository: &str, tag: &str) {
        let images = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");
        skopeo_copy(&format!("oci:{images}:{tag}"), &format!("docker://{}/{repository}:{tag}", self.build.host()));
    }

    #[track_caller]
    fn build_takes_manifest(&self, repository: &str, tag: &str, manifest: &str) {
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.build.host());
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail-with-body", "--noproxy", "*", "--request", "PUT", "--data-binary", manifest]);
        curl.args(["--header", "Content-Type: application/vnd.oci.image.manifest.v1+json", &url]);
        Running::start(&mut curl).wait(DEADLINE).expect_success();
    }

    /// What skopeo finds at the mirror.
    fn inspect(&self, name: &str, tag: &str, password: &str) -> Output {
        let place = format!("docker://{}/prod/{name}:{tag}", self.mirror.host());
        skopeo(&["inspect", "--raw", "--tls-verify=false", "--creds", &format!("mirror:{password}"), &place])
    }

    #[track_caller]
    fn has_arrived(&self, name: &str, tag: &str, password: &str) {
        let there = self.inspect(name, tag, password).expect_success().stdout;
        assert_eq!(there, skopeo_manifest(&format!("docker://{}/team/{name}:{tag}", self.build.host())));
    }
}

/// Listens as systemd does: whoever tells it something never waits. It ends with whoever looks at what was told.
fn systemd_listens(path: &Path) -> Arc<Mutex<String>> {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let told = Arc::<Mutex<String>>::default();
    let into = Arc::downgrade(&told);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Some(into) = into.upgrade() {
            if let Ok(length) = socket.recv(&mut buffer) {
                let mut into = into.lock().unwrap();
                into.push_str(&String::from_utf8_lossy(&buffer[..length]));
                into.push('\n');
            }
        }
    });
    told
}

impl Drop for Machine {
    #[expect(clippy::print_stderr, reason = "nobody else tells where the day broke off")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the day broke off while: {}\nthe log of the daemon:\n{}{}", self.step, self.logged, self.log());
        }
    }
}
