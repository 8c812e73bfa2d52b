use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use octet::download::{DownloadError, Kept, Place, Remote, Transfer, fetch};
use tempfile::TempDir;

use crate::server::{Answer, End, Server};
use crate::{bytes, sha256};

const NAME: &str = "resnet18-0a1b2c3d.pth";
const V1: &str = "\"version-1\"";

/// A file that a server has and the cache folder that it goes to.
struct Case {
    server: Server,
    folder: TempDir,
    body: Vec<u8>,
}

impl Case {
    fn new(server: Server, body: &[u8]) -> Self {
        Self { server, folder: TempDir::new().expect("a folder"), body: body.to_vec() }
    }

    fn remote(&self) -> Remote {
        Remote {
            name: NAME.to_owned(),
            address: format!("{}/models/{NAME}", self.server.base()),
            sha256: sha256(&self.body)[..8].to_owned(),
            // The table knows the length to half a kibibyte.
            bytes: self.body.len() as u64 + 300,
        }
    }

    fn place(&self) -> Place {
        // Long, since the machine may be busy with something else.
        Place { stall: Duration::from_secs(30), ..Place::new(self.folder.path()) }
    }

    /// As patient as `stall`.
    fn impatient(&self, stall: Duration) -> DownloadError {
        let place = Place { stall, ..self.place() };
        fetch(&self.remote(), &place, &mut |_| {}, &|| ControlFlow::Continue(())).expect_err("an error")
    }

    fn fetch(&self) -> Result<PathBuf, DownloadError> {
        fetch(&self.remote(), &self.place(), &mut |_| {}, &|| ControlFlow::Continue(()))
    }

    /// Fetches; what it ran into, in one sentence.
    fn fails(&self) -> DownloadError {
        let error = self.fetch().expect_err("an error");
        let text = error.to_string();
        assert!(!text.contains('\n'), "one sentence: {text}");
        error
    }

    /// Fetches the whole file, and that nothing else is left.
    fn succeeds(&self) {
        let path = self.fetch().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(path, self.folder.path().join(NAME));
        assert!(fs::read(&path).expect("the file") == self.body, "other bytes");
        assert_eq!(self.files(), [NAME], "something is left");
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join(format!("{NAME}.part"))
    }

    /// Bytes of the part, which must be the file's first.
    fn kept(&self) -> usize {
        let part = fs::read(self.part()).expect("a part");
        assert!(self.body.starts_with(&part), "the part is not the file's beginning");
        match self.place().kept(&self.remote()) {
            Kept::Part(n) => assert_eq!(n, part.len() as u64),
            Kept::Nothing => assert!(part.is_empty()),
            Kept::Whole => panic!("the file is not whole"),
        }
        part.len()
    }
}

#[test]
fn a_whole_transfer_tells_how_far_it_is_and_leaves_only_the_file() {
    let body = bytes(1 << 20);
    let served = body.clone();
    let case = Case::new(
        Server::start(move |_, _| Answer { slowly: Duration::from_millis(10), ..Answer::whole(&served) }),
        &body,
    );
    assert_eq!(case.place().kept(&case.remote()), Kept::Nothing);
    let mut told: Vec<Transfer> = Vec::new();
    let path = fetch(&case.remote(), &case.place(), &mut |t| told.push(t), &|| ControlFlow::Continue(()));
    assert_eq!(path.expect("fetched"), case.folder.path().join(NAME));
    assert_eq!(case.place().kept(&case.remote()), Kept::Whole);
    assert!(told.is_sorted_by_key(|t| t.bytes) && told.len() >= 4, "{told:?}");
    assert!(told.iter().all(|t| t.total == body.len() as u64));
    let (first, last) = (told[0], told[told.len() - 1]);
    assert_eq!((first.bytes, first.bytes_per_second), (0, None));
    assert_eq!(last.bytes, last.total);
    assert!(told.iter().any(|t| t.bytes_per_second.is_some_and(|r| r > 0.0) && t.seconds_left.is_some()), "{told:?}");
    let seen = case.server.seen();
    assert_eq!((seen.len(), seen[0].from), (1, None));
    assert_eq!(seen[0].path, format!("/models/{NAME}"));
    assert_eq!(case.files(), [NAME]);
}

