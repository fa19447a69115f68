//! Why a pod found no place on a server.

use crate::lane::{GroupRule, LaneRequest};
use crate::reason::Unplaced;

/// What stood in the way, over all NUMA nodes: the most that one had.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) groups: Option<(u32, u32, u32)>,
    pub(super) cpus: Option<(u32, u32)>,
    pub(super) memory: Option<u64>,
    pub(super) huge: Option<u64>,
    pub(super) far: bool,
}

impl Problems {
    pub(super) fn note_groups(&mut self, needs: u32, has: u32, free: u32) {
        let (n, h, f) = self.groups.unwrap_or((needs, 0, 0));
        self.groups = Some((n.min(needs), h.max(has), f.max(free)));
    }

    pub(super) fn note(&mut self, problem: &Unplaced) {
        match problem {
            Unplaced::Memory { free, .. } => self.memory = self.memory.max(Some(*free)),
            Unplaced::HugePages { free, .. } => self.huge = self.huge.max(Some(*free)),
            Unplaced::GpusFar { .. } => self.far = true,
            Unplaced::CoreGroups { .. }
            | Unplaced::TooWide { .. }
            | Unplaced::NoneAllowed
            | Unplaced::Cpus { .. }
            | Unplaced::Gpus { .. } => {}
        }
    }

    /// The problem that is worth telling: what came closest first.
    pub(super) fn worst(self, lane: &LaneRequest, gpus: &[bool]) -> Unplaced {
        let free_gpus = count(gpus.iter().filter(|free| **free).count());
        if free_gpus < lane.gpus {
            return Unplaced::Gpus {
                needs: lane.gpus,
                free: free_gpus,
            };
        }
        if self.far {
            return Unplaced::GpusFar { needs: lane.gpus };
        }
        if let Some(free) = self.huge {
            let (page, needs) = lane.huge.unwrap_or((1, 0));
            return Unplaced::HugePages { needs, free, page };
        }
        if let Some(free) = self.memory {
            return Unplaced::Memory {
                needs: lane.memory,
                free,
            };
        }
        if let Some((needs, free)) = self.cpus {
            return Unplaced::Cpus { needs, free };
        }
        match self.groups {
            None if lane.groups.is_none() => Unplaced::Cpus {
                needs: lane.cpus,
                free: 0,
            },
            None => Unplaced::NoneAllowed,
            Some((needs, has, _)) if has < needs => Unplaced::TooWide { needs, has },
            Some((needs, _, free)) => Unplaced::CoreGroups { needs, free },
        }
    }
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Whether a lane may take the core group of this number.
pub(super) fn allowed(rule: &GroupRule, id: u32, first: Option<u32>) -> bool {
    (rule.include.is_empty() || rule.include.contains(&id))
        && !(rule.skip_first && Some(id) == first)
}
