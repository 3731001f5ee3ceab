//! A member, from its configuration to something that can be listened for.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use etcd_replica::{Boot, Member as ReplicaMember, SnapshotFile};
use etcd_storage::dir::MemberLock;
use etcd_storage::disk::{Disk, RealDisk};
use tonic::service::Routes;

use crate::config::{BootstrapError, ClusterState, Config, InitialCluster};
use crate::driver::{
    CorruptionChecks, CorruptionError, Die, Node, NodeConfig, Observer, RequestError, StartError,
    check_before_start,
};
use crate::grpc::{
    ClusterService, ElectionService, Guard, KvServer, KvService, LeaderForward, LeaseService,
    LockService, MaintenanceService, PiecesService, WatchServer, WatchService,
};
use crate::members_http::{
    JoinError, MembersClient, MembersState, ToLeader, match_members, router,
};
use crate::network::{Network, Receiver};
use crate::peer::{Dialer, PeerConfig, PeerTransport};
use crate::version::{MIN_CLUSTER_VERSION, SERVER_VERSION};

/// Why there is no member.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The data directory.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The running cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// `--initial-cluster` is no cluster.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// `--initial-cluster` does not name this member.
    #[error("couldn't find local name {name:?} in the initial cluster configuration")]
    NotInInitialCluster {
        /// `--name`.
        name: String,
    },
    /// The data directory is of another cluster than the members in `--initial-cluster`.
    #[error(
        "cluster ID mismatch: data directory {directory} belongs to cluster {local:x}, the member at {peer} to cluster {remote:x}"
    )]
    ForeignCluster {
        /// `--data-dir`.
        directory: String,
        /// By the data directory.
        local: u64,
        /// By the other member.
        remote: u64,
        /// Peer URLs of the other member.
        peer: String,
    },
    /// The data differs from that of the other members.
    #[error(transparent)]
    Corrupt(#[from] CorruptionError),
    /// The data directory is in use, or cannot be used.
    #[error("cannot use data directory {directory}: {source}")]
    Directory {
        /// The directory.
        directory: String,
        /// Of the disk.
        source: etcd_storage::disk::DiskError,
    },
}

/// A running member whose listeners are not open yet.
pub struct Member {
    /// The node.
    pub node: Node,
    /// Connections to the others.
    pub transport: PeerTransport,
    forward: Arc<dyn LeaderForward>,
    client: MembersClient,
    _lock: MemberLock,
}

