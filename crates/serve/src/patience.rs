//! A connection whose other end must take what we send: a client that reads nothing for a while is gone.
//!
//! (What clients send has limits of its own: for heads in `listener`, for bodies in `body`.)

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long nothing at all may be taken.
const STALLED: Duration = Duration::from_mins(1);

/// A stream with a limit on how long a write may stand still.
pub(crate) struct Patience<S> {
    stream: S,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S> Patience<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, timer: Box::pin(sleep(STALLED)), waiting: false }
    }

    /// What a write that is not ready comes to.
    fn stalled<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + STALLED);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.stalled(context),
            Poll::Ready(written) => {
                self.waiting = false;
                Poll::Ready(written)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.stalled(context),
            Poll::Ready(flushed) => {
                self.waiting = false;
                Poll::Ready(flushed)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.stalled(context),
            Poll::Ready(ended) => Poll::Ready(ended),
        }
    }
}
