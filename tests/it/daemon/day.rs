//! Test of the packaged daemon over a day of operations: from its installation to SIGTERM during the transfer of a
//! gigabyte, and the resumption afterwards. After each step, the test checks the same outputs as an operator. Skopeo
//! checks the copied images.
//!
//! The daemon's clock advances by a minute as soon as the current run has had enough time (`support::clock`).
//! Everything else is real.

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

/// Real duration of a minute of the daemon's clock.
const MINUTE: Duration = Duration::from_secs(4);

/// Time limit for several scheduled runs on a busy machine.
const SOME_MINUTES: Duration = Duration::from_secs(150);

/// Time limit for the transfer of a gigabyte on a busy machine.
const A_GIGABYTE: Duration = Duration::from_secs(300);

/// Two consecutive passwords of `mirror` at the target, each with its line in the registry's `htpasswd` file.
const PASSWORD: &str = "c4nary-p4ss";
const HTPASSWD: &str = "mirror:$2y$05$abcdefghijklmnopqrstuuXvrSL3Pi/EvKlC12beLQZLHpQxc1wUa\n";
const NEXT_PASSWORD: &str = "the-second-c4nary";
const NEXT_HTPASSWD: &str = "mirror:$2b$05$abcdefghijklmnopqrstuuNINJ1Vz8KCUntIfkFW6H9rBuc2UaagG\n";

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Machine of the operator: the installed package, the daemon, and the registries of its configuration.
struct Machine {
    root: Root,
    /// Registry to which builds push.
    build: DebianRegistry,
    /// Target registry. It requires a password.
    mirror: DebianRegistry,
    to_build: Gate,
    to_mirror: Gate,
    /// Clock of the daemon and of the commands.
    clock: Clock,
    /// Notifications to systemd.
    systemd: Arc<Mutex<String>>,
    daemon: Option<Running>,
    /// Address of the status port.
    status: String,
    /// Current step, for the message of a failure.
    step: &'static str,
    /// Logs of the daemons that have ended.
    logged: String,
}

#[test]
fn installed_daemon_works_through_a_day_of_operations() {
    let mut machine = Machine::with_package_installed();
    machine.daemon_starts();
    let scraped = Gate::start(&machine.status);
    let mut prometheus = Prometheus::start(&scraped.host(), None);
    machine.two_entries_run_by_cron();
    machine.edit_breaks_the_file_and_is_corrected(&mut prometheus);
    machine.entry_is_added_and_password_changes();
    machine.entry_is_triggered_paused_and_resumed(&mut prometheus);
    machine.registry_dies_and_returns(&mut prometheus);
    machine.daemon_ends_during_a_gigabyte_and_resumes(&scraped);
    machine.prometheus_has_metrics_of_the_day(&mut prometheus);
    machine.journal_has_records_of_the_day();
}

impl Machine {
    fn with_package_installed() -> Self {
        let (folder, root) = (TempDir::new().unwrap(), Root::new());
        let package = debian::build(folder.path());
        root.dpkg(&["--install", package.to_str().unwrap()]);
        for folder in ["var/lib/transship", "run/transship", "run/credentials"] {
            fs::create_dir_all(root.path(folder)).unwrap();
        }
        let systemd = listen_as_systemd(&root.path("run/notify"));
        let (build, mirror) = (DebianRegistry::start(), DebianRegistry::guarded(HTPASSWD));
        let (to_build, to_mirror) = (Gate::start(build.host()), Gate::start(mirror.host()));
        let (daemon, status, step, logged) = (None, String::new(), "the package is installed", String::new());
        let clock = Clock::new();
        let machine = Self { root, build, mirror, to_build, to_mirror, clock, systemd, daemon, status, step, logged };
        machine.write_service_password(PASSWORD);
        machine.push_example_to_build("team/app", "1.0.0");
        machine.push_example_to_build("team/base", "1.0.0");
        machine
    }

