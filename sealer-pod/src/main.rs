//! Node side of Filstar: seal, prove, make parameters.

fn main() {}
