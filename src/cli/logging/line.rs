//! Log line before formatting: the message, the fields of the event and the fields of its spans. [`super::form`] and
//! [`super::journal`] format the line.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Name of the field with the configuration problems. The value can have several lines, so the output shows the value
/// below the log line.
pub(super) const BLOCK: &str = "problems";

/// Maximum length of a text value, in bytes. Longer texts are truncated.
const LONGEST: usize = 64 * 1024;

/// Fields that come first in a log line, in this order.
const FIRST: [&str; 6] = ["entry", "run", "source", "target", "tag", "digest"];

#[derive(Debug, Clone, PartialEq)]
pub(super) struct LogLine {
    pub(super) level: Level,
    /// Module of transship or of a library, such as `transship::sync::run`.
    pub(super) module: String,
    pub(super) message: String,
    pub(super) fields: Fields,
}

/// Values by field name. Each name occurs once. A new field comes last, and a changed field keeps its place.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Returns the fields in output order: first the fields in [`FIRST`], then the other fields.
    pub(super) fn ordered(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let rank = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
        let mut all: Vec<_> = self.0.iter().map(|(name, value)| (*name, value)).collect();
        all.sort_by_key(|(name, _)| rank(name));
        all.into_iter()
    }

    pub(super) fn block(&self) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == BLOCK).and_then(|(_, value)| value.as_str())
    }

    /// Sets a field. If the field already has a value, replaces the value.
    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        match self.0.remove(at).1 {
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), shortened(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), shortened(&format!("{value:?}")).into());
    }
}

/// Returns the text, truncated to [`LONGEST`] bytes.
fn shortened(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    format!("{}…", &text[..end])
}

/// Tracing layer that converts each log event into a [`LogLine`] and passes the line to `write`.
pub(super) struct Lines<W> {
    write: W,
}

impl<W: Fn(&LogLine) + 'static> Lines<W> {
    pub(super) fn new(write: W) -> Self {
        Self { write }
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&LogLine) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            for (name, value) in span.extensions().get::<Fields>().into_iter().flat_map(|fields| &fields.0) {
                fields.set(name, value.clone());
            }
        }
        event.record(&mut fields);
        let message = fields.take("message").unwrap_or_default();
        // An event of the `log` crate has its module in the field `log.target`.
        let module = fields.take("log.target").unwrap_or_else(|| event.metadata().target().to_owned());
        fields.0.retain(|(name, _)| !name.starts_with("log."));
        (self.write)(&LogLine { level: *event.metadata().level(), module, message, fields });
    }
}
