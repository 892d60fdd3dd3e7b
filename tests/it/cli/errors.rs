//! Tests of error messages for people: the identity and the remedy of a denial, groups of equal failures, near names of
//! a missing tag, and one line for each fact.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Output, Running};
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::Site;

/// Tags of the source.
const TAGS: [&str; 6] = ["1.0.0", "1.1.0", "1.2.0", "2.0.0", "latest", "stable"];

/// Source with six tags, a target, and a site with an entry `app` between them.
struct Scene {
    source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    /// Creates the servers and the entry with these further keys. `credentials` are the further keys of the target.
    fn new(target: Server, credentials: &str, keys: &str) -> Self {
        let (source, site) = (Server::start(), Site::new());
        for (seed, tag) in TAGS.iter().enumerate() {
            images::small(Family::Oci, seed as u64).put(&source, "app", Some(tag));
        }
        let (from, to) = (source.host(), target.host());
        let registries = format!("\"{from}\": {{plain_http: true}}, \"{to}\": {{plain_http: true{credentials}}}");
        let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"{keys}}}");
        site.configure_fully("status: off", &registries, &entry);
        Self { source, target, site }
    }

    /// Creates a target that refuses the configured password, which is in a file.
    fn with_wrong_password() -> Self {
        let guarded = Setup { auth: Auth::Basic("bot".into(), "right".into()), ..Setup::default() };
        let scene = Self::new(
            Server::with(guarded),
            ", credentials: {username: bot, password: {file: password}}",
            ", overwrite: always",
        );
        scene.site.write("password", "wr0ng-c4nary");
        scene
    }

    #[track_caller]
    fn once(&self, arguments: &[&str], code: i32) -> Output {
        let output = self.site.run(&[arguments, &["once"]].concat());
        assert_eq!(output.code(), code, "{}\n{}", output.stdout, output.stderr);
        output
    }
}

fn count_lines(text: &str, part: &str) -> usize {
    text.lines().filter(|line| line.contains(part)).count()
}

#[test]
fn wrong_password_is_reported_once_with_identity_file_and_cause() {
    let scene = Scene::with_wrong_password();
    let output = scene.once(&[], 1);
    let all = output.stdout.clone() + &output.stderr;
    let refused = "; the registry refused bot (password from the file password): check the user name and the \
                   password\n";
    assert_eq!(count_lines(&all, "refused bot"), 1, "{all}");
    assert!(all.contains(refused) && all.contains(": 401 Unauthorized"), "{all}");
    assert!(all.contains(&format!("  failed 6 tags at {}/app: ", scene.target.host())), "{all}");
    assert!(all.contains(&format!("    {}\n", TAGS.join(", "))), "{all}");
    assert!(!all.contains("wr0ng-c4nary") && !all.contains("less than a minute"), "{all}");
}

#[test]
fn failures_are_logged_if_the_log_is_requested_or_read_alone() {
    let scene = Scene::with_wrong_password();
    let json = scene.once(&["--log-format", "json"], 1);
    assert_eq!(count_lines(&json.stderr, "\"message\":\"failed\""), 6, "{}", json.stderr);
    assert_eq!(count_lines(&json.stderr, "\"message\":\"run ended\""), 1, "{}", json.stderr);
    let filtered = Running::start(scene.site.command(&["once"]).env("TRANSSHIP_LOG", "info")).wait(DEADLINE);
    assert_eq!(count_lines(&filtered.stderr, "ERROR failed"), 6, "{}", filtered.stderr);

    let run_into = |command: &mut Command, output: Stdio, errors: Stdio| {
        assert_eq!(command.stdin(Stdio::null()).stdout(output).stderr(errors).status().unwrap().code(), Some(1));
    };
    let (report, log) = (scene.site.path("report"), scene.site.path("log"));
    let create = |path| Stdio::from(File::create(path).unwrap());
    run_into(&mut scene.site.command(&["once"]), create(&report), create(&log));
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(count_lines(&log, "ERROR failed"), 6, "{log}");
    assert!(std::fs::read_to_string(&report).unwrap().contains("  failed 6 tags"));

    let both = File::create(&report).unwrap();
    run_into(&mut scene.site.command(&["once"]), both.try_clone().unwrap().into(), both.into());
    let both = std::fs::read_to_string(report).unwrap();
    assert_eq!((count_lines(&both, "ERROR failed"), count_lines(&both, "refused bot")), (0, 1), "{both}");
}

#[test]
fn missing_tag_names_the_nearest_tags() {
    let scene = Scene::new(Server::start(), "", ", tags: {include: [\"1.2.1\"]}");
    let nearest = "; the nearest tags are 1.2.0, 1.1.0 and 1.0.0";
    let output = scene.once(&[], 1);
    assert!(output.stdout.contains(nearest), "{}", output.stdout);
    let plan = scene.site.run(&["plan"]);
    assert!(plan.stdout.contains(&format!("there is no such tag{nearest}")), "{}", plan.stdout);
    let lists = scene.source.log().count("tags GET");
    scene.once(&[], 1);
    assert_eq!(scene.source.log().count("tags GET"), lists + 1, "one list for all missing tags of a run");
}

#[test]
fn web_page_in_place_of_target_is_one_warning_and_one_failure() {
    let scene = Scene::new(Server::start(), "", "");
    for kind in
        ["ping GET", "tags GET", "manifest HEAD", "manifest GET", "blob HEAD", "blob GET", "upload POST", "mount POST"]
    {
        scene.target.set(Fault::Answers { kind, path: "", status: 200 });
    }
    let output = scene.once(&[], 1);
    let all = output.stdout.clone() + &output.stderr;
    let page = "the server answers 200 with text/html: this is not a registry; check the host name and `path_prefix`";
    assert_eq!(count_lines(&output.stderr, "WARN"), 1, "{all}");
    assert_eq!(count_lines(&output.stderr, &format!("the lookup of a blob failed ({page})")), 1, "{all}");
    let failed = format!("  failed 6 tags at {}/app: opening an upload of blob: {page}\n", scene.target.host());
    assert!(output.stdout.contains(&failed), "{all}");
}
