//! Section `limits` under a registry: limits that apply to all entries together.

use super::bandwidth::{BANDWIDTH, read_bandwidth};
use crate::config::keys::nearest::find_nearest;
use crate::config::keys::table::{Shape, Table, key};
use crate::config::reader::{Fields, Reader, Value, list_words};
use crate::config::yaml::node::Node;
use crate::config::yaml::scalar;
use crate::registry::{Bucket, Figure, LimitProfile, Limits, Rate};

/// Word that removes a limit.
const NONE: &str = "none";

pub(crate) static LIMITS: Table = Table {
    place: "under `limits`",
    groups: &[&[
        key(
            "profile",
            Shape::Word(&PROFILES),
            "Limits of a well-known registry, for all limits that are not set here. Default: the profile that fits the \
             host name or `kind`. Azure has no default profile, because the host name and `kind` do not show the tier.",
            r#""acr-premium""#,
        ),
        key("requests", RATE, "Rate of all requests: 10/s, 600/min, 5000/h, or none.", r#""600/min""#),
        key("reads", RATE, "Rate of requests that read.", r#""1000/min""#),
        key(
            "writes",
            RATE,
            "Rate of requests that write. Without a limit in `deletes`, the rate includes deletes.",
            r#""100/min""#,
        ),
        key("uploads", RATE, "Rate of writes that start an upload or mount a blob.", r#""10/s""#),
        key("deletes", RATE, "Rate of requests that delete a manifest.", r#""100/min""#),
        key(
            "referrer_lists",
            RATE,
            "Rate of requests to the referrers API. These requests also count as `reads`.",
            r#""250/min""#,
        ),
        key(
            "bandwidth",
            BANDWIDTH,
            "Bandwidth, both directions added: a rate, or windows of the day; the first window that matches applies.",
            r#"[{"rate": "50MiB/s", "between": "08:00-18:00"}, {"rate": "200MiB/s"}]"#,
        ),
        key("concurrent", Shape::Integer { min: 1, max: 1000 }, "Maximum number of requests in flight.", "32"),
        key(
            "reserve_pulls",
            Shape::Integer { min: 0, max: 1_000_000 },
            "Number of pulls in each window that transship leaves to other clients, at a registry that counts pulls \
             (Docker Hub).",
            "20",
        )
        .with_default("0"),
    ]],
    required: &[],
};

/// Names of the profiles, and the word for no profile.
static PROFILES: [&str; LimitProfile::NAMES.len() + 1] = {
    let mut words = ["none"; LimitProfile::NAMES.len() + 1];
    let mut at = 0;
    while at < LimitProfile::NAMES.len() {
        words[at] = LimitProfile::NAMES[at];
        at += 1;
    }
    words
};

const RATE: Shape = Shape::Text { pattern: "^(none|[0-9]+ */ *(s|min|h))$" };

/// Reads the limits. Returns `None` if the value is no map.
pub(crate) fn read_limits(reader: &Reader<'_>, value: &Value<'_>) -> Option<Limits> {
    let fields = reader.fields(value, &LIMITS)?;
    let mut limits = Limits {
        profile: read_figure(&fields, "profile", |value| read_profile(reader, value)),
        bandwidth: fields.get("bandwidth").and_then(|value| read_bandwidth(reader, value)),
        concurrent: fields.integer(reader, "concurrent").map_or(Figure::Unsaid, Figure::Set),
        reserve_pulls: fields.integer(reader, "reserve_pulls").map_or(0, |pulls| pulls as u64),
        ..Limits::default()
    };
    for bucket in Bucket::ALL {
        *limits.figure_mut(bucket) = read_figure(&fields, bucket.name(), |value| read_rate(reader, value));
    }
    fields.assert_all_read();
    Some(limits)
}

/// Reads a figure. For an invalid figure, the reader records the problem and the function returns the figure of an
/// absent key.
fn read_figure<T>(
    fields: &Fields<'_>,
    key: &'static str,
    read: impl FnOnce(&Value<'_>) -> Option<Figure<T>>,
) -> Figure<T> {
    fields.get(key).and_then(read).unwrap_or_default()
}

fn read_profile(reader: &Reader<'_>, value: &Value<'_>) -> Option<Figure<&'static LimitProfile>> {
    let text = reader.word_text(value, "a profile like docker-hub, or none")?;
    if text == NONE {
        return Some(Figure::Lifted);
    }
    let read: Result<&LimitProfile, _> = text.parse();
    if let (Err(error), Some(names)) = (&read, list_profiles_with_prefix(&text)) {
        reader.refuse_with_hint(value, error, format!("did you mean {names}?"));
        return None;
    }
    match (&read, find_nearest(&text, LimitProfile::NAMES.into_iter())) {
        (Err(error), Some(near)) => reader.refuse_with_hint(value, error, format!("did you mean `{near}`?")),
        (Err(error), None) => reader.refuse(value, error),
        (Ok(_), _) => {}
    }
    read.ok().map(Figure::Set)
}

/// Lists the profiles that begin with `written`, for a hint: `acr` is not a misspelt `ecr`, but the beginning of
/// several names.
fn list_profiles_with_prefix(written: &str) -> Option<String> {
    let begins = |name: &&str| !written.is_empty() && name.starts_with(&written.to_lowercase());
    let names: Vec<String> = LimitProfile::NAMES.into_iter().filter(begins).map(|name| format!("`{name}`")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| list_words(&names))
}

fn read_rate(reader: &Reader<'_>, value: &Value<'_>) -> Option<Figure<Rate>> {
    let text = match value.node {
        Node::Number(text) => text.clone(),
        _ => reader.text(value, "a rate like 600/min")?,
    };
    if text == NONE { Some(Figure::Lifted) } else { reader.accept(value, scalar::parse_rate(&text)).map(Figure::Set) }
}
