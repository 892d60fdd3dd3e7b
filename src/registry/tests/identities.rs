//! Tests of several identities at one registry: shared state, and state of each identity.

use std::sync::Arc;

use super::scripted::{Server, answer, me, plain};
use crate::oci::ManifestRef;
use crate::registry::learned::referrers_api::ReferrersApi;
use crate::registry::{Credentials, Flavor, Gcp, Options, Registry, Secret, Tls, Transport};
use crate::store::Source as _;

fn other_login() -> Option<Credentials> {
    Some(Credentials::Password { username: "you".into(), password: Secret::Value("swordfish".to_owned().into()) })
}

fn latest() -> ManifestRef {
    ManifestRef::Tag("latest".parse().unwrap())
}

#[tokio::test]
async fn identities_use_own_logins_and_share_limits() {
    let server = Server::start(|request| match request.header("authorization") {
        Some(_) => answer(404, &[], ""),
        None => answer(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
    })
    .await;
    let me = server.registry_as(me());
    let you = me.with_identity(other_login()).unwrap();
    for registry in [&me, &you] {
        registry.repository("a/b".parse().unwrap()).resolve(&latest()).await.unwrap();
    }
    let shown: Vec<Option<String>> =
        server.requests().iter().map(|request| request.header("authorization").map(str::to_owned)).collect();
    let basic = |login: &str| Some(format!("Basic {login}"));
    assert_eq!(shown, [None, basic("bWU6aHVudGVyMg=="), None, basic("eW91OnN3b3JkZmlzaA==")]);
    let identity = |registry: &std::sync::Arc<Registry>| registry.repository("a/b".parse().unwrap()).identity();
    assert_eq!((identity(&me), identity(&you)), ("me".to_owned(), "you".to_owned()));
    assert_eq!(me.meter(), you.meter());
    assert_eq!(me.meter().requests.iter().map(|count| count.count).sum::<u64>(), 4);
    assert!(Arc::ptr_eq(me.sender(), you.sender()));
    let shown = format!("{me:?} {you:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("swordfish"), "{shown}");
}

#[tokio::test]
async fn registry_facts_are_shared_and_refusals_are_per_identity() {
    let options = Options { flavor: Some(Flavor::ACR), ..me() };
    let me = Registry::new("a.example".parse().unwrap(), options).unwrap();
    let you = me.with_identity(other_login()).unwrap();
    me.facts().referrers.learn_api(ReferrersApi::Absent);
    me.learn_own_listing_is_refused();
    assert_eq!(you.facts().referrers.api(), ReferrersApi::Absent);
    assert!(!me.has_own_listing() && you.has_own_listing());
}

#[test]
fn cloud_identity_is_withheld_without_verified_tls() {
    let gcp = Credentials::Gcp(Gcp { key: None, metadata: "http://127.0.0.1:1".parse().unwrap() });
    let unverified = Transport { tls: Tls { insecure_skip_verify: true, ..Tls::default() }, ..Transport::default() };
    let refusal = |host: &str, options: Options| {
        let own = Registry::new(host.parse().unwrap(), Options { credentials: Some(gcp.clone()), ..options.clone() });
        let other = Registry::new(host.parse().unwrap(), options).unwrap().with_identity(Some(gcp.clone()));
        let [own, other] = [own, other].map(|made| made.err().map(|error| error.to_string()));
        assert_eq!(own, other);
        own
    };
    let over_plain_http = "a cloud identity is not sent to a.example over plain HTTP: remove `plain_http`";
    assert_eq!(refusal("a.example", plain()).as_deref(), Some(over_plain_http));
    let without_verification = "a cloud identity is not sent to a.example while its certificate is not verified: \
                  remove `insecure_skip_verify`, and set `tls.ca` to the file of its authority";
    let unverified = Options { transport: unverified, ..Options::default() };
    assert_eq!(refusal("a.example", unverified.clone()).as_deref(), Some(without_verification));
    assert_eq!(refusal("a.example", Options::default()), None);
    assert_eq!((refusal("127.0.0.1:5000", plain()), refusal("localhost:5000", unverified)), (None, None));
}
