//! Tests of the page with extreme content: texts with markup or with characters that reverse lines, very long texts, an
//! exhausted quota, a thousand entries. The tests create the state, and serve it as the daemon does.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::scene::{Served, ago, entry, serve, state};
use crate::support::chromium::Chromium;

const LOOKS: [(&str, [u32; 2], bool); 3] =
    [("light", [1280, 900], false), ("dark", [1280, 900], true), ("phone", [390, 844], false)];

/// Markup, an end of the title, and characters that reverse the following text.
const HOSTILE: &str =
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"></title>\u{202e}evil\u{2066}";

/// Asserts that a page fits the window in every theme and width, and that no text of it was executed as a script.
fn assert_page_fits(browser: &mut Chromium, served: &Served, path: &str, name: &str) {
    browser.open(&format!("http://{}{path}", served.address));
    for (look, size, dark) in LOOKS {
        browser.set_display(size, dark);
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}-{look}.png"));
        browser.picture(&file);
        let fits = browser.evaluate("document.documentElement.scrollWidth <= innerWidth");
        assert_eq!(fits, true, "{name} {look} is wider than the window");
    }
    assert_ne!(browser.evaluate("document.title"), "taken", "{name}");
    assert_eq!(browser.evaluate("document.querySelectorAll('img').length"), 0, "{name}");
}

#[test]
fn hostile_texts_do_not_run_reverse_or_displace_content() {
    let endless = format!("source: listing tags: {}", "denied ".repeat(1500));
    let unbroken = "x".repeat(10_000);
    let mut hostile = entry(HOSTILE, Some(HOSTILE));
    hostile["source"] = HOSTILE.into();
    let served = serve(state(&json!({
        "entries": [hostile, entry("endless", Some(&endless)), entry("unbroken", Some(&unbroken)), entry("python-base", None)],
        "recent_failures": [
            {"entry": HOSTILE, "run": 7, "outcome": "failed", "ended": ago(3), "problems": [HOSTILE]},
            {"entry": "unbroken", "run": 7, "outcome": "failed", "ended": ago(3), "problems": [unbroken]},
        ],
        "configuration": {"path": "/etc/transship/sync.yaml", "loaded_at": ago(100), "problem": HOSTILE},
    })));
    let mut browser = Chromium::start();
    assert_page_fits(&mut browser, &served, "/", "hostile");
    let message = browser.text("main");
    assert!(message.contains("3 entries of 4 fail") && message.contains("<script>document.title"), "{message}");
    assert!(!message.contains(['\u{202e}', '\u{2066}']), "{message}");
    let last = browser.evaluate("document.querySelector('tbody tr:last-child').getBoundingClientRect().top");
    assert!(last.as_f64() < Some(5000.0), "a long reason pushes the rest {last} down");
    let tallest =
        browser.evaluate("Math.max(...[...document.querySelectorAll('.reason')].map((it) => it.offsetHeight))");
    assert!(tallest.as_f64() < Some(200.0), "a reason is {tallest} high");
    let isolated = "[...document.querySelectorAll('.reason, td, th a, code')].every((it) => {
        const style = getComputedStyle(it);
        return style.display !== 'inline' || style.unicodeBidi.startsWith('isolate');
    })";
    assert_eq!(browser.evaluate(isolated), true, "direction marks affect other text");
    assert_page_fits(&mut browser, &served, "/entry?name=unbroken", "hostile-entry");
    let name: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    assert_page_fits(&mut browser, &served, &format!("/entry?name={name}"), "hostile-name");
    assert_page_fits(&mut browser, &served, &format!("/search?q={name}"), "hostile-search");
    assert_eq!(browser.problems(), Vec::<String>::new());
}

#[test]
fn exhausted_quota_is_visible_and_thousand_entries_are_paged() {
    let mut entries: Vec<Value> = (0..1000).map(|i| entry(&format!("entry-{i:04}"), None)).collect();
    entries[0]["deferred_until"] = json!(ago(-50));
    let quota = |registry: &str, remaining: u64| {
        json!({
            "registry": registry, "identity": "mirror-bot", "limit": 200, "window_seconds": 21600, "remaining": remaining,
            "reserved": 20, "reported": ago(1),
        })
    };
    let registry = json!({
        "registry": "docker.io", "identities": ["mirror-bot"], "in_flight": 2,
        "limits": {"concurrent": 4, "concurrent_at_most": 16, "rates": [{"of": "reads", "count": 600, "per_seconds": 60}], "bandwidth": null},
        "paused_until": ago(-2), "throttled_seconds": 125.0, "requests": 41_000, "bytes_in": 5_000_000_000_u64, "bytes_out": 0,
    });
    let quotas = [quota("docker.io", 12), quota("quay.example", 180), quota("low.example", 31)];
    let served = serve(state(&json!({"entries": entries, "quotas": quotas, "registries": [registry]})));
    let mut browser = Chromium::start();
    assert_page_fits(&mut browser, &served, "/?part=10", "thousand");
    let message = browser.text("main");
    assert!(message.contains("entry-0999") && !message.contains("entry-0899"), "{message}");
    browser.evaluate("document.getElementById('quotas').scrollIntoView(); true");
    for (look, size, dark) in LOOKS {
        browser.set_display(size, dark);
        browser.evaluate("document.getElementById('quotas').scrollIntoView(); true");
        browser.picture(&PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("page-quota-{look}.png")));
    }
    let rows = browser.text("table[aria-labelledby=quotas]");
    assert_eq!(rows.matches("used up").count(), 1, "{rows}");
    assert_eq!(browser.problems(), Vec::<String>::new());
}
