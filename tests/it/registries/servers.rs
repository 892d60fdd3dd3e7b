//! Tests with independent servers: Debian's registry with signed tokens, with passwords and with TLS, and behind nginx
//! with limits and a path prefix. Skopeo checks the copied images.

use std::process::Command;
use std::time::{Duration, Instant};

use transship::oci::Digest;

use crate::support::front::Authority;
use crate::support::images::{self, Family, Image};
use crate::support::programs::{DEADLINE, DebianRegistry, Guard, Nginx, Output, Running, Throttle, Tokens, skopeo};
use crate::support::registry::Server;
use crate::support::site::Site;
use crate::support::token_server::{Rules, TokenServer, User};

/// Year of expiry in the distant future.
const LATER: i32 = 4000;
const PASSWORD: &str = "c4nary-p4ss";
/// Line of the `htpasswd` file for the user `mirror` and the password above.
const HTPASSWD: &str = "mirror:$2y$05$abcdefghijklmnopqrstuuXvrSL3Pi/EvKlC12beLQZLHpQxc1wUa\n";
/// User with all permissions.
const MIRROR: User = User { name: "mirror", password: PASSWORD, may: &[("", &["pull", "push", "*"])] };
/// User who may read public repositories.
const READER: User = User { name: "reader", password: PASSWORD, may: &[("public/", &["pull"])] };
/// Credentials of the user `mirror`.
const AS_MIRROR: &str = "credentials: {username: mirror, password: c4nary-p4ss}";

const LACKING: &str = "UNAUTHORIZED: authentication required; the token does not grant this action";

/// Certificate authority of the test, open registry with an image, and site.
struct Scene {
    authority: Authority,
    source: Server,
    image: Image,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        let (authority, source, site) = (Authority::new("an authority"), Server::start(), Site::new());
        site.write("ca.pem", &authority.pem());
        // Skopeo reads certificates from a folder.
        std::fs::create_dir(site.path("certificates")).unwrap();
        std::fs::write(site.path("certificates/ca.crt"), authority.pem()).unwrap();
        // Certificate authorities of the system. The machine may have none, so the file contains one that differs from
        // the test's.
        site.write("system.pem", &Authority::new("another authority").pem());
        let image = images::two_platforms(Family::Oci, 1);
        image.put(&source, "public/app", Some("v1"));
        Self { authority, source, image, site }
    }

    fn tokens(&self, lifetime: u64, stated: u64) -> TokenServer {
        let lifetime = Duration::from_secs(lifetime);
        let rules = Rules { users: vec![MIRROR, READER], anonymous_pull: false, lifetime, stated };
        TokenServer::start(&self.authority, rules)
    }

    /// Starts a registry with TLS that trusts these tokens.
    fn registry(&self, tokens: &TokenServer) -> DebianRegistry {
        self.registry_trusting(&tokens.realm())
    }

    fn registry_trusting(&self, realm: &str) -> DebianRegistry {
        let own = self.authority.certify("127.0.0.1", LATER);
        let tokens = Tokens { realm, authority: &self.authority.pem() };
        DebianRegistry::with(Guard { tokens: Some(tokens), tls: Some(&own), ..Guard::default() })
    }

    /// Configures entries, and registries by host and options. The open registry is always configured.
    fn configure(&self, registries: &[(&str, String)], entries: &[String]) {
        let mut all = vec![format!("\"{}\": {{plain_http: true}}", self.source.host())];
        all.extend(registries.iter().map(|(host, options)| format!("\"{host}\": {{{options}}}")));
        let entries: Vec<String> = entries.iter().map(|entry| format!("- {{{entry}}}")).collect();
        self.site.configure_fully("status: off, entries_at_once: 8", &all.join(", "), &entries.join("\n"));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.site.command(args);
        command.env("SSL_CERT_FILE", self.site.path("system.pem")).env_remove("SSL_CERT_DIR");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        Running::start(&mut self.command(args)).wait(DEADLINE)
    }

    /// Runs `once`, which must fail without showing a secret. Returns its standard output.
    #[track_caller]
    fn refusal(&self) -> String {
        let output = Running::start(self.command(&["once"]).env("TRANSSHIP_LOG", "trace")).wait(DEADLINE);
        assert_eq!(output.code(), 1, "{}\n{}", output.stdout, output.stderr);
        for secret in [PASSWORD, "c4nary-wrong", "r3fresh"] {
            assert!(!(output.stdout.clone() + &output.stderr).contains(secret), "{secret} is shown");
        }
        output.stdout
    }

    /// Returns the digest of `NAME:TAG`, which skopeo reads over TLS with these further options.
    #[track_caller]
    fn skopeo_digest(&self, host: &str, name: &str, options: &[&str]) -> Digest {
        let certificates = self.site.path("certificates").display().to_string();
        let reference = format!("docker://{host}/{name}");
        let args = ["inspect", "--raw", "--cert-dir", &certificates];
        Digest::of(skopeo(&[&args[..], options, &[&reference]].concat()).expect_success().stdout.as_bytes())
    }
}

