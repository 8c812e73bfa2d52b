/// Compiles a loop once for each instruction set and chooses at run time.
///
/// The body is plain Rust; only what the compiler may vectorize it with differs. No fused multiply-add is formed, so every
/// version gives the same bits.
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
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments, reason = "slices and sizes of one loop")]
                fn avx2<$($g: $bound),+>($($arg: $ty),*) {
                    body::<$($g),+>($($arg),*);
                }
                match $crate::kernels::float::simd::level() {
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

/// What this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg(target_arch = "x86_64")]
pub(super) enum Level {
    Avx512,
    Avx2,
    Baseline,
}

/// Detected once; the standard library caches it.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn level() -> Level {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
    {
        Level::Avx512
    } else if is_x86_feature_detected!("avx2") {
        Level::Avx2
    } else {
        Level::Baseline
    }
}
