//! A way to a server that can be slowed, held, shut, or answered at.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// They pass.
    Open,
    /// So many pass in a second, in either direction.
    Slow(u64),
    /// They wait; connections are accepted.
    Held,
    /// Connections are cut, and new ones at once.
    Shut,
    /// Every request gets this answer, as it stands: status line, header, body.
    Answer(String),
    /// So many bytes pass towards the server, then as `Shut` for what is there, and open for what comes.
    CutAfter(u64),
}

/// Forwards from a port of its own to a server, as its way says.
#[derive(Debug)]
pub struct Gate {
    address: String,
    way: Arc<Mutex<Way>>,
    seen: Arc<Mutex<u64>>,
    accepting: JoinHandle<()>,
}

/// How often a connection looks whether its way has changed.
const LOOK: Duration = Duration::from_millis(10);
const PIECE: usize = 16 << 10;

impl Gate {
    /// Opens a way to `server`, which is `host:port`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn open(server: &str) -> Result<Gate> {
        Gate::open_at("127.0.0.1", server).await
    }

    /// Opens a way to `server` at an address of the network the calling thread has entered.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn open_at(ip: &str, server: &str) -> Result<Gate> {
        let listener = TcpListener::bind((ip, 0)).await.context("listening")?;
        let address = listener.local_addr()?.to_string();
        let way = Arc::new(Mutex::new(Way::Open));
        let seen = Arc::new(Mutex::new(0));
        let (server, shared, counted) = (server.to_owned(), way.clone(), seen.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, way, seen) = (server.clone(), shared.clone(), counted.clone());
                tokio::spawn(async move {
                    // Either side may go at any time.
                    drop(serve(client, &server, &way, &seen).await);
                });
            }
        });
        Ok(Gate {
            address,
            way,
            seen,
            accepting,
        })
    }

    /// `<ip>:<port>`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes the way, for connections that are there too.
    pub fn set(&self, way: Way) {
        *self.way.lock() = way;
    }

    /// Bytes that passed towards the server.
    pub fn passed(&self) -> u64 {
        *self.seen.lock()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    server: &str,
    way: &Mutex<Way>,
    seen: &Mutex<u64>,
) -> Result<()> {
    let now = way.lock().clone();
    if let Way::Answer(answer) = now {
        return answered(&mut client, &answer).await;
    }
    if now == Way::Shut {
        return Ok(());
    }
    let mut server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        up = pass(&mut from_client, &mut to_server, way, Some(seen)) => up,
        down = pass(&mut from_server, &mut to_client, way, None) => down,
    }
}

async fn pass(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    way: &Mutex<Way>,
    seen: Option<&Mutex<u64>>,
) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        loop {
            let now = way.lock().clone();
            match now {
                Way::Open => break,
                Way::Slow(rate) => {
                    tokio::time::sleep(Duration::from_secs_f64(read as f64 / rate as f64)).await;
                    break;
                }
                Way::Held => tokio::time::sleep(LOOK).await,
                Way::Shut | Way::Answer(_) => return Ok(()),
                Way::CutAfter(bytes) => {
                    if seen.is_some_and(|seen| *seen.lock() + read as u64 > bytes) {
                        *way.lock() = Way::Open;
                        return Ok(());
                    }
                    break;
                }
            }
        }
        to.write_all(&piece[..read]).await?;
        if let Some(seen) = seen {
            *seen.lock() += read as u64;
        }
    }
}

/// Reads a request's head and answers it; what follows is not read.
async fn answered(client: &mut TcpStream, answer: &str) -> Result<()> {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = client.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&piece[..read]);
    }
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await?;
    // Until the other side has read it: closing with unread bytes would cut it off.
    while client.read(&mut piece).await? > 0 {}
    Ok(())
}

/// An error of S3 as a store answers it.
pub fn s3_error(status: &str, code: &str, message: &str) -> Way {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Way::Answer(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}
