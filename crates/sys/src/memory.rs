//! What a process that only waits need not hold.

use std::io;

unsafe extern "C" {
    /// Where the program begins in memory, and where its code ends: the linker's symbols.
    static __executable_start: u8;
    static etext: u8;
}

/// Unmaps the program's code and constants from this process: pages of its file, which come back from the page cache
/// one by one as they are needed. For a process that is about to wait for long, and of whose code little has to stay.
pub fn forget_program() -> io::Result<()> {
    let begin = &raw const __executable_start as usize;
    let end = &raw const etext as usize;
    // SAFETY: sysconf has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let end = end / page * page;
    if !begin.is_multiple_of(page) || end <= begin {
        return Ok(());
    }
    // SAFETY: what the linkers put between the two symbols is mapped from the program's file and never written to, so
    // that every page of it can be had again as it was.
    match unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives back the pages of the main thread's stack that deeper calls have used before. For a
/// process that is about to wait for long.
pub fn forget_stack() {
    /// What the calls below this one need.
    const OWN: usize = 16 << 10;
    const MOST: usize = 256 << 10;
    // SAFETY: neither call has preconditions.
    let (is_main, page) =
        unsafe { (libc::gettid() == libc::getpid(), libc::sysconf(libc::_SC_PAGESIZE) as usize) };
    if !is_main {
        return;
    }
    let here = 0_u8;
    let end = (&raw const here as usize - OWN) / page * page;
    // SAFETY: a stack grows down, so that nothing below the calls that are running is anybody's; and below the main thread's
    // lies nothing else for megabytes (the kernel's guard gap, and what the stack's limit leaves room for).
    unsafe { libc::madvise((end - MOST) as *mut libc::c_void, MOST, libc::MADV_DONTNEED) };
}

/// Gives memory that was freed back to the kernel. For a process that has needed much for a moment, and is about to
/// wait again: the C library keeps it else for the next time.
pub fn give_back() {
    // SAFETY: malloc_trim has no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_forgotten_comes_back() {
        let text = ["constants ", "are ", "back"].concat();
        super::forget_program().unwrap();
        assert_eq!(text, ["constants ", "are ", "back"].concat());
    }
}
