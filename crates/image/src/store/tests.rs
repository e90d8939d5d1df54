use super::*;
use crate::write;
use oci::image::{Execution, ImageConfig};

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        instance.create_dirs().unwrap();
        Self { store: Store::open(&instance).unwrap(), _dir: dir }
    }

    /// An image whose layers and command are `text`.
    fn image(&self, text: &str, name: Option<&str>) -> Resolved {
        let ingest = self.store.ingest().unwrap();
        let execution = Execution { cmd: Some(vec![text.to_owned()]), ..Execution::default() };
        let config = ImageConfig {
            created: Some("2026-01-02T03:04:05Z".to_owned()),
            platform: crate::platform::host(),
            config: Some(execution),
            ..ImageConfig::default()
        };
        let layers = [b"base".as_slice(), text.as_bytes()];
        let made = write::image(&ingest, &layers, config).unwrap();
        let name = name.map(|name| name.parse::<Reference>().unwrap());
        ingest.commit(name.as_ref(), &made.manifest, None).unwrap()
    }

    fn resolve(&self, name: &str) -> Option<Resolved> {
        self.store.resolve(&name.parse().unwrap()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.store.list().unwrap().into_iter().map(|r| r.reference).collect()
    }

    fn blobs(&self) -> usize {
        fs::names(&self.store.blobs_dir()).unwrap().len()
    }
}

#[test]
fn a_committed_name_resolves_to_the_parsed_configuration() {
    let fixture = Fixture::new();
    assert_eq!(fixture.resolve("x"), None);
    assert!(fixture.names().is_empty());
    let image = fixture.image("one", Some("x"));
    let found = fixture.resolve("docker.io/library/x:latest").unwrap();
    assert_eq!(found, image);
    assert_eq!(found.config.config.unwrap().cmd, Some(vec!["one".to_owned()]));
    assert_eq!(found.created.0, 1_767_323_045_000_000_000);
    assert_eq!(found.layers.len(), 2);
    // By the digest it has, too.
    assert!(fixture.resolve(&format!("x@{}", image.manifest)).is_some());
    assert_eq!(fixture.resolve(&format!("y@{}", image.manifest)), None);
}

#[test]
fn images_are_found_by_name_and_by_the_beginning_of_their_id() {
    let fixture = Fixture::new();
    let one = fixture.image("one", Some("x:1"));
    let two = fixture.image("two", Some("x:2"));
    for text in ["x:1", &one.id.hex(), &one.id.to_string(), &one.id.short(), &one.id.hex()[..6]] {
        assert_eq!(fixture.store.find(text).unwrap().id, one.id, "{text}");
    }
    assert!(matches!(fixture.store.find("x"), Err(Error::NotFound(_))));
    assert!(matches!(fixture.store.find("Not A Name"), Err(Error::Reference(_))));
    let shared = one.id.hex().chars().zip(two.id.hex().chars()).take_while(|(a, b)| a == b).count();
    if shared > 0 {
        assert!(matches!(
            fixture.store.find(&one.id.hex()[..shared]),
            Err(Error::AmbiguousId { count: 2, .. })
        ));
    }
}

#[test]
fn an_image_that_loses_its_name_stays_without_one_until_it_is_removed() {
    let fixture = Fixture::new();
    let one = fixture.image("one", Some("x"));
    let two = fixture.image("two", Some("x"));
    assert_eq!(fixture.names(), ["docker.io/library/x:latest", ""]);
    let nameless = fixture.store.find(&one.id.to_string()).unwrap();
    // A new name ends the nameless record.
    let named = fixture.store.tag(&"y".parse().unwrap(), &nameless).unwrap();
    assert_eq!(fixture.names(), ["docker.io/library/x:latest", "docker.io/library/y:latest"]);
    assert!(fixture.store.untag(&named).unwrap());
    assert!(!fixture.store.untag(&named).unwrap());
    assert_eq!(fixture.names(), ["docker.io/library/x:latest"]);
    assert_eq!(fixture.resolve("x").unwrap().id, two.id);
}

#[test]
fn garbage_is_what_no_name_and_no_running_ingest_needs() {
    let fixture = Fixture::new();
    let one = fixture.image("one", Some("one"));
    let two = fixture.image("two", Some("two"));
    let all: Vec<Digest> = one.diff_ids().chain(two.diff_ids()).collect();
    let before = fixture.blobs();
    assert!(fixture.store.collect_garbage(&all, &[]).unwrap().layers.is_empty());

    fixture.store.untag(&one).unwrap();
    let running = fixture.store.ingest().unwrap();
    running.protect(&[one.layers[1].digest, one.id]).unwrap();
    let garbage = fixture.store.collect_garbage(&all, &[]).unwrap();
    // The shared layer is another name's, two more blobs are protected: the manifest alone goes.
    assert_eq!((&*garbage.blobs, &*garbage.layers), (&[one.manifest][..], &[][..]));
    drop(garbage);
    assert!(running.has_blob(&one.id).unwrap());
    drop(running);

    let garbage = fixture.store.collect_garbage(&all, &[one.layers[1].diff_id]).unwrap();
    assert_eq!((garbage.blobs.len(), garbage.layers.len()), (2, 0));
    drop(garbage);
    let garbage = fixture.store.collect_garbage(&all, &[]).unwrap();
    assert_eq!(garbage.layers, [one.layers[1].diff_id]);
    drop(garbage);
    assert_eq!(fixture.blobs(), before - 3);
    assert!(fixture.store.is_whole(&two));
}

