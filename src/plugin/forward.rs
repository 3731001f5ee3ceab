//! The way to a member's client port: a port-forward through the API server.

use std::{net::SocketAddr, time::Duration};

use hyper_util::rt::TokioIo;
use kube::ResourceExt;
use tokio::{
    io::DuplexStream,
    net::{TcpListener, TcpStream},
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{
    api::EtcdCluster,
    causes::causes,
    identity::{self, CLIENT_PORT},
};

use super::{PluginError, bundle::Bundle, error, target::Target};

/// A member that does not answer must not keep a person waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// One connection to the client port of `member`'s pod.
pub(super) async fn stream(target: &Target, member: &str) -> Result<DuplexStream, PluginError> {
    let pod = identity::pod_name(member);
    let refused = |error| error::kube(&format!("forward a port of the pod {pod}"), error);
    let mut forwarder = target
        .pods()
        .portforward(&pod, &[CLIENT_PORT])
        .await
        .map_err(refused)?;
    let stream = forwarder.take_stream(CLIENT_PORT);
    stream.ok_or_else(|| PluginError::Member {
        member: member.to_owned(),
        why: "the port-forward has no stream".to_owned(),
    })
}

/// A gRPC channel to `member`, with TLS where there is a bundle. The member's name in
/// DNS is verified, though the way there is not by that name.
pub(super) async fn channel(
    target: &Target,
    cluster: &EtcdCluster,
    member: &str,
    bundle: Option<&Bundle>,
) -> Result<Channel, PluginError> {
    let failed = |error: tonic::transport::Error| PluginError::Member {
        member: member.to_owned(),
        why: causes(&error),
    };
    let namespace = cluster.namespace().unwrap_or_default();
    let host = identity::member_host(&cluster.name_any(), &namespace, member);
    let scheme = if bundle.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{host}:{CLIENT_PORT}"))
        .map_err(failed)?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE);
    if let Some(bundle) = bundle {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&bundle.ca))
            .identity(Identity::from_pem(&bundle.certificate, &bundle.key))
            .domain_name(host);
        endpoint = endpoint.tls_config(tls).map_err(failed)?;
    }
    // Opened before the channel, so that a missing right is told as one.
    let mut first = Some(stream(target, member).await?);
    let connector = tower::service_fn(move |_| {
        let next = first.take();
        async move {
            next.map(TokioIo::new)
                .ok_or_else(|| std::io::Error::other("the port-forward was closed"))
        }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(failed)
}

/// Listens on a free local port, and carries every connection to `member`, until it is
/// dropped.
pub(super) struct Local {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Local {
    /// Begins to listen. One port-forward is opened at once, to tell a missing right.
    pub(super) async fn open(target: &Target, member: &str) -> Result<Local, PluginError> {
        let io = |error: std::io::Error| PluginError::Ctl(format!("no local port: {error}"));
        drop(stream(target, member).await?);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(io)?;
        let address = listener.local_addr().map_err(io)?;
        let (target, member) = (target.clone(), member.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(carry(target.clone(), member.clone(), connection));
            }
        });
        Ok(Local { address, task })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries one connection; etcdctl tells itself when it ends too early.
async fn carry(target: Target, member: String, mut connection: TcpStream) {
    match stream(&target, &member).await {
        Ok(mut pod) => {
            if let Err(error) = tokio::io::copy_bidirectional(&mut connection, &mut pod).await {
                tracing::debug!(%error, "a forwarded connection ended");
            }
        }
        Err(error) => eprintln!("kubectl etcd: {error}"),
    }
}
