//! A wrong spec is refused by the API server, with a message that names the right form; and the fields are explained.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use filstar_e2e::cluster::{kubectl, must_kubectl};
use filstar_e2e::nodes::Need;
use filstar_e2e::{Scenario, Setup, scenario};
use serde_json::Value;

fn setup(name: &'static str, actor: u64) -> Setup {
    Setup {
        need: Need::Nodes(0),
        ..Setup::new(name, actor)
    }
}

#[test]
fn e2e_wrong_spec_is_refused_with_the_right_form() {
    scenario(setup("refused", 1500), async |s: &Scenario| {
        // What later changes start from: good objects.
        let good = fs::read_to_string(testdata("good.yaml"))?;
        must_kubectl(&["-n", &s.namespace, "apply", "-f", "-"], &good).await?;
        // And what the README tells people to start from.
        for name in ["provider.yaml", "node.yaml"] {
            let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
            let example = fs::read_to_string(examples.join(name))?
                .replace("namespace: mining", &format!("namespace: {}", s.namespace))
                .replace("NODE", "node-a");
            must_kubectl(&["apply", "--dry-run=server", "-f", "-"], &example).await?;
        }
        let table = fs::read_to_string(testdata("refused.yaml"))?;
        let mut failed = Vec::new();
        let mut count = 0;
        for case in table
            .split("\n---\n")
            .map(str::trim)
            .filter(|c| !c.is_empty())
        {
            let first = case.lines().next().unwrap_or_default();
            let wanted = first
                .strip_prefix("# ")
                .context("each case begins with `# <what it says>`")?;
            let said = kubectl(&["-n", &s.namespace, "apply", "-f", "-"], case).await?;
            if said.ok || !said.text.contains(wanted) {
                failed.push(format!("wanted {wanted:?}, got {}", said.text.trim()));
            }
            count += 1;
        }
        ensure!(
            failed.is_empty(),
            "{} of {count} cases:\n{}",
            failed.len(),
            failed.join("\n")
        );
        s.say(&format!(
            "{count} wrong specs were refused, each with what to write instead"
        ));
        Ok(())
    });
}

fn testdata(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(file)
}

#[test]
fn e2e_every_field_of_a_spec_is_explained() {
    scenario(setup("explained", 1510), async |s: &Scenario| {
        let kinds = [
            "miners",
            "sealinggroups",
            "gaspolicies",
            "sectorstores",
            "postbatches",
            "sectors",
            "chainmessages",
            "sealingnodes",
        ];
        let mut bare = Vec::new();
        for kind in kinds {
            let crd = must_kubectl(
                &["get", "crd", &format!("{kind}.filstar.io"), "-o", "json"],
                "",
            )
            .await?;
            let crd: Value = serde_json::from_str(&crd)?;
            let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
            undescribed(kind, schema.context("a kind without spec")?, &mut bare);
        }
        ensure!(bare.is_empty(), "fields without a description: {bare:?}");
        let text = must_kubectl(&["explain", "sealinggroup.spec"], "").await?;
        for part in [
            "lanes",
            "-required-",
            "Where sectors are while they are sealed",
            "What runs on each node",
        ] {
            ensure!(
                text.contains(part),
                "no {part:?} in what kubectl explains:\n{text}"
            );
        }
        let text = must_kubectl(&["explain", "sealinggroup.spec.lanes.memory"], "").await?;
        ensure!(text.contains("Memory of the pod"), "{text}");
        s.say("every field of every spec has a description");
        Ok(())
    });
}

/// Fields below a schema that say nothing about themselves.
fn undescribed(path: &str, schema: &Value, bare: &mut Vec<String>) {
    if let Some(items) = schema.get("items") {
        undescribed(path, items, bare);
    }
    for (name, field) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = format!("{path}.{name}");
        if field["description"].as_str().is_none_or(str::is_empty) {
            bare.push(path.clone());
        }
        undescribed(&path, field, bare);
    }
}
