//! Tests of the sources of credentials: each source authenticates transship at a registry, the evidence names the user,
//! and no secret is in the output or the journal.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;

use crate::support::http;
use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, DebianRegistry, Running};
use crate::support::registry::{Auth, Server, Setup};
use crate::support::site::{Site, parse};

const PASSWORD: &str = "c4nary-p4ss";
/// Line of the `htpasswd` file for the user `mirror` and the password above.
const HTPASSWD: &str = "mirror:$2y$05$abcdefghijklmnopqrstuuXvrSL3Pi/EvKlC12beLQZLHpQxc1wUa\n";
const WRONG: &str = "c4nary-that-is-wrong";

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Starts a registry with tokens. The password of `mirror` is also its identity token.
fn bearer(anonymous_pull: bool) -> Server {
    let user = ("mirror".to_owned(), PASSWORD.to_owned());
    let auth = Auth::Bearer { user, anonymous_pull, lifetime: Duration::from_secs(300) };
    Server::with(Setup { auth, ..Setup::default() })
}

/// Writes a program into the folder `bin` of a site.
fn program(site: &Site, name: &str, script: &str) {
    let path = site.path("bin").join(name);
    fs::create_dir_all(site.path("bin")).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Site with the files, programs and variables that the sources need.
struct Scene {
    site: Site,
    variables: Vec<(&'static str, String)>,
}

impl Scene {
    /// Creates a site that copies `app` from an open registry into the registry at `host`. If `credentials` is empty,
    /// the configuration has none.
    fn new(source: &Server, host: &str, credentials: &str) -> Self {
        let site = Site::new();
        let of = if credentials.is_empty() { String::new() } else { format!(", credentials: {credentials}") };
        let registries = format!("\"{}\": {{plain_http: true}}, \"{host}\": {{plain_http: true{of}}}", source.host());
        let entry = format!("- {{name: app, source: \"{}/app\", target: \"{host}/app\"}}", source.host());
        site.configure_fully("status: \"127.0.0.1:0\"", &registries, &entry);
        let folder = |name: &str| site.path(name).display().to_string();
        let variables = vec![("PATH", format!("{}:/usr/bin:/bin", folder("bin"))), ("TRANSSHIP_LOG", "trace".into())];
        Self { site, variables }
    }

    fn variable(mut self, name: &'static str, value: impl AsRef<Path>) -> Self {
        self.variables.push((name, value.as_ref().display().to_string()));
        self
    }

    fn start(&self, args: &[&str]) -> Running {
        let mut command = self.site.command(args);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Running::start(&mut command)
    }

    /// Runs `once`, which must exit with this code. Returns its output and its journal.
    #[track_caller]
    fn once(&self, code: i32) -> String {
        let output = self.start(&["once", "--json"]).wait(DEADLINE);
        assert_eq!(output.code(), code, "{}\n{}", output.stdout, output.stderr);
        let journal: Vec<u8> = ["journal.db", "journal.db-wal"]
            .iter()
            .filter_map(|name| fs::read(self.site.path(name)).ok())
            .flatten()
            .collect();
        assert!(journal.len() > 1000, "the journal was found");
        format!("{}{}{}", output.stdout, output.stderr, String::from_utf8_lossy(&journal))
    }

    /// Returns the identity at the target in the evidence.
    #[track_caller]
    fn identity(&self) -> String {
        let evidence = self.start(&["evidence", "--json"]).wait(DEADLINE).expect_success();
        let evidence = parse(&evidence.stdout);
        assert_eq!(evidence.as_array().map(Vec::len), Some(1), "{evidence:#}");
        evidence[0]["target_identity"].as_str().unwrap().to_owned()
    }
}

#[track_caller]
fn assert_no_secret(text: &str) {
    for secret in [PASSWORD, WRONG] {
        for form in [secret.to_owned(), base64(&format!("mirror:{secret}"))] {
            let at = text.find(&form);
            assert!(at.is_none(), "{form} is shown: {:?}", at.map(|at| text.get(at.saturating_sub(200)..at + 60)));
        }
    }
}

/// Returns a scene for every source of a password, with the expected identity in the evidence.
fn sources(source: &Server, host: &str, password: &str) -> Vec<(Scene, &'static str)> {
    let scene = |credentials: &str| Scene::new(source, host, credentials);
    let config = format!(r#"{{"auths": {{"{host}": {{"auth": "{}"}}}}}}"#, base64(&format!("mirror:{password}")));
    let with_file = |scene: Scene, name: &str, text: &str| {
        fs::create_dir_all(scene.site.path(name).parent().unwrap()).unwrap();
        scene.site.write(name, text);
        scene
    };
    let by_file = with_file(scene("{username: mirror, password: {file: secret}}"), "secret", password);
    let by_default = with_file(scene(""), "config.json", &config);
    let folder = by_default.site.folder().to_owned();
    let by_podman = with_file(scene(""), "auth.json", &config);
    let auth_file = by_podman.site.path("auth.json");
    let by_home = scene("");
    fs::create_dir_all(by_home.site.path(".docker")).unwrap();
    fs::write(by_home.site.path(".docker/config.json"), &config).unwrap();
    let home = by_home.site.folder().to_owned();
    let by_helper = scene("{helper: test}");
    let json = format!(r#"{{\"ServerURL\": \"$host\", \"Username\": \"mirror\", \"Secret\": \"{password}\"}}"#);
    let script = format!("read host; [ \"$1 $host\" = 'get {host}' ] && echo \"{json}\"");
    program(&by_helper.site, "docker-credential-test", &script);
    let by_command = scene("{command: [print-login]}");
    program(&by_command.site, "print-login", &format!("echo 'mirror:{password}'; echo '{password}' >&2"));
    let by_store = with_file(scene("{docker_config: config.json}"), "config.json", r#"{"credsStore": "test"}"#);
    program(&by_store.site, "docker-credential-test", &script);
    vec![
        (by_file, "mirror"),
        (by_default.variable("DOCKER_CONFIG", folder), "mirror"),
        (by_podman.variable("REGISTRY_AUTH_FILE", auth_file), "mirror"),
        (by_home.variable("HOME", home), "mirror"),
        (by_helper, "mirror"),
        (by_command, "mirror"),
        (by_store, "mirror"),
    ]
}

#[test]
fn every_credential_source_authenticates_at_debians_registry() {
    let (source, debian) = (Server::start(), DebianRegistry::guarded(HTPASSWD));
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    for (at, (scene, user)) in sources(&source, debian.host(), PASSWORD).into_iter().enumerate() {
        // Each source needs a new image to copy.
        images::small(Family::Oci, 10 + at as u64).put(&source, "app", Some("v1"));
        assert_no_secret(&scene.once(0));
        assert_eq!(scene.identity(), user);
    }
}

#[test]
fn every_credential_source_authenticates_at_a_token_registry() {
    let source = Server::start();
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let host_of = bearer(false);
    for (at, (scene, user)) in sources(&source, host_of.host(), PASSWORD).into_iter().enumerate() {
        images::small(Family::Oci, 10 + at as u64).put(&source, "app", Some("v1"));
        assert_no_secret(&scene.once(0));
        assert_eq!(scene.identity(), user);
    }
}

#[test]
fn wrong_secret_of_any_source_is_hidden_and_its_origin_named() {
    const ORIGINS: [&str; 7] = [
        "password from the file secret)",
        "login from the file ",
        "login from the file ",
        "login from the file ",
        "login from the helper docker-credential-test)",
        "password from the output of the command print-login)",
        "login from the helper docker-credential-test, which ",
    ];
    let source = Server::start();
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let user = ("mirror".to_owned(), PASSWORD.to_owned());
    let basic = Server::with(Setup { auth: Auth::Basic(user.0, user.1), ..Setup::default() });
    for server in [bearer(false), basic] {
        let scenes = sources(&source, server.host(), WRONG);
        assert_eq!(scenes.len(), ORIGINS.len());
        for ((scene, user), origin) in scenes.iter().zip(ORIGINS) {
            let printed = scene.once(1);
            assert_no_secret(&printed);
            let refused = format!("refused {user} ({origin}");
            assert!(printed.contains(&refused), "{refused}\nis not in\n{printed}");
        }
        assert!(server.store().repositories().is_empty());
    }
}

#[test]
fn identity_token_authenticates_and_wrong_one_is_hidden() {
    let (source, target) = (Server::start(), bearer(false));
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let wrong = Scene::new(&source, target.host(), "{token: {env: TOKEN}}").variable("TOKEN", WRONG);
    let printed = wrong.once(1);
    assert!(
        printed.contains("refused token (token from the environment variable TOKEN): 401 Unauthorized"),
        "{printed}"
    );
    assert_no_secret(&printed);
    let right = Scene::new(&source, target.host(), "{token: {env: TOKEN}}").variable("TOKEN", PASSWORD);
    assert_no_secret(&right.once(0));
    assert_eq!(right.identity(), "token");
    assert!(
        target.log().count("token POST") >= 2 && target.log().count("token GET") == 0,
        "{:?}",
        target.log().counts()
    );
}

#[test]
fn anonymous_ignores_the_credentials_of_the_machine() {
    let (source, target) = (bearer(true), Server::start());
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "{}"}}}}}}"#, source.host(), base64("mirror:wrong"));
    let run = |credentials: &str| {
        let site = Site::new();
        site.write("config.json", &config);
        let registries = format!(
            "\"{}\": {{plain_http: true{credentials}}}, \"{}\": {{plain_http: true}}",
            source.host(),
            target.host()
        );
        let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
        site.configure_fully("status: off", &registries, &entry);
        let mut command = site.command(&["once"]);
        command.env("DOCKER_CONFIG", site.folder());
        Running::start(&mut command).wait(DEADLINE).code()
    };
    assert_eq!(run(""), 1);
    assert_eq!(run(", credentials: {anonymous: true}"), 0);
}

