//! Tests of the whole configuration module with the files in `tests/config`. Every valid file is read and matches the
//! schema. Every invalid file is refused with exactly the message beside it. `BLESS=1` rewrites these messages; read
//! them before you commit them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::keys::{Key, ROOT, Shape, Table};
use super::*;
use crate::registry::{
    AzureIdentity, Bandwidth, Credentials, DockerConfig, Figure, Flavor, LimitProfile, Rate, Secret,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "HOME" => "/home/me",
        "USER" => "me",
        "PASSWORD" | "BUILD_REGISTRY_PASSWORD" | "PROD_WEU_PASSWORD" | "PROD_SEA_PASSWORD" | "IMPORTER_PASSWORD" => {
            "hunter2"
        }
        "AZURE_SECRET" => "hunter2",
        "AZURE_CLIENT_ID" | "AZURE_TENANT_ID" => "id",
        "AZURE_FEDERATED_TOKEN_FILE" => "/run/secrets/token",
        "IDENTITY_TOKEN" => "hunter2-token",
        "HOOK_SECRET" => "hunter2-of-the-hook",
        "HOOK" | "CHAT_WEBHOOK" => "https://chat.example/hooks/hunter2",
        "CONCURRENT" => "8",
        "RATE" => "10MiB/s",
        "RATE_OF_LISTS" => "5/s",
        "CREDENTIALS_DIRECTORY" => "tests/config/credentials",
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn read(text: &str) -> Result<Config, Problems> {
    parse("sync.yaml", text, &environment)
}

/// Returns the files of a folder that end with `.yaml`, sorted.
fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join(folder))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn example() -> String {
    fs::read_to_string(root().join("sync.yaml.example")).unwrap()
}

#[test]
fn every_invalid_file_is_refused_in_the_words_beside_it() {
    let files = yaml_files("tests/config/invalid");
    assert!(files.len() >= 55, "only {} files", files.len());
    let mut different = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let problems = parse(&name, &text, &environment).expect_err(&name);
        let shown = format!("{problems}\n");
        let beside = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&beside, &shown).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if shown != expected {
            different.push(format!("--- {name}, expected\n{expected}--- {name}, found\n{shown}"));
        }
        assert!(!shown.contains("hunter2") && !shown.contains("12345678"), "{name} shows a secret:\n{shown}");
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn every_valid_file_is_read_and_fits_the_schema() {
    let files = yaml_files("tests/config/valid");
    assert!(files.len() >= 7, "only {} files", files.len());
    let schema = jsonschema::draft202012::new(&schema()).unwrap();
    for file in files.into_iter().chain(yaml_files("examples")).chain([root().join("sync.yaml.example")]) {
        let name = file.display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        if let Err(problems) = parse(&name, &text, &environment) {
            panic!("{problems}");
        }
        let value: Value = serde_yaml::from_str(&text).unwrap();
        let errors: Vec<String> = schema.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path)).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn the_schema_is_one_and_is_the_committed_one() {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let path = root().join("packaging/sync.schema.json");
    let text = format!("{schema:#}\n");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == text, "BLESS=1 writes {} anew", path.display());
}

