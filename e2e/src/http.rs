//! The smallest HTTP client: one request, one answer.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The status code and the body of `GET <url>`.
///
/// Asks as HTTP/1.0, so that the answer is neither chunked nor kept open.
///
/// # Errors
/// If the server cannot be reached or does not answer in HTTP.
pub async fn get(url: &str) -> Result<(u16, String)> {
    let answer = ask("GET", url, &[], None).await?;
    Ok((answer.status, answer.text().await?))
}

/// The status code and the body of `POST <url>` with a body and headers.
///
/// # Errors
/// As [`get`].
pub async fn post(url: &str, headers: &[(&str, &str)], body: &str) -> Result<(u16, String)> {
    let answer = ask("POST", url, headers, Some(body)).await?;
    Ok((answer.status, answer.text().await?))
}

/// The same, of an answer that comes bit by bit.
///
/// # Errors
/// As [`get`].
pub async fn post_and_read(url: &str, body: &str) -> Result<Answering> {
    ask("POST", url, &[], Some(body)).await
}

/// An answer whose head is read.
#[derive(Debug)]
pub struct Answering {
    /// HTTP's status code.
    pub status: u16,
    body: BufReader<TcpStream>,
    url: String,
}

impl Answering {
    /// The next line of the body that is not empty; none at its end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn line(&mut self) -> Result<Option<String>> {
        loop {
            let mut line = String::new();
            let read = self.body.read_line(&mut line).await;
            if read.with_context(|| format!("reading {}", self.url))? == 0 {
                return Ok(None);
            }
            if !line.trim().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    async fn text(mut self) -> Result<String> {
        let mut body = Vec::new();
        let read = self.body.read_to_end(&mut body).await;
        read.with_context(|| format!("reading {}", self.url))?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

async fn ask(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Result<Answering> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("{url} is not plain HTTP"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host)
        .await
        .with_context(|| format!("connecting to {host}"))?;
    let mut request = format!("{method} /{path} HTTP/1.0\r\nHost: {host}\r\n");
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n")?;
    }
    if let Some(body) = body {
        write!(request, "Content-Length: {}\r\n", body.len())?;
    }
    write!(request, "\r\n{}", body.unwrap_or_default())?;
    stream
        .write_all(request.as_bytes())
        .await
        .with_context(|| format!("asking {url}"))?;
    let mut body = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = body.read_line(&mut head).await;
        if read.with_context(|| format!("reading {url}"))? == 0 {
            bail!("{url}: no HTTP answer: {head:?}");
        }
    }
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok());
    Ok(Answering {
        status: status.with_context(|| format!("{url}: no status in {head:?}"))?,
        body,
        url: url.to_owned(),
    })
}

/// The sum of a metric over its labels, from `<url>/metrics`; none if it is not exported.
///
/// # Errors
/// As [`get`].
pub async fn metric(url: &str, name: &str) -> Result<Option<f64>> {
    let (_, body) = get(&format!("{url}/metrics")).await?;
    let values: Vec<f64> = body
        .lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    Ok((!values.is_empty()).then(|| values.iter().sum()))
}
