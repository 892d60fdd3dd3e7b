//! Command `transship limits [ENTRY|HOST…]`: prints the limits of each registry, and the origin of each limit. The
//! command sends no requests. The number of remaining pulls comes from the journal.

use std::path::Path;

use clap_complete::engine::ArgValueCompleter;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::context::entry_pattern::EntryPattern;
use crate::cli::context::invocation::Context;
use crate::cli::context::registry_selection::RegistrySelection;
use crate::cli::context::{completion, configuration};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::table::{Column, Table};
use crate::cli::output::units;
use crate::cli::output::writer::Output;
use crate::config::Config;
use crate::journal::{Journal, QuotaRecord};
use crate::json_form;
use crate::oci::RegistryHost;
use crate::registry::{Bandwidth, Bucket, Flavor, InForce, LimitProfile, LimitsInForce, Options, Origin, Rate, Window};

/// Arguments of `transship limits`.
#[derive(Debug, clap::Args)]
pub struct Limits {
    /// Show only these registries, and the registries of these entries ("app-*"). A registry outside the configuration
    /// is possible [default: all registries of the configuration]
    #[arg(value_name = "ENTRY|HOST", add = ArgValueCompleter::new(completion::entries_and_registries))]
    pub selected: Vec<EntryPattern>,
    /// Show also the limits that are not set and have their defaults
    #[arg(long)]
    pub all: bool,
    /// Print JSON, with all limits
    #[arg(long)]
    pub json: bool,
}

/// Name of the limit of requests in flight.
const CONCURRENT: &str = "concurrent";

/// Origin of a limit that nothing sets.
const DEFAULT: &str = "default";

/// Limit of a registry.
struct LimitLine {
    limit: String,
    /// Value of the limit as text for a table. `None` means no limit.
    figure: Option<String>,
    from: String,
    /// Value of the limit in JSON. `null` means no limit.
    value: Value,
}

/// JSON object of one limit for `--json`.
#[derive(Serialize)]
struct LimitJson<'a> {
    value: &'a Value,
    origin: &'a str,
}

impl Limits {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let config = configuration::load(&context.global)?;
        let quotas = recorded_quotas(&config.daemon.journal).await;
        self.print(&config, &quotas, &mut context.output)
    }

    fn print(&self, config: &Config, quotas: &[QuotaRecord], output: &mut Output) -> Result<Exit, Failure> {
        let selection = RegistrySelection::read(&self.selected, config)?;
        let hosts = if selection.is_empty() { config.hosts() } else { selection.all_hosts(config) };
        let lines = |host: &RegistryHost| {
            let unnamed = Options::default();
            limit_lines(host, config.registries.get(host).unwrap_or(&unnamed))
        };
        let mut registries: Vec<(RegistryHost, Vec<LimitLine>)> =
            hosts.into_iter().map(|host| (host.clone(), lines(&host))).collect();
        let total = bandwidth_line(config.daemon.bandwidth.as_ref());
        if self.json {
            let registries: Vec<Value> =
                registries.iter().map(|(host, lines)| registry_json(host, lines, quotas)).collect();
            output.json(&json!({ "all": { total.limit.as_str(): total.as_json() }, "registries": registries }))?;
            return Ok(Exit::Ok);
        }
        for (host, lines) in &mut registries {
            lines.extend(quotas.iter().filter(|quota| quota.registry == host.as_str()).map(quota_line));
        }
        let columns =
            [Column::left("REGISTRY"), Column::left("LIMIT"), Column::sentence("FIGURE"), Column::left("FROM")];
        let mut table = Table::new(&columns);
        let is_shown = |line: &&LimitLine| self.all || line.from != DEFAULT;
        for (host, lines) in &registries {
            lines.iter().filter(is_shown).for_each(|line| table.row(line.cells(host.as_str())));
        }
        Some(&total).filter(is_shown).into_iter().for_each(|total| table.row(total.cells("all together")));
        if !table.is_empty() {
            output.table(&table)?;
        } else if registries.is_empty() {
            output.line("the configuration sets no limits")?;
        }
        for (host, lines) in registries.iter().filter(|(_, lines)| !lines.iter().any(|line| is_shown(&line))) {
            let concurrent = lines.iter().find(|line| line.limit == CONCURRENT).and_then(|line| line.figure.as_deref());
            let concurrent = concurrent.unwrap_or("none");
            output.line(format!("{host}: default limits ({CONCURRENT} {concurrent}), see --all"))?;
        }
        for hint in registries.iter().filter_map(|(host, _)| profile_hint(host, config)) {
            output.line(hint)?;
        }
        Ok(Exit::Ok)
    }
}

