//! kubectl-filstar: reports and actions for providers.

fn main() {}
