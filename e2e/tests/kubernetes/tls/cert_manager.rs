//! Certificates from cert-manager. Its image is not at hand: its kinds are defined here as it
//! defines them, as far as the operator uses them, and [`Issuer`] does its work.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use etcd_e2e::{Authority, Leaf};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::{SHARED, in_effect, lives, manifest, message, reason, shared};
use crate::world::{World, condition};

/// Certificates from cert-manager, by that issuer.
fn asking(kind: &str, name: &str) -> String {
    let issuer =
        format!("certManager: {{issuerRef: {{kind: {kind}, name: {name}}}, duration: 24h}}");
    let tls = format!(
        "{{client: {{mode: CertManager, {issuer}, settleDuration: 3s}}, peer: {{mode: CertManager, {issuer}}}}}"
    );
    manifest(SHARED, &tls, "")
}

/// Definition of one of cert-manager's kinds.
fn definition(kind: &str, plural: &str, scope: &str, spec: Value) -> String {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.cert-manager.io")},
        "spec": {
            "group": "cert-manager.io",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
            "scope": scope,
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": spec,
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                }},
            }],
        },
    })
    .to_string()
}

/// What a Certificate says, of those fields that the operator sets.
fn certificate_spec() -> Value {
    let text = json!({"type": "string"});
    let list = json!({"type": "array", "items": text});
    json!({
        "type": "object",
        "required": ["issuerRef", "secretName"],
        "properties": {
            "commonName": text, "duration": text, "secretName": text,
            "dnsNames": list, "ipAddresses": list,
            "usages": {"type": "array", "items": {"type": "string", "enum": [
                "digital signature", "key encipherment", "server auth", "client auth",
            ]}},
            "privateKey": {"type": "object", "properties": {
                "algorithm": {"type": "string", "enum": ["RSA", "ECDSA", "Ed25519"]},
                "size": {"type": "integer"},
                "rotationPolicy": {"type": "string", "enum": ["Never", "Always"]},
            }},
            "issuerRef": {"type": "object", "required": ["name"], "properties": {
                "name": text, "kind": text, "group": text,
            }},
        },
    })
}

fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("cert-manager.io", "v1", kind);
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

/// Does what cert-manager does: signs what is asked for, as long as the issuer is there, and renews
/// one Certificate after the other when it gets another CA.
struct Issuer {
    client: Client,
    namespace: String,
    /// The CA, and its number.
    authority: (Authority, usize),
    /// Generation and CA of what was issued, by name.
    issued: HashMap<String, (Option<i64>, usize)>,
    last: Instant,
}

impl Issuer {
    fn new(world: &World) -> Issuer {
        Issuer {
            client: world.client.clone(),
            namespace: world.namespace.clone(),
            authority: (Authority::new("issuer").unwrap(), 0),
            issued: HashMap::new(),
            last: Instant::now(),
        }
    }

    fn replace(&mut self) {
        self.authority = (Authority::new("issuer").unwrap(), self.authority.1 + 1);
    }

    /// Works until `done` has come to pass.
    async fn during<T>(&mut self, done: impl Future<Output = T>) -> T {
        let mut done = std::pin::pin!(done);
        let mut tick = tokio::time::interval(Duration::from_millis(300));
        loop {
            tokio::select! {
                result = &mut done => return result,
                _ = tick.tick() => self.work().await,
            }
        }
    }

    async fn work(&mut self) {
        let certificates = api(&self.client, &self.namespace, "Certificate");
        let issuers = api(&self.client, &self.namespace, "Issuer");
        let Ok(asked) = certificates.list(&ListParams::default()).await else {
            return; // the kind is not there yet
        };
        for certificate in asked {
            let name = certificate.name_any();
            let issuer = &certificate.data["spec"]["issuerRef"];
            let there = issuer["kind"] == "Issuer"
                && issuers
                    .get_opt(issuer["name"].as_str().unwrap())
                    .await
                    .unwrap()
                    .is_some();
            let wanted = (certificate.metadata.generation, self.authority.1);
            let before = self.issued.get(&name).copied();
            if before == Some(wanted) {
                continue;
            }
            if !there {
                let why = "Issuing certificate as Secret does not exist";
                self.tell(&certificates, &certificate, "False", why).await;
                continue;
            }
            let renewal = before.is_some_and(|(generation, _)| generation == wanted.0);
            if renewal && self.last.elapsed() < Duration::from_secs(2) {
                continue;
            }
            self.issue(&certificate).await;
            self.tell(
                &certificates,
                &certificate,
                "True",
                "Certificate is up to date",
            )
            .await;
            self.issued.insert(name, wanted);
            self.last = Instant::now();
        }
    }

