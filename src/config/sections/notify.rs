//! Section `notify`: receivers of notifications by webhook. Messages of this module contain no address and no secret.

use std::collections::BTreeSet;

use secrecy::ExposeSecret as _;

use super::secret::read_secret;
use crate::config::diagnostics::diagnostic::{Diagnostic, Part};
use crate::config::keys::table::{Key, SafeForm, Shape, Table, key};
use crate::config::reader::{Placed, Reader, Value};
use crate::config::yaml::expand::expand;
use crate::config::yaml::node::Node;
use crate::notify::{Address, Event, Notify, Receiver, SigningKey, Webhook};
use crate::oci::Digest;
use crate::registry::Secret;

/// Maximum number of receivers in one list.
pub(crate) const MAX_RECEIVERS: usize = 16;

/// Number of hash digits in the name of a receiver. The digits distinguish receivers at one host.
const DIGITS: usize = 8;

pub(crate) static NOTIFY: Table = Table {
    place: "under `notify`",
    groups: &[&[
        key("webhook", Shape::Map(&WEBHOOK), "Receiver of the messages, which are JSON sent by POST.", ""),
        key(
            "on",
            Shape::Words(&Event::NAMES),
            "Events that are sent. failure: an entry starts to fail, or an edit of the configuration is refused. \
             recovery: a failure has ended. change: tags changed at a target. withheld: a rule, a lock or a limit left \
             tags unchanged.",
            r#"["failure", "recovery", "change", "withheld"]"#,
        )
        .with_default(r#"["failure", "recovery"]"#)
        .safe_as(SafeForm::Words),
    ]],
    required: &["webhook"],
};

pub(crate) static WEBHOOK: Table = Table {
    place: "under `webhook`",
    groups: &[&[
        key(
            "url",
            Shape::Secret,
            "Address, http or https. transship never shows its path and query.",
            r#""https://deploy.internal/hooks/transship""#,
        ),
        key(
            "secret",
            Shape::Secret,
            "Key that signs messages by HMAC-SHA256: 8 bytes or more, or `whsec_` and base64.",
            r#"{"env": "HOOK_SECRET"}"#,
        ),
    ]],
    required: &["url", "secret"],
};

/// Creates the key `notify`. `about` is the description of the key.
pub(crate) const fn notify_key(about: &'static str) -> Key {
    key("notify", Shape::Maps(&NOTIFY), about, "").secret()
}

/// Reads the receivers, each with its position in the configuration.
pub(crate) fn read_notify<'n>(reader: &Reader<'_>, value: &Value<'n>) -> Vec<Placed<'n, Notify>> {
    if matches!(value.node, Node::Map(_)) {
        reader.refuse_with_hint(
            value,
            "expected a list, found a map",
            "write `notify: [{webhook: {url: …, secret: …}}]`",
        );
        return Vec::new();
    }
    let items = reader.items(value, "a list of receivers, each with its webhook").unwrap_or_default();
    if items.len() > MAX_RECEIVERS {
        reader
            .refuse(value, format!("the list has {} receivers, and at most {MAX_RECEIVERS} are allowed", items.len()));
        return Vec::new();
    }
    items.iter().filter_map(|item| Some((read_receiver(reader, item)?, item.clone()))).collect()
}

fn read_receiver(reader: &Reader<'_>, value: &Value<'_>) -> Option<Notify> {
    let fields = reader.fields(value, &NOTIFY)?;
    let webhook = fields.get("webhook").and_then(|value| read_webhook(reader, value));
    let on = fields.get("on").map_or_else(|| Some(BTreeSet::from(Event::DEFAULT)), |value| read_events(reader, value));
    fields.assert_all_read();
    Some(Notify { webhook: webhook?, on: on? })
}

fn read_events(reader: &Reader<'_>, value: &Value<'_>) -> Option<BTreeSet<Event>> {
    let items = reader.texts(value, "a list of events")?;
    if items.is_empty() {
        reader.refuse_with_hint(
            value,
            "`on` is empty, so no event would be sent",
            "remove `on` to send failure and recovery",
        );
        return None;
    }
    // Reads all items before the function returns, to report the problems of all items.
    let events: Vec<Option<Event>> = items.iter().map(|item| reader.word(item, &Event::NAMES)).collect();
    events.into_iter().collect()
}

fn read_webhook(reader: &Reader<'_>, value: &Value<'_>) -> Option<Webhook> {
    if !matches!(value.node, Node::Map(_)) {
        reader.refuse(value, "expected a map with url and secret");
        return None;
    }
    let fields = reader.fields(value, &WEBHOOK)?;
    let url = fields.get("url").and_then(|value| read_url(reader, value));
    let key = fields.get("secret").and_then(|value| read_signing_key(reader, value));
    fields.assert_all_read();
    let (receiver, url) = url?;
    Some(Webhook { receiver, url, secret: key? })
}

fn read_signing_key(reader: &Reader<'_>, value: &Value<'_>) -> Option<Secret> {
    let key = read_secret(reader, value)?;
    if let Some(text) = key.known() {
        reader.accept(value, text.expose_secret().parse::<SigningKey>())?;
    }
    Some(key)
}

/// Reads the address, and derives the name of the receiver, such as `https://hooks.example#401d8a93` or `env:HOOK`.
fn read_url(reader: &Reader<'_>, value: &Value<'_>) -> Option<(Receiver, Secret)> {
    let Node::Text(written) = value.node else {
        let url = read_secret(reader, value)?;
        if let Some(text) = url.known() {
            reader.accept(value, text.expose_secret().parse::<Address>())?;
        }
        let place = value.pairs().next().map(|(kind, place)| (kind, place.node.clone()));
        let Some((kind, Node::Text(place))) = place else { return None };
        return Some((Receiver::from(format!("{kind}:{place}")), url));
    };
    let text = reader.accept(value, expand(written, reader.environment))?;
    let address: Address = reader.accept(value, text.parse())?;
    // The hash covers the text as written: `${NAME}` instead of the value of the variable, which can be a secret.
    let digest = Digest::of(written.as_bytes()).to_string();
    let digits = digest.rsplit(':').next().unwrap_or_default();
    let name = format!("{}#{}", address.site(), digits.get(..DIGITS).unwrap_or(digits));
    Some((Receiver::from(name), Secret::Value(text.into())))
}

/// Reports an address that has two different signing secrets. A receiver can have only one signing secret.
pub(crate) fn check_receivers<'a, 'n: 'a>(reader: &Reader<'_>, all: impl Iterator<Item = &'a Placed<'n, Notify>>) {
    let mut known: Vec<&Placed<'_, Notify>> = Vec::new();
    for placed in all {
        let (notify, value) = placed;
        let webhook = &notify.webhook;
        match known.iter().find(|(first, _)| first.webhook.receiver == webhook.receiver) {
            Some((first, place)) if first.webhook.secret != webhook.secret => {
                let message = "duplicate webhook address with another secret";
                reader.add_problem(
                    Diagnostic::new(&value.path, Part::Value, message).with_first(&place.path, Part::Value),
                );
            }
            Some(_) => {}
            None => known.push(placed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, parse};

    const TOKEN: &str = "T0/hunter2";

    fn read(text: &str) -> Config {
        let environment = |name: &str| match name {
            "HOME" => Some("/home/me".to_owned()),
            "TOKEN" => Some(TOKEN.to_owned()),
            "HOOK" => Some(format!("https://hooks.example/{TOKEN}")),
            "KEY" => Some("hunter2-of-the-hook".to_owned()),
            _ => None,
        };
        parse("sync.yaml", text, &environment).unwrap()
    }

    const TEXT: &str = r#"
version: 1
daemon: {notify: [{webhook: {url: {env: HOOK}, secret: {env: KEY}}}]}
defaults: {notify: [{webhook: {url: "https://hooks.example/${TOKEN}", secret: {env: KEY}}, on: [change, withheld]}]}
sync:
  - {name: a, source: a.example/a, target: b.example/a}
  - {name: b, source: a.example/b, target: b.example/b, notify: []}
  - name: c
    source: a.example/c
    target: b.example/c
    notify: [{webhook: {url: "http://hooks.example:8080/x", secret: {env: KEY}}, on: failure}]
"#;

    #[test]
    fn an_entry_has_its_own_receivers_instead_of_those_of_defaults() {
        let config = read(TEXT);
        let on =
            |all: &[Notify]| all.iter().map(|one| one.on.iter().map(|on| on.word()).collect()).collect::<Vec<Vec<_>>>();
        assert_eq!(on(&config.daemon.notify), [["failure", "recovery"]]);
        assert_eq!(on(&config.entries[0].notify), [["change", "withheld"]]);
        assert!(config.entries[1].notify.is_empty());
        assert_eq!(on(&config.entries[2].notify), [["failure"]]);
    }

    #[test]
    fn name_of_a_receiver_contains_no_secret_part_of_its_address() {
        let config = read(TEXT);
        let name = |all: &[Notify]| all[0].webhook.receiver.to_string();
        assert_eq!(name(&config.daemon.notify), "env:HOOK");
        assert_eq!(name(&config.entries[0].notify), "https://hooks.example#401d8a93");
        assert_eq!(name(&config.entries[2].notify).split_once('#').unwrap().0, "http://hooks.example:8080");
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && shown.contains("env:HOOK"), "{shown}");
    }
}
