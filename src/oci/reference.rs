//! References such as `ghcr.io/team/app:v1`, parsed by Docker's rules.

use std::fmt;
use std::str::FromStr;

use super::{Digest, DigestError, NameError, RegistryHost, RepositoryName, Tag, names_host};

/// Registry of a reference without a host.
const DOCKER_HUB: &str = "docker.io";

/// Transports of other programs (containers-transports(5)). A text with such a prefix, for example `dir:/srv/x`, is not
/// a reference to a registry.
const TRANSPORTS: [&str; 10] = [
    "containers-storage",
    "dir",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "oci-layout",
    "ostree",
    "sif",
    "tarball",
];

/// One repository of one registry: `docker.io/library/ubuntu`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    /// The registry.
    pub host: RegistryHost,
    /// The name of the repository in the registry.
    pub name: RepositoryName,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host.in_reference(), self.name)
    }
}

/// Name of a manifest within a repository.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ManifestRef {
    /// A tag, which may move.
    Tag(Tag),
    /// A digest, which never changes.
    Digest(Digest),
}

impl fmt::Display for ManifestRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Debug for ManifestRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Tag> for ManifestRef {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for ManifestRef {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// A repository with an optional tag and an optional digest: `ubuntu:24.04@sha256:…`.
///
/// The parser follows Docker's rules. The text before the first `/` is the host only if [`names_host`] returns true for
/// this text. Otherwise the host is Docker Hub, so `ubuntu` is `docker.io/library/ubuntu`. Unlike Docker, the parser
/// adds no default tag: a reference without a tag means the whole repository. Parsing the printed form returns the same
/// value.
///
/// ```
/// use transship::oci::{ManifestRef, Reference};
///
/// let reference: Reference = "localhost:5000/tools/kubectl:v1.30".parse()?;
/// assert_eq!(reference.repository.host.as_str(), "localhost:5000");
/// assert_eq!(reference.repository.name.as_str(), "tools/kubectl");
/// assert_eq!(reference.manifest(), Some(ManifestRef::Tag("v1.30".parse()?)));
///
/// let short: Reference = "ubuntu".parse()?;
/// assert_eq!(short.to_string(), "docker.io/library/ubuntu");
/// assert_eq!(short.manifest(), None, "no tag is added");
///
/// let refused = "https://quay.io/app".parse::<Reference>().unwrap_err();
/// assert_eq!(refused.to_string(), r#""https://quay.io/app" has a scheme: write "quay.io/app""#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// The tag, if the text contains a tag.
    pub tag: Option<Tag>,
    /// The digest, if the text contains a digest. The digest takes precedence over the tag.
    pub digest: Option<Digest>,
}

/// Error of parsing a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// A scheme such as `https://` or `docker://` before the host.
    #[error("{text:?} has a scheme: write {without:?}")]
    Scheme {
        /// The whole text.
        text: String,
        /// The text without its scheme.
        without: String,
    },
    /// A prefix such as `dir:`, which is a transport of another program.
    #[error("{text:?} is not in a registry: {}", transport_remedy(.text, .transport))]
    Transport {
        /// The whole text.
        text: String,
        /// The transport.
        transport: &'static str,
    },
    /// A path of a file or folder.
    #[error("{0:?} is a path: write oci-layout:{0} for an image layout, or oci-archive:{0} for an archive")]
    Path(String),
    /// A registry without a repository.
    #[error("{0} is a registry without a repository: write {0}/REPOSITORY")]
    NoRepository(String),
    /// A text that does not have the form of a reference.
    #[error("{0:?} is not a reference: expected [host/]repository[:tag][@digest]")]
    Shape(String),
    /// A name that does not match its grammar.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An invalid digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// Returns the name of the manifest, or `None` for the whole repository. The digest takes precedence over the tag.
    #[must_use]
    pub fn manifest(&self) -> Option<ManifestRef> {
        self.digest.map(ManifestRef::Digest).or_else(|| self.tag.clone().map(ManifestRef::Tag))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if let Some((_, without)) = text.split_once("://") {
            return Err(ReferenceError::Scheme { text: text.to_owned(), without: without.to_owned() });
        }
        refuse_other_forms(text)?;
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') && !tag.ends_with(']') => (name, Some(tag.parse::<Tag>()?)),
            _ => (rest, None),
        };
        Ok(Self { repository: parse_repository(name, text)?, tag, digest })
    }
}

