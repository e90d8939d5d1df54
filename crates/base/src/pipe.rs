//! The room of pipes.

use std::os::fd::AsFd;

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

/// In bytes: what anybody may have without asking (`/proc/sys/fs/pipe-max-size`, pipe(7)).
const WIDE: usize = 1 << 20;

/// Gives a pipe that takes much more room, so that its two ends need not wait for each other at each 64 KiB. What is no
/// pipe, or whose user may not have it, stays as it is.
pub fn widen(pipe: impl AsFd) {
    if fcntl_getpipe_size(&pipe).is_ok_and(|size| size < WIDE) {
        fcntl_setpipe_size(&pipe, WIDE).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_room_and_what_is_none_is_left_alone() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        widen(&write);
        assert!(fcntl_getpipe_size(&read).unwrap() >= 1 << 16);
        widen(std::fs::File::open("/dev/null").unwrap());
    }
}
