//! Tests that search for planted secrets in all output and files of transship: after successful runs and after each
//! kind of failure, with logs at trace level.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;

use crate::support::front::{Authority, Front};
use crate::support::http;
use crate::support::images::{self, Family, linux};
use crate::support::programs::{DEADLINE, Nginx, Output, Running};
use crate::support::receiver::{Behavior, Receiver};
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::Site;

/// Each secret begins with eight unique characters. Most secrets contain characters that are escaped in a URL.
const IN_YAML: &str = "Y7m+9w/Qz%k2-yaml";
const IN_ENVIRONMENT: &str = "E4n+vT/x8%r1-env";
const IN_FILE: &str = "F1l+eD/b6%c3-file";
const OF_COMMAND: &str = "C9mm+aN/dd%5-command";
const OF_HELPER: &str = "H3lp+eR/rr%8-helper";
const IN_DOCKERS_FILE: &str = "D7ck+eR/cc%1-config";
const IDENTITY: &str = "R6fr+sH/tK%9-identity";
const BEARER: &str = "B3arerQ8zT4k";
const UPLOAD: &str = "U5pl+oA/dS%4-write";
const READ: &str = "S4s+bL/oB%7-read";
/// Query value that the storage of the tests requires.
const STORAGE: &str = "of-the-storage";
const PROXY_USER: &str = "P8xuserK2w";
const PROXY_PASSWORD: &str = "P2px+sW/zz%3-proxy";
/// Secrets of a webhook: path and query of its URL, and the key that signs its messages.
const HOOK_PATH: &str = "W6hookT0kenQ5";
const HOOK_QUERY: &str = "V2queryT0kenX8";
const HOOK_KEY: &str = "K4hk+kE/yy%2-hook-key";
/// Credentials of senders of push events: in a header, and in the URL.
const EVENTS_TOKEN: &str = "B8ev+tO/kk%5-events-token";
const EVENTS_ADDRESS: &str = "J2ad+dR/ss%4-events-address";

const ALL: [&str; 18] = [
    IN_YAML,
    IN_ENVIRONMENT,
    IN_FILE,
    OF_COMMAND,
    OF_HELPER,
    IN_DOCKERS_FILE,
    IDENTITY,
    BEARER,
    UPLOAD,
    READ,
    STORAGE,
    PROXY_USER,
    PROXY_PASSWORD,
    HOOK_PATH,
    HOOK_QUERY,
    HOOK_KEY,
    EVENTS_TOKEN,
    EVENTS_ADDRESS,
];

/// User of the passwords.
const USER: &str = "robot";

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Returns the beginnings of all forms in which a secret could be shown. The beginning suffices, because a truncated
/// secret is also a leak.
fn forms(secret: &str) -> Vec<String> {
    let login = base64(&format!("{USER}:{secret}"));
    let through_proxy = base64(&format!("{PROXY_USER}:{secret}"));
    let percent: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let percent_lower = percent.to_lowercase();
    // The part of the base64 text after the user's name, which is no secret.
    let of_login = |text: &str, user: &str| text[(user.len() + 1).div_ceil(3) * 4..][..8].to_owned();
    let hex = hex::encode(secret);
    let mut forms = vec![of_login(&login, USER), of_login(&through_proxy, PROXY_USER), hex[..16].to_owned()];
    forms.extend([secret, &base64(secret), &percent].map(|text| text[..8].to_owned()));
    forms.push(percent_lower[..10].to_owned());
    forms
}

/// Captured output and files, by their origin.
#[derive(Default)]
struct Captured(BTreeMap<String, Vec<u8>>);

impl Captured {
    fn add(&mut self, place: impl Into<String>, text: impl Into<Vec<u8>>) {
        let place = place.into();
        let bytes = text.into();
        self.0.entry(place).or_default().extend(bytes);
    }

    fn output(&mut self, of: &str, output: Output) {
        self.add(format!("{of}: stdout"), output.stdout);
        self.add(format!("{of}: stderr"), output.stderr);
    }

    /// Returns every secret that was found, with its origin.
    fn leaks(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (place, bytes) in &self.0 {
            let text = String::from_utf8_lossy(bytes);
            for secret in ALL {
                for form in forms(secret) {
                    if let Some(at) = text.find(&form) {
                        let around: String =
                            text[..at].chars().rev().take(160).collect::<Vec<_>>().into_iter().rev().collect();
                        let rest: String = text[at..].chars().take(40).collect();
                        found.push(format!("{place}: {secret} as {form}: …{around}{rest}…"));
                    }
                }
            }
        }
        found
    }

