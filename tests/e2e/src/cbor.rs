//! Just enough CBOR to read sector numbers out of messages, with no code that Filstar or the devnet uses.

use anyhow::{Context as _, bail, ensure};

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An integer.
    Int(i128),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A tagged value, such as a link.
    Tag(u64, Box<Value>),
    /// true, false, null.
    Simple(u8),
}

impl Value {
    /// The items of a list.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(&self) -> anyhow::Result<&[Self]> {
        let Self::List(items) = self else {
            bail!("expected a list, found {self:?}")
        };
        Ok(items)
    }

    /// The item of a list.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(&self, index: usize) -> anyhow::Result<&Self> {
        self.list()?
            .get(index)
            .with_context(|| format!("a list without item {index}"))
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is something else.
    pub fn int(&self) -> anyhow::Result<i64> {
        let Self::Int(number) = self else {
            bail!("expected a number, found {self:?}")
        };
        Ok(i64::try_from(*number)?)
    }
}

/// Reads one value, and nothing may follow.
///
/// # Errors
/// When the bytes are anything else.
pub fn read(mut bytes: &[u8]) -> anyhow::Result<Value> {
    let value = item(&mut bytes)?;
    ensure!(bytes.is_empty(), "{} bytes follow the value", bytes.len());
    Ok(value)
}

fn item(bytes: &mut &[u8]) -> anyhow::Result<Value> {
    let first = take(bytes, 1)?[0];
    let (major, minor) = (first >> 5, first & 31);
    if major == 7 {
        return Ok(Value::Simple(minor));
    }
    let number = match minor {
        0..=23 => u64::from(minor),
        24..=27 => take(bytes, 1 << (minor - 24))?
            .iter()
            .fold(0, |n, b| n << 8 | u64::from(*b)),
        _ => bail!("a length that is not written"),
    };
    Ok(match major {
        0 => Value::Int(i128::from(number)),
        1 => Value::Int(-1 - i128::from(number)),
        2 => Value::Bytes(take(bytes, usize::try_from(number)?)?.to_vec()),
        3 => Value::Text(String::from_utf8(
            take(bytes, usize::try_from(number)?)?.to_vec(),
        )?),
        4 => Value::List(
            (0..number)
                .map(|_| item(bytes))
                .collect::<anyhow::Result<_>>()?,
        ),
        6 => Value::Tag(number, Box::new(item(bytes)?)),
        _ => bail!("major type {major} is in no message that we know"),
    })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> anyhow::Result<&'a [u8]> {
    let (head, tail) = bytes
        .split_at_checked(count)
        .context("the bytes end too early")?;
    *bytes = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_rfc_8949() {
        assert_eq!(
            read(&[0x1a, 0, 0x0f, 0x42, 0x40]).unwrap(),
            Value::Int(1_000_000)
        );
        assert_eq!(read(&[0x38, 99]).unwrap(), Value::Int(-100));
        let nested = read(&[0x82, 0x01, 0x82, 0x02, 0x41, 7]).unwrap();
        assert_eq!(nested.at(1).unwrap().at(0).unwrap().int().unwrap(), 2);
        assert_eq!(nested.at(1).unwrap().at(1).unwrap(), &Value::Bytes(vec![7]));
    }

    #[test]
    fn cut_and_overlong_bytes_are_errors() {
        assert!(read(&[0x82, 0x01]).is_err());
        assert!(read(&[0x01, 0x01]).is_err());
    }
}
