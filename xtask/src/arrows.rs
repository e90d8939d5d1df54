//! The arrows between the crates, as ARCHITECTURE.md draws them, checked against what cargo resolves.
//!
//! Two rules. A crate may import only what stands below it, and stages never import each other: each hands
//! the engine a value. And what starts containers links no async runtime, however far down.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// What everything stands on, lowest first.
const GROUND: &[&str] = &["dhow-sys", "dhow-base", "dhow-oci", "dhow-state"];

/// The way of a container, in order; none knows another.
const STAGES: &[&str] = &[
    "dhow-image",
    "dhow-registry",
    "dhow-rootfs",
    "dhow-build",
    "dhow-volume",
    "dhow-network",
    "dhow-runtime",
    "dhow-logging",
];

/// Whom each crate may import directly, whatever the kind of dependency. A crate that is not in this table is an error:
/// whoever adds one says here where it stands.
fn allowed(name: &str) -> Option<Vec<&'static str>> {
    let below = match name {
        "dhow-sys" | "xtask" => vec![],
        "dhow-base" | "dhow-hello" | "dhow-floor" => vec!["dhow-sys"],
        "dhow-oci" => vec!["dhow-sys", "dhow-base"],
        "dhow-state" => vec!["dhow-sys", "dhow-base", "dhow-oci"],
        "dhow-monitor" => [GROUND, STAGES].concat(),
        // a process of its own, which reads what the stage `logging` has written
        "dhow-shipper" => [GROUND, &["dhow-logging", "dhow-runtime"]].concat(),
        // stand beside the containers, and leave their caller's cgroup as a monitor does; they mend and set what the stage
        // `network` makes
        "dhow-netd" | "dhow-egressd" => [GROUND, &["dhow-network", "dhow-runtime"]].concat(),
        "dhow-engine" => [GROUND, STAGES, &["dhow-monitor"]].concat(),
        // a door translates: it speaks to the engine, in the ground's types
        "dhow" => vec!["dhow-sys", "dhow-base", "dhow-state", "dhow-engine"],
        "dhow-serve" => vec!["dhow-base", "dhow-engine"],
        // the command line of OCI runtimes: a door of one stage, for callers that bring images and networks themselves
        "dhow-syscost" => vec!["dhow-sys", "dhow-runtime"],
        "dhow-oci-runtime" => vec!["dhow-sys", "dhow-base", "dhow-oci", "dhow-runtime"],
        // end to end: by the doors, so it needs no crate but the types of what it reads
        "dhow-tests" => GROUND.to_vec(),
        stage if STAGES.contains(&stage) => GROUND.to_vec(),
        _ => return None,
    };
    Some(below)
}

/// The crates that may link an async runtime: the registry's client, whoever holds it, and the servers.
const MAY_BE_ASYNC: &[&str] = &["dhow-registry", "dhow-engine", "dhow", "dhow-serve", "dhow-tests"];

/// What counts as one.
const RUNTIMES: &[&str] =
    &["tokio", "async-std", "smol", "async-executor", "futures-executor", "glommio", "monoio", "hyper"];

/// Checks the workspace.
pub(crate) fn run() -> Result<()> {
    let wrong = check()?;
    for line in &wrong {
        eprintln!("  {line}");
    }
    if !wrong.is_empty() {
        bail!("{} wrong arrows between the crates (ARCHITECTURE.md has the rules)", wrong.len());
    }
    Ok(())
}

/// What is wrong in the workspace, a line each.
pub(crate) fn check() -> Result<Vec<String>> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut metadata = shell::cargo();
    metadata.args(["metadata", "--format-version", "1", "--filter-platform", &host]);
    let metadata: Value =
        serde_json::from_str(&shell::text(&mut metadata)?).context("reading cargo's metadata")?;
    Ok(wrong_arrows(&Graph::read(&metadata).context("understanding cargo's metadata")?))
}

/// The packages: their names, who is ours, who depends on whom.
#[derive(Debug, Default)]
struct Graph {
    /// package id → name
    names: BTreeMap<String, String>,
    /// package ids of the workspace
    members: BTreeSet<String>,
    /// package id → (package id, whether it is a normal dependency)
    edges: BTreeMap<String, Vec<(String, bool)>>,
}

impl Graph {
    fn read(metadata: &Value) -> Option<Self> {
        let mut graph = Self::default();
        for package in metadata["packages"].as_array()? {
            graph.names.insert(package["id"].as_str()?.to_owned(), package["name"].as_str()?.to_owned());
        }
        for member in metadata["workspace_members"].as_array()? {
            graph.members.insert(member.as_str()?.to_owned());
        }
        for node in metadata["resolve"]["nodes"].as_array()? {
            let mut edges = Vec::new();
            for dependency in node["deps"].as_array()? {
                // kind is null for a normal dependency, else "dev" or "build"
                let normal = dependency["dep_kinds"].as_array()?.iter().any(|kind| kind["kind"].is_null());
                edges.push((dependency["pkg"].as_str()?.to_owned(), normal));
            }
            graph.edges.insert(node["id"].as_str()?.to_owned(), edges);
        }
        Some(graph)
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }

    fn edges(&self, id: &str) -> &[(String, bool)] {
        self.edges.get(id).map_or(&[], Vec::as_slice)
    }

