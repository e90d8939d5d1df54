//! `COPY` and `ADD`.

use super::support::*;

fn last(lines: &str) -> String {
    steps(&plan(&format!("FROM alpine\n{lines}"))).pop().unwrap()
}

#[test]
fn sources_and_targets() {
    for (lines, expected) in [
        ("COPY a b", "files 0 | copy 1 [\"/a\"] /b"),
        ("COPY a /b/", "files 0 | copy 1 [\"/a\"] /b/"),
        ("COPY a .", "files 0 | copy 1 [\"/a\"] /"),
        ("COPY . .", "files 0 | copy 1 [\"/\"] /"),
        ("COPY ./a/../b/ /c/./d", "files 0 | copy 1 [\"/b\"] /c/d"),
        ("COPY ../../etc /x", "files 0 | copy 1 [\"/etc\"] /x"),
        ("COPY a ../../x", "files 0 | copy 1 [\"/a\"] /x"),
        ("COPY a b c /d", "files 0 | copy 1 [\"/a\", \"/b\", \"/c\"] /d/"),
        ("COPY *.go /d/", "files 0 | copy 1 [\"/*.go\"] /d/ any"),
        ("COPY a *.go b[0-9] /d/", "files 0 | copy 1 [\"/a\"] /d/ | copy 1 [\"/*.go\", \"/b[0-9]\"] /d/ any"),
        ("COPY a\\*b /d", "files 0 | copy 1 [\"/a*b\"] /d any"),
        ("COPY --chown=u:g a /d", "files 0 | copy 1 [\"/a\"] /d by u:g"),
        ("COPY --chmod=0755 a /d", "files 0 | copy 1 [\"/a\"] /d 755"),
        ("COPY --chmod=u=rwX,go=rX a /d", "files 0 | copy 1 [\"/a\"] /d u=rwX,go=rX"),
        ("COPY --link a /d", "files 0 link | copy 1 [\"/a\"] /d"),
        ("COPY --link=false a /d", "files 0 | copy 1 [\"/a\"] /d"),
        ("COPY --parents ./x/a.txt /d/", "files 0 | copy 1 [\"/x/a.txt\"] /d/ parents"),
        ("COPY --parents x/./y/*.c /d/", "files 0 | copy 1 [\"/x/./y/*.c\"] /d/ parents any"),
        ("COPY --parents ./a/../x/./y /d/", "files 0 | copy 1 [\"/x/./y\"] /d/ parents"),
        ("COPY --exclude=*.md --exclude=!a.md . /d", "files 0 | copy 1 [\"/\"] /d not [\"*.md\", \"!a.md\"]"),
        ("WORKDIR /w\nCOPY a b", "files 1 | copy 2 [\"/a\"] /w/b"),
        ("WORKDIR /w\nCOPY a .", "files 1 | copy 2 [\"/a\"] /w/"),
        ("ADD a /b", "files 0 | copy 1 [\"/a\"] /b unpack"),
        ("ADD --unpack=false a.tar /b", "files 0 | copy 1 [\"/a.tar\"] /b"),
        ("ADD https://h/p/f.tar.gz?x=/y /b/", "files 0 | copy 1 [\"/f.tar.gz\"] /b/"),
        ("ADD --unpack https://h/f.tar /b", "files 0 | copy 1 [\"/f.tar\"] /b unpack"),
        ("ADD https://h/ /b/", "files 0 | copy 1 [\"/__unnamed__\"] /b/"),
        ("ADD https://h/r.git /b", "files 0 | copy 1 [\"/\"] /b"),
        ("ADD git@h:r.git#v1:sub /b", "files 0 | copy 1 [\"/\"] /b"),
        ("ADD a https://h/f /b/", "files 0 | copy 1 [\"/a\"] /b/ unpack | copy 2 [\"/f\"] /b/"),
        ("COPY --from=nginx /a /b", "files 0 | copy 1 [\"/a\"] /b"),
        ("COPY --from=scratch /a /b", "files 0 | copy 1 [\"/a\"] /b"),
        ("COPY -- --odd /b", "files 0 | copy 1 [\"/--odd\"] /b"),
    ] {
        assert_eq!(last(lines), expected, "{lines}");
    }
}

