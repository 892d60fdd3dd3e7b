//! Formats of log lines. Each format escapes line breaks and terminal control characters.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use tracing::Level;

use super::line::{BLOCK, LogLine};
use crate::cli::output::escape::{is_unsafe, printable};

/// Names of JSON members that a log field must not replace.
const RESERVED: [&str; 4] = ["timestamp", "level", "message", "module"];

/// Returns a line for a terminal: `TIME LEVEL message field=value`. If the log line has a block, the block follows on
/// new lines.
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

/// Returns one JSON object with the time, the level, the message, all fields and the module.
pub(super) fn json(line: &LogLine, now: DateTime<Utc>) -> String {
    let own = [("timestamp", time(now)), ("level", line.level.to_string()), ("message", line.message.clone())];
    let own = own.map(|(name, value)| (name, Value::String(value)));
    let last = [("module", Value::String(line.module.clone()))];
    let fields = line.fields.ordered().filter(|(name, _)| !RESERVED.contains(name));
    let all = own.iter().map(|(name, value)| (*name, value)).chain(fields).chain(last.iter().map(|(n, v)| (*n, v)));
    let members: Vec<String> = all.map(|(name, value)| format!("{}:{value}", Value::from(name))).collect();
    format!("{{{}}}\n", escape_unsafe(&members.join(",")))
}

/// Escapes line breaks and terminal control characters that JSON permits without an escape. In JSON, these characters
/// can occur only in strings.
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

/// Returns a line with a syslog priority: `<N>message field=value` (sd-daemon, "SD_WARNING").
pub(super) fn prefixed(line: &LogLine) -> String {
    let priority = priority(line.level);
    // Each line needs its own prefix. If a line has no prefix, journald uses the default priority of the unit.
    text(line).lines().map(|line| format!("<{priority}>{line}\n")).collect()
}

/// Returns the priority for syslog(3).
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Returns the message, the fields and the block as plain text.
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

/// Returns a value as text. If the value is not one word, the text has quotes.
fn format_value(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let is_word = |c: char| !c.is_whitespace() && !is_unsafe(c) && !matches!(c, '"' | '\\' | '=');
    if !text.is_empty() && text.chars().all(is_word) {
        return text.clone();
    }
    format!("\"{}\"", on_one_line(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Escapes line breaks and terminal control characters.
pub(super) fn on_one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

fn time(now: DateTime<Utc>) -> String {
    now.to_rfc3339_opts(SecondsFormat::Micros, true)
}
