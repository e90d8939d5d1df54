use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use base::root::Root;

use super::*;

struct Scratch {
    store: Store,
    dir: tempfile::TempDir,
}

fn scratch() -> Scratch {
    let dir = tempfile::tempdir().unwrap();
    let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
    instance.create_dirs().unwrap();
    Scratch { store: Store::open(&instance), dir }
}

fn named(name: &str) -> New {
    New { name: Some(name.to_owned()), ..New::default() }
}

impl Scratch {
    fn make(&self, name: &str) -> Volume {
        self.store.create(&named(name), Durability::Volatile).unwrap().0
    }

    /// A container that uses these.
    fn container(&self, digit: &str, volumes: &[&str]) -> Id {
        let id: Id = digit.repeat(64).parse().unwrap();
        let dir = self.store.instance.container(&id);
        std::fs::create_dir(&dir).unwrap();
        let volumes: Vec<_> = volumes.iter().map(|name| serde_json::json!({ "name": name })).collect();
        let record = serde_json::json!({ "format": 1, "options": { "volumes": volumes } });
        std::fs::write(dir.join("record.json"), record.to_string()).unwrap();
        id
    }
}

#[test]
fn a_volume_is_made_once_and_found() {
    let scratch = scratch();
    let new = New { labels: [("a".to_owned(), "b".to_owned())].into(), ..named("data") };
    let (volume, made) = scratch.store.create(&new, Durability::Synced).unwrap();
    assert!(made && volume.mountpoint.is_dir());
    assert_eq!(volume.mountpoint.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    let (again, made) = scratch.store.create(&named("data"), Durability::Synced).unwrap();
    assert!(!made && again == volume);
    let other = New { options: [("type".to_owned(), "tmpfs".to_owned())].into(), ..named("data") };
    assert!(matches!(scratch.store.create(&other, Durability::Volatile), Err(Error::Different(_))));
    assert_eq!(scratch.store.list().unwrap(), [volume]);
    assert_eq!(scratch.store.find("nope").unwrap(), None);
    let outside = scratch.dir.path().join("root/containers/x");
    std::fs::create_dir(&outside).unwrap();
    assert_eq!(scratch.store.find("../containers/x").unwrap(), None);
    assert!(matches!(scratch.store.remove("../containers/x"), Err(Error::NotFound(_))) && outside.exists());
}

#[test]
fn what_makers_left_that_died_goes_and_what_is_being_made_stays() {
    let scratch = scratch();
    scratch.make("one");
    let left = scratch.store.volumes.join(".new-1-1");
    std::fs::create_dir(&left).unwrap();
    let alive = Unfinished::create(&scratch.store.volumes).unwrap();
    assert_eq!(scratch.store.list().unwrap().len(), 1);
    assert!(!left.exists() && alive.path.exists());
}

#[test]
fn what_a_power_cut_has_torn_is_a_volume_still() {
    let scratch = scratch();
    let volume = scratch.make("one");
    for torn in ["", "{\"format\":1", "{\"format\":1,\0\0}"] {
        std::fs::write(scratch.store.dir("one").join(FILE), torn).unwrap();
        let found = scratch.store.find("one").unwrap().unwrap();
        assert_eq!((found.record.name.as_str(), found.mountpoint), ("one", volume.mountpoint.clone()));
    }
    std::fs::write(scratch.store.dir("one").join(FILE), "{\"format\":\"x\"}").unwrap();
    assert!(matches!(scratch.store.find("one"), Err(Error::Broken { .. })));
}

#[test]
fn a_volume_in_use_stays_whoever_uses_it() {
    let scratch = scratch();
    scratch.make("one");
    let id = scratch.container("a", &["one", "two"]);
    let Err(Error::InUse { users, .. }) = scratch.store.remove("one") else { panic!() };
    assert_eq!(users, std::slice::from_ref(&id));
    scratch.store.remove_with_container("one").unwrap();
    assert!(scratch.store.find("one").unwrap().is_some());
    std::fs::remove_dir_all(scratch.store.instance.container(&id)).unwrap();
    scratch.store.remove("one").unwrap();
    assert!(matches!(scratch.store.remove("one"), Err(Error::NotFound(_))));
    assert_eq!(std::fs::read_dir(scratch.store.instance.removing()).unwrap().count(), 0);
}

#[test]
fn who_removes_waits_for_who_holds() {
    let scratch = scratch();
    scratch.make("one");
    let held = scratch.store.hold("one").unwrap();
    std::thread::scope(|scope| {
        let remover = scope.spawn(|| scratch.store.remove("one"));
        scratch.container("a", &["one"]);
        drop(held);
        assert!(matches!(remover.join().unwrap(), Err(Error::InUse { .. })));
    });
}

/// An image with everything that a copy must keep.
fn image(dir: &Path) -> Root {
    let at = dir.join("image/srv/data");
    std::fs::create_dir_all(at.join("sub/deeper")).unwrap();
    std::fs::write(at.join("file"), "content").unwrap();
    std::fs::hard_link(at.join("file"), at.join("sub/twin")).unwrap();
    symlink("/etc/passwd", at.join("link")).unwrap();
    let sparse = std::fs::File::create(at.join("sparse")).unwrap();
    sparse.set_len(1 << 24).unwrap();
    std::fs::set_permissions(at.join("sub"), PermissionsExt::from_mode(0o1751)).unwrap();
    std::fs::set_permissions(&at, PermissionsExt::from_mode(0o750)).unwrap();
    std::fs::set_permissions(at.join("file"), PermissionsExt::from_mode(0o4711)).unwrap();
    symlink("srv/data", dir.join("image/alias")).unwrap();
    symlink("../../../../../../etc", dir.join("image/escape")).unwrap();
    Root::open(&dir.join("image")).unwrap()
}

#[test]
fn a_new_volume_is_filled_once_and_whole() {
    let scratch = scratch();
    let image = image(scratch.dir.path());
    let data = scratch.make("one").mountpoint;
    let held = scratch.store.hold("one").unwrap();
    assert!(held.wants_filling().unwrap());
    let held = held.fill(&image, Path::new("/alias")).unwrap().unwrap();
    assert!(!held.wants_filling().unwrap());
    let stat = |name: &str| data.join(name).symlink_metadata().unwrap();
    assert_eq!(std::fs::read_to_string(data.join("sub/twin")).unwrap(), "content");
    assert_eq!((stat("file").ino(), stat("file").nlink()), (stat("sub/twin").ino(), 2));
    let modes = [stat("file"), stat("sub"), stat("")].map(|s| s.mode() & 0o7777);
    assert_eq!(modes, [0o4711, 0o1751, 0o750]);
    assert_eq!(std::fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(stat("sparse").len() == 1 << 24 && stat("sparse").blocks() < 64);
    let original = scratch.dir.path().join("image/srv/data/sub").metadata().unwrap();
    assert_eq!(stat("sub").mtime_nsec(), original.mtime_nsec());
    // What is in it stays.
    std::fs::write(data.join("file"), "mine").unwrap();
    drop(held.fill(&image, Path::new("/srv/data")).unwrap().unwrap());
    assert_eq!(std::fs::read_to_string(data.join("file")).unwrap(), "mine");
    let left: Vec<String> = fs::names(&scratch.store.dir("one")).unwrap();
    assert_eq!(left, ["data", "record.json"]);
}

#[test]
fn nothing_outside_of_the_image_gets_in() {
    let scratch = scratch();
    let image = image(scratch.dir.path());
    for (n, path) in
        ["/escape", "/../../../../../../etc", "/nope", "/srv/data/file", "/srv/data/link"].iter().enumerate()
    {
        let name = format!("v{n}");
        let data = scratch.make(&name).mountpoint;
        scratch.store.hold(&name).unwrap().fill(&image, Path::new(path)).unwrap().unwrap();
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "{path}");
    }
}

#[test]
fn filling_that_was_broken_off_is_begun_again_or_finished() {
    let scratch = scratch();
    let image = image(scratch.dir.path());
    let data = scratch.make("one").mountpoint;
    let dir = scratch.store.dir("one");
    // Killed while it copied.
    std::fs::create_dir(dir.join("fill.part")).unwrap();
    std::fs::write(dir.join("fill.part/half"), "").unwrap();
    drop(scratch.store.hold("one").unwrap().fill(&image, Path::new("/srv/data")).unwrap());
    assert!(data.join("file").exists() && !data.join("half").exists());
    // Killed while it moved.
    let data = scratch.make("two").mountpoint;
    let dir = scratch.store.dir("two");
    std::fs::write(data.join("moved"), "").unwrap();
    std::fs::create_dir(dir.join("fill")).unwrap();
    std::fs::write(dir.join("fill/rest"), "").unwrap();
    let held = scratch.store.hold("two").unwrap();
    assert!(held.wants_filling().unwrap());
    drop(held.fill(&image, Path::new("/srv/data")).unwrap());
    assert_eq!(fs::names(&data).unwrap(), ["moved", "rest"]);
    assert!(!dir.join("fill").exists());
}