impl Member {
    /// Opens the data directory, or makes it, and starts the member.
    pub async fn start(
        config: &Config,
        dialer: Arc<dyn Dialer>,
        observer: Option<Arc<dyn Observer>>,
        die: Die,
    ) -> Result<Member, MemberError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let directory = config.member_dir();
        let unusable = |source| MemberError::Directory {
            directory: directory.display().to_string(),
            source,
        };
        disk.create_dir_all(&directory.join("snap"))
            .map_err(unusable)?;
        let lock = MemberLock::acquire(&*disk, &directory).map_err(unusable)?;
        let client = MembersClient::new(dialer.clone());
        let node_config = node_config(config, observer);
        let boot = boot(config, &*disk, &client).await?;
        let recovered = tokio::task::block_in_place(|| Node::open(&disk, &node_config, &boot))?;
        if let Some(store) = &recovered.taken_over {
            tracing::info!(
                path = %store.display(),
                "took over the data directory of stock etcd; its store is kept under this name and may be removed"
            );
        }
        if !recovered.is_new {
            refuse_foreign_cluster(config, recovered.cluster_id, &client).await?;
        }
        // A member without data has nothing to compare.
        if !recovered.is_new && config.features.enabled("InitialCorruptCheck") {
            check_before_start(
                recovered.member_id,
                recovered.cluster_id,
                &recovered.applier.view(),
                &client,
                config.request_timeout(),
            )
            .await
            .inspect_err(|error| tracing::error!(%error, "checkInitialHashKV failed"))?;
        }
        tracing::info!(
            "local-member-id" = %format_args!("{:x}", recovered.member_id),
            "cluster-id" = %format_args!("{:x}", recovered.cluster_id),
            "restarting" = !recovered.is_new,
            "starting local member"
        );
        let receiver = Arc::new(Receiver::new(disk.clone(), &directory));
        let transport = PeerTransport::new(
            PeerConfig {
                local_id: recovered.member_id,
                cluster_id: recovered.cluster_id,
                server_version: SERVER_VERSION.to_owned(),
                min_cluster_version: MIN_CLUSTER_VERSION.to_owned(),
                local_peer_urls: config
                    .advertise_peer_urls
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                snapshot_dir: directory.join("snap"),
                verify_image,
                dialer,
                dial_timeout: std::time::Duration::from_secs(1) + config.election_timeout,
            },
            receiver.clone(),
            tokio::runtime::Handle::current(),
        );
        let node = Node::start(
            disk,
            &node_config,
            recovered,
            Arc::new(Network(transport.clone())),
            die,
        )?;
        if receiver.node.set(node.clone()).is_err() {
            unreachable!("the receiver was made above");
        }
        node.begin();
        let checks = CorruptionChecks {
            periodic: config.corrupt_check_time,
            compactions: config
                .features
                .enabled("CompactHashCheck")
                .then_some(config.compact_hash_check_time),
        };
        node.watch_for_corruption(Arc::new(client.clone()), checks);
        let forward: Arc<dyn LeaderForward> = Arc::new(ToLeader::new(node.clone(), client.clone()));
        tokio::spawn(
            node.clone()
                .keep_cluster_version(SERVER_VERSION.to_owned(), Arc::new(client.clone())),
        );
        Ok(Member {
            node,
            transport,
            forward,
            client,
            _lock: lock,
        })
    }

    /// The gRPC services of the client listener.
    pub fn grpc(&self, config: &Config) -> Routes {
        let guard = Guard::new(self.node.clone());
        let node = || self.node.clone();
        // etcd's own slack over the largest request.
        let receive_max = config.max_request_bytes.saturating_add(512 << 10);
        let kv = KvServer::new(KvService::new(node(), guard.clone(), config.max_txn_ops));
        let watch = WatchServer::new(WatchService::new(
            node(),
            guard.clone(),
            config.watch_progress_notify_interval,
        ));
        let lease = etcd_proto::etcdserverpb::lease_server::LeaseServer::new(LeaseService::new(
            node(),
            guard.clone(),
            self.forward.clone(),
        ));
        let cluster =
            etcd_proto::etcdserverpb::cluster_server::ClusterServer::new(ClusterService::new(
                node(),
                guard.clone(),
                self.forward.clone(),
                config.strict_reconfig_check,
            ));
        let maintenance = etcd_proto::etcdserverpb::maintenance_server::MaintenanceServer::new(
            MaintenanceService::new(node(), guard.clone()),
        );
        let locks = etcd_proto::v3lockpb::lock_server::LockServer::new(LockService::new(
            node(),
            guard.clone(),
        ));
        let elections = etcd_proto::v3electionpb::election_server::ElectionServer::new(
            ElectionService::new(node(), guard),
        );
        let (_reporter, health) = tonic_health::server::health_reporter();
        Routes::new(PiecesService(kv.max_decoding_message_size(receive_max)))
            .add_service(watch.max_decoding_message_size(receive_max))
            .add_service(lease.max_decoding_message_size(receive_max))
            .add_service(cluster.max_decoding_message_size(receive_max))
            .add_service(maintenance.max_decoding_message_size(receive_max))
            .add_service(locks.max_decoding_message_size(receive_max))
            .add_service(elections.max_decoding_message_size(receive_max))
            .add_service(health)
    }

    /// Everything of the peer listener but `/version`.
    pub fn peer_router(&self, config: &Config) -> Router {
        let state = MembersState {
            node: self.node.clone(),
            strict: config.strict_reconfig_check,
        };
        router(state).merge(self.transport.handler())
    }

    /// Tells the cluster this member's name and client URLs; returns once applied.
    pub async fn publish(&self, config: &Config) -> Result<(), RequestError> {
        let urls: Vec<String> = config
            .advertise_client_urls
            .iter()
            .map(ToString::to_string)
            .collect();
        self.node.publish(&config.name, &urls).await
    }

    /// Asks other members over HTTP.
    pub fn client(&self) -> &MembersClient {
        &self.client
    }

    /// Hands leadership over, if this member has it and somebody can take it.
    pub async fn hand_over(&self) {
        if !self.node.leadership().is_leader {
            return;
        }
        let Some(to) = self.node.best_transferee() else {
            return;
        };
        match self.node.move_leader(to).await {
            Ok(()) => tracing::info!(
                "local-member-id" = %format_args!("{:x}", self.node.member_id()),
                "new-leader" = %format_args!("{to:x}"),
                "leadership transferred"
            ),
            Err(error) => tracing::warn!(%error, "failed to transfer leadership"),
        }
    }

    /// Ends the member. What was acknowledged is on the disk already.
    pub fn stop(self) {
        self.transport.stop();
        self.node.stop();
    }
}

