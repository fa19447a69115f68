//! Whether a pod may begin one more task: by count, memory, cores and GPUs.

use std::fmt;

use crate::lane::LaneRequest;
use crate::needs;

/// A computation that needs a lane's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Write the pieces.
    AddPiece,
    /// Label the layers.
    Pc1,
    /// Trees and replica.
    Pc2,
    /// Vanilla proofs.
    C1,
    /// The SNARK.
    C2,
}

impl Kind {
    /// All of them, in the order of a sector's way.
    pub const ALL: [Self; 5] = [Self::AddPiece, Self::Pc1, Self::Pc2, Self::C1, Self::C2];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddPiece => "AddPiece",
            Self::Pc1 => "PC1",
            Self::Pc2 => "PC2",
            Self::C1 => "C1",
            Self::C2 => "C2",
        }
    }

    fn uses_gpu(self) -> bool {
        matches!(self, Self::Pc2 | Self::C2)
    }
}

/// Tasks of one pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load([u32; 5]);

impl Load {
    /// Tasks of a kind.
    pub fn of(&self, kind: Kind) -> u32 {
        self.0[kind as usize]
    }

    /// All tasks.
    pub fn total(&self) -> u32 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// One task more.
    pub fn add(&mut self, kind: Kind) {
        let n = &mut self.0[kind as usize];
        *n = n.saturating_add(1);
    }

    /// One task less.
    pub fn remove(&mut self, kind: Kind) {
        let n = &mut self.0[kind as usize];
        *n = n.saturating_sub(1);
    }
}

/// What a pod may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a sector.
    pub sector_size: u64,
    /// Tasks in all.
    pub tasks: u32,
    /// Bytes of memory, huge pages included.
    pub memory: u64,
    /// Sectors in PC1: one for each core, or as many as may share one.
    pub pc1: u32,
    /// Most sectors in PC1 on one core: they are at the same place in the same layer.
    pub per_core: u32,
    /// Bytes of the pool that the layers of all PC1 share; 0 when each takes what it wants.
    pub pool: u64,
    /// Tasks that use a GPU; none when the pod has none and they run on its CPUs.
    pub gpu_tasks: Option<u32>,
    /// Sectors in PC1 while a window proof is due.
    pub during_post: Option<u32>,
}

/// Why a pod takes no further task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Full {
    /// Its concurrency is reached.
    Tasks(u32),
    /// Its memory does not hold the task beside those that run.
    Memory {
        /// What the task is.
        kind: Kind,
        /// Bytes that all would take.
        needs: u64,
        /// Bytes that the pod has.
        has: u64,
    },
    /// Even alone the task does not fit into the pod's memory.
    Never {
        /// What the task is.
        kind: Kind,
        /// Bytes that it takes.
        needs: u64,
        /// Bytes that the pod has.
        has: u64,
    },
    /// The pool of layer memory has its sectors.
    Pool {
        /// Sectors in PC1.
        sectors: u32,
        /// Bytes of the pool.
        bytes: u64,
    },
    /// Each core has its sectors; so many are in PC1.
    Cores(u32),
    /// The GPUs are taken.
    Gpus(u32),
    /// A window proof is due.
    Post(u32),
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tasks(n) => write!(f, "its concurrency of {n} is reached"),
            Self::Memory { kind, needs, has } => write!(
                f,
                "{} beside what runs needs {}, the pod has {}",
                kind.as_str(),
                size(*needs),
                size(*has)
            ),
            Self::Never { kind, needs, has } => write!(
                f,
                "one {} needs {}, the pod has {}: raise the lane's memory",
                kind.as_str(),
                size(*needs),
                size(*has)
            ),
            Self::Pool { sectors, bytes } => write!(
                f,
                "its pool of layer memory, {}, has its {sectors} sectors in PC1",
                size(*bytes)
            ),
            Self::Cores(n) => write!(f, "its cores have their {n} sectors in PC1"),
            Self::Gpus(n) => write!(f, "its GPUs have their {n} tasks"),
            Self::Post(n) => write!(f, "a window proof is due, and concurrencyDuringPost is {n}"),
        }
    }
}

/// A size for people, two digits after the point at most.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, name) = if bytes >= 1 << 30 {
        (1 << 30, "GiB")
    } else {
        (1 << 20, "MiB")
    };
    let hundredths = u128::from(bytes) * 100 / unit;
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => format!("{whole} {name}"),
        (whole, part) if part % 10 == 0 => format!("{whole}.{} {name}", part / 10),
        (whole, part) => format!("{whole}.{part:02} {name}"),
    }
}

