use std::{marker::PhantomData, ops::Range};

/// An output slice that several threads write, each its own part.
pub(super) struct Shared<'a, T = u8> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: `slice` is the only way in, and its contract forbids that two threads get the same values.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(super) fn new(data: &'a mut [T]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), life: PhantomData }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first value, for kernels that check their ranges once for many stores.
    pub(super) fn as_mut_ptr(&self) -> *mut T {
        self.start
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    #[expect(clippy::mut_from_ref, reason = "disjoint parts of one borrowed slice, by this function's contract")]
    pub(super) unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} values", self.len);
        // SAFETY: in bounds by the assertion, borrowed mutably for 'a, disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}
