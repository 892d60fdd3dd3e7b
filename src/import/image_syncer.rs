//! Translation of image-syncer's files: rules from a source to its destinations, and the authentication of registries
//! and namespaces. One file may have both, or each has a file of its own.

mod auth;
mod image;
mod keys;

use std::collections::{BTreeMap, BTreeSet};

use super::access::{Access, set_access};
use super::draft::{Draft, Entry};
use super::ends::set_ends;
use super::pattern;
use super::reading::{Reading, View, quoted};
use super::template::Template;
use super::treatment::unsupported_keys;
use crate::config::{Endpoint, Node, may_be_secret};
use crate::oci::RegistryHost;
use image::{Image, Images, parse_image};

pub(super) use auth::{AuthRules, is_auth, read_auth};
pub(super) use image::is_rule;

/// Rule of one source and one destination.
struct Rule<'n> {
    view: View<'n>,
    source: String,
    /// Destination, in which `$NAME` is a variable; `None` if it cannot be translated.
    destination: Option<Template>,
}

/// Translates the images of a file. `own_auth` is the authentication of a separate file, if there is one.
pub(super) fn translate(root: &Node, separate: Option<(&Node, &mut Reading)>, reading: &mut Reading) -> Draft {
    let mut draft = Draft::default();
    draft.head.push(
        "image-syncer runs once for each call: entries without `schedule` run only on request, by `transship once`. \
         Write a `schedule` under `defaults`."
            .into(),
    );
    draft.head.push(
        "image-syncer's options --os and --arch select platforms: write `platforms` under `defaults` to do the same."
            .into(),
    );
    draft.defaults.verbatim("referrers", false);
    let root = View::root(root);
    let fields = reading.fields(&root, "image-syncer's configuration");
    let has_both = fields.iter().any(|(_, view)| matches!(view.node, Node::Map(_)));
    let (rules, auth) = if has_both {
        draft.head.extend(unsupported_keys(&fields, &[&keys::ROOT], "image-syncer's configuration", reading));
        let auth = fields.get("auth").map(|view| read_auth(view, false, reading)).unwrap_or_default();
        (fields.get("images").map(|view| read_rules(view, reading)).unwrap_or_default(), auth)
    } else {
        (read_rules(&root, reading), AuthRules::default())
    };
    let auth = match separate {
        Some((node, reading)) => read_auth(&View::root(node), true, reading),
        None => auth,
    };
    if auth.is_empty() {
        draft.head.push(
            "This file has no credentials. image-syncer reads them from a file of their own: name that file by --auth \
             FILE."
                .into(),
        );
    }
    draft.head.extend(auth.comments());
    add_rules(&rules, &auth, &mut draft, reading);
    draft
}

fn read_rules<'n>(view: &View<'n>, reading: &mut Reading) -> Vec<Rule<'n>> {
    let mut rules = Vec::new();
    for (source, view) in reading.fields(view, "`images`").iter() {
        let views = match view.node {
            Node::List(_) => reading.items(view, "the destinations of an image"),
            _ => vec![view.clone()],
        };
        if views.is_empty() {
            reading.add_error(view, "an image needs a destination");
        }
        let mut known = BTreeSet::new();
        for view in views {
            let text = reading.text(&view, "the destination of an image");
            if text.is_empty() {
                reading.add_error(&view, "an image needs a destination");
            } else if known.insert(text.clone()) {
                rules.push(Rule { source: (*source).to_owned(), destination: Template::parse_shell(&text), view });
            }
        }
    }
    rules
}

