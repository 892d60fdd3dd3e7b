//! The YAML of `skopeo sync --src yaml`: registries with images, chosen by name, by regular expression or by version. Where to
//! and how deep the names go is said on skopeo's command line, here by [`Destination`].

use super::draft::{Draft, Entry, Registry};
use super::page::plain;
use super::reading::{Fields, Reading, View, told};
use super::variable::variable;
use super::{pattern, range};
use crate::config::{Endpoint, Node};
use crate::oci::{Digest, RegistryHost, Tag, names_host};

/// The keys of a registry.
pub(super) const KEYS: [&str; 6] =
    ["images", "images-by-tag-regex", "images-by-semver", "credentials", "tls-verify", "cert-dir"];

/// Where `skopeo sync` copies to.
pub(super) struct Destination {
    place: String,
    scoped: bool,
}

impl Destination {
    /// `None` where the text is no HOST or HOST/PREFIX.
    pub(super) fn new(text: &str, scoped: bool) -> Option<Self> {
        let place = text.trim_end_matches('/').to_owned();
        let host = place.split('/').next()?;
        host.parse::<RegistryHost>().ok()?;
        // Without one the first part would be a part of a name at Docker Hub.
        let good = names_host(host) && matches!(format!("{place}/x").parse(), Ok(Endpoint::Repository(_)));
        good.then_some(Self { place, scoped })
    }

    fn of(&self, source: &str) -> String {
        let behind = if self.scoped { source } else { source.rsplit('/').next().unwrap_or(source) };
        format!("{}/{behind}", self.place)
    }
}

/// Reads the whole file.
pub(super) fn draft(root: &Node, target: &Destination, reading: &mut Reading) -> Draft {
    let mut draft = Draft::default();
    draft.head.push(
        "`skopeo sync` without --all copies the image of its own platform; here an image comes whole, as by --all."
            .into(),
    );
    draft.head.push("Entries without `schedule` run by hand: `transship once`. Write one under `defaults`.".into());
    draft.defaults.verbatim("referrers", false);
    let fields = reading.fields(&View::root(root), "registries");
    for (host, view) in fields.iter() {
        match host.parse::<RegistryHost>() {
            Ok(name) if is_skopeos_host(host) => registry(host, &name, view, target, &mut draft, reading),
            Ok(name) => {
                let message = format!(
                    "skopeo reads images of {} at Docker Hub, or not at all: left out; write a host with a `.` or a \
                     port",
                    told(name.as_str())
                );
                let remark = reading.unknown(view, message);
                draft.head.push(remark);
            }
            Err(_) => {
                let remark = reading.unknown(view, "this is no registry's host: left out");
                draft.head.push(remark);
            }
        }
    }
    draft
}

/// `true` where skopeo takes the first part of a name for a host (containers/image, `splitDockerDomain`). It knows no
/// hosts in upper case.
fn is_skopeos_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn registry(
    written: &str,
    host: &RegistryHost,
    view: &View<'_>,
    target: &Destination,
    draft: &mut Draft,
    reading: &mut Reading,
) {
    let fields = reading.fields(view, "a registry");
    let comments = reading.unknown_keys(&fields, &KEYS, "`skopeo sync`");
    let sheet = draft.registry(host);
    sheet.comments.extend(comments);
    if reading.bool_of(&fields, "tls-verify") == Some(false) {
        sheet.comments.push(
            "If it speaks plain HTTP, which skopeo tries by itself, write `plain_http: true` instead of `tls`.".into(),
        );
        sheet.tls.verbatim("insecure_skip_verify", true);
    }
    if let Some(folder) = reading.text_of(&fields, "cert-dir") {
        let message = format!(
            "`cert-dir` {}: name its files under `tls`, the *.crt as `ca`, the *.cert as `certificate`, the *.key as `key`",
            told(&folder)
        );
        sheet.comments.extend(fields.get("cert-dir").map(|view| reading.remark(view, message)));
    }
    if let Some(view) = fields.get("credentials") {
        credentials(host, view, sheet, reading);
    }
    images(written, &fields, target, draft, reading);
}