#[test]
fn the_schema_refuses_unknown_keys_and_impossible_values() {
    let schema = jsonschema::draft202012::new(&schema()).unwrap();
    for text in [
        "{version: 1, sync: [], wibble: 1}",
        "{version: 2, sync: []}",
        "{version: 1}",
        "{version: 1, sync: [{name: a, source: b/c}]}",
        "{version: 1, sync: [{name: a, source: b/c, target: d, targets: [e]}]}",
        "{version: 1, sync: [{name: 'a b', source: b/c, target: d}]}",
        "{version: 1, sync: [{name: a, source: b/c, target: d, overwrite: sometimes}]}",
        "{version: 1, sync: [{name: a, source: b/c, target: d, tags: {include: [3.10]}}]}",
        "{version: 1, sync: [], daemon: {memory: lots}}",
        "{version: 1, sync: [], registries: {ghcr.io: {credentials: {username: me}}}}",
        "{version: 1, sync: [], registries: {ghcr.io: {credentials: {}}}}",
        "{version: 1, sync: [], registries: {ghcr.io: {credentials: }}}",
        "{version: 1, sync: [], registries: {ghcr.io: {credentials: {token: x, anonymous: true}}}}",
        "{version: 1, sync: [], registries: {ghcr.io: {credentials: {username: me, password: {nev: X}}}}}",
        "{version: 1, sync: [], registries: {ghcr.io: {limits: {requests: 10}}}}",
        "{version: 1, sync: [{name: a, source: b/c, target: d, credentials: {username: me, password: x}}]}",
        "{version: 1, sync: [{name: a, source: b/c, target: d, credentials: {target: {username: me}}}]}",
        "{version: 1, sync: [], registries: {ghcr.io: {limits: {profile: acr}}}}",
        "{version: 1, sync: [], registries: {ghcr.io: {limits: {writes: never}}}}",
        "{version: 1, sync: [], daemon: {status: {token: 0123456789abcdef}}}",
        "{version: 1, sync: [], daemon: {status: ['127.0.0.1:9180']}}",
        "{version: 1, sync: [], daemon: {bandwidth: []}}",
        "{version: 1, sync: [], daemon: {bandwidth: {between: '08:00-18:00'}}}",
        "{version: 1, sync: [], daemon: {bandwidth: [{rate: 1MiB/s, between: 8-18}]}}",
    ] {
        let value: Value = serde_yaml::from_str(text).unwrap();
        assert!(!schema.is_valid(&value), "the schema takes {text}");
        assert!(read(text).is_err(), "{text} is read");
    }
}

/// Adds every key of a table and below, with the path to it.
fn keys_below(table: &'static Table, above: &str, keys: &mut Vec<(String, &'static Key)>) {
    for key in table.keys() {
        let way = format!("{above}{}", key.name);
        match key.shape {
            Shape::Map(below) | Shape::OneOf(below, _) => keys_below(below, &format!("{way}."), keys),
            Shape::MapOf(below) | Shape::ListOf(below) | Shape::Maps(below) => {
                keys_below(below, &format!("{way}.*."), keys)
            }
            _ => keys.push((way, key)),
        }
    }
}

#[test]
fn the_example_shows_every_key_after_a_comment() {
    let text = example();
    assert_eq!(text.lines().next(), Some("# yaml-language-server: $schema=packaging/sync.schema.json"));
    let mut keys = Vec::new();
    keys_below(&ROOT, "", &mut keys);
    let mut names: BTreeSet<&str> = keys.iter().map(|(_, key)| key.name).collect();
    names.extend([
        "env",
        "file",
        "daemon",
        "registries",
        "tls",
        "timeouts",
        "credentials",
        "limits",
        "defaults",
        "tags",
        "sync",
    ]);
    let lines: Vec<&str> = text.lines().collect();
    for name in names {
        let shown = lines.windows(2).any(|pair| {
            let is_key = pair[1].trim_start().trim_start_matches("- ").starts_with(&format!("{name}:"));
            is_key && (pair[0].trim_start().starts_with('#'))
        });
        assert!(shown, "{name} is not in the example after a comment");
    }
}

#[test]
fn the_table_of_keys_says_the_defaults_that_hold() {
    let mut keys = Vec::new();
    keys_below(&ROOT, "", &mut keys);
    assert!(keys.len() > 25);
    let written = |way: &str| -> String {
        let keys = keys.iter().filter(|(full, _)| full.strip_prefix(way).is_some_and(|rest| !rest.contains('.')));
        keys.filter_map(|(_, key)| Some(format!("{}: {}", key.name, key.default?))).collect::<Vec<_>>().join(", ")
    };
    let entry = "name: a, source: ghcr.io/x/y, target: localhost:5000/y";
    let silent = read(&format!("{{version: 1, registries: {{ghcr.io: {{}}}}, sync: [{{{entry}}}]}}")).unwrap();
    let explicit = format!(
        "{{version: 1, daemon: {{{}}}, registries: {{ghcr.io: {{{}}}}}, sync: [{{{entry}, {}}}]}}",
        written("daemon."),
        written("registries.*."),
        written("sync.*.")
    );
    assert!(explicit.contains("shutdown_grace") && explicit.contains("overwrite"), "{explicit}");
    let difference = difference(&silent, &read(&explicit).unwrap());
    assert!(difference.is_empty(), "{difference:?}");
}

