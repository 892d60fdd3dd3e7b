//! A receiver of webhooks on loopback, as good or as bad as a test wants it. Each connection is a thread; all end with the test.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// How it answers.
#[derive(Debug, Clone)]
pub enum Manner {
    /// With this status line and these headers, and nothing more.
    Answers(&'static str),
    /// Never.
    Silent,
    /// 200, and a body without an end.
    Endless,
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        super::site::parse(&self.body)
    }

    /// What it tells of: an event and an entry.
    pub fn told(&self) -> String {
        let json = self.json();
        format!("{} {}", json["type"].as_str().unwrap_or("?"), json["data"]["entry"].as_str().unwrap_or("-"))
    }
}

/// The server.
#[derive(Debug, Clone)]
pub struct Receiver {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// On a port of the system's choice.
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let receiver = Self { address, manner: Arc::new(Mutex::new(manner)), received: Arc::default() };
        let serving = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        receiver
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it answers so.
    pub fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// What came so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The same in short.
    pub fn told(&self) -> Vec<String> {
        self.received().iter().map(Received::told).collect()
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut headers = BTreeMap::new();
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        self.received.lock().unwrap().push(Received { headers, body: String::from_utf8(body).ok()? });
        let manner = self.manner.lock().unwrap().clone();
        answer(stream, &manner).ok()
    }
}

fn answer(mut stream: TcpStream, manner: &Manner) -> std::io::Result<()> {
    match manner {
        Manner::Answers(head) => {
            write!(stream, "HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        // Longer than any test.
        Manner::Silent => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Manner::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                write!(stream, "10000\r\n{}\r\n", "x".repeat(0x10000))?;
            }
        }
    }
}
