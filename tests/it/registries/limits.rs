//! Tests of limits by the log of the registry: request rates, fairness between entries, and `Retry-After`. No test
//! depends on the speed of the machine, because a slow machine only delays requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use transship::config::{Config, Endpoint};
use transship::oci::{ManifestRef, RegistryHost};
use transship::registry::{Bandwidth, LimitSetting, Limits, Options, Rate, Registry};
use transship::store::{Source as _, Target};
use transship::sync::{AccessContext, Endpoints};

use crate::support::images::{self, Family, blob_descriptor, noise, push_blob};
use crate::support::programs::DEADLINE;
use crate::support::registry::{Auth, Fault, Request, Server, Setup};
use crate::support::site::Site;

const SECOND: Duration = Duration::from_secs(1);

fn a_second(count: u32) -> LimitSetting<Rate> {
    LimitSetting::Set(Rate { count, per: SECOND })
}

fn options(limits: Limits) -> Options {
    Options { plain_http: true, limits, ..Options::default() }
}

fn is_write(request: &Request) -> bool {
    ["POST", "PUT", "PATCH"].iter().any(|method| request.kind.ends_with(method))
}

/// Asserts that each request arrived no earlier than the rate allows, counted from the first request.
#[track_caller]
fn expect_rate_kept(rate: u32, requests: &[&Request]) {
    let (at_once, steady) = (f64::from((rate / 10).max(1)), f64::from(rate - (rate / 10).max(1) + 1));
    let first = requests[0].began;
    for (before, request) in requests.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred requests")]
        let soonest = Duration::from_secs_f64(((before as f64 + 1.0 - at_once) / steady).max(0.0));
        // The first request may have been delayed.
        let came = request.began - first + Duration::from_millis(300);
        assert!(came >= soonest, "{before} requests before one at {came:?}, which is for {soonest:?}");
    }
}

#[tokio::test]
async fn writes_stay_within_their_bucket_while_reads_continue() {
    let server = Server::start();
    images::small(Family::Oci, 1).put(&server, "app", Some("v1"));
    let limits = Limits { writes: a_second(20), ..Limits::default() };
    let registry = Registry::new(server.host().parse().unwrap(), options(limits)).unwrap();
    let repository = registry.repository("app".parse().unwrap());
    let blobs: Vec<_> = (0..50).map(|seed| blob_descriptor(&noise(seed, 100))).collect();
    let tag = ManifestRef::Tag("v1".parse().unwrap());
    let writes = try_join_all(blobs.iter().map(|blob| repository.begin_upload(blob, None)));
    let reads = try_join_all((0..50).map(|_| repository.resolve(&tag)));
    let (writes, reads) = futures_util::join!(writes, reads);
    assert_eq!((writes.unwrap().len(), reads.unwrap().len()), (50, 50));

    let requests = server.log().requests();
    let writes: Vec<&Request> = requests.iter().filter(|request| is_write(request)).collect();
    assert_eq!((writes.len(), requests.len()), (50, 100));
    expect_rate_kept(20, &writes);
    // More writes wait than there are permits. Waiting writes occupy no permit.
    let last_read = requests.iter().rposition(|request| !is_write(request)).unwrap();
    let writes_before = requests[..last_read].iter().filter(|request| is_write(request)).count();
    assert!(writes_before < 25, "{writes_before} writes went before the last read");
}

#[tokio::test]
async fn referrers_lists_and_deletions_have_their_own_buckets() {
    let server = Server::start();
    let image = images::small(Family::Oci, 1);
    image.put(&server, "app", Some("v1"));
    let hourly = LimitSetting::Set(Rate { count: 1, per: 3600 * SECOND });
    let limits = Limits { referrer_lists: hourly, deletes: hourly, ..Limits::default() };
    let registry = Registry::new(server.host().parse().unwrap(), options(limits)).unwrap();
    let repository = registry.repository("app".parse().unwrap());
    let tag = ManifestRef::Tag("v1".parse().unwrap());
    let subject = image.digest();
    let list = || repository.referrers(&subject, transship::store::Listed::Possible);
    list().await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), list()).await.is_err(),
        "the bucket allows one list per hour"
    );
    for _ in 0..20 {
        repository.resolve(&tag).await.unwrap();
    }
    repository.delete(&tag).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), repository.delete(&tag)).await.is_err());
    assert_eq!((server.log().count("referrers GET"), server.log().count("manifest DELETE")), (1, 1));
}

