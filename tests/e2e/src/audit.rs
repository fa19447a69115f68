//! The API server's audit log: who wrote what, in which order.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// One request that was answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `ResponseComplete` and others.
    pub stage: String,
    /// `create`, `patch`, …
    pub verb: String,
    /// Who asked.
    pub user: User,
    /// For what.
    #[serde(default)]
    pub object_ref: ObjectRef,
    /// The answer.
    #[serde(default)]
    pub response_status: ResponseStatus,
    /// The body, for our own kinds and for leases.
    #[serde(default)]
    pub request_object: Value,
    /// When the answer was complete.
    pub stage_timestamp: Timestamp,
}

/// Who asked.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct User {
    /// Such as `system:serviceaccount:filstar-system:filstar-operator`.
    pub username: String,
}

/// What a request was about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectRef {
    /// Plural of the kind.
    pub resource: String,
    /// Namespace.
    pub namespace: String,
    /// Name; of a `create` it may be missing.
    pub name: String,
    /// Such as `status`.
    pub subresource: String,
}

/// The answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    /// HTTP status.
    pub code: u16,
}

impl Event {
    /// Whether it changed something.
    pub fn is_write(&self) -> bool {
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        self.succeeded() && writes.contains(&self.verb.as_str())
    }

    /// Whether the answer was a good one.
    pub fn succeeded(&self) -> bool {
        self.stage == "ResponseComplete" && (200..300).contains(&self.response_status.code)
    }

    /// The object's name, also of a `create`.
    pub fn name(&self) -> &str {
        let written = self
            .request_object
            .pointer("/metadata/name")
            .and_then(Value::as_str);
        if self.object_ref.name.is_empty() {
            written.unwrap_or_default()
        } else {
            &self.object_ref.name
        }
    }

    /// For people.
    pub fn line(&self) -> String {
        let o = &self.object_ref;
        let sub = if o.subresource.is_empty() {
            String::new()
        } else {
            format!("/{}", o.subresource)
        };
        let name = self.name();
        format!(
            "{} {} {}{sub} {}/{name} {}",
            self.stage_timestamp, self.verb, o.resource, o.namespace, self.response_status.code
        )
    }
}

/// The log from a moment on.
#[derive(Clone, Debug)]
pub struct Audit {
    path: PathBuf,
    start: u64,
}

impl Audit {
    /// The log from now on.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_now() -> anyhow::Result<Self> {
        let mut log = Self::whole()?;
        log.start = std::fs::metadata(&log.path)?.len();
        Ok(log)
    }

    /// The log as far back as it goes.
    ///
    /// # Errors
    /// When there is none.
    pub fn whole() -> anyhow::Result<Self> {
        let path = crate::setting("FILSTAR_AUDIT_LOG")
            .unwrap_or_else(|| "/var/lib/filstar-cluster/audit.log".into());
        let path = PathBuf::from(path);
        std::fs::metadata(&path)
            .with_context(|| format!("{}: the API server's audit log", path.display()))?;
        Ok(Self { path, start: 0 })
    }

    /// Events whose text has `part`, oldest first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn events(&self, part: &str) -> anyhow::Result<Vec<Event>> {
        self.lines(|line| line.contains(part))
    }

    /// Writes of objects of these kinds, by plural, oldest first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn writes(&self, resources: &[&str]) -> anyhow::Result<Vec<Event>> {
        let parts: Vec<String> = resources
            .iter()
            .map(|r| format!("\"resource\":\"{r}\""))
            .collect();
        let mut events = self.lines(|line| parts.iter().any(|part| line.contains(part)))?;
        events.retain(Event::is_write);
        Ok(events)
    }

    fn lines(&self, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Event>> {
        let mut file = File::open(&self.path)?;
        // A log that was turned over begins anew.
        let start = if file.metadata()?.len() < self.start {
            0
        } else {
            self.start
        };
        file.seek(SeekFrom::Start(start))?;
        let mut events: Vec<Event> = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line?;
            if wanted(&line)
                && let Ok(event) = serde_json::from_str(&line)
            {
                events.push(event);
            }
        }
        events.sort_by_key(|e| e.stage_timestamp);
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_of_a_create_has_the_name_of_its_body() {
        let event: Event = serde_json::from_str(
            r#"{"stage":"ResponseComplete","verb":"create","user":{"username":"u"},
                "objectRef":{"resource":"sectors","namespace":"n"},"responseStatus":{"code":201},
                "requestObject":{"metadata":{"name":"t01000-0"}},
                "stageTimestamp":"2026-01-02T03:04:05.000006Z"}"#,
        )
        .unwrap();
        assert_eq!(event.name(), "t01000-0");
        assert!(event.is_write());
    }
}
