//! What every endpoint must do, one fact a function, run against each kind of endpoint.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use transship::layout::Layout;
use transship::oci::{Descriptor, Digest, Manifest, ManifestRef, MediaType, RepositoryName, Tag, referrers_tag};
use transship::registry::{Options, Registry};
use transship::store::{
    ErrorKind, Listed, ReferrerLink, Referrers, StoreError, TagEntry, Target, UploadStart, Verified,
};

use crate::support::images::{self, Family, Image, blob_descriptor, linux, noise, push_blob, verified};
use crate::support::programs::DebianRegistry;
use crate::support::registry::{Server, Setup};

/// One endpoint, empty at first, and what is known of its kind.
struct Endpoint {
    /// The repository under test.
    target: Arc<dyn Target>,
    /// Another repository of the same scope, where there can be one.
    sibling: Option<Arc<dyn Target>>,
    /// Whether it deletes a tag without its manifest.
    deletes_tags: bool,
    /// Whether it takes manifests whose digest is of SHA-512.
    names_by_sha512: bool,
    /// Whether it keeps lists of referrers under the fallback tag.
    has_fallback_tags: bool,
    /// What ends with it.
    _kept: Box<dyn Any + Send + Sync>,
}

fn in_process(referrers_api: bool) -> Endpoint {
    // Small pages: every list of more than four lines has several.
    let server = Server::with(Setup { referrers_api, page: 4, ..Setup::default() });
    let (target, sibling) = repositories(server.host());
    Endpoint {
        target,
        sibling: Some(sibling),
        deletes_tags: true,
        names_by_sha512: true,
        has_fallback_tags: !referrers_api,
        _kept: Box::new(server),
    }
}

fn in_process_with_referrers_api() -> Endpoint {
    in_process(true)
}

fn in_process_with_fallback_tags() -> Endpoint {
    in_process(false)
}

fn debian_registry() -> Endpoint {
    let debian = DebianRegistry::start();
    let (target, sibling) = repositories(debian.host());
    Endpoint {
        target,
        sibling: Some(sibling),
        deletes_tags: false,
        names_by_sha512: false,
        has_fallback_tags: true,
        _kept: Box::new(debian),
    }
}

fn layout() -> Endpoint {
    let folder = tempfile::TempDir::new().unwrap();
    Endpoint {
        target: Layout::open(&folder.path().join("layout")),
        sibling: None,
        deletes_tags: true,
        names_by_sha512: true,
        has_fallback_tags: false,
        _kept: Box::new(folder),
    }
}

fn repositories(host: &str) -> (Arc<dyn Target>, Arc<dyn Target>) {
    let options = Options { plain_http: true, ..Options::default() };
    let registry = Registry::new(host.parse().unwrap(), options).unwrap();
    let repository = |name: &str| Arc::new(registry.repository(name.parse().unwrap()));
    (repository("under/test"), repository("its/sibling"))
}

macro_rules! suite {
    ($($endpoint:ident),* : $facts:tt) => { $(suite!(@one $endpoint $facts);)* };
    (@one $endpoint:ident { $($fact:ident)* }) => {
        mod $endpoint {
            $(
                #[tokio::test]
                async fn $fact() {
                    super::$fact(&super::$endpoint()).await;
                }
            )*
        }
    };
}

suite!(in_process_with_referrers_api, in_process_with_fallback_tags, debian_registry, layout: {
    blob_is_read_back_byte_for_byte
    large_blob_is_read_back_byte_for_byte
    blob_is_read_from_any_offset
    empty_blob_is_stored_and_read
    missing_blob_is_not_found
    blob_of_another_length_is_not_accepted
    wrong_bytes_are_never_committed
    stream_that_ends_with_an_error_commits_nothing
    cancelled_upload_leaves_nothing
    blob_is_mounted_or_uploaded_in_the_session
    blob_uploaded_concurrently_is_complete
    manifests_are_stored_verbatim_under_tag_and_digest
    index_of_indexes_is_stored_verbatim
    foreign_layer_need_not_exist_at_the_endpoint
    moved_tag_keeps_the_old_manifest
    unknown_manifest_is_none
    manifest_with_a_missing_blob_is_refused
    index_with_a_missing_child_is_refused
    all_tags_are_listed
    unknown_repository_has_no_tags
    referrers_are_found_from_their_subject
    concurrently_linked_referrers_are_all_found
    referrers_list_is_copied_verbatim_and_then_merged
    deleted_manifests_are_missing_and_deletable_again
    sha512_names_content_where_it_is_supported
    endpoint_reports_its_location
});

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn by_tag(text: &str) -> ManifestRef {
    tag(text).into()
}

