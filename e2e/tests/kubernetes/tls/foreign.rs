//! Certificates from Secrets of a user.

use etcd_e2e::load::Bundle;
use etcd_e2e::{Authority, Etcdctl, Leaf, Pair, eventually};
use kube::ResourceExt;

use super::{SHARED, in_effect, lives, manifest, message, reason, shared};
use crate::members::address;
use crate::world::{LIMIT, World, condition};

/// Certificates from Secrets of these names.
const SECRETS: &str = "{client: {mode: Secret, secretRef: {name: mine}, operatorSecretRef: {name: operators}, \
    settleDuration: 3s}, peer: {mode: Secret, secretRef: {name: peers}}}";

const MEMBERS: &str = "*.tls-peer.tls.svc";

impl World {
    /// Puts files into a Secret, in place of what is there.
    async fn fill_secret(&self, secret: &str, pair: &Pair, keys: &[&str], authority: &Authority) {
        let file = |key: &&str| {
            let path = match *key {
                "tls.crt" => pair.cert.clone(),
                "tls.key" => pair.key.clone(),
                _ => authority.ca(),
            };
            format!("--from-file={key}={}", path.display())
        };
        let files: Vec<String> = keys.iter().map(file).collect();
        let mut args = vec![
            "create",
            "secret",
            "generic",
            secret,
            "--dry-run=client",
            "-o=yaml",
        ];
        args.extend(files.iter().map(String::as_str));
        let yaml = self.kubectl(&args).await;
        let replace = ["replace", "--force", "-f", "-"];
        let here = [&["--namespace", self.namespace.as_str()], &replace[..]].concat();
        self.kubectl.run_with(&here, &yaml).await.unwrap();
    }

    /// Waits until the condition TLSReady says that, and that in words.
    async fn says_of_tls(&self, wanted: &str, words: &str) {
        self.cluster_when(SHARED, words, |status| {
            condition(status, "TLSReady") == "False"
                && reason(status) == wanted
                && message(status).contains(words)
        })
        .await;
    }
}

const ALL: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

#[test]
fn secrets_of_a_user_are_named_when_they_are_no_good_and_taken_when_they_are() {
    shared(async |world| {
        let before = world.pods_of(SHARED).await;
        world.apply(&manifest(SHARED, SECRETS, "")).await;
        world
            .says_of_tls("SecretMissing", "there is no Secret mine")
            .await;

        let mine = Authority::new("mine").unwrap();
        let good = mine.issue(&Leaf::new("good").hosts(&[MEMBERS])).unwrap();
        let other = mine.issue(&Leaf::new("other").hosts(&[MEMBERS])).unwrap();
        let expired = Leaf::new("expired").hosts(&[MEMBERS]).expired();
        let expired = mine.issue(&expired).unwrap();
        let mixed = Pair {
            cert: good.cert.clone(),
            key: other.key.clone(),
        };
        // Nothing but that Secret keeps it from going on.
        let own = mine.issue(&Leaf::new("own").client_only()).unwrap();
        world.fill_secret("operators", &own, &ALL[..2], &mine).await;
        let peers = Leaf::new("peers").hosts(&[MEMBERS, "tls-peer.tls.svc"]);
        let peers = mine.issue(&peers).unwrap();
        world.fill_secret("peers", &peers, &ALL, &mine).await;
        world
            .fill_secret("mine", &good, &["tls.crt", "ca.crt"], &mine)
            .await;
        world
            .says_of_tls("KeyMissing", "Secret mine lacks tls.key")
            .await;
        for (pair, reason, words) in [
            (
                &mixed,
                "KeyMismatch",
                "Secret mine: tls.key is not the key of tls.crt",
            ),
            (&expired, "CertificateExpired", "Secret mine: tls.crt"),
        ] {
            world.fill_secret("mine", pair, &ALL, &mine).await;
            world.says_of_tls(reason, words).await;
        }
        let after = world.pods_of(SHARED).await;
        assert_eq!(
            lives(&before),
            lives(&after),
            "nothing was restarted for it"
        );

        // Mended: it goes on at once.
        world.fill_secret("mine", &good, &ALL, &mine).await;
        world.taken(&good).await;
        let after = world.pods_of(SHARED).await;
        assert_eq!(lives(&before), lives(&after), "nobody was restarted for it");
        world.serves(&own, &mine).await;

        // What is spoilt reaches nobody, also not a member that starts again.
        world.fill_secret("mine", &mixed, &ALL, &mine).await;
        world.says_of_tls("KeyMismatch", "Secret mine").await;
        let uid = after[0].uid().unwrap();
        assert_eq!(world.machine.kill_in_pod(&uid, "etcd").unwrap(), 1);
        world.restarted(&after[0]).await;
        world.serves(&own, &mine).await;

        // Another CA, all at once: members are told of it before they show it.
        let next = Authority::new("next").unwrap();
        let good = next.issue(&Leaf::new("good").hosts(&[MEMBERS])).unwrap();
        let own = next.issue(&Leaf::new("own").client_only()).unwrap();
        let peers = Leaf::new("peers").hosts(&[MEMBERS, "tls-peer.tls.svc"]);
        let peers = next.issue(&peers).unwrap();
        let lived = lives(&world.pods_of(SHARED).await);
        world.fill_secret("peers", &peers, &ALL, &next).await;
        world.fill_secret("operators", &own, &ALL[..2], &next).await;
        world.fill_secret("mine", &good, &ALL, &next).await;
        world.taken(&good).await;
        world.serves(&own, &next).await;
        let after = lives(&world.pods_of(SHARED).await);
        assert_eq!(lived, after, "nobody was restarted for it");
    });
}

impl World {
    /// Waits until every member has that certificate, and trusts no other CA.
    async fn taken(&self, pair: &Pair) {
        let wanted = std::fs::read_to_string(&pair.cert).unwrap();
        eventually(LIMIT, "members have it", async || {
            for member in ["tls-0", "tls-1", "tls-2"] {
                if self.text(&format!("{member}-tls"), "client-tls.crt").await != wanted {
                    return Err(member);
                }
            }
            Ok(())
        })
        .await;
        self.cluster_when(SHARED, "it is in effect", in_effect)
            .await;
        for purpose in ["client", "peer"] {
            assert_eq!(self.trusted(SHARED, purpose).await, 1, "{purpose}");
        }
    }

    /// Every member answers a client of that authority.
    async fn serves(&self, own: &Pair, authority: &Authority) {
        let bundle = Bundle {
            ca: authority.pem().into(),
            identity: Some((
                std::fs::read(&own.cert).unwrap(),
                std::fs::read(&own.key).unwrap(),
            )),
        };
        for pod in self.pods_of(SHARED).await {
            let url = format!("https://{}:2379", address(&pod).unwrap());
            let etcdctl = Etcdctl::new(&[url]).unwrap().showing(&bundle).unwrap();
            eventually(LIMIT, "it serves", async || {
                etcdctl.run(&["put", "greeting", "hello"]).await
            })
            .await;
        }
    }
}
