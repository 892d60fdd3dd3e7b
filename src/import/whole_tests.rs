//! Property tests with random configurations. transship accepts every result. If the result lacks a key or value of the
//! configuration, a remark reports the key or value.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::*;

/// Go template that inserts the content of an existing file.
const IN_FILE: &str = concat!("{{file \"", env!("CARGO_MANIFEST_DIR"), "/src/import/fixtures/secret\"}}");

/// Key and its possible values in a generated map. The map does not always contain the key.
type Field = (&'static str, Vec<Value>);

/// Generates a map from a random subset of the keys.
fn map_of(fields: Vec<Field>) -> impl Strategy<Value = Value> {
    let fields: Vec<_> =
        fields.into_iter().map(|(key, values)| of(select(values)).prop_map(move |value| Some((key, value?)))).collect();
    fields.prop_map(|pairs| {
        let pairs = pairs.into_iter().flatten().map(|(key, value)| (key.to_owned(), value));
        Value::Object(pairs.collect())
    })
}

/// Generates a map with the additional keys of `more`.
fn with(map: impl Strategy<Value = Value>, more: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    (map, more).prop_map(|(mut map, more)| {
        let pairs = more.as_object().cloned().unwrap_or_default();
        map.as_object_mut().unwrap().extend(pairs);
        map
    })
}

fn tag_sets() -> Vec<Value> {
    vec![
        json!({"allow": ["latest", r"3\.\d+", "("]}),
        json!({"allow": ["a|b"], "deny": [".*-rc", r"\Qx\E", "["]}),
        json!({"semverRange": [">=1.0.0 <2.0.0", "^3", "nonsense"]}),
        json!({"allow": ["v.*"], "semver": ">1"}),
    ]
}

fn timing() -> Vec<Field> {
    vec![
        (
            "schedule",
            vec![
                json!("0 3 * * *"),
                json!("TZ=Europe/Berlin 15 4 * * *"),
                json!("CRON_TZ=Nowhere/At 1 1 * * *"),
                json!("soon"),
            ],
        ),
        ("interval", vec![json!("60m"), json!("1h30m"), json!("1ms")]),
    ]
}

fn shared() -> Vec<Field> {
    let mut fields = timing();
    fields.extend([
        ("backup", vec![json!("old-{{.Ref.Tag}}"), json!("backup")]),
        ("referrers", vec![json!(true)]),
        ("fastCheck", vec![json!(true)]),
        ("ratelimit", vec![json!({"min": 100, "retry": "15m"})]),
        ("mediaTypes", vec![json!(["application/vnd.oci.image.index.v1+json"])]),
        ("referrerSource", vec![json!("attest.example/{{.Sync.Source}}"), json!("ghcr.io/team/app")]),
        ("referrerTarget", vec![json!("attest.example/app")]),
        ("referrerFilters", vec![json!([{"artifactType": "application/spdx+json"}])]),
        ("referrerSlow", vec![json!(true)]),
        ("digestTags", vec![json!(true)]),
        ("includeExternal", vec![json!(true)]),
        ("forceRecursive", vec![json!(true)]),
        ("hooks", vec![json!({"pre": {"type": "shell", "params": ["echo"]}})]),
        ("surprise", vec![json!(1)]),
    ]);
    fields
}

fn registry() -> impl Strategy<Value = Value> {
    map_of(vec![
        ("user", vec![json!("me"), json!("{{env \"USER_NAME\"}}"), json!("a:b"), json!("{{lower \"x\"}}")]),
        ("pass", vec![json!("hunter2"), json!("{{env \"PASS\"}}"), json!(IN_FILE)]),
        ("token", vec![json!("hunter2")]),
        ("credHelper", vec![json!("docker-credential-gcloud"), json!("my helper")]),
        ("tls", vec![json!("enabled"), json!("disabled"), json!("insecure"), json!("perhaps")]),
        ("reqPerSec", vec![json!(0.5), json!(100), json!(0), json!(1e9), json!(-1)]),
        ("reqConcurrent", vec![json!(0), json!(3), json!(5000), json!(0.5)]),
        ("repoAuth", vec![json!(true)]),
        ("mirrors", vec![json!(["mirror.example"])]),
        ("hostname", vec![json!("elsewhere.example")]),
        ("pathPrefix", vec![json!("proxy")]),
        ("blobChunk", vec![json!(1_000_000)]),
        ("regcert", vec![json!("-----BEGIN")]),
    ])
}

fn regsync_entry() -> impl Strategy<Value = Value> {
    let ends = select(vec![
        json!({"type": "image", "source": "busybox:1", "target": "t.example/TARGET:1"}),
        json!({"type": "image", "source": "busybox", "target": "t.example/TARGET:one"}),
        json!({"type": "image", "source": "busybox", "target": "MYREGISTRY/TARGET"}),
        json!({"type": "repository", "source": "ghcr.io/team/app", "target": "t.example/TARGET"}),
        json!({"type": "repository", "source": "{{env \"FROM\"}}/app", "target": "t.example/TARGET/{{.Sync.Source}}"}),
        json!({"type": "repository", "source": "not a name", "target": "t.example/TARGET"}),
        json!({"type": "registry", "source": "registry:5000", "target": "t.example/TARGET"}),
    ]);
    let own = vec![
        ("tags", tag_sets()),
        ("tagSets", vec![json!(tag_sets()[..2]), json!([tag_sets()[2]])]),
        ("repos", vec![json!({"allow": ["library/.*"]})]),
        ("platform", vec![json!("linux/amd64"), json!("nonsense/")]),
        ("platforms", vec![json!(["linux/amd64", "linux/arm64/v8"]), json!(["linux/amd64", "moon"])]),
    ];
    with(with(ends, map_of(own)), map_of(shared()))
}

/// Replaces TARGET by a different registry in each entry. If two entries had the same target, the import could skip an
/// entry.
fn numbered(mut items: Vec<Value>) -> Value {
    for (number, item) in items.iter_mut().enumerate() {
        let text = item["target"].as_str().unwrap().replace("TARGET", &format!("r{number}"));
        item["target"] = text.into();
    }
    items.into()
}

fn regsync_file() -> impl Strategy<Value = Value> {
    let hosts = subsequence(vec!["docker.io", "ghcr.io", "registry:5000", "t.example"], 0..3);
    let creds = (hosts, vec(registry(), 3)).prop_map(|(hosts, registries)| {
        let one = |(host, mut registry): (&str, Value)| {
            registry["registry"] = host.into();
            registry
        };
        Value::from(hosts.into_iter().zip(registries).map(one).collect::<Vec<_>>())
    });
    let mut defaults = shared();
    defaults.extend([("parallel", vec![json!(4)]), ("skipDockerConfig", vec![json!(true)])]);
    let parts = (creds, map_of(defaults), vec(regsync_entry(), 0..4), map_of(vec![("stray", vec![json!("x")])]));
    parts.prop_map(|(creds, defaults, sync, stray)| {
        let mut file = json!({"version": 1, "creds": creds, "defaults": defaults, "sync": numbered(sync)});
        file.as_object_mut().unwrap().extend(stray.as_object().cloned().unwrap_or_default());
        file
    })
}

fn skopeo_file() -> impl Strategy<Value = Value> {
    let digest = format!("sha256:{}", "1".repeat(64));
    let registry = map_of(vec![
        (
            "images",
            vec![json!({"busybox": [], "redis": ["1.0", digest, "no tag"]}), json!({"team/app": ["v1"], "A B": []})],
        ),
        ("images-by-tag-regex", vec![json!({"nginx": r"^1\.13\.[12]-alpine$"}), json!({"nginx": "(", "perl": "^5"})]),
        ("images-by-semver", vec![json!({"alpine": ">= 3.12.0 || <2"}), json!({"alpine": "!=1"})]),
        (
            "credentials",
            vec![json!({"username": "me", "password": "hunter2"}), json!({"username": "a:b"}), json!({"user": "me"})],
        ),
        ("tls-verify", vec![json!(true), json!(false), json!("off")]),
        ("cert-dir", vec![json!("/etc/certs")]),
        ("surprise", vec![json!(1)]),
    ]);
    let hosts = subsequence(vec!["a.example", "b.example:5000", "not a host"], 1..=3);
    (hosts, vec(registry, 3)).prop_map(|(hosts, registries)| {
        let pairs = hosts.into_iter().map(str::to_owned).zip(registries);
        Value::Object(pairs.collect::<Map<_, _>>())
    })
}

fn dregsy_file() -> impl Strategy<Value = Value> {
    let location = |host: &'static str| {
        with(
            Just(json!({"registry": host})),
            map_of(vec![
                ("auth", vec![json!("YTpodW50ZXIy"), json!("none"), json!("${AUTH}")]),
                ("skip-tls-verify", vec![json!(true), json!(false)]),
                ("surprise", vec![json!(1)]),
            ]),
        )
    };
    let mapping = with(
        select(vec![
            json!({"from": "team/app", "to": "TARGET"}),
            json!({"from": "regex:team/.*", "to": "TARGET"}),
            json!({"from": "team/app", "to": "regex:team,TARGET"}),
            json!({"from": "regex:(", "to": "TARGET"}),
        ]),
        map_of(vec![
            (
                "tags",
                vec![
                    json!(["v1", "semver: >=1.0.0 <2.0.0", "regex: a.*"]),
                    json!(["semver: >=1.0.0", "keep: .*-slim", "keep: latest 3"]),
                    json!(["regex: ["]),
                ],
            ),
            ("platform", vec![json!("linux/amd64"), json!("all"), json!("moon")]),
            ("surprise", vec![json!(1)]),
        ]),
    );
    let task = (location("s.example"), location("t.example"), vec(mapping, 1..3)).prop_map(
        |(source, target, mappings)| json!({"name": "one", "source": source, "target": target, "mappings": mappings}),
    );
    let task = with(task, map_of(vec![("interval", vec![json!(60), json!(45)]), ("verbose", vec![json!(true)])]));
    let head = map_of(vec![
        ("relay", vec![json!("skopeo"), json!("docker")]),
        ("watch", vec![json!(true)]),
        ("surprise", vec![json!(1)]),
    ]);
    (task, head).prop_map(|(mut task, mut file)| {
        for (number, mapping) in task["mappings"].as_array_mut().unwrap().iter_mut().enumerate() {
            mapping["to"] = mapping["to"].as_str().unwrap().replace("TARGET", &format!("r{number}")).into();
        }
        file["tasks"] = json!([task]);
        file
    })
}

