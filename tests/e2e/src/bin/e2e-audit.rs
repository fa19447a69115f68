//! Checks the invariants of [`filstar_e2e::invariants`] over the API server's audit log.
//!
//! `e2e-audit SINCE`: what was written since then (RFC 3339). One line for each rule; fails when one is broken.

#![forbid(unsafe_code)]

use anyhow::Context as _;
use filstar_e2e::{Audit, invariants};
use jiff::Timestamp;

fn main() -> anyhow::Result<()> {
    let since = std::env::args().nth(1).context("usage: e2e-audit SINCE")?;
    let since: Timestamp = since
        .parse()
        .context("SINCE is a time such as 2026-01-01T00:00:00Z")?;
    // What came before is read as well: who cordoned a node, and which pods are where.
    let events = Audit::whole()?.writes(&["pods", "nodes", "sealingnodes"])?;
    let found = invariants::check(&events, since)?;
    for line in found.lines() {
        println!("audit: {line}");
    }
    for violation in &found.violations {
        println!("  {violation}");
    }
    anyhow::ensure!(found.violations.is_empty(), "a rule is broken");
    Ok(())
}
