//! Plans and the buffers that they run on.

use std::sync::Arc;

use aligned_vec::{AVec, ConstAlign};
use sepconv::{
    Error, Isa, Network, Plan, PlanOptions, Result, Scratch, Shape, StageReport, Strides, Threads, View, ViewMut,
};

use crate::machine;

/// Options of a plan for this instruction set, and for threads of a pool of its own where there are more than one.
pub fn plan_options(isa: Option<Isa>, threads: usize) -> Result<PlanOptions> {
    let mut options = PlanOptions::new();
    if let Some(isa) = isa {
        options = options.max_isa(isa);
        let got = options.isa()?;
        if got != isa {
            return Err(Error::Isa(format!("asked for {isa}, but this CPU and SEPCONV_MAX_ISA leave {got}")));
        }
    }
    Ok(options.threads(pool(threads)?))
}

/// A pool of this many threads, or the calling thread.
pub fn pool(threads: usize) -> Result<Threads> {
    if threads == 1 {
        return Ok(Threads::Serial);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    Ok(Threads::Pool(Arc::new(pool.map_err(|e| Error::Network(format!("a pool of {threads} threads: {e}")))?)))
}

/// A plan and its scratch.
#[derive(Debug)]
pub struct Subject {
    /// The plan.
    pub plan: Plan,
    scratch: Scratch,
    values: [usize; 2],
}

impl Subject {
    /// Plans a network for an input.
    pub fn new(network: &Network, input: Shape, options: &PlanOptions) -> Result<Subject> {
        Subject::of(network.plan(input, options)?)
    }

    /// Takes a plan.
    pub fn of(plan: Plan) -> Result<Subject> {
        let scratch = plan.scratch()?;
        let values = [plan.input_shape().len()?, plan.output_shape().len()?];
        Ok(Subject { plan, scratch, values })
    }

    /// Bytes of input and output.
    pub fn bytes(&self) -> u64 {
        (size_of::<f32>() * (self.values[0] + self.values[1])) as u64
    }

    /// Runs it once.
    pub fn run(&mut self, buffers: &mut Buffers) -> Result<()> {
        let (input, output) = buffers.take(self.values);
        let (from, to) = (self.plan.input_shape(), self.plan.output_shape());
        let [from_strides, to_strides] = [0, 1].map(|end| Strides::dense(self.plan.layouts()[end], [from, to][end]));
        let input = View::with_strides(input, from, from_strides)?;
        self.plan.run(input, ViewMut::with_strides(output, to, to_strides)?, &mut self.scratch)
    }

    /// Gives all of these scratch in other memory. Which pages it has decides what falls together in L2, and a way to run an
    /// operator took up to 1.1 times as long as another with pages of bad luck, all through a process.
    pub fn renew_scratch(subjects: &mut [Subject]) -> Result<()> {
        // the old ones are freed when all new ones are there
        let fresh = subjects.iter().map(|subject| subject.plan.scratch()).collect::<Result<Vec<_>>>()?;
        for (subject, fresh) in subjects.iter_mut().zip(fresh) {
            subject.scratch = fresh;
        }
        Ok(())
    }

    /// Values of input and output.
    pub fn values(&self) -> [usize; 2] {
        self.values
    }

    /// What its plan does, without why: two plans of one operator of which this is equal run the same code.
    pub fn decisions(&self) -> String {
        let stage = |s: &StageReport| format!("{} {:?} {} {:?} {}", s.name, s.kernels, s.fused, s.schedule, s.pieces);
        self.plan.explain().stages.iter().map(stage).collect::<Vec<_>>().join("; ")
    }

    /// The kernels that it runs on, in the order of the data, as `explain` names them.
    pub fn kernels(&self) -> String {
        let explain = self.plan.explain();
        let names = explain.stages.iter().flat_map(|stage| &stage.kernels);
        names.map(|kernel| format!("{}_{}", kernel.name(), explain.isa)).collect::<Vec<_>>().join(" + ")
    }
}

/// Where the inputs and outputs of a run lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// At the same place in each run: they are in the nearest cache that holds them.
    Warm,
    /// At another place in each run, over twice the last cache: they come out of memory, and go there. Weights stay.
    Cold,
}

