//! Versions that this server reports.

/// The version of etcd that it is compatible with.
pub const SERVER_VERSION: &str = "3.7.3";
/// Oldest cluster version it can work with.
pub const MIN_CLUSTER_VERSION: &str = "3.0.0";
/// Version of the schema of its images.
pub const STORAGE_VERSION: &str = "3.7.0";
/// Our own version.
pub const CORE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `--version` prints: etcd's four lines, and one of our own behind the first.
pub fn text() -> String {
    format!(
        "etcd Version: {SERVER_VERSION}\netcd-core Version: {CORE_VERSION}\nGit SHA: {}\nGo Version: none (Rust)\nGo OS/Arch: {}/{}\n",
        option_env!("ETCD_CORE_GIT_SHA").unwrap_or("Not provided"),
        std::env::consts::OS,
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
    )
}
