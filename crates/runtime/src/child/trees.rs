//! The child takes the copies of the host's mounts that its parent has made for it ([`crate::trees`]).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{During, Outcome, retry};
use crate::handshake::{Failed, Message, PACKET, Step};
use crate::plan::{LaunchPlan, MountSource, RootSourcePlan};

/// In the order in which [`LaunchPlan::trees`] has them.
pub(super) fn take(plan: &mut LaunchPlan, socket: BorrowedFd<'_>) -> Outcome<()> {
    if !plan.namespaces.parent_copies {
        return Ok(());
    }
    if let RootSourcePlan::Directory(tree) = &mut plan.root.source {
        tree.become_copy(receive(socket)?);
    }
    for mount in &mut plan.mounts {
        if let MountSource::Bind { tree, .. } = &mut mount.source {
            tree.become_copy(receive(socket)?);
        }
    }
    Ok(())
}

fn receive(socket: BorrowedFd<'_>) -> Outcome<OwnedFd> {
    let mut packet = [0; PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = retry(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut packet)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })
    .during(Step::Go)?;
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let tree = Message::decode(&packet[..received.bytes.min(PACKET)]) == Some(Message::Tree);
    descriptor.filter(|_| tree).ok_or(Failed::new(Step::Go, 0, Errno::PIPE))
}
