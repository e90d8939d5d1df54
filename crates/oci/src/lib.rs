//! The types of the Open Container Initiative's specifications, as the bytes have them: runtime 1.3
//! (`config.json`), image 1.1 (manifests, indexes, configurations) and distribution 1.1 (errors, tags).
//!
//! Fields are public and named as in the specifications. What a specification lets a reader ignore is
//! ignored; what it asks to be an error is one where the value is used, not here.

pub mod distribution;
pub mod image;
pub mod runtime;
