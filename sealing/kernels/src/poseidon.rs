//! Poseidon over the scalar field of BLS12-381, as Filecoin's trees use it: many hashes at a time.
//!
//! Nodes are numbers below the field's modulus, 32 bytes, little-endian. With AVX-512 IFMA eight
//! hashes are made at once; elsewhere one by one. The constants are computed at first use.

mod constants;
mod field;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "a vector is looked at as eight words")]
mod ifma;
mod portable;

use std::{fmt, sync::LazyLock};

/// A node of a tree: a number below the modulus, little-endian.
pub type Node = [u8; NODE_BYTES];

/// Size of a node.
pub const NODE_BYTES: usize = 32;

/// How many nodes one hash takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// `CommR`, the topmost row of 64 GiB sectors, columns of two layers.
    Two,
    /// Trees.
    Eight,
    /// Columns of eleven layers.
    Eleven,
}

impl Arity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Two, Self::Eight, Self::Eleven];

    /// The number.
    pub const fn inputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Eight => 8,
            Self::Eleven => 11,
        }
    }

    /// The arity with this number of inputs.
    pub fn of(inputs: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.inputs() == inputs)
    }
}

/// Which code computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Any processor, one hash at a time.
    Portable,
    /// AVX-512 IFMA, eight hashes at a time: AMD Zen 4, Intel Ice Lake and later.
    Ifma,
}

impl Kernel {
    /// The fastest that this processor can run.
    pub fn best() -> Self {
        if Self::Ifma.is_available() {
            Self::Ifma
        } else {
            Self::Portable
        }
    }

    /// Whether this processor can run it. One that it cannot run is replaced by the portable one.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Ifma => ifma::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Ifma => false,
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Ifma => "AVX-512 IFMA",
        })
    }
}

/// Why nodes could not be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// An input is not below the modulus: it cannot be a node of a tree.
    #[error("input {input} of hash {hash} is not a number of the field")]
    NotInField {
        /// Which digest it would have gone into.
        hash: usize,
        /// Which of its inputs, from 0.
        input: usize,
    },
    /// The number of inputs does not fit the digests asked for.
    #[error("{inputs} nodes do not make {hashes} digests")]
    Shape {
        /// Inputs given.
        inputs: usize,
        /// Digests asked for.
        hashes: usize,
    },
}

/// Hashes groups of neighbours: digest i is of the nodes from `i·arity`. What a tree's row is made of.
///
/// # Errors
/// When a node is not below the modulus, or `nodes` are not `arity` times the digests.
///
/// # Source
/// Filecoin's specification, section Poseidon; the same as `neptune` with its Merkle tree tag.
pub fn hash_groups(
    kernel: Kernel,
    arity: Arity,
    nodes: &[Node],
    digests: &mut [Node],
) -> Result<(), HashError> {
    let inputs = arity.inputs();
    check(
        nodes.len() == inputs * digests.len(),
        nodes.len(),
        digests.len(),
    )?;
    hash_all(kernel, arity, digests, |hash, i| &nodes[hash * inputs + i])
}

/// Hashes columns: digest i is of node i of every layer.
///
/// # Errors
/// When a node is not below the modulus, when the layers are not as long as the digests, or when
/// there are not 2, 8 or 11.
pub fn hash_columns(
    kernel: Kernel,
    layers: &[&[Node]],
    digests: &mut [Node],
) -> Result<(), HashError> {
    let fits = layers.iter().all(|layer| layer.len() == digests.len());
    let arity = Arity::of(layers.len()).filter(|_| fits);
    let shape = HashError::Shape {
        inputs: layers.iter().map(|l| l.len()).sum(),
        hashes: digests.len(),
    };
    hash_all(kernel, arity.ok_or(shape)?, digests, |hash, i| {
        &layers[i][hash]
    })
}

fn check(holds: bool, inputs: usize, hashes: usize) -> Result<(), HashError> {
    if holds {
        Ok(())
    } else {
        Err(HashError::Shape { inputs, hashes })
    }
}

fn hash_all<'a>(
    kernel: Kernel,
    arity: Arity,
    digests: &mut [Node],
    input: impl Fn(usize, usize) -> &'a Node,
) -> Result<(), HashError> {
    static TWO: LazyLock<Tables<3>> = LazyLock::new(Tables::compute);
    static EIGHT: LazyLock<Tables<9>> = LazyLock::new(Tables::compute);
    static ELEVEN: LazyLock<Tables<12>> = LazyLock::new(Tables::compute);
    for hash in 0..digests.len() {
        for i in 0..arity.inputs() {
            if !field::is_canonical(&words(input(hash, i))) {
                return Err(HashError::NotInField { hash, input: i });
            }
        }
    }
    match arity {
        Arity::Two => TWO.hash(kernel, digests, &input),
        Arity::Eight => EIGHT.hash(kernel, digests, &input),
        Arity::Eleven => ELEVEN.hash(kernel, digests, &input),
    }
    Ok(())
}

