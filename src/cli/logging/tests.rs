//! Tests of log lines in each format.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// Message from a registry that tries to forge log lines.
const FORGED: &str = "no\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{9b}\u{2028}\u{202e}\nTRANSSHIP_ENTRY=forged";

#[derive(Clone, Default)]
struct OutputBuffer(Arc<Mutex<String>>);

impl OutputBuffer {
    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// Returns the text that the log events of `emit` write to standard error. If standard error is connected to a journal,
/// `socket` is the path of the journal's socket.
fn printed(format: LogFormat, directives: &str, socket: Option<&Path>, emit: impl FnOnce()) -> String {
    let buffer = OutputBuffer::default();
    let on = buffer.clone();
    let print = move |text: &str| on.0.lock().unwrap().push_str(text);
    let lines = Lines::new(writer_for(format, socket, print)).with_filter(filter(directives).unwrap());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), emit);
    buffer.text()
}

/// Returns the text on standard error without a journal. The filter passes every event.
fn printed_all(format: LogFormat, emit: impl FnOnce()) -> String {
    printed(format, "trace", None, emit)
}

fn parsed(text: &str) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(read).collect()
}

/// Socket that receives journal entries in place of journald.
struct Listening {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    socket: UnixDatagram,
}

impl Listening {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { _folder: folder, path, socket }
    }

    /// Returns the fields of the next entry. The parser follows the rules of journald.
    fn entry(&self) -> Vec<(String, String)> {
        let mut buffer = vec![0; 1 << 20];
        let length = self.socket.recv(&mut buffer).unwrap();
        let mut rest = &buffer[..length];
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
            let name = String::from_utf8(rest[..end].to_vec()).unwrap();
            let size = u64::from_le_bytes(rest[end + 1..end + 9].try_into().unwrap()) as usize;
            let value = String::from_utf8(rest[end + 9..end + 9 + size].to_vec()).unwrap();
            assert_eq!(rest[end + 9 + size], b'\n');
            rest = &rest[end + 10 + size..];
            fields.push((name, value));
        }
        fields
    }
}

fn log_copied_tag() {
    let run = tracing::info_span!("run", entry = "api", run = 7);
    let tag = tracing::info_span!(parent: &run, "tag", tag = "v1", digest = tracing::field::Empty);
    let _in = tag.enter();
    tag.record("digest", "sha256:00");
    tracing::info!(bytes = 3, digest = %"sha256:11", target = "b/app", source = "a/app", "copied");
}