impl Limits {
    /// The limits of a pod of `lane` with `cores` physical cores and GPUs of these sizes (0 for unknown).
    pub fn of(lane: &LaneRequest, cores: u32, gpus: &[u64]) -> Self {
        let memory = lane.bytes();
        let sector = lane.sector_size;
        let gpu_tasks = (lane.gpus > 0).then(|| {
            let by_card = |bytes: &u64| {
                let fit = match bytes {
                    0 => u64::from(lane.tasks_per_gpu),
                    bytes => bytes / needs::gpu(sector).max(1),
                };
                lane.tasks_per_gpu
                    .min(u32::try_from(fit).unwrap_or(u32::MAX))
            };
            if gpus.is_empty() {
                lane.gpus.saturating_mul(lane.tasks_per_gpu)
            } else {
                gpus.iter().map(by_card).sum()
            }
        });
        let pc1 = cores.max(1).saturating_mul(lane.per_core.max(1));
        Self {
            sector_size: sector,
            // What memory, cores and GPUs allow is asked for each task; beyond that a place on a core for each is the bound.
            tasks: lane.concurrency.unwrap_or(pc1),
            memory,
            pc1,
            per_core: lane.per_core.max(1),
            pool: if lane.pool {
                needs::pool(sector, memory)
            } else {
                0
            },
            gpu_tasks,
            during_post: lane.during_post,
        }
    }

    /// Memory that these tasks may take, bytes. Sectors in PC1 that share a pool never take more than the pool, nor than two
    /// layers each, at whatever places they are.
    pub fn memory(&self, load: &Load) -> u64 {
        let (sector, pc1) = (self.sector_size, load.of(Kind::Pc1));
        let each = |kind, bytes: u64| u64::from(load.of(kind)).saturating_mul(bytes);
        let layers = needs::layers(sector, pc1);
        [
            if self.pool > 0 {
                layers.min(self.pool)
            } else {
                layers
            },
            needs::pc1_beside(sector, pc1),
            each(Kind::AddPiece, needs::add_piece(sector)),
            each(Kind::Pc2, needs::pc2(sector)),
            each(Kind::C1, needs::c1(sector)),
            each(Kind::C2, needs::c2(sector)),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Whether so many sectors have room in the pool and seldom wait there, or there is none.
    fn pool_holds(&self, sectors: u32) -> bool {
        let needs = needs::layers_in_pool(self.sector_size, sectors, self.per_core);
        self.pool == 0 || needs <= self.pool
    }

    /// Whether one more task of `kind` may begin beside `load`.
    ///
    /// # Errors
    /// What there is no room for.
    pub fn admit(&self, load: &Load, kind: Kind, post_due: bool) -> Result<(), Full> {
        let mut alone = Load::default();
        alone.add(kind);
        let needs = self.memory(&alone);
        let has = self.memory;
        if needs > has {
            return Err(Full::Never { kind, needs, has });
        }
        if load.total() >= self.tasks {
            return Err(Full::Tasks(self.tasks));
        }
        if kind == Kind::Pc1 {
            if load.of(kind) >= self.pc1 {
                return Err(Full::Cores(self.pc1));
            }
            if !self.pool_holds(load.of(kind).saturating_add(1)) {
                let (sectors, bytes) = (load.of(kind), self.pool);
                return Err(Full::Pool { sectors, bytes });
            }
            if let Some(bound) = self.during_post.filter(|b| post_due && load.of(kind) >= *b) {
                return Err(Full::Post(bound));
            }
        }
        if let Some(bound) = self.gpu_tasks.filter(|_| kind.uses_gpu())
            && load.of(Kind::Pc2) + load.of(Kind::C2) >= bound
        {
            return Err(Full::Gpus(bound));
        }
        let mut then = *load;
        then.add(kind);
        let needs = self.memory(&then);
        if needs > has {
            return Err(Full::Memory { kind, needs, has });
        }
        Ok(())
    }

    /// How many tasks of `kind` alone may run at once.
    pub fn most(&self, kind: Kind) -> u32 {
        let mut load = Load::default();
        while load.of(kind) < 1024 && self.admit(&load, kind, false).is_ok() {
            load.add(kind);
        }
        load.of(kind)
    }
}
