//! Who transship is, seen from outside: two identities at one registry, and `login-check`, which says before a run what would
//! be refused.

use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, Running};
use crate::support::registry::{Auth, By, Server, Setup, User};
use crate::support::site::Site;

const READER: &str = "c4nary-r34der";
const WRITER: &str = "c4nary-wr1ter";

/// A registry with one who reads `build/*` and one who writes `prod/*`.
fn shared(by: By) -> Server {
    let reader = User { name: "reader", password: READER, may: vec![("build", "pull"), ("catalog", "*")] };
    let writer = User { name: "writer", password: WRITER, may: vec![("prod", "pull"), ("prod", "push")] };
    Server::with(Setup { auth: Auth::Users { users: vec![reader, writer], by }, ..Setup::default() })
}

fn who(name: &str) -> String {
    let password = if name == "reader" { READER } else { WRITER };
    format!("{{username: {name}, password: {password}}}")
}

/// A place that copies from `build` to `prod` of one registry: as who `registry` is there, or as `credentials` say.
fn promotion(server: &Server, repository: &str, registry: &str, credentials: &str) -> Site {
    let (site, host) = (Site::new(), server.host());
    let registries = format!("\"{host}\": {{plain_http: true, credentials: {registry}}}");
    let entry = format!(
        "- {{name: app, source: \"{host}/build/{repository}\", target: \"{host}/prod/{repository}\"{credentials}}}"
    );
    site.configure_fully("status: off", &registries, &entry);
    site
}

fn both() -> String {
    format!(", credentials: {{source: {}, target: {}}}", who("reader"), who("writer"))
}

fn run(site: &Site, args: &[&str]) -> (i32, String) {
    let mut command = site.command(args);
    command.env("TRANSSHIP_LOG", "trace");
    let output = Running::start(&mut command).wait(DEADLINE);
    (output.code(), format!("{}{}", output.stdout, output.stderr))
}

#[track_caller]
fn has_no_secret(text: &str) {
    use base64::Engine as _;
    for (name, secret) in [("reader", READER), ("writer", WRITER)] {
        let header = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{secret}"));
        assert!(!text.contains(secret) && !text.contains(&header), "the secret of {name} is shown: {text}");
    }
}

#[test]
fn one_entry_reads_as_one_user_and_writes_as_another_at_one_registry() {
    for by in [By::Passwords, By::Tokens, By::WholeTokens] {
        let server = shared(by);
        let image = images::small(Family::Oci, 1);
        image.put(&server, "build/app", Some("v1"));
        for alone in ["reader", "writer"] {
            assert_eq!(promotion(&server, "app", &who(alone), "").run(&["once"]).code(), 1, "{by:?} {alone}");
        }
        let site = promotion(&server, "app", "{anonymous: true}", &both());
        let (code, said) = run(&site, &["once"]);
        assert_eq!(code, 0, "{by:?} {said}");
        has_no_secret(&said);
        assert_eq!(server.store().tag("prod/app", "v1"), Some(image.digest()));
        let evidence = site.evidence(&[]);
        assert_eq!(evidence.len(), 1, "{evidence:#?}");
        assert_eq!(
            (&evidence[0]["source_identity"], &evidence[0]["target_identity"]),
            (&"reader".into(), &"writer".into())
        );
        // The source's own credentials may be the registry's.
        let own = format!(", credentials: {{target: {}}}", who("writer"));
        assert_eq!(promotion(&server, "app", &who("reader"), &own).run(&["plan", "--exit-code"]).code(), 0);
    }
}

#[test]
fn a_mount_that_the_writer_may_not_do_costs_no_blob_twice() {
    for by in [By::Passwords, By::Tokens, By::WholeTokens] {
        let server = shared(by);
        images::small(Family::Oci, 1).put(&server, "build/app", Some("v1"));
        let site = promotion(&server, "app", "{anonymous: true}", &both());
        site.once();
        // Everything but the manifest's tag is there already; a process that knows nothing of that asks.
        images::small(Family::Oci, 1).put(&server, "build/app", Some("v2"));
        server.store().remove_manifest("prod/app", "v1");
        server.log().clear();
        site.once();
        let counts = server.log().counts();
        assert_eq!(counts.get("upload PUT").copied().unwrap_or_default(), 0, "{by:?} {counts:?}");
    }
}

#[test]
fn a_tree_is_listed_and_copied_as_who_its_entry_says() {
    let server = shared(By::Tokens);
    for (seed, name) in [(1, "a"), (2, "b/c")] {
        images::small(Family::Oci, seed).put(&server, &format!("build/{name}"), Some("v1"));
    }
    let site = promotion(&server, "**", "{anonymous: true}", &both());
    site.once();
    assert_eq!(server.store().repositories(), ["build/a", "build/b/c", "prod/a", "prod/b/c"]);
}