/// The constants of one arity in the forms that the kernels want.
#[derive(Debug)]
struct Tables<const T: usize> {
    portable: constants::Constants<T>,
    #[cfg(target_arch = "x86_64")]
    ifma: ifma::Constants<T>,
}

impl<const T: usize> Tables<T> {
    fn compute() -> Self {
        let portable = constants::Constants::compute();
        Self {
            #[cfg(target_arch = "x86_64")]
            ifma: ifma::Constants::new(&portable),
            portable,
        }
    }

    /// All inputs must be below the modulus.
    fn hash<'a>(
        &self,
        kernel: Kernel,
        digests: &mut [Node],
        input: &impl Fn(usize, usize) -> &'a Node,
    ) {
        #[cfg(target_arch = "x86_64")]
        if kernel == Kernel::Ifma && kernel.is_available() {
            return self.hash_ifma(digests, input);
        }
        let _ = kernel;
        for (hash, digest) in digests.iter_mut().enumerate() {
            *digest = bytes(portable::hash(&self.portable, |i| words(input(hash, i))));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[expect(
        unsafe_code,
        reason = "the processor was asked whether it has the instructions"
    )]
    fn hash_ifma<'a>(&self, digests: &mut [Node], input: &impl Fn(usize, usize) -> &'a Node) {
        const TWO: usize = 2 * ifma::LANES;
        let end = digests.len();
        for (at, chunk) in digests.chunks_mut(TWO).enumerate() {
            // The last hash fills up what is missing.
            let get = |lane: usize, i: usize| words(input((at * TWO + lane).min(end - 1), i));
            if chunk.len() > ifma::LANES {
                // SAFETY: the caller has asked the processor.
                let out = unsafe { ifma::hash::<T, 2>(&self.ifma, get) };
                put(chunk, out.as_flattened());
            } else {
                // SAFETY: the caller has asked the processor.
                let out = unsafe { ifma::hash::<T, 1>(&self.ifma, get) };
                put(chunk, out.as_flattened());
            }
        }
    }
}

fn put(digests: &mut [Node], values: &[[u64; 4]]) {
    for (digest, value) in digests.iter_mut().zip(values) {
        *digest = bytes(*value);
    }
}

