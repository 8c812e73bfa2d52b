use std::sync::Arc;

/// A float32 parameter: row-major, shared by every stage that holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` values.
    pub data: Arc<[f32]>,
}

impl Tensor {
    /// Wraps `data`, which must have as many values as `shape` says.
    ///
    /// # Panics
    /// If the lengths differ: readers check lengths before they come here.
    pub fn new(shape: impl Into<Vec<usize>>, data: impl Into<Arc<[f32]>>) -> Self {
        let (shape, data) = (shape.into(), data.into());
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "a tensor of shape {shape:?} cannot hold {} values",
            data.len()
        );
        Self { shape, data }
    }

    /// A tensor of one value throughout.
    pub fn full(shape: impl Into<Vec<usize>>, value: f32) -> Self {
        let shape = shape.into();
        let data = vec![value; shape.iter().product()];
        Self::new(shape, data)
    }

    /// All zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        Self::full(shape, 0.0)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether it holds no value at all.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

/// An int8 weight: `value = data * scales[channel]`, zero point 0, as PyTorch's `per_channel_affine` qint8 on axis 0.
#[derive(Clone, Debug, PartialEq)]
pub struct QTensor {
    /// Dimensions, output channel first.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` values in `-128..=127`, row-major.
    pub data: Arc<[i8]>,
    /// One scale per output channel, or a single one for the whole tensor.
    pub scales: Arc<[f32]>,
}

impl QTensor {
    /// The scale of output channel `channel`.
    pub fn scale(&self, channel: usize) -> f32 {
        self.scales[if self.scales.len() == 1 { 0 } else { channel }]
    }

    /// The values that the levels stand for.
    pub fn dequantized(&self) -> Tensor {
        let per_channel = (self.data.len() / self.shape[0].max(1)).max(1);
        let value = |(i, q): (usize, &i8)| f32::from(*q) * self.scale(i / per_channel);
        Tensor::new(self.shape.clone(), self.data.iter().enumerate().map(value).collect::<Vec<f32>>())
    }
}

/// The weight of a convolution or linear layer, before or after conversion.
#[derive(Clone, Debug, PartialEq)]
pub enum Weight {
    /// As trained.
    Float(Tensor),
    /// As converted.
    Int8(QTensor),
}

impl Weight {
    /// Dimensions: `[out, in / groups, kh, kw]` of a convolution, `[out, in]` of a linear layer.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float(t) => &t.shape,
            Self::Int8(q) => &q.shape,
        }
    }

    /// The float tensor, unless it was converted.
    pub fn float(&self) -> Option<&Tensor> {
        match self {
            Self::Float(t) => Some(t),
            Self::Int8(_) => None,
        }
    }

    /// The int8 tensor, if it was converted.
    pub fn int8(&self) -> Option<&QTensor> {
        match self {
            Self::Float(_) => None,
            Self::Int8(q) => Some(q),
        }
    }
}
