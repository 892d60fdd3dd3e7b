//! Terminal of a program: a pseudo-terminal whose output an emulator turns into a screen.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::programs::DEADLINE;

/// Number of lines above the screen that the emulator keeps.
const SCROLLBACK: usize = 2000;

/// Program that runs on a terminal. It is killed when this is dropped.
pub struct Terminal {
    child: Child,
    emulator: Arc<Mutex<vt100::Parser>>,
    reader: Option<JoinHandle<()>>,
    columns: u16,
}

impl Terminal {
    /// Starts a command whose standard output and standard error are a terminal of this size.
    pub fn start(command: &mut Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("the pseudo-terminal opens");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("the pseudo-terminal has a size");
        let name = ptsname(&master, Vec::new()).expect("the pseudo-terminal has a name");
        let slave = OpenOptions::new().read(true).write(true).open(name.to_str().expect("the name is text"));
        let slave = slave.expect("the pseudo-terminal can be opened");
        let copy = || Stdio::from(slave.try_clone().expect("the descriptor can be copied"));
        command.stdin(Stdio::null()).stdout(copy()).stderr(copy()).env("TERM", "xterm-256color");
        let child = command.spawn().expect("the program starts");
        // The command keeps copies of the terminal. Without these, the reader sees the end of the program.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        drop(slave);
        let emulator = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, SCROLLBACK)));
        let reader = Some(std::thread::spawn({
            let emulator = emulator.clone();
            move || read_all(master, &emulator)
        }));
        Self { child, emulator, reader, columns }
    }

    /// Returns the lines on the screen, without trailing spaces.
    pub fn screen(&self) -> Vec<String> {
        let emulator = self.emulator.lock().unwrap();
        emulator.screen().rows(0, self.columns).map(|line| line.trim_end().to_owned()).collect()
    }

    /// Returns the red text on the screen.
    pub fn red_text(&self) -> String {
        let emulator = self.emulator.lock().unwrap();
        let screen = emulator.screen();
        let (rows, columns) = screen.size();
        let cells = (0..rows).flat_map(|row| (0..columns).filter_map(move |column| screen.cell(row, column)));
        cells.filter(|cell| cell.fgcolor() == vt100::Color::Idx(1)).map(|cell| cell.contents()).collect()
    }

    /// Waits until a line of the screen has this property. Returns the line.
    #[track_caller]
    pub fn wait_for_line(&mut self, what: &str, has: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let screen = self.screen();
            if let Some(line) = screen.iter().find(|line| has(line)) {
                return line.clone();
            }
            let has_ended = self.child.try_wait().expect("the program is a child process").is_some();
            assert!(!has_ended && Instant::now() < end, "waiting for {what}:\n{}", screen.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends the signal of Ctrl-C.
    pub fn interrupt(&self) {
        let status = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status();
        assert!(status.expect("kill(1) exists").success(), "the program had already ended");
    }

    /// Waits until the program ends. Returns its status, and all lines from the first one above the screen to the last
    /// one that is not empty.
    pub fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            match self.child.try_wait().expect("the program is a child process") {
                Some(status) => break status,
                None => assert!(Instant::now() < end, "still running:\n{}", self.screen().join("\n")),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of the terminal ends");
        }
        (status, self.all_lines())
    }

    fn all_lines(&self) -> Vec<String> {
        let mut emulator = self.emulator.lock().unwrap();
        let (rows, _) = emulator.screen().size();
        let rows = usize::from(rows);
        emulator.screen_mut().set_scrollback(usize::MAX);
        let above = emulator.screen().scrollback();
        let mut lines: Vec<String> = Vec::new();
        // The emulator shows one screen of lines at a time, at any distance from the end.
        for first in (0..=above).rev() {
            emulator.screen_mut().set_scrollback(first);
            let shown: Vec<String> = emulator.screen().rows(0, self.columns).collect();
            match first {
                0 => lines.extend(shown),
                _ => lines.push(shown[0].clone()),
            }
        }
        assert_eq!(lines.len(), above + rows);
        let mut lines: Vec<String> = lines.iter().map(|line| line.trim_end().to_owned()).collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(master: OwnedFd, emulator: &Mutex<vt100::Parser>) {
    let mut master = File::from(master);
    let mut buffer = [0; 4096];
    // A terminal without programs returns an error (EIO) instead of an end.
    while let Ok(count) = master.read(&mut buffer) {
        if count == 0 {
            break;
        }
        emulator.lock().unwrap().process(&buffer[..count]);
    }
}
