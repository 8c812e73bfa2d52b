//! What this CPU could do at best: multiply-adds a second of the instruction that the int8 kernels live on, from
//! registers alone. A network's multiply-adds over it are the floor of its time.

use std::time::Instant;

use super::{Isa, Kernels};

/// Chains that do not wait for each other: more than the instruction's latency times its throughput.
const CHAINS: usize = 12;
/// Rounds of one measurement, about a millisecond.
const ROUNDS: usize = 100_000;
/// The best of so many counts: whatever else the machine does only slows it down.
const TRIES: usize = 8;

impl Kernels {
    /// Multiply-adds a second of uint8 by int8 into int32, on all threads of these kernels at once, by measuring for some
    /// ten milliseconds. Nothing for the scalar kernels, whose instructions the compiler picks.
    pub fn peak_macs_per_second(&self) -> Option<f64> {
        let macs = macs_of_step(self.isa())?;
        let best = (0..TRIES).map(|_| self.time_chains()).fold(f64::INFINITY, f64::min);
        Some((macs * CHAINS * ROUNDS * self.threads()) as f64 / best)
    }

    /// Seconds until every thread has run its chains.
    fn time_chains(&self) -> f64 {
        let start = Instant::now();
        self.for_parts(self.threads(), usize::MAX, |_| match self.isa() {
            Isa::Scalar => {}
            // SAFETY: a `Kernels` of this set exists only where the CPU has it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { super::avx2::chains::<CHAINS>(ROUNDS) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { super::avx512::chains::<CHAINS>(ROUNDS) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { super::neon::chains::<CHAINS>(ROUNDS) },
        });
        start.elapsed().as_secs_f64()
    }
}

/// Multiply-adds of one step of a chain.
fn macs_of_step(isa: Isa) -> Option<usize> {
    match isa {
        Isa::Scalar => None,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(64),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => Some(64),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Some(16),
    }
}

/// The processor's own name; empty where it does not say.
pub fn cpu_name() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let brand = raw_cpuid::CpuId::new().get_processor_brand_string();
        brand.map_or(String::new(), |b| b.as_str().trim().to_owned())
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        String::new()
    }
}
