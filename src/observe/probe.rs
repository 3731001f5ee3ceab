//! How members are asked: etcd's gRPC on the client port, plain HTTP on the metrics
//! port, each with a deadline.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use etcd_proto::etcdserverpb::{
    MemberListRequest, StatusRequest, StatusResponse, cluster_client::ClusterClient,
    maintenance_client::MaintenanceClient,
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::StatusCode;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    admission::{REPORT_PATH, Report},
    identity::{CLIENT_PORT, METRICS_PORT},
};

use crate::certificates::Purpose;

use super::{
    EtcdMember, EtcdSeen, Membership, RaisedAlarm,
    dial::{self, Book, Greeting, Secure},
};

const CONNECT: Duration = Duration::from_secs(1);
const REQUEST: Duration = Duration::from_secs(3);
/// A report is a few hundred bytes; more than this is no report.
const REPORT_BYTES_MAX: usize = 64 << 10;

/// Why a member could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The address is none.
    #[error("{0:?} is no IP address")]
    Address(String),
    /// It could not be reached in time.
    #[error("not reached: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// It answered with an error.
    #[error("{}", .0.message())]
    Status(#[from] tonic::Status),
    /// Its HTTP port did not answer, or not as expected.
    #[error("metrics port: {0}")]
    Http(String),
    /// It answered without a header.
    #[error("it answered without a header")]
    Malformed,
}

/// The way to the members. Cheap to clone.
#[derive(Clone)]
pub struct Probe {
    http: Client<HttpConnector, Empty<Bytes>>,
    book: Book,
}

impl Default for Probe {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        let http = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0) // pod addresses are reused by other pods
            .build(connector);
        Probe {
            http,
            book: Book::default(),
        }
    }
}

