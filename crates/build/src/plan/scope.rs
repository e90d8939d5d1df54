//! Which variables there are, and what they are.

use std::collections::BTreeMap;

use oci::image::Platform;

/// Variables, in the order in which they were set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Each with when it was set.
    values: BTreeMap<String, (usize, String)>,
    sets: usize,
}

impl Scope {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| &**value)
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.sets += 1;
        self.values.insert(name.to_owned(), (self.sets, value.into()));
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(|name| &**name)
    }

    /// `NAME=value`.
    pub(super) fn to_env(&self) -> Vec<String> {
        let mut entries: Vec<_> = self.values.iter().collect();
        entries.sort_by_key(|(_, (set, _))| *set);
        entries.into_iter().map(|(name, (_, value))| format!("{name}={value}")).collect()
    }
}

/// Arguments that need not be declared to be passed to each `RUN`, and that no history tells of.
pub(super) const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Whether a build argument means something without being declared.
pub(super) fn is_predefined(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
        || name.starts_with("BUILDKIT_")
        || name == "SOURCE_DATE_EPOCH"
        || PLATFORM_NAMES.contains(&name)
}

const PLATFORM_NAMES: [&str; 11] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// The arguments that say what is built, and where: known before the first `FROM`, and in stages that declare them.
pub(super) fn platform_arguments(
    target: &Platform,
    build: &Platform,
    stage: &str,
    given: &BTreeMap<String, String>,
) -> Scope {
    let (target, build) = (normalized(target), normalized(build));
    let version = |platform: &Platform| platform.os_version.clone().unwrap_or_default();
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    let values = [
        display(&build),
        build.os.clone(),
        version(&build),
        build.architecture.clone(),
        variant(&build),
        display(&target),
        target.os.clone(),
        version(&target),
        target.architecture.clone(),
        variant(&target),
        stage.to_owned(),
    ];
    let mut scope = Scope::default();
    for (name, value) in PLATFORM_NAMES.into_iter().zip(values) {
        scope.set(name, given.get(name).cloned().unwrap_or(value));
    }
    scope
}

/// One spelling for each platform, as Docker has it: 64-bit ARM is always `v8`, and so does not say it.
pub(super) fn normalized(platform: &Platform) -> Platform {
    let mut platform = platform.clone();
    let variant = platform.variant.as_deref().filter(|variant| !variant.is_empty());
    let (architecture, variant) = match (&*platform.architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("i386" | "i486" | "i586" | "i686", _) => ("386", None),
        ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
        ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
        ("arm", Some("5")) => ("arm", Some("v5")),
        ("arm", Some("8")) => ("arm", Some("v8")),
        (same, variant) => (same, variant),
    };
    let (architecture, variant) = (architecture.to_owned(), variant.map(str::to_owned));
    (platform.architecture, platform.variant) = (architecture, variant);
    platform
}

/// `linux/arm/v7`.
pub(super) fn display(platform: &Platform) -> String {
    let platform = normalized(platform);
    match &platform.variant {
        Some(variant) => format!("{}/{}/{variant}", platform.os, platform.architecture),
        None => format!("{}/{}", platform.os, platform.architecture),
    }
}

/// A platform as `--platform` has it; what it does not say is as on the machine that builds.
pub(super) fn parse_platform(text: &str, build: &Platform) -> Option<Platform> {
    let good = |part: &&str| {
        !part.is_empty()
            && part.len() < 32
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    let lower = text.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('/').collect();
    if !parts.iter().all(good) {
        return None;
    }
    let (os, architecture, variant) = match parts[..] {
        ["linux"] => return Some(normalized(build)),
        ["windows" | "darwin" | "freebsd"] => (parts[0], &*build.architecture, None),
        [architecture] if KNOWN.contains(&architecture) => (&*build.os, architecture, None),
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
        _ => return None,
    };
    let (os, architecture) = (os.to_owned(), architecture.to_owned());
    Some(normalized(&Platform { os, architecture, variant, os_version: None }))
}

/// Architectures that may stand alone.
const KNOWN: [&str; 17] = [
    "amd64", "x86_64", "x86-64", "386", "i386", "i686", "arm", "armhf", "armel", "arm64", "aarch64",
    "ppc64le", "s390x", "riscv64", "mips64le", "mips64", "loong64",
];
