use filstar_crds::LanePhase;
use filstar_placement::{Kind, LaneRequest, Limits, Load, layouts, needs};
use filstar_sealing::own::{
    Buffer, Pages,
    pool::{Holding, give},
};
use proptest::prelude::*;

use super::*;

#[test]
fn folder_is_made_and_what_is_in_its_place_or_was_there_before_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("7-0.holder"), "of an earlier container").unwrap();
    let pool = Shared::new(dir.path(), 57_344).unwrap();
    assert!(!folder.exists());
    let want = format!("{}:57344", folder.display());
    assert_eq!(pool.for_process().unwrap(), want.as_str());
    fs::write(folder.join("9-0.holder"), "of one that runs").unwrap();
    assert_eq!(pool.for_process().unwrap(), want.as_str());
    assert!(folder.join("9-0.holder").exists());
    for damage in [
        |at: &Path| fs::write(at, "").unwrap(),
        |at: &Path| std::os::unix::fs::symlink("/nowhere", at).unwrap(),
        |_: &Path| {},
    ] {
        fs::remove_dir_all(&folder).unwrap();
        damage(&folder);
        assert_eq!(pool.for_process().unwrap(), want.as_str());
        assert!(fs::symlink_metadata(&folder).unwrap().is_dir());
    }
    assert!(Shared::new(dir.path(), 0).is_none());
    assert!(!folder.exists());
}

#[test]
fn folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tmp"), "").unwrap();
    let pool = Shared::new(&dir.path().join("tmp"), 1).unwrap();
    let e = pool.for_process().unwrap_err();
    assert!(e.to_string().contains("tmp/pc1-pool"), "{e}");
}

const SIZES: [u64; 5] = [2 << 10, 8 << 20, 512 << 20, 32 << 30, 64 << 30];

#[test]
fn admission_counts_a_layer_as_large_as_the_engine_takes_it() {
    for size in SIZES {
        for together in [1, 2, 4] {
            let bytes = size * together;
            let buffer = Buffer::new(usize::try_from(bytes).unwrap(), Pages::Small);
            let taken = buffer.unwrap().block_end(usize::MAX) as u64;
            assert!(
                taken <= needs::layer(size) * together,
                "{together} of {size}"
            );
        }
    }
}

/// One step of a pod's life; what is not possible then does nothing.
#[derive(Clone, Debug)]
enum Step {
    /// The operator wants to give it a task.
    Ask(Kind),
    /// The sealer starts one process for so many sectors that wait to share a core.
    Start(u32),
    /// A PC1 labels a part of a layer, or waits for memory.
    Label(prop::sample::Index),
    /// A PC1 is killed: all that it holds is free, and its sectors wait for another process.
    Kill(prop::sample::Index),
    /// Another task ends.
    End(Kind),
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Ask(Kind::Pc1)),
        1 => any_kind().prop_map(Step::Ask),
        2 => prop::sample::select(vec![1, 2, 4]).prop_map(Step::Start),
        8 => any::<prop::sample::Index>().prop_map(Step::Label),
        1 => any::<prop::sample::Index>().prop_map(Step::Kill),
        1 => any_kind().prop_map(Step::End),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let memory = (0..160u64, 0..40u64);
    let size = prop::sample::select(SIZES.to_vec());
    let per_core = prop::sample::select(vec![1, 2, 4]);
    let concurrency = prop::option::of(1..30u32);
    (memory, size, per_core, concurrency, any::<bool>(), 1..12u32).prop_map(
        |((quarters, processes), size, per_core, concurrency, pool, cores)| {
            let phases = [LanePhase::AddPiece, LanePhase::Pc1, LanePhase::Pc2];
            let lane = LaneRequest {
                sector_size: size,
                memory: needs::pc1_beside(size, 1) + size / 4 * quarters + (processes << 25),
                per_core,
                concurrency,
                pool,
                ..layouts::lane("all", &phases, 8, 0)
            };
            Limits::of(&lane, cores, &[])
        },
    )
}

/// A PC1 process: what it holds, of how many sectors, and how many layers it has done.
type Process = (Holding, u32, u32);
const LAYERS: u32 = 3;