/// Runs two entries into one registry with these limits: one entry has many tags and the other has two. Returns the
/// positions of the last write of the small and of the big entry in the order of all writes.
fn last_writes(limits: &str, delay: Duration) -> (usize, usize) {
    let (source, target) = (Server::start(), Server::start());
    for seed in 0..40 {
        images::small(Family::Oci, 100 + seed).put(&source, "big", Some(&format!("v{seed}")));
    }
    for seed in 0..2 {
        images::small(Family::Oci, 500 + seed).put(&source, "small", Some(&format!("v{seed}")));
    }
    target.set(Fault::Delay(delay));
    let (from, to) = (source.host(), target.host());
    let site = Site::new();
    let registries = format!("\"{from}\": {{plain_http: true}}, \"{to}\": {{plain_http: true, limits: {{{limits}}}}}");
    let entry = |name: &str| format!("- {{name: {name}, source: \"{from}/{name}\", target: \"{to}/{name}\"}}");
    site.configure_fully("status: off", &registries, &format!("{}\n{}", entry("big"), entry("small")));
    site.once();
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    let requests = target.log().requests();
    for (at, request) in requests.iter().filter(|request| is_write(request)).enumerate() {
        last.insert(if request.path.contains("/small/") { "small" } else { "big" }, at);
    }
    (last["small"], last["big"])
}

#[test]
fn entry_with_many_tags_does_not_delay_a_small_one() {
    // First the rate limits the writes, with more permits than each entry needs. Then the permits limit the writes.
    for (limits, delay) in [("writes: 100/s, concurrent: 1000", 0), ("concurrent: 2", 5)] {
        let (small, big) = last_writes(limits, Duration::from_millis(delay));
        assert!(small * 2 < big, "{limits}: the small one ended at {small} of {big}");
    }
}

#[test]
fn no_request_is_sent_before_retry_after_elapses() {
    const WAIT: Duration = Duration::from_secs(3);
    for concurrent in [1, 8] {
        let user = ("me".to_owned(), "secret".to_owned());
        let auth = Auth::Bearer { user, anonymous_pull: false, lifetime: SECOND };
        let (source, target) = (Server::start(), Server::with(Setup { auth, ..Setup::default() }));
        for seed in 0..50 {
            images::small(Family::Oci, seed).put(&source, "app", Some(&format!("v{seed}")));
        }
        // The delay is so long that the run would continue during that time.
        target.set(Fault::Delay(Duration::from_millis(15 * concurrent)));
        let (from, to) = (source.host(), target.host());
        let site = Site::new();
        let registries = format!(
            "\"{from}\": {{plain_http: true}}, \"{to}\": {{plain_http: true, limits: {{concurrent: {concurrent}}}, \
             credentials: {{username: me, password: secret}}}}"
        );
        let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"}}");
        site.configure_fully("status: off", &registries, &entry);
        let (running, began) = (site.start(&["once"]), Instant::now());
        while target.log().requests().len() < 15 {
            assert!(began.elapsed() < DEADLINE, "no fifteen requests: {:?}", target.log().counts());
            std::thread::sleep(Duration::from_millis(2));
        }
        target.set(Fault::TooManyRequests { next: 1, retry_after: Some(WAIT.as_secs()) });
        running.wait(DEADLINE).expect_success();

        let requests = target.log().requests();
        let refused: Vec<&Request> = requests.iter().filter(|request| request.status == 429).collect();
        assert!(requests.len() > 250, "{}", requests.len());
        assert_eq!(refused.len(), 1, "{:?}", target.log().counts());
        // Requests in flight may still arrive, and a busy machine may receive them late.
        let quiet = refused[0].began..refused[0].began + WAIT;
        let is_early = |request: &&Request| request.status != 429 && quiet.contains(&request.began);
        let early: Vec<&Request> = requests.iter().filter(is_early).collect();
        assert!(early.len() < usize::try_from(concurrent).unwrap(), "concurrent {concurrent}: {early:#?}");
        assert!(requests.iter().any(|request| request.began >= quiet.end), "the run continued");
        assert_eq!(target.store().tags("app"), source.store().tags("app"));
    }
}

