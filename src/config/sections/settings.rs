//! Settings of an entry that `defaults` may also have: the section `defaults`, and most keys of an entry.

use std::time::Duration;

use chrono_tz::Tz;

use super::notify::{notify_key, read_notify};
use super::tags::{TAGS, Tags, read_tags};
use super::timezone::read_timezone;
use crate::config::keys::table::{ANY, DURATION, Key, Shape, Table, key};
use crate::config::reader::{Fields, Placed, Reader, Value, list_words};
use crate::config::yaml::node::Node;
use crate::notify::Notify;
use crate::oci::Platform;
use crate::plan::{ForeignLayers, Overwrite};
use crate::schedule::Schedule;

/// Maximum jitter, in seconds: a day.
pub(crate) const MAX_JITTER: u64 = 24 * 3600;
/// Maximum timeout of a run, in seconds: a week.
pub(crate) const MAX_TIMEOUT: u64 = 7 * 24 * 3600;

pub(crate) static DEFAULTS: Table = Table { place: "under `defaults`", groups: &[SETTINGS], required: &[] };

/// Keys that `defaults` and an entry share.
pub(crate) const SETTINGS: &[Key] = &[
    key("tags", Shape::Map(&TAGS), "Tags to copy. Default: all.", ""),
    key(
        "platforms",
        Shape::Texts { filled: true },
        "Platforms to copy. A subset makes a new, derived index. Default: `all`, which copies the index verbatim.",
        r#"["linux/amd64", "linux/arm64"]"#,
    ),
    key(
        "referrers",
        Shape::Bool,
        "`true` copies signatures, SBOMs and everything else that refers to an image.",
        "true",
    )
    .with_default("true"),
    key(
        "foreign_layers",
        Shape::Word(&ForeignLayers::NAMES),
        "Rule for non-distributable layers that have `urls` (as in old Windows images): `skip` them, or `copy` them \
         from the source. A change of the rule applies only to images that are copied afterwards. Layers without \
         `urls` are always copied.",
        r#""copy""#,
    )
    .with_default(r#""skip""#),
    key(
        "schedule",
        ANY,
        "Schedule of automatic runs: five cron fields in quotes, @hourly and similar names, `every 15m` (a minute to \
         31 days), or `never` (only runs on request).",
        r#""*/10 * * * *""#,
    )
    .with_default(r#""never""#),
    key("on_start", Shape::Bool, "`true` also runs the entry at each start of the daemon.", "true")
        .with_default("false"),
    key("timezone", ANY, "Time zone of the schedule, by its IANA name.", r#""Europe/Berlin""#).with_default(r#""UTC""#),
    key(
        "jitter",
        DURATION,
        "Maximum delay of a scheduled run, at most a day. Each entry has a fixed delay below this maximum, so that \
         entries do not all start at once.",
        r#""5m""#,
    )
    .with_default(r#""0s""#),
    key("timeout", DURATION, "Time after which a run is ended, 1s to 7d. Default: no limit.", r#""2h""#),
    key(
        "overwrite",
        Shape::Word(&Overwrite::NAMES),
        "Rule for a tag that the target has with another digest: `always` moves the tag, `never` blocks the tag, \
         `keep_previous` moves the tag and keeps the old digest under an additional tag. Tags of signatures that \
         accompany an image always move when a signature is added.",
        r#""never""#,
    )
    .with_default(r#""always""#),
    notify_key("Receivers of notifications about the entry, in addition to those under `daemon`. Default: none."),
];

/// Keys that `defaults` and entries share; `None` means an absent key.
#[derive(Clone, Default)]
pub(crate) struct Settings<'n> {
    pub(crate) tags: Option<Tags<'n>>,
    /// Platforms; `Some(None)` means `all`, written explicitly.
    pub(crate) platforms: Option<Option<Vec<Platform>>>,
    pub(super) referrers: Option<bool>,
    pub(super) foreign_layers: Option<ForeignLayers>,
    pub(super) schedule: Option<Schedule>,
    pub(super) on_start: Option<bool>,
    pub(super) timezone: Option<Tz>,
    pub(super) jitter: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) overwrite: Option<Overwrite>,
    pub(crate) notify: Option<Vec<Placed<'n, Notify>>>,
}

/// Reads `defaults`. Returns `None` if the value is no map.
pub(crate) fn read_defaults<'n>(reader: &Reader<'_>, value: &Value<'n>) -> Option<Settings<'n>> {
    let fields = reader.fields(value, &DEFAULTS)?;
    let settings = read_settings(reader, &fields);
    fields.assert_all_read();
    Some(settings)
}

/// Reads the keys that `defaults` and entries share.
pub(crate) fn read_settings<'n>(reader: &Reader<'_>, fields: &Fields<'n>) -> Settings<'n> {
    let get = |name| fields.get(name);
    Settings {
        tags: get("tags").and_then(|value| read_tags(reader, value)),
        platforms: get("platforms").and_then(|value| read_platforms(reader, value)),
        referrers: get("referrers").and_then(|value| reader.bool(value)),
        foreign_layers: get("foreign_layers").and_then(|value| reader.word(value, &ForeignLayers::NAMES)),
        schedule: get("schedule").and_then(|value| read_schedule(reader, value)),
        on_start: get("on_start").and_then(|value| reader.bool(value)),
        timezone: get("timezone").and_then(|value| read_timezone(reader, value)),
        jitter: get("jitter").and_then(|value| reader.duration(value, 0..=MAX_JITTER)),
        timeout: get("timeout").and_then(|value| reader.duration(value, 1..=MAX_TIMEOUT)),
        overwrite: get("overwrite").and_then(|value| read_overwrite(reader, value)),
        notify: get("notify").map(|value| read_notify(reader, value)),
    }
}

fn read_schedule(reader: &Reader<'_>, value: &Value<'_>) -> Option<Schedule> {
    let hint_for = |text: &str| {
        let name = format!("@{}", text.to_lowercase());
        if humantime::parse_duration(text).is_ok() {
            Some(format!("write `every {text}`"))
        } else {
            name.parse::<Schedule>().is_ok().then(|| format!("write \"{name}\""))
        }
    };
    reader.parsed_with_hints(value, "a cron expression, every 15m or never", hint_for)
}

fn read_overwrite(reader: &Reader<'_>, value: &Value<'_>) -> Option<Overwrite> {
    if let Node::Bool(moves) = value.node {
        let word = if *moves { Overwrite::Always } else { Overwrite::Never };
        reader.refuse_type_with_hint(value, &list_words(&Overwrite::NAMES), format!("write `{word}`"));
        return None;
    }
    reader.word(value, &Overwrite::NAMES)
}

/// Returns the platform that the name of an architecture alone means.
fn suggest_platform(text: &str) -> Option<String> {
    let architecture = match text.to_lowercase().as_str() {
        "x86_64" | "x64" | "amd64" => "amd64",
        "aarch64" | "arm64" => "arm64",
        "armhf" | "armv7" | "armv7l" => "arm/v7",
        "i386" | "x86" | "386" => "386",
        "ppc64le" => "ppc64le",
        "riscv64" => "riscv64",
        "s390x" => "s390x",
        _ => return None,
    };
    Some(format!("write `linux/{architecture}`"))
}

#[expect(clippy::option_option, reason = "the outer `None` means that a problem was recorded, the inner one means all")]
fn read_platforms(reader: &Reader<'_>, value: &Value<'_>) -> Option<Option<Vec<Platform>>> {
    if *value.node == Node::Text("all".to_owned()) {
        return Some(None);
    }
    let items = reader.texts(value, "a list of platforms")?;
    if items.is_empty() {
        reader.refuse_with_hint(
            value,
            "`platforms` is empty, so no platform would be copied",
            "remove `platforms` to copy all",
        );
    }
    let mut platforms: Vec<Platform> = Vec::new();
    for item in &items {
        match reader.parsed_with_hints(item, "a platform like linux/amd64", suggest_platform) {
            Some(platform) if platforms.contains(&platform) => {
                reader.refuse(item, format!("duplicate platform {platform}"))
            }
            Some(platform) => platforms.push(platform),
            None => {}
        }
    }
    Some(Some(platforms))
}

impl<'n> Settings<'n> {
    /// Returns true if the entry has a schedule with firings.
    pub(super) fn has_firings(&self) -> bool {
        !matches!(self.schedule, None | Some(Schedule::Never))
    }

    /// Returns these settings, completed by `defaults`. `tags` counts as one key.
    pub(super) fn over(self, defaults: &Settings<'n>) -> Self {
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
