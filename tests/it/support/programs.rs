//! Programs that tests start: Debian's registry, skopeo, nginx, and transship itself. Each program ends with its
//! handle.

use std::io::{BufRead as _, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::front::Certified;
use super::http;
use super::token_server::{ISSUER, SERVICE};

/// Maximum time that a test waits for a program. Only a very busy machine needs so much.
pub const DEADLINE: Duration = Duration::from_secs(300);

const PAUSE: Duration = Duration::from_millis(20);

/// Result of a program that has ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status.
    pub status: ExitStatus,
    /// Text on stdout.
    pub stdout: String,
    /// Text on stderr.
    pub stderr: String,
}

impl Output {
    /// Returns the exit code; -1 after a signal.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Returns the output, after asserting that the program succeeded.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert!(self.status.success(), "{}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr);
        self
    }
}

/// Running program. Dropping the value kills the program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Captured,
    stderr: Captured,
}

/// Output of a program so far.
#[derive(Debug)]
struct Captured {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn from_pipe(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let into = text.clone();
        let read = move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        };
        Self { text, reader: Some(std::thread::spawn(read)) }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.text()
    }
}

impl Running {
    /// Starts a command with captured output and without input.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| missing(command, &error));
        let stdout = Captured::from_pipe(child.stdout.take().expect("stdout is piped"));
        let stderr = Captured::from_pipe(child.stderr.take().expect("stderr is piped"));
        Self { child, stdout, stderr }
    }

    /// Returns the number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the program's stdout so far, in whole lines.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Returns the program's stderr so far, in whole lines.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Returns true if the program still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is a child process").is_none()
    }

    /// Sends the program a signal by name: `TERM`, `HUP`, `INT`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(status.expect("kill(1) exists").success(), "the program had already ended");
    }

    /// Kills the program, as a power cut would.
    pub fn kill(mut self) -> Output {
        let _ = self.child.kill();
        self.wait(DEADLINE)
    }

    /// Waits until the program ends, for at most `deadline`.
    pub fn wait(mut self, deadline: Duration) -> Output {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child process") {
                return Output { status, stdout: self.stdout.whole(), stderr: self.stderr.whole() };
            }
            assert!(Instant::now() < end, "still running after {deadline:?}\n{}\n{}", self.stdout(), self.stderr());
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the program, a daemon, is ready. Returns the address of its status port.
    #[track_caller]
    pub fn ready(&mut self) -> String {
        let address = self.port("the status port");
        self.wait_until("readiness", |_| http::get(&address, "/readyz").filter(|(status, _)| *status == 200));
        address
    }

    /// Returns the address of one of the daemon's ports, from its log.
    #[track_caller]
    pub fn port(&mut self, name: &str) -> String {
        self.wait_until(name, |daemon| {
            let log = daemon.stderr();
            let (_, rest) = log.split_once(&format!("{name} listens address="))?;
            rest.split_whitespace().next().map(str::to_owned)
        })
    }

    /// Waits until `found` returns a value, while the program runs, for at most [`DEADLINE`].
    #[track_caller]
    pub fn wait_until<T>(&mut self, what: &str, found: impl FnMut(&Self) -> Option<T>) -> T {
        self.wait_until_within(DEADLINE, what, found)
    }

    /// Waits like `wait_until` for at most `deadline`, for events that take longer, such as the next minute.
    #[track_caller]
    pub fn wait_until_within<T>(
        &mut self,
        deadline: Duration,
        what: &str,
        mut found: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let end = Instant::now() + deadline;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            let why = if !self.is_running() { "it ended" } else { "the deadline is over" };
            let can_continue = why != "it ended" && Instant::now() < end;
            assert!(can_continue, "waiting for {what}: {why}\nstdout: {}\nstderr: {}", self.stdout(), self.stderr());
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn missing(command: &Command, error: &std::io::Error) -> ! {
    let program = command.get_program().to_string_lossy();
    panic!("{program} cannot be started ({error}): tests/run installs what the tests need")
}

/// Runs transship to its end.
pub fn transship(args: &[&str]) -> Output {
    Running::start(&mut transship_command(args)).wait(DEADLINE)
}

/// Returns the command of transship with these arguments, to which a test adds variables and a folder. The command
/// lacks the variables of the tests' environment that could change the program's behaviour.
pub fn transship_command(args: &[&str]) -> Command {
    isolated_command(Path::new(env!("CARGO_BIN_EXE_transship")), args)
}

/// Returns the command of a program that uses the library, with these arguments. The command lacks the variables of the
/// tests' environment that could change the program's behaviour.
pub fn isolated_command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    for name in [
        "TRANSSHIP_CONFIG",
        "TRANSSHIP_LOG",
        "STATE_DIRECTORY",
        "RUNTIME_DIRECTORY",
        "XDG_STATE_HOME",
        "NOTIFY_SOCKET",
        "RUST_LOG",
        "NO_COLOR",
        // Locations of Docker's and Podman's credentials.
        "DOCKER_CONFIG",
        "REGISTRY_AUTH_FILE",
        "XDG_RUNTIME_DIR",
    ] {
        command.env_remove(name);
    }
    // Cloud identity of this machine.
    for (name, _) in std::env::vars_os() {
        if ["AWS_", "AZURE_", "GOOGLE_", "GCE_"].iter().any(|begin| name.to_string_lossy().starts_with(begin)) {
            command.env_remove(name);
        }
    }
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    // The user's home may contain credentials too.
    command.env("HOME", "/nonexistent");
    command.args(args);
    command
}

