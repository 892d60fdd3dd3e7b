//! Tests of identities: two users at one registry, and `login-check`, which reports missing permissions before a run.

use crate::support::front::{Authority, Front};
use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, DebianRegistry, Running};
use crate::support::registry::{Auth, By, Fault, Server, Setup, User};
use crate::support::site::{Site, parse};

const READER: &str = "c4nary-r34der";
const WRITER: &str = "c4nary-wr1ter";
/// Line of the `htpasswd` file for the user `mirror` and the password below.
const HTPASSWD: &str = "mirror:$2y$05$abcdefghijklmnopqrstuuXvrSL3Pi/EvKlC12beLQZLHpQxc1wUa\n";
const HTPASSWD_PASSWORD: &str = "c4nary-p4ss";

/// Starts a registry with one user who reads `build/*` and one user who writes `prod/*`.
fn shared_registry(by: By) -> Server {
    let reader = User { name: "reader", password: READER, may: vec![("build", "pull"), ("catalog", "*")] };
    let writer = User { name: "writer", password: WRITER, may: vec![("prod", "pull"), ("prod", "push")] };
    Server::with(Setup { auth: Auth::Users { users: vec![reader, writer], by }, ..Setup::default() })
}

fn credentials_of(name: &str) -> String {
    let password = if name == "reader" { READER } else { WRITER };
    format!("{{username: {name}, password: {password}}}")
}

/// Creates a site that copies from `build` to `prod` of one registry, with the credentials of the registry or of the
/// entry.
fn promotion_site(server: &Server, repository: &str, registry: &str, credentials: &str) -> Site {
    let (site, host) = (Site::new(), server.host());
    let registries = format!("\"{host}\": {{plain_http: true, credentials: {registry}}}");
    let entry = format!(
        "- {{name: app, source: \"{host}/build/{repository}\", target: \"{host}/prod/{repository}\"{credentials}}}"
    );
    site.configure_fully("status: off", &registries, &entry);
    site
}

fn both_credentials() -> String {
    format!(", credentials: {{source: {}, target: {}}}", credentials_of("reader"), credentials_of("writer"))
}

fn run(site: &Site, args: &[&str]) -> (i32, String) {
    let mut command = site.command(args);
    command.env("TRANSSHIP_LOG", "trace");
    let output = Running::start(&mut command).wait(DEADLINE);
    (output.code(), format!("{}{}", output.stdout, output.stderr))
}

#[track_caller]
fn assert_no_secret(text: &str) {
    use base64::Engine as _;
    for (name, secret) in [("reader", READER), ("writer", WRITER), ("mirror", HTPASSWD_PASSWORD), ("mirror", WRITER)] {
        let header = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{secret}"));
        assert!(!text.contains(secret) && !text.contains(&header), "the secret of {name} is shown: {text}");
    }
}

#[test]
fn entry_reads_and_writes_one_registry_as_different_users() {
    for by in [By::Passwords, By::Tokens, By::WholeTokens] {
        let server = shared_registry(by);
        let image = images::small(Family::Oci, 1);
        image.put(&server, "build/app", Some("v1"));
        for alone in ["reader", "writer"] {
            assert_eq!(
                promotion_site(&server, "app", &credentials_of(alone), "").run(&["once"]).code(),
                1,
                "{by:?} {alone}"
            );
        }
        let site = promotion_site(&server, "app", "{anonymous: true}", &both_credentials());
        let (code, printed) = run(&site, &["once"]);
        assert_eq!(code, 0, "{by:?} {printed}");
        assert_no_secret(&printed);
        assert_eq!(server.store().tag("prod/app", "v1"), Some(image.digest()));
        let evidence = site.evidence(&[]);
        assert_eq!(evidence.len(), 1, "{evidence:#?}");
        assert_eq!(
            (&evidence[0]["source_identity"], &evidence[0]["target_identity"]),
            (&"reader".into(), &"writer".into())
        );
        // The source may use the credentials of the registry.
        let own = format!(", credentials: {{target: {}}}", credentials_of("writer"));
        assert_eq!(
            promotion_site(&server, "app", &credentials_of("reader"), &own).run(&["plan", "--exit-code"]).code(),
            0
        );
    }
}