    fn daemon_starts(&mut self) {
        self.step = "the daemon starts";
        self.write_configuration(&[self.entry("app"), self.entry("base")], "");
        self.transship(&["check"]).expect_success();
        self.start();
        self.wait(DEADLINE, "readiness", |machine| machine.answers("/readyz", 200));
        self.wait(DEADLINE, "the readiness notification", |machine| machine.systemd_received("READY=1"));
        let shown = self.transship(&["status", "--at", &self.status]).expect_success().stdout;
        assert!(shown.contains("ready") && shown.contains("app") && shown.contains("none yet"), "{shown}");
    }

    fn two_entries_run_by_cron(&mut self) {
        self.step = "two entries fire by cron";
        for name in ["app", "base"] {
            self.wait_over_minutes(name, |machine| machine.last_run(name).filter(|run| run["outcome"] == "succeeded"));
            self.has_arrived(name, "1.0.0", PASSWORD);
            let evidence = self.listed(&["evidence", "--json", name]);
            assert_eq!(evidence[0]["target_identity"], "mirror", "{evidence:#?}");
        }
    }

    fn edit_breaks_the_file_and_is_corrected(&mut self, prometheus: &mut Prometheus) {
        self.step = "an edit breaks the file";
        let good = fs::read_to_string(self.configuration()).unwrap();
        self.save(&good.replace("schedule: \"* * * * *\"", "schedule: \"* * * *\""));
        let problem = self.wait(DEADLINE, "the refusal in /status", |machine| {
            http::status(&machine.status)?["configuration"]["problem"].as_str().map(str::to_owned)
        });
        assert!(problem.contains("sync.yaml:"), "{problem}");
        let line = problem.lines().find(|line| line.contains("sync.yaml:")).unwrap_or_default().trim().to_owned();
        assert!(self.log().contains(&line), "{line}");
        prometheus.wait_for_result("transship_configuration_last_reload_successful == 0");
        let shown = self.transship(&["status", "--at", &self.status]).expect_success().stdout;
        assert!(shown.contains("refused") && shown.contains(&line), "{shown}");
        assert_eq!(self.transship(&["check"]).code(), 2);
        assert!(
            self.answers("/readyz", 200).is_some() && self.next_firing("app").is_some(),
            "the previous configuration stays active"
        );

        self.step = "the file is mended";
        self.save(&good);
        self.wait(DEADLINE, "the good edit", |machine| {
            http::status(&machine.status)?["configuration"]["problem"].is_null().then_some(())
        });
        prometheus.wait_for_result("transship_configuration_last_reload_successful == 1");
    }

    fn entry_is_added_and_password_changes(&mut self) {
        self.step = "an entry is added";
        self.push_example_to_build("team/model", "1.0.0");
        self.push_example_to_build("team/app", "1.1.0");
        self.save_when_nothing_fires(&[self.entry("app"), self.entry("base"), self.entry("model")], "");
        self.wait(DEADLINE, "the entry", |machine| machine.next_firing("model"));
        self.step = "the password of the mirror changes";
        self.write_service_password(NEXT_PASSWORD);
        self.mirror.set_htpasswd(NEXT_HTPASSWD);
        assert!(!self.inspect("app", "1.0.0", PASSWORD).status.success(), "the old password is refused");
        self.wait_over_minutes("the added entry", |machine| {
            machine.last_run("model").filter(|run| run["outcome"] == "succeeded")
        });
        self.has_arrived("model", "1.0.0", NEXT_PASSWORD);
        self.wait_over_minutes("the tag that is new", |machine| {
            machine.inspect("app", "1.1.0", NEXT_PASSWORD).status.success().then_some(())
        });
        self.has_arrived("app", "1.1.0", NEXT_PASSWORD);
        let failed = self.listed(&["history", "--json"]).into_iter().find(|run| run["outcome"] == "failed");
        assert_eq!(failed, None, "no run used the new password");
    }

