//! Tables of the registries: the requests to each registry, its limits, and its remaining pulls.

use std::time::Duration;

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::words::{format_bytes, format_clock, format_duration, render_bytes, render_distance, render_reference};
use crate::status::{LimitsState, Quota, RegistryState};

/// Renders the registries that received a request since the daemon started.
pub(super) fn registries(registries: &[RegistryState], now: DateTime<Utc>) -> Markup {
    html! {
        @if !registries.is_empty() {
            h2 #registries { "Registries" }
            table aria-labelledby="registries" {
                caption { "Requests and bytes since the daemon started." }
                thead { tr {
                    th { "Registry" } th { "Now" } th { "Limits" }
                    th .number { "Requests" } th .number { "Received" } th .number { "Sent" }
                } }
                tbody { @for registry in registries { (row(registry, now)) } }
            }
        }
    }
}

fn row(registry: &RegistryState, now: DateTime<Utc>) -> Markup {
    let average = average_wait(registry);
    html! {
        tr {
            th scope="row" {
                (render_reference(&registry.registry)) " " small { "as " (registry.identities.join(", ")) }
            }
            td data-name="Now" {
                (registry.in_flight) " of " (registry.limits.concurrent) " at once"
                @if let Some(until) = registry.paused_until.filter(|until| *until > now) {
                    " " span .word .warn-word { "throttled" } " "
                    small { "until " (format_clock(until, now)) " UTC, " (render_distance(until, now)) }
                }
            }
            td data-name="Limits" {
                @let limits = list_limits(&registry.limits);
                @if limits.is_empty() { "no further limits" } @else { (limits.join(", ")) }
                @if !average.is_zero() {
                    " " small { "a request waited " (humantime::format_duration(average)) " on average" }
                }
            }
            td .number data-name="Requests" { (registry.requests) }
            td .number data-name="Received" { (render_bytes(registry.bytes_in)) }
            td .number data-name="Sent" { (render_bytes(registry.bytes_out)) }
        }
    }
}

/// Returns the time that a request waited on average, in whole tenths of a second. The sum of the waits of concurrent
/// requests can exceed the uptime of the daemon, so the page does not show the sum.
fn average_wait(registry: &RegistryState) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "an average needs no more than 53 bits")]
    let average = registry.throttled_seconds / registry.requests.max(1) as f64;
    let waited = Duration::try_from_secs_f64(average).unwrap_or_default();
    Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or_default() / 100 * 100)
}

/// Returns the limits in force other than the number of concurrent requests.
pub(super) fn list_limits(limits: &LimitsState) -> Vec<String> {
    let mut words = Vec::new();
    if limits.concurrent < limits.concurrent_at_most {
        words.push(format!("up to {} at once, temporarily reduced", limits.concurrent_at_most));
    }
    for rate in &limits.rates {
        let per = match rate.per_seconds {
            1 => "s".to_owned(),
            60 => "min".to_owned(),
            3600 => "h".to_owned(),
            seconds => format!("{seconds} s"),
        };
        words.push(format!("{} {}/{per}", rate.count, rate.of.replace('_', " ")));
    }
    words.extend(limits.bandwidth.map(|rate| format!("{}/s", format_bytes(rate))));
    words
}

/// Renders the last reported quotas of registries that count pulls.
pub(super) fn quotas(quotas: &[Quota], now: DateTime<Utc>) -> Markup {
    html! {
        @if !quotas.is_empty() {
            h2 #quotas { "Pull limits" }
            table aria-labelledby="quotas" {
                thead { tr {
                    th { "Registry" } th { "As" } th { "Remaining pulls" } th { "Window" } th { "Reported" }
                } }
                tbody { @for quota in quotas { (quota_row(quota, now)) } }
            }
        }
    }
}

fn quota_row(quota: &Quota, now: DateTime<Utc>) -> Markup {
    html! {
        tr {
            th scope="row" { (render_reference(&quota.registry)) }
            td data-name="As" { (quota.identity) }
            td data-name="Remaining pulls" {
                meter min="0" max=(quota.limit) low=(quota.reserved) high=(quota.reserved.max(quota.limit / 4))
                    optimum=(quota.limit) value=(quota.remaining.min(quota.limit)) aria-label="remaining pulls" {}
                " " span .size { (quota.remaining) " of " (quota.limit) }
                @if quota.remaining <= quota.reserved { " " span .word .warn-word { "used up" } }
                @if quota.reserved > 0 { " " small { (quota.reserved) " reserved for other clients" } }
            }
            td data-name="Window" { (format_duration(Duration::from_secs(quota.window_seconds))) }
            td data-name="Reported" { (render_distance(quota.reported, now)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::{second, working};

    #[test]
    fn waits_are_shown_as_average_of_the_requests() {
        let mut registry = working().registries.remove(0);
        (registry.throttled_seconds, registry.requests) = (28.0 * 60.0, 100);
        let page = registries(std::slice::from_ref(&registry), second(0)).into_string();
        assert!(page.contains("a request waited 16s 800ms on average"), "{page}");
        assert!(!page.contains("28m"), "the sum exceeds the uptime: {page}");
        registry.throttled_seconds = 1.0;
        assert!(!registries(&[registry], second(0)).into_string().contains("waited"));
    }
}
