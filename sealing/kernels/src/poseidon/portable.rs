//! Poseidon one by one, on any processor: the twin to which faster kernels are compared.

use super::{
    constants::{Constants, apply, dot},
    field::Fr,
};

/// The digest of `T − 1` inputs, as little-endian words.
pub(super) fn hash<const T: usize>(
    constants: &Constants<T>,
    input: impl Fn(usize) -> [u64; 4],
) -> [u64; 4] {
    let mut state = [constants.tag; T];
    for (i, element) in state.iter_mut().skip(1).enumerate() {
        *element = Fr::from_words(input(i));
    }
    permute(constants, state)[1].words()
}

/// All rounds.
pub(super) fn permute<const T: usize>(c: &Constants<T>, mut state: [Fr; T]) -> [Fr; T] {
    let (last, others) = (c.first.len() - 1, &c.first);
    for (round, key) in others.iter().enumerate() {
        let matrix = if round == last { &c.pre } else { &c.mds };
        state = apply(matrix, &s_boxes(state, key));
    }
    for round in &c.partial {
        let x = (state[0] + round.constant).fifth_power();
        state[0] = x;
        let first = dot(&round.row, &state);
        for (element, factor) in state.iter_mut().zip(&round.column).skip(1) {
            *element = *element + *factor * x;
        }
        state[0] = first;
    }
    for key in &c.last {
        state = apply(&c.mds, &s_boxes(state, key));
    }
    state
}

fn s_boxes<const T: usize>(state: [Fr; T], key: &[Fr; T]) -> [Fr; T] {
    std::array::from_fn(|i| (state[i] + key[i]).fifth_power())
}
