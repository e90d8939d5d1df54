//! The store while it is in use: listings, `image prune`, `rmi`, `image tree`, the budget, `system df`; other tools
//! that read it, and many commands at once that change it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::image::Image;
use harness::registry::{Login, Registry};
use harness::tar::Tar;
use harness::{Dhow, Invocation, random, soak, store};
use serde_json::{Value, json};

/// A small image whose layers are these texts.
fn small(name: &str, layers: &[&str]) -> Image {
    let layer = |text: &&str| Tar::new().file(&format!("file-{text}"), 0o644, text.repeat(2000)).finish();
    Image {
        name: name.to_owned(),
        layers: layers.iter().map(layer).collect(),
        config: json!({ "Cmd": [layers.concat()] }),
    }
}

/// The listed names, sorted.
#[track_caller]
fn names(dhow: &Dhow, args: &[&str]) -> Vec<String> {
    let text = dhow.ok(&[&["images", "--format", "{{.Repository}}:{{.Tag}}"], args].concat());
    let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn count(dhow: &Dhow, place: &str) -> usize {
    std::fs::read_dir(dhow.root().join(place)).map_or(0, |entries| {
        entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
    })
}

#[test]
fn images_are_filtered_and_formatted_as_docker_does() {
    let dhow = Dhow::empty("list");
    dhow.load(&small("app:1", &["a", "b"]).with("Labels", json!({ "kind": "app", "x": "" })));
    dhow.load(&small("team/app:2", &["a", "c"]));
    dhow.load(&small("team/app:2", &["a", "d"]));
    // made when its binary was: later than the others, which are of February 2024
    dhow.ok(&["inspect", "hello"]);
    let all = ["<none>:<none>", "app:1", "hello:latest", "team/app:2"];
    assert_eq!(names(&dhow, &[]), all);
    assert_eq!(names(&dhow, &["-a"]), all);
    for (filter, expected) in [
        ("dangling=true", &all[..1]),
        ("dangling=false", &all[1..]),
        ("label=kind", &all[1..2]),
        ("label=kind=app", &all[1..2]),
        ("label=kind=other", &[]),
        ("reference=*/app", &all[3..]),
        ("reference=app*:1", &all[1..2]),
        ("since=app:1", &all[2..3]),
        ("before=hello", &[all[0], all[1], all[3]]),
        ("until=2024-03-01T00:00:00Z", &[all[0], all[1], all[3]]),
    ] {
        assert_eq!(names(&dhow, &["--filter", filter]), expected, "{filter}");
    }
    assert_eq!(names(&dhow, &["team/app"]), ["team/app:2"]);
    assert_eq!(names(&dhow, &["team/app:1"]), Vec::<String>::new());
    for bad in ["dangling=maybe", "until=never", "nope=1"] {
        dhow.fails(125, &["images", "--filter", bad]);
    }
    dhow.fails(1, &["images", "--filter", "since=nosuch"]);

    let whole = dhow.ok(&["image", "ls", "-q", "--no-trunc", "app:1"]);
    assert_eq!((whole.len(), &whole[7..19]), (71, &*dhow.ok(&["images", "-q", "app:1"])));
    assert!(dhow.ok(&["images", "--digests"]).lines().next().unwrap().contains("DIGEST"));
    let row: Value = serde_json::from_str(&dhow.ok(&["images", "--format", "json", "app:1"])).unwrap();
    assert_eq!((&row["Tag"], &row["ID"]), (&json!("1"), &json!(whole[7..19])));
    let table = dhow.ok(&["images", "--format", "table {{.ID}}\t{{.Repository}}", "app"]);
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["IMAGE", "ID", "REPOSITORY"]
    );
    let tree = dhow.ok(&["images", "--tree", "app"]);
    assert!(tree.contains("└─ linux/amd64") && tree.starts_with("IMAGE"), "{tree}");
    assert!(dhow.ok(&["image"]).contains("prune") && dhow.ok(&["system", "--help"]).contains("check"));
}

