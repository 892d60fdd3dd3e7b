//! Tests of connections: certificate authorities, client certificates, proxies, HTTP versions, and the messages of
//! failed connections.

use std::process::Command;

use crate::support::front::{self, Authority, Certified, Front};
use crate::support::images::{self, Family};
use crate::support::programs::{DEADLINE, DebianRegistry, Nginx, Output, Running};
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::Site;

/// Year of expiry in the distant future.
const LATER: i32 = 4000;

/// Registry with one image under `a/b:v1`, and a site with the certificate of an authority.
struct Scene {
    registry: Server,
    authority: Authority,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        let (registry, authority, site) = (Server::start(), Authority::new("an authority"), Site::new());
        images::small(Family::Oci, 1).put(&registry, "a/b", Some("v1"));
        site.write("ca.pem", &authority.pem());
        // Certificate authorities of the system. The machine may have none, so the file contains one that differs from
        // the test's.
        site.write("system.pem", &Authority::new("another authority").pem());
        Self { registry, authority, site }
    }

    fn front(&self, own: &Certified) -> Front {
        Front::tls(self.registry.host(), own, None, &["http/1.1"])
    }

    fn good_front(&self) -> Front {
        self.front(&self.authority.certify("127.0.0.1", LATER))
    }

    /// Lists the tags of `a/b` at `host` with these options of the registry.
    fn tags(&self, host: &str, options: &str) -> Output {
        self.command(host, options, &["tags", &format!("{host}/a/b")])
    }

    fn command(&self, host: &str, options: &str, args: &[&str]) -> Output {
        Running::start(&mut self.prepared(host, options, args)).wait(DEADLINE)
    }

    fn prepared(&self, host: &str, options: &str, args: &[&str]) -> Command {
        self.site.configure_fully("status: off", &format!("\"{host}\": {options}"), "  []");
        let mut command = self.site.command(args);
        self.trusting(&mut command);
        command
    }

    /// Makes a command use the certificate authorities of the system, which lack the test's authority.
    fn trusting<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("SSL_CERT_FILE", self.site.path("system.pem")).env_remove("SSL_CERT_DIR")
    }

    /// Lists the tags, which must fail. Returns the reason in the last line of standard error.
    #[track_caller]
    fn refusal(&self, host: &str, options: &str) -> String {
        let output = self.tags(host, options);
        assert_ne!(output.code(), 0, "{}", output.stdout);
        let last = output.stderr.lines().last().unwrap_or_default().to_owned();
        let message = last.split_once("listing tags: ").map(|(_, message)| message.to_owned());
        message.unwrap_or_else(|| panic!("{}", output.stderr))
    }
}

#[test]
fn custom_ca_is_trusted_only_at_its_registry() {
    let scene = Scene::new();
    let front = scene.good_front();
    let host = front.host();
    let output = scene.tags(&host, "{tls: {ca: ca.pem}}").expect_success();
    assert!(output.stdout.contains("v1"), "{}", output.stdout);
    assert_eq!(
        scene.refusal(&host, "{}"),
        format!(
            "the certificate of https://{host} is issued by an unknown authority; \
             set `tls.ca` to the file of the authority"
        )
    );
    assert_eq!(
        front.seen().iter().filter(|seen| *seen == "refused").count(),
        1,
        "it is tried once: {:?}",
        front.seen()
    );
}

