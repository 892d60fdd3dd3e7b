//! Tests of the parser and editor of `index.json`.

use super::entry::REF_NAME;
use super::*;

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn image(content: &str) -> Manifest {
    Manifest::new(MediaType::new(MediaType::OCI_MANIFEST), content.to_owned().into())
}

fn text(index: &Index) -> String {
    String::from_utf8(index.render()).unwrap()
}

fn entry(manifest: &Manifest, rest: &str) -> String {
    let size = manifest.bytes().len();
    format!(r#"{{ "size":{size}, "digest":"{}","mediaType":"{}"{rest}}}"#, manifest.digest(), manifest.media_type())
}

fn named(manifest: &Manifest, name: &str) -> String {
    entry(manifest, &format!(r#","annotations":{{"{REF_NAME}":"{name}"}}"#))
}

#[test]
fn foreign_entries_keep_their_bytes_when_tag_is_added() {
    let foreign = format!(
        "{},{{\"mediaType\":\"x\", \"digest\":\"md5:00\",\"big\":123456789012345678901234567890}},  7",
        entry(&image("a"), r#", "x-unknown": {"b":1, "a":2}"#)
    );
    let mut index = Index::parse(
        format!("{{\"zeta\": [1,  2],\n\"schemaVersion\":2,\"manifests\":[{foreign}], \"annotations\":{{}}}}")
            .into_bytes(),
    )
    .unwrap();
    assert!(index.set_tag(&tag("v1"), &image("b"), |_| false));
    let text = text(&index);
    assert!(text.starts_with("{\"zeta\": [1,  2],\n\"schemaVersion\":2,\"manifests\":["), "{text}");
    assert!(text.ends_with(r#"], "annotations":{}}"#), "{text}");
    for piece in foreign.split(",  7") {
        assert!(text.contains(piece), "{piece} in {text}");
    }
    assert!(text.contains(",7,"), "{text}");
}

#[test]
fn name_with_two_digests_is_ambiguous_until_moved() {
    let (a, b, c) = (image("a"), image("b"), image("c"));
    let of_docker = |image: &Manifest, whole: &str| {
        entry(image, &format!(r#","annotations":{{"{REF_NAME}":"v1","io.containerd.image.name":"{whole}"}}"#))
    };
    let list =
        format!(r#"{{"manifests":[{},{}]}}"#, of_docker(&a, "docker.io/x/a:v1"), of_docker(&b, "docker.io/x/b:v1"));
    let mut index = Index::parse(list.into_bytes()).unwrap();
    let both = vec![(a.digest(), "docker.io/x/a:v1".to_owned()), (b.digest(), "docker.io/x/b:v1".to_owned())];
    assert_eq!(index.find(&tag("v1")), Named::Several(both.clone()));
    assert_eq!(index.names(), [("v1", Named::Several(both))]);
    assert!(index.set_tag(&tag("v1"), &c, |_| false));
    assert_eq!(index.entries().len(), 1);
    assert_eq!(index.find(&tag("v1")), Named::One(&Pointer::from_manifest(&c)));
    assert!(!index.set_tag(&tag("v1"), &c, |_| false), "the tag points at this manifest already");
    assert_eq!(index.find(&tag("v2")), Named::Nothing);
}

#[test]
fn duplicate_entries_of_one_digest_resolve_to_it() {
    let a = image("a");
    let list = format!(r#"{{"manifests":[{},{}]}}"#, named(&a, "v1"), named(&a, "v1"));
    let index = Index::parse(list.into_bytes()).unwrap();
    assert_eq!(index.find(&tag("v1")), Named::One(&Pointer::from_manifest(&a)));
}

#[test]
fn platforms_under_one_name_are_distinguished_by_platform() {
    let with_platform = |image: &Manifest, architecture: &str| {
        let platform = format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}"#);
        entry(image, &format!(r#"{platform},"annotations":{{"{REF_NAME}":"v1"}}"#))
    };
    let list =
        format!(r#"{{"manifests":[{},{}]}}"#, with_platform(&image("a"), "amd64"), with_platform(&image("b"), "arm64"));
    let index = Index::parse(list.into_bytes()).unwrap();
    let Named::Several(several) = index.find(&tag("v1")) else { panic!() };
    assert_eq!(
        several.iter().map(|(_, platform)| platform.as_str()).collect::<Vec<_>>(),
        ["linux/amd64", "linux/arm64"]
    );
}

#[test]
fn entry_without_size_resolves_and_entry_without_digest_fails() {
    let digest = image("a").digest();
    let list = format!(
        r#"{{"manifests":[{{"digest":"{digest}","annotations":{{"{REF_NAME}":"v1"}}}},
           {{"digest":7,"annotations":{{"{REF_NAME}":"v2"}}}},{{"annotations":null}},[],null]}}"#
    );
    let index = Index::parse(list.into_bytes()).unwrap();
    let Named::One(at) = index.find(&tag("v1")) else { panic!() };
    assert_eq!((at.digest, at.size, at.media_type.as_str()), (digest, None, ""));
    assert_eq!(index.find(&tag("v2")), Named::Unknown);
    assert_eq!(index.entries().iter().filter(|entry| entry.target.is_none()).count(), 4);
}

#[test]
fn document_without_list_gets_one_at_its_end() {
    for (text, expected) in [("{} ", "{\"manifests\":["), ("{\"a\":1}\n", "{\"a\":1,\"manifests\":[")] {
        let mut index = Index::parse(text.as_bytes().to_vec()).unwrap();
        assert!(index.add(&image("a")));
        let written = index.render();
        assert!(String::from_utf8_lossy(&written).starts_with(expected), "{}", String::from_utf8_lossy(&written));
        assert_eq!(Index::parse(written).unwrap().entries().len(), 1);
    }
}

#[test]
fn unnamed_entry_stays_only_where_caller_needs_it() {
    let (a, b) = (image("a"), image("b"));
    let list = format!(r#"{{"manifests":[{},{}]}}"#, named(&a, "v1"), named(&b, "v2"));
    let mut index = Index::parse(list.into_bytes()).unwrap();
    assert!(index.remove_tag(&tag("v1"), |digest| *digest == a.digest()));
    assert!(index.remove_tag(&tag("v2"), |digest| *digest == a.digest()));
    assert!(!index.remove_tag(&tag("v2"), |_| true));
    assert_eq!(index.entries().len(), 1);
    assert_eq!(index.entries()[0].name, None);
    assert!(!text(&index).contains("annotations"));
}

#[test]
fn nameless_entry_takes_name_and_keeps_other_fields() {
    let a = image("a");
    let list = format!(r#"{{"manifests":[{}]}}"#, entry(&a, r#","annotations":{"k":"v"},"x":1"#));
    let mut index = Index::parse(list.into_bytes()).unwrap();
    assert!(index.set_tag(&tag("v1"), &a, |_| false));
    assert!(index.set_tag(&tag("v2"), &a, |_| false));
    assert_eq!(index.entries().len(), 2);
    let text = text(&index);
    assert!(text.contains(r#""k":"v""#) && text.contains(r#""x":1"#), "{text}");
}

#[test]
fn manifest_name_annotation_does_not_name_its_entry() {
    let body = serde_json::json!({"subject": {}, "artifactType": "a/b", "annotations": {REF_NAME: "evil", "k": "v"}});
    let mut index = Index::empty();
    assert!(index.add(&image(&body.to_string())));
    assert!(!index.add(&image(&body.to_string())));
    let text = text(&index);
    assert!(
        !text.contains("evil") && text.contains(r#""k":"v""#) && text.contains(r#""artifactType":"a/b""#),
        "{text}"
    );
}

#[test]
fn null_list_is_empty_and_other_shapes_fail() {
    assert!(Index::parse(br#"{"schemaVersion":2,"manifests":null}"#.to_vec()).unwrap().entries().is_empty());
    assert!(Index::parse(br#"{"schemaVersion":2}"#.to_vec()).unwrap().entries().is_empty());
    let error = |text: &str| Index::parse(text.as_bytes().to_vec()).unwrap_err().to_string();
    assert_eq!(error(r#"{"manifests":[],"manifests":[]}"#), "\"manifests\" occurs twice");
    let many = format!("{{\"manifests\":[{}0]}}", "0,".repeat(MAX_ENTRIES + 1));
    assert_eq!(error(&many), "\"manifests\" lists 400002 manifests, more than the maximum of 400000");
    assert_eq!(error(r#"{"manifests":{}}"#), "\"manifests\" is not a list");
    assert!(error("[]").contains("expected an object"), "{}", error("[]"));
    assert!(error("{\"manifests\":[").contains("at line 1"), "{}", error("{\"manifests\":["));
}