#[test]
fn pruning_takes_what_nobody_uses_and_says_what_that_was_worth() {
    let dhow = Dhow::new("prune");
    let used = dhow.ok(&["images", "-q", "--no-trunc"]);
    for layers in [["a", "b"], ["a", "c"]] {
        dhow.load(&small("app:1", &layers));
    }
    dhow.load(&small("labelled:1", &["l"]).with("Labels", json!({ "keep": "yes" })));
    dhow.ok(&["run", "--name", "box", "--network", "none", "busybox", "true"]);
    assert_eq!(count(&dhow, "layers"), 5);

    // a question, and no for an answer
    let said = dhow.command(&["image", "prune"]).input("n\n").ok();
    assert!(
        said.starts_with("WARNING! This will remove all dangling images.") && !said.contains("reclaimed")
    );
    assert_eq!(count(&dhow, "layers"), 5);
    let said = dhow.command(&["image", "prune"]).input("y\n").ok();
    assert!(said.contains("Deleted Images:\ndeleted: sha256:"), "{said}");
    let reclaimed = said.lines().last().unwrap().to_owned();
    assert!(reclaimed.starts_with("Total reclaimed space: ") && !reclaimed.ends_with(" 0B"), "{said}");
    assert_eq!(count(&dhow, "layers"), 4);
    assert_eq!(dhow.ok(&["image", "prune", "-f"]), "Total reclaimed space: 0B");

    dhow.ok(&["image", "pin", "app:1"]);
    assert_eq!(dhow.ok(&["image", "pin"]), "app:1");
    dhow.ok(&["image", "prune", "-af", "--filter", "label!=keep"]);
    assert_eq!(names(&dhow, &[]), ["app:1", "busybox:latest", "labelled:1"]);
    dhow.ok(&["image", "prune", "-af", "--filter", "until=2023-01-01T00:00:00Z"]);
    assert_eq!(names(&dhow, &[]).len(), 3);
    let said = dhow.ok(&["image", "prune", "-af"]);
    assert!(said.contains("untagged: labelled:1"), "{said}");
    dhow.ok(&["image", "unpin", "app:1"]);
    dhow.ok(&["image", "prune", "-af"]);
    assert_eq!(dhow.ok(&["images", "-q", "--no-trunc"]), used);
    assert_eq!((count(&dhow, "layers"), count(&dhow, "content/blobs/sha256")), (1, 3));
    dhow.ok(&["rm", "box"]);
    dhow.ok(&["image", "prune", "-af"]);
    assert_eq!((count(&dhow, "layers"), count(&dhow, "content/blobs/sha256")), (0, 0));
}

#[test]
fn rmi_can_leave_the_rest_to_prune_and_heeds_the_platform() {
    let dhow = Dhow::empty("rmi");
    dhow.load(&small("app:1", &["a", "b"]));
    let line = dhow.fails(1, &["rmi", "--platform", "linux/arm64", "app:1"]);
    assert!(line.contains("linux/amd64") && line.contains("linux/arm64"), "{line}");
    dhow.fails(1, &["rmi", "--platform", "arm64?", "app:1"]);
    dhow.ok(&["rmi", "--no-prune", "--platform", "linux/amd64", "app:1"]);
    assert_eq!((names(&dhow, &[]).len(), count(&dhow, "layers")), (0, 2));
    dhow.ok(&["image", "prune", "-f"]);
    assert_eq!((count(&dhow, "layers"), count(&dhow, "content/blobs/sha256")), (0, 0));
}