fn tls(more: &str) -> String {
    if more.is_empty() { "tls: {ca: ca.pem}".to_owned() } else { format!("tls: {{ca: ca.pem}}, {more}") }
}

fn entry(name: &str, source: &str, target: &str) -> String {
    format!("name: {name}, source: \"{source}\", target: \"{target}\"")
}

#[test]
fn debians_registry_is_synced_with_signed_tokens_over_tls() {
    let scene = Scene::new();
    let tokens = scene.tokens(300, 300);
    let registry = scene.registry(&tokens);
    let (from, host) = (scene.source.host(), registry.host());
    let there = entry("there", &format!("{from}/public/app"), &format!("{host}/team/app"));
    let back = entry("back", &format!("{host}/team/**"), &format!("{from}/back/**"));
    scene.configure(&[(host, tls(AS_MIRROR))], &[there, back]);
    scene.run(&["once", "there"]).expect_success();
    assert_eq!(scene.skopeo_digest(host, "team/app:v1", &["--creds", "mirror:c4nary-p4ss"]), scene.image.digest());
    scene.run(&["once", "back"]).expect_success();
    assert_eq!(scene.source.store().tag("back/app", "v1"), Some(scene.image.digest()));
    let requested = tokens.requests();
    assert!(
        requested.iter().all(|requested| requested.granted && requested.user == "mirror" && requested.method == "GET"),
        "{requested:?}"
    );
    let scopes: Vec<&str> =
        requested.iter().flat_map(|requested| requested.scopes.iter().map(String::as_str)).collect();
    for scope in ["repository:team/app:pull,push", "repository:team/app:pull", "registry:catalog:*"] {
        assert!(scopes.contains(&scope), "{scope}: {scopes:?}");
    }
    assert!(requested.len() <= 7, "a token is used while it is valid: {requested:?}");
}

#[test]
fn mount_sends_one_token_for_both_repositories() {
    let scene = Scene::new();
    let tokens = scene.tokens(300, 300);
    let registry = scene.registry(&tokens);
    let (from, host) = (scene.source.host(), registry.host());
    let to = |name: &str| entry(name, &format!("{from}/public/app"), &format!("{host}/{name}/app"));
    scene.configure(&[(host, tls(AS_MIRROR))], &[to("first"), to("second")]);
    let reports = scene.run(&["once", "--json"]).expect_success().stdout;
    let reports = crate::support::site::parse(&reports);
    let blobs = |outcome: &str| -> u64 {
        let of = |report: &serde_json::Value| report["tags"][0]["blobs"][outcome].as_u64().unwrap();
        reports.as_array().unwrap().iter().map(of).sum()
    };
    let count = scene.image.all_blobs().len() as u64;
    assert_eq!((blobs("copied"), blobs("mounted")), (count, count), "{reports:#}");
    let both = |requested: &[String]| {
        let of = |name: &str| requested.iter().any(|scope| scope.contains(name) && scope.contains("pull"));
        of("first/app") && of("second/app") && requested.iter().any(|scope| scope.ends_with(":pull,push"))
    };
    assert!(tokens.requests().iter().any(|requested| both(&requested.scopes)), "{:?}", tokens.requests());
    for name in ["first/app:v1", "second/app:v1"] {
        assert_eq!(scene.skopeo_digest(host, name, &["--creds", "mirror:c4nary-p4ss"]), scene.image.digest());
    }
}

