//! Poseidon eight (or sixteen) at a time with AVX-512 IFMA: five limbs of 52 bits, one hash per lane.
//!
//! A number s is kept as λ·s mod p, with the same λ for the whole state. S-boxes and matrices change λ
//! in a known way, and the constants are made for it. So full rounds may use the matrix times the
//! least common multiple of its denominators: that has elements of one limb, which makes a product
//! five times cheaper, and only one limb has to be cleared after it. In partial rounds λ is
//! R = 2^260 (Montgomery form).
//!
//! Sums are reduced lazily. With ρ = p/R < 0.0283:
//! - [`reduce`] turns Σ aᵢ·bᵢ + R·c into less than (Σ aᵢbᵢ/p²·ρ + 1 + c/p)·p, and c costs nothing;
//! - so an S-box of less than 9p gives less than 1.4p;
//! - a full round turns that into less than 12·1.4p·2^44/2^52 + 2p < 2.1p, its constant included;
//! - in partial rounds each element but the first grows by less than (1.4·[`BLOCK`]·ρ + 1)p < 1.4p a
//!   block, in 12 blocks to less than 20p, and the first is less than 12·20ρp + 2.5p < 9p.
//!
//! All of that is far below 2^260 > 35p, so the five limbs hold it; and accumulators, which take at
//! most 10·(12 + [`BLOCK`] + 1) products of 52 bits a limb, are below 2^61.

mod scaled;

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_set_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srli_epi64,
};

use super::field::{self, MINUS_P_INVERSE, P};
use scaled::Block;
pub(super) use scaled::Constants;

/// Hashes that one vector holds.
pub(super) const LANES: usize = 8;

/// Partial rounds between two updates of the elements that have no S-box.
const BLOCK: usize = 5;

const LIMB_BITS: u32 = 52;
const LIMB: u64 = (1 << LIMB_BITS) - 1;
const LIMBS: usize = 5;
const R_BITS: u32 = 260;

/// A number in limbs of 52 bits.
type Limbs = [u64; LIMBS];

/// Eight numbers, limb by limb.
type Element = [__m512i; LIMBS];

/// Sums of products that are not reduced yet.
type Wide = [__m512i; 2 * LIMBS];

/// Sums of products with numbers of one limb.
type Narrow = [__m512i; LIMBS + 1];

/// Whether this processor has what [`hash`] needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")
}

fn limbs(x: [u64; 4]) -> Limbs {
    [
        x[0] & LIMB,
        (x[0] >> 52 | x[1] << 12) & LIMB,
        (x[1] >> 40 | x[2] << 24) & LIMB,
        (x[2] >> 28 | x[3] << 36) & LIMB,
        x[3] >> 16,
    ]
}

fn words(x: Limbs) -> [u64; 4] {
    [
        x[0] | x[1] << 52,
        x[1] >> 12 | x[2] << 40,
        x[2] >> 24 | x[3] << 28,
        x[3] >> 36 | x[4] << 16,
    ]
}