#[test]
fn forbidden_mount_sends_each_blob_only_once() {
    for by in [By::Passwords, By::Tokens, By::WholeTokens] {
        let server = shared_registry(by);
        images::small(Family::Oci, 1).put(&server, "build/app", Some("v1"));
        let site = promotion_site(&server, "app", "{anonymous: true}", &both_credentials());
        site.once();
        // Only the tag is missing at the target. A new process does not know that, so it queries the blobs.
        images::small(Family::Oci, 1).put(&server, "build/app", Some("v2"));
        server.store().remove_manifest("prod/app", "v1");
        server.log().clear();
        site.once();
        let counts = server.log().counts();
        assert_eq!(counts.get("upload PUT").copied().unwrap_or_default(), 0, "{by:?} {counts:?}");
    }
}

#[test]
fn tree_is_listed_and_copied_with_entry_credentials() {
    let server = shared_registry(By::Tokens);
    for (seed, name) in [(1, "a"), (2, "b/c")] {
        images::small(Family::Oci, seed).put(&server, &format!("build/{name}"), Some("v1"));
    }
    let site = promotion_site(&server, "**", "{anonymous: true}", &both_credentials());
    site.once();
    assert_eq!(server.store().repositories(), ["build/a", "build/b/c", "prod/a", "prod/b/c"]);
}

#[test]
fn conflicting_entry_is_listed_with_its_own_credentials() {
    let server = shared_registry(By::Tokens);
    for (seed, name) in [(1, "one"), (2, "two")] {
        images::small(Family::Oci, seed).put(&server, &format!("build/{name}"), Some("v1"));
    }
    let (site, host) = (Site::new(), server.host());
    let entry = |name: &str, more: &str| {
        let (source, target) = (format!("{host}/build/{name}"), format!("{host}/prod/app"));
        format!("- {{name: {name}, source: \"{source}\", target: \"{target}\"{more}}}\n")
    };
    let registries = format!("\"{host}\": {{plain_http: true, credentials: {{anonymous: true}}}}");
    site.configure_fully(
        "status: off",
        &registries,
        &(entry("one", &both_credentials()) + &entry("two", &both_credentials())),
    );
    assert_eq!(site.run(&["once", "one"]).code(), 1);
    assert_eq!(server.store().tag("prod/app", "v1"), None, "two entries claim the tag");
}

/// Runs `login-check` at trace level, which must exit with this code. Returns its standard output.
#[track_caller]
fn login_check(site: &Site, args: &[&str], code: i32) -> String {
    let mut command = site.command(&[&["login-check"], args].concat());
    // Certificate authorities of the machine must not affect the test.
    command.env("TRANSSHIP_LOG", "trace").env("SSL_CERT_FILE", site.path("system.pem")).env_remove("SSL_CERT_DIR");
    site.write("system.pem", &Authority::new("the system's").pem());
    let output = Running::start(&mut command).wait(DEADLINE);
    assert_eq!(output.code(), code, "{}\n{}", output.stdout, output.stderr);
    assert_no_secret(&format!("{}{}", output.stdout, output.stderr));
    assert!(output.stderr.len() > 1000, "the log was written");
    output.stdout
}

#[test]
fn login_check_reports_identity_and_grants_without_writing() {
    let server = shared_registry(By::Tokens);
    images::small(Family::Oci, 1).put(&server, "build/app", Some("v1"));
    let host = server.host();
    let site = promotion_site(&server, "app", "{anonymous: true}", &both_credentials());
    let printed = login_check(&site, &[], 0);
    assert_eq!(
        printed,
        format!(
            "{host}\n  \
             ok      reach: HTTP/1.1, without TLS\n  \
             ok      asks for: Bearer, with tokens from http://{host}/token\n  \
             ok      login as anonymous: there are no credentials\n  \
             ok      login as reader: authenticated\n  \
             ok      pull of build/app as reader (entry app): granted\n  \
             ok      login as writer: authenticated\n  \
             ok      push to prod/app as writer (entry app): granted; the repository does not exist yet\n"
        )
    );
    assert_eq!(server.open_sessions(), 0);
    assert_eq!(server.store().repositories(), ["build/app"]);
    assert_eq!(server.log().pulls(), 0);
}

