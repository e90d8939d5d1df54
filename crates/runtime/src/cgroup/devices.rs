//! Which device nodes may be opened: the specification's rules for v1's `devices` controller, or as an eBPF
//! program for v2.
//!
//! In the specification the last rule that matches decides. v1 knows only "everything but …" and "nothing but
//! …", so what stands before the last rule for everything is dropped; v2's program asks the rules backwards.

use std::os::fd::OwnedFd;

use oci::runtime::DeviceRule;
use rustix::io::Errno;
use sys::bpf::Instruction;

use super::Error;
use super::files::write_to;

const MAKE: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ANY: u8 = MAKE | READ | WRITE;

/// More rules than anybody has devices.
const MAX_RULES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Char,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
    /// As the kernel's `BPF_DEVCG_ACC_*`.
    access: u8,
}

const fn char(major: u32, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind: Some(Kind::Char), major: Some(major), minor, access }
}

/// What every container may use, as with Docker: nodes may be made (using them is another matter), and the
/// harmless devices that the specification wants in `/dev`.
const DEFAULT: [Rule; 11] = [
    Rule { allow: true, kind: Some(Kind::Char), major: None, minor: None, access: MAKE },
    Rule { allow: true, kind: Some(Kind::Block), major: None, minor: None, access: MAKE },
    char(1, Some(3), ANY), // null
    char(1, Some(5), ANY), // zero
    char(1, Some(7), ANY), // full
    char(1, Some(8), ANY), // random
    char(1, Some(9), ANY), // urandom
    char(5, Some(0), ANY), // tty
    char(5, Some(1), ANY), // console
    char(5, Some(2), ANY), // ptmx
    char(136, None, ANY),  // pts/*
];

/// The rules of one container: what holds for everything, and the exceptions, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rules {
    allow: bool,
    exceptions: Vec<Rule>,
}

/// The default devices, then the specification's rules. Without rules nothing else is allowed.
pub(super) fn resolve(specified: &[DeviceRule]) -> Result<Rules, Error> {
    if specified.len() > MAX_RULES {
        return Err(Error::Invalid { reason: "there are more than 1024 device rules" });
    }
    let mut rules = Rules { allow: false, exceptions: Vec::new() };
    for rule in specified {
        let rule = parse(rule)?;
        let everything = rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none();
        if everything && rule.access == ANY {
            rules = Rules { allow: rule.allow, exceptions: Vec::new() };
        } else {
            rules.exceptions.push(rule);
        }
    }
    if !rules.allow || !rules.exceptions.is_empty() {
        // What is repeated among the rules need not be said twice; theirs comes later and so counts.
        let mut all: Vec<_> = DEFAULT.into_iter().filter(|d| !rules.exceptions.contains(d)).collect();
        all.append(&mut rules.exceptions);
        rules.exceptions = all;
    }
    Ok(rules)
}

fn parse(rule: &DeviceRule) -> Result<Rule, Error> {
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("b") => Some(Kind::Block),
        Some("c" | "u") => Some(Kind::Char),
        Some(_) => return Err(Error::Invalid { reason: "a device rule's type is none of a, b and c" }),
    };
    let mut access = 0;
    for letter in rule.access.as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MAKE,
            _ => return Err(Error::Invalid { reason: "a device rule's access has others than r, w and m" }),
        };
    }
    let number = |n: Option<i64>| match n {
        // Negative is "all", as it was in older specifications.
        Some(n) if n >= 0 => u32::try_from(n)
            .map(Some)
            .map_err(|_| Error::Invalid { reason: "a device rule's number is too large" }),
        _ => Ok(None),
    };
    Ok(Rule {
        allow: rule.allow,
        kind,
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        access: if access == 0 { ANY } else { access },
    })
}

impl Rules {
    /// True where some nodes may not even be made.
    pub(super) fn hinder_making(&self) -> bool {
        self.exceptions.iter().any(|rule| !rule.allow && rule.access & MAKE != 0)
    }

    /// True where every device is allowed, so that nothing has to be done.
    pub(super) fn allow_everything(&self) -> bool {
        self.allow && self.exceptions.iter().all(|r| r.allow)
    }