fn zot_file() -> impl Strategy<Value = Value> {
    let content = with(
        select(vec![json!({"prefix": "team/app"}), json!({"prefix": "/team/**"}), json!({"prefix": "a/[bc]"})]),
        map_of(vec![
            ("destination", vec![json!("/elsewhere")]),
            ("stripPrefix", vec![json!(true)]),
            (
                "tags",
                vec![json!({"regex": "^v1"}), json!({"excludeRegex": "rc", "semver": true}), json!({"regex": "("})],
            ),
            ("surprise", vec![json!(1)]),
        ]),
    );
    let registry = map_of(vec![
        ("pollInterval", vec![json!("6h"), json!("10s")]),
        ("onDemand", vec![json!(true)]),
        ("tlsVerify", vec![json!(true), json!(false)]),
        ("onlySigned", vec![json!(true)]),
        ("syncLegacyCosignTags", vec![json!(false)]),
        ("certDir", vec![json!("/etc/certs")]),
        ("credentialHelper", vec![json!("ecr"), json!("oauth2")]),
        ("reqConcurrent", vec![json!(3)]),
        ("maxRetries", vec![json!(3)]),
        ("surprise", vec![json!(1)]),
    ]);
    (registry, content).prop_map(|(mut registry, content)| {
        registry["urls"] = json!(["https://s.example", "https://o.example"]);
        registry["content"] = json!([content]);
        json!({"extensions": {"sync": {"credentialsFile": "auth.json", "registries": [registry]}}})
    })
}