#[test]
fn platforms_come_as_an_index_and_go_one_by_one() {
    let dhow = Dhow::empty("platforms");
    let registry = Registry::new(Login::None);
    let platform = |architecture: &str| json!({ "os": "linux", "architecture": architecture });
    registry.add_index(
        &[(platform("arm64"), small("x", &["a", "arm"])), (platform("amd64"), small("x", &["a", "amd"]))],
        "1",
    );
    let image = format!("{}/app:1", registry.host());
    let content = dhow.root().join("content");
    let listed = || {
        let index: Value =
            serde_json::from_slice(&std::fs::read(content.join("index.json")).unwrap()).unwrap();
        index["manifests"][0]["mediaType"].as_str().unwrap().to_owned()
    };
    let copy = |all: &[&str], to: &str| {
        let to = format!("oci:{}:x", dhow.scratch().join(to).display());
        let from = format!("oci:{}:{image}", content.display());
        Invocation::new("skopeo")
            .args(&[&["--insecure-policy", "copy", "-q"], all, &[&from, &to]].concat())
            .env("HOME", dhow.scratch())
            .ok()
    };
    dhow.ok(&["pull", "-q", &image]);
    assert!(listed().ends_with("manifest.v1+json"), "only one of the index is here");
    copy(&[], "one");
    dhow.ok(&["pull", "-q", "--all-platforms", &image]);
    assert!(listed().ends_with("index.v1+json"));
    copy(&[], "two");
    copy(&["--all"], "all");
    let blobs = count(&dhow, "content/blobs/sha256");
    dhow.ok(&["image", "prune", "-f"]);
    assert_eq!(count(&dhow, "content/blobs/sha256"), blobs);
    assert!(dhow.ok(&["images", "--tree"]).contains("├─ linux/amd64"));
    // what another platform has is fetched again, too
    let arm = dhow.scratch().join("all/index.json");
    assert!(arm.exists());
    let before: BTreeSet<_> =
        std::fs::read_dir(content.join("blobs/sha256")).unwrap().map(|e| e.unwrap().path()).collect();
    for path in &before {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    dhow.ok(&["system", "check", "--repair"]);
    assert_eq!(store::broken_blobs(&dhow.root()), Vec::<String>::new());
    assert_eq!(count(&dhow, "content/blobs/sha256"), blobs);

    let line = dhow.fails(1, &["rmi", "--platform", "linux/amd64", &image]);
    assert!(line.contains("runs here"), "{line}");
    let line = dhow.fails(1, &["rmi", "--platform", "linux/s390x", &image]);
    assert!(line.contains("linux/arm64"), "{line}");
    assert!(dhow.ok(&["rmi", "--platform", "linux/arm64", &image]).starts_with("Deleted: sha256:"));
    assert_eq!(
        count(&dhow, "content/blobs/sha256"),
        blobs - 3,
        "its manifest, configuration and upper layer"
    );
    assert!(listed().ends_with("manifest.v1+json"));
    copy(&[], "three");
    assert!(dhow.ok(&["system", "check"]).ends_with("all is well"));
    dhow.ok(&["rmi", "--platform", "linux/amd64", &image]);
    assert_eq!((count(&dhow, "layers"), count(&dhow, "content/blobs/sha256")), (0, 0));
}

#[test]
fn trees_and_sizes_show_what_is_shared() {
    let dhow = Dhow::empty("tree");
    for (name, layers) in
        [("base:1", &["a", "b"][..]), ("app:1", &["a", "b", "c"]), ("app:2", &["a", "b", "d", "e"])]
    {
        dhow.load(&small(name, layers));
    }
    dhow.load(&small("other:1", &["x"]));
    let tree = dhow.ok(&["image", "tree"]);
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].contains("(2 layers)") && lines[0].ends_with("shared by 3 images"), "{tree}");
    assert_eq!(lines[1], "├── base:1");
    assert!(lines.contains(&"│   └── app:1") && lines.contains(&"    └── app:2"), "{tree}");
    assert_eq!(dhow.ok(&["image", "tree", "other:1"]).lines().count(), 2);
    let nodes: Value = serde_json::from_str(&dhow.ok(&["image", "tree", "--format", "json"])).unwrap();
    assert_eq!((&nodes[0]["SharedBy"], &nodes[0]["Images"]), (&json!(3), &json!(["base:1"])));

    let df = |args: &[&str]| dhow.ok(&[&["system", "df"], args].concat());
    let rows: Vec<String> =
        df(&["--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}"]).lines().map(str::to_owned).collect();
    assert_eq!(rows, ["Images|4|0", "Containers|0|0", "Local Volumes|0|0", "Build Cache|0|0"]);
    let all: Value = serde_json::from_str(&df(&["-v", "--format", "json"])).unwrap();
    let row = |tag: &str, name: &str| {
        let rows = all["Images"].as_array().unwrap();
        rows.iter().find(|r| r["Tag"] == tag && r["Repository"] == name).unwrap().clone()
    };
    assert_eq!(
        (&row("1", "other")["SharedSize"], &row("1", "other")["Containers"]),
        (&json!("0B"), &json!("0"))
    );
    assert_ne!(row("1", "app")["SharedSize"], json!("0B"));
    assert!(df(&["-v"]).contains("SHARED SIZE") && df(&["-v"]).contains("Containers space usage:"));
    // what images take is what the file system says
    let whole = dhow.ok(&["system", "df", "--format", "{{.Reclaimable}}"]);
    assert!(whole.lines().next().unwrap().ends_with("(100%)"), "{whole}");
    // what a pull that broke off has left is there to be had back
    let size = || df(&["--format", "{{.Size}}"]).lines().next().unwrap().to_owned();
    let before = size();
    let partial = dhow.root().join("content/.partial").join("0".repeat(64));
    std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
    std::fs::write(&partial, vec![7; 50_000_000]).unwrap();
    assert_ne!(size(), before);
    let pruned = dhow.ok(&["image", "prune", "--all", "--force"]);
    assert!(!partial.exists() && size() == "0B", "{pruned}");
    let reclaimed = pruned.lines().last().unwrap();
    assert!(reclaimed.ends_with("MB") && !reclaimed.ends_with(" 0B"), "{pruned}");
}

