//! Tests of companions: signatures, SBOMs and other content that belongs to a manifest. The manifest does not list its
//! companions.

use std::collections::HashSet;

use super::content::{image, index, on, refer, refer_by_index};
use super::memory::{Behaviour, Fault, Op};
use super::*;
use crate::copy::event::Event;
use crate::oci::{referrers_tag, signature_tags};
use crate::store::ErrorKind;

/// Creates a registry that finds referrers under fallback tags only.
fn old_fashioned(name: &str) -> Arc<Registry> {
    Registry::with(name, Behaviour { lists_referrers: false, ..Behaviour::default() })
}

/// Puts an artifact that refers to `subject`. The registry of `at` lists the artifact as a referrer: automatically, or
/// under the fallback tag.
fn put_referrer(at: &Repository, subject: &Manifest, what: &str) -> Manifest {
    let artifact = refer(&at.put_blob(format!("{{\"what\":\"{what}\"}}")), &[], Some(subject));
    at.put_manifest(&artifact, None);
    artifact
}

fn put_fallback(at: &Repository, subject: &Manifest, referrers: &[&Manifest]) -> Manifest {
    let descriptors: Vec<Descriptor> = referrers.iter().map(|one| one.descriptor()).collect();
    let list = index(&descriptors.iter().collect::<Vec<_>>());
    at.put_manifest(&list, Some(referrers_tag(&subject.digest()).as_str()));
    list
}

#[tokio::test(start_paused = true)]
async fn referrers_at_every_level_arrive_before_tag() {
    let Pair { from, target, to, .. } = pair();
    let child = put_image(&from, 1);
    let whole = index(&[&child.manifest.descriptor()]);
    from.put_manifest(&whole, None);
    let of_whole = put_referrer(&from, &whole, "signature");
    let of_child = put_referrer(&from, &child.manifest, "sbom");
    let nested = put_referrer(&from, &of_child, "signature of the sbom");
    let arrival = copy(&with_referrers(&from, &[&to]), "v1", &whole).await.unwrap();
    for artifact in [&of_whole, &of_child, &nested] {
        assert_eq!(to.stored(artifact.digest()).unwrap().bytes(), artifact.bytes());
    }
    assert_eq!(arrival.manifests, 5);
    assert_eq!(target.done(Op::Push).last().unwrap(), "v1");
    assert_eq!(target.count(Op::Link), 0, "a target that lists referrers automatically gets no list");
}

