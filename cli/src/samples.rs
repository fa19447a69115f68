//! The YAML that users are shown is read by the types of the API, with nothing left over.

use filstar_crds::{GasPolicy, Miner, PostBatch, SealingGroup, SectorStore};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

const DEMO: &str = include_str!("../../deploy/demo/filstar.yaml");

fn objects() -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(DEMO)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

/// Reads an object and writes it again; what was understood is there again.
fn round<K: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let read: K = serde_json::from_value(object.clone()).unwrap();
    serde_json::to_value(read).unwrap()
}

/// The first path in `written` that `read` does not have.
fn lost(written: &Value, read: &Value, path: &str) -> Option<String> {
    match (written, read) {
        (Value::Object(w), Value::Object(r)) => w.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            r.get(key)
                .map_or(Some(path.clone()), |other| lost(value, other, &path))
        }),
        (Value::Array(w), Value::Array(r)) if w.len() == r.len() => w
            .iter()
            .zip(r)
            .find_map(|(value, other)| lost(value, other, path)),
        _ if written == read => None,
        _ => Some(path.into()),
    }
}

#[test]
fn demo_is_read_by_the_types_with_nothing_left_over() {
    let objects = objects();
    assert_eq!(objects.len(), 5);
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        let read = match kind {
            "Miner" => round::<Miner>(&object),
            "GasPolicy" => round::<GasPolicy>(&object),
            "SectorStore" => round::<SectorStore>(&object),
            "SealingGroup" => round::<SealingGroup>(&object),
            "PostBatch" => round::<PostBatch>(&object),
            other => panic!("no type for {other}"),
        };
        assert_eq!(lost(&object, &read, ""), None, "{kind}");
    }
}
