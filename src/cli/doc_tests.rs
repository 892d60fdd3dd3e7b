//! Generator and test of `docs/reference/command-line.md`. The generator reads the argument definitions of clap.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::arguments::Arguments;
use crate::status::doc_tests::{assert_part_is_current, code, header, row};

/// Returns the syntax of an argument on the command line, such as `-c, --config FILE` or `[ENTRY]...`.
fn spelling(argument: &Arg) -> String {
    if argument.is_positional() {
        return code(&argument.to_string());
    }
    let short = argument.get_short().into_iter().chain(argument.get_visible_short_aliases().into_iter().flatten());
    let long = argument.get_long().into_iter().chain(argument.get_visible_aliases().into_iter().flatten());
    let names = short.map(|short| format!("-{short}")).chain(long.map(|long| format!("--{long}")));
    let names = names.collect::<Vec<_>>().join(", ");
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let is_optional = argument.get_num_args().is_some_and(|number| number.min_values() == 0);
    let value = argument.get_value_names().filter(|_| takes_value).map(|names| names[0].to_string());
    let value = value.map(|value| if is_optional { format!("[{value}]") } else { value });
    code(&value.map_or_else(|| names.clone(), |value| format!("{names} {value}")))
}

/// Returns the description of an argument: the help text, the possible values, the default and the environment
/// variable.
fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut text = sentence(&help);
    let values = argument.get_possible_values();
    if !values.is_empty() && matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) {
        let word = |value: &clap::builder::PossibleValue| match value.get_help() {
            Some(help) => format!("{} ({help})", code(value.get_name())),
            None => code(value.get_name()),
        };
        let values: Vec<String> = values.iter().filter(|value| !value.is_hide_set()).map(word).collect();
        write!(text, " One of: {}.", values.join("; ")).unwrap();
    }
    let defaults = argument.get_default_values();
    if !defaults.is_empty() && matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) {
        let default = defaults[0].to_string_lossy();
        write!(text, " Default: {}.", code(&default)).unwrap();
    }
    if let Some(variable) = argument.get_env() {
        write!(text, " Environment variable: {}.", code(&variable.to_string_lossy())).unwrap();
    }
    text
}

/// Adds a full stop to a text without one. Converts `[default: …]` to a separate sentence.
fn sentence(text: &str) -> String {
    let text = match text.split_once(" [default: ") {
        Some((before, default)) => format!("{before}. Default: {}", default.trim_end_matches(']')),
        None => text.to_owned(),
    };
    if text.ends_with('.') { text } else { format!("{text}.") }
}

fn table(arguments: &[&Arg]) -> String {
    let rows = arguments.iter().map(|argument| row(&[&spelling(argument), &meaning(argument)]));
    header(&["argument", "meaning"]) + &rows.collect::<String>()
}

fn section(command: &mut Command) -> String {
    let usage = command.render_usage().to_string();
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let mut text = format!("## `transship {}`\n\n{}\n\n", command.get_name(), sentence(&about));
    writeln!(text, "Usage: {}", code(usage.trim_start_matches("Usage: "))).unwrap();
    for alias in command.get_visible_aliases() {
        write!(text, "\n{} is a short name of this command.\n", code(&format!("transship {alias}"))).unwrap();
    }
    let is_own = |argument: &&Arg| !argument.is_global_set() && !argument.is_hide_set();
    let is_built_in = |argument: &Arg| matches!(argument.get_id().as_str(), "help" | "version");
    let own: Vec<&Arg> = command.get_arguments().filter(is_own).filter(|argument| !is_built_in(argument)).collect();
    if !own.is_empty() {
        write!(text, "\n{}", table(&own)).unwrap();
    }
    text
}

#[test]
fn command_line_page_is_current() {
    let mut command = Arguments::command();
    command.build();
    let global: Vec<&Arg> = command.get_arguments().filter(|argument| !argument.is_hide_set()).collect();
    let global = format!("## Arguments of every command\n\n{}", table(&global));
    let sections: Vec<String> = command
        .get_subcommands_mut()
        .filter(|command| command.get_name() != "help")
        .map(|command| format!("\n{}", section(command)))
        .collect();
    assert!(sections.len() > 15, "{sections:?}");
    assert_part_is_current("command-line.md", &(global + &sections.concat()));
}
