//! The list of the specification's clauses (`tests/spec/*.toml`) and the tests that show them, held together.
//!
//! Each clause names the tests that show it, or whose business it is if not a runtime's for Linux. It may need
//! features of the machine: where one is missing its tests skip, and are counted here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use harness::spec::{FEATURES, has, whose};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    document: String,
    /// How many there are, so that none gets lost.
    clauses: usize,
    clause: Vec<Clause>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clause {
    id: String,
    section: String,
    text: String,
    /// It is one clause for each of these.
    #[serde(default)]
    each: Vec<String>,
    /// Of the machine.
    #[serde(default)]
    needs: Vec<String>,
    /// `program::test`, or `file.rs::test` from the repository's root.
    #[serde(default)]
    tests: Vec<String>,
    /// Whose business it is.
    not: Option<String>,
}

impl Clause {
    fn count(&self) -> usize {
        self.each.len().max(1)
    }
}

/// Whose business a clause may be instead of ours.
const OTHERS: [&str; 7] = [
    "Windows",
    "Solaris",
    "other platforms",
    "authors of bundles",
    "authors of configurations",
    "authors of the specification",
    "readers of the document",
];

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn lists() -> Vec<(String, List)> {
    let mut lists: Vec<_> = std::fs::read_dir(here().join("spec"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let name = entry.file_name().into_string().unwrap();
            let list = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, list)
        })
        .collect();
    lists.sort_by(|(one, _), (other, _)| one.cmp(other));
    lists
}

/// The test programs of the specification: their tests, each with its text.
fn programs() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut programs = BTreeMap::new();
    for entry in std::fs::read_dir(here().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("oci_spec_") && name != "oci_spec_registry" {
            programs.insert(name, tests_of(&path));
        }
    }
    programs
}

/// The tests of a file. In the specification's programs a line above each says which section it is of.
fn tests_of(path: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<&str> = text.lines().collect();
    let mut tests = BTreeMap::new();
    for (number, _) in lines.iter().enumerate().filter(|(_, line)| line.trim() == "#[test]") {
        let indent = &lines[number][..lines[number].len() - lines[number].trim_start().len()];
        let name = lines[number + 1].trim().strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        let name = name.unwrap_or_else(|| panic!("{} {}", path.display(), number + 2));
        let end = format!("{indent}}}");
        let body: Vec<&str> = lines[number + 1..].iter().copied().take_while(|line| *line != end).collect();
        if indent.is_empty() {
            assert!(lines[number - 1].starts_with("// "), "{name}: no line says which section it is of");
        }
        tests.insert(name.to_owned(), body.join("\n"));
    }
    tests
}

#[test]
fn every_clause_has_a_test_and_every_test_a_clause() {
    let programs = programs();
    let mut used = BTreeSet::new();
    let mut files: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (name, list) in lists() {
        let count: usize = list.clause.iter().map(Clause::count).sum();
        assert_eq!(count, list.clauses, "{name} does not have as many clauses as it says");
        let mut ids = BTreeSet::new();
        for clause in &list.clause {
            let what = format!("{} {}", list.document, clause.id);
            assert!(ids.insert(&clause.id), "{what} is there twice");
            assert!(!clause.section.is_empty() && !clause.text.is_empty(), "{what} is not described");
            for feature in &clause.needs {
                assert!(FEATURES.iter().any(|(name, _)| name == feature), "{what}: {feature} is no feature");
            }
            match &clause.not {
                Some(other) => {
                    assert!(OTHERS.contains(&&**other), "{what}: who is {other}?");
                    assert!(clause.tests.is_empty() && clause.needs.is_empty(), "{what} is not ours");
                    continue;
                }
                None => assert!(!clause.tests.is_empty(), "{what} has no test"),
            }
            let mut bodies = String::new();
            for test in &clause.tests {
                let (place, test) = test.rsplit_once("::").unwrap_or_else(|| panic!("{what}: {test}"));
                let tests = match place.strip_suffix(".rs") {
                    Some(_) => {
                        let path = here().parent().unwrap().join(place);
                        files.entry(place.to_owned()).or_insert_with(|| tests_of(&path))
                    }
                    None => programs.get(place).unwrap_or_else(|| panic!("{what}: there is no {place}")),
                };
                let body = tests.get(test).unwrap_or_else(|| panic!("{what}: {place} has no {test}"));
                bodies.push_str(body);
                used.insert(format!("{place}::{test}"));
            }
            for feature in &clause.needs {
                assert!(
                    bodies.contains(&format!("{feature:?}")),
                    "{what}: its tests do not look for {feature}"
                );
            }
            for one in &clause.each {
                let spoken_of = bodies.contains(&format!("{one:?}")) || bodies.contains(&format!("{one} "));
                assert!(spoken_of, "{what}: its tests do not speak of {one}");
            }
        }
    }
    for (program, tests) in &programs {
        for test in tests.keys() {
            assert!(used.contains(&format!("{program}::{test}")), "{program}::{test} is of no clause");
        }
    }
}

/// Says how many clauses there are, and which are skipped on this machine: `--no-capture` shows it.
#[test]
fn clauses_are_counted() {
    let (mut all, mut shown, mut skipped, mut others) = (0, 0, 0, BTreeMap::new());
    for (_, list) in lists() {
        for clause in &list.clause {
            let count = clause.count();
            all += count;
            if let Some(other) = &clause.not {
                *others.entry(other.clone()).or_insert(0) += count;
            } else if let Some(missing) = clause.needs.iter().find(|feature| !has(feature)) {
                skipped += count;
                println!(
                    "skip: {}, {}: {}: {} lacks {missing}",
                    list.document,
                    clause.section,
                    clause.text,
                    whose(missing)
                );
            } else {
                shown += count;
            }
        }
    }
    let not_ours: usize = others.values().sum();
    println!(
        "{all} clauses: {shown} shown, {skipped} skipped on this machine, {not_ours} not a runtime's on Linux: {others:?}"
    );
    assert_eq!(all, shown + skipped + not_ours);
    assert!(skipped * 5 < all, "most of the clauses can be shown anywhere");
}