/// Little-endian words of a node.
pub(crate) fn words(node: &Node) -> [u64; 4] {
    let mut out = [0; 4];
    for (word, bytes) in out.iter_mut().zip(node.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    out
}

/// The node of little-endian words.
pub(crate) fn bytes(words: [u64; 4]) -> Node {
    let mut out = [0; NODE_BYTES];
    for (bytes, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    out
}

/// a + b in the field, or none when one of them is not below the modulus. How a replica is encoded.
pub fn add(a: &Node, b: &Node) -> Option<Node> {
    in_field(a, b, field::add_words)
}

/// a − b in the field, or none when one of them is not below the modulus. How a replica is decoded.
pub fn subtract(a: &Node, b: &Node) -> Option<Node> {
    in_field(a, b, field::subtract_words)
}

fn in_field(a: &Node, b: &Node, f: fn(&[u64; 4], &[u64; 4]) -> [u64; 4]) -> Option<Node> {
    let (a, b) = (words(a), words(b));
    let both = field::is_canonical(&a) && field::is_canonical(&b);
    both.then(|| bytes(f(&a, &b)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_node() -> impl Strategy<Value = Node> {
        prop_oneof![
            8 => any::<Node>().prop_map(|mut n| { n[31] &= 0x3f; n }),
            // The ends of the range.
            1 => Just(bytes([field::P[0] - 1, field::P[1], field::P[2], field::P[3]])),
            1 => Just([0; NODE_BYTES]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn prop_ifma_gives_what_the_portable_twin_gives(
            nodes in prop::collection::vec(any_node(), 0..37 * 11),
        ) {
            for arity in Arity::ALL {
                let count = nodes.len() / arity.inputs();
                let nodes = &nodes[..count * arity.inputs()];
                let mut want = vec![[0; NODE_BYTES]; count];
                let mut got = want.clone();
                hash_groups(Kernel::Portable, arity, nodes, &mut want).unwrap();
                hash_groups(Kernel::Ifma, arity, nodes, &mut got).unwrap();
                prop_assert_eq!(&got, &want, "{:?}", arity);
            }
        }

        #[test]
        fn prop_columns_are_groups_of_the_transposed(nodes in prop::collection::vec(any_node(), 22)) {
            let (upper, lower) = nodes.split_at(11);
            let pairs: Vec<_> = upper.iter().zip(lower).flat_map(|(a, b)| [*a, *b]).collect();
            let (mut columns, mut groups) = ([[0; NODE_BYTES]; 11], [[0; NODE_BYTES]; 11]);
            hash_columns(Kernel::best(), &[upper, lower], &mut columns).unwrap();
            hash_groups(Kernel::best(), Arity::Two, &pairs, &mut groups).unwrap();
            prop_assert_eq!(columns, groups);
        }

        #[test]
        fn prop_sum_minus_a_is_b(a in any_node(), b in any_node()) {
            let p = |x: u64| bytes([field::P[0] - x, field::P[1], field::P[2], field::P[3]]);
            let sum = add(&a, &b).unwrap();
            prop_assert_eq!(add(&b, &a), Some(sum));
            prop_assert!(field::is_canonical(&words(&sum)));
            prop_assert_eq!(add(&p(0), &b), None);
            prop_assert_eq!(add(&add(&a, &p(1)).unwrap(), &bytes([1, 0, 0, 0])), Some(a));
        }

        #[test]
        fn prop_what_was_added_can_be_subtracted(a in any_node(), b in any_node()) {
            prop_assert_eq!(subtract(&add(&a, &b).unwrap(), &b), Some(a));
            let difference = subtract(&a, &b).unwrap();
            prop_assert!(field::is_canonical(&words(&difference)));
            prop_assert_eq!(add(&difference, &b), Some(a));
            prop_assert_eq!(subtract(&bytes(field::P), &b), None);
            prop_assert_eq!(subtract(&a, &bytes(field::P)), None);
        }
    }

    /// Digests of the numbers 0, 1, 2 … as `neptune` has them in its own tests.
    #[test]
    fn vector_digests_of_small_numbers() {
        let known = [
            (
                Arity::Two,
                [
                    0x2e20_3c36_9a02_e7ff,
                    0xa6fb_a933_9d05_a69d,
                    0x739e_0fd9_02ef_e161,
                    0x3965_08d7_5e76_a56b,
                ],
            ),
            (
                Arity::Eight,
                [
                    0x2a99_34f5_6d38_a5e6,
                    0x4b68_2e9d_9cc4_aed9,
                    0x1201_0042_1167_7077,
                    0x2394_611d_a3a5_de55,
                ],
            ),
            (
                Arity::Eleven,
                [
                    0xcee3_bbc3_2b69_3163,
                    0x09f3_dcd8_ccb0_8fc1,
                    0x6ca5_37e2_32eb_e87a,
                    0x0c0f_c1b2_e522_7f28,
                ],
            ),
        ];
        for (arity, want) in known {
            let inputs: Vec<_> = (0..arity.inputs() as u64)
                .map(|i| bytes([i, 0, 0, 0]))
                .collect();
            for kernel in [Kernel::Portable, Kernel::Ifma] {
                let mut digest = [[0; NODE_BYTES]];
                hash_groups(kernel, arity, &inputs, &mut digest).unwrap();
                assert_eq!(digest[0], bytes(want), "{arity:?}, {kernel}");
            }
        }
    }

    #[test]
    fn node_above_the_modulus_is_refused_and_named() {
        let mut nodes = [[0; NODE_BYTES]; 16];
        nodes[11] = bytes(field::P);
        let mut digests = [[0; NODE_BYTES]; 2];
        let e = hash_groups(Kernel::best(), Arity::Eight, &nodes, &mut digests).unwrap_err();
        assert_eq!(e, HashError::NotInField { hash: 1, input: 3 });
    }

    #[test]
    fn inputs_that_do_not_fit_are_refused() {
        let nodes = [[0; NODE_BYTES]; 15];
        let mut digests = [[0; NODE_BYTES]; 2];
        let groups = hash_groups(Kernel::best(), Arity::Eight, &nodes, &mut digests);
        let columns = hash_columns(Kernel::best(), &[&nodes[..2]; 3], &mut digests);
        assert!(matches!(
            groups,
            Err(HashError::Shape {
                inputs: 15,
                hashes: 2
            })
        ));
        assert!(matches!(
            columns,
            Err(HashError::Shape {
                inputs: 6,
                hashes: 2
            })
        ));
    }
}
