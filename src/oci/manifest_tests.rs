//! Tests of manifests: each type, unusual shapes, and rejected bodies.

use serde_json::{Value, json};

use super::{Children, ContentKind, Digest, MAX_CHILDREN, Manifest, ManifestError, MediaType};

fn manifest(media_type: &str, body: Value) -> Manifest {
    Manifest::new(MediaType::new(media_type), body.to_string().into())
}

fn blob(size: i64) -> Value {
    json!({"mediaType": "application/octet-stream", "digest": Digest::of(b"x").to_string(), "size": size})
}

#[test]
fn image_of_either_family_lists_blobs_and_subject() {
    for media_type in [MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST] {
        let body = json!({"schemaVersion": 2, "config": blob(1), "layers": [blob(2)], "subject": blob(3)});
        let view = manifest(media_type, body).view().unwrap();
        assert_eq!(view.blobs().len(), 2);
        assert_eq!(view.subject, Some(Digest::of(b"x")));
        assert_eq!(view.artifact_type.as_deref(), Some("application/octet-stream"));
    }
}

#[test]
fn index_with_unknown_or_missing_platforms_is_parsed() {
    let mut other = blob(3);
    other["mediaType"] = MediaType::OCI_MANIFEST.into();
    let mut child = other.clone();
    child["platform"] = json!({"os": "plan9", "architecture": "mips9000"});
    let body = json!({"schemaVersion": 2, "manifests": [child, other], "subject": blob(1)});
    let view = manifest(MediaType::OCI_INDEX, body).view().unwrap();
    assert_eq!(view.manifests()[0].platform.as_ref().unwrap().to_string(), "plan9/mips9000");
    assert_eq!(view.manifests()[1].platform, None);
    assert!(view.subject.is_some());
}

#[test]
fn schema_1_is_rejected_under_any_media_type() {
    for media_type in [MediaType::DOCKER_MANIFEST, "application/vnd.docker.distribution.manifest.v1+prettyjws"] {
        let error = manifest(media_type, json!({"schemaVersion": 1})).view().unwrap_err();
        assert!(matches!(error, ManifestError::Schema1), "{error}");
    }
}

#[test]
fn malformed_body_is_an_error_without_panic() {
    for body in ["", "{}", "[]", "{\"schemaVersion\":2,\"manifests\":[{}]}"] {
        for media_type in MediaType::ACCEPTED {
            assert!(Manifest::new(MediaType::new(media_type), body.into()).view().is_err(), "{body} {media_type}");
        }
    }
    let many = json!({"schemaVersion": 2, "manifests": vec![blob(1); MAX_CHILDREN + 1]});
    assert!(matches!(manifest(MediaType::OCI_INDEX, many).view(), Err(ManifestError::TooManyChildren(1025))));
}

#[test]
fn content_type_of_no_manifest_yields_to_body() {
    let body = json!({"schemaVersion": 2, "config": blob(1), "layers": []}).to_string();
    let received = Manifest::received(Some(&MediaType::new("application/json")), body.clone().into(), None);
    assert_eq!(received.media_type().as_str(), MediaType::OCI_MANIFEST);
    let received = Manifest::received(Some(&MediaType::new(MediaType::DOCKER_MANIFEST)), body.into(), None);
    assert_eq!(received.media_type().as_str(), MediaType::DOCKER_MANIFEST);
}

