use rayon::prelude::*;

use crate::{
    graph::{self, Conv2d, Graph, Linear, Op, QTensor, Tensor, Weight},
    quant::QuantError,
};

/// Second moments of the windows that a layer's filters are multiplied with: `sum(x x^T)` over images and pixels, `x` in
/// the order of a filter's weights. One matrix for a dense layer, one a channel for a depthwise one.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Weights of one filter.
    pub window: usize,
    /// `[groups][window * window]`.
    pub sums: Vec<Vec<f64>>,
    /// Windows summed over, in each group.
    pub count: u64,
}

impl Moments {
    /// Nothing was seen yet.
    pub fn new(window: usize, groups: usize) -> Self {
        Self { window, sums: vec![vec![0.0; window * window]; groups], count: 0 }
    }

    /// Mean over windows and output channels of the squared difference of what two weights give, each as rows of
    /// `window` values.
    pub fn output_mse(&self, a: &[f32], b: &[f32]) -> f64 {
        let rows = a.len() / self.window;
        let each = rows / self.sums.len();
        let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| f64::from(a - b)).collect();
        let squares = difference.chunks_exact(self.window).enumerate().map(|(i, e)| quadratic(&self.sums[i / each], e));
        squares.sum::<f64>() / (self.count.max(1) as f64 * rows as f64)
    }
}

/// `e^T G e`.
fn quadratic(g: &[f64], e: &[f64]) -> f64 {
    g.chunks_exact(e.len()).zip(e).map(|(row, e_i)| e_i * row.iter().zip(e).map(|(a, b)| a * b).sum::<f64>()).sum()
}

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaRound {
    /// Steps of Adam.
    pub steps: usize,
    /// Its rate.
    pub rate: f32,
    /// How strongly each rounding is pushed to a decision.
    pub lambda: f32,
}

impl Default for AdaRound {
    fn default() -> Self {
        Self { steps: 600, rate: 0.02, lambda: 0.01 }
    }
}

/// What [`round_weights`] did to one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundingReport {
    /// The layer.
    pub layer: String,
    /// Weights that went to the other neighbour than the nearest.
    pub changed: usize,
    /// Of all its weights.
    pub of: usize,
    /// Mean squared error of its output by rounding to nearest, on what the moments were summed over.
    pub nearest_mse: f64,
    /// The same as learnt.
    pub mse: f64,
}

/// AdaRound (Nagel et al. 2020, Up or Down? Adaptive Rounding for Post-Training Quantization): chooses for each weight of
/// one converted layer which of its two neighbouring levels to take, so that the layer's output, not the weight, has the
/// least mean squared error on the inputs that `moments` were summed over. The paper's relaxation with rectified sigmoids
/// and an annealed push to 0 or 1, on the quadratic form of its equation 20, channel by channel; a channel for which the
/// result is no better than rounding to nearest keeps that.
///
/// # Errors
/// [`QuantError::OtherModel`] where `float` (the fused graph) has no such layer, or the converted one is not int8.
pub fn round_weights(
    converted: &Graph,
    float: &Graph,
    layer: &str,
    moments: &Moments,
    options: &AdaRound,
) -> Result<(Graph, RoundingReport), QuantError> {
    let other = || QuantError::OtherModel { node: layer.to_owned() };
    let trained = float.find(layer).and_then(|id| float.node(id).op.weight()?.float()).ok_or_else(other)?;
    let id = converted.require(layer)?;
    let mut next = converted.clone();
    let (Op::Conv2d(Conv2d { weight, .. }) | Op::Linear(Linear { weight, .. })) = &mut next.nodes[id.index()].op else {
        return Err(other());
    };
    let Weight::Int8(nearest) = &*weight else { return Err(other()) };
    if nearest.shape != trained.shape || trained.len() % moments.window != 0 {
        return Err(other());
    }
    let (rounded, report) = round(layer, trained, nearest, moments, options);
    *weight = Weight::Int8(rounded);
    graph::check(&next)?;
    Ok((next, report))
}

fn round(
    layer: &str,
    float: &Tensor,
    nearest: &QTensor,
    moments: &Moments,
    options: &AdaRound,
) -> (QTensor, RoundingReport) {
    let window = moments.window;
    let each = float.len() / window / moments.sums.len();
    let rows = float.data.par_chunks_exact(window).zip(nearest.data.par_chunks_exact(window)).enumerate();
    let rows: Vec<Vec<i8>> = rows
        .map(|(i, (w, q))| {
            let (g, scale) = (&moments.sums[i / each], nearest.scale(i));
            let learnt = channel(w, q, scale, g, options);
            let error = |q: &[i8]| {
                let e: Vec<f64> = w.iter().zip(q).map(|(w, q)| f64::from(w - f32::from(*q) * scale)).collect();
                quadratic(g, &e)
            };
            if error(&learnt) < error(q) { learnt } else { q.to_vec() }
        })
        .collect();
    let rounded = QTensor { data: rows.concat().into(), ..nearest.clone() };
    let mse = |q: &QTensor| moments.output_mse(&float.data, &q.dequantized().data);
    let report = RoundingReport {
        layer: layer.to_owned(),
        changed: rounded.data.iter().zip(nearest.data.iter()).filter(|(a, b)| a != b).count(),
        of: float.len(),
        nearest_mse: mse(nearest),
        mse: mse(&rounded),
    };
    (rounded, report)
}