    async fn issue(&self, certificate: &DynamicObject) {
        let spec = &certificate.data["spec"];
        let list = |key: &str| -> Vec<&str> {
            let list = spec[key].as_array().into_iter().flatten();
            list.map(|text| text.as_str().unwrap()).collect()
        };
        let hosts = [list("dnsNames"), list("ipAddresses")].concat();
        let mut leaf = Leaf::new(spec["commonName"].as_str().unwrap()).hosts(&hosts);
        if !list("usages").contains(&"server auth") {
            leaf = leaf.client_only();
        }
        let pair = self.authority.0.issue(&leaf).unwrap();
        let read = |path| std::fs::read_to_string(path).unwrap();
        let name = spec["secretName"].as_str().unwrap();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": name},
            "stringData": {
                "tls.crt": read(pair.cert), "tls.key": read(pair.key), "ca.crt": self.authority.0.pem(),
            },
        });
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = PatchParams::apply("cert-manager-certificates-issuing").force();
        secrets
            .patch(name, &params, &Patch::Apply(&secret))
            .await
            .unwrap();
    }

    async fn tell(&self, api: &Api<DynamicObject>, of: &DynamicObject, ready: &str, message: &str) {
        let status = json!({"status": {"conditions": [{
            "type": "Ready", "status": ready, "reason": "Told", "message": message,
            "observedGeneration": of.metadata.generation,
        }]}});
        let params = PatchParams::default();
        api.patch_status(&of.name_any(), &params, &Patch::Merge(&status))
            .await
            .unwrap();
    }
}

impl World {
    async fn tls_says(&self, wanted: &'static str, words: &'static str) {
        self.cluster_when(SHARED, words, |status| {
            condition(status, "TLSReady") == "False"
                && reason(status) == wanted
                && message(status).contains(words)
        })
        .await;
    }
}

#[test]
fn cert_manager_issues_and_its_ca_is_replaced_under_load() {
    shared(async |world| {
        let before = world.pods_of(SHARED).await;
        world.apply(&asking("ClusterIssuer", "nobody")).await;
        world
            .tls_says(
                "CertManagerMissing",
                "there is no certificates.cert-manager.io here",
            )
            .await;
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        for (kind, plural, scope, spec) in [
            (
                "Certificate",
                "certificates",
                "Namespaced",
                certificate_spec(),
            ),
            ("Issuer", "issuers", "Namespaced", any.clone()),
            ("ClusterIssuer", "clusterissuers", "Cluster", any),
        ] {
            world.apply(&definition(kind, plural, scope, spec)).await;
        }
        let mut issuer = Issuer::new(&world);
        let missing = world.tls_says("IssuerMissing", "there is no ClusterIssuer nobody");
        issuer.during(missing).await;
        world.apply(&asking("Issuer", "ours")).await;
        let missing = world.tls_says("IssuerMissing", "there is no Issuer ours");
        issuer.during(missing).await;
        let ours = r#"{"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "ours"}, "spec": {}}"#;
        world.apply(ours).await;
        let mode =
            |status: &Value| in_effect(status) && status["tls"]["peer"]["mode"] == "CertManager";
        let taken = world.cluster_when(SHARED, "certificates of cert-manager", mode);
        issuer.during(taken).await;
        let pem = issuer.authority.0.pem().trim().to_owned();
        assert_eq!(world.text("tls-client", "ca.crt").await.trim(), pem);
        for purpose in ["client", "peer"] {
            assert_eq!(world.trusted(SHARED, purpose).await, 1, "{purpose}");
        }
        let read = ["get", "--prefix", "traffic/", "--keys-only", "--limit=1"];
        world.etcdctl_in_a_pod(SHARED, "asked", &read).await;

        // Its Secrets get certificates of another CA, one after the other.
        let traffic = world.traffic(SHARED).await;
        issuer.replace();
        let pem = issuer.authority.0.pem().trim().to_owned();
        let renewed = async {
            let has = |secret: Option<&Secret>| {
                let data = secret.and_then(|secret| secret.data.as_ref());
                let ca = data.and_then(|data| data.get("ca.crt"));
                ca.is_some_and(|ca| ca.0.trim_ascii() == pem.as_bytes())
            };
            world
                .object_when(world.secrets(), "tls-client", "has the other CA", has)
                .await;
            world.cluster_when(SHARED, "the other CA", mode).await
        };
        issuer.during(renewed).await;
        let figures = issuer
            .during(world.finish(traffic, "CA of cert-manager's issuer replaced"))
            .await;
        assert_eq!((figures.failed, figures.retried), (0, 0), "{figures}");
        for purpose in ["client", "peer"] {
            assert_eq!(world.trusted(SHARED, purpose).await, 1, "{purpose}");
        }
        let after = world.pods_of(SHARED).await;
        assert_eq!(lives(&before), lives(&after), "nobody was restarted for it");
    });
}
