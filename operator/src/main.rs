//! Control plane of Filstar: world, plan, apply, status.

fn main() {}