#[test]
fn status_port_shows_no_secret() {
    let (source, target) = (Server::start(), bearer(false));
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let scene = Scene::new(&source, target.host(), "{command: [print-token]}");
    program(&scene.site, "print-token", &format!("echo '{WRONG}'"));
    // The status also shows the failure of a past run.
    assert_no_secret(&scene.once(1));
    let mut daemon = scene.start(&["run"]);
    let address = daemon.ready();
    for path in ["/status", "/metrics", "/"] {
        let (status, body) = http::get(&address, path).unwrap();
        assert_eq!(status, 200);
        assert_no_secret(&body);
    }
    daemon.signal("TERM");
    let output = daemon.wait(DEADLINE);
    assert_no_secret(&(output.stdout + &output.stderr));
}

#[test]
fn credential_command_gets_only_its_own_variables() {
    let (source, target) = (Server::start(), bearer(false));
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let scene =
        Scene::new(&source, target.host(), "{command: [print-login], env: {LOGIN: {env: MINE}, PLAIN: \"${NOTE}\"}}")
            .variable("MINE", format!("mirror:{PASSWORD}"))
            .variable("NOTE", "note")
            .variable("OTHER_PASSWORD", WRONG)
            .variable("HTTPS_PROXY", "http://127.0.0.1:9")
            .variable("AWS_PROFILE", "dev");
    let seen = scene.site.path("seen");
    program(&scene.site, "print-login", &format!("env > '{}'; echo \"$LOGIN\"", seen.display()));
    assert_no_secret(&scene.once(0));
    let seen = fs::read_to_string(seen).unwrap();
    let names: Vec<&str> = seen.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for name in ["AWS_PROFILE", "HTTPS_PROXY", "LOGIN", "PATH", "PLAIN"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    for name in ["MINE", "NOTE", "OTHER_PASSWORD", "TRANSSHIP_LOG", "SSL_CERT_FILE", "USER"] {
        assert!(!names.contains(&name), "{name}: {names:?}");
    }
    assert!(seen.contains("PLAIN=note\n"), "{seen}");
}
