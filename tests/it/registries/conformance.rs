//! Conformance tests of every kind of endpoint, one fact per function.

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

/// Empty endpoint, and the properties of its kind.
struct Endpoint {
    /// Repository under test.
    target: Arc<dyn Target>,
    /// Another repository of the same scope, if the endpoint can have one.
    sibling: Option<Arc<dyn Target>>,
    /// True if the endpoint deletes a tag without its manifest.
    deletes_tags: bool,
    /// True if the endpoint accepts manifests with SHA-512 digests.
    names_by_sha512: bool,
    /// True if lists of referrers are under the fallback tag.
    has_fallback_tags: bool,
    /// Server or folder, which ends with this value.
    _kept: Box<dyn Any + Send + Sync>,
}

fn in_process(referrers_api: bool) -> Endpoint {
    // Every list of more than four items has several pages.
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
        UploadStart::Mounted => panic!("an unrequested mount"),
    }
}

#[track_caller]
fn kind<T>(result: Result<T, StoreError>) -> ErrorKind {
    match result {
        Ok(_) => panic!("this must fail"),
        Err(error) => error.kind,
    }
}

async fn blob_is_read_back_byte_for_byte(endpoint: &Endpoint) {
    let bytes = noise(1, 50_000);
    let blob = blob_descriptor(&bytes);
    assert!(!endpoint.target.has_blob(&blob).await.unwrap());
    assert!(push_blob(&*endpoint.target, bytes.clone(), None).await.unwrap());
    assert!(endpoint.target.has_blob(&blob).await.unwrap());
    assert_eq!(read(&*endpoint.target, &blob, 0).await.unwrap(), bytes);
    assert!(!push_blob(&*endpoint.target, bytes, None).await.unwrap(), "the blob already exists");
}

async fn large_blob_is_read_back_byte_for_byte(endpoint: &Endpoint) {
    let bytes = noise(2, 12_345_678);
    push_blob(&*endpoint.target, bytes.clone(), None).await.unwrap();
    assert!(read(&*endpoint.target, &blob_descriptor(&bytes), 0).await.unwrap() == bytes);
}

async fn blob_is_read_from_any_offset(endpoint: &Endpoint) {
    let bytes = noise(3, 10_000);
    let blob = blob_descriptor(&bytes);
    push_blob(&*endpoint.target, bytes.clone(), None).await.unwrap();
    for offset in [0, 1, 4096, 9_999, 10_000] {
        assert_eq!(read(&*endpoint.target, &blob, offset).await.unwrap(), &bytes[offset as usize..], "{offset}");
    }
}

async fn empty_blob_is_stored_and_read(endpoint: &Endpoint) {
    let blob = blob_descriptor(b"");
    push_blob(&*endpoint.target, Bytes::new(), None).await.unwrap();
    assert!(endpoint.target.has_blob(&blob).await.unwrap());
    assert_eq!(read(&*endpoint.target, &blob, 0).await.unwrap(), b"");
}

async fn missing_blob_is_not_found(endpoint: &Endpoint) {
    images::small(Family::Oci, 1).push(&*endpoint.target, Some("v1")).await.unwrap();
    let missing = blob_descriptor(b"nobody pushed this");
    assert!(!endpoint.target.has_blob(&missing).await.unwrap());
    assert_eq!(kind(read(&*endpoint.target, &missing, 0).await), ErrorKind::NotFound);
    assert_eq!(kind(read(&*endpoint.target, &missing, 5).await), ErrorKind::NotFound);
}

/// An endpoint that can replace the blob may report it as missing instead.
async fn blob_of_another_length_is_not_accepted(endpoint: &Endpoint) {
    let bytes = noise(4, 1000);
    push_blob(&*endpoint.target, bytes.clone(), None).await.unwrap();
    let longer = Descriptor { size: 1001, ..blob_descriptor(&bytes) };
    match endpoint.target.has_blob(&longer).await {
        Ok(found) => assert!(!found),
        Err(error) => assert_eq!(error.kind, ErrorKind::Corrupt),
    }
}