#[test]
fn self_signed_certificate_is_trusted_by_its_own_file() {
    let scene = Scene::new();
    let own = front::self_signed("127.0.0.1", LATER);
    scene.site.write("own.pem", &own.certificate);
    let front = Front::tls(scene.registry.host(), &own, None, &["h2", "http/1.1"]);
    let host = front.host();
    assert!(scene.tags(&host, "{tls: {ca: own.pem}}").expect_success().stdout.contains("v1"));
    assert_eq!(front.seen().last().map(String::as_str), Some("h2"), "{:?}", front.seen());
    for other in ["{}", "{tls: {ca: ca.pem}}"] {
        let advice = "is self-signed and not trusted; set `tls.ca` to the file of this certificate";
        assert_eq!(scene.refusal(&host, other), format!("the certificate of https://{host} {advice}"));
    }
    for (name, until, fault) in
        [("registry.example", LATER, "is valid for registry.example"), ("127.0.0.1", 2001, "expired")]
    {
        let wrong = front::self_signed(name, until);
        scene.site.write("own.pem", &wrong.certificate);
        let front = scene.front(&wrong);
        let refusal = scene.refusal(&front.host(), "{tls: {ca: own.pem}}");
        assert!(refusal.contains(fault), "{refusal}");
    }
}

#[test]
fn certificate_problem_is_reported_once_with_details_at_debug() {
    let scene = Scene::new();
    let front = scene.good_front();
    let host = front.host();
    let verifier = "failed to verify TLS certificate";
    let output = scene.tags(&host, "{}");
    assert!(!output.stderr.contains(verifier), "{}", output.stderr);
    assert_eq!(output.stderr.matches("is issued by an unknown authority").count(), 1, "{}", output.stderr);
    let mut command = scene.prepared(&host, "{}", &["tags", &format!("{host}/a/b")]);
    let output = Running::start(command.env("TRANSSHIP_LOG", "debug")).wait(DEADLINE);
    assert!(output.stderr.contains(verifier), "{}", output.stderr);
}

#[test]
fn certificate_error_states_valid_names_and_expiry() {
    let scene = Scene::new();
    let trusted = "{tls: {ca: ca.pem}}";
    let other = scene.front(&scene.authority.certify("registry.example", LATER));
    assert_eq!(
        scene.refusal(&other.host(), trusted),
        format!(
            "the certificate of https://{0} is valid for registry.example, but 127.0.0.1 was requested",
            other.host()
        )
    );
    let old = scene.front(&scene.authority.certify("127.0.0.1", 2001));
    let host = old.host();
    assert_eq!(
        scene.refusal(&host, trusted),
        format!("the certificate of https://{host} expired at 2001-12-31T00:00:00Z")
    );
    assert_eq!(old.seen(), ["refused"], "one attempt only");
}

#[test]
fn client_certificate_is_sent_on_request() {
    let scene = Scene::new();
    let own = scene.authority.certify("127.0.0.1", LATER);
    let front = Front::tls(scene.registry.host(), &own, Some(&scene.authority), &["http/1.1"]);
    let host = front.host();
    let me = scene.authority.certify("me", LATER);
    scene.site.write("me.pem", &me.certificate);
    scene.site.write("me.key", &me.key);
    let shown = "{tls: {ca: ca.pem, certificate: me.pem, key: me.key}}";
    assert!(scene.tags(&host, shown).expect_success().stdout.contains("v1"));
    assert_eq!(
        scene.refusal(&host, "{tls: {ca: ca.pem}}"),
        format!("https://{host} requires a client certificate; set `tls.certificate` to its file")
    );
    let strange = Authority::new("another authority").certify("me", LATER);
    scene.site.write("me.pem", &strange.certificate);
    scene.site.write("me.key", &strange.key);
    assert_eq!(
        scene.refusal(&host, shown),
        format!("https://{host} rejected the client certificate (UnknownCA); check `tls.certificate`")
    );
}

#[test]
fn disabled_verification_connects_and_warns_at_each_start() {
    let scene = Scene::new();
    let front = scene.front(&Authority::new("an authority").certify("registry.example", 2001));
    let host = front.host();
    let insecure = "{tls: {insecure_skip_verify: true}}";
    let output = scene.tags(&host, insecure).expect_success();
    assert!(output.stdout.contains("v1"), "{}", output.stdout);
    let warning = "the certificate of the server is not verified (tls.insecure_skip_verify): anyone on the network \
        path \
                   can read the credentials and change the images";
    assert!(output.stderr.contains(warning) && output.stderr.contains(&host), "{}", output.stderr);
    for args in [&["once"][..], &["check"]] {
        let output = scene.command(&host, insecure, args);
        assert!((output.stdout.clone() + &output.stderr).contains(warning), "{args:?}: {output:?}");
    }
    assert!(!scene.tags(&host, "{tls: {ca: ca.pem}}").stderr.contains("tls.insecure_skip_verify"));
}

