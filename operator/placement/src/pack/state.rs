//! What is still free on a server, and taking from it.

mod gpus;

use std::collections::BTreeMap;

use super::problems::{Problems, allowed, count};
use super::{LeftOver, PodPlan};
use crate::admit::Limits;
use crate::lane::{GroupRule, LaneRequest};
use crate::reason::{Choice, Unplaced, Unused};
use crate::server::{CoreGroup, Server};

/// Free things, by their places in the server's lists.
pub(super) struct State<'a> {
    server: &'a Server,
    /// Free cores of each group, by their places.
    cores: Vec<Vec<usize>>,
    memory: Vec<u64>,
    huge: Vec<BTreeMap<u64, u64>>,
    gpus: Vec<bool>,
    /// Whether a lane may take the group whole.
    whole: Vec<bool>,
    first: Option<u32>,
    /// CPUs that may still be given.
    cpus: u32,
}

/// What a pod would take.
struct Take {
    /// Places of groups, with places of cores.
    cores: Vec<(usize, Vec<usize>)>,
    /// Places of NUMA nodes, with bytes and huge page bytes.
    numa: Vec<(usize, u64, u64)>,
    gpus: Vec<usize>,
    threads: u32,
    why: Vec<Choice>,
}

impl<'a> State<'a> {
    pub(super) fn new(server: &'a Server, lanes: &[LaneRequest]) -> Self {
        let first = server.groups.iter().map(|g| g.id).min();
        let rules: Vec<&GroupRule> = lanes.iter().filter_map(|l| l.groups.as_ref()).collect();
        Self {
            server,
            cores: server
                .groups
                .iter()
                .map(|g| (0..g.cores.len()).collect())
                .collect(),
            memory: server.numa.iter().map(|n| n.memory).collect(),
            huge: server.numa.iter().map(|n| n.huge.clone()).collect(),
            gpus: vec![true; server.gpus.len()],
            whole: server
                .groups
                .iter()
                .map(|g| rules.iter().any(|r| allowed(r, g.id, first)))
                .collect(),
            first,
            cpus: server
                .cpu_limit
                .unwrap_or_else(|| server.groups.iter().map(CoreGroup::threads).sum()),
        }
    }

    /// Takes CPUs out of what is free, whoever has them.
    pub(super) fn occupy(&mut self, cpus: &[u32]) {
        for (group, free) in self.server.groups.iter().zip(&mut self.cores) {
            free.retain(|core| !group.cores[*core].iter().any(|c| cpus.contains(c)));
        }
    }

    /// A live pod keeps its CPUs if its lane would still give it such; none when it must move.
    pub(super) fn keep(&mut self, lane: &LaneRequest, index: u32, cpus: &[u32]) -> Option<PodPlan> {
        let mut cores: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut threads = 0;
        for (at, group) in self.server.groups.iter().enumerate() {
            let held: Vec<usize> = (0..group.cores.len())
                .filter(|c| group.cores[*c].iter().all(|cpu| cpus.contains(cpu)))
                .collect();
            if held.is_empty() {
                continue;
            }
            if let Some(rule) = &lane.groups
                && (held.len() < group.cores.len() || !allowed(rule, group.id, self.first))
            {
                return None;
            }
            threads += threads_of(group, &held);
            cores.push((at, held));
        }
        let smallest = cores
            .iter()
            .map(|(g, c)| threads_of(&self.server.groups[*g], c))
            .min()?;
        let surplus = if lane.groups.is_some() {
            smallest
        } else {
            self.width()
        };
        if threads < lane.cpus || threads - lane.cpus >= surplus || cpus.len() != threads as usize {
            return None;
        }
        let numa = self.numa_of(&cores);
        let take = self
            .rest(lane, cores, &numa, threads, vec![Choice::Held])
            .ok()?;
        Some(self.commit(lane, index, take))
    }

    /// Finds a place for a pod and takes it.
    pub(super) fn place(&mut self, lane: &LaneRequest, index: u32) -> Result<PodPlan, Unplaced> {
        let take = match &lane.groups {
            Some(rule) => self.whole(lane, rule),
            None => self.loose(lane),
        }?;
        Ok(self.commit(lane, index, take))
    }

