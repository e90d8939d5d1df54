//! The command line of Dhow.
fn main() {}
