//! Tests of the alert rules and the dashboard with Prometheus, which scrapes a daemon.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chrono::DateTime;
use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;
use transship::journal::{Outcome, TagCounts};
use transship::status::{Delivery, Direction, EndedRun, Metrics, Quota, TextFormat};

use super::{file, run, text};
use crate::support::programs::Running;
use crate::support::site::{Site, parse};

/// Returns the expressions of the alert rules.
fn rules() -> Vec<String> {
    let rules: Value = serde_yaml::from_str(&text("packaging/prometheus/alerts.yaml")).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let found: Vec<String> = rules.map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect();
    assert!(found.len() >= 5, "{found:?}");
    found
}

fn dashboard() -> Value {
    parse(&text("packaging/grafana/transship.json"))
}

/// Returns the expressions of the dashboard, with the initial values of its variables in Grafana.
fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let filled = |query: &str| {
        let ranges = query.replace("$__rate_interval", "5m").replace("$__interval", "5m");
        ["$instance", "$entry", "$registry"].iter().fold(ranges, |query, variable| query.replace(variable, ".*"))
    };
    let found: Vec<String> = targets.map(|target| filled(target["expr"].as_str().unwrap())).collect();
    assert!(found.len() >= 15, "{found:?}");
    assert!(found.iter().all(|query| !query.contains('$')), "{found:#?}");
    found
}

/// Returns metrics with at least one sample of each kind.
fn metrics() -> Metrics {
    let (metrics, at) = (Metrics::new("1.2.3", DateTime::UNIX_EPOCH), DateTime::UNIX_EPOCH);
    metrics.record_configuration(at, ["a"]);
    metrics.set_next_run("a", Some(at));
    metrics.set_paused("a", true);
    metrics.add_notifications(Delivery::GivenUp, 1);
    let run = |success| EndedRun {
        outcome: Outcome::Succeeded,
        success: Some(success),
        ended: at,
        duration: Duration::ZERO,
        counts: TagCounts::default(),
    };
    metrics.record_run("a", &run(true));
    metrics.record_run("a", &run(false));
    metrics.add_requests("h", "GET", Some(200), 1);
    metrics.add_throttled_time("h", Duration::ZERO);
    metrics.add_bytes("h", Direction::Sent, 1);
    let (registry, identity) = ("h".to_owned(), "i".to_owned());
    metrics.set_quotas(
        &[Quota { registry, identity, limit: 2, window_seconds: 1, remaining: 1, reserved: 0, reported: at }],
        &[],
    );
    metrics
}

/// Returns the names of the samples of `/metrics`.
fn samples() -> BTreeSet<String> {
    let text = metrics().encode();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let suffixes = |kind: &str| match kind {
        "counter" => &["_total"][..],
        "histogram" => &["_bucket", "_sum", "_count"],
        "info" => &["_info"],
        _ => &[""],
    };
    let names: BTreeSet<String> =
        families.flat_map(|(name, kind)| suffixes(kind).iter().map(move |suffix| format!("{name}{suffix}"))).collect();
    assert!(names.contains("transship_entry_runs_total") && names.contains("transship_build_info"), "{names:?}");
    names
}

#[test]
fn rules_and_dashboard_name_only_existing_metrics() {
    let (samples, name) = (samples(), Regex::new(r"\btransship_\w+").unwrap());
    let variables = dashboard()["templating"].to_string();
    for query in rules().iter().chain(&queries()).chain([&variables]) {
        for found in name.find_iter(query) {
            assert!(samples.contains(found.as_str()), "{} is in no answer: {query}", found.as_str());
        }
    }
}

#[test]
fn promtool_reads_every_sample_of_the_openmetrics_format() {
    let folder = TempDir::new().unwrap();
    let (path, blocks) = (folder.path().join("metrics"), folder.path().join("blocks"));
    let text = metrics().encode_as(TextFormat::OpenMetrics);
    // The command requires a time for each sample.
    let with_time =
        |line: &str| if line.starts_with('#') { format!("{line}\n") } else { format!("{line} 1800000000\n") };
    let read = |text: &str| {
        std::fs::write(&path, text.lines().map(with_time).collect::<String>()).unwrap();
        let mut command = Command::new("promtool");
        run(command.args(["tsdb", "create-blocks-from", "openmetrics"]).args([&path, &blocks]))
    };
    let report = read(&text).expect_success().stdout;
    let samples = text.lines().filter(|line| !line.starts_with('#')).count().to_string();
    assert!(report.lines().any(|line| line.split_whitespace().nth(4) == Some(samples.as_str())), "{samples}: {report}");
    let refused = read(&metrics().encode_as(TextFormat::Prometheus));
    assert!(!refused.status.success(), "the Prometheus format has no end: {refused:?}");
}

#[test]
fn promtool_accepts_the_metrics_in_the_prometheus_format() {
    let folder = TempDir::new().unwrap();
    let check = |text: &str| {
        let path = folder.path().join("metrics");
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new("sh");
        run(command.args(["-c", "exec promtool check metrics <\"$0\""]).arg(&path))
    };
    let checked = check(&metrics().encode_as(TextFormat::Prometheus)).expect_success();
    assert_eq!((checked.stdout.as_str(), checked.stderr.as_str()), ("", ""));
    // The program finds the lines of OpenMetrics that this format does not have.
    let refused = check(&metrics().encode_as(TextFormat::OpenMetrics));
    assert!(!refused.status.success() && refused.stderr.contains("unknown metric type \"info\""), "{refused:?}");
}

