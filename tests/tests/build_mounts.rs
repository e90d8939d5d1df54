//! What `RUN --mount` lets a command see, and what is left of it: nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::building::Context;
use harness::{Dhow, Invocation};

#[test]
fn secrets_are_seen_by_the_command_and_by_nobody_else() {
    let dhow = Dhow::new("build-secrets");
    let dockerfile = "\
FROM busybox
RUN --mount=type=secret,id=file,mode=0440,uid=1000 --mount=type=secret,id=variable,env=TOKEN \
    test \"$(cat /run/secrets/file)\" = first-hush && test \"$TOKEN\" = second-hush && \
    test \"$(stat -c '%a %u' /run/secrets/file)\" = '440 1000' && grep -q ' /run/secrets/file tmpfs ' /proc/mounts && \
    ! touch /run/secrets/file
RUN test ! -e /run/secrets && test -z \"$TOKEN\"
";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    let file = dhow.scratch().join("file");
    std::fs::write(&file, "first-hush").unwrap();
    let from = format!("id=file,src={}", file.display());
    let args = ["-t", "x", "--secret", &from, "--secret", "id=variable,env=GIVEN"];
    let output = context.command(&args).env("GIVEN", "second-hush").output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(!output.stderr.contains("-hush\n") && !output.stdout.contains("hush"), "{}", output.stderr);
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(context.path().join("Dockerfile")).unwrap();
    for root in [dhow.root(), dhow.run_root()] {
        let hits = Invocation::new("grep").args(&["-rlE", "(first|second)-hush"]).arg(&root).output();
        // The words of the command, which name them here, are in the records of steps and in the image.
        let bad: Vec<&str> = hits
            .stdout
            .lines()
            .filter(|path| {
                !path.contains("/blobs/") && !path.contains("/build/records/") && !path.contains("/names/")
            })
            .filter(|path| !path.contains("/build/explain/"))
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
    let files = dhow.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "x",
        "sh",
        "-c",
        "ls -d /run 2>/dev/null; grep -r hush /etc /root /tmp /var; true",
    ]);
    assert_eq!(files, "");
}

#[test]
fn cache_mounts_outlive_builds_and_are_no_part_of_images() {
    let dhow = Dhow::new("build-cache-mounts");
    let dockerfile = "\
FROM busybox
ARG N
RUN --mount=type=cache,target=/cache,sharing=locked echo \"line $N\" >>/cache/log; cp /cache/log /log
";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    context.build(&["--build-arg", "N=1"]);
    context.build(&["--build-arg", "N=2", "-t", "x"]);
    let script = "cat /log; ls -d /cache 2>/dev/null || echo none";
    assert_eq!(
        dhow.ok(&["run", "--rm", "--network", "none", "x", "sh", "-c", script]),
        "line 1\nline 2\nnone"
    );
}

#[test]
fn binds_show_other_files_and_keep_nothing() {
    let dhow = Dhow::new("build-binds");
    let dockerfile = "\
FROM busybox AS other
RUN mkdir /d && echo deep >/d/f && ln -s /etc/passwd /d/link && ln -s ../../.. /d/up
FROM busybox
RUN --mount=type=bind,from=other,source=/d,target=/d cat /d/f && ! touch /d/x && ls /d/up >/dev/null
RUN --mount=type=bind,from=other,source=/d,target=/d,rw echo more >>/d/f && rm /d/link && touch /d/new && test $(wc -l </d/f) = 2
RUN --mount=type=bind,from=other,source=/d/f,target=/etc/one cat /etc/one
RUN --mount=type=tmpfs,target=/t,size=1m touch /t/x && ! head -c 2000000 /dev/zero >/t/big
RUN --mount=type=bind,source=file,target=/file test \"$(cat /file)\" = context
COPY --from=other /d/f /f
";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile).with("file", "context");
    context.build(&["-t", "x"]);
    let script = "cat /f; ls -d /d /t /file /etc/one 2>/dev/null; true";
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "x", "sh", "-c", script]), "deep");
}

#[test]
fn sources_that_reach_for_the_host_find_the_image() {
    let dhow = Dhow::new("build-reach");
    let dockerfile = "\
FROM busybox AS other
RUN ln -s / /out && ln -s ../../../../.. /up && mkdir -p /x && ln -s /proc/1/root /x/proc
FROM busybox
RUN --mount=type=bind,from=other,source=/out,target=/m test ! -e /m/host-secret && test -e /m/bin/busybox
RUN --mount=type=bind,from=other,source=/up/up,target=/m test ! -e /m/host-secret
RUN --mount=type=cache,from=other,source=/up,target=/m test ! -e /m/host-secret
";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    context.build(&[]);
    // A link in the context that leads out of it leads nowhere.
    let secret = dhow.scratch().join("host-secret");
    std::fs::write(&secret, "x").unwrap();
    std::os::unix::fs::symlink(&secret, context.path().join("link")).unwrap();
    context.write("Dockerfile", "FROM busybox\nRUN --mount=type=bind,source=link,target=/m cat /m\n");
    context.fails(&[]);
}

#[test]
fn an_ssh_agent_is_reached_through_a_socket_of_ours() {
    let dhow = Dhow::new("build-ssh");
    let socket = dhow.scratch().join("agent");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let dockerfile = "\
FROM busybox
RUN --mount=type=ssh,uid=1000,mode=0600 test -S \"$SSH_AUTH_SOCK\" && test \"$(stat -c '%u %a' $SSH_AUTH_SOCK)\" = '1000 600'
RUN test -z \"$SSH_AUTH_SOCK\"
";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    let agent = format!("default={}", socket.display());
    context.build(&["--ssh", &agent, "-t", "x"]);
    drop(listener);
    assert_eq!(
        dhow.ok(&["run", "--rm", "--network", "none", "x", "sh", "-c", "ls -d /run 2>/dev/null; true"]),
        ""
    );
}

#[test]
fn a_secret_that_is_missing_is_told_of_first_and_one_without_end_is_refused() {
    let dhow = Dhow::new("build-odd-secrets");
    let dockerfile = "FROM busybox\nRUN echo first\nRUN --mount=type=secret,id=s true\n";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    let told = context.fails(&["--secret", "id=s,src=/no/such/file"]);
    assert!(told.contains("cannot read the secret s") && !told.contains("RUN echo"), "{told}");
    let told = context.fails(&["--secret", "id=s,src=/dev/zero"]);
    assert!(told.contains("it has more than 512000 bytes"), "{told}");
}