async fn wrong_bytes_are_never_committed(endpoint: &Endpoint) {
    // The length is one byte less than a whole number of pieces, so that the surplus byte of "long" is in the last
    // correct piece.
    let right = noise(5, 29_999);
    let mut wrong = right.to_vec();
    wrong[29_998] ^= 1;
    let longer = [&right[..], b"x"].concat();
    for (case, bytes) in [("flipped", Bytes::from(wrong)), ("short", right.slice(..29_000)), ("long", longer.into())] {
        let blob = blob_descriptor(&right);
        let upload = session(&*endpoint.target, &blob).await;
        assert_eq!(kind(upload.send(verified(&blob, bytes)).await), ErrorKind::Corrupt, "{case}");
        assert!(!endpoint.target.has_blob(&blob).await.unwrap(), "{case}");
    }
    push_blob(&*endpoint.target, right, None).await.unwrap();
}

async fn stream_that_ends_with_an_error_commits_nothing(endpoint: &Endpoint) {
    let bytes = noise(6, 30_000);
    let blob = blob_descriptor(&bytes);
    let upload = session(&*endpoint.target, &blob).await;
    let failed = StoreError::new("elsewhere", transship::store::Step::ReadBlob, "", ErrorKind::Unavailable, "it broke");
    let pieces = stream::iter([Ok(bytes.slice(..20_000)), Err(failed)]).boxed();
    let error = upload.send(Verified::new(pieces, blob.clone(), "elsewhere")).await.unwrap_err();
    assert_eq!((error.place.as_str(), error.detail.as_str()), ("elsewhere", "it broke"), "{error}");
    assert!(!endpoint.target.has_blob(&blob).await.unwrap());
}

async fn cancelled_upload_leaves_nothing(endpoint: &Endpoint) {
    let blob = blob_descriptor(b"given back");
    session(&*endpoint.target, &blob).await.cancel().await;
    assert!(!endpoint.target.has_blob(&blob).await.unwrap());
}

async fn blob_is_mounted_or_uploaded_in_the_session(endpoint: &Endpoint) {
    let bytes = noise(7, 20_000);
    let blob = blob_descriptor(&bytes);
    let from: RepositoryName = "its/sibling".parse().unwrap();
    if let Some(sibling) = &endpoint.sibling {
        push_blob(&**sibling, bytes.clone(), None).await.unwrap();
        let started = endpoint.target.begin_upload(&blob, Some(&from)).await.unwrap();
        assert!(matches!(started, UploadStart::Mounted));
        assert_eq!(read(&*endpoint.target, &blob, 0).await.unwrap(), bytes);
    }
    let bytes = noise(8, 20_000);
    let blob = blob_descriptor(&bytes);
    let UploadStart::Session(upload) = endpoint.target.begin_upload(&blob, Some(&from)).await.unwrap() else {
        panic!("the blob cannot be mounted");
    };
    upload.send(verified(&blob, bytes.clone())).await.unwrap();
    assert_eq!(read(&*endpoint.target, &blob, 0).await.unwrap(), bytes);
}

async fn blob_uploaded_concurrently_is_complete(endpoint: &Endpoint) {
    let bytes = noise(9, 200_000);
    let blob = blob_descriptor(&bytes);
    let send = || async {
        let upload = session(&*endpoint.target, &blob).await;
        upload.send(verified(&blob, bytes.clone())).await
    };
    let sent = futures_util::future::join_all((0..6).map(|_| send())).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    assert_eq!(read(&*endpoint.target, &blob, 0).await.unwrap(), bytes);
}

async fn is_verbatim(endpoint: &Endpoint, image: &Image, name: &str) {
    for reference in [by_tag(name), image.digest().into()] {
        let found = endpoint.target.resolve(&reference).await.unwrap().unwrap();
        assert_eq!(found, image.manifest.descriptor(), "{reference}");
        assert_eq!(endpoint.target.manifest(&reference).await.unwrap(), image.manifest, "{reference}");
    }
}

async fn manifests_are_stored_verbatim_under_tag_and_digest(endpoint: &Endpoint) {
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
        image.push(&*endpoint.target, Some(name)).await.unwrap();
        is_verbatim(endpoint, image, name).await;
        // A second write is no error, by tag and by digest alone.
        image.push(&*endpoint.target, Some(name)).await.unwrap();
        image.push(&*endpoint.target, None).await.unwrap();
        for child in &image.children {
            assert_eq!(endpoint.target.manifest(&child.digest().into()).await.unwrap(), child.manifest, "{name}");
        }
    }
}

