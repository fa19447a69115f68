//! PC1 of several sectors in one process, those that can in lock step on one core.
//!
//! Each sector has its own lock, record, progress and result: one that cannot begin, or fails, does not take
//! the others with it.

use std::{num::NonZeroUsize, thread};

use super::{
    Progress, lock,
    seal::{BegunPc1, Pc1State, begin_pc1},
};
use crate::{
    engine::{Data, Engine},
    error::{Error, Result},
    sector::{Place, SectorId},
    task::{Pc1, Pc1Output},
};

/// Sectors in lock step go on where the last of them is, so those that are further label again what they are
/// ahead. More than this many nodes they are not made to: three segments, what a kill may lose.
const AHEAD_NODES: u64 = 3 << 18;

/// What PC1 of several sectors is run with.
pub struct Together<'a> {
    /// Who computes.
    pub engine: &'a dyn Engine,
    /// Most sectors on one core: 1, 2 or 4.
    pub per_core: NonZeroUsize,
    /// Told now and then, by any thread, how far a sector is.
    pub progress: &'a (dyn Fn(SectorId, Progress) + Sync),
    /// Told once for each sector, by any thread, as soon as it is over for it.
    pub ended: &'a (dyn Fn(SectorId, Result<Pc1Output>) + Sync),
}

impl std::fmt::Debug for Together<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Together")
            .field("engine", &self.engine)
            .field("per_core", &self.per_core)
            .finish_non_exhaustive()
    }
}

/// A sector that is ready, with its lock and how far it was before.
struct Ready {
    begun: BegunPc1,
    lock: std::fs::File,
    before: u64,
}

/// Labels the layers of several sectors. Sectors of one proof type that are equally far share cores; groups of
/// such sectors run side by side, each on a thread of its own.
pub fn pc1_together(inputs: &[Pc1], context: &Together<'_>) {
    let mut ready = Vec::new();
    for input in inputs {
        match make_ready(input, context.engine) {
            Ok(Ok(sector)) => ready.push(sector),
            Ok(Err(done)) => (context.ended)(input.place.sector, Ok(done)),
            Err(e) => (context.ended)(input.place.sector, Err(e)),
        }
    }
    let alike = |r: &Ready| (r.begun.place.proof, r.before);
    ready.sort_by_key(alike);
    let facts: Vec<_> = ready.iter().map(alike).collect();
    let shared = context.engine.shares_cores();
    let most = if shared { context.per_core.get() } else { 1 };
    let mut left = ready.into_iter();
    thread::scope(|scope| {
        for size in group_sizes(&facts, most) {
            let group: Vec<_> = left.by_ref().take(size).collect();
            scope.spawn(move || label(group, context));
        }
    });
}

/// Ready, or what it made before.
fn make_ready(input: &Pc1, engine: &dyn Engine) -> Result<std::result::Result<Ready, Pc1Output>> {
    let lock = lock(&input.place)?;
    Ok(match begin_pc1(input, engine)? {
        Pc1State::Done(output) => Err(output),
        Pc1State::Begun(begun) => Ok(Ready {
            before: begun.labelled_before()?,
            begun,
            lock,
        }),
    })
}

/// How many of the sectors, in their order, share a core: 4, 2 or 1, none further than the others in its group
/// by more than it may lose. Pure.
fn group_sizes<P: PartialEq>(sectors: &[(P, u64)], most: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut left = sectors;
    while let Some((proof, before)) = left.first() {
        let fits = |(p, b): &&(P, u64)| p == proof && b.saturating_sub(*before) <= AHEAD_NODES;
        let run = left.iter().take_while(fits).count();
        let size = [4, 2].into_iter().find(|n| *n <= run.min(most));
        let size = size.unwrap_or(1);
        sizes.push(size);
        left = &left[size..];
    }
    sizes
}

/// Labels a group; when that fails, each sector alone, so that it gets its own result.
fn label(group: Vec<Ready>, context: &Together<'_>) {
    let tell = |place: &Place| {
        let (sector, tell) = (place.sector, context.progress);
        move |p: Progress| {
            let percent = p.percent.min(100) * 95 / 100;
            tell(sector, Progress { percent, ..p });
        }
    };
    let tellers: Vec<_> = group.iter().map(|r| tell(&r.begun.place)).collect();
    let jobs: Vec<_> = group
        .iter()
        .zip(&tellers)
        .map(|(r, progress)| r.begun.job(progress))
        .collect();
    let labelled = match context.engine.pc1_together(&jobs, Data::Zeros) {
        Ok(all) => all.into_iter().map(Ok).collect(),
        Err(e) if group.len() == 1 => vec![Err(e)],
        Err(error) => {
            tracing::warn!(%error, sectors = group.len(), "each sector is labelled alone");
            each_alone(&jobs, context.engine)
        }
    };
    drop(jobs);
    for (sector, labelled) in group.into_iter().zip(labelled) {
        let Ready { begun, lock, .. } = sector;
        let id = begun.place.sector;
        let ended = labelled.and_then(|labelled| begun.finish(labelled));
        drop(lock);
        (context.ended)(id, ended);
    }
}

fn each_alone(
    jobs: &[crate::engine::SealJob<'_>],
    engine: &dyn Engine,
) -> Vec<Result<crate::engine::Labelled>> {
    thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .iter()
            .map(|job| scope.spawn(move || engine.pc1(job, Data::Zeros)))
            .collect();
        let panicked = || Error::Setup("PC1 panicked".to_owned());
        let ends = threads
            .into_iter()
            .map(|t| t.join().map_err(|_e| panicked()));
        ends.map(Result::flatten).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_that_are_equally_far_share_cores_in_fours_and_twos() {
        let fresh = |n| vec![((), 0); n];
        assert_eq!(group_sizes(&fresh(7), 4), [4, 2, 1]);
        assert_eq!(group_sizes(&fresh(3), 4), [2, 1]);
        assert_eq!(group_sizes(&fresh(5), 2), [2, 2, 1]);
        assert_eq!(group_sizes(&fresh(2), 1), [1, 1]);
        assert_eq!(group_sizes(&fresh(0), 4), Vec::<usize>::new());
    }

    #[test]
    fn sector_that_is_far_ahead_or_of_another_kind_goes_alone() {
        let far = AHEAD_NODES + 1;
        assert_eq!(
            group_sizes(&[(0, 0), (0, 9), (0, far), (0, far)], 4),
            [2, 2]
        );
        assert_eq!(group_sizes(&[(0, 0), (0, 0), (1, 0), (1, 0)], 4), [2, 2]);
    }

    proptest::proptest! {
        #[test]
        fn prop_every_sector_is_in_one_group_of_sectors_like_it(
            mut sectors in proptest::collection::vec((0u8..2, 0u64..(8 << 18)), 0..20),
            most in 1usize..6,
        ) {
            sectors.sort_unstable();
            let sizes = group_sizes(&sectors, most);
            proptest::prop_assert_eq!(sizes.iter().sum::<usize>(), sectors.len());
            let mut at = 0;
            for size in sizes {
                proptest::prop_assert!([1, 2, 4].contains(&size) && (size <= most || size == 1));
                let group = &sectors[at..at + size];
                proptest::prop_assert!(group.iter().all(|s| s.0 == group[0].0));
                proptest::prop_assert!(group[size - 1].1 - group[0].1 <= AHEAD_NODES);
                at += size;
            }
        }
    }
}