    /// Whole core groups of one NUMA node, or of one package where the lane may span.
    fn whole(&self, lane: &LaneRequest, rule: &GroupRule) -> Result<Take, Unplaced> {
        let nodes: Vec<Vec<usize>> = (0..self.server.numa.len()).map(|n| vec![n]).collect();
        let near = self.best(lane, rule, &nodes);
        if near.is_ok() || !lane.may_span {
            return near;
        }
        let mut packages: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, numa) in self.server.numa.iter().enumerate() {
            packages.entry(numa.package).or_default().push(at);
        }
        let packages: Vec<Vec<usize>> = packages.into_values().collect();
        self.best(lane, rule, &packages)
            .map_err(|_wider| near.err().unwrap_or(Unplaced::NoneAllowed))
    }

    /// The best of several sets of NUMA nodes: where the poorest of them has the most memory for each free core group
    /// afterwards, so that neither memory nor groups are stranded; then where the fewest GPUs lose their neighbours;
    /// then by the lane's order.
    fn best(
        &self,
        lane: &LaneRequest,
        rule: &GroupRule,
        domains: &[Vec<usize>],
    ) -> Result<Take, Unplaced> {
        let mut problems = Problems::default();
        let richness: Vec<u64> = domains
            .iter()
            .map(|d| self.richness(rule, d, 0, 0))
            .collect();
        let mut best: Option<((u64, std::cmp::Reverse<usize>), Take)> = None;
        let places: Vec<usize> = if rule.reverse {
            (0..domains.len()).rev().collect()
        } else {
            (0..domains.len()).collect()
        };
        for at in places {
            let domain = &domains[at];
            let Some(take) = self.in_domain(lane, rule, domain, &mut problems) else {
                continue;
            };
            let after = self.richness(rule, domain, lane.memory, take.cores.len());
            let others = richness
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at);
            let poorest = others.map(|(_, r)| *r).fold(after, u64::min);
            let spare = if lane.gpus == 0 {
                self.free_gpus(domain)
            } else {
                0
            };
            let score = (poorest, std::cmp::Reverse(spare));
            if best.as_ref().is_none_or(|(most, _)| score > *most) {
                best = Some((score, take));
            }
        }
        let found = best.map(|(_, take)| take);
        found.ok_or_else(|| problems.worst(lane, &self.gpus))
    }

    /// GiB of free memory for each free core group that the rule allows, less what a pod takes.
    fn richness(&self, rule: &GroupRule, domain: &[usize], memory: u64, groups: usize) -> u64 {
        let free: u64 = domain.iter().map(|n| self.memory[*n]).sum();
        let count = self
            .eligible(rule, domain)
            .filter(|at| self.is_untouched(*at))
            .count();
        match count.saturating_sub(groups) {
            0 => u64::MAX,
            count => (free.saturating_sub(memory) >> 30) / count as u64,
        }
    }

    /// Places of the core groups of some NUMA nodes that a rule allows.
    fn eligible(&self, rule: &GroupRule, domain: &[usize]) -> impl Iterator<Item = usize> {
        (0..self.server.groups.len()).filter(move |at| {
            let group = &self.server.groups[*at];
            domain.iter().any(|n| self.server.numa[*n].id == group.numa)
                && !group.cores.is_empty()
                && allowed(rule, group.id, self.first)
        })
    }

    fn in_domain(
        &self,
        lane: &LaneRequest,
        rule: &GroupRule,
        domain: &[usize],
        problems: &mut Problems,
    ) -> Option<Take> {
        let mut allowed_groups: Vec<usize> = self.eligible(rule, domain).collect();
        if rule.reverse {
            allowed_groups.reverse();
        }
        let widest = allowed_groups
            .iter()
            .map(|at| self.server.groups[*at].threads())
            .max()?;
        let needs = lane.cpus.div_ceil(widest.max(1));
        let has = count(allowed_groups.len());
        let free: Vec<usize> = allowed_groups
            .into_iter()
            .filter(|at| self.cores[*at].len() == self.server.groups[*at].cores.len())
            .collect();
        problems.note_groups(needs, has, count(free.len()));
        let mut cores = Vec::new();
        let mut threads = 0;
        for at in free {
            if threads >= lane.cpus {
                break;
            }
            threads += self.server.groups[at].threads();
            cores.push((at, self.cores[at].clone()));
        }
        if threads < lane.cpus {
            return None;
        }
        if threads > self.cpus {
            problems.cpus = Some((threads, self.cpus));
            return None;
        }
        cores.sort_unstable();
        let numa = self.numa_of(&cores);
        let mut why = vec![Choice::WholeGroups {
            asked: lane.cpus,
            given: threads,
            numa: self.server.numa[numa[0]].id,
            reverse: rule.reverse,
        }];
        if numa.len() > 1 {
            why.push(Choice::Spans {
                nodes: count(numa.len()),
            });
        }
        match self.rest(lane, cores, &numa, threads, why) {
            Ok(take) => Some(take),
            Err(problem) => {
                problems.note(&problem);
                None
            }
        }
    }

    /// Loose CPUs, whole cores: first of groups that no lane takes whole, then of the fullest.
    fn loose(&self, lane: &LaneRequest) -> Result<Take, Unplaced> {
        let mut problems = Problems::default();
        let mut domains: Vec<Vec<usize>> = (0..self.server.numa.len()).map(|n| vec![n]).collect();
        domains.push((0..self.server.numa.len()).collect());
        let mut best: Option<((usize, usize), Take)> = None;
        for domain in &domains {
            let mut groups: Vec<usize> = (0..self.server.groups.len())
                .filter(|at| {
                    let numa = self.server.groups[*at].numa;
                    domain.iter().any(|n| self.server.numa[*n].id == numa)
                })
                .collect();
            groups.sort_by_key(|at| {
                (
                    lane.gpus > 0 && !self.is_near_free_gpu(*at),
                    self.whole[*at] && self.is_untouched(*at),
                    self.cores[*at].len(),
                )
            });
            let (mut cores, mut threads, mut broken) = (Vec::new(), 0, 0);
            for at in groups {
                let mut taken = Vec::new();
                for core in &self.cores[at] {
                    if threads >= lane.cpus {
                        break;
                    }
                    threads += count(self.server.groups[at].cores[*core].len());
                    taken.push(*core);
                }
                if !taken.is_empty() {
                    broken += usize::from(self.whole[at] && self.is_untouched(at));
                    cores.push((at, taken));
                }
            }
            if threads < lane.cpus || lane.cpus > self.cpus {
                problems.cpus = Some((lane.cpus, threads.min(self.cpus)));
                continue;
            }
            cores.sort_unstable();
            let mut numa = self.numa_of(&cores);
            if numa.is_empty() {
                // Shared CPUs: only memory is taken.
                numa.clone_from(domain);
            }
            // Without a rule for core groups, CPUs are counted as they were asked for.
            match self.rest(lane, cores, &numa, lane.cpus, vec![Choice::Loose]) {
                Ok(take) => {
                    let score = (numa.len(), broken);
                    if best.as_ref().is_none_or(|(least, _)| score < *least) {
                        best = Some((score, take));
                    }
                }
                Err(problem) => problems.note(&problem),
            }
        }
        best.map(|(_, take)| take)
            .ok_or_else(|| problems.worst(lane, &self.gpus))
    }

    /// Memory, huge pages and GPUs beside cores that were found.
    fn rest(
        &self,
        lane: &LaneRequest,
        cores: Vec<(usize, Vec<usize>)>,
        numa: &[usize],
        threads: u32,
        mut why: Vec<Choice>,
    ) -> Result<Take, Unplaced> {
        let free: u64 = numa.iter().map(|n| self.memory[*n]).sum();
        if free < lane.memory {
            return Err(Unplaced::Memory {
                needs: lane.memory,
                free,
            });
        }
        let (page, huge) = lane.huge.unwrap_or((1, 0));
        let pages = |n: &usize| self.huge[*n].get(&page).copied().unwrap_or(0) * page;
        let free: u64 = if huge == 0 {
            0
        } else {
            numa.iter().map(pages).sum()
        };
        if free < huge {
            return Err(Unplaced::HugePages {
                needs: huge,
                free,
                page,
            });
        }
        let near = |at: &usize| {
            let gpu = &self.server.gpus[*at];
            gpu.numa
                .is_none_or(|id| numa.iter().any(|n| self.server.numa[*n].id == id))
        };
        let mut gpus: Vec<usize> = (0..self.gpus.len())
            .filter(|at| self.gpus[*at] && near(at))
            .collect();
        // Those that are near for sure come first.
        gpus.sort_by_key(|at| self.server.gpus[*at].numa.is_none());
        if gpus.len() < lane.gpus as usize {
            return Err(Unplaced::GpusFar { needs: lane.gpus });
        }
        gpus.truncate(lane.gpus as usize);
        if let Some(first) = gpus.first() {
            why.push(match self.server.gpus[*first].numa {
                Some(numa) => Choice::GpusNear {
                    gpus: lane.gpus,
                    numa,
                },
                None => Choice::GpusAnywhere { gpus: lane.gpus },
            });
        }
        let mut left = (lane.memory, huge);
        let numa = numa
            .iter()
            .map(|n| {
                let memory = left.0.min(self.memory[*n]);
                let huge = left.1.min(pages(n));
                left = (left.0 - memory, left.1 - huge);
                (*n, memory, huge)
            })
            .collect();
        Ok(Take {
            cores,
            numa,
            gpus,
            threads,
            why,
        })
    }

    fn commit(&mut self, lane: &LaneRequest, index: u32, take: Take) -> PodPlan {
        let mut cpus = Vec::new();
        let mut groups = Vec::new();
        let mut cores = 0;
        for (at, taken) in &take.cores {
            let group = &self.server.groups[*at];
            groups.push(group.id);
            cores += count(taken.len());
            cpus.extend(taken.iter().flat_map(|c| group.cores[*c].iter().copied()));
            self.cores[*at].retain(|c| !taken.contains(c));
        }
        cpus.sort_unstable();
        let mut numa = Vec::new();
        for (at, memory, huge) in &take.numa {
            self.memory[*at] -= memory;
            if let Some((page, _)) = lane.huge
                && let Some(pages) = self.huge[*at].get_mut(&page)
            {
                *pages -= huge / page;
            }
            numa.push(self.server.numa[*at].id);
        }
        let mut ids = Vec::new();
        let mut sizes = Vec::new();
        for at in &take.gpus {
            self.gpus[*at] = false;
            ids.push(self.server.gpus[*at].id.clone());
            sizes.push(self.server.gpus[*at].memory);
        }
        self.cpus = self.cpus.saturating_sub(take.threads);
        PodPlan {
            owner: lane.owner.clone(),
            lane: lane.name.clone(),
            index,
            groups,
            cpus,
            numa,
            gpus: ids,
            memory: lane.memory,
            limits: Limits::of(lane, cores, &sizes),
            why: take.why,
        }
    }

    /// Core groups that nobody has, with reasons.
    pub(super) fn unused(&self, lacking: Option<&(String, Unplaced)>) -> Vec<LeftOver> {
        let mut left = Vec::new();
        for (at, group) in self.server.groups.iter().enumerate() {
            if self.cores[at].is_empty() {
                continue;
            }
            let why = if !self.is_untouched(at) {
                let free = threads_of(group, &self.cores[at]);
                Unused::Broken { free }
            } else if !self.whole[at] && Some(group.id) == self.first {
                Unused::First
            } else if !self.whole[at] {
                Unused::NotIncluded
            } else if let Some((lane, why)) = lacking {
                Unused::Lacking {
                    lane: lane.clone(),
                    why: why.clone(),
                }
            } else {
                Unused::Satisfied
            };
            left.push(LeftOver::Group {
                group: group.id,
                numa: group.numa,
                why,
            });
        }
        left
    }

    fn is_untouched(&self, at: usize) -> bool {
        self.cores[at].len() == self.server.groups[at].cores.len()
    }

    /// Hardware threads of the widest core.
    fn width(&self) -> u32 {
        let cores = self.server.groups.iter().flat_map(|g| &g.cores);
        count(cores.map(Vec::len).max().unwrap_or(1))
    }

    /// Places of the NUMA nodes of some cores, in order.
    fn numa_of(&self, cores: &[(usize, Vec<usize>)]) -> Vec<usize> {
        let has = |id: u32| {
            cores
                .iter()
                .any(|(at, _)| self.server.groups[*at].numa == id)
        };
        (0..self.server.numa.len())
            .filter(|n| has(self.server.numa[*n].id))
            .collect()
    }
}

fn threads_of(group: &CoreGroup, cores: &[usize]) -> u32 {
    count(cores.iter().map(|c| group.cores[*c].len()).sum())
}
