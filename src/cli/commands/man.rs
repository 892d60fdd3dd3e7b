//! Command `transship man`: prints one manual page for the program and all its commands.

use std::io;

use clap::CommandFactory as _;
use clap_mangen::Man as Page;

use crate::cli::arguments::Arguments;
use crate::cli::exit::{Exit, Failure};
use crate::cli::main::Context;

/// Arguments of `transship man`: none.
#[derive(Debug, clap::Args)]
pub struct Man {}

impl Man {
    pub(crate) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        context.output.raw(&page()?)?;
        Ok(Exit::Ok)
    }
}

/// Returns the page of the program, followed by the arguments of each command.
fn page() -> io::Result<Vec<u8>> {
    let mut command = Arguments::command();
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
        let sub = Page::new(sub.clone());
        let mut section = Vec::new();
        sub.render_synopsis_section(&mut section)?;
        sub.render_description_section(&mut section)?;
        sub.render_options_section(&mut section)?;
        // Sections of a command's own page become subsections here.
        page.extend_from_slice(String::from_utf8_lossy(&section).replace(".SH ", ".SS ").as_bytes());
    }
    whole.render_extra_section(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_page_describes_every_command() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        for command in Arguments::command().get_subcommands() {
            let heading = format!(".SH \"COMMAND {}\"\n", command.get_name().to_uppercase());
            assert!(page.contains(&heading), "{heading} is missing");
        }
        assert!(page.contains("Exit codes: 0 success"));
    }
}
