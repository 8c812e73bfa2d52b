use super::{Float, parallel::for_each_part, simd::vectorize};

/// A point-wise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `x`
    Identity,
    /// `max(x, 0)`, its slope at 0 being 0 as PyTorch has it.
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x * relu6(x + 3) / 6`
    Hardswish,
    /// `relu6(x + 3) / 6`
    Hardsigmoid,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x * sigmoid(x)`
    Silu,
}

impl Function {
    /// Every function: tests walk it.
    pub const ALL: [Self; 7] =
        [Self::Identity, Self::Relu, Self::Relu6, Self::Hardswish, Self::Hardsigmoid, Self::Sigmoid, Self::Silu];

    /// Scalar operations a value, roughly.
    pub(super) fn cost(self) -> usize {
        match self {
            Self::Identity | Self::Relu | Self::Relu6 | Self::Hardswish | Self::Hardsigmoid => 1,
            Self::Sigmoid | Self::Silu => 4,
        }
    }
}

/// A function and its derivative as a type, so that a loop over it is compiled for it.
pub(super) trait Curve {
    fn value<T: Float>(x: T) -> T;
    fn slope<T: Float>(x: T) -> T;
}

macro_rules! curve {
    ($name:ident, |$x:ident| $value:expr, $slope:expr) => {
        pub(super) struct $name;
        impl Curve for $name {
            #[inline(always)]
            fn value<T: Float>($x: T) -> T {
                $value
            }
            #[inline(always)]
            fn slope<T: Float>($x: T) -> T {
                $slope
            }
        }
    };
}

#[inline(always)]
fn clamp6<T: Float>(x: T) -> T {
    x.most(T::ZERO).least(T::of(6.0))
}

#[inline(always)]
fn sigmoid<T: Float>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

/// 1 strictly inside, else 0.
#[inline(always)]
fn inside<T: Float>(x: T, lo: f64, hi: f64) -> T {
    if x > T::of(lo) && x < T::of(hi) { T::ONE } else { T::ZERO }
}

curve!(Identity, |x| x, {
    let _ = x;
    T::ONE
});
curve!(Relu, |x| x.most(T::ZERO), if x > T::ZERO { T::ONE } else { T::ZERO });
curve!(Relu6, |x| clamp6(x), inside(x, 0.0, 6.0));
curve!(Hardswish, |x| x * clamp6(x + T::of(3.0)) / T::of(6.0), {
    let middle = x * T::of(1.0 / 3.0) + T::of(0.5);
    if x < T::of(-3.0) {
        T::ZERO
    } else if x > T::of(3.0) {
        T::ONE
    } else {
        middle
    }
});
curve!(Hardsigmoid, |x| clamp6(x + T::of(3.0)) / T::of(6.0), inside(x, -3.0, 3.0) * T::of(1.0 / 6.0));
curve!(Sigmoid, |x| sigmoid(x), {
    let s = sigmoid(x);
    s * (T::ONE - s)
});
curve!(Silu, |x| x / (T::ONE + (-x).exp()), {
    let s = sigmoid(x);
    s * (T::ONE + x * (T::ONE - s))
});

/// Evaluates an expression with the type `F` that stands for a [`Function`].
macro_rules! with_function {
    ($function:expr, $f:ident => $body:expr) => {
        match $function {
            $crate::kernels::float::Function::Identity => {
                type $f = $crate::kernels::float::pointwise::Identity;
                $body
            }
            $crate::kernels::float::Function::Relu => {
                type $f = $crate::kernels::float::pointwise::Relu;
                $body
            }
            $crate::kernels::float::Function::Relu6 => {
                type $f = $crate::kernels::float::pointwise::Relu6;
                $body
            }
            $crate::kernels::float::Function::Hardswish => {
                type $f = $crate::kernels::float::pointwise::Hardswish;
                $body
            }
            $crate::kernels::float::Function::Hardsigmoid => {
                type $f = $crate::kernels::float::pointwise::Hardsigmoid;
                $body
            }
            $crate::kernels::float::Function::Sigmoid => {
                type $f = $crate::kernels::float::pointwise::Sigmoid;
                $body
            }
            $crate::kernels::float::Function::Silu => {
                type $f = $crate::kernels::float::pointwise::Silu;
                $body
            }
        }
    };
}
pub(super) use with_function;

/// Values a thread takes at a time.
const PART: usize = 16 * 1024;

/// `y = f(x)`.
pub fn apply<T: Float>(x: &[T], function: Function, y: &mut [T]) {
    for_each_part(y, PART, x.len() * function.cost(), |index, y| {
        let x = &x[index * PART..index * PART + y.len()];
        with_function!(function, F => apply_part::<T, F>(x, y));
    });
}

