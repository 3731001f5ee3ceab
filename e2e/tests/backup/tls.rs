//! Members that are reached over TLS.

use etcd_e2e::authority::{Authority, Leaf};
use etcd_e2e::{Options, Pod, Process, Target};
use serde_json::json;

use crate::world::folder;

const NAME: &str = "demo-0-0.demo-peer.ns.svc";

#[tokio::test]
async fn a_member_is_known_by_its_name_and_asks_for_a_certificate() {
    for target in [Target::Ours, Target::Stock] {
        let authority = Authority::new("cluster").unwrap();
        let server = authority
            .issue(&Leaf::new("server").hosts(&[NAME, "127.0.0.1"]))
            .unwrap();
        let client = authority.issue(&Leaf::new("client").client_only()).unwrap();
        let mut flags: Vec<String> = server.flags("--").into();
        flags.push(format!("--trusted-ca-file={}", authority.ca().display()));
        flags.push("--client-cert-auth".to_owned());
        let options = Options {
            target,
            ..Options::single()
        };
        let member = Process::start_https(options, flags).await.unwrap();

        let mut pod = Pod::claim().unwrap();
        let read = |path| std::fs::read_to_string(path).unwrap();
        pod.write("member-tls/ca.crt", authority.pem()).unwrap();
        pod.write("member-tls/tls.crt", &read(&client.cert))
            .unwrap();
        pod.write("member-tls/tls.key", &read(&client.key)).unwrap();
        // A member alone derives its cluster's ID from its peer URL and the token.
        let id = etcd_id(&member);
        let mut told = json!({
            "cluster": {"namespace": "ns", "name": "demo", "uid": "u", "clusterID": id},
            "voters": [{"endpoint": member.https_client_url(), "tlsServerName": NAME}],
            "destination": pod.destination,
            "folder": "full",
        });
        pod.succeed("snapshot", &told).await.unwrap();
        pod.succeed("verify", &json!({"source": folder(&pod, "full")}))
            .await
            .unwrap();

        pod.patience = 1;
        told["folder"] = json!("refused");
        told["voters"][0]["tlsServerName"] = json!("another.peer.ns.svc");
        let failed = pod.fail("snapshot", &told).await.unwrap();
        assert_eq!(
            (failed.reason.as_str(), failed.transient),
            ("MemberRefused", false),
            "{}",
            failed.message
        );
        told["voters"][0]["tlsServerName"] = json!(NAME);
        std::fs::remove_file(pod.place("member-tls/tls.crt")).unwrap();
        let failed = pod.fail("snapshot", &told).await.unwrap();
        assert!(
            failed.message.contains("no certificate is shown"),
            "{}",
            failed.message
        );
        let stranger = Authority::new("stranger").unwrap();
        pod.write("member-tls/ca.crt", stranger.pem()).unwrap();
        let failed = pod.fail("snapshot", &told).await.unwrap();
        assert_eq!(
            (failed.reason.as_str(), failed.transient),
            ("MemberRefused", false),
            "{}",
            failed.message
        );
        std::fs::remove_file(pod.place("member-tls/ca.crt")).unwrap();
        let failed = pod.fail("snapshot", &told).await.unwrap();
        assert!(
            failed.message.contains("ca.crt is missing"),
            "{}",
            failed.message
        );
    }
}

fn etcd_id(member: &Process) -> String {
    use sha1::Digest as _;
    let first = |parts: &[&[u8]]| {
        let mut hash = sha1::Sha1::new();
        for part in parts {
            hash.update(part);
        }
        u64::from_be_bytes(hash.finalize()[..8].try_into().unwrap())
    };
    let own = first(&[member.peer_url().as_bytes(), b"etcd-cluster"]);
    format!("{:x}", first(&[&own.to_be_bytes()]))
}
