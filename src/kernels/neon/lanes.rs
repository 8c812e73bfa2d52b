use std::arch::{aarch64::*, asm};

use crate::kernels::{Levels, Requant};

/// One vector of weights: 4 output channels times 4 inputs, as `sdot` takes them.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(super) struct Quads(pub(super) [i8; 16]);

/// What 4 lanes of sums need to become levels.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(super) struct Constants {
    /// Where the sums start.
    pub(super) start: [i32; 4],
    pub(super) bias: [f32; 4],
    pub(super) multiplier: [f32; 4],
}

impl Constants {
    pub(super) const ZERO: Self = Self { start: [0; 4], bias: [0.0; 4], multiplier: [0.0; 4] };
}

/// Where the sum over levels less 128 starts, so that it ends as the sum over `q - zero point`.
pub(super) fn start(requant: &Requant, weights: &[i8]) -> i32 {
    requant.start(weights) + 128 * weights.iter().map(|w| i32::from(*w)).sum::<i32>()
}

/// `acc[i] += a[4 i] * b[4 i] + .. + a[4 i + 3] * b[4 i + 3]`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: an instruction of this function's features, on registers alone.
    unsafe {
        asm!("sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b", acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// The same with four bytes of `x` for every lane: those from `4 * QUAD` on.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot_quad<const QUAD: usize>(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: an instruction of this function's features, on registers alone.
    unsafe {
        asm!("sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[{quad}]", acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            quad = const QUAD, options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Sixteen levels less 128.
///
/// # Safety
/// 16 bytes must be readable.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn load_signed(x: *const u8) -> int8x16_t {
    // SAFETY: by this function's contract.
    vreinterpretq_s8_u8(veorq_u8(unsafe { vld1q_u8(x) }, vdupq_n_u8(0x80)))
}

/// The levels' bounds in every lane.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    low: float32x4_t,
    high: float32x4_t,
    zero_point: int32x4_t,
}

impl Bounds {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new(levels: Levels) -> Self {
        let relative = |level: u8| f32::from(level) - f32::from(levels.zero_point);
        Self {
            low: vdupq_n_f32(relative(levels.low)),
            high: vdupq_n_f32(relative(levels.high)),
            zero_point: vdupq_n_s32(i32::from(levels.zero_point)),
        }
    }

    /// `clamp(rne(x) + zero point)`. The bounds are integers, so clamping first gives the same; what is not a number
    /// becomes the lowest level.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn round(self, x: float32x4_t) -> int32x4_t {
        let x = vminnmq_f32(vmaxnmq_f32(x, self.low), self.high);
        vaddq_s32(vcvtnq_s32_f32(x), self.zero_point)
    }
}

/// `rne((f32(acc) + bias) * multiplier) + zero point`, clamped.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn requantize(acc: int32x4_t, constants: &Constants, bounds: Bounds) -> int32x4_t {
    // SAFETY: four values each.
    let (bias, multiplier) = unsafe { (vld1q_f32(constants.bias.as_ptr()), vld1q_f32(constants.multiplier.as_ptr())) };
    bounds.round(vmulq_f32(vaddq_f32(vcvtq_f32_s32(acc), bias), multiplier))
}

/// 16 bytes to four vectors of int32, in their order.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn widen(x: uint8x16_t) -> [int32x4_t; 4] {
    let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_high_u8(x));
    [vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)]
        .map(|v| vreinterpretq_s32_u32(v))
}

/// Four vectors of int32 within 0..=255 back to 16 bytes, in their order.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn narrow(x: [int32x4_t; 4]) -> uint8x16_t {
    let half = |a, b| vuzp1q_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b));
    vuzp1q_u8(vreinterpretq_u8_u16(half(x[0], x[1])), vreinterpretq_u8_u16(half(x[2], x[3])))
}

/// The first bytes of `x`, at most 16, the other lanes 0.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load(x: &[u8]) -> uint8x16_t {
    let mut bytes = [0; 16];
    let from = if x.len() >= 16 {
        x.as_ptr()
    } else {
        bytes[..x.len()].copy_from_slice(x);
        bytes.as_ptr()
    };
    // SAFETY: 16 bytes of one or the other.
    unsafe { vld1q_u8(from) }
}

/// As many lanes as `out` has bytes, at most 16.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store(out: &mut [u8], x: uint8x16_t) {
    if out.len() >= 16 {
        // SAFETY: 16 bytes.
        unsafe { vst1q_u8(out.as_mut_ptr(), x) }
    } else {
        let mut bytes = [0; 16];
        // SAFETY: 16 bytes.
        unsafe { vst1q_u8(bytes.as_mut_ptr(), x) }
        out.copy_from_slice(&bytes[..out.len()]);
    }
}
