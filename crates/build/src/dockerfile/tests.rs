use proptest::prelude::*;

use super::*;

/// Pieces that texts are made of, so that many of them are nearly Dockerfiles.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "FROM ",
        "alpine",
        " AS ",
        "b",
        "\n",
        "\n",
        "\n",
        "\r\n",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "LABEL ",
        "CMD ",
        "ONBUILD ",
        "EXPOSE ",
        "HEALTHCHECK ",
        "SHELL ",
        "VOLUME ",
        "--from=",
        "--mount=type=",
        "--",
        "--x",
        "<<EOF",
        "<<-",
        "EOF\n",
        "[\"",
        "\"]",
        "\", \"",
        "[",
        "]",
        "\\\n",
        "\\",
        "`",
        "#",
        "# escape=`\n",
        "# check=",
        "=",
        "$A",
        "${",
        "}",
        " ",
        "\t",
        "'",
        "\"",
        "é",
        "\u{feff}",
        "\0",
        "80",
        "a",
        "/",
        ":",
        ",",
    ])
}

#[test]
fn places_are_where_things_stand() {
    let source = "# c\nFROM alpine\n  RUN --network=none a \\\n    b \\\n# c\n  c\nCOPY <<X /x\ny\nX\n";
    let dockerfile = Dockerfile::parse(source).unwrap();
    let nodes = &dockerfile.stages[0].nodes;
    assert_eq!((nodes[0].lines, nodes[1].lines), ((3, 6), (7, 9)));
    assert_eq!(nodes[0].place(), Place { line: 3, column: 3, width: 3 });
    assert_eq!(nodes[0].place_of(nodes[0].flags[0].at.clone()), Place { line: 3, column: 7, width: 14 });
    let at = nodes[0].text.text.find("b ").unwrap();
    assert_eq!(nodes[0].place_of(at..at + 1), Place { line: 4, column: 5, width: 1 });
    let Instruction::Copy(copying) = &nodes[1].instruction else { panic!() };
    assert_eq!(nodes[1].place_of(copying.target.at.clone()), Place { line: 7, column: 10, width: 2 });
    assert_eq!(nodes[1].heredocs[0].content, "y\n");
}

#[test]
fn long_texts_and_many_stages_are_refused() {
    assert!(Dockerfile::parse(&" ".repeat(3 << 20)).unwrap_err().message().contains("longer than 2 MiB"));
    let stages = |count: usize| Dockerfile::parse(&"FROM a\n".repeat(count));
    assert_eq!(stages(1000).unwrap().stages.len(), 1000);
    assert!(stages(1001).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_in_a_place(pieces in prop::collection::vec(piece(), 0..40)) {
        let source = pieces.concat();
        match Dockerfile::parse(&source) {
            Err(fault) => {
                let error = fault.locate("Dockerfile", &source);
                prop_assert!(error.line() <= source.lines().count().max(1), "{}", error);
                prop_assert!(!error.to_string().is_empty());
                error.report();
            }
            Ok(dockerfile) => {
                let mut last = 0;
                let nodes = dockerfile.stages.iter().flat_map(|s| std::iter::once(&s.from).chain(&s.nodes));
                for node in dockerfile.globals.iter().chain(nodes) {
                    prop_assert!(node.lines.0 > last && node.lines.1 >= node.lines.0);
                    last = node.lines.1;
                }
            }
        }
    }
}
