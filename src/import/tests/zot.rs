//! Tests of whole files of zot.

use super::{imported, options};
use crate::config::parse_foreign;
use crate::import::{Imported, Program, import_text, translate};

/// Imports a configuration with one registry, which has the keys `keys`. The target is `zot.example:8080`.
fn registry_with(keys: &str) -> Imported {
    let text = format!("{{\"registries\": [{{\"urls\": [\"https://s.example\"], \"pollInterval\": \"6h\", {keys}}}]}}");
    imported(&text, Some("zot.example:8080"))
}

const ZOT: &str = "{
\t\"distSpecVersion\": \"1.1.1\",
\t\"http\": {\"address\": \"127.0.0.1\", \"port\": \"8080\"},
\t\"extensions\": {
\t\t\"search\": {\"enable\": true},
\t\t\"sync\": {
\t\t\t\"enable\": true,
\t\t\t\"credentialsFile\": \"./sync-auth.json\",
\t\t\t\"registries\": [
\t\t\t\t{
\t\t\t\t\t\"urls\": [\"https://registry1:5000\", \"https://registry2:5000\"],
\t\t\t\t\t\"onDemand\": true,
\t\t\t\t\t\"pollInterval\": \"6h\",
\t\t\t\t\t\"tlsVerify\": false,
\t\t\t\t\t\"certDir\": \"/home/user/certs\",
\t\t\t\t\t\"maxRetries\": 3,
\t\t\t\t\t\"retryDelay\": \"5m\",
\t\t\t\t\t\"reqConcurrent\": 30,
\t\t\t\t\t\"content\": [
\t\t\t\t\t\t{\"prefix\": \"/repo1/repo\", \"tags\": {\"regex\": \"4.*\", \"semver\": true}},
\t\t\t\t\t\t{\"prefix\": \"/repo2/repo\", \"destination\": \"/repo\", \"stripPrefix\": true},
\t\t\t\t\t\t{\"prefix\": \"/repo3/**\"},
\t\t\t\t\t\t{\"prefix\": \"/repo4/**\", \"destination\": \"/four\", \"stripPrefix\": true,
\t\t\t\t\t\t \"tags\": {\"excludeRegex\": \".*-(amd64|arm64)$\"}},
\t\t\t\t\t\t{\"prefix\": \"**\", \"tags\": {\"semver\": true}}
\t\t\t\t\t]
\t\t\t\t},
\t\t\t\t{\"urls\": [\"http://plain.example:5000\"], \"pollInterval\": \"1h\", \"content\": [{\"prefix\": \"a/b\"}]},
\t\t\t\t{\"urls\": [\"https://index.docker.io\"], \"onDemand\": true}
\t\t\t]
\t\t}
\t}
}
";

#[test]
fn zot_file_becomes_valid_configuration_of_its_sync_extension() {
    let imported = imported(ZOT, Some("zot.example:8080"));
    let text = &imported.text;
    assert_eq!(
        (imported.form, imported.entries, imported.skipped, imported.unknown),
        (Program::Zot, 6, 1, 0),
        "{text}"
    );
    for expected in [
        "  registry1:5000:\n    tls:\n      insecure_skip_verify: true\n    limits:\n      concurrent: 30\n",
        "  plain.example:5000:\n    plain_http: true\n",
        "    source: registry1:5000/repo1/repo\n    target: zot.example:8080/repo1/repo\n    tags:\n      \
         include: [\"re:.*4.*.*\"]\n      semver: \"*\"\n    schedule: \"every 6h\"\n    on_start: true\n",
        "    source: registry1:5000/repo2/repo\n    target: zot.example:8080/repo\n",
        "    source: \"registry1:5000/**\"\n    target: \"zot.example:8080/**\"\n    repositories:\n      \
         include: [repo3, \"repo3/*\"]\n",
        "    source: \"registry1:5000/repo4/**\"\n    target: \"zot.example:8080/four/**\"\n    tags:\n      \
         exclude: [\"re:.*.*-(amd64|arm64)\"]\n",
        "      exclude: [repo1/repo, repo2/repo, repo3, \"repo3/*\", repo4, \"repo4/*\"]\n    tags:\n      include: \
         ['re:v?[0-9]+(\\.[0-9]+){0,2}(-[0-9A-Za-z-]+(\\.[0-9A-Za-z-]+)*)?']\n",
        "# skipped: zot copies these images only when a client pulls them",
        "`credentialsFile` `./sync-auth.json`: name this file by --auth FILE",
    ] {
        assert!(text.contains(expected), "{expected}\n--\n{text}");
    }
    for key in ["urls", "certDir", "maxRetries", "retryDelay"] {
        assert!(imported.remarks.iter().any(|remark| remark.message.contains(&format!("`{key}`"))), "{key}");
    }
}

#[test]
fn zot_key_that_changes_content_skips_its_entries() {
    for (keys, counts) in [
        ("\"content\": [{\"prefix\": \"a/b\"}]", (1, 0, 0)),
        ("\"CONTENT\": [{\"PREFIX\": \"a/b\"}]", (1, 0, 0)),
        ("\"content\": [{\"prefix\": \"a/b\"}], \"onlySigned\": true", (0, 1, 0)),
        ("\"content\": [{\"prefix\": \"a/b\"}], \"syncLegacyCosignTags\": false", (0, 1, 0)),
        ("\"content\": [{\"prefix\": \"a/b\"}], \"platforms\": [\"linux/amd64\"]", (0, 1, 1)),
        ("\"content\": [{\"prefix\": \"a/b\", \"only\": 1}]", (0, 1, 1)),
        ("\"content\": [{\"prefix\": \"a/b\", \"tags\": {\"regex\": \"\"}}]", (0, 1, 0)),
        ("\"content\": [{\"prefix\": \"a/[bc]\"}]", (0, 1, 0)),
        ("\"content\": [{\"prefix\": \"a/b*\", \"stripPrefix\": true}]", (0, 1, 0)),
        ("\"content\": [{\"prefix\": \"**\"}, {\"prefix\": \"a/b\"}]", (1, 1, 0)),
        ("\"content\": [{\"prefix\": \"a/*\"}, {\"prefix\": \"a/b\"}, {\"prefix\": \"c\"}]", (2, 1, 0)),
        ("\"onDemand\": false", (0, 1, 0)),
    ] {
        let imported = registry_with(keys);
        let found = (imported.entries, imported.skipped, imported.unknown);
        assert_eq!(found, counts, "{keys}\n{}", imported.text);
    }
    let disabled = "{\"enable\": false, \"registries\": [{\"urls\": [\"https://s.example\"], \"pollInterval\": \"6h\", \
                    \"content\": [{\"prefix\": \"a\"}]}]}";
    assert_eq!(imported(disabled, Some("zot.example")).skipped, 1);
}

#[test]
fn zot_credentials_come_from_their_file_or_helper() {
    let text = "registries: [{urls: [\"https://s.example\"], pollInterval: 6h, content: [{prefix: a}]}]";
    let [file, auth] = [text, "{\"s.example\": {\"username\": \"me\", \"password\": \"$hunter2\"}}"]
        .map(|text| parse_foreign("f.json", text).unwrap());
    let found = translate(&file, Some(&auth), &options(Some("zot.example"))).unwrap().text;
    assert!(found.contains("      username: me\n      password: {env: S_EXAMPLE_PASSWORD}\n"), "{found}");
    assert!(!found.contains("hunter2"), "{found}");
    let helper = registry_with("\"credentialHelper\": \"ecr\", \"content\": [{\"prefix\": \"a\"}]").text;
    assert!(helper.contains("      aws: {}\n"), "{helper}");
    assert_eq!(registry_with("\"credentialHelper\": \"oauth2\", \"content\": [{\"prefix\": \"a\"}]").unknown, 1);
}

#[test]
fn zot_file_without_target_is_refused_with_a_remedy() {
    let refused = import_text("f.json", ZOT, &options(None)).unwrap_err().to_string();
    assert!(refused.contains("--target HOST[/PREFIX]") && refused.contains("for zot, the address of zot"), "{refused}");
}