#[test]
fn what_is_in_the_cache_is_not_asked_for_again() {
    let body = bytes(50_000);
    let served = body.clone();
    let case = Case::new(Server::start(move |_, _| Answer::whole(&served)), &body);
    case.succeeds();
    case.succeeds();
    assert_eq!(case.server.connections(), 1);
    // Damaged since, it is fetched anew.
    fs::write(case.folder.path().join(NAME), "rot").expect("a file");
    case.succeeds();
    assert_eq!(case.server.connections(), 2);
}

#[test]
fn an_interrupted_transfer_goes_on_where_it_ended() {
    let body = bytes(1_000_000);
    let served = body.clone();
    let case = Case::new(
        Server::start(move |n, request| {
            let answer = Answer::of_file(&served, V1, request);
            if n < 2 { answer.stopping(300_000, End::Close) } else { answer }
        }),
        &body,
    );
    let error = case.fails();
    assert!(matches!(error, DownloadError::Interrupted { found: 300_000, expected: 1_000_000, .. }), "{error}");
    assert_eq!(case.kept(), 300_000);
    case.fails();
    assert_eq!(case.kept(), 600_000);
    case.succeeds();
    let asked: Vec<_> = case.server.seen().into_iter().map(|s| (s.from, s.if_range, s.sent)).collect();
    let tag = Some(V1.to_owned());
    let expected = [(None, None, 300_000), (Some(300_000), tag.clone(), 300_000), (Some(600_000), tag, 400_000)];
    assert_eq!(asked, expected);
}

#[test]
fn the_progress_of_a_resumed_transfer_counts_what_was_there() {
    let body = bytes(400_000);
    let served = body.clone();
    let case = Case::new(
        Server::start(move |n, request| {
            let answer = Answer::of_file(&served, V1, request);
            if n == 0 { answer.stopping(100_000, End::Close) } else { answer }
        }),
        &body,
    );
    case.fails();
    let mut told: Vec<Transfer> = Vec::new();
    let go_on = || ControlFlow::Continue(());
    fetch(&case.remote(), &case.place(), &mut |t| told.push(t), &go_on).expect("fetched");
    assert_eq!((told[0].bytes, told[0].total), (100_000, 400_000));
}

#[test]
fn a_server_that_cannot_send_a_part_sends_the_whole() {
    let body = bytes(200_000);
    let served = body.clone();
    let case = Case::new(
        Server::start(move |n, _| {
            let answer = Answer::whole(&served);
            if n == 0 { answer.stopping(120_000, End::Close) } else { answer }
        }),
        &body,
    );
    case.fails();
    assert_eq!(case.kept(), 120_000);
    case.succeeds();
    let seen = case.server.seen();
    assert_eq!((seen.len(), seen[1].from, seen[1].sent), (2, Some(120_000), 200_000));
}

#[test]
fn a_file_that_changed_in_between_begins_anew() {
    let old = bytes(200_000);
    // Three servers: one that minds If-Range, one that does not, one without any tag but another length.
    type Second = fn(&[u8], usize) -> Answer;
    let seconds: [(bool, usize, Second); 3] = [
        (true, 200_000, |new, _| Answer::whole(new).with("ETag", "\"version-2\"")),
        (true, 200_000, |new, from| Answer::part(new, from).with("ETag", "\"version-2\"")),
        (false, 210_000, |new, from| Answer::part(new, from)),
    ];
    for (i, (tagged, length, second)) in seconds.into_iter().enumerate() {
        let new: Vec<u8> = bytes(length).into_iter().rev().collect();
        let (first, served) = (old.clone(), new.clone());
        let server = Server::start(move |n, request| match (n, request.from) {
            (0, _) if tagged => Answer::of_file(&first, V1, request).stopping(90_000, End::Close),
            (0, _) => Answer::whole(&first).stopping(90_000, End::Close),
            (_, Some(from)) => second(&served, from as usize),
            (_, None) => Answer::whole(&served),
        });
        let case = Case::new(server, &new);
        case.fails();
        case.succeeds();
        let requests = case.server.seen().len();
        assert_eq!(requests, if i == 0 { 2 } else { 3 }, "server {i}");
    }
}

