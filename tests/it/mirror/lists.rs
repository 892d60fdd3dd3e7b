//! Tests that lists are hints: an incomplete or odd list of a registry or a proxy causes no loss and no overwrite.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use transship::oci::{Digest, Manifest, MediaType};

use crate::mirror::rules::{age_referrer_checks, put_referrers};
use crate::support::images::{self, Family, Image};
use crate::support::programs::{Output, Running, transship_command};
use crate::support::registry::{Fault, Server, Setup};
use crate::support::site::{Site, parse};

/// Two registries and an entry `app` that copies the repository `app` from one to the other.
struct Pair {
    source: Server,
    target: Server,
    site: Site,
}

impl Pair {
    fn with(keys: &str) -> Self {
        Self::with_setups(Setup::default(), Setup::default(), keys, "")
    }

    /// Starts registries with these setups. `keys` are further keys of the entry, and `target_keys` those of the target
    /// registry.
    fn with_setups(source: Setup, target: Setup, keys: &str, target_keys: &str) -> Self {
        let pair = Self { source: Server::with(source), target: Server::with(target), site: Site::new() };
        let (source, target) = (pair.source.host(), pair.target.host());
        let comma = |keys: &str| if keys.is_empty() { "" } else { ", " };
        let entry = format!("- {{name: app, source: \"{source}/app\", target: \"{target}/app\"{}{keys}}}", comma(keys));
        let registries = format!(
            "\"{source}\": {{plain_http: true}}, \"{target}\": {{plain_http: true{}{target_keys}}}",
            comma(target_keys)
        );
        pair.site.configure_fully("status: off", &registries, &entry);
        pair
    }

    fn arrived(&self) -> BTreeSet<String> {
        self.target.store().tags("app").unwrap_or_default().into_keys().collect()
    }

    /// Puts an image under `v1` at the source, and an SBOM that refers to the image.
    fn with_sbom(&self) -> (Image, Image) {
        let image = images::small(Family::Oci, 1);
        image.put(&self.source, "app", Some("v1"));
        let sbom = images::sbom(&image, 1);
        sbom.put(&self.source, "app", None);
        (image, sbom)
    }

    fn has(&self, image: &Image) -> bool {
        self.target.store().manifest("app", &image.digest().to_string()).is_some()
    }
}

/// Puts this text as an index under a tag of `app`.
fn put_index(server: &Server, json: &str, tag: &str) {
    let index = Manifest::new(MediaType::new(MediaType::OCI_INDEX), json.to_owned().into());
    server.store().put_manifest("app", (&index).into(), Some(tag));
}

/// Puts one image under this number of tags of `app`.
fn fill(server: &Server, tags: usize) {
    let image = images::small(Family::Oci, 1);
    image.put(server, "app", Some("v000"));
    for number in 1..tags {
        server.store().set_tag("app", &format!("v{number:03}"), image.digest());
    }
}

#[test]
fn lists_are_complete_if_a_proxy_drops_links() {
    let pair = Pair::with_setups(Setup { page: 100, ..Setup::default() }, Setup::default(), "", "");
    fill(&pair.source, 230);
    for number in 0..120 {
        images::small(Family::Oci, 2).put(&pair.source, &format!("team/r{number:03}"), Some("v1"));
    }
    pair.source.set(Fault::LinksDropped);
    pair.site.once();
    assert_eq!(pair.arrived().len(), 230);
    let (source, target) = (pair.source.host(), pair.target.host());
    let entry = format!("- {{name: team, source: \"{source}/team/**\", target: \"{target}/m/**\"}}");
    pair.site.configure(&[source, target], &entry);
    pair.site.once();
    assert_eq!(pair.target.store().repositories().iter().filter(|name| name.starts_with("m/")).count(), 120);
}