/// The digests of `W` times eight hashes of `T − 1` inputs each. `input(hash, element)` must be
/// below p, in little-endian words; so are the digests.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn hash<const T: usize, const W: usize>(
    c: &Constants<T>,
    input: impl Fn(usize, usize) -> [u64; 4],
) -> [[[u64; 4]; LANES]; W] {
    let mut states = [[[_mm512_setzero_si512(); LIMBS]; T]; W];
    for (w, state) in states.iter_mut().enumerate() {
        for (i, element) in state.iter_mut().skip(1).enumerate() {
            let mut lanes = [[0; LIMBS]; LANES];
            for (lane, out) in lanes.iter_mut().enumerate() {
                *out = limbs(input(w * LANES + lane, i));
            }
            *element = gather(&lanes);
        }
        add_key(state, &c.start);
    }
    permute(c, &mut states);
    let mut out = [[[0; 4]; LANES]; W];
    let leave = broadcast(&c.leave);
    for (state, out) in states.iter().zip(&mut out) {
        // Less than (2.1ρ + 1)p.
        let lanes = scatter(&multiply(&state[1], &leave));
        for (lane, out) in lanes.into_iter().zip(out) {
            *out = field::reduced(&words(lane));
        }
    }
    out
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn permute<const T: usize, const W: usize>(c: &Constants<T>, states: &mut [[Element; T]; W]) {
    for key in &c.first {
        s_boxes(states);
        full_round(states, &c.mds, key);
    }
    s_boxes(states);
    dense(states, &c.pre);
    for block in &c.blocks {
        partial_rounds(states, block);
    }
    for state in states.iter_mut() {
        add_key(state, &c.middle);
    }
    for key in &c.last {
        s_boxes(states);
        full_round(states, &c.mds, key);
    }
    s_boxes(states);
    // Only element 1 is the digest.
    let digests = times_small_row(states, &c.mds[1]);
    for (state, digest) in states.iter_mut().zip(digests) {
        state[1] = reduce_narrow(digest);
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn add_key<const T: usize>(state: &mut [Element; T], key: &[Limbs; T]) {
    for (element, constant) in state.iter_mut().zip(key) {
        *element = carried(sum(element, &broadcast(constant)));
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn s_boxes<const T: usize, const W: usize>(states: &mut [[Element; T]; W]) {
    for element in states.as_flattened_mut() {
        *element = s_box(element);
    }
}

/// The matrix of whole numbers, and the key of the next round.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn full_round<const T: usize, const W: usize>(
    states: &mut [[Element; T]; W],
    matrix: &[[u64; T]; T],
    next: &[Limbs; T],
) {
    let before = *states;
    for i in 0..T {
        let key = broadcast(&next[i]);
        let mut narrow = times_small_row(&before, &matrix[i]);
        for (state, narrow) in states.iter_mut().zip(&mut narrow) {
            for (limb, key) in narrow[1..].iter_mut().zip(&key) {
                *limb = _mm512_add_epi64(*limb, *key);
            }
            state[i] = reduce_narrow(*narrow);
        }
    }
}

/// Row of whole numbers times state.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn times_small_row<const T: usize, const W: usize>(
    states: &[[Element; T]; W],
    row: &[u64; T],
) -> [Narrow; W] {
    let mut narrow = [[_mm512_setzero_si512(); LIMBS + 1]; W];
    for i in 0..T {
        let factor = _mm512_set1_epi64(row[i].cast_signed());
        for (narrow, state) in narrow.iter_mut().zip(states) {
            for k in 0..LIMBS {
                narrow[k] = _mm512_madd52lo_epu64(narrow[k], state[i][k], factor);
                narrow[k + 1] = _mm512_madd52hi_epu64(narrow[k + 1], state[i][k], factor);
            }
        }
    }
    narrow
}

/// A matrix of any numbers.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn dense<const T: usize, const W: usize>(states: &mut [[Element; T]; W], matrix: &[[Limbs; T]; T]) {
    let before = *states;
    for i in 0..T {
        let wide = times_row(&before, &matrix[i]);
        for (state, wide) in states.iter_mut().zip(wide) {
            state[i] = reduce(wide);
        }
    }
}

/// Row times state.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn times_row<const T: usize, const W: usize>(
    states: &[[Element; T]; W],
    row: &[Limbs; T],
) -> [Wide; W] {
    let mut wide = [[_mm512_setzero_si512(); 2 * LIMBS]; W];
    for i in 0..T {
        let factor = broadcast(&row[i]);
        for (wide, state) in wide.iter_mut().zip(states) {
            accumulate(wide, &state[i], &factor);
        }
    }
    wide
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn partial_rounds<const T: usize, const W: usize>(
    states: &mut [[Element; T]; W],
    block: &Block<T>,
) {
    let mut xs = [[[_mm512_setzero_si512(); LIMBS]; W]; BLOCK];
    for (at, round) in block.rounds.iter().enumerate() {
        let constant = broadcast(&round.constant);
        for (x, state) in xs[at].iter_mut().zip(states.iter_mut()) {
            *x = s_box(&carried(sum(&state[0], &constant)));
            state[0] = *x;
        }
        let mut wide = times_row(states, &round.row);
        for (earlier, factor) in xs.iter().zip(&round.earlier) {
            let factor = broadcast(factor);
            for (wide, x) in wide.iter_mut().zip(earlier) {
                accumulate(wide, x, &factor);
            }
        }
        for (state, wide) in states.iter_mut().zip(wide) {
            state[0] = reduce(wide);
        }
    }
    for i in 1..T {
        let mut wide = [[_mm512_setzero_si512(); 2 * LIMBS]; W];
        for (round, xs) in block.rounds.iter().zip(&xs) {
            let factor = broadcast(&round.column[i]);
            for (wide, x) in wide.iter_mut().zip(xs) {
                accumulate(wide, x, &factor);
            }
        }
        for (state, wide) in states.iter_mut().zip(&mut wide) {
            add_reduced(wide, &state[i]);
            state[i] = reduce(*wide);
        }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn s_box(x: &Element) -> Element {
    let square = squared(x);
    multiply(&squared(&square), x)
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn multiply(a: &Element, b: &Element) -> Element {
    let mut wide = [_mm512_setzero_si512(); 2 * LIMBS];
    accumulate(&mut wide, a, b);
    reduce(wide)
}

/// a², each product of two different limbs once and doubled.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn squared(a: &Element) -> Element {
    let mut wide = [_mm512_setzero_si512(); 2 * LIMBS];
    for i in 0..LIMBS {
        for j in i + 1..LIMBS {
            wide[i + j] = _mm512_madd52lo_epu64(wide[i + j], a[i], a[j]);
            wide[i + j + 1] = _mm512_madd52hi_epu64(wide[i + j + 1], a[i], a[j]);
        }
    }
    for limb in &mut wide[1..2 * LIMBS - 1] {
        *limb = _mm512_add_epi64(*limb, *limb);
    }
    for i in 0..LIMBS {
        wide[2 * i] = _mm512_madd52lo_epu64(wide[2 * i], a[i], a[i]);
        wide[2 * i + 1] = _mm512_madd52hi_epu64(wide[2 * i + 1], a[i], a[i]);
    }
    reduce(wide)
}

/// wide += a·b, without carries.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn accumulate(wide: &mut Wide, a: &Element, b: &Element) {
    for i in 0..LIMBS {
        for j in 0..LIMBS {
            wide[i + j] = _mm512_madd52lo_epu64(wide[i + j], a[i], b[j]);
            wide[i + j + 1] = _mm512_madd52hi_epu64(wide[i + j + 1], a[i], b[j]);
        }
    }
}

/// wide += R·c, which [`reduce`] makes c.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn add_reduced(wide: &mut Wide, c: &Element) {
    for i in 0..LIMBS {
        wide[LIMBS + i] = _mm512_add_epi64(wide[LIMBS + i], c[i]);
    }
}

/// wide/R mod p, not below p in general: five times the multiple of p that clears the lowest limb.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn reduce(mut wide: Wide) -> Element {
    let p = broadcast(&limbs(P));
    let inverse = _mm512_set1_epi64((MINUS_P_INVERSE & LIMB).cast_signed());
    for i in 0..LIMBS {
        let m = _mm512_madd52lo_epu64(_mm512_setzero_si512(), wide[i], inverse);
        for j in 0..LIMBS {
            wide[i + j] = _mm512_madd52lo_epu64(wide[i + j], m, p[j]);
            wide[i + j + 1] = _mm512_madd52hi_epu64(wide[i + j + 1], m, p[j]);
        }
        wide[i + 1] = _mm512_add_epi64(wide[i + 1], _mm512_srli_epi64::<LIMB_BITS>(wide[i]));
    }
    carried([wide[5], wide[6], wide[7], wide[8], wide[9]])
}

/// narrow/2^52 mod p: the multiple of p that clears the lowest limb.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn reduce_narrow(mut narrow: Narrow) -> Element {
    let p = broadcast(&limbs(P));
    let inverse = _mm512_set1_epi64((MINUS_P_INVERSE & LIMB).cast_signed());
    let m = _mm512_madd52lo_epu64(_mm512_setzero_si512(), narrow[0], inverse);
    for j in 0..LIMBS {
        narrow[j] = _mm512_madd52lo_epu64(narrow[j], m, p[j]);
        narrow[j + 1] = _mm512_madd52hi_epu64(narrow[j + 1], m, p[j]);
    }
    narrow[1] = _mm512_add_epi64(narrow[1], _mm512_srli_epi64::<LIMB_BITS>(narrow[0]));
    carried([narrow[1], narrow[2], narrow[3], narrow[4], narrow[5]])
}

