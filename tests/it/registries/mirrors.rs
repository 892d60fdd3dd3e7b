//! Tests of registries with mirrors: content with a digest is read from mirrors, and missing or wrong content and
//! faults of a mirror do no harm. Tags are resolved at the registry itself.

use std::net::TcpListener;

use transship::oci::Digest;

use crate::support::images::{self, Family, Image};
use crate::support::programs::{DEADLINE, Output, Running};
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::Site;

const NO_CREDENTIALS: &str = "the registry requires a user name and a password, and none are configured";

/// Registry, the servers that mirror it below `hub`, and a target, with an entry `app` from the registry to the target.
struct Scene {
    origin: Server,
    mirrors: Vec<Server>,
    target: Server,
    site: Site,
    images: Vec<Image>,
}

impl Scene {
    /// Creates a registry with three tags, and empty mirrors.
    fn new(mirrors: usize) -> Self {
        let origin = Server::start();
        let images: Vec<Image> = (1..=3).map(|seed| images::two_platforms(Family::Oci, seed)).collect();
        for (at, image) in images.iter().enumerate() {
            image.put(&origin, "app", Some(&format!("v{}", at + 1)));
        }
        let mirrors = (0..mirrors).map(|_| Server::start()).collect();
        Self { origin, mirrors, target: Server::start(), site: Site::new(), images }
    }

    /// Creates a registry with three tags, and mirrors with all its content.
    fn mirrored(mirrors: usize) -> Self {
        let scene = Self::new(mirrors);
        for mirror in &scene.mirrors {
            scene.images.iter().for_each(|image| image.put(mirror, "hub/app", None));
        }
        scene
    }

    fn once(&self) -> Output {
        let hosts: Vec<&str> = self.mirrors.iter().map(Server::host).collect();
        self.once_with(&hosts, "")
    }

    /// Runs `once` with these mirrors and further options of the mirrors.
    fn once_with(&self, mirrors: &[&str], options: &str) -> Output {
        let list: Vec<String> = mirrors.iter().map(|host| format!("{host}/hub")).collect();
        let mut registries = vec![
            format!("\"{}\": {{plain_http: true, mirrors: [\"{}\"]}}", self.origin.host(), list.join("\", \"")),
            format!("\"{}\": {{plain_http: true}}", self.target.host()),
        ];
        registries.extend(mirrors.iter().map(|host| format!("\"{host}\": {{plain_http: true{options}}}")));
        let entry = format!("- {{name: app, source: {}/app, target: {}/app}}", self.origin.host(), self.target.host());
        self.site.configure_fully("status: off", &registries.join(", "), &entry);
        let mut command = self.site.command(&["once"]);
        Running::start(command.env("TRANSSHIP_LOG", "transship=debug")).wait(DEADLINE)
    }

    /// Asserts that all three tags are at the target. Returns the log.
    #[track_caller]
    fn expect_all(&self, output: Output) -> String {
        let output = output.expect_success();
        for (at, image) in self.images.iter().enumerate() {
            assert_eq!(self.target.store().tag("app", &format!("v{}", at + 1)), Some(image.digest()));
        }
        output.stderr
    }

    /// Returns the number of manifest reads and of blob reads at the registry itself.
    fn read_at_origin(&self) -> (usize, usize) {
        (self.origin.log().pulls(), self.origin.log().count("blob GET"))
    }
}

/// Returns the digest and the length of the largest layer of an image.
fn layer_of(image: &Image) -> (Digest, usize) {
    let bytes = image.all_blobs().into_iter().max_by_key(bytes::Bytes::len).unwrap();
    (Digest::of(&bytes), bytes.len())
}

/// Returns the number of GET requests for a blob.
fn blob_reads(server: &Server, blob: &Digest) -> usize {
    server.log().requests_of("blob GET").iter().filter(|request| request.path.ends_with(&blob.to_string())).count()
}

#[test]
fn complete_mirror_saves_the_registry_every_pull() {
    let scene = Scene::mirrored(1);
    let log = scene.expect_all(scene.once());
    assert_eq!(scene.read_at_origin(), (0, 0), "{:?}", scene.origin.log().counts());
    // The images are three indexes with two children each.
    assert_eq!(scene.mirrors[0].log().pulls(), 9);
    let place = format!("mirror={}/hub/app", scene.mirrors[0].host());
    assert!(log.contains("a mirror had the manifest") && log.contains(&place), "{log}");
    let evidence = scene.site.evidence(&[]);
    assert_eq!(evidence[0]["source"], format!("{}/app", scene.origin.host()), "evidence has the source of the entry");
    scene.mirrors[0].log().clear();
    assert!(scene.once().expect_success().stdout.contains("nothing changed"));
    assert_eq!(scene.mirrors[0].log().requests().len(), 0, "an unchanged tag is resolved at the registry");
}