#[test]
fn refused_page_size_is_omitted_from_later_requests() {
    let pair = Pair::with_setups(Setup { page: 100, ..Setup::default() }, Setup::default(), "", "");
    fill(&pair.source, 150);
    pair.source.set(Fault::PageSizeLimit(100));
    let (source, target) = (pair.source.host(), pair.target.host());
    images::small(Family::Oci, 2).put(&pair.source, "other", Some("v1"));
    let entry = format!("- {{name: all, source: \"{source}/**\", target: \"{target}/m/**\"}}");
    pair.site.configure(&[source, target], &entry);
    pair.site.once();
    assert_eq!(pair.target.store().tags("m/app").unwrap().len(), 150);
    assert_eq!(pair.target.store().tags("m/other").unwrap().len(), 1);
    let refused =
        |kind: &str| pair.source.log().requests_of(kind).iter().filter(|requested| requested.status == 400).count();
    assert_eq!(refused("catalog GET"), 1, "{:?}", pair.source.log().counts());
    assert!((1..=2).contains(&refused("tags GET")), "two repositories may be listed concurrently");
}

#[test]
fn tag_unlisted_at_a_target_keeps_its_digest_by_rule() {
    for (rule, others) in [("never", true), ("never", false), ("keep_previous", true), ("keep_previous", false)] {
        let pair = Pair::with(&format!("overwrite: {rule}"));
        let (old, new) = (images::small(Family::Oci, 99), images::small(Family::Oci, 1));
        new.put(&pair.source, "app", Some("0.1.20"));
        old.put(&pair.target, "app", Some("0.1.20"));
        if others {
            images::small(Family::Oci, 2).put(&pair.target, "app", Some("0.1.2"));
        }
        pair.target.set(Fault::TagListLacks("0.1.20".into()));
        let there = || pair.target.store().tag("app", "0.1.20");
        if rule == "never" {
            let report = pair.site.report(4);
            assert_eq!(report.outcomes()["0.1.20"], "blocked");
            assert_eq!(there(), Some(old.digest()));
        } else {
            let kept_as = pair.site.report(0).tag("0.1.20")["kept_as"].as_str().unwrap().to_owned();
            assert_eq!(pair.target.store().tag("app", &kept_as), Some(old.digest()));
            assert_eq!(there(), Some(new.digest()));
        }
    }
}

#[test]
fn referrers_list_unlisted_at_a_target_is_extended() {
    let without = || Setup { referrers_api: false, ..Setup::default() };
    let pair = Pair::with_setups(Setup::default(), without(), "", "");
    let (image, sbom) = pair.with_sbom();
    // The target has the SBOM of another client in its referrers list. Its list of tags lacks the tag of that list.
    let other = images::sbom(&image, 7);
    let list = |entries: &[&Image]| {
        let entries: Vec<_> = entries
            .iter()
            .map(|one| {
                serde_json::json!({"mediaType": MediaType::OCI_MANIFEST, "digest": one.digest().to_string(),
                    "size": one.manifest.bytes().len()})
            })
            .collect();
        serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries}).to_string()
    };
    image.put(&pair.target, "app", None);
    other.put(&pair.target, "app", None);
    let tag = image.digest().to_string().replace(':', "-");
    put_index(&pair.target, &list(&[&other]), &tag);
    pair.target.set(Fault::TagListLacks(tag.clone()));
    pair.site.once();
    let stored = pair.target.store().manifest("app", &tag).unwrap();
    let listed = parse(std::str::from_utf8(&stored.bytes).unwrap());
    let digests: BTreeSet<&str> =
        listed["manifests"].as_array().unwrap().iter().filter_map(|entry| entry["digest"].as_str()).collect();
    assert_eq!(digests, BTreeSet::from([other.digest().to_string().as_str(), sbom.digest().to_string().as_str()]));
}

#[test]
fn signature_unlisted_behind_a_shorter_tag_is_copied() {
    for is_late in [false, true] {
        let without = || Setup { referrers_api: false, ..Setup::default() };
        let pair = Pair::with_setups(without(), without(), "", "");
        let image = images::small(Family::Oci, 1);
        image.put(&pair.source, "app", Some("v1"));
        put_referrers(&pair.source, false, "app", &[(image.digest(), images::sbom(&image, 1))]);
        // The tag of the signature extends the tag of the referrers list, and distribution omits such tags from lists
        // (distribution#4891).
        let (signature, tag) = (images::signature(&image), images::signature_tag(&image));
        pair.source.set(Fault::TagListLacks(tag.clone()));
        if is_late {
            pair.site.once();
        }
        signature.put(&pair.source, "app", Some(&tag));
        let heads = || {
            pair.source.log().clear();
            let message = pair.site.run(&["once"]).expect_success();
            (
                pair.source
                    .log()
                    .requests_of("manifest HEAD")
                    .iter()
                    .filter(|requested| requested.path.ends_with(".sig"))
                    .count(),
                message,
            )
        };
        if is_late {
            assert_eq!(heads().0, 0, "the copy counts as a referrer check");
            age_referrer_checks(&pair.site);
        }
        let (_, message) = heads();
        assert_eq!(pair.target.store().tag("app", &tag), Some(signature.digest()), "late: {is_late}");
        assert!(message.stderr.contains("the source has a tag that its list lacks"), "{}", message.stderr);
        assert_eq!(heads().0, 0, "an unchanged tag costs the same requests");
    }
}