    /// What is written to v1's files, in order: `(file, line)`.
    ///
    /// # Errors
    /// Where a rule takes back a part of what an earlier one with wildcards says: v1 would ignore it, and a device
    /// stay open that was to be closed.
    pub(super) fn v1(&self) -> Result<Vec<Line>, Error> {
        if self.allow_everything() {
            // A new group has what its parent has.
            return Ok(Vec::new());
        }
        let mut list = vec![(file(self.allow), "a".to_owned())];
        list.extend(self.net()?.iter().map(|rule| (file(rule.allow), rule.line())));
        Ok(list)
    }

    /// The same for a group in use, whose `devices.list` says this: no more than what differs, so that no open of
    /// `/dev/null` fails in between.
    pub(super) fn v1_update(&self, current: &str) -> Result<Vec<Line>, Error> {
        let all = "a *:* rwm";
        if self.allow_everything() {
            return Ok(vec![(file(true), "a".to_owned())]);
        }
        if self.allow || current.lines().any(|line| line == all) {
            return self.v1();
        }
        let wanted: Vec<String> = self.net()?.iter().map(Rule::line).collect();
        let add = wanted.iter().filter(|line| !current.lines().any(|c| c == *line));
        let mut list: Vec<Line> = add.map(|line| (file(true), line.clone())).collect();
        // The kernel lists one exception for each device. What it has too much is taken back letter by letter.
        for line in current.lines() {
            let Some((device, access)) = line.rsplit_once(' ') else { continue };
            let kept = wanted.iter().find_map(|w| w.strip_prefix(device)?.strip_prefix(' ')).unwrap_or("");
            let gone: String = access.chars().filter(|c| !kept.contains(*c)).collect();
            if !gone.is_empty() {
                list.push((file(false), format!("{device} {gone}")));
            }
        }
        Ok(list)
    }

    /// v1's exceptions from what holds for everything: one of each kind and device, all saying the opposite.
    fn net(&self) -> Result<Vec<Rule>, Error> {
        let mut list: Vec<Rule> = Vec::with_capacity(self.exceptions.len());
        // "a" would mean everything, whatever else the line says.
        let kinds = |rule: &Rule| match rule.kind {
            Some(kind) => vec![kind],
            None => vec![Kind::Block, Kind::Char],
        };
        for (rule, kind) in self.exceptions.iter().flat_map(|r| kinds(r).into_iter().map(move |k| (r, k))) {
            let rule = Rule { kind: Some(kind), ..*rule };
            if rule.allow != self.allow {
                match list
                    .iter_mut()
                    .find(|r| (r.kind, r.major, r.minor) == (rule.kind, rule.major, rule.minor))
                {
                    Some(same) => same.access |= rule.access,
                    None => list.push(rule),
                }
                continue;
            }
            for earlier in &mut list {
                if rule.covers(earlier) {
                    earlier.access &= !rule.access;
                } else if rule.overlaps(earlier) && earlier.access & rule.access & (READ | WRITE) != 0 {
                    return Err(Error::Invalid {
                        reason: "a device rule takes back a part of an earlier one, which cgroup version 1 cannot",
                    });
                }
            }
            list.retain(|r| r.access != 0);
        }
        Ok(list)
    }

    /// Rules for systemd on v1, which would put its own in the place of ours: a node's path, or a kind, and the
    /// access. `None` where every device is allowed, or nearly: systemd knows no "everything but".
    pub(super) fn systemd(
        &self,
        names: impl Fn(bool, u32) -> Option<String>,
    ) -> Option<Vec<(String, String)>> {
        if self.allow {
            return None;
        }
        let list = self.net().ok()?;
        let entries = list.iter().filter_map(|rule| {
            let kind = if rule.kind == Some(Kind::Block) { "block" } else { "char" };
            let device = match (rule.major, rule.minor) {
                (None, _) => format!("{kind}-*"),
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{}", names(kind == "block", major)?),
            };
            Some((device, rule.letters()))
        });
        Some(entries.collect())
    }

