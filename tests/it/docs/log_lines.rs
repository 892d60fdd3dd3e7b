//! Generator and test of the list of log messages in `docs/reference/log-messages.md`, from the calls of `tracing` in
//! the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::visit::Visit;
use syn::{Attribute, Expr, ExprLit, Ident, ItemConst, ItemFn, ItemMod, Lit, LitStr, Macro, Token};

use super::assert_current;
use crate::support::rust_source;

/// Levels, the most severe first.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Line before the generated part of the page.
const BEGIN: &str = "<!-- The program generates this part: `UPDATE_REFERENCE=1 tests/run is_current` writes it. -->\n";

/// Message of the program, with the names of its fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    /// Position in [`LEVELS`].
    level: usize,
    text: String,
    fields: BTreeSet<String>,
}

/// Content of a call of `tracing`: the names of the fields, and the text.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    fields: BTreeSet<String>,
    text: String,
}

impl Parse for Call {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut call = Self { fields: BTreeSet::new(), text: String::new() };
        while !input.is_empty() {
            if input.peek(LitStr) {
                call.text = input.parse::<LitStr>()?.value();
                // The arguments of the format follow.
                input.parse::<proc_macro2::TokenStream>()?;
                break;
            }
            // An option of the call: `target: …` or `parent: …`.
            if input.peek2(Token![:]) && !input.peek2(Token![::]) {
                input.call(Ident::parse_any)?;
                input.parse::<Token![:]>()?;
                input.parse::<Expr>()?;
            } else {
                call.fields.insert(field(input)?);
            }
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(call)
    }
}

/// Reads one field, such as `%error`, `tag` or `seconds = elapsed.as_secs()`, and returns its name.
fn field(input: ParseStream<'_>) -> syn::Result<String> {
    skip_sigil(input)?;
    let mut name = input.call(Ident::parse_any)?.to_string();
    while input.parse::<Option<Token![.]>>()?.is_some() {
        name = format!("{name}.{}", input.call(Ident::parse_any)?);
    }
    if input.parse::<Option<Token![=]>>()?.is_some() {
        skip_sigil(input)?;
        input.parse::<Expr>()?;
    }
    Ok(name)
}

/// Skips the `%` or `?` that says how a value is formatted.
fn skip_sigil(input: ParseStream<'_>) -> syn::Result<()> {
    if input.parse::<Option<Token![%]>>()?.is_none() {
        input.parse::<Option<Token![?]>>()?;
    }
    Ok(())
}

/// Collector of the messages of a file, without its tests.
#[derive(Debug, Default)]
struct Collector {
    messages: Vec<Message>,
    /// Texts of constants, which a message may contain.
    constants: BTreeMap<String, String>,
    problems: Vec<String>,
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Meta>().is_ok_and(|meta| meta.path().is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        if let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &*item.expr {
            self.constants.insert(item.ident.to_string(), text.value());
        }
        syn::visit::visit_item_const(self, item);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let path: Vec<String> = call.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let level = path.last().and_then(|last| LEVELS.iter().position(|level| level == last));
        if let (Some(level), Some("tracing")) = (level, path.first().map(String::as_str)) {
            match call.parse_body::<Call>() {
                Ok(Call { fields, text }) => self.messages.push(Message { level, text, fields }),
                Err(error) => self.problems.push(format!("{error}: {}", call.tokens)),
            }
        }
        syn::visit::visit_macro(self, call);
    }
}

/// Reads the messages of a file.
fn read(text: &str) -> Collector {
    let mut collector = Collector::default();
    match syn::parse_file(text) {
        Ok(file) => collector.visit_file(&file),
        Err(error) => collector.problems.push(error.to_string()),
    }
    for message in &mut collector.messages {
        for (name, text) in &collector.constants {
            message.text = message.text.replace(&format!("{{{name}}}"), text);
        }
    }
    collector
}

/// Returns the messages by the module that logs them, such as `transship::daemon::service`.
fn messages() -> BTreeMap<String, BTreeSet<Message>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_source::files(&source);
    let only_tests: BTreeSet<String> =
        files.iter().flat_map(|file| rust_source::read(&fs::read_to_string(file).unwrap()).test_modules).collect();
    let mut found: BTreeMap<String, BTreeSet<Message>> = BTreeMap::new();
    for file in &files {
        let relative = file.strip_prefix(&source).unwrap().with_extension("");
        let parts: Vec<&str> = relative.iter().filter_map(|part| part.to_str()).filter(|part| *part != "mod").collect();
        if parts.iter().any(|part| only_tests.contains(*part)) {
            continue;
        }
        let Collector { messages, problems, .. } = read(&fs::read_to_string(file).unwrap());
        assert!(problems.is_empty(), "{}: {problems:?}", file.display());
        let module = format!("transship::{}", parts[..parts.len().min(2)].join("::"));
        found.entry(module).or_default().extend(messages);
    }
    found.retain(|_, messages| !messages.is_empty());
    found
}

fn page(messages: &BTreeMap<String, BTreeSet<Message>>) -> String {
    let mut page = String::new();
    for (module, messages) in messages {
        page += &format!("\n## `{module}`\n\n| level | message | fields |\n| --- | --- | --- |\n");
        for Message { level, text, fields } in messages {
            let fields: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
            let text = text.replace('|', r"\|").replace("{{", "{").replace("}}", "}");
            page += &format!("| {} | `{}` | {} |\n", LEVELS[*level], text.replace('`', "'"), fields.join(", "));
        }
    }
    page
}

#[test]
fn page_of_log_messages_is_current() {
    let messages = messages();
    let count: usize = messages.values().map(BTreeSet::len).sum();
    assert!(count > 60, "{count} messages were found");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/log-messages.md");
    let present = fs::read_to_string(&file).unwrap();
    let (before, _) = present.split_once(BEGIN).expect("the line before the generated part");
    assert_current(&file, &format!("{before}{BEGIN}{}", page(&messages)));
}

#[test]
fn calls_of_every_form_are_read_except_in_tests() {
    let source = r#"
        const CAUSE: &str = "it broke";
        fn f() {
            tracing::info!("started");
            tracing::warn!(
                target: "x", parent: &span, %error, a.b = ?c, until = until.map(print), "{n} of {}: {CAUSE}", m
            );
            tracing::debug!(left,);
        }
        #[cfg(test)]
        mod tests { fn g() { tracing::error!("never"); } }
    "#;
    let Collector { messages, problems, .. } = read(source);
    let message = |level: usize, text: &str, fields: &[&str]| Message {
        level,
        text: text.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    };
    let expected = [
        message(2, "started", &[]),
        message(1, "{n} of {}: it broke", &["error", "a.b", "until"]),
        message(3, "", &["left"]),
    ];
    assert_eq!((messages, problems), (expected.to_vec(), Vec::new()));
}
