//! Bit fields: sets of sector or partition numbers, as RLE+ bytes for actors and run lengths for nodes.
//!
//! JSON: run lengths that start with the run of zeros. `[5,1]` is bit 5, `[0]` is empty, `null` is empty.

use std::ops::{Range, RangeInclusive};

use fvm_ipld_bitfield::BitField;
use fvm_ipld_bitfield::iter::Ranges;
use serde::{Deserialize, Deserializer, Serializer, de};

use super::Error;

/// Makes a bit field of these numbers.
///
/// # Errors
/// [`Error::BitField`] when a number is the largest possible `u64`, which no bit field can hold.
pub fn of(bits: impl IntoIterator<Item = u64>) -> Result<BitField, Error> {
    BitField::try_from_bits(bits).map_err(|source| Error::BitField {
        reason: source.to_string(),
    })
}

/// Makes a bit field of inclusive ranges, smallest first and apart from each other.
///
/// # Errors
/// [`Error::BitField`] when they are out of order, or reach the largest possible `u64`.
pub fn of_ranges(ranges: impl IntoIterator<Item = RangeInclusive<u64>>) -> Result<BitField, Error> {
    let bad = |reason: &str| Error::BitField {
        reason: reason.to_owned(),
    };
    let mut all: Vec<Range<u64>> = Vec::new();
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        let (start, last) = range.into_inner();
        let end = last.checked_add(1).filter(|end| *end < u64::MAX);
        let end = end.ok_or_else(|| bad("the ranges go beyond 64 bits"))?;
        match all.last_mut() {
            Some(before) if before.end > start => return Err(bad("the ranges are out of order")),
            Some(before) if before.end == start => before.end = end,
            Some(_) | None => all.push(start..end),
        }
    }
    Ok(BitField::from_ranges(Ranges::new(all)))
}

/// The numbers in a bit field, smallest first.
///
/// # Errors
/// [`Error::BitField`] when there are more than `max`: a few bytes of RLE+ can claim 2^63 bits.
pub fn numbers(bits: &BitField, max: u64) -> Result<Vec<u64>, Error> {
    let bounded = bits.bounded_iter(max);
    bounded
        .map(Iterator::collect)
        .ok_or_else(|| Error::BitField {
            reason: format!("more than {max} bits are set"),
        })
}

/// The run lengths of a bit field, zeros first.
pub fn to_runs(bits: &BitField) -> Vec<u64> {
    let mut runs = Vec::new();
    let mut end = 0_u64;
    for range in bits.ranges() {
        runs.push(range.start.saturating_sub(end));
        runs.push(range.end.saturating_sub(range.start));
        end = range.end;
    }
    if runs.is_empty() {
        runs.push(0);
    }
    runs
}

/// Reads run lengths, zeros first.
///
/// # Errors
/// [`Error::BitField`] when they run beyond `u64`.
pub fn from_runs(runs: &[u64]) -> Result<BitField, Error> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut start = 0_u64;
    for (index, run) in runs.iter().enumerate() {
        let end = start
            .checked_add(*run)
            .filter(|end| *end < u64::MAX)
            .ok_or_else(|| Error::BitField {
                reason: "the runs go beyond 64 bits".to_owned(),
            })?;
        if index % 2 == 1 && *run > 0 {
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                Some(_) | None => ranges.push(start..end),
            }
        }
        start = end;
    }
    Ok(BitField::from_ranges(Ranges::new(ranges)))
}

/// Writes run lengths, for `#[serde(with = …)]`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(bits: &BitField, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(to_runs(bits))
}

/// Reads run lengths or `null`, for `#[serde(with = …)]`.
///
/// # Errors
/// Not run lengths.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BitField, D::Error> {
    let runs: Option<Vec<u64>> = Option::deserialize(deserializer)?;
    from_runs(&runs.unwrap_or_default()).map_err(de::Error::custom)
}

/// A bit field as a value of its own, in the nodes' JSON.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct JsonBits(#[serde(with = "self")] pub BitField);