/// Returns a hint for a registry whose limits depend on a tier that neither its host name nor its `kind` states.
fn profile_hint(host: &RegistryHost, config: &Config) -> Option<String> {
    let unnamed = Options::default();
    let options = config.registries.get(host).unwrap_or(&unnamed);
    let flavor = Flavor::resolve(host, options.flavor);
    if options.limits.in_force(host, options.flavor).profile != NO_PROFILE {
        return None;
    }
    let is_of_flavor = |name: &&str| name.strip_prefix(flavor.name).is_some_and(|tier| tier.starts_with('-'));
    let profiles: Vec<&str> = LimitProfile::NAMES.into_iter().filter(is_of_flavor).collect();
    let (last, others) = profiles.split_last()?;
    let profiles = format!("{} or {last}", others.join(", "));
    Some(format!(
        "{host}: the limits of its kind ({}) depend on the tier: set `limits.profile` to {profiles}",
        flavor.name
    ))
}

/// Profile that neither the configuration nor the registry determines.
const NO_PROFILE: InForce<&LimitProfile> = InForce { value: None, origin: Origin::Default };

fn limit_lines(host: &RegistryHost, options: &Options) -> Vec<LimitLine> {
    let limits: LimitsInForce = options.limits.in_force(host, options.flavor);
    let known = if options.flavor.is_some() { "kind" } else { "host" };
    let rate = |rate: Rate| json!({ "count": rate.count, "per_seconds": rate.per.as_secs() });
    let mut lines = vec![LimitLine::new("profile", limits.profile, known, |profile| json!(profile.to_string()))];
    lines.extend(Bucket::ALL.map(|bucket| LimitLine::new(bucket.name(), limits.rate(bucket), known, rate)));
    lines.push(bandwidth_line(limits.bandwidth.as_ref()));
    lines.push(LimitLine::new(CONCURRENT, limits.concurrent, known, |count| json!(count)));
    lines.push(reserve_line(options.limits.reserve_pulls));
    lines
}

/// Returns the numbers of remaining pulls from the journal. If the journal is missing or unreadable, returns an empty
/// list.
async fn recorded_quotas(journal: &Path) -> Vec<QuotaRecord> {
    let Ok(journal) = Journal::open_existing(journal) else { return Vec::new() };
    journal.quotas().await.unwrap_or_default()
}

fn quota_line(quota: &QuotaRecord) -> LimitLine {
    let QuotaRecord { registry: _, identity, limit, window, remaining, reported } = quota;
    let figure = format!("{remaining} of {limit} left in {}", humantime::format_duration(*window));
    let from = format!("reported {}", units::moment(*reported));
    LimitLine { limit: format!("pulls as {identity}"), figure: Some(figure), from, value: Value::Null }
}

fn reserve_line(reads: u64) -> LimitLine {
    let (figure, from) = if reads > 0 { (Some(reads.to_string()), "set") } else { (None, DEFAULT) };
    let value = if reads > 0 { json!(reads) } else { Value::Null };
    LimitLine { limit: "reserve_pulls".to_owned(), figure, from: from.to_owned(), value }
}

