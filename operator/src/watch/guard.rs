//! An object that may not be what our types say it is.

use std::borrow::Cow;

use filstar_core::world::Unreadable;
use filstar_crds::conditions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object, or its metadata and why it cannot be read.
#[derive(Clone, Debug)]
pub enum Guarded<K> {
    /// It can be read.
    Whole(Box<K>),
    /// It cannot.
    Broken {
        /// Whose.
        meta: Box<ObjectMeta>,
        /// Why.
        why: Unreadable,
    },
}

impl<K> Guarded<K> {
    /// The object.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn into_result(self) -> Result<K, Unreadable> {
        match self {
            Self::Whole(object) => Ok(*object),
            Self::Broken { why, .. } => Err(why),
        }
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("managedFields");
        }
        match K::deserialize(&value) {
            Ok(object) => Ok(Self::Whole(Box::new(object))),
            Err(error) => {
                let meta = value.get("metadata").cloned().unwrap_or_default();
                let meta = ObjectMeta::deserialize(meta).map_err(D::Error::custom)?;
                let why = Unreadable {
                    reason: with_path::<K>(&value).unwrap_or_else(|| error.to_string()),
                    reported: reported(&value),
                };
                Ok(Self::Broken {
                    meta: Box::new(meta),
                    why,
                })
            }
        }
    }
}

/// Why it cannot be read, with the field: read a second time, since keeping track of fields costs.
fn with_path<K: DeserializeOwned>(value: &Value) -> Option<String> {
    let read: Result<K, _> = serde_path_to_error::deserialize(value);
    read.err().map(|error| error.to_string())
}

/// The message of the condition that we wrote about it, if we did.
fn reported(object: &Value) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let ours = conditions.iter().find(|c| {
        c.get("type").and_then(Value::as_str) == Some(conditions::READY)
            && c.get("reason").and_then(Value::as_str) == Some("Unreadable")
    })?;
    ours.get("message")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Whole(object) => object.meta(),
            Self::Broken { meta, .. } => meta,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Whole(object) => object.meta_mut(),
            Self::Broken { meta, .. } => meta,
        }
    }
}
