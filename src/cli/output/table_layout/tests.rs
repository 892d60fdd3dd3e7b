//! Tests of the layout of tables on terminals, and of tables in pipes.

use super::*;
use crate::oci::Digest;

fn table() -> Table {
    let columns = [
        Column::left("TAG"),
        Column::left("OUTCOME"),
        Column::reference("TARGET"),
        Column::left("BLOBS").optional(),
        Column::right("BYTES"),
    ];
    let mut table = Table::new(&columns);
    for (tag, outcome, name, bytes) in [("3.12-slim", "copied", "python", "12.3 MiB"), ("é", "failed", "caddy", "7 B")]
    {
        let target = format!("registry.example.com:5000/mirror/{name}");
        table.row([tag.into(), Cell::outcome(outcome), target.into(), "2 sent".into(), bytes.into()]);
    }
    table
}

#[test]
fn columns_are_as_wide_as_their_content() {
    let expected = [
        "TAG        OUTCOME  TARGET                                   BLOBS      BYTES",
        "3.12-slim  copied   registry.example.com:5000/mirror/python  2 sent  12.3 MiB",
        "é          failed   registry.example.com:5000/mirror/caddy   2 sent       7 B",
    ];
    assert_eq!(fitted(&table(), 77, false), expected);
}

#[test]
fn shared_host_moves_above_a_table_that_is_too_wide() {
    let expected = [
        "TARGET in registry.example.com:5000/mirror/",
        "TAG        OUTCOME  TARGET  BLOBS      BYTES",
        "3.12-slim  copied   python  2 sent  12.3 MiB",
        "é          failed   caddy   2 sent       7 B",
    ];
    assert_eq!(fitted(&table(), 76, false), expected);
    assert_eq!(fitted(&table(), 44, false), expected);
}

#[test]
fn optional_column_is_dropped_before_rows_become_cards() {
    assert_eq!(fitted(&table(), 40, false)[1], "TAG        OUTCOME  TARGET     BYTES");
    let expected = [
        "TAG:     3.12-slim",
        "OUTCOME: copied",
        "TARGET:  …com:5000/mirror/python",
        "BLOBS:   2 sent",
        "BYTES:   12.3 MiB",
        "",
        "TAG:     é",
    ];
    assert_eq!(fitted(&table(), 32, false)[..7], expected);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let mut table = table();
    table.columns.push(Column::sentence("WHY"));
    table.rows.iter_mut().for_each(|row| row.push("the registry has locked the tag, so it stays as it was".into()));
    for width in 20..160 {
        for line in fitted(&table, width, true) {
            assert!(measure_text_width(&line) <= width, "{width}: {line}");
        }
    }
}

#[test]
fn sentence_continues_within_its_column() {
    let mut table = Table::new(&[Column::left("TAG"), Column::sentence("REASON")]);
    table.row(["v1", "excluded by a pattern of the entry"]);
    assert_eq!(fitted(&table, 31, false), ["TAG  REASON", "v1   excluded by a pattern of", "     the entry"]);
}

#[test]
fn table_in_a_pipe_has_tabs_and_full_values() {
    let digest = Digest::of(b"x");
    let mut table = Table::new(&[Column::left("TAG"), Column::left("DIGEST"), Column::left("ENDED")]);
    let at = |text: &str| text.parse().unwrap();
    let ended = Cell::time(at("2026-11-21T03:00:00Z"), at("2026-11-21T03:03:00Z"));
    table.row([Cell::from("a\nb\tc"), Cell::digest(&digest), ended.clone()]);
    let row = format!("a b\\tc\t{digest}\t2026-11-21T03:00:00Z");
    assert_eq!(tab_separated(&table, false), ["TAG\tDIGEST\tENDED".to_owned(), row]);
    let short = format!("a b\\tc  sha256:{}  3m ago", digest.short());
    assert_eq!(fitted(&table, 80, false)[1], short);
}

#[test]
fn digest_is_shown_in_full_if_the_table_fits() {
    let digest = Digest::of(b"x");
    let mut table = Table::new(&[Column::left("TAG"), Column::digest("DIGEST")]);
    table.row([Cell::from("v1"), Cell::digest(&digest)]);
    assert_eq!(fitted(&table, 76, false)[1], format!("v1   {digest}"));
    assert_eq!(fitted(&table, 75, false)[1], format!("v1   sha256:{}", digest.short()));
}

#[test]
fn colours_do_not_change_the_alignment() {
    let plain = fitted(&table(), 80, false);
    let colored = fitted(&table(), 80, true);
    assert!(colored[2].contains("\u{1b}[31mfailed\u{1b}[0m"), "{}", colored[2]);
    let stripped = colored.iter().map(|line| console::strip_ansi_codes(line).into_owned());
    assert_eq!(stripped.collect::<Vec<_>>(), plain);
}
