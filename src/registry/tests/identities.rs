//! Several identities at one registry: what they share, and what each has alone.

use super::scripted::{Server, answer, me};
use crate::oci::ManifestRef;
use crate::registry::client::ReferrersApi;
use crate::registry::{Credentials, Kind, Options, Registry, Secret};
use crate::store::Source as _;

fn another() -> Option<Credentials> {
    Some(Credentials::Password { username: "you".into(), password: Secret::Value("swordfish".to_owned().into()) })
}

fn latest() -> ManifestRef {
    ManifestRef::Tag("latest".parse().unwrap())
}

#[tokio::test]
async fn another_identity_shows_its_own_login_within_the_limits_of_all() {
    let server = Server::start(|asked| match asked.header("authorization") {
        Some(_) => answer(404, &[], ""),
        None => answer(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
    })
    .await;
    let me = server.registry_as(me());
    let you = me.as_other(another()).unwrap();
    for registry in [&me, &you] {
        registry.repository("a/b".parse().unwrap()).resolve(&latest()).await.unwrap();
    }
    let shown: Vec<Option<String>> =
        server.asked().iter().map(|asked| asked.header("authorization").map(str::to_owned)).collect();
    let basic = |login: &str| Some(format!("Basic {login}"));
    assert_eq!(shown, [None, basic("bWU6aHVudGVyMg=="), None, basic("eW91OnN3b3JkZmlzaA==")]);
    let identity = |registry: &std::sync::Arc<Registry>| registry.repository("a/b".parse().unwrap()).identity();
    assert_eq!((identity(&me), identity(&you)), ("me".to_owned(), "you".to_owned()));
    assert_eq!(me.meter(), you.meter());
    assert_eq!(me.meter().requests.iter().map(|count| count.count).sum::<u64>(), 4);
    assert!(std::ptr::eq(&me.gate, &you.gate) && std::ptr::eq(&me.pace, &you.pace));
    let shown = format!("{me:?} {you:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("swordfish"), "{shown}");
}

#[tokio::test]
async fn what_the_registry_is_all_identities_learn_and_what_one_may_not_do_it_alone() {
    let options = Options { kind: Some(Kind::Acr), ..me() };
    let me = Registry::new("a.example".parse().unwrap(), options).unwrap();
    let you = me.as_other(another()).unwrap();
    me.learn_referrers_api(ReferrersApi::Absent);
    me.learn_own_listing_is_refused();
    assert_eq!(you.referrers_api(), ReferrersApi::Absent);
    assert!(!me.has_own_listing() && you.has_own_listing());
}
