//! S37: certificates, keys, authorities and revocation lists exchanged under a
//! running server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_e2e::ports::Port;
use etcd_e2e::{
    Authority, Cluster, Leaf, Options, Pair, Process, Secure, Target, eventually, https,
};
use etcd_proto::etcdserverpb::MemberUpdateRequest;

use crate::tls_world::{
    WITHIN, etcdctl, flag, prepare_cluster, presenting, refused, served, start_cluster,
};

/// The files a member is told of, which change under it.
struct Files {
    pair: Pair,
    ca: PathBuf,
    crl: PathBuf,
}

impl Files {
    /// In a folder of the authority, whose certificate and list they are at first.
    fn new(authority: &Authority, pair: &Pair) -> Files {
        let files = Files {
            pair: Pair {
                cert: authority.path("tls.crt"),
                key: authority.path("tls.key"),
            },
            ca: authority.path("trusted.crt"),
            crl: authority.path("revoked.crl"),
        };
        pair.replace(&files.pair).unwrap();
        files.trust(&[authority]);
        files.revoke(authority, &[]);
        files
    }

    fn trust(&self, authorities: &[&Authority]) {
        let texts = authorities.iter().map(|authority| authority.pem());
        std::fs::write(&self.ca, texts.collect::<String>()).unwrap();
    }

    fn revoke(&self, authority: &Authority, serials: &[u64]) {
        std::fs::copy(authority.revoke(serials).unwrap(), &self.crl).unwrap();
    }

    /// Flags of the client side, or with `peer-` of the peer side.
    fn flags(&self, prefix: &str) -> Vec<String> {
        let crl = if prefix.is_empty() { "client-" } else { prefix };
        let mut flags = self.pair.flags(&format!("--{prefix}")).to_vec();
        flags.push(flag(&format!("--{prefix}trusted-ca-file"), &self.ca));
        flags.push(flag(&format!("--{crl}crl-file"), &self.crl));
        flags
    }
}

/// A member whose three kinds of listeners all go by the same files.
struct Three {
    member: Process,
    urls: [String; 3],
}

impl Three {
    async fn start(files: &Files) -> Three {
        let metrics = Port::reserve().unwrap().url().replacen("http", "https", 1);
        let mut member = Process::prepare(Options::single()).unwrap();
        let (client, peer) = (member.https_client_url(), member.https_peer_url());
        let options = member.options();
        options.args.extend([
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            format!("--listen-metrics-urls={metrics}"),
        ]);
        options.args.extend(files.flags(""));
        options.args.extend(files.flags("peer-"));
        member.spawn().unwrap();
        member
            .logged(
                "ready to serve client requests",
                etcd_e2e::process::READY_WITHIN,
            )
            .await;
        Three {
            urls: [
                format!("{client}/version"),
                format!("{metrics}/livez"),
                format!("{peer}/version"),
            ],
            member,
        }
    }

    /// All listeners serve this certificate, to this client.
    async fn serve(&self, client: &Secure, cert: &Path) {
        let expected = https::leaf(cert).unwrap();
        for url in &self.urls {
            let answer = client.get(url).await;
            let answer = answer.unwrap_or_else(|error| panic!("{url}: {error:#}"));
            assert_eq!(answer.status, 200, "{url}: {}", answer.body);
            assert!(answer.leaf == expected, "{url} serves another certificate");
        }
    }

    /// None of the listeners serves this client.
    async fn refuse(&self, client: &Secure, why: &str) {
        for url in &self.urls {
            let answer = client.get(url).await;
            assert!(answer.is_err(), "{url} served: {answer:?}");
        }
        for kind in ["client", "peer"] {
            let said = |line: &str| {
                line.contains(&format!("rejected connection on {kind} endpoint"))
                    && line.contains(why)
            };
            eventually(WITHIN, &format!("a {kind} refused: {why}"), async || {
                let log = self.member.log();
                match log.lines().any(said) {
                    true => Ok(()),
                    false => Err(log),
                }
            })
            .await;
        }
    }

    /// How often the log has a line with both.
    fn said(&self, one: &str, two: &str) -> usize {
        let log = self.member.log();
        let lines = log.lines();
        lines
            .filter(|line| line.contains(one) && line.contains(two))
            .count()
    }
}