#[test]
fn application_secret_is_never_sent_to_an_unverified_server() {
    let scene = Scene::new();
    let guarded = Server::with(Setup { auth: Auth::Basic("me".into(), "x".into()), ..Setup::default() });
    let own = scene.authority.certify("127.0.0.1", LATER);
    let registry = Front::tls(guarded.host(), &own, None, &["http/1.1"]);
    let entra = scene.front(&own);
    let options = |tls: &str| {
        let azure = format!("client_id: a, tenant_id: b, client_secret: x, authority: \"https://{}\"", entra.host());
        format!("{{tls: {{{tls}}}, credentials: {{azure: {{{azure}}}}}}}")
    };
    let message = scene.refusal(&registry.host(), &options("insecure_skip_verify: true"));
    assert!(message.contains("is issued by an unknown authority"), "{message}");
    assert_eq!(scene.registry.log().requests().len(), 0, "the server in place of Entra gets no request");
    // With the configured authority, the server is verified and gets the request.
    scene.refusal(&registry.host(), &options("insecure_skip_verify: true, ca: ca.pem"));
    assert_eq!(scene.registry.log().requests().len(), 1);
}

#[test]
fn unusable_tls_file_fails_check_and_start_by_name() {
    let scene = Scene::new();
    scene.site.write("empty.pem", "");
    for args in [&["check"][..], &["once"]] {
        let output = scene.command("registry.example", "{tls: {ca: empty.pem}}", args);
        assert_eq!(output.code(), 2, "{output:?}");
        let message = "the file empty.pem has no certificate: PEM is expected, with a line -----BEGIN CERTIFICATE-----";
        assert!(output.stderr.contains(message), "{}", output.stderr);
    }
}

#[test]
fn mismatches_of_tls_and_plain_http_are_explained() {
    let scene = Scene::new();
    let plain = scene.registry.host().to_owned();
    let message = format!("https://{plain} does not speak TLS; for plain HTTP set `plain_http: true`");
    assert_eq!(scene.refusal(&plain, "{}"), message);
    let front = scene.good_front();
    let host = front.host();
    let message = format!("http://{host} does not speak HTTP; if the server expects TLS, remove `plain_http`");
    assert_eq!(scene.refusal(&host, "{plain_http: true}"), message);
    assert_eq!(front.seen(), ["refused"], "one attempt only");
}

#[test]
fn http2_is_not_offered_if_disabled() {
    let scene = Scene::new();
    let own = scene.authority.certify("127.0.0.1", LATER);
    let front = Front::tls(scene.registry.host(), &own, None, &["h2", "http/1.1"]);
    let host = front.host();
    let output = scene.tags(&host, "{http1_only: true, tls: {ca: ca.pem}}").expect_success();
    assert!(output.stdout.contains("v1"), "{}", output.stdout);
    let seen = front.seen();
    assert!(!seen.is_empty() && seen.iter().all(|protocol| protocol == "http/1.1"), "{seen:?}");
}

#[test]
fn http2_is_offered_by_default() {
    let scene = Scene::new();
    let own = scene.authority.certify("127.0.0.1", LATER);
    let front = Front::tls(scene.registry.host(), &own, None, &["h2"]);
    let host = front.host();
    // The server behind the front supports only HTTP/1.1, so the test ends after the handshake.
    let _ = scene.tags(&host, "{tls: {ca: ca.pem}}");
    assert_eq!(front.seen().first().map(String::as_str), Some("h2"));
}

