//! Labels with the SHA instructions of x86, several sectors in lock step.
//!
//! A label is the end of a chain: each block of SHA-256 waits for the one before, and the first
//! parent is the label just made. So one sector alone leaves most of the core idle, and several
//! independent ones are hashed side by side. A node's parents are repeated 2.6 times (6 times in
//! layer 1), and so are the message schedules that SHA-256 makes of them: they are kept.
//!
//! No AVX here. The SHA instructions have the old encoding, and on Intel each of them stalls while
//! the upper halves of vector registers are in use (measured: 150 times slower).
//!
//! # Unsafe code
//! Loads and stores of 16 bytes through references that are at least as long, and the
//! call from code that knows by [`super::Kernel::sha`] that the processor has the instructions.
#![expect(
    unsafe_code,
    reason = "vector loads and stores; each has its argument, and `portable` is the twin"
)]

use std::arch::x86_64::{
    __m128i, _MM_HINT_T0, _mm_add_epi32, _mm_alignr_epi8, _mm_and_si128, _mm_blend_epi16,
    _mm_loadu_si128, _mm_prefetch, _mm_set_epi64x, _mm_setzero_si128, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    _mm_storeu_si128,
};

use super::{
    kernel::{AHEAD, Labels, Span, index},
    portable,
};
use crate::graph::{BASE, DEGREE, Row};

#[cfg(target_feature = "avx")]
compile_error!(
    "filstar-kernels must be compiled without AVX for all functions (no target-cpu=native, no \
     +avx): mixed with SHA instructions it makes Intel processors 150 times slower. Kernels that \
     gain by it enable it themselves"
);

/// Nodes whose first blocks are hashed together: they do not wait for labels.
const HEADERS: usize = 4;
/// Blocks of two parents each.
const BLOCKS: usize = DEGREE / 2;
const BLOCKS_1: usize = BASE / 2;
/// Blocks of two parents in a label, repeated ones too; one of a parent and the padding follows.
const REPEATED: usize = 18;

/// FIPS 180-4, section 4.2.2.
static K: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// FIPS 180-4, section 5.3.3: words F E B A and H G D C.
static INITIAL: [[u32; 4]; 2] = [
    [0x9b05_688c, 0x510e_527f, 0xbb67_ae85, 0x6a09_e667],
    [0x5be0_cd19, 0x1f83_d9ab, 0xa54f_f53a, 0x3c6e_f372],
];

/// After the last parent: the end mark and the length of a whole label's message, 1248 bytes.
static PADDING: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 0x80;
    bytes[30] = 0x27;
    bytes
};

/// A chaining value in the order that the instructions want: words A B E F and C D G H.
#[derive(Clone, Copy)]
struct State {
    abef: __m128i,
    cdgh: __m128i,
}

/// A block's message schedule with the round constants added, four words in each.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Schedule([__m128i; 16]);

/// Labels a span whose sizes [`super::Kernel::label`] has checked.
pub(super) fn label<const L: usize>(span: &mut Span<'_, L>) {
    // SAFETY: `Kernel::sha` makes the only value that leads here, after it asked the processor for
    // the three features.
    unsafe { label_with_sha(span) }
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
fn label_with_sha<const L: usize>(span: &mut Span<'_, L>) {
    let empty = Schedule([_mm_setzero_si128(); 16]);
    let mut schedules = [[empty; L]; BLOCKS + 1];
    let mut headers = Headers::new(span.replica_ids, span.layer);
    let mut done = 0;
    if span.first == 0 && span.count > 0 {
        span.current[0] = std::array::from_fn(|l| portable::root(&span.replica_ids[l], span.layer));
        done = 1;
    }
    while done < span.count {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the span lies in a layer of at most 2^32 nodes"
        )]
        let node = span.first + done as u32;
        let batch = headers.hash(node);
        for state in batch.iter().take(span.count - done) {
            let at = span.first as usize + done;
            let parents = Parents::new(&span.rows[done], span);
            // At the end of a layer there is nothing to fetch but what is there.
            let later = span.rows.get(done + AHEAD).unwrap_or(&span.rows[done]);
            let later = Parents::new(later, span);
            span.current[at] = if span.layer == 1 {
                label_node::<L, BLOCKS_1>(*state, &parents, &later, &mut schedules)
            } else {
                label_node::<L, BLOCKS>(*state, &parents, &later, &mut schedules)
            };
            done += 1;
        }
    }
}

