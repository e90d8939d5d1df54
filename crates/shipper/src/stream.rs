//! A connection to a collector, encrypted or not.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::ClientConnection;
use state::shipping::Address;

use crate::shared::Shared;
use crate::tls;
use crate::wire::Wire;

const BUFFER: usize = 16 << 10;

/// The connection.
#[derive(Debug)]
pub(crate) struct Stream {
    wire: Wire,
    tls: Option<Box<ClientConnection>>,
}

impl Stream {
    /// Connects; an encrypted one has shaken hands.
    pub(crate) fn connect(address: &Address, shared: &Arc<Shared>) -> io::Result<Self> {
        match address {
            Address::Tcp(host) => Ok(Self { wire: Wire::tcp(host, shared)?, tls: None }),
            Address::Unix(path) => Ok(Self { wire: Wire::unix(path, shared)?, tls: None }),
            Address::Tls(host, how) => {
                let mut tls = Box::new(tls::connection(&host.name, how)?);
                let mut wire = Wire::tcp(host, shared)?;
                while tls.is_handshaking() {
                    tls.complete_io(&mut wire)?;
                }
                Ok(Self { wire, tls: Some(tls) })
            }
            Address::Udp(_) | Address::Unixgram(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is no stream")))
            }
        }
    }

    /// Writes it all.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.wire.write_all(bytes) };
        for part in bytes.chunks(BUFFER) {
            tls.writer().write_all(part)?;
            while tls.wants_write() {
                tls.write_tls(&mut self.wire)?;
            }
        }
        Ok(())
    }

    /// How many bytes have gone over the wire.
    pub(crate) fn written(&self) -> u64 {
        self.wire.written()
    }

    /// How many of them were read by the other end, where that is known.
    pub(crate) fn taken(&self) -> Option<u64> {
        self.wire.taken()
    }

    /// Whether the other end has closed the connection. What it says is passed over.
    pub(crate) fn is_closed(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        while let Some(read) = self.wire.read_now(&mut buffer)? {
            if read == 0 {
                return Ok(true);
            }
            if self.understand(&buffer[..read])? {
                // It has only said so yet: how the connection ends tells what it has read.
                self.finish()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says that no more comes, and waits until the other end has read all and closed.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            while tls.wants_write() {
                tls.write_tls(&mut self.wire)?;
            }
        }
        self.wire.shut()?;
        let mut buffer = [0; 4096];
        while self.wire.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Passes over what the other end has said. True if that was a farewell.
    fn understand(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(false) };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let mut rest = state.plaintext_bytes_to_read();
            while rest > 0 {
                rest = rest.saturating_sub(tls.reader().read(&mut [0; 1024])?);
            }
            if state.peer_has_closed() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.wire.read(buffer),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.wire).read(buffer),
        }
    }
}
