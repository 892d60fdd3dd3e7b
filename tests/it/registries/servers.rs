//! Servers that are not ours: Debian's registry with signed tokens, with passwords and with TLS of its own, and behind nginx that
//! limits and prefixes. What arrived is judged by skopeo.

use std::process::Command;
use std::time::{Duration, Instant};

use transship::oci::Digest;

use crate::support::front::Authority;
use crate::support::images::{self, Family, Image};
use crate::support::programs::{DEADLINE, DebianRegistry, Guard, Nginx, Output, Running, Throttle, Tokens, skopeo};
use crate::support::registry::Server;
use crate::support::site::Site;
use crate::support::token_server::{Rules, TokenServer, User};

/// A year that no test will see the end of.
const LATER: i32 = 4000;
const PASSWORD: &str = "c4nary-p4ss";
/// Of `mirror` and the password above.
const HTPASSWD: &str = "mirror:$2y$05$abcdefghijklmnopqrstuuXvrSL3Pi/EvKlC12beLQZLHpQxc1wUa\n";
/// Who may do everything.
const MIRROR: User = User { name: "mirror", password: PASSWORD, may: &[("", &["pull", "push", "*"])] };
/// Who may read what is public.
const READER: User = User { name: "reader", password: PASSWORD, may: &[("public/", &["pull"])] };
/// The credentials of the first.
const AS_MIRROR: &str = "credentials: {username: mirror, password: c4nary-p4ss}";

const LACKING: &str = "UNAUTHORIZED: authentication required; the token does not grant this action";

/// An authority that the test alone knows, an open registry with an image, and a place to run.
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
        // What skopeo looks for, in a folder of its own.
        std::fs::create_dir(site.path("certificates")).unwrap();
        std::fs::write(site.path("certificates/ca.crt"), authority.pem()).unwrap();
        // The authorities of the system, which may be none on this machine: any one that is not the test's.
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

    /// A registry with TLS of its own that believes these tokens.
    fn registry(&self, tokens: &TokenServer) -> DebianRegistry {
        self.believing(&tokens.realm())
    }

    fn believing(&self, realm: &str) -> DebianRegistry {
        let own = self.authority.certify("127.0.0.1", LATER);
        let tokens = Tokens { realm, authority: &self.authority.pem() };
        DebianRegistry::with(Guard { tokens: Some(tokens), tls: Some(&own), ..Guard::default() })
    }

    /// Configures entries, and registries by host and options; the open one is there anyway.
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

    /// `once`, whose first failure must be this one, with no secret in all that it says.
    #[track_caller]
    fn refusal(&self) -> String {
        let output = Running::start(self.command(&["once"]).env("TRANSSHIP_LOG", "trace")).wait(DEADLINE);
        assert_eq!(output.code(), 1, "{}\n{}", output.stdout, output.stderr);
        for secret in [PASSWORD, "c4nary-wrong", "r3fresh"] {
            assert!(!(output.stdout.clone() + &output.stderr).contains(secret), "{secret} is shown");
        }
        output.stdout
    }

    /// The digest of `NAME:TAG` as skopeo reads it by TLS, with more of its options.
    #[track_caller]
    fn judged(&self, host: &str, name: &str, options: &[&str]) -> Digest {
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
    assert_eq!(scene.judged(host, "team/app:v1", &["--creds", "mirror:c4nary-p4ss"]), scene.image.digest());
    scene.run(&["once", "back"]).expect_success();
    assert_eq!(scene.source.store().tag("back/app", "v1"), Some(scene.image.digest()));
    let asked = tokens.requests();
    assert!(asked.iter().all(|asked| asked.granted && asked.user == "mirror" && asked.method == "GET"), "{asked:?}");
    let scopes: Vec<&str> = asked.iter().flat_map(|asked| asked.scopes.iter().map(String::as_str)).collect();
    for scope in ["repository:team/app:pull,push", "repository:team/app:pull", "registry:catalog:*"] {
        assert!(scopes.contains(&scope), "{scope}: {scopes:?}");
    }
    assert!(asked.len() <= 7, "a token is used as long as it is good: {asked:?}");
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
    let both = |asked: &[String]| {
        let of = |name: &str| asked.iter().any(|scope| scope.contains(name) && scope.contains("pull"));
        of("first/app") && of("second/app") && asked.iter().any(|scope| scope.ends_with(":pull,push"))
    };
    assert!(tokens.requests().iter().any(|asked| both(&asked.scopes)), "{:?}", tokens.requests());
    for name in ["first/app:v1", "second/app:v1"] {
        assert_eq!(scene.judged(host, name, &["--creds", "mirror:c4nary-p4ss"]), scene.image.digest());
    }
}

/// Copies images slowly enough for many tokens that live so long and are said to live so long, in seconds; what the registry
/// and the token server made of it.
fn by_short_tokens(lifetime: u64, stated: u64) -> (String, usize) {
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
    assert_eq!(scene.judged(host, "app:v1", &["--creds", "mirror:c4nary-p4ss"]), image.digest());
    (registered, tokens.requests().len())
}

#[test]
fn tokens_are_renewed_before_their_stated_expiry() {
    // They live longer, so that a machine that is busy for a while changes nothing.
    let (log, asked) = by_short_tokens(15, 4);
    assert!(asked >= 3, "{asked} tokens");
    assert!(!log.contains("token not to be used after"), "{log}");
}

