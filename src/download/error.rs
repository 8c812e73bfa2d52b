use std::io;

/// Why a file was not fetched. Each message is one sentence that names the address or the file, and the remedy.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DownloadError {
    #[error("cancelled")]
    Cancelled,
    #[error("the system names no folder for caches: name one with OCTET_CACHE")]
    NoFolder,
    #[error("{path}: the cache folder cannot be made: {source}; name another with OCTET_CACHE")]
    Folder { path: String, source: io::Error },
    #[error("{path}: cannot be read: {source}")]
    Read { path: String, source: io::Error },
    #[error(
        "{path}: cannot be written: {source}; make room there or name another folder with OCTET_CACHE; what has arrived is \
         kept and the transfer goes on from it"
    )]
    Write { path: String, source: io::Error },
    #[error("{path}: another Octet is fetching this file: wait for it")]
    Busy { path: String },
    #[error(
        "{address}: cannot be reached ({reason}): check the network and the proxy (HTTPS_PROXY), or fetch it elsewhere and \
         load it as a file"
    )]
    Unreachable { address: String, reason: String },
    #[error("{address}: the server answered {status} ({}): {}", .meaning, remedy(*.status))]
    Status { address: String, status: u16, meaning: &'static str },
    #[error(
        "{address}: the server sent nothing for {seconds:.0} s ({kept} bytes are here): start again to go on from there"
    )]
    Stalled { address: String, seconds: f64, kept: u64 },
    #[error(
        "{address}: the connection ended after {found} of {expected} bytes ({reason}): what has arrived is kept, start again \
         to go on from there"
    )]
    Interrupted { address: String, found: u64, expected: u64, reason: String },
    #[error(
        "{address}: the server sends {found} bytes, expected about {expected}: this is another file, perhaps a page of the \
         network that asks to sign in; nothing of it is kept"
    )]
    WrongLength { address: String, found: u64, expected: u64 },
    #[error(
        "{address}: the SHA-256 of the {bytes} bytes that came begins with {found}, expected {expected}: the file was \
         damaged or replaced on its way and is deleted; try again, or fetch it elsewhere and load it as a file"
    )]
    WrongHash { address: String, bytes: u64, found: String, expected: String },
}

/// What to do about an HTTP status.
fn remedy(status: u16) -> &'static str {
    match status {
        404 | 410 => "the file is not there; check the address, or load the weights from a file",
        401 | 403 | 407 => "the server or a proxy refuses; check HTTPS_PROXY, or load the weights from a file",
        429 | 500..=599 => "try again later; what has arrived before is kept",
        _ => "check the address and the proxy (HTTPS_PROXY)",
    }
}