fn bandwidth_line(bandwidth: Option<&Bandwidth>) -> LimitLine {
    let from = if bandwidth.is_some() { "set" } else { DEFAULT };
    let value = bandwidth.map_or(Value::Null, |bandwidth| bandwidth.windows().iter().map(window_json).collect());
    let figure = bandwidth.map(ToString::to_string);
    LimitLine { limit: "bandwidth".to_owned(), figure, from: from.to_owned(), value }
}

/// Returns a bandwidth limit and the hours in which the limit applies. If there are no hours, the limit always applies.
fn window_json(window: &Window) -> Value {
    let between = window.between.map(|hours| hours.to_string());
    json!({
        "bytes_per_second": window.rate,
        "between": between,
        "timezone": between.as_ref().map(|_| window.timezone.to_string()),
    })
}

impl LimitLine {
    fn new<T: ToString>(limit: &str, in_force: InForce<T>, known: &str, as_json: impl Fn(T) -> Value) -> Self {
        let from = match in_force.origin {
            Origin::Set => "set",
            Origin::Profile => "profile",
            Origin::Known => known,
            Origin::Default => DEFAULT,
        };
        let figure = in_force.value.as_ref().map(ToString::to_string);
        let value = in_force.value.map_or(Value::Null, as_json);
        Self { limit: limit.to_owned(), figure, from: from.to_owned(), value }
    }

    fn cells(&self, registry: &str) -> [String; 4] {
        let figure = self.figure.as_deref().unwrap_or("none");
        [registry, &self.limit, figure, &self.from].map(str::to_owned)
    }

    fn as_json(&self) -> LimitJson<'_> {
        LimitJson { value: &self.value, origin: &self.from }
    }
}

fn registry_json(host: &RegistryHost, lines: &[LimitLine], quotas: &[QuotaRecord]) -> Value {
    let limits: Map<String, Value> = lines.iter().map(|line| (line.limit.clone(), json!(line.as_json()))).collect();
    let quotas = quotas.iter().filter(|quota| quota.registry == host.as_str()).map(quota_json);
    json!({ "registry": host.as_str(), "limits": limits, "quotas": quotas.collect::<Vec<_>>() })
}