    #[track_caller]
    fn expect_no_secret(&self) {
        let found = self.leaks();
        assert!(found.is_empty(), "{} leaks\n{}", found.len(), found.join("\n"));
    }

    /// Asserts that the logs are at trace level.
    #[track_caller]
    fn expect_traces(&self) {
        let logs = self.0.iter().filter(|(place, _)| place.ends_with("stderr"));
        let text: String = logs.map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect();
        assert!(text.contains("TRACE") || text.contains("<7>"), "no traces");
        for library in ["hyper", "reqwest"] {
            assert!(text.contains(library), "the traces of {library} are missing");
        }
    }
}

/// Site with credential programs and environment variables.
struct Scene {
    site: Site,
    variables: Vec<(String, String)>,
}

impl Scene {
    /// Creates a site that copies `app` from one registry to the other. Each registry has these further keys.
    fn new(source: (&str, &str), target: (&str, &str)) -> Self {
        let site = Site::new();
        let registries = format!("\"{}\": {{{}}}, \"{}\": {{{}}}", source.0, source.1, target.0, target.1);
        let entry =
            format!("- {{name: app, source: \"{}/app\", target: \"{}/app\", schedule: never}}", source.0, target.0);
        site.configure_fully("status: \"127.0.0.1:0\"", &registries, &entry);
        site.write("password", IN_FILE);
        let path = format!("{}:/usr/bin:/bin", site.path("bin").display());
        let variables = [
            ("PATH", path.as_str()),
            ("TRANSSHIP_LOG", "trace"),
            ("RUST_BACKTRACE", "full"),
            ("SECRET", IN_ENVIRONMENT),
            ("IDENTITY", IDENTITY),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { site, variables }
    }

    /// Makes the entry run at each start, and notify these receivers of its changes.
    fn notify_receivers(&self, receivers: &[String]) {
        let webhook = |url: &String| {
            format!(
                "{{webhook: {{url: \"{url}/{HOOK_PATH}?key={HOOK_QUERY}\", secret: \"{HOOK_KEY}\"}}, on: [change]}}"
            )
        };
        let notify = receivers.iter().map(webhook).collect::<Vec<_>>().join(", ");
        let text = fs::read_to_string(self.site.path("sync.yaml")).unwrap();
        let captured = format!("schedule: never, on_start: true, notify: [{notify}]");
        self.site.write("sync.yaml", &text.replace("schedule: never", &captured));
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.site.path("bin").join(name);
        fs::create_dir_all(self.site.path("bin")).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.site.command(args);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        Running::start(&mut self.command(args)).wait(2 * DEADLINE)
    }

    /// Runs once, which must exit with this code, and captures its output and its journal.
    #[track_caller]
    fn once(&self, captured: &mut Captured, of: &str, args: &[&str], code: i32) {
        let output = self.run(args);
        assert_eq!(output.code(), code, "{of}\n{}\n{}", output.stdout, output.stderr);
        captured.output(of, output);
        self.capture_journal(captured, of);
    }

    /// Captures the journal's files and any core dump.
    fn capture_journal(&self, captured: &mut Captured, of: &str) {
        let ours = |name: &str| name.starts_with("journal.db") || name.contains("core");
        let mut journals = 0;
        for file in fs::read_dir(self.site.folder()).unwrap().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if ours(&name) {
                journals += 1;
                captured.add(format!("{of}: {name}"), fs::read(file.path()).unwrap());
            }
        }
        assert!(journals > 0, "the journal was found");
    }

    /// Starts the daemon. Returns it with the address of its status port.
    fn daemon(&self) -> (Running, String) {
        let mut daemon = Running::start(&mut self.command(&["run"]));
        let address = daemon.ready();
        (daemon, address)
    }