fn credentials(host: &RegistryHost, view: &View<'_>, sheet: &mut Registry, reading: &mut Reading) {
    let login = reading.fields(view, "`credentials`");
    sheet.comments.extend(reading.unknown_keys(&login, &["username", "password"], "`credentials`"));
    let Some(username) = reading.text_of(&login, "username").filter(|name| !name.contains(':')) else {
        sheet.comments.push(reading.remark(view, "`credentials` without a plain user name: left out"));
        return;
    };
    let name = variable(host, "PASSWORD");
    let message = if login.get("password").is_some() {
        format!("the password is not carried over: set the environment variable {name}")
    } else {
        format!("there is no password: set the environment variable {name}")
    };
    sheet.comments.push(reading.remark(view, message));
    sheet.credentials.text("username", plain(&username));
    sheet.credentials.one("password", "env", name);
}

fn images(host: &str, fields: &Fields<'_>, target: &Destination, draft: &mut Draft, reading: &mut Reading) {
    if let Some(view) = fields.get("images") {
        // A repository without anything behind it is all of its tags.
        if let Node::Map(pairs) = view.node {
            let listed = reading.fields(view, "`images`");
            for (name, _) in pairs {
                let items = listed.get(name).map(|view| reading.items(view, "tags and digests")).unwrap_or_default();
                let entry = of_tags(entry(host, name, target), &items, reading);
                add(draft, entry, view, reading);
            }
        } else if *view.node != Node::Null {
            reading.wrong(view, "expected `images`: a map of repositories");
        }
    }
    for (name, view, expression) in expressions(fields, "images-by-tag-regex", reading) {
        let mut entry = entry(host, &name, target);
        match pattern::anywhere(&expression) {
            Some(pattern) => entry.include.push(pattern),
            None => entry.leave_out(format!("the regular expression {} is not understood", told(&expression))),
        }
        add(draft, entry, &view, reading);
    }
    for (name, view, expression) in expressions(fields, "images-by-semver", reading) {
        let Some(ranges) = range::skopeo(&expression) else {
            let mut entry = entry(host, &name, target);
            entry.leave_out(format!("the range {} has no equal", told(&expression)));
            add(draft, entry, &view, reading);
            continue;
        };
        for range in ranges {
            let mut entry = entry(host, &name, target);
            if range.names_prerelease {
                let remark =
                    reading.remark(&view, "pre-releases here are only those of the version that the range names");
                entry.comments.push(remark);
            } else {
                // A suffix makes a pre-release there, and those are out.
                entry.exclude = vec!["*-*".into(), "*_*".into()];
            }
            entry.semver = Some(range.text);
            add(draft, entry, &view, reading);
        }
    }
}

fn expressions<'n>(fields: &Fields<'n>, key: &str, reading: &mut Reading) -> Vec<(String, View<'n>, String)> {
    let Some(view) = fields.get(key) else { return Vec::new() };
    let pairs = reading.fields(view, &format!("`{key}`"));
    pairs.iter().map(|(name, view)| ((*name).to_owned(), view.clone(), reading.text(view, "an expression"))).collect()
}

fn entry(host: &str, name: &str, target: &Destination) -> Entry {
    let mut entry = Entry { source: format!("{host}/{name}"), ..Entry::default() };
    let source = match entry.source.parse() {
        Ok(Endpoint::Repository(source)) => source.to_string(),
        _ => {
            entry.source = told(&entry.source);
            entry.leave_out("this names no repository");
            return entry;
        }
    };
    entry.target = target.of(&source);
    match entry.target.parse::<Endpoint>() {
        Ok(Endpoint::Repository(place)) if place.to_string() != source => entry.target = place.to_string(),
        Ok(_) => entry.leave_out("the target is the source"),
        Err(_) => entry.leave_out("the target is no repository's name"),
    }
    entry.source = source;
    entry
}

fn of_tags(mut entry: Entry, items: &[View<'_>], reading: &mut Reading) -> Entry {
    for item in items {
        let tag = reading.text(item, "a tag");
        if tag.parse::<Digest>().is_ok() {
            entry.include.push(format!("@{tag}"));
        } else if tag.parse::<Tag>().is_ok() {
            entry.include.push(tag.clone());
        } else {
            let message = format!("{} is neither a tag nor a digest: left out", told(&tag));
            entry.comments.push(reading.unknown(item, message));
        }
    }
    if entry.include.is_empty() && !items.is_empty() {
        entry.leave_out("none of its tags is one");
    }
    entry
}

fn add(draft: &mut Draft, entry: Entry, view: &View<'_>, reading: &mut Reading) {
    if let Some(reason) = draft.add(entry) {
        let _ = reading.remark(view, format!("an entry is left out: {reason}"));
    }
}
