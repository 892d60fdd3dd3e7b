//! Command `transship limits [HOST…]`: prints the limits of each registry and their origin. The command sends no
//! requests. Limits that registries report in their responses are therefore not shown, except for the remaining pulls,
//! which the journal records.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::context::configuration;
use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::table::{Align, Table};
use crate::cli::output::units;
use crate::cli::output::writer::Output;
use crate::config::{Config, Endpoint};
use crate::journal::{Journal, QuotaRecord};
use crate::oci::RegistryHost;
use crate::registry::{Bandwidth, Bucket, InForce, LimitsInForce, Options, Origin};

/// Arguments of `transship limits`.
#[derive(Debug, clap::Args)]
pub struct Limits {
    /// Show only these registries, which need not be in the configuration [default: all registries of the
    /// configuration]
    #[arg(value_name = "HOST")]
    pub hosts: Vec<RegistryHost>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Limit of a registry.
struct LimitLine {
    limit: String,
    /// Value of the limit. `None` means no limit.
    figure: Option<String>,
    from: String,
}

/// Output of `--json` for one limit.
#[derive(Serialize)]
struct LimitJson<'a> {
    figure: Option<&'a str>,
    from: &'a str,
}

impl Limits {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let config = configuration::load(&context.global)?;
        let quotas = recorded_quotas(&config.daemon.journal).await;
        self.print(&config, &quotas, &mut context.output)
    }

    fn print(&self, config: &Config, quotas: &[QuotaRecord], output: &mut Output) -> Result<Exit, Failure> {
        let hosts = if self.hosts.is_empty() { configured_hosts(config) } else { self.hosts.iter().cloned().collect() };
        let lines = |host: &RegistryHost| {
            let unnamed = Options::default();
            let mut lines = limit_lines(host, config.registries.get(host).unwrap_or(&unnamed));
            lines.extend(quotas.iter().filter(|quota| quota.registry == host.as_str()).map(quota_line));
            lines
        };
        let registries: Vec<(RegistryHost, Vec<LimitLine>)> =
            hosts.into_iter().map(|host| (host.clone(), lines(&host))).collect();
        let total = bandwidth_line(config.daemon.bandwidth.as_ref());
        if self.json {
            let registries: Vec<Value> = registries.iter().map(|(host, lines)| registry_json(host, lines)).collect();
            output.json(&json!({ "all": { total.limit.as_str(): total.as_json() }, "registries": registries }))?;
            return Ok(Exit::Ok);
        }
        let columns = ["REGISTRY", "LIMIT", "FIGURE", "FROM"].map(|name| (name, Align::Left));
        let mut table = Table::new(&columns);
        for (host, lines) in &registries {
            lines.iter().for_each(|line| table.row(line.cells(host.as_str())));
        }
        table.row(total.cells("all together"));
        output.table(&table)?;
        Ok(Exit::Ok)
    }
}

/// Returns the registries of the configuration: those with options, those of the entries, and the mirrors.
fn configured_hosts(config: &Config) -> BTreeSet<RegistryHost> {
    let entries = config.entries.iter().flat_map(|entry| entry.targets.iter().chain([&entry.source]));
    let entry_hosts = entries.filter_map(Endpoint::host);
    let mirrors = config.mirrors().map(|mirror| &mirror.host);
    config.registries.keys().chain(entry_hosts).chain(mirrors).cloned().collect()
}

fn limit_lines(host: &RegistryHost, options: &Options) -> Vec<LimitLine> {
    let limits: LimitsInForce = options.limits.in_force(host, options.flavor);
    let known = if options.flavor.is_some() { "kind" } else { "host" };
    let mut lines = vec![LimitLine::new("profile", limits.profile, known)];
    lines.extend(Bucket::ALL.map(|bucket| LimitLine::new(bucket.name(), limits.rate(bucket), known)));
    lines.push(bandwidth_line(limits.bandwidth.as_ref()));
    lines.push(LimitLine::new("concurrent", limits.concurrent, known));
    lines.push(reserve_line(options.limits.reserve_pulls));
    lines
}

/// Returns the remaining pulls that the journal records. Returns nothing if the journal is missing or unreadable,
/// because the command also works without a journal.
async fn recorded_quotas(journal: &Path) -> Vec<QuotaRecord> {
    let Ok(journal) = Journal::open_existing(journal) else { return Vec::new() };
    journal.quotas().await.unwrap_or_default()
}

fn quota_line(quota: &QuotaRecord) -> LimitLine {
    let QuotaRecord { registry: _, identity, limit, window, remaining, reported } = quota;
    let figure = format!("{remaining} of {limit} left in {}", humantime::format_duration(*window));
    let from = format!("reported {}", units::moment(*reported));
    LimitLine { limit: format!("pulls as {identity}"), figure: Some(figure), from }
}

fn reserve_line(reads: u64) -> LimitLine {
    let (figure, from) = if reads > 0 { (Some(reads.to_string()), "set") } else { (None, "default") };
    LimitLine { limit: "reserve_pulls".to_owned(), figure, from: from.to_owned() }
}

