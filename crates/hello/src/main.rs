//! `dhow-hello`, the only file of the built-in image `hello`: reports what the container sees.

fn main() {}