impl Probe {
    /// A connection to the client port of the pod at `ip`: with TLS, if the pod was
    /// introduced so, and then only to the member it is.
    pub async fn channel(&self, ip: &str) -> Result<Channel, ProbeError> {
        let endpoint = Endpoint::from_shared(url(ip, CLIENT_PORT, "")?)?
            .connect_timeout(CONNECT)
            .timeout(REQUEST);
        let Some(secure) = self.book.secure(ip) else {
            return Ok(endpoint.connect().await?);
        };
        let origin = format!("https://{}:{CLIENT_PORT}", secure.host);
        let endpoint = endpoint.origin(
            origin
                .parse()
                .map_err(|_| ProbeError::Address(secure.host.clone()))?,
        );
        let (book, ip) = (self.book.clone(), ip.to_owned());
        let connector = tower::service_fn(move |_: http::Uri| {
            let (book, ip, secure) = (book.clone(), ip.clone(), secure.clone());
            async move {
                let (stream, served) = dial::connect(&ip, CLIENT_PORT, &secure).await?;
                book.note(&ip, served);
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        Ok(endpoint.connect_with_connector(connector).await?)
    }

    /// From now on dials the pod at `ip` with TLS, or, by `None`, in plain.
    pub(super) fn introduce(&self, ip: &str, secure: Option<Secure>) {
        self.book.write(ip, secure);
    }

    /// Fingerprint of the certificate the client port at `ip` showed the last time.
    pub(super) fn served(&self, ip: &str) -> Option<String> {
        self.book.served(ip)
    }

    /// What a pod's listener showed when it was last looked at.
    pub(super) fn last_greeting(&self, pod_uid: &str, purpose: Purpose) -> Option<String> {
        self.book.last_greeting(pod_uid, purpose)
    }

    pub(super) fn note_greeting(&self, pod_uid: &str, purpose: Purpose, served: &str) {
        self.book.note_greeting(pod_uid, purpose, served);
    }

    /// What a listener shows, and whether it takes what it is shown.
    pub(super) async fn greet(&self, ip: &str, port: u16, secure: &Secure) -> Greeting {
        dial::greet(ip, port, secure).await
    }

    /// What `admit` says at `ip`; `None` if it is not there, because etcd runs.
    pub async fn report(&self, ip: &str) -> Result<Option<Report>, ProbeError> {
        let (status, body) = self.get(ip, METRICS_PORT, REPORT_PATH).await?;
        match status {
            StatusCode::OK => Ok(serde_json::from_slice(&body).ok()),
            _ => Ok(None),
        }
    }

    /// What the etcd at `ip` says of itself; its own health check too, unless it is
    /// known to be `ready`. With the connection, for what else it is asked.
    pub async fn status(&self, ip: &str, ready: bool) -> Result<(EtcdSeen, Channel), ProbeError> {
        let channel = self.channel(ip).await?;
        let response: StatusResponse = MaintenanceClient::new(channel.clone())
            .status(StatusRequest {})
            .await?
            .into_inner();
        let header = response.header.ok_or(ProbeError::Malformed)?;
        let path = if response.is_learner {
            "/livez"
        } else {
            "/readyz"
        };
        let healthy = ready || passed(&self.get(ip, METRICS_PORT, path).await);
        let seen = EtcdSeen {
            member_id: header.member_id,
            cluster_id: header.cluster_id,
            version: response.version,
            leader: response.leader,
            learner: response.is_learner,
            raft_term: response.raft_term,
            raft_index: response.raft_index,
            raft_applied: response.raft_applied_index,
            serving: healthy && response.leader != 0,
            alarms: response.errors.iter().filter_map(|e| alarm(e)).collect(),
            errors: response.errors,
            revision: header.revision,
            db_size: response.db_size,
            db_size_in_use: response.db_size_in_use,
            quota: response.db_size_quota,
        };
        Ok((seen, channel))
    }

    /// The member list, read through the quorum by the member that `channel` leads to.
    pub async fn membership(&self, channel: Channel) -> Result<Membership, ProbeError> {
        let response = ClusterClient::new(channel)
            .member_list(MemberListRequest { linearizable: true })
            .await?
            .into_inner();
        let header = response.header.ok_or(ProbeError::Malformed)?;
        let members = response
            .members
            .into_iter()
            .map(|member| EtcdMember {
                id: member.id,
                name: member.name,
                peer_urls: member.peer_ur_ls,
                learner: member.is_learner,
            })
            .collect();
        Ok(Membership {
            cluster_id: header.cluster_id,
            members,
        })
    }

    pub(super) async fn get(
        &self,
        ip: &str,
        port: u16,
        path: &str,
    ) -> Result<(StatusCode, Bytes), ProbeError> {
        let http = |error: &dyn std::fmt::Display| ProbeError::Http(error.to_string());
        let uri = url(ip, port, path)?.parse().map_err(|error| http(&error))?;
        let request = async {
            let response = self.http.get(uri).await.map_err(|error| http(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), REPORT_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| http(&error))?;
            Ok((status, body.to_bytes()))
        };
        match tokio::time::timeout(REQUEST, request).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(http(&elapsed)),
        }
    }
}

/// Whether a health check went well. Without a quorum it waits for longer than anybody
/// here does: a member that answers otherwise is there all the same.
fn passed(answer: &Result<(StatusCode, Bytes), ProbeError>) -> bool {
    answer
        .as_ref()
        .is_ok_and(|(status, _)| *status == StatusCode::OK)
}

/// Reads an alarm among the errors of a status: `memberID:13803658152347727308 alarm:NOSPACE `.
fn alarm(error: &str) -> Option<RaisedAlarm> {
    let mut words = error.split_whitespace();
    let member_id = words.next()?.strip_prefix("memberID:")?.parse().ok()?;
    let kind = words.next()?.strip_prefix("alarm:")?.to_owned();
    Some(RaisedAlarm { member_id, kind })
}

fn url(ip: &str, port: u16, path: &str) -> Result<String, ProbeError> {
    match ip.parse() {
        Ok(IpAddr::V4(ip)) => Ok(format!("http://{ip}:{port}{path}")),
        Ok(IpAddr::V6(ip)) => Ok(format!("http://[{ip}]:{port}{path}")),
        Err(_) => Err(ProbeError::Address(ip.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_check_that_does_not_answer_was_not_passed() {
        let nothing = || Bytes::new();
        assert!(passed(&Ok((StatusCode::OK, nothing()))));
        assert!(!passed(&Ok((StatusCode::SERVICE_UNAVAILABLE, nothing()))));
        let late = ProbeError::Http("deadline has elapsed".to_owned());
        assert!(!passed(&Err(late)));
    }

    #[test]
    fn alarms_are_read_from_a_status() {
        let raised = alarm("memberID:13803658152347727308 alarm:NOSPACE ").unwrap();
        assert_eq!(
            (raised.member_id, raised.kind.as_str()),
            (13_803_658_152_347_727_308, "NOSPACE")
        );
        for other in ["etcdserver: no leader", "memberID:x alarm:NOSPACE", ""] {
            assert_eq!(alarm(other), None, "{other}");
        }
    }
}