    fn entry_is_triggered_paused_and_resumed(&mut self, prometheus: &mut Prometheus) {
        self.step = "an entry is triggered";
        self.push_example_to_build("team/base", "1.1.0");
        self.wait_for_a_quiet_moment();
        let printed = self.transship(&["trigger", "base", "--wait"]).expect_success().stdout;
        assert!(printed.contains("base: succeeded, "), "{printed}");
        self.has_arrived("base", "1.1.0", NEXT_PASSWORD);
        let runs = self.listed(&["history", "--json", "base"]);
        assert!(runs.iter().any(|run| run["trigger"] == "requested"), "{runs:#?}");

        self.step = "an entry is paused";
        self.wait_for_a_quiet_moment();
        self.transship(&["pause", "base"]).expect_success();
        let last = self.last_run("base");
        self.push_example_to_build("team/base", "latest");
        for _ in 0..2 {
            let before = self.last_run("app");
            self.wait_over_minutes("another entry to fire", |machine| {
                machine.last_run("app").filter(|run| Some(run) != before.as_ref())
            });
        }
        assert_eq!(self.last_run("base"), last, "the resume started no run");
        assert!(!self.inspect("base", "latest", NEXT_PASSWORD).status.success());
        assert!(self.entry_status("base").unwrap()["paused_since"].is_string());
        let shown = self.transship(&["status", "--at", &self.status]).expect_success().stdout;
        assert!(shown.contains("paused since"), "{shown}");
        prometheus.wait_for_result("transship_entry_paused{entry=\"base\"} == 1");

        self.step = "an entry is resumed";
        self.transship(&["resume", "base"]).expect_success();
        self.wait_over_minutes("what waited for the end of the pause", |machine| {
            machine.inspect("base", "latest", NEXT_PASSWORD).status.success().then_some(())
        });
        self.has_arrived("base", "latest", NEXT_PASSWORD);
        prometheus.wait_for_result("transship_entry_paused{entry=\"base\"} == 0");
    }

    fn registry_dies_and_returns(&mut self, prometheus: &mut Prometheus) {
        self.step = "the mirror dies";
        self.to_mirror.close();
        self.mirror.kill();
        self.push_example_to_build("team/app", "latest");
        let run = self.wait_over_minutes("a run that fails", |machine| {
            machine.last_run("app").filter(|run| run["outcome"] == "failed")
        });
        let error = run["problems"][0].as_str().unwrap_or_default();
        assert!(error.contains("target") && error.contains(&self.to_mirror.host()), "{error}");
        let shown = self.transship(&["status", "--at", &self.status]).expect_success().stdout;
        assert!(shown.contains(error), "{shown}");
        for path in ["/healthz", "/readyz"] {
            assert!(self.answers(path, 200).is_some(), "{path}: a dead registry is no trouble of the daemon");
        }
        prometheus.wait_for_result("transship_entry_last_failure_timestamp_seconds{entry=\"app\"}");

        self.step = "the mirror returns";
        self.mirror.restart_on_other_port();
        self.to_mirror.forward_to(self.mirror.host());
        self.wait_over_minutes("a run that succeeds", |machine| {
            machine.last_run("app").filter(|run| run["outcome"] == "succeeded")
        });
        self.has_arrived("app", "latest", NEXT_PASSWORD);
    }

    fn daemon_ends_during_a_gigabyte_and_resumes(&mut self, scraped: &Gate) {
        self.step = "a gigabyte is on its way";
        let entries = [self.entry("app"), self.entry("base"), self.entry("model")];
        self.write_configuration(&entries, ", limits: {bandwidth: 20MiB/s}");
        let mut browser = Chromium::start();
        let (read, written) = (self.to_build.bytes_received(), self.to_mirror.bytes_sent());
        let (manifest, layer) = large::put(self.build.storage(), "team/model", GIB);
        self.push_manifest_to_build("team/model", "large", &manifest);
        self.wait_over_minutes("a good part of it to arrive", |machine| {
            (machine.to_mirror.bytes_sent() - written > 100 * MIB).then_some(())
        });
        let shown = self.transship(&["status", "--at", &self.status]).expect_success().stdout;
        assert!(shown.contains("1.0 GiB") && shown.contains(&layer.short()), "{shown}");
        self.chromium_reads_the_page(&mut browser, layer);

        self.step = "SIGTERM in the midst of it";
        let log = self.end();
        let acknowledged_bytes = self.acknowledged_bytes(layer);
        let by_first = self.to_mirror.bytes_sent() - written;
        assert!(by_first < 900 * MIB, "it did not wait for the rest: {} MiB", by_first / MIB);
        assert!(
            acknowledged_bytes > 90 * MIB && acknowledged_bytes <= by_first,
            "{} of {} MiB",
            acknowledged_bytes / MIB,
            by_first / MIB
        );
        assert!(
            !self.inspect("model", "large", NEXT_PASSWORD).status.success(),
            "the tag does not move before the blob is complete"
        );
        assert_eq!(self.listed(&["history", "--json", "model"])[0]["outcome"], "interrupted", "{log}");

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
        // The bytes also include request headers and small images.
        let rest = GIB - acknowledged_bytes;
        assert!((rest..rest + 2 * MIB).contains(&by_next), "{} MiB were sent of {}", by_next / MIB, rest / MIB);
        assert!(read < GIB + 64 * MIB, "{} MiB were read in all", read / MIB);
        let evidence = self.listed(&["evidence", "--json", "model"]);
        let of_large = evidence.iter().find(|arrival| arrival["tag"] == "large").expect("evidence of the large image");
        assert!(of_large["bytes"].as_u64() >= Some(GIB), "the whole blob is in the evidence: {of_large:#?}");
    }