#[test]
fn login_check_fails_and_names_a_missing_permission() {
    let server = shared_registry(By::Tokens);
    let host = server.host();
    for name in ["build/app", "prod/app"] {
        images::small(Family::Oci, 1).put(&server, name, Some("v1"));
    }
    let printed = login_check(&promotion_site(&server, "app", &credentials_of("reader"), ""), &[host], 1);
    let lines: Vec<&str> = printed.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "  ok      login as reader: authenticated",
            "  ok      pull of build/app as reader (entry app): granted",
            "  failed  push to prod/app as reader (entry app): 401 Unauthorized, UNAUTHORIZED: unauthorized; \
             the token does not grant this action; \
             reader (password from the configuration) lacks the right to push to this repository: \
             grant that right at the registry; \
             some registries also send this answer if the project does not exist",
        ]
    );
    // The user may pull and may not push.
    let user = ("mirror".to_owned(), "x".to_owned());
    let auth = Auth::Bearer { user, anonymous_pull: true, lifetime: std::time::Duration::from_secs(300) };
    let server = Server::with(Setup { auth, ..Setup::default() });
    for name in ["build/app", "prod/app"] {
        images::small(Family::Oci, 1).put(&server, name, Some("v1"));
    }
    let printed = login_check(&promotion_site(&server, "app", "{anonymous: true}", ""), &[], 1);
    let lines: Vec<&str> = printed.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "  ok      login as anonymous: there are no credentials",
            "  ok      pull of build/app as anonymous (entry app): granted",
            "  failed  push to prod/app as anonymous (entry app): 401 Unauthorized, UNAUTHORIZED: unauthorized; \
             the token does not grant this action; \
             the request was sent without credentials: set `credentials` for this registry, or run `docker login`; \
             some registries also send this answer if the project does not exist",
        ]
    );
}

#[test]
fn login_check_distinguishes_open_protected_and_unreachable_registries() {
    let (open, right, wrong) = (Server::start(), shared_registry(By::Passwords), shared_registry(By::Passwords));
    images::small(Family::Oci, 1).put(&open, "a", Some("v1"));
    images::small(Family::Oci, 1).put(&right, "build/app", Some("v1"));
    let gone = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().to_string()
    };
    let site = Site::new();
    let registries = format!(
        "\"{}\": {{plain_http: true}}, \"{}\": {{plain_http: true, credentials: {}}}, \
         \"{}\": {{plain_http: true, credentials: {{username: reader, password: {WRITER}}}}}, \
         \"{gone}\": {{plain_http: true}}",
        open.host(),
        right.host(),
        credentials_of("reader"),
        wrong.host(),
    );
    let entries = format!(
        "- {{name: x, source: \"{0}/a\", target: \"oci-layout:x\"}}\n\
         - {{name: y, source: \"{1}/build/app\", target: \"{0}/a\"}}\n\
         - {{name: z, source: \"{2}/build/app\", targets: [\"{0}/z\", \"{3}/z\"]}}",
        open.host(),
        right.host(),
        wrong.host(),
        gone
    );
    site.configure_fully("status: off", &registries, &entries);
    let blocks = |printed: &str| -> std::collections::BTreeMap<String, String> {
        let blocks = printed.split("\n\n").map(|block| block.split_once('\n').unwrap());
        blocks.map(|(host, lines)| (host.to_owned(), lines.trim_end().to_owned())).collect()
    };
    let printed = login_check(&site, &[], 1);
    let blocks = blocks(&printed);
    assert_eq!(blocks.len(), 4, "{printed}");
    assert_eq!(
        blocks[open.host()],
        "  ok      reach: HTTP/1.1, without TLS\n  \
         ok      asks for: no credentials for the first request\n  \
         ok      login as anonymous: there are no credentials\n  \
         ok      pull of a as anonymous (entry x): granted\n  \
         ok      push to a as anonymous (entry y): granted\n  \
         ok      push to z as anonymous (entry z): granted; the repository does not exist yet"
    );
    assert_eq!(
        blocks[right.host()],
        "  ok      reach: HTTP/1.1, without TLS\n  \
         ok      asks for: Basic\n  \
         ok      login as reader: authenticated\n  \
         ok      pull of build/app as reader (entry y): granted"
    );
    assert_eq!(
        blocks[wrong.host()],
        "  ok      reach: HTTP/1.1, without TLS\n  \
         ok      asks for: Basic\n  \
         failed  login as reader: 401 Unauthorized, UNAUTHORIZED: unauthorized; \
         the registry refused reader (password from the configuration): check the user name and the password"
    );
    assert_eq!(blocks[&gone], format!("  failed  reach: http://{gone} refused the connection"));
    // A wrong password is reported once.
    assert_eq!(wrong.log().requests().len(), 3, "{:#?}", wrong.log().requests());
    // Only the named registries are checked.
    let printed = login_check(&site, &[right.host()], 0);
    assert!(printed.starts_with(right.host()) && !printed.contains("\n\n"), "{printed}");
    let json = parse(&login_check(&site, &["--json", &gone], 1));
    assert_eq!(
        json,
        serde_json::json!([{"registry": gone, "checks": [{
            "check": "reach", "outcome": "failed", "identity": null, "repository": null, "entries": [],
            "reason": format!("http://{gone} refused the connection"),
        }]}])
    );
    let unknown = site.run(&["login-check", "x.example"]);
    assert_eq!(unknown.code(), 2);
    assert!(
        unknown.stderr.contains("error: the configuration has no registry x.example; its registries: "),
        "{}",
        unknown.stderr
    );
}

