//! What is to be different about a container while it runs: its ports, and what its events say of it.

use base::Failure;
use base::fs;
use monitor::Request;
use network::PortReservations;
use state::container::{Live, file};
use state::protocol::{Change, StartFailure, Tag};

use crate::clients::Client;
use crate::launch::{Result, StartError, boxed, write_live};

/// Does what a door asks for, if it does, and answers it. `running`: not between two runs.
pub(crate) fn serve(client: &mut Client, request: &mut Request, ports: &mut PortReservations, running: bool) {
    let Some(change) = client.take_change() else { return };
    let done = change
        .map_err(|error| boxed(StartError::Request(error.into())))
        .and_then(|change| apply(change, request, ports, running));
    match done {
        Ok(()) => client.tell(Tag::Changed, &[]),
        Err(error) => client.tell(Tag::Refused, &words(&*error)),
    }
}

/// A failure as doors are told of it.
pub(crate) fn words(error: &dyn Failure) -> Vec<u8> {
    let failure = StartFailure {
        message: base::failure::chain(error),
        hints: error.hints(),
        kind: error.kind().into(),
    };
    serde_json::to_vec(&failure).unwrap_or_default()
}

fn apply(change: Change, request: &mut Request, held: &mut PortReservations, running: bool) -> Result<()> {
    if let Some(wanted) = &change.ports {
        let before = request.network.ports().to_vec();
        let (instance, id) = (request.instance.clone(), request.id.clone());
        request.network.republish((&instance, &id), held, wanted, running).map_err(boxed)?;
        if let Err(error) = show_ports(request) {
            // What nobody can see is not published. The first error matters more.
            request.network.republish((&instance, &id), held, &before, running).ok();
            return Err(error);
        }
    }
    if let Some(attributes) = change.attributes {
        request.attributes = attributes;
    }
    Ok(())
}

/// Writes the ports into `live.json`, of which all else stays.
fn show_ports(request: &Request) -> Result<()> {
    let path = request.instance.live(&request.id).join(file::LIVE);
    let bytes = fs::read(&path).map_err(boxed)?;
    let live: Live = serde_json::from_slice(&bytes).map_err(|e| boxed(StartError::Request(e.into())))?;
    write_live(request, &Live { ports: request.network.ports().to_vec(), ..live })
}
