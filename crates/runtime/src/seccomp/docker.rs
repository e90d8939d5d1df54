//! Profiles in Docker's JSON form: the specification's filter, plus rules that depend on capabilities,
//! processor and kernel.

use oci::runtime::{Seccomp, SyscallArg, SyscallRule};
use serde::Deserialize;

use super::Error;
use super::action;
use super::arch::Arch;
use crate::capability::Set;

/// Docker's own default has 17 KB. A filter that fits the kernel needs no fraction of this.
const MAX_TEXT: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    syscalls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    includes: Option<Circumstances>,
    excludes: Option<Circumstances>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Circumstances {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// For whom a profile is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    pub(super) capabilities: Set,
    pub(super) native: Arch,
    pub(super) kernel: (u32, u32),
}

/// A profile in Docker's JSON form, for a container with these capabilities (its bounding set).
pub fn parse_docker(text: &str, capabilities: Set) -> Result<Seccomp, Error> {
    let native = Arch::native().ok_or(Error::Machine)?;
    Reader { capabilities, native, kernel: running_kernel() }.parse(text)
}

impl Reader {
    pub(super) fn parse(&self, text: &str) -> Result<Seccomp, Error> {
        if text.len() > MAX_TEXT {
            return Err(Error::ProfileTooLarge);
        }
        let profile: Profile = serde_json::from_str(text).map_err(|source| Error::Json { source })?;
        let architectures = match (profile.architectures.unwrap_or_default(), profile.arch_map) {
            (listed, Some(map)) if !listed.is_empty() && !map.is_empty() => {
                return Err(Error::Profile { reason: "it has both `architectures` and `archMap`" });
            }
            (_, Some(map)) if !map.is_empty() => map
                .into_iter()
                .find(|entry| entry.architecture == self.native.oci_name())
                .map(|entry| {
                    let mut all = vec![entry.architecture];
                    all.extend(entry.sub_architectures.unwrap_or_default());
                    all
                })
                .unwrap_or_default(),
            (listed, _) => listed,
        };
        let mut syscalls = Vec::new();
        for call in profile.syscalls.unwrap_or_default() {
            if !self.applies(call.includes.as_ref(), call.excludes.as_ref())? {
                continue;
            }
            let names = match (call.name, call.names.unwrap_or_default()) {
                (Some(name), names) if !name.is_empty() && names.is_empty() => vec![name],
                (Some(name), _) if !name.is_empty() => {
                    return Err(Error::Profile { reason: "a rule has both `name` and `names`" });
                }
                (_, names) => names,
            };
            let args = call.args.unwrap_or_default().into_iter().map(|arg| SyscallArg {
                index: arg.index,
                value: arg.value,
                value_two: arg.value_two,
                op: arg.op,
            });
            let args = args.collect();
            // Docker passes over an error number that the action has no use for.
            let errno_ret = call.errno_ret.filter(|_| action::carries_errno(&call.action));
            if !names.is_empty() {
                syscalls.push(SyscallRule { names, action: call.action, errno_ret, args });
            }
        }
        let default_errno_ret =
            profile.default_errno_ret.filter(|_| action::carries_errno(&profile.default_action));
        Ok(Seccomp {
            default_action: profile.default_action,
            default_errno_ret,
            architectures,
            flags: profile.flags.unwrap_or_else(|| vec!["SECCOMP_FILTER_FLAG_SPEC_ALLOW".to_owned()]),
            syscalls,
            ..Seccomp::default()
        })
    }