#[test]
fn sources_from_elsewhere() {
    let sum = "0".repeat(64);
    for (lines, expected) in [
        ("ADD https://h/f /b".to_owned(), "http https://h/f f".to_owned()),
        (format!("ADD --checksum=sha256:{sum} https://h/f /b"), "http https://h/f f checked".to_owned()),
        ("ADD https://h/r.git /b".to_owned(), "git https://h/r.git :".to_owned()),
        (
            "ADD --keep-git-dir=true https://h/r.git#v1:d /b".to_owned(),
            "git https://h/r.git v1:d .git".to_owned(),
        ),
        (
            "ADD --checksum=0123456789abcdef https://h/r.git /b".to_owned(),
            "git https://h/r.git : 0123456789abcdef".to_owned(),
        ),
        ("COPY --from=ghcr.io/a/b:1 a b".to_owned(), "image ghcr.io/a/b:1 linux/amd64".to_owned()),
        ("COPY a b".to_owned(), "context -".to_owned()),
    ] {
        assert_eq!(steps(&plan(&format!("FROM alpine\n{lines}")))[1], expected, "{lines}");
    }
}

#[test]
fn copies_that_are_wrong() {
    for (line, message) in [
        ("COPY a", "2:1: COPY requires at least two arguments: sources, and where to"),
        ("ADD", "2:1: ADD requires at least two arguments: sources, and where to"),
        ("COPY [\"a\"]", "2:1: COPY requires at least two arguments: sources, and where to"),
        ("COPY https://h/f /b", "2:6: the source of a COPY can't be a URL"),
        ("COPY https://h/r.git /b", "2:6: the source of a COPY can't be a repository"),
        ("COPY --chmod=9 a b", "2:6: invalid --chmod `9`"),
        ("COPY --chmod=10000 a b", "2:6: invalid --chmod `10000`"),
        ("COPY --chmod=u+q a b", "2:6: invalid --chmod `u+q`"),
        ("COPY --from=$X a b", "2:6: variables are not replaced in --from"),
        ("COPY --from=5 a b", "2:6: there is no stage 5: stages are counted from 0 to 0"),
        ("COPY --from=0 a b", "2:6: a stage cannot copy from itself"),
        ("COPY --from=nowhere a b", "2:6: nowhere: there is no such image"),
        ("COPY --from=UPPER a b", "2:6: `UPPER` is no name of an image, nor of a stage"),
        ("COPY --exclude=[ . b", "2:6: --exclude: a `[` is not closed: write `\\[` for the character: `[`"),
        ("COPY --form=x a b", "2:6: unknown flag --form for COPY; did you mean --from?"),
        ("COPY --keep-git-dir a b", "2:6: unknown flag --keep-git-dir for COPY"),
        ("ADD --from=x a b", "2:5: unknown flag --from for ADD"),
        ("ADD --parents a b", "2:5: unknown flag --parents for ADD"),
        ("COPY --link=maybe a b", "2:6: --link is true or false, not `maybe`"),
        ("COPY --chown a b", "2:6: the flag --chown of COPY needs a value"),
        ("COPY --chown=a --chown=b a b", "2:16: the flag --chown may be given only once"),
        ("ADD --checksum=x https://h/f /b", "2:5: --checksum: `x` is no digest"),
        ("ADD --checksum=sha256:0 a /b", "2:5: --checksum is for sources from a web server, or repositories"),
        ("ADD --checksum=x https://h/f https://h/g /b", "2:5: --checksum is for one source alone"),
        (
            "ADD https://h/r.git#-x /b",
            "2:5: `https://h/r.git#-x` does not name a repository: nothing in it may begin with `-`",
        ),
        (
            "ADD https://h/r.git#:../x /b",
            "2:5: the subdirectory of `https://h/r.git#:../x` may not contain `..`",
        ),
        (
            "ADD --checksum=xyz https://h/r.git /b",
            "2:5: --checksum: `xyz` is no commit: want 7 or more hexadecimal digits",
        ),
    ] {
        assert_eq!(error(&format!("FROM alpine\n{line}")), message, "{line}");
    }
}