#[test]
fn signatures_absent_from_a_plain_list_are_not_requested() {
    let pair = Pair::with("");
    for (seed, tag) in [(1, "v1"), (2, "v2")] {
        images::small(Family::Oci, seed).put(&pair.source, "app", Some(tag));
    }
    pair.site.once();
    let requested =
        pair.source.log().requests_of("manifest HEAD").len() + pair.source.log().requests_of("manifest GET").len();
    assert_eq!(requested, 2, "{:?}", pair.source.log().counts());
}

#[test]
fn locked_tag_is_blocked_and_keeps_its_digest() {
    for listed in [true, false] {
        let pair = Pair::with_setups(Setup::default(), Setup::default(), "", "kind: acr");
        let (old, new) = (images::small(Family::Oci, 99), images::small(Family::Oci, 1));
        new.put(&pair.source, "app", Some("v1"));
        images::small(Family::Oci, 2).put(&pair.source, "app", Some("v2"));
        old.put(&pair.target, "app", Some("v1"));
        pair.target.set(Fault::TagLocked("v1".into()));
        if listed {
            pair.target.set(Fault::AcrTagList);
        }
        let report = pair.site.report(4);
        assert_eq!(report.outcomes()["v1"], "blocked", "{report:?}");
        assert_eq!(report.outcomes()["v2"], "copied");
        assert_eq!(report.0["outcome"], "succeeded");
        let reason = report.tag("v1")["reason"].as_str().unwrap();
        assert!(reason.contains("locked") || reason.contains("operation is disallowed"), "{reason}");
        assert_eq!(pair.target.store().tag("app", "v1"), Some(old.digest()));
        let puts = pair.target.log().requests_of("manifest PUT").iter().filter(|put| put.path.ends_with("/v1")).count();
        assert_eq!(puts, usize::from(!listed), "a lock in the list costs no PUT");
        let message = pair.site.run(&["once"]);
        assert_eq!(message.code(), 4);
        assert!(message.stdout.contains("1 unchanged, 1 blocked"), "{}", message.stdout);
    }
}

#[test]
fn refused_referrers_api_of_a_source_loses_no_image() {
    // 429 and 5xx are retried with pauses, so the test uses only some of these statuses.
    let refusals = (400..=428).chain(430..=431).chain([451, 499, 500, 501, 505, 511]);
    for status in refusals.chain([204, 226, 300, 303, 304]) {
        let pair = Pair::with_setups(Setup::default(), Setup::default(), "", "");
        let (image, sbom) = pair.with_sbom();
        pair.source.set(Fault::ReferrersAnswered { status, times: 100 });
        let output = pair.site.run(&["once"]);
        assert_eq!(output.code(), 0, "{status}: {}{}", output.stdout, output.stderr);
        assert_eq!(pair.target.store().tag("app", "v1"), Some(image.digest()), "{status}");
        let says_no_api = [400, 404, 405, 406, 410, 415, 501].contains(&status);
        let warned = output.stderr.contains("referrers: false");
        assert_eq!(warned, !says_no_api, "{status}: {}", output.stderr);
        let counted = output.stdout.contains("the referrers of 1 manifest could not be listed");
        assert_eq!(counted, !says_no_api, "{status}: {}", output.stdout);
        pair.source.heal();
        if !says_no_api {
            pair.site.once();
            assert!(pair.has(&sbom), "{status}: the next run looks again");
        }
    }
}