/// Copies an image slowly, so that the copy needs many tokens. `lifetime` is the actual and `stated` the stated
/// lifetime of a token, in seconds. Returns the log of the registry and the number of token requests.
fn copy_with_short_tokens(lifetime: u64, stated: u64) -> (String, usize) {
    let scene = Scene::new();
    let layers: Vec<images::Layer> = (0..12).map(|seed| images::layer(Family::Oci, 50 + seed, 300_000)).collect();
    let image = images::image(Family::Oci, images::linux("amd64"), &layers);
    image.put(&scene.source, "large/app", Some("v1"));
    let tokens = scene.tokens(lifetime, stated);
    let registry = scene.registry(&tokens);
    let host = registry.host();
    let slow = tls(&format!("{AS_MIRROR}, limits: {{bandwidth: 400KiB/s, concurrent: 2}}"));
    let from = format!("{}/large/app", scene.source.host());
    scene.configure(&[(host, slow)], &[entry("large", &from, &format!("{host}/app"))]);
    scene.run(&["once"]).expect_success();
    let registered = registry.log();
    assert_eq!(scene.skopeo_digest(host, "app:v1", &["--creds", "mirror:c4nary-p4ss"]), image.digest());
    (registered, tokens.requests().len())
}

#[test]
fn tokens_are_renewed_before_their_stated_expiry() {
    // The tokens are valid for longer than stated, so that a busy machine does not affect the test.
    let (log, requested) = copy_with_short_tokens(15, 4);
    assert!(requested >= 3, "{requested} tokens");
    assert!(!log.contains("token not to be used after"), "{log}");
}

#[test]
fn early_expired_token_costs_a_request_and_no_tag() {
    let (log, requested) = copy_with_short_tokens(5, 300);
    assert!(log.contains("token not to be used after"), "{log}");
    assert!(requested >= 3, "{requested} tokens");
}

#[test]
fn insufficient_token_error_names_the_user_and_action() {
    let scene = Scene::new();
    let tokens = scene.tokens(300, 300);
    let registry = scene.registry(&tokens);
    let (from, host) = (scene.source.host(), registry.host());
    let there = entry("there", &format!("{from}/public/app"), &format!("{host}/public/app"));
    scene.configure(&[(host, tls(&AS_MIRROR.replace("mirror", "reader")))], std::slice::from_ref(&there));
    let message = scene.refusal();
    assert!(message.contains(LACKING), "{message}");
    scene.configure(&[(host, tls(&AS_MIRROR.replace("c4nary-p4ss", "c4nary-wrong")))], std::slice::from_ref(&there));
    let message = scene.refusal();
    let refused = format!(
        "the token service {} refused mirror (password from the configuration): 401 Unauthorized",
        tokens.realm()
    );
    assert!(message.contains(&refused), "{message}");
    scene.configure(&[(host, tls(AS_MIRROR))], &[there]);
    scene.run(&["once"]).expect_success();
    // The user `reader` may read.
    let back = entry("back", &format!("{host}/public/app"), &format!("{from}/back/app"));
    scene.configure(&[(host, tls(&AS_MIRROR.replace("mirror", "reader")))], &[back]);
    scene.run(&["once"]).expect_success();
}

#[test]
fn refresh_token_is_exchanged_by_post_for_accepted_tokens() {
    let scene = Scene::new();
    let tokens = scene.tokens(300, 300);
    let registry = scene.registry(&tokens);
    let (from, host) = (scene.source.host(), registry.host());
    let there = entry("there", &format!("{from}/public/app"), &format!("{host}/team/app"));
    let with = |token: String| tls(&format!("credentials: {{token: \"{token}\"}}"));
    scene.configure(&[(host, with(TokenServer::refresh_token("nobody")))], std::slice::from_ref(&there));
    let message = scene.refusal();
    assert!(message.contains("refused token (token from the configuration): 401 Unauthorized"), "{message}");
    scene.configure(&[(host, with(TokenServer::refresh_token("mirror")))], &[there]);
    scene.run(&["once"]).expect_success();
    assert_eq!(scene.skopeo_digest(host, "team/app:v1", &["--creds", "mirror:c4nary-p4ss"]), scene.image.digest());
    let ours: Vec<_> = tokens.requests().into_iter().take_while(|requested| requested.method == "POST").collect();
    assert!(ours.iter().any(|requested| requested.granted && requested.user == "mirror"), "{ours:?}");
}

