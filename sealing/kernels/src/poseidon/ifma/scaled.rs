//! The constants as the kernel wants them: in limbs, each times the λ that it meets.

use super::{
    super::{
        constants::{self, HALF},
        field::Fr,
    },
    BLOCK, LIMB_BITS, LIMBS, Limbs, R_BITS, limbs,
};

/// The constants in limbs, each times the λ that it meets.
#[derive(Clone, Debug)]
pub(in crate::poseidon) struct Constants<const T: usize> {
    /// What the state begins with, besides the inputs: the tag and the first key.
    pub(super) start: [Limbs; T],
    /// Keys after the matrix of the first full rounds.
    pub(super) first: [[Limbs; T]; HALF - 1],
    /// The matrix times the common multiple of its denominators: less than 2^44.
    pub(super) mds: [[u64; T]; T],
    pub(super) pre: [[Limbs; T]; T],
    pub(super) blocks: Vec<Block<T>>,
    /// The key after the partial rounds, and those after the matrix of the last full rounds.
    pub(super) middle: [Limbs; T],
    pub(super) last: [[Limbs; T]; HALF - 1],
    /// Takes the last λ away.
    pub(super) leave: Limbs,
}

/// Some partial rounds, from the state before the first of them.
#[derive(Clone, Debug)]
pub(super) struct Block<const T: usize> {
    pub(super) rounds: Vec<Round<T>>,
}

#[derive(Clone, Debug)]
pub(super) struct Round<const T: usize> {
    pub(super) constant: Limbs,
    /// Factors of x and of the elements before the block.
    pub(super) row: [Limbs; T],
    /// Factors of the x of the rounds before this one in the block.
    pub(super) earlier: Vec<Limbs>,
    /// Factors of x in the elements after the block.
    pub(super) column: [Limbs; T],
}

impl<const T: usize> Constants<T> {
    pub(in crate::poseidon) fn new(c: &constants::Constants<T>) -> Self {
        let mut start = c.first[0];
        start[0] = start[0] + c.tag;
        let (first, scale) = scaled_keys(Fr::ONE, &c.first);
        let (last, end) = scaled_keys(Fr::two_to_the(R_BITS), &c.last);
        let enter = Fr::two_to_the(2 * R_BITS) * after_s_box(scale).inverse();
        let scaled = |v: &[Fr; T], scale: Fr| v.map(|x| limbs((x * scale).words()));
        let multiple = common_multiple(T);
        Self {
            start: scaled(&start, Fr::ONE),
            first,
            mds: std::array::from_fn(|i| {
                std::array::from_fn(|j| multiple / constants::denominator(i, j, T))
            }),
            pre: c.pre.map(|row| scaled(&row, enter)),
            blocks: c.partial.chunks(BLOCK).map(Block::new).collect(),
            middle: c.last[0].map(montgomery),
            last,
            leave: montgomery(after_round(end, T).inverse()),
        }
    }
}

/// The keys after the first of some full rounds, and the λ before the S-boxes of the last of them,
/// when it was `scale` before those of the first.
fn scaled_keys<const T: usize>(
    mut scale: Fr,
    keys: &[[Fr; T]; HALF],
) -> ([[Limbs; T]; HALF - 1], Fr) {
    let mut out = [[[0; LIMBS]; T]; HALF - 1];
    for (key, out) in keys[1..].iter().zip(&mut out) {
        scale = after_round(scale, T);
        *out = key.map(|x| limbs((x * scale).words()));
    }
    (out, scale)
}

/// λ after an S-box: a product of two numbers is also divided by R.
fn after_s_box(scale: Fr) -> Fr {
    scale.fifth_power() * Fr::two_to_the(4 * R_BITS).inverse()
}

/// λ after S-boxes and the matrix of whole numbers, which clears a limb.
fn after_round(scale: Fr, t: usize) -> Fr {
    let multiple = Fr::small(common_multiple(t));
    after_s_box(scale) * multiple * Fr::two_to_the(LIMB_BITS).inverse()
}

/// The least common multiple of the matrix's denominators.
fn common_multiple(t: usize) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let denominators = (0..t).flat_map(|i| (0..t).map(move |j| constants::denominator(i, j, t)));
    denominators.fold(1, |all, d| all / gcd(all, d) * d)
}

impl<const T: usize> Block<T> {
    fn new(rounds: &[constants::PartialRound<T>]) -> Self {
        // What a round added to the elements reaches the rows of the rounds after it.
        let reach = |row: &[Fr; T], column: &[Fr; T]| {
            let pairs = row.iter().zip(column).skip(1);
            montgomery(pairs.fold(Fr::ZERO, |sum, (a, b)| sum + *a * *b))
        };
        let round = |(at, round): (usize, &constants::PartialRound<T>)| Round {
            constant: montgomery(round.constant),
            row: round.row.map(montgomery),
            earlier: rounds[..at]
                .iter()
                .map(|r| reach(&round.row, &r.column))
                .collect(),
            column: round.column.map(montgomery),
        };
        Self {
            rounds: rounds.iter().enumerate().map(round).collect(),
        }
    }
}

fn montgomery(x: Fr) -> Limbs {
    limbs((x * Fr::two_to_the(R_BITS)).words())
}
