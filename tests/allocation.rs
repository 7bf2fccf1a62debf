//! A run allocates nothing but the jobs that it hands to a pool of rayon's: an allocator counts, on the calling thread and on every other
//! thread of the run.

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rayon::{ThreadPool, ThreadPoolBuilder};
use sepconv::{
    Activation, Conv2d, ConvDesc, Dense, DepthwiseConv2d, Filter, Fusion, GlobalAveragePool, InvertedResidual,
    InvertedResidualDesc, Layer, Network, Padding, ParallelFor, Plan, PlanCache, PlanOptions, PointwiseConv2d, Result,
    SeparableConv2d, Shape, Shortcut, Threads, ViewMut,
};
use sepconv_test_support::{CANARY, DenseTensor, LEVELS, OnCaller, Rng, SCHEDULES, ValueKind};

thread_local! {
    /// Where the allocations of this thread are counted, if they are: tests run side by side, and libtest allocates
    /// too.
    static COUNTER: Cell<Option<&'static AtomicUsize>> = const { Cell::new(None) };
}

struct CountingAllocator;

fn count() {
    // a thread that is going away has no counter any more
    if let Ok(Some(counter)) = COUNTER.try_with(Cell::get) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is done by the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: MemoryLayout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: MemoryLayout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: MemoryLayout) {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Threads that run tasks beside the calling one.
trait Others {
    /// Calls `task` once on each of them.
    fn each(&self, task: &(dyn Fn() + Sync));
}

impl Others for ThreadPool {
    fn each(&self, task: &(dyn Fn() + Sync)) {
        self.broadcast(|_| task());
    }
}

/// Allocations and deallocations of this thread, and of others, while `body` runs.
fn allocations(others: Option<&dyn Others>, body: impl FnOnce()) -> usize {
    let counter: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    let set = |to: Option<&'static AtomicUsize>| {
        if let Some(others) = others {
            others.each(&|| COUNTER.set(to));
        }
        COUNTER.set(to);
    };
    set(Some(counter));
    // telling the threads may itself allocate on them
    let before = counter.load(Ordering::SeqCst);
    body();
    let after = counter.load(Ordering::SeqCst);
    set(None);
    after - before
}

type Task = &'static (dyn Fn(usize) + Sync);

/// Three threads, the calling one first. The others wait for tasks, and allocate nothing for them.
struct Parked {
    shared: Arc<ParkedTasks>,
    threads: Vec<JoinHandle<()>>,
    /// Tasks that the others began.
    begun: AtomicUsize,
}

struct ParkedTasks {
    /// The task, or none where the threads shall end.
    task: Mutex<Option<Task>>,
    begin: Barrier,
    end: Barrier,
}

impl Parked {
    const THREADS: usize = 3;

    fn new() -> Parked {
        let [begin, end] = [(); 2].map(|()| Barrier::new(Self::THREADS));
        let shared = Arc::new(ParkedTasks { task: Mutex::new(None), begin, end });
        let spawn = |index| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                loop {
                    shared.begin.wait();
                    let task = *shared.task.lock().unwrap();
                    let Some(task) = task else { return };
                    task(index);
                    shared.end.wait();
                }
            })
        };
        Parked { threads: (1..Self::THREADS).map(spawn).collect(), shared, begun: AtomicUsize::new(0) }
    }

    fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: the threads let go of the task before the barrier at the end, which this function waits for.
        let kept = unsafe { core::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(task) };
        *self.shared.task.lock().unwrap() = Some(kept);
        self.shared.begin.wait();
        task(0);
        self.shared.end.wait();
        *self.shared.task.lock().unwrap() = None;
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.shared.begin.wait();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Others for Parked {
    fn each(&self, task: &(dyn Fn() + Sync)) {
        self.run(&|index| {
            if index > 0 {
                task();
            }
        });
    }
}

impl ParallelFor for Parked {
    fn threads(&self) -> usize {
        Self::THREADS
    }

