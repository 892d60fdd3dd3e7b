//! Tables and colours: on a terminal, in a pipe, with `--color` and with `NO_COLOR`.

use crate::support::images::{self, Family};
use crate::support::registry::Server;
use crate::support::site::Site;
use crate::support::terminal::Terminal;

/// Source with images and an old manifest that cannot be copied, an empty target, and an entry `app`.
struct Scene {
    _source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        let (source, target) = (Server::start(), Server::start());
        for (seed, tag) in ["1.1.0", "latest", "1.0.0", "1.10.0", "1.2.0"].into_iter().enumerate() {
            images::small(Family::Oci, seed as u64).put(&source, "team/platform/app", Some(tag));
        }
        images::schema_1("team/platform/app").put(&source, "team/platform/app", Some("old"));
        let repository = |server: &Server| format!("{}/team/platform/app", server.host());
        let entry = format!(
            "- {{name: app, source: \"{}\", targets: [\"{}\", \"{}-copy\"]}}",
            repository(&source),
            repository(&target),
            repository(&target)
        );
        let site = Site::with(&[source.host(), target.host()], &entry);
        Self { _source: source, target, site }
    }
}

#[test]
fn failures_are_red_on_a_terminal_unless_colours_are_off() {
    let shown = |args: &[&str], no_color: &str| {
        let scene = Scene::new();
        let mut command = scene.site.command(args);
        let mut terminal = Terminal::start(command.env("NO_COLOR", no_color), 60, 120);
        terminal.wait_for_line("the failed tag", |line| line.starts_with("  failed old at "));
        terminal.red_text()
    };
    let red = shown(&["once"], "");
    assert!(red.contains("2 failed") && red.contains("failedfailed"), "{red}");
    assert_eq!(shown(&["once"], "1"), "");
    assert_eq!(shown(&["once", "--color", "never"], ""), "");
    assert!(shown(&["once", "--color=always"], "1").contains("2 failed"));
}

#[test]
fn pipe_has_colours_only_on_request() {
    let output = Scene::new().site.run(&["once"]);
    assert!(
        !output.stdout.contains('\u{1b}') && !output.stderr.contains('\u{1b}'),
        "{}{}",
        output.stdout,
        output.stderr
    );
    let output = Scene::new().site.run(&["once", "--color", "always"]);
    assert!(output.stdout.contains("\u{1b}[31m2 failed"), "{}", output.stdout);
    assert!(output.stderr.contains("\u{1b}[2mconfiguration: "), "{}", output.stderr);
}

#[test]
fn tables_of_a_narrow_terminal_never_break_a_reference() {
    let scene = Scene::new();
    scene.site.run(&["once"]);
    for (args, columns) in [(["evidence"], 100), (["evidence"], 60), (["history"], 60)] {
        let mut command = scene.site.command(&args);
        let (_, lines) = Terminal::start(&mut command, 100, columns).wait();
        let text = lines.join("\n");
        if args == ["evidence"] {
            let whole = |repository: &str| {
                let tag = format!("{repository}:1.10.0");
                lines.iter().filter(|line| line.split(' ').any(|word| word.ends_with(&tag))).count()
            };
            assert_eq!((whole("app"), whole("app-copy")), (1, 1), "{columns}\n{text}");
        }
        // The emulator continues a line that is too long on the next line, without the indent of a cell.
        let is_rest = |line: &String| line.starts_with([':', '/', '.']) || line.ends_with(['/', ':']);
        assert!(!lines.iter().any(|line| is_rest(line) && !line.contains(" in ")), "{args:?} {columns}\n{text}");
    }
}

#[test]
fn pipe_gets_tabs_full_digests_and_exact_times() {
    let scene = Scene::new();
    scene.site.run(&["once"]);
    let evidence = scene.site.run(&["evidence"]).expect_success().stdout;
    let (heading, rows) = evidence.split_once('\n').expect("a heading");
    assert_eq!(heading, "ARRIVED\tENTRY\tTARGET\tDIGEST\tPREVIOUS\tSOURCE\tBYTES");
    let digest = images::small(Family::Oci, 3).digest();
    let target = format!("{}/team/platform/app:1.10.0", scene.target.host());
    let row: Vec<&str> =
        rows.lines().map(|row| row.split('\t').collect()).find(|row: &Vec<&str>| row[2] == target).expect("a row");
    assert_eq!(row[3], digest.to_string());
    assert!(row[0].len() == "2026-11-21T03:00:00Z".len() && row[0].ends_with('Z'), "{row:?}");
    let mut command = scene.site.command(&["evidence"]);
    let (_, lines) = Terminal::start(&mut command, 100, 200).wait();
    let is_relative = |line: &&String| line.contains(" ago ") || line.starts_with("now ");
    assert_eq!(lines.iter().filter(is_relative).count(), 10, "{lines:#?}");
}

#[test]
fn tags_are_listed_by_version() {
    let scene = Scene::new();
    scene.site.run(&["once"]);
    let repository = format!("{}/team/platform/app", scene.target.host());
    let tags = scene.site.run(&["tags", "--plain-http", scene.target.host(), &repository, "--names"]);
    assert_eq!(tags.expect_success().stdout, "1.10.0\n1.2.0\n1.1.0\n1.0.0\nlatest\n");
}
