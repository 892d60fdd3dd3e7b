//! Debian's Chromium without a window, controlled by its DevTools protocol over a pair of pipes. The browser ends with
//! its handle.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::programs::DEADLINE;

/// Browser with one tab.
pub struct Chromium {
    child: Child,
    answers: Receiver<Value>,
    last: u64,
    session: Option<String>,
    /// Events that the tab sent.
    events: Vec<Value>,
    _profile: TempDir,
}

/// Flags that prevent the browser from contacting other hosts, and from needing a screen or a sandbox.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-proxy-server",
    "--remote-debugging-pipe",
];

impl Chromium {
    /// Starts the browser with an empty profile and an empty tab.
    pub fn start() -> Self {
        let profile = TempDir::new().expect("a temporary folder");
        let mut command = Command::new("sh");
        // The browser reads commands from descriptor 3 and answers on 4.
        command.args(["-c", "exec chromium \"$@\" 3<&0 4>&1 >/dev/null", "sh"]).args(FLAGS);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // The browser's processes do not start under the clock of the tests. The browser displays no time itself, so
        // the machine's clock is correct.
        super::clock::use_machine_clock(&mut command);
        let mut child = command.spawn().expect("sh exists");
        let mut pipe = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while pipe.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                let text = message.strip_suffix(&[0]).unwrap_or(&message);
                let Ok(answer) = serde_json::from_slice(text) else { break };
                if sender.send(answer).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let mut chromium = Self { child, answers, last: 0, session: None, events: Vec::new(), _profile: profile };
        let target = chromium.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = chromium.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        chromium.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log", "DOM"] {
            chromium.call(&format!("{domain}.enable"), json!({}));
        }
        chromium
    }

    /// Sends a command and returns its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.attempt(method, params).unwrap_or_else(|refused| panic!("{method}: {refused}"))
    }

    /// Sends a command that may fail, for example because its object no longer exists.
    #[track_caller]
    pub fn attempt(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.last += 1;
        let mut command = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        let written = self.child.stdin.as_mut().expect("stdin is piped").write_all(&bytes);
        written.unwrap_or_else(|error| panic!("chromium has ended ({error}): tests/run installs it"));
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let message = self.answers.recv_timeout(left);
            let message =
                message.unwrap_or_else(|error| panic!("no answer to {method} ({error}): tests/run installs chromium"));
            if message["id"] == self.last {
                let refused = !message["error"].is_null();
                return if refused { Err(message) } else { Ok(message["result"].clone()) };
            }
            self.events.push(message);
        }
    }

    /// Loads a page completely.
    #[track_caller]
    pub fn open(&mut self, address: &str) {
        let answer = self.call("Page.navigate", json!({"url": address}));
        assert!(answer["errorText"].is_null(), "{address}: {answer}");
        self.wait_until(
            "the page to be loaded",
            "document.readyState === 'complete' && location.href !== 'about:blank'",
        );
    }

    /// Returns the value of a JavaScript expression in the page.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}));
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Returns the visible text of the element that this selector finds.
    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.evaluate(&format!("document.querySelector('{selector}')?.innerText ?? ''"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true. While the tab loads another page, the expression has no value.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, expression: &str) {
        let end = Instant::now() + DEADLINE;
        let query = json!({"expression": expression, "returnByValue": true});
        let is_true = |answer: Result<Value, Value>| answer.is_ok_and(|answer| answer["result"]["value"] == true);
        while !is_true(self.attempt("Runtime.evaluate", query.clone())) {
            assert!(Instant::now() < end, "waiting for {what}: {}", self.text("body"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sets the size of the window and the preferred colour scheme.
    pub fn set_display(&mut self, [width, height]: [u32; 2], dark: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// Returns a screenshot as PNG, and writes it to a file.
    pub fn picture(&mut self, file: &Path) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let data = answer["data"].as_str().expect("a picture");
        let picture = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        std::fs::write(file, &picture).expect("a file under target");
        picture
    }

    /// Returns the URLs that were requested so far.
    pub fn requested_urls(&self) -> Vec<String> {
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        requests.filter_map(|event| event["params"]["request"]["url"].as_str()).map(str::to_owned).collect()
    }

    /// Returns the problems of the pages: violated policies, failed scripts, failed requests.
    pub fn problems(&self) -> Vec<String> {
        let methods = ["Log.entryAdded", "Runtime.exceptionThrown", "Network.loadingFailed"];
        let problems = self.events.iter().filter(|event| methods.iter().any(|method| event["method"] == *method));
        problems.map(|event| event["params"].to_string()).collect()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