    fn parallel_for(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        assert!(count <= Self::THREADS);
        self.run(&|index| {
            if index < count {
                self.begun.fetch_add(usize::from(index > 0), Ordering::Relaxed);
                task(index);
            }
        });
    }
}

/// The one pool of this file, which nothing drops: what rayon leaves behind of a pool that is gone, any thread of another
/// pool may free, in the middle of a run. A test at a time has it, since its threads have one counter.
fn pool() -> MutexGuard<'static, Arc<ThreadPool>> {
    static POOL: LazyLock<Mutex<Arc<ThreadPool>>> =
        LazyLock::new(|| Mutex::new(Arc::new(ThreadPoolBuilder::new().num_threads(3).build().unwrap())));
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn the_counter_counts() {
    let allocate = || {
        std::hint::black_box(vec![0u8; 100]);
    };
    assert_eq!(allocations(None, allocate), 2);
    assert_eq!(allocations(None, || {}), 0);
    let parked = Parked::new();
    assert_eq!(allocations(Some(&parked), || parked.each(&allocate)), 2 * 2);
    assert_eq!(allocations(Some(&parked), || parked.each(&|| ())), 0);
    let pool = pool();
    let inside =
        pool.install(|| allocations(Some(&**pool), || (0..2).for_each(|_| drop(pool.broadcast(|_| allocate())))));
    assert!(inside >= 2 * 3 * 2, "allocations of every worker count, got {inside}");
}

/// Every operator, both blocks by each schedule, and a network, on shapes that are worth sharing out.
fn plans(options: &PlanOptions) -> Vec<(String, Plan)> {
    let rng = &mut Rng(1);
    let mut weights = |len: usize| rng.values(len, ValueKind::Plain);
    let image = Shape::new(2, 33, 33, 3);
    let plane = Shape::new(2, 28, 28, 40);
    let pixel = Shape::new(2, 1, 1, 200);

    let stem = weights(3 * 3 * 3 * 24);
    let stem = ConvDesc::new(Filter::hwio(&stem, [3, 3, 3, 24])).stride(2).activation(Activation::Relu6);
    let [three, five, many] = [weights(9 * 40), weights(25 * 40), weights(9 * 40 * 2)];
    let three = ConvDesc::new(Filter::depthwise_hwc(&three, [3, 3, 40])).activation(Activation::Relu6);
    let five = ConvDesc::new(Filter::depthwise_hwc(&five, [5, 5, 40])).dilation(2).padding(Padding::all(3));
    let many = ConvDesc::new(Filter::depthwise_hwcm(&many, [3, 3, 40, 2])).strides([2, 1]);
    let wide = weights(40 * 72);
    let wide = ConvDesc::new(Filter::io(&wide, [40, 72]));
    let expand = weights(40 * 144);
    let expand = ConvDesc::new(Filter::io(&expand, [40, 144])).activation(Activation::Relu6);
    let middle = weights(9 * 144);
    let middle = ConvDesc::new(Filter::depthwise_hwc(&middle, [3, 3, 144])).activation(Activation::Relu6);
    let project = weights(144 * 40);
    let project = ConvDesc::new(Filter::io(&project, [144, 40]));
    let first = weights(9 * 24);
    let first = ConvDesc::new(Filter::depthwise_hwc(&first, [3, 3, 24])).activation(Activation::Relu6);
    let first_project = weights(24 * 40);
    let first_project = ConvDesc::new(Filter::io(&first_project, [24, 40]));
    let classes = weights(200 * 101);
    let classes = ConvDesc::new(Filter::io(&classes, [200, 101]));
    let last = weights(40 * 200);
    let last = ConvDesc::new(Filter::io(&last, [40, 200])).activation(Activation::Relu);

    let dilated = weights(9 * 40 * 24);
    let dilated = ConvDesc::new(Filter::hwio(&dilated, [3, 3, 40, 24])).dilation(2);
    let conv = Conv2d::new(stem).unwrap();
    let separable = SeparableConv2d::new(three, wide).unwrap();
    let inverted = InvertedResidualDesc::new(middle, project).expand(expand).shortcut(Shortcut::Required);
    let inverted = InvertedResidual::new(inverted).unwrap();
    let stemmed = InvertedResidual::new(InvertedResidualDesc::new(first, first_project).expand(stem)).unwrap();
    let average = GlobalAveragePool::new(200).unwrap();
    let dense = Dense::new(classes).unwrap();
    let network = Network::new(vec![
        Layer::from(conv.clone()),
        DepthwiseConv2d::new(first).unwrap().into(),
        PointwiseConv2d::new(first_project).unwrap().into(),
        inverted.clone().into(),
        inverted.clone().into(),
        PointwiseConv2d::new(last).unwrap().into(),
        average.clone().into(),
        dense.clone().into(),
    ])
    .unwrap();

    let mut plans: Vec<(String, Result<Plan>)> = vec![
        ("conv2d".into(), conv.plan(image, options)),
        ("dilated conv2d".into(), Conv2d::new(dilated).unwrap().plan(plane, options)),
        ("depthwise".into(), DepthwiseConv2d::new(three).unwrap().plan(plane, options)),
        ("depthwise 5×5".into(), DepthwiseConv2d::new(five).unwrap().plan(plane, options)),
        ("depthwise, multiplier 2".into(), DepthwiseConv2d::new(many).unwrap().plan(plane, options)),
        ("pointwise".into(), PointwiseConv2d::new(wide).unwrap().plan(plane, options)),
        ("average pool".into(), average.plan(Shape::new(2, 28, 28, 200), options)),
        ("dense".into(), dense.plan(pixel, options)),
    ];
    for fusion in SCHEDULES {
        let options = options.clone().fusion(fusion);
        plans.push((format!("separable, {fusion:?}"), separable.plan(plane, &options)));
        plans.push((format!("inverted residual, {fusion:?}"), inverted.plan(plane, &options)));
        plans.push((format!("inverted residual on the stem, {fusion:?}"), stemmed.plan(image, &options)));
    }
    for fusion in [Fusion::Auto, Fusion::Never] {
        plans.push((format!("network, {fusion:?}"), network.plan(image, &options.clone().fusion(fusion))));
    }
    plans.into_iter().map(|(name, plan)| (format!("{name}, {options:?}"), plan.unwrap())).collect()
}

