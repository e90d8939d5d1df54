//! The choice of a manifest by platform (image-index.md; the order of preference is containerd's).

use oci::image::{Descriptor, Index, Platform};

/// Marks a manifest that tells about another one (provenance, SBOM) and is no image.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// The platform of this machine.
pub fn host() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", Some("v8")),
        "arm" => ("arm", Some("v7")),
        "x86" => ("386", None),
        "powerpc64" => ("ppc64le", None),
        other => (other, None),
    };
    Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        variant: variant.map(str::to_owned),
        os_version: None,
    }
}

/// A platform as users write it: `linux/arm64`, `linux/arm/v7`, `arm64`.
pub fn parse(text: &str) -> Option<Platform> {
    let good = |part: &&str| {
        part.len() < 32
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    let parts: Vec<&str> = text.split('/').collect();
    if !parts.iter().all(good) {
        return None;
    }
    let (os, architecture, variant) = match parts[..] {
        ["linux"] => return Some(host()),
        [architecture] => ("linux", architecture, None),
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some(variant)),
        _ => return None,
    };
    let platform = Platform {
        architecture: architecture.to_ascii_lowercase(),
        os: os.to_ascii_lowercase(),
        variant: variant.map(str::to_ascii_lowercase),
        os_version: None,
    };
    Some(normalize(&platform))
}

/// `linux/amd64`, `linux/arm/v7`: for messages.
pub fn display(platform: &Platform) -> String {
    let Platform { architecture, os, variant, .. } = platform;
    match variant {
        Some(variant) => format!("{os}/{architecture}/{variant}"),
        None => format!("{os}/{architecture}"),
    }
}

/// Whether a descriptor of an index stands for an image, and not for what is told about one.
pub(crate) fn is_image(descriptor: &Descriptor) -> bool {
    !descriptor.annotations.contains_key(REFERENCE_TYPE)
}

/// The manifest of an index that suits `platform` best, if any does. The first of equals wins.
pub fn choose_platform<'i>(index: &'i Index, platform: &Platform) -> Option<&'i Descriptor> {
    let images = || index.manifests.iter().filter(|d| is_image(d));
    let best = images()
        .filter_map(|d| Some((rank(d.platform.as_ref()?, platform)?, d)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, descriptor)| descriptor);
    // An index that names no platforms and has one image leaves no choice (umoci and old tools write such).
    best.or_else(|| {
        let mut images = images();
        images.next().filter(|only| only.platform.is_none() && images.next().is_none())
    })
}

/// Whether what was made for one platform is what somebody wants who names the other.
pub(crate) fn suits(offered: &Platform, wanted: &Platform) -> bool {
    rank(offered, wanted).is_some()
}

/// How well `offered` suits `wanted`: 0 exactly, more is worse; `None`: not at all.
fn rank(offered: &Platform, wanted: &Platform) -> Option<u8> {
    let (offered, wanted) = (normalize(offered), normalize(wanted));
    if offered.os != wanted.os {
        return None;
    }
    if offered.architecture == wanted.architecture {
        if offered.variant == wanted.variant {
            return Some(0);
        }
        let (offered, wanted) = (level(offered.variant.as_deref()), level(wanted.variant.as_deref()));
        // A machine runs what was made for its predecessors: the nearest of them.
        return match (offered, wanted) {
            (Some(offered), Some(wanted)) if offered < wanted => Some(wanted - offered),
            (None, _) => Some(50),
            _ => None,
        };
    }
    // 32-bit programs run on these, if the user asked for nothing else and there is nothing better.
    match (&*offered.architecture, &*wanted.architecture) {
        ("386", "amd64") => Some(100),
        ("arm", "arm64") => Some(100 + 8 - level(offered.variant.as_deref()).unwrap_or(7).min(8)),
        _ => None,
    }
}

fn level(variant: Option<&str>) -> Option<u8> {
    variant?.strip_prefix('v')?.parse().ok().filter(|level| *level < 50)
}

/// One spelling for each platform.
fn normalize(platform: &Platform) -> Platform {
    let mut platform = platform.clone();
    let (architecture, variant) = match (&*platform.architecture, platform.variant.as_deref()) {
        ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("i386" | "i486" | "i586" | "i686", _) => ("386", None),
        ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", Some("v8")),
        ("armhf", _) | ("arm", None | Some("" | "7")) => ("arm", Some("v7")),
        ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
        ("arm", Some("5")) => ("arm", Some("v5")),
        (same, variant) => (same, variant.filter(|v| !v.is_empty())),
    };
    (platform.architecture, platform.variant) = (architecture.to_owned(), variant.map(str::to_owned));
    platform
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Digest;

    fn index(platforms: &[&str]) -> Index {
        let manifests = platforms.iter().map(|text| Descriptor {
            media_type: oci::image::media_type::MANIFEST.to_owned(),
            digest: Digest::of(text.as_bytes()),
            size: 1,
            platform: text.split_once('/').map(|(os, rest)| Platform {
                os: os.to_owned(),
                architecture: rest.split('/').next().unwrap().to_owned(),
                variant: rest.split_once('/').map(|(_, v)| v.to_owned()),
                os_version: None,
            }),
            annotations: [].into(),
        });
        Index { schema_version: 2, media_type: None, manifests: manifests.collect(), annotations: [].into() }
    }

    fn chosen(platforms: &[&str], wanted: &str) -> Option<String> {
        let index = index(platforms);
        let chosen = choose_platform(&index, &parse(wanted).unwrap())?;
        platforms.iter().find(|t| Digest::of(t.as_bytes()) == chosen.digest).map(|t| (*t).to_owned())
    }

    #[test]
    fn the_best_platform_wins() {
        let many =
            ["windows/amd64", "linux/386", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "linux/amd64"];
        for (wanted, want) in [
            ("amd64", Some("linux/amd64")),
            ("linux/x86_64", Some("linux/amd64")),
            ("linux/arm64", Some("linux/arm64/v8")),
            ("linux/aarch64", Some("linux/arm64/v8")),
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v5")),
            ("linux/s390x", None),
        ] {
            assert_eq!(chosen(&many, wanted).as_deref(), want, "{wanted}");
        }
        assert_eq!(chosen(&["linux/386"], "amd64").as_deref(), Some("linux/386"));
        assert_eq!(chosen(&["linux/amd64/v3", "linux/amd64"], "amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(chosen(&["linux/amd64/v3"], "amd64"), None);
        assert_eq!(chosen(&["only"], "amd64").as_deref(), Some("only"));
        assert_eq!(chosen(&["one", "two"], "amd64"), None);
        assert!(chosen(&["linux/amd64"], "linux").is_some() || std::env::consts::ARCH != "x86_64");
    }

    #[test]
    fn attestations_are_no_images() {
        let mut index = index(&["linux/amd64"]);
        index.manifests[0].annotations.insert(REFERENCE_TYPE.to_owned(), "attestation-manifest".to_owned());
        assert_eq!(choose_platform(&index, &parse("amd64").unwrap()), None);
    }

    #[test]
    fn platforms_that_make_no_sense_are_refused() {
        for bad in ["", "/", "a/b/c/d", "linux/", "li nux/amd64", "../x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