#[test]
fn login_check_tests_open_registries_despite_unavailable_credentials() {
    let (server, site) = (Server::start(), Site::new());
    images::small(Family::Oci, 1).put(&server, "a", Some("v1"));
    let host = server.host();
    site.write("config.json", r#"{"credsStore": "not-installed"}"#);
    let registries = format!("\"{host}\": {{plain_http: true, credentials: {{docker_config: config.json}}}}");
    let entry = format!("- {{name: x, source: \"{host}/a\", target: \"{host}/b\"}}");
    site.configure_fully("status: off", &registries, &entry);
    site.once();
    server.store().remove_manifest("b", "v1");
    let printed = login_check(&site, &[], 0);
    let lines: Vec<&str> = printed.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "  warn    login as anonymous: config.json: the credential helper docker-credential-not-installed is not \
             installed, or not in PATH",
            "  ok      pull of a as anonymous (entry x): granted",
            "  ok      push to b as anonymous (entry x): granted",
        ]
    );
    let json = parse(&login_check(&site, &["--json"], 0));
    let login = &json[0]["checks"][2];
    assert_eq!(login["outcome"], "warning", "{json}");
}

#[test]
fn login_check_tests_mirrors_and_warns_of_useless_ones() {
    let (origin, mirror, guarded, target) =
        (Server::start(), Server::start(), shared_registry(By::Passwords), Server::start());
    let image = images::small(Family::Oci, 1);
    image.put(&origin, "app", Some("v1"));
    image.put(&mirror, "hub/app", Some("v1"));
    let gone = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().to_string()
    };
    let (mirrors, site) = ([mirror.host(), guarded.host(), &gone], Site::new());
    let registries = format!(
        "\"{0}\": {{plain_http: true, mirrors: [\"{1}/hub\", \"{1}/lacks\", \"{2}\", \"{gone}\"]}}, \
         \"{2}\": {{plain_http: true, credentials: {{username: reader, password: {WRITER}}}}}, \
         \"{3}\": {{plain_http: true}}, \"{1}\": {{plain_http: true}}",
        origin.host(),
        mirror.host(),
        guarded.host(),
        target.host(),
    );
    let entry = format!("- {{name: x, source: \"{}/app\", target: \"{}/app\"}}", origin.host(), target.host());
    site.configure_fully("status: off", &registries, &entry);
    let printed =
        |host: &str, code: i32| login_check(&site, &[host], code).lines().skip(1).collect::<Vec<_>>().join("\n");
    assert_eq!(
        printed(mirror.host(), 0),
        "  ok      reach: HTTP/1.1, without TLS\n  \
         ok      asks for: no credentials for the first request\n  \
         ok      login as anonymous: there are no credentials\n  \
         ok      mirrored pull of hub/app as anonymous (entry x): granted\n  \
         warn    mirrored pull of lacks/app as anonymous (entry x): the mirror does not have the repository: \
         transship reads it from the original registry"
    );
    assert!(
        printed(guarded.host(), 0).ends_with(
            "\n  warn    login as reader: 401 Unauthorized, UNAUTHORIZED: unauthorized; \
             the registry refused reader (password from the configuration): check the user name and the password"
        ),
        "{}",
        printed(guarded.host(), 0)
    );
    // The mirror has no options, so the program uses TLS.
    assert_eq!(printed(&gone, 0), format!("  warn    reach: https://{gone} refused the connection"));
    let all = login_check(&site, &[], 0);
    assert!(mirrors.iter().all(|host| all.contains(&format!("{host}\n"))), "{all}");
}