#[test]
fn the_examples_in_the_table_of_keys_fit_the_schema() {
    let mut keys = Vec::new();
    keys_below(&ROOT, "", &mut keys);
    let schema = schema();
    for (way, key) in keys {
        let example: Value = serde_json::from_str(key.example).unwrap_or_else(|e| panic!("{way}: {e}"));
        let mut at = &schema;
        for step in way.split('.') {
            if at["$ref"] == "#/$defs/credentials" {
                at = &schema["$defs"]["credentials"];
            }
            at = if step == "*" {
                at.get("items").unwrap_or_else(|| &at["additionalProperties"])
            } else {
                &at["properties"][step]
            };
        }
        let mut alone = at.clone();
        alone["$defs"] = schema["$defs"].clone();
        let alone = jsonschema::draft202012::new(&alone).unwrap();
        assert!(alone.is_valid(&example), "{way}: {example}");
        if let Some(default) = key.default {
            assert!(alone.is_valid(&serde_json::from_str(default).unwrap()), "{way}: {default}");
        }
    }
}

#[test]
fn what_the_file_says_is_what_the_configuration_has() {
    let config = read(&example()).unwrap();
    assert_eq!(config.daemon.journal, Path::new("/var/lib/transship/journal.db"));
    assert_eq!(config.daemon.status.listen.to_string(), "127.0.0.1:9180");
    assert_eq!(config.daemon.memory, 128 << 20);
    let hub = &config.registries[&"docker.io".parse().unwrap()];
    let password = Secret::File("tests/config/credentials/docker-hub".into());
    assert_eq!(hub.credentials, Some(Credentials::Password { username: "mirror-bot".into(), password }));
    let rate = |count| Figure::Set(Rate { count, per: std::time::Duration::from_secs(60) });
    assert_eq!(hub.limits.bandwidth, Some(Bandwidth::always(100 << 20)));
    assert_eq!((hub.limits.requests, hub.limits.profile), (rate(600), Figure::Unsaid));
    let premium = &config.registries[&"prod.azurecr.io".parse().unwrap()].limits;
    assert_eq!((premium.profile, premium.writes), (Figure::Set(LimitProfile::ACR_PREMIUM), rate(500)));
    assert_eq!((premium.deletes, premium.concurrent), (Figure::Lifted, Figure::Set(16)));
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
fn an_entry_takes_from_defaults_what_it_does_not_say() {
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
fn an_identity_of_azure_is_a_word_or_keys() {
    let azure = |written: &str| {
        let text =
            format!("{{version: 1, sync: [], registries: {{a.example: {{credentials: {{azure: {written}}}}}}}}}");
        let config = read(&text).map_err(|problems| problems.to_string())?;
        match config.registries.into_values().next().and_then(|options| options.credentials) {
            Some(Credentials::Azure(azure)) => Ok(azure),
            other => Err(format!("{other:?}")),
        }
    };
    let managed = |client_id: Option<&str>| AzureIdentity::Managed { client_id: client_id.map(str::to_owned) };
    let plain = azure("managed_identity").unwrap();
    assert_eq!((&plain.identity, plain.imds.as_str()), (&managed(None), "http://169.254.169.254/"));
    assert_eq!(plain.authority.as_str(), "https://login.microsoftonline.com/");
    assert_eq!(azure("{}").unwrap(), plain);
    let mine = azure("{client_id: mine, imds: 'http://127.0.0.1:1'}").unwrap();
    assert_eq!((mine.identity, mine.imds.as_str()), (managed(Some("mine")), "http://127.0.0.1:1/"));
    let token = Secret::File("/run/secrets/token".into());
    let workload = AzureIdentity::Workload { client_id: "id".into(), tenant_id: "id".into(), token };
    assert_eq!(azure("workload_identity").unwrap().identity, workload);
    let pem = "tests/config/credentials/azure.pem";
    let certified = AzureIdentity::Certified {
        client_id: "a".into(),
        tenant_id: "b".into(),
        certificate: pem.into(),
        key: pem.into(),
    };
    assert_eq!(azure(&format!("{{client_id: a, tenant_id: b, certificate: {pem}}}")).unwrap().identity, certified);
    for (wrong, message) in [
        ("hunter2", "expected managed_identity, workload_identity or a map"),
        (
            "{client_secret: hunter2}",
            "an application needs client_id, tenant_id, and either client_secret or certificate",
        ),
        ("{client_id: a, tenant_id: ../b, client_secret: hunter2}", "a tenant_id has letters"),
        ("{imds: 'http://me:hunter2@h'}", "expected an address like"),
        ("{authority: 'http://login.example'}", "it is asked by https alone"),
        ("{client_sekret: hunter2}", "unknown key `client_sekret` under `azure`"),
    ] {
        let problems = azure(wrong).unwrap_err();
        assert!(problems.contains(message) && !problems.contains("hunter2"), "{problems}");
    }
}

/// Returns the credentials of a text, in an environment with these variables.
fn credentials_in(written: &str, variables: &[(&str, &str)]) -> Result<Credentials, String> {
    let environment = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let text = format!(
        "{{version: 1, daemon: {{journal: j}}, sync: [], registries: {{a.example: {{credentials: {written}}}}}}}"
    );
    let config = parse("sync.yaml", &text, &environment).map_err(|problems| problems.to_string())?;
    let credentials = config.registries.into_values().next().and_then(|options| options.credentials);
    credentials.ok_or_else(|| "nobody".to_owned())
}

#[test]
fn an_authority_of_the_environment_is_shown_secrets_by_tls_alone() {
    let authority = |host: &str| {
        let variables = [
            ("AZURE_CLIENT_ID", "id"),
            ("AZURE_TENANT_ID", "id"),
            ("AZURE_FEDERATED_TOKEN_FILE", "/run/secrets/token"),
            ("AZURE_AUTHORITY_HOST", host),
        ];
        match credentials_in("{azure: workload_identity}", &variables)? {
            Credentials::Azure(azure) => Ok(azure.authority.to_string()),
            other => Err(format!("{other:?}")),
        }
    };
    assert_eq!(authority("").as_deref(), Ok("https://login.microsoftonline.com/"));
    assert_eq!(authority("https://login.microsoftonline.us/").as_deref(), Ok("https://login.microsoftonline.us/"));
    assert_eq!(authority("http://127.0.0.1:1/").as_deref(), Ok("http://127.0.0.1:1/"));
    let refused = authority("http://login.example/").unwrap_err();
    let why =
        "the environment variable AZURE_AUTHORITY_HOST: this address is shown secrets: it is asked by https alone";
    assert!(refused.contains(why), "{refused}");
}

#[test]
fn an_identity_of_google_follows_the_variables_of_googles_own_tools() {
    let gcp = |written: &str, variables: &[(&str, &str)]| match credentials_in(written, variables)? {
        Credentials::Gcp(gcp) => Ok((gcp.key.map(|path| path.display().to_string()), gcp.metadata.to_string())),
        other => Err(format!("{other:?}")),
    };
    let both = [("GOOGLE_APPLICATION_CREDENTIALS", "/run/key.json"), ("GCE_METADATA_HOST", "127.0.0.1:9")];
    let plain = "http://metadata.google.internal/".to_owned();
    assert_eq!(gcp("{gcp: {}}", &[]), Ok((None, plain)));
    assert_eq!(gcp("{gcp: {}}", &both), Ok((Some("/run/key.json".into()), "http://127.0.0.1:9/".into())));
    let metadata = "{gcp: {metadata: 'http://169.254.169.254'}}";
    assert_eq!(gcp(metadata, &both), Ok((None, "http://169.254.169.254/".into())));
    let far = gcp("{gcp: {}}", &[("GCE_METADATA_HOST", "metadata.example")]).unwrap_err();
    assert!(far.contains("the environment variable GCE_METADATA_HOST: a metadata service gives secrets"), "{far}");
}

#[test]
fn an_identity_of_amazon_keeps_the_variables_and_shows_none() {
    let secret = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("PATH", "/bin")];
    let found = credentials_in("{aws: {}}", &secret).unwrap();
    let shown = format!("{found:?}");
    assert!(shown.contains(r#"variables: {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}"#), "{shown}");
    assert_eq!(found, credentials_in("{aws: {}}", &secret[..2]).unwrap());
    assert_ne!(found, credentials_in("{aws: {}}", &secret[..1]).unwrap());
}

#[test]
fn a_secret_in_the_file_itself_works_and_is_warned_about() {
    let text = r#"version: 1
registries:
  a.example: {credentials: {username: me, password: hunter2}}
  b.example: {credentials: {token: "${PASSWORD}"}}
  c.example: {credentials: {username: me, password: {env: PASSWORD}}}
sync: []
"#;
    let warning = "sync.yaml:3:53: a secret stands in the file itself: {env: NAME} or {file: PATH} keep it out";
    let warnings: Vec<String> = read(text).unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, [warning]);
}

#[test]
fn the_journal_has_its_place_by_the_environment() {
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
    assert!(problems.starts_with("sync.yaml:1:1: there is no place for the journal"), "{problems}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        load(&path, &environment).unwrap_err().to_string().replace(&*path.to_string_lossy(), name)
    };
    let missing = load(Path::new("no/such/sync.yaml"), &environment).unwrap_err().to_string();
    assert_eq!(missing, "no/such/sync.yaml: cannot be read: No such file or directory (os error 2)");
    assert_eq!(problem("large", &vec![b'#'; (16 << 20) + 1]), "large: is larger than 16MiB, which no configuration is");
    let zero = load(Path::new("/dev/zero"), &environment).unwrap_err().to_string();
    assert_eq!(zero, "/dev/zero: cannot be read: it is a device, not a regular file");
    assert_eq!(problem("latin", b"version: 1\n# caf\xe9\n"), "latin: is not UTF-8 text (line 2)");
    let path = folder.path().join("good.yaml");
    fs::write(&path, "\u{feff}version: 1\r\nsync: []\r\n").unwrap();
    assert!(load(&path, &environment).is_ok(), "a byte order mark and CRLF are fine");
}

#[test]
fn a_url_in_the_place_of_a_path_is_refused() {
    let entry = "{name: a, source: h.example/a, target: h.example/b}";
    let of = |keys: &str| format!("version: 1\nsync: [{entry}]\n{keys}\n");
    let credentials = |keys: &str| of(&format!("registries: {{h.example: {{credentials: {{{keys}}}}}}}"));
    for text in [
        of("daemon: {journal: \"postgres://me:hunter2@db/transship\"}"),
        of("daemon: {journal: \"sqlite:journal.db\"}"),
        of("daemon: {journal: \"file:/var/lib/journal.db\"}"),
        of("daemon: {control: \"unix:///run/control.sock\"}"),
        of("registries: {h.example: {tls: {ca: \"https://h.example/ca.pem\"}}}"),
        of("registries: {h.example: {tls: {certificate: \"https://h.example/ca.pem\"}}}"),
        of("include: \"https://h.example/sync.yaml\""),
        credentials("docker_config: \"https://h.example/config.json\""),
        credentials("token: {file: \"vault://secret/token\"}"),
        credentials("gcp: {key: \"gs://bucket/key.json\"}"),
    ] {
        let problems = read(&text).unwrap_err().to_string();
        assert!(problems.contains("found a URL: only local files"), "{text}\n{problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let layout = read("version: 1\nsync: [{name: a, source: h.example/a, target: \"oci-layout:s3://bucket/a\"}]\n");
    assert!(layout.unwrap_err().to_string().contains("a layout is a folder on this machine, and this is a URL"));
    for path in ["C:journal", "./a:b/journal.db", "/var/lib/a:/journal.db", "a:b"] {
        assert!(read(&of(&format!("daemon: {{journal: \"{path}\"}}"))).is_ok(), "{path}");
    }
}

#[test]
fn configuration_of_seventy_five_hundred_entries_is_read() {
    let mut text = String::from("version: 1\nsync:\n");
    for at in 0..7_500 {
        text += &format!(
            "  - name: e{at}\n    source: a.example/x/y{at}\n    target: b.example/x/y{at}\n    tags: \
             {{include: [\"1\", \"2\", \"3\"]}}\n    schedule: \"0 3 * * *\"\n"
        );
    }
    assert_eq!(read(&text).unwrap().entries.len(), 7_500);
    let mut text = String::from("version: 1\nsync:\n");
    for at in 0..300 {
        let tags: Vec<String> = (0..25).map(|tag| format!("\"{tag}.{at}\"")).collect();
        text += &format!(
            "  - {{name: e{at}, source: a.example/y{at}, target: b.example/y{at}, tags: {{include: [{}]}}}}\n",
            tags.join(", ")
        );
    }
    assert_eq!(read(&text).unwrap().entries.len(), 300);
}

#[test]
fn a_file_of_nothing_but_mistakes_is_cut_off() {
    let text = format!("version: 1\nsync:\n{}", "  - {name: a}\n".repeat(5000));
    let started = std::time::Instant::now();
    let problems = read(&text).unwrap_err();
    assert_eq!(problems.all().len(), 50);
    assert_eq!(problems.all().len() + problems.more(), 5000 * 3 - 1);
    assert!(problems.to_string().ends_with("and 14949 more problems"), "took {:?}", started.elapsed());
}

/// Generates pieces of YAML and of our keys, so that random texts get beyond the first line.
fn soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "version: 1\n",
        "sync:\n",
        "  - ",
        "name: a\n",
        "    source: ",
        "target: b/c\n",
        "tags: {",
        "include: [",
        "]",
        "}",
        "\"",
        "'",
        "*",
        "&a ",
        "*a",
        "!t ",
        "|\n",
        ">-\n",
        "? ",
        ": ",
        ", ",
        "\t",
        "\n",
        "---\n",
        "#",
        "${",
        "$",
        "~",
        "registries:\n",
        "credentials:",
        "password: ",
        "<<: ",
        "é",
        "\u{2028}",
        "\u{feff}",
        "\r",
        "1.0",
        "[[[[",
        "%YAML 1.1\n",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

/// Texts that an editor may insert by mistake. The empty one removes a character.
const INSERTED: [&str; 14] = ["", "x", " ", "\n", "\"", "'", "{", "}", "[", ":", "- ", "\t", "*", ","];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![any::<String>(), "\\PC*", soup()]) {
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.all().is_empty() && !problems.to_string().is_empty());
        }
    }

    /// Applies the mistakes of an editor, a few at any place of a good file. No output contains a secret.
    #[test]
    fn no_mistake_makes_a_secret_visible(
        edits in prop::collection::vec((0..SECRETS.len(), prop::sample::select(INSERTED.to_vec())), 1..5)
    ) {
        let mut text: Vec<char> = SECRETS.chars().collect();
        for (at, insert) in edits {
            let at = at % text.len();
            let near = text[at.saturating_sub(7)..(at + 7).min(text.len())].iter().collect::<String>();
            // A secret that is itself split is not that secret any more.
            if near.contains("hunter") || near.contains("unter2") {
                continue;
            }
            if insert.is_empty() { text.remove(at); } else { text.splice(at..at, insert.chars()); }
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = read(&text) {
            let shown = problems.to_string();
            prop_assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
}

const SECRETS: &str = r#"version: 1
daemon: {status: off}
registries:
  docker.io:
    credentials: {username: me, password: hunter2}
    plain_http: false
  ghcr.io:
    credentials:
      username: me
      password: "hunter2"
    limits: {concurrent: 3}
  quay.io: {plain_http: true, credentials: {password: 'hunter2', username: me}, limits: {requests: 1/s}}
  a.example:
    credentials:
      username: me
      password: >-
        hunter2
        hunter2
sync:
  - {name: a, source: ghcr.io/x/y, target: quay.io/x/y}
"#;
