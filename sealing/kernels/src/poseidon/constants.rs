//! The constants of Poseidon as Filecoin uses it, computed: round constants, matrix, and the sparse
//! form of the partial rounds.
//!
//! # Source
//! Grassi et al., Poseidon (eprint 2019/458): instance p of BLS12-381, S-box x^5, 128 bits, constants
//! from the Grain LFSR; Filecoin's specification, section Poseidon: matrix, tag, strength "standard".

use super::field::{Fr, P, is_canonical};

/// Full rounds before and again after the partial ones.
pub(super) const HALF: usize = 4;

/// A square matrix, by rows.
pub(super) type Matrix<const N: usize> = [[Fr; N]; N];

/// One partial round in sparse form: x = (s₀ + constant)^5; s₀ becomes row·(x, s₁ …), each other sᵢ
/// becomes sᵢ + columnᵢ·x.
#[derive(Clone, Debug)]
pub(super) struct PartialRound<const T: usize> {
    pub(super) constant: Fr,
    pub(super) row: [Fr; T],
    /// Its first element is not used.
    pub(super) column: [Fr; T],
}

/// The constants for a state of `T` elements, `T − 1` of them inputs.
#[derive(Clone, Debug)]
pub(super) struct Constants<const T: usize> {
    /// The first element of the state at the start.
    pub(super) tag: Fr,
    /// Added before the S-boxes of the first full rounds.
    pub(super) first: [[Fr; T]; HALF],
    pub(super) partial: Vec<PartialRound<T>>,
    /// Added before the S-boxes of the last full rounds.
    pub(super) last: [[Fr; T]; HALF],
    /// The matrix of full rounds.
    pub(super) mds: Matrix<T>,
    /// The matrix of the last full round before the partial ones.
    pub(super) pre: Matrix<T>,
}

/// Partial rounds for a state of `t` elements: the fewest that the paper's inequalities allow with
/// eight full rounds and a margin of 7.5 %.
const fn partial_rounds(t: usize) -> usize {
    if t == 3 { 55 } else { 57 }
}

impl<const T: usize> Constants<T> {
    /// Computes them; takes milliseconds.
    pub(super) fn compute() -> Self {
        let rounds = partial_rounds(T);
        let keys = round_keys::<T>(rounds);
        let mds = cauchy::<T>();
        let (scalars, left) = push_forward(&keys[HALF..HALF + rounds], &mds);
        let after = &keys[HALF + rounds..];
        let mut last: [[Fr; T]; HALF] = std::array::from_fn(|r| after[r]);
        last[0] = sum(&last[0], &left);
        let (pre, partial) = sparse(&mds, &scalars);
        Self {
            tag: Fr::small((1 << (T - 1)) - 1),
            first: std::array::from_fn(|r| keys[r]),
            partial,
            last,
            mds,
            pre,
        }
    }
}

/// The constants of all rounds as the paper has them, one vector a round.
fn round_keys<const T: usize>(partial: usize) -> Vec<[Fr; T]> {
    let mut grain = Grain::new(T, partial);
    (0..2 * HALF + partial)
        .map(|_| std::array::from_fn(|_| grain.element()))
        .collect()
}

/// Moves the constants of the elements without S-box through the matrix into the next round, so that
/// each partial round keeps one. What the last one leaves is returned too.
fn push_forward<const T: usize>(keys: &[[Fr; T]], mds: &Matrix<T>) -> (Vec<Fr>, [Fr; T]) {
    let mut moved = [Fr::ZERO; T];
    let mut scalars = Vec::new();
    for key in keys {
        let mut here = sum(key, &moved);
        scalars.push(here[0]);
        here[0] = Fr::ZERO;
        moved = apply(mds, &here);
    }
    (scalars, moved)
}