/// Runs skopeo to its end. Skopeo trusts every image.
pub fn skopeo(args: &[&str]) -> Output {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(args);
    Running::start(&mut command).wait(DEADLINE)
}

/// Runs `skopeo copy --all` between two places such as `docker://HOST/NAME:TAG` and `oci:PATH:TAG`, preserving digests.
#[track_caller]
pub fn skopeo_copy(source: &str, target: &str) -> Output {
    let plain = ["copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&[&plain[..], &[source, target]].concat()).expect_success()
}

/// Returns the manifest under `docker://HOST/NAME:TAG` or `oci:PATH:TAG` verbatim, as skopeo reads it.
#[track_caller]
pub fn skopeo_manifest(reference: &str) -> String {
    skopeo(&["inspect", "--raw", "--tls-verify=false", reference]).expect_success().stdout
}

/// Debian's `docker-registry` on its own port. Dropping the value ends the registry and removes its storage folder.
#[derive(Debug)]
pub struct DebianRegistry {
    running: Running,
    host: String,
    storage: TempDir,
}

/// Settings of Debian's registry that differ between tests.
#[derive(Debug, Default, Clone, Copy)]
pub struct Guard<'a> {
    /// Text of an `htpasswd` file with bcrypt passwords: only its users get access, by Basic.
    pub htpasswd: Option<&'a str>,
    /// Token service whose tokens give access.
    pub tokens: Option<Tokens<'a>>,
    /// Certificate for TLS.
    pub tls: Option<&'a Certified>,
    /// Address of the registry to cache. A pull-through cache is read-only.
    pub cache_of: Option<&'a str>,
    /// Receiver of its push events.
    pub events: Option<Events<'a>>,
}

/// Receiver of a registry's push events.
#[derive(Debug, Clone, Copy)]
pub struct Events<'a> {
    /// URL to which the registry posts events.
    pub url: &'a str,
    /// Bearer token that the registry sends.
    pub token: &'a str,
}

/// Token service that a registry trusts.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// URL of the token service.
    pub realm: &'a str,
    /// Certificate of the authority that signs tokens, in PEM form.
    pub authority: &'a str,
}

impl DebianRegistry {
    /// Starts the registry and waits until it responds.
    pub fn start() -> Self {
        Self::with(Guard::default())
    }

