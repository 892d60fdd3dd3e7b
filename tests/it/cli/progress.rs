//! Progress on a terminal: the lines during a run, and the screen after it.

use crate::support::images::{self, Family, linux};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;
use crate::support::terminal::Terminal;

/// Number of tags of the source.
const TAGS: u64 = 12;

/// Source with images, an empty target, and an entry `app` from one to the other.
struct Scene {
    source: Server,
    /// The target answers until the scene is dropped.
    _target: Server,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        let (source, target) = (Server::start(), Server::start());
        for seed in 1..=TAGS {
            let layers =
                [images::layer(Family::Oci, 2 * seed, 60_000), images::layer(Family::Oci, 2 * seed + 1, 90_000)];
            let image = images::image(Family::Oci, linux("amd64"), &layers);
            image.put(&source, "app", Some(&format!("v{seed}")));
        }
        images::schema_1("app").put(&source, "app", Some("old"));
        let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
        let site = Site::with(&[source.host(), target.host()], &entry);
        Self { source, _target: target, site }
    }
}

/// Returns the headline of a summary without the duration, and the tags and outcomes of the table.
fn headline_and_table(lines: &[String]) -> Vec<String> {
    let rows = lines.iter().skip(1).take_while(|line| !line.starts_with("  failed"));
    let rows = rows.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    std::iter::once(lines[0].split(" in ").next().unwrap_or_default().to_owned()).chain(rows).collect()
}

#[test]
fn run_on_terminal_leaves_only_its_log_and_summary() {
    for (rows, columns) in [(24, 80), (30, 100)] {
        let scene = Scene::new();
        scene.source.set(Fault::Bandwidth(25_000));
        let mut terminal = Terminal::start(&mut scene.site.command(&["once"]), rows, columns);
        let line = terminal
            .wait_for_line("the line of the run", |line| line.contains(" of 13 tags  ") && line.contains("ETA"));
        assert!(line.starts_with("app  ") && line.contains("KiB of ") && line.contains("/s"), "{line}");
        terminal.wait_for_line("the line of a transfer", |line| line.contains("% of ") && line.contains('['));
        let (status, lines) = terminal.wait();
        assert_eq!(status.code(), Some(1), "one tag fails: {lines:#?}");
        let stale = |line: &&String| line.contains(" tags  ") || line.contains("% of ") || line.contains("ETA");
        assert_eq!(lines.iter().find(stale), None, "{lines:#?}");
        let headline = lines.iter().position(|line| line.starts_with("app: 12 copied, 1 failed")).expect("a summary");
        assert!(lines[..headline].iter().all(|line| !line.is_empty()), "no gap above the summary: {lines:#?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("  v")).count(), 12, "{lines:#?}");
        let again = Scene::new().site.run(&["once"]);
        let expected: Vec<String> = again.stdout.lines().map(str::to_owned).collect();
        assert_eq!(headline_and_table(&lines[headline..]), headline_and_table(&expected));
    }
}

#[test]
fn rate_limited_registry_is_named_during_and_after_run() {
    let scene = Scene::new();
    scene.source.set(Fault::TooManyRequests { next: 1000, retry_after: Some(3600) });
    let mut terminal = Terminal::start(&mut scene.site.command(&["once"]), 24, 100);
    let host = scene.source.host();
    let line = terminal.wait_for_line("the wait", |line| line.contains("rate limited, next request in"));
    assert!(line.starts_with(&format!("{host}: rate limited, next request in ")), "{line}");
    terminal.interrupt();
    let (status, lines) = terminal.wait();
    assert_eq!(status.code(), Some(130));
    let all = lines.join(" ");
    assert!(all.contains("rate limited: requests to the registry wait"), "the log names the wait: {lines:#?}");
    assert!(all.contains(&format!("waiting for {host} (rate limited until 20")), "{lines:#?}");
}

#[test]
fn first_wait_for_rate_limit_is_logged_once() {
    let scene = Scene::new();
    scene.source.set(Fault::TooManyRequests { next: 4, retry_after: Some(1) });
    let output = scene.site.run(&["once"]);
    let lines: Vec<&str> = output.stderr.lines().filter(|line| line.contains("rate limited: ")).collect();
    assert_eq!(lines.len(), 1, "{}", output.stderr);
    let named = format!("registry={}", scene.source.host());
    assert!(lines[0].contains(&named) && lines[0].contains("until=") && lines[0].contains("WARN"), "{}", lines[0]);
}
