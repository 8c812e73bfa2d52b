//! One HTTP request on a thread of its own, so that whoever waits for it can stop waiting at any moment.

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ureq::http::{Response, Uri, header};
use ureq::{Agent, Body};

use super::part::Tag;

/// Bytes handed over at once.
const CHUNK: usize = 64 << 10;
/// Chunks that may wait for the disk.
const WAITING: usize = 8;
/// How often a silent server's transfer asks whether to go on.
const LOOK: Duration = Duration::from_millis(100);
const REDIRECTS: u32 = 5;

/// What to ask for.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub address: &'a str,
    /// The first byte that is wanted.
    pub from: u64,
    /// The version that the earlier bytes are of.
    pub tag: &'a Tag,
    /// Silence for so long is an end.
    pub stall: Duration,
}

/// The answer before its body.
#[derive(Debug)]
pub(super) struct Head {
    pub status: u16,
    /// The first byte that it sends.
    pub from: u64,
    /// Which file it sends.
    pub tag: Tag,
}

/// Why there is no more.
#[derive(Debug)]
pub(super) enum Failure {
    /// Whoever waits did not want to go on.
    Cancelled,
    /// Nothing came for too long.
    Stalled,
    /// As the connection says.
    Broken(String),
}

enum Message {
    Head(Head),
    Chunk(Vec<u8>),
    End,
    Failed(Failure),
}

/// An answer that is on its way.
#[derive(Debug)]
pub(super) struct Stream {
    agent: Agent,
    messages: Receiver<Message>,
    stall: Duration,
}

impl Stream {
    /// Sends the request and waits for the head of its answer.
    pub fn open(request: &Request<'_>, go_on: &dyn Fn() -> bool) -> Result<(Self, Head), Failure> {
        let agent = agent(request);
        let mut get = agent.get(request.address);
        if request.from > 0 {
            get = get.header(header::RANGE, format!("bytes={}-", request.from));
            // A weak tag may not stand here (RFC 9110, 13.1.5).
            if let Some(etag) = request.tag.etag.as_ref().filter(|etag| etag.starts_with('"')) {
                get = get.header(header::IF_RANGE, etag);
            }
        }
        let (to, messages) = sync_channel(WAITING);
        let work = move || {
            // A receiver that is gone wants nothing more.
            let _ = match get.call() {
                Ok(response) => send(response, &to),
                Err(error) => to.send(Message::Failed(failure(error))).map_err(drop),
            };
        };
        std::thread::Builder::new()
            .name("octet-download".to_owned())
            .spawn(work)
            .map_err(|e| Failure::Broken(e.to_string()))?;
        let stream = Self { agent, messages, stall: request.stall };
        match stream.receive(go_on, &mut || {})? {
            Message::Head(head) => Ok((stream, head)),
            Message::Chunk(_) | Message::End => Err(Failure::Broken("an answer without a head".to_owned())),
            Message::Failed(failure) => Err(failure),
        }
    }

    /// The next bytes; `None` at the end. `silent` is called ten times a second while nothing comes.
    pub fn next(&self, go_on: &dyn Fn() -> bool, silent: &mut dyn FnMut()) -> Result<Option<Vec<u8>>, Failure> {
        match self.receive(go_on, silent)? {
            Message::Chunk(bytes) => Ok(Some(bytes)),
            Message::End => Ok(None),
            Message::Head(_) => Err(Failure::Broken("two answers to one request".to_owned())),
            Message::Failed(failure) => Err(failure),
        }
    }

    fn receive(&self, go_on: &dyn Fn() -> bool, silent: &mut dyn FnMut()) -> Result<Message, Failure> {
        let mut since = Instant::now();
        loop {
            let asked = Instant::now();
            if !go_on() {
                return Err(Failure::Cancelled);
            }
            // The time that a pause took is not the server's.
            since += asked.elapsed();
            match self.messages.recv_timeout(LOOK) {
                Ok(message) => return Ok(message),
                Err(RecvTimeoutError::Timeout) if since.elapsed() < self.stall => silent(),
                Err(RecvTimeoutError::Timeout) => return Err(Failure::Stalled),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Broken("it broke off".to_owned())),
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Ends the thread's request now rather than when its time is up.
        self.agent.clone().shutdown();
    }
}

fn agent(request: &Request<'_>) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A redirect must not lead away from an encrypted connection.
        .https_only(request.address.starts_with("https:"))
        .max_redirects(REDIRECTS)
        .timeout_connect(Some(request.stall))
        .timeout_recv_response(Some(request.stall))
        .timeout_per_read(Some(request.stall))
        .user_agent(concat!("octet/", env!("CARGO_PKG_VERSION")));
    // A proxy of the environment leads out of this machine; what is on it is reached directly.
    let config = if is_here(request.address) { config.proxy(None) } else { config };
    Agent::new_with_config(config.build())
}

/// Whether an address is on this machine.
fn is_here(address: &str) -> bool {
    let Ok(uri) = address.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Hands an answer over, chunk by chunk.
fn send(response: Response<Body>, to: &SyncSender<Message>) -> Result<(), ()> {
    let send = |message| to.send(message).map_err(drop);
    send(Message::Head(head(&response)))?;
    // The receiver counts, and stops at its own limit.
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    loop {
        let mut chunk = vec![0; CHUNK];
        match body.read(&mut chunk) {
            Ok(0) => return send(Message::End),
            Ok(n) => {
                chunk.truncate(n);
                send(Message::Chunk(chunk))?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // One of ureq's own comes wrapped, and is unwrapped here.
            Err(e) => return send(Message::Failed(failure(e.into()))),
        }
    }
}

fn head(response: &Response<Body>) -> Head {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let length = text(header::CONTENT_LENGTH).and_then(|v| v.trim().parse().ok());
    let etag = text(header::ETAG).map(|v| v.trim().to_owned());
    let status = response.status().as_u16();
    let (from, total) = match text(header::CONTENT_RANGE).and_then(range).filter(|_| status == 206) {
        Some((from, total)) => (from, total),
        None => (0, length),
    };
    Head { status, from, tag: Tag { total, etag } }
}

/// The first byte and the whole length of `bytes 100-199/1000`; the length may be `*`.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.trim().parse().ok()?, total.trim().parse().ok()))
}

fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Failure::Stalled,
        ureq::Error::Io(e) if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            Failure::Stalled
        }
        ureq::Error::Io(e) => Failure::Broken(e.to_string()),
        other => Failure::Broken(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_here, range};

    #[test]
    fn this_machine_is_known_by_its_names() {
        for here in ["http://127.0.0.1:8000/a", "http://localhost/a", "http://[::1]:80/a", "http://127.9.9.9/"] {
            assert!(is_here(here), "{here}");
        }
        for away in
            ["https://download.pytorch.org/models/a", "http://128.0.0.1/", "http://localhost.org/", "no address"]
        {
            assert!(!is_here(away), "{away}");
        }
    }

    #[test]
    fn a_content_range_is_read() {
        assert_eq!(range("bytes 100-199/1000"), Some((100, Some(1000))));
        assert_eq!(range("bytes 0-0/*"), Some((0, None)));
        for odd in ["", "bytes */1000", "items 0-1/2", "bytes 5", "bytes x-9/10"] {
            assert_eq!(range(odd), None, "{odd}");
        }
    }
}