    /// `includes` wants every circumstance that it names (and any one of its architectures); any that
    /// `excludes` names is enough to drop the rule.
    fn applies(
        &self,
        includes: Option<&Circumstances>,
        excludes: Option<&Circumstances>,
    ) -> Result<bool, Error> {
        let none = Circumstances::default();
        let (includes, excludes) = (includes.unwrap_or(&none), excludes.unwrap_or(&none));
        let here = |arches: &[String]| arches.iter().any(|a| a == self.native.docker_name());
        // A name from a newer kernel than we know is a capability that nobody here holds.
        let held = |cap: &String| Set::from_names(&[cap]).is_ok_and(|set| self.capabilities.contains(set));
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        if here(&list(&excludes.arches)) || list(&excludes.caps).iter().any(held) {
            return Ok(false);
        }
        let wanted = list(&includes.arches);
        if !(wanted.is_empty() || here(&wanted)) || !list(&includes.caps).iter().all(held) {
            return Ok(false);
        }
        if let Some(version) = &excludes.min_kernel
            && self.kernel >= kernel_version(version).ok_or_else(|| Error::minimum(version))?
        {
            return Ok(false);
        }
        match &includes.min_kernel {
            Some(version) => {
                Ok(self.kernel >= kernel_version(version).ok_or_else(|| Error::minimum(version))?)
            }
            None => Ok(true),
        }
    }
}

/// `6.1.0-13-amd64` → (6, 1).
fn kernel_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor))
}

/// The running kernel's version; the newest conceivable where it does not say one.
pub(super) fn running_kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    uname.release().to_str().ok().and_then(kernel_version).unwrap_or((u32::MAX, 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reader(capabilities: &[&str]) -> Reader {
        Reader { capabilities: Set::from_names(capabilities).unwrap(), native: Arch::X86_64, kernel: (5, 15) }
    }

    fn names(reader: Reader, rule: &str) -> Vec<String> {
        let text = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["x"],"action":"SCMP_ACT_ALLOW",{rule}}}]}}"#
        );
        reader.parse(&text).unwrap().syscalls.into_iter().flat_map(|r| r.names).collect()
    }

    #[test]
    fn circumstances_decide_which_rules_stay() {
        let plain = reader(&["CAP_CHOWN"]);
        let admin = reader(&["CAP_SYS_ADMIN"]);
        for (reader, rule, stays) in [
            (plain, r#""includes":{}"#, true),
            (plain, r#""includes":null,"excludes":{}"#, true),
            (plain, r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, false),
            (admin, r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, true),
            (admin, r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}"#, false),
            (admin, r#""excludes":{"caps":["CAP_BPF","CAP_SYS_ADMIN"]}"#, false),
            (plain, r#""excludes":{"caps":["CAP_SYS_ADMIN"]}"#, true),
            (plain, r#""includes":{"caps":["CAP_OF_TOMORROW"]}"#, false),
            (plain, r#""includes":{"arches":["amd64","x32"]}"#, true),
            (plain, r#""includes":{"arches":["s390x"]}"#, false),
            (plain, r#""excludes":{"arches":["amd64"]}"#, false),
            (plain, r#""includes":{"minKernel":"4.8"}"#, true),
            (plain, r#""includes":{"minKernel":"5.15"}"#, true),
            (plain, r#""includes":{"minKernel":"5.16"}"#, false),
            (plain, r#""excludes":{"minKernel":"4.8"}"#, false),
        ] {
            assert_eq!(names(reader, rule).len(), usize::from(stays), "{rule}");
        }
    }

    #[test]
    fn old_and_new_spellings_are_read() {
        let filter = reader(&[])
            .parse(
                r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
                "archMap":[{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
                           {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
                "syscalls":[{"name":"read","action":"SCMP_ACT_ALLOW","args":null},
                  {"names":["clone"],"action":"SCMP_ACT_ALLOW","comment":"why",
                   "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
            )
            .unwrap();
        assert_eq!(filter.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
        assert_eq!(filter.default_errno_ret, Some(38));
        assert_eq!(filter.syscalls[0].names, ["read"]);
        assert_eq!(filter.syscalls[1].args[0].value, 0x7e02_0000);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],
               "archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["b"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"new"}}]}"#,
        ] {
            assert!(reader(&[]).parse(text).is_err(), "{text}");
        }
        assert!(matches!(reader(&[]).parse(&" ".repeat(MAX_TEXT + 1)), Err(Error::ProfileTooLarge)));
    }

    #[test]
    fn kernels_are_compared_as_numbers() {
        assert_eq!(kernel_version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("6.18"), Some((6, 18)));
        assert_eq!(kernel_version("6"), None);
        assert!(running_kernel() >= (5, 0));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}") {
            prop_assert!(reader(&[]).parse(&text).is_err());
        }
    }
}