#[test]
fn anonymous_client_gets_pull_tokens_and_no_push_tokens() {
    let scene = Scene::new();
    let lifetime = Duration::from_secs(300);
    let rules = Rules { users: vec![MIRROR], anonymous_pull: true, lifetime, stated: 300 };
    let tokens = TokenServer::start(&scene.authority, rules);
    let registry = scene.registry(&tokens);
    let (from, host) = (scene.source.host(), registry.host());
    let there = entry("there", &format!("{from}/public/app"), &format!("{host}/team/app"));
    let back = entry("back", &format!("{host}/team/app"), &format!("{from}/back/app"));
    scene.configure(&[(host, tls(AS_MIRROR))], std::slice::from_ref(&there));
    scene.run(&["once"]).expect_success();
    let anonymous = tls("credentials: {anonymous: true}");
    scene.configure(&[(host, anonymous.clone())], &[back]);
    scene.run(&["once"]).expect_success();
    assert_eq!(scene.source.store().tag("back/app", "v1"), Some(scene.image.digest()));
    images::small(Family::Oci, 9).put(&scene.source, "public/app", Some("v1"));
    scene.configure(&[(host, anonymous)], &[there]);
    let message = scene.refusal();
    assert!(message.contains(LACKING), "{message}");
}

#[test]
fn debians_registry_is_synced_with_password_over_tls() {
    let scene = Scene::new();
    let own = scene.authority.certify("127.0.0.1", LATER);
    let registry = DebianRegistry::with(Guard { htpasswd: Some(HTPASSWD), tls: Some(&own), ..Guard::default() });
    let (from, host) = (scene.source.host(), registry.host());
    let there = entry("there", &format!("{from}/public/app"), &format!("{host}/team/app"));
    let back = entry("back", &format!("{host}/team/**"), &format!("{from}/back/**"));
    scene.configure(&[(host, tls(&AS_MIRROR.replace("c4nary-p4ss", "c4nary-wrong")))], std::slice::from_ref(&there));
    let message = scene.refusal();
    let refused = "the registry refused mirror (password from the configuration): check";
    assert!(message.contains("401 Unauthorized") && message.contains(refused), "{message}");
    scene.configure(&[(host, tls(AS_MIRROR))], &[there, back]);
    scene.run(&["once", "there"]).expect_success();
    assert_eq!(scene.skopeo_digest(host, "team/app:v1", &["--creds", "mirror:c4nary-p4ss"]), scene.image.digest());
    scene.run(&["once", "back"]).expect_success();
    assert_eq!(scene.source.store().tag("back/app", "v1"), Some(scene.image.digest()));
}

