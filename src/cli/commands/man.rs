//! Command `transship man`: prints one manual page for the program and all its commands.

use std::io;

use clap_mangen::Man as Page;

use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};

/// Arguments of `transship man`: none.
#[derive(Debug, clap::Args)]
pub struct Man {}

impl Man {
    /// Prints the page of the command line that `program` defines.
    pub(crate) fn perform(self, program: clap::Command, context: &mut Context) -> Result<Exit, Failure> {
        context.output.raw(&render_page(program)?)?;
        Ok(Exit::Ok)
    }
}

/// Section with a list of terms and their meanings.
struct Section {
    heading: &'static str,
    items: &'static [(&'static str, &'static str)],
}

/// Sections after the commands.
const SECTIONS: [Section; 5] = [
    Section {
        heading: "EXIT STATUS",
        items: &[
            ("0", "Success."),
            ("1", "At least one tag failed, or the command could not do its work."),
            ("2", "The command line or the configuration is wrong."),
            ("3", "Changes are pending (plan --exit-code)."),
            ("4", "A rule or a pull limit withheld tags, or import-config skipped an entry."),
            ("130", "A signal interrupted the command."),
        ],
    },
    Section {
        heading: "ENVIRONMENT",
        items: &[
            ("TRANSSHIP_CONFIG", "Configuration file. The option --config takes precedence."),
            (
                "TRANSSHIP_LOG",
                "Filter of log lines: a level (debug), or levels by module (info,transship::registry=debug). It takes \
                 precedence over -q and -v.",
            ),
            ("NO_COLOR", "If it is set and not empty, the output has no colours."),
            ("HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY", "Proxies of registries without a proxy of their own."),
            (
                "STATE_DIRECTORY, XDG_STATE_HOME, HOME",
                "Folder of the journal if the configuration names none. HOME also locates the login files of docker.",
            ),
            ("RUNTIME_DIRECTORY", "Folder of the control socket if the configuration names none."),
            ("CREDENTIALS_DIRECTORY", "Folder with the secrets that systemd passes to the service."),
        ],
    },
    Section {
        heading: "FILES",
        items: &[
            ("./sync.yaml", "Configuration. It takes precedence over the next file."),
            ("/etc/transship/sync.yaml", "Configuration of the packaged service."),
            ("/var/lib/transship/journal.db", "Journal of the packaged service: runs and evidence."),
            ("~/.local/state/transship/journal.db", "Journal of a user, if the configuration names none."),
            ("/run/transship/control.sock", "Control socket of the packaged service: trigger, pause, resume."),
            ("/usr/share/doc/transship", "Documentation and examples of the package."),
        ],
    },
    Section {
        heading: "EXAMPLES",
        items: &[
            ("transship copy docker.io/library/alpine:3.20 registry.example.com/library/alpine", "Copies one image."),
            ("transship check sync.yaml", "Reports all mistakes in a configuration."),
            ("transship login-check", "Tests the login and the permissions at each registry."),
            ("transship plan --explain 'app-*'", "Shows the changes that a run of these entries would make."),
            ("transship once -q", "Runs every entry once and prints errors only, for cron."),
            ("transship run --config /etc/transship/sync.yaml", "Runs the daemon."),
            ("transship status --watch", "Shows the state of the daemon every 2 seconds."),
            ("transship history --failed --since yesterday", "Shows the failed runs since yesterday."),
            ("transship pause --all --for 2h", "Pauses the scheduled runs of every entry for two hours."),
            (
                "transship evidence --reference registry.example.com/library/alpine:3.20 --json",
                "Prints the recorded writes of a tag for a program.",
            ),
        ],
    },
    Section {
        heading: "SEE ALSO",
        items: &[
            ("skopeo(1), systemctl(1), journalctl(1), cron(8)", ""),
            ("OCI Distribution Specification", "https://github.com/opencontainers/distribution-spec"),
        ],
    },
];

/// Returns the page of the program, followed by the arguments of each command and by [`SECTIONS`]. The section of a
/// command omits the arguments of every command, which the page has once.
fn render_page(mut command: clap::Command) -> io::Result<Vec<u8>> {
    command.build();
    let mut page = Vec::new();
    let whole = Page::new(command.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let heading = format!(".SH \"COMMAND {}\"\n", sub.get_name().to_uppercase());
        page.extend_from_slice(heading.as_bytes());
        let sub = Page::new(sub.clone().mut_args(hide_if_global));
        let mut section = Vec::new();
        sub.render_synopsis_section(&mut section)?;
        sub.render_description_section(&mut section)?;
        sub.render_options_section(&mut section)?;
        // Sections of a command's own page become subsections here.
        page.extend_from_slice(String::from_utf8_lossy(&section).replace(".SH ", ".SS ").as_bytes());
    }
    for section in &SECTIONS {
        page.extend_from_slice(section.render().as_bytes());
    }
    Ok(page)
}

/// Hides an argument that every command has.
fn hide_if_global(argument: clap::Arg) -> clap::Arg {
    let is_shared = argument.is_global_set() || matches!(argument.get_id().as_str(), "help" | "version");
    argument.hide(is_shared)
}

impl Section {
    fn render(&self) -> String {
        let mut text = format!(".SH \"{}\"\n", self.heading);
        for (term, meaning) in self.items {
            text.push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", escape(term), escape(meaning)));
        }
        text
    }
}

/// Escapes a text for roff: hyphens stay hyphens, and no line begins with a control character.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::arguments::Arguments;

    fn page() -> String {
        String::from_utf8(render_page(Arguments::command()).unwrap()).unwrap()
    }

    #[test]
    fn manual_page_describes_every_command() {
        for command in Arguments::command().get_subcommands() {
            let heading = format!(".SH \"COMMAND {}\"\n", command.get_name().to_uppercase());
            assert!(page().contains(&heading), "{heading} is missing");
        }
    }

    #[test]
    fn arguments_of_every_command_are_described_once() {
        let page = page();
        for option in ["log\\-format", "\\-verbose"] {
            // The synopsis of a command may name the option; its description is bold.
            let described = page.matches(&format!("\\fB\\-\\-{}", option.trim_start_matches("\\-"))).count();
            assert!((1..=2).contains(&described), "{option}: {described}");
        }
        assert!(page.lines().count() < 750, "{} lines", page.lines().count());
    }

    #[test]
    fn manual_page_has_the_usual_sections() {
        let page = page();
        let position =
            |heading: &str| page.find(&format!(".SH \"{heading}\"\n")).unwrap_or_else(|| panic!("{heading}"));
        let order = ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"].map(position);
        assert!(order.is_sorted(), "{order:?}");
        assert_eq!(escape("./sync.yaml -c"), "\\&./sync.yaml \\-c");
    }

    #[test]
    fn examples_of_the_manual_page_are_valid_command_lines() {
        let examples = SECTIONS.iter().find(|section| section.heading == "EXAMPLES").unwrap();
        for (example, _) in examples.items {
            let words = example.split(' ').map(|word| word.trim_matches('\''));
            Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
        assert!(examples.items.len() >= 8);
    }
}
