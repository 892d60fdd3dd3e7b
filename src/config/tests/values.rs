//! Tests of configuration values: written values, default values, and values from the environment.

use std::path::Path;

use super::support::{example, read};
use crate::config::{Endpoint, parse};
use crate::registry::{Bandwidth, Credentials, DockerConfig, Flavor, LimitProfile, LimitSetting, Rate, Secret};

#[test]
fn configuration_has_every_value_of_the_example() {
    let config = read(&example()).unwrap();
    assert_eq!(config.daemon.journal, Path::new("/var/lib/transship/journal.db"));
    assert_eq!(config.daemon.status.listen.to_string(), "127.0.0.1:9180");
    assert_eq!(config.daemon.memory, 128 << 20);
    let hub = &config.registries[&"docker.io".parse().unwrap()];
    let password = Secret::File("tests/config/credentials/docker-hub".into());
    assert_eq!(hub.credentials, Some(Credentials::Password { username: "mirror-bot".into(), password }));
    let rate = |count| LimitSetting::Set(Rate { count, per: std::time::Duration::from_secs(60) });
    assert_eq!(hub.limits.bandwidth, Some(Bandwidth::always(100 << 20)));
    assert_eq!((hub.limits.requests, hub.limits.profile), (rate(600), LimitSetting::Default));
    let premium = &config.registries[&"prod.azurecr.io".parse().unwrap()].limits;
    assert_eq!((premium.profile, premium.writes), (LimitSetting::Set(LimitProfile::ACR_PREMIUM), rate(500)));
    assert_eq!((premium.deletes, premium.concurrent), (LimitSetting::Unlimited, LimitSetting::Set(16)));
    let total = config.daemon.bandwidth.as_ref().unwrap().windows();
    let [(day, hours), (night, always)] = [0, 1].map(|at| (total[at].rate, total[at].between));
    assert_eq!((day, night, always), (50 << 20, 200 << 20, None));
    assert_eq!((hours.unwrap().to_string(), total[0].timezone), ("08:00-18:00".into(), chrono_tz::Europe::Berlin));
    assert!(config.registries[&"registry.internal:5000".parse().unwrap()].plain_http);
    assert_eq!(config.registries[&"images.example.com".parse().unwrap()].flavor, Some(Flavor::ACR));
    let inside = &config.registries[&"inside.example.com".parse().unwrap()].transport;
    let (tls, waits) = (&inside.tls, inside.timeouts);
    let seconds = |seconds| Some(std::time::Duration::from_secs(seconds));
    assert_eq!((waits.connect, waits.idle, waits.header), (seconds(5), seconds(120), seconds(120)));
    assert!(tls.ca.is_some() && tls.identity.is_some() && !tls.insecure_skip_verify);
    assert_eq!(hub.flavor, None);
    let config_json = |file: &str, required| {
        Some(Credentials::DockerConfig(DockerConfig { files: vec![file.into()], required, namespace: None }))
    };
    let quay = &config.registries[&"quay.example.com".parse().unwrap()];
    assert_eq!(quay.credentials, config_json("tests/config/credentials/config.json", true));
    let [ecr, vault] = ["1234.dkr.ecr.eu-west-1.amazonaws.com", "vault.example.com"]
        .map(|host| config.registries[&host.parse().unwrap()].credentials.clone().unwrap());
    assert_eq!(ecr, Credentials::Helper { name: "ecr-login".into(), env: Vec::new() });
    let line = ["vault", "read", "-field=password", "kv/registry"].map(str::to_owned).to_vec();
    let address = Secret::Value("https://vault.example.com:8200".to_owned().into());
    let token = Secret::File("tests/config/credentials/vault".into());
    let env = vec![("VAULT_ADDR".to_owned(), address), ("VAULT_TOKEN".to_owned(), token)];
    assert_eq!(vault, Credentials::Command { line, username: Some("mirror-bot".into()), env });
    let internal = &config.registries[&"registry.internal:5000".parse().unwrap()];
    assert_eq!(internal.credentials, config_json("/home/me/.docker/config.json", false));

    let [python, team, api, airgap] = config.entries.as_slice() else { panic!("four entries") };
    assert_eq!(python.name.as_str(), "python-base");
    assert_eq!(python.source.to_string(), "docker.io/library/python");
    assert_eq!(python.selection.newest, Some(10));
    assert_eq!(python.platforms.as_ref().map(Vec::len), Some(2));
    assert_eq!(python.schedule.to_string(), "0 3 * * *");
    assert_eq!(python.timezone, chrono_tz::Europe::Berlin);
    assert_eq!(python.timeout, Some(std::time::Duration::from_secs(7200)));
    assert_eq!(team.source.to_string(), "build.example.com/team/**");
    assert_eq!(api.targets.len(), 2);
    assert_eq!(api.schedule.to_string(), "*/10 * * * *");
    assert_eq!(airgap.targets, [Endpoint::Layout("/srv/airgap/kubectl".into())]);
    assert_eq!(airgap.schedule, crate::schedule::Schedule::Never);
    assert_eq!((airgap.platforms.as_ref(), airgap.referrers), (None, true));
}

#[test]
fn entry_takes_absent_keys_from_defaults() {
    let text = r#"
version: 1
defaults: {referrers: false, platforms: linux/amd64, tags: {exclude: ["*-rc*"], newest: 3}, timeout: 1h}
sync:
  - {name: a, source: ghcr.io/x/y, target: localhost:5000/y}
  - {name: b, source: ghcr.io/x/y, target: localhost:5000/z, referrers: true, platforms: all, tags: {semver: "1"}}
"#;
    let config = read(text).unwrap();
    let [a, b] = config.entries.as_slice() else { panic!("two entries") };
    assert_eq!((a.referrers, a.platforms.as_ref().map(Vec::len), a.selection.newest), (false, Some(1), Some(3)));
    assert_eq!((b.referrers, b.platforms.as_ref(), b.selection.newest), (true, None, None));
    assert!(b.selection.exclude.is_empty(), "tags are one key");
    assert_eq!(a.timeout, b.timeout);
}

#[test]
fn secret_in_the_file_itself_works_with_a_warning() {
    let text = r#"version: 1
registries:
  a.example: {credentials: {username: me, password: hunter2}}
  b.example: {credentials: {token: "${PASSWORD}"}}
  c.example: {credentials: {username: me, password: {env: PASSWORD}}}
sync: []
"#;
    let warning = "sync.yaml:3:53: the file itself contains a secret: write {env: NAME} or {file: PATH} instead";
    let warnings: Vec<String> = read(text).unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, [warning]);
}

#[test]
fn journal_path_follows_the_environment() {
    let journal = |known: &[(&str, &str)]| {
        let environment =
            |name: &str| known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        parse("sync.yaml", "{version: 1, sync: []}", &environment).map(|config| config.daemon.journal)
    };
    let all = [("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("XDG_STATE_HOME", "/state"), ("HOME", "/home/me")];
    assert_eq!(journal(&all).unwrap(), Path::new("/var/lib/a/journal.db"));
    assert_eq!(journal(&all[1..]).unwrap(), Path::new("/state/transship/journal.db"));
    assert_eq!(journal(&all[2..]).unwrap(), Path::new("/home/me/.local/state/transship/journal.db"));
    let relative = [("XDG_STATE_HOME", "state"), ("HOME", "/home/me")];
    assert_eq!(journal(&relative).unwrap(), Path::new("/home/me/.local/state/transship/journal.db"));
    let problems = journal(&[]).unwrap_err().to_string();
    assert!(problems.starts_with("sync.yaml:1:1: the journal has no default path"), "{problems}");
}
