//! Entries and `defaults`: the reader of each key alone. A [`Draft`] keeps the place of every value for the checks that
//! need more than one value.

use std::str::FromStr;
use std::time::Duration;

use chrono_tz::Tz;

use super::entry_credentials::{Sides, sides};
use super::notify::notify;
use crate::config::keys::{ENTRY, MAX_JITTER, MAX_TIMEOUT, TAGS};
use crate::config::reader::{Fields, Reader, Value, nearest};
use crate::config::yaml::node::Node;
use crate::config::{Endpoint, Entry, EntryName};
use crate::notify::Notify;
use crate::oci::Platform;
use crate::plan::{ForeignLayers, Overwrite, Pattern, Selection};
use crate::schedule::Schedule;

/// Value that was read, and its place.
pub(crate) type Placed<'n, T> = (T, Value<'n>);

/// Entry with all values that could be read.
pub(crate) struct Draft<'n> {
    pub(crate) name: Option<Placed<'n, EntryName>>,
    pub(crate) source: Option<Placed<'n, Endpoint>>,
    pub(crate) targets: Vec<Placed<'n, Endpoint>>,
    pub(crate) credentials: Sides<'n>,
    pub(crate) settings: Settings<'n>,
}

/// Keys that `defaults` and entries share; `None` means an absent key.
#[derive(Clone, Default)]
pub(crate) struct Settings<'n> {
    pub(crate) tags: Option<Tags<'n>>,
    /// Platforms; `Some(None)` means all of them, written explicitly.
    pub(crate) platforms: Option<Option<Vec<Platform>>>,
    referrers: Option<bool>,
    foreign_layers: Option<ForeignLayers>,
    schedule: Option<Schedule>,
    on_start: Option<bool>,
    timezone: Option<Tz>,
    jitter: Option<Duration>,
    timeout: Option<Duration>,
    overwrite: Option<Overwrite>,
    pub(crate) notify: Option<Vec<Placed<'n, Notify>>>,
}

/// Selection of tags, and the places of its patterns.
#[derive(Clone, Default)]
pub(crate) struct Tags<'n> {
    pub(crate) selection: Selection,
    pub(crate) include: Vec<Placed<'n, Pattern>>,
}

/// Reads an entry. Absent keys take their values from `defaults`.
pub(crate) fn draft<'n>(reader: &Reader<'_>, value: &Value<'n>, defaults: &Settings<'n>) -> Option<Draft<'n>> {
    let fields = reader.fields(value, &ENTRY)?;
    let name = fields.get("name").and_then(|value| placed(reader, value, "a name"));
    let source = fields.get("source").and_then(|value| placed(reader, value, "a repository"));
    let targets = targets(reader, value, &fields);
    let credentials = fields.get("credentials").map(|value| sides(reader, value)).unwrap_or_default();
    let settings = settings(reader, &fields).over(defaults);
    fields.done();
    Some(Draft { name, source, targets, credentials, settings })
}

fn placed<'n, T>(reader: &Reader<'_>, value: &Value<'n>, expected: &str) -> Option<Placed<'n, T>>
where
    T: FromStr<Err: std::fmt::Display>,
{
    Some((reader.parsed(value, expected)?, value.clone()))
}

fn targets<'n>(reader: &Reader<'_>, entry: &Value<'n>, fields: &Fields<'n>) -> Vec<Placed<'n, Endpoint>> {
    match (fields.get("target"), fields.get("targets")) {
        (None, None) if fields.has("target") || fields.has("targets") => Vec::new(),
        (None, None) => {
            reader.wrong(entry, "`target` or `targets` is missing in an entry");
            Vec::new()
        }
        (Some(_), Some(both)) => {
            reader.wrong_with_hint(both, "an entry has `target` or `targets`, not both", "move all into `targets`");
            Vec::new()
        }
        (Some(one), None) => {
            if matches!(one.node, Node::List(_)) {
                reader.wrong_with_hint(one, "expected a repository, found a list", "write `targets` for several");
                return Vec::new();
            }
            placed(reader, one, "a repository").into_iter().collect()
        }
        (None, Some(several)) => {
            let items = reader.items(several, "a list of repositories").unwrap_or_default();
            if items.is_empty() && matches!(several.node, Node::List(_)) {
                reader.wrong(several, "`targets` is empty: an entry needs one target at least");
            }
            items.iter().filter_map(|item| placed(reader, item, "a repository")).collect()
        }
    }
}

