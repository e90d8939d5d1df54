//! The engine on roots of its own, as far as no container has to run: what is made, what is refused, and what
//! is put right after somebody died in the middle.

use std::fs;
use std::path::Path;

use base::progress::Silent;
use base::{Id, Kind, Timestamp};
use state::claim;
use state::container::{Status, file};
use state::options::ContainerOptions;

use crate::{Created, Engine, PullPolicy, RemoveImageOptions, Removed, Result, Settings};

struct Scratch {
    engine: Engine,
    _dir: tempfile::TempDir,
}

fn scratch() -> Scratch {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    fs::write(&config, "").unwrap();
    let settings =
        Settings { root: Some(dir.path().join("root")), config: Some(config), ..Settings::default() };
    let engine = Engine::open(&settings).unwrap();
    engine.write_program(&"image:1".parse().unwrap(), b"#!/no/such/thing", Timestamp(1)).unwrap();
    Scratch { engine, _dir: dir }
}

fn options(name: Option<&str>) -> ContainerOptions {
    ContainerOptions { image: "image:1".to_owned(), name: name.map(str::to_owned), ..Default::default() }
}

fn create(engine: &Engine, options: ContainerOptions) -> Result<Created> {
    engine.create(options, PullPolicy::Never, &Silent)
}

/// Every path below the instance's directories that a container leaves its traces in.
fn traces(engine: &Engine) -> Vec<String> {
    let instance = engine.instance();
    let dirs =
        [instance.containers(), instance.live_containers(), instance.container_names(), instance.removing()];
    let names = |dir: &Path| -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().path().display().to_string()).collect()
    };
    dirs.iter().flat_map(|dir| names(dir)).collect()
}