async fn read(target: &dyn Target, blob: &Descriptor, offset: u64) -> Result<Vec<u8>, StoreError> {
    let pieces: Vec<Bytes> = target.blob(blob, offset).await?.try_collect().await?;
    Ok(pieces.concat())
}

async fn session(target: &dyn Target, blob: &Descriptor) -> Box<dyn transship::store::Upload> {
    match target.begin_upload(blob, None).await.unwrap() {
        UploadStart::Session(session) => session,
        UploadStart::Mounted => panic!("nothing was to be mounted"),
    }
}

#[track_caller]
fn kind<T>(result: Result<T, StoreError>) -> ErrorKind {
    match result {
        Ok(_) => panic!("this must fail"),
        Err(error) => error.kind,
    }
}

async fn blob_is_read_back_byte_for_byte(at: &Endpoint) {
    let bytes = noise(1, 50_000);
    let blob = blob_descriptor(&bytes);
    assert!(!at.target.has_blob(&blob).await.unwrap());
    assert!(push_blob(&*at.target, bytes.clone(), None).await.unwrap());
    assert!(at.target.has_blob(&blob).await.unwrap());
    assert_eq!(read(&*at.target, &blob, 0).await.unwrap(), bytes);
    assert!(!push_blob(&*at.target, bytes, None).await.unwrap(), "it is there already");
}

async fn large_blob_is_read_back_byte_for_byte(at: &Endpoint) {
    let bytes = noise(2, 12_345_678);
    push_blob(&*at.target, bytes.clone(), None).await.unwrap();
    assert!(read(&*at.target, &blob_descriptor(&bytes), 0).await.unwrap() == bytes);
}

async fn blob_is_read_from_any_offset(at: &Endpoint) {
    let bytes = noise(3, 10_000);
    let blob = blob_descriptor(&bytes);
    push_blob(&*at.target, bytes.clone(), None).await.unwrap();
    for offset in [0, 1, 4096, 9_999, 10_000] {
        assert_eq!(read(&*at.target, &blob, offset).await.unwrap(), &bytes[offset as usize..], "{offset}");
    }
}

async fn empty_blob_is_stored_and_read(at: &Endpoint) {
    let blob = blob_descriptor(b"");
    push_blob(&*at.target, Bytes::new(), None).await.unwrap();
    assert!(at.target.has_blob(&blob).await.unwrap());
    assert_eq!(read(&*at.target, &blob, 0).await.unwrap(), b"");
}

async fn missing_blob_is_not_found(at: &Endpoint) {
    images::small(Family::Oci, 1).push(&*at.target, Some("v1")).await.unwrap();
    let missing = blob_descriptor(b"nobody pushed this");
    assert!(!at.target.has_blob(&missing).await.unwrap());
    assert_eq!(kind(read(&*at.target, &missing, 0).await), ErrorKind::NotFound);
    assert_eq!(kind(read(&*at.target, &missing, 5).await), ErrorKind::NotFound);
}

/// An endpoint that can mend it may say "not there" instead.
async fn blob_of_another_length_is_not_accepted(at: &Endpoint) {
    let bytes = noise(4, 1000);
    push_blob(&*at.target, bytes.clone(), None).await.unwrap();
    let longer = Descriptor { size: 1001, ..blob_descriptor(&bytes) };
    match at.target.has_blob(&longer).await {
        Ok(found) => assert!(!found),
        Err(error) => assert_eq!(error.kind, ErrorKind::Corrupt),
    }
}

