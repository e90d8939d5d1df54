//! An earlier release: its programs, where they have been built, and the files that it has written (`tests/upgrade`), made
//! to fit an instance of today's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::instance::Dhow;
use crate::spec::skip;

/// The directory of the earlier release's programs; says so where they have not been built.
pub fn old_programs() -> Option<PathBuf> {
    let programs = std::env::var_os("DHOW_OLD_BIN_DIR").map(PathBuf::from);
    if programs.is_none() {
        skip("this checkout", "the programs of an earlier release (cargo xtask soak upgrade)");
    }
    programs
}

/// A file of a container: which fixture it is, and where it lies.
pub type File = (&'static str, fn(&Dhow, &str) -> PathBuf);

/// What is known of a container that runs, and of one that has ended.
pub const FILES: [File; 4] = [
    ("record.json", |dhow, id| dhow.root().join("containers").join(id).join("record.json")),
    ("exit.json", |dhow, id| dhow.root().join("containers").join(id).join("exit.json")),
    ("live.json", |dhow, id| dhow.run_root().join("containers").join(id).join("live.json")),
    ("request.json", |dhow, id| dhow.run_root().join("containers").join(id).join("request.json")),
];

/// Where a fixture lies.
pub fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("upgrade").join(name)
}

/// A fixture, with placeholders.
#[track_caller]
pub fn fixture(name: &str) -> String {
    let path = fixture_path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What of a file is an instance's own, and what stands for it in a fixture.
#[derive(Debug)]
pub struct Fixtures(Vec<(&'static str, String)>);

impl Fixtures {
    /// Of a container made of the image `busybox`.
    #[track_caller]
    pub fn new(dhow: &Dhow, id: &str) -> Self {
        let image = dhow.inspect("busybox");
        let hex = |value: &Value| {
            let digest = value.as_str().expect("a digest is a string");
            digest.strip_prefix("sha256:").unwrap_or(digest).to_owned()
        };
        let path = |path: PathBuf| path.to_str().expect("a test's paths are text").to_owned();
        Self(vec![
            ("@ID@", id.to_owned()),
            ("@SHORT@", id[..12].to_owned()),
            ("@IMAGE@", hex(&image["Id"])),
            ("@LAYER@", hex(&image["RootFS"]["Layers"][0])),
            ("@ROOT@", path(dhow.root())),
            ("@RUN@", path(dhow.run_root())),
            ("@NAME@", dhow.global_name().to_owned()),
            ("@TAG@", dhow.global_name().trim_start_matches("dhow-").to_owned()),
        ])
    }

    /// A file of the instance as a fixture.
    pub fn generalize(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (placeholder, own)| text.replace(own, placeholder))
    }

    /// A fixture as a file of the instance.
    #[track_caller]
    pub fn of(&self, name: &str) -> String {
        self.0.iter().fold(fixture(name), |text, (placeholder, own)| text.replace(placeholder, own))
    }
}

/// What a document is made of: its keys, and the kinds of its values; of a list, those of its first item.
pub fn shape(value: &Value) -> BTreeMap<String, &'static str> {
    let mut found = BTreeMap::new();
    describe(value, "", &mut found);
    found
}

fn describe(value: &Value, at: &str, found: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            if let Some(first) = items.first() {
                describe(first, &format!("{at}[]"), found);
            }
            "array"
        }
        Value::Object(members) => {
            for (key, member) in members {
                describe(member, &format!("{at}.{key}"), found);
            }
            "object"
        }
    };
    found.insert(at.to_owned(), kind);
}
