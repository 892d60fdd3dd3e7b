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

/// Returns the page of the program, followed by the arguments of each command.
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
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::arguments::Arguments;

    #[test]
    fn manual_page_describes_every_command() {
        let page = String::from_utf8(render_page(Arguments::command()).unwrap()).unwrap();
        for command in Arguments::command().get_subcommands() {
            let heading = format!(".SH \"COMMAND {}\"\n", command.get_name().to_uppercase());
            assert!(page.contains(&heading), "{heading} is missing");
        }
        assert!(page.contains("Exit codes: 0 success"));
    }
}
