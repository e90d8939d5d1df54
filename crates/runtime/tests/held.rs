//! A start in two: a process is held before its command, and let go by somebody else. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::fs;

use base::{Failure, Kind};
use runtime::{Held, LaunchError, Manner, Running};
use scratch::{Scratch, pipe, stdio, wait};

/// Holds a command whose output goes to the pipe.
fn hold(scratch: &Scratch, args: &[&str]) -> Result<(Running, fs::File), Box<dyn Failure>> {
    let mut bundle = scratch.bundle(args);
    bundle.manner = Manner { tied: false, ..Manner::default() };
    let socket = Held::listen(&scratch.path("socket")).unwrap();
    let plan = runtime::plan(&bundle).map_err(|e| Box::new(e) as Box<dyn Failure>)?.held(socket);
    let (read, write) = pipe();
    let running =
        runtime::launch(plan, stdio(write), &mut |_| Ok(())).map_err(|e| Box::new(e) as Box<dyn Failure>)?;
    Ok((running, read))
}

#[test]
fn a_held_command_runs_when_it_is_told_to() {
    let scratch = Scratch::new("held");
    let (running, mut output) = hold(&scratch, &["sh", "-c", "busybox echo ran; exit 5"]).unwrap();
    // It may still be on its way to where it waits.
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", running.pid)).unwrap().count();
    let its_own = (0..2000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        descriptors() == 4
    });
    assert!(its_own, "{}: not its streams and what it listens on", descriptors());
    assert!(rustix::fs::stat(format!("/proc/{}/root/bin/busybox", running.pid)).is_ok(), "root has changed");
    let waiting = rustix::io::ioctl_fionread(&output).unwrap();
    assert_eq!(waiting, 0, "nothing has run yet");
    Held::connect(&scratch.path("socket")).unwrap().go().unwrap();
    assert_eq!(scratch::read_all(&mut output), "ran\n");
    assert_eq!(wait(&running), 5);
}

#[test]
fn what_can_be_known_to_fail_fails_at_the_first_half() {
    let scratch = Scratch::new("held-fail");
    fs::write(scratch.path("lower/bin/plain"), "text").unwrap();
    for (command, kind) in [
        ("nope", Kind::CommandNotFound),
        ("/bin/nope", Kind::CommandNotFound),
        ("plain", Kind::CommandNotExecutable),
        ("/bin", Kind::CommandNotExecutable),
    ] {
        let error = hold(&scratch, &[command]).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), kind, "{command}: {}", base::failure::chain(&*error));
        fs::remove_file(scratch.path("socket")).unwrap();
    }
}

#[test]
fn what_only_the_exec_can_tell_fails_at_the_second_half() {
    let scratch = Scratch::new("held-exec");
    let script = scratch.path("lower/bin/script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    rustix::fs::chmod(&script, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    let (running, _) = hold(&scratch, &["script"]).unwrap();
    let error = Held::connect(&scratch.path("socket")).unwrap().go().unwrap_err();
    assert_eq!(error.kind(), Kind::CommandNotFound, "{error}");
    wait(&running);
}

#[test]
fn who_goes_away_without_a_word_leaves_it_to_the_next() {
    let scratch = Scratch::new("held-broken");
    let (running, mut output) = hold(&scratch, &["sh", "-c", "busybox echo ran"]).unwrap();
    for _ in 0..3 {
        drop(Held::connect(&scratch.path("socket")).unwrap());
    }
    Held::connect(&scratch.path("socket")).unwrap().go().unwrap();
    assert_eq!(scratch::read_all(&mut output), "ran\n");
    assert_eq!(wait(&running), 0);
}

#[test]
fn it_ends_with_whoever_breaks_off_the_start_itself() {
    let scratch = Scratch::new("held-announced");
    let (running, mut output) = hold(&scratch, &["sh", "-c", "busybox echo ran"]).unwrap();
    let mut held = Held::connect(&scratch.path("socket")).unwrap();
    held.announce().unwrap();
    drop(held);
    assert_eq!(wait(&running), 1);
    assert_eq!(scratch::read_all(&mut output), "");
    assert!(matches!(Held::connect(&scratch.path("socket")), Err(LaunchError::NotHeld(_))));
}

#[test]
fn a_dead_one_and_one_that_runs_cannot_be_started() {
    let scratch = Scratch::new("held-dead");
    let socket = scratch.path("socket");
    let (running, _) = hold(&scratch, &["busybox", "sleep", "60"]).unwrap();
    Held::connect(&socket).unwrap().go().unwrap();
    assert!(matches!(Held::connect(&socket), Err(LaunchError::NotHeld(_))));
    rustix::process::pidfd_send_signal(&running.pidfd, rustix::process::Signal::KILL).unwrap();
    wait(&running);
    fs::remove_file(&socket).unwrap();

    let (running, _) = hold(&scratch, &["sh"]).unwrap();
    let connected = Held::connect(&socket);
    rustix::process::pidfd_send_signal(&running.pidfd, rustix::process::Signal::KILL).unwrap();
    wait(&running);
    assert!(connected.unwrap().go().is_err(), "killed before it was told");
    assert!(matches!(Held::connect(&socket), Err(LaunchError::NotHeld(_))));
}

#[test]
fn it_outlives_the_thread_that_made_it() {
    let scratch = Scratch::new("held-thread");
    let (running, mut output) =
        std::thread::scope(|s| s.spawn(|| hold(&scratch, &["sh", "-c", "busybox echo ran"]).unwrap()).join())
            .unwrap();
    Held::connect(&scratch.path("socket")).unwrap().go().unwrap();
    assert_eq!(scratch::read_all(&mut output), "ran\n");
    assert_eq!(wait(&running), 0);
}

#[test]
fn a_path_of_any_length_will_do() {
    let scratch = Scratch::new("held-long");
    let directory = scratch.path(&"d".repeat(120));
    fs::create_dir(&directory).unwrap();
    let listener = Held::listen(&directory.join("socket")).unwrap();
    assert!(Held::connect(&directory.join("socket")).is_ok());
    drop(listener);
    assert!(Held::connect(&directory.join("socket")).is_err());
}