/// Allocations and deallocations in 5 runs, the last two in memory of the caller's. There are runs before them, so that what rayon and
/// the plan set up once does not count. The output is looked at, so that something did run.
fn allocations_of_5_runs(name: &str, plan: &Plan, others: Option<&dyn Others>) -> usize {
    let input = DenseTensor::random(&mut Rng(2), plan.input_shape(), ValueKind::Plain);
    let mut output = vec![CANARY; plan.output_shape().len().unwrap()];
    let mut scratch = plan.scratch().unwrap();
    let mut memory = vec![0; plan.scratch_bytes() + Plan::SCRATCH_ALIGNMENT];
    let mut run = |output: &mut [f32], i: usize| {
        let to = ViewMut::new(output, plan.output_shape()).unwrap();
        let result =
            if i < 3 { plan.run(input.view(), to, &mut scratch) } else { plan.run_in(input.view(), to, &mut memory) };
        result.unwrap();
    };
    run(&mut output, 0);
    run(&mut output, 3);
    output.fill(CANARY);
    let count = allocations(others, || (0..5).for_each(|i| run(&mut output, i)));
    assert!(output.iter().all(|v| v.is_finite()), "{name}: some output was not written");
    count
}

#[test]
fn a_run_on_one_thread_allocates_nothing() {
    for level in LEVELS.iter().filter(|level| !level.is_emulated()) {
        for (name, plan) in plans(&level.options()) {
            let count = allocations_of_5_runs(&name, &plan, None);
            assert_eq!(count, 0, "{name}: allocations or deallocations in 5 runs");
        }
    }
}

