//! Processes and containers as a tree: who is whose child, and which container lives in the namespaces of which.
//!
//! A tree is a list here, each thing before those below it: how deep it may be is a container's choice (a chain of forks),
//! and nobody is to recurse so far.

use std::collections::HashMap;
use std::time::Duration;

use base::Id;
use runtime::cgroup::{Group, Hierarchy};

use super::process::{Facts, TICKS, command_line, user_name, users};
use crate::Engine;
use crate::containers::list::ContainerSummary;
use crate::containers::records;
use crate::error::Result;

/// A thing in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch<T> {
    /// How many things it is below.
    pub depth: usize,
    /// No other one follows it below the same thing.
    pub last: bool,
    /// The thing.
    pub item: T,
}

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number on the host.
    pub pid: u32,
    /// That of its parent.
    pub parent: u32,
    /// The name of its effective user on the host, or the number.
    pub user: String,
    /// Processors' time that it has used.
    pub cpu: Duration,
    /// Its command line, printable.
    pub command: String,
}

/// What a tree of containers consists of.
#[derive(Debug, Clone)]
pub enum TreeItem {
    /// A container: below the one whose namespaces it joins.
    Container(Box<ContainerSummary>),
    /// A process: below its parent, or below its container.
    Process(Process),
}

impl Engine {
    /// The processes of a container as a tree; none where it does not run.
    pub fn process_tree(&self, id: &Id) -> Result<Vec<Branch<Process>>> {
        let Some(found) = records::load(&self.instance, id)? else { return Ok(Vec::new()) };
        let group = Group::existing(&Hierarchy::detect()?, &self.location(&found.record));
        Ok(processes(&group.processes(), &group))
    }

    /// These containers and their processes as a tree.
    pub fn container_tree(&self, containers: Vec<ContainerSummary>) -> Result<Vec<Branch<TreeItem>>> {
        let mut trees = Vec::with_capacity(containers.len());
        let mut joined = Vec::with_capacity(containers.len());
        for container in &containers {
            trees.push(self.process_tree(&container.id)?);
            // One that is not there, or not shown, is nobody to stand below.
            let ids =
                container.joins.iter().filter_map(|join| records::find(&self.instance, &join.container).ok());
            joined.push(ids.collect::<Vec<Id>>());
        }
        Ok(join(containers, trees, &joined))
    }
}

/// Reads and arranges them.
fn processes(pids: &[u32], group: &Group) -> Vec<Branch<Process>> {
    let users = users();
    let mut found: Vec<Process> = pids
        .iter()
        .filter_map(|&pid| Facts::read(pid))
        .map(|f| Process {
            pid: f.pid,
            parent: f.stat.parent,
            user: user_name(&users, f.user),
            cpu: Duration::from_millis(f.stat.used.saturating_mul(1000 / TICKS)),
            command: command_line(&f.stat, &f.command),
        })
        .collect();
    // A number that was read while its process ended could have been a stranger's by then.
    let still = group.processes();
    found.retain(|process| still.binary_search(&process.pid).is_ok());
    let at: HashMap<u32, usize> = found.iter().enumerate().map(|(at, p)| (p.pid, at)).collect();
    let parents = found.iter().map(|p| at.get(&p.parent).copied()).collect();
    arrange(found, parents)
}

/// Containers below those that they join, each with its processes before the containers.
fn join(
    containers: Vec<ContainerSummary>,
    trees: Vec<Vec<Branch<Process>>>,
    joined: &[Vec<Id>],
) -> Vec<Branch<TreeItem>> {
    let count: usize = trees.iter().map(Vec::len).sum();
    let at: HashMap<Id, usize> =
        containers.iter().enumerate().map(|(at, c)| (c.id.clone(), count + at)).collect();
    let (mut items, mut parents) = (Vec::new(), Vec::new());
    for (index, tree) in trees.into_iter().enumerate() {
        // The way from the container down to the last one that was added.
        let mut way = vec![count + index];
        for branch in tree {
            way.truncate(branch.depth + 1);
            parents.push(way.last().copied());
            way.push(items.len());
            items.push(TreeItem::Process(branch.item));
        }
    }
    for (container, joined) in containers.into_iter().zip(joined) {
        parents.push(joined.iter().find_map(|id| at.get(id).copied()));
        items.push(TreeItem::Container(Box::new(container)));
    }
    arrange(items, parents)
}

/// Things in an order in which each stands before those below it, and those in their own order. A circle is cut at its
/// first one.
fn arrange<T>(items: Vec<T>, parents: Vec<Option<usize>>) -> Vec<Branch<T>> {
    let mut below = vec![Vec::new(); items.len()];
    for (at, parent) in parents.iter().enumerate() {
        if let Some(children) = parent.and_then(|parent| below.get_mut(parent)) {
            children.push(at);
        }
    }
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let mut found = Vec::with_capacity(items.len());
    let roots = parents.iter().enumerate().filter(|(_, parent)| parent.is_none()).map(|(at, _)| at);
    // Who is in a circle is not below any root: they come last.
    for root in roots.chain(0..items.len()).collect::<Vec<_>>() {
        let mut waiting = vec![(root, 0, true)];
        while let Some((at, depth, last)) = waiting.pop() {
            let Some(item) = items[at].take() else { continue };
            found.push(Branch { depth, last, item });
            let children = below[at].iter().filter(|child| items[**child].is_some());
            let children = children.rev().enumerate().map(|(nth, child)| (*child, depth + 1, nth == 0));
            waiting.extend(children);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(parents: &[Option<usize>]) -> Vec<(usize, usize, bool)> {
        let items: Vec<usize> = (0..parents.len()).collect();
        arrange(items, parents.to_vec()).into_iter().map(|b| (b.item, b.depth, b.last)).collect()
    }

    #[test]
    fn each_stands_below_its_parent() {
        assert_eq!(
            shown(&[None, Some(0), Some(3), Some(0), None]),
            [(0, 0, true), (1, 1, false), (3, 1, true), (2, 2, true), (4, 0, true)]
        );
    }

    #[test]
    fn a_circle_is_cut() {
        assert_eq!(shown(&[Some(1), Some(0)]), [(0, 0, true), (1, 1, true)]);
        assert_eq!(shown(&[Some(0)]), [(0, 0, true)]);
    }

    #[test]
    fn a_long_chain_is_no_trouble() {
        let parents: Vec<Option<usize>> = (0..100_000_usize).map(|at| at.checked_sub(1)).collect();
        assert_eq!(shown(&parents).last(), Some(&(99_999, 99_999, true)));
    }

    proptest! {
        #[test]
        fn all_are_there_once_and_no_level_is_left_out(
            parents in proptest::collection::vec(proptest::option::of(0_usize..20), 0..20),
        ) {
            let found = shown(&parents);
            let mut items: Vec<usize> = found.iter().map(|(item, ..)| *item).collect();
            let mut before = None;
            for (_, depth, _) in &found {
                prop_assert!(*depth <= before.map_or(0, |before: usize| before + 1));
                before = Some(*depth);
            }
            items.sort_unstable();
            prop_assert_eq!(items, (0..parents.len()).collect::<Vec<_>>());
        }
    }
}