/// Reads the keys that `defaults` and entries share.
pub(crate) fn settings<'n>(reader: &Reader<'_>, fields: &Fields<'n>) -> Settings<'n> {
    let get = |name| fields.get(name);
    Settings {
        tags: get("tags").and_then(|value| tags(reader, value)),
        platforms: get("platforms").and_then(|value| platforms(reader, value)),
        referrers: get("referrers").and_then(|value| reader.bool(value)),
        foreign_layers: get("foreign_layers")
            .and_then(|value| word(reader, value, &ForeignLayers::NAMES, "skip or copy")),
        schedule: get("schedule").and_then(|value| reader.parsed(value, "a cron expression, every 15m or never")),
        on_start: get("on_start").and_then(|value| reader.bool(value)),
        timezone: get("timezone").and_then(|value| timezone(reader, value)),
        jitter: get("jitter").and_then(|value| reader.duration(value, 0..=MAX_JITTER)),
        timeout: get("timeout").and_then(|value| reader.duration(value, 1..=MAX_TIMEOUT)),
        overwrite: get("overwrite")
            .and_then(|value| word(reader, value, &Overwrite::NAMES, "always, never or keep_previous")),
        notify: get("notify").map(|value| notify(reader, value)),
    }
}

fn tags<'n>(reader: &Reader<'_>, value: &Value<'n>) -> Option<Tags<'n>> {
    if matches!(value.node, Node::List(_) | Node::Text(_)) {
        reader.wrong_with_hint(value, "expected a map of keys like include, exclude", "write `tags: {include: […]}`");
        return None;
    }
    let fields = reader.fields(value, &TAGS)?;
    let include = fields.get("include").map(|value| patterns(reader, value, "include")).unwrap_or_default();
    let exclude = fields.get("exclude").map(|value| patterns(reader, value, "exclude")).unwrap_or_default();
    for (_, value) in exclude.iter().filter(|(pattern, _)| pattern.digest().is_some()) {
        reader.wrong(value, "a digest cannot be excluded: exclude the tags that should not come along");
    }
    pins_agree(reader, &include);
    let selection = Selection {
        include: include.iter().map(|(pattern, _)| pattern.clone()).collect(),
        exclude: exclude.into_iter().map(|(pattern, _)| pattern).collect(),
        semver: fields.get("semver").and_then(|value| reader.parsed(value, "a range of versions like \">=1.2\"")),
        newest: fields.integer(reader, "newest"),
        at_least: fields.integer(reader, "at_least"),
    };
    let pins = include.iter().filter(|(pattern, _)| pattern.digest().is_some()).count();
    if let (Some(newest), Some(at_least), Some(value)) = (selection.newest, selection.at_least, fields.get("at_least"))
        && at_least > newest + pins
    {
        reader.wrong(value, format!("`at_least: {at_least}` can never be reached with `newest: {newest}`"));
    }
    fields.done();
    Some(Tags { selection, include })
}

/// Reports contradictory pins. A tag has one content at the target, so it has one pin, and no other item names it.
fn pins_agree(reader: &Reader<'_>, include: &[Placed<'_, Pattern>]) {
    for (at, (pattern, value)) in include.iter().enumerate() {
        let Some((tag, digest)) = pattern.pin() else { continue };
        let others = include.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, (pattern, _))| pattern);
        if others.clone().any(|other| other.literal() == Some(tag)) {
            let message = format!("the tag {tag} is here with a digest and without one");
            reader.wrong_with_hint(value, message, "write it once");
        }
        if others.filter_map(Pattern::pin).any(|(other, pinned)| other == tag && pinned != digest) {
            reader.wrong_with_hint(value, format!("the tag {tag} is pinned to two digests"), "write one of them");
        }
    }
}

fn patterns<'n>(reader: &Reader<'_>, value: &Value<'n>, key: &str) -> Vec<Placed<'n, Pattern>> {
    let items = reader.texts(value, "a list of tag patterns").unwrap_or_default();
    if key == "include" && items.is_empty() && matches!(value.node, Node::List(_)) {
        reader.wrong_with_hint(value, "`include` is empty, which would be no tag", "leave it out for every tag");
    }
    items.iter().filter_map(|item| placed(reader, item, "a tag pattern")).collect()
}

