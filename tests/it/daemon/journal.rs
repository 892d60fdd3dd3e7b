//! Tests of the journal: its output, its file permissions, and its use after a kill.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use crate::support::http;
use crate::support::images::{self, Family, Image, linux};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::Site;

/// Returns an image of two small layers and a large layer, with the size of the large layer.
fn large() -> (Image, usize) {
    let layers = [
        images::layer(Family::Oci, 1, 1000),
        images::layer(Family::Oci, 2, 2000),
        images::layer(Family::Oci, 3, 3_000_000),
    ];
    let image = images::image(Family::Oci, linux("amd64"), &layers);
    let size = image.blobs.iter().map(bytes::Bytes::len).max().unwrap();
    (image, size)
}

/// Starts a source whose large layer takes more than a minute, its target, and a run of entry `app` that has sent
/// everything except the large layer.
fn hanging_run(site: &Site) -> (Server, Server, Running) {
    let (source, target) = (Server::start(), Server::start());
    let (image, _) = large();
    image.put(&source, "app", Some("v1"));
    source.set(Fault::Bandwidth(40_000));
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    site.configure(&[source.host(), target.host()], &entry);
    let mut running = site.start(&["once"]);
    running.wait_until("all but the large layer", |_| {
        let under_way = source.log().requests_of("blob GET").iter().any(|read| read.sent > 20_000);
        (under_way && target.store().blobs("app").len() == image.blobs.len() - 1).then_some(())
    });
    (source, target, running)
}

#[test]
fn killed_run_is_marked_and_next_run_resends_nothing() {
    let site = Site::new();
    let (source, target, running) = hanging_run(&site);
    running.kill();
    assert_eq!(target.store().tag("app", "v1"), None);
    source.heal();
    target.log().clear();

    let message = site.once();
    let (image, size) = large();
    assert_eq!(target.store().tag("app", "v1"), Some(image.digest()));
    assert_eq!(target.log().count("upload PUT"), 1, "only what was not finished: {:?}", target.log().counts());
    assert!(message.contains("1 sent, 3 found"), "{message}");
    let history = site.history(&[]);
    let outcomes: Vec<&Value> = history.iter().map(|run| &run["outcome"]).collect();
    assert_eq!(outcomes, ["succeeded", "interrupted"]);
    let bytes = site.evidence(&[])[0]["bytes"].as_u64().unwrap();
    assert!(bytes >= size as u64 && bytes < size as u64 + 4000, "{bytes}");
}

#[test]
fn second_process_skips_and_reports_a_running_entry() {
    let site = Site::new();
    let (_source, target, mut running) = hanging_run(&site);
    let before = target.log().requests().len();
    let second = site.run(&["once"]).expect_success();
    let message = format!("app: skipped, process {} has been running it since ", running.id());
    assert!(second.stdout.starts_with(&message), "{}", second.stdout);
    assert_eq!(target.log().requests().len(), before, "the second process sent a request");
    assert!(running.is_running());
    assert_eq!(site.history(&[]).len(), 1);
    running.kill();
}

#[test]
fn interrupted_run_is_reported_and_exits_with_130() {
    let site = Site::new();
    let (_source, target, running) = hanging_run(&site);
    running.signal("INT");
    let output = running.wait(DEADLINE);
    assert_eq!(output.code(), 130, "{}", output.stderr);
    assert!(output.stdout.contains("app: ") && output.stdout.contains("interrupted after "), "{}", output.stdout);
    assert_eq!(target.store().tag("app", "v1"), None);
    assert_eq!(site.history(&[])[0]["outcome"], "interrupted");
}