#[test]
fn a_run_on_threads_of_the_callers_own_allocates_nothing() {
    for level in LEVELS.iter().filter(|level| !level.is_emulated()) {
        let parked = Arc::new(Parked::new());
        let mut shared = 0;
        for (name, plan) in plans(&level.options().threads(Threads::Custom(parked.clone()))) {
            let before = parked.begun.load(Ordering::Relaxed);
            let count = allocations_of_5_runs(&name, &plan, Some(&*parked));
            assert_eq!(count, 0, "{name}: allocations or deallocations in 5 runs");
            // two runs before the five
            let begun = parked.begun.load(Ordering::Relaxed) - before;
            assert_eq!(begun, 7 * (plan.threads() - 1), "{name}: tasks of other threads");
            shared += usize::from(begun > 0);
        }
        assert!(shared >= 10, "only {shared} plans are shared out");
        for (name, plan) in plans(&level.options().threads(Threads::Custom(Arc::new(OnCaller(3))))) {
            let count = allocations_of_5_runs(&name, &plan, None);
            assert_eq!(count, 0, "{name}: allocations or deallocations in 5 runs, all on the caller");
        }
    }
}

#[test]
fn a_run_by_a_cache_that_has_the_plan_allocates_nothing() {
    let pool = GlobalAveragePool::new(40).unwrap();
    let network = Network::new(vec![pool.into()]).unwrap();
    let cache = PlanCache::new(LEVELS[0].options(), 2);
    let inputs = [5, 7].map(|side| DenseTensor::random(&mut Rng(1), Shape::new(1, side, side, 40), ValueKind::Plain));
    let mut output = vec![CANARY; 40];
    let mut run = || {
        for input in &inputs {
            cache.run(&network, input.view(), ViewMut::new(&mut output, Shape::new(1, 1, 1, 40)).unwrap()).unwrap();
        }
    };
    run();
    assert_eq!(allocations(None, run), 0);
    assert!(output.iter().all(|v| v.is_finite()));
}

/// Two followers, each a job of a run, which rayon allocates and frees; those of the two runs before, and a block of rayon's queue.
const JOBS_OF_5_RUNS: usize = 7 * 2 * 2 + 2;

#[test]
fn a_run_on_a_pool_allocates_nothing_but_its_jobs() {
    let pool = pool();
    let of_three = |level: &sepconv_test_support::PlanLevel| {
        plans(&level.options().threads(Threads::Pool(pool.clone())).max_threads(3))
    };
    for level in LEVELS.iter().filter(|level| !level.is_emulated()) {
        for (name, plan) in of_three(level) {
            let outside = allocations_of_5_runs(&name, &plan, Some(&**pool));
            assert!(outside <= JOBS_OF_5_RUNS, "{name}: {outside} allocations or deallocations in 5 runs");
            let inside = pool.install(|| allocations_of_5_runs(&name, &plan, Some(&**pool)));
            assert!(
                inside <= JOBS_OF_5_RUNS,
                "{name}: {inside} allocations or deallocations in 5 runs inside the pool"
            );
        }
    }
}

#[test]
fn runs_beside_a_busy_pool_queue_their_jobs_once() {
    let busy = Arc::new(ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let (gate, open) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
    let closed = gate.lock().unwrap();
    for _ in 0..2 {
        let (gate, open) = (gate.clone(), open.clone());
        busy.spawn(move || {
            open.fetch_add(1, Ordering::SeqCst);
            drop(gate.lock());
        });
    }
    while open.load(Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
    for (name, plan) in plans(&LEVELS[0].options().threads(Threads::Pool(busy.clone())).max_threads(2)) {
        let count = allocations_of_5_runs(&name, &plan, None);
        assert_eq!(count, 0, "{name}: allocations or deallocations in 5 runs");
    }
    drop(closed);
}
