//! Images made on the spot.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use base::Digest;
use serde_json::{Value, json};

use crate::tar::Tar;

/// The search path in our images.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image to be: layers as tar archives, lowest first, and what its configuration says beside them.
#[derive(Debug, Clone)]
pub struct Image {
    /// `name:tag`.
    pub name: String,
    /// Uncompressed.
    pub layers: Vec<Vec<u8>>,
    /// The `config` object: `Env`, `Cmd`, `Entrypoint`, `User`, `WorkingDir`, …
    pub config: Value,
}

impl Image {
    /// One whose only layer is a busybox with its applets, users and empty directories.
    pub fn busybox(name: &str) -> Self {
        let config = json!({ "Env": [format!("PATH={PATH}")], "Cmd": ["sh"] });
        Self { name: name.to_owned(), layers: vec![busybox_layer().to_vec()], config }
    }

    /// With another layer on top.
    #[must_use]
    pub fn with_layer(mut self, layer: Tar) -> Self {
        self.layers.push(layer.finish());
        self
    }

    /// With a key of its configuration set.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// The configuration, as a registry has it.
    pub fn config_json(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-02-29T12:34:56Z",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": [],
        })
        .to_string()
        .into_bytes()
    }

    /// As `docker save` writes it.
    pub fn docker_archive(&self) -> Vec<u8> {
        let config = self.config_json();
        let config_name = format!("{}.json", Digest::of(&config).hex());
        let mut tar = Tar::new().file(&config_name, 0o644, &config);
        let mut names = Vec::new();
        for layer in &self.layers {
            let dir = Digest::of(layer).hex();
            let name = format!("{dir}/layer.tar");
            if !names.contains(&name) {
                tar = tar.dir(&format!("{dir}/"), 0o755).file(&name, 0o644, layer);
            }
            names.push(name);
        }
        let manifest = json!([{ "Config": config_name, "RepoTags": [self.name], "Layers": names }]);
        tar.file("manifest.json", 0o644, manifest.to_string()).finish()
    }
}

/// Where the host's static busybox is.
pub fn busybox_path() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/bin".into(), "/usr/bin".into()]);
    let mut candidates = directories.map(|dir| dir.join("busybox"));
    candidates.find(|file| file.exists()).expect("no busybox on PATH: install busybox-static")
}

/// The layer of [`Image::busybox`].
pub fn busybox_layer() -> &'static [u8] {
    static LAYER: OnceLock<Vec<u8>> = OnceLock::new();
    LAYER.get_or_init(|| {
        let program = busybox_path();
        let binary = std::fs::read(&program).expect("cannot read busybox");
        let applets = Command::new(&program).arg("--list").output().expect("busybox does not run").stdout;
        let mut tar = Tar::new();
        for dir in ["bin", "dev", "etc", "home", "home/app", "proc", "root", "sys", "usr", "usr/bin", "var"] {
            tar = tar.dir(&format!("{dir}/"), 0o755);
        }
        tar = tar.dir("tmp/", 0o1777).file("bin/busybox", 0o755, binary);
        for applet in String::from_utf8_lossy(&applets).lines().filter(|name| *name != "busybox") {
            tar = tar.symlink(&format!("bin/{applet}"), "busybox");
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/:/bin/false\n";
        let group = "root:x:0:\nwheel:x:10:app\napp:x:1000:\nextra:x:2000:app,other\nnogroup:x:65534:\n";
        tar.file("etc/passwd", 0o644, passwd)
            .file("etc/group", 0o644, group)
            .file("etc/not-executable", 0o644, "text\n")
            .finish()
    })
}