#[expect(clippy::option_option, reason = "the outer one is a key that could not be read, the inner one means all")]
fn platforms(reader: &Reader<'_>, value: &Value<'_>) -> Option<Option<Vec<Platform>>> {
    if *value.node == Node::Text("all".to_owned()) {
        return Some(None);
    }
    let items = reader.texts(value, "a list of platforms")?;
    if items.is_empty() {
        reader.wrong_with_hint(value, "`platforms` is empty, which would be none", "leave it out for all");
    }
    let mut platforms: Vec<Platform> = Vec::new();
    for item in &items {
        match reader.parsed(item, "a platform like linux/amd64") {
            Some(platform) if platforms.contains(&platform) => reader.wrong(item, format!("{platform} is here twice")),
            Some(platform) => platforms.push(platform),
            None => {}
        }
    }
    Some(Some(platforms))
}

pub(crate) fn timezone(reader: &Reader<'_>, value: &Value<'_>) -> Option<Tz> {
    let text = reader.text(value, "a time zone like Europe/Berlin")?;
    if let Ok(zone) = text.parse() {
        return Some(zone);
    }
    let names = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    let city =
        |name: &&str| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&text.replace(' ', "_")));
    let message = format!("{text:?} is not a time zone");
    match names().find(city).or_else(|| nearest(&text, names())) {
        Some(near) => reader.wrong_with_hint(value, message, format!("did you mean `{near}`?")),
        None => reader.wrong_with_hint(value, message, "write a name like UTC or Europe/Berlin"),
    }
    None
}

/// Reads one of a few words. For a word that is close to one of them, the hint names that one.
fn word<T: FromStr<Err: std::fmt::Display>>(
    reader: &Reader<'_>,
    value: &Value<'_>,
    names: &[&'static str],
    expected: &str,
) -> Option<T> {
    let text = reader.text(value, expected)?;
    let read: Result<T, _> = text.parse();
    match (&read, nearest(&text, names.iter().copied())) {
        (Err(error), Some(near)) => reader.wrong_with_hint(value, error, format!("did you mean `{near}`?")),
        (Err(error), None) => reader.wrong(value, error),
        (Ok(_), _) => {}
    }
    read.ok()
}

impl<'n> Settings<'n> {
    /// Returns these settings, completed by `defaults`. `tags` counts as one key.
    fn over(self, defaults: &Settings<'n>) -> Self {
        Self {
            tags: self.tags.or_else(|| defaults.tags.clone()),
            platforms: self.platforms.or_else(|| defaults.platforms.clone()),
            referrers: self.referrers.or(defaults.referrers),
            foreign_layers: self.foreign_layers.or(defaults.foreign_layers),
            schedule: self.schedule.or_else(|| defaults.schedule.clone()),
            on_start: self.on_start.or(defaults.on_start),
            timezone: self.timezone.or(defaults.timezone),
            jitter: self.jitter.or(defaults.jitter),
            timeout: self.timeout.or(defaults.timeout),
            overwrite: self.overwrite.or(defaults.overwrite),
            notify: self.notify.or_else(|| defaults.notify.clone()),
        }
    }
}

impl Draft<'_> {
    /// Returns the entry, or `None` if a part of it could not be read.
    pub(crate) fn entry(self) -> Option<Entry> {
        let Settings {
            tags,
            platforms,
            referrers,
            foreign_layers,
            schedule,
            on_start,
            timezone,
            jitter,
            timeout,
            overwrite,
            notify,
        } = self.settings;
        Some(Entry {
            name: self.name?.0,
            source: self.source?.0,
            targets: self.targets.into_iter().map(|(target, _)| target).collect(),
            credentials: self.credentials.into(),
            selection: tags.unwrap_or_default().selection,
            platforms: platforms.flatten(),
            referrers: referrers.unwrap_or(true),
            foreign_layers: foreign_layers.unwrap_or_default(),
            schedule: schedule.unwrap_or(Schedule::Never),
            on_start: on_start.unwrap_or_default(),
            timezone: timezone.unwrap_or(Tz::UTC),
            jitter: jitter.unwrap_or_default(),
            timeout,
            overwrite: overwrite.unwrap_or_default(),
            notify: notify.into_iter().flatten().map(|(notify, _)| notify).collect(),
        })
    }
}