#[test]
fn login_check_reports_certificate_expiry_and_distrust() {
    let (server, authority, site) = (Server::start(), Authority::new("an authority"), Site::new());
    images::small(Family::Oci, 1).put(&server, "a", Some("v1"));
    let front = Front::tls(server.host(), &authority.certify("127.0.0.1", 4000), None, &["http/1.1"]);
    let host = front.host();
    site.write("ca.pem", &authority.pem());
    let entry = format!("- {{name: x, source: \"{host}/a\", target: \"oci-layout:x\"}}");
    let reach = |options: &str, code| {
        site.configure_fully("status: off", &format!("\"{host}\": {options}"), &entry);
        login_check(&site, &[], code).lines().nth(1).unwrap().to_owned()
    };
    assert_eq!(reach("{tls: {ca: ca.pem}}", 0), "  ok      reach: HTTP/1.1, TLS, certificate valid until 4000-12-31");
    assert_eq!(
        reach("{}", 1),
        format!(
            "  failed  reach: the certificate of https://{host} is issued by an unknown authority; \
             set `tls.ca` to the file of the authority"
        )
    );
    assert_eq!(
        reach("{tls: {insecure_skip_verify: true}}", 0),
        "  ok      reach: HTTP/1.1, TLS without verification of the certificate (insecure_skip_verify)"
    );
    site.configure_fully("status: off", &format!("\"{}\": {{}}", server.host()), "  []");
    let printed = login_check(&site, &[], 1);
    assert_eq!(
        printed.lines().nth(1).unwrap(),
        format!("  failed  reach: https://{} does not speak TLS; for plain HTTP set `plain_http: true`", server.host())
    );
}

#[test]
fn login_check_agrees_with_debians_registry() {
    let debian = DebianRegistry::guarded(HTPASSWD);
    let host = debian.host();
    let check = |password: &str, code| {
        let site = Site::new();
        let registries =
            format!("\"{host}\": {{plain_http: true, credentials: {{username: mirror, password: {password}}}}}");
        let entry = format!("- {{name: x, source: \"oci-layout:x\", target: \"{host}/a/b\"}}");
        site.configure_fully("status: off", &registries, &entry);
        let printed = login_check(&site, &[], code);
        printed.lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        check(HTPASSWD_PASSWORD, 0),
        [
            "  ok      asks for: Basic",
            "  ok      login as mirror: authenticated",
            "  ok      push to a/b as mirror (entry x): granted; the repository does not exist yet",
        ]
    );
    assert_eq!(
        check(WRITER, 1),
        [
            "  ok      asks for: Basic",
            "  failed  login as mirror: 401 Unauthorized, UNAUTHORIZED: authentication required; \
             the registry refused mirror (password from the configuration): check the user name and the password",
        ]
    );
    let uploads = debian.storage().join("data/docker/registry/v2/repositories/a/b/_uploads");
    // Debian's registry leaves empty folders after a cancelled upload.
    let open =
        std::fs::read_dir(&uploads).into_iter().flatten().flatten().filter(|it| it.path().join("startedat").exists());
    assert_eq!(open.count(), 0, "the upload was cancelled");
}

#[test]
fn login_check_tests_a_bounded_number_of_repositories() {
    let server = shared_registry(By::Tokens);
    for seed in 0..25 {
        images::small(Family::Oci, seed).put(&server, &format!("build/{seed:02}"), Some("v1"));
    }
    let site = promotion_site(&server, "**", "{anonymous: true}", &both_credentials());
    let printed = login_check(&site, &[], 0);
    assert!(
        printed.contains("  ok      catalog as reader (entry app): readable; 20 of its repositories are checked\n"),
        "{printed}"
    );
    assert_eq!((printed.matches("pull of build/").count(), printed.matches("push to prod/").count()), (20, 20));
    let site = promotion_site(&server, "**", &credentials_of("writer"), "");
    let printed = login_check(&site, &[], 1);
    let host = server.host();
    let lines: Vec<&str> = printed.lines().skip(4).collect();
    assert_eq!(
        lines,
        [
            format!(
                "  failed  catalog as writer (entry app): {host}: listing repositories: this registry has no catalog \
                    for \
                 writer (401 Unauthorized, UNAUTHORIZED: unauthorized; the token does not grant \
                 this action); list the repositories in sync.yaml"
            ),
            format!(
                "  failed  push as writer (entry app): the repositories under {host}/prod/** cannot be \
                 determined without the catalog of {host}/build/**"
            ),
        ]
    );
}