const BROKEN: &str = "failed to load changed TLS files";
const UNKNOWN: &str = "x509: certificate signed by unknown authority";

#[tokio::test]
async fn s37_everything_is_taken_up_without_a_restart() {
    let (old, new) = (
        Authority::new("old").unwrap(),
        Authority::new("new").unwrap(),
    );
    let first = old.issue(&Leaf::new("first")).unwrap();
    let files = Files::new(&old, &first);
    let server = Three::start(&files).await;
    let user = old.issue(&Leaf::new("user").serial(77)).unwrap();
    let client = Secure::new(&[&old, &new]).with(&user);
    server.serve(&client, &first.cert).await;

    let second = old.issue(&Leaf::new("second")).unwrap();
    second.replace(&files.pair).unwrap();
    server.serve(&client, &second.cert).await;

    // A revoked one, and one who is forgiven.
    files.revoke(&old, &[77]);
    server
        .refuse(&client, "certificate serial 4d revoked")
        .await;
    files.revoke(&old, &[78]);
    server.serve(&client, &second.cert).await;

    // To another authority, as one should: first both are believed.
    let newcomer = new.issue(&Leaf::new("newcomer")).unwrap();
    let newcomer = Secure::new(&[&old, &new]).with(&newcomer);
    server.refuse(&newcomer, UNKNOWN).await;
    files.trust(&[&old, &new]);
    server.serve(&newcomer, &second.cert).await;
    server.serve(&client, &second.cert).await;
    let third = new.issue(&Leaf::new("third")).unwrap();
    third.replace(&files.pair).unwrap();
    server.serve(&client, &third.cert).await;
    let refusals = server.said("rejected connection", UNKNOWN);
    files.trust(&[&new]);
    server.refuse(&client, UNKNOWN).await;
    assert!(server.said("rejected connection", UNKNOWN) > refusals);
    server.serve(&newcomer, &third.cert).await;

    // etcdctl notices none of it but what it should.
    let anew = new.issue(&Leaf::new("user")).unwrap();
    served(&presenting(etcdctl(&server.member, &new), &anew)).await;
    refused(&presenting(etcdctl(&server.member, &new), &user)).await;
    assert_eq!(server.said("Running: ", ""), 1, "it was never restarted");
}

#[tokio::test]
async fn s37_what_is_broken_is_told_once_and_not_used() {
    let ours = Authority::new("ours").unwrap();
    let first = ours.issue(&Leaf::new("first")).unwrap();
    let files = Files::new(&ours, &first);
    let server = Three::start(&files).await;
    let client = Secure::new(&[&ours]).with(&first);
    server.serve(&client, &first.cert).await;
    let other = ours.issue(&Leaf::new("other")).unwrap();
    let whole = |path: &Path| std::fs::read(path).unwrap();
    let (cert, key, ca) = (
        whole(&files.pair.cert),
        whole(&files.pair.key),
        whole(&files.ca),
    );
    let crl = whole(&files.crl);
    type Broken<'a> = (&'a Path, Option<Vec<u8>>, &'a [u8], &'a str);
    let broken: [Broken<'_>; 6] = [
        // Another's key.
        (
            &files.pair.key,
            Some(whole(&other.key)),
            &key,
            "private key does not match",
        ),
        // Half written.
        (
            &files.pair.cert,
            Some(cert[..cert.len() / 2].to_vec()),
            &cert,
            "tls.crt",
        ),
        (
            &files.pair.key,
            Some(Vec::new()),
            &key,
            "failed to find any PEM data in key input",
        ),
        // Gone.
        (&files.pair.cert, None, &cert, "no such file or directory"),
        (
            &files.ca,
            Some(ca[..ca.len() - 40].to_vec()),
            &ca,
            "CA certificate",
        ),
        (
            &files.crl,
            Some(crl[..crl.len() / 2].to_vec()),
            &crl,
            "malformed crl",
        ),
    ];
    for (path, instead, before, why) in broken {
        let told = |text: &str| server.said(BROKEN, text);
        let name = path.display().to_string();
        let before_it = [told(""), told(why), told(&name)];
        match instead {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        for _ in 0..3 {
            server.serve(&client, &first.cert).await;
        }
        // Once for either side.
        let after_it = [told(""), told(why), told(&name)];
        let more: Vec<usize> = after_it.iter().zip(before_it).map(|(a, b)| a - b).collect();
        assert_eq!(more, [2, 2, 2], "{why}: {}", server.member.log());
        std::fs::write(path, before).unwrap();
        server.serve(&client, &first.cert).await;
    }
    other.replace(&files.pair).unwrap();
    server.serve(&client, &other.cert).await;
}

