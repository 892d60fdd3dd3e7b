//! Tables of the registries: the requests to each registry, its limits, and its remaining pulls.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::words::{format_bytes, format_duration, render_time};
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
    let waited = std::time::Duration::try_from_secs_f64(registry.throttled_seconds).unwrap_or_default();
    html! {
        tr {
            th scope="row" { (registry.registry) " " small { "as " (registry.identities.join(", ")) } }
            td data-name="Now" {
                (registry.in_flight) " of " (registry.limits.concurrent) " at once"
                @if let Some(until) = registry.paused_until.filter(|until| *until > now) {
                    " " span .word .warn-word { "throttled" } " " small { "resumes " (render_time(until, now)) }
                }
            }
            td data-name="Limits" {
                @let limits = list_limits(&registry.limits);
                @if limits.is_empty() { "no further limits" } @else { (limits.join(", ")) }
                @if waited.as_secs() > 0 { " " small { "requests waited " (format_duration(waited)) " in total" } }
            }
            td .number data-name="Requests" { (registry.requests) }
            td .number data-name="Received" { (format_bytes(registry.bytes_in)) }
            td .number data-name="Sent" { (format_bytes(registry.bytes_out)) }
        }
    }
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
            th scope="row" { (quota.registry) }
            td data-name="As" { (quota.identity) }
            td data-name="Remaining pulls" {
                meter min="0" max=(quota.limit) low=(quota.reserved) high=(quota.reserved.max(quota.limit / 4))
                    optimum=(quota.limit) value=(quota.remaining.min(quota.limit)) aria-label="remaining pulls" {}
                " " (quota.remaining) " of " (quota.limit)
                @if quota.remaining <= quota.reserved { " " span .word .warn-word { "used up" } }
                @if quota.reserved > 0 { small { (quota.reserved) " reserved for other clients" } }
            }
            td data-name="Window" { (format_duration(std::time::Duration::from_secs(quota.window_seconds))) }
            td data-name="Reported" { (render_time(quota.reported, now)) }
        }
    }
}
