//! Money and power: exact integers, written with a unit for people and bare for nodes.
//!
//! People write `0.05 FIL`, `3 nanoFIL`, `250 attoFIL` (short: `nfil`, `afil`); a bare number is refused, because
//! it was read as FIL by some and as attoFIL by others. Nodes write whole attoFIL as a decimal string.

#![deny(clippy::as_conversions, clippy::float_arithmetic)]

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};
use std::str::FromStr;

use fvm_shared::bigint::bigint_ser::{BigIntDe, BigIntSer};
use num_bigint::BigInt;
use num_traits::{Signed, Zero};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Error;

/// Decimals of one FIL.
const FIL_DECIMALS: usize = 18;
/// Decimals of one nanoFIL.
const NANO_DECIMALS: usize = 9;
/// Longer texts are no amounts: all FIL there will ever be has 28 digits.
const MAX_TEXT: usize = 64;

/// An amount of money. Unit: attoFIL; 1 FIL = 10^18 attoFIL.
///
/// JSON is the nodes' form, a decimal string of attoFIL; CBOR is the actors' form, sign byte and magnitude.
/// [`FromStr`] and [`fmt::Display`] are the people's form, with a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttoFil(BigInt);

impl AttoFil {
    /// No money.
    pub fn zero() -> Self {
        Self::default()
    }

    /// So many attoFIL.
    pub fn from_atto(atto: impl Into<BigInt>) -> Self {
        Self(atto.into())
    }

    /// So many nanoFIL.
    pub fn from_nano(nano: u64) -> Self {
        Self(BigInt::from(nano) * ten_to(NANO_DECIMALS))
    }

    /// So many whole FIL.
    pub fn from_fil(fil: u64) -> Self {
        Self(BigInt::from(fil) * ten_to(FIL_DECIMALS))
    }

    /// The amount in attoFIL.
    pub fn atto(&self) -> &BigInt {
        &self.0
    }

    /// Reads the nodes' form: a decimal string of attoFIL.
    ///
    /// # Errors
    /// [`Error::NotAtto`].
    pub fn from_atto_str(text: &str) -> Result<Self, Error> {
        let not_atto = || Error::NotAtto { text: clip(text) };
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || text.len() > MAX_TEXT || !digits.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(not_atto());
        }
        BigInt::from_str(text)
            .map(Self)
            .map_err(|_digits_were_checked| not_atto())
    }

    /// The nodes' form: a decimal string of attoFIL.
    pub fn to_atto_string(&self) -> String {
        self.0.to_string()
    }

    /// For metrics only: FIL as a float, rounded.
    pub fn to_fil_lossy(&self) -> f64 {
        let text = decimal(&self.0, FIL_DECIMALS);
        text.parse().unwrap_or(f64::NAN)
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    /// Whether it is less than nothing.
    pub fn is_negative(&self) -> bool {
        self.0.is_negative()
    }

    /// `self − other`, but never below zero.
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        if self > other {
            Self(&self.0 - &other.0)
        } else {
            Self::zero()
        }
    }

    /// This share of the amount, rounded down.
    #[must_use]
    pub fn percent(&self, percent: u64) -> Self {
        Self(&self.0 * BigInt::from(percent) / BigInt::from(100))
    }

    /// The amount divided among `parts`, rounded down; everything when there are no parts.
    #[must_use]
    pub fn div_floor(&self, parts: u64) -> Self {
        if parts == 0 {
            self.clone()
        } else {
            Self(&self.0 / BigInt::from(parts))
        }
    }
}

fn ten_to(decimals: usize) -> BigInt {
    let exponent = u32::try_from(decimals).unwrap_or(u32::MAX);
    BigInt::from(10).pow(exponent)
}