async fn wrong_bytes_are_never_committed(at: &Endpoint) {
    // One byte short of a whole number of pieces: the surplus byte of "long" comes in the last right piece.
    let right = noise(5, 29_999);
    let mut wrong = right.to_vec();
    wrong[29_998] ^= 1;
    let longer = [&right[..], b"x"].concat();
    for (case, bytes) in [("flipped", Bytes::from(wrong)), ("short", right.slice(..29_000)), ("long", longer.into())] {
        let blob = blob_descriptor(&right);
        let upload = session(&*at.target, &blob).await;
        assert_eq!(kind(upload.send(verified(&blob, bytes)).await), ErrorKind::Corrupt, "{case}");
        assert!(!at.target.has_blob(&blob).await.unwrap(), "{case}");
    }
    push_blob(&*at.target, right, None).await.unwrap();
}

async fn stream_that_ends_with_an_error_commits_nothing(at: &Endpoint) {
    let bytes = noise(6, 30_000);
    let blob = blob_descriptor(&bytes);
    let upload = session(&*at.target, &blob).await;
    let failed = StoreError::new("elsewhere", transship::store::Step::ReadBlob, "", ErrorKind::Unavailable, "it broke");
    let pieces = stream::iter([Ok(bytes.slice(..20_000)), Err(failed)]).boxed();
    let error = upload.send(Verified::new(pieces, blob.clone(), "elsewhere")).await.unwrap_err();
    assert_eq!((error.place.as_str(), error.detail.as_str()), ("elsewhere", "it broke"), "{error}");
    assert!(!at.target.has_blob(&blob).await.unwrap());
}

async fn cancelled_upload_leaves_nothing(at: &Endpoint) {
    let blob = blob_descriptor(b"given back");
    session(&*at.target, &blob).await.cancel().await;
    assert!(!at.target.has_blob(&blob).await.unwrap());
}

async fn blob_is_mounted_or_uploaded_in_the_session(at: &Endpoint) {
    let bytes = noise(7, 20_000);
    let blob = blob_descriptor(&bytes);
    let from: RepositoryName = "its/sibling".parse().unwrap();
    if let Some(sibling) = &at.sibling {
        push_blob(&**sibling, bytes.clone(), None).await.unwrap();
        let begun = at.target.begin_upload(&blob, Some(&from)).await.unwrap();
        assert!(matches!(begun, UploadStart::Mounted));
        assert_eq!(read(&*at.target, &blob, 0).await.unwrap(), bytes);
    }
    let bytes = noise(8, 20_000);
    let blob = blob_descriptor(&bytes);
    let UploadStart::Session(upload) = at.target.begin_upload(&blob, Some(&from)).await.unwrap() else {
        panic!("there is nothing to be mounted");
    };
    upload.send(verified(&blob, bytes.clone())).await.unwrap();
    assert_eq!(read(&*at.target, &blob, 0).await.unwrap(), bytes);
}

async fn blob_uploaded_concurrently_is_complete(at: &Endpoint) {
    let bytes = noise(9, 200_000);
    let blob = blob_descriptor(&bytes);
    let send = || async {
        let upload = session(&*at.target, &blob).await;
        upload.send(verified(&blob, bytes.clone())).await
    };
    let sent = futures_util::future::join_all((0..6).map(|_| send())).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    assert_eq!(read(&*at.target, &blob, 0).await.unwrap(), bytes);
}

async fn is_verbatim(at: &Endpoint, image: &Image, name: &str) {
    for reference in [by_tag(name), image.digest().into()] {
        let found = at.target.resolve(&reference).await.unwrap().unwrap();
        assert_eq!(found, image.manifest.descriptor(), "{reference}");
        assert_eq!(at.target.manifest(&reference).await.unwrap(), image.manifest, "{reference}");
    }
}

