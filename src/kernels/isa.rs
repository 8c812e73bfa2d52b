use std::{fmt, ops::Range, str::FromStr, sync::Arc};

use super::{float::Threads, pool::Pool};

/// An instruction set that has kernels of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain Rust: the specification.
    Scalar,
    /// AVX2 and FMA: Intel from Haswell on, AMD from Zen on.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL, VNNI and VBMI: Intel from Ice Lake on, AMD from Zen 4 on.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// NEON with dot product (Armv8.2 with `dotprod`): Arm's Cortex-A55 and A75 and Neoverse N1 on, Apple's M1 on.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// An instruction set that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// Not a name of ours on this architecture.
    #[error("unknown instruction set `{found}` (OCTET_ISA): on {} expected {}", std::env::consts::ARCH, names())]
    Unknown {
        /// As given.
        found: String,
    },
    /// The CPU lacks it.
    #[error("this CPU does not have {0}: leave OCTET_ISA unset, or set it to `scalar`")]
    Missing(Isa),
}

impl Isa {
    /// All of them, the slowest first.
    pub const ALL: &[Self] = &[
        Self::Scalar,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512Vnni,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
    ];

    /// The name that `OCTET_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
        }
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => super::avx2::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => super::avx512::is_available(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => super::neon::is_available(),
        }
    }
}

/// The names that `OCTET_ISA` takes on this architecture, for a message.
fn names() -> String {
    let names: Vec<String> = Isa::ALL.iter().map(|isa| format!("`{isa}`")).collect();
    names.join(" or ")
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(s: &str) -> Result<Self, IsaError> {
        Self::ALL.iter().copied().find(|i| i.name() == s).ok_or_else(|| IsaError::Unknown { found: s.to_owned() })
    }
}

/// The kernels of one instruction set, and the threads that run them.
///
/// INVARIANT: `isa` is available on this CPU, so functions with its target features may be called.
#[derive(Debug)]
pub struct Kernels {
    isa: Isa,
    pool: Arc<Pool>,
}

/// Multiply-adds below which waking another thread costs more than it saves.
const PARALLEL_WORK: usize = 250_000;

impl Kernels {
    /// Kernels for `isa`; without one, for what the environment variable `OCTET_ISA` names, else for the fastest that
    /// this CPU has. `threads` counts the calling one; 0 is taken as 1.
    ///
    /// # Errors
    /// [`IsaError`] where the CPU lacks `isa`, or `OCTET_ISA` names none of ours.
    pub fn new(isa: Option<Isa>, threads: usize) -> Result<Self, IsaError> {
        let forced = match isa {
            Some(isa) => Some(isa),
            None => match std::env::var("OCTET_ISA") {
                Ok(name) if !name.is_empty() => Some(name.parse()?),
                Ok(_) | Err(_) => None,
            },
        };
        let isa = match forced {
            Some(isa) if !isa.is_available() => return Err(IsaError::Missing(isa)),
            Some(isa) => isa,
            None => Isa::ALL.iter().copied().rev().find(|i| i.is_available()).unwrap_or(Isa::Scalar),
        };
        Ok(Self { isa, pool: Arc::new(Pool::new(threads.max(1))) })
    }

    /// Which instruction set these are for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads that take part, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The same threads for float kernels.
    pub fn float_threads(&self) -> Threads {
        Threads::sharing(Arc::clone(&self.pool))
    }

    /// The same kernels on the calling thread alone.
    pub fn alone(&self) -> Self {
        Self { isa: self.isa, pool: Arc::new(Pool::new(1)) }
    }

    /// What `f` gives for each of `0..jobs`, several at a time, each with the state of the thread that runs it. What runs
    /// in it runs [`Kernels::alone`].
    ///
    /// # Panics
    /// If there are fewer states than threads.
    pub fn map<S: Send, R: Send>(
        &self,
        states: &mut [S],
        jobs: usize,
        f: impl Fn(&mut S, usize) -> R + Sync,
    ) -> Vec<R> {
        self.pool.map(states, jobs, f)
    }

    /// Calls `f` on every part of `0..parts`, on several threads where `work` (in multiply-adds) is worth it.
    pub(super) fn for_parts(&self, parts: usize, work: usize, f: impl Fn(usize) + Sync) {
        if parts <= 1 || self.threads() == 1 || work < PARALLEL_WORK {
            (0..parts).for_each(f);
        } else {
            self.pool.run(parts, f);
        }
    }

    /// Calls `f` on ranges that cover `0..len`, on several threads where `work` is worth it.
    pub(super) fn for_ranges(&self, len: usize, work: usize, f: impl Fn(Range<usize>) + Sync) {
        let parts = if self.threads() == 1 || work < PARALLEL_WORK { 1 } else { len.min(2 * self.threads()) };
        self.for_parts(parts, work, |part| f(len * part / parts..len * (part + 1) / parts));
    }
}
