//! What a caller can decide about a plan.

use std::sync::{Arc, OnceLock};

use crate::{Error, Isa, Result};

/// Who does the work of a run. The caller owns the threads; nothing here starts one.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Threads {
    /// The calling thread alone.
    #[default]
    Serial,
    /// The calling thread and rayon's global pool.
    Global,
    /// A pool of the caller's. A thread that is in no pool works in place of one of the pool's threads.
    Pool(Arc<rayon::ThreadPool>),
}

impl core::fmt::Debug for Threads {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Threads::Serial => f.write_str("Serial"),
            Threads::Global => f.write_str("Global"),
            Threads::Pool(pool) => write!(f, "Pool({} threads)", pool.current_num_threads()),
        }
    }
}

impl Threads {
    /// How many threads can take part.
    pub fn count(&self) -> usize {
        match self {
            Threads::Serial => 1,
            Threads::Global => rayon::current_num_threads(),
            Threads::Pool(pool) => pool.current_num_threads(),
        }
        .clamp(1, MAX_THREADS)
    }
}

/// More threads than this never share one run.
pub const MAX_THREADS: usize = 64;

/// Whether the stages of a block run as one, the tensor between them never going to memory as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fusion {
    /// The plan decides.
    #[default]
    Auto,
    /// Every stage on its own.
    Never,
    /// By this schedule, or an error where it cannot be had.
    Require(Schedule),
}

/// How a fused block goes over its plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schedule {
    /// A ring of a few rows of all channels: for large planes.
    RowRing,
    /// The whole plane, some channels at a time: for small planes.
    ChannelSlabs,
}

/// How often a worker that waits for others looks before it sleeps, if [`PlanOptions::spins`] says nothing else: some
/// tenths of a millisecond, longer than what one thread of a network waits for another if none is held up.
pub(crate) const SPINS: u32 = 20_000;

/// The options of a plan. The default is one thread, the best instruction set, and fusion where it pays.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    pub(crate) threads: Threads,
    pub(crate) isa: Option<Isa>,
    pub(crate) fusion: Fusion,
    pub(crate) common_bits: bool,
    pub(crate) spins: u32,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions {
            threads: Threads::default(),
            isa: None,
            fusion: Fusion::default(),
            common_bits: false,
            spins: SPINS,
        }
    }
}

impl PlanOptions {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who does the work.
    pub fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    /// How often a worker that waits for others between two steps looks before it sleeps, some 20 ns a look; 20,000 if
    /// not said.
    ///
    /// Looking costs a core and answers at once; sleeping leaves the core to others, and to be woken takes tens of
    /// microseconds. Fewer looks suit a machine whose cores have other work, 0 one that must not burn any.
    pub fn spins(mut self, spins: u32) -> Self {
        self.spins = spins;
        self
    }

    /// Caps the instruction set, as the environment variable `SEPCONV_MAX_ISA` does, which is read once. A cap that is not
    /// available (see [`Isa::is_available`]) takes the next one down.
    pub fn max_isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Whether blocks are fused.
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
        self
    }

    /// Asks for the bits of a fused multiply-add also where the CPU, or the cap on it, has none: scalar kernels emulate it, some
    /// fifty times slower. Without the cargo feature `common-bits`, a plan there is [`Error::Isa`].
    pub fn common_bits(mut self, common_bits: bool) -> Self {
        self.common_bits = common_bits;
        self
    }

    /// The instruction set that a plan with these options runs on.
    pub fn isa(&self) -> Result<Isa> {
        let isa = max_isa()?;
        Ok(self.isa.map_or(isa, |cap| isa.max(Isa::best_up_to(cap))))
    }
}

/// The best instruction set of this CPU, capped by `SEPCONV_MAX_ISA`, which is read once.
fn max_isa() -> Result<Isa> {
    static MAX_ISA: OnceLock<Result<Isa>> = OnceLock::new();
    let read = || match std::env::var("SEPCONV_MAX_ISA") {
        Err(std::env::VarError::NotPresent) => Ok(Isa::best()),
        Ok(name) => name.parse().map(Isa::best_up_to).map_err(|e| Error::Isa(format!("SEPCONV_MAX_ISA={name}: {e}"))),
        Err(e) => Err(Error::Isa(format!("SEPCONV_MAX_ISA: {e}"))),
    };
    MAX_ISA.get_or_init(read).clone()
}