/// Returns an error for a transport, a path, or a registry without a repository. By Docker's rules, some of these texts
/// would be images of Docker Hub, such as `oci:x`.
fn refuse_other_forms(text: &str) -> Result<(), ReferenceError> {
    if let Some(transport) = text.split_once(':').and_then(|(first, _)| TRANSPORTS.iter().find(|name| **name == first))
    {
        return Err(ReferenceError::Transport { text: text.to_owned(), transport });
    }
    if ["./", "../", "~/"].iter().any(|start| text.starts_with(start)) || (text.starts_with('/') && text.len() > 1) {
        return Err(ReferenceError::Path(text.to_owned()));
    }
    match parse_registry_alone(text) {
        Some(host) => Err(ReferenceError::NoRepository(host.in_reference().into_owned())),
        None => Ok(()),
    }
}

/// If the text is a registry without a repository, such as `ghcr.io` or `localhost:5000/`, returns the registry. By
/// Docker's rules, `10.0.0.5:5000` would be the tag `5000` of an image of Docker Hub.
fn parse_registry_alone(text: &str) -> Option<RegistryHost> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (text, ""),
    };
    let is_port = port.bytes().all(|b| b.is_ascii_digit());
    let is_host = name.eq_ignore_ascii_case("localhost") || name.contains('.') || name.starts_with('[');
    if is_port && is_host && !text.contains('/') { text.parse().ok() } else { None }
}

fn transport_remedy(text: &str, transport: &str) -> String {
    match transport {
        "oci" => format!("write oci-layout:{}", text.strip_prefix("oci:").unwrap_or_default()),
        _ => format!(
            "transship does not use the transport {transport}; write oci-layout:PATH for an image layout, or \
             oci-archive:PATH for an archive, which skopeo creates"
        ),
    }
}

/// Applies Docker's rules for hosts and for `library/`. The grammar of a host is the grammar of [`RegistryHost`], as
/// for a key of `registries`. `name` is the text before the tag, and `whole` is the whole text, for the error.
fn parse_repository(name: &str, whole: &str) -> Result<Repository, ReferenceError> {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let (host, path) = if names_host(first) { (first, rest) } else { (DOCKER_HUB, name) };
    if has_upper_case(path) {
        return Err(NameError::Repository(path.to_owned()).into());
    }
    let refused = |error: NameError| {
        if names_host(first) { error.into() } else { ReferenceError::Shape(whole.to_owned()) }
    };
    build_repository(host.parse()?, path).map_err(refused)
}

/// Returns the repository at this path of a host. On Docker Hub, a path without a namespace gets the namespace
/// `library`.
fn build_repository(host: RegistryHost, path: &str) -> Result<Repository, NameError> {
    let name = if host.is_docker_hub() && !path.contains('/') {
        RepositoryName::from_str(&format!("library/{path}")).map_err(|_| NameError::Repository(path.to_owned()))
    } else {
        path.parse()
    };
    Ok(Repository { name: name?, host })
}

