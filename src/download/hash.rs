use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

const BLOCK: usize = 1 << 20;

/// SHA-256 of a whole file, in hex; `None` where `go_on` says to stop.
pub(super) fn sha256(path: &Path, go_on: &dyn Fn() -> bool) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block)? {
            0 => break,
            n => hasher.update(&block[..n]),
        }
        if !go_on() {
            return Ok(None);
        }
    }
    Ok(Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Whether the SHA-256 of a file begins with these hex digits.
///
/// # Errors
/// The system's, of reading it.
pub fn has_hash(path: &Path, digits: &str) -> io::Result<bool> {
    Ok(sha256(path, &|| true)?.is_some_and(|found| found.starts_with(digits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha256s() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").expect("a file");
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path, &|| true).expect("read").as_deref(), Some(expected));
        assert!(has_hash(&path, "ba7816bf").expect("read"));
        assert!(!has_hash(&path, "ba7816be").expect("read"));
        assert_eq!(sha256(&path, &|| false).expect("read"), None);
    }
}
