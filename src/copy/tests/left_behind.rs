//! Tests of referrers and signatures that cannot be copied. The copy reports each item by name and still copies the
//! image.

use super::content::{artifact, image, index, refer, refer_by_index};
use super::memory::{Behaviour, Fault, Op};
use super::*;
use crate::oci::{Digest, MediaType, referrers_tag, signature_tags};
use crate::store::{ErrorKind, Side, Step};

fn put_referrer(at: &Repository, subject: &Manifest, what: &str) -> Manifest {
    let artifact = refer(&at.put_blob(format!("{{\"what\":\"{what}\"}}")), &[], Some(subject));
    at.put_manifest(&artifact, None);
    artifact
}

/// Returns the items that were not copied, each as `NAME: REASON`.
fn left(arrival: &Arrival) -> Vec<String> {
    arrival.left_behind.iter().map(|left| format!("{}: {}", left.what, left.reason)).collect()
}

#[tokio::test(start_paused = true)]
async fn signature_with_failed_lookup_is_left_behind() {
    let Pair { source, from, to, .. } = pair();
    let one = put_image(&from, 1);
    let [tag, ..] = signature_tags(&one.manifest.digest());
    source.always_at(Op::Resolve, &tag, Fault::Fail(ErrorKind::Denied));
    let arrival = copy(&with_referrers(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert_eq!(to.tag("v1"), Some(one.manifest.digest()));
    assert_eq!(left(&arrival), [format!("signature {tag}: source src/app: resolving {tag}: made to fail")]);
}

#[tokio::test(start_paused = true)]
async fn lookup_blocked_by_quota_defers_image_too() {
    let Pair { source, from, to, .. } = pair();
    let one = put_image(&from, 1);
    source.always(Op::Referrers, Fault::Fail(ErrorKind::QuotaSpent(Duration::from_secs(60))));
    let error = copy(&with_referrers(&from, &[&to]), "v1", &one.manifest).await.unwrap_err();
    assert_eq!((error.deferral(), to.tag("v1")), (Some(Duration::from_secs(60)), None));
}

#[tokio::test(start_paused = true)]
async fn unreadable_referrer_is_left_behind_and_siblings_arrive() {
    let (source, target) =
        (Registry::new("src"), Registry::with("dst", Behaviour { lists_referrers: false, ..Behaviour::default() }));
    let (from, to) = (source.repository("app"), target.repository("app"));
    let one = put_image(&from, 1);
    let honest = put_referrer(&from, &one.manifest, "sbom");
    let bytes = b"{\"layers\": 7}".as_slice();
    let broken = Manifest::new(MediaType::new(MediaType::OCI_MANIFEST), bytes.into());
    let unheard_of = Manifest::new(MediaType::new("application/vnd.example.v9+json"), b"{\"x\":1}".as_slice().into());
    from.put_manifest(&broken, None);
    from.put_manifest(&unheard_of, None);
    source.claim_referrers(one.manifest.digest(), &[&honest, &broken, &unheard_of]);
    let arrival = copy(&with_referrers(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert!(to.stored(honest.digest()).is_some());
    let left = left(&arrival);
    assert_eq!(left.len(), 2, "{left:?}");
    for digest in [broken.digest(), unheard_of.digest()] {
        let name = format!("referrer {digest} of {}: ", one.manifest.digest());
        assert!(left.iter().any(|left| left.starts_with(&name)), "{name} is not in {left:?}");
    }
    let list = to.stored(to.tag(referrers_tag(&one.manifest.digest()).as_str()).unwrap()).unwrap();
    let listed: Vec<Digest> = list.view().unwrap().manifests().iter().map(|one| one.digest).collect();
    assert_eq!(listed, [honest.digest()], "the list contains only referrers that exist");
}

#[tokio::test(start_paused = true)]
async fn referrer_refused_by_target_is_left_behind() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    let (refused, other) = (put_referrer(&from, &one.manifest, "a"), put_referrer(&from, &one.manifest, "b"));
    let of_refused = put_referrer(&from, &refused, "signature");
    target.always_at(Op::Push, refused.digest(), Fault::Fail(ErrorKind::Refused));
    let arrival = copy(&with_referrers(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert_eq!(to.tag("v1"), Some(one.manifest.digest()));
    assert!(to.stored(other.digest()).is_some() && to.stored(refused.digest()).is_none());
    assert!(to.stored(of_refused.digest()).is_some());
    let expected = format!(
        "referrer {} of {}: target dst/app: writing manifest {}: made to fail",
        refused.digest(),
        one.manifest.digest(),
        refused.digest()
    );
    assert_eq!(left(&arrival), [expected]);
}

#[tokio::test(start_paused = true)]
async fn referrer_without_its_blob_or_child_is_left_behind() {
    let Pair { from, to, .. } = pair();
    let one = put_image(&from, 1);
    let blob = from.put_blob("{\"gone\":1}");
    let without_blob = refer(&blob, &[], Some(&one.manifest));
    from.put_manifest(&without_blob, None);
    from.lose(blob.digest);
    let child = image(&from.put_blob("{}"), &[]);
    let without_child = refer_by_index(&[&child.descriptor()], Some(&one.manifest));
    from.put_manifest(&without_child, None);
    let arrival = copy(&with_referrers(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert_eq!(to.tag("v1"), Some(one.manifest.digest()));
    let names: Vec<String> = arrival.left_behind.iter().map(|left| left.what.clone()).collect();
    let name = |of: &Manifest| format!("referrer {} of {}", of.digest(), one.manifest.digest());
    let mut expected = [name(&without_blob), name(&without_child)];
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(arrival.manifests, 2, "unreadable items are not part of the closure");
}

#[tokio::test(start_paused = true)]
async fn manifest_reached_by_root_and_referrer_is_required() {
    let Pair { from, to, .. } = pair();
    let child = image(&from.put_blob("{}"), &[]);
    let whole = index(&[&put_image(&from, 1).manifest.descriptor(), &child.descriptor()]);
    from.put_manifest(&whole, None);
    let around = refer_by_index(&[&child.descriptor()], Some(&whole));
    from.put_manifest(&around, None);
    let error = copy(&with_referrers(&from, &[&to]), "v1", &whole).await.unwrap_err();
    assert_eq!((error.side(), error.step()), (Some(Side::Source), Some(Step::ReadManifest)));
    assert_eq!(to.tag("v1"), None);
}

#[tokio::test(start_paused = true)]
async fn referrers_with_unwritable_list_are_left_behind_by_name() {
    let (source, target) =
        (Registry::new("src"), Registry::with("dst", Behaviour { lists_referrers: false, ..Behaviour::default() }));
    let (from, to) = (source.repository("app"), target.repository("app"));
    let one = put_image(&from, 1);
    let sbom = put_referrer(&from, &one.manifest, "sbom");
    target.always(Op::Link, Fault::Fail(ErrorKind::Denied));
    let arrival = copy(&with_referrers(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert_eq!(to.tag("v1"), Some(one.manifest.digest()));
    let expected = format!(
        "referrer {} of {subject}: the referrer is at the target but is not listed: \
         target dst/app: writing the referrers list of {subject}: made to fail",
        sbom.digest(),
        subject = one.manifest.digest()
    );
    assert_eq!(left(&arrival), [expected]);
}

#[tokio::test(start_paused = true)]
async fn artifact_manifests_arrive_as_root_child_and_referrer() {
    for media_type in [MediaType::OCI_ARTIFACT, MediaType::ORAS_ARTIFACT] {
        let Pair { from, to, .. } = pair();
        let one = put_image(&from, 1);
        let blob = from.put_blob("{\"spdx\":1}");
        let alone = artifact(media_type, &[&blob], None);
        let sbom = artifact(media_type, &[&blob], Some(&one.manifest));
        let whole = index(&[&one.manifest.descriptor(), &alone.descriptor()]);
        [&alone, &sbom, &whole].into_iter().for_each(|manifest| from.put_manifest(manifest, None));
        let batch = with_referrers(&from, &[&to]);
        copy(&batch, "artifact", &alone).await.unwrap();
        assert_eq!(to.tag("artifact"), Some(alone.digest()));
        let arrival = copy(&batch, "v1", &whole).await.unwrap();
        assert_eq!(arrival.left_behind, []);
        for manifest in [&alone, &sbom] {
            assert_eq!(to.stored(manifest.digest()).unwrap().bytes(), manifest.bytes());
        }
        assert!(to.holds_blob(&blob));
    }
}