async fn manifests_are_stored_verbatim_under_tag_and_digest(at: &Endpoint) {
    let cases = [
        ("oci", images::small(Family::Oci, 1)),
        ("docker", images::small(Family::Docker, 2)),
        ("index", images::two_platforms(Family::Oci, 3)),
        ("list", images::two_platforms(Family::Docker, 4)),
        ("chart", images::helm_chart("web", "1.0.0")),
        ("artifact", images::artifact("application/x.thing", None, &[("text/plain", "hello".into())], None)),
        ("empty-layer", images::image(Family::Oci, linux("amd64"), &[images::empty_layer(Family::Oci)])),
    ];
    for (name, image) in &cases {
        image.push(&*at.target, Some(name)).await.unwrap();
        is_verbatim(at, image, name).await;
        // Again is no error, by tag and by digest alone.
        image.push(&*at.target, Some(name)).await.unwrap();
        image.push(&*at.target, None).await.unwrap();
        for child in &image.children {
            assert_eq!(at.target.manifest(&child.digest().into()).await.unwrap(), child.manifest, "{name}");
        }
    }
}

async fn index_of_indexes_is_stored_verbatim(at: &Endpoint) {
    let nested = images::index(Family::Oci, &[images::two_platforms(Family::Oci, 1), images::small(Family::Oci, 9)]);
    nested.push(&*at.target, Some("nested")).await.unwrap();
    is_verbatim(at, &nested, "nested").await;
}

async fn foreign_layer_need_not_exist_at_the_endpoint(at: &Endpoint) {
    let layers = [images::foreign_layer(Family::Docker, 1), images::layer(Family::Docker, 2, 100)];
    let image = images::image(Family::Docker, linux("amd64"), &layers);
    image.push(&*at.target, Some("foreign")).await.unwrap();
    is_verbatim(at, &image, "foreign").await;
    let view = at.target.manifest(&by_tag("foreign")).await.unwrap().view().unwrap();
    assert_eq!(view.blobs().iter().filter(|blob| blob.is_foreign() && blob.has_urls).count(), 1);
}

async fn moved_tag_keeps_the_old_manifest(at: &Endpoint) {
    let (old, new) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    old.push(&*at.target, Some("v1")).await.unwrap();
    new.push(&*at.target, Some("v1")).await.unwrap();
    is_verbatim(at, &new, "v1").await;
    assert_eq!(at.target.manifest(&old.digest().into()).await.unwrap(), old.manifest);
}

async fn unknown_manifest_is_none(at: &Endpoint) {
    for reference in [by_tag("none"), Digest::of(b"none").into()] {
        assert_eq!(at.target.resolve(&reference).await.unwrap(), None, "in a repository that is not there");
        assert_eq!(kind(at.target.manifest(&reference).await), ErrorKind::NotFound);
    }
    images::small(Family::Oci, 1).push(&*at.target, Some("v1")).await.unwrap();
    for reference in [by_tag("none"), Digest::of(b"none").into()] {
        assert_eq!(at.target.resolve(&reference).await.unwrap(), None);
        assert_eq!(kind(at.target.manifest(&reference).await), ErrorKind::NotFound);
    }
}

async fn manifest_with_a_missing_blob_is_refused(at: &Endpoint) {
    let image = images::small(Family::Oci, 1);
    push_blob(&*at.target, image.blobs[0].clone(), None).await.unwrap();
    push_blob(&*at.target, image.blobs[1].clone(), None).await.unwrap();
    let pushed = at.target.push_manifest(&image.manifest, Some(&tag("v1"))).await;
    assert_eq!(kind(pushed), ErrorKind::MissingContent);
    assert_eq!(at.target.resolve(&by_tag("v1")).await.unwrap(), None);
}

async fn index_with_a_missing_child_is_refused(at: &Endpoint) {
    let index = images::two_platforms(Family::Oci, 1);
    index.children[0].push(&*at.target, None).await.unwrap();
    let pushed = at.target.push_manifest(&index.manifest, Some(&tag("v1"))).await;
    assert_eq!(kind(pushed), ErrorKind::MissingContent);
    assert_eq!(at.target.resolve(&by_tag("v1")).await.unwrap(), None);
}