/// The same number with all limbs below 2^52.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn carried(mut x: Element) -> Element {
    let limb = _mm512_set1_epi64(LIMB.cast_signed());
    for i in 0..LIMBS - 1 {
        x[i + 1] = _mm512_add_epi64(x[i + 1], _mm512_srli_epi64::<LIMB_BITS>(x[i]));
        x[i] = _mm512_and_si512(x[i], limb);
    }
    x
}

/// a + b without carries.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn sum(a: &Element, b: &Element) -> Element {
    let mut out = *a;
    for (x, y) in out.iter_mut().zip(b) {
        *x = _mm512_add_epi64(*x, *y);
    }
    out
}

/// One number in all lanes.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn broadcast(x: &Limbs) -> Element {
    let mut out = [_mm512_setzero_si512(); LIMBS];
    for (limb, value) in out.iter_mut().zip(x) {
        *limb = _mm512_set1_epi64(value.cast_signed());
    }
    out
}

/// One number for each lane.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn gather(lanes: &[Limbs; LANES]) -> Element {
    let mut out = [_mm512_setzero_si512(); LIMBS];
    for (i, limb) in out.iter_mut().enumerate() {
        let of = |lane: usize| lanes[lane][i].cast_signed();
        *limb = _mm512_set_epi64(of(7), of(6), of(5), of(4), of(3), of(2), of(1), of(0));
    }
    out
}

/// The number of each lane.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn scatter(x: &Element) -> [Limbs; LANES] {
    let mut lanes = [[0; LIMBS]; LANES];
    for (i, limb) in x.iter().enumerate() {
        // SAFETY: both are 64 bytes, and any bits are eight words.
        let values: [u64; LANES] = unsafe { std::mem::transmute(*limb) };
        for (lane, value) in lanes.iter_mut().zip(values) {
            lane[i] = value;
        }
    }
    lanes
}
