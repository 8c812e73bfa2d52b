//! Large buffers, asked for so that the system may say no: `vec!` would abort the program there and take the user's work
//! along. Knows nothing of what they are for.
//!
//! A refusal unwinds with [`OutOfMemory`] through whatever computes, without a word on standard error; [`caught`] makes an
//! error of it.

use std::any::Any;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Buffers below this are taken as any other.
const LARGE: usize = 1 << 20;
/// Left beside a large buffer, so that the small ones that come after it are not the first to be refused: a thread's first
/// one may reserve 64 MiB of address space.
const SPARE: usize = 96 << 20;
/// From here on the machine is asked what it has: a system that promises more memory than there is ends the program when
/// it is used.
const HUGE: usize = 64 << 20;

/// The system has no room for a buffer of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough memory: {:.0} MB more are needed than the system gives; take smaller batches, smaller images or a smaller \
     model, or close other programs", (self.bytes as f64 / 1e6).ceil()
)]
pub struct OutOfMemory {
    /// Of the buffer.
    pub bytes: usize,
}

/// Makes sure that `len` values can be had; asked for right before they are.
///
/// # Panics
/// With [`OutOfMemory`], where they cannot.
pub fn make_room<T>(len: usize) {
    let bytes = len.saturating_mul(size_of::<T>());
    if bytes < LARGE {
        return;
    }
    let mut probe: Vec<u8> = Vec::new();
    let refused = probe.try_reserve_exact(bytes.saturating_add(SPARE)).is_err();
    // Without a look at it the compiler may leave out that it is taken at all.
    black_box(&mut probe);
    if refused || (bytes >= HUGE && available().is_some_and(|free| free < bytes)) {
        refuse(bytes);
    }
}

/// Unwinds with [`OutOfMemory`]: something of this size was refused.
pub fn refuse(bytes: usize) -> ! {
    resume_unwind(Box::new(OutOfMemory { bytes }))
}

/// `len` zeros.
///
/// # Panics
/// With [`OutOfMemory`], where they cannot be had.
pub fn zeroed<T: Clone + Default>(len: usize) -> Vec<T> {
    make_room::<T>(len);
    vec![T::default(); len]
}

/// Room for `len` values.
///
/// # Panics
/// With [`OutOfMemory`], where it cannot be had.
pub fn with_capacity<T>(len: usize) -> Vec<T> {
    make_room::<T>(len);
    Vec::with_capacity(len)
}

/// Runs `f`; a refusal in it is the error.
///
/// # Errors
/// [`OutOfMemory`].
pub fn caught<R>(f: impl FnOnce() -> R) -> Result<R, OutOfMemory> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| match refusal(&*panic) {
        Some(refused) => refused,
        None => resume_unwind(panic),
    })
}

/// The refusal that a panic was, if it was one.
pub fn refusal(panic: &(dyn Any + Send)) -> Option<OutOfMemory> {
    panic.downcast_ref().copied()
}

/// Bytes that the machine has left for programs, where it says so.
fn available() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = |key: &str| -> Option<usize> {
        text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
    };
    Some((kilobytes("MemAvailable:")? + kilobytes("SwapFree:").unwrap_or(0)) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused_and_the_rest_is_given() {
        let bytes = isize::MAX as usize / 2;
        assert_eq!(caught(|| zeroed::<u8>(bytes)).map(|v| v.len()), Err(OutOfMemory { bytes }));
        assert_eq!(caught(|| make_room::<f64>(usize::MAX)), Err(OutOfMemory { bytes: usize::MAX }));
        assert_eq!(caught(|| zeroed::<f32>(1 << 20).iter().sum::<f32>()), Ok(0.0));
        assert!(with_capacity::<u8>(3 << 20).capacity() >= 3 << 20);
        assert!(OutOfMemory { bytes: 3_000_001 }.to_string().starts_with("not enough memory: 4 MB more"));
    }

    #[test]
    fn another_panic_stays_one() {
        let other = catch_unwind(|| caught(|| panic!("planted")));
        assert!(other.is_err_and(|panic| refusal(&*panic).is_none()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_what_it_has() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
