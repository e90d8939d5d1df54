//! Registries on loopback.