struct Pod {
    limits: Limits,
    load: Load,
    waiting: u32,
    processes: Vec<Process>,
    turns: u64,
}

impl Pod {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            load: Load::default(),
            waiting: 0,
            processes: Vec::new(),
            turns: 0,
        }
    }

    /// The bytes that the process is told.
    fn pool(&self) -> u64 {
        match self.limits.pool {
            0 => u64::MAX,
            bytes => bytes,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Ask(kind) if self.limits.admit(&self.load, *kind, false).is_ok() => {
                self.load.add(*kind);
                self.waiting += u32::from(*kind == Kind::Pc1);
            }
            Step::Start(n) if *n <= self.waiting && *n <= self.limits.per_core => self.start(*n),
            Step::Label(at) if !self.processes.is_empty() => {
                self.label(at.index(self.processes.len()));
            }
            Step::Kill(at) if !self.processes.is_empty() => {
                let (_, sectors, _) = self.processes.swap_remove(at.index(self.processes.len()));
                self.waiting += sectors;
            }
            Step::End(kind) if *kind != Kind::Pc1 => self.load.remove(*kind),
            Step::Ask(_) | Step::Start(_) | Step::Label(_) | Step::Kill(_) | Step::End(_) => {}
        }
    }

    fn start(&mut self, sectors: u32) {
        let layer = needs::layer(self.limits.sector_size) * u64::from(sectors);
        assert!(
            2 * layer <= self.pool(),
            "the engine would refuse: {:?}",
            self.limits
        );
        self.waiting -= sectors;
        self.turns += 1;
        let newcomer = Holding {
            layer,
            wants: layer,
            turn: self.turns,
            ..Holding::default()
        };
        self.processes.push((newcomer, sectors, 0));
    }

    /// Whether the process moved.
    fn label(&mut self, at: usize) -> bool {
        let bytes = self.pool();
        let mut all: Vec<Holding> = self.processes.iter().map(|p| p.0).collect();
        if all[at].wants == 0 {
            self.turns += 1;
            all[at].wants = (all[at].layer / 4).max(1);
            all[at].turn = self.turns;
        }
        let asked = all[at];
        give(bytes, &mut all);
        let now = all[at];
        let moved = now.wants == 0;
        let (holding, sectors, done) = &mut self.processes[at];
        *holding = if moved { now } else { asked };
        if moved && holding.growing == holding.layer {
            holding.growing = 0;
            *done += 1;
            if *done == LAYERS {
                for _ in 0..*sectors {
                    self.load.remove(Kind::Pc1);
                }
                self.processes.swap_remove(at);
            }
        }
        moved
    }

    /// Bytes that the processes of this pod have at this moment.
    fn taken(&self) -> u64 {
        let inside = self.processes.iter().filter(|p| p.0.inside);
        let layers: u64 = inside.map(|p| p.0.layer + p.0.growing).sum();
        let size = self.limits.sector_size;
        let mut others = self.load;
        while others.of(Kind::Pc1) > 0 {
            others.remove(Kind::Pc1);
        }
        let beside = needs::pc1_beside(size, self.load.of(Kind::Pc1));
        layers + beside + self.limits.memory(&others)
    }
}

proptest! {
    #[test]
    fn prop_pool_and_all_other_tasks_fit_the_memory_of_the_pod_and_all_come_to_their_end(
        limits in any_limits(),
        steps in prop::collection::vec(any_step(), 0..400),
    ) {
        let mut pod = Pod::new(limits);
        for step in &steps {
            pod.step(step);
            prop_assert!(pod.taken() <= limits.memory, "{step:?}: {} in {limits:?}", pod.taken());
        }
        // Whoever waits is started, and nobody waits for ever.
        while pod.waiting > 0 {
            pod.start(1);
        }
        while !pod.processes.is_empty() {
            let before = pod.processes.len();
            let mut moved = 0;
            for at in (0..before).rev() {
                moved += usize::from(pod.label(at));
                prop_assert!(pod.taken() <= limits.memory);
            }
            prop_assert!(moved > 0, "nobody can move: {:?}", pod.processes);
        }
    }
}
