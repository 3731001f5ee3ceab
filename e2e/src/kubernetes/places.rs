//! Where the parts are that a Kubernetes is made of.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::stock;

/// The version of Kubernetes, as `e2e/kubernetes/build.sh` has it.
const KUBERNETES: &str = "1.36.3";

/// Folders that `make` names to its scripts and to us by environment variables of the same names.
#[derive(Debug, Clone)]
pub struct Places {
    /// The repository.
    pub repository: PathBuf,
    /// `BIN`: Kubernetes, containerd, CoreDNS and Helm.
    pub bin: PathBuf,
    /// `STOCK`: stock etcd, etcdctl and etcdutl.
    pub stock: PathBuf,
    /// `PRODUCT`: our etcd and etcd-operator, linked statically.
    pub product: PathBuf,
}

impl Places {
    /// Looks for all of them.
    ///
    /// # Errors
    /// If one is missing; the text says which command makes it.
    pub fn find() -> Result<Places> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the repository above e2e/")?
            .to_owned();
        let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let stock_etcd = stock::binaries()?.etcd;
        let stock_folder = stock_etcd.parent().context("the folder of stock etcd")?;
        let cache = stock_folder.parent().context("the cache folder")?;
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let target = named("CARGO_TARGET_DIR").unwrap_or_else(|| repository.join("target"));
        let places = Places {
            bin: named("BIN").unwrap_or_else(|| cache.join(format!("kubernetes-{KUBERNETES}"))),
            stock: named("STOCK").unwrap_or_else(|| stock_folder.to_owned()),
            product: named("PRODUCT").unwrap_or_else(|| target.join(triple).join("release")),
            repository,
        };
        let needs = [
            (places.bin.join("kubelet"), "make kubernetes"),
            (places.bin.join("pack"), "make kubernetes"),
            (places.product.join("etcd"), "make build"),
            (places.product.join("etcd-operator"), "make build"),
        ];
        for (path, command) in needs {
            ensure!(
                path.is_file(),
                "{} is missing: `{command}` makes it",
                path.display()
            );
        }
        Ok(places)
    }

    /// A script of `e2e/kubernetes/`.
    pub fn script(&self, name: &str) -> PathBuf {
        self.repository.join("e2e/kubernetes").join(name)
    }

    /// A command that knows these places.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.environment(&mut command);
        command
    }

    /// Tells `command` these places.
    pub(super) fn environment(&self, command: &mut Command) {
        command
            .env("BIN", &self.bin)
            .env("STOCK", &self.stock)
            .env("PRODUCT", &self.product);
    }
}