fn add_rules(rules: &[Rule<'_>], auth: &AuthRules, draft: &mut Draft, reading: &mut Reading) {
    let entries: Vec<Entry> = rules.iter().map(translate_rule).collect();
    // `tls` is a key of a registry, so that all of its repositories must agree.
    let mut verification: BTreeMap<RegistryHost, BTreeSet<bool>> = BTreeMap::new();
    for repository in
        entries.iter().flat_map(|entry| [&entry.source, &entry.target]).filter_map(|end| parse_repository(end))
    {
        let (host, name) = repository;
        verification.entry(host).or_default().insert(auth.is_insecure(&name));
    }
    for (host, insecure) in &verification {
        let access = Access {
            credentials: auth.registry_credentials(host),
            is_insecure: insecure.len() == 1 && insecure.contains(&true),
        };
        let _ = set_access(host, access, Vec::new(), draft);
    }
    for (mut entry, rule) in entries.into_iter().zip(rules) {
        for end in [entry.source.clone(), entry.target.clone()] {
            let Some((host, name)) = parse_repository(&end) else { continue };
            if auth.is_insecure(&name) && verification.get(&host).is_some_and(|values| values.len() > 1) {
                entry.skip(format!(
                    "image-syncer verifies the certificate of {host} for only some namespaces, and `tls` is a key of \
                     the registry"
                ));
            }
            let own = auth.own_credentials(&host, &name);
            if end == entry.source {
                entry.source_credentials = own.unwrap_or_default();
            } else {
                entry.target_credentials = own.unwrap_or_default();
            }
        }
        if let Some(reason) = draft.add(entry) {
            let _ = reading.add_remark(&rule.view, format!("skipped an entry: {reason}"));
        }
    }
}

/// Returns the registry and the whole name of a repository; `None` for any other text.
fn parse_repository(end: &str) -> Option<(RegistryHost, String)> {
    match end.parse().ok()? {
        Endpoint::Repository(repository) => Some((repository.host.clone(), repository.to_string())),
        _ => None,
    }
}

fn translate_rule(rule: &Rule<'_>) -> Entry {
    let mut entry = Entry::default();
    let shown = |text: &str| if may_be_secret(text) { "***".to_owned() } else { text.to_owned() };
    let target = rule.destination.as_ref().and_then(Template::as_text);
    let sample = rule.destination.as_ref().map(Template::sample);
    let source = parse_image(&rule.source);
    let destination = sample.as_ref().and_then(|(text, _)| parse_image(text));
    let (Some(source), Some(destination), Some(target), Some((_, varies))) = (source, destination, target, sample)
    else {
        entry.source = shown(&rule.source);
        entry.skip("the source or the destination cannot be translated");
        return entry;
    };
    set_ends(&mut entry, &source.repository, &destination.repository);
    if varies {
        // The variable may be a part of the host, so the text is not parsed.
        let has_images = destination.images != Images::All;
        entry.target = target;
        if has_images {
            entry.skip("a variable in a destination with tags cannot be translated");
        }
    }
    set_images(&mut entry, source, destination);
    entry
}

/// Translates the tags or the digest of a rule. Tags of the destination rename those of the source, in their order.
fn set_images(entry: &mut Entry, source: Image, destination: Image) {
    match (source.images, destination.images) {
        (Images::All, Images::All) => {}
        (Images::Expression(expression), Images::All) => match pattern::translate_unanchored(&expression) {
            Some(pattern) => entry.include.push(pattern),
            None => entry.skip(format!("the regular expression {} cannot be translated", quoted(&expression))),
        },
        (Images::Tags(tags), Images::All) => entry.include = tags,
        (Images::Tags(tags), Images::Tags(names)) if tags.len() == names.len() => rename_tags(entry, tags, names),
        (Images::Digest(digest), Images::All) => entry.include.push(format!("@{digest}")),
        (Images::Digest(digest), Images::Digest(other)) if digest == other => entry.include.push(format!("@{digest}")),
        (Images::Digest(digest), Images::Tags(names)) if names.len() == 1 => {
            entry.include.push(format!("{}@{digest}", names[0]));
        }
        (Images::All | Images::Expression(_), _) => {
            entry.skip("image-syncer copies all tags only if their number happens to be that of the destination");
        }
        _ => entry.skip("image-syncer refuses a destination with another number of tags or another digest"),
    }
}

fn rename_tags(entry: &mut Entry, tags: Vec<String>, names: Vec<String>) {
    let distinct = |texts: &[String]| texts.iter().collect::<BTreeSet<_>>().len() == texts.len();
    if !distinct(&tags) || !distinct(&names) {
        entry.skip("a tag occurs twice in the source or in the destination: write an entry for each");
    }
    entry.rename = tags.iter().cloned().zip(names).filter(|(tag, name)| tag != name).collect();
    entry.include = tags;
}