#[test]
fn dashboard_colours_the_age_of_each_entrys_last_success_at_the_top() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let panel = panels.iter().find(|panel| panel["title"] == "Age of last success").expect("the panel");
    assert_eq!(panel["type"], "stat");
    let next_row = panels.iter().filter(|panel| panel["type"] == "row").nth(1).unwrap();
    assert!(panel["gridPos"]["y"].as_u64() < next_row["gridPos"]["y"].as_u64(), "{panel:#}");
    let target = &panel["targets"][0];
    let query = target["expr"].as_str().unwrap();
    assert!(query.contains("by (entry) (transship_entry_last_success_timestamp_seconds{"), "{query}");
    assert_eq!(target["legendFormat"], "{{entry}}");
    let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().unwrap();
    let colours: BTreeSet<&str> = steps.iter().filter_map(|step| step["color"].as_str()).collect();
    assert_eq!(colours, BTreeSet::from(["green", "orange", "red"]));
    assert_eq!(panel["options"]["colorMode"], "background");
}

#[test]
fn alert_rules_pass_their_promtool_tests() {
    let rules = file("packaging/prometheus/alerts.yaml");
    run(Command::new("promtool").args(["check", "rules"]).arg(rules)).expect_success();
    let tests = file("packaging/prometheus/alerts.test.yaml");
    run(Command::new("promtool").args(["test", "rules"]).arg(tests)).expect_success();
}

#[test]
fn dashboard_panels_have_position_title_and_data_source() {
    let dashboard = dashboard();
    let chosen = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
    let mut places = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel:#}");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel:#}");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel:#}");
        for cell in (place("x")..place("x") + place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(places.insert((cell.0, cell.1 + place("y"))), "panels overlap: {panel:#}");
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!((&panel["datasource"], &target["datasource"]), (&chosen, &chosen), "{panel:#}");
        }
    }
    assert!(dashboard["schemaVersion"].as_u64() >= Some(39));
}

/// Running Prometheus, which scrapes one daemon every second.
pub(crate) struct Prometheus {
    running: Running,
    address: String,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts Prometheus for the daemon at this address. `token` is the file of the status port's token, if the port
    /// requires one.
    pub(crate) fn start(daemon: &str, token: Option<&Path>) -> Self {
        let folder = TempDir::new().unwrap();
        let authorization = token.map(|token| format!(", authorization: {{credentials_file: {}}}", token.display()));
        let configuration = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\n\
             scrape_configs: [{{job_name: transship, static_configs: [{{targets: [\"{daemon}\"]}}]{}}}]\n",
            file("packaging/prometheus/alerts.yaml").display(),
            authorization.unwrap_or_default()
        );
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, configuration).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        let mut running = Running::start(command.arg("--web.listen-address=127.0.0.1:0"));
        let address = running.wait_until("the address of Prometheus", |prometheus| {
            let log = prometheus.stderr();
            let (_, rest) = log.split_once("msg=\"Listening on\" address=")?;
            rest.split_whitespace().next().map(str::to_owned)
        });
        Self { running, address, _folder: folder }
    }

    /// Returns the response of Prometheus' API to a path and a query, or `None` while Prometheus does not respond. An
    /// empty query is omitted.
    fn api_request(address: &str, path: &str, query: &str) -> Option<Value> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--noproxy", "*", "--get", "--data-urlencode", &format!("query={query}")]);
        let answer: Value = serde_json::from_str(&run(curl.arg(format!("http://{address}{path}"))).stdout).ok()?;
        assert_eq!(answer["status"], "success", "{path} {query}: {answer}");
        Some(answer["data"].clone())
    }

    fn query(address: &str, query: &str) -> Option<Vec<Value>> {
        Self::api_request(address, "/api/v1/query", query)?["result"].as_array().cloned()
    }

    /// Waits until a query has a result, and returns the result.
    #[track_caller]
    pub(crate) fn wait_for_result(&mut self, query: &str) -> Vec<Value> {
        let address = self.address.clone();
        self.running.wait_until(query, |_| Self::query(&address, query).filter(|found| !found.is_empty()))
    }
}

#[test]
fn prometheus_accepts_metrics_rules_and_dashboard_queries() {
    let site = Site::new();
    let images = file("examples/images");
    let entry = format!("- {{name: a, source: \"oci-layout:{}\", target: \"oci-layout:mirror\"}}", images.display());
    site.write("token", "what openssl rand -hex 32 says\n");
    let token = site.path("token");
    let status = format!("status: {{listen: \"127.0.0.1:0\", token: {{file: {}}}}}", token.display());
    site.configure_fully(&status, "", &entry);
    site.once();
    let mut daemon = site.start(&["run"]);
    let scraped = daemon.ready();

    let mut prometheus = Prometheus::start(&scraped, Some(&token));
    let found = prometheus.wait_for_result("transship_entry_last_success_timestamp_seconds");
    assert_eq!(found[0]["metric"]["entry"], "a", "a run before the start of the daemon counts: {found:?}");
    assert_eq!(prometheus.wait_for_result("up{job=\"transship\"}")[0]["value"][1], "1");
    assert!(prometheus.wait_for_result("transship_build_info")[0]["metric"]["version"].is_string());
    for query in queries() {
        Prometheus::query(&prometheus.address, &query).expect("an answer");
    }
    let address = prometheus.address.clone();
    // Rules that are evaluated before the first scrape see no data, so `absent(up)` is true. It is false at the next
    // evaluation.
    let evaluated = prometheus.running.wait_until("each rule to be evaluated and quiet", |_| {
        let groups = Prometheus::api_request(&address, "/api/v1/rules", "")?;
        let rules = groups["groups"][0]["rules"].as_array()?.clone();
        assert!(rules.iter().all(|rule| rule["health"] != "err" && rule["state"] != "firing"), "{rules:#?}");
        rules.iter().all(|rule| rule["health"] == "ok" && rule["state"] == "inactive").then_some(rules)
    });
    assert_eq!(evaluated.len(), rules().len());
}
