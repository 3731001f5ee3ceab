//! The smallest HTTP client: one GET, one answer.

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The status code and the body of `GET <url>`.
///
/// Asks as HTTP/1.0, so that the answer is neither chunked nor kept open.
///
/// # Errors
/// If the server cannot be reached or does not answer in HTTP.
pub async fn get(url: &str) -> Result<(u16, String)> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("{url} is not plain HTTP"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host)
        .await
        .with_context(|| format!("connecting to {host}"))?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .with_context(|| format!("asking {url}"))?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .await
        .with_context(|| format!("reading {url}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("{url}: no HTTP answer: {answer:?}"))?;
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok());
    Ok((
        status.with_context(|| format!("{url}: no status in {head:?}"))?,
        body.to_owned(),
    ))
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