/// The parents of a node, and where their labels are.
struct Parents<'a, const L: usize> {
    row: &'a Row,
    current: &'a [Labels<L>],
    previous: &'a [Labels<L>],
}

impl<'a, const L: usize> Parents<'a, L> {
    #[inline]
    fn new(row: &'a Row, span: &'a Span<'_, L>) -> Self {
        Self {
            row,
            current: span.current,
            previous: span.previous,
        }
    }

    #[inline]
    fn label(&self, parent: usize) -> &'a Labels<L> {
        let layer = if parent < BASE {
            self.current
        } else {
            self.previous
        };
        &layer[index(self.row[parent], self.current.len() - 1)]
    }

    /// Asks for the memory of the parent that is fetched after a block. One lane waits for its own rounds
    /// most of the time, so all are asked for at once; with more lanes that would keep the rounds waiting,
    /// since each may want its page looked up: they are asked for one by one.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn fetch_after<const OWN: usize>(&self, block: usize) {
        // The first parent is the node before: nobody need ask for it.
        match (L, block) {
            (1, 0) => (1..2 * OWN).for_each(|parent| self.fetch(parent)),
            (1, _) => {}
            _ if block + 1 < 2 * OWN => self.fetch(block + 1),
            _ => {}
        }
    }

    #[inline]
    fn fetch(&self, parent: usize) {
        for pair in self.label(parent).chunks(2) {
            // SAFETY: asking for memory changes nothing, wherever the reference leads.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(pair.as_ptr().cast()) }
        }
    }
}

/// A node: its parents, two in each of `OWN` blocks, until there are 36 of them, and one more.
/// Meanwhile the memory of a later one's is fetched.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn label_node<const L: usize, const OWN: usize>(
    mut state: [State; L],
    parents: &Parents<'_, L>,
    later: &Parents<'_, L>,
    schedules: &mut [[Schedule; L]; BLOCKS + 1],
) -> Labels<L> {
    let parent = |k: usize| parents.label(k);
    let padding = [PADDING; L];
    let last = parent(2 * REPEATED % (2 * OWN));
    if L < 4 {
        for (block, kept) in schedules[..OWN].iter_mut().enumerate() {
            compress::<L, true>(&mut state, parent(2 * block), parent(2 * block + 1), kept);
            later.fetch_after::<OWN>(block);
        }
    } else {
        // States and schedules of four lanes do not fit into the registers: schedules are made lane
        // by lane while earlier rounds run, except that of the label made just now.
        expand(parent(2), parent(3), &mut schedules[1]);
        compress::<L, true>(&mut state, parent(0), parent(1), &mut schedules[0]);
        later.fetch_after::<OWN>(0);
        for block in 1..OWN {
            let (made, next) = schedules.split_at_mut(block + 1);
            let (low, high) = if block + 1 < OWN {
                (parent(2 * block + 2), parent(2 * block + 3))
            } else {
                (last, &padding)
            };
            compress_and_expand(&mut state, &made[block], low, high, &mut next[0]);
            later.fetch_after::<OWN>(block);
        }
    }
    for block in OWN..REPEATED {
        compress_again(&mut state, &schedules[block % OWN]);
        later.fetch_after::<OWN>(block);
    }
    if L < 4 {
        compress::<L, false>(&mut state, last, &padding, &mut schedules[OWN]);
    } else {
        compress_again(&mut state, &schedules[OWN]);
    }
    finish(&state)
}

