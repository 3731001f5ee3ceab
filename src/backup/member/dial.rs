//! Connections to members.

use std::{fs, path::PathBuf, time::Duration};

use etcd_proto::etcdserverpb::{
    StatusRequest, StatusResponse, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{refused, speaks_of_certificates};
use crate::{
    backup::{
        context::Context,
        run::{Failure, Reason, Voter, files},
    },
    causes::causes,
};

const CONNECT: Duration = Duration::from_secs(5);
const STATUS: Duration = Duration::from_secs(10);
/// Bytes that may be on their way to us: what a slow store holds back stays with the
/// member.
const WINDOW: u32 = 1 << 20;
/// etcd's answers are bounded by its request limit, which nobody raises to this.
const ANSWER_MAX: usize = 64 << 20;

/// Opens connections.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    tls: PathBuf,
}

/// A member that is connected.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its URL, as it was told.
    pub endpoint: String,
    channel: Channel,
    /// Over TLS, and without a certificate of our own.
    nameless: bool,
}

impl Dialer {
    pub(crate) fn new(context: &Context) -> Dialer {
        Dialer {
            tls: context.files.at(files::MEMBER_TLS),
        }
    }

    /// Connects to a member.
    ///
    /// # Errors
    /// [`Reason::InvalidRun`] if the URL or the bundle makes no sense;
    /// [`Reason::MemberFailed`] if it is not reached, [`Reason::MemberRefused`] if a
    /// certificate is not accepted.
    pub(crate) async fn dial(&self, voter: &Voter) -> Result<Peer, Failure> {
        let invalid = |why: String| {
            Failure::new(
                Reason::InvalidRun,
                format!("endpoint {:?}: {why}", voter.endpoint),
            )
        };
        let mut endpoint = Endpoint::from_shared(voter.endpoint.clone())
            .map_err(|error| invalid(causes(&error)))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(2 * WINDOW);
        let mut nameless = false;
        if endpoint.uri().scheme_str() == Some("https") {
            nameless = !self.tls.join(files::CERT).exists();
            endpoint = endpoint
                .tls_config(self.tls(voter)?)
                .map_err(|error| invalid(causes(&error)))?;
        }
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| unreached(&voter.endpoint, &error))?;
        Ok(Peer {
            endpoint: voter.endpoint.clone(),
            channel,
            nameless,
        })
    }

    fn tls(&self, voter: &Voter) -> Result<ClientTlsConfig, Failure> {
        let read = |name: &str| -> Result<Option<Vec<u8>>, Failure> {
            let path = self.tls.join(name);
            match fs::read(&path) {
                Ok(content) => Ok(Some(content)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Failure::disk("reads", &path, &error)),
            }
        };
        let Some(ca) = read(files::CA)? else {
            return Err(Failure::new(
                Reason::InvalidRun,
                format!(
                    "endpoint {:?} needs the authorities of its certificate, and {} is missing",
                    voter.endpoint,
                    self.tls.join(files::CA).display()
                ),
            ));
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let (Some(cert), Some(key)) = (read(files::CERT)?, read(files::KEY)?) {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        if let Some(name) = &voter.tls_server_name {
            tls = tls.domain_name(name);
        }
        Ok(tls)
    }
}

fn unreached(endpoint: &str, error: &tonic::transport::Error) -> Failure {
    let text = causes(error);
    let reason = match speaks_of_certificates(&text) {
        true => Reason::MemberRefused,
        false => Reason::MemberFailed,
    };
    Failure::new(
        reason,
        format!("the member at {endpoint} is not reached: {text}"),
    )
}

impl Peer {
    /// Maintenance calls.
    pub(crate) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// Key-value calls.
    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// Watch calls.
    pub(crate) fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// Lease calls.
    pub(crate) fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// What the member says of itself.
    ///
    /// # Errors
    /// [`Reason::MemberFailed`], [`Reason::MemberRefused`].
    pub(crate) async fn status(&self) -> Result<StatusResponse, Failure> {
        let mut request = tonic::Request::new(StatusRequest {});
        request.set_timeout(STATUS);
        match self.maintenance().status(request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => {
                let mut failure = refused("asks for the status", &self.endpoint, &status);
                // A member that asks for one ends the connection, and often nothing else
                // of it is heard.
                if self.nameless {
                    failure.message += "; no certificate is shown to it, and it may ask for one";
                }
                Err(failure)
            }
        }
    }
}