/// The sparse form. With the matrix split as (m vᵀ; v M) around its first row and column, and
/// z the state without its first element, a round is s₀ ← m·x + vᵀz, z ← v·x + M·z. For
/// u = M^(rounds still to come)·z this is s₀ ← m·x + vᵀM⁻ᵏ·u, u ← u + Mᵏ⁻¹v·x: no matrix is left
/// but M^rounds before the first one.
fn sparse<const T: usize>(mds: &Matrix<T>, scalars: &[Fr]) -> (Matrix<T>, Vec<PartialRound<T>>) {
    // All matrices and vectors keep the first element, so that one size does for everything.
    let mut inner = *mds;
    inner[0] = unit(0);
    for (i, row) in inner.iter_mut().enumerate().skip(1) {
        row[0] = unit::<T>(0)[i];
    }
    let back = inverse(&inner);
    let mut vector = mds[0];
    vector[0] = Fr::ZERO;
    let (mut row, mut column) = (vector, vector);
    let mut power: Matrix<T> = std::array::from_fn(unit);
    let mut partial = Vec::new();
    for &constant in scalars.iter().rev() {
        // The matrix and its powers are symmetric, so a row is turned as a column is.
        row = apply(&back, &row);
        let mut full_row = row;
        full_row[0] = mds[0][0];
        let (row, column_now) = (full_row, column);
        partial.push(PartialRound {
            constant,
            row,
            column: column_now,
        });
        column = apply(&inner, &column);
        power = product(&power, &inner);
    }
    partial.reverse();
    (product(&power, mds), partial)
}

/// The matrix of Filecoin: 1/(i + j + t). Every part of such a matrix is invertible.
fn cauchy<const T: usize>() -> Matrix<T> {
    std::array::from_fn(|i| std::array::from_fn(|j| Fr::small(denominator(i, j, T)).inverse()))
}

/// What an element of the matrix is one over.
pub(super) const fn denominator(i: usize, j: usize, t: usize) -> u64 {
    (i + j + t) as u64
}

fn unit<const N: usize>(at: usize) -> [Fr; N] {
    let mut vector = [Fr::ZERO; N];
    vector[at] = Fr::ONE;
    vector
}

fn sum<const N: usize>(a: &[Fr; N], b: &[Fr; N]) -> [Fr; N] {
    std::array::from_fn(|i| a[i] + b[i])
}

pub(super) fn dot<const N: usize>(a: &[Fr; N], b: &[Fr; N]) -> Fr {
    a.iter().zip(b).fold(Fr::ZERO, |sum, (x, y)| sum + *x * *y)
}

/// Matrix times column.
pub(super) fn apply<const N: usize>(m: &Matrix<N>, v: &[Fr; N]) -> [Fr; N] {
    std::array::from_fn(|i| dot(&m[i], v))
}

fn product<const N: usize>(a: &Matrix<N>, b: &Matrix<N>) -> Matrix<N> {
    let column = |j: usize| std::array::from_fn(|k| b[k][j]);
    std::array::from_fn(|i| std::array::from_fn(|j| dot(&a[i], &column(j))))
}

/// Gauss and Jordan; of a matrix whose leading parts are all invertible, so no pivot is 0.
fn inverse<const N: usize>(m: &Matrix<N>) -> Matrix<N> {
    let minus_one = Fr::from_words([P[0] - 1, P[1], P[2], P[3]]);
    let mut left = *m;
    let mut right: Matrix<N> = std::array::from_fn(unit);
    for pivot in 0..N {
        let scale = left[pivot][pivot].inverse();
        left[pivot] = left[pivot].map(|x| x * scale);
        right[pivot] = right[pivot].map(|x| x * scale);
        for i in (0..N).filter(|i| *i != pivot) {
            let factor = left[i][pivot] * minus_one;
            for j in 0..N {
                left[i][j] = left[i][j] + factor * left[pivot][j];
                right[i][j] = right[i][j] + factor * right[pivot][j];
            }
        }
    }
    right
}

/// The Grain LFSR in self-shrinking mode, from which the paper takes its constants.
#[derive(Debug)]
struct Grain {
    /// Bit i of the number is bit i of the register.
    state: u128,
}

