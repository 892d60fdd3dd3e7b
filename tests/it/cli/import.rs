//! Tests of `import-config`: the converted `sync.yaml`, and that it copies the same content as the original program.

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::http;
use crate::support::images::{self, EXAMPLES, Family};
use crate::support::programs::{DEADLINE, DebianRegistry, Output, Running, skopeo, skopeo_copy, skopeo_manifest};
use crate::support::registry::Server;
use crate::support::site::{Site, parse};

/// Configuration with every documented key of regsync, in several notations.
const REGSYNC: &str = r#"version: 1
x-once-a-day: &daily
  schedule: "15 02 * * *"
creds:
  - registry: registry.internal:5000
    tls: disabled
    reqConcurrent: 5
  - registry: docker.io
    user: "{{env \"HUB_USER\"}}"
    pass: "{{file \"hub-token\"}}"
    repoAuth: true
  - registry: ghcr.io
    credHelper: docker-credential-secretservice
    reqPerSec: 2.5
  - registry: quay.io
    token: hunter2
    tls: insecure
    mirrors: [mirror.internal]
defaults:
  ratelimit: {min: 60, retry: 15m}
  parallel: 2
  interval: 60m
  backup: "bkup-{{.Ref.Tag}}"
  cacheCount: 500
  cacheTime: 5m
sync:
  - source: busybox:latest
    target: registry.internal:5000/library/busybox:latest
    type: image
    platform: linux/amd64
  - source: busybox:latest
    target: registry.internal:5000/library/busybox:stable
    type: image
  - <<: *daily
    source: alpine
    target: registry.internal:5000/library/alpine
    type: repository
    tags: {allow: ["3", "3\\.\\d+", "latest"], deny: ["3\\.0"]}
    referrers: true
    digestTags: true
    fastCheck: true
    hooks:
      pre: {type: shell, params: ["echo before"]}
  - source: "{{env \"UPSTREAM\"}}/team/app"
    target: registry.internal:5000/{{ .Sync.Source }}
    type: repository
    tagSets:
      - {allow: [v1]}
      - {semverRange: [">=2.0.0 <3.0.0", "^4.1"]}
    platforms: [linux/amd64, linux/arm64]
    schedule: "TZ=Europe/Berlin 30 4 * * 1-5"
  - source: redis
    target: registry.internal:5000/library/redis
    type: repository
    mediaTypes: [application/vnd.oci.image.index.v1+json]
  - source: quay.io
    target: registry.internal:5000/quay
    type: registry
    repos: {allow: ["team/.*"]}
    interval: 12h
"#;