    /// The shortest way from a package to an async runtime, over normal dependencies.
    fn way_to_runtime(&self, from: &str) -> Option<Vec<&str>> {
        let mut came_from: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        let (start, _) = self.edges.get_key_value(from)?;
        came_from.insert(start, None);
        let mut front = vec![start.as_str()];
        while !front.is_empty() {
            let mut next = Vec::new();
            for at in front {
                if RUNTIMES.contains(&self.name(at)) {
                    let mut way = vec![self.name(at)];
                    let mut here = at;
                    while let Some(Some(before)) = came_from.get(here) {
                        way.push(self.name(before));
                        here = before;
                    }
                    way.reverse();
                    return Some(way);
                }
                for (to, normal) in self.edges(at) {
                    if *normal && !came_from.contains_key(to.as_str()) {
                        came_from.insert(to, Some(at));
                        next.push(to.as_str());
                    }
                }
            }
            front = next;
        }
        None
    }
}

fn wrong_arrows(graph: &Graph) -> Vec<String> {
    let mut wrong = Vec::new();
    for member in &graph.members {
        let name = graph.name(member);
        let Some(allowed) = allowed(name) else {
            wrong.push(format!("{name}: has no place in the layering yet (xtask/src/arrows.rs)"));
            continue;
        };
        for (to, _) in graph.edges(member) {
            let to_name = graph.name(to);
            if graph.members.contains(to) && to != member && !allowed.contains(&to_name) {
                wrong.push(format!("{name} → {to_name}: this arrow may not be"));
            }
        }
        if !MAY_BE_ASYNC.contains(&name)
            && let Some(way) = graph.way_to_runtime(member)
        {
            wrong.push(format!(
                "{}: nothing that starts containers may link an async runtime",
                way.join(" → ")
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph from `from → to` lines; packages named `dhow…` or `xtask` are ours. `⇢` is a dev dependency.
    fn graph(lines: &[&str]) -> Graph {
        let mut graph = Graph::default();
        for line in lines {
            let normal = line.contains('→');
            let mut ends = line.split(['→', '⇢']).map(|end| end.trim().to_owned());
            let from = ends.next().unwrap();
            for id in [Some(from.clone()), ends.clone().next()].into_iter().flatten() {
                if id.starts_with("dhow") || id == "xtask" {
                    graph.members.insert(id.clone());
                }
                graph.edges.entry(id.clone()).or_default();
                graph.names.insert(id.clone(), id);
            }
            if let Some(to) = ends.next() {
                graph.edges.entry(from).or_default().push((to, normal));
            }
        }
        graph
    }

    fn wrong(lines: &[&str]) -> Vec<String> {
        wrong_arrows(&graph(lines))
    }

    #[test]
    fn arrows_down_are_right() {
        let lines = [
            "dhow → dhow-engine",
            "dhow-engine → dhow-monitor",
            "dhow-engine → dhow-registry",
            "dhow-monitor → dhow-runtime",
            "dhow-runtime → dhow-sys",
            "dhow-registry → tokio",
        ];
        assert_eq!(wrong(&lines), Vec::<String>::new());
    }

    #[test]
    fn stages_do_not_import_each_other_nor_upwards() {
        assert_eq!(wrong(&["dhow-rootfs → dhow-image"]), ["dhow-rootfs → dhow-image: this arrow may not be"]);
        assert_eq!(wrong(&["dhow-rootfs ⇢ dhow-image"]).len(), 1, "not even for tests");
        assert_eq!(wrong(&["dhow-monitor → dhow-engine"]).len(), 1);
        assert_eq!(wrong(&["dhow → dhow-runtime"]).len(), 1, "a door sees no stage");
        assert_eq!(wrong(&["dhow-engine → dhow"]).len(), 1, "nothing sees a door");
        assert_eq!(wrong(&["dhow-hello → dhow-base"]).len(), 1);
    }

    #[test]
    fn an_async_runtime_is_found_however_deep() {
        let lines = ["dhow-runtime → a", "a → b", "b → tokio"];
        let expected =
            ["dhow-runtime → a → b → tokio: nothing that starts containers may link an async runtime"];
        assert_eq!(wrong(&lines), expected);
        assert!(
            wrong(&["dhow-runtime → a", "a ⇢ tokio"]).is_empty(),
            "what a crate tests with is not linked"
        );
    }

    #[test]
    fn a_new_crate_must_be_placed() {
        let expected = ["dhow-new: has no place in the layering yet (xtask/src/arrows.rs)"];
        assert_eq!(wrong(&["dhow-new → dhow-sys"]), expected);
    }

    #[test]
    fn metadata_is_read() {
        let metadata = serde_json::json!({
            "packages": [{"id": "1", "name": "dhow-sys"}, {"id": "2", "name": "libc"}],
            "workspace_members": ["1"],
            "resolve": {"nodes": [
                {"id": "1", "deps": [{"pkg": "2", "dep_kinds": [{"kind": "dev"}, {"kind": null}]}]},
                {"id": "2", "deps": []},
            ]},
        });
        let graph = Graph::read(&metadata).unwrap();
        assert_eq!(graph.edges("1"), [("2".to_owned(), true)]);
        assert!(Graph::read(&serde_json::json!({"packages": 1})).is_none());
    }
}