/// Copies into a registry and out of it again through a front that ends two HTTP/2 connections after eight requests
/// each. Returns the log of the front.
fn copy_through_calm_front(options: &str) -> Vec<String> {
    let (scene, target) = (Scene::new(), Server::start());
    let image = images::two_platforms(Family::Oci, 2);
    for tag in ["v2", "v3", "v4", "v5", "v6", "v7", "v8"] {
        image.put(&scene.registry, "a/b", Some(tag));
    }
    // An absolute `Location` would bypass the front.
    target.set(Fault::RelativeLocation);
    let front = Front::with_enhance_your_calm(target.host(), &scene.authority.certify("127.0.0.1", LATER), 8);
    let (from, host) = (scene.registry.host(), front.host());
    let registries = format!(
        "\"{from}\": {{plain_http: true}}, \"{host}\": {{tls: {{ca: ca.pem}}, limits: {{concurrent: 9}}{options}}}"
    );
    let entries = format!(
        "  - {{name: there, source: {from}/a/b, target: \"{host}/a/b\"}}\n  \
         - {{name: back, source: \"{host}/a/b\", target: {from}/back}}"
    );
    scene.site.configure_fully("status: off", &registries, &entries);
    for name in ["there", "back"] {
        Running::start(scene.trusting(&mut scene.site.command(&["once", name]))).wait(DEADLINE).expect_success();
    }
    assert_eq!(scene.registry.store().tag("back", "v8"), Some(image.digest()));
    front.seen()
}

#[test]
fn requests_broken_by_enhance_your_calm_are_resent() {
    let seen = copy_through_calm_front("");
    assert!(seen.iter().filter(|seen| *seen == "calm").count() >= 2, "{seen:?}");
}

#[test]
fn http1_connection_never_gets_enhance_your_calm() {
    let seen = copy_through_calm_front(", http1_only: true");
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen == "http/1.1"), "{seen:?}");
}

#[test]
fn registry_is_reached_through_its_proxy_without_revealing_passwords() {
    let scene = Scene::new();
    let (front, proxy) = (scene.good_front(), Front::proxy("mover:c4n4ry p4ss"));
    let (host, port) = (front.host(), proxy.port());
    let with = |password: &str| format!("{{tls: {{ca: ca.pem}}, proxy: \"http://mover:{password}@127.0.0.1:{port}\"}}");
    let mut command = scene.prepared(&host, &with("c4n4ry%20p4ss"), &["tags", &format!("{host}/a/b")]);
    let output = Running::start(command.env("TRANSSHIP_LOG", "trace")).wait(DEADLINE).expect_success();
    assert!(output.stdout.contains("v1"), "{}", output.stdout);
    let tunnel = format!("CONNECT {host} HTTP/1.1");
    assert!(proxy.seen().contains(&tunnel), "{:?}", proxy.seen());
    // The secret as written in the configuration, decoded, and in base64.
    for secret in ["c4n4ry", "bW92ZXI6YzRuNHJ5"] {
        assert!(!output.stderr.contains(secret), "{}", output.stderr);
    }
    assert!(output.stderr.contains("TRACE"), "{}", output.stderr);
    assert_eq!(
        scene.refusal(&host, &with("wr0ng")),
        format!(
            "the proxy http://127.0.0.1:{port} requires a user and a password, or rejected those of the configuration"
        )
    );
    drop(proxy);
    let message = scene.tags(&host, &with("c4n4ry%20p4ss")).stderr;
    assert!(message.contains(&format!("the proxy http://127.0.0.1:{port} refused the connection")), "{message}");
}

