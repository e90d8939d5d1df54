//! Many at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, eventually};

#[test]
fn fifty_containers_start_at_once() {
    let dhow = Dhow::new("fifty");
    let started: Vec<_> = (0..50)
        .map(|n| {
            let network = if n % 5 == 0 { "bridge" } else { "none" };
            dhow.spawn(&[
                "run",
                "-d",
                "--name",
                &format!("box{n}"),
                "--network",
                network,
                "busybox",
                "sleep",
                "1000",
            ])
        })
        .collect();
    for process in started {
        let output = process.wait();
        assert_eq!(output.code, 0, "{output:?}");
        // The first on a fresh machine may have to say that it forwards packets now.
        assert!(output.stderr.lines().all(|line| line.contains("ip_forward")), "{output:?}");
    }
    assert_eq!(dhow.ok(&["ps", "-q"]).lines().count(), 50);
    let all = dhow.ok(&["ps", "-aq"]);
    let names: Vec<&str> = all.lines().collect();
    let format = ["inspect", "--format", "{{.NetworkSettings.IPAddress}}"];
    let addresses = dhow.ok(&[&format[..], &names].concat());
    let mut addresses: Vec<&str> = addresses.lines().filter(|line| !line.is_empty()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 10, "an address each");
    dhow.ok(&[&["rm", "-f"], &names[..]].concat());
}

#[test]
fn of_many_with_one_name_one_at_a_time_wins() {
    let dhow = Dhow::new("onename");
    let args =
        ["run", "--rm", "--name", "box", "--network", "none", "busybox", "sh", "-c", "echo won; sleep 0.3"];
    let rivals: Vec<_> = (0..20).map(|_| dhow.spawn(&args)).collect();
    let outputs: Vec<_> = rivals.into_iter().map(harness::Process::wait).collect();
    let winners = outputs.iter().filter(|output| output.code == 0).count();
    for output in &outputs {
        match output.code {
            0 => assert_eq!(output.stdout, "won\n", "{output:?}"),
            _ => assert!(
                output.code == 125 && output.stdout.is_empty() && output.stderr.contains("box"),
                "{output:?}"
            ),
        }
    }
    // those who came after the first had ended may have won, too; while one runs nobody else does
    assert!((1..20).contains(&winners), "{winners}");
    let args = ["run", "-d", "--name", "held", "--network", "none", "busybox", "sleep", "1000"];
    let rivals: Vec<_> = (0..20).map(|_| dhow.spawn(&args)).collect();
    let winners =
        rivals.into_iter().filter(|_| true).map(harness::Process::wait).filter(|o| o.code == 0).count();
    assert_eq!(winners, 1);
    eventually("the losers' files to go", || {
        let count = |place: &str| std::fs::read_dir(dhow.root().join(place)).unwrap().count();
        (count("containers") == 1 && count("names/containers") == 1).then_some(())
    });
}

#[test]
fn loads_tags_runs_and_removals_of_one_image_do_not_disturb_each_other_in_parallel() {
    let dhow = Dhow::new("churn");
    let archive = dhow.scratch().join("image.tar");
    std::fs::write(&archive, harness::image::Image::busybox("churn").docker_archive()).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (dhow, archive) = (&dhow, archive.to_str().unwrap());
            scope.spawn(move || {
                for _ in 0..4 {
                    let name = format!("churn{worker}");
                    dhow.ok(&["load", "-q", "-i", archive]);
                    dhow.ok(&["tag", "busybox", &name]);
                    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", &name, "echo", "x"]), "x");
                    dhow.ok(&["rmi", &name]);
                }
            });
        }
    });
    dhow.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
}
