//! Translation of `reqPerSec` and `reqConcurrent`, which regsync and zot share, and remarks about keys of a registry.

use super::draft::Registry;
use super::reading::{Fields, Reading, quoted};

/// Requests per second that `limits.requests` can express.
const RATES: std::ops::Range<f64> = 0.02..1e6;

/// Maximum number of concurrent requests that `limits.concurrent` permits.
const MOST_AT_ONCE: f64 = 1000.0;

/// Translates the limits. A missing number and 0 mean no limit.
pub(super) fn set_limits(fields: &Fields<'_>, registry: &mut Registry, reading: &mut Reading) {
    match reading.number_of(fields, "reqPerSec") {
        None | Some(0.0) => {}
        Some(rate) if RATES.contains(&rate) => {
            registry.limits.text("requests", format!("{}/min", (rate * 60.0).floor().max(1.0)));
        }
        Some(rate) => {
            add_remark(fields, "reqPerSec", &format!("of {rate} cannot be expressed: no limit"), registry, reading)
        }
    }
    match reading.number_of(fields, "reqConcurrent") {
        None | Some(0.0) => {}
        Some(most) if (1.0..=MOST_AT_ONCE).contains(&most) => registry.limits.verbatim("concurrent", most.floor()),
        Some(most) if most > MOST_AT_ONCE => {
            registry.limits.verbatim("concurrent", MOST_AT_ONCE);
            let about = format!("of {} exceeds the maximum of {MOST_AT_ONCE}", quoted(&most.to_string()));
            add_remark(fields, "reqConcurrent", &about, registry, reading);
        }
        Some(most) => add_unknown(fields, "reqConcurrent", &format!("of {most} is not valid"), registry, reading),
    }
}

/// Adds a remark about a key, if the key is present.
pub(super) fn add_remark(fields: &Fields<'_>, key: &str, about: &str, registry: &mut Registry, reading: &mut Reading) {
    if let Some(view) = fields.get(key) {
        registry.comments.push(reading.add_remark(view, format!("`{key}` {about}")));
    }
}

/// Adds a remark about an unknown value.
pub(super) fn add_unknown(fields: &Fields<'_>, key: &str, about: &str, registry: &mut Registry, reading: &mut Reading) {
    if let Some(view) = fields.get(key) {
        registry.comments.push(reading.add_unknown(view, format!("`{key}` {about}")));
    }
}