#[test]
fn a_record_that_cannot_be_read_stops_the_collection() {
    let fixture = Fixture::new();
    let one = fixture.image("one", Some("one"));
    let path = fixture.store.record_path(&one);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(r#""version":1"#, r#""version":9"#)).unwrap();
    assert!(matches!(fixture.store.collect_garbage(&[], &[]), Err(Error::NewerRecord { found: 9, .. })));
    std::fs::write(&path, &text[..50]).unwrap();
    let error = fixture.store.resolve(&"one".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert_eq!(fixture.blobs(), 4);
}

#[test]
fn blobs_are_verified_whole_or_not_there() {
    let fixture = Fixture::new();
    let ingest = fixture.store.ingest().unwrap();
    let digest = Digest::of(b"content");
    for (bytes, size) in
        [(&b"contenT"[..], Some(7)), (b"conten", Some(7)), (b"content", Some(6)), (b"", None)]
    {
        let error = ingest.write_blob(&digest, size, bytes).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(!ingest.has_blob(&digest).unwrap());
    }
    ingest.write_blob(&digest, Some(7), &b"content"[..]).unwrap();
    assert_eq!(fixture.store.read_blob(&digest).unwrap(), b"content");
    // Nothing names it: it goes with the ingest.
    drop(ingest);
    assert_eq!(fixture.blobs(), 0);
    assert_eq!(std::fs::read_dir(fixture.store.content().join(".ingest")).unwrap().count(), 0);
}

#[test]
fn what_a_killed_ingest_left_is_swept() {
    let fixture = Fixture::new();
    fixture.image("one", Some("one"));
    let dead = fixture.store.content().join(".ingest/dead");
    std::fs::create_dir(&dead).unwrap();
    std::fs::write(dead.join("new-0"), "half").unwrap();
    std::fs::write(fixture.store.names.join(".x.1.1"), "half").unwrap();
    let alive = fixture.store.ingest().unwrap();
    let second = fixture.store.ingest().unwrap();
    assert!(!dead.exists());
    assert_eq!(std::fs::read_dir(&fixture.store.names).unwrap().count(), 1);
    alive.write_blob(&Digest::of(b"x"), None, &b"x"[..]).unwrap();
    drop((alive, second));
}

#[test]
fn writers_of_one_blob_and_one_name_do_not_disturb_each_other() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let fixture = &fixture;
            scope.spawn(move || {
                for _ in 0..5 {
                    fixture.image("same", Some("shared"));
                    let own = fixture.image("same", Some(&format!("own{i}")));
                    fixture.store.untag(&own).unwrap();
                    fixture.store.collect_garbage(&[], &[]).map(drop).unwrap();
                }
            });
        }
    });
    let image = fixture.resolve("shared").unwrap();
    assert!(fixture.store.is_whole(&image));
    assert_eq!(fixture.names(), ["docker.io/library/shared:latest"]);
    assert_eq!(fixture.blobs(), 4);
}

#[test]
fn a_commit_needs_all_blobs() {
    let fixture = Fixture::new();
    let one = fixture.image("one", Some("one"));
    std::fs::remove_file(fixture.store.blob_path(&one.layers[1].digest)).unwrap();
    let ingest = fixture.store.ingest().unwrap();
    let error = ingest.commit(Some(&"two".parse().unwrap()), &one.manifest, None).unwrap_err();
    assert!(matches!(error, Error::MissingBlob(d) if d == one.layers[1].digest));
    assert!(fixture.store.tag(&"three".parse().unwrap(), &one).is_err());
    assert_eq!(fixture.names(), ["docker.io/library/one:latest"]);
}

#[test]
fn long_names_fit_into_file_names() {
    let fixture = Fixture::new();
    let name = format!("{}/{}:{}", "a".repeat(100), "b".repeat(100), "t".repeat(128));
    let image = fixture.image("one", Some(&name));
    assert_eq!(fixture.resolve(&name).unwrap(), image);
    assert_ne!(file_name(&"x/".repeat(150)), file_name(&"y/".repeat(150)));
    assert!(file_name(&"é".repeat(300)).len() <= 255);
}

#[test]
fn what_lies_elsewhere_is_taken_over_without_a_copy_and_let_go_with_its_ingest() {
    use std::os::unix::fs::MetadataExt;
    let fixture = Fixture::new();
    let elsewhere = fixture.store.content().with_file_name("elsewhere");
    std::fs::write(&elsewhere, b"content").unwrap();
    let digest = Digest::of(b"content");
    let ingest = fixture.store.ingest().unwrap();
    assert_eq!(fixture.store.blob_file(&digest), None);
    ingest.adopt(&digest, &elsewhere).unwrap();
    ingest.adopt(&digest, &elsewhere).unwrap();
    let here = fixture.store.blob_file(&digest).unwrap();
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&here), inode(&elsewhere));
    assert!(ingest.adopt(&Digest::of(b"none"), &elsewhere.with_extension("none")).is_err());
    drop(ingest);
    assert!(!here.exists() && elsewhere.exists());
}