#[test]
fn what_was_not_used_for_the_longest_time_goes_when_the_budget_is_exceeded() {
    let dhow = Dhow::empty("budget");
    dhow.fails(1, &["image", "evict"]);
    let busybox = |name: &str, mark: &str| {
        Image::busybox(name).with_layer(Tar::new().file("mark", 0o644, mark.repeat(100_000)))
    };
    for (name, mark) in
        [("one:1", "1"), ("two:1", "2"), ("three:1", "3"), ("four:1", "4"), ("team/five:1", "5")]
    {
        dhow.load(&busybox(name, mark));
    }
    dhow.ok(&["run", "--rm", "--network", "none", "one:1", "true"]);
    dhow.ok(&["image", "pin", "two:1"]);
    dhow.ok(&["run", "--name", "box", "--network", "none", "three:1", "true"]);
    std::fs::write(dhow.config(), "[images]\nkeep = [\"team/*\"]\n").unwrap();
    let evict = |args: &[&str]| {
        let text =
            dhow.ok(&[&["image", "evict", "--format", "{{.Image}}|{{.Action}}|{{.Reason}}"], args].concat());
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let kept =
        |lines: &[String]| lines.iter().filter(|l| l.contains("|kept|")).cloned().collect::<BTreeSet<_>>();
    let would = evict(&["--dry-run", "--budget", "1"]);
    assert_eq!(would[0], "four:1|would go|not used for the longest time");
    assert_eq!(would[1], "one:1|would go|not used for the longest time", "it was used after that");
    assert_eq!((kept(&would).len(), would.len()), (3, 5), "{would:?}");
    assert!(would.contains(&"two:1|kept|pinned: two:1".to_owned()), "{would:?}");
    assert!(would.contains(&"team/five:1|kept|keep = \"team/*\"".to_owned()), "{would:?}");
    assert!(would.iter().any(|l| l.starts_with("three:1|kept|container ")), "{would:?}");
    assert_eq!(names(&dhow, &[]).len(), 5, "a dry run changes nothing");
    assert_eq!(kept(&evict(&["--budget", "100g"])).len(), 3);
    assert_eq!(names(&dhow, &[]).len(), 5, "there is room");

    // a load that exceeds the budget: what came in stays, and nothing that is kept goes
    std::fs::write(dhow.config(), "[images]\nkeep = [\"team/*\"]\nbudget = \"4k\"\n").unwrap();
    let load = dhow.command(&["load"]).input(busybox("new:1", "n").docker_archive()).output();
    assert!(load.stderr.contains("Evicted four:1") && load.stderr.contains("Evicted one:1"), "{load:?}");
    assert_eq!(names(&dhow, &[]), ["new:1", "team/five:1", "three:1", "two:1"]);
    assert!(dhow.run(&["system", "df"]).stderr.contains("evict --dry-run"));
    for name in ["new:1", "team/five:1", "three:1", "two:1"] {
        dhow.ok(&["run", "--rm", "--network", "none", name, "true"]);
    }
    dhow.ok(&["rm", "box"]);
    dhow.ok(&["image", "unpin", "two:1"]);
    dhow.ok(&["image", "evict"]);
    assert_eq!(names(&dhow, &[]), ["team/five:1"]);
    assert!(dhow.ok(&["system", "check"]).ends_with("all is well"));
}

/// skopeo and umoci read one image over and over while others come, change their names and go.
#[test]
fn other_tools_read_the_store_while_it_changes() {
    let dhow = Dhow::empty("layout");
    dhow.load(&small("stable:1", &["a", "b"]));
    let content = dhow.root().join("content").display().to_string();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..2 {
            let (dhow, done) = (&dhow, &done);
            scope.spawn(move || {
                for round in 0.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let mark = format!("{worker}-{}", round % 3);
                    let name = format!("app{worker}:1");
                    dhow.load(&small(&name, &["a", &mark]));
                    dhow.ok(&["tag", &name, &format!("app{worker}:2")]);
                    dhow.ok(&["rmi", &name]);
                    dhow.ok(&["image", "prune", "-f"]);
                }
            });
        }
        let image = format!("{content}:docker.io/library/stable:1");
        let skopeo = |args: &[&str]| {
            Invocation::new("skopeo").arg("--insecure-policy").args(args).env("HOME", dhow.scratch()).output()
        };
        let mut failed = Vec::new();
        for round in 0..soak(6, 200) {
            let to = dhow.scratch().join(format!("out-{round}"));
            failed.push(skopeo(&["inspect", &format!("oci:{image}")]));
            failed.push(skopeo(&["copy", "-q", &format!("oci:{image}"), &format!("oci:{}:x", to.display())]));
            failed.push(Invocation::new("umoci").args(&["stat", "--image", &image, "--json"]).output());
            failed.push(Invocation::new("umoci").args(&["ls", "--layout", &content]).output());
        }
        done.store(true, Ordering::Relaxed);
        failed.retain(|output| output.code != 0);
        assert!(failed.is_empty(), "{failed:#?}");
    });
    let unpacked = dhow.scratch().join("bundle").display().to_string();
    Invocation::new("umoci")
        .args(&["unpack", "--image", &format!("{content}:docker.io/library/stable:1"), &unpacked])
        .ok();
    assert!(dhow.scratch().join("bundle/rootfs/file-b").exists());
}

