//! What a process can only tell of itself by system calls that a shell has no command for.

use std::io::Error;

/// `soft hard` of a limit: `NOFILE`.
#[expect(unsafe_code, reason = "limits by their number")]
pub(crate) fn limit(kind: &str) -> std::io::Result<()> {
    let number = match kind {
        "AS" => libc::RLIMIT_AS,
        "CORE" => libc::RLIMIT_CORE,
        "CPU" => libc::RLIMIT_CPU,
        "DATA" => libc::RLIMIT_DATA,
        "FSIZE" => libc::RLIMIT_FSIZE,
        "LOCKS" => libc::RLIMIT_LOCKS,
        "MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "NICE" => libc::RLIMIT_NICE,
        "NOFILE" => libc::RLIMIT_NOFILE,
        "NPROC" => libc::RLIMIT_NPROC,
        "RSS" => libc::RLIMIT_RSS,
        "RTPRIO" => libc::RLIMIT_RTPRIO,
        "RTTIME" => libc::RLIMIT_RTTIME,
        "SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "STACK" => libc::RLIMIT_STACK,
        _ => return Err(Error::other("no such limit")),
    };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one structure, which is ours.
    if unsafe { libc::getrlimit(number, &raw mut limit) } != 0 {
        return Err(Error::last_os_error());
    }
    println!("{} {}", limit.rlim_cur, limit.rlim_max);
    Ok(())
}

/// `policy flags nice priority runtime deadline period`, numbers as the kernel has them.
#[expect(unsafe_code, reason = "there is no wrapper for sched_getattr")]
pub(crate) fn scheduling() -> std::io::Result<()> {
    // size, policy, flags (2), nice, priority, runtime (2), deadline (2), period (2), clamps (2)
    let mut words = [0_u32; 14];
    // SAFETY: the kernel writes no more than the size that is said, which is ours.
    let answer =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, words.as_mut_ptr(), size_of_val(&words), 0) };
    if answer != 0 {
        return Err(Error::last_os_error());
    }
    let wide = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
    let (policy, nice, priority) = (words[1], words[4].cast_signed(), words[5]);
    println!("{policy} {} {nice} {priority} {} {} {}", wide(2), wide(6), wide(8), wide(10));
    Ok(())
}

/// `class priority`, numbers as the kernel has them.
#[expect(unsafe_code, reason = "there is no wrapper for ioprio_get")]
pub(crate) fn io_priority() -> std::io::Result<()> {
    const OF_A_PROCESS: i32 = 1;
    // SAFETY: it takes two numbers.
    let answer = unsafe { libc::syscall(libc::SYS_ioprio_get, OF_A_PROCESS, 0) };
    if answer < 0 {
        return Err(Error::last_os_error());
    }
    println!("{} {}", answer >> 13, answer & 0x1fff);
    Ok(())
}

/// A system call by its number, with numbers for arguments: `ok` or `error NUMBER`.
pub(crate) fn call(words: &[&str]) -> std::io::Result<()> {
    let numbers: Result<Vec<i64>, _> = words.iter().map(|word| word.parse()).collect();
    let numbers = numbers.map_err(Error::other)?;
    let Some((&number, arguments)) = numbers.split_first() else { return Err(Error::other("which one?")) };
    let mut four = [0_usize; 4];
    for (to, from) in four.iter_mut().zip(arguments) {
        *to = *from as usize;
    }
    match crate::system_call(number, four) {
        Ok(()) => println!("ok"),
        Err(error) => println!("error {}", error.raw_os_error().unwrap_or_default()),
    }
    Ok(())
}