async fn index_of_indexes_is_stored_verbatim(endpoint: &Endpoint) {
    let nested = images::index(Family::Oci, &[images::two_platforms(Family::Oci, 1), images::small(Family::Oci, 9)]);
    nested.push(&*endpoint.target, Some("nested")).await.unwrap();
    is_verbatim(endpoint, &nested, "nested").await;
}

async fn foreign_layer_need_not_exist_at_the_endpoint(endpoint: &Endpoint) {
    let layers = [images::foreign_layer(Family::Docker, 1), images::layer(Family::Docker, 2, 100)];
    let image = images::image(Family::Docker, linux("amd64"), &layers);
    image.push(&*endpoint.target, Some("foreign")).await.unwrap();
    is_verbatim(endpoint, &image, "foreign").await;
    let view = endpoint.target.manifest(&by_tag("foreign")).await.unwrap().view().unwrap();
    assert_eq!(view.blobs().iter().filter(|blob| blob.is_foreign() && blob.has_urls).count(), 1);
}

async fn moved_tag_keeps_the_old_manifest(endpoint: &Endpoint) {
    let (old, new) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    old.push(&*endpoint.target, Some("v1")).await.unwrap();
    new.push(&*endpoint.target, Some("v1")).await.unwrap();
    is_verbatim(endpoint, &new, "v1").await;
    assert_eq!(endpoint.target.manifest(&old.digest().into()).await.unwrap(), old.manifest);
}

async fn unknown_manifest_is_none(endpoint: &Endpoint) {
    for reference in [by_tag("none"), Digest::of(b"none").into()] {
        assert_eq!(endpoint.target.resolve(&reference).await.unwrap(), None, "in a missing repository");
        assert_eq!(kind(endpoint.target.manifest(&reference).await), ErrorKind::NotFound);
    }
    images::small(Family::Oci, 1).push(&*endpoint.target, Some("v1")).await.unwrap();
    for reference in [by_tag("none"), Digest::of(b"none").into()] {
        assert_eq!(endpoint.target.resolve(&reference).await.unwrap(), None);
        assert_eq!(kind(endpoint.target.manifest(&reference).await), ErrorKind::NotFound);
    }
}

async fn manifest_with_a_missing_blob_is_refused(endpoint: &Endpoint) {
    let image = images::small(Family::Oci, 1);
    push_blob(&*endpoint.target, image.blobs[0].clone(), None).await.unwrap();
    push_blob(&*endpoint.target, image.blobs[1].clone(), None).await.unwrap();
    let pushed = endpoint.target.push_manifest(&image.manifest, Some(&tag("v1"))).await;
    assert_eq!(kind(pushed), ErrorKind::MissingContent);
    assert_eq!(endpoint.target.resolve(&by_tag("v1")).await.unwrap(), None);
}

async fn index_with_a_missing_child_is_refused(endpoint: &Endpoint) {
    let index = images::two_platforms(Family::Oci, 1);
    index.children[0].push(&*endpoint.target, None).await.unwrap();
    let pushed = endpoint.target.push_manifest(&index.manifest, Some(&tag("v1"))).await;
    assert_eq!(kind(pushed), ErrorKind::MissingContent);
    assert_eq!(endpoint.target.resolve(&by_tag("v1")).await.unwrap(), None);
}

async fn all_tags_are_listed(endpoint: &Endpoint) {
    let image = images::small(Family::Oci, 1);
    let names: BTreeSet<String> = (0..11).map(|number| format!("v{number}")).collect();
    for name in &names {
        image.push(&*endpoint.target, Some(name)).await.unwrap();
    }
    let listed: Vec<TagEntry> = endpoint.target.tags().try_collect().await.unwrap();
    assert_eq!(listed.len(), names.len(), "each once");
    for entry in &listed {
        let TagEntry::Tag(tag, digest) = entry else { panic!("{entry:?}") };
        assert!(names.contains(tag.as_str()));
        assert!(digest.is_none_or(|digest| digest == image.digest()), "{entry:?}");
    }
}

