//! Check that a text is not too complex for the YAML parser.
//!
//! The parser stores an event for each value, and its time grows with the square of the bracket depth. Without limits,
//! a file of the maximum size could use a gigabyte of memory or take minutes.

/// Maximum number of characters that can begin a value. An ordinary file of the maximum size contains about this
/// number.
const MAX_MARKS: usize = 1_250_000;
/// Maximum depth of open brackets. The check also counts brackets in quotes, so the limit is much higher than the depth
/// of an ordinary file.
const MAX_DEPTH: usize = 10_000;

/// If a text is too complex for the parser, returns the reason. If not, returns `None`.
pub(crate) fn find_excess(text: &str) -> Option<&'static str> {
    let (mut marks, mut depth) = (0_usize, 0_usize);
    for line in text.split(['\n', '\r']) {
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        marks += 1;
        let bytes = line.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            let ends_word = || bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace);
            match byte {
                b',' => marks += 1,
                b'[' | b'{' => (marks, depth) = (marks + 1, depth + 1),
                b']' | b'}' => depth = depth.saturating_sub(1),
                b':' | b'-' | b'?' if ends_word() => marks += 1,
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Some("lists and maps are nested too deep");
            }
        }
        if marks > MAX_MARKS {
            return Some("more values than a configuration can have");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_too_many_values_or_brackets_is_refused_unparsed() {
        let many = Some("more values than a configuration can have");
        for piece in ["[],", "a,", "{},", "- \n", "a: \n", "- - "] {
            assert_eq!(find_excess(&piece.repeat(MAX_MARKS + 1)), many, "{piece:?}");
        }
        assert_eq!(find_excess(&"[".repeat(MAX_DEPTH + 1)), Some("lists and maps are nested too deep"));
    }

    #[test]
    fn text_of_the_largest_length_with_usual_lines_is_parsed() {
        let entry = "  - name: library-name\n    source: registry.example/team/name\n    target: \
                     mirror.example/team/name\n    schedule: \"0 3 * * *\"\n";
        assert_eq!(find_excess(&entry.repeat((16 << 20) / entry.len())), None);
        assert_eq!(find_excess(&"# [[[, -\n\n".repeat(1_500_000)), None);
        assert_eq!(find_excess(&"- \"re:[0-9]+\"\n".repeat(MAX_DEPTH * 2)), None);
    }
}
