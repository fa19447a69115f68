//! Numbers that may be left to the operator or the sealer.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A number of 1 to 64, or `Auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// As many as the resources allow.
    Auto,
    /// So many.
    Number(u32),
}

impl Count {
    /// Whether it is the default.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands over a reference"
    )]
    pub(crate) fn is_one(&self) -> bool {
        *self == Self::Number(1)
    }
}

impl Default for Count {
    fn default() -> Self {
        Self::Number(1)
    }
}

impl Serialize for Count {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("Auto"),
            Self::Number(n) => serializer.serialize_u32(*n),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u32),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(n) => Ok(Self::Number(n)),
            Either::Text(text) if text == "Auto" => Ok(Self::Auto),
            Either::Text(text) => Err(serde::de::Error::custom(format!(
                "`{text}` is neither a number nor Auto"
            ))),
        }
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 1,
            "maximum": 64,
            "pattern": "^Auto$",
        })
    }
}

/// 1, 2 or 4, or `Auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PerCore {
    /// As many as it takes.
    Auto,
    /// One.
    #[default]
    One,
    /// Two.
    Two,
    /// Four.
    Four,
}

impl PerCore {
    /// The largest number that it may come to.
    pub const fn most(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Auto | Self::Four => 4,
        }
    }

    /// Whether it is the default.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands over a reference"
    )]
    pub(crate) fn is_one(&self) -> bool {
        *self == Self::One
    }
}

impl Serialize for PerCore {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => Count::Auto,
            Self::One | Self::Two | Self::Four => Count::Number(self.most()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PerCore {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Count::deserialize(deserializer)? {
            Count::Auto => Ok(Self::Auto),
            Count::Number(1) => Ok(Self::One),
            Count::Number(2) => Ok(Self::Two),
            Count::Number(4) => Ok(Self::Four),
            Count::Number(n) => Err(serde::de::Error::custom(format!(
                "`{n}` is none of 1, 2, 4 and Auto"
            ))),
        }
    }
}

impl JsonSchema for PerCore {
    fn schema_name() -> Cow<'static, str> {
        "PerCore".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "enum": [1, 2, 4, "Auto"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_core_is_one_two_four_or_auto_and_nothing_else() {
        for (text, value) in [
            ("1", PerCore::One),
            ("2", PerCore::Two),
            ("4", PerCore::Four),
            (r#""Auto""#, PerCore::Auto),
        ] {
            assert_eq!(serde_json::from_str::<PerCore>(text).ok(), Some(value));
            assert_eq!(serde_json::to_string(&value).ok().as_deref(), Some(text));
        }
        for text in ["0", "3", "8", r#""4""#, "null"] {
            assert!(serde_json::from_str::<PerCore>(text).is_err(), "{text}");
        }
    }
}