    /// Makes the daemon accept push events of the registry.
    fn accept_push_events(&self, registry: &str) {
        let receiver =
            |name, kind, secret| format!("{name}: {{kind: {kind}, secret: {secret}, registry: \"{registry}\"}}");
        let receivers = [
            receiver("build", "distribution", format!("\"{EVENTS_TOKEN}\"")),
            receiver("hub", "docker_hub", format!("\"{EVENTS_ADDRESS}\"")),
            receiver("poor", "distribution", "{file: events-token}".to_owned()),
        ];
        self.site.write("events-token", &EVENTS_TOKEN[..12]);
        let push_events =
            format!("daemon: {{push_events: {{listen: \"127.0.0.1:0\", receivers: {{{}}}}}, ", receivers.join(", "));
        let text = fs::read_to_string(self.site.path("sync.yaml")).unwrap();
        self.site.write("sync.yaml", &text.replacen("daemon: {", &push_events, 1));
    }

    /// Captures every page of the daemon and the output of every command about its state.
    fn query_everything(&self, captured: &mut Captured, of: &str, address: &str) {
        for path in ["/healthz", "/readyz", "/status", "/metrics", "/"] {
            captured.add(format!("{of}: {path}"), http::get(address, path).unwrap().1);
        }
        let commands: [&[&str]; 9] = [
            &["status", "--at", address],
            &["status", "--json", "--at", address],
            &["check"],
            &["plan"],
            &["plan", "--json"],
            &["history"],
            &["history", "--json"],
            &["evidence", "--json"],
            &["evidence"],
        ];
        for args in commands {
            captured.output(&format!("{of}: {}", args.join(" ")), self.run(args));
        }
    }
}

fn bearer(password: &str) -> Server {
    let auth = Auth::Bearer {
        user: (USER.into(), password.into()),
        anonymous_pull: false,
        lifetime: Duration::from_secs(300),
    };
    let server = Server::with(Setup { auth, ..Setup::default() });
    server.set(Fault::TokensBegin(BEARER));
    server
}

fn basic(password: &str) -> Server {
    Server::with(Setup { auth: Auth::Basic(USER.into(), password.into()), ..Setup::default() })
}

const BY_FILE: &str = "plain_http: true, credentials: {username: robot, password: {file: password}}";
const BY_IDENTITY: &str =
    "plain_http: true, credentials: {token: {env: IDENTITY}}, upload: {mode: chunked, chunk: 1MiB}";

/// Starts a source with a password, tokens and signed URLs of blobs, and a target with an identity token and signed
/// uploads.
fn signed() -> (Server, Server, Scene) {
    let (source, target) = (bearer(IN_FILE), bearer(IDENTITY));
    source.set(Fault::BlobRedirect);
    target.set(Fault::UploadSignature(UPLOAD));
    put(&source, 1);
    let scene = Scene::new((source.host(), BY_FILE), (target.host(), BY_IDENTITY));
    (source, target, scene)
}

/// Puts `app:v1` with a layer of several chunks.
fn put(server: &Server, seed: u64) {
    let layers = [images::layer(Family::Oci, seed, 1_500_000), images::layer(Family::Oci, seed + 1, 1000)];
    images::image(Family::Oci, linux("amd64"), &layers).put(server, "app", Some("v1"));
}

#[test]
fn successful_run_daemon_and_journal_reveal_no_secret() {
    let (source, target, scene) = signed();
    let mut captured = Captured::default();
    for (seed, format) in [(10, "pretty"), (20, "json"), (30, "journald")] {
        put(&source, seed);
        scene.once(&mut captured, format, &["--log-format", format, "once", "--json"], 0);
    }
    let receivers = ["503 Service Unavailable", "404 Not Found"].map(|line| Receiver::start(Behavior::Answers(line)));
    scene.notify_receivers(&receivers.each_ref().map(Receiver::url));
    put(&source, 40);
    let (mut daemon, address) = scene.daemon();
    daemon.wait_until("attempts to tell receivers", |_| {
        receivers.iter().all(|receiver| !receiver.received().is_empty()).then_some(())
    });
    scene.query_everything(&mut captured, "daemon", &address);
    daemon.signal("TERM");
    captured.output("daemon", daemon.wait(DEADLINE));
    scene.capture_journal(&mut captured, "daemon");
    assert!(target.log().count("token POST") > 0 && target.log().count("upload PATCH") > 0);
    assert!(
        source.log().requests_of("storage GET").iter().any(|read| read.status == 200),
        "{:?}",
        source.log().counts()
    );
    captured.expect_traces();
    captured.expect_no_secret();
}

