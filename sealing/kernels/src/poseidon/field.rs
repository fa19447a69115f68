//! The scalar field of BLS12-381, portable: four words of 64 bits, Montgomery form.

use std::ops::{Add, Mul};

/// The modulus, little-endian words: 2^255 > p > 2^254.
///
/// # Source
/// `r` of BLS12-381 (draft-irtf-cfrg-pairing-friendly-curves).
pub(super) const P: [u64; 4] = [
    0xffff_ffff_0000_0001,
    0x53bd_a402_fffe_5bfe,
    0x3339_d808_09a1_d805,
    0x73ed_a753_299d_7d48,
];

/// −1/p modulo 2^64, by Newton's iteration: each step doubles the correct bits.
pub(super) const MINUS_P_INVERSE: u64 = {
    let (mut inverse, mut step) = (1u64, 0);
    while step < 6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(P[0].wrapping_mul(inverse)));
        step += 1;
    }
    inverse.wrapping_neg()
};

/// 2^512 mod p: what brings a number into Montgomery form.
const R2: [u64; 4] = power_of_two(512);

/// An element: x·2^256 mod p, below p.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fr([u64; 4]);

impl Fr {
    pub(super) const ZERO: Self = Self([0; 4]);
    pub(super) const ONE: Self = Self(power_of_two(256));

    /// The number with these words, modulo p.
    pub(super) fn from_words(words: [u64; 4]) -> Self {
        Self(multiply(&words, &R2))
    }

    /// A small number.
    pub(super) fn small(x: u64) -> Self {
        Self(multiply(&[x, 0, 0, 0], &R2))
    }

    /// 2^n.
    pub(super) fn two_to_the(n: u32) -> Self {
        Self(multiply(&power_of_two(n), &R2))
    }

    /// The number as words, below p.
    pub(super) fn words(self) -> [u64; 4] {
        multiply(&self.0, &[1, 0, 0, 0])
    }

    /// x^5, the S-box.
    pub(super) fn fifth_power(self) -> Self {
        let square = self * self;
        square * square * self
    }

    /// 1/x, and 0 for 0.
    pub(super) fn inverse(self) -> Self {
        // x^(p−2): p is odd and its lowest word is above 1.
        let exponent = [P[0] - 2, P[1], P[2], P[3]];
        let mut power = Self::ONE;
        for bit in (0..255).rev() {
            power = power * power;
            if exponent[bit / 64] >> (bit % 64) & 1 == 1 {
                power = power * self;
            }
        }
        power
    }
}

impl Add for Fr {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(add_words(&self.0, &other.0))
    }
}

impl Mul for Fr {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self(multiply(&self.0, &other.0))
    }
}

/// Whether the number is below p.
pub(super) const fn is_canonical(words: &[u64; 4]) -> bool {
    minus(words, &P).1
}

/// a + b mod p of numbers below p.
pub(super) const fn add_words(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    // No carry is lost: both are below 2^255.
    reduced(&plus(a, b))
}

/// a − b mod p of numbers below p.
pub(super) const fn subtract_words(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    match minus(a, b) {
        (difference, false) => difference,
        // The lost carry is the borrow that is paid back.
        (difference, true) => plus(&difference, &P),
    }
}

/// x mod p for x below 2p.
pub(super) const fn reduced(x: &[u64; 4]) -> [u64; 4] {
    match minus(x, &P) {
        (_, true) => *x,
        (difference, false) => difference,
    }
}

/// a + b modulo 2^256.
const fn plus(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    let (mut sum, mut carry, mut i) = ([0; 4], false, 0);
    while i < 4 {
        let (low, c1) = a[i].overflowing_add(b[i]);
        let (low, c2) = low.overflowing_add(carry as u64);
        (sum[i], carry) = (low, c1 | c2);
        i += 1;
    }
    sum
}

/// a − b modulo 2^256, and whether a is below b.
const fn minus(a: &[u64; 4], b: &[u64; 4]) -> ([u64; 4], bool) {
    let (mut difference, mut borrow, mut i) = ([0; 4], false, 0);
    while i < 4 {
        let (low, b1) = a[i].overflowing_sub(b[i]);
        let (low, b2) = low.overflowing_sub(borrow as u64);
        (difference[i], borrow) = (low, b1 | b2);
        i += 1;
    }
    (difference, borrow)
}

/// 2^n mod p.
const fn power_of_two(n: u32) -> [u64; 4] {
    let (mut x, mut i) = ([1, 0, 0, 0], 0);
    while i < n {
        x = add_words(&x, &x);
        i += 1;
    }
    x
}

/// a·b/2^256 mod p, for a below 2^256 and b below p.
///
/// Each turn adds a word of `a` times `b` and the multiple of p that clears the lowest word. The sum
/// stays below 2p + b < 2^257, so five words hold it.
#[inline]
fn multiply(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    let mut t = [0u64; 5];
    for &word in a {
        let mut carry = 0;
        for j in 0..4 {
            (t[j], carry) = multiply_add(t[j], word, b[j], carry);
        }
        let (top, over) = t[4].overflowing_add(carry);
        let m = t[0].wrapping_mul(MINUS_P_INVERSE);
        let (_, mut carry) = multiply_add(t[0], m, P[0], 0);
        for j in 1..4 {
            (t[j - 1], carry) = multiply_add(t[j], m, P[j], carry);
        }
        let (top, over_again) = top.overflowing_add(carry);
        t[3] = top;
        t[4] = u64::from(over | over_again);
    }
    reduced(&[t[0], t[1], t[2], t[3]])
}

/// The low and high word of x + a·b + y: always below 2^128.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low word is meant")]
fn multiply_add(x: u64, a: u64, b: u64, y: u64) -> (u64, u64) {
    let sum = u128::from(x) + u128::from(a) * u128::from(b) + u128::from(y);
    (sum as u64, (sum >> 64) as u64)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::poseidon) fn any_element() -> impl Strategy<Value = Fr> {
        any::<[u64; 4]>().prop_map(|mut words| {
            words[3] >>= 2;
            Fr::from_words(words)
        })
    }

    #[test]
    fn vector_minus_one_times_minus_one_is_one() {
        let minus_one = Fr::from_words([P[0] - 1, P[1], P[2], P[3]]);
        assert_eq!(minus_one * minus_one, Fr::ONE);
        assert_eq!(minus_one + Fr::ONE, Fr::ZERO);
        assert_eq!(Fr::from_words(P), Fr::ZERO);
    }

    proptest! {
        #[test]
        fn prop_product_is_that_of_schoolbook_doubling(a in any_element(), b: [u64; 4]) {
            let b = [b[0], b[1], b[2], b[3] >> 2];
            let mut want = Fr::ZERO;
            for bit in (0..256).rev() {
                want = want + want;
                if b[bit / 64] >> (bit % 64) & 1 == 1 {
                    want = want + a;
                }
            }
            prop_assert_eq!(a * Fr::from_words(b), want);
        }

        #[test]
        fn prop_inverse_times_element_is_one(a in any_element()) {
            let want = if a == Fr::ZERO { Fr::ZERO } else { Fr::ONE };
            prop_assert_eq!(a * a.inverse(), want);
        }

        #[test]
        fn prop_words_read_back(a in any_element()) {
            prop_assert_eq!(Fr::from_words(a.words()), a);
        }
    }
}