/// The start of a text, for messages.
fn clip(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Exact decimal form of `atto / 10^decimals`, without trailing zeros.
fn decimal(atto: &BigInt, decimals: usize) -> String {
    let digits = format!(
        "{:0>width$}",
        atto.abs().to_string(),
        width = decimals.saturating_add(1)
    );
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals));
    let fraction = fraction.trim_end_matches('0');
    let sign = if atto.is_negative() { "-" } else { "" };
    if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}

impl fmt::Display for AttoFil {
    /// Exact, in the unit that reads best. A precision (`{:.4}`) cuts decimals off.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        let (decimals, unit) = if size.is_zero() || size >= ten_to(15) {
            (FIL_DECIMALS, "FIL")
        } else if size >= ten_to(6) {
            (NANO_DECIMALS, "nanoFIL")
        } else {
            (0, "attoFIL")
        };
        let mut number = decimal(&self.0, decimals);
        if let (Some(precision), Some(point)) = (f.precision(), number.find('.')) {
            let keep = if precision == 0 {
                point
            } else {
                point.saturating_add(precision).saturating_add(1)
            };
            number.truncate(keep);
        }
        f.pad_integral(true, "", &format!("{number} {unit}"))
    }
}

impl FromStr for AttoFil {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let not_an_amount = || Error::NotAnAmount { text: clip(text) };
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.len() > MAX_TEXT {
            return Err(not_an_amount());
        }
        let end = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
            return Err(not_an_amount());
        }
        let decimals = match unit.trim_start().to_ascii_lowercase().as_str() {
            "fil" => FIL_DECIMALS,
            "nanofil" | "nfil" => NANO_DECIMALS,
            "attofil" | "afil" => 0,
            "" => {
                return Err(Error::BareNumber {
                    text: clip(trimmed),
                });
            }
            _ => return Err(not_an_amount()),
        };
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > decimals {
            return Err(Error::TooFine {
                text: clip(trimmed),
            });
        }
        let digits = format!("{whole}{fraction:0<decimals$}");
        BigInt::from_str(&digits)
            .map(Self)
            .map_err(|_digits_were_checked| not_an_amount())
    }
}

impl Serialize for AttoFil {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.0)
        } else {
            BigIntSer(&self.0).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for AttoFil {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::from_atto_str(&text).map_err(de::Error::custom)
        } else {
            BigIntDe::deserialize(deserializer).map(|int| Self(int.0))
        }
    }
}

impl From<u64> for AttoFil {
    /// So many attoFIL.
    fn from(atto: u64) -> Self {
        Self(BigInt::from(atto))
    }
}

impl Add for AttoFil {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Add for &AttoFil {
    type Output = AttoFil;
    fn add(self, other: Self) -> AttoFil {
        AttoFil(&self.0 + &other.0)
    }
}

impl AddAssign<&AttoFil> for AttoFil {
    fn add_assign(&mut self, other: &AttoFil) {
        self.0 += &other.0;
    }
}

impl Sub for AttoFil {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Sub for &AttoFil {
    type Output = AttoFil;
    fn sub(self, other: Self) -> AttoFil {
        AttoFil(&self.0 - &other.0)
    }
}

impl SubAssign<&AttoFil> for AttoFil {
    fn sub_assign(&mut self, other: &AttoFil) {
        self.0 -= &other.0;
    }
}

impl Mul<u64> for &AttoFil {
    type Output = AttoFil;
    fn mul(self, times: u64) -> AttoFil {
        AttoFil(&self.0 * BigInt::from(times))
    }
}

impl Sum for AttoFil {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::zero(), |total, amount| total + amount)
    }
}

impl<'a> Sum<&'a AttoFil> for AttoFil {
    fn sum<I: Iterator<Item = &'a AttoFil>>(amounts: I) -> Self {
        amounts.fold(Self::zero(), |total, amount| &total + amount)
    }
}

/// Storage power or a deal weight. Unit: bytes (times quality or epochs). JSON: a decimal string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Power(pub u128);

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Power {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_not_a_number| {
            de::Error::custom(format!("\"{}\" is not a power in bytes", clip(&text)))
        })
    }
}
