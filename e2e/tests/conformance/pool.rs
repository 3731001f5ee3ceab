//! Servers that tests take turns with.

use std::ops::{Deref, DerefMut};

use etcd_e2e::client::{ZERO, delete_range};
use etcd_e2e::{Client, Cluster, Options, Process, eventually};
use etcd_proto::etcdserverpb::LeaseLeasesRequest;
use parking_lot::Mutex;

static SERVERS: Mutex<Vec<Process>> = Mutex::new(Vec::new());
static CLUSTERS: Mutex<Vec<Cluster>> = Mutex::new(Vec::new());

/// A member of its own without keys or leases, for this test alone. Its revision is any.
pub(crate) struct Server {
    process: Option<Process>,
    pub client: Client,
}

/// Takes a server from the pool, or starts one.
pub(crate) async fn server() -> Server {
    let pooled = SERVERS.lock().pop();
    let process = match pooled {
        Some(process) => process,
        None => Process::start(Options::single()).await.expect("a member"),
    };
    let client = process.client();
    wipe(&client).await;
    Server {
        process: Some(process),
        client,
    }
}

/// A server nobody has used, which no other test gets: its revision is 1.
pub(crate) async fn fresh(options: Options) -> (Process, Client) {
    let process = Process::start(options).await.expect("a member");
    let client = process.client();
    (process, client)
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        self.process
            .as_ref()
            .expect("it is taken back on drop only")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What a failed test leaves is nobody's to build on.
        if !std::thread::panicking() {
            SERVERS.lock().extend(self.process.take());
        }
    }
}

/// Three members for this test alone, all running and without keys or leases. Their revision is any.
pub(crate) struct Three(Option<Cluster>);

/// Takes a cluster of three from the pool, or starts one.
pub(crate) async fn three() -> Three {
    let pooled = CLUSTERS.lock().pop();
    let mut cluster = match pooled {
        Some(cluster) => cluster,
        None => Cluster::start(3, Options::single())
            .await
            .expect("three members"),
    };
    for member in &mut cluster.members {
        if member.is_running() {
            member.resume().expect("a running member is signalled");
        } else {
            member.spawn().expect("a stopped member starts");
        }
    }
    for member in &mut cluster.members {
        member.ready().await.expect("the member is back");
    }
    wipe(&cluster.members[0].client()).await;
    Three(Some(cluster))
}

impl Deref for Three {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().expect("it is taken back on drop only")
    }
}

impl DerefMut for Three {
    fn deref_mut(&mut self) -> &mut Cluster {
        self.0.as_mut().expect("it is taken back on drop only")
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            CLUSTERS.lock().extend(self.0.take());
        }
    }
}

async fn wipe(client: &Client) {
    // An election may be under way where the last test left.
    eventually(
        etcd_e2e::cluster::AGREES_WITHIN,
        "a wiped store",
        async || {
            client.delete(delete_range(ZERO, ZERO)).await?;
            let leases = client
                .lease()
                .lease_leases(LeaseLeasesRequest {})
                .await?
                .into_inner()
                .leases;
            for lease in leases {
                match client.revoke(lease.id).await {
                    Ok(_) => {}
                    // It has expired meanwhile.
                    Err(status) if etcd_e2e::errors::LEASE_NOT_FOUND.matches(&status) => {}
                    Err(status) => return Err(status),
                }
            }
            Ok(())
        },
    )
    .await;
}
