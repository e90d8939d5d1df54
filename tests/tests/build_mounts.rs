//! What `RUN --mount` lets a command see, and what is left of it: nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::building::Context;
use harness::{Dhow, Invocation};

/// The digest of a text, as `sha256sum` has it.
fn sum(text: &str) -> String {
    let output = Invocation::new("sha256sum").input(text).output();
    output.stdout.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn secrets_are_seen_by_the_command_and_by_nobody_else() {
    let dhow = Dhow::new("build-secrets");
    // The Dockerfile knows them by their digests alone: so their text is nowhere but where it should not be.
    let secrets = ["one", "two"].map(|n| format!("hush-{n}-{}", harness::random(u64::MAX)));
    let [first, second] = secrets.each_ref().map(|secret| sum(secret));
    let dockerfile = format!(
        "\
FROM busybox
RUN --mount=type=secret,id=file,mode=0440,uid=1000 --mount=type=secret,id=variable,env=TOKEN \
    echo '{first}  /run/secrets/file' | sha256sum -c - && \
    test \"$(printf %s \"$TOKEN\" | sha256sum)\" = '{second}  -' && \
    test \"$(stat -c '%a %u' /run/secrets/file)\" = '440 1000' && grep -q ' /run/secrets/file tmpfs ' /proc/mounts && \
    ! touch /run/secrets/file && echo seen >/seen
RUN test ! -e /run/secrets && test -z \"$TOKEN\"
"
    );
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    let file = dhow.scratch().join("file");
    std::fs::write(&file, &secrets[0]).unwrap();
    let from = format!("id=file,src={}", file.display());
    let args = ["-t", "x", "--secret", &from, "--secret", "id=variable,env=GIVEN", "--explain"];
    let output = context.command(&args).env("GIVEN", &secrets[1]).output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(!output.stderr.contains("hush-") && !output.stdout.contains("hush-"), "{}", output.stderr);
    std::fs::remove_file(file).unwrap();
    let history = dhow.ok(&["history", "--no-trunc", "x"]) + &dhow.inspect("x").to_string();
    assert!(history.contains(&first) && !history.contains("hush-"), "{history}");
    // Blobs are compressed: what is in them, and in the layers.
    let saved = dhow.scratch().join("saved");
    std::fs::create_dir(&saved).unwrap();
    dhow.ok(&["save", "-o", saved.join("image.tar").to_str().unwrap(), "x"]);
    let unpack = "tar xf image.tar && find . -path '*blobs*' -type f | while read b; do \
                  if gzip -t $b 2>/dev/null; then gzip -dc $b >$b.tar; fi; done; ls -R . | grep -c tar";
    let unpacked =
        Invocation::new("sh").args(&["-c", &format!("cd {} && {unpack}", saved.display())]).output();
    assert!(unpacked.stdout.trim().parse::<u32>().unwrap() > 1, "{unpacked:?}");
    let found = |text: &str, place: std::path::PathBuf| {
        Invocation::new("grep").args(&["-rlaF", text]).arg(&place).output().stdout
    };
    // It is looked for in the right places.
    assert_ne!(found("seen", saved.clone()), "");
    for secret in &secrets {
        for place in [dhow.root(), dhow.run_root(), saved.clone()] {
            assert_eq!(found(secret, place), "");
        }
    }
    let files =
        dhow.ok(&["run", "--rm", "--network", "none", "x", "sh", "-c", "ls -d /run 2>/dev/null; true"]);
    assert_eq!(files, "");
}

#[test]
fn a_context_is_mounted_as_a_copy() {
    let dhow = Dhow::new("build-bind-copy");
    let context = Context::new(&dhow, "context").with("d/file", "content").with("d/a[1]/x", "y");
    let fifo = context.path().join("d/fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(context.path().join("d/socket")).unwrap();
    std::os::unix::fs::chown(context.path().join("d/file"), Some(1234), Some(1234)).unwrap();
    // Who listens at the host hears nothing.
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut listener = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(&fifo).unwrap();
    let look = "test \"$(cat /m/file)\" = content && test \"$(stat -c %u /m/file)\" = 0 && \
                test ! -e /m/fifo && test ! -e /m/socket && test -e '/m/a[1]/x'";
    let dockerfile = format!(
        "\
FROM busybox
RUN --mount=type=bind,source=d,target=/m {look} && ! touch /m/new
RUN --mount=type=bind,source=d,target=/m,rw {look} && touch /m/new
RUN --mount=type=bind,target=/m test \"$(cat /m/d/file)\" = content && ! touch /m/new
RUN --mount=type=bind,source=d/a[1],target=/m test \"$(ls /m)\" = x
RUN --mount=type=bind,source=d/file,target=/m test \"$(cat /m)\" = content
"
    );
    context.write("Dockerfile", dockerfile);
    context.build(&[]);
    let mut heard = [0; 8];
    assert_eq!(std::io::Read::read(&mut listener, &mut heard).unwrap(), 0);
    // And where a command would speak to it, it is not there.
    context.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=bind,target=/m test ! -p /m/d/fifo && ! (echo x >/m/d/fifo) 2>/dev/null\n",
    );
    context.build(&[]);
    assert_eq!(std::io::Read::read(&mut listener, &mut heard).unwrap(), 0);
}

#[test]
fn caches_that_are_mounted_twice_are_one() {
    let dhow = Dhow::new("build-cache-twice");
    let twice = |sharing: &str| {
        format!(
            "RUN --mount=type=cache,id={sharing},target=/a,sharing={sharing} \
             --mount=type=cache,id={sharing},target=/b,sharing={sharing} echo x >/a/x && test -e /b/x\n"
        )
    };
    let dockerfile = format!("FROM busybox\n{}{}{}", twice("locked"), twice("private"), twice("shared"));
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    context.build(&[]);
    // Two that want two, each the other first.
    let both = |one: &str, two: &str| {
        format!(
            "RUN --mount=type=cache,id={one},target=/a,sharing=locked \
             --mount=type=cache,id={two},target=/b,sharing=locked sleep 0.1; echo $N >/n\n"
        )
    };
    let dockerfile = format!(
        "FROM busybox AS one\nARG N\n{}FROM busybox AS two\nARG N\n{}FROM busybox\nCOPY --from=one /n /1\nCOPY --from=two /n /2\n",
        both("p", "q"),
        both("q", "p")
    );
    context.write("Dockerfile", dockerfile);
    for n in 0..5 {
        context.build(&["--build-arg", &format!("N={n}")]);
    }
}

#[test]
fn a_cache_that_begins_with_a_context_is_of_its_content() {
    let dhow = Dhow::new("build-cache-seed");
    let run = "RUN --mount=type=cache,target=/c,from=seed cat /c/f >/f; echo x >>/c/f\n";
    let context =
        Context::new(&dhow, "context").with("Dockerfile", format!("FROM busybox\n{run}")).with("f", "one\n");
    let seed = Context::new(&dhow, "seed").with("f", "one\n");
    let named = format!("seed={}", seed.path().display());
    let seen = || {
        context.build(&["--build-context", &named, "--no-cache", "-t", "x"]);
        dhow.ok(&["run", "--rm", "--network", "none", "x", "cat", "/f"])
    };
    assert_eq!(seen(), "one");
    // A line more is the same cache.
    context.write(
        "Dockerfile",
        format!("FROM busybox AS y\nRUN true\nFROM busybox\nCOPY --from=y /etc/passwd /p\n{run}"),
    );
    assert_eq!(seen(), "one\nx");
    seed.write("f", "two\n");
    assert_eq!(seen(), "two");
}

#[test]
fn limits_that_a_command_sees_are_of_the_step() {
    let dhow = Dhow::new("build-limits");
    let dockerfile = "FROM busybox\nRUN ulimit -n >/n; df -k /dev/shm | tail -n 1 | awk '{print $2}' >>/n\n";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    for (files, shm, wanted) in
        [("512", "1m", "512\n1024"), ("600", "1m", "600\n1024"), ("600", "2m", "600\n2048")]
    {
        context.build(&["--ulimit", &format!("nofile={files}"), "--shm-size", shm, "-t", "x"]);
        assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "x", "cat", "/n"]), wanted);
    }
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