#[test]
fn a_weak_tag_is_compared_and_not_sent() {
    let body = bytes(100_000);
    let served = body.clone();
    let case = Case::new(
        Server::start(move |n, request| {
            let answer = Answer::of_file(&served, "W/\"1\"", request);
            if n == 0 { answer.stopping(40_000, End::Close) } else { answer }
        }),
        &body,
    );
    case.fails();
    case.succeeds();
    let second = &case.server.seen()[1];
    assert_eq!((second.from, &second.if_range, second.sent), (Some(40_000), &None, 60_000));
}

#[test]
fn a_damaged_file_is_deleted_and_said() {
    let body = bytes(100_000);
    let mut damaged = body.clone();
    damaged[77_777] ^= 1;
    let found = sha256(&damaged)[..8].to_owned();
    let served = damaged.clone();
    let case = Case::new(Server::start(move |n, _| Answer::whole(if n == 0 { &damaged } else { &served })), &body);
    let text = case.fails().to_string();
    let expected = &sha256(&body)[..8];
    for word in [found.as_str(), expected, "100000 bytes", "deleted", &case.server.base()] {
        assert!(text.contains(word), "`{text}` lacks `{word}`");
    }
    assert_eq!(case.files(), [""; 0]);
}

#[test]
fn a_part_that_is_not_of_this_file_ends_in_a_wrong_hash_and_then_anew() {
    let body = bytes(100_000);
    let served = body.clone();
    let case = Case::new(Server::start(move |_, request| Answer::of_file(&served, V1, request)), &body);
    fs::write(case.part(), vec![0; 40_000]).expect("a part");
    assert!(matches!(case.fails(), DownloadError::WrongHash { .. }));
    assert_eq!(case.files(), [""; 0]);
    case.succeeds();
}

#[test]
fn a_body_shorter_than_announced_is_an_interruption() {
    let body = bytes(100_000);
    let served = body.clone();
    let case = Case::new(
        Server::start(move |_, _| Answer { length: Some(100_000), ..Answer::whole(&served[..70_000]) }),
        &body,
    );
    let error = case.fails();
    assert!(matches!(error, DownloadError::Interrupted { found: 70_000, expected: 100_000, .. }), "{error}");
    assert_eq!(case.kept(), 70_000);
}

#[test]
fn a_body_of_unknown_length_arrives_too() {
    let body = bytes(300_000);
    let served = body.clone();
    let case = Case::new(Server::start(move |_, _| Answer { length: None, ..Answer::whole(&served) }), &body);
    case.succeeds();
}

#[test]
fn never_more_is_written_than_the_file_can_have() {
    let body = bytes(100_000);
    // Announced: refused before anything is written.
    let long = bytes(2_000_000);
    let case = Case::new(Server::start(move |_, _| Answer::whole(&long)), &body);
    let error = case.fails();
    assert!(matches!(error, DownloadError::WrongLength { found: 2_000_000, .. }), "{error}");
    assert_eq!(case.files(), [""; 0]);
    // Not announced: cut off.
    let long = bytes(4_000_000);
    let case = Case::new(Server::start(move |_, _| Answer { length: None, ..Answer::whole(&long) }), &body);
    let error = case.fails();
    let DownloadError::WrongLength { found, .. } = error else { panic!("{error}") };
    assert!(found > case.remote().most_bytes() && found < case.remote().most_bytes() + 100_000, "{found}");
    assert_eq!(case.files(), [""; 0]);
}

#[test]
fn a_sign_in_page_does_not_take_the_place_of_what_is_here() {
    let body = bytes(3_000_000);
    let served = body.clone();
    let case = Case::new(
        Server::start(move |n, request| match n {
            0 => Answer::of_file(&served, V1, request).stopping(2_000_000, End::Close),
            1 => Answer::whole(b"<html>Sign in</html>"),
            _ => Answer::of_file(&served, V1, request),
        }),
        &body,
    );
    case.fails();
    let text = case.fails().to_string();
    assert!(text.contains("sign in") && text.contains("20 bytes"), "{text}");
    assert_eq!(case.kept(), 2_000_000);
    case.succeeds();
    assert_eq!(case.server.seen()[2].sent, 1_000_000);
}

