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

    /// The best of this CPU; the standard library caches what it detects.
    #[inline]
    pub(super) fn detect() -> Self {
        Self::available().next_back().unwrap_or(Self::Baseline)
    }
}