impl Imports {
    fn new(name: &str, text: &str) -> Self {
        let site = Site::new();
        site.write(name, text);
        site.write("hub-token", "of-the-hub");
        Self { site, name: name.to_owned() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.site.command(args);
        let values = [("HUB_USER", "me"), ("UPSTREAM", "upstream.example"), ("QUAY_IO_TOKEN", "of-quay")];
        command.envs(values).env("STATE_DIRECTORY", self.site.folder());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        Running::start(&mut self.command(args)).wait(2 * DEADLINE)
    }

    /// Imports the file into `sync.yaml`, which must pass `check`. Returns the written text and standard error.
    #[track_caller]
    fn import(&self, args: &[&str]) -> (String, String) {
        let output = self.run(&[&["import-config", &self.name, "--output", "sync.yaml"], args].concat());
        let is_whole = output.stderr.contains(" 0 skipped, 0 not understood");
        assert_eq!(output.code(), if is_whole { 0 } else { 4 }, "{}", output.stderr);
        self.run(&["check"]).expect_success();
        (std::fs::read_to_string(self.site.path("sync.yaml")).unwrap(), output.stderr)
    }
}

/// Folder with a configuration of another program.
struct Imports {
    site: Site,
    name: String,
}

#[test]
fn documented_regsync_keys_are_converted_or_commented() {
    let imports = Imports::new("regsync.yml", REGSYNC);
    let (text, printed) = imports.import(&[]);
    assert!(printed.contains("7 entries, 1 skipped"), "{printed}");
    for expected in [
        "  registry.internal:5000:\n    plain_http: true\n    limits:\n      concurrent: 5\n",
        "      username: \"${HUB_USER}\"\n      password: {file: hub-token}\n",
        "      helper: secretservice\n    limits:\n      requests: \"150/min\"\n",
        "      token: {env: QUAY_IO_TOKEN}\n    tls:\n      insecure_skip_verify: true\n",
        "      include: [latest]\n    schedule: \"every 60m\"\n    overwrite: keep_previous\n    referrers: false\n",
        "      include: [\"3\", 're:3\\.\\d+', latest]\n      exclude: [\"3.0\"]\n",
        "    schedule: \"15 02 * * *\"\n    overwrite: keep_previous\n    referrers: true\n",
        "    source: \"${UPSTREAM}/team/app\"\n    target: \"registry.internal:5000/${UPSTREAM}/team/app\"\n",
        "      semver: \">=2.0.0, <3.0.0\"\n",
        "      semver: \">=4.1.0, <5.0.0\"\n",
        "    schedule: \"30 4 * * 1-5\"\n    timezone: Europe/Berlin\n",
        "    platforms: [linux/amd64, linux/arm64]\n",
        "      include: [latest]\n    rename:\n      latest: stable\n",
        "    repositories:\n      include: [\"re:team/.*\"]\n",
        "# skipped: `mediaTypes` skips some kinds of manifests, and has no equivalent\n",
        "`bkup-{{.Ref.Tag}}`",
    ] {
        assert!(text.contains(expected), "{expected}\n--\n{text}");
    }
    for key in ["mirrors", "ratelimit", "parallel", "cacheCount", "cacheTime", "hooks", "mediaTypes"] {
        assert!(text.contains(&format!("`{key}`")), "{key}\n{text}");
        assert!(printed.contains(&format!("`{key}`")), "{key}\n{printed}");
    }
    assert!(printed.contains("regsync.yml:18:14: `mirrors`"), "{printed}");
    assert!(!text.contains("hunter2") && !printed.contains("hunter2"), "{text}\n{printed}");
    let again = imports.run(&["import-config", "regsync.yml", "--output", "sync.yaml"]);
    assert_eq!(again.code(), 1);
    assert!(again.stderr.contains("sync.yaml cannot be written: File exists"), "{}", again.stderr);
    assert_eq!(
        std::fs::read_to_string(imports.site.path("sync.yaml")).unwrap(),
        text,
        "the existing file is not overwritten"
    );
}

#[test]
fn unknown_regsync_key_is_named_and_exits_with_4() {
    let entry = "sync:\n  - {source: ghcr.io/a/app, target: MyRegistry/app, type: repository}\n";
    let imports = Imports::new("regsync.yml", &format!("version: 1\nstray: 1\n{entry}"));
    let (text, printed) = imports.import(&[]);
    assert!(printed.contains("1 entry, 0 skipped, 1 not understood") && printed.contains("`stray`"), "{printed}");
    assert!(text.contains("    target: MYREGISTRY/app\n"), "no repository of Docker Hub: {text}");
}

/// Returns all tags of a registry with their manifests, verbatim.
fn content(host: &str) -> BTreeMap<String, String> {
    let list = |path: &str, key: &str| {
        let (status, body) = http::get(host, path).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        let names = parse(&body)[key].as_array().cloned().unwrap_or_default();
        names.into_iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut content = BTreeMap::new();
    for repository in list("/v2/_catalog", "repositories") {
        for tag in list(&format!("/v2/{repository}/tags/list"), "tags") {
            let manifest = skopeo_manifest(&format!("docker://{host}/{repository}:{tag}"));
            content.insert(format!("{repository}:{tag}"), manifest);
        }
    }
    content
}

#[test]
fn imported_skopeo_file_copies_the_same_content() {
    let [source, theirs, ours] = [(); 3].map(|()| DebianRegistry::start());
    let host = source.host();
    for (repository, tags) in [
        ("team/listed", &["v1", "2.0", "other"][..]),
        ("team/whole", &["v1", "v2"]),
        ("team/chosen", &["v1.1", "v1.2", "v1.10", "v2.1"]),
    ] {
        for (at, tag) in tags.iter().enumerate() {
            let example = ["1.0.0", "1.1.0"][at % 2];
            skopeo_copy(&format!("oci:{EXAMPLES}:{example}"), &format!("docker://{host}/{repository}:{tag}"));
        }
    }
    let file = format!(
        "\"{host}\":\n  tls-verify: false\n  images:\n    team/listed: [v1, \"2.0\"]\n    team/whole: []\n  \
         images-by-tag-regex:\n    team/chosen: ^v1\\.[12]$\n"
    );
    let imports = Imports::new("skopeo.yml", &file);
    let sync = ["sync", "--all", "--dest-tls-verify=false", "--src", "yaml", "--dest", "docker"];
    let target = format!("{}/mirror", theirs.host());
    let path = imports.site.path("skopeo.yml").display().to_string();
    skopeo(&[&sync[..], &[&path, &target]].concat()).expect_success();

    let (text, printed) = imports.import(&["--target", &format!("{}/mirror", ours.host())]);
    assert!(printed.contains("3 entries, 0 skipped"), "{printed}");
    // The comment in the imported file says to add this key. The target uses plain HTTP too.
    let plain = format!("    plain_http: true\n  \"{}\":\n    plain_http: true\n", ours.host());
    let insecure = "    tls:\n      insecure_skip_verify: true\n";
    assert!(text.contains(insecure) && text.contains("write `plain_http: true` instead of `tls`"), "{text}");
    imports.site.write("sync.yaml", &text.replace(insecure, &plain));
    imports.run(&["once"]).expect_success();
    let expected = content(theirs.host());
    assert_eq!(expected.len(), 6, "{:?}", expected.keys());
    assert_eq!(content(ours.host()), expected);
}

#[test]
fn imported_image_syncer_file_copies_tags_under_their_names() {
    let [source, target] = [(); 2].map(|()| Server::start());
    for (seed, tag) in ["v1", "v2", "v3"].iter().enumerate() {
        images::small(Family::Oci, seed as u64).put(&source, "app", Some(tag));
    }
    let [from, to] = [&source, &target].map(Server::host);
    let imports = Imports::new("images.yaml", &format!("\"{from}/app:v1,v2\": \"{to}/mirror/app:v1,two\"\n"));
    imports
        .site
        .write("auth.json", &format!("{{\"{from}\": {{\"insecure\": true}}, \"{to}\": {{\"insecure\": true}}}}"));
    let (text, said) = imports.import(&["--auth", "auth.json"]);
    assert!(said.contains("1 entry, 0 skipped"), "{said}");
    assert!(text.contains("    rename:\n      v2: two\n"), "{text}");
    // As the comment there says.
    let insecure = "    tls:\n      insecure_skip_verify: true\n";
    imports.site.write("sync.yaml", &text.replace(insecure, "    plain_http: true\n"));
    imports.run(&["once"]).expect_success();
    let tags = target.store().tags("mirror/app").unwrap_or_default();
    assert_eq!(tags.keys().map(String::as_str).collect::<Vec<_>>(), ["two", "v1"]);
    let named = imports.run(&["import-config", "auth.json"]);
    assert_eq!(named.code(), 2);
    assert!(
        named.stderr.contains("give the file with the images as the argument, and this file with --auth"),
        "{}",
        named.stderr
    );
}
