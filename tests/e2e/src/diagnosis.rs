//! What a test that failed leaves to read: objects, events, the last words of its pods and of the operator.

use crate::cluster::kubectl;
use crate::operator;

/// Longer lines are cut: proofs and signed messages say nothing to people.
const WIDTH: usize = 400;

/// Everything about a namespace, for people.
pub(crate) async fn of(namespace: &str) -> String {
    let mut text = String::new();
    let ns = namespace;
    let kinds = "miners,gaspolicies,sectorstores,sealinggroups,sectors,chainmessages,postbatches";
    section(
        &mut text,
        &["-n", ns, "get", &format!("{kinds},pods"), "-o", "wide"],
    )
    .await;
    section(&mut text, &["-n", ns, "get", kinds, "-o", "yaml"]).await;
    section(
        &mut text,
        &["-n", ns, "get", "events", "--sort-by=.lastTimestamp"],
    )
    .await;
    section(&mut text, &["-n", ns, "get", "events.events.k8s.io"]).await;
    let pods = kubectl(&["-n", ns, "get", "pods", "-o", "name"], "").await;
    for pod in pods.map(|s| s.out).unwrap_or_default().lines() {
        section(&mut text, &["-n", ns, "get", pod, "-o", "yaml"]).await;
        section(&mut text, &["-n", ns, "logs", pod, "--tail=60"]).await;
        section(
            &mut text,
            &["-n", ns, "logs", pod, "--tail=30", "--previous"],
        )
        .await;
    }
    section(&mut text, &["get", "nodes", "-o", "wide"]).await;
    let system = operator::NAMESPACE;
    section(
        &mut text,
        &["-n", system, "get", "pods,leases", "-o", "wide"],
    )
    .await;
    let deployment = format!("deployment/{}", operator::NAME);
    section(
        &mut text,
        &["-n", system, "logs", &deployment, "--tail=200"],
    )
    .await;
    text
}

async fn section(text: &mut String, arguments: &[&str]) {
    let said = match kubectl(arguments, "").await {
        Ok(said) => said.text,
        Err(error) => error.to_string(),
    };
    let mut add = |line: &str| {
        text.extend(line.chars().take(WIDTH));
        text.push('\n');
    };
    add(&format!("==== kubectl {}", arguments.join(" ")));
    said.lines().for_each(&mut add);
}