fn import_of(file: &Value, form: Program) -> Result<Imported, ImportError> {
    let target = form.needs_target().then(|| "mirror.example/all".to_owned());
    let options = ImportOptions { form: Some(form), scoped: form == Program::Skopeo, target, auth: None };
    import_text("theirs.yml", &file.to_string(), &options)
}

/// Returns the result with all remarks as text. If the import failed, returns the error as text.
fn output_of(imported: Result<Imported, ImportError>) -> String {
    match imported {
        Err(refused) => refused.to_string(),
        Ok(imported) => {
            let remarks: Vec<&str> = imported.remarks.iter().map(|remark| remark.message.as_str()).collect();
            format!("{}\n{}", imported.text, remarks.join("\n"))
        }
    }
}

/// Collects the paths of all keys and list items below `path`.
fn collect_paths(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(pairs) => pairs.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (step, value) in below {
        path.push(step);
        found.push(path.clone());
        collect_paths(value, path, found);
        path.pop();
    }
}

fn parent<'v>(value: &'v mut Value, path: &[String]) -> &'v mut Value {
    path[..path.len() - 1].iter().fold(value, |value, step| match value {
        Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
        other => &mut other[step],
    })
}

/// Returns the file without the value at `path`, and the removed value.
fn without(file: &Value, path: &[String]) -> (Value, Value) {
    let mut file = file.clone();
    let last = &path[path.len() - 1];
    let removed = match parent(&mut file, path) {
        Value::Array(items) => items.remove(last.parse().unwrap()),
        Value::Object(pairs) => pairs.remove(last).unwrap(),
        _ => unreachable!("only maps and lists have something below"),
    };
    (file, removed)
}