#[test]
fn environment_proxy_reaches_registries_unknown_to_local_dns() {
    let scene = Scene::new();
    let host = "registry.invalid";
    let front = scene.front(&scene.authority.certify(host, LATER));
    for (variable, options, upstream, requested) in [
        ("HTTP_PROXY", "{plain_http: true}", scene.registry.host(), format!("GET http://{host}/v2/")),
        ("HTTPS_PROXY", "{tls: {ca: ca.pem}}", &front.host(), format!("CONNECT {host}:443 HTTP/1.1")),
        ("all_proxy", "{tls: {ca: ca.pem}}", &front.host(), format!("CONNECT {host}:443 HTTP/1.1")),
    ] {
        let proxy = Front::proxy_to(upstream);
        let mut command = scene.prepared(host, options, &["tags", &format!("{host}/a/b")]);
        command.env(variable, format!("http://{}", proxy.host())).env_remove("NO_PROXY").env_remove("no_proxy");
        let output = Running::start(&mut command).wait(DEADLINE).expect_success();
        assert!(output.stdout.contains("v1"), "{}", output.stdout);
        let seen = proxy.seen();
        assert!(seen.iter().any(|seen| seen.starts_with(&requested)), "{variable}: {seen:?}");
        // Without a proxy, the host name cannot be resolved.
        let output = Running::start(command.env("NO_PROXY", "other.example,.invalid")).wait(DEADLINE);
        assert_ne!(output.code(), 0, "{}", output.stdout);
        assert_eq!(proxy.seen(), seen, "{variable}");
    }
}

#[test]
fn invalid_proxy_variable_is_warned_of_and_hidden() {
    let scene = Scene::new();
    let host = scene.registry.host();
    for args in [&["tags", &format!("{host}/a/b")][..], &["once"]] {
        let mut command = scene.prepared(host, "{plain_http: true}", args);
        command.env("HTTPS_PROXY", "garbage:c4n4ry:::").env("HTTP_PROXY", "proxy.example:3128").env("ALL_PROXY", "");
        let output = Running::start(&mut command).wait(DEADLINE).expect_success();
        let message = "ignored the environment variable HTTPS_PROXY, which names no proxy: write http://HOST:PORT";
        assert_eq!(output.stderr.matches(message).count(), 1, "{}", output.stderr);
        assert!(
            !output.stderr.contains("HTTP_PROXY, which names") && !output.stderr.contains("c4n4ry"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn proxy_none_overrides_the_environment() {
    let scene = Scene::new();
    let front = scene.good_front();
    let host = front.host().replace("127.0.0.1", "localhost");
    let mut command = scene.prepared(&host, "{proxy: none, tls: {ca: ca.pem}}", &["tags", &format!("{host}/a/b")]);
    let output = Running::start(command.env("HTTPS_PROXY", "http://127.0.0.1:1")).wait(DEADLINE);
    let message = format!("the certificate of https://{host} is valid for 127.0.0.1, but localhost was requested");
    assert!(output.stderr.contains(&message), "it got as far as the registry: {}", output.stderr);
}

#[test]
fn debians_registry_is_synced_through_nginx_below_a_path() {
    let scene = Scene::new();
    let own = scene.authority.certify("127.0.0.1", LATER);
    let registry = DebianRegistry::start();
    let nginx = Nginx::start(registry.host(), &own.certificate, &own.key);
    let (from, through) = (scene.registry.host(), nginx.host());
    let image = images::small(Family::Oci, 1);
    for tag in ["v2", "v3"] {
        image.put(&scene.registry, "a/b", Some(tag));
    }
    let below = "{tls: {ca: ca.pem}, path_prefix: /art/images}";
    let registries = format!("\"{from}\": {{plain_http: true}}, \"{through}\": {below}");
    let entries = format!(
        "  - {{name: there, source: {from}/a/b, target: {through}/a/b}}\n  \
         - {{name: back, source: {through}/a/**, target: {from}/back/**}}"
    );
    let run = |name: &str| {
        scene.site.configure_fully("status: off", &registries, &entries);
        let output = Running::start(scene.trusting(&mut scene.site.command(&["once", name]))).wait(DEADLINE);
        assert!(output.status.success(), "{}\n{}\n{}", output.stdout, output.stderr, nginx.log());
    };
    run("there");
    run("back");
    assert_eq!(scene.registry.store().tag("back/b", "v1"), Some(image.digest()));
    let message = scene.refusal(through, "{plain_http: true}");
    assert_eq!(message, format!("http://{through} requires TLS; remove `plain_http`"));
}
