//! Tests of the selection of platforms, and of the tag that keeps the previous digest of an overwritten tag.

use super::content::{index, on};
use super::memory::{Fault, Op};
use super::*;
use crate::copy::Previous;
use crate::oci::Platform;
use crate::store::ErrorKind;

fn only(platforms: &[&str]) -> Rules {
    let platforms: Vec<Platform> = platforms.iter().map(|text| text.parse().unwrap()).collect();
    Rules { platforms: Some(platforms), ..Rules::default() }
}

#[tokio::test(start_paused = true)]
async fn platform_subset_arrives_as_derived_index_with_both_digests() {
    let Pair { source, from, to, .. } = pair();
    let (amd, arm) = (put_image(&from, 1), put_image(&from, 2));
    let whole = index(&[&on("linux/amd64", &amd.manifest), &on("linux/arm64", &arm.manifest)]);
    from.put_manifest(&whole, None);
    let batch = batch_with(&Copier::new(64 * MIB), &from, &[&to], only(&["linux/arm64"]), None);
    let arrival = copy(&batch, "v1", &whole).await.unwrap();
    assert_eq!(arrival.source_digest, whole.digest());
    assert_eq!(to.tag("v1"), Some(arrival.digest));
    assert_ne!(arrival.digest, whole.digest());
    let children = to.stored(arrival.digest).unwrap().view().unwrap();
    assert_eq!(children.manifests().iter().map(|child| child.digest).collect::<Vec<_>>(), [arm.manifest.digest()]);
    assert_eq!(source.count_at(Op::Manifest, amd.manifest.digest()), 0, "an unwanted child is not even read");
    assert_eq!((arrival.manifests, arrival.blobs.copied), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn selecting_all_platforms_copies_index_unchanged() {
    let Pair { from, to, .. } = pair();
    let amd = put_image(&from, 1);
    let whole = index(&[&on("linux/amd64", &amd.manifest)]);
    from.put_manifest(&whole, None);
    let batch = batch_with(&Copier::new(64 * MIB), &from, &[&to], only(&["linux/amd64", "linux/arm64"]), None);
    assert_eq!(copy(&batch, "v1", &whole).await.unwrap().digest, whole.digest());
}

#[tokio::test(start_paused = true)]
async fn index_without_wanted_platforms_fails_with_their_names() {
    let Pair { from, target, to, .. } = pair();
    let amd = put_image(&from, 1);
    let whole = index(&[&on("linux/amd64", &amd.manifest)]);
    from.put_manifest(&whole, None);
    let batch = batch_with(&Copier::new(64 * MIB), &from, &[&to], only(&["linux/arm64", "linux/s390x"]), None);
    let error = copy(&batch, "v1", &whole).await.unwrap_err();
    let digest = whole.digest();
    let expected = format!(
        "source src/app: manifest {digest}: no child runs on linux/arm64 or linux/s390x; the index has linux/amd64"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(target.count(Op::Push), 0);
}

fn keeping(tag: &str, new: &Manifest, old: &Manifest) -> CopyJob {
    let previous = Previous { digest: old.digest(), under: Some("v1-before".parse().unwrap()) };
    CopyJob { targets: vec![(0, Some(previous))], ..job(tag, new, 1) }
}

#[tokio::test(start_paused = true)]
async fn previous_digest_is_kept_before_tag_moves() {
    let Pair { from, target, to, .. } = pair();
    let (old, new) = (put_image(&to, 1), put_image(&from, 2));
    arrivals(within(batch(&from, &[&to]).copy(keeping("v1", &new.manifest, &old.manifest))).await);
    assert_eq!(to.tag("v1-before"), Some(old.manifest.digest()));
    assert_eq!(to.tag("v1"), Some(new.manifest.digest()));
    assert_eq!(target.done(Op::Push), ["v1-before", "v1"]);
}

#[tokio::test(start_paused = true)]
async fn tag_stays_if_previous_digest_cannot_be_kept() {
    let Pair { from, target, to, .. } = pair();
    let (old, new) = (put_image(&to, 1), put_image(&from, 2));
    to.put_manifest(&old.manifest, Some("v1"));
    target.always_at(Op::Push, "v1-before", Fault::Fail(ErrorKind::Refused));
    let outcomes = within(batch(&from, &[&to]).copy(keeping("v1", &new.manifest, &old.manifest))).await;
    let error = outcomes[0].1.as_ref().unwrap_err();
    assert_eq!(error.to_string(), "target dst/app: writing manifest v1-before: made to fail");
    assert_eq!(to.tag("v1"), Some(old.manifest.digest()));
}
