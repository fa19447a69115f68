//! Poseidon over the scalar field of BLS12-381.