#[test]
fn line_has_the_fields_of_its_run_once_in_every_format() {
    let text = "copied entry=api run=7 source=a/app target=b/app tag=v1 digest=sha256:11 bytes=3";
    let pretty = printed_all(LogFormat::Pretty, log_copied_tag);
    let (time, rest) = pretty.split_once(' ').unwrap();
    assert!(time.parse::<chrono::DateTime<Utc>>().is_ok() && time.ends_with('Z'), "{time}");
    assert_eq!(rest, format!(" INFO {text}\n"));
    assert_eq!(printed_all(LogFormat::Journald, log_copied_tag), format!("<6>{text}\n"));

    let line = printed_all(LogFormat::Json, log_copied_tag);
    let (beginning, rest) = line.split_once(",\"level\"").unwrap();
    assert!(beginning.starts_with("{\"timestamp\":\"20"), "{line}");
    assert_eq!(
        rest,
        concat!(
            ":\"INFO\",\"message\":\"copied\",\"entry\":\"api\",\"run\":7,\"source\":\"a/app\",\"target\":\"b/app\",",
            "\"tag\":\"v1\",\"digest\":\"sha256:11\",\"bytes\":3,\"module\":\"transship::cli::logging::tests\"}\n"
        )
    );

    let journal = Listening::new();
    assert_eq!(
        printed(LogFormat::Journald, "info", Some(&journal.path), log_copied_tag),
        "",
        "the line is in the journal only"
    );
    let expected = [
        ("MESSAGE", text),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "transship"),
        ("TRANSSHIP_MODULE", "transship::cli::logging::tests"),
        ("TRANSSHIP_ENTRY", "api"),
        ("TRANSSHIP_RUN", "7"),
        ("TRANSSHIP_SOURCE", "a/app"),
        ("TRANSSHIP_TARGET", "b/app"),
        ("TRANSSHIP_TAG", "v1"),
        ("TRANSSHIP_DIGEST", "sha256:11"),
        ("TRANSSHIP_BYTES", "3"),
    ];
    assert_eq!(journal.entry(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn line_names_its_run_whatever_the_filter() {
    for directives in ["warn", "error", "transship::cli=warn", "off,transship::cli::logging=error"] {
        let line = printed(LogFormat::Json, directives, None, || {
            let _run = tracing::info_span!("run", entry = "api", run = 7).entered();
            tracing::info!("not of interest");
            tracing::error!("failed");
        });
        let lines = parsed(&line);
        assert_eq!(lines.len(), 1, "{directives}: {line}");
        assert_eq!((&lines[0]["entry"], &lines[0]["run"]), (&json!("api"), &json!(7)), "{directives}");
    }
}

#[test]
fn forged_line_stays_within_its_log_line() {
    let emit = || {
        let _run = tracing::info_span!("run", entry = "api").entered();
        tracing::error!(problem = FORGED, tag = %FORGED, "failed {FORGED}");
    };
    let shown = "no\\n2026-01-01T00:00:00Z ERROR forged\\r\\u{1b}[2J\\u{9b}\\u{2028}\\u{202e}\\nTRANSSHIP_ENTRY=forged";
    let text = format!("failed {shown} entry=api tag=\"{shown}\" problem=\"{shown}\"");
    let pretty = printed_all(LogFormat::Pretty, emit);
    assert_eq!(pretty.split_once(' ').unwrap().1, format!("ERROR {text}\n"));
    assert_eq!(printed_all(LogFormat::Journald, emit), format!("<3>{text}\n"));

    let line = printed_all(LogFormat::Json, emit);
    assert!(line.strip_suffix('\n').unwrap().bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{line}");
    let object = &parsed(&line)[0];
    assert_eq!((&object["entry"], &object["tag"], &object["problem"]), (&json!("api"), &json!(FORGED), &json!(FORGED)));

    let journal = Listening::new();
    printed(LogFormat::Journald, "info", Some(&journal.path), emit);
    let entry = journal.entry();
    let values = |name: &str| {
        entry.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(values("MESSAGE"), [text]);
    assert_eq!(values("TRANSSHIP_ENTRY"), ["api"]);
    assert_eq!((values("TRANSSHIP_TAG"), values("TRANSSHIP_PROBLEM")), (vec![shown], vec![shown]));
}

#[test]
fn configuration_problems_keep_their_line_breaks() {
    let emit = || tracing::error!(problems = "sync.yaml:1:1: bad\n1 | x\u{1b}[2J", "refused");
    let below = "sync.yaml:1:1: bad\n1 | x\\u{1b}[2J";
    let pretty = printed_all(LogFormat::Pretty, emit);
    assert_eq!(pretty.split_once(' ').unwrap().1, format!("ERROR refused\n{below}\n"));
    assert_eq!(printed_all(LogFormat::Journald, emit), "<3>refused\n<3>sync.yaml:1:1: bad\n<3>1 | x\\u{1b}[2J\n");
    assert_eq!(parsed(&printed_all(LogFormat::Json, emit))[0]["problems"], "sync.yaml:1:1: bad\n1 | x\u{1b}[2J");
    let journal = Listening::new();
    printed(LogFormat::Journald, "info", Some(&journal.path), emit);
    let entry = journal.entry();
    assert_eq!(entry[0], ("MESSAGE".to_owned(), format!("refused\n{below}")));
    assert_eq!(entry[4], ("TRANSSHIP_PROBLEMS".to_owned(), below.to_owned()));
}

#[test]
fn value_that_is_not_one_word_is_quoted() {
    let line = printed_all(LogFormat::Journald, || {
        tracing::warn!(
            empty = "",
            path = "a b",
            quoted = "say \"x\" \\n",
            equal = "a=b",
            word = "a:b/c",
            yes = true,
            part = 0.5,
            "m"
        );
    });
    let expected =
        "<4>m empty=\"\" path=\"a b\" quoted=\"say \\\"x\\\" \\\\n\" equal=\"a=b\" word=a:b/c yes=true part=0.5\n";
    assert_eq!(line, expected);
}

#[test]
fn line_falls_back_to_standard_error_without_waiting() {
    let emit = || tracing::warn!("heard");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    assert_eq!(printed(LogFormat::Journald, "info", Some(&path), emit), "<4>heard\n", "no socket exists");
    drop(UnixDatagram::bind(&path).unwrap());
    assert_eq!(printed(LogFormat::Journald, "info", Some(&path), emit), "<4>heard\n", "nobody listens");

    let hanging = Listening::new();
    let printed = printed(LogFormat::Journald, "info", Some(&hanging.path), || (0..100_000).for_each(|_| emit()));
    let (not_taken, taken) = (printed.lines().count(), std::iter::repeat_with(|| hanging.entry()));
    assert!(not_taken > 0 && not_taken < 100_000, "{not_taken}");
    assert_eq!(taken.take(100_000 - not_taken).filter(|entry| entry[0].1 == "heard").count(), 100_000 - not_taken);
}

#[test]
fn line_too_long_for_the_journal_is_cut() {
    let journal = Listening::new();
    let long = "é".repeat(1 << 20);
    let line = printed(LogFormat::Journald, "info", Some(&journal.path), || tracing::warn!(problem = long, "m"));
    let line = if line.is_empty() { journal.entry().swap_remove(0).1 } else { line };
    assert!(line.ends_with("é…") || line.ends_with("é…\n"), "{}", &line[line.len() - 20..]);
    assert!(line.len() < 70_000);
}

#[test]
fn module_of_a_log_crate_record_is_its_target() {
    let line = printed_all(LogFormat::Json, || {
        tracing::warn!(log.target = "rustls::client", log.module_path = "rustls", log.line = 3, "beware");
    });
    let object = &parsed(&line)[0];
    assert_eq!(object["module"], "rustls::client");
    assert_eq!(object.as_object().unwrap().len(), 4, "{line}");
}

#[test]
fn journal_stream_counts_only_for_standard_error() {
    let own = std::fs::metadata("/proc/self/fd/2").unwrap();
    assert!(is_standard_error(&format!("{}:{}", own.dev(), own.ino())));
    assert!(!is_standard_error(&format!("{}:{}", own.dev(), own.ino() + 1)));
    assert!(!is_standard_error("0:0"));
    assert!(!is_standard_error(""));
}

#[test]
fn lines_of_the_folder_watcher_are_never_printed() {
    for directives in ["trace", "notify=trace", "trace,notify::inotify=trace,inotify=debug"] {
        let text = printed(LogFormat::Json, directives, None, || {
            tracing::error!(target: "notify::inotify", "an event of the folder");
            tracing::trace!(target: "inotify", "an event of the folder");
            tracing::error!(target: "elsewhere", "of another crate");
            tracing::error!(target: "transship::notify", "of a webhook");
        });
        let messages: Vec<Value> = parsed(&text).iter().map(|line| line["message"].clone()).collect();
        let others: &[&str] = if directives.starts_with("trace") { &["of another crate", "of a webhook"] } else { &[] };
        assert_eq!(messages, others, "{directives}");
    }
}
