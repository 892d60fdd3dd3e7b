//! Tests of connections that servers end in good order, and of requests to a port with another protocol, with nginx in
//! front of a registry.

use crate::support::front::Authority;
use crate::support::images::{self, Family, linux};
use crate::support::programs::{DEADLINE, Nginx, Output, Running, Throttle};
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;

/// Year of expiry in the distant future.
const LATER: i32 = 4000;

/// Registry, and another registry behind nginx with TLS.
struct Scene {
    open: Server,
    behind: Server,
    nginx: Nginx,
    site: Site,
}

impl Scene {
    /// Starts nginx with these further directives.
    fn with(server: &'static str) -> Self {
        let (open, behind, site) = (Server::start(), Server::start(), Site::new());
        // An absolute `Location` would bypass nginx.
        behind.set(Fault::RelativeLocation);
        let authority = Authority::new("an authority");
        site.write("ca.pem", &authority.pem());
        let own = authority.certify("127.0.0.1", LATER);
        let nginx = Nginx::throttling(behind.host(), &own, Throttle { server, ..Throttle::default() });
        Self { open, behind, nginx, site }
    }

    /// Runs a command with these options of the registry behind nginx.
    fn run(&self, options: &str, entries: &str, level: &str, args: &[&str]) -> Output {
        let (open, through) = (self.open.host(), self.nginx.host());
        let registries =
            format!("\"{open}\": {{plain_http: true}}, \"{through}\": {{path_prefix: /art/images{options}}}");
        self.site.configure_fully("status: off", &registries, entries);
        Running::start(self.site.command(args).env("TRANSSHIP_LOG", level)).wait(DEADLINE)
    }

    /// Runs a copy from behind nginx, which must fail. Returns its output.
    fn failure(&self, options: &str) -> String {
        let source = format!("{}/app:v1", self.nginx.host());
        let output = self.run(options, "  []", "error", &["copy", &source, &format!("{}/back:v1", self.open.host())]);
        assert_ne!(output.code(), 0, "{output:?}");
        output.stdout + &output.stderr
    }
}

#[test]
fn requests_unprocessed_at_a_goaway_are_resent() {
    let scene = Scene::with("keepalive_requests 3;");
    for seed in 0..24 {
        // Large blobs are streamed or sent in chunks of 1 MiB. Small blobs are buffered as a whole.
        let size = if seed % 2 == 0 { 1_300_000 } else { 20_000 };
        let image = images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, seed, size)]);
        image.put(&scene.open, "app", Some(&format!("v{seed}")));
    }
    let (open, through) = (scene.open.host(), scene.nginx.host());
    let mut has_repeated = false;
    for (mode, upload) in [("whole", ""), ("chunks", ", upload: {mode: chunked, chunk: 1MiB}")] {
        let entries = format!(
            "  - {{name: there, source: {open}/app, target: {through}/{mode}}}\n  \
             - {{name: back, source: {through}/{mode}, target: {open}/{mode}}}"
        );
        for name in ["there", "back"] {
            let options = format!(", tls: {{ca: ca.pem}}{upload}");
            let output = scene.run(&options, &entries, "debug", &["once", name]).expect_success();
            assert!(output.stdout.contains("24 copied"), "{}", output.stdout);
            has_repeated |= output.stderr.contains("ended the connection before it processed the request");
        }
        assert_eq!(scene.behind.store().tags(mode), scene.open.store().tags("app"));
        assert_eq!(scene.open.store().tags(mode), scene.open.store().tags("app"));
    }
    // The number of unprocessed requests at the end of a connection is random. With several hundred requests, it is
    // hardly ever zero.
    assert!(has_repeated, "no connection ended before a request was processed");
}

#[test]
fn plain_http_at_a_tls_port_names_the_key_to_remove() {
    let scene = Scene::with("");
    let message = format!("http://{} requires TLS; remove `plain_http`", scene.nginx.host());
    let failure = scene.failure(", plain_http: true");
    assert!(failure.contains(&message), "{failure}");
}

#[test]
fn http_error_about_client_certificates_names_the_key() {
    let scene = Scene::with("ssl_verify_client on;\nssl_client_certificate server.pem;");
    let message =
        format!("https://{} requires a client certificate; set `tls.certificate` to its file", scene.nginx.host());
    let failure = scene.failure(", tls: {ca: ca.pem}");
    assert!(failure.contains(&message), "{failure}");
    let strange = Authority::new("another authority").certify("me", LATER);
    scene.site.write("me.pem", &strange.certificate);
    scene.site.write("me.key", &strange.key);
    let message = format!("https://{} rejected the client certificate; check `tls.certificate`", scene.nginx.host());
    let failure = scene.failure(", tls: {ca: ca.pem, certificate: me.pem, key: me.key}");
    assert!(failure.contains(&message), "{failure}");
}

#[test]
fn connections_closed_without_a_response_name_both_keys() {
    let scene = Scene::with("");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    // The server reads the request, so that closing the connection is no reset, and sends nothing.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
        }
    });
    for (options, message) in [
        ("plain_http: true", "; if the server expects TLS, remove `plain_http`"),
        (
            "{}",
            "; if the server expects plain HTTP, set `plain_http: true`; if it requires a client certificate, \
             set `tls.certificate`",
        ),
    ] {
        let options = if options == "{}" { options.to_owned() } else { format!("{{{options}}}") };
        scene.site.configure_fully("status: off", &format!("\"{host}\": {options}"), "  []");
        let output = Running::start(&mut scene.site.command(&["tags", &format!("{host}/app")])).wait(DEADLINE);
        assert!(output.code() != 0 && output.stderr.contains(message), "{output:?}");
    }
}