#[test]
fn missing_content_comes_from_next_mirrors_then_the_registry() {
    let scene = Scene::new(3);
    // The first mirror is empty. The second has one image, and the third has another one.
    scene.images[1].put(&scene.mirrors[1], "hub/app", None);
    scene.images[2].put(&scene.mirrors[2], "hub/app", None);
    let log = scene.expect_all(scene.once());
    assert_eq!(scene.read_at_origin().0, 3, "one index with two children");
    let pulls: Vec<usize> = scene.mirrors.iter().map(|mirror| mirror.log().pulls()).collect();
    assert_eq!(pulls, [0, 3, 3]);
    assert_eq!(scene.mirrors[0].log().count("manifest GET"), 9, "404 is no reason not to ask again");
    assert!(!log.contains(" WARN "), "{log}");
}

#[test]
fn wrong_bytes_of_a_mirror_are_discarded_and_not_rerequested() {
    let scene = Scene::mirrored(2);
    let (layer, _) = layer_of(&scene.images[0]);
    scene.mirrors.iter().for_each(|mirror| mirror.set(Fault::BlobBytesWrong(layer)));
    let log = scene.expect_all(scene.once());
    for mirror in &scene.mirrors {
        assert_eq!(blob_reads(mirror, &layer), 1);
    }
    assert_eq!(blob_reads(&scene.origin, &layer), 1);
    assert_eq!(scene.read_at_origin(), (0, 1));
    assert_eq!(
        log.matches("a mirror sent wrong bytes; this content is not requested from the mirror again").count(),
        2,
        "{log}"
    );
    assert!(!log.contains("is not used for a while"), "{log}");
}

#[test]
fn mirror_failing_within_a_blob_is_replaced_at_that_byte() {
    let scene = Scene::new(2);
    let image = images::image(Family::Oci, images::linux("amd64"), &[images::layer(Family::Oci, 7, 3_000_000)]);
    image.put(&scene.origin, "app", Some("large"));
    scene.mirrors.iter().for_each(|mirror| image.put(mirror, "hub/app", None));
    let (layer, length) = layer_of(&image);
    scene.mirrors[0].set(Fault::BlobGetBreaks { after: 1_000_000, times: 1 });
    scene.mirrors[1].set(Fault::BlobGetBreaks { after: 1_000_000, times: 1 });
    scene.expect_all(scene.once());
    assert_eq!(scene.target.store().tag("app", "large"), Some(image.digest()));
    let ranges = |server: &Server| -> Vec<Option<String>> {
        let requested = server
            .log()
            .requests_of("blob GET")
            .into_iter()
            .filter(|request| request.path.ends_with(&layer.to_string()));
        requested.map(|request| request.headers.get("range").cloned()).collect()
    };
    assert_eq!(ranges(&scene.mirrors[0]), [None]);
    let begin = |range: &Option<String>| -> usize {
        range.as_ref().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
    };
    let (second, last) = (ranges(&scene.mirrors[1]), ranges(&scene.origin));
    assert_eq!((second.len(), last.len()), (1, 1), "{second:?} {last:?}");
    let (second, last) = (begin(&second[0]), begin(&last[0]));
    assert!(0 < second && second <= 1_000_000 && second < last && last < length, "{second} {last}");
    let sent: u64 = scene.target.log().requests_of("upload PUT").iter().map(|request| request.received).max().unwrap();
    assert_eq!(sent, length as u64, "in one piece");
}

#[test]
fn unreachable_mirror_is_backed_off_and_everything_arrives() {
    let scene = Scene::mirrored(1);
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().to_string();
    let hosts = [closed.as_str(), scene.mirrors[0].host()];
    let log = scene.expect_all(scene.once_with(&hosts, ""));
    assert_eq!(scene.read_at_origin(), (0, 0));
    let failed = log.lines().find(|line| line.contains("a mirror failed: it is not used for a while"));
    assert!(failed.is_some_and(|line| line.contains(&format!(" mirror={closed}/hub rest=30s"))), "{log}");
}

#[test]
fn silent_mirror_costs_one_timeout_in_all() {
    let scene = Scene::new(0);
    // The mirror accepts connections and never responds.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let log = scene.expect_all(scene.once_with(&[&host], ", timeouts: {header: 1s}"));
    assert!(log.contains("no complete answer within 1s"), "{log}");
    assert_eq!(log.matches("is not used for a while").count(), 1, "{log}");
}

