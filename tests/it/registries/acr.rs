//! Test of a registry with all peculiarities of Azure's at once: a managed identity, short-lived tokens, chunked
//! uploads, and rate limits by buckets.

use std::time::{Duration, Instant};

use crate::support::canary;
use crate::support::cloud::azure::{Azure, Lifetimes};
use crate::support::images::{self, Family, linux};
use crate::support::programs::DEADLINE;
use crate::support::registry::{Auth, Buckets, Fault, Request, Server, Setup};
use crate::support::site::Site;

/// Maximum size of an upload in one body, in bytes.
const BODY_LIMIT: usize = 20 * 1000 * 1000;

/// `Retry-After` of the one 429 response in the middle of the run.
const WAIT: Duration = Duration::from_secs(4);

/// Starts a registry of the Basic tier. Other clients with the same identity use most of its 1,000 writes per minute:
/// 100 per minute remain, and 12 at the start.
fn registry(azure: &Azure) -> Server {
    let buckets = Buckets { reads: 5000.0, writes: 100.0, writes_left: 12.0 };
    let auth = Auth::Cloud(azure.registry.clone());
    let registry = Server::with(Setup { auth, buckets: Some(buckets), ..Setup::default() });
    for fact in [Fault::UploadBodyLimit(BODY_LIMIT), Fault::UploadNeedsLength, Fault::AcrTagList] {
        registry.set(fact);
    }
    registry
}

#[test]
fn azure_basic_tier_receives_64_megabytes_within_its_limits() {
    let azure = Azure::start(Lifetimes { refresh: 10, access: 10, revoke_at: None });
    let (source, target) = (Server::start(), registry(&azure));
    let image = images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, 1, 64 * 1000 * 1000)]);
    image.put(&source, "app", Some("v1"));
    let site = Site::new();
    let (from, to) = (source.host(), target.host());
    let registries = format!(
        "\"{from}\": {{plain_http: true}}, \"{to}\": {{plain_http: true, kind: acr, limits: {{profile: acr-basic, \
            writes: 100/min}}, \
         credentials: {{azure: {{imds: \"{}\"}}}}}}",
        azure.services.url("/imds")
    );
    let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"}}");
    site.configure_fully("status: off", &registries, &entry);
    let (running, began) = (site.start(&["once"]), Instant::now());
    while target.log().count("upload PATCH") < 6 {
        assert!(began.elapsed() < DEADLINE, "no six chunks: {:?}", target.log().counts());
        std::thread::sleep(Duration::from_millis(5));
    }
    target.set(Fault::TooManyRequests { next: 1, retry_after: Some(WAIT.as_secs()) });
    let output = running.wait(DEADLINE).expect_success();

    assert_eq!(target.store().tag("app", "v1"), Some(image.digest()));
    let requests = target.log().requests();
    let of = |status: u16| requests.iter().filter(|request| request.status == status).collect::<Vec<&Request>>();
    let chunks = of(202).iter().filter(|request| request.kind == "upload PATCH").count();
    assert_eq!((of(413).len(), of(411).len(), chunks), (0, 0, 16), "{:?}", target.log().counts());
    let refused = of(429);
    assert_eq!(refused.len(), 1, "only the refusal that the test caused: {:?}", target.log().counts());
    // Requests for the other blob and a token may be in flight, and a busy machine may receive them late. The rate
    // limit alone would allow six requests in this time.
    let quiet = refused[0].began..refused[0].began + WAIT;
    let is_early = |request: &&Request| request.status != 429 && quiet.contains(&request.began);
    let early: Vec<&Request> = requests.iter().filter(is_early).collect();
    assert!(early.len() < 3, "after {:#?}: {early:#?}", refused[0]);
    // The run took more than ten seconds, so tokens were renewed, each before its expiry.
    assert!(azure.registry.exchanged() > 1 && azure.registry.access_tokens() > 2, "{}", azure.registry.exchanged());
    assert_eq!(azure.registry.refusals(), [""; 0]);
    let given = azure.given.secrets();
    let secrets: Vec<(&str, &str)> = given.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let journal = canary::journal(&site);
    canary::assert_absent(&secrets, &[("the log", output.stderr.as_bytes()), ("the journal", &journal)]);
}