#[test]
fn refused_api_and_fallback_tag_copy_without_referrers() {
    for status in [401, 403, 500] {
        let pair = Pair::with_setups(
            Setup { referrers_api: false, ..Setup::default() },
            Setup::default(),
            "tags: {include: [v1]}",
            "",
        );
        let image = images::small(Family::Oci, 1);
        image.put(&pair.source, "app", Some("v1"));
        pair.source.set(Fault::FallbackTagAnswered(status));
        let output = pair.site.run(&["once"]);
        assert_eq!(output.code(), 0, "{status}: {}{}", output.stdout, output.stderr);
        assert_eq!(pair.target.store().tag("app", "v1"), Some(image.digest()));
        assert!(output.stderr.contains("referrers: false"), "{}", output.stderr);
    }
}

#[test]
fn odd_responses_of_the_referrers_api_lose_no_referrer() {
    for (status, times) in [(404, 1), (200, 1), (200, 2), (200, 100), (403, 1), (503, 9)] {
        let pair = Pair::with("");
        let (_, sbom) = pair.with_sbom();
        pair.source.set(Fault::ReferrersAnswered { status, times });
        let odd = pair.site.run(&["once"]);
        assert_eq!(odd.code(), 0, "{}", odd.stderr);
        pair.source.heal();
        if !pair.has(&sbom) {
            assert!(odd.stderr.contains("referrers: false"), "{status}: {}", odd.stderr);
            pair.site.once();
        }
        assert!(pair.has(&sbom), "{status}");
    }
}

#[test]
fn eleven_hundred_referrers_arrive_by_api_and_fallback_tag() {
    for referrers_api in [true, false] {
        let pair = Pair::with_setups(Setup { referrers_api, page: 2000, ..Setup::default() }, Setup::default(), "", "");
        let image = images::small(Family::Oci, 1);
        image.put(&pair.source, "app", Some("v1"));
        let sboms: Vec<Image> = (0..1100).map(|seed| images::sbom(&image, seed)).collect();
        sboms.iter().for_each(|sbom| sbom.put(&pair.source, "app", None));
        if !referrers_api {
            let entries = pair.source.store().referrers("app", &image.digest());
            let list = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
            let tag = image.digest().to_string().replace(':', "-");
            put_index(&pair.source, &list.to_string(), &tag);
        }
        pair.site.once();
        assert!(sboms.iter().all(|sbom| pair.has(sbom)), "by the API: {referrers_api}");
    }
}

/// Starts a server that responds to each path with `body` and closes each connection.
fn serve_lists(body: impl Fn(&str) -> (String, String) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let body = Arc::new(body);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let body = Arc::clone(&body);
            std::thread::spawn(move || {
                let (mut head, mut piece) = (Vec::new(), [0; 4096]);
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut piece) {
                        Ok(read) if read > 0 => head.extend_from_slice(&piece[..read]),
                        _ => return,
                    }
                }
                let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
                let (headers, body) = body(&path);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: \
                        close\r\n{headers}\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            });
        }
    });
    host
}

/// Runs `transship` to its end. Returns its output and its peak memory in MiB. The kernel records the peak, so the time
/// of the measurement does not matter.
fn run_measuring_memory(args: &[&str]) -> (Output, u64) {
    let mut running = Running::start(&mut transship_command(args));
    let mut run_measuring_memory = 0;
    let deadline = std::time::Instant::now() + Duration::from_secs(300);
    while running.is_running() && std::time::Instant::now() < deadline {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kibibytes = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        run_measuring_memory = run_measuring_memory.max(kibibytes.unwrap_or_default() / 1024);
        std::thread::sleep(Duration::from_millis(2));
    }
    (running.wait(Duration::from_secs(60)), run_measuring_memory)
}

fn page(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    format!("{{\"name\":\"a/b\",\"tags\":[{}]}}", names.join(","))
}

#[test]
fn million_tags_in_one_page_need_bounded_memory() {
    let list = page((0..1_000_000).map(|number| format!("v{number:07}")));
    let host = serve_lists(move |path| {
        (String::new(), if path.contains("last=") { page(std::iter::empty()) } else { list.clone() })
    });
    let (output, run_measuring_memory) =
        run_measuring_memory(&["tags", &format!("{host}/a/b"), "--plain-http", &host, "--names"]);
    assert_eq!(output.stdout.lines().count(), 1_000_000, "{}", output.stderr);
    assert!((1..=260).contains(&run_measuring_memory), "{run_measuring_memory} MiB");
}