/// Inputs and outputs, shared by all subjects, which run one after the other.
#[derive(Debug)]
pub struct Buffers {
    memory: [AVec<f32, ConstAlign<4096>>; 2],
    place: [usize; 2],
    state: CacheState,
}

/// Outputs begin this much further into their page than inputs: a core takes a load that follows a store at the same
/// place of another page for one that may need the store's value.
const APART: usize = 1088 / size_of::<f32>();

impl Buffers {
    /// Buffers for inputs and outputs of at most this many values.
    pub fn new([inputs, outputs]: [usize; 2], state: CacheState) -> Buffers {
        let rotating = match state {
            CacheState::Warm => 0,
            CacheState::Cold => machine::last_level_cache() as usize / size_of::<f32>(),
        };
        let mut rng = fastrand::Rng::with_seed(0x1111);
        let mut filled = |values: usize| {
            let mut memory = AVec::with_capacity(4096, values);
            memory.extend_from_slice(&(0..values).map(|_| rng.f32() * 2.0 - 1.0).collect::<Vec<_>>());
            memory
        };
        let memory = [filled(inputs + rotating), filled(APART + outputs + rotating)];
        Buffers { memory, place: [0, APART], state }
    }

    /// Buffers that every one of these subjects can run on.
    pub fn for_all<'a>(subjects: impl IntoIterator<Item = &'a Subject>, state: CacheState) -> Buffers {
        let largest = subjects.into_iter().fold([0, 0], |[i, o], s| [i.max(s.values[0]), o.max(s.values[1])]);
        Buffers::new(largest, state)
    }

    /// Bytes that inputs and outputs go over while a subject runs again and again.
    pub fn footprint(&self, subject: &Subject) -> u64 {
        match self.state {
            CacheState::Warm => subject.bytes(),
            CacheState::Cold => self.memory.iter().map(|m| (m.len() * size_of::<f32>()) as u64).sum(),
        }
    }

    /// Where the next run reads and writes, for so many values.
    pub fn take(&mut self, values: [usize; 2]) -> (&[f32], &mut [f32]) {
        if self.state == CacheState::Cold {
            for ((place, memory), (values, first)) in
                self.place.iter_mut().zip(&self.memory).zip(values.into_iter().zip([0, APART]))
            {
                // whole cache lines, and never twice the same place of a page
                *place += values.next_multiple_of(16) + 16;
                if *place + values > memory.len() {
                    *place = first;
                }
            }
        }
        let [input, output] = &mut self.memory;
        let [from, to] = self.place;
        (&input[from..from + values[0]], &mut output[to..to + values[1]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_buffers_stay_and_cold_ones_go_over_more_than_the_cache() {
        let places = |state, runs: usize| {
            let mut buffers = Buffers::new([5000, 100_000], state);
            let mut places: Vec<_> = (0..runs)
                .map(|_| {
                    let (input, output) = buffers.take([5000, 100_000]);
                    assert_eq!((input.len(), output.len()), (5000, 100_000));
                    (input.as_ptr() as usize, output.as_ptr() as usize)
                })
                .collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        assert_eq!(places(CacheState::Warm, 10).len(), 1);
        let cold = places(CacheState::Cold, 2000);
        let mut outputs: Vec<_> = cold.iter().map(|place| place.1).collect();
        outputs.sort_unstable();
        outputs.dedup();
        assert!(outputs.len() as u64 * 400_000 > machine::last_level_cache() * 9 / 10, "{}", outputs.len());
    }

    #[test]
    fn a_subject_runs_and_names_its_kernels() {
        use crate::shapes::{BenchStage, Operator};
        let operator = Operator::separable(BenchStage::depthwise(3, 1, 24), 40, 9);
        let mut subject =
            Subject::new(&operator.network().unwrap(), operator.input, &plan_options(None, 2).unwrap()).unwrap();
        let mut buffers = Buffers::for_all([&subject], CacheState::Warm);
        buffers.memory[1].fill(f32::NAN);
        subject.run(&mut buffers).unwrap();
        assert!(buffers.memory[1][APART..].iter().all(|v| (0.0..=6.0).contains(v)));
        assert!(subject.kernels().contains(" + "), "{}", subject.kernels());
    }
}