fn has_upper_case(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn read(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn references_follow_dockers_host_rules() {
        assert_eq!(read("ubuntu"), "docker.io/library/ubuntu");
        assert_eq!(read("ubuntu:24.04"), "docker.io/library/ubuntu:24.04");
        assert_eq!(read("bitnami/redis"), "docker.io/bitnami/redis");
        assert_eq!(read("docker.io/ubuntu"), "docker.io/library/ubuntu");
        assert_eq!(read("index.docker.io/ubuntu"), "docker.io/library/ubuntu");
        assert_eq!(read("registry-1.docker.io/ubuntu"), "docker.io/library/ubuntu");
        assert_eq!(read("localhost/x"), "localhost/x");
        assert_eq!(read("localhost:5000/x:y"), "localhost:5000/x:y");
        assert_eq!(read("10.0.0.5:5000/a/b/c"), "10.0.0.5:5000/a/b/c");
        assert_eq!(read("[::1]:5000/a:b"), "[::1]:5000/a:b");
        assert_eq!(read("GHCR.io/a/b"), "ghcr.io/a/b");
        let digest = Digest::of(b"x");
        assert_eq!(read(&format!("a/b:c@{digest}")), format!("docker.io/a/b:c@{digest}"));
    }

    #[test]
    fn reference_without_tag_means_whole_repository() {
        let reference: Reference = "ghcr.io/a/b".parse().unwrap();
        assert_eq!(reference.manifest(), None);
    }

    #[test]
    fn malformed_reference_error_states_the_remedy() {
        let message = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
        assert_eq!(message("https://ghcr.io/a"), r#""https://ghcr.io/a" has a scheme: write "ghcr.io/a""#);
        assert_eq!(message(""), r#""" is not a reference: expected [host/]repository[:tag][@digest]"#);
        assert!(message("ghcr.io/A/b").starts_with(r#""A/b" is not a repository name"#));
        assert!(message("a:b@sha256:1").starts_with(r#""sha256:1" is not a digest"#));
    }

    #[test]
    fn reference_that_docker_rejects_is_rejected() {
        let shape = |text: &str| format!("{text:?} is not a reference: expected [host/]repository[:tag][@digest]");
        let digest = Digest::of(b"x");
        for text in ["/", "a/", "a//b", "a b", "é", "-a", "a-", "a..b", "a:b:c", &format!("@{digest}"), "a:b]"] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert_eq!(error, shape(text));
        }
        let message = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
        for host in ["h:99999", "h:x", "h:", "h:1:2", "a..b", "-a.b", "a-.b", "[zz]"] {
            assert!(message(&format!("{host}/a")).starts_with(&format!("{host:?} is not a registry host")));
        }
        assert!(message("h:1/a:b:c").starts_with(r#""a:b" is not a repository name"#));
        assert!(message("GHCR.io/a//b").starts_with(r#""a//b" is not a repository name"#));
        assert!(message("Docker.io/a..b").starts_with(r#""a..b" is not a repository name"#));
        assert!(message("a:é").starts_with(r#""é" is not a tag"#));
    }

    #[test]
    fn registry_alone_is_refused_with_its_form() {
        let message = |text: &str| text.parse::<Reference>().map_err(|error| error.to_string());
        for text in ["127.0.0.1:23002", "ghcr.io", "localhost", "localhost:5000", "[::1]", "[::1]:5000", "h.example/"] {
            let host = text.trim_end_matches('/');
            let expected = format!("{host} is a registry without a repository: write {host}/REPOSITORY");
            assert_eq!(message(text), Err(expected));
        }
        for image in ["redis:7", "debian:12", "ubuntu:24.04", "docker:27"] {
            assert_eq!(message(image).unwrap().to_string(), format!("docker.io/library/{image}"));
        }
    }

    #[test]
    fn path_and_transport_are_refused_with_their_form() {
        let message = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
        assert_eq!(message("oci:/srv/x:1"), r#""oci:/srv/x:1" is not in a registry: write oci-layout:/srv/x:1"#);
        for text in ["dir:/srv/x", "docker-daemon:alpine:3", "docker-archive:x.tar", "containers-storage:x"] {
            let message = message(text);
            assert!(message.starts_with(&format!("{text:?} is not in a registry: transship does not use the")));
            assert!(message.contains("write oci-layout:PATH"), "{message}");
        }
        let path = r#""./x" is a path: write oci-layout:./x for an image layout, or oci-archive:./x for an archive"#;
        assert_eq!(message("./x"), path);
        assert!(message("/srv/x").contains("is a path") && message("../x").contains("is a path"));
    }

    #[test]
    fn upper_case_host_follows_the_same_rules() {
        assert_eq!(read("my_host:80/a"), "my_host:80/a");
        assert_eq!(read("Docker.io/ubuntu"), "docker.io/library/ubuntu");
        assert_eq!(read("GHCR/a"), "GHCR/a");
        assert_eq!(read("MyRegistry/a:1"), "MYREGISTRY/a:1");
        assert_eq!(read("Localhost/a"), "localhost/a");
    }

    /// Parses by oci-client, with three corrections for the differences between oci-client and transship:
    /// - A host that oci-client does not recognise is replaced by another host before parsing.
    /// - A repository of Docker Hub without a namespace is in `library`.
    /// - The tag `latest` that oci-client adds is removed.
    ///
    /// oci-client parses a registry without a repository, and a text with a transport, as images of Docker Hub.
    /// transship refuses both texts, so this function returns `None`.
    fn oracle(text: &str) -> Option<Reference> {
        let alone = regex::Regex::new(r"^(?i:localhost|\[[^/@]*\]|[^/@]*\.[^/@]*?)(:[0-9]*)?/?$").unwrap();
        if alone.is_match(text) && text.trim_end_matches('/').parse::<RegistryHost>().is_ok()
            || text.split_once(':').is_some_and(|(first, _)| TRANSPORTS.contains(&first))
        {
            return None;
        }
        let replaced = text.split_once('/').filter(|(first, _)| {
            let is_unrecognised =
                first.starts_with('[') || first.contains('_') || first.bytes().any(|b| b.is_ascii_uppercase());
            !first.contains('@') && names_host(first) && is_unrecognised
        });
        let known: oci_client::Reference = match replaced {
            Some((_, rest)) => format!("h.example/{rest}").parse().ok()?,
            None => text.parse().ok()?,
        };
        let host = replaced.map_or(known.registry(), |(first, _)| first).parse::<RegistryHost>().ok()?;
        let path = match known.repository() {
            path if host.is_docker_hub() && !path.contains('/') => format!("library/{path}"),
            path => path.to_owned(),
        };
        // If the text has neither a tag nor a digest, oci-client adds the tag `latest`.
        let added = known.digest().is_none() && known.tag() == Some("latest") && !text.ends_with(":latest");
        let tag = known.tag().filter(|_| !added).map(str::parse).transpose().ok()?;
        let digest = known.digest().map(str::parse).transpose().ok()?;
        Some(Reference { repository: Repository { host, name: path.parse().ok()? }, tag, digest })
    }

    /// Generates references with valid and invalid parts.
    fn reference_text() -> impl Strategy<Value = String> {
        let host = prop_oneof![
            select(vec![
                "",
                "",
                "docker.io/",
                "index.docker.io/",
                "registry-1.docker.io/",
                "Docker.io/",
                "localhost/",
                "Localhost/",
                "localhost:5000/",
                "10.0.0.5:5000/",
                "[::1]/",
                "[::1]:5000/",
                "[::1/",
                "h_o.st/",
                "h_o.st:1/",
                "ghcr/",
                "h:0/",
                "h:65536/",
                "h:/",
                "h:1:2/",
                "/",
                "a..b/",
                "-a.b/",
                "a_.b/",
                "A_.b/",
                "A_b/",
            ])
            .prop_map(str::to_owned),
            "[a-zA-Z0-9.:_-]{1,8}/",
            "[a-z0-9]{1,3}(\\.[a-z0-9-]{1,3}){0,2}(:[0-9]{1,5})?/",
        ];
        let path = prop_oneof![
            3 => "[a-z0-9]{1,3}([._-]{1,3}[a-z0-9]{1,2}){0,2}(/[a-z0-9]{1,3}){0,2}",
            1 => "[a-zA-Z0-9._/-]{0,8}",
            1 => (240_usize..260).prop_map(|length| "a".repeat(length)),
        ];
        let tag = prop_oneof![4 => Just(String::new()), 2 => ":[a-zA-Z0-9_][a-zA-Z0-9._-]{0,6}", 1 => ":[a-z:.é-]{0,3}",
            1 => (126_usize..131).prop_map(|length| format!(":{}", "t".repeat(length)))];
        let digest = prop_oneof![
            4 => Just(String::new()), 2 => "@sha256:[0-9a-f]{64}", 1 => "@sha512:[0-9a-f]{128}",
            1 => "@(sha256|sha384|md5|):?[0-9a-fA-F]{31,65}", 1 => "@[a-z@:]{0,3}",
        ];
        (host, path, tag, digest).prop_map(|(host, path, tag, digest)| format!("{host}{path}{tag}{digest}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 10_000,
            failure_persistence: None,
            rng_seed: proptest::test_runner::RngSeed::Fixed(7),
            ..ProptestConfig::default()
        })]

        #[test]
        fn printed_reference_parses_to_the_same_value(text in reference_text()) {
            if let Ok(reference) = text.parse::<Reference>() {
                let printed = reference.to_string();
                prop_assert_eq!(printed.parse::<Reference>(), Ok(reference.clone()), "{}", printed);
                let repository = reference.repository.to_string();
                prop_assert_eq!(repository.parse::<Reference>().map(|read| read.repository), Ok(reference.repository));
            }
        }

        #[test]
        fn references_parse_as_oci_client_parses_them(text in prop_oneof![
            8 => reference_text(),
            4 => "[aB0./:@_\\[\\]é-]{0,9}",
            1 => any::<String>(),
            4 => (
                reference_text(),
                any::<prop::sample::Index>(),
                select(vec!['/', ':', '@', '.', '-', '_', 'A', '[', ' ', 'é']),
            ).prop_map(
                |(text, at, other)| {
                    let mut characters: Vec<char> = text.chars().collect();
                    if !characters.is_empty() {
                        let at = at.index(characters.len());
                        characters[at] = other;
                    }
                    characters.into_iter().collect()
                },
            ),
        ]) {
            prop_assert_eq!(text.parse::<Reference>().ok(), oracle(&text), "{}", text);
        }
    }
}
