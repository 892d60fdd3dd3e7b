//! Pages on a phone, a laptop and a wide screen, light and dark, with few and with many entries: nothing is wider than
//! the window, no word is cut, and every text has enough contrast (WCAG 2.2, level AA).

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use transship::oci::Digest;

use super::scene::{Served, ago, counts, entry, serve_with_history, state};
use crate::support::chromium::Chromium;

const SIZES: [(&str, [u32; 2]); 3] = [("phone", [360, 800]), ("laptop", [1280, 800]), ("wide", [1920, 1080])];

/// Words that a line must not cut, and their elements. A long piece of a reference may be cut.
const CUT_WORDS: &str = "[...document.querySelectorAll('main .reference, main .size, main .word, main time')]
    .flatMap((element) => {
        const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
        const cut = [];
        while (walker.nextNode()) {
            const node = walker.currentNode;
            if (node.parentElement.closest('.long')) continue;
            const range = document.createRange();
            range.selectNodeContents(node);
            const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
            if (lines.size > 1) cut.push(node.data);
        }
        return cut;
    })";

/// Texts whose contrast with their background is below 4.5 to 1.
const FAINT_TEXTS: &str = "(() => {
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (colour) => {
        const [r, g, b] = channels(colour).map((value) => value / 255)
            .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const background = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (channels(colour)[3] !== 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const faint = [];
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || element.closest('script, style, svg, .hidden, noscript')) continue;
        const [a, b] = [luminance(getComputedStyle(element).color), luminance(background(element))].sort().reverse();
        const [light, dark] = [Math.max(a, b), Math.min(a, b)];
        if ((light + 0.05) / (dark + 0.05) < 4.5) faint.push(walker.currentNode.data);
    }
    return faint;
})()";

fn registry(name: &str, changes: &Value) -> Value {
    let mut registry = json!({
        "registry": name, "identities": ["mirror-bot"], "in_flight": 6,
        "limits": {
            "concurrent": 8, "concurrent_at_most": 16, "bandwidth": null,
            "rates": [{"of": "reads", "count": 600, "per_seconds": 60}],
        },
        "paused_until": null, "throttled_seconds": 125.0, "requests": 41_000, "bytes_in": 5_000_000_000_u64,
        "bytes_out": 12_000_000,
    });
    for (key, value) in changes.as_object().unwrap() {
        registry[key] = value.clone();
    }
    registry
}

fn running(entry: &mut Value) {
    entry["running"] = json!({
        "since": ago(12), "trigger": "push_event", "counts": counts(0), "tags": 44, "bytes": 3_400_000_000_u64,
        "bytes_expected": 5_800_000_000_u64, "bytes_per_second": 11_400_000,
    });
}

fn transfers(count: usize) -> Value {
    let transfer = |number: usize| {
        json!({
            "source": format!("docker.io/library/app{number:03}"),
            "target": format!("registry.prod.example.com:5000/big/app{number:03}"),
            "digest": Digest::of(&number.to_be_bytes()).to_string(),
            "size": 1_500_000 * (number + 1), "sent": 600_000 * number,
            "since": ago(1), "bytes_per_second": 1_200_000,
        })
    };
    (0..count).map(transfer).collect()
}

/// Returns the state of three entries: one runs, one fails, one is idle.
fn few() -> Served {
    let mut entries = [
        entry("python-base", None),
        entry("platform-api", Some("source docker.io/library/platform-api: listing tags: 404 Not Found, NAME_UNKNOWN")),
        entry("node-base", None),
    ];
    running(&mut entries[2]);
    let snapshot = state(&json!({
        "entries": entries, "in_flight": transfers(2), "transfers": 2,
        "registries": [registry("docker.io", &json!({})), registry("prod.example", &json!({"identities": ["push"]}))],
        "quotas": [{
            "registry": "docker.io", "identity": "mirror-bot", "limit": 200, "window_seconds": 21600, "remaining": 140,
            "reserved": 20, "reported": ago(1),
        }],
    }));
    serve_with_history(snapshot, &["python-base", "platform-api", "node-base"])
}

