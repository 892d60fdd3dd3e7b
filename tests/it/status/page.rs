//! Tests of the status pages in a real browser: with and without scripts, light and dark, wide and narrow.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::PathBuf;

use serde_json::json;

use crate::support::chromium::Chromium;
use crate::support::http;
use crate::support::images::{self, Family, linux};
use crate::support::programs::Running;
use crate::support::registry::{Fault, Server};
use crate::support::site::Site;

const WIDE: [u32; 2] = [1280, 900];
const NARROW: [u32; 2] = [390, 844];

/// Registries and a daemon with four entries: one succeeded, one fails, one runs and one has never run.
struct Scene {
    source: Server,
    target: Server,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { source: Server::start(), target: Server::start(), site: Site::new() };
        images::two_platforms(Family::Oci, 1).put(&scene.source, "good", Some("v1"));
        let large = images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, 3, 4_000_000)]);
        large.put(&scene.source, "slow", Some("v2"));
        scene.configure("");
        for _ in 0..2 {
            scene.site.run(&["once", "good"]).expect_success();
            assert_eq!(scene.site.run(&["once", "gone"]).code(), 1);
        }
        scene.source.set(Fault::Bandwidth(20_000));
        scene
    }

    fn configure(&self, more: &str) {
        let (source, target) = (self.source.host(), self.target.host());
        let entry = |name: &str, rest: &str| {
            format!("- {{name: {name}, source: \"{source}/{name}\", target: \"{target}/{name}\"{rest}}}\n")
        };
        let entries = [
            entry("good", ", schedule: \"@yearly\""),
            entry("gone", ", schedule: \"@yearly\""),
            entry("slow", ", schedule: never, on_start: true"),
            entry("never", ", schedule: never"),
        ];
        let registries = [&source, &target].map(|host| format!("\"{host}\": {{plain_http: true}}")).join(", ");
        let sync = format!("{}{more}", entries.concat());
        self.site.configure_fully("status: \"127.0.0.1:0\", shutdown_grace: 1s", &registries, &sync);
    }

    /// Starts the daemon, and waits until a blob is in flight.
    fn start(&self) -> (Running, String) {
        let mut daemon = self.site.start(&["run"]);
        let address = daemon.ready();
        daemon.wait_until("a blob in flight", |_| {
            let status = http::status(&address)?;
            (!status["in_flight"].as_array()?.is_empty()).then_some(())
        });
        (daemon, address)
    }
}

/// Returns the path of a screenshot, which remains after the test for inspection.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png"))
}

/// Returns the number of different byte values in a picture. A picture of one colour has only a few.
fn count_byte_values(png: &[u8]) -> usize {
    let mut data = Vec::new();
    let mut rest = &png[8..];
    while let Some((head, behind)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if head[4..] == *b"IDAT" {
            data.extend_from_slice(&behind[..length]);
        }
        rest = &behind[length + 4..];
    }
    let mut pixels = Vec::new();
    flate2::read::ZlibDecoder::new(&data[..]).read_to_end(&mut pixels).unwrap();
    pixels.into_iter().collect::<BTreeSet<u8>>().len()
}

#[test]
fn page_renders_and_fits_in_every_theme_and_width() {
    let scene = Scene::new();
    let (_daemon, address) = scene.start();
    let mut browser = Chromium::start();
    let mut grounds = BTreeSet::new();
    for (page, path) in [("overview", "/"), ("entry", "/entry?name=gone"), ("search", "/search?q=good")] {
        browser.open(&format!("http://{address}{path}"));
        for (look, size, dark) in
            [("light", WIDE, false), ("dark", WIDE, true), ("phone", NARROW, false), ("phone-dark", NARROW, true)]
        {
            browser.set_display(size, dark);
            let ground = browser.evaluate("getComputedStyle(document.body).backgroundColor");
            grounds.insert((dark, ground.to_string()));
            let picture = browser.picture(&file(&format!("{page}-{look}")));
            assert!(count_byte_values(&picture) > 30, "{page} {look}: {} values", count_byte_values(&picture));
            let fits = browser.evaluate("document.documentElement.scrollWidth <= innerWidth");
            assert_eq!(fits, true, "{page} {look} is wider than the window");
        }
    }
    assert_eq!(grounds.len(), 2, "a light and a dark one: {grounds:?}");
}