async fn unknown_repository_has_no_tags(endpoint: &Endpoint) {
    let listed: Result<Vec<TagEntry>, StoreError> = endpoint.target.tags().try_collect().await;
    assert_eq!(kind(listed), ErrorKind::NotFound);
}

async fn referrer_digests(endpoint: &Endpoint, subject: &Image) -> BTreeSet<Digest> {
    let found = endpoint.target.referrers(&subject.digest(), Listed::Possible).await.unwrap();
    found.manifests.iter().map(|referrer| referrer.digest).collect()
}

async fn referrers_are_found_from_their_subject(endpoint: &Endpoint) {
    let (subject, other) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    assert_eq!(referrer_digests(endpoint, &subject).await, BTreeSet::new(), "in a missing repository");
    subject.push(&*endpoint.target, Some("v1")).await.unwrap();
    assert_eq!(endpoint.target.referrers(&subject.digest(), Listed::Possible).await.unwrap().manifests, []);
    let sboms = [images::sbom(&subject, 1), images::sbom(&subject, 2)];
    for sbom in &sboms {
        sbom.push(&*endpoint.target, None).await.unwrap();
    }
    images::sbom(&other, 3).push(&*endpoint.target, None).await.unwrap();
    assert_eq!(referrer_digests(endpoint, &subject).await, sboms.iter().map(Image::digest).collect());
    let found = endpoint.target.referrers(&subject.digest(), Listed::Possible).await.unwrap();
    assert!(
        found.manifests.iter().all(|one| one.artifact_type.as_deref() == Some("application/spdx+json")),
        "{found:?}"
    );
    let on_fallback_tag = endpoint.target.resolve(&referrers_tag(&subject.digest()).into()).await.unwrap();
    assert_eq!(
        (on_fallback_tag.is_some(), found.fallback.is_some()),
        (endpoint.has_fallback_tags, endpoint.has_fallback_tags)
    );
}

async fn concurrently_linked_referrers_are_all_found(endpoint: &Endpoint) {
    let subject = images::small(Family::Oci, 1);
    subject.push(&*endpoint.target, Some("v1")).await.unwrap();
    let sboms: Vec<Image> = (0..8).map(|seed| images::sbom(&subject, seed)).collect();
    // Only the links are concurrent. In distribution 2.8, concurrent uploads of a common blob can hide the blob from a
    // manifest.
    for blob in sboms.iter().flat_map(|sbom| &sbom.blobs) {
        push_blob(&*endpoint.target, blob.clone(), None).await.unwrap();
    }
    let pushed = futures_util::future::join_all(sboms.iter().map(|sbom| sbom.push(&*endpoint.target, None))).await;
    assert!(pushed.iter().all(Result::is_ok), "{pushed:?}");
    assert_eq!(referrer_digests(endpoint, &subject).await, sboms.iter().map(Image::digest).collect());
}

async fn referrers_list_is_copied_verbatim_and_then_merged(endpoint: &Endpoint) {
    let subject = images::small(Family::Oci, 1);
    subject.push(&*endpoint.target, Some("v1")).await.unwrap();
    let (first, second) = (images::sbom(&subject, 1), images::sbom(&subject, 2));
    for sbom in [&first, &second] {
        for blob in &sbom.blobs {
            push_blob(&*endpoint.target, blob.clone(), None).await.unwrap();
        }
    }
    let link = endpoint.target.push_manifest(&first.manifest, None).await.unwrap();
    assert_eq!(link == ReferrerLink::Unlisted, endpoint.has_fallback_tags);
    let list = images::index(Family::Oci, std::slice::from_ref(&first)).manifest;
    let descriptor = |sbom: &Image| Descriptor {
        artifact_type: sbom.manifest.view().unwrap().artifact_type,
        ..sbom.manifest.descriptor()
    };
    let carried = Referrers { manifests: vec![descriptor(&first)], fallback: Some(list.clone()), doubt: None };
    if !endpoint.has_fallback_tags {
        return;
    }
    endpoint.target.link_referrers(&subject.digest(), &carried).await.unwrap();
    let fallback: ManifestRef = referrers_tag(&subject.digest()).into();
    assert_eq!(
        endpoint.target.manifest(&fallback).await.unwrap(),
        list,
        "without a list at the target, the list is written verbatim"
    );
    endpoint.target.link_referrers(&subject.digest(), &carried).await.unwrap();
    assert_eq!(endpoint.target.manifest(&fallback).await.unwrap(), list, "without new entries, the list is unchanged");
    endpoint.target.push_manifest(&second.manifest, None).await.unwrap();
    let more = Referrers { manifests: vec![descriptor(&second)], ..Referrers::default() };
    endpoint.target.link_referrers(&subject.digest(), &more).await.unwrap();
    assert_eq!(referrer_digests(endpoint, &subject).await, BTreeSet::from([first.digest(), second.digest()]));
    endpoint.target.link_referrers(&subject.digest(), &carried).await.unwrap();
    assert_eq!(referrer_digests(endpoint, &subject).await, BTreeSet::from([first.digest(), second.digest()]));
}