/// The first blocks of nodes: replica id, layer, node number.
struct Headers<const L: usize> {
    low: [[u8; 32]; L],
    layer: u32,
}

impl<const L: usize> Headers<L> {
    fn new(replica_ids: &[[u8; 32]; L], layer: u32) -> Self {
        Self {
            low: *replica_ids,
            layer,
        }
    }

    /// Chaining values of this node and of those after it.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn hash(&mut self, first: u32) -> [[State; L]; HEADERS] {
        let mut states = [[initial(); L]; HEADERS];
        let mut high = [[[0; 32]; HEADERS]; L];
        let mut unused = [Schedule([_mm_setzero_si128(); 16]); HEADERS];
        for lane in 0..L {
            let mut batch = [initial(); HEADERS];
            for (node, bytes) in (u64::from(first)..).zip(&mut high[lane]) {
                bytes[..4].copy_from_slice(&self.layer.to_be_bytes());
                bytes[4..12].copy_from_slice(&node.to_be_bytes());
            }
            compress::<HEADERS, false>(
                &mut batch,
                &[self.low[lane]; HEADERS],
                &high[lane],
                &mut unused,
            );
            for (states, state) in states.iter_mut().zip(batch) {
                states[lane] = state;
            }
        }
        states
    }
}

/// One block of each lane, its message the two halves. With `KEEP` the schedules are left in `kept`.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn compress<const L: usize, const KEEP: bool>(
    states: &mut [State; L],
    low: &[[u8; 32]; L],
    high: &[[u8; 32]; L],
    kept: &mut [Schedule; L],
) {
    let before = *states;
    let mut w = [[_mm_setzero_si128(); 4]; L];
    // Lane by lane within four rounds: neighbours in the program do not wait for each other.
    macro_rules! four_rounds {
        ($group:literal, $lane:ident) => {
            let words = _mm_add_epi32(w[$lane][$group % 4], four(&K[$group]));
            if KEEP {
                kept[$lane].0[$group] = words;
            }
            rounds(&mut states[$lane], words);
        };
    }
    macro_rules! message {
        ($($group:literal from $half:ident),+) => {$(
            for lane in 0..L {
                w[lane][$group] = words($half[lane].as_chunks().0, $group % 2);
                four_rounds!($group, lane);
            }
        )+};
    }
    macro_rules! expanded {
        ($($group:literal)+) => {$(
            for lane in 0..L {
                let [w0, w1, w2, w3]: [__m128i; 4] =
                    std::array::from_fn(|i| w[lane][($group + i) % 4]);
                let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8::<4>(w3, w2));
                w[lane][$group % 4] = _mm_sha256msg2_epu32(sum, w3);
                four_rounds!($group, lane);
            }
        )+};
    }
    message!(0 from low, 1 from low, 2 from high, 3 from high);
    expanded!(4 5 6 7 8 9 10 11 12 13 14 15);
    add(states, &before);
}

/// One block of each lane whose schedule was kept: nothing but rounds.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn compress_again<const L: usize>(states: &mut [State; L], kept: &[Schedule; L]) {
    let before = *states;
    macro_rules! groups {
        ($($group:literal)+) => {$(
            for lane in 0..L {
                rounds(&mut states[lane], kept[lane].0[$group]);
            }
        )+};
    }
    groups!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    add(states, &before);
}

/// [`compress_again`] with schedules that are there, and meanwhile those of another block. Lane after
/// lane of the latter: the registers hold no more of them beside the states.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn compress_and_expand<const L: usize>(
    states: &mut [State; L],
    kept: &[Schedule; L],
    low: &[[u8; 32]; L],
    high: &[[u8; 32]; L],
    next: &mut [Schedule; L],
) {
    let before = *states;
    let mut w = [_mm_setzero_si128(); 4];
    macro_rules! groups {
        ($($group:literal)+) => {$(
            for i in 0..L {
                rounds(&mut states[i], kept[i].0[$group]);
                let (lane, group) = (($group * L + i) / 16, ($group * L + i) % 16);
                next[lane].0[group] = schedule(&mut w, group, &low[lane], &high[lane]);
            }
        )+};
    }
    groups!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    add(states, &before);
}