fn quota_json(quota: &QuotaRecord) -> Value {
    json!({
        "identity": quota.identity,
        "limit": quota.limit,
        "remaining": quota.remaining,
        "window_seconds": quota.window.as_secs(),
        "reported": json_form::format_instant(quota.reported),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::entry_pattern::tests::patterns;
    use crate::cli::output::writer::tests::OutputBuffer;

    const CONFIG: &str = r#"
version: 1
daemon:
  bandwidth: [{rate: 50MiB/s, between: "08:00-18:00", timezone: Europe/Berlin}, {rate: 1GB/s}]
registries:
  prod.azurecr.io: {limits: {profile: acr-premium, writes: 500/min, reads: none, bandwidth: 200MiB/s, concurrent: 16}}
  images.example.com: {kind: ecr}
  docker.io: {mirrors: [mirror.example], limits: {reserve_pulls: 20}}
sync:
  - {name: api, source: docker.io/library/alpine, targets: [prod.azurecr.io/alpine, "oci-layout:/x"]}
  - {name: team, source: quay.io/team/**, target: images.example.com/**}
"#;

    fn printed(hosts: &[&str], json: bool) -> String {
        printed_with(hosts, false, json)
    }

    fn printed_with(hosts: &[&str], all: bool, json: bool) -> String {
        let config = crate::config::parse("sync.yaml", CONFIG, &|_| Some("/tmp".into())).unwrap();
        let selected = patterns(hosts);
        let buffer = OutputBuffer::default();
        let quota = QuotaRecord {
            registry: "docker.io".into(),
            identity: "bot".into(),
            limit: 100,
            window: std::time::Duration::from_secs(21_600),
            remaining: 24,
            reported: "2026-05-10T08:00:00Z".parse().unwrap(),
        };
        Limits { selected, all, json }.print(&config, &[quota], &mut buffer.terminal(120)).unwrap();
        buffer.text()
    }

    #[test]
    fn only_limits_that_differ_from_the_default_are_shown() {
        let expected = "\
REGISTRY            LIMIT           FIGURE                                         FROM
docker.io           profile         docker-hub                                     host
docker.io           concurrent      16                                             profile
docker.io           reserve_pulls   20                                             set
docker.io           pulls as bot    24 of 100 left in 6h                           reported 2026-05-10T08:00:00Z
images.example.com  profile         ecr                                            kind
images.example.com  uploads         10/s                                           profile
prod.azurecr.io     profile         acr-premium                                    set
prod.azurecr.io     reads           none                                           set
prod.azurecr.io     writes          500/min                                        set
prod.azurecr.io     deletes         2000/min                                       profile
prod.azurecr.io     referrer_lists  1000/min                                       profile
prod.azurecr.io     bandwidth       200MiB/s                                       set
prod.azurecr.io     concurrent      16                                             set
quay.io             profile         quay                                           host
quay.io             concurrent      8                                              profile
all together        bandwidth       50MiB/s 08:00-18:00 Europe/Berlin, else 1GB/s  set
mirror.example: default limits (concurrent 32), see --all
";
        assert_eq!(printed(&[], false), expected);
        let all = printed_with(&["mirror.example"], true, false);
        assert_eq!(all.lines().filter(|line| line.ends_with(DEFAULT)).count(), 10, "{all}");
    }

    #[test]
    fn registry_of_unknown_tier_has_a_hint_about_its_profile() {
        let shown = printed(&["test.azurecr.io"], false);
        let hint = "test.azurecr.io: the limits of its kind (acr) depend on the tier: set `limits.profile` to \
                    acr-basic, acr-standard or acr-premium\n";
        assert!(shown.ends_with(hint), "{shown}");
        assert!(!printed(&["prod.azurecr.io"], false).contains("tier"));
    }

    #[test]
    fn registry_outside_the_configuration_is_shown_with_its_defaults() {
        let json: Value = serde_json::from_str(&printed(&["ghcr.io"], true)).unwrap();
        assert_eq!(json["registries"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["registries"][0]["registry"], "ghcr.io");
        assert_eq!(
            json["registries"][0]["limits"]["reads"],
            json!({"value": {"count": 44000, "per_seconds": 60}, "origin": "profile"})
        );
        assert_eq!(json["registries"][0]["limits"]["requests"], json!({"value": null, "origin": "default"}));
        let windows = json!([
            {"bytes_per_second": 52_428_800, "between": "08:00-18:00", "timezone": "Europe/Berlin"},
            {"bytes_per_second": 1_000_000_000, "between": null, "timezone": null},
        ]);
        assert_eq!(json["all"]["bandwidth"], json!({"value": windows, "origin": "set"}));
    }

    #[test]
    fn limits_and_pulls_in_json_are_numbers() {
        let json: Value = serde_json::from_str(&printed(&["docker.io"], true)).unwrap();
        let registry = &json["registries"][0];
        assert_eq!(registry["limits"]["concurrent"], json!({"value": 16, "origin": "profile"}));
        assert_eq!(registry["limits"]["reserve_pulls"]["value"], 20);
        let quota = json!({
            "identity": "bot", "limit": 100, "remaining": 24, "window_seconds": 21_600,
            "reported": "2026-05-10T08:00:00.000Z",
        });
        assert_eq!(registry["quotas"], json!([quota]));
    }

    #[test]
    fn entry_selects_its_registries() {
        let json: Value = serde_json::from_str(&printed(&["te*"], true)).unwrap();
        let hosts: Vec<_> = json["registries"].as_array().unwrap().iter().map(|host| &host["registry"]).collect();
        assert_eq!(hosts, ["images.example.com", "quay.io"]);
    }
}
