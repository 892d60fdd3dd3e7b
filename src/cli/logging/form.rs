//! Formats of a log line on standard error. The formats escape characters that would break the line or control a
//! terminal.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use tracing::Level;

use super::line::{BLOCK, LogLine};
use crate::cli::output::escape::{is_unsafe, printable};

/// Names of JSON members that a field of a log line cannot replace.
const RESERVED: [&str; 4] = ["timestamp", "level", "message", "module"];

/// Returns `TIME LEVEL message field=value`, followed by the block below the line.
pub(super) fn pretty(line: &LogLine, now: DateTime<Utc>, colours: bool) -> String {
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

/// Returns one JSON object with the time, the level, the message and all fields side by side.
pub(super) fn json(line: &LogLine, now: DateTime<Utc>) -> String {
    let own = [("timestamp", time(now)), ("level", line.level.to_string()), ("message", line.message.clone())];
    let own = own.map(|(name, value)| (name, Value::String(value)));
    let last = [("module", Value::String(line.module.clone()))];
    let fields = line.fields.ordered().filter(|(name, _)| !RESERVED.contains(name));
    let all = own.iter().map(|(name, value)| (*name, value)).chain(fields).chain(last.iter().map(|(n, v)| (*n, v)));
    let members: Vec<String> = all.map(|(name, value)| format!("{}:{value}", Value::from(name))).collect();
    format!("{{{}}}\n", escape_unsafe(&members.join(",")))
}

/// Escapes characters that JSON permits and that control a terminal or break a line. In JSON, such characters occur
/// only in strings.
fn escape_unsafe(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Returns `<N>message field=value` (sd-daemon, "SD_WARNING"). The journal adds the time and the colour.
pub(super) fn prefixed(line: &LogLine) -> String {
    let priority = priority(line.level);
    // Without a prefix, journald assigns the default priority of the unit to a line.
    text(line).lines().map(|line| format!("<{priority}>{line}\n")).collect()
}

/// Returns the priority of syslog(3).
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Returns the message and the fields for people, and the block below the line.
pub(super) fn text(line: &LogLine) -> String {
    let mut text = on_one_line(&line.message);
    for (name, value) in line.fields.ordered().filter(|(name, _)| *name != BLOCK) {
        let _ = write!(text, " {name}={}", format_value(value));
    }
    if let Some(block) = line.fields.block() {
        text.push('\n');
        text.push_str(&printable(block));
    }
    text
}

/// Returns a value. If the value is not one word, adds quotes.
fn format_value(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let is_word = |c: char| !c.is_whitespace() && !is_unsafe(c) && !matches!(c, '"' | '\\' | '=');
    if !text.is_empty() && text.chars().all(is_word) {
        return text.clone();
    }
    format!("\"{}\"", on_one_line(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Escapes line breaks and characters that control a terminal.
pub(super) fn on_one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

fn time(now: DateTime<Utc>) -> String {
    now.to_rfc3339_opts(SecondsFormat::Micros, true)
}