/// Returns true if the import can ignore the removed value. The import can ignore a value in these cases:
/// - The value is a default.
/// - A remark mentions the value.
/// - The value affects no entry.
/// - The value is a map or a list, and the import can ignore each item.
fn is_no_loss(file: &Value, output: &str, path: &mut Vec<String>, removed: &Value) -> bool {
    if has_no_effect(path, removed)
        || is_default(file, path, removed)
        || is_own_repository(file, path, removed)
        || is_overridden(file, path)
        || is_covered_by_remark(output, path)
    {
        return true;
    }
    let mut below = Vec::new();
    collect_paths(removed, &mut Vec::new(), &mut below);
    let below: Vec<Vec<String>> = below.into_iter().filter(|path| path.len() == 1).collect();
    let is_each = |step: &Vec<String>| {
        let (_, inner) = without(removed, step);
        path.extend(step.iter().cloned());
        let is_no_loss = is_no_loss(file, output, path, &inner);
        path.pop();
        is_no_loss
    };
    !below.is_empty() && below.iter().all(is_each)
}

fn has_no_effect(path: &[String], removed: &Value) -> bool {
    match path[path.len() - 1].as_str() {
        // transship always has the behaviour that these keys select.
        "version" | "repoAuth" | "fastCheck" => true,
        "registry" => true,
        "tls" => removed == "enabled",
        "tls-verify" | "tlsVerify" => removed == true,
        "skip-tls-verify" => removed == false,
        // The relay affects only digests without a tag.
        "relay" => true,
        // transship copies all platforms by default.
        "platform" if removed == "all" => true,
        "reqPerSec" | "reqConcurrent" => removed == 0,
        // The entry can have the same platform in `platforms`.
        "platform" => removed == "linux/amd64",
        _ => (*removed == json!([]) || *removed == json!({})) && !path.iter().any(|key| key == "images"),
    }
}

/// Returns true if `defaults` has the same value for the key.
fn is_default(file: &Value, path: &[String], removed: &Value) -> bool {
    matches!(path, [first, _, key] if first == "sync" && file["defaults"].get(key) == Some(removed))
}

/// Returns true if `referrerSource` or `referrerTarget` is the entry's own source or target.
fn is_own_repository(file: &Value, path: &[String], removed: &Value) -> bool {
    let [first, at, key] = path else { return false };
    let own = match key.as_str() {
        "referrerSource" => "source",
        "referrerTarget" => "target",
        _ => return false,
    };
    let entry = at.parse::<usize>().ok().map(|at| &file[first.as_str()][at]);
    entry.is_some_and(|entry| entry.get(own) == Some(removed))
}

/// Returns true if every entry has its own value for a key of `defaults`.
fn is_overridden(file: &Value, path: &[String]) -> bool {
    let [first, key, ..] = path else { return false };
    let keys: &[&str] =
        if matches!(key.as_str(), "schedule" | "interval") { &["schedule", "interval"] } else { &[key] };
    let entries = file["sync"].as_array().into_iter().flatten();
    first == "defaults" && entries.into_iter().all(|entry| keys.iter().any(|key| entry.get(key).is_some()))
}