#[test]
fn a_refusal_is_said_with_its_remedy_and_keeps_the_part() {
    for (status, words) in [
        (404, ["404", "Not Found", "load the weights from a file"]),
        (403, ["403", "Forbidden", "HTTPS_PROXY"]),
        (500, ["500", "Internal Server Error", "try again later"]),
        (503, ["503", "Service Unavailable", "try again later"]),
        (204, ["204", "No Content", "check the address"]),
    ] {
        let body = bytes(50_000);
        let served = body.clone();
        let case = Case::new(
            Server::start(move |n, request| match n {
                0 => Answer::of_file(&served, V1, request).stopping(20_000, End::Close),
                _ => Answer::status(status),
            }),
            &body,
        );
        case.fails();
        let text = case.fails().to_string();
        assert!(words.iter().all(|w| text.contains(w)) && text.contains(&case.server.base()), "{text}");
        assert_eq!(case.kept(), 20_000, "{status}");
    }
}

#[test]
fn a_redirect_is_followed_and_a_circle_is_not() {
    let body = bytes(80_000);
    let served = body.clone();
    let case = Case::new(
        Server::start(move |n, request| match request.path.as_str() {
            "/elsewhere" if n == 1 => Answer::of_file(&served, V1, request).stopping(30_000, End::Close),
            "/elsewhere" => Answer::of_file(&served, V1, request),
            _ => Answer::status(302).with("Location", "/elsewhere"),
        }),
        &body,
    );
    case.fails();
    case.succeeds();
    let last = case.server.seen().pop().expect("requests");
    assert_eq!((last.path.as_str(), last.from, last.sent), ("/elsewhere", Some(30_000), 50_000));

    let circle = Server::start(|_, request| Answer::status(302).with("Location", request.path.clone()));
    let case = Case::new(circle, &body);
    let error = case.fails();
    assert!(matches!(&error, DownloadError::Unreachable { reason, .. } if reason.contains("redirect")), "{error}");
    assert!(case.server.seen().len() <= 7);
}