/// A volume of Kubernetes: the names are links into `..data`, which is exchanged as a whole.
#[tokio::test]
async fn s37_a_volume_is_exchanged_as_a_whole() {
    let ours = Authority::new("ours").unwrap();
    let client = ours.issue(&Leaf::new("client")).unwrap();
    let mut files = Files::new(&ours, &client);
    let volume = ours.path("volume");
    let put = |issue: usize| {
        let pair = ours.issue(&Leaf::new("served")).unwrap();
        let folder = volume.join(format!("..{issue}"));
        std::fs::create_dir_all(&folder).unwrap();
        let inside = Pair {
            cert: folder.join("tls.crt"),
            key: folder.join("tls.key"),
        };
        pair.replace(&inside).unwrap();
        let link = volume.join("..data_tmp");
        std::os::unix::fs::symlink(folder.file_name().unwrap(), &link).unwrap();
        std::fs::rename(&link, volume.join("..data")).unwrap();
        if issue > 0 {
            std::fs::remove_dir_all(volume.join(format!("..{}", issue - 1))).unwrap();
        }
        pair
    };
    put(0);
    for name in ["tls.crt", "tls.key"] {
        let inside = Path::new("..data").join(name);
        std::os::unix::fs::symlink(inside, volume.join(name)).unwrap();
    }
    files.pair = Pair {
        cert: volume.join("tls.crt"),
        key: volume.join("tls.key"),
    };
    let server = Three::start(&files).await;
    let client = Secure::new(&[&ours]).with(&client);
    for issue in 1..20 {
        let pair = put(issue);
        server.serve(&client, &pair.cert).await;
    }
    assert_eq!(server.said(BROKEN, ""), 0, "{}", server.member.log());
}

