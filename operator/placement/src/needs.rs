//! How much memory, GPU memory and scratch space the work on a sector takes, by sector size.
//!
//! Sources: PC1 by the pool formula, n sectors in flight whose starts are staggered hold `S·(3n+1)/2` of layers
//! (each two layers, of which the one being written grows), plus a window of the parents file, which is streamed.
//! The other figures for 32 GiB are those that lotus's storage resource table and long practice use (PC2 30 GiB,
//! C1 1 GiB, C2 205 GB for ten partitions at once); for 2 KiB and 512 MiB they were measured on the stock engine.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Sectors from this size on have eleven layers and ten partitions.
const LARGE: u64 = 32 * GIB;

/// Window of the parents file, 56 bytes for each node of 32 bytes, that stays in memory.
fn parents(sector: u64) -> u64 {
    (sector / 32).saturating_mul(56).min(GIB)
}

/// What a process of ours takes before it does anything.
const PROCESS: u64 = 64 * MIB;

/// Memory of `n` sectors in PC1 of one pod, bytes.
pub fn pc1(sector: u64, n: u32) -> u64 {
    if n == 0 {
        return 0;
    }
    let n = u64::from(n);
    let layers = sector.saturating_mul(3 * n + 1) / 2;
    layers
        .saturating_add(parents(sector))
        .saturating_add(PROCESS)
}

/// The same of sectors that share cores: each holds both its layers whole at the same time.
pub fn pc1_in_step(sector: u64, n: u32) -> u64 {
    if n == 0 {
        return 0;
    }
    let layers = sector.saturating_mul(2).saturating_mul(u64::from(n));
    layers
        .saturating_add(parents(sector))
        .saturating_add(PROCESS)
}

/// The largest number of sectors in PC1 that `memory` bytes hold.
pub fn pc1_max(sector: u64, memory: u64) -> u32 {
    let fixed = parents(sector) + PROCESS;
    let layers = memory.saturating_sub(fixed).saturating_mul(2) / sector.max(1);
    u32::try_from(layers.saturating_sub(1) / 3).unwrap_or(u32::MAX)
}

/// Memory of one `AddPiece`, bytes.
pub fn add_piece(sector: u64) -> u64 {
    (sector / 8).min(4 * GIB) + PROCESS
}

/// Memory of one PC2, bytes.
pub fn pc2(sector: u64) -> u64 {
    if sector >= LARGE {
        sector
    } else {
        sector.saturating_mul(3) + PROCESS
    }
}

/// Memory of one C1, bytes.
pub fn c1(sector: u64) -> u64 {
    sector.min(GIB) + PROCESS
}

/// Memory of one C2, bytes: all partitions at once.
pub fn c2(sector: u64) -> u64 {
    if sector >= LARGE {
        191 * GIB
    } else if sector >= 512 * MIB {
        11 * GIB
    } else {
        2_700 * MIB
    }
}

/// Memory of a GPU that one PC2 or C2 takes, bytes.
pub fn gpu(sector: u64) -> u64 {
    if sector >= LARGE { 10 * GIB } else { 2 * GIB }
}

/// Scratch space that a sector holds at most on its way: unsealed and sealed copies, layers, trees. Bytes.
pub fn scratch(sector: u64) -> u64 {
    let layers = if sector >= LARGE { 11 } else { 2 };
    // Tree D takes two sectors, tree C 8/7, tree R last a fraction of that.
    let tenths = 10 * (2 + layers + 2) + 12;
    (sector / 10).saturating_mul(tenths) + 16 * KIB
}
