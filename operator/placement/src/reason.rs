//! Why: for each choice, for each pod that has no place, for each core group that nobody uses.

use std::fmt;

use crate::admit::size;

/// Why a pod is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A pod that lives holds these core groups.
    Held,
    /// Whole core groups of one NUMA node.
    WholeGroups {
        /// CPUs that were asked for.
        asked: u32,
        /// CPUs that whole groups make of them.
        given: u32,
        /// The NUMA node.
        numa: u32,
        /// Highest numbers first.
        reverse: bool,
    },
    /// The pod spans NUMA nodes, since none holds it.
    Spans {
        /// How many.
        nodes: u32,
    },
    /// Loose CPUs of groups that are broken or spare.
    Loose,
    /// GPUs of the same NUMA node.
    GpusNear {
        /// How many.
        gpus: u32,
        /// The NUMA node.
        numa: u32,
    },
    /// GPUs whose NUMA node the machine does not tell.
    GpusAnywhere {
        /// How many.
        gpus: u32,
    },
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("a live pod holds these core groups"),
            Self::WholeGroups {
                asked,
                given,
                numa,
                reverse,
            } => {
                let order = if *reverse { "highest" } else { "lowest" };
                write!(f, "whole core groups of NUMA node {numa}, {order} first")?;
                if asked < given {
                    write!(f, "; {asked} CPUs asked, whole groups have {given}")?;
                }
                Ok(())
            }
            Self::Spans { nodes } => write!(f, "no NUMA node holds it, so it spans {nodes}"),
            Self::Loose => f.write_str("loose CPUs of core groups that no lane takes whole"),
            Self::GpusNear { gpus, numa } => write!(f, "{gpus} GPUs of NUMA node {numa}"),
            Self::GpusAnywhere { gpus } => {
                write!(f, "{gpus} GPUs whose NUMA node the machine does not tell")
            }
        }
    }
}

/// Why a wanted pod has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unplaced {
    /// Not so many whole core groups are free on any NUMA node.
    CoreGroups {
        /// Groups that the pod needs.
        needs: u32,
        /// The most that is free on one NUMA node.
        free: u32,
    },
    /// No NUMA node has so many groups at all.
    TooWide {
        /// Groups that the pod needs.
        needs: u32,
        /// The most that a NUMA node has.
        has: u32,
    },
    /// The server has no core groups of which the lane may take one.
    NoneAllowed,
    /// Too few CPUs are left.
    Cpus {
        /// CPUs that the pod needs.
        needs: u32,
        /// CPUs that are free.
        free: u32,
    },
    /// Too little memory where there are CPUs.
    Memory {
        /// Bytes that the pod needs.
        needs: u64,
        /// The most that is free on one NUMA node.
        free: u64,
    },
    /// Too few huge pages where there are CPUs.
    HugePages {
        /// Bytes that the pod needs.
        needs: u64,
        /// The most that is free on one NUMA node.
        free: u64,
        /// Bytes of a page.
        page: u64,
    },
    /// The server has too few free GPUs.
    Gpus {
        /// GPUs that the pod needs.
        needs: u32,
        /// GPUs that are free.
        free: u32,
    },
    /// There are GPUs, but not on a NUMA node that has the rest.
    GpusFar {
        /// GPUs that the pod needs.
        needs: u32,
    },
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CoreGroups { needs, free } => write!(
                f,
                "needs {needs} whole core groups on one NUMA node, at most {free} are free"
            ),
            Self::TooWide { needs, has } => write!(
                f,
                "needs {needs} whole core groups, a NUMA node of this server has {has}: ask for fewer CPUs"
            ),
            Self::NoneAllowed => {
                f.write_str("coreGroups.include and skipFirst leave no core group of this server")
            }
            Self::Cpus { needs, free } => write!(f, "needs {needs} CPUs, {free} are free"),
            Self::Memory { needs, free } => write!(
                f,
                "needs {} of memory on one NUMA node, at most {} is free where there are core groups",
                size(*needs),
                size(*free)
            ),
            Self::HugePages { needs, free, page } => write!(
                f,
                "needs {} of huge pages of {} on one NUMA node, at most {} is free",
                size(*needs),
                size(*page),
                size(*free)
            ),
            Self::Gpus { needs, free } => write!(f, "needs {needs} GPUs, {free} are free"),
            Self::GpusFar { needs } => write!(
                f,
                "needs {needs} GPUs on the NUMA node of its core groups; the free ones are elsewhere"
            ),
        }
    }
}

/// Why nobody has a core group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unused {
    /// Lanes leave the first group to the system.
    First,
    /// No lane may take it.
    NotIncluded,
    /// Partly used by loose CPUs.
    Broken {
        /// CPUs that are free.
        free: u32,
    },
    /// Lanes have all the pods that they want.
    Satisfied,
    /// What kept the last pod away.
    Lacking {
        /// The lane.
        lane: String,
        /// Why.
        why: Unplaced,
    },
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("left to the system (skipFirst)"),
            Self::NotIncluded => f.write_str("no lane includes it"),
            Self::Broken { free } => write!(f, "{free} of its CPUs are free"),
            Self::Satisfied => f.write_str("every lane has its pods"),
            Self::Lacking { lane, why } => write!(f, "another pod of lane {lane} {why}"),
        }
    }
}
