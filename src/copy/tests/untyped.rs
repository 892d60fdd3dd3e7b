//! Tests of indexes that also list blobs, and of layers with a download address.

use super::content::{image, index, raw_index};
use super::memory::{Fault, Op};
use super::*;
use crate::oci::{Digest, MediaType};
use crate::store::ErrorKind;

fn put_blob_of(at: &Repository, media_type: &str, content: &str) -> Descriptor {
    at.put_blob_as(MediaType::new(media_type), content.to_owned())
}

#[tokio::test(start_paused = true)]
async fn index_of_blobs_arrives_completely() {
    let Pair { source, from, to, .. } = pair();
    let layers = ["a", "b"].map(|content| put_blob_of(&from, "application/vnd.oci.image.layer.v1.tar+gzip", content));
    let config = put_blob_of(&from, "application/vnd.buildkit.cacheconfig.v0", "{}");
    let cache = index(&[&layers[0], &layers[1], &config]);
    from.put_manifest(&cache, None);
    let arrival = copy(&batch(&from, &[&to]), "buildcache", &cache).await.unwrap();
    assert_eq!(to.tag("buildcache"), Some(cache.digest()));
    assert!([&layers[0], &layers[1], &config].into_iter().all(|blob| to.holds_blob(blob)));
    assert_eq!((arrival.manifests, arrival.blobs.copied), (1, 3));
    assert_eq!(source.count(Op::Manifest), 1, "a blob by its type is not requested as a manifest");
}

#[tokio::test(start_paused = true)]
async fn child_of_unknown_type_is_classified_by_content() {
    for media_type in [None, Some(""), Some("application/vnd.example.unheard-of")] {
        let Pair { from, to, .. } = pair();
        let one = put_image(&from, 1);
        let blob = put_blob_of(&from, "x", "some bytes");
        let of = |digest: Digest, size: u64| (media_type.map(str::to_owned), digest, size);
        let whole = raw_index(&[of(one.manifest.digest(), 0), of(blob.digest, blob.size)]);
        from.put_manifest(&whole, None);
        let arrival = copy(&batch(&from, &[&to]), "v1", &whole).await.unwrap();
        assert_eq!(to.tag("v1"), Some(whole.digest()), "{media_type:?}");
        assert!(to.holds_blob(&blob) && to.stored(one.manifest.digest()).is_some());
        assert_eq!((arrival.manifests, arrival.blobs.copied), (2, 4));
    }
}

#[tokio::test(start_paused = true)]
async fn lost_blob_of_index_is_sent_again() {
    let Pair { from, target, to, .. } = pair();
    let blob = put_blob_of(&from, "", "some bytes");
    let whole = raw_index(&[(None, blob.digest, blob.size)]);
    from.put_manifest(&whole, None);
    target.once_at(Op::Has, blob.digest, Fault::FalseSuccess);
    copy(&batch(&from, &[&to]), "v1", &whole).await.unwrap();
    assert!(to.holds_blob(&blob));
}

#[tokio::test(start_paused = true)]
async fn missing_child_fails_tag_with_its_digest() {
    let Pair { from, to, .. } = pair();
    let digest = Digest::of(b"nowhere");
    let whole = raw_index(&[(None, digest, 7)]);
    from.put_manifest(&whole, None);
    let error = copy(&batch(&from, &[&to]), "v1", &whole).await.unwrap_err();
    assert_eq!(error.subject(), Some(digest.to_string()));
    assert_eq!(to.tag("v1"), None);
}

#[tokio::test(start_paused = true)]
async fn child_blocked_by_quota_defers_tag() {
    let Pair { source, from, to, .. } = pair();
    let blob = put_blob_of(&from, "", "some bytes");
    let whole = raw_index(&[(None, blob.digest, blob.size)]);
    from.put_manifest(&whole, None);
    let spent = Fault::Fail(ErrorKind::QuotaSpent(Duration::from_secs(60)));
    source.always_at(Op::Manifest, blob.digest, spent);
    let error = copy(&batch(&from, &[&to]), "v1", &whole).await.unwrap_err();
    assert_eq!(error.deferral(), Some(Duration::from_secs(60)));
}

#[tokio::test(start_paused = true)]
async fn foreign_layer_without_address_or_by_rule_is_copied() {
    for (urls, foreign_layers, is_copied) in [(false, false, true), (true, false, false), (true, true, true)] {
        let Pair { from, to, .. } = pair();
        let config = from.put_blob("{}");
        let media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        let layer = put_blob_of(&from, media_type, "base of windows");
        let image = image(&config, &[&Descriptor { has_urls: urls, ..layer.clone() }]);
        from.put_manifest(&image, None);
        let rules = Rules { foreign_layers, ..Rules::default() };
        let batch = batch_with(&Copier::new(64 * MIB), &from, &[&to], rules, None);
        copy(&batch, "ltsc", &image).await.unwrap();
        assert_eq!(
            (to.tag("ltsc"), to.holds_blob(&layer)),
            (Some(image.digest()), is_copied),
            "{urls} {foreign_layers}"
        );
    }
}