    /// v2's program; `None` where every device is allowed.
    pub(super) fn v2(&self) -> Option<Vec<Instruction>> {
        if self.allow_everything() {
            return None;
        }
        // Registers: 1 is the context, 2 the kind, 3 the wanted access, 4 and 5 the numbers.
        let mut code = vec![
            instruction(LOAD_WORD, 2, 1, 0, 0),
            instruction(COPY, 3, 2, 0, 0),
            instruction(AND, 2, 0, 0, 0xffff),
            instruction(SHIFT_RIGHT, 3, 0, 0, 16),
            instruction(LOAD_WORD, 4, 1, 4, 0),
            instruction(LOAD_WORD, 5, 1, 8, 0),
        ];
        for rule in self.exceptions.iter().rev() {
            assemble(&mut code, *rule);
        }
        answer(&mut code, self.allow);
        Some(code)
    }
}

/// A file of v1's controller, and what is written to it.
pub(super) type Line = (&'static str, String);

const fn file(allow: bool) -> &'static str {
    if allow { "devices.allow" } else { "devices.deny" }
}

/// Writes v1's lines to a group.
pub(super) fn write_v1(directory: &OwnedFd, lines: &[Line]) -> Result<(), Error> {
    for (file, line) in lines {
        match write_to(directory, *file, line.as_bytes()) {
            Ok(()) => {}
            // The group above us does not allow it, so we are in somebody's container ourselves: the device
            // stays forbidden, as it is for us.
            Err(Errno::PERM) if *file == "devices.allow" => {}
            Err(source) => return Err(Error::Devices { source: source.into() }),
        }
    }
    Ok(())
}

impl Rule {
    /// In the kernel's words, as `devices.list` has them.
    fn line(&self) -> String {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = if self.kind == Some(Kind::Block) { 'b' } else { 'c' };
        format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.letters())
    }

    fn letters(&self) -> String {
        let letters = [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')].into_iter();
        letters.filter_map(|(bit, letter)| (self.access & bit != 0).then_some(letter)).collect()
    }

    /// Every device of the other is one of this.
    fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    /// Some device is one of both.
    fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

// eBPF operations (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const COPY: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const SET: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const JUMP_NOT_EQUAL: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K
const JUMP_EQUAL: u8 = 0x16; // BPF_JMP32 | BPF_JEQ | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: u32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate: immediate as i32 }
}

fn answer(code: &mut Vec<Instruction>, allow: bool) {
    code.push(instruction(SET, 0, 0, 0, u32::from(allow)));
    code.push(instruction(EXIT, 0, 0, 0, 0));
}