#[test]
fn a_silent_server_is_a_stall_and_the_part_is_kept() {
    let body = bytes(500_000);
    let served = body.clone();
    let case = Case::new(
        Server::start(move |n, request| {
            let answer = Answer::of_file(&served, V1, request);
            if n == 0 { answer.stopping(200_000, End::Silence) } else { answer }
        }),
        &body,
    );
    let (start, stall) = (Instant::now(), Duration::from_secs(2));
    let error = case.impatient(stall);
    assert!(matches!(error, DownloadError::Stalled { kept: 200_000, .. }), "{error}");
    assert!(start.elapsed() >= stall && start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(case.kept(), 200_000);
    case.succeeds();
    assert_eq!(case.server.seen()[1].sent, 300_000);

    // One that takes the request and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let remote = Remote { address: format!("http://{}/a", mute.local_addr().expect("an address")), ..case.remote() };
    let place = Place { folder: Some(case.folder.path().join("other")), stall };
    let error = fetch(&remote, &place, &mut |_| {}, &|| ControlFlow::Continue(())).expect_err("silence");
    assert!(matches!(error, DownloadError::Stalled { kept: 0, .. }), "{error}");
}

#[test]
fn slow_is_not_silent() {
    let body = bytes(320_000);
    let served = body.clone();
    // Twenty blocks of 150 ms: longer in all than a stall, never silent for so long.
    let case = Case::new(
        Server::start(move |_, _| Answer { slowly: Duration::from_millis(150), ..Answer::whole(&served) }),
        &body,
    );
    let (start, stall) = (Instant::now(), Duration::from_secs(2));
    let place = Place { stall, ..case.place() };
    fetch(&case.remote(), &place, &mut |_| {}, &|| ControlFlow::Continue(())).expect("fetched");
    assert!(start.elapsed() > stall);
}

#[test]
fn cancel_ends_it_within_a_second_and_keeps_the_part() {
    let body = bytes(500_000);
    for silent in [false, true] {
        let served = body.clone();
        let case = Case::new(
            Server::start(move |n, request| {
                let answer = Answer::of_file(&served, V1, request);
                match n {
                    0 if silent => answer.stopping(160_000, End::Silence),
                    0 => Answer { slowly: Duration::from_millis(50), ..answer },
                    _ => answer,
                }
            }),
            &body,
        );
        let cancelled = AtomicBool::new(false);
        let place = Place { stall: Duration::from_secs(60), ..case.place() };
        std::thread::scope(|scope| {
            let go_on = || match cancelled.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let (remote, place) = (case.remote(), &place);
            let running = scope.spawn(move || fetch(&remote, place, &mut |_| {}, &go_on));
            wait(&case.part(), 100_000);
            let start = Instant::now();
            cancelled.store(true, Ordering::Relaxed);
            let error = running.join().expect("no panic").expect_err("cancelled");
            assert!(matches!(error, DownloadError::Cancelled), "{error}");
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        });
        let kept = case.kept();
        assert!((100_000..500_000).contains(&kept), "{kept}");
        case.succeeds();
        assert_eq!(case.server.seen()[1].sent, 500_000 - kept);
    }
}

/// Until a part has so many bytes.
fn wait(part: &Path, bytes: u64) {
    let end = Instant::now() + Duration::from_secs(20);
    while fs::metadata(part).map_or(0, |m| m.len()) < bytes {
        assert!(Instant::now() < end, "{} does not grow", part.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn two_at_once_do_not_mix_their_bytes() {
    let body = bytes(200_000);
    let served = body.clone();
    let case = Case::new(
        Server::start(move |_, request| Answer::of_file(&served, V1, request).stopping(50_000, End::Silence)),
        &body,
    );
    let place = Place { stall: Duration::from_secs(3), ..case.place() };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| fetch(&case.remote(), &place, &mut |_| {}, &|| ControlFlow::Continue(())));
        wait(&case.part(), 50_000);
        let error = case.fails();
        assert!(matches!(error, DownloadError::Busy { .. }), "{error}");
        assert!(matches!(first.join().expect("no panic"), Err(DownloadError::Stalled { .. })));
    });
    assert_eq!(case.server.connections(), 1);
}

#[test]
fn a_part_that_is_whole_is_only_checked() {
    let body = bytes(60_000);
    let case = Case::new(Server::start(|_, _| Answer::status(500)), &body);
    fs::write(case.part(), &body).expect("a part");
    fs::write(case.folder.path().join(format!("{NAME}.part.tag")), "60000\n\n").expect("a tag");
    case.succeeds();
    assert_eq!(case.server.connections(), 0);
}

#[test]
fn a_part_longer_than_the_file_begins_anew() {
    let body = bytes(60_000);
    let served = body.clone();
    let case = Case::new(Server::start(move |_, request| Answer::of_file(&served, V1, request)), &body);
    fs::write(case.part(), bytes(70_000)).expect("a part");
    case.succeeds();
    let asked: Vec<_> = case.server.seen().iter().map(|s| s.from).collect();
    assert_eq!(asked, [Some(70_000), None]);
}

#[test]
fn no_server_and_no_folder_are_said() {
    let body = bytes(10);
    let case = Case::new(Server::start(|_, _| Answer::status(500)), &body);
    // A port that nobody listens on any more.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let remote = Remote { address: format!("http://{free}/{NAME}"), ..case.remote() };
    let go_on = || ControlFlow::Continue(());
    let error = fetch(&remote, &case.place(), &mut |_| {}, &go_on).expect_err("nobody").to_string();
    assert!(error.contains("cannot be reached") && error.contains(&free.to_string()), "{error}");
    assert!(error.contains("proxy"), "{error}");

    let file = case.folder.path().join("a file");
    fs::write(&file, "").expect("a file");
    let place = Place::new(file.join("weights"));
    let error = fetch(&case.remote(), &place, &mut |_| {}, &go_on).expect_err("no folder").to_string();
    assert!(error.contains("a file/weights") && error.contains("OCTET_CACHE"), "{error}");
    let place = Place { folder: None, ..case.place() };
    let error = fetch(&case.remote(), &place, &mut |_| {}, &go_on).expect_err("no folder").to_string();
    assert!(error.contains("OCTET_CACHE"), "{error}");
    assert_eq!(case.server.connections(), 0);
}
