//! What the fuzz targets share: `cargo xtask fuzz` builds and runs them.
//!
//! Each file of `src/bin` is one target: a program around libFuzzer, instrumented for coverage by flags that stable
//! compilers have. Here lie the parts that are more than glue: mutators that know JSON and tar, and the kernel's
//! judgement of programs.

pub mod machine;
pub mod mutate;
pub mod tar;