#[tokio::test(start_paused = true)]
async fn disabled_referrers_cause_no_request() {
    let Pair { source, from, to, .. } = pair();
    let one = put_image(&from, 1);
    let artifact = put_referrer(&from, &one.manifest, "sbom");
    copy(&batch(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert_eq!((source.count(Op::Referrers), source.count(Op::Resolve)), (0, 0));
    assert!(to.stored(artifact.digest()).is_none());
}

#[tokio::test(start_paused = true)]
async fn referrers_list_is_written_once_per_subject_before_tag() {
    let (source, target) = (Registry::new("src"), old_fashioned("dst"));
    let (from, to) = (source.repository("app"), target.repository("app"));
    let (one, other) = (put_image(&from, 1), put_image(&from, 2));
    let artifacts = [put_referrer(&from, &one.manifest, "a"), put_referrer(&from, &one.manifest, "b")];
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    target.always(Op::Link, Fault::Gate(gate.clone()));
    let batch = with_referrers(&from, &[&to]);
    let copying = tokio::spawn({
        let (batch, jobs) = (batch.clone(), ["v1", "latest"].map(|tag| job(tag, &one.manifest, 1)));
        async move {
            let [first, second] = jobs;
            tokio::join!(batch.copy(first), batch.copy(second))
        }
    });
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(to.tag("v1"), None, "the list of referrers is not written yet");
    gate.add_permits(9);
    let (first, second) = within(copying).await.unwrap();
    arrivals(first);
    arrivals(second);
    copy(&batch, "other", &other.manifest).await.unwrap();
    assert_eq!(target.done(Op::Link), [one.manifest.digest().to_string()]);
    let tag = referrers_tag(&one.manifest.digest());
    let list = to.stored(to.tag(tag.as_str()).unwrap()).unwrap().view().unwrap();
    let listed: HashSet<_> = list.manifests().iter().map(|one| one.digest).collect();
    assert_eq!(listed, artifacts.iter().map(Manifest::digest).collect());
}

#[tokio::test(start_paused = true)]
async fn fallback_list_is_copied_verbatim() {
    let (source, target) = (old_fashioned("src"), old_fashioned("dst"));
    let (from, to) = (source.repository("app"), target.repository("app"));
    let one = put_image(&from, 1);
    let artifact = put_referrer(&from, &one.manifest, "sbom");
    let list = put_fallback(&from, &one.manifest, &[&artifact]);
    copy(&with_referrers(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert_eq!(to.tag(referrers_tag(&one.manifest.digest()).as_str()), Some(list.digest()));
    assert_eq!(to.stored(list.digest()).unwrap().bytes(), list.bytes());
}

#[tokio::test(start_paused = true)]
async fn cosign_tags_are_copied_with_their_manifests() {
    for listed in [false, true] {
        let Pair { source, from, target, to } = pair();
        let one = put_image(&from, 1);
        let [signature_tag, attestation_tag, sbom_tag] = signature_tags(&one.manifest.digest());
        let signature = image(&from.put_blob("{\"signed\":1}"), &[]);
        let sbom = index(&[&put_image(&from, 7).manifest.descriptor()]);
        from.put_manifest(&signature, Some(signature_tag.as_str()));
        from.put_manifest(&sbom, Some(sbom_tag.as_str()));
        let known = from.tag_names().iter().map(|tag| tag.parse().unwrap()).collect();
        let rules = Rules { referrers: true, ..Rules::default() };
        let copier = Copier::new(64 * MIB);
        let batch = batch_with(&copier, &from, &[&to], rules, listed.then_some(known));
        let arrival = copy(&batch, "v1", &one.manifest).await.unwrap();
        assert_eq!(to.tag(signature_tag.as_str()), Some(signature.digest()));
        assert_eq!(to.tag(sbom_tag.as_str()), Some(sbom.digest()));
        assert_eq!(to.tag(attestation_tag.as_str()), None);
        assert_eq!(source.count_at(Op::Resolve, &attestation_tag), usize::from(!listed));
        assert_eq!(target.done(Op::Push).last().unwrap(), "v1");
        assert_eq!(arrival.manifests, 4);
        // A second copy does not write signature tags that are correct.
        copy(&batch, "v2", &one.manifest).await.unwrap();
        assert_eq!(target.count_at(Op::Push, &signature_tag), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn manifest_that_is_signature_and_child_keeps_its_referrers() {
    // The walk first reaches the manifest as a signature in one case, and as a child in the other case.
    for late in [Op::Manifest, Op::Resolve] {
        let Pair { source, from, to, .. } = pair();
        let (both, plain) = (put_image(&from, 1), put_image(&from, 2));
        let inner = index(&[&both.manifest.descriptor()]);
        let whole = index(&[&plain.manifest.descriptor(), &inner.descriptor()]);
        from.put_manifest(&inner, None);
        let [tag, ..] = signature_tags(&plain.manifest.digest());
        from.put_manifest(&both.manifest, Some(tag.as_str()));
        from.put_manifest(&whole, None);
        let of_both = put_referrer(&from, &both.manifest, "sbom");
        let about = if late == Op::Manifest { inner.digest().to_string() } else { tag.to_string() };
        source.always_at(late, about, Fault::Delay(Duration::from_secs(1)));
        copy(&with_referrers(&from, &[&to]), "v1", &whole).await.unwrap();
        assert!(to.stored(of_both.digest()).is_some(), "{late:?}");
        assert_eq!(to.tag(tag.as_str()), Some(both.manifest.digest()));
    }
}

#[tokio::test(start_paused = true)]
async fn failed_referrers_lookup_does_not_stop_copy() {
    let Pair { source, from, to, .. } = pair();
    let image = put_image(&from, 1);
    source.always(Op::Referrers, Fault::Fail(ErrorKind::Denied));
    let batch = with_referrers(&from, &[&to]);
    copy(&batch, "v1", &image.manifest).await.unwrap();
    assert_eq!(to.tag("v1"), Some(image.manifest.digest()));
    assert!(batch.is_in_doubt(&image.manifest.digest()));
}

#[tokio::test(start_paused = true)]
async fn referrer_that_indexes_its_own_subject_arrives() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    let around = refer_by_index(&[&one.manifest.descriptor()], Some(&one.manifest));
    from.put_manifest(&around, None);
    let arrival = copy(&with_referrers(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert!(to.stored(around.digest()).is_some());
    assert_eq!(to.tag("v1"), Some(one.manifest.digest()));
    assert_eq!(target.done(Op::Push).last().unwrap(), "v1");
    assert_eq!(arrival.manifests, 2);
}

#[tokio::test(start_paused = true)]
async fn circular_referrers_end_the_walk() {
    let Pair { source, from, to, .. } = pair();
    let (one, other) = (put_image(&from, 1), put_image(&from, 2));
    source.claim_referrers(one.manifest.digest(), &[&other.manifest]);
    source.claim_referrers(other.manifest.digest(), &[&one.manifest]);
    let batch = with_referrers(&from, &[&to]);
    let (a, b) = within(async {
        tokio::join!(batch.copy(job("v1", &one.manifest, 1)), batch.copy(job("v2", &other.manifest, 1)))
    })
    .await;
    arrivals(a);
    arrivals(b);
    assert_eq!(Arc::strong_count(&batch), 1, "no reference to the batch remains");
    assert_eq!((to.tag("v1"), to.tag("v2")), (Some(one.manifest.digest()), Some(other.manifest.digest())));
}

#[tokio::test(start_paused = true)]
async fn root_with_subject_is_listed_before_its_tag_moves() {
    let (source, target) = (Registry::new("src"), old_fashioned("dst"));
    let (from, to) = (source.repository("app"), target.repository("app"));
    let one = put_image(&from, 1);
    let artifact = put_referrer(&from, &one.manifest, "sbom");
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    target.always(Op::Link, Fault::Gate(gate.clone()));
    let batch = with_referrers(&from, &[&to]);
    let copying = tokio::spawn(async move { batch.copy(job("sbom", &artifact, 1)).await });
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(to.tag("sbom"), None, "the root is not in the list of referrers yet");
    gate.add_permits(9);
    let arrivals = arrivals(within(copying).await.unwrap());
    assert_eq!((target.done(Op::Link), arrivals[0].left_behind.len()), (vec![one.manifest.digest().to_string()], 0));
    assert_eq!(to.tag("sbom"), Some(arrivals[0].digest));
}

#[tokio::test(start_paused = true)]
async fn root_that_cannot_be_listed_arrives_and_is_reported() {
    let (source, target) = (Registry::new("src"), old_fashioned("dst"));
    let (from, to) = (source.repository("app"), target.repository("app"));
    let one = put_image(&from, 1);
    let artifact = put_referrer(&from, &one.manifest, "sbom");
    target.always(Op::Link, Fault::Fail(ErrorKind::Denied));
    let arrival = copy(&with_referrers(&from, &[&to]), "sbom", &artifact).await.unwrap();
    assert_eq!(to.tag("sbom"), Some(artifact.digest()));
    let named = format!("referrer {} of {}", artifact.digest(), one.manifest.digest());
    assert_eq!(arrival.left_behind.iter().map(|left| left.what.clone()).collect::<Vec<_>>(), [named]);
}

#[tokio::test(start_paused = true)]
async fn target_that_denies_reads_is_still_written() {
    let Pair { from, target, to, .. } = pair();
    let child = put_image(&from, 1);
    let whole = index(&[&child.manifest.descriptor()]);
    from.put_manifest(&whole, None);
    let [tag, ..] = signature_tags(&whole.digest());
    let signature = image(&from.put_blob("{\"signed\":1}"), &[]);
    from.put_manifest(&signature, Some(tag.as_str()));
    target.always(Op::Resolve, Fault::Fail(ErrorKind::Denied));
    let arrival = copy(&with_referrers(&from, &[&to]), "v1", &whole).await.unwrap();
    assert_eq!(arrival.left_behind, []);
    assert_eq!((to.tag("v1"), to.tag(tag.as_str())), (Some(whole.digest()), Some(signature.digest())));
    assert!(to.stored(child.manifest.digest()).is_some());
}

#[tokio::test(start_paused = true)]
async fn referrers_of_whole_index_are_not_attached_to_derived() {
    let Pair { source, from, to, .. } = pair();
    let (amd, arm) = (put_image(&from, 1), put_image(&from, 2));
    let whole = index(&[&on("linux/amd64", &amd.manifest), &on("linux/arm64", &arm.manifest)]);
    from.put_manifest(&whole, None);
    let of_whole = put_referrer(&from, &whole, "signature");
    let of_child = put_referrer(&from, &arm.manifest, "sbom");
    let [tag, ..] = signature_tags(&whole.digest());
    from.put_manifest(&image(&from.put_blob("{\"signed\":1}"), &[]), Some(tag.as_str()));
    let rules = Rules { platforms: Some(vec!["linux/arm64".parse().unwrap()]), referrers: true, ..Rules::default() };
    let batch = batch_with(&Copier::new(64 * MIB), &from, &[&to], rules, None);
    let arrival = copy(&batch, "v1", &whole).await.unwrap();
    assert_eq!(source.count_at(Op::Referrers, arrival.digest), 0, "the source does not have the derived index");
    assert!(to.stored(of_whole.digest()).is_none());
    assert!(to.stored(of_child.digest()).is_some());
    assert_eq!(to.tag_names(), ["v1"]);
}

#[tokio::test(start_paused = true)]
async fn written_signature_tag_has_its_own_evidence() {
    let Pair { from, to, .. } = pair();
    let one = put_image(&from, 1);
    let [signature_tag, ..] = signature_tags(&one.manifest.digest());
    let signature = image(&from.put_blob("{\"signed\":1}"), &[]);
    from.put_manifest(&signature, Some(signature_tag.as_str()));
    let rules = Rules { referrers: true, ..Rules::default() };
    let (events, mut received) = tokio::sync::mpsc::channel(64);
    let targets = unknown(&[&to]);
    let batch = Batch::new(&Copier::new(64 * MIB), from.clone(), targets, rules, None, events);
    let root = copy(&batch, "v1", &one.manifest).await.unwrap();
    drop(batch);
    let mut evidence = Vec::new();
    while let Some(event) = received.recv().await {
        if let Event::SignatureArrived(arrival) = event {
            evidence.push(arrival);
        }
    }
    let [arrival] = evidence.as_slice() else { panic!("{evidence:?}") };
    assert_eq!((arrival.tag.as_ref(), arrival.digest), (Some(&signature_tag), signature.digest()));
    assert_eq!(arrival.blobs.copied, 1);
    assert_eq!(arrival.bytes, signature.bytes().len() as u64 + 12);
    // The two manifests are the root and the signature. The signature counts once, although the copy writes the
    // signature by digest and by its tag.
    assert_eq!(root.manifests, 2);
}

#[tokio::test(start_paused = true)]
async fn wrong_or_missing_entries_of_referrers_list_are_skipped() {
    let Pair { source, from, to, .. } = pair();
    let (one, other) = (put_image(&from, 1), put_image(&from, 2));
    let honest = put_referrer(&from, &one.manifest, "signature");
    let gone = image(&from.put_blob("gone"), &[]);
    source.claim_referrers(one.manifest.digest(), &[&honest, &other.manifest, &gone]);
    copy(&with_referrers(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert!(to.stored(honest.digest()).is_some());
    assert!(to.stored(other.manifest.digest()).is_none());
}