#[test]
fn evidence_is_printed_as_table_json_and_csv() {
    let (source, target) = (Server::start(), Server::start());
    let (one, two) = (images::two_platforms(Family::Oci, 1), images::small(Family::Docker, 2));
    one.put(&source, "one", Some("v1"));
    two.put(&source, "two", Some("v2"));
    let (from, to) = (source.host().to_owned(), target.host().to_owned());
    let entry = |name| format!("- {{name: {name}, source: \"{from}/{name}\", target: \"{to}/{name}\"}}");
    let site = Site::with(&[&from, &to], &format!("{}\n{}", entry("one"), entry("two")));
    site.once();
    site.once();

    let rows = site.evidence(&["one"]);
    assert_eq!(rows.len(), 1, "unchanged content has no new evidence");
    let row = &rows[0];
    for (key, value) in [
        ("entry", "one".to_owned()),
        ("source", format!("{from}/one")),
        ("source_reference", "v1".into()),
        ("source_digest", one.digest().to_string()),
        ("target", format!("{to}/one")),
        ("tag", "v1".into()),
        ("digest", one.digest().to_string()),
        ("media_type", one.manifest.media_type().to_string()),
        ("source_identity", "anonymous".into()),
        ("target_identity", "anonymous".into()),
    ] {
        assert_eq!(row[key], value, "{key}");
    }
    assert_eq!(row["manifests"], 3);
    // Both images share one layer. The first copy sends it.
    let blobs = ["copied", "mounted", "found"].map(|how| row["blobs"][how].as_u64().unwrap());
    assert_eq!(blobs.iter().sum::<u64>(), 5, "{blobs:?}");
    assert!(row["started"].as_str() <= row["ended"].as_str());

    let count = |filters: &[&str]| site.evidence(filters).len();
    assert_eq!(count(&[]), 2);
    assert_eq!(count(&["--reference", &format!("{to}/two:v2")]), 1);
    assert_eq!(count(&["--reference", &format!("{from}/two")]), 1);
    assert_eq!(count(&["--reference", &format!("{to}/three")]), 0);
    assert_eq!(count(&["--digest", &two.digest().to_string()]), 1);
    assert_eq!(count(&["--digest", &two.digest().to_string()["sha256:".len()..][..12]]), 1);
    assert_eq!(count(&["--since", "1h"]), 2);
    assert_eq!(count(&["--until", "1h"]), 0);
    assert_eq!(count(&["--limit", "1"]), 1);

    let csv = site.run(&["evidence", "--csv"]).expect_success().stdout;
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert!(lines[0].starts_with("id,run,entry,source,source_reference,source_digest,target,tag,digest,"), "{csv}");
    assert_eq!(lines.len(), 4, "a header, two rows, and the end of the last line");
    assert!(lines[1..3].iter().any(|line| line.contains(&two.digest().to_string())), "{csv}");
    let table = site.run(&["evidence", "two"]).expect_success().stdout;
    assert!(table.contains(&format!("{to}/two:v2")) && table.contains(&two.digest().to_string()), "{table}");
    assert!(!table.contains("/one"), "{table}");

    assert_eq!(site.history(&[]).len(), 4);
    assert_eq!(site.history(&["two"]).len(), 2);
    let brought = site.history(&["--digest", &two.digest().to_string()]);
    assert_eq!((brought.len(), &brought[0]["entry"], &brought[0]["trigger"]), (1, &"two".into(), &"manual".into()));
    let table = site.run(&["history", "--limit", "1"]).expect_success().stdout;
    assert!(table.contains("succeeded") && table.contains("1 unchanged"), "{table}");
    let unknown = site.run(&["history", "tow"]);
    assert_eq!((unknown.code(), unknown.stdout.as_str()), (2, ""));
    assert!(
        unknown.stderr.ends_with("error: there is no entry \"tow\": did you mean \"two\"?\n"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn journal_is_readable_only_by_its_owner() {
    let site = Site::new();
    let (_source, _target, running) = hanging_run(&site);
    let mut seen = 0;
    for file in std::fs::read_dir(site.folder()).unwrap().map(Result::unwrap) {
        if file.file_name().to_string_lossy().starts_with("journal.db") {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", file.file_name());
            seen += 1;
        }
    }
    assert!(seen >= 1);
    let mode = std::fs::metadata(site.journal()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    running.kill();
}

/// Adds many ended runs to a journal, and returns the number of a page that contains some of them.
fn add_runs(journal: &Path) -> i64 {
    let connection = rusqlite::Connection::open(journal).unwrap();
    let runs = "WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < 3000)
        INSERT INTO runs (id, process, entry, trigger, started, ended, outcome)
        SELECT n, process, entry, trigger, started, ended, outcome FROM runs, numbers WHERE id = 1";
    connection.execute_batch(runs).unwrap();
    let leaf = "SELECT pageno FROM dbstat WHERE name = 'runs' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 5";
    connection.query_row(leaf, [], |row| row.get(0)).unwrap()
}

#[test]
fn command_of_the_message_saves_records_of_a_damaged_journal() {
    const PAGE: usize = 4096;
    let (site, source, target) = (Site::new(), Server::start(), Server::start());
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    site.configure(&[source.host(), target.host()], &entry);
    site.once();
    let (journal, evidence) = (site.journal(), site.evidence(&[]));
    let page = usize::try_from(add_runs(&journal)).unwrap();
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[(page - 1) * PAGE..page * PAGE].fill(0);
    std::fs::write(&journal, &bytes).unwrap();

    let damaged = site.run(&["history", "--limit", "3000"]);
    assert_eq!(damaged.code(), 5, "{}", damaged.stderr);
    let command = damaged.stderr.split('`').nth(1).expect("a command between backticks");
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    for extension in ["db-wal", "db-shm"] {
        let _ = std::fs::remove_file(journal.with_extension(extension));
    }
    std::fs::rename(journal.with_extension("db.recovered"), &journal).unwrap();
    let runs = site.history(&["--limit", "3000"]).len();
    assert!((2500..3000).contains(&runs), "only the runs of one page are lost: {runs}");
    assert_eq!(site.evidence(&[]), evidence);
    site.run(&["once"]).expect_success();
}

#[test]
fn secrets_are_sent_only_to_their_registry() {
    const SECRETS: [&str; 3] = ["canary-of-the-source", "canary-of-the-target", "canary-that-is-wrong"];
    let closed = |password: &str| Setup { auth: Auth::Basic("robot".into(), password.into()), ..Setup::default() };
    let source = Server::with(closed(SECRETS[0]));
    let lifetime = Duration::from_secs(300);
    let auth = Auth::Bearer { user: ("pusher".into(), SECRETS[1].into()), anonymous_pull: false, lifetime };
    let (target, third) = (Server::with(Setup { auth, ..Setup::default() }), Server::with(closed("another")));
    images::two_platforms(Family::Oci, 1).put(&source, "app", Some("v1"));
    let site = Site::new();
    site.write("password", &format!("{}\n", SECRETS[1]));
    let registries = format!(
        "\"{}\": {{plain_http: true, credentials: {{username: robot, password: {{env: SOURCE_PASSWORD}}}}}}, \
         \"{}\": {{plain_http: true, credentials: {{username: pusher, password: {{file: \"{}\"}}}}}}, \
         \"{}\": {{plain_http: true, credentials: {{username: robot, password: {}}}}}",
        source.host(),
        target.host(),
        site.path("password").display(),
        third.host(),
        SECRETS[2]
    );
    let entries = format!(
        "- {{name: app, source: \"{0}/app\", targets: [\"{1}/app\", \"{2}/app\"], schedule: \"* * * * *\"}}",
        source.host(),
        target.host(),
        third.host()
    );
    site.configure_fully("status: \"127.0.0.1:0\"", &registries, &entries);
    let with_all = |args: &[&str]| {
        let mut command = site.command(args);
        command.env("SOURCE_PASSWORD", SECRETS[0]).env("TRANSSHIP_LOG", "trace");
        command
    };

    let once = Running::start(&mut with_all(&["once"])).wait(DEADLINE);
    assert_eq!(once.code(), 1, "{}", once.stderr);
    assert!(once.stdout.contains("1 copied, 1 failed"), "{}", once.stdout);
    assert!(once.stderr.contains("TRACE"), "the log is at trace level");
    let mut message = vec![once.stdout, once.stderr];

    let mut daemon = Running::start(&mut with_all(&["run"]));
    let address = daemon.wait_until("the status port", |daemon| address(&daemon.stderr()));
    for path in ["/healthz", "/readyz", "/status", "/metrics", "/"] {
        message.push(http::get(&address, path).unwrap().1);
    }
    for args in [
        &["status", "--at", &address][..],
        &["status", "--json", "--at", &address],
        &["check"],
        &["plan", "--json"],
        &["history", "--json"],
        &["evidence", "--json"],
    ] {
        let output = Running::start(&mut with_all(args)).wait(DEADLINE);
        message.extend([output.stdout, output.stderr]);
    }
    daemon.signal("TERM");
    let daemon = daemon.wait(DEADLINE);
    message.extend([daemon.stdout, daemon.stderr]);
    for name in ["journal.db", "journal.db-wal"] {
        if let Ok(bytes) = std::fs::read(site.path(name)) {
            message.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    assert!(message.iter().any(|text| text.contains("robot")), "evidence names the reader");
    let encode =
        |user: &str, secret: &str| base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}"));
    for secret in SECRETS {
        for (at, text) in message.iter().enumerate() {
            for form in [secret.to_owned(), encode("robot", secret), encode("pusher", secret)] {
                let place = text.find(&form).map(|at| &text[at.saturating_sub(200)..at]);
                assert_eq!(place, None, "output {at} holds {form}");
            }
        }
    }
}

/// Returns the address of the status port, from the log.
fn address(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("the status port listens address=")?;
    rest.split_whitespace().next().map(str::to_owned)
}
