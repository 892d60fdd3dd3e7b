//! Escapes for text from registries and other external sources. Unescaped text could control a terminal.

/// Escapes the characters that could control a terminal. Line breaks remain.
pub(crate) fn printable(text: &str) -> String {
    let is_shown = |c: char| c == '\n' || !is_unsafe(c);
    if text.chars().all(is_shown) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_shown(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// Returns true if a character can control a terminal, break a line, be invisible, or change the display order of other
/// characters (Unicode, "Bidirectional Character Types" and "Default_Ignorable_Code_Point").
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unsafe_characters_are_escaped() {
        assert_eq!(printable("déjà\nvu"), "déjà\nvu");
        assert_eq!(printable("a\u{1b}[2J\u{200b}"), "a\\u{1b}[2J\\u{200b}");
    }
}
