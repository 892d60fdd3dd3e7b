//! The forms of a line on standard error. Whatever is in it, it stays one line, and steers no terminal.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use tracing::Level;

use super::line::{BLOCK, Line};
use crate::cli::output::{printable, steers};

/// What JSON says of a line by itself.
const RESERVED: [&str; 4] = ["timestamp", "level", "message", "module"];

/// `TIME LEVEL message field=value`, and what is written below.
pub(super) fn pretty(line: &Line, now: DateTime<Utc>, colours: bool) -> String {
    let (time, text) = (time(now), text(line));
    if !colours {
        return format!("{time} {:>5} {text}\n", line.level);
    }
    let colour = match line.level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    format!("\u{1b}[2m{time}\u{1b}[0m \u{1b}[{colour}m{:>5}\u{1b}[0m {text}\n", line.level)
}

/// One object: the time, the level, the message and all fields beside each other.
pub(super) fn json(line: &Line, now: DateTime<Utc>) -> String {
    let own = [("timestamp", time(now)), ("level", line.level.to_string()), ("message", line.message.clone())];
    let own = own.map(|(name, value)| (name, Value::String(value)));
    let last = [("module", Value::String(line.module.clone()))];
    let fields = line.fields.told().filter(|(name, _)| !RESERVED.contains(name));
    let all = own.iter().map(|(name, value)| (*name, value)).chain(fields).chain(last.iter().map(|(n, v)| (*n, v)));
    let members: Vec<String> = all.map(|(name, value)| format!("{}:{value}", Value::from(name))).collect();
    format!("{{{}}}\n", ascii_where_it_steers(&members.join(",")))
}

/// Escapes what JSON lets stand and a terminal or a reader of lines does not. In JSON such characters are in strings only.
fn ascii_where_it_steers(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if steers(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// `<N>message field=value` (sd-daemon, "SD_WARNING"), without time and colour: the journal has its own.
pub(super) fn prefixed(line: &Line) -> String {
    let priority = priority(line.level);
    // Without a prefix of its own a further line would get the unit's default priority.
    text(line).lines().map(|line| format!("<{priority}>{line}\n")).collect()
}

/// The priority of syslog(3).
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// The message and the fields for people, and what is written below.
pub(super) fn text(line: &Line) -> String {
    let mut text = on_one_line(&line.message);
    for (name, value) in line.fields.told().filter(|(name, _)| *name != BLOCK) {
        let _ = write!(text, " {name}={}", shown(value));
    }
    if let Some(block) = line.fields.block() {
        text.push('\n');
        text.push_str(&printable(block));
    }
    text
}

/// Bare where it is one word, else in quotes.
fn shown(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let is_word = |c: char| !c.is_whitespace() && !steers(c) && !matches!(c, '"' | '\\' | '=');
    if !text.is_empty() && text.chars().all(is_word) {
        return text.clone();
    }
    format!("\"{}\"", on_one_line(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Without line breaks, and steering nothing.
pub(super) fn on_one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

fn time(now: DateTime<Utc>) -> String {
    now.to_rfc3339_opts(SecondsFormat::Micros, true)
}
