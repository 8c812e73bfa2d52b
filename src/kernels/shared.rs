use std::{marker::PhantomData, ops::Range};

/// An output slice that several threads write, each its own part.
pub(super) struct Shared<'a> {
    start: *mut u8,
    len: usize,
    life: PhantomData<&'a mut [u8]>,
}

// SAFETY: `slice` is the only way in, and its contract forbids that two threads get the same bytes.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(data: &'a mut [u8]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), life: PhantomData }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first byte, for kernels that check their ranges once for many stores.
    pub(super) fn as_mut_ptr(&self) -> *mut u8 {
        self.start
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    #[expect(clippy::mut_from_ref, reason = "disjoint parts of one borrowed slice, by this function's contract")]
    pub(super) unsafe fn slice(&self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} bytes", self.len);
        // SAFETY: in bounds by the assertion, borrowed mutably for 'a, disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}