/// Of the rectified sigmoid: it reaches 0 and 1 (equation 23).
const ZETA: f32 = 1.1;
const GAMMA: f32 = -0.1;
/// The push to a decision starts after this part of the steps, its exponent falling from `BETA.0` to `BETA.1`.
const FREE: f32 = 0.2;
const BETA: (f32, f32) = (20.0, 2.0);

/// The levels of one output channel. `V` is learnt, `h = clamp(sigmoid(V) (zeta - gamma) + gamma, 0, 1)`, and the level
/// `floor(w / s) + h`; in units of a level and of the mean moment, so that one lambda serves all layers.
fn channel(w: &[f32], nearest: &[i8], scale: f32, g: &[f64], options: &AdaRound) -> Vec<i8> {
    let n = w.len();
    let mean = (0..n).map(|i| g[i * n + i]).sum::<f64>() / n as f64;
    if mean <= 0.0 {
        return nearest.to_vec();
    }
    let g: Vec<f32> = g.iter().map(|v| (v / mean) as f32).collect();
    let levels: Vec<f32> = w.iter().map(|w| w / scale).collect();
    let floors: Vec<f32> = levels.iter().map(|x| x.floor().clamp(-128.0, 127.0)).collect();
    let inverse = |h: f32| {
        let p = ((h - GAMMA) / (ZETA - GAMMA)).clamp(1e-4, 1.0 - 1e-4);
        (p / (1.0 - p)).ln()
    };
    let mut v: Vec<f32> = levels.iter().zip(&floors).map(|(x, f)| inverse((x - f).clamp(0.0, 1.0))).collect();
    let (mut first, mut second) = (vec![0.0_f32; n], vec![0.0_f32; n]);
    let (mut h, mut slope, mut error) = (vec![0.0_f32; n], vec![0.0_f32; n], vec![0.0_f32; n]);
    for step in 0..options.steps {
        for i in 0..n {
            let p = 1.0 / (1.0 + (-v[i]).exp());
            let free = p * (ZETA - GAMMA) + GAMMA;
            h[i] = free.clamp(0.0, 1.0);
            slope[i] = if (0.0..=1.0).contains(&free) { p * (1.0 - p) * (ZETA - GAMMA) } else { 0.0 };
            error[i] = (floors[i] + h[i]).clamp(-128.0, 127.0) - levels[i];
        }
        let part = step as f32 / options.steps as f32;
        let annealed = ((part - FREE) / (1.0 - FREE)).max(0.0);
        let beta = BETA.1 + (BETA.0 - BETA.1) * (1.0 - annealed);
        let (t, rate) = (step as i32 + 1, options.rate);
        for i in 0..n {
            let pull: f32 = g[i * n..(i + 1) * n].iter().zip(&error).map(|(a, b)| a * b).sum();
            let side = 2.0 * h[i] - 1.0;
            // d/dh of 1 - |2h - 1|^beta.
            let push = -2.0 * beta * side.abs().powf(beta - 1.0) * side.signum();
            let gradient = (2.0 * pull + if part >= FREE { options.lambda * push } else { 0.0 }) * slope[i];
            first[i] = 0.9 * first[i] + 0.1 * gradient;
            second[i] = 0.999 * second[i] + 0.001 * gradient * gradient;
            let (m, s) = (first[i] / (1.0 - 0.9_f32.powi(t)), second[i] / (1.0 - 0.999_f32.powi(t)));
            v[i] -= rate * m / (s.sqrt() + 1e-8);
        }
    }
    floors.iter().zip(&v).map(|(f, v)| (f + f32::from(*v >= 0.0)).clamp(-128.0, 127.0) as i8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two inputs that are always equal: rounding both 0.4 up or down to nearest errs by 0.8, one up and one down by 0.2.
    #[test]
    fn rounding_looks_at_what_the_inputs_have_in_common() {
        let mut moments = Moments::new(2, 1);
        moments.sums[0] = vec![1.0, 1.0, 1.0, 1.0];
        moments.count = 1;
        let float = Tensor::new([1, 2], vec![0.45, 0.4]);
        let nearest = QTensor { shape: vec![1, 2], data: vec![0, 0].into(), scales: vec![1.0].into() };
        let (rounded, report) = round("fc", &float, &nearest, &moments, &AdaRound::default());
        assert_eq!(rounded.data.iter().map(|q| i32::from(*q)).sum::<i32>(), 1, "{:?}", rounded.data);
        assert!((report.nearest_mse - 0.7225).abs() < 1e-6 && (report.mse - 0.0225).abs() < 1e-6, "{report:?}");
        assert_eq!((report.changed, report.of), (1, 2));
    }

    #[test]
    fn without_correlation_the_nearest_is_best() {
        let mut moments = Moments::new(3, 1);
        (0..3).for_each(|i| moments.sums[0][i * 3 + i] = 2.0);
        moments.count = 1;
        let float = Tensor::new([1, 3], vec![0.4, -0.7, 1.2]);
        let nearest = QTensor { shape: vec![1, 3], data: vec![0, -1, 1].into(), scales: vec![1.0].into() };
        let (rounded, report) = round("fc", &float, &nearest, &moments, &AdaRound::default());
        assert_eq!((rounded, report.changed), (nearest, 0));
    }
}
