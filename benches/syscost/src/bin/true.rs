//! The least that a container can run: a static program that succeeds.

fn main() {}