#[test]
fn early_expired_token_costs_a_request_and_no_tag() {
    let (log, asked) = by_short_tokens(5, 300);
    assert!(log.contains("token not to be used after"), "{log}");
    assert!(asked >= 3, "{asked} tokens");
}

#[test]
fn insufficient_token_error_names_the_user_and_action() {
    let scene = Scene::new();
    let tokens = scene.tokens(300, 300);
    let registry = scene.registry(&tokens);
    let (from, host) = (scene.source.host(), registry.host());
    let there = entry("there", &format!("{from}/public/app"), &format!("{host}/public/app"));
    scene.configure(&[(host, tls(&AS_MIRROR.replace("mirror", "reader")))], std::slice::from_ref(&there));
    let told = scene.refusal();
    assert!(told.contains(LACKING), "{told}");
    scene.configure(&[(host, tls(&AS_MIRROR.replace("c4nary-p4ss", "c4nary-wrong")))], std::slice::from_ref(&there));
    let told = scene.refusal();
    let refused = format!("the token service {} refused mirror: 401 Unauthorized", tokens.realm());
    assert!(told.contains(&refused), "{told}");
    scene.configure(&[(host, tls(AS_MIRROR))], &[there]);
    scene.run(&["once"]).expect_success();
    // Who may read may do so.
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
    let told = scene.refusal();
    assert!(told.contains("refused token: 401 Unauthorized"), "{told}");
    scene.configure(&[(host, with(TokenServer::refresh_token("mirror")))], &[there]);
    scene.run(&["once"]).expect_success();
    assert_eq!(scene.judged(host, "team/app:v1", &["--creds", "mirror:c4nary-p4ss"]), scene.image.digest());
    let ours: Vec<_> = tokens.requests().into_iter().take_while(|asked| asked.method == "POST").collect();
    assert!(ours.iter().any(|asked| asked.granted && asked.user == "mirror"), "{ours:?}");
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
    let told = scene.refusal();
    assert!(told.contains(LACKING), "{told}");
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
    let told = scene.refusal();
    // Of several requests that want to know, one is told so by the registry and the others by it.
    assert!(told.contains("401 Unauthorized") || told.contains("has just refused mirror"), "{told}");
    scene.configure(&[(host, tls(AS_MIRROR))], &[there, back]);
    scene.run(&["once", "there"]).expect_success();
    assert_eq!(scene.judged(host, "team/app:v1", &["--creds", "mirror:c4nary-p4ss"]), scene.image.digest());
    scene.run(&["once", "back"]).expect_success();
    assert_eq!(scene.source.store().tag("back/app", "v1"), Some(scene.image.digest()));
}

#[test]
fn debians_registry_as_a_cache_saves_repeated_pulls() {
    let scene = Scene::new();
    let cache = DebianRegistry::with(Guard { cache_of: Some(&scene.source.url("")), ..Guard::default() });
    let (from, to) = (scene.source.host(), Server::start());
    // Two places that know nothing of each other, as two machines would.
    for site in [Site::new(), Site::new()] {
        let registries = format!(
            "\"{from}\": {{plain_http: true, mirrors: [\"{}\"]}}, \"{}\": {{plain_http: true}}, \"{}\": {{plain_http: true}}",
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
        assert!(!output.stderr.contains("is backed off"), "{}", output.stderr);
        // What it passed on it stores a little later.
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
    // Plain, behind nginx.
    let believed = Tokens { realm: &realm, authority: &scene.authority.pem() };
    let registry = DebianRegistry::with(Guard { tokens: Some(believed), ..Guard::default() });
    let nginx = Nginx::start(registry.host(), &own.certificate, &own.key);
    let (from, host) = (scene.source.host(), nginx.host());
    let there = entry("there", &format!("{from}/public/app"), &format!("{host}/team/app"));
    let back = entry("back", &format!("{host}/team/**"), &format!("{from}/back/**"));
    scene.configure(&[(host, tls(&format!("{AS_MIRROR}, path_prefix: /art/images")))], &[there, back]);
    // So many that the catalog has a second page, whose address the registry gives without the path.
    let repositories = registry.storage().join("data/docker/registry/v2/repositories/many");
    for number in 0..1001 {
        std::fs::create_dir_all(repositories.join(format!("r{number:04}/_layers"))).unwrap();
    }
    for name in ["there", "back"] {
        let output = scene.run(&["once", name]);
        assert!(output.status.success(), "{}\n{}\n{}", output.stdout, output.stderr, nginx.log());
    }
    assert_eq!(scene.source.store().tag("back/app", "v1"), Some(scene.image.digest()));
    assert!(tokens.requests().iter().all(|asked| asked.granted), "{:?}", tokens.requests());
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
        assert_eq!(scene.judged(host, "team/app:v1", options), scene.image.digest(), "{host}");
        assert_eq!(scene.judged(host, "team/app:large", options), large.digest(), "{host}");
        assert_eq!(scene.judged(host, "team/app:m7", options), many[7].digest(), "{host}");
    }
    for nginx in [&before_mute, &before_clear] {
        let log = nginx.log();
        assert!(log.contains("limiting requests"), "it had to limit: {log}");
        assert!(log.contains("client intended to send too large body"), "it had to refuse: {log}");
    }
}