/// A rule's comparisons, each of which leads to the next rule where it fails, and its answer.
fn assemble(code: &mut Vec<Instruction>, rule: Rule) {
    let start = code.len();
    if let Some(kind) = rule.kind {
        let number = match kind {
            Kind::Block => 1,
            Kind::Char => 2,
        };
        code.push(instruction(JUMP_NOT_EQUAL, 2, 0, 0, number));
    }
    if rule.access != ANY {
        code.push(instruction(COPY, 1, 3, 0, 0));
        if rule.allow {
            // Allowed is what asks for nothing else.
            code.push(instruction(AND, 1, 0, 0, u32::from(ANY & !rule.access)));
            code.push(instruction(JUMP_NOT_EQUAL, 1, 0, 0, 0));
        } else {
            // Denied is what asks for any of it.
            code.push(instruction(AND, 1, 0, 0, u32::from(rule.access)));
            code.push(instruction(JUMP_EQUAL, 1, 0, 0, 0));
        }
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            code.push(instruction(JUMP_NOT_EQUAL, register, 0, 0, number));
        }
    }
    answer(code, rule.allow);
    let end = code.len();
    for (at, instruction) in code.iter_mut().enumerate().skip(start) {
        if matches!(instruction.code, JUMP_NOT_EQUAL | JUMP_EQUAL) {
            // A rule has at most ten instructions.
            instruction.offset = (end - at - 1) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
        DeviceRule { allow, kind: Some(kind.to_owned()), major, minor, access: Some(access.to_owned()) }
    }

    fn deny_all() -> DeviceRule {
        DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() }
    }

    /// The kernel's interpreter, as far as we use it.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u32; 6];
        let mut at = 0_usize;
        loop {
            let i = program[at];
            at += 1;
            let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            let immediate = i.immediate as u32;
            match i.code {
                LOAD_WORD => registers[to] = context[i.offset as usize / 4],
                COPY => registers[to] = registers[from],
                SET => registers[to] = immediate,
                AND => registers[to] &= immediate,
                SHIFT_RIGHT => registers[to] >>= immediate,
                JUMP_NOT_EQUAL if registers[to] != immediate => at += i.offset as usize,
                JUMP_EQUAL if registers[to] == immediate => at += i.offset as usize,
                JUMP_NOT_EQUAL | JUMP_EQUAL => {}
                EXIT => return registers[0] == 1,
                other => panic!("operation {other:#x}"),
            }
        }
    }

    const CHAR: u32 = 2;
    const BLOCK: u32 = 1;

    #[test]
    fn the_defaults_are_dockers() {
        let rules = resolve(&[deny_all()]).unwrap();
        assert_eq!(rules, resolve(&[]).unwrap());
        let lines = rules.v1().unwrap();
        assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
        assert!(lines.contains(&("devices.allow", "c *:* m".to_owned())));
        assert!(lines.contains(&("devices.allow", "c 136:* rwm".to_owned())));
        assert_eq!(lines.len(), 12);
        let program = rules.v2().unwrap();
        assert!(run(&program, CHAR, 6, 1, 3));
        assert!(run(&program, CHAR, 6, 136, 77));
        assert!(run(&program, BLOCK, 1, 8, 0), "making a node");
        assert!(!run(&program, BLOCK, 2, 8, 0), "reading the disk");
        assert!(!run(&program, BLOCK, 3, 8, 0), "making and reading it");
        assert!(!run(&program, CHAR, 4, 1, 1), "writing to memory");
        assert!(!run(&program, CHAR, 2, 10, 200), "tun");
    }

    #[test]
    fn everything_is_no_filter_at_all() {
        let rules = resolve(&[deny_all(), rule(true, "a", None, None, "rwm")]).unwrap();
        assert!(rules.allow_everything() && rules.v1().unwrap().is_empty() && rules.v2().is_none());
    }

    #[test]
    fn the_last_rule_wins_and_repetitions_are_dropped() {
        let rules = resolve(&[
            rule(true, "a", None, None, "rwm"),
            deny_all(),
            rule(true, "c", Some(10), Some(229), "rw"),
            rule(true, "c", Some(1), Some(3), "rwm"),
            rule(false, "c", Some(10), Some(229), "w"),
        ])
        .unwrap();
        let program = rules.v2().unwrap();
        assert!(run(&program, CHAR, 2, 10, 229));
        assert!(!run(&program, CHAR, 6, 10, 229));
        assert_eq!(rules.v1().unwrap().iter().filter(|(_, line)| line.starts_with("c 1:3")).count(), 1);
    }

    #[test]
    fn a_partial_rule_for_all_kinds_is_not_everything() {
        let rules = resolve(&[rule(true, "a", None, None, "r")]).unwrap();
        let lines = rules.v1().unwrap();
        assert!(!lines.contains(&("devices.allow", "a".to_owned())));
        assert!(lines.contains(&("devices.allow", "b *:* rm".to_owned())));
        let program = rules.v2().unwrap();
        assert!(run(&program, BLOCK, 2, 8, 0) && !run(&program, BLOCK, 4, 8, 0));
    }

    #[test]
    fn v1_takes_back_what_it_can_and_refuses_what_it_cannot() {
        let allow = |major, minor, access| rule(true, "c", Some(major), minor, access);
        let deny = |major, minor, access| rule(false, "c", Some(major), minor, access);
        let lines = |rules: &[DeviceRule]| resolve(rules).unwrap().v1();
        let has = |rules: &[DeviceRule], line: &str| lines(rules).unwrap().iter().any(|(_, l)| l == line);
        assert!(has(&[allow(10, Some(229), "rw"), deny(10, None, "w")], "c 10:229 r"));
        assert!(!has(&[allow(10, Some(229), "rw"), deny(10, None, "rwm")], "c 10:229 rw"));
        assert!(has(&[allow(10, Some(229), "r"), allow(10, Some(229), "w")], "c 10:229 rw"));
        assert!(lines(&[allow(10, None, "rw"), deny(10, Some(229), "w")]).is_err());
        // Docker's own rules have this one, which overlaps with "any node may be made".
        lines(&[deny_all(), deny(10, Some(229), "rwm")]).unwrap();
        // Everything but the disks, and one disk after all.
        let all = rule(true, "a", None, None, "rwm");
        let disks = rule(false, "b", Some(8), None, "rw");
        assert!(has(&[all.clone(), disks.clone()], "b 8:* rw"));
        assert!(lines(&[all, disks, rule(true, "b", Some(8), Some(0), "r")]).is_err());
    }

    #[test]
    fn an_update_writes_what_differs() {
        let rules = resolve(&[rule(true, "c", Some(10), Some(200), "rw")]).unwrap();
        let list = |rules: &Rules| -> String {
            rules.v1().unwrap()[1..].iter().flat_map(|(_, line)| [line.as_str(), "\n"]).collect()
        };
        let now = list(&rules);
        assert!(rules.v1_update(&now).unwrap().is_empty());
        let fewer = resolve(&[rule(true, "c", Some(10), Some(200), "r")]).unwrap();
        assert_eq!(
            fewer.v1_update(&now).unwrap(),
            [("devices.allow", "c 10:200 r".to_owned()), ("devices.deny", "c 10:200 w".to_owned())]
        );
        assert_eq!(
            resolve(&[]).unwrap().v1_update(&now).unwrap(),
            [("devices.deny", "c 10:200 rw".to_owned())]
        );
        assert_eq!(rules.v1_update("a *:* rwm\n").unwrap(), rules.v1().unwrap());
        let all = resolve(&[rule(true, "a", None, None, "rwm")]).unwrap();
        assert_eq!(all.v1_update(&now).unwrap(), [("devices.allow", "a".to_owned())]);
    }

    #[test]
    fn who_may_not_make_nodes_is_told_from_who_may_not_use_them() {
        let hinder = |rules: &[DeviceRule]| resolve(rules).unwrap().hinder_making();
        assert!(!hinder(&[deny_all()]), "the default devices may be made all the same");
        assert!(!hinder(&[deny_all(), rule(false, "c", Some(1), Some(3), "rw")]));
        assert!(hinder(&[deny_all(), rule(false, "c", Some(1), Some(3), "m")]));
        assert!(
            !hinder(&[rule(false, "c", None, None, "m"), deny_all()]),
            "the last rule for everything counts"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(resolve(&[rule(true, "x", None, None, "r")]).is_err());
        assert!(resolve(&[rule(true, "c", None, None, "rx")]).is_err());
        assert!(resolve(&[rule(true, "c", Some(1 << 40), None, "r")]).is_err());
        assert!(resolve(&vec![deny_all(); MAX_RULES + 1]).is_err());
    }

    prop_compose! {
        fn any_rule()(allow in any::<bool>(), kind in 0..3_usize, major in -1..3_i64, minor in -1..3_i64,
                      access in 1..8_u8) -> DeviceRule {
            let letters = [(1, 'm'), (2, 'r'), (4, 'w')];
            let access: String =
                letters.into_iter().filter_map(|(b, l)| (access & b != 0).then_some(l)).collect();
            rule(allow, ["a", "b", "c"][kind], Some(major), Some(minor), &access)
        }
    }

    proptest! {
        #[test]
        fn the_program_asks_the_rules_backwards(
            specified in proptest::collection::vec(any_rule(), 0..12),
            kind in 1..3_u32, access in 1..8_u8, major in 0..3_u32, minor in 0..3_u32,
        ) {
            let mut all: Vec<_> = specified.iter().map(|r| parse(r).unwrap()).collect();
            let everything = |r: &Rule| {
                r.kind.is_none() && r.major.is_none() && r.minor.is_none() && r.access == ANY
            };
            let after = all.iter().rposition(everything).map_or(0, |at| at + 1);
            all.splice(after..after, DEFAULT);
            let kind_of = if kind == 1 { Kind::Block } else { Kind::Char };
            let matches = |r: &Rule| {
                r.kind.is_none_or(|k| k == kind_of)
                    && r.major.is_none_or(|m| m == major)
                    && r.minor.is_none_or(|m| m == minor)
                    && if r.allow { access & !r.access == 0 } else { access & r.access != 0 }
            };
            let expected = all.iter().rev().find(|r| matches(r)).is_some_and(|r| r.allow);
            let rules = resolve(&specified).unwrap();
            let actual = rules.v2().is_none_or(|p| run(&p, kind, u32::from(access), major, minor));
            prop_assert_eq!(actual, expected);
        }
    }
}
