//! Page `/help`: the words of the pages, the commands for each state, and the places of the documentation.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::condition::Condition;
use super::frame::Frame;
use super::view::View;
use crate::status::Snapshot;

/// Renders the help.
pub(crate) fn help(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let main = html! {
        h2 #conditions { "Conditions of an entry" }
        dl {
            @for condition in Condition::ALL {
                dt { a href=(View::with_condition(condition).address()) { (condition.label()) } }
                dd { (describe_condition(condition)) " " code { (suggest_command(condition)) } }
            }
        }
        h2 #colours { "Colour of the headline" }
        dl {
            dt { "red" } dd { "The daemon is not ready, or an entry fails." }
            dt { "yellow" } dd {
                "An entry waits long, is paused, has held tags or never matched; a registry limits requests for a "
                "minute or longer; or the last edit of the configuration was rejected."
            }
            dt { "green" } dd { "None of these." }
            dt { "grey" } dd { "No run has ended yet, or no entries are configured." }
        }
        h2 #documentation { "Documentation" }
        dl {
            dt { "Commands" } dd { code { "transship --help" } ", " code { "man transship" } }
            dt { "Book" } dd { code { "/usr/share/doc/transship/book/index.html" } " (Debian package)" }
            dt { "State as JSON" } dd { a href="/status" { "/status" } ", schema: " code { "transship schema status" } }
        }
    };
    Frame { title: "help", search_text: "", refreshed: false }.wrap(&main, snapshot, now)
}

fn describe_condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Failing => "The last run failed or timed out. The runs with their errors:",
        Condition::Waiting => "The entry waits for a slot, for a registry or for a pull limit. The limits:",
        Condition::Held => "A rule does not permit a tag to change yet. The reasons:",
        Condition::Paused => "A person paused the entry, so no run starts automatically. To end the pause:",
        Condition::NeverMatched => "The last run found no tag for the selection, or for a part of it. The tags:",
        Condition::Running => "A run is in progress. To start a further run:",
    }
}

fn suggest_command(condition: Condition) -> &'static str {
    match condition {
        Condition::Failing => "transship history NAME",
        Condition::Waiting => "transship limits",
        Condition::Held | Condition::NeverMatched => "transship plan --explain NAME",
        Condition::Paused => "transship resume NAME",
        Condition::Running => "transship trigger NAME",
    }
}