impl Grain {
    const BITS: u32 = 80;
    const WARM_UP: u32 = 160;

    fn new(t: usize, partial: usize) -> Self {
        const PRIME_FIELD: u128 = 1;
        const POWER_SBOX: u128 = 1;
        const FIELD_BITS: u128 = 255;
        const ONES: u128 = (1 << 30) - 1;
        let fields = [
            (2, PRIME_FIELD),
            (4, POWER_SBOX),
            (12, FIELD_BITS),
            (12, t as u128),
            (10, 2 * HALF as u128),
            (10, partial as u128),
            (30, ONES),
        ];
        let (mut state, mut at) = (0, 0);
        for (width, value) in fields {
            for i in (0..width).rev() {
                state |= (value >> i & 1) << at;
                at += 1;
            }
        }
        let mut grain = Self { state };
        for _ in 0..Self::WARM_UP {
            grain.step();
        }
        grain
    }

    fn step(&mut self) -> bool {
        const TAPS: [u32; 6] = [62, 51, 38, 23, 13, 0];
        let bit = TAPS.iter().fold(0, |bit, tap| bit ^ self.state >> tap & 1);
        self.state = self.state >> 1 | bit << (Self::BITS - 1);
        bit == 1
    }

    /// Of each pair of bits the second, if the first is 1.
    fn bit(&mut self) -> bool {
        loop {
            let (keep, bit) = (self.step(), self.step());
            if keep {
                return bit;
            }
        }
    }

    /// The next 255 bits, highest first, that are a number below p.
    fn element(&mut self) -> Fr {
        loop {
            let mut words = [0; 4];
            for at in (0..255).rev() {
                words[at / 64] |= u64::from(self.bit()) << (at % 64);
            }
            if is_canonical(&words) {
                return Fr::from_words(words);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::field::tests::any_element, *};

    /// The rounds as the paper describes them, with nothing moved or made sparse.
    fn plain<const T: usize>(mut state: [Fr; T]) -> [Fr; T] {
        let partial = partial_rounds(T);
        let mds = cauchy::<T>();
        for (round, key) in round_keys::<T>(partial).iter().enumerate() {
            state = sum(&state, key);
            let full = !(HALF..HALF + partial).contains(&round);
            for (i, x) in state.iter_mut().enumerate() {
                if full || i == 0 {
                    *x = x.fifth_power();
                }
            }
            state = apply(&mds, &state);
        }
        state
    }

    fn agrees<const T: usize>(inputs: &[Fr]) {
        let constants = Constants::<T>::compute();
        let state = std::array::from_fn(|i| inputs[i]);
        assert_eq!(
            super::super::portable::permute(&constants, state),
            plain(state)
        );
    }

    #[test]
    fn sparse_rounds_give_what_plain_rounds_give() {
        proptest!(ProptestConfig::with_cases(4), |(x in prop::collection::vec(any_element(), 12))| {
            agrees::<3>(&x);
            agrees::<9>(&x);
            agrees::<12>(&x);
        });
    }

    /// The paper's inequalities, as its authors' script checks them, for a field of 256 bits.
    #[test]
    fn partial_rounds_are_the_fewest_that_are_secure() {
        for t in [3usize, 9, 12] {
            let width = f64::from(u32::try_from(t).unwrap());
            let secure = |full: f64, partial: f64| {
                full >= 6.0
                    && full >= (0.43 * 128.0 + width.log2() - partial).ceil()
                    && full >= (0.21 * 256.0 - partial).ceil()
                    && full >= ((0.14 * 256.0 - 1.0 - partial) / (width - 1.0)).ceil()
            };
            let fewest = (4..200u32).find(|p| secure(6.0, f64::from(*p))).unwrap();
            // 7.5 % more, rounded up.
            let with_margin = (fewest * 1075).div_ceil(1000);
            assert_eq!(partial_rounds(t), with_margin as usize, "{t}");
        }
    }
}
