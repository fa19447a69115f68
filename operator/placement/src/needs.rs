//! How much memory, GPU memory and scratch space the work on a sector takes, by sector size.
//!
//! Sources: PC1 holds two layers of a sector, of which the one in work grows. In a pool the sectors keep each other apart, and
//! n of them hold `S·(3n+1)/2` (docs/decisions/0026). Beside its layers a sector has segments on their way to the disk, and
//! all have a window of the parents file, which is streamed. The other figures for 32 GiB are those that lotus's storage
//! resource table and long practice use (PC2 30 GiB, C1 1 GiB, C2 205 GB for ten partitions at once); for 2 KiB and
//! 512 MiB they were measured on the stock engine.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Sectors from this size on have eleven layers and ten partitions.
const LARGE: u64 = 32 * GIB;

/// Window of the parents file, 56 bytes for each node of 32 bytes, that stays in memory.
fn parents(sector: u64) -> u64 {
    (sector / 32).saturating_mul(56).min(GIB)
}

/// What a process of ours takes beside what it works on: itself, and 32 MiB of a sector's labels on their way to the disk.
const PROCESS: u64 = 64 * MIB;

/// Memory of one layer of a sector, bytes: whole pages.
pub fn layer(sector: u64) -> u64 {
    sector.div_ceil(4 * KIB).saturating_mul(4 * KIB)
}

/// The most that layers of `n` sectors in PC1 take, bytes: two each.
pub fn layers(sector: u64, n: u32) -> u64 {
    layer(sector).saturating_mul(2 * u64::from(n))
}

/// Pool in which the layers of `n` sectors have room and seldom wait, bytes, when `per_core` at most are at the same place:
/// `S·(3n+1)/2` when each has a core of its own.
pub fn layers_in_pool(sector: u64, n: u32, per_core: u32) -> u64 {
    let together = per_core.max(1).min(n);
    let halves = 3 * u64::from(n) + u64::from(together);
    layer(sector).saturating_mul(halves) / 2
}

/// What `n` sectors in PC1 of one pod take beside their layers, bytes.
pub fn pc1_beside(sector: u64, n: u32) -> u64 {
    if n == 0 {
        return 0;
    }
    let processes = PROCESS.saturating_mul(u64::from(n));
    parents(sector).saturating_add(processes)
}

/// How many sectors in PC1 a pod with so many bytes of memory holds when they share a pool.
pub fn pool_sectors(sector: u64, memory: u64) -> u32 {
    let one = layer(sector);
    let halves = memory.saturating_sub(parents(sector)).saturating_mul(2);
    let each = one.saturating_mul(3).saturating_add(2 * PROCESS);
    u32::try_from(halves.saturating_sub(one) / each).unwrap_or(u32::MAX)
}

/// Bytes of the pool of a pod with so many bytes of memory: for all the sectors that it holds, and 0 when it holds none.
pub fn pool(sector: u64, memory: u64) -> u64 {
    layers_in_pool(sector, pool_sectors(sector, memory), 1)
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
