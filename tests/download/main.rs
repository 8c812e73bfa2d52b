//! Fetching published weights, against a server on this machine: whole, interrupted, changed, damaged, refused, silent; by
//! the library, the session and the built program. And that nothing else ever asks a server for anything.

mod offline;
mod program;
mod server;
mod session;
mod transfer;

use sha2::{Digest, Sha256};

/// Bytes that do not repeat.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// The SHA-256 of `bytes`, in hex.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
