//! What the kernel alone costs for one container: the limit that `cargo xtask bench` measures us against.
//!
//! `dhow-floor MODE ROOTFS WORKDIR [RUNS]`, as root. It does with bare system calls, in one process and
//! without a decision, what every engine must ask of the kernel: mount, pid, uts and ipc namespaces, an
//! overlay root, proc, dev, `pivot_root`, exec of `/bin/true`, wait. MODE adds to it, a letter each (`-`: none):
//!
//! - `N` a network namespace
//! - `n` the same with a veth pair on a bridge, an address and a route
//! - `f` the full set: devpts, shm, mqueue, sysfs, devices, masked and read-only paths, capabilities
//!   dropped, a seccomp filter of 300 rules, a cgroup namespace
//! - `c` cgroups with limits for memory and pids: in every controller of v1, or one group of v2
//!
//! Prints the minimum, median and 90th percentile in milliseconds.

mod link;
mod tree;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitIdOptions, WaitIdStatus};
use sys::confine::Instruction;
use sys::process::{Arguments, Cloned, namespaces};

const CONTROLLERS: &[&str] = &["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"];
const CGROUPS: &str = "/sys/fs/cgroup";
const MEMORY: &[u8] = b"268435456";
const PIDS: &[u8] = b"2048";

/// What is asked for.
struct Floor {
    network: bool,
    veth: bool,
    full: bool,
    cgroup: bool,
    rootfs: String,
    work: PathBuf,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mode, rootfs, work, runs) = match arguments.as_slice() {
        [mode, rootfs, work] => (mode, rootfs, work, 60),
        [mode, rootfs, work, runs] => (mode, rootfs, work, runs.parse().context("RUNS must be a number")?),
        _ => bail!("usage: dhow-floor MODE ROOTFS WORKDIR [RUNS]"),
    };
    if !mode.bytes().all(|letter| b"-Nnfc".contains(&letter)) || runs == 0_usize {
        bail!("MODE is `-` or any of `N`, `n`, `f`, `c`; RUNS is at least 1");
    }
    let veth = mode.contains('n');
    let floor = Floor {
        network: veth || mode.contains('N'),
        veth,
        full: mode.contains('f'),
        cgroup: mode.contains('c'),
        rootfs: rootfs.clone(),
        work: PathBuf::from(work),
    };
    let bridge = floor.veth.then(link::Bridge::create).transpose().context("making the bridge")?;
    let mut took = Vec::with_capacity(runs);
    for run in 0..runs {
        took.push(floor.container(run as u32, bridge.as_ref())?);
    }
    took.sort_by(f64::total_cmp);
    let at = |part: usize| took[(runs * part / 10).min(runs - 1)];
    println!("{mode:<5} min {:.3}  median {:.3}  p90 {:.3} ms", at(0), at(5), at(9));
    Ok(())
}