/// Returns each source of a password, with its registries and its site.
fn logins(host_of: &dyn Fn(&str) -> Server) -> Vec<(&'static str, Server, Server, Scene)> {
    let sources = [
        ("yaml", IN_YAML, "credentials: {username: robot, password: \"Y7m+9w/Qz%k2-yaml\"}"),
        ("environment", IN_ENVIRONMENT, "credentials: {username: robot, password: {env: SECRET}}"),
        ("file", IN_FILE, "credentials: {username: robot, password: {file: password}}"),
        ("command", OF_COMMAND, "credentials: {command: [print-login]}"),
        ("helper", OF_HELPER, "credentials: {helper: canary}"),
        ("docker's file", IN_DOCKERS_FILE, "credentials: {docker_config: config.json}"),
    ];
    let of = |(name, secret, keys): (&'static str, &str, &str)| {
        let (source, target) = (Server::start(), host_of(secret));
        images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
        let scene =
            Scene::new((source.host(), "plain_http: true"), (target.host(), &format!("plain_http: true, {keys}")));
        scene.program("print-login", &format!("echo '{USER}:{OF_COMMAND}'; echo '{OF_COMMAND}' >&2"));
        let answer = format!(r#"{{\"ServerURL\": \"x\", \"Username\": \"{USER}\", \"Secret\": \"{OF_HELPER}\"}}"#);
        scene.program("docker-credential-canary", &format!("read host; echo \"{answer}\"; echo {OF_HELPER} >&2"));
        let login = base64(&format!("{USER}:{IN_DOCKERS_FILE}"));
        let config = format!(r#"{{"auths": {{"{}": {{"auth": "{login}"}}}}}}"#, target.host());
        scene.site.write("config.json", &config);
        (name, source, target, scene)
    };
    sources.into_iter().map(of).collect()
}

#[test]
fn accepted_and_refused_logins_reveal_no_secret() {
    let mut captured = Captured::default();
    for (name, _source, target, scene) in logins(&basic) {
        scene.once(&mut captured, name, &["--log-format", "json", "once"], 0);
        target.set(Fault::Echoes("manifest HEAD", 401));
        target.set(Fault::Echoes("tags GET", 401));
        scene.once(&mut captured, &format!("{name}, echoed"), &["once"], 1);
    }
    for (name, _source, target, scene) in logins(&|_| basic("another")) {
        scene.once(&mut captured, &format!("{name}, refused"), &["once"], 1);
        assert!(target.store().repositories().is_empty());
        let (daemon, address) = scene.daemon();
        scene.query_everything(&mut captured, name, &address);
        daemon.signal("TERM");
        captured.output(name, daemon.wait(DEADLINE));
    }
    for (name, _source, target, scene) in logins(&|_| bearer("another")) {
        target.set(Fault::Echoes("token GET", 403));
        scene.once(&mut captured, &format!("{name}, refused a token"), &["once"], 1);
    }
    captured.expect_traces();
    captured.expect_no_secret();
}

#[test]
fn output_of_a_failing_credential_program_is_hidden() {
    let mut captured = Captured::default();
    for (_, _source, _target, scene) in logins(&basic).into_iter().skip(3).take(2) {
        let script = format!("echo '{OF_COMMAND}'; echo '{OF_HELPER}' >&2; exit 7");
        scene.program("print-login", &script);
        scene.program("docker-credential-canary", &script);
        scene.once(&mut captured, "failing", &["once"], 1);
        let script = format!("echo '{{\"Secret\": \"{OF_HELPER}\"'; echo '{OF_COMMAND}:\n\n{OF_COMMAND}'");
        scene.program("print-login", &script);
        scene.program("docker-credential-canary", &script);
        scene.once(&mut captured, "talking", &["once"], 1);
    }
    captured.expect_no_secret();
}

/// Runs once with a fault at the two registries. The run must fail.
fn run_with_fault(name: &str, spoil: impl Fn(&Server, &Server)) -> Captured {
    let (source, target, scene) = signed();
    spoil(&source, &target);
    // The timeout limits the retries at an unreachable storage.
    let text = fs::read_to_string(scene.site.path("sync.yaml")).unwrap();
    scene.site.write("sync.yaml", &text.replace("schedule: never", "schedule: never, timeout: 25s"));
    let mut captured = Captured::default();
    scene.once(&mut captured, name, &["once", "--json"], 1);
    let history = scene.run(&["history", "--json"]);
    assert!(history.stdout.contains("failed"), "{}", history.stdout);
    captured.output(name, history);
    captured
}

/// Asserts that errors contain no secret if registries echo their requests.
fn expect_no_secret_of_echoes(echoes: &[(bool, &'static str, u16)]) {
    let run = |(of_source, kind, status): &(bool, &'static str, u16)| {
        let captured = run_with_fault(&format!("{kind} {status}"), |source, target| {
            let server = if *of_source { source } else { target };
            server.set(Fault::Echoes(kind, *status));
        });
        let shown = captured.0.values().any(|bytes| String::from_utf8_lossy(bytes).contains("you sent"));
        assert!(shown, "{kind} {status}: the echo is reported without the secrets");
        captured.leaks()
    };
    let found: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = echoes.iter().map(|echo| scope.spawn(move || run(echo))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "{} leaks\n{}", found.len(), found.join("\n"));
}

#[test]
fn secrets_echoed_by_a_source_are_hidden() {
    expect_no_secret_of_echoes(&[
        (true, "tags GET", 403),
        (true, "manifest GET", 401),
        (true, "manifest GET", 403),
        (true, "manifest GET", 404),
        (true, "manifest GET", 500),
        (true, "blob GET", 403),
        (true, "storage GET", 400),
        (true, "storage GET", 404),
        (true, "token GET", 401),
        (true, "token GET", 400),
    ]);
}

#[test]
fn secrets_echoed_by_a_target_are_hidden() {
    expect_no_secret_of_echoes(&[
        (false, "upload POST", 401),
        (false, "upload POST", 403),
        (false, "upload POST", 500),
        (false, "upload PATCH", 403),
        (false, "upload PATCH", 404),
        (false, "upload PUT", 400),
        (false, "upload PUT", 403),
        (false, "manifest PUT", 400),
        (false, "manifest PUT", 404),
        (false, "token POST", 401),
    ]);
}

#[test]
fn signed_urls_are_hidden_in_every_failure() {
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let plain = Server::start();
    let query: String = url::form_urlencoded::byte_serialize(READ.as_bytes()).collect();
    let addresses = [
        format!("http://{closed}/x?sig={query}"),
        format!("https://{}/x?sig={query}", plain.host()),
        format!("http://storage.invalid/x?sig={query}"),
        format!("http://someone:{query}@{}/x?sig={query}", plain.host()),
        format!("ftp://{}/x?sig={query}", plain.host()),
        format!("http://{}:99999/x?sig={query}", "127.0.0.1"),
    ];
    let found: Vec<String> = std::thread::scope(|scope| {
        let run = |address: &String| {
            let captured = run_with_fault(address.split("?").next().unwrap(), |source, _| {
                source.set(Fault::BlobRedirectTo(address.clone()));
            });
            captured.leaks()
        };
        let runs: Vec<_> = addresses.iter().map(|address| scope.spawn(move || run(address))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "{} leaks\n{}", found.len(), found.join("\n"));
}

#[test]
fn proxy_credentials_are_hidden_in_every_case() {
    let authority = Authority::new("An authority of the tests");
    let own = authority.certify("127.0.0.1", 2099);
    let (source, target) = (Server::start(), Server::start());
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    source.set(Fault::RelativeLocation);
    let front = Front::tls(source.host(), &own, None, &["http/1.1"]);
    let proxies = [(Front::proxy(&format!("{PROXY_USER}:{PROXY_PASSWORD}")), 0), (Front::proxy("another:login"), 1)];
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let password: String = url::form_urlencoded::byte_serialize(PROXY_PASSWORD.as_bytes()).collect();
    let mut captured = Captured::default();
    let at = |proxy: &str, code: i32, captured: &mut Captured| {
        let keys = format!("tls: {{ca: ca.pem}}, proxy: \"http://{PROXY_USER}:{password}@{proxy}\"");
        let scene = Scene::new((&front.host(), &keys), (target.host(), "plain_http: true"));
        scene.site.write("ca.pem", &authority.pem());
        scene.once(captured, proxy, &["--log-format", "json", "once"], code);
        captured.output(proxy, scene.run(&["check"]));
    };
    for (proxy, code) in &proxies {
        at(&proxy.host(), *code, &mut captured);
    }
    at(&closed.to_string(), 1, &mut captured);
    captured.expect_traces();
    captured.expect_no_secret();
}

#[test]
fn http_2_headers_are_never_logged() {
    let authority = Authority::new("An authority of the tests");
    let own = authority.certify("127.0.0.1", 2099);
    let (source, target) = (Server::start(), basic(IN_ENVIRONMENT));
    images::small(Family::Oci, 1).put(&source, "app", Some("v1"));
    target.set(Fault::RelativeLocation);
    target.set(Fault::UploadSignature(UPLOAD));
    let nginx = Nginx::start(target.host(), &own.certificate, &own.key);
    let keys = "tls: {ca: ca.pem}, path_prefix: /art/images, credentials: {username: robot, password: {env: SECRET}}";
    let scene = Scene::new((source.host(), "plain_http: true"), (nginx.host(), keys));
    scene.site.write("ca.pem", &authority.pem());
    let mut captured = Captured::default();
    scene.once(&mut captured, "good", &["--log-format", "json", "once"], 0);
    // A target that denies reads may still permit writes, so writes are denied too.
    target.set(Fault::Echoes("manifest HEAD", 403));
    target.set(Fault::Echoes("manifest PUT", 403));
    scene.once(&mut captured, "echo", &["once"], 1);
    let log: String = captured.0.values().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    assert!(log.contains("\"h2::"), "the traces of h2 are there");
    captured.expect_no_secret();
}

#[test]
fn broken_configuration_reveals_no_secret_at_start_or_reload() {
    let (_source, _target, scene) = signed();
    let (mut daemon, address) = scene.daemon();
    let good = fs::read_to_string(scene.site.path("sync.yaml")).unwrap();
    let mut captured = Captured::default();
    let with = |keys: &str| good.replacen("registries: {", &format!("registries: {{\"x.example\": {{{keys}}}, "), 1);
    let broken = [
        with(&format!("credentials: {{username: robot, password: \"{IN_YAML}\", passwort: \"{IN_YAML}\"}}")),
        with(&format!("credentials: {{username: robot, password: [\"{IN_YAML}\"]}}")),
        with(&format!("credentials: {{token: {{env: IDENTITY, value: \"{IN_YAML}\"}}}}")),
        with(&format!("proxy: \"http://{PROXY_USER}:{IN_YAML}@/\"")),
        with(&format!("credentials: {{password: \"{IN_YAML}}}")),
        format!("{good}\n  password: {IN_YAML}\n\t{IN_YAML}: [\n"),
        with(&format!("tls: [\"{IN_YAML}\"]")),
        with(&format!("tls: {{ca: x, {IN_YAML}: y}}")),
        with(&format!("credentials: {{username: robot, password: !{IN_YAML} x}}")),
        format!("{good}\npassword: \"{IN_YAML}\"\n"),
        good.replacen("source: \"", &format!("source: \"https://h.example/x?sig={IN_YAML}"), 1),
        format!("include: shadow\n{good}"),
        format!("include: keys.env\n{good}"),
    ];
    scene.site.write("shadow", &format!("root:{IN_YAML}:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n"));
    scene.site.write("keys.env", &format!("PASSWORD: [{IN_YAML}\n"));
    for (at, text) in broken.iter().enumerate() {
        scene.site.write("sync.yaml", text);
        let output = scene.run(&["check"]);
        assert_eq!(output.code(), 2, "{at}: {}{}", output.stdout, output.stderr);
        captured.output(&format!("check {at}"), output);
        captured.output(&format!("check {at} --json"), scene.run(&["check", "--json"]));
        captured.output(&format!("once {at}"), scene.run(&["once"]));
        daemon.wait_until("the mistake", |daemon| {
            daemon.signal("HUP");
            std::thread::sleep(Duration::from_millis(300));
            let status = http::get(&address, "/status")?.1;
            ["sync.yaml:", "shadow:1:", "keys.env:1:"].iter().any(|place| status.contains(place)).then_some(())
        });
        for path in ["/readyz", "/status", "/metrics", "/"] {
            captured.add(format!("{at}: {path}"), http::get(&address, path).unwrap().1);
        }
    }
    daemon.signal("TERM");
    captured.output("daemon", daemon.wait(DEADLINE));
    captured.expect_no_secret();
}

#[test]
fn aborted_run_leaves_no_secret_in_its_folder() {
    let (_source, target, scene) = signed();
    let mut captured = Captured::default();
    target.set(Fault::Held("manifest PUT"));
    let mut run = Running::start(&mut scene.command(&["--log-format", "json", "once"]));
    run.wait_until("a run with all its secrets", |_| (target.log().count("manifest PUT") > 0).then_some(()));
    run.signal("ABRT");
    captured.output("aborted", run.wait(DEADLINE));
    // All files except those of the test: the program's own files, and files that a crash may leave.
    let given = ["sync.yaml", "password"];
    for file in fs::read_dir(scene.site.folder()).unwrap().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if !given.contains(&name.as_str()) && file.file_type().unwrap().is_file() {
            captured.add(format!("aborted: {name}"), fs::read(file.path()).unwrap());
        }
    }
    assert!(captured.0.keys().any(|place| place.ends_with("journal.db")), "{:?}", captured.0.keys());
    captured.expect_traces();
    captured.expect_no_secret();
}

/// Posts an event. Returns the status and the whole response.
fn post_event(address: &str, path: &str, header: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{header}", body.len());
    write!(stream, "{head}\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[test]
fn credentials_of_push_event_senders_are_hidden() {
    let (source, target, scene) = signed();
    scene.accept_push_events(source.host());
    let (mut daemon, status) = scene.daemon();
    let events = daemon.port("the port for push events");
    let good = r#"{"events": [{"action": "push", "target": {"repository": "app", "tag": "v1"}}]}"#;
    let hub = r#"{"push_data": {"tag": "v1"}, "repository": {"repo_name": "app"}}"#;
    let query: String = url::form_urlencoded::byte_serialize(EVENTS_ADDRESS.as_bytes()).collect();
    let bearer = format!("Authorization: Bearer {EVENTS_TOKEN}\r\n");
    let wrong = format!("Authorization: Bearer {EVENTS_TOKEN}x\r\n");
    let mut captured = Captured::default();
    for (path, header, body, expected) in [
        ("/hooks/build", bearer.as_str(), good, 202),
        (&format!("/hooks/hub?token={query}"), "", hub, 202),
        ("/hooks/build", &wrong, good, 401),
        (&format!("/hooks/build?token={query}"), "", good, 401),
        (&format!("/hooks/hub?token={query}x"), "", hub, 401),
        ("/hooks/build", &bearer, "nonsense", 400),
        (&format!("/hooks/hub?token={query}"), "", good, 400),
        (&format!("/hooks/nobody?token={query}"), &bearer, good, 404),
        (&format!("/{query}"), &bearer, good, 404),
        ("/hooks/poor", &bearer, good, 500),
    ] {
        let (status, answer) = post_event(&events, path, header, body);
        assert_eq!(status, expected, "{path} {header}: {answer}");
        captured.add("answers", answer);
    }
    daemon.wait_until("the tag", |_| target.store().tag("app", "v1"));
    daemon.wait_until("the end of the run", |daemon| daemon.stderr().contains("run ended").then_some(()));
    scene.query_everything(&mut captured, "daemon", &status);
    daemon.signal("TERM");
    captured.output("daemon", daemon.wait(DEADLINE));
    scene.capture_journal(&mut captured, "daemon");
    assert!(
        String::from_utf8_lossy(&captured.0["daemon: stderr"]).contains("TRACE"),
        "the log is as talkative as it can be"
    );
    captured.expect_no_secret();
}

#[test]
fn secret_search_finds_every_form_and_place() {
    for secret in ALL {
        let percent: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for leak in [
            format!("a {secret} b"),
            format!("cut {}…", &secret[..8]),
            format!("Authorization: Basic {}", base64(&format!("{USER}:{secret}"))),
            format!("Proxy-Authorization: Basic {}", base64(&format!("{PROXY_USER}:{secret}"))),
            base64(secret),
            format!("http://h/x?sig={percent}&x"),
            format!("{:?}", format!("?sig={}", percent.to_lowercase())),
            hex::encode(secret),
        ] {
            let mut captured = Captured::default();
            captured.add("one", "nothing");
            captured.add("two", [b"\xff\xfe", leak.as_bytes()].concat());
            assert!(!captured.leaks().is_empty(), "{leak}");
        }
    }
    let mut captured = Captured::default();
    captured.add("one", format!("{USER} at a registry, Basic {}", &base64(&format!("{USER}:"))[..6]));
    assert_eq!(captured.leaks(), Vec::<String>::new());
}
