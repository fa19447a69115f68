//! A Filecoin chain in one process, for demos and tests.

fn main() {}
