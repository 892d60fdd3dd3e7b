//! The page as a person sees it: in a real browser, with and without scripts, light and dark, wide and narrow.

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

/// A daemon with an entry that went well, one that fails, one that runs and one that never did.
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

    /// Starts the daemon, and waits until a blob is on its way.
    fn start(&self) -> (Running, String) {
        let mut daemon = self.site.start(&["run"]);
        let address = daemon.ready();
        daemon.wait_until("a blob on its way", |_| {
            let status = http::status(&address)?;
            (!status["in_flight"].as_array()?.is_empty()).then_some(())
        });
        (daemon, address)
    }
}

/// Where pictures are left to be looked at.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png"))
}

/// How many values the bytes of a picture have: a few where it is of one colour.
fn variety(png: &[u8]) -> usize {
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
fn the_page_is_told_apart_in_every_look_and_fits_a_phone() {
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
            assert!(variety(&picture) > 30, "{page} {look}: {} values", variety(&picture));
            let fits = browser.evaluate("document.documentElement.scrollWidth <= innerWidth");
            assert_eq!(fits, true, "{page} {look} is wider than the window");
        }
    }
    assert_eq!(grounds.len(), 2, "a light and a dark one: {grounds:?}");
}

#[test]
fn the_page_renews_itself_and_keeps_what_was_typed_and_runs_nothing_that_others_wrote() {
    let scene = Scene::new();
    let (daemon, address) = scene.start();
    let mut browser = Chromium::start();
    browser.set_display(NARROW, false);
    browser.open(&format!("http://{address}/"));
    assert_eq!(browser.evaluate("document.title"), "1 failing · transship");
    let told = browser.text("main");
    for words in ["1 entry of 4 fails", "Failing entries", "Running now", "Transfers", "none yet", "manual only"] {
        assert!(told.contains(words), "{words} is missing in {told}");
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

    let asked = browser.requested_urls();
    let elsewhere: Vec<_> = asked.iter().filter(|url| !url.starts_with(&format!("http://{address}/"))).collect();
    assert!(elsewhere.iter().all(|url| **url == "about:blank" || url.starts_with("data:")), "{elsewhere:?}");
    assert_eq!(browser.problems(), Vec::<String>::new());

    drop(daemon);
    browser.wait_until("that nobody answers to be told", "!document.getElementById('stale').hidden");
    assert!(browser.text("main").contains("gone fails"), "what was known stays");
}

#[test]
fn a_person_reads_the_page_by_the_token_as_a_password_and_it_renews_itself() {
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
    browser.wait_until("the page to renew itself", "document.getElementById('old') === null");
    assert_eq!(browser.evaluate("document.getElementById('stale').hidden"), true);
    browser.evaluate("document.querySelector('tbody a').click(); true");
    browser.wait_until("the entry's page", "location.pathname === '/entry' && document.readyState === 'complete'");
    assert!(browser.text("main").contains("the newest 3 of these"), "{}", browser.text("main"));
    browser.picture(&file("token-entry"));
    assert!(!browser.text("body").contains("battery"), "the token is nowhere on the page");
    assert_eq!(browser.problems(), Vec::<String>::new());
}

#[test]
fn without_scripts_the_page_tells_the_same_and_comes_anew() {
    let scene = Scene::new();
    let (_daemon, address) = scene.start();
    let mut browser = Chromium::start();
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    browser.call("Page.navigate", json!({"url": format!("http://{address}/")}));
    let end = std::time::Instant::now() + crate::support::programs::DEADLINE;
    loop {
        let told = whole_without_scripts(&mut browser);
        if told.as_ref().is_ok_and(|(html, renews)| html.contains("1 entry of 4 fails") && *renews) {
            break;
        }
        assert!(std::time::Instant::now() < end, "{told:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The page as it is built, and whether it comes anew by itself. While it is being loaded its parts have no numbers that stay.
fn whole_without_scripts(browser: &mut Chromium) -> Result<(String, bool), serde_json::Value> {
    let document = browser.attempt("DOM.getDocument", json!({}))?["root"]["nodeId"].clone();
    let html = browser.attempt("DOM.getOuterHTML", json!({"nodeId": document}))?["outerHTML"].to_string();
    let renewing = json!({"nodeId": document, "selector": "noscript meta[http-equiv=refresh]"});
    let renews = browser.attempt("DOM.querySelector", renewing)?["nodeId"] != 0;
    Ok((html, renews))
}
