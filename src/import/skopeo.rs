//! Translation of the YAML of `skopeo sync --src yaml`: registries with images, selected by name, by regular expression
//! or by version. The target and the depth of names are options on skopeo's command line, here in [`Destination`].

use super::draft::{Draft, Entry, Registry};
use super::page::escape_variables;
use super::reading::{Fields, Reading, View, quoted};
use super::variable::variable_name;
use super::{pattern, range};
use crate::config::{Endpoint, Node};
use crate::oci::{Digest, RegistryHost, Tag, names_host};

/// Keys of a registry.
pub(super) const KEYS: [&str; 6] =
    ["images", "images-by-tag-regex", "images-by-semver", "credentials", "tls-verify", "cert-dir"];

/// Target of `skopeo sync`.
pub(super) struct Destination {
    place: String,
    scoped: bool,
}

impl Destination {
    /// Parses the target. `None` if the text is not HOST or HOST/PREFIX.
    pub(super) fn new(text: &str, scoped: bool) -> Option<Self> {
        let place = text.trim_end_matches('/').to_owned();
        let host = place.split('/').next()?;
        host.parse::<RegistryHost>().ok()?;
        // Without a `.` or a port, the first part would be part of a name at Docker Hub.
        let good = names_host(host) && matches!(format!("{place}/x").parse(), Ok(Endpoint::Repository(_)));
        good.then_some(Self { place, scoped })
    }

    /// Returns the target as HOST or HOST/PREFIX.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    fn target_of(&self, source: &str) -> String {
        let behind = if self.scoped { source } else { source.rsplit('/').next().unwrap_or(source) };
        format!("{}/{behind}", self.place)
    }
}

/// Translates the whole file.
pub(super) fn translate(root: &Node, target: &Destination, reading: &mut Reading) -> Draft {
    let mut draft = Draft::default();
    draft.head.push(
        "`skopeo sync` without --all copies only the image of its own platform; transship copies all platforms, as \
         --all does."
            .into(),
    );
    draft.head.push(
        "Entries without `schedule` run only on request, by `transship once`. Write a `schedule` under `defaults`."
            .into(),
    );
    draft.defaults.verbatim("referrers", false);
    let fields = reading.fields(&View::root(root), "registries");
    for (host, view) in fields.iter() {
        match host.parse::<RegistryHost>() {
            Ok(name) if is_skopeos_host(host) => add_registry(host, &name, view, target, &mut draft, reading),
            Ok(name) => {
                let message = format!(
                    "skopeo reads images of {} at Docker Hub, or cannot read them: the registry is skipped; write a \
                     host with a `.` or a port",
                    quoted(name.as_str())
                );
                let remark = reading.add_unknown(view, message);
                draft.head.push(remark);
            }
            Err(_) => {
                let remark =
                    reading.add_unknown(view, "this key is not the host of a registry: the registry is skipped");
                draft.head.push(remark);
            }
        }
    }
    draft
}

/// Returns true if skopeo treats the first part of a name as a host (containers/image, `splitDockerDomain`). skopeo
/// does not recognise hosts in upper case.
fn is_skopeos_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn add_registry(
    written: &str,
    host: &RegistryHost,
    view: &View<'_>,
    target: &Destination,
    draft: &mut Draft,
    reading: &mut Reading,
) {
    let fields = reading.fields(view, "a registry");
    let comments = reading.add_unknown_keys(&fields, &KEYS, "`skopeo sync`");
    let registry = draft.registry(host);
    registry.comments.extend(comments);
    if reading.bool_of(&fields, "tls-verify") == Some(false) {
        registry.comments.push(
            "If the registry uses plain HTTP, which skopeo tries automatically, write `plain_http: true` \
             instead of `tls`."
                .into(),
        );
        registry.tls.verbatim("insecure_skip_verify", true);
    }
    if let Some(folder) = reading.text_of(&fields, "cert-dir") {
        let message = format!(
            "`cert-dir` {}: name its files under `tls`: the *.crt as `ca`, the *.cert as `certificate`, the *.key as \
             `key`",
            quoted(&folder)
        );
        registry.comments.extend(fields.get("cert-dir").map(|view| reading.add_remark(view, message)));
    }
    if let Some(view) = fields.get("credentials") {
        set_credentials(host, view, registry, reading);
    }
    add_images(written, &fields, target, draft, reading);
}

