//! The choice of a manifest by platform.

use oci::image::{Descriptor, Index, Platform};

/// The platform of this machine.
pub fn host() -> Platform {
    todo!()
}

/// A platform as users write it: `linux/arm64`, `linux/arm/v7`, `arm64`.
pub fn parse(_text: &str) -> Option<Platform> {
    todo!()
}

/// The manifest of an index that suits `platform` best, if any does.
pub fn choose_platform<'i>(_index: &'i Index, _platform: &Platform) -> Option<&'i Descriptor> {
    todo!()
}
