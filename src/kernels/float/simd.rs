/// Compiles a loop once for each instruction set and chooses at run time.
///
/// The body is plain Rust; only what the compiler may vectorize it with differs. A fused multiply-add is formed where the
/// body says `mul_add` and nowhere else, so every version gives the same bits.
macro_rules! vectorize {
    ($(#[$doc:meta])* $vis:vis fn $name:ident<$($g:ident: $bound:path),+>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "slices and sizes of one loop")]
        $vis fn $name<$($g: $bound),+>($($arg: $ty),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "slices and sizes of one loop")]
            fn body<$($g: $bound),+>($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                #[allow(clippy::too_many_arguments, reason = "slices and sizes of one loop")]
                fn avx512<$($g: $bound),+>($($arg: $ty),*) {
                    body::<$($g),+>($($arg),*);
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "slices and sizes of one loop")]
                fn avx2<$($g: $bound),+>($($arg: $ty),*) {
                    body::<$($g),+>($($arg),*);
                }
                match $crate::kernels::float::simd::Level::detect() {
                    // SAFETY: the level says that this CPU has these features; the body is safe code.
                    $crate::kernels::float::simd::Level::Avx512 => return unsafe { avx512::<$($g),+>($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::float::simd::Level::Avx2 => return unsafe { avx2::<$($g),+>($($arg),*) },
                    $crate::kernels::float::simd::Level::Baseline => {}
                }
            }
            body::<$($g),+>($($arg),*);
        }
    };
}
pub(super) use vectorize;

/// Vectors of eight values in plain Rust, under the names that the levels' own modules have for theirs: the specification,
/// and what runs where there is nothing better.
pub(super) mod portable {
    /// Values of a vector.
    pub const LANES: usize = 8;
    pub type Vector = [f32; LANES];

    #[inline(always)]
    pub fn splat(value: f32) -> Vector {
        [value; LANES]
    }

    /// # Safety
    /// There are [`LANES`] values from `from` on.
    #[inline(always)]
    pub unsafe fn load(from: *const f32) -> Vector {
        // SAFETY: an array has its element's alignment; the caller says that it is there.
        unsafe { *from.cast() }
    }

    /// # Safety
    /// There is room for [`LANES`] values from `to` on.
    #[inline(always)]
    pub unsafe fn store(to: *mut f32, v: Vector) {
        // SAFETY: as above.
        unsafe { *to.cast() = v }
    }

    /// `a * b + c`, rounded once.
    #[inline(always)]
    pub fn fma(a: Vector, b: Vector, c: Vector) -> Vector {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    pub fn add(a: Vector, b: Vector) -> Vector {
        std::array::from_fn(|i| a[i] + b[i])
    }

    /// ReLU that keeps NaN, which observers refuse.
    #[inline(always)]
    pub fn positive(a: Vector) -> Vector {
        a.map(|a| if a < 0.0 { 0.0 } else { a })
    }

    /// Left to the CPU.
    #[inline(always)]
    pub fn prefetch(_: *const f32) {}
}

/// The same names over an instruction set's own vectors.
#[cfg(target_arch = "x86_64")]
macro_rules! vectors {
    ($level:ident, $features:literal, $lanes:literal, $vector:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $max:ident) => {
        #[cfg(target_arch = "x86_64")]
        pub(super) mod $level {
            use std::arch::x86_64 as arch;

            pub const LANES: usize = $lanes;
            pub type Vector = arch::$vector;

            #[inline]
            #[target_feature(enable = $features)]
            pub fn splat(value: f32) -> Vector {
                arch::$splat(value)
            }

            /// # Safety
            /// There are [`LANES`] values from `from` on.
            #[inline]
            #[target_feature(enable = $features)]
            pub unsafe fn load(from: *const f32) -> Vector {
                // SAFETY: the caller says so.
                unsafe { arch::$load(from) }
            }

            /// # Safety
            /// There is room for [`LANES`] values from `to` on.
            #[inline]
            #[target_feature(enable = $features)]
            pub unsafe fn store(to: *mut f32, v: Vector) {
                // SAFETY: the caller says so.
                unsafe { arch::$store(to, v) }
            }

            #[inline]
            #[target_feature(enable = $features)]
            pub fn fma(a: Vector, b: Vector, c: Vector) -> Vector {
                arch::$fma(a, b, c)
            }

            #[inline]
            #[target_feature(enable = $features)]
            pub fn add(a: Vector, b: Vector) -> Vector {
                arch::$add(a, b)
            }

            /// ReLU that keeps NaN: of two, the second comes out where one is none.
            #[inline]
            #[target_feature(enable = $features)]
            pub fn positive(a: Vector) -> Vector {
                arch::$max(splat(0.0), a)
            }

            /// Fetches a line of the cache that is read soon; any address will do.
            #[inline]
            #[target_feature(enable = $features)]
            pub fn prefetch(at: *const f32) {
                arch::_mm_prefetch::<{ arch::_MM_HINT_T0 }>(at.cast());
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
vectors!(
    avx2,
    "avx2,fma",
    8,
    __m256,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_max_ps
);
#[cfg(target_arch = "x86_64")]
vectors!(
    avx512,
    "avx512f,avx512vl,avx512dq,avx512bw",
    16,
    __m512,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_max_ps
);

/// Compiles functions once for each level, into a module of its name, over its `Vector`.
///
/// # Safety of what it makes
/// The CPU has the level, beside what the function itself asks for.
macro_rules! per_level {
    ($($(#[$doc:meta])* fn $name:ident $(<$(const $size:ident: usize),+>)? ($($arg:ident: $ty:ty),* $(,)?) $body:block)+) => {
        #[allow(clippy::needless_range_loop, reason = "a constant number of registers, addressed by index")]
        mod portable {
            use super::*;
            use $crate::kernels::float::simd::portable::*;
            $($(#[$doc])* pub unsafe fn $name $(<$(const $size: usize),+>)? ($($arg: $ty),*) $body)+
        }
        #[cfg(target_arch = "x86_64")]
        #[allow(clippy::needless_range_loop, reason = "a constant number of registers, addressed by index")]
        mod avx2 {
            use super::*;
            use $crate::kernels::float::simd::avx2::*;
            $($(#[$doc])* #[target_feature(enable = "avx2,fma")]
            pub unsafe fn $name $(<$(const $size: usize),+>)? ($($arg: $ty),*) $body)+
        }
        #[cfg(target_arch = "x86_64")]
        #[allow(clippy::needless_range_loop, reason = "a constant number of registers, addressed by index")]
        mod avx512 {
            use super::*;
            use $crate::kernels::float::simd::avx512::*;
            $($(#[$doc])* #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
            pub unsafe fn $name $(<$(const $size: usize),+>)? ($($arg: $ty),*) $body)+
        }
    };
}
pub(super) use per_level;

/// What a CPU has, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Those of this architecture.
    const ALL: &[Self] = &[
        Self::Baseline,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
    ];

    /// Those of this CPU.
    pub(super) fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.iter().copied().filter(|level| match level {
            Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
            }
        })
    }

    /// Values of one vector.
    pub(super) fn lanes(self) -> usize {
        match self {
            Self::Baseline => portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::LANES,
        }
    }

    /// The best of this CPU; the standard library caches what it detects.
    #[inline]
    pub(super) fn detect() -> Self {
        Self::available().next_back().unwrap_or(Self::Baseline)
    }
}
