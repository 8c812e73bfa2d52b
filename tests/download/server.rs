//! A small HTTP/1.1 server on this machine whose answers a test decides, down to where the connection breaks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as it came, and how much of a body it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `/models/file.pth`.
    pub path: String,
    /// The first byte that `Range` asks for.
    pub from: Option<u64>,
    /// `If-Range`.
    pub if_range: Option<String>,
    /// Bytes of the body that were sent.
    pub sent: usize,
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// What `Content-Length` says; `None` for a body in chunks of unknown number.
    pub length: Option<usize>,
    /// After so many bytes of the body the server does as `end` says.
    pub stop: Option<usize>,
    pub end: End,
    /// Waits so long before each 16 KiB.
    pub slowly: Duration,
}

/// What the server does when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Closes the connection.
    Close,
    /// Says nothing more and keeps it open.
    Silence,
}

impl Answer {
    /// The whole of `body`.
    pub fn whole(body: &[u8]) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.to_vec(),
            length: Some(body.len()),
            stop: None,
            end: End::Close,
            slowly: Duration::ZERO,
        }
    }

    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::whole(b"") }
    }

    /// What a server that can send parts answers: the rest of `body`, or the whole where the version differs.
    pub fn of_file(body: &[u8], etag: &str, request: &Seen) -> Self {
        let same = request.if_range.as_ref().is_none_or(|tag| tag == etag);
        let mut answer = match request.from.filter(|_| same) {
            Some(from) if from >= body.len() as u64 => Self::status(416),
            Some(from) => Self::part(body, from as usize),
            None => Self::whole(body),
        };
        answer.headers.push(("ETag", etag.to_owned()));
        answer
    }

    /// `body` from byte `from` on.
    pub fn part(body: &[u8], from: usize) -> Self {
        let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
        Self { status: 206, headers: vec![("Content-Range", range)], ..Self::whole(&body[from..]) }
    }

    /// Only so much of it, then the end.
    pub fn stopping(self, after: usize, end: End) -> Self {
        Self { stop: Some(after), end, ..self }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Decides what is answered to the request of this number, from 0.
type Decide = dyn Fn(usize, &Seen) -> Answer + Send + Sync;

/// The server; dropping it ends it and every connection.
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    decide: Box<Decide>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    over: AtomicBool,
}

impl Server {
    pub fn start(decide: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            decide: Box::new(decide),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let here = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if here.over.load(Ordering::Relaxed) {
                    return;
                }
                here.connections.fetch_add(1, Ordering::Relaxed);
                let (Ok(stream), here) = (stream, here.clone()) else { continue };
                std::thread::spawn(move || serve(stream, &here));
            }
        });
        Self { port, shared, thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections so far, also those without a request.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers one request and closes the connection.
fn serve(mut stream: TcpStream, shared: &Shared) {
    let Some(request) = read(&stream) else { return };
    let number = {
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(request.clone());
        seen.len() - 1
    };
    let answer = (shared.decide)(number, &request);
    let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", answer.status);
    match answer.length {
        Some(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
        None => head.push_str("Transfer-Encoding: chunked\r\n"),
    }
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    let stop = answer.stop.unwrap_or(answer.body.len()).min(answer.body.len());
    for block in answer.body[..stop].chunks(16 << 10) {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(answer.slowly);
        let sent = match answer.length {
            Some(_) => stream.write_all(block),
            None => write!(stream, "{:x}\r\n", block.len())
                .and_then(|()| stream.write_all(block))
                .and_then(|()| stream.write_all(b"\r\n")),
        };
        if sent.is_err() {
            return;
        }
        shared.seen.lock().unwrap_or_else(PoisonError::into_inner)[number].sent += block.len();
    }
    if answer.length.is_none() && answer.stop.is_none() {
        let _ = stream.write_all(b"0\r\n\r\n");
    }
    if answer.stop.is_some() && answer.end == End::Silence {
        while !shared.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Reads a request's head; `None` where the connection closes before.
fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream.try_clone().ok()?.take(1 << 16));
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut seen = Seen { path: line.split(' ').nth(1)?.to_owned(), ..Seen::default() };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Some(seen) };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "range" => seen.from = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "if-range" => seen.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
}