/// Pulls, loads, removals, prunings and evictions at once, some of them killed: nothing that is needed is lost, and
/// nothing that is not stays.
#[test]
fn many_at_once_lose_nothing_and_leave_nothing() {
    let dhow = Dhow::empty("stress");
    let registry = Registry::new(Login::None);
    let layers = ["a", "b", "c", "d"];
    for (at, top) in layers.iter().enumerate() {
        registry.add(&small("x", &["base", top, layers[(at + 1) % layers.len()]]), &at.to_string());
    }
    dhow.load(&small("stable:1", &["base", "a"]));
    dhow.ok(&["image", "pin", "stable:1"]);
    thread::scope(|scope| {
        for worker in 0..4_u64 {
            let (dhow, registry) = (&dhow, &registry);
            scope.spawn(move || {
                for _ in 0..soak(6, 150) {
                    let at = random(layers.len() as u64) as usize;
                    let pulled = format!("{}/app:{at}", registry.host());
                    let name = format!("own{worker}:1");
                    let loaded = small(&name, &["base", layers[at], &worker.to_string()]).docker_archive();
                    match random(7) {
                        0 | 1 => drop(dhow.ok(&["pull", "-q", &pulled])),
                        2 => drop(dhow.command(&["load", "-q"]).input(loaded).ok()),
                        // Somebody else may have been faster.
                        3 => drop(dhow.run(&["rmi", "-f", &pulled])),
                        4 => drop(dhow.ok(&["image", "prune", "-f"])),
                        5 => drop(dhow.ok(&["image", "evict", "--budget", "1"])),
                        _ => {
                            let mut process = dhow.spawn(&["pull", "-q", &pulled]);
                            thread::sleep(std::time::Duration::from_millis(random(40)));
                            process.kill();
                        }
                    }
                }
            });
        }
    });
    dhow.ok(&["image", "prune", "-f"]);
    assert_eq!(store::broken_blobs(&dhow.root()), Vec::<String>::new());
    let check = dhow.run(&["system", "check"]);
    // What a killed command left of itself may be there; nothing else.
    let wrong: Vec<&str> =
        check.stdout.lines().filter(|l| !l.starts_with("leftover ") && !l.contains("problem")).collect();
    assert!(wrong.is_empty() || wrong.len() == 1 && wrong[0].ends_with("all is well"), "{check:#?}");
    dhow.ok(&["system", "check", "--repair"]);
    assert!(dhow.ok(&["system", "check"]).ends_with("all is well"));
    assert!(names(&dhow, &[]).contains(&"stable:1".to_owned()));
    dhow.ok(&["image", "unpin", "stable:1"]);
    for id in dhow.ok(&["images", "-q"]).lines() {
        dhow.ok(&["rmi", "-f", id]);
    }
    assert_eq!((count(&dhow, "layers"), count(&dhow, "content/blobs/sha256")), (0, 0));
}