fn set_credentials(host: &RegistryHost, view: &View<'_>, registry: &mut Registry, reading: &mut Reading) {
    let login = reading.fields(view, "`credentials`");
    registry.comments.extend(reading.add_unknown_keys(&login, &["username", "password"], "`credentials`"));
    let Some(username) = reading.text_of(&login, "username").filter(|name| !name.contains(':')) else {
        registry
            .comments
            .push(reading.add_remark(view, "`credentials` is skipped: the user name is missing or contains a colon"));
        return;
    };
    let name = variable_name(host, "PASSWORD");
    let message = if login.get("password").is_some() {
        format!("the password is not carried over: set the environment variable {name}")
    } else {
        format!("the password is missing: set the environment variable {name}")
    };
    registry.comments.push(reading.add_remark(view, message));
    registry.credentials.text("username", escape_variables(&username));
    registry.credentials.inline_map("password", "env", name);
}

fn add_images(host: &str, fields: &Fields<'_>, target: &Destination, draft: &mut Draft, reading: &mut Reading) {
    if let Some(view) = fields.get("images") {
        // A repository without tags or digests selects all of its tags.
        if let Node::Map(pairs) = view.node {
            let listed = reading.fields(view, "`images`");
            for (name, _) in pairs {
                let items =
                    listed.get(name).map(|view| reading.items(view, "the value of a repository")).unwrap_or_default();
                let entry = include_tags(new_entry(host, name, target), &items, reading);
                add_entry(draft, entry, view, reading);
            }
        } else if *view.node != Node::Null {
            reading.add_error(view, "`images` must be a map of repositories");
        }
    }
    for (name, view, expression) in read_expressions(fields, "images-by-tag-regex", reading) {
        let mut entry = new_entry(host, &name, target);
        match pattern::translate_unanchored(&expression) {
            Some(pattern) => entry.include.push(pattern),
            None => entry.skip(format!("the regular expression {} cannot be translated", quoted(&expression))),
        }
        add_entry(draft, entry, &view, reading);
    }
    for (name, view, expression) in read_expressions(fields, "images-by-semver", reading) {
        let Some(ranges) = range::translate_skopeo(&expression) else {
            let mut entry = new_entry(host, &name, target);
            entry.skip(format!("the range {} has no equivalent", quoted(&expression)));
            add_entry(draft, entry, &view, reading);
            continue;
        };
        for range in ranges {
            let mut entry = new_entry(host, &name, target);
            if range.names_prerelease {
                let remark = reading
                    .add_remark(&view, "transship selects only pre-releases of the version that the range names");
                entry.comments.push(remark);
            } else {
                // For skopeo, a suffix makes a pre-release, which the range does not include.
                entry.exclude = vec!["*-*".into(), "*_*".into()];
            }
            entry.semver = Some(range.text);
            add_entry(draft, entry, &view, reading);
        }
    }
}

fn read_expressions<'n>(fields: &Fields<'n>, key: &str, reading: &mut Reading) -> Vec<(String, View<'n>, String)> {
    let Some(view) = fields.get(key) else { return Vec::new() };
    let pairs = reading.fields(view, &format!("`{key}`"));
    pairs.iter().map(|(name, view)| ((*name).to_owned(), view.clone(), reading.text(view, "an expression"))).collect()
}

fn new_entry(host: &str, name: &str, target: &Destination) -> Entry {
    let mut entry = Entry { source: format!("{host}/{name}"), ..Entry::default() };
    let source = match entry.source.parse() {
        Ok(Endpoint::Repository(source)) => source.to_string(),
        _ => {
            entry.source = quoted(&entry.source);
            entry.skip("the source is not a repository");
            return entry;
        }
    };
    entry.target = target.target_of(&source);
    match entry.target.parse::<Endpoint>() {
        Ok(Endpoint::Repository(place)) if place.to_string() != source => entry.target = place.to_string(),
        Ok(_) => entry.skip("the target is the source"),
        Err(_) => entry.skip("the target is not a repository name"),
    }
    entry.source = source;
    entry
}

fn include_tags(mut entry: Entry, items: &[View<'_>], reading: &mut Reading) -> Entry {
    for item in items {
        let tag = reading.text(item, "a tag");
        if tag.parse::<Digest>().is_ok() {
            entry.include.push(format!("@{tag}"));
        } else if tag.parse::<Tag>().is_ok() {
            entry.include.push(tag.clone());
        } else {
            let message = format!("{} is neither a tag nor a digest, and is skipped", quoted(&tag));
            entry.comments.push(reading.add_unknown(item, message));
        }
    }
    if entry.include.is_empty() && !items.is_empty() {
        entry.skip("none of the tags is valid");
    }
    entry
}

fn add_entry(draft: &mut Draft, entry: Entry, view: &View<'_>, reading: &mut Reading) {
    if let Some(reason) = draft.add(entry) {
        let _ = reading.add_remark(view, format!("skipped an entry: {reason}"));
    }
}