#[test]
fn daemon_bandwidth_limits_all_registries_together() {
    let (source, target) = (Server::start(), Server::start());
    let layer = images::layer(Family::Oci, 1, 512 * 1024);
    images::image(Family::Oci, images::linux("amd64"), &[layer]).put(&source, "app", Some("v1"));
    let (from, to) = (source.host(), target.host());
    let site = Site::new();
    let registries = [from, to].map(|host| format!("\"{host}\": {{plain_http: true}}")).join(", ");
    let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"}}");
    // One of the two windows applies at any time of day.
    let windows = "bandwidth: [{rate: 512KiB/s, between: \"06:00-18:00\"}, {rate: 512KiB/s, between: \"18:00-06:00\"}]";
    site.configure_fully(&format!("status: off, {windows}"), &registries, &entry);
    let began = Instant::now();
    site.once();
    // The run reads and writes half a mebibyte each. A part of these bytes is transferred at once.
    assert!(began.elapsed() >= Duration::from_millis(1850), "{:?}", began.elapsed());
    assert_eq!(target.store().tags("app"), source.store().tags("app"));
}

fn endpoints(server: &Server, limits: Limits) -> (Endpoints, RegistryHost) {
    let host: RegistryHost = server.host().parse().unwrap();
    (Endpoints::new([(host.clone(), options(limits))].into(), Options::default()), host)
}

fn target(endpoints: &Endpoints, host: &RegistryHost) -> Arc<dyn Target> {
    let endpoint: Endpoint = format!("{host}/app").parse().unwrap();
    endpoints.target(&endpoint, AccessContext::default()).unwrap()
}

/// Returns a configuration of one registry with these limits.
fn config(host: &RegistryHost, limits: &str) -> Config {
    let registries = format!("{{\"{host}\": {{plain_http: true, limits: {limits}}}}}");
    let text = format!("{{version: 1, daemon: {{journal: x}}, registries: {registries}, sync: []}}");
    transship::config::parse("sync.yaml", &text, &|_| None).unwrap()
}

#[tokio::test]
async fn changed_rate_limits_apply_to_transfers_in_flight() {
    let server = Server::start();
    let (endpoints, host) = endpoints(
        &server,
        Limits { writes: LimitSetting::Set(Rate { count: 1, per: 3600 * SECOND }), ..Limits::default() },
    );
    let running = target(&endpoints, &host);
    let blobs: Vec<_> = (0..5).map(|seed| blob_descriptor(&noise(seed, 100))).collect();
    let writes =
        tokio::spawn(async move { try_join_all(blobs.iter().map(|blob| running.begin_upload(blob, None))).await });
    while server.log().count("upload POST") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!writes.is_finished());
    let after = endpoints.reconfigured(&config(&host, "{writes: 1000/s}"), std::slice::from_ref(&host));
    let writes = tokio::time::timeout(DEADLINE, writes).await.expect("the writes continue");
    assert_eq!(writes.unwrap().unwrap().len(), 5);
    let client = |endpoints: &Endpoints| endpoints.registry(&host, None).unwrap();
    assert!(Arc::ptr_eq(&client(&endpoints), &client(&after)), "the client is kept");
}

#[tokio::test]
async fn changed_bandwidth_applies_to_transfers_in_flight() {
    let server = Server::start();
    let (endpoints, host) = endpoints(&server, Limits::default());
    let endpoints = endpoints.within(Some(Bandwidth::always(1024)));
    let running = target(&endpoints, &host);
    let push = tokio::spawn(async move { push_blob(running.as_ref(), noise(1, 1 << 20), None).await });
    while server.log().count("upload PUT") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!push.is_finished());
    let _after = endpoints.reconfigured(&config(&host, "{}"), &[]).within(None);
    let push = tokio::time::timeout(DEADLINE, push).await.expect("the push continues");
    assert!(push.unwrap().unwrap());
}

#[test]
fn limits_are_shown_without_any_request() {
    let site = Site::new();
    let registries = "a.example: {limits: {profile: acr-basic, writes: 50/min}}";
    site.configure_fully("status: off", registries, "- {name: app, source: ghcr.io/a/b, target: a.example/b}");
    let shown = site.run(&["limits", "a.example"]).expect_success().stdout;
    let expected = "\
REGISTRY\tLIMIT\tFIGURE\tFROM
a.example\tprofile\tacr-basic\tset
a.example\treads\t5000/min\tprofile
a.example\twrites\t50/min\tset
a.example\tdeletes\t500/min\tprofile
a.example\treferrer_lists\t250/min\tprofile
";
    assert_eq!(shown, expected);
}
