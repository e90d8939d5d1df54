//! Tries, from inside a container, what a container must not be able to do; prints what the kernel answers.

fn main() {}