#[test]
fn a_container_is_created_seen_and_removed() {
    let Scratch { engine, _dir } = scratch();
    let created = create(&engine, options(Some("one"))).unwrap();
    let id = created.id.clone();
    drop(created);
    let all = engine.containers(true).unwrap();
    assert_eq!((all.len(), all[0].status, &*all[0].name), (1, Status::Created, "one"));
    assert_eq!(all[0].command, ["/hello"]);
    assert!(engine.containers(false).unwrap().is_empty());
    let shown = engine.inspect_container(&id.as_str()[..10]).unwrap();
    assert_eq!((&shown["Name"], &shown["State"]["Status"]), (&"/one".into(), &"created".into()));
    assert_eq!(engine.kill("one", "TERM").unwrap_err().kind(), Kind::Conflict);
    engine.stop("one", None, None).unwrap();
    engine.remove("one", false).unwrap();
    assert_eq!(traces(&engine), [""; 0]);
    assert_eq!(engine.remove("one", false).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let Scratch { engine, _dir } = scratch();
    let held = create(&engine, options(Some("taken"))).unwrap();
    let before = traces(&engine);
    let bad = [
        (options(Some("taken")), Kind::Conflict),
        (options(Some("-")), Kind::Invalid),
        (ContainerOptions { image: "nope".to_owned(), ..Default::default() }, Kind::NotFound),
        (ContainerOptions { image: "NOT AN IMAGE".to_owned(), ..Default::default() }, Kind::Invalid),
        (ContainerOptions { memory: Some(1), ..options(None) }, Kind::Invalid),
        (ContainerOptions { cap_add: vec!["NOPE".to_owned()], ..options(None) }, Kind::Invalid),
    ];
    for (options, kind) in bad {
        let error = create(&engine, options).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(traces(&engine), before, "{error}");
    }
    drop(held);
}

#[test]
fn invented_names_differ() {
    let Scratch { engine, _dir } = scratch();
    let names: std::collections::BTreeSet<String> =
        (0..5).map(|_| create(&engine, options(None)).unwrap().name).collect();
    assert_eq!(names.len(), 5);
}

#[test]
fn a_maker_who_died_at_any_step_leaves_nothing() {
    let Scratch { engine, _dir } = scratch();
    let instance = engine.instance().clone();
    let id = Id::random().unwrap();
    let steps: [&dyn Fn(); 3] = [
        &|| fs::create_dir(instance.live(&id)).unwrap(),
        &|| assert!(claim::take(&instance.container_names(), "half", id.as_str()).unwrap()),
        &|| fs::create_dir(instance.containers().join(format!(".{id}"))).unwrap(),
    ];
    for died_after in 1..=steps.len() {
        steps[..died_after].iter().for_each(|step| step());
        assert!(engine.containers(true).unwrap().is_empty());
        assert_eq!(traces(&engine), [""; 0], "after step {died_after}");
    }
}

#[test]
fn a_name_that_a_dead_maker_claimed_is_free() {
    let Scratch { engine, _dir } = scratch();
    let names = engine.instance().container_names();
    assert!(claim::take(&names, "name", Id::random().unwrap().as_str()).unwrap());
    drop(create(&engine, options(Some("name"))).unwrap());
    assert!(claim::take(&names, "other", Id::random().unwrap().as_str()).unwrap());
    fs::write(names.join(format!(".{}.third", Id::random().unwrap())), "").unwrap();
    engine.reconcile().unwrap();
    assert_eq!(fs::read_dir(&names).unwrap().count(), 1, "the one that is used");
    // A power cut can leave a claim without content.
    fs::write(names.join("torn"), "").unwrap();
    drop(create(&engine, options(Some("torn"))).unwrap());
}

#[test]
fn after_a_reboot_what_ran_has_ended_and_what_removes_itself_is_gone() {
    let Scratch { engine, _dir } = scratch();
    let ran = create(&engine, options(Some("ran"))).unwrap();
    let fleeting = ContainerOptions { auto_remove: true, ..options(Some("fleeting")) };
    let fleeting = create(&engine, fleeting).unwrap();
    let waits = create(&engine, options(Some("waits"))).unwrap();
    // Overlayfs leaves this where it has been mounted.
    fs::create_dir(engine.instance().container(&ran.id).join(file::WORK).join("work")).unwrap();
    for created in [ran, fleeting, waits] {
        drop(created);
    }
    let all = engine.containers(true).unwrap();
    let states: Vec<_> = all.iter().map(|c| (&*c.name, c.status, c.exit.as_ref().map(|e| e.code))).collect();
    assert_eq!(states, [("waits", Status::Created, None), ("ran", Status::Exited, Some(255))]);
    assert_eq!(engine.wait("ran").unwrap(), 255);
    assert_eq!(engine.wait("fleeting").unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_container_whose_record_a_power_cut_took_is_gone() {
    let Scratch { engine, _dir } = scratch();
    let created = create(&engine, options(Some("torn"))).unwrap();
    fs::write(engine.instance().container(&created.id).join(file::RECORD), "").unwrap();
    drop(created);
    assert_eq!(engine.inspect_container("torn").unwrap_err().kind(), Kind::NotFound);
    assert!(engine.containers(true).unwrap().is_empty());
    assert_eq!(traces(&engine), [""; 0]);
}

#[test]
fn a_removal_that_was_interrupted_is_finished() {
    let Scratch { engine, _dir } = scratch();
    let removing = engine.instance().removing();
    fs::create_dir_all(removing.join(Id::random().unwrap().as_str()).join("upper/deep")).unwrap();
    fs::create_dir_all(removing.join(".unpack-1/deep")).unwrap();
    engine.reconcile().unwrap();
    assert_eq!(traces(&engine), [""; 0]);
}

#[test]
fn an_image_stays_while_containers_use_it() {
    let Scratch { engine, _dir } = scratch();
    let id = create(&engine, options(Some("user"))).unwrap().id;
    assert_eq!(
        engine.remove_image("image:1", &RemoveImageOptions::default()).unwrap_err().kind(),
        Kind::Conflict
    );
    engine.tag("image:1", "other").unwrap();
    // One of two names may go whatever uses the image.
    assert_eq!(
        engine.remove_image("image:1", &RemoveImageOptions::default()).unwrap(),
        [Removed::Untagged("image:1".to_owned())]
    );
    engine.remove_image("other", &RemoveImageOptions { force: true, ..Default::default() }).unwrap();
    let layer = engine.instance().layers().read_dir().unwrap().next().unwrap().unwrap().path();
    assert!(layer.is_dir(), "a container needs it");
    engine.remove(id.as_str(), false).unwrap();
    engine.write_program(&"image:1".parse().unwrap(), b"another", Timestamp(1)).unwrap();
    engine.remove_image("image:1", &RemoveImageOptions::default()).unwrap();
    assert!(engine.instance().layers().read_dir().unwrap().next().is_none());
    assert!(engine.images().unwrap().is_empty());
}

#[test]
fn an_image_is_shown_in_dockers_shape() {
    let Scratch { engine, _dir } = scratch();
    engine.tag("image:1", "localhost:5000/more:2").unwrap();
    let shown = engine.inspect_image("image:1").unwrap();
    assert_eq!(shown["RepoTags"], serde_json::json!(["image:1", "localhost:5000/more:2"]));
    assert_eq!(shown["Config"]["Entrypoint"], serde_json::json!(["/hello"]));
    let lines = engine.images().unwrap();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.references.len() == 2));
    assert_eq!(engine.inspect_image("nope").unwrap_err().kind(), Kind::NotFound);
}
