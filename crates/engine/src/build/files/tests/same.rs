//! Equal keys for equal files, and for no others; and what is copied is what was there.

use super::*;
use proptest::prelude::*;

/// A file of a random tree.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File { content: Vec<u8>, mode: u32 },
    Link(String),
    Directory { mode: u32 },
    Fifo,
}

type Tree = std::collections::BTreeMap<String, Node>;

fn node() -> impl Strategy<Value = Node> {
    let mode = prop_oneof![Just(0o644), Just(0o755), Just(0o600), Just(0o4711), Just(0o1777)];
    prop_oneof![
        4 => (proptest::collection::vec(any::<u8>(), 0..40), mode.clone())
            .prop_map(|(content, mode)| Node::File { content, mode }),
        1 => "[a-c/.]{1,6}".prop_map(Node::Link),
        1 => mode.prop_map(|mode| Node::Directory { mode: mode | 0o700 }),
        1 => Just(Node::Fifo),
    ]
}

/// Names of up to three levels; what would be below a file is left out.
fn tree() -> impl Strategy<Value = Tree> {
    proptest::collection::btree_map("[a-c](/[a-c]){0,2}", node(), 0..12).prop_map(|nodes| {
        let mut tree = Tree::new();
        for (name, node) in nodes {
            let mut above = name.as_str();
            let mut fits = true;
            while let Some((parent, _)) = above.rsplit_once('/') {
                fits &= matches!(tree.get(parent), None | Some(Node::Directory { .. }));
                above = parent;
            }
            if fits {
                let mut at = 0;
                while let Some(slash) = name[at..].find('/') {
                    tree.entry(name[..at + slash].to_owned()).or_insert(Node::Directory { mode: 0o755 });
                    at += slash + 1;
                }
                tree.insert(name, node);
            }
        }
        tree
    })
}

fn make(path: &Path, node: &Node) {
    match node {
        Node::File { content, mode } => {
            fs::write(path, content).unwrap();
            set_mode(path, *mode);
        }
        Node::Link(target) => symlink(target, path).unwrap(),
        Node::Directory { .. } => fs::create_dir_all(path).unwrap(),
        Node::Fifo => make_fifo(path),
    }
}

/// Makes a tree, files in this order or the reverse.
fn build(root: &Path, tree: &Tree, reverse: bool) {
    for (name, node) in tree {
        if let Node::Directory { .. } = node {
            fs::create_dir_all(root.join(name)).unwrap();
        }
    }
    let mut files: Vec<_> = tree.iter().filter(|(_, node)| !matches!(node, Node::Directory { .. })).collect();
    if reverse {
        files.reverse();
    }
    for (name, node) in files {
        make(&root.join(name), node);
    }
    for (name, node) in tree {
        if let Node::Directory { mode } = node {
            set_mode(&root.join(name), *mode);
        }
    }
}

fn read(root: &Path) -> Tree {
    let node = |name: &str| {
        let path = root.join(name);
        let stat = fs::symlink_metadata(&path).unwrap();
        let mode = stat.mode() & 0o7777;
        match FileType::from_raw_mode(stat.mode()) {
            FileType::RegularFile => Node::File { content: fs::read(&path).unwrap(), mode },
            FileType::Symlink => Node::Link(fs::read_link(&path).unwrap().to_str().unwrap().to_owned()),
            FileType::Directory => Node::Directory { mode },
            _ => Node::Fifo,
        }
    };
    names(root)
        .iter()
        .map(|name| name.trim_end_matches('/'))
        .map(|name| (name.to_owned(), node(name)))
        .collect()
}

fn key(root: &Path) -> Digest {
    let root = open(root);
    digest(&copy(&["."], "/t"), &|_| Ok(Source::context(root.as_fd(), None, None))).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_copy_is_what_was_there(tree in tree()) {
        let trees = Trees::new();
        build(&trees.from, &tree, false);
        trees.apply(&copy(&["."], "/")).unwrap();
        prop_assert_eq!(read(&trees.to), tree);
        prop_assert_eq!(key(&trees.from), key(&trees.to));
    }

    #[test]
    fn equal_trees_have_equal_keys_and_others_have_others(one in tree(), other in tree()) {
        let (first, second, third) = (Trees::new(), Trees::new(), Trees::new());
        build(&first.from, &one, false);
        build(&second.from, &one, true);
        for name in names(&second.from) {
            set_time(&second.from.join(name), 12345);
        }
        build(&third.from, &other, false);
        prop_assert_eq!(key(&first.from), key(&second.from));
        prop_assert_eq!(key(&first.from) == key(&third.from), one == other);
    }

    #[test]
    fn what_is_chosen_has_one_key_by_pattern_or_by_name(tree in tree(), pattern in "[a-c*?]{1,2}(/[a-c*]{1,2})?") {
        let trees = Trees::new();
        build(&trees.from, &tree, false);
        let change = copy(&[&pattern], "/t/");
        // Both find the same, or nothing; and never panic.
        let (key, applied) = (trees.digest(&change), trees.apply(&change));
        if key.is_err() {
            prop_assert!(applied.is_err());
        }
    }
}