/// An authority is exchanged under three members, which make new connections on the way.
#[tokio::test]
async fn s37_members_change_their_authority() {
    let (old, new) = (
        Authority::new("old").unwrap(),
        Authority::new("new").unwrap(),
    );
    let mut files = Vec::new();
    let mut members = Vec::new();
    // Each has files of its own, of names that all members know beforehand.
    for number in 0..3 {
        let pair = old.issue(&Leaf::new(&format!("m{number}"))).unwrap();
        let folder = old.path(format!("files-{number}"));
        std::fs::create_dir(&folder).unwrap();
        let own = Files {
            pair: Pair {
                cert: folder.join("tls.crt"),
                key: folder.join("tls.key"),
            },
            ca: folder.join("ca.crt"),
            crl: folder.join("crl"),
        };
        pair.replace(&own.pair).unwrap();
        own.trust(&[&old]);
        own.revoke(&old, &[]);
        files.push(own);
    }
    // The flags differ per member only by the folder, which a link in its data's place names.
    let link = |number: usize| files[number].pair.cert.parent().unwrap().to_owned();
    let flags = [
        "--peer-client-cert-auth".to_owned(),
        "--peer-cert-file=files/tls.crt".to_owned(),
        "--peer-key-file=files/tls.key".to_owned(),
        "--peer-trusted-ca-file=files/ca.crt".to_owned(),
        "--peer-crl-file=files/crl".to_owned(),
    ];
    let targets = [Target::Ours; 3];
    members.extend(
        prepare_cluster(&targets, flags, false)
            .into_iter()
            .enumerate()
            .map(|(number, member)| {
                std::os::unix::fs::symlink(link(number), member.folder().join("files")).unwrap();
                member
            }),
    );
    start_cluster(&mut members, false).await;
    members[0].client().put("stage", "old").await.unwrap();

    for own in &files {
        own.trust(&[&old, &new]);
    }
    for (number, own) in files.iter().enumerate() {
        let pair = new.issue(&Leaf::new(&format!("m{number}"))).unwrap();
        pair.replace(&own.pair).unwrap();
    }
    // Its connections, in both directions, are new now; the others keep theirs.
    members[2].restart().await.unwrap();
    members[2].client().put("stage", "both").await.unwrap();

    for own in &files {
        own.trust(&[&new]);
    }
    members[1].restart().await.unwrap();
    members[1].client().put("stage", "new").await.unwrap();
    let stale = old.issue(&Leaf::new("stale")).unwrap();
    let client = Secure::new(&[&old, &new]);
    for member in &members {
        let url = format!("{}/version", member.https_peer_url());
        client.clone().with(&stale).get(&url).await.unwrap_err();
        let fresh = new.issue(&Leaf::new("fresh")).unwrap();
        let answer = client.clone().with(&fresh).get(&url).await.unwrap();
        assert_eq!(answer.status, 200);
    }

    // Outgoing connections too: whoever serves a certificate of the old one is not believed.
    members[2].kill();
    stale.replace(&files[2].pair).unwrap();
    let refusals = members[0].log().matches(UNKNOWN).count();
    members[2].spawn().unwrap();
    eventually(
        WITHIN,
        "the member with the old certificate is refused",
        async || {
            let log = members[0].log();
            match log.matches(UNKNOWN).count() > refusals {
                true => Ok(()),
                false => Err(log),
            }
        },
    )
    .await;
    if let Err(error) = members[0].client().put("stage", "without it").await {
        let logs: Vec<String> = members.iter().map(|member| member.log()).collect();
        panic!("{error}\n{}", logs.join("\n\n"));
    }
    let fresh = new.issue(&Leaf::new("m2")).unwrap();
    fresh.replace(&files[2].pair).unwrap();
    members[2].ready().await.unwrap();
    let found = members[2].client().get("stage").await.unwrap();
    assert_eq!(found.kvs[0].value, "without it");
    members[0]
        .logged("TLS files changed; new connections use them", WITHIN)
        .await;
}

/// As an operator does it: a member at a time, whose URL is changed while it is down.
#[tokio::test]
async fn tls_between_members_is_switched_on_and_off_one_by_one() {
    let ours = Authority::new("ours").unwrap();
    let pair = ours.issue(&Leaf::new("member")).unwrap();
    let flags = [flag("--peer-trusted-ca-file", &ours.ca())];
    let flags = flags.into_iter().chain(pair.flags("--peer-"));
    let mut cluster = Cluster::start(3, Options::single().args(flags))
        .await
        .unwrap();
    for secure in [true, false] {
        for place in 0..3 {
            let id = cluster.id(place).await.unwrap();
            let member = &mut cluster.members[place];
            member.stop(WITHIN).await.unwrap();
            let url = match secure {
                true => member.https_peer_url(),
                false => member.peer_url(),
            };
            member.options().args.extend([
                format!("--listen-peer-urls={url}"),
                format!("--initial-advertise-peer-urls={url}"),
            ]);
            let other = cluster.members[(place + 1) % 3].client();
            eventually(WITHIN, "a member's URL changed", async || {
                let mut api = other.cluster();
                let mut request = tonic::Request::new(MemberUpdateRequest {
                    id,
                    peer_ur_ls: vec![url.clone()],
                });
                request.set_timeout(Duration::from_secs(3));
                api.member_update(request).await.map(drop)
            })
            .await;
            let member = &mut cluster.members[place];
            member.spawn().unwrap();
            member.ready().await.unwrap();
            let value = format!("{secure} {place}");
            member.client().put("stage", &value).await.unwrap();
            let found = other.get("stage").await.unwrap();
            assert_eq!(found.kvs[0].value, value.as_bytes());
        }
        let scheme = if secure { "https://" } else { "http://" };
        for member in cluster.members[0].client().members().await.unwrap() {
            assert!(member.peer_ur_ls[0].starts_with(scheme), "{member:?}");
        }
    }
    cluster.equal().await;
}