async fn all_tags_are_listed(at: &Endpoint) {
    let image = images::small(Family::Oci, 1);
    let names: BTreeSet<String> = (0..11).map(|number| format!("v{number}")).collect();
    for name in &names {
        image.push(&*at.target, Some(name)).await.unwrap();
    }
    let listed: Vec<TagEntry> = at.target.tags().try_collect().await.unwrap();
    assert_eq!(listed.len(), names.len(), "each once");
    for entry in &listed {
        let TagEntry::Tag(tag, digest) = entry else { panic!("{entry:?}") };
        assert!(names.contains(tag.as_str()));
        assert!(digest.is_none_or(|digest| digest == image.digest()), "{entry:?}");
    }
}

async fn unknown_repository_has_no_tags(at: &Endpoint) {
    let listed: Result<Vec<TagEntry>, StoreError> = at.target.tags().try_collect().await;
    assert_eq!(kind(listed), ErrorKind::NotFound);
}

async fn referrer_digests(at: &Endpoint, subject: &Image) -> BTreeSet<Digest> {
    let found = at.target.referrers(&subject.digest(), Listed::Perhaps).await.unwrap();
    found.manifests.iter().map(|referrer| referrer.digest).collect()
}

async fn referrers_are_found_from_their_subject(at: &Endpoint) {
    let (subject, other) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    assert_eq!(referrer_digests(at, &subject).await, BTreeSet::new(), "in a repository that is not there");
    subject.push(&*at.target, Some("v1")).await.unwrap();
    assert_eq!(at.target.referrers(&subject.digest(), Listed::Perhaps).await.unwrap().manifests, []);
    let sboms = [images::sbom(&subject, 1), images::sbom(&subject, 2)];
    for sbom in &sboms {
        sbom.push(&*at.target, None).await.unwrap();
    }
    images::sbom(&other, 3).push(&*at.target, None).await.unwrap();
    assert_eq!(referrer_digests(at, &subject).await, sboms.iter().map(Image::digest).collect());
    let found = at.target.referrers(&subject.digest(), Listed::Perhaps).await.unwrap();
    assert!(
        found.manifests.iter().all(|one| one.artifact_type.as_deref() == Some("application/spdx+json")),
        "{found:?}"
    );
    let on_fallback_tag = at.target.resolve(&referrers_tag(&subject.digest()).into()).await.unwrap();
    assert_eq!((on_fallback_tag.is_some(), found.fallback.is_some()), (at.has_fallback_tags, at.has_fallback_tags));
}

async fn concurrently_linked_referrers_are_all_found(at: &Endpoint) {
    let subject = images::small(Family::Oci, 1);
    subject.push(&*at.target, Some("v1")).await.unwrap();
    let sboms: Vec<Image> = (0..8).map(|seed| images::sbom(&subject, seed)).collect();
    // Only the links are concurrent. Concurrent uploads of their common blob can hide it from a manifest in distribution 2.8.
    for blob in sboms.iter().flat_map(|sbom| &sbom.blobs) {
        push_blob(&*at.target, blob.clone(), None).await.unwrap();
    }
    let pushed = futures_util::future::join_all(sboms.iter().map(|sbom| sbom.push(&*at.target, None))).await;
    assert!(pushed.iter().all(Result::is_ok), "{pushed:?}");
    assert_eq!(referrer_digests(at, &subject).await, sboms.iter().map(Image::digest).collect());
}

