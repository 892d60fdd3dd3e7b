//! Functions that split a text into lines as the YAML parser does, and that measure a scalar in a line.

/// Splits a text at each line break that the YAML parser counts.
pub(crate) fn split_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
        let (line, end) = rest.split_at(at);
        lines.push(line);
        let length = if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(1, char::len_utf8) };
        rest = &end[length..];
    }
    lines.push(rest);
    lines
}

/// Returns the length of the scalar `text` at the beginning of `tail`, in characters. If the scalar is quoted, the
/// length includes the quotes. If the length is unknown, returns 1.
pub(crate) fn measure_token(tail: &str, text: &str) -> usize {
    if !text.is_empty() && tail.starts_with(text) {
        return text.chars().count();
    }
    let Some(quote) = tail.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return 1 };
    let mut escaped = false;
    for (at, c) in tail.chars().enumerate().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && quote == '"' && !escaped;
    }
    1
}