impl Floor {
    /// One container, from nothing to its end, in milliseconds. What it leaves is removed outside the time.
    fn container(&self, run: u32, bridge: Option<&link::Bridge>) -> Result<f64> {
        let base = self.work.join(format!("{}-{run}", std::process::id()));
        let groups = Groups::new(run);
        let began = Instant::now();
        let layout = tree::Layout::create(&base, &self.rootfs).context("making the directories")?;
        let into = if self.cgroup { groups.create().context("making the cgroups")? } else { None };
        let (ready, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut new = namespaces::MOUNT | namespaces::PID | namespaces::UTS | namespaces::IPC;
        if self.network {
            new |= namespaces::NETWORK;
        }
        if self.full {
            new |= namespaces::CGROUP;
        }
        let (pid, pidfd) = match sys::process::clone(new, into.as_ref().map(AsFd::as_fd)).context("clone3")? {
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
            Cloned::Child => {
                let error = self.child(run, ready.as_fd(), &layout, &groups);
                eprintln!("dhow-floor: the container failed: {error:?}");
                sys::process::exit_now(99);
            }
        };
        if let Some(bridge) = bridge {
            bridge.attach(run, pid).context("making the veth pair")?;
        }
        rustix::io::write(&tell, b"x")?;
        drop((ready, tell));
        let status =
            rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        if self.cgroup {
            groups.remove();
        }
        layout.remove();
        if status.as_ref().and_then(WaitIdStatus::exit_status) != Some(0) {
            bail!("the container failed");
        }
        Ok(took)
    }

    /// The container's side; comes back only with an error.
    fn child(
        &self,
        run: u32,
        ready: BorrowedFd<'_>,
        layout: &tree::Layout,
        groups: &Groups,
    ) -> anyhow::Error {
        let prepare = || -> Result<()> {
            let mut byte = [0];
            rustix::io::read(ready, &mut byte)?;
            if self.cgroup {
                groups.join().context("joining the cgroups")?;
            }
            if self.veth {
                link::configure(run).context("the address")?;
            }
            layout.enter(self.full).context("the mounts")?;
            if self.full {
                confine().context("confining")?;
            }
            Ok(())
        };
        if let Err(error) = prepare() {
            return error;
        }
        let mut arguments = Arguments::new(vec![c"true".to_owned()], 0);
        let mut environment = Arguments::new(Vec::new(), 0);
        sys::process::exec(c"/bin/true", &mut arguments, &mut environment, None).into()
    }
}

/// Host name, bounding set, `no_new_privs`, and a filter as long as a real one that allows everything.
fn confine() -> Result<()> {
    /// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K`
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    rustix::system::sethostname(b"c")?;
    for capability in (0..41).step_by(3) {
        sys::confine::drop_from_bounding_set(capability)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    let mut program = Vec::with_capacity(302);
    program.push(Instruction { code: LOAD, jt: 0, jf: 0, k: 0 });
    program.extend((500..800).map(|k| Instruction { code: JUMP_IF_EQUAL, jt: 0, jf: 0, k }));
    program.push(Instruction { code: RETURN, jt: 0, jf: 0, k: ALLOW });
    sys::confine::set_seccomp_filter(&program, 0)?;
    Ok(())
}

/// The cgroups of one container.
struct Groups {
    name: String,
    unified: bool,
}

impl Groups {
    fn new(run: u32) -> Self {
        let unified = Path::new(CGROUPS).join("cgroup.controllers").exists();
        Self { name: format!("dhow-floor-{}-{run}", std::process::id()), unified }
    }

    /// Makes them; on v2 with a descriptor to be cloned into.
    fn create(&self) -> io::Result<Option<OwnedFd>> {
        if self.unified {
            let group = Path::new(CGROUPS).join(&self.name);
            std::fs::create_dir(&group)?;
            put(&group, "memory.max", MEMORY)?;
            put(&group, "pids.max", PIDS)?;
            let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
            return Ok(Some(rustix::fs::open(&group, flags, Mode::empty())?));
        }
        for group in self.each() {
            std::fs::create_dir(&group)?;
            match group.parent().and_then(Path::file_name).and_then(|name| name.to_str()) {
                Some("cpuset") => {
                    put(&group, "cpuset.cpus", b"0")?;
                    put(&group, "cpuset.mems", b"0")?;
                }
                Some("memory") => put(&group, "memory.limit_in_bytes", MEMORY)?,
                Some("pids") => put(&group, "pids.max", PIDS)?,
                _ => {}
            }
        }
        Ok(None)
    }

    /// Moves the calling thread in; on v2 it was born there. Through `tasks`: moving another process takes a
    /// lock behind which on an idle machine lies an RCU grace period of 6 to 15 ms.
    fn join(&self) -> io::Result<()> {
        if self.unified {
            return Ok(());
        }
        self.each().try_for_each(|group| put(&group, "tasks", b"0"))
    }

    fn remove(&self) {
        for group in self.each() {
            let _ = std::fs::remove_dir(group);
        }
    }

    fn each(&self) -> impl Iterator<Item = PathBuf> {
        let hierarchies: &[&str] = if self.unified { &[""] } else { CONTROLLERS };
        hierarchies.iter().map(|hierarchy| Path::new(CGROUPS).join(hierarchy).join(&self.name))
    }
}

fn put(group: &Path, file: &str, value: &[u8]) -> io::Result<()> {
    let file = rustix::fs::open(group.join(file), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value)?;
    Ok(())
}