async fn referrers_list_is_copied_verbatim_and_then_merged(at: &Endpoint) {
    let subject = images::small(Family::Oci, 1);
    subject.push(&*at.target, Some("v1")).await.unwrap();
    let (first, second) = (images::sbom(&subject, 1), images::sbom(&subject, 2));
    for sbom in [&first, &second] {
        for blob in &sbom.blobs {
            push_blob(&*at.target, blob.clone(), None).await.unwrap();
        }
    }
    let link = at.target.push_manifest(&first.manifest, None).await.unwrap();
    assert_eq!(link == ReferrerLink::Unlisted, at.has_fallback_tags);
    let list = images::index(Family::Oci, std::slice::from_ref(&first)).manifest;
    let descriptor = |sbom: &Image| Descriptor {
        artifact_type: sbom.manifest.view().unwrap().artifact_type,
        ..sbom.manifest.descriptor()
    };
    let carried = Referrers { manifests: vec![descriptor(&first)], fallback: Some(list.clone()), doubt: None };
    if !at.has_fallback_tags {
        return;
    }
    at.target.link_referrers(&subject.digest(), &carried).await.unwrap();
    let fallback: ManifestRef = referrers_tag(&subject.digest()).into();
    assert_eq!(at.target.manifest(&fallback).await.unwrap(), list, "there was none: it is written as it is");
    at.target.link_referrers(&subject.digest(), &carried).await.unwrap();
    assert_eq!(at.target.manifest(&fallback).await.unwrap(), list, "nothing is new: it stays as it is");
    at.target.push_manifest(&second.manifest, None).await.unwrap();
    let more = Referrers { manifests: vec![descriptor(&second)], ..Referrers::default() };
    at.target.link_referrers(&subject.digest(), &more).await.unwrap();
    assert_eq!(referrer_digests(at, &subject).await, BTreeSet::from([first.digest(), second.digest()]));
    at.target.link_referrers(&subject.digest(), &carried).await.unwrap();
    assert_eq!(referrer_digests(at, &subject).await, BTreeSet::from([first.digest(), second.digest()]));
}

async fn deleted_manifests_are_missing_and_deletable_again(at: &Endpoint) {
    let (one, two) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    one.push(&*at.target, Some("one")).await.unwrap();
    two.push(&*at.target, Some("two")).await.unwrap();
    for _ in 0..2 {
        at.target.delete(&one.digest().into()).await.unwrap();
        assert_eq!(at.target.resolve(&one.digest().into()).await.unwrap(), None);
        assert_eq!(at.target.resolve(&by_tag("one")).await.unwrap(), None, "its tag goes with it");
    }
    is_verbatim(at, &two, "two").await;
    let by_tag_alone = at.target.delete(&by_tag("two")).await;
    if at.deletes_tags {
        by_tag_alone.unwrap();
        assert_eq!(at.target.resolve(&by_tag("two")).await.unwrap(), None);
        assert!(at.target.resolve(&two.digest().into()).await.unwrap().is_some(), "its manifest stays");
        at.target.delete(&by_tag("two")).await.unwrap();
    } else {
        assert_eq!(kind(by_tag_alone), ErrorKind::Unsupported);
        is_verbatim(at, &two, "two").await;
    }
}

async fn sha512_names_content_where_it_is_supported(at: &Endpoint) {
    let bytes = noise(10, 20_000);
    let digest = Digest::Sha512([0; 64]).same_algorithm_of(&bytes);
    let blob = Descriptor { digest, ..blob_descriptor(&bytes) };
    session(&*at.target, &blob).await.send(verified(&blob, bytes.clone())).await.unwrap();
    assert!(at.target.has_blob(&blob).await.unwrap());
    assert_eq!(read(&*at.target, &blob, 0).await.unwrap(), bytes);
    if !at.names_by_sha512 {
        return;
    }
    let image = images::small(Family::Oci, 1);
    image.push(&*at.target, None).await.unwrap();
    let wanted = Digest::Sha512([0; 64]).same_algorithm_of(image.manifest.bytes());
    let media_type = MediaType::new(MediaType::OCI_MANIFEST);
    let manifest = Manifest::received(Some(&media_type), image.manifest.bytes().clone(), Some(&wanted));
    at.target.push_manifest(&manifest, None).await.unwrap();
    assert_eq!(at.target.manifest(&wanted.into()).await.unwrap(), manifest);
}

async fn endpoint_reports_its_location(at: &Endpoint) {
    assert!(!at.target.identity().is_empty());
    match &at.sibling {
        Some(sibling) => {
            assert_eq!(at.target.scope(), sibling.scope());
            assert_eq!(at.target.repository().unwrap().as_str(), "under/test");
            assert_eq!(at.target.place(), format!("{}/under/test", at.target.scope()));
            assert_eq!(at.target.identity(), "anonymous");
        }
        None => {
            assert!(at.target.place().starts_with("oci-layout:"));
            assert_eq!(at.target.repository(), None);
        }
    }
}