#[test]
fn run_over_a_million_tags_needs_bounded_memory() {
    let list = page((0..1_000_000).map(|number| format!("v{number:07}")));
    let host = serve_lists(move |path| {
        let body = match path {
            path if path.contains("last=") => page(std::iter::empty()),
            path if path.contains("/tags/list") => list.clone(),
            _ => {
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#.to_owned()
            }
        };
        (String::new(), body)
    });
    let site = Site::new();
    let target = site.path("out");
    let entry = format!(
        "- {{name: some, source: \"{host}/a/b\", target: \"oci-layout:{}\", tags: {{include: \"v000000?\"}}}}",
        target.display()
    );
    site.configure(&[&host], &entry);
    let (output, run_measuring_memory) =
        run_measuring_memory(&["once", "-c", &site.path("sync.yaml").display().to_string()]);
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    let index = std::fs::read_to_string(target.join("index.json")).unwrap();
    assert_eq!(index.matches("org.opencontainers.image.ref.name").count(), 10, "{index}");
    assert!((1..=330).contains(&run_measuring_memory), "{run_measuring_memory} MiB");
}

#[test]
fn endless_or_huge_pages_fail_in_bounded_memory() {
    // Each page has 100,000 unique tags, and a link to the next page.
    let endless = |path: &str| {
        let at: usize = path.rsplit_once("at=").and_then(|(_, at)| at.parse().ok()).unwrap_or_default();
        let names = (0..100_000).map(|number| format!("p{at}-{number}"));
        (format!("Link: </v2/a/b/tags/list?at={}>; rel=\"next\"\r\n", at + 1), page(names))
    };
    let large = |_: &str| (String::new(), page((0..200_000).map(|number| format!("{number:0100}"))));
    for (host, message) in [
        (serve_lists(endless), "the list has more than 1000000 tags; name the tags to copy in `tags.include`"),
        (serve_lists(large), "the answer is larger than 16777216 bytes"),
    ] {
        let (output, run_measuring_memory) =
            run_measuring_memory(&["tags", &format!("{host}/a/b"), "--plain-http", &host, "--names"]);
        assert_eq!(output.code(), 1);
        assert!(output.stderr.contains(message), "{}", output.stderr);
        assert!((1..=260).contains(&run_measuring_memory), "{run_measuring_memory} MiB");
    }
}

#[test]
fn catalogs_and_referrers_lists_need_bounded_memory() {
    let entry = format!("{{\"digest\":\"{}\",\"annotations\":{{\"a\":\"{}\"}}}}", Digest::of(b"x"), "a".repeat(1000));
    let many = format!("{{\"manifests\":[{}]}}", vec![entry; 10_001].join(","));
    let names: Vec<String> = (0..200_000).map(|number| format!("\"{number:0100}\"")).collect();
    let catalog = format!("{{\"repositories\":[{}]}}", names.join(","));
    let host = serve_lists(move |path| {
        let body = match path {
            path if path.contains("/_catalog") => catalog.clone(),
            path if path.contains("/referrers/") => many.clone(),
            _ => "{\"schemaVersion\":2,\"manifests\":[]}".to_owned(),
        };
        (String::new(), body)
    });
    let (output, used) = run_measuring_memory(&["inspect", &format!("{host}/a/b:v1"), "--plain-http", &host]);
    assert!(output.stdout.contains("more than 10000 referrers"), "{}{}", output.stdout, output.stderr);
    assert!((1..=200).contains(&used), "{used} MiB");

    let site = Site::new();
    let target = Server::start();
    let entry = format!("- {{name: all, source: \"{host}/**\", target: \"{}/m/**\"}}", target.host());
    site.configure(&[&host, target.host()], &entry);
    let config = site.path("sync.yaml").display().to_string();
    let (output, used) = run_measuring_memory(&["once", "-c", &config]);
    assert!(output.stdout.contains("the answer is larger than 16777216 bytes"), "{}{}", output.stdout, output.stderr);
    assert!((1..=200).contains(&used), "{used} MiB");
}