/// Returns an image without layers, with the properties of `more` added.
fn bare(more: Value) -> Value {
    let mut body = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": blob(2)});
    more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

#[test]
fn absent_and_null_lists_of_an_image_are_empty() {
    for body in
        [bare(json!({})), bare(json!({"layers": null})), bare(json!({"layers": []})), bare(json!({"layers": [null]}))]
    {
        let view = manifest(MediaType::OCI_MANIFEST, body.clone()).view().unwrap();
        assert_eq!(view.blobs().len(), 1, "{body}");
    }
    let nothing = bare(json!({"config": null, "layers": null, "subject": null, "annotations": null}));
    assert!(manifest(MediaType::OCI_MANIFEST, nothing).view().unwrap().blobs().is_empty());
}

#[test]
fn absent_and_null_lists_of_an_index_are_empty() {
    for body in [json!({"mediaType": MediaType::OCI_INDEX}), json!({"schemaVersion": 2, "manifests": null})] {
        let view = manifest(MediaType::OCI_INDEX, body).view().unwrap();
        assert_eq!(view.children, Children::Manifests(Vec::new()));
    }
}

#[test]
fn unneeded_properties_may_have_any_json_type() {
    let mut layer = blob(2);
    for (key, value) in
        [("annotations", json!({"n": 1, "s": "x"})), ("urls", json!(null)), ("platform", json!([])), ("data", json!(7))]
    {
        layer[key] = value;
    }
    let odd = json!({
        "schemaVersion": "2", "artifactType": 5, "annotations": [1, {"a": []}], "layers": [layer], "x": {"y": [null]},
    });
    let view = manifest(MediaType::OCI_MANIFEST, bare(odd)).view().unwrap();
    let [_, layer] = view.blobs()[..] else { panic!("{view:?}") };
    assert_eq!(layer.annotations, [("s".to_owned(), "x".to_owned())].into());
    assert_eq!((layer.has_urls, layer.platform.clone()), (false, None));
    assert_eq!(view.artifact_type.as_deref(), Some("application/octet-stream"));
}

#[test]
fn list_of_wrong_json_type_is_an_error() {
    for bad in [
        json!({"layers": {}}),
        json!({"layers": "x"}),
        json!({"layers": [{}]}),
        json!({"subject": []}),
        json!({"config": 1}),
    ] {
        let error = manifest(MediaType::OCI_MANIFEST, bare(bad.clone())).view().unwrap_err();
        assert!(matches!(error, ManifestError::Malformed { .. }), "{bad}: {error}");
    }
}

#[test]
fn incomplete_platform_is_read_as_absent() {
    let children: Vec<Value> = [
        json!({}), json!(null), json!({"architecture": "amd64"}), json!({"os": "", "architecture": ""}),
        json!({"os": "wasi/wasm", "architecture": "wasm", "variant": "", "os.features": null}),
    ]
    .into_iter()
.map(|platform| {
    json!({"mediaType": MediaType::OCI_MANIFEST, "digest": Digest::of(b"x"), "size": 1, "platform": platform})
})
    .collect();
    let view = manifest(MediaType::OCI_INDEX, json!({"schemaVersion": 2, "manifests": children})).view().unwrap();
    let platforms: Vec<_> =
        view.manifests().iter().map(|child| child.platform.as_ref().map(ToString::to_string)).collect();
    assert_eq!(platforms, [None, None, None, None, Some("wasi/wasm/wasm".to_owned())]);
}

#[test]
fn duplicate_key_counts_with_its_last_value() {
    let text = bare(json!({})).to_string().replacen('{', r#"{"artifactType": "a/b", "artifactType": "c/d", "#, 1);
    let view = Manifest::new(MediaType::new(MediaType::OCI_MANIFEST), text.into()).view().unwrap();
    assert_eq!(view.artifact_type.as_deref(), Some("c/d"));
}

#[test]
fn byte_order_mark_is_skipped_but_kept_in_bytes() {
    let text = format!("\u{feff}{}", bare(json!({})));
    let manifest = Manifest::received(None, text.clone().into(), None);
    assert_eq!((manifest.media_type().as_str(), manifest.view().unwrap().blobs().len()), (MediaType::OCI_MANIFEST, 1));
    assert_eq!(manifest.bytes(), text.as_bytes());
}

#[test]
fn invalid_size_becomes_zero_without_an_error() {
    let sized = |size: Value| bare(json!({"layers": [{"digest": Digest::of(b"x"), "size": size}]}));
    let view = |body: Value| manifest(MediaType::OCI_MANIFEST, body).view();
    assert_eq!(view(sized(json!(2.0))).unwrap().blobs()[1].size, 2);
    for bad in [json!(-1), json!(0.5), json!("2"), json!(null), json!(1e300)] {
        assert_eq!(view(sized(bad.clone())).unwrap().blobs()[1].size, 0, "{bad}");
    }
    let child = json!({"mediaType": MediaType::OCI_MANIFEST, "digest": Digest::of(b"x"), "size": -1});
    let index = json!({"schemaVersion": 2, "manifests": [child, {"digest": Digest::of(b"y")}]});
    assert_eq!(manifest(MediaType::OCI_INDEX, index).view().unwrap().manifests().len(), 2);
}

#[test]
fn index_children_are_classified_by_media_type() {
    let child = |media_type: Option<&str>| json!({"mediaType": media_type, "digest": Digest::of(b"x"), "size": 1});
    let children = [
        child(Some(MediaType::OCI_MANIFEST)),
        child(Some("application/vnd.oci.image.layer.v1.tar+gzip")),
        child(Some("application/vnd.buildkit.cacheconfig.v0")),
        child(Some("application/vnd.example.unheard-of")),
        child(None),
    ];
    let index = json!({"schemaVersion": 2, "manifests": children});
    let view = manifest(MediaType::OCI_INDEX, index).view().unwrap();
    let kinds: Vec<ContentKind> = view.manifests().iter().map(|child| child.kind()).collect();
    assert_eq!(kinds, [ContentKind::Manifest, ContentKind::Unknown, ContentKind::Unknown]);
    assert_eq!(view.blobs().len(), 2);
}

#[test]
fn artifact_manifest_lists_blobs_and_subject() {
    for media_type in [MediaType::OCI_ARTIFACT, MediaType::ORAS_ARTIFACT] {
        let body = json!({
            "mediaType": media_type, "artifactType": "application/spdx+json",
            "blobs": [blob(1)], "subject": blob(3),
        });
        let artifact = Manifest::received(None, body.to_string().into(), None);
        let view = artifact.view().unwrap();
        assert_eq!((artifact.media_type().as_str(), view.blobs().len()), (media_type, 1));
        assert_eq!(
            (view.subject, view.artifact_type.as_deref()),
            (Some(Digest::of(b"x")), Some("application/spdx+json"))
        );
    }
}

#[test]
fn media_type_in_body_overrules_header() {
    let received_type = |stated: &str, body: Value| {
        Manifest::received(Some(&MediaType::new(stated)), body.to_string().into(), None).media_type().to_string()
    };
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [blob(1)]});
    assert_eq!(received_type(MediaType::OCI_MANIFEST, index), MediaType::OCI_INDEX);
    let silent = json!({"schemaVersion": 2, "manifests": [blob(1)]});
    assert_eq!(received_type(MediaType::OCI_MANIFEST, silent.clone()), MediaType::OCI_INDEX);
    assert_eq!(received_type(MediaType::DOCKER_LIST, silent), MediaType::DOCKER_LIST);
    let unheard_of = json!({"mediaType": "application/vnd.example.v9+json"});
    assert_eq!(received_type("application/json", unheard_of), "application/vnd.example.v9+json");
}

#[test]
fn body_of_another_manifest_type_is_rejected() {
    let image = bare(json!({"mediaType": MediaType::OCI_INDEX}));
    let error = manifest(MediaType::OCI_INDEX, image).view().unwrap_err();
    assert!(error.to_string().contains("lists no manifests"), "{error}");
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "manifests": [blob(1)]});
    let error = manifest(MediaType::OCI_MANIFEST, index).view().unwrap_err();
    assert!(error.to_string().contains("has no layers"), "{error}");
}
