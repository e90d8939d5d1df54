//! The image of the pull's benchmark: eight layers of some 40 MB, compressed, in an OCI layout that is made once and
//! kept below `target/`. The bytes are invented, always the same, and compress as those of a distribution do: texts
//! well, programs by half, archives not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::image::{sha256, tar};
use crate::shell;

/// A change of what is made needs another number: old layouts are kept otherwise.
const VERSION: u32 = 4;
const LAYERS: u64 = 8;
const TEXTS: u64 = 2400;
const PROGRAMS: u64 = 50;
const ARCHIVES: u64 = 3;

/// How its layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The layout, whose one image has the tag `bench`.
pub(crate) fn layout(compression: Compression) -> Result<PathBuf> {
    let place = shell::target_dir().join(format!("bench-pull-{VERSION}")).join(compression.name());
    if place.join("index.json").exists() {
        return Ok(place);
    }
    println!("making an image with {} layers, once", compression.name());
    let work = place.with_extension("new");
    let _ = fs::remove_dir_all(&work);
    let blobs = work.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("making {}", blobs.display()))?;
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for number in 0..LAYERS {
        let (tree, archive) = (work.join("tree"), work.join("layer.tar"));
        fill(&tree, number)?;
        tar(&tree, &archive)?;
        fs::remove_dir_all(&tree)?;
        diff_ids.push(format!("sha256:{}", sha256(&archive)?));
        let packed = work.join("layer");
        let mut command = match compression {
            Compression::Gzip => shell::program("gzip"),
            Compression::Zstd => shell::program("zstd"),
        };
        match compression {
            Compression::Gzip => command.args(["-6", "-n", "-c"]),
            Compression::Zstd => command.args(["-q", "-9", "-c"]),
        };
        let output = fs::File::create(&packed)?;
        anyhow::ensure!(command.arg(&archive).stdout(output).status()?.success(), "compressing failed");
        fs::remove_file(&archive)?;
        let media_type = format!("application/vnd.oci.image.layer.v1.tar+{}", compression.name());
        layers.push(descriptor(&blobs, &packed, &media_type)?);
    }
    let config = json!({
        "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Cmd": ["true"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = document(&work, &blobs, &config, "application/vnd.oci.image.config.v1+json")?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
    let mut manifest = document(&work, &blobs, &manifest, media_type)?;
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "bench" });
    fs::write(work.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::write(work.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string())?;
    let _ = fs::remove_dir_all(&place);
    fs::rename(&work, &place).with_context(|| format!("renaming {}", work.display()))?;
    Ok(place)
}

fn document(work: &Path, blobs: &Path, value: &Value, media_type: &str) -> Result<Value> {
    let file = work.join("document");
    fs::write(&file, value.to_string())?;
    descriptor(blobs, &file, media_type)
}

/// Moves a file to the blobs.
fn descriptor(blobs: &Path, file: &Path, media_type: &str) -> Result<Value> {
    let (digest, size) = (sha256(file)?, fs::metadata(file)?.len());
    fs::rename(file, blobs.join(&digest))?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size }))
}

/// The files of one layer.
fn fill(tree: &Path, layer: u64) -> Result<()> {
    let mut random = Random(layer * 1_000_003 + 1);
    let words: Vec<Vec<u8>> = (0..6000).map(|_| random.word()).collect();
    let pieces: Vec<Vec<u8>> = (0..300).map(|_| random.bytes(4, 28)).collect();
    let file = |kind: &str, number: u64, content: &[u8]| -> Result<()> {
        let directory = tree.join(format!("usr/layer{layer}/{kind}/{}", number / 60));
        fs::create_dir_all(&directory)?;
        Ok(fs::File::create(directory.join(format!("{kind}-{number}")))?.write_all(content)?)
    };
    for number in 0..TEXTS {
        let length = 500 + random.below(16_000);
        let mut text = Vec::new();
        while (text.len() as u64) < length {
            // some words are more frequent than others
            let word = random.below(6000).min(random.below(6000)).min(random.below(6000));
            text.extend_from_slice(&words[word as usize]);
            text.push(if random.below(11) == 0 { b'\n' } else { b' ' });
        }
        file("text", number, &text)?;
    }
    for number in 0..PROGRAMS {
        let length = 100_000 + random.below(2_400_000);
        let mut program = Vec::new();
        while (program.len() as u64) < length {
            // what comes again, as code does, and what does not but is not quite random either
            let piece = random.below(300).min(random.below(300));
            program.extend_from_slice(&pieces[piece as usize]);
            let other = random.bytes(8, 24);
            program.extend(other.into_iter().map(|byte| (u32::from(byte).pow(3) >> 18) as u8));
        }
        file("program", number, &program)?;
    }
    for number in 0..ARCHIVES {
        file("archive", number, &random.bytes(1_000_000, 1_600_000))?;
    }
    Ok(())
}

/// Numbers that look random and are always the same (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, least: u64, most: u64) -> Vec<u8> {
        let length = (least + self.below(most - least)) as usize;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn word(&mut self) -> Vec<u8> {
        let length = 2 + self.below(9);
        (0..length).map(|_| b'a' + self.below(26) as u8).collect()
    }
}