/// Schedules of a block of each lane.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn expand<const L: usize>(low: &[[u8; 32]; L], high: &[[u8; 32]; L], next: &mut [Schedule; L]) {
    let mut w = [[_mm_setzero_si128(); 4]; L];
    for group in 0..16 {
        for lane in 0..L {
            next[lane].0[group] = schedule(&mut w[lane], group, &low[lane], &high[lane]);
        }
    }
}

/// The next four words of a schedule, of which `w` holds the sixteen before.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn schedule(w: &mut [__m128i; 4], group: usize, low: &[u8; 32], high: &[u8; 32]) -> __m128i {
    w[group % 4] = match group {
        0 | 1 => words(low.as_chunks().0, group),
        2 | 3 => words(high.as_chunks().0, group - 2),
        _ => {
            let [w0, w1, w2, w3]: [__m128i; 4] = std::array::from_fn(|i| w[(group + i) % 4]);
            let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8::<4>(w3, w2));
            _mm_sha256msg2_epu32(sum, w3)
        }
    };
    _mm_add_epi32(w[group % 4], four(&K[group]))
}

/// Four rounds.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn rounds(state: &mut State, words: __m128i) {
    state.cdgh = _mm_sha256rnds2_epu32(state.cdgh, state.abef, words);
    let upper = _mm_shuffle_epi32::<0b00_00_11_10>(words);
    state.abef = _mm_sha256rnds2_epu32(state.abef, state.cdgh, upper);
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn add<const L: usize>(states: &mut [State; L], before: &[State; L]) {
    for (state, before) in states.iter_mut().zip(before) {
        state.abef = _mm_add_epi32(state.abef, before.abef);
        state.cdgh = _mm_add_epi32(state.cdgh, before.cdgh);
    }
}

/// Four words of a message, which are big-endian.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn words(quarters: &[[u8; 16]], at: usize) -> __m128i {
    // SAFETY: the reference is to 16 bytes, and the load wants no alignment.
    let raw = unsafe { _mm_loadu_si128(quarters[at].as_ptr().cast()) };
    _mm_shuffle_epi8(raw, reverse())
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn four(words: &[u32; 4]) -> __m128i {
    // SAFETY: the reference is to four words of four bytes, and the load wants no alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

/// Turns the bytes of each word round.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn reverse() -> __m128i {
    _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203)
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn initial() -> State {
    State {
        abef: four(&INITIAL[0]),
        cdgh: four(&INITIAL[1]),
    }
}

/// The labels: digests without the two bits that the field has no room for.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn finish<const L: usize>(states: &[State; L]) -> Labels<L> {
    let room = _mm_set_epi64x(0x3fff_ffff_ffff_ffff, -1);
    let mut labels = [[0; 32]; L];
    for (label, state) in labels.iter_mut().zip(states) {
        let feba = _mm_shuffle_epi32::<0b00_01_10_11>(state.abef);
        let dchg = _mm_shuffle_epi32::<0b10_11_00_01>(state.cdgh);
        let dcba = _mm_blend_epi16::<0b1111_0000>(feba, dchg);
        let hgfe = _mm_alignr_epi8::<8>(dchg, feba);
        let (halves, _) = label.as_chunks_mut();
        store(&mut halves[0], _mm_shuffle_epi8(dcba, reverse()));
        let high = _mm_shuffle_epi8(hgfe, reverse());
        store(&mut halves[1], _mm_and_si128(high, room));
    }
    labels
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn store(to: &mut [u8; 16], value: __m128i) {
    // SAFETY: the reference is to 16 bytes that nobody else sees, and the store wants no alignment.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), value) }
}