/// Returns true if a remark says that a parent key of this path has no equivalent.
fn is_covered_by_remark(output: &str, path: &[String]) -> bool {
    output.contains("this key is not the host of a registry")
        || path[..path.len() - 1].iter().any(|key| output.contains(&format!("`{key}`")))
}

fn assert_nothing_is_dropped(file: &Value, form: Program) -> Result<(), TestCaseError> {
    let imported = import_of(file, form);
    if let Ok(imported) = &imported {
        let read = crate::config::parse("sync.yaml", &imported.text, &|_| Some("x".into()));
        prop_assert!(read.is_ok(), "{}\n{}\n{file:#}", read.unwrap_err(), imported.text);
    }
    prop_assert!(imported.is_ok(), "{}\n{file:#}", output_of(imported));
    let all = output_of(imported);
    let mut found = Vec::new();
    collect_paths(file, &mut Vec::new(), &mut found);
    for path in found {
        let (rest, removed) = without(file, &path);
        let is_reported =
            output_of(import_of(&rest, form)) != all || is_no_loss(file, &all, &mut path.clone(), &removed);
        prop_assert!(is_reported, "{} is dropped: {removed}\n{file:#}\n{all}", path.join("."));
        let Some(other) = other(&removed) else { continue };
        let is_read = output_of(import_of(&with_other(file, &path, other), form)) != all
            || is_no_loss(file, &all, &mut path.clone(), &removed)
            || is_hidden(&all, &path);
        prop_assert!(is_read, "{} has no effect: {removed}\n{file:#}\n{all}", path.join("."));
    }
    Ok(())
}

/// Returns a changed value of the same type.
fn other(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => Some(format!("{text}9").into()),
        Value::Number(number) => Some((number.as_f64()? + 1.0).into()),
        Value::Bool(value) => Some((!value).into()),
        _ => None,
    }
}

fn with_other(file: &Value, path: &[String], other: Value) -> Value {
    let mut file = file.clone();
    let last = &path[path.len() - 1];
    match parent(&mut file, path) {
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = other,
        map => map[last] = other,
    }
    file
}

/// Returns true if no remark shows the value, because the value is a secret, or because the remark shows only the key.
fn is_hidden(output: &str, path: &[String]) -> bool {
    let key = &path[path.len() - 1];
    ["pass", "password", "token"].contains(&key.as_str()) || output.contains(&format!("`{key}`"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn no_regsync_value_is_dropped_without_remark(file in regsync_file()) {
        assert_nothing_is_dropped(&file, Program::Regsync)?;
    }

    #[test]
    fn no_skopeo_value_is_dropped_without_remark(file in skopeo_file()) {
        assert_nothing_is_dropped(&file, Program::Skopeo)?;
    }

    #[test]
    fn no_dregsy_value_is_dropped_without_remark(file in dregsy_file()) {
        assert_nothing_is_dropped(&file, Program::Dregsy)?;
    }

    #[test]
    fn no_zot_value_is_dropped_without_remark(file in zot_file()) {
        assert_nothing_is_dropped(&file, Program::Zot)?;
    }

    #[test]
    fn import_of_any_text_never_panics(
        text in "([a-z]{1,4}|sync|creds|images|source|target|type|tasks|mappings|from|registries|urls|\
                 content|prefix|[:{}\\[\\],\\-\" \n&*<0-9.|]){0,60}"
    ) {
        for form in [Program::Regsync, Program::Skopeo, Program::ImageSyncer, Program::Dregsy, Program::Zot] {
            let target = form.needs_target().then(|| "mirror.example".to_owned());
            let options = ImportOptions { form: Some(form), target, ..ImportOptions::default() };
            if let Ok(imported) = import_text("theirs.yml", &text, &options) {
                let read = crate::config::parse("sync.yaml", &imported.text, &|_| Some("x".into()));
                prop_assert!(read.is_ok(), "{}\n{}", read.unwrap_err(), imported.text);
            }
        }
    }
}
