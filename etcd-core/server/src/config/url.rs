//! The URLs of etcd's configuration: `scheme://host:port` without a path, or a
//! unix socket. A text that is accepted prints back the way etcd prints it,
//! because member IDs are hashes over exactly that text.

use std::fmt;

/// How a URL is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// TCP, plain.
    Http,
    /// TCP with TLS.
    Https,
    /// Unix socket, plain.
    Unix,
    /// Unix socket with TLS.
    Unixs,
}

impl Scheme {
    /// The scheme as written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }

    /// Whether connections are encrypted.
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    /// Whether the address is a path in the file system.
    pub fn is_unix(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }
}

/// One URL of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// How it is reached.
    pub scheme: Scheme,
    /// `host:port`; for a unix socket the part between `//` and the next `/`.
    pub authority: String,
    /// Empty for TCP; for a unix socket the rest of its path.
    pub path: String,
}

/// Why a URL was refused. The messages are etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No port, or no host and port at all.
    #[error("URL address does not have the form \"host:port\": {0}")]
    NoPort(String),
    /// Something after the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
    /// Not one of the four schemes.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// Not a URL; the reason is Go's.
    #[error("parse {text:?}: {reason}")]
    Parse {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Url {
    /// Reads one URL under etcd's rules.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let refuse = |reason: &str| UrlError::Parse {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(refuse("net/url: invalid control character in URL"));
        }
        let Some((scheme_text, rest)) = text.split_once(':') else {
            return Err(UrlError::Scheme(text.to_owned()));
        };
        if scheme_text.is_empty() {
            return Err(refuse("missing protocol scheme"));
        }
        let named = scheme_text.as_bytes()[0].is_ascii_alphabetic()
            && scheme_text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !named {
            // Go takes what stands before the colon for a path segment.
            return Err(match scheme_text.contains('/') {
                true => UrlError::Scheme(text.to_owned()),
                false => refuse("first path segment in URL cannot contain colon"),
            });
        }
        let scheme = match scheme_text.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(after) => match after.find('/') {
                Some(at) => (&after[..at], &after[at..]),
                None => (after, ""),
            },
            None => ("", rest),
        };
        if scheme.is_unix() {
            return Ok(Url {
                scheme,
                authority: authority.to_owned(),
                path: path.to_owned(),
            });
        }
        if authority.contains(' ') {
            return Err(refuse("invalid character \" \" in host name"));
        }
        let (_, port) =
            split_host_port(authority).map_err(|_| UrlError::NoPort(text.to_owned()))?;
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse(&format!(
                "invalid port {:?} after host",
                format!(":{port}")
            )));
        }
        if !path.is_empty() {
            return Err(UrlError::Path(text.to_owned()));
        }
        Ok(Url {
            scheme,
            authority: authority.to_owned(),
            path: String::new(),
        })
    }

    /// The host without brackets; empty for a unix socket.
    pub fn host(&self) -> &str {
        split_host_port(&self.authority).map_or("", |(host, _)| host)
    }

    /// The port as written; empty for a unix socket.
    pub fn port(&self) -> &str {
        split_host_port(&self.authority).map_or("", |(_, port)| port)
    }

    /// What to bind or dial: `host:port`, or the socket's path.
    pub fn address(&self) -> String {
        format!("{}{}", self.authority, self.path)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.as_str(),
            self.authority,
            self.path
        )
    }
}

impl PartialOrd for Url {
    fn partial_cmp(&self, other: &Url) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Url {
    /// By text: etcd sorts its lists so, and hashes them in that order.
    fn cmp(&self, other: &Url) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

/// Reads a comma-separated list; the result is sorted, as etcd's lists are.
pub fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
    let mut urls = text
        .split(',')
        .map(Url::parse)
        .collect::<Result<Vec<_>, _>>()?;
    urls.sort();
    Ok(urls)
}

/// The texts of a list, for the log and for comparisons.
pub fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

/// Why an address is not `host:port`. The messages are Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address {address}: {reason}")]
pub struct AddressError {
    /// What was given.
    pub address: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Splits `host:port` or `[host]:port`, as Go's `net.SplitHostPort`.
pub fn split_host_port(address: &str) -> Result<(&str, &str), AddressError> {
    let refuse = |reason| {
        Err(AddressError {
            address: address.to_owned(),
            reason,
        })
    };
    let Some(colon) = address.rfind(':') else {
        return refuse("missing port in address");
    };
    if let Some(inner) = address.strip_prefix('[') {
        let Some(end) = inner.find(']') else {
            return refuse("missing ']' in address");
        };
        let after = &inner[end + 1..];
        return match after.strip_prefix(':') {
            Some(port) if !port.contains(':') => Ok((&inner[..end], port)),
            Some(_) => refuse("too many colons in address"),
            None => refuse("missing port in address"),
        };
    }
    let host = &address[..colon];
    if host.contains(':') {
        return refuse("too many colons in address");
    }
    if address.contains(['[', ']']) {
        return refuse("unexpected '[' or ']' in address");
    }
    Ok((host, &address[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_read() {
        for text in [
            "http://127.0.0.1:2379",
            "https://[::1]:2380",
            "http://:2379",
            "unix:///run/etcd.sock",
            "unixs://m10:0",
        ] {
            assert_eq!(Url::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(
            Url::parse(" HTTP://a:1 ").expect("trimmed").to_string(),
            "http://a:1"
        );
        assert_eq!(
            Url::parse("unix:///run/x").expect("unix").address(),
            "/run/x"
        );
    }

    #[test]
    fn refuses_in_etcds_words() {
        for (text, message) in [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            (
                "ftp://127.0.0.1:1",
                "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:1",
            ),
            (
                "http://foo",
                "URL address does not have the form \"host:port\": http://foo",
            ),
            (
                "http://127.0.0.1:1/path",
                "URL must not contain a path: http://127.0.0.1:1/path",
            ),
            (
                "127.0.0.1:2380",
                "parse \"127.0.0.1:2380\": first path segment in URL cannot contain colon",
            ),
            (
                "http://a:b",
                "parse \"http://a:b\": invalid port \":b\" after host",
            ),
        ] {
            assert_eq!(Url::parse(text).expect_err(text).to_string(), message);
        }
    }

    #[test]
    fn lists_are_sorted() {
        let urls = parse_list("http://b:1, http://a:2").expect("a list");
        assert_eq!(texts(&urls), ["http://a:2", "http://b:1"]);
    }

    #[test]
    fn splits_as_go_does() {
        assert_eq!(split_host_port("[::1]:80"), Ok(("::1", "80")));
        assert_eq!(split_host_port(":80"), Ok(("", "80")));
        for (address, reason) in [
            ("a", "missing port in address"),
            ("a:b:c", "too many colons in address"),
            ("[::1", "missing ']' in address"),
        ] {
            assert_eq!(split_host_port(address).expect_err(address).reason, reason);
        }
    }
}
