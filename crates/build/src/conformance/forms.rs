//! Lines, comments, directives, here-documents; the JSON form and the shell form.

use super::support::*;

fn last(source: &str) -> String {
    history(&plan(source)).pop().unwrap()
}

#[test]
fn lines_are_joined() {
    for (source, expected) in [
        ("FROM alpine\nRUN a \\\n b", "RUN /bin/sh -c a  b # buildkit"),
        ("FROM alpine\nRUN a \\\n# comment\n b", "RUN /bin/sh -c a  b # buildkit"),
        ("FROM alpine\nRUN a \\\n  # indented comment\n b", "RUN /bin/sh -c a  b # buildkit"),
        ("FROM alpine\nRUN a \\\n\n b", "RUN /bin/sh -c a  b # buildkit"),
        ("FROM alpine\nRUN a \\  \t\n b", "RUN /bin/sh -c a  b # buildkit"),
        ("FROM alpine\r\nRUN a \\\r\n b\r\n", "RUN /bin/sh -c a  b # buildkit"),
        ("FROM alpine\nRUN a \\\\\nRUN b", "RUN /bin/sh -c b # buildkit"),
        ("FROM alpine\nRUN a # not a comment", "RUN /bin/sh -c a # not a comment # buildkit"),
        ("FROM alpine\nRUN \\\n  a", "RUN /bin/sh -c a # buildkit"),
        ("FROM alpine\nRUN a \\", "RUN /bin/sh -c a # buildkit"),
        ("# c\n\n  # d\nFROM alpine\n\n\n   RUN a", "RUN /bin/sh -c a # buildkit"),
        ("\u{feff}FROM alpine\nRUN a", "RUN /bin/sh -c a # buildkit"),
        ("FROM alpine\nrun a", "RUN /bin/sh -c a # buildkit"),
        ("FROM alpine\nRun\ta", "RUN /bin/sh -c a # buildkit"),
        ("\\\nFROM alpine\nRUN a", "RUN /bin/sh -c a # buildkit"),
        ("# escape=`\nFROM alpine\nRUN a `\n b c\\", "RUN /bin/sh -c a  b c\\ # buildkit"),
        (
            "# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all\nFROM alpine\nRUN a `\n b",
            "RUN /bin/sh -c a  b # buildkit",
        ),
        ("#!/usr/bin/env dhow\nFROM alpine\nRUN a", "RUN /bin/sh -c a # buildkit"),
        ("# a comment\n# escape=`\nFROM alpine\nRUN a \\\n b", "RUN /bin/sh -c a  b # buildkit"),
        ("# unknown=1\n# escape=`\nFROM alpine\nRUN a \\\n b", "RUN /bin/sh -c a  b # buildkit"),
        ("#  ESCAPE = ` \nFROM alpine\nRUN a `\n b", "RUN /bin/sh -c a  b # buildkit"),
    ] {
        assert_eq!(last(source), expected, "{source}");
    }
}

#[test]
fn directives_that_are_wrong() {
    for (source, message) in [
        ("# escape=x\nFROM alpine", "1:1: invalid escape character `x`"),
        ("# escape=`\n# escape=`\nFROM alpine", "2:1: the directive `escape` may be given only once"),
        ("# check=what\nFROM alpine", "1:1: invalid check option `what`"),
        ("# check=error=maybe\nFROM alpine", "1:1: invalid check option `error=maybe`"),
    ] {
        assert_eq!(error(source), message, "{source}");
    }
}

