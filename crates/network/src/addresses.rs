//! Who has which address: a file per address, its content the container's id.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::Id;
use base::fs::{self, At};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use state::claim;

use crate::subnet::Subnet;
use crate::{Error, Result};

/// The addresses that containers may have who want none in particular.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    of: Subnet,
    first: u32,
    count: u32,
}

impl Range {
    /// Those of `range`, or of the whole subnet: never its first and last address.
    pub(crate) fn new(subnet: Subnet, range: Option<Subnet>) -> Self {
        let all = (subnet.network().to_bits(), subnet.broadcast().to_bits());
        let (from, to) = range.map_or(all, |r| (r.network().to_bits(), r.broadcast().to_bits()));
        let (first, last) = (from.max(all.0 + 1), to.min(all.1.saturating_sub(1)));
        Self {
            of: range.unwrap_or(subnet),
            first,
            count: (u64::from(last) + 1).saturating_sub(first.into()) as u32,
        }
    }

    /// Number `n`, counted round.
    fn address(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first + n % self.count.max(1))
    }
}

/// The claims of one network.
#[derive(Debug)]
pub(crate) struct Addresses {
    claims: PathBuf,
    next: PathBuf,
}

impl Addresses {
    /// Those below a network's live directory.
    pub(crate) fn of(network: &Path) -> Self {
        Self { claims: network.join("addresses"), next: network.join("next") }
    }

    pub(crate) fn create_dirs(&self) -> Result<()> {
        Ok(fs::create_dir_all(&self.claims, 0o700)?)
    }

    /// Claims an address of `range` for `id`, but for those that are `reserved`.
    ///
    /// A counter says where to look: each claim takes the next one, and so an address that was given back
    /// comes last. What is still claimed when the counter has come round is skipped.
    pub(crate) fn claim(&self, range: Range, reserved: &[IpAddr], id: &Id) -> Result<Ipv4Addr> {
        for _ in 0..range.count {
            let ip = range.address(self.count()?);
            if !reserved.contains(&ip.into()) && claim::take(&self.claims, &ip.to_string(), id.as_str())? {
                return Ok(ip);
            }
        }
        Err(Error::NoAddress { subnet: range.of.to_string() })
    }

    /// Claims this very address for `id`; false if another has it.
    pub(crate) fn claim_this(&self, ip: IpAddr, id: &Id) -> Result<bool> {
        Ok(claim::take(&self.claims, &ip.to_string(), id.as_str())? || self.held(ip, id)?)
    }

    /// The next number, of this and all other processes.
    fn count(&self) -> Result<u32> {
        let mut bytes = [0; 4];
        let file = self.counter()?;
        flock(&file, FlockOperation::LockExclusive).at("lock", &self.next)?;
        // A short read is a new file: it counts from 0.
        rustix::io::pread(&file, &mut bytes, 0).at("read", &self.next)?;
        let number = u32::from_ne_bytes(bytes);
        rustix::io::pwrite(&file, &number.wrapping_add(1).to_ne_bytes(), 0).at("write", &self.next)?;
        Ok(number)
    }

    fn counter(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        Ok(openat(CWD, &self.next, flags, Mode::RUSR | Mode::WUSR).at("open", &self.next)?)
    }

    /// Whether `id` holds this address.
    pub(crate) fn held(&self, ip: IpAddr, id: &Id) -> Result<bool> {
        Ok(claim::owner(&self.claims, &ip.to_string())?.as_deref() == Some(id.as_str()))
    }

    /// Gives the address back, if `id` holds it.
    pub(crate) fn release(&self, ip: IpAddr, id: &Id) -> Result<()> {
        Ok(claim::release(&self.claims, &ip.to_string(), id.as_str())?)
    }

    /// All claims: address and owner.
    pub(crate) fn list(&self) -> Result<Vec<(IpAddr, String)>> {
        let mut claims = Vec::new();
        for name in fs::names(&self.claims)? {
            if let Ok(ip) = name.parse()
                && let Some(owner) = claim::owner(&self.claims, &name)?
            {
                claims.push((ip, owner));
            }
        }
        Ok(claims)
    }

    /// When the last claim was made, if ever.
    pub(crate) fn last_use(&self) -> Option<std::time::SystemTime> {
        std::fs::metadata(&self.next).and_then(|m| m.modified()).ok()
    }

    /// Removes the directory of the claims; the counter stays, so that addresses are not used again soon.
    pub(crate) fn remove_dir(&self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.claims)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn claims_never_meet_and_freed_addresses_come_last() {
        let dir = tempfile::tempdir().unwrap();
        let addresses = Addresses::of(dir.path());
        addresses.create_dirs().unwrap();
        let range = Range::new("10.130.0.0/16".parse().unwrap(), None);
        let gateway = [IpAddr::from([10, 130, 0, 1])];
        let all: Vec<Ipv4Addr> = std::thread::scope(|s| {
            let claim = || {
                let claim = |_| addresses.claim(range, &gateway, &Id::random().unwrap()).unwrap();
                (0..20).map(claim).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..8).map(|_| s.spawn(claim)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 160);
        let id = Id::random().unwrap();
        let ip = addresses.claim(range, &gateway, &id).unwrap();
        assert!(addresses.held(ip.into(), &id).unwrap());
        addresses.release(ip.into(), &id).unwrap();
        assert!(!addresses.held(ip.into(), &id).unwrap());
        assert_ne!(addresses.claim(range, &gateway, &id).unwrap(), ip);
        assert_eq!(addresses.list().unwrap().len(), 161);
    }

    #[test]
    fn a_full_network_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let addresses = Addresses::of(dir.path());
        addresses.create_dirs().unwrap();
        let range = Range::new("10.130.0.0/29".parse().unwrap(), None);
        let gateway = [IpAddr::from([10, 130, 0, 1])];
        let id = Id::random().unwrap();
        for _ in 0..5 {
            addresses.claim(range, &gateway, &id).unwrap();
        }
        assert_eq!(
            addresses.claim(range, &gateway, &id).unwrap_err().to_string(),
            "no address is free in 10.130.0.0/29"
        );
        let freed = Ipv4Addr::new(10, 130, 0, 4);
        addresses.release(freed.into(), &id).unwrap();
        assert_eq!(addresses.claim(range, &gateway, &id).unwrap(), freed);
    }

    #[test]
    fn a_range_lies_inside_its_subnet() {
        let range = |subnet: &str, range: Option<&str>| {
            let range = Range::new(subnet.parse().unwrap(), range.map(|r| r.parse().unwrap()));
            (range.address(0).to_string(), range.count)
        };
        assert_eq!(range("10.5.0.0/24", None), ("10.5.0.1".into(), 254));
        assert_eq!(range("10.5.0.0/24", Some("10.5.0.128/25")), ("10.5.0.128".into(), 127));
        assert_eq!(range("10.5.0.0/24", Some("10.5.0.0/25")), ("10.5.0.1".into(), 127));
        assert_eq!(range("10.5.0.7/32", None).1, 0);
    }

    #[test]
    fn an_address_that_was_named_is_claimed_once() {
        let dir = tempfile::tempdir().unwrap();
        let addresses = Addresses::of(dir.path());
        addresses.create_dirs().unwrap();
        let (one, two) = (Id::random().unwrap(), Id::random().unwrap());
        for ip in ["10.5.0.9", "fd00::9"] {
            let ip = ip.parse().unwrap();
            assert!(addresses.claim_this(ip, &one).unwrap());
            assert!(addresses.claim_this(ip, &one).unwrap(), "it is its own");
            assert!(!addresses.claim_this(ip, &two).unwrap());
        }
    }
}
