//! The kernel's machine for classic BPF, with the kernel's own checks of a program before it takes it
//! (`bpf_check_classic` and `seccomp_check_filter`): what they would refuse, this panics at.

use runtime::seccomp::reference::Call;
use runtime::seccomp::{MAX_INSTRUCTIONS, SockFilter};

fn word(call: &Call, offset: u32) -> u32 {
    match offset {
        0 => call.number,
        4 => call.arch,
        // the instruction pointer
        8 | 12 => 0,
        _ => {
            let arg = call.args[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
        }
    }
}

/// Every instruction is one that the kernel takes, every jump stays inside, and the end is an answer.
pub fn check(program: &[SockFilter]) {
    assert!((1..=MAX_INSTRUCTIONS).contains(&program.len()), "{} instructions", program.len());
    for (at, i) in program.iter().enumerate() {
        let furthest = match i.code {
            0x20 => {
                assert!(i.k < 64 && i.k.is_multiple_of(4), "instruction {at} loads at {}", i.k);
                0
            }
            0x04 | 0x14 | 0x44 | 0x54 | 0x06 => 0,
            0x05 => i.k as usize,
            0x15 | 0x25 | 0x35 | 0x45 => usize::from(i.jt.max(i.jf)),
            other => panic!("instruction {at} has the operation {other:#x}"),
        };
        assert!(at + 1 + furthest < program.len() || (i.code == 0x06), "instruction {at} leads out");
    }
    assert_eq!(program.last().map(|i| i.code), Some(0x06), "the last instruction is no answer");
}

/// Runs a program that [`check`] has let pass.
pub fn run(program: &[SockFilter], call: &Call) -> u32 {
    let (mut at, mut a) = (0_usize, 0_u32);
    loop {
        let i = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            0x20 => a = word(call, i.k),
            0x04 => a = a.wrapping_add(i.k),
            0x14 => a = a.wrapping_sub(i.k),
            0x44 => a |= i.k,
            0x54 => a &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += jump(a == i.k),
            0x25 => at += jump(a > i.k),
            0x35 => at += jump(a >= i.k),
            0x45 => at += jump(a & i.k != 0),
            0x06 => return i.k,
            other => panic!("the operation {other:#x}"),
        }
    }
}
