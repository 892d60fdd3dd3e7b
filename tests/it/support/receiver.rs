//! Webhook receiver on loopback, whose behaviour a test chooses. Each connection has a thread, which ends with the
//! test.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// Behaviour of the receiver.
#[derive(Debug, Clone)]
pub enum Behavior {
    /// Answers with this status line and these headers, without a body.
    Answers(&'static str),
    /// Never answers.
    Silent,
    /// Answers 200 with an endless body.
    Endless,
}

/// Received message.
#[derive(Debug, Clone)]
pub struct Received {
    /// Headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: String,
}

impl Received {
    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        super::site::parse(&self.body)
    }

    /// Returns the type of the event and the entry.
    pub fn summary(&self) -> String {
        let json = self.json();
        format!("{} {}", json["type"].as_str().unwrap_or("?"), json["data"]["entry"].as_str().unwrap_or("-"))
    }
}

/// Running receiver.
#[derive(Debug, Clone)]
pub struct Receiver {
    address: SocketAddr,
    behavior: Arc<Mutex<Behavior>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Starts the receiver on a free port.
    pub fn start(behavior: Behavior) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let receiver = Self { address, behavior: Arc::new(Mutex::new(behavior)), received: Arc::default() };
        let serving = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        receiver
    }

    /// Returns the URL of the receiver.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the behaviour of the receiver.
    pub fn set(&self, behavior: Behavior) {
        *self.behavior.lock().unwrap() = behavior;
    }

    /// Returns all messages so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the type and the entry of each message so far.
    pub fn summaries(&self) -> Vec<String> {
        self.received().iter().map(Received::summary).collect()
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
        let behavior = self.behavior.lock().unwrap().clone();
        answer(stream, &behavior).ok()
    }
}

fn answer(mut stream: TcpStream, behavior: &Behavior) -> std::io::Result<()> {
    match behavior {
        Behavior::Answers(head) => {
            write!(stream, "HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        // This time exceeds the duration of every test.
        Behavior::Silent => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Behavior::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                write!(stream, "10000\r\n{}\r\n", "x".repeat(0x10000))?;
            }
        }
    }
}
