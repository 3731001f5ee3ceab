//! A connection as HTTP reads and writes it. What the HTTP libraries do not tell
//! is found out here: whether the other end has said yet what it speaks, and
//! whether it sends more pings than it may.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;
use super::pings::{PingPolicy, Pings};
use super::stream::{ConnectionInfo, Stream};

/// What goes on on a connection, told by those who serve its requests.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// The other end has shown which protocol it speaks.
    begun: AtomicBool,
    /// gRPC calls under way.
    streams: AtomicUsize,
    /// Part of an answer was written since this was last asked.
    answered: AtomicBool,
}

impl Activity {
    pub(super) fn begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    fn answered(&self) {
        // Read first: the line is shared by all streams of a connection.
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }
}

/// A gRPC call under way, to be dropped with it.
pub(super) struct OpenStream(ConnectionInfo);

impl OpenStream {
    pub(super) fn new(info: &ConnectionInfo) -> OpenStream {
        info.activity().streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(info.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.activity().streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is watched.
pub(super) struct Wire {
    stream: Stream,
    info: ConnectionInfo,
    frames: Frames,
    /// What is written, if it is HTTP/2.
    written: Frames,
    pings: Option<Pings>,
    /// Something was written and not flushed: perhaps half a frame.
    dirty: bool,
    ending: Option<Ending>,
}

/// What is left to do on a connection that is given up.
struct Ending {
    /// What is still to be written.
    rest: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: Stream, info: ConnectionInfo, policy: Option<PingPolicy>) -> Wire {
        Wire {
            stream,
            info,
            frames: Frames::default(),
            written: Frames::of_server(),
            pings: policy.map(Pings::new),
            dirty: false,
            ending: None,
        }
    }

    /// Looks at what was read; false if it was one ping too many.
    fn look(&mut self, bytes: &[u8]) -> bool {
        let activity = self.info.activity();
        let mut allowed = true;
        let pings = &mut self.pings;
        self.frames.feed(bytes, |frame| {
            if frame.is_ping()
                && let Some(pings) = pings
            {
                let streams = activity.streams.load(Ordering::Relaxed);
                let answered = activity.answered.swap(false, Ordering::Relaxed);
                allowed &= pings.allows(Instant::now(), streams, answered);
            }
        });
        if !activity.begun() && self.frames.is_decided() {
            activity.begun.store(true, Ordering::Relaxed);
        }
        allowed
    }

    /// Takes note of what was written. A body that is made at once leaves over time, and
    /// clients measure with pings how fast it comes: every frame of it is an answer.
    fn wrote(&mut self, bytes: &[u8]) {
        self.dirty |= !bytes.is_empty();
        if self.pings.is_none() || self.frames.is_idle() {
            return;
        }
        let activity = self.info.activity();
        self.written.feed(bytes, |frame| {
            if frame.is_answer() {
                activity.answered();
            }
        });
    }

    /// Tells the other end why, and closes the connection.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(ending) = &mut self.ending else {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        };
        while !ending.rest.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &ending.rest)) {
                Ok(0) => break,
                Ok(written) => drop(ending.rest.drain(..written)),
                Err(error) => return Poll::Ready(error),
            }
        }
        let error = match ready!(Pin::new(&mut self.stream).poll_shutdown(cx)) {
            Ok(()) => io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "got too many pings from the client",
            ),
            Err(error) => error,
        };
        Poll::Ready(error)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ending.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            // HTTP/1, and nothing to enforce: there is no more to learn.
            if this.frames.is_idle() || this.look(&buf.filled()[before..]) {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
            tracing::warn!(
                "remote-addr" = this.info.remote(),
                "closing a connection of a client that pings too often"
            );
            // In the midst of another frame it would be taken for part of that.
            let rest = match this.dirty {
                true => Vec::new(),
                false => this.frames.goaway(),
            };
            this.ending = Some(Ending { rest });
        }
        this.poll_end(cx).map(Err)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ending.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.wrote(buf.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ending.is_some() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let part = buf.get(..left.min(buf.len())).unwrap_or_default();
            this.wrote(part);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ending.is_some() {
            return Poll::Ready(Ok(()));
        }
        // The library flushes once all its frames are written whole.
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.dirty = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