    /// Checks that the page shows the transfer in progress and the runs of the day, and that the browser reports no
    /// problem.
    fn chromium_reads_the_page(&mut self, browser: &mut Chromium, layer: Digest) {
        self.step = "Chromium reads the page";
        browser.open(&format!("http://{}/", self.status));
        let message = browser.text("main");
        for words in ["Running now", "model", "Transfers", &layer.short(), "% of 1.00 GiB", "app", "base"] {
            assert!(message.contains(words), "{words} is missing in {message}");
        }
        assert_eq!(browser.evaluate("document.querySelectorAll('svg.small').length"), 3);
        browser.open(&format!("http://{}/entry?name=app", self.status));
        assert!(browser.text("main").contains("failed"), "{}", browser.text("main"));
        browser.open(&format!("http://{}/search?q=1.1.0", self.status));
        assert!(browser.text("main").contains("Arrivals"), "{}", browser.text("main"));
        assert_eq!(browser.problems(), Vec::<String>::new());
    }

    fn prometheus_has_metrics_of_the_day(&mut self, prometheus: &mut Prometheus) {
        self.step = "queries to Prometheus";
        prometheus.wait_for_result("up{job=\"transship\"} == 1");
        prometheus.wait_for_result("transship_entry_last_success_timestamp_seconds{entry=\"model\"}");
        let last = prometheus.wait_for_result("max_over_time(transship_configuration_last_reload_successful[10m])");
        assert_eq!(last[0]["value"][1], "1");
    }