#[test]
fn page_refreshes_keeps_input_and_runs_no_foreign_script() {
    let scene = Scene::new();
    let (daemon, address) = scene.start();
    let mut browser = Chromium::start();
    browser.set_display(NARROW, false);
    browser.open(&format!("http://{address}/"));
    assert_eq!(browser.evaluate("document.title"), "1 failing · transship");
    let message = browser.text("main");
    for words in ["1 entry of 4 fails", "Failing entries", "Running now", "Transfers", "none yet", "manual only"] {
        assert!(message.contains(words), "{words} is missing in {message}");
    }
    assert_eq!(browser.evaluate("document.querySelectorAll('svg.small').length"), 3);

    browser.evaluate("q.focus(); q.value = 'half a wo'; scrollTo(0, 200); true");
    scene.configure("defaults: {timeout: <img src=x onerror=alert(1)>}\n");
    browser.wait_until("the refusal of the edit", "document.querySelector('main pre') !== null");
    assert!(browser.text("main pre").contains("<img src=x onerror=alert(1)>"), "{}", browser.text("main"));
    assert_eq!(browser.evaluate("[document.activeElement.id, q.value, scrollY]"), json!(["q", "half a wo", 200]));
    assert_eq!(browser.evaluate("document.querySelectorAll('img').length"), 0);
    assert_eq!(browser.evaluate("document.getElementById('stale').hidden"), true);

    browser.evaluate("q.value = 'good:v1'; q.form.requestSubmit(); true");
    browser.wait_until("the search", "location.pathname === '/search' && document.readyState === 'complete'");
    let found = browser.text("main");
    assert!(found.contains("Arrivals") && found.contains("Observed tags"), "{found}");
    browser.open(&format!("http://{address}/entry?name=gone"));
    assert_eq!(browser.evaluate("document.querySelectorAll('svg.large a').length"), 2);
    assert!(browser.text("main").contains("gone fails"), "{}", browser.text("main"));

    let requested = browser.requested_urls();
    let elsewhere: Vec<_> = requested.iter().filter(|url| !url.starts_with(&format!("http://{address}/"))).collect();
    assert!(elsewhere.iter().all(|url| **url == "about:blank" || url.starts_with("data:")), "{elsewhere:?}");
    assert_eq!(browser.problems(), Vec::<String>::new());

    drop(daemon);
    browser.wait_until("the notice that the daemon does not respond", "!document.getElementById('stale').hidden");
    assert!(browser.text("main").contains("gone fails"), "the last state stays");
}

#[test]
fn page_accepts_the_token_as_password_and_refreshes() {
    let site = Site::new();
    site.write("token", "correct-horse-battery-staple\n");
    let token = site.path("token");
    let status = format!("status: {{listen: \"127.0.0.1:0\", token: {{file: {}}}}}", token.display());
    site.configure_fully(
        &status,
        "",
        "- {name: a, source: \"oci-layout:one\", target: \"oci-layout:two\", tags: {newest: 3}}\n",
    );
    let mut daemon = site.start(&["run"]);
    let address = daemon.ready();
    assert_eq!(http::get(&address, "/").map(|(status, _)| status), Some(401));
    assert_eq!(http::get(&address, "/healthz").map(|(status, _)| status), Some(200));
    let shown = site.run(&["status", "--at", &address, "--token-file", token.to_str().unwrap()]).expect_success();
    assert!(shown.stdout.contains("running for "), "{}", shown.stdout);

    let mut browser = Chromium::start();
    browser.set_display(WIDE, false);
    browser.open(&format!("http://operator:correct-horse-battery-staple@{address}/"));
    assert!(browser.text("main").contains("No run has ended yet"), "{}", browser.text("main"));
    browser.evaluate("document.querySelector('main').id = 'first'; document.querySelector('main h2').id = 'old'; true");
    browser.wait_until("the refresh of the page", "document.getElementById('old') === null");
    assert_eq!(browser.evaluate("document.getElementById('stale').hidden"), true);
    browser.evaluate("document.querySelector('tbody a').click(); true");
    browser.wait_until("the entry's page", "location.pathname === '/entry' && document.readyState === 'complete'");
    assert!(browser.text("main").contains("the newest 3 of these"), "{}", browser.text("main"));
    browser.picture(&file("token-entry"));
    assert!(!browser.text("body").contains("battery"), "the token is nowhere on the page");
    assert_eq!(browser.problems(), Vec::<String>::new());
}

#[test]
fn page_without_scripts_has_the_same_content_and_reloads() {
    let scene = Scene::new();
    let (_daemon, address) = scene.start();
    let mut browser = Chromium::start();
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    browser.call("Page.navigate", json!({"url": format!("http://{address}/")}));
    let end = std::time::Instant::now() + crate::support::programs::DEADLINE;
    loop {
        let message = read_page_without_scripts(&mut browser);
        if message.as_ref().is_ok_and(|(html, renews)| html.contains("1 entry of 4 fails") && *renews) {
            break;
        }
        assert!(std::time::Instant::now() < end, "{message:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Returns the HTML of the page, and true if the page reloads automatically. Fails while the page is loading, because
/// its nodes have no stable ids yet.
fn read_page_without_scripts(browser: &mut Chromium) -> Result<(String, bool), serde_json::Value> {
    let document = browser.attempt("DOM.getDocument", json!({}))?["root"]["nodeId"].clone();
    let html = browser.attempt("DOM.getOuterHTML", json!({"nodeId": document}))?["outerHTML"].to_string();
    let renewing = json!({"nodeId": document, "selector": "noscript meta[http-equiv=refresh]"});
    let renews = browser.attempt("DOM.querySelector", renewing)?["nodeId"] != 0;
    Ok((html, renews))
}
