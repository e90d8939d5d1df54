//! From rules to a classic BPF program.
//!
//! ```text
//!   load arch ── native? ──► load number ── balanced tree of `number >= k` ──► answer
//!             ── 32-bit? ──► …                                             └─► conditions on arguments
//!             ── else    ──► kill
//! ```
//!
//! Jumps go forward only, so the program is written from its end to its start: every target exists before
//! the jump to it, and an instruction's place is its distance from the end. Conditional jumps reach 255
//! instructions; beyond that an unconditional one helps.
//!
//! The tree divides the whole range of numbers into intervals with the same answer; neighbours with equal
//! answers are one. An allow list of 350 calls comes to about 60 intervals, so a call costs six comparisons.
//! (Kernels since 5.11 do not even run the program for a number that is always allowed.)

use std::collections::HashMap;

use oci::runtime::Seccomp;

use super::arch::{Arch, X32_BIT};
use super::program::{MAX_INSTRUCTIONS, Program, SockFilter};
use super::rules::{self, Clause, Condition, Operator, Rules, Table, Verdict};
use super::{Error, action, flags};

#[cfg(not(target_endian = "little"))]
compile_error!("arguments are read as two little-endian halves");

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const GOTO: u16 = 0x05; // BPF_JMP | BPF_JA
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(super) const RET: u16 = 0x06; // BPF_RET | BPF_K

// Where things lie in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Compiles a filter for this machine.
pub fn compile(filter: &Seccomp) -> Result<Program, Error> {
    compile_for(filter, Arch::native().ok_or(Error::Machine)?)
}

pub(super) fn compile_for(filter: &Seccomp, native: Arch) -> Result<Program, Error> {
    let rules = rules::resolve(filter, native)?;
    check_listener(&rules)?;
    let mut writer = Writer::default();
    // The native architecture stands last in the reversed program, so that it is asked first.
    let mut next = writer.answer(action::KILL_PROCESS);
    let mut entries = Vec::new();
    for table in rules.tables.iter().rev().filter(|t| t.arch != Arch::X32) {
        let intervals = intervals(table, &rules);
        let tree = writer.tree(&intervals, rules.default);
        entries.push((table.arch.audit(), writer.load(NUMBER, tree)));
        if writer.code.len() > MAX_INSTRUCTIONS {
            return Err(Error::TooLong);
        }
    }
    for (audit, entry) in entries {
        next = writer.jump(EQUAL, audit, entry, next);
    }
    writer.load(ARCH, next);
    writer.code.reverse();
    if writer.code.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong);
    }
    let mut program = Program { flags: 0, instructions: writer.code };
    program.flags = flags::of(filter, program.notifies())?;
    Ok(program)
}

/// A listener's descriptor is handed over by the very process that the filter holds: with two calls, of which neither
/// may wait for the listener. `write` has no part in it, but is refused by the runtimes that profiles are written for,
/// and a listener that is asked about every byte of output by a process that it writes to is a trap all the same.
fn check_listener(rules: &Rules) -> Result<(), Error> {
    if rules.default == action::NOTIFY {
        return Err(Error::NotifyDefault);
    }
    let Some(table) = rules.tables.first() else { return Ok(()) };
    for call in ["sendmsg", "recvfrom", "write"] {
        let verdict = table.arch.number(call).and_then(|number| table.verdicts.get(&number));
        let notifies = match verdict {
            Some(Verdict::Always(answer)) => *answer == action::NOTIFY,
            Some(Verdict::FirstOf(clauses)) => clauses.iter().any(|c| c.answer == action::NOTIFY),
            None => false,
        };
        if notifies {
            return Err(Error::NotifyCall { call });
        }
    }
    Ok(())
}

/// From this number on (up to the next interval's) this verdict.
type Interval<'a> = (u32, Part<'a>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Part<'a> {
    Always(u32),
    FirstOf(&'a [Clause]),
}

/// The whole range of numbers that `arch` values like this table's can come with. x32 shares x86-64's value
/// and has the upper part of its range.
fn intervals<'a>(table: &'a Table, rules: &'a Rules) -> Vec<Interval<'a>> {
    let mut list = Vec::new();
    fill(&mut list, table, rules, 0);
    if table.arch == Arch::X86_64 {
        if let Some(x32) = rules.tables.iter().find(|t| t.arch == Arch::X32) {
            fill(&mut list, x32, rules, X32_BIT);
        } else {
            push(&mut list, X32_BIT, Part::Always(action::KILL_PROCESS));
            // -1 is what a tracer writes to skip a call; it is nobody's convention.
            push(&mut list, u32::MAX, Part::Always(action::ERRNO | action::ENOSYS));
        }
    }
    list
}

fn fill<'a>(list: &mut Vec<Interval<'a>>, table: &'a Table, rules: &Rules, start: u32) {
    let default = Part::Always(rules.default);
    let unknown = Part::Always(action::ERRNO | action::ENOSYS);
    let beyond = table.highest.filter(|_| action::hides_new_calls(rules.default)).map(|n| n + 1);
    push(list, start, default);
    let mut beyond_pending = beyond;
    for (&number, verdict) in &table.verdicts {
        if let Some(first) = beyond_pending.take_if(|first| *first <= number) {
            // Only ARM's private calls lie above.
            push(list, first, unknown);
        }
        let part = match verdict {
            Verdict::Always(answer) => Part::Always(*answer),
            Verdict::FirstOf(clauses) => Part::FirstOf(clauses),
        };
        push(list, number, part);
        let after = if beyond.is_some_and(|first| number + 1 >= first) { unknown } else { default };
        push(list, number + 1, after);
        if after == unknown {
            beyond_pending = None;
        }
    }
    if let Some(first) = beyond_pending {
        push(list, first, unknown);
    }
}

