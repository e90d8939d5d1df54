//! The specification's rules, resolved: per architecture, what each call number gets.
//!
//! Where the specification is silent we do what runc with libseccomp does, because profiles have been
//! written against that:
//! * rules of the same call are alternatives: the first whose conditions hold decides;
//! * a rule without conditions beats those with conditions, wherever it stands;
//! * a rule whose answer is the default's says nothing and is skipped;
//! * several conditions on the *same* argument of one rule are alternatives, not a conjunction;
//! * names that an architecture does not have are skipped.

use std::collections::BTreeMap;

use oci::runtime::{Seccomp, SyscallArg, SyscallRule};

use super::arch::{self, Arch};
use super::{Error, action};

/// The operators of the specification.
pub(super) const OPERATORS: [(&str, Operator); 7] = [
    ("SCMP_CMP_EQ", Operator::Equal),
    ("SCMP_CMP_GE", Operator::GreaterOrEqual),
    ("SCMP_CMP_GT", Operator::Greater),
    ("SCMP_CMP_LE", Operator::LessOrEqual),
    ("SCMP_CMP_LT", Operator::Less),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEqual),
    ("SCMP_CMP_NE", Operator::NotEqual),
];

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) index: u32,
    pub(super) operator: Operator,
    pub(super) value: u64,
    /// What remains after masking must equal this; for `MaskedEqual` alone.
    pub(super) masked: u64,
}

/// The seven comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    MaskedEqual,
}

/// Conditions that must all hold, and the answer if they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) conditions: Vec<Condition>,
    pub(super) answer: u32,
}

/// What a call number gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Always this.
    Always(u32),
    /// The first clause that holds, else the default.
    FirstOf(Vec<Clause>),
}

/// All rules of one architecture.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) arch: Arch,
    pub(super) verdicts: BTreeMap<u32, Verdict>,
    /// The highest number that any rule names: what lies above is newer than the filter.
    pub(super) highest: Option<u32>,
}

/// The whole filter, resolved for this machine.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) default: u32,
    /// The native architecture first.
    pub(super) tables: Vec<Table>,
}

/// Resolves a filter for `native` and what else the same machine runs.
pub(super) fn resolve(filter: &Seccomp, native: Arch) -> Result<Rules, Error> {
    let default = action::value(&filter.default_action, filter.default_errno_ret)?;
    let mut arches = vec![native];
    for name in &filter.architectures {
        if !arch::is_known_name(name) {
            return Err(Error::Architecture { name: name.clone() });
        }
        // Foreign processors' names are fine and mean nothing here.
        if let Some(arch) = arch::from_name(name)
            && native.others().contains(&arch)
            && !arches.contains(&arch)
        {
            arches.push(arch);
        }
    }
    let clauses = filter.syscalls.iter().map(clauses).collect::<Result<Vec<_>, _>>()?;
    let tables = arches.into_iter().map(|arch| table(arch, filter, &clauses, default)).collect();
    Ok(Rules { default, tables })
}

/// A rule's alternatives; exactly one clause without conditions where it has none.
fn clauses(rule: &SyscallRule) -> Result<Vec<Clause>, Error> {
    if rule.names.is_empty() {
        return Err(Error::Nameless);
    }
    let answer = action::value(&rule.action, rule.errno_ret)?;
    let conditions = rule.args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let repeated =
        conditions.iter().enumerate().any(|(at, c)| conditions[..at].iter().any(|d| d.index == c.index));
    Ok(if repeated {
        conditions.into_iter().map(|c| Clause { conditions: vec![c], answer }).collect()
    } else {
        vec![Clause { conditions, answer }]
    })
}

fn condition(arg: &SyscallArg) -> Result<Condition, Error> {
    if arg.index > 5 {
        return Err(Error::Argument { index: arg.index });
    }
    let known = OPERATORS.iter().find(|(name, _)| *name == arg.op);
    let (_, operator) = *known.ok_or_else(|| Error::Operator { name: arg.op.clone() })?;
    Ok(Condition { index: arg.index, operator, value: arg.value, masked: arg.value_two })
}

fn table(arch: Arch, filter: &Seccomp, clauses: &[Vec<Clause>], default: u32) -> Table {
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    let mut highest = None;
    for (rule, clauses) in filter.syscalls.iter().zip(clauses) {
        for number in rule.names.iter().filter_map(|name| arch.number(name)) {
            if arch == Arch::Arm && number >= arch::ARM_PRIVATE {
                // It says nothing about what is newer, but is not newer itself: where no rule decides, the default does.
                verdicts.entry(number).or_insert_with(|| Verdict::FirstOf(Vec::new()));
            } else {
                highest = highest.max(Some(number));
            }
            for clause in clauses.iter().filter(|c| c.answer != default) {
                let verdict = verdicts.entry(number).or_insert_with(|| Verdict::FirstOf(Vec::new()));
                match verdict {
                    Verdict::Always(_) => {}
                    Verdict::FirstOf(_) if clause.conditions.is_empty() => {
                        *verdict = Verdict::Always(clause.answer);
                    }
                    Verdict::FirstOf(list) => list.push(clause.clone()),
                }
            }
        }
    }
    Table { arch, verdicts, highest }
}