async fn deleted_manifests_are_missing_and_deletable_again(endpoint: &Endpoint) {
    let (one, two) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    one.push(&*endpoint.target, Some("one")).await.unwrap();
    two.push(&*endpoint.target, Some("two")).await.unwrap();
    for _ in 0..2 {
        endpoint.target.delete(&one.digest().into()).await.unwrap();
        assert_eq!(endpoint.target.resolve(&one.digest().into()).await.unwrap(), None);
        assert_eq!(
            endpoint.target.resolve(&by_tag("one")).await.unwrap(),
            None,
            "the tag is deleted with its manifest"
        );
    }
    is_verbatim(endpoint, &two, "two").await;
    let by_tag_alone = endpoint.target.delete(&by_tag("two")).await;
    if endpoint.deletes_tags {
        by_tag_alone.unwrap();
        assert_eq!(endpoint.target.resolve(&by_tag("two")).await.unwrap(), None);
        assert!(endpoint.target.resolve(&two.digest().into()).await.unwrap().is_some(), "the manifest remains");
        endpoint.target.delete(&by_tag("two")).await.unwrap();
    } else {
        assert_eq!(kind(by_tag_alone), ErrorKind::Unsupported);
        is_verbatim(endpoint, &two, "two").await;
    }
}

async fn sha512_names_content_where_it_is_supported(endpoint: &Endpoint) {
    let bytes = noise(10, 20_000);
    let digest = Digest::Sha512([0; 64]).same_algorithm_of(&bytes);
    let blob = Descriptor { digest, ..blob_descriptor(&bytes) };
    session(&*endpoint.target, &blob).await.send(verified(&blob, bytes.clone())).await.unwrap();
    assert!(endpoint.target.has_blob(&blob).await.unwrap());
    assert_eq!(read(&*endpoint.target, &blob, 0).await.unwrap(), bytes);
    if !endpoint.names_by_sha512 {
        return;
    }
    let image = images::small(Family::Oci, 1);
    image.push(&*endpoint.target, None).await.unwrap();
    let wanted = Digest::Sha512([0; 64]).same_algorithm_of(image.manifest.bytes());
    let media_type = MediaType::new(MediaType::OCI_MANIFEST);
    let manifest = Manifest::received(Some(&media_type), image.manifest.bytes().clone(), Some(&wanted));
    endpoint.target.push_manifest(&manifest, None).await.unwrap();
    assert_eq!(endpoint.target.manifest(&wanted.into()).await.unwrap(), manifest);
}

async fn endpoint_reports_its_location(endpoint: &Endpoint) {
    assert!(!endpoint.target.identity().is_empty());
    match &endpoint.sibling {
        Some(sibling) => {
            assert_eq!(endpoint.target.scope(), sibling.scope());
            assert_eq!(endpoint.target.repository().unwrap().as_str(), "under/test");
            assert_eq!(endpoint.target.place(), format!("{}/under/test", endpoint.target.scope()));
            assert_eq!(endpoint.target.identity(), "anonymous");
        }
        None => {
            assert!(endpoint.target.place().starts_with("oci-layout:"));
            assert_eq!(endpoint.target.repository(), None);
        }
    }
}
