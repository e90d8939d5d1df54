//! An image as an OCI image layout (image-layout.md), as skopeo and umoci read it.

use std::path::Path;

use base::Digest;
use serde_json::json;

use crate::image::Image;
use crate::registry::filter;

/// Writes the image into a new directory, under its name without registry and tag, its layers as `program` makes them: `&["gzip"]`, `&["zstd"]`;
/// none: as they are.
pub fn write(image: &Image, directory: &Path, program: &[&str]) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], media_type: &str| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let suffix = program.first().map_or_else(String::new, |name| format!("+{name}"));
    let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
    let pack = |layer: &Vec<u8>| if program.is_empty() { layer.clone() } else { filter(program, layer) };
    let layers: Vec<_> = image.layers.iter().map(|layer| put(&pack(layer), &media_type)).collect();
    let config = put(&image.config_json(), "application/vnd.oci.image.config.v1+json");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers })
        .to_string();
    let mut manifest = put(manifest.as_bytes(), media_type);
    let name = image.name.rsplit('/').next().unwrap_or_default().split(':').next();
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}