fn node_config(config: &Config, observer: Option<Arc<dyn Observer>>) -> NodeConfig {
    NodeConfig {
        directory: config.member_dir(),
        wal_directory: config.wal_dir(),
        heartbeat: config.heartbeat,
        election_timeout: config.election_timeout,
        initial_election_tick_advance: config.initial_election_tick_advance,
        pre_vote: config.pre_vote,
        snapshot_count: config.snapshot_count,
        snapshot_catchup_entries: config.snapshot_catchup_entries,
        max_wals: config.max_wals,
        quota_bytes: config.quota_bytes(),
        max_request_bytes: config.max_request_bytes,
        max_learners: config.max_learners,
        warning_apply_duration: config.warning_apply_duration,
        lease_checkpoint: config.features.enabled("LeaseCheckpoint"),
        force_new_cluster: config.force_new_cluster,
        unsafe_no_fsync: config.unsafe_no_fsync,
        observer,
    }
}

/// What `--initial-cluster` says; it counts only where there is no log yet.
async fn boot(
    config: &Config,
    disk: &dyn Disk,
    client: &MembersClient,
) -> Result<Boot, MemberError> {
    if etcd_replica::exists(disk, &config.wal_dir()).map_err(StartError::from)? {
        return Ok(boot_again(config));
    }
    match config.initial_cluster_state {
        ClusterState::New => {
            let members = members_of(config, &config.bootstrap_members().await?);
            let own = own(config, &members)?;
            Ok(Boot::New {
                member_id: own.id,
                members,
            })
        }
        ClusterState::Existing => {
            let members = members_of(config, &config.joining_members()?);
            let own = own(config, &members)?;
            let others: Vec<String> = members
                .iter()
                .filter(|m| m.id != own.id)
                .flat_map(|m| m.peer_urls.iter().cloned())
                .collect();
            let remote = client
                .remote_cluster(&others)
                .await
                .ok_or(JoinError::Unreachable)?;
            let urls: Vec<Vec<String>> = members.iter().map(|m| m.peer_urls.clone()).collect();
            let member_id = match_members(&remote, &urls, &own.peer_urls)?;
            Ok(Boot::Join {
                member_id,
                cluster_id: remote.cluster_id,
            })
        }
    }
}

/// The members that the configuration names must not all belong to another cluster: a
/// data directory in the wrong place would never be let in, and could do harm only.
/// Members that do not answer prove nothing.
async fn refuse_foreign_cluster(
    config: &Config,
    cluster_id: u64,
    client: &MembersClient,
) -> Result<(), MemberError> {
    let Ok(named) = config.joining_members() else {
        // It counts only for a first start.
        return Ok(());
    };
    let asked = named
        .members
        .iter()
        .filter(|(name, _)| **name != config.name)
        .map(|(_, urls)| async move {
            let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
            client
                .remote_cluster(&urls)
                .await
                .map(|remote| (urls, remote.cluster_id))
        });
    let answers: Vec<_> = futures::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect();
    match answers.first() {
        Some((urls, remote)) if answers.iter().all(|(_, id)| *id != cluster_id) => {
            Err(MemberError::ForeignCluster {
                directory: config.data_dir.display().to_string(),
                local: cluster_id,
                remote: *remote,
                peer: urls.join(","),
            })
        }
        _ => Ok(()),
    }
}

/// For a log that exists. It knows its members, unless the first start ended before
/// they were written: then the configuration counts once more.
fn boot_again(config: &Config) -> Boot {
    let members = match config.initial_cluster_state {
        ClusterState::New => config
            .joining_members()
            .map(|cluster| members_of(config, &cluster)),
        ClusterState::Existing => Ok(Vec::new()),
    }
    .unwrap_or_default();
    match own(config, &members) {
        Ok(own) => Boot::New {
            member_id: own.id,
            members,
        },
        Err(_) => Boot::Join {
            member_id: 0,
            cluster_id: 0,
        },
    }
}

fn members_of(config: &Config, cluster: &InitialCluster) -> Vec<ReplicaMember> {
    cluster
        .members
        .iter()
        .map(|(name, urls)| {
            let peer_urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
            ReplicaMember {
                id: etcd_replica::member_id(&peer_urls, &config.initial_cluster_token, None),
                peer_urls,
                name: name.clone(),
                ..ReplicaMember::default()
            }
        })
        .collect()
}

fn own(config: &Config, members: &[ReplicaMember]) -> Result<ReplicaMember, MemberError> {
    members
        .iter()
        .find(|m| m.name == config.name)
        .cloned()
        .ok_or_else(|| MemberError::NotInInitialCluster {
            name: config.name.clone(),
        })
}

/// Whether an image that another member sent is a sound store.
fn verify_image(path: &Path) -> Result<(), String> {
    SnapshotFile::open_file(&RealDisk, path)
        .and_then(|file| file.verify())
        .map_err(|error| error.to_string())
}
