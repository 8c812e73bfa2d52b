/// A tensor that a [`Program`] reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// An operand, by its number; only read.
    Input(usize),
    /// The result. Its values are stale when the program starts, or, of an operation in place, those to be changed.
    Output,
    /// The program's own, by its number; its values are stale when the program starts.
    Temporary(usize),
}

/// Where in a buffer something begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which one.
    pub buffer: Buffer,
    /// In values.
    pub offset: usize,
}

impl Buffer {
    /// `offset` values into it.
    pub(super) fn at(self, offset: usize) -> Place {
        Place { buffer: self, offset }
    }
}

/// One argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// `float *`
    At(Place),
    /// `unsigned`
    Int(u32),
    /// `float`
    Float(f32),
}

impl From<Buffer> for Arg {
    fn from(buffer: Buffer) -> Self {
        Self::At(buffer.at(0))
    }
}

impl From<Place> for Arg {
    fn from(place: Place) -> Self {
        Self::At(place)
    }
}

impl From<usize> for Arg {
    /// Sizes that do not fit are refused with the tensors they belong to: see [`Program::fits`].
    fn from(value: usize) -> Self {
        Self::Int(u32::try_from(value).unwrap_or(u32::MAX))
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

/// `c = a * b` or `c += a * b`, row-major: `a` is `m` x `k`, `b` is `k` x `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// `[m, k, n]`
    pub sizes: [usize; 3],
    /// Left operand.
    pub a: Place,
    /// Whether `a` is stored as its transpose, `k` x `m`.
    pub a_transposed: bool,
    /// Right operand.
    pub b: Place,
    /// Whether `b` is stored as its transpose, `n` x `k`.
    pub b_transposed: bool,
    /// Result.
    pub c: Place,
    /// Whether it is added to what is there.
    pub accumulate: bool,
}

/// One thing for the GPU to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// `threads` threads of a kernel, their number being its last argument.
    Launch {
        /// As `kernels.cu` has it.
        kernel: &'static str,
        /// How many.
        threads: usize,
        /// All but the last.
        args: Vec<Arg>,
    },
    /// A matrix product.
    Product(Product),
    /// Zero bits throughout.
    Clear(Buffer),
}

/// What one operation does, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Length of each temporary, in values.
    pub temporaries: Vec<usize>,
    /// What to do.
    pub steps: Vec<Step>,
}

impl Program {
    /// One launch.
    pub(super) fn of<const N: usize>(kernel: &'static str, threads: usize, args: [Arg; N]) -> Self {
        let mut program = Self::default();
        program.launch(kernel, threads, args);
        program
    }

    pub(super) fn launch<const N: usize>(&mut self, kernel: &'static str, threads: usize, args: [Arg; N]) {
        self.steps.push(Step::Launch { kernel, threads, args: args.to_vec() });
    }

    /// A temporary of `len` values.
    pub(super) fn temporary(&mut self, len: usize) -> Buffer {
        self.temporaries.push(len);
        Buffer::Temporary(self.temporaries.len() - 1)
    }

    /// Whether every size is one that the kernels can count to.
    pub fn fits(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Launch { threads, args, .. } => *threads < MOST && !args.contains(&Arg::Int(u32::MAX)),
            Step::Product(p) => p.sizes.iter().all(|s| *s < MOST / 2),
            Step::Clear(_) => true,
        })
    }
}

/// Kernels count in 32 bits.
const MOST: usize = u32::MAX as usize;
