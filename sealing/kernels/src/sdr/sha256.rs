//! SHA-256 with the SHA instructions of x86, several lanes in lock step: what a label is hashed with.
//!
//! # Unsafe code
//! Loads and stores of 16 bytes through references that are at least as long, and a statement of assembler
//! without an instruction.
#![expect(
    unsafe_code,
    reason = "vector loads and stores; each has its argument, and `portable` is the twin"
)]

use std::arch::{
    asm,
    x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_and_si128, _mm_blend_epi16, _mm_loadu_si128,
        _mm_set_epi64x, _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32,
        _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
    },
};

use super::kernel::Labels;

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

/// A chaining value in the order that the instructions want: words A B E F and C D G H.
#[derive(Clone, Copy)]
pub(super) struct State {
    abef: __m128i,
    cdgh: __m128i,
}

/// Message schedules of a block of each lane, with the round constants added: four words of all lanes, and
/// so on.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Schedules<const L: usize>([[__m128i; L]; 16]);

impl<const L: usize> Schedules<L> {
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    pub(super) fn empty() -> Self {
        Self([[_mm_setzero_si128(); L]; 16])
    }
}

/// One block of each lane, its message the two halves. With `KEEP` the schedules are left in `kept`.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn compress<const L: usize, const KEEP: bool>(
    states: &mut [State; L],
    low: &[[u8; 32]; L],
    high: &[[u8; 32]; L],
    kept: &mut Schedules<L>,
) {
    let before = *states;
    let mut w = [[_mm_setzero_si128(); 4]; L];
    // Lane by lane within four rounds: neighbours in the program do not wait for each other.
    macro_rules! four_rounds {
        ($group:literal, $lane:ident) => {
            let words = _mm_add_epi32(w[$lane][$group % 4], four(&K[$group]));
            if KEEP {
                kept.0[$group][$lane] = words;
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

/// One block of each lane whose schedule was kept: nothing but rounds, and what is done beside them after
/// each four.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn compress_again<const L: usize>(
    states: &mut [State; L],
    kept: &Schedules<L>,
    mut beside: impl FnMut(usize),
) {
    let before = *states;
    macro_rules! groups {
        ($($group:literal)+) => {$(
            for lane in 0..L {
                rounds(&mut states[lane], kept.0[$group][lane]);
                in_turn::<L>(&mut states[lane]);
            }
            beside($group);
        )+};
    }
    groups!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    add(states, &before);
}

/// [`compress_again`] with schedules that are there, and meanwhile those of another block. Lane after
/// lane of the latter: the registers hold no more of them beside the states.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn compress_and_expand<const L: usize>(
    states: &mut [State; L],
    kept: &Schedules<L>,
    low: &[[u8; 32]; L],
    high: &[[u8; 32]; L],
    next: &mut Schedules<L>,
) {
    let before = *states;
    let mut w = [_mm_setzero_si128(); 4];
    macro_rules! groups {
        ($($group:literal)+) => {$(
            for i in 0..L {
                rounds(&mut states[i], kept.0[$group][i]);
                in_turn::<L>(&mut states[i]);
                let (lane, group) = (($group * L + i) / 16, ($group * L + i) % 16);
                next.0[group][lane] = schedule(&mut w, group, &low[lane], &high[lane]);
            }
        )+};
    }
    groups!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    add(states, &before);
}

/// Schedules of a block of each lane.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn expand<const L: usize>(
    low: &[[u8; 32]; L],
    high: &[[u8; 32]; L],
    next: &mut Schedules<L>,
) {
    let mut w = [[_mm_setzero_si128(); 4]; L];
    for group in 0..16 {
        for lane in 0..L {
            next.0[group][lane] = schedule(&mut w[lane], group, &low[lane], &high[lane]);
        }
    }
}

/// The next four words of a schedule, of which `w` holds the sixteen before.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn schedule(
    w: &mut [__m128i; 4],
    group: usize,
    low: &[u8; 32],
    high: &[u8; 32],
) -> __m128i {
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
pub(super) fn rounds(state: &mut State, words: __m128i) {
    state.cdgh = _mm_sha256rnds2_epu32(state.cdgh, state.abef, words);
    let upper = _mm_shuffle_epi32::<0b00_00_11_10>(words);
    state.abef = _mm_sha256rnds2_epu32(state.abef, state.cdgh, upper);
}

/// Keeps lanes in turn. The compiler would put all rounds of a lane together, which takes fewer
/// registers; the processor does not look so far ahead that it finds the next lane, and waits.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn in_turn<const L: usize>(state: &mut State) {
    if L > 1 {
        // SAFETY: this is no instruction, only a place that rounds before and after it do not cross.
        unsafe {
            asm!(
                "/* {} {} */",
                inout(xmm_reg) state.abef,
                inout(xmm_reg) state.cdgh,
                options(nomem, nostack, preserves_flags)
            );
        }
    }
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn add<const L: usize>(states: &mut [State; L], before: &[State; L]) {
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
pub(super) fn initial() -> State {
    State {
        abef: four(&INITIAL[0]),
        cdgh: four(&INITIAL[1]),
    }
}

/// The labels: digests without the two bits that the field has no room for.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn finish<const L: usize>(states: &[State; L]) -> Labels<L> {
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