#[test]
fn throttling_mirror_is_backed_off_without_waiting() {
    let scene = Scene::mirrored(1);
    scene.mirrors[0].set(Fault::TooManyRequests { next: usize::MAX, retry_after: Some(3000) });
    let log = scene.expect_all(scene.once());
    assert_eq!(scene.read_at_origin().0, 9);
    assert!(log.contains("rest=50m"), "{log}");
}

#[test]
fn tag_is_resolved_at_the_registry_despite_stale_mirrors() {
    let scene = Scene::mirrored(1);
    let old = images::small(Family::Oci, 99);
    for tag in ["v1", "v2", "v3", "v4"] {
        old.put(&scene.mirrors[0], "hub/app", Some(tag));
    }
    scene.expect_all(scene.once());
    assert_eq!(scene.target.store().tag("app", "v4"), None);
    let new = images::small(Family::Oci, 100);
    new.put(&scene.origin, "app", Some("v1"));
    scene.once().expect_success();
    assert_eq!(scene.target.store().tag("app", "v1"), Some(new.digest()), "which the mirror does not have yet");
    for kind in ["tags GET", "manifest HEAD", "referrers GET"] {
        assert_eq!(scene.mirrors[0].log().count(kind), 0, "{kind}");
    }
}

#[test]
fn several_targets_get_right_bytes_despite_a_corrupt_mirror() {
    let scene = Scene::mirrored(1);
    let (origin, mirror) = (scene.origin.host(), scene.mirrors[0].host());
    let second = Server::start();
    let (layer, _) = layer_of(&scene.images[0]);
    scene.mirrors[0].set(Fault::BlobBytesWrong(layer));
    let of = |host: &str| format!("\"{host}\": {{plain_http: true}}");
    let registries = format!(
        "\"{origin}\": {{plain_http: true, mirrors: [\"{mirror}/hub\"]}}, {}, {}, {}",
        of(mirror),
        of(scene.target.host()),
        of(second.host())
    );
    let targets = format!("[{}/app, {}/app]", scene.target.host(), second.host());
    scene.site.configure_fully(
        "status: off",
        &registries,
        &format!("- {{name: app, source: {origin}/app, targets: {targets}}}"),
    );
    scene.expect_all(scene.site.run(&["once"]));
    for (at, image) in scene.images.iter().enumerate() {
        assert_eq!(second.store().tag("app", &format!("v{}", at + 1)), Some(image.digest()));
    }
    assert_eq!(blob_reads(&scene.mirrors[0], &layer), 1);
}

#[test]
fn mirror_is_accessed_with_credentials_of_its_own_host() {
    let scene = Scene::new(0);
    let guarded = Server::with(Setup { auth: Auth::Basic("reader".into(), "c4nary".into()), ..Setup::default() });
    scene.images.iter().for_each(|image| image.put(&guarded, "hub/app", None));
    let log = scene.expect_all(scene.once_with(&[guarded.host()], ""));
    let failed = log.lines().find(|line| line.contains("a mirror failed: it is not used for a while"));
    let message = format!(" mirror={}/hub/app ", guarded.host());
    assert!(failed.is_some_and(|line| line.contains(&message)) && log.contains(NO_CREDENTIALS), "{log}");
    assert_eq!(scene.read_at_origin().0, 9);
    let scene = Scene::new(0);
    let known = ", credentials: {username: reader, password: c4nary}";
    let log = scene.expect_all(scene.once_with(&[guarded.host()], known));
    assert_eq!(scene.read_at_origin(), (0, 0));
    assert!(!log.contains("c4nary"), "{log}");
}

#[test]
fn mirrors_of_targets_and_of_mirrors_are_not_used() {
    let scene = Scene::mirrored(2);
    let [first, second] = [&scene.mirrors[0], &scene.mirrors[1]];
    let (origin, target) = (scene.origin.host(), scene.target.host());
    let of = |host: &str, mirrors: &str| format!("\"{host}\": {{plain_http: true{mirrors}}}");
    let by = |mirror: &Server| format!(", mirrors: \"{}/hub\"", mirror.host());
    let registries =
        [of(origin, &by(first)), of(first.host(), &by(second)), of(second.host(), ""), of(target, &by(second))];
    let entry = format!("- {{name: app, source: {origin}/app, target: {target}/app}}");
    scene.site.configure_fully("status: off", &registries.join(", "), &entry);
    // The first mirror lacks this blob, so the program requests it elsewhere.
    first.set(Fault::BlobCollected(layer_of(&scene.images[0]).0));
    scene.expect_all(scene.site.run(&["once"]));
    assert_eq!(second.log().requests().len(), 0);
}
