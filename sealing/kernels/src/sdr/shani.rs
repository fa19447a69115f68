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

use std::arch::x86_64::{__m128i, _MM_HINT_T0, _mm_prefetch, _mm_setzero_si128};

use super::{
    kernel::{AHEAD, Labels, Span, index},
    portable,
    sha256::{
        Schedules, State, add, compress, compress_again, compress_and_expand, expand, finish,
        initial, rounds, schedule,
    },
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

/// After the last parent: the end mark and the length of a whole label's message, 1248 bytes.
static PADDING: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 0x80;
    bytes[30] = 0x27;
    bytes
};

/// Labels a span whose sizes [`super::Kernel::label`] has checked.
pub(super) fn label<const L: usize>(span: &mut Span<'_, L>) {
    // SAFETY: `Kernel::sha` makes the only value that leads here, after it asked the processor for
    // the three features.
    unsafe { label_with_sha(span) }
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
fn label_with_sha<const L: usize>(span: &mut Span<'_, L>) {
    let mut schedules = [Schedules::<L>::empty(); BLOCKS + 1];
    let ids = span.replica_ids;
    let mut headers = Headers::new(ids, span.layer);
    let mut done = 0;
    if span.first == 0 && span.count > 0 {
        span.current[0] = std::array::from_fn(|l| portable::root(&ids[l], span.layer));
        done = 1;
    }
    let number = |done: usize| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the span lies in a layer of at most 2^32 nodes"
        )]
        let done = done as u32;
        span.first.wrapping_add(done)
    };
    // One lane: the next node's, of which the first is hashed here.
    let mut next = Header::new(&ids[0], span.layer, number(done));
    if L == 1 {
        (0..16).for_each(|group| next.four_rounds(group));
    }
    while done < span.count {
        let batch = if L == 1 {
            [[next.state(); L]; HEADERS]
        } else {
            headers.hash(number(done))
        };
        let of_batch = if L == 1 { 1 } else { HEADERS };
        for state in batch.iter().take(of_batch.min(span.count - done)) {
            if L == 1 {
                next = Header::new(&ids[0], span.layer, number(done + 1));
            }
            let at = span.first as usize + done;
            let parents = Parents::new(&span.rows[done], span);
            // At the end of a layer there is nothing to fetch but what is there.
            let later = span.rows.get(done + AHEAD).unwrap_or(&span.rows[done]);
            let later = Parents::new(later, span);
            let label = if span.layer == 1 {
                label_node::<L, BLOCKS_1>(*state, &parents, &later, &mut schedules, &mut next)
            } else {
                label_node::<L, BLOCKS>(*state, &parents, &later, &mut schedules, &mut next)
            };
            span.current[at] = label;
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
    schedules: &mut [Schedules<L>; BLOCKS + 1],
    next: &mut Header<'_>,
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
    let mut again = OWN;
    if L == 1 {
        // One lane leaves half of the rounds' unit idle: the next node's header fits in.
        compress_again(&mut state, &schedules[0], |group| next.half(0, group));
        compress_again(&mut state, &schedules[1], |group| next.half(1, group));
        again += 2;
    }
    for block in again..REPEATED {
        compress_again(&mut state, &schedules[block % OWN], |_| {});
        later.fetch_after::<OWN>(block);
    }
    if L < 4 {
        compress::<L, false>(&mut state, last, &padding, &mut schedules[OWN]);
    } else {
        compress_again(&mut state, &schedules[OWN], |_| {});
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
        let mut unused = Schedules::empty();
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

/// The first block of one node in one lane, hashed four rounds at a time.
struct Header<'a> {
    low: &'a [u8; 32],
    high: [u8; 32],
    words: [__m128i; 4],
    state: State,
}

impl<'a> Header<'a> {
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn new(replica_id: &'a [u8; 32], layer: u32, node: u32) -> Self {
        let mut high = [0; 32];
        high[..4].copy_from_slice(&layer.to_be_bytes());
        high[4..12].copy_from_slice(&u64::from(node).to_be_bytes());
        Self {
            low: replica_id,
            high,
            words: [_mm_setzero_si128(); 4],
            state: initial(),
        }
    }

    /// The next four rounds; groups come in their order.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn four_rounds(&mut self, group: usize) {
        let words = schedule(&mut self.words, group, self.low, &self.high);
        rounds(&mut self.state, words);
    }

    /// The first or the second half of it, over 16 groups of others' rounds.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn half(&mut self, half: usize, group: usize) {
        if group % 2 == 1 {
            self.four_rounds(8 * half + group / 2);
        }
    }

    /// The chaining value after all of them.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn state(&self) -> State {
        let mut state = [self.state];
        add(&mut state, &[initial()]);
        state[0]
    }
}