    /// Starts the registry with access only for the users of this `htpasswd` file, by Basic. Passwords are bcrypt.
    pub fn guarded(htpasswd: &str) -> Self {
        Self::with(Guard { htpasswd: Some(htpasswd), ..Guard::default() })
    }

    /// Starts the registry with these settings and waits until it responds.
    pub fn with(guard: Guard<'_>) -> Self {
        // Another program may take the free port before the registry does. Then another port is tried.
        (0..5).find_map(|_| Self::try_start(guard)).expect("a free port within five attempts")
    }

    fn try_start(guard: Guard<'_>) -> Option<Self> {
        let storage = TempDir::new().expect("a temporary folder");
        let address = free_address();
        let config = storage.path().join("config.yml");
        let file = |name: &str, text: &str| {
            let path = storage.path().join(name);
            std::fs::write(&path, text).expect("a file in a temporary folder");
            path.display().to_string()
        };
        let mut text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nstorage:\n  \
             filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
             validation: {{manifests: {{urls: {{allow: [\"^https://\"]}}}}}}\nhttp:\n  addr: \"{address}\"\n",
            storage.path().join("data").display()
        );
        if let Some(Certified { certificate, key }) = guard.tls {
            let (certificate, key) = (file("server.pem", certificate), file("server.key", key));
            text += &format!("  tls: {{certificate: {certificate}, key: {key}}}\n");
        }
        if let Some(remote) = guard.cache_of {
            text += &format!("proxy: {{remoteurl: \"{remote}\"}}\n");
        }
        if let Some(users) = guard.htpasswd {
            text += &format!("auth: {{htpasswd: {{realm: registry, path: {}}}}}\n", file("htpasswd", users));
        }
        if let Some(Tokens { realm, authority }) = guard.tokens {
            text += &format!(
                "auth: {{token: {{realm: \"{realm}\", service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {}}}}}\n",
                file("tokens.pem", authority)
            );
        }
        if let Some(Events { url, token }) = guard.events {
            text += &format!(
                "notifications:\n  endpoints:\n  - name: transship\n    url: {url}\n    \
                 headers: {{Authorization: [Bearer {token}]}}\n    \
                 timeout: 5s\n    threshold: 3\n    backoff: 1s\n    ignore: {{actions: [pull]}}\n"
            );
        }
        std::fs::write(&config, text).expect("a file in a temporary folder");
        let running = serve(&config, address)?;
        Some(Self { running, host: address.to_string(), storage })
    }

    /// Kills the registry, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.running.child.kill();
        let _ = self.running.child.wait();
    }

    /// Restarts the registry with its stored content, on another port.
    pub fn restart_on_other_port(&mut self) {
        self.kill();
        let config = self.storage.path().join("config.yml");
        let text = std::fs::read_to_string(&config).expect("its configuration");
        (self.running, self.host) = (0..5)
            .find_map(|_| {
                let address = free_address();
                std::fs::write(&config, text.replace(&self.host, &address.to_string())).expect("a temporary file");
                Some((serve(&config, address)?, address.to_string()))
            })
            .expect("a free port within five attempts");
    }

    /// Replaces the `htpasswd` file, from the next request on. The registry must have had one from its start.
    pub fn set_htpasswd(&self, htpasswd: &str) {
        let file = self.storage.path().join("htpasswd");
        assert!(file.exists(), "it has an htpasswd file");
        std::fs::write(file, htpasswd).expect("a file in a temporary folder");
    }

    /// Returns the address as `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the folder of the registry's files.
    pub fn storage(&self) -> &Path {
        self.storage.path()
    }

    /// Returns its log so far.
    pub fn log(&self) -> String {
        self.running.stderr()
    }
}

/// Starts Debian's registry with this configuration and waits until it responds at the address. Returns `None` if the
/// registry ends instead.
fn serve(config: &Path, address: SocketAddr) -> Option<Running> {
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(config);
    // Environment variables would override the file.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REGISTRY_")) {
        command.env_remove(name);
    }
    let mut running = Running::start(&mut command);
    let end = Instant::now() + DEADLINE;
    while TcpStream::connect(address).is_err() {
        if !running.is_running() {
            return None;
        }
        assert!(Instant::now() < end, "docker-registry does not listen: {}", running.stderr());
        std::thread::sleep(PAUSE);
    }
    running.is_running().then_some(running)
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    listener.local_addr().expect("a bound listener has an address")
}

/// Debian's nginx in front of a registry. Nginx adds TLS, and serves the API below `/art/images/`, a prefix that the
/// registry does not know.
#[derive(Debug)]
pub struct Nginx {
    running: Running,
    host: String,
    _folder: TempDir,
}

/// Limits and further directives of nginx.
#[derive(Debug, Clone, Copy, Default)]
pub struct Throttle {
    /// Requests per second; further requests get 429.
    pub rate: Option<u32>,
    /// Value of `Retry-After` in a 429, in seconds.
    pub retry_after: Option<u32>,
    /// Largest body, in MiB; a larger one gets 413.
    pub body: Option<u32>,
    /// Further directives of the server.
    pub server: &'static str,
}

impl Throttle {
    /// Returns the directives above the server, and those of the location.
    fn directives(self) -> (String, String) {
        let (mut above, mut within) = (String::new(), format!("client_max_body_size {}m;\n", self.body.unwrap_or(0)));
        if let Some(rate) = self.rate {
            above += &format!("limit_req_zone $binary_remote_addr zone=all:1m rate={rate}r/s;\n");
            within += "limit_req zone=all burst=5 nodelay;\nlimit_req_status 429;\n";
        }
        if let Some(seconds) = self.retry_after {
            within += "error_page 429 = @too_many_requests;\n";
            within = format!(
                "{within}}}\nlocation @too_many_requests {{\nadd_header Retry-After {seconds} always;\nreturn 429;\n"
            );
        }
        (above, within)
    }
}

impl Nginx {
    /// Starts nginx in front of the registry at `upstream` with this certificate and key, and waits until it responds.
    pub fn start(upstream: &str, certificate: &str, key: &str) -> Self {
        let own = Certified { certificate: certificate.to_owned(), key: key.to_owned() };
        Self::throttling(upstream, &own, Throttle::default())
    }

    /// Starts nginx like [`Self::start`], with these limits.
    pub fn throttling(upstream: &str, own: &Certified, throttle: Throttle) -> Self {
        (0..5).find_map(|_| Self::try_start(upstream, own, throttle)).expect("a free port within five attempts")
    }

    fn try_start(upstream: &str, own: &Certified, throttle: Throttle) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let address = free_address();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a temporary file");
        write("server.pem", &own.certificate);
        write("server.key", &own.key);
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = kinds.iter().map(|kind| format!("{kind}_temp_path {kind};\n")).collect();
        let (above, within) = throttle.directives();
        let server = throttle.server;
        write(
            "nginx.conf",
            &format!(
                "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\n\
                 http {{\naccess_log off;\n{temporary}{above}\
                 server {{\nlisten {address} ssl http2;\n\
                 ssl_certificate server.pem;\nssl_certificate_key server.key;\n{server}\n\
                 location /art/images/ {{\nproxy_pass http://{upstream}/;\nproxy_redirect off;\n\
                 proxy_set_header Host $http_host;\nproxy_set_header X-Forwarded-Proto https;\n\
                 proxy_request_buffering off;\n{within}}}\n}}\n}}\n"
            ),
        );
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg("nginx.conf").arg("-e").arg("stderr");
        let mut running = Running::start(&mut command);
        let end = Instant::now() + DEADLINE;
        while TcpStream::connect(address).is_err() {
            if !running.is_running() {
                return None;
            }
            assert!(Instant::now() < end, "nginx does not listen: {}", running.stderr());
            std::thread::sleep(PAUSE);
        }
        running.is_running().then(|| Self { running, host: address.to_string(), _folder: folder })
    }

    /// Returns the address as `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns its log so far.
    pub fn log(&self) -> String {
        self.running.stderr()
    }
}