/// Adds an interval; replaces one that would be empty, and merges equal neighbours.
fn push<'a>(list: &mut Vec<Interval<'a>>, start: u32, part: Part<'a>) {
    list.pop_if(|last| last.0 == start);
    if list.last().is_none_or(|last| last.1 != part) {
        list.push((start, part));
    }
}

/// An instruction's place in the reversed program.
type Label = usize;

#[derive(Default)]
struct Writer {
    /// Reversed: what is executed last comes first.
    code: Vec<SockFilter>,
    /// The latest place of each answer.
    answers: HashMap<u32, Label>,
}

impl Writer {
    /// How many instructions lie between the next one to be written and `target`.
    fn distance(&self, target: Label) -> usize {
        self.code.len() - 1 - target
    }

    fn emit(&mut self, code: u16, k: u32, jt: u8, jf: u8) -> Label {
        self.code.push(SockFilter { code, jt, jf, k });
        self.code.len() - 1
    }

    /// A place that gives this answer: an old one in reach, or a new one.
    fn answer(&mut self, answer: u32) -> Label {
        if let Some(&label) = self.answers.get(&answer)
            && self.distance(label) < 200
        {
            return label;
        }
        let label = self.emit(RET, answer, 0, 0);
        self.answers.insert(answer, label);
        label
    }

    fn goto(&mut self, target: Label) -> Label {
        let distance = self.distance(target) as u32;
        self.emit(GOTO, distance, 0, 0)
    }

    /// A comparison of the accumulator.
    fn jump(&mut self, operation: u16, k: u32, mut yes: Label, mut no: Label) -> Label {
        // One less than what a jump reaches, since helping one target moves the other one away.
        if self.distance(no) > 254 {
            no = self.goto(no);
        }
        if self.distance(yes) > 255 {
            yes = self.goto(yes);
        }
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.emit(operation, k, jt, jf)
    }

    /// An instruction that goes on to `next`.
    fn then(&mut self, operation: u16, k: u32, next: Label) -> Label {
        if self.distance(next) > 0 {
            self.goto(next);
        }
        self.emit(operation, k, 0, 0)
    }

    fn load(&mut self, offset: u32, next: Label) -> Label {
        self.then(LOAD, offset, next)
    }

    fn tree(&mut self, intervals: &[Interval<'_>], default: u32) -> Label {
        match intervals {
            [] => self.answer(default),
            [(_, part)] => self.part(*part, default),
            _ => {
                let (below, above) = intervals.split_at(intervals.len() / 2);
                let yes = self.tree(above, default);
                let no = self.tree(below, default);
                self.jump(GREATER_OR_EQUAL, above[0].0, yes, no)
            }
        }
    }

    fn part(&mut self, part: Part<'_>, default: u32) -> Label {
        match part {
            Part::Always(answer) => self.answer(answer),
            Part::FirstOf(clauses) => {
                let mut otherwise = self.answer(default);
                for clause in clauses.iter().rev() {
                    let mut target = self.answer(clause.answer);
                    for condition in clause.conditions.iter().rev() {
                        target = self.condition(*condition, target, otherwise);
                    }
                    otherwise = target;
                }
                otherwise
            }
        }
    }

    /// A 64-bit comparison from 32-bit ones: the upper halves first, the lower ones where those are equal.
    fn condition(&mut self, condition: Condition, yes: Label, no: Label) -> Label {
        let lower = ARGUMENTS + condition.index * 8;
        let upper = lower + 4;
        let (high, low) = halves(condition.value);
        match condition.operator {
            Operator::Equal => {
                let second = self.compare(EQUAL, lower, low, yes, no);
                self.compare(EQUAL, upper, high, second, no)
            }
            Operator::NotEqual => {
                let second = self.compare(EQUAL, lower, low, no, yes);
                self.compare(EQUAL, upper, high, second, yes)
            }
            Operator::Greater => self.ordered(GREATER, condition, yes, no),
            Operator::GreaterOrEqual => self.ordered(GREATER_OR_EQUAL, condition, yes, no),
            // The contraries.
            Operator::LessOrEqual => self.ordered(GREATER, condition, no, yes),
            Operator::Less => self.ordered(GREATER_OR_EQUAL, condition, no, yes),
            Operator::MaskedEqual => {
                let (wanted_high, wanted_low) = halves(condition.masked);
                let second = self.jump(EQUAL, wanted_low, yes, no);
                let second = self.then(AND, low, second);
                let second = self.load(lower, second);
                let first = self.jump(EQUAL, wanted_high, second, no);
                let first = self.then(AND, high, first);
                self.load(upper, first)
            }
        }
    }

    fn compare(&mut self, operation: u16, offset: u32, k: u32, yes: Label, no: Label) -> Label {
        let jump = self.jump(operation, k, yes, no);
        self.load(offset, jump)
    }

    fn ordered(&mut self, operation: u16, condition: Condition, yes: Label, no: Label) -> Label {
        let lower = ARGUMENTS + condition.index * 8;
        let (high, low) = halves(condition.value);
        let second = self.compare(operation, lower, low, yes, no);
        let same = self.jump(EQUAL, high, second, no);
        let jump = self.jump(GREATER, high, yes, same);
        self.load(lower + 4, jump)
    }
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

#[cfg(test)]
mod tests;