#[test]
fn debians_registry_as_a_cache_saves_repeated_pulls() {
    let scene = Scene::new();
    let cache = DebianRegistry::with(Guard { cache_of: Some(&scene.source.url("")), ..Guard::default() });
    let (from, to) = (scene.source.host(), Server::start());
    // Two independent sites, like two machines.
    for site in [Site::new(), Site::new()] {
        let registries = format!(
            "\"{from}\": {{plain_http: true, mirrors: [\"{}\"]}}, \"{}\": {{plain_http: true}}, \"{}\": \
                {{plain_http: true}}",
            cache.host(),
            cache.host(),
            to.host()
        );
        let target = format!("{}/app{}", to.host(), to.store().repositories().len());
        site.configure_fully(
            "status: off",
            &registries,
            &format!("- {{{}}}", entry("app", &format!("{from}/public/app"), &target)),
        );
        scene.source.log().clear();
        let output = site.run(&["once"]).expect_success();
        assert!(!output.stderr.contains("is not used for a while"), "{}", output.stderr);
        // The cache stores content a short time after it has forwarded it.
        let layers = cache.storage().join("data/docker/registry/v2/repositories/public/app/_layers/sha256");
        let stored = || {
            std::fs::read_dir(&layers).map_or(0, |folders| {
                folders.filter(|folder| folder.as_ref().is_ok_and(|folder| folder.path().join("link").exists())).count()
            })
        };
        let end = Instant::now() + DEADLINE;
        while stored() < scene.image.all_blobs().len() {
            assert!(Instant::now() < end, "{} blobs in {}", stored(), layers.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    for name in ["app0", "app1"] {
        assert_eq!(to.store().tag(name, "v1"), Some(scene.image.digest()), "{name}");
    }
    assert_eq!((scene.source.log().pulls(), scene.source.log().count("blob GET")), (0, 0), "the second time");
}

#[test]
fn registry_and_token_service_below_a_path_work() {
    let scene = Scene::new();
    let tokens = scene.tokens(300, 300);
    let own = scene.authority.certify("127.0.0.1", LATER);
    let before_tokens = Nginx::start(&tokens.plain(), &own.certificate, &own.key);
    let realm = format!("https://{}/art/images/token", before_tokens.host());
    // The registry uses plain HTTP behind nginx.
    let believed = Tokens { realm: &realm, authority: &scene.authority.pem() };
    let registry = DebianRegistry::with(Guard { tokens: Some(believed), ..Guard::default() });
    let nginx = Nginx::start(registry.host(), &own.certificate, &own.key);
    let (from, host) = (scene.source.host(), nginx.host());
    let there = entry("there", &format!("{from}/public/app"), &format!("{host}/team/app"));
    let back = entry("back", &format!("{host}/team/**"), &format!("{from}/back/**"));
    scene.configure(&[(host, tls(&format!("{AS_MIRROR}, path_prefix: /art/images")))], &[there, back]);
    // The number of repositories gives the catalog a second page. The registry omits the path prefix in the address of
    // that page.
    let repositories = registry.storage().join("data/docker/registry/v2/repositories/many");
    for number in 0..1001 {
        std::fs::create_dir_all(repositories.join(format!("r{number:04}/_layers"))).unwrap();
    }
    for name in ["there", "back"] {
        let output = scene.run(&["once", name]);
        assert!(output.status.success(), "{}\n{}\n{}", output.stdout, output.stderr, nginx.log());
    }
    assert_eq!(scene.source.store().tag("back/app", "v1"), Some(scene.image.digest()));
    assert!(tokens.requests().iter().all(|requested| requested.granted), "{:?}", tokens.requests());
}

#[test]
fn registry_behind_a_limiting_proxy_receives_everything() {
    let scene = Scene::new();
    let tokens = scene.tokens(300, 300);
    let own = scene.authority.certify("127.0.0.1", LATER);
    let by_tokens = scene.registry(&tokens);
    let by_password = DebianRegistry::with(Guard { htpasswd: Some(HTPASSWD), tls: Some(&own), ..Guard::default() });
    let (mute, clear) = (DebianRegistry::start(), DebianRegistry::start());
    let before_mute =
        Nginx::throttling(mute.host(), &own, Throttle { rate: Some(15), body: Some(2), ..Throttle::default() });
    let before_clear = Nginx::throttling(
        clear.host(),
        &own,
        Throttle { rate: Some(15), retry_after: Some(1), body: Some(2), ..Throttle::default() },
    );
    let large = images::image(Family::Oci, images::linux("amd64"), &[images::layer(Family::Oci, 70, 5_000_000)]);
    large.put(&scene.source, "public/app", Some("large"));
    let many: Vec<Image> = (2..10).map(|seed| images::small(Family::Oci, seed)).collect();
    for (at, image) in many.iter().enumerate() {
        image.put(&scene.source, "public/app", Some(&format!("m{at}")));
    }
    let below = tls("path_prefix: /art/images");
    let registries = [
        (by_tokens.host(), tls(AS_MIRROR)),
        (by_password.host(), tls(AS_MIRROR)),
        (before_mute.host(), below.clone()),
        (before_clear.host(), below),
    ];
    let targets: Vec<String> = registries.iter().map(|(host, _)| format!("\"{host}/team/app\"")).collect();
    let from = format!("{}/public/app", scene.source.host());
    let all = format!("name: all, source: \"{from}\", targets: [{}]", targets.join(", "));
    scene.configure(&registries, &[all]);
    let output = scene.run(&["once"]);
    assert!(output.status.success(), "{}\n{}", output.stdout, output.stderr);
    let plain = ["--tls-verify=false"];
    let judges: [(&str, &[&str]); 4] = [
        (by_tokens.host(), &["--creds", "mirror:c4nary-p4ss"]),
        (by_password.host(), &["--creds", "mirror:c4nary-p4ss"]),
        (mute.host(), &plain),
        (clear.host(), &plain),
    ];
    for (host, options) in judges {
        assert_eq!(scene.skopeo_digest(host, "team/app:v1", options), scene.image.digest(), "{host}");
        assert_eq!(scene.skopeo_digest(host, "team/app:large", options), large.digest(), "{host}");
        assert_eq!(scene.skopeo_digest(host, "team/app:m7", options), many[7].digest(), "{host}");
    }
    for nginx in [&before_mute, &before_clear] {
        let log = nginx.log();
        assert!(log.contains("limiting requests"), "nginx limited requests: {log}");
        assert!(log.contains("client intended to send too large body"), "nginx refused bodies: {log}");
    }
}