/// What leaves something out, and may bring some of it back.
fn patterns() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("!?(\\*\\*/)?[a-c*](/[a-c*]){0,2}", 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Keys are equal just where the copies are, whatever is left out on the way.
    #[test]
    fn keys_are_those_of_what_is_copied(
        one in tree(),
        other in prop_oneof![1 => Just(None), 3 => (any::<prop::sample::Index>(), proptest::option::of(node())).prop_map(Some)],
        ignored in patterns(),
        exclude in patterns(),
        parents in any::<bool>(),
        source in prop_oneof![3 => Just("."), 1 => Just("*"), 1 => Just("a"), 1 => Just("[ab]/*")],
    ) {
        // The same tree, or one that differs in one file.
        let mut second = one.clone();
        if let (Some((index, node)), false) = (&other, one.is_empty()) {
            let name = index.get(&one.keys().cloned().collect::<Vec<_>>()).clone();
            let is_empty = !one.keys().any(|other| other.starts_with(&format!("{name}/")));
            match node {
                Some(node) if is_empty => drop(second.insert(name, node.clone())),
                None if is_empty => drop(second.remove(&name)),
                _ => {}
            }
        }
        let change = Change::Copy(graph::Copy {
            exclude,
            parents,
            ..copy_of(&[source], "/t/")
        });
        let done = |tree: &Tree| {
            let trees = Trees::new().ignoring(&ignored.join("\n"));
            build(&trees.from, tree, false);
            (trees.digest(&change).ok(), trees.apply(&change).ok().map(|()| read(&trees.to)))
        };
        let ((first_key, first), (second_key, second)) = (done(&one), done(&second));
        // Of several sources one may be in another's way.
        prop_assert!(first_key.is_some() || first.is_none());
        prop_assert!(second_key.is_some() || second.is_none());
        if first.is_some() && second.is_some() {
            if first_key == second_key {
                prop_assert_eq!(&first, &second);
            }
            // Or be overwritten by another.
            if first == second && source == "." {
                prop_assert_eq!(first_key, second_key, "{:?}", first);
            }
        }
    }
}

#[test]
fn every_change_has_another_key() {
    let trees = Trees::with(&["d/a", "d/b", "d/e/"]);
    symlink("a", trees.from.join("d/l")).unwrap();
    let mut keys = std::collections::BTreeSet::new();
    let mut fresh = |what: &str, change: &Change| {
        assert!(keys.insert(trees.digest(change).unwrap()), "{what}");
    };
    let all = copy(&["d"], "/t");
    fresh("at first", &all);
    fs::write(trees.from.join("d/a"), "d/A").unwrap();
    fresh("a byte", &all);
    set_mode(&trees.from.join("d/a"), 0o600);
    fresh("a mode", &all);
    fs::rename(trees.from.join("d/a"), trees.from.join("d/c")).unwrap();
    fresh("a name", &all);
    fs::remove_file(trees.from.join("d/l")).unwrap();
    symlink("b", trees.from.join("d/l")).unwrap();
    fresh("a link", &all);
    set_mode(&trees.from.join("d/e"), 0o700);
    fresh("a directory's mode", &all);
    fs::remove_dir(trees.from.join("d/e")).unwrap();
    fresh("a directory", &all);
    fs::copy(trees.from.join("d/b"), trees.from.join("d/h")).unwrap();
    fresh("a copy", &all);
    fs::remove_file(trees.from.join("d/h")).unwrap();
    fs::hard_link(trees.from.join("d/b"), trees.from.join("d/h")).unwrap();
    fresh("a hard link", &all);
    if rustix::fs::setxattr(trees.from.join("d/b"), "user.x", b"1", rustix::fs::XattrFlags::empty()).is_ok() {
        fresh("an attribute", &all);
    }
    fresh("a target", &copy(&["d"], "/u"));
    let with = |change: graph::Copy| Change::Copy(change);
    fresh("an owner", &with(graph::Copy { owner: Some("5".to_owned()), ..copy_of(&["d"], "/t") }));
    fresh("another owner", &with(graph::Copy { owner: Some("5:6".to_owned()), ..copy_of(&["d"], "/t") }));
    fresh("chmod", &with(graph::Copy { mode: Some(Mode::Octal(0o700)), ..copy_of(&["d"], "/t") }));
    fresh("unpack", &with(graph::Copy { unpack: true, ..copy_of(&["d"], "/t") }));
    fresh("exclude", &with(graph::Copy { exclude: vec!["b".to_owned()], ..copy_of(&["d"], "/t") }));
    fresh("one file", &copy(&["d/b"], "/t"));
    fresh("another name of it", &copy(&["d/h"], "/t"));
}

#[test]
fn what_is_remembered_is_right() {
    let trees = Trees::with(&["d/a", "d/b", "d/e/c", "f"]);
    let table = trees.dir.path().join("table");
    let root = open(&trees.from);
    let key = |remembered: &Remembered| {
        digest(&copy(&["."], "/t"), &|_| Ok(Source::context(root.as_fd(), None, Some(remembered)))).unwrap()
    };
    let first = Remembered::open(&table);
    std::thread::sleep(std::time::Duration::from_millis(150));
    let before = key(&first);
    first.save().unwrap();
    let second = Remembered::open(&table);
    assert_eq!(key(&second), before);
    assert_eq!(fs::metadata(&table).unwrap().len(), 24 + 4 * 76 + 32);
    // The same length and time, which only the change time betrays.
    let stat = fs::metadata(trees.from.join("d/a")).unwrap();
    fs::write(trees.from.join("d/a"), "d/A").unwrap();
    set_time(&trees.from.join("d/a"), stat.mtime());
    let third = Remembered::open(&table);
    assert_ne!(key(&third), before);
    fs::write(trees.from.join("d/a"), "d/a").unwrap();
    assert_eq!(key(&third), before);
    let mut file = fs::OpenOptions::new().append(true).mode(0o600).open(&table).unwrap();
    std::io::Write::write_all(&mut file, b"x").unwrap();
    assert_eq!(key(&Remembered::open(&table)), before, "a spoilt table");
}
