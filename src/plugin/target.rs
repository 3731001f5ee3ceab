//! Which Kubernetes, which namespace, which cluster; with the caller's own rights.

use std::fmt::Debug;

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Pod, Secret},
};
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::api::EtcdCluster;

use super::{PluginError, args::Scope, error};

/// Field manager of what is changed here.
const MANAGER: &str = "kubectl-etcd";

/// A namespace of a Kubernetes.
#[derive(Clone)]
pub(super) struct Target {
    client: Client,
    pub(super) namespace: String,
}

impl Target {
    /// As flags, `KUBECONFIG` and the context say.
    pub(super) async fn new(scope: &Scope) -> Result<Target, PluginError> {
        let options = KubeConfigOptions {
            context: scope.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match &scope.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)?;
                Config::from_custom_kubeconfig(file, &options).await?
            }
            None => from_environment(&options).await?,
        };
        let namespace = scope
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client =
            Client::try_from(config).map_err(|error| PluginError::Client(Box::new(error)))?;
        Ok(Target { client, namespace })
    }

    /// The cluster of that name.
    pub(super) async fn get(&self, name: &str) -> Result<EtcdCluster, PluginError> {
        match self.clusters().get(name).await {
            Ok(cluster) => Ok(cluster),
            Err(kube::Error::Api(status))
                if status.is_not_found() && !error::unknown_kind(&status) =>
            {
                // What there is instead, if that may be known.
                let others = self.list(false).await.unwrap_or_default();
                Err(PluginError::NoSuchCluster {
                    name: name.to_owned(),
                    namespace: self.namespace.clone(),
                    others: others.iter().map(ResourceExt::name_any).collect(),
                })
            }
            Err(error) => Err(error::kube(&format!("read the EtcdCluster {name}"), error)),
        }
    }

    /// The clusters of the namespace, or of all.
    pub(super) async fn list(&self, everywhere: bool) -> Result<Vec<EtcdCluster>, PluginError> {
        let api = if everywhere {
            Api::all(self.client.clone())
        } else {
            self.clusters()
        };
        let list = api.list(&ListParams::default()).await;
        Ok(list
            .map_err(|error| error::kube("list EtcdClusters", error))?
            .items)
    }

    /// Merges `patch` into the cluster of that name.
    pub(super) async fn patch(
        &self,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<(), PluginError> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.clusters()
            .patch(name, &params, &Patch::Merge(patch))
            .await
            .map(|_| ())
            .map_err(|error| error::kube(&format!("change the EtcdCluster {name}"), error))
    }

    /// The object of that name.
    pub(super) async fn read<K>(&self, name: &str) -> Result<K, PluginError>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let kind = kind::<K>();
        match self.api::<K>().get(name).await {
            Ok(object) => Ok(object),
            Err(kube::Error::Api(status))
                if status.is_not_found() && !error::unknown_kind(&status) =>
            {
                // What there is instead, if that may be known.
                let others = self.all::<K>().await.unwrap_or_default();
                Err(PluginError::NoSuchObject {
                    kind,
                    name: name.to_owned(),
                    namespace: self.namespace.clone(),
                    others: others.iter().map(ResourceExt::name_any).collect(),
                })
            }
            Err(error) => Err(error::kube(&format!("read the {kind} {name}"), error)),
        }
    }

    /// All objects of a kind in the namespace.
    pub(super) async fn all<K>(&self) -> Result<Vec<K>, PluginError>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let list = self.api::<K>().list(&ListParams::default()).await;
        let what = format!("list objects of the kind {}", kind::<K>());
        Ok(list.map_err(|error| error::kube(&what, error))?.items)
    }

    /// Makes an object; as the API server has it.
    pub(super) async fn create<K>(&self, object: &K) -> Result<K, PluginError>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
        K::DynamicType: Default,
    {
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let made = self.api::<K>().create(&params, object).await;
        made.map_err(|error| error::kube(&format!("make an {}", kind::<K>()), error))
    }

    /// Deletes an object, which may be gone already.
    pub(super) async fn delete<K>(&self, name: &str) -> Result<(), PluginError>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        match self.api::<K>().delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error::kube(
                &format!("delete the {} {name}", kind::<K>()),
                error,
            )),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn clusters(&self) -> Api<EtcdCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The pods beside the cluster.
    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The Secrets beside the cluster.
    pub(super) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn kind<K: Resource>() -> String
where
    K::DynamicType: Default,
{
    K::kind(&K::DynamicType::default()).into_owned()
}

/// `KUBECONFIG` or `~/.kube/config`. A named context is not found: that is what is
/// told, and not that there is no cluster around this process either.
async fn from_environment(options: &KubeConfigOptions) -> Result<Config, KubeconfigError> {
    Config::from_kubeconfig(options).await
}
