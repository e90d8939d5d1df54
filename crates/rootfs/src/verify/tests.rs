use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer of a file of each kind, unpacked.
fn layer(dir: &Path) -> (LayerStore, Vec<u8>, Digest) {
    let tree = dir.join("tree");
    for sub in ["tree/d/e", "layers", "removing"] {
        std::fs::create_dir_all(dir.join(sub)).unwrap();
    }
    std::fs::write(tree.join("d/file"), vec![7; 100_000]).unwrap();
    std::fs::write(tree.join("d/.wh.gone"), "").unwrap();
    std::fs::write(tree.join("empty"), "").unwrap();
    std::fs::hard_link(tree.join("d/file"), tree.join("d/e/again")).unwrap();
    symlink("d/file", tree.join("link")).unwrap();
    let output = Command::new("tar").args(["-c", "-C"]).arg(&tree).arg(".").output().unwrap();
    assert!(output.status.success());
    let store = LayerStore::open(&dir.join("layers"), &dir.join("removing"));
    let diff_id = Digest::of(&output.stdout);
    store.unpack(&diff_id, TAR, &output.stdout[..], &|_| {}).unwrap();
    (store, output.stdout, diff_id)
}

fn differences(store: &LayerStore, tar: &[u8], diff_id: &Digest) -> Vec<String> {
    let verified = store.verify(diff_id, TAR, tar, &|_| {}).unwrap();
    verified.differences.iter().map(ToString::to_string).collect()
}

#[test]
fn every_kind_of_damage_is_named_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (store, tar, diff_id) = layer(dir.path());
    let at = |name: &str| store.path(&diff_id).join(name);
    assert_eq!(differences(&store, &tar, &diff_id), Vec::<String>::new());
    let mode = |name: &str, mode| {
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let keep_time = |name: &str, change: &dyn Fn()| {
        let time = std::fs::metadata(at(name)).unwrap().modified().unwrap();
        change();
        let file = File::options().write(true).open(at(name)).unwrap();
        file.set_modified(time).unwrap();
    };
    let damages: [(&str, &dyn Fn()); 11] = [
        ("`d/file` has other content", &|| {
            keep_time("d/file", &|| std::fs::write(at("d/file"), vec![8; 100_000]).unwrap());
        }),
        ("`empty` has 1 bytes, not 0", &|| keep_time("empty", &|| std::fs::write(at("empty"), "x").unwrap())),
        ("`d/e/again` is missing", &|| std::fs::remove_file(at("d/e/again")).unwrap()),
        ("`d/extra` should not be there", &|| std::fs::create_dir(at("d/extra")).unwrap()),
        ("`d/gone` is missing", &|| std::fs::remove_file(at("d/gone")).unwrap()),
        ("`d/e` has the mode 0700, not 0755", &|| mode("d/e", 0o700)),
        ("`empty` belongs to 1:2, not 0:0", &|| {
            std::os::unix::fs::chown(at("empty"), Some(1), Some(2)).unwrap();
        }),
        ("`link` links to somewhere else", &|| {
            let stat = rustix::fs::lstat(at("link")).unwrap();
            std::fs::remove_file(at("link")).unwrap();
            symlink("/etc/shadow", at("link")).unwrap();
            let time = rustix::fs::Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, at("link"), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }),
        ("`empty` is of another type", &|| {
            std::fs::remove_file(at("empty")).unwrap();
            std::fs::create_dir(at("empty")).unwrap();
        }),
        ("`empty` has another modification time", &|| {
            let file = File::options().write(true).open(at("empty")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
        ("`/` has other extended attributes", &|| {
            crate::mark::set_opaque(File::open(at("")).unwrap()).unwrap();
        }),
    ];
    for (told, damage) in damages {
        damage();
        assert_eq!(differences(&store, &tar, &diff_id), [told]);
        store.verify(&diff_id, TAR, &tar[..], &|_| {}).unwrap().replace().unwrap();
        assert_eq!(differences(&store, &tar, &diff_id), Vec::<String>::new(), "{told}");
    }
    // Two names that should be one file.
    std::fs::remove_file(at("d/e/again")).unwrap();
    keep_time("d/file", &|| {
        std::fs::copy(at("d/file"), at("d/e/again")).unwrap();
    });
    assert!(differences(&store, &tar, &diff_id).iter().any(|told| told.contains("one file")));
    // Nothing of the comparisons is left.
    assert_eq!(std::fs::read_dir(dir.path().join("layers")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(dir.path().join("removing")).unwrap().count(), 0);
    std::fs::remove_dir_all(at("")).unwrap();
    assert!(matches!(store.verify(&diff_id, TAR, &tar[..], &|_| {}), Err(Error::Missing(_))));
}
