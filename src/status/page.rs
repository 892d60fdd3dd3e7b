//! The page for a person: entries with their last and next run. Plain HTML, no script, nothing loaded from elsewhere.

use std::fmt::{self, Write as _};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::snapshot::{EntryState, LastRun, Quota, Snapshot, TransferState};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:90rem;color-scheme:light dark}\
table{border-collapse:collapse;width:100%;margin:1rem 0}\
th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884}\
td{overflow-wrap:anywhere}.bad{color:#c0392b}small{opacity:.75}pre{white-space:pre-wrap}";

/// The page at `now`.
pub(super) fn render(snapshot: &Snapshot, now: DateTime<Utc>) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, snapshot, now);
    page
}

fn write_page(page: &mut String, snapshot: &Snapshot, now: DateTime<Utc>) -> fmt::Result {
    write!(page, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>transship</title>")?;
    write!(
        page,
        "<meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"30\">"
    )?;
    write!(page, "<style>{STYLE}</style></head><body><h1>transship</h1>")?;
    write_head(page, snapshot, now)?;
    write!(page, "<h2>Entries</h2><table><thead><tr><th>Entry<th>From and to<th>Now<th>Last run<th>Next run</tr>")?;
    write!(page, "</thead><tbody>")?;
    for entry in &snapshot.entries {
        write_entry(page, entry, now)?;
    }
    write!(page, "</tbody></table>")?;
    for quota in &snapshot.quotas {
        write_quota(page, quota, now)?;
    }
    if !snapshot.in_flight.is_empty() {
        write_transfers(page, &snapshot.in_flight)?;
    }
    write!(page, "<p><a href=\"/status\">as JSON</a> <a href=\"/metrics\">metrics</a></p></body></html>")
}

fn write_head(page: &mut String, snapshot: &Snapshot, now: DateTime<Utc>) -> fmt::Result {
    write!(page, "<p>Running since {}. Configuration ", Moment(snapshot.started, now))?;
    match snapshot.configuration.loaded_at {
        Some(loaded) => write!(page, "{} read {}.</p>", Text(&snapshot.configuration.path), Moment(loaded, now))?,
        None => write!(page, "not read yet.</p>")?,
    }
    if let Some(problem) = &snapshot.configuration.problem {
        write!(page, "<p class=\"bad\">The last edit was refused; the configuration before it goes on:</p>")?;
        write!(page, "<pre>{}</pre>", Text(problem))?;
    }
    for obstacle in snapshot.obstacles() {
        write!(page, "<p class=\"bad\">Not ready: {}.</p>", Text(obstacle))?;
    }
    Ok(())
}

fn write_entry(page: &mut String, entry: &EntryState, now: DateTime<Utc>) -> fmt::Result {
    write!(page, "<tr><td>{}<td>{}", Text(&entry.name), Text(&entry.source))?;
    for target in &entry.targets {
        write!(page, "<br>&rarr; {}", Text(target))?;
    }
    match &entry.running {
        Some(running) => write!(page, "<td>running since {}", Moment(running.since, now))?,
        None => write!(page, "<td>idle")?,
    }
    match &entry.last_run {
        Some(run) => write_last_run(page, entry, run, now)?,
        None => write!(page, "<td>none yet")?,
    }
    match entry.next_firing {
        Some(next) => write!(page, "<td>{}", Moment(next, now))?,
        None => write!(page, "<td>by hand only")?,
    }
    write!(page, "<br><small>{} {}</small></tr>", Text(&entry.schedule), Text(&entry.timezone))
}

fn write_last_run(page: &mut String, entry: &EntryState, run: &LastRun, now: DateTime<Utc>) -> fmt::Result {
    let class = if entry.last_failure == Some(run.ended) { " class=\"bad\"" } else { "" };
    write!(page, "<td><span{class}>{}</span> {}", Text(&run.outcome), Moment(run.ended, now))?;
    write!(page, "<br><small>{}</small>", run.counts)?;
    match &run.error {
        Some(error) => write!(page, "<br><span class=\"bad\">{}</span>", Text(error)),
        None => Ok(()),
    }
}

fn write_quota(page: &mut String, quota: &Quota, now: DateTime<Utc>) -> fmt::Result {
    let Quota { remaining, limit, kept, .. } = quota;
    write!(page, "<p>{} as {}: ", Text(&quota.registry), Text(&quota.identity))?;
    write!(page, "{remaining} of {limit} pulls left, {kept} kept back, told {}.</p>", Moment(quota.told, now))
}

fn write_transfers(page: &mut String, transfers: &[TransferState]) -> fmt::Result {
    write!(page, "<h2>On the way</h2><table><thead><tr><th>Blob<th>From<th>To<th>Sent</tr></thead><tbody>")?;
    for transfer in transfers {
        let percent = (transfer.sent.saturating_mul(100)).checked_div(transfer.size).unwrap_or(100);
        write!(page, "<tr><td>{}", transfer.digest.short())?;
        write!(page, "<td>{}<td>{}", Text(&transfer.source), Text(&transfer.target))?;
        write!(page, "<td>{percent}% of {} bytes</tr>", transfer.size)?;
    }
    write!(page, "</tbody></table>")
}

/// Text that means itself and never markup.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A moment, absolute and as seen from now.
struct Moment(DateTime<Utc>, DateTime<Utc>);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(moment, now) = self;
        let distance = Duration::from_secs((*moment - *now).num_seconds().unsigned_abs());
        let distance = humantime::format_duration(distance);
        write!(f, "{} <small>(", moment.to_rfc3339_opts(SecondsFormat::Secs, true))?;
        if moment > now { write!(f, "in {distance})</small>") } else { write!(f, "{distance} ago)</small>") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::{at, working};
    use super::*;

    #[test]
    fn the_page_tells_of_every_entry_its_last_and_next_run() {
        let page = render(&working(), at(0));
        for told in [
            "python-base",
            "docker.io/library/python",
            "2 copied, 14 kept, 1 failed",
            "25% of 1000 bytes",
            "76 of 200 pulls left",
        ] {
            assert!(page.contains(told), "{told} is missing in {page}");
        }
        assert!(page.contains("(in 1h)") && page.contains("(1m ago)"), "{page}");
    }

    #[test]
    fn what_others_wrote_is_text_and_never_markup() {
        let mut snapshot = working();
        snapshot.configuration.problem = Some("<script>alert(1)</script>".into());
        snapshot.entries[0].name = "\"><img src=x>".into();
        let page = render(&snapshot, at(0));
        assert!(page.contains("&lt;script&gt;") && page.contains("&lt;b&gt;3.13"), "{page}");
        for markup in ["<script", "<img", "<b>"] {
            assert!(!page.contains(markup), "{page}");
        }
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        let page = render(&Snapshot::starting(at(0)), at(0));
        for reference in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(reference), "{reference} in {page}");
        }
    }
}