    fn journal_has_records_of_the_day(&mut self) {
        self.step = "the evening";
        let log = self.end();
        let message = self.transship(&["status", "--at", &self.status]);
        assert_eq!(message.code(), 1, "nobody answers any more: {}", message.stderr);
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

/// Helpers of the steps.
impl Machine {
    fn configuration(&self) -> std::path::PathBuf {
        self.root.path("etc/transship/sync.yaml")
    }

    /// Returns an entry that copies a repository of the build registry to the same name in the mirror, each minute.
    fn entry(&self, name: &str) -> String {
        let (build, mirror) = (self.to_build.host(), self.to_mirror.host());
        format!(
            "- {{name: {name}, source: \"{build}/team/{name}\", target: \"{mirror}/prod/{name}\", schedule: \"* * * * *\"}}"
        )
    }

    /// Writes `sync.yaml` with these entries. `more` are further options of the mirror.
    fn write_configuration(&self, entries: &[String], more: &str) {
        let (build, mirror) = (self.to_build.host(), self.to_mirror.host());
        self.save(&format!(
            "version: 1\ndaemon: {{status: \"127.0.0.1:0\", shutdown_grace: 1s}}\nregistries:\n  \"{build}\": {{plain_http: true}}\n  \
             \"{mirror}\": {{plain_http: true, upload: {{mode: chunked}}, credentials: {{username: mirror, password: {{file: \"${{CREDENTIALS_DIRECTORY}}/mirror\"}}}}{more}}}\n\
             sync:\n{}\n",
            entries.join("\n")
        ));
    }

    /// Writes `sync.yaml` at a moment when no run starts soon.
    fn save_when_nothing_fires(&mut self, entries: &[String], more: &str) {
        self.wait_for_a_quiet_moment();
        self.write_configuration(entries, more);
    }

    /// Waits until no run is in progress or about to start. The clock of the daemon is ahead of the test's clock by
    /// whole minutes.
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

    /// Writes the password file that systemd's LoadCredential= provides at a start. Systemd changes the file only at a
    /// restart. Kubernetes, and operators with their own folder, replace such files while the daemon runs.
    fn write_service_password(&self, password: &str) {
        let (new, file) = (self.root.path("run/credentials/.new"), self.root.path("run/credentials/mirror"));
        fs::write(&new, password).unwrap();
        fs::rename(new, file).unwrap();
    }

    /// Returns the command of the installed program, with the environment that systemd gives to the service.
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

    /// Runs the installed program to its end.
    fn transship(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(&self.root.path("usr/bin/transship"), arguments);
        Running::start(command.env_remove("NOTIFY_SOCKET")).wait(DEADLINE)
    }

    /// Returns the rows of a list that the program prints.
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

    /// Ends the service as systemd does. Returns its log.
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

    /// Waits until `found` returns a value, while the daemon runs.
    #[track_caller]
    fn wait<T>(&mut self, longest: Duration, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        let seen = daemon.wait_until_within(longest, what, |_| found(self));
        self.daemon = Some(daemon);
        seen
    }

    /// Waits like `wait`, while the clock of the daemon advances.
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

    /// Returns the number of bytes of a layer that the mirror has acknowledged, according to the journal.
    #[track_caller]
    fn acknowledged_bytes(&self, layer: Digest) -> u64 {
        let journal = rusqlite::Connection::open(self.root.path("var/lib/transship/journal.db")).unwrap();
        let stored = "SELECT stored FROM uploads WHERE digest = ?1";
        journal.query_row(stored, [layer.to_string()], |row| row.get::<_, u32>(0)).unwrap().into()
    }

    fn answers(&self, path: &str, expected: u16) -> Option<()> {
        http::get(&self.status, path).filter(|(status, _)| *status == expected).map(|_| ())
    }

    /// Returns a value if a notification to systemd begins with `line`.
    fn systemd_received(&self, line: &str) -> Option<()> {
        self.systemd.lock().unwrap().lines().any(|message| message.starts_with(line)).then_some(())
    }

    /// Returns an entry of `/status`.
    fn entry_status(&self, name: &str) -> Option<Value> {
        http::status(&self.status)?["entries"].as_array()?.iter().find(|entry| entry["entry"] == name).cloned()
    }

    fn last_run(&self, name: &str) -> Option<Value> {
        self.entry_status(name).map(|entry| entry["last_run"].clone()).filter(Value::is_object)
    }

    fn next_firing(&self, name: &str) -> Option<String> {
        self.entry_status(name)?["next_firing"].as_str().map(str::to_owned)
    }

    /// Pushes the example image with this tag to the build registry.
    fn push_example_to_build(&self, repository: &str, tag: &str) {
        let images = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");
        skopeo_copy(&format!("oci:{images}:{tag}"), &format!("docker://{}/{repository}:{tag}", self.build.host()));
    }

    #[track_caller]
    fn push_manifest_to_build(&self, repository: &str, tag: &str, manifest: &str) {
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.build.host());
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail-with-body", "--noproxy", "*", "--request", "PUT", "--data-binary", manifest]);
        curl.args(["--header", "Content-Type: application/vnd.oci.image.manifest.v1+json", &url]);
        Running::start(&mut curl).wait(DEADLINE).expect_success();
    }

    /// Reads a manifest of the mirror with skopeo.
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

/// Listens at a notification socket as systemd does, so that the daemon never waits. Ends when the returned text is
/// dropped.
fn listen_as_systemd(path: &Path) -> Arc<Mutex<String>> {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let message = Arc::<Mutex<String>>::default();
    let into = Arc::downgrade(&message);
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
    message
}

impl Drop for Machine {
    #[expect(clippy::print_stderr, reason = "nobody else tells where the day broke off")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the day broke off while: {}\nthe log of the daemon:\n{}{}", self.step, self.logged, self.log());
        }
    }
}