/// Returns the state of 300 entries of all conditions, with 74 transfers and a registry that throttles.
fn many() -> Served {
    let refused = "the registry refused bot less than a minute ago, so the same password is not sent again yet";
    let mut entries: Vec<Value> = (0..300)
        .map(|number| {
            let source = format!("source 127.0.0.1:5000/team/service-{number:03}");
            let error = match number % 40 {
                3 => Some(format!("{source}: listing tags: 401 Unauthorized, UNAUTHORIZED: authentication required")),
                4 => Some(format!("{source}: resolving 1.2.{number}: {refused}")),
                _ => None,
            };
            let mut entry = entry(&format!("team-{:02}-service-{number:03}", number % 7), error.as_deref());
            entry["source"] = json!(format!("127.0.0.1:5000/team/service-{number:03}"));
            entry["targets"] = json!([format!("registry.prod.example.com:5000/mirror/team/service-{number:03}")]);
            entry["last_run"]["ended"] = json!(ago(3 + number));
            entry["next_firing"] = json!(ago(-(number * 7 % 60) - 1));
            match number % 50 {
                9 => {
                    entry["paused_since"] = json!(ago(600));
                    entry["next_firing"] = Value::Null;
                }
                11 => entry["last_run"]["counts"]["held"] = json!(2),
                13 => entry["never_matched"] = json!(true),
                17 => running(&mut entry),
                19 => entry["deferred_until"] = json!(ago(-45)),
                _ => {}
            }
            entry
        })
        .collect();
    entries[20]["source"] =
        json!("ghcr.io/an-organization/with-a-very-long-name/and-a-repository-name-that-is-long-too");
    let warning = json!({
        "entry": "team-06-service-013",
        "text": "\"9.*\" under `include` matches no tag of 127.0.0.1:5000/team/service-013",
        "remedy": "correct the pattern, or remove it",
    });
    let throttled = json!({"identities": ["bot"], "paused_until": ago(-57), "throttled_seconds": 1680.0});
    let snapshot = state(&json!({
        "entries": entries, "in_flight": transfers(64), "transfers": 74, "warnings": [warning],
        "registries": [registry("127.0.0.1:5000", &throttled), registry("registry.prod.example.com:5000", &json!({}))],
        "recent_failures": [{
            "entry": "team-01-service-001", "run": 12, "outcome": "failed", "ended": ago(50),
            "problems": ["source 127.0.0.1:5000/team/service-001: listing tags: 503 Service Unavailable"],
        }],
    }));
    let names: Vec<String> = (0..20).map(|number| format!("team-{:02}-service-{number:03}", number % 7)).collect();
    serve_with_history(snapshot, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Opens a page in each size and colour scheme, and checks its width, its words and its contrast.
#[track_caller]
fn assert_readable(browser: &mut Chromium, served: &Served, path: &str, name: &str) {
    browser.open(&format!("http://{}{path}", served.address));
    let html = browser.evaluate("document.documentElement.outerHTML");
    fs::write(file(&format!("size-{name}.html")), html.as_str().unwrap()).unwrap();
    for (size, window) in SIZES {
        for (scheme, dark) in [("light", false), ("dark", true)] {
            browser.set_display(window, dark);
            browser.picture(&file(&format!("size-{name}-{size}-{scheme}.png")));
            let context = format!("{name} {size} {scheme}");
            let width = browser.evaluate("document.documentElement.scrollWidth").as_u64();
            assert!(width <= Some(window[0].into()), "{context} is {width:?} wide");
            assert_eq!(browser.evaluate(CUT_WORDS), json!([]), "{context}: words are cut");
            assert_eq!(browser.evaluate(FAINT_TEXTS), json!([]), "{context}: texts are faint");
        }
    }
}

#[test]
fn pages_of_three_entries_are_readable_in_each_size() {
    let (served, mut browser) = (few(), Chromium::start());
    assert_readable(&mut browser, &served, "/", "few");
    assert!(browser.text("main").contains("1 entry of 3 fails: docker.io: 404 Not Found, NAME_UNKNOWN"));
    assert_readable(&mut browser, &served, "/entry?name=node-base", "entry");
    assert_readable(&mut browser, &served, "/entry?name=python-base", "entry-with-one-run");
    assert!(browser.text("main").contains("The only run so far."), "{}", browser.text("main"));
    assert_readable(&mut browser, &served, "/search?q=base", "search");
    let found = browser.text("main");
    for words in ["previous tag", "list of referrers", "2 entries", "3.12.4-slim-bookworm"] {
        assert!(found.contains(words), "{words} is missing in {found}");
    }
    assert!(!found.contains("match than"), "complete lists are not called incomplete: {found}");
    assert_readable(&mut browser, &served, "/help", "help");
    assert_readable(&mut browser, &served, "/nothing", "not-found");
    assert!(browser.text("main").contains("there is no route /nothing"), "{}", browser.text("main"));
}

#[test]
fn pages_of_three_hundred_entries_are_readable_in_each_size() {
    let (served, mut browser) = (many(), Chromium::start());
    assert_readable(&mut browser, &served, "/", "many");
    let shown = browser.text("main");
    for words in ["127.0.0.1:5000 rejects bot", "127.0.0.1:5000 limits requests until", "71 more are in transfer"] {
        assert!(shown.contains(words), "{words} is missing in {shown}");
    }
    browser.set_display([1280, 800], false);
    let top = browser.evaluate("document.getElementById('entries').getBoundingClientRect().top + scrollY");
    assert!(top.as_f64() < Some(1200.0), "the entries begin at {top}");
    browser.set_display([360, 800], false);
    let top = browser.evaluate("document.getElementById('entries').getBoundingClientRect().top + scrollY");
    assert!(top.as_f64() < Some(2600.0), "on a phone, the entries begin at {top}");
    assert_readable(&mut browser, &served, "/?show=failing&sort=last-run", "filtered");
    browser.evaluate("document.querySelector('nav.filters a[href*=paused]').click(); true");
    browser.wait_until("the paused entries", "location.search.includes('show=paused')");
    browser.wait_until("the whole page", "document.readyState === 'complete'");
    assert_eq!(browser.evaluate("document.querySelectorAll('table.entries tbody tr').length"), 6);
    assert!(browser.text("table.entries").contains("after transship resume"), "{}", browser.text("main"));
    assert_readable(&mut browser, &served, "/search?q=service", "many-search");
    assert_eq!(browser.problems(), Vec::<String>::new());
}
