//! Who has which address: a file per address, its content the container's id.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::Id;
use base::fs::{self, At};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use state::claim;

use crate::subnet::Subnet;
use crate::{Error, Result};

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

    /// Claims an address for `id`.
    ///
    /// A counter says where to look: each claim takes the next one, and so an address that was given back
    /// comes last. What is still claimed when the counter has come round is skipped.
    pub(crate) fn claim(&self, subnet: Subnet, id: &Id) -> Result<Ipv4Addr> {
        for _ in 0..subnet.capacity() {
            let ip = subnet.address(self.count()?);
            if claim::take(&self.claims, &ip.to_string(), id.as_str())? {
                return Ok(ip);
            }
        }
        Err(Error::NoAddress { subnet: subnet.to_string() })
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
    pub(crate) fn held(&self, ip: Ipv4Addr, id: &Id) -> Result<bool> {
        Ok(claim::owner(&self.claims, &ip.to_string())?.as_deref() == Some(id.as_str()))
    }

    /// Gives the address back, if `id` holds it.
    pub(crate) fn release(&self, ip: Ipv4Addr, id: &Id) -> Result<()> {
        Ok(claim::release(&self.claims, &ip.to_string(), id.as_str())?)
    }

    /// All claims: address and owner.
    pub(crate) fn list(&self) -> Result<Vec<(Ipv4Addr, String)>> {
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
        let subnet: Subnet = "10.130.0.0/16".parse().unwrap();
        let all: Vec<Ipv4Addr> = std::thread::scope(|s| {
            let claim = || {
                (0..20).map(|_| addresses.claim(subnet, &Id::random().unwrap()).unwrap()).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..8).map(|_| s.spawn(claim)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 160);
        let id = Id::random().unwrap();
        let ip = addresses.claim(subnet, &id).unwrap();
        assert!(addresses.held(ip, &id).unwrap());
        addresses.release(ip, &id).unwrap();
        assert!(!addresses.held(ip, &id).unwrap());
        assert_ne!(addresses.claim(subnet, &id).unwrap(), ip);
        assert_eq!(addresses.list().unwrap().len(), 161);
    }

    #[test]
    fn a_full_network_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let addresses = Addresses::of(dir.path());
        addresses.create_dirs().unwrap();
        let subnet: Subnet = "10.130.0.0/29".parse().unwrap();
        let id = Id::random().unwrap();
        for _ in 0..5 {
            addresses.claim(subnet, &id).unwrap();
        }
        assert_eq!(
            addresses.claim(subnet, &id).unwrap_err().to_string(),
            "no address is free in 10.130.0.0/29"
        );
        let freed = Ipv4Addr::new(10, 130, 0, 4);
        addresses.release(freed, &id).unwrap();
        assert_eq!(addresses.claim(subnet, &id).unwrap(), freed);
    }
}
