//! Between tasks that wait and threads that work: bounded channels with the ends of a
//! reader and a writer.

use std::io::{self, Read, Write};

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::{
    context::Tracker,
    run::{Failure, Reason},
    store::{Download, Upload, Uploaded},
};

/// A writer whose bytes leave in parts of one size.
pub(crate) struct PartWriter {
    parts: mpsc::Sender<Bytes>,
    part_bytes: usize,
    held: Vec<u8>,
}

impl PartWriter {
    /// A writer, and where its parts come out.
    pub(crate) fn new(part_bytes: usize) -> (PartWriter, mpsc::Receiver<Bytes>) {
        // What is in the channel, in the writer and in flight is all that is in memory.
        let (parts, receiver) = mpsc::channel(1);
        let writer = PartWriter {
            parts,
            part_bytes,
            held: Vec::new(),
        };
        (writer, receiver)
    }

    fn send(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.held);
        self.parts
            .blocking_send(part.into())
            .map_err(|_| io::Error::other("whoever uploads has given up"))
    }

    /// Sends the last part, if there is anything in it.
    ///
    /// # Errors
    /// If nobody takes it.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.held.is_empty() {
            true => Ok(()),
            false => self.send(),
        }
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.capacity() == 0 {
            self.held.reserve_exact(self.part_bytes);
        }
        let taken = bytes.len().min(self.part_bytes - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == self.part_bytes {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Uploads what comes out of a [`PartWriter`]. Unless it is finished, the upload is given
/// up.
///
/// # Errors
/// Of the store.
pub(crate) async fn upload(
    mut upload: Box<dyn Upload>,
    mut parts: mpsc::Receiver<Bytes>,
) -> Result<Box<dyn Upload>, Failure> {
    while let Some(part) = parts.recv().await {
        if let Err(failure) = upload.part(part).await {
            parts.close();
            give_up(upload).await;
            return Err(failure);
        }
    }
    Ok(upload)
}

/// Gives an upload up. That it cannot is told in the log only: there is a failure already
/// that counts more, and whoever comes next finds what is left.
pub(crate) async fn give_up(upload: Box<dyn Upload>) {
    if let Err(failure) = upload.abort().await {
        tracing::warn!("an unfinished upload stays behind: {failure}");
    }
}

/// Ends an upload if what was uploaded is whole, else gives it up.
///
/// # Errors
/// The one that is given, or of the store.
pub(crate) async fn settle<T>(
    upload: Box<dyn Upload>,
    whole: Result<T, Failure>,
) -> Result<(T, Uploaded), Failure> {
    match whole {
        Ok(whole) => Ok((whole, upload.finish().await?)),
        Err(failure) => {
            give_up(upload).await;
            Err(failure)
        }
    }
}

/// A reader of bytes that come through a channel.
pub(crate) struct PieceReader {
    pieces: mpsc::Receiver<Result<Bytes, Failure>>,
    piece: Bytes,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(failure)) => return Err(failure.into_io()),
                None => return Ok(0),
            }
        }
        let taken = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}

/// Gives what is downloaded to `work` on a thread of its own, and counts it.
///
/// # Errors
/// Those of `work`, which gets the store's from its reader.
pub(crate) async fn read<T: Send + 'static>(
    download: Download,
    tracker: &Tracker,
    work: impl FnOnce(PieceReader) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, pieces) = mpsc::channel(8);
    let reader = PieceReader {
        pieces,
        piece: Bytes::new(),
    };
    let work = tokio::task::spawn_blocking(move || work(reader));
    let expected = download.bytes;
    let mut content = download.content;
    let mut got = 0;
    loop {
        let piece = match content.next().await {
            Some(Ok(piece)) => {
                got += piece.len() as u64;
                tracker.advance(piece.len() as u64);
                Ok(piece)
            }
            Some(Err(failure)) => Err(failure),
            None if got != expected => Err(Failure::new(
                Reason::StoreFailed,
                format!("the store sent {got} bytes of an object that has {expected}"),
            )),
            None => break,
        };
        let last = piece.is_err();
        // It is the work's to say why it wants no more.
        if sender.send(piece).await.is_err() || last {
            break;
        }
    }
    drop(sender);
    work.await.expect("unpacking does not panic")
}
