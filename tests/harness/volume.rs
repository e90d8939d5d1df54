//! Volumes: what is asked of them again and again, and an image with something to fill them with.

use std::path::PathBuf;

use serde_json::json;

use crate::Dhow;
use crate::image::Image;
use crate::tar::Tar;

/// Runs a shell script in a busybox without a network; it must succeed.
#[track_caller]
pub fn script(dhow: &Dhow, flags: &[&str], script: &str) -> String {
    dhow.ok(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat())
}

/// The volumes that there are.
pub fn names(dhow: &Dhow) -> Vec<String> {
    dhow.ok(&["volume", "ls", "-q"]).lines().map(str::to_owned).collect()
}

/// Where a volume's content is.
pub fn data(dhow: &Dhow, name: &str) -> PathBuf {
    dhow.root().join("volumes").join(name).join("data")
}

/// The busybox with files of its own below `/srv`, and a volume there if that is asked for.
pub fn image_with_content(name: &str, volumes: &[&str]) -> Image {
    let volumes: serde_json::Map<_, _> = volumes.iter().map(|v| ((*v).to_owned(), json!({}))).collect();
    let layer = Tar::new()
        .dir("srv/", 0o755)
        .dir("srv/data/", 0o2750)
        .file("srv/data/file", 0o4711, "of the image")
        .entry("srv/data/twin", b'1', 0o4711, "srv/data/file", &[])
        .symlink("srv/data/link", "/etc/passwd")
        .dir("srv/data/sub/", 0o1777)
        .fifo("srv/data/sub/fifo")
        .dir("srv/empty/", 0o700)
        .symlink("srv/alias", "data")
        .symlink("srv/escape", "../../../../../../../../etc");
    Image::busybox(name).with_layer(layer).with("Volumes", json!(volumes))
}