fn bandwidth_line(bandwidth: Option<&Bandwidth>) -> LimitLine {
    let from = if bandwidth.is_some() { "set" } else { "default" };
    LimitLine { limit: "bandwidth".to_owned(), figure: bandwidth.map(ToString::to_string), from: from.to_owned() }
}

impl LimitLine {
    fn new<T: ToString>(limit: &str, in_force: InForce<T>, known: &str) -> Self {
        let from = match in_force.origin {
            Origin::Set => "set",
            Origin::Profile => "profile",
            Origin::Known => known,
            Origin::Default => "default",
        };
        Self { limit: limit.to_owned(), figure: in_force.value.map(|value| value.to_string()), from: from.to_owned() }
    }

    fn cells(&self, registry: &str) -> [String; 4] {
        let figure = self.figure.as_deref().unwrap_or("none");
        [registry, &self.limit, figure, &self.from].map(str::to_owned)
    }

    fn as_json(&self) -> LimitJson<'_> {
        LimitJson { figure: self.figure.as_deref(), from: &self.from }
    }
}

fn registry_json(host: &RegistryHost, lines: &[LimitLine]) -> Value {
    let limits: Map<String, Value> = lines.iter().map(|line| (line.limit.clone(), json!(line.as_json()))).collect();
    json!({ "registry": host.as_str(), "limits": limits })
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let config = crate::config::parse("sync.yaml", CONFIG, &|_| Some("/tmp".into())).unwrap();
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let buffer = OutputBuffer::default();
        let quota = QuotaRecord {
            registry: "docker.io".into(),
            identity: "bot".into(),
            limit: 100,
            window: std::time::Duration::from_secs(21_600),
            remaining: 24,
            reported: "2026-05-10T08:00:00Z".parse().unwrap(),
        };
        Limits { hosts, json }.print(&config, &[quota], &mut buffer.output()).unwrap();
        buffer.text()
    }

    #[test]
    fn configured_registries_are_shown_with_origins_of_limits() {
        let expected = "\
REGISTRY            LIMIT           FIGURE                                         FROM
docker.io           profile         docker-hub                                     host
docker.io           requests        none                                           default
docker.io           reads           none                                           default
docker.io           writes          none                                           default
docker.io           uploads         none                                           default
docker.io           deletes         none                                           default
docker.io           referrer_lists  none                                           default
docker.io           bandwidth       none                                           default
docker.io           concurrent      16                                             profile
docker.io           reserve_pulls   20                                             set
docker.io           pulls as bot    24 of 100 left in 6h                           reported 2026-05-10T08:00:00Z
images.example.com  profile         ecr                                            kind
images.example.com  requests        none                                           default
images.example.com  reads           none                                           default
images.example.com  writes          none                                           default
images.example.com  uploads         10/s                                           profile
images.example.com  deletes         none                                           default
images.example.com  referrer_lists  none                                           default
images.example.com  bandwidth       none                                           default
images.example.com  concurrent      32                                             default
images.example.com  reserve_pulls   none                                           default
mirror.example      profile         none                                           default
mirror.example      requests        none                                           default
mirror.example      reads           none                                           default
mirror.example      writes          none                                           default
mirror.example      uploads         none                                           default
mirror.example      deletes         none                                           default
mirror.example      referrer_lists  none                                           default
mirror.example      bandwidth       none                                           default
mirror.example      concurrent      32                                             default
mirror.example      reserve_pulls   none                                           default
prod.azurecr.io     profile         acr-premium                                    set
prod.azurecr.io     requests        none                                           default
prod.azurecr.io     reads           none                                           set
prod.azurecr.io     writes          500/min                                        set
prod.azurecr.io     uploads         none                                           default
prod.azurecr.io     deletes         2000/min                                       profile
prod.azurecr.io     referrer_lists  1000/min                                       profile
prod.azurecr.io     bandwidth       200MiB/s                                       set
prod.azurecr.io     concurrent      16                                             set
prod.azurecr.io     reserve_pulls   none                                           default
quay.io             profile         quay                                           host
quay.io             requests        none                                           default
quay.io             reads           none                                           default
quay.io             writes          none                                           default
quay.io             uploads         none                                           default
quay.io             deletes         none                                           default
quay.io             referrer_lists  none                                           default
quay.io             bandwidth       none                                           default
quay.io             concurrent      8                                              profile
quay.io             reserve_pulls   none                                           default
all together        bandwidth       50MiB/s 08:00-18:00 Europe/Berlin, else 1GB/s  set
";
        assert_eq!(printed(&[], false), expected);
    }

    #[test]
    fn registry_outside_the_configuration_is_shown_with_its_defaults() {
        let json: Value = serde_json::from_str(&printed(&["ghcr.io"], true)).unwrap();
        assert_eq!(json["registries"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["registries"][0]["registry"], "ghcr.io");
        assert_eq!(json["registries"][0]["limits"]["reads"], json!({"figure": "44000/min", "from": "profile"}));
        assert_eq!(json["registries"][0]["limits"]["requests"], json!({"figure": null, "from": "default"}));
        let total = "50MiB/s 08:00-18:00 Europe/Berlin, else 1GB/s";
        assert_eq!(json["all"]["bandwidth"], json!({"figure": total, "from": "set"}));
    }
}
