//! A pickle interpreter that builds plain data and calls nothing.
//!
//! Objects live in an arena and refer to each other by position, so sharing costs nothing and nothing recurses. Every
//! instruction makes at most one object of [`LARGEST_OBJECT`] bytes, there are at most [`MAX_INSTRUCTIONS`], and every
//! length is checked against what is left of the input: memory is at most three times the pickle and 64 MiB.

mod machine;
mod rebuild;

/// Instructions of one pickle. A state dict has some 45 a tensor; a checkpoint with an optimizer's state three times as
/// many.
pub(super) const MAX_INSTRUCTIONS: usize = 1 << 20;

/// What is larger is kept behind a pointer.
pub(super) const LARGEST_OBJECT: usize = 32;

const _: () = assert!(size_of::<Object>() <= LARGEST_OBJECT);

/// Position of an object in [`Pickle::objects`].
pub(super) type Id = usize;

/// What a pickle of PyTorch's can hold.
#[derive(Clone, Debug)]
pub(super) enum Object {
    None,
    Bool,
    /// 128 bits hold the magic number of PyTorch's old format.
    Int(i128),
    Float(f64),
    Str(String),
    Bytes,
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<StorageRef>),
    Tensor(Box<TensorRef>),
    Quantized(Box<QuantizedRef>),
}

/// The only names that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    RebuildTensor,
    RebuildQuantized,
    RebuildParameter,
    OrderedDict,
    Storage(ElementType),
    /// `torch.qint8` and the like, which a quantized layer keeps beside its weight.
    Dtype,
    PerTensor,
    PerChannel,
}

/// Element type of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ElementType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// A flat array, kept outside the pickle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StorageRef {
    pub key: String,
    pub element: ElementType,
    /// In elements.
    pub len: usize,
}

/// A strided view of a storage; all numbers count elements.
#[derive(Clone, Debug)]
pub(super) struct TensorRef {
    pub storage: Id,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub stride: Vec<usize>,
}

/// A strided view of integers with what they stand for: `(q - zero_point) * scale`.
#[derive(Clone, Debug)]
pub(super) struct QuantizedRef {
    pub view: TensorRef,
    pub grid: Grid,
}

/// Scales and zero points of a quantized tensor.
#[derive(Clone, Debug)]
pub(super) enum Grid {
    PerTensor {
        scale: f64,
        zero_point: i128,
    },
    /// Tensors of one value for each part along `axis`.
    PerChannel {
        scales: Id,
        zero_points: Id,
        axis: usize,
    },
}

/// What came out of one pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub objects: Vec<Object>,
    pub root: Id,
    /// Bytes read, up to and including the stop instruction.
    pub consumed: usize,
}

/// Why a pickle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PickleError {
    #[error("its pickle ends early: the file is truncated")]
    Truncated,
    #[error("its pickle has the instruction {opcode:#04x} at byte {at}, which no state dict needs")]
    Opcode { opcode: u8, at: usize },
    #[error("its pickle has more than {MAX_INSTRUCTIONS} instructions, which no state dict needs")]
    Endless,
    #[error("its pickle names `{0}`")]
    Global(String),
    #[error("its pickle is damaged at byte {at}: {what}")]
    Malformed { at: usize, what: &'static str },
}

/// Reads one pickle from the start of `input`.
pub(super) fn parse(input: &[u8]) -> Result<Pickle, PickleError> {
    machine::run(input)
}

impl Pickle {
    pub fn str(&self, id: Id) -> Option<&str> {
        if let Object::Str(text) = &self.objects[id] { Some(text) } else { None }
    }

    pub fn list(&self, id: Id) -> Option<&[Id]> {
        if let Object::List(items) = &self.objects[id] { Some(items) } else { None }
    }

    pub fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        if let Object::Dict(entries) = &self.objects[id] { Some(entries) } else { None }
    }

    pub fn tensor(&self, id: Id) -> Option<&TensorRef> {
        if let Object::Tensor(tensor) = &self.objects[id] { Some(tensor) } else { None }
    }

    pub fn quantized(&self, id: Id) -> Option<&QuantizedRef> {
        if let Object::Quantized(tensor) = &self.objects[id] { Some(tensor) } else { None }
    }

    pub fn tuple(&self, id: Id) -> Option<&[Id]> {
        if let Object::Tuple(items) = &self.objects[id] { Some(items) } else { None }
    }

    pub fn is_dtype(&self, id: Id) -> bool {
        matches!(&self.objects[id], Object::Global(Global::Dtype))
    }

    pub fn storage(&self, tensor: &TensorRef) -> Option<&StorageRef> {
        if let Object::Storage(storage) = &self.objects[tensor.storage] { Some(storage) } else { None }
    }

    pub fn is_int(&self, id: Id, value: i128) -> bool {
        matches!(&self.objects[id], Object::Int(n) if *n == value)
    }

    pub fn is_none(&self, id: Id) -> bool {
        matches!(&self.objects[id], Object::None)
    }
}

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_qtensor") => Self::RebuildQuantized,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "qint8" | "quint8" | "qint32" | "float16") => Self::Dtype,
            ("torch", "per_tensor_affine") => Self::PerTensor,
            ("torch", "per_channel_affine") => Self::PerChannel,
            ("torch", storage) => Self::Storage(match storage {
                "DoubleStorage" => ElementType::F64,
                "FloatStorage" => ElementType::F32,
                "HalfStorage" => ElementType::F16,
                "BFloat16Storage" => ElementType::BF16,
                "LongStorage" => ElementType::I64,
                "IntStorage" | "QInt32Storage" => ElementType::I32,
                "ShortStorage" => ElementType::I16,
                "CharStorage" | "QInt8Storage" => ElementType::I8,
                "ByteStorage" | "QUInt8Storage" => ElementType::U8,
                "BoolStorage" => ElementType::Bool,
                _ => return None,
            }),
            _ => return None,
        })
    }
}