vectorize! {
    fn apply_part<T: Float, F: Curve>(x: &[T], y: &mut [T]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = F::value(*x));
    }
}

/// `x = f(x)`, on the caller's thread.
pub fn apply_to(x: &mut [f32], function: Function) {
    with_function!(function, F => apply_in_place::<f32, F>(x));
}

vectorize! {
    fn apply_in_place<T: Float, F: Curve>(x: &mut [T]) {
        x.iter_mut().for_each(|x| *x = F::value(*x));
    }
}

/// `dx = dy * f'(x)`.
pub fn apply_grad<T: Float>(x: &[T], dy: &[T], function: Function, dx: &mut [T]) {
    for_each_part(dx, PART, x.len() * function.cost(), |index, dx| {
        let range = index * PART..index * PART + dx.len();
        let (x, dy) = (&x[range.clone()], &dy[range]);
        with_function!(function, F => apply_grad_part::<T, F>(x, dy, dx));
    });
}

vectorize! {
    fn apply_grad_part<T: Float, F: Curve>(x: &[T], dy: &[T], dx: &mut [T]) {
        dx.iter_mut().zip(x).zip(dy).for_each(|((dx, x), dy)| *dx = *dy * F::slope(*x));
    }
}

/// `y = a + b`, then ReLU or nothing.
pub fn add<T: Float>(a: &[T], b: &[T], relu: bool, y: &mut [T]) {
    for_each_part(y, PART, a.len(), |index, y| {
        let range = index * PART..index * PART + y.len();
        for ((y, a), b) in y.iter_mut().zip(&a[range.clone()]).zip(&b[range]) {
            let sum = *a + *b;
            *y = if relu { sum.most(T::ZERO) } else { sum };
        }
    });
}

/// `x = x + y`, then ReLU or nothing, on the caller's thread.
pub fn add_to(x: &mut [f32], y: &[f32], relu: bool) {
    if relu { add_in_place::<f32, Relu>(x, y) } else { add_in_place::<f32, Identity>(x, y) }
}

vectorize! {
    fn add_in_place<T: Float, F: Curve>(x: &mut [T], y: &[T]) {
        x.iter_mut().zip(y).for_each(|(x, y)| *x = F::value(*x + *y));
    }
}

/// `sum += x`.
pub fn accumulate<T: Float>(sum: &mut [T], x: &[T]) {
    for_each_part(sum, PART, x.len(), |index, sum| {
        let x = &x[index * PART..index * PART + sum.len()];
        sum.iter_mut().zip(x).for_each(|(s, x)| *s += *x);
    });
}

/// `dx = dy` where ReLU's output `y` is above 0, else 0.
pub fn relu_grad_from_output<T: Float>(y: &[T], dy: &[T], dx: &mut [T]) {
    // The output is positive exactly where the input was.
    apply_grad(y, dy, Function::Relu, dx);
}

/// `y = x * factor`, `factor` being `[batch, channels]` over images of `pixels` rows.
pub fn mul_channels<T: Float>(x: &[T], factor: &[T], channels: usize, pixels: usize, y: &mut [T]) {
    let image = channels * pixels;
    for_each_part(y, image, x.len(), |index, y| {
        let factor = &factor[index * channels..(index + 1) * channels];
        let x = &x[index * image..(index + 1) * image];
        for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            y.iter_mut().zip(x).zip(factor).for_each(|((y, x), f)| *y = *x * *f);
        }
    });
}

/// The gradient of [`mul_channels`] for the factor: `sum over pixels of x * dy`.
pub fn mul_channels_grad<T: Float>(x: &[T], dy: &[T], channels: usize, pixels: usize, factor: &mut [T]) {
    let image = channels * pixels;
    for_each_part(factor, channels, 2 * x.len(), |index, factor| {
        let range = index * image..(index + 1) * image;
        factor.fill(T::ZERO);
        for (x, dy) in x[range.clone()].chunks_exact(channels).zip(dy[range].chunks_exact(channels)) {
            factor.iter_mut().zip(x).zip(dy).for_each(|((f, x), dy)| *f += *x * *dy);
        }
    });
}

/// `y = x * factors[i]` for the `i`-th stretch of `x.len() / factors.len()` values: dropout by value or by image.
pub fn scale_samples<T: Float>(x: &[T], factors: &[T], y: &mut [T]) {
    let stretch = x.len() / factors.len().max(1);
    for ((y, x), factor) in y.chunks_exact_mut(stretch).zip(x.chunks_exact(stretch)).zip(factors) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = *x * *factor);
    }
}