#[test]
fn missing_target_that_denies_reads_is_pushed_to() {
    for status in [401, 403] {
        for args in [&["once"][..], &["copy", "--force"]] {
            let (source, target, site) = (Server::start(), Server::start(), Site::new());
            let image = images::two_platforms(Family::Oci, 1);
            image.put(&source, "app", Some("v1"));
            target.set(Fault::UnknownDenied(status));
            let (from, to) = (format!("{}/app", source.host()), format!("{}/app", target.host()));
            site.configure(
                &[source.host(), target.host()],
                &format!("- {{name: app, source: \"{from}\", target: \"{to}\"}}"),
            );
            let (from, to) = (format!("{from}:v1"), format!("{to}:v1"));
            let copy = [&from, &to].map(String::as_str);
            let plain = ["--plain-http", source.host(), "--plain-http", target.host()];
            let args = if args[0] == "copy" { [args, &copy, &plain].concat() } else { args.to_vec() };
            if let ["copy", "--force", rest @ ..] = &args[..] {
                let refused = site.run(&[&["copy"], rest].concat());
                let remedy = "if only reads are denied, --force writes without reading the present tag";
                assert!(refused.code() == 1 && refused.stdout.contains(remedy), "{}", refused.stdout);
            }
            site.run(&args).expect_success();
            assert_eq!(target.store().tag("app", "v1"), Some(image.digest()), "{status} {args:?}");
        }
    }
}

#[test]
fn denied_push_fails_with_its_own_response() {
    let (source, target, site) = (Server::start(), Server::start(), Site::new());
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    target.set(Fault::UnknownDenied(403));
    target.set(Fault::ProjectsMustExist);
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    site.configure(&[source.host(), target.host()], &entry);
    let output = site.run(&["once"]);
    assert_eq!(output.code(), 1);
    assert!(output.stdout.contains("opening an upload of blob"), "{}", output.stdout);
}

#[test]
fn unreadable_tag_is_not_overwritten_against_a_rule() {
    for rule in ["never", "keep_previous"] {
        let (source, target, site) = (Server::start(), Server::start(), Site::new());
        images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
        target.set(Fault::UnknownDenied(403));
        let entry = format!(
            "- {{name: app, source: \"{}/app\", target: \"{}/app\", overwrite: {rule}}}",
            source.host(),
            target.host()
        );
        site.configure(&[source.host(), target.host()], &entry);
        assert_eq!(site.run(&["once"]).code(), 1);
        assert_eq!(target.log().count("manifest PUT"), 0, "{rule}");
    }
}

#[test]
fn login_check_creates_no_repository_by_testing_push() {
    let (source, target, site) = (Server::start(), Server::start(), Site::new());
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    let registries =
        format!("\"{}\": {{plain_http: true}}, \"{}\": {{plain_http: true, kind: ecr}}", source.host(), target.host());
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    site.configure_fully("status: off", &registries, &entry);
    let printed = login_check(&site, &[target.host()], 0);
    let last = printed.lines().last().unwrap();
    assert_eq!(
        last,
        "  warn    push to app as anonymous (entry app): not checked: the repository does not exist yet, \
         and a check of push access may create it at this registry"
    );
    assert_eq!(target.log().count("upload POST"), 0);
    // The push permission of an existing repository is tested, because the test cannot create it.
    images::small(Family::Oci, 2).put(&target, "app", Some("v0"));
    let printed = login_check(&site, &[target.host()], 0);
    assert!(printed.ends_with("push to app as anonymous (entry app): granted\n"), "{printed}");
    assert_eq!((target.log().count("upload POST"), target.open_sessions()), (1, 0));
}

#[test]
fn login_check_warns_of_credentials_never_requested() {
    let (server, site) = (Server::start(), Site::new());
    images::small(Family::Oci, 1).put(&server, "a", Some("v1"));
    let host = server.host();
    let registries = format!("\"{host}\": {{plain_http: true, credentials: {}}}", credentials_of("reader"));
    site.configure_fully(
        "status: off",
        &registries,
        &format!("- {{name: x, source: \"{host}/a\", target: \"oci-layout:x\"}}"),
    );
    let printed = login_check(&site, &[], 0);
    let lines: Vec<&str> = printed.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "  warn    login as reader: the registry did not ask for the credentials",
            "  ok      pull of a as reader (entry x): granted"
        ]
    );
}
