//! Images made without an engine: a tar of a root filesystem becomes an archive as `docker save` writes it,
//! which every engine can load. The same bytes in give the same bytes out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::shell;

/// Writes `archive` (a docker-archive) holding one image of one layer.
pub(crate) fn archive(layer: &Path, archive: &Path, reference: &str, command: &[&str]) -> Result<()> {
    let work = archive.with_extension("new");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let layer_digest = sha256(layer)?;
    let config = json!({
        "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Cmd": command,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask" }],
    });
    let config_file = work.join("config.json");
    fs::write(&config_file, config.to_string())?;
    let config_name = format!("{}.json", sha256(&config_file)?);
    fs::rename(&config_file, work.join(&config_name))?;
    let layer_name = format!("{layer_digest}.tar");
    fs::hard_link(layer, work.join(&layer_name))
        .or_else(|_| fs::copy(layer, work.join(&layer_name)).map(drop))?;
    let manifest = json!([{ "Config": config_name, "RepoTags": [reference], "Layers": [layer_name] }]);
    fs::write(work.join("manifest.json"), manifest.to_string())?;
    tar(&work, archive)?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// A root filesystem of one static busybox: the smallest that has a shell, `true`, `sleep` and a web server.
pub(crate) fn busybox_root(place: &Path) -> Result<()> {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(place.join(directory))?;
    }
    let busybox: PathBuf = shell::find("busybox").context("no busybox on this machine")?;
    fs::copy(&busybox, place.join("bin/busybox"))
        .with_context(|| format!("copying {}", busybox.display()))?;
    for name in ["sh", "true", "sleep", "cat", "echo", "ls", "wget", "httpd", "id"] {
        let link = place.join("bin").join(name);
        if !link.exists() {
            symlink("busybox", link)?;
        }
    }
    fs::write(place.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    Ok(())
}

/// Packs a directory, always the same way.
pub(crate) fn tar(directory: &Path, file: &Path) -> Result<()> {
    let mut tar = shell::program("tar");
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    let entries = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    shell::quiet(tar.arg("-cf").arg(file).arg("-C").arg(directory).arg("--").args(entries)).map(drop)
}

pub(crate) fn sha256(file: &Path) -> Result<String> {
    let text = shell::text(shell::program("sha256sum").arg("--").arg(file))?;
    // a name with a backslash is escaped, and says so by a backslash before the digest
    let digest = text.trim_start_matches('\\').split(' ').next().unwrap_or_default();
    Ok(digest.to_owned())
}
