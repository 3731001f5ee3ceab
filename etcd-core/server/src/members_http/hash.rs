//! Asking other members for the hash of their keys.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::client::MembersClient;
use crate::driver::{AskedHash, PeerHash, PeerHashError, PeerHashes};

const PATH: &str = "/members/hashkv";

#[derive(serde::Serialize)]
struct Question {
    revision: i64,
}

/// What is absent is zero: stock etcd leaves zeros out.
#[derive(serde::Deserialize)]
struct Answer {
    #[serde(default)]
    header: Header,
    #[serde(default)]
    hash: u32,
    #[serde(default)]
    compact_revision: i64,
}

#[derive(Default, serde::Deserialize)]
struct Header {
    #[serde(default)]
    revision: i64,
}

impl MembersClient {
    /// Each peer URL in turn, until one answers.
    async fn ask_hash(
        &self,
        cluster_id: u64,
        peer_urls: Vec<String>,
        revision: i64,
    ) -> Result<PeerHash, PeerHashError> {
        let question = serde_json::to_vec(&Question { revision })
            .map_err(|e| PeerHashError::Other(e.to_string()))?;
        let mut last = PeerHashError::Other("the member has no peer URL".to_owned());
        for url in &peer_urls {
            let body = Bytes::from(question.clone());
            let answer = self
                .try_ask(Method::GET, url, PATH, body, Some(cluster_id))
                .await;
            match answer {
                Ok(answer) => match read(answer.status, &answer.body) {
                    Ok(hash) => return Ok(hash),
                    Err(error) => last = error,
                },
                Err(error) => last = PeerHashError::Other(format!("{url}{PATH}: {error}")),
            }
        }
        Err(last)
    }
}

fn read(status: StatusCode, body: &[u8]) -> Result<PeerHash, PeerHashError> {
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(body);
        return Err(if text.contains("has been compacted") {
            PeerHashError::Compacted
        } else if text.contains("is a future revision") {
            PeerHashError::Future
        } else {
            PeerHashError::Other(format!("unknown error: {}", text.trim()))
        });
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|e| PeerHashError::Other(e.to_string()))?;
    Ok(PeerHash {
        current_revision: answer.header.revision,
        compact_revision: answer.compact_revision,
        hash: answer.hash,
    })
}

impl PeerHashes for MembersClient {
    fn hash_kv(&self, cluster_id: u64, peer_urls: Vec<String>, revision: i64) -> AskedHash<'_> {
        Box::pin(self.ask_hash(cluster_id, peer_urls, revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_stock_etcd_are_read() {
        let body = br#"{"header":{"cluster_id":9,"member_id":8,"revision":12,"raft_term":2},"hash":77,"compact_revision":-1,"hash_revision":12}"#;
        let hash = PeerHash {
            current_revision: 12,
            compact_revision: -1,
            hash: 77,
        };
        assert_eq!(read(StatusCode::OK, body), Ok(hash));
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused = |status, text: &str| read(status, text.as_bytes()).unwrap_err();
        let bad = StatusCode::BAD_REQUEST;
        assert_eq!(
            refused(bad, "mvcc: required revision has been compacted\n"),
            PeerHashError::Compacted
        );
        assert_eq!(
            refused(bad, "mvcc: required revision is a future revision\n"),
            PeerHashError::Future
        );
        assert_eq!(
            refused(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch\n"),
            PeerHashError::Other("unknown error: cluster ID mismatch".into())
        );
    }
}