#[test]
fn words_or_a_text_for_a_shell() {
    for (line, expected) in [
        ("CMD [\"a\", \"b c\"]", "- CMD [\"a\" \"b c\"]"),
        ("CMD a b", "- CMD [\"/bin/sh\" \"-c\" \"a b\"]"),
        ("CMD ['a']", "- CMD [\"/bin/sh\" \"-c\" \"['a']\"]"),
        ("CMD [\"a\"] b", "- CMD [\"/bin/sh\" \"-c\" \"[\\\"a\\\"] b\"]"),
        ("CMD [\"a\",]", "- CMD [\"/bin/sh\" \"-c\" \"[\\\"a\\\",]\"]"),
        ("CMD []", "- CMD []"),
        ("CMD [ \"a\" ,\t\"\\u00e9\\n\" ]", "- CMD [\"a\" \"é\\n\"]"),
        ("RUN [\"a\", \"b\"]", "RUN a b # buildkit"),
        ("RUN [ -f x ]", "RUN /bin/sh -c [ -f x ] # buildkit"),
        ("ENTRYPOINT [\"a\"]", "- ENTRYPOINT [\"a\"]"),
        ("ENTRYPOINT a", "- ENTRYPOINT [\"/bin/sh\" \"-c\" \"a\"]"),
        ("SHELL [\"/bin/bash\", \"-c\"]\nRUN a", "RUN /bin/bash -c a # buildkit"),
        ("SHELL [\"/bin/bash\", \"-c\"]\nCMD a", "- CMD [\"/bin/bash\" \"-c\" \"a\"]"),
        ("COPY [\"a b\", \"/c d\"]", "COPY a b /c d # buildkit"),
        ("VOLUME [\"/a b\", \"/c\"]", "- VOLUME [/a b /c]"),
        ("RUN \\\n  [\"a\", \\\n \"b\"]", "RUN a b # buildkit"),
    ] {
        assert_eq!(last(&format!("FROM alpine\n{line}")), expected, "{line}");
    }
    for (line, message) in [
        ("CMD [1]", "2:5: in the JSON form all words have to be strings"),
        ("RUN [\"a\", null]", "2:5: in the JSON form all words have to be strings"),
        ("SHELL /bin/sh", "2:1: SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "2:1: SHELL requires at least one argument"),
        ("RUN []", "2:1: RUN requires at least one argument"),
    ] {
        assert_eq!(error(&format!("FROM alpine\n{line}")), message, "{line}");
    }
}

#[test]
fn here_documents_of_run() {
    for (lines, expected) in [
        ("RUN <<EOF\na $X\nb\nEOF\n", "run 0 [\"/bin/sh\", \"-c\", \"a $X\\nb\\n\"]"),
        ("RUN <<EOF\r\na\r\nEOF\r\n", "run 0 [\"/bin/sh\", \"-c\", \"a\\r\\n\"]"),
        ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF\n", "run 0 [\"/bin/sh\", \"-c\", \"a\\nb\\n\"]"),
        ("RUN <<\"EOF\"\na\nEOF\n", "run 0 [\"/bin/sh\", \"-c\", \"a\\n\"]"),
        (
            "RUN <<EOF\n#!/bin/python\nprint(1)\nEOF\n",
            "run 0 [\"/dev/pipes/EOF\"] EOF=\"#!/bin/python\\nprint(1)\\n\"",
        ),
        ("RUN <<-S\n\t#!/bin/sh\n\tx\n\tS\n", "run 0 [\"/dev/pipes/S\"] S=\"#!/bin/sh\\nx\\n\""),
        ("RUN cat <<EOF > /f\nhi\nEOF\n", "run 0 [\"/bin/sh\", \"-c\", \"cat <<EOF > /f\\nhi\\nEOF\"]"),
        ("RUN cat <<-EOF\n\thi\n\tEOF\n", "run 0 [\"/bin/sh\", \"-c\", \"cat <<-EOF\\n\\thi\\nEOF\"]"),
        (
            "RUN <<A cat && <<B cat\na\nA\nb\nB\n",
            "run 0 [\"/bin/sh\", \"-c\", \"<<A cat && <<B cat\\na\\nA\\nb\\nB\"]",
        ),
        (
            "RUN 3<<EOF cat /dev/fd/3\nx\nEOF\n",
            "run 0 [\"/bin/sh\", \"-c\", \"3<<EOF cat /dev/fd/3\\nx\\nEOF\"]",
        ),
        ("RUN cat <<< x", "run 0 [\"/bin/sh\", \"-c\", \"cat <<< x\"]"),
        ("RUN echo \"<<EOF\"", "run 0 [\"/bin/sh\", \"-c\", \"echo \\\"<<EOF\\\"\"]"),
        ("RUN echo \\<<EOF", "run 0 [\"/bin/sh\", \"-c\", \"echo \\\\<<EOF\"]"),
        ("RUN echo $((1<<2))", "run 0 [\"/bin/sh\", \"-c\", \"echo $((1<<2))\"]"),
        ("RUN [\"cat\", \"<<EOF\"]", "run 0 [\"cat\", \"<<EOF\"]"),
        (
            "RUN <<EOF\n# kept\n\n  a \\\n  b\nEOF\n",
            "run 0 [\"/bin/sh\", \"-c\", \"# kept\\n\\n  a \\\\\\n  b\\n\"]",
        ),
        ("SHELL [\"/bin/bash\", \"-c\"]\nRUN <<EOF\na\nEOF\n", "run 0 [\"/bin/bash\", \"-c\", \"a\\n\"]"),
    ] {
        assert_eq!(steps(&plan(&format!("FROM alpine\n{lines}")))[1], expected, "{lines}");
    }
}

#[test]
fn here_documents_of_copy() {
    for (lines, expected) in [
        ("COPY <<EOF /f\nhi $A\nEOF\n", "files 0 | write /f \"hi abc\\n\""),
        ("COPY <<'EOF' /f\nhi $A\nEOF\n", "files 0 | write /f \"hi $A\\n\""),
        ("COPY <<EOF /f\n\"q\" 'r' \\$A ${A%c}\nEOF\n", "files 0 | write /f \"\\\"q\\\" 'r' $A ab\\n\""),
        ("COPY <<-EOF /f\n\thi\n\t\tho\nEOF\n", "files 0 | write /f \"hi\\nho\\n\""),
        ("COPY <<a <<b /d/\n1\na\n2\nb\n", "files 0 | write /d/a \"1\\n\" | write /d/b \"2\\n\""),
        ("COPY <<a.txt /d/\n1\na.txt\n", "files 0 | write /d/a.txt \"1\\n\""),
        ("COPY --chmod=755 --chown=1:2 <<EOF /f\nx\nEOF\n", "files 0 | write /f \"x\\n\" by 1:2 755"),
        ("ADD <<EOF /f\nx\nEOF\n", "files 0 | write /f \"x\\n\""),
        ("WORKDIR /w\nCOPY <<EOF f\nx\nEOF\n", "files 1 | write /w/f \"x\\n\""),
        ("COPY <<EOF /f\nEOF\n", "files 0 | write /f \"\""),
        ("COPY <<E\"O\"F /f\n$A\nEOF\n", "files 0 | write /f \"$A\\n\""),
        ("COPY <<E\\'F /f\n$A\nE'F\n", "files 0 | write /f \"abc\\n\""),
        ("COPY <<$X /f\n$A\n$X\n", "files 0 | write /f \"abc\\n\""),
        ("COPY <<X <<Y /d/\nY\nX\nX\nY\n", "files 0 | write /d/X \"Y\\n\" | write /d/Y \"X\\n\""),
    ] {
        let plan = plan(&format!("FROM alpine\nENV A=abc\n{lines}"));
        assert_eq!(steps(&plan).pop().unwrap(), expected, "{lines}");
    }
    let mixed = plan("FROM alpine\nCOPY a <<b /d\n1\nb\n");
    assert_eq!(steps(&mixed).pop().unwrap(), "files 0 | copy 1 [\"/a\"] /d/ | write /d/b \"1\\n\"");
    assert_eq!(history(&mixed), ["COPY a <<b /d # buildkit"]);
}

#[test]
fn here_documents_that_are_wrong() {
    for (source, message) in [
        ("FROM alpine\nRUN <<EOF\na\n", "2:5: the here-document EOF has no end: a line with EOF alone"),
        ("FROM alpine\nRUN <<EOF\na\n EOF\n", "2:5: the here-document EOF has no end: a line with EOF alone"),
        (
            "FROM alpine\nCOPY a <<EOF\nx\nEOF\n",
            "2:8: a here-document cannot be where something is copied to",
        ),
        (
            "FROM alpine\nCOPY <<EOF /f\n${x\nEOF\n",
            "2:6: in the here-document EOF: `}` is missing after `${x`",
        ),
    ] {
        assert_eq!(error(source), message, "{source}");
    }
}
