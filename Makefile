# The menu. `make` alone prints it; README.md and CONTRIBUTING.md say more.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build stock minio kubernetes demo demo-shell demo-down test lint unit conformance sim bench bench-snapshot bench-operator bench-backup soak e2e crds deny clean-caches

TRIPLE ?= $(shell uname -m)-unknown-linux-gnu
TARGET ?= ours
SEEDS ?= 2000
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/etcd-core-e2e
DENY_VERSION := 0.20.2
DENY := $(CACHE)/cargo-deny-$(DENY_VERSION)
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))

# Where the parts find each other; every script and test reads these.
export PRODUCT := $(TARGET_DIR)/$(TRIPLE)/release
export BIN := $(CACHE)/kubernetes-1.36.3
export STOCK := $(CACHE)/stock-3.7.3
export MINIO := $(CACHE)/minio-0.0.0-20260212201848-7aac2a2c5b7c

# Kernels of this architecture come with pages of up to 64 KiB: the allocator must expect them.
ifneq ($(filter aarch64-%,$(TRIPLE)),)
export JEMALLOC_SYS_WITH_LG_PAGE := 16
endif

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

packages: # what a fresh Debian lacks to build and run all of it
	@e2e/kubernetes/packages.sh cc=gcc /usr/include/stdio.h=libc6-dev unshare=util-linux pgrep=procps ip=iproute2 nft=nftables \
	  iptables=iptables conntrack=conntrack openssl=openssl curl=curl runc=runc /usr/lib/cni/bridge=containernetworking-plugins git=git \
	  /etc/ssl/certs/ca-certificates.crt=ca-certificates
.PHONY: packages

build: ## the product: etcd, etcdutl and etcd-operator, linked statically, for any Linux and an image FROM scratch
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target $(TRIPLE) -p etcd-server -p etcd-etcdutl -p etcd-operator

minio: ## MinIO, an S3 server to test backups with, from its Go module
	@e2e/minio/build.sh

stock: ## stock etcd, etcdctl and etcdutl from Go modules, to compare with
	@e2e/stock/build.sh

kubernetes: ## a whole Kubernetes from Go modules, into the cache
	@e2e/kubernetes/build.sh

demo: ## a Kubernetes of three nodes whose storage is our etcd, the operator, a cluster, a write and a read
	@e2e/kubernetes/demo.sh

demo-shell: ## a shell in the demo, with KUBECONFIG, kubectl, helm and etcdctl
	@e2e/kubernetes/demo.sh shell

demo-down: ## end the demo, and remove all of it
	@e2e/kubernetes/demo.sh down

test: ## everything; what CI calls
	@.ci/test

lint: ## formatting, clippy, licences and bans
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@$(MAKE) -s deny

# Advisories need the internet: `cargo deny check advisories` says what it knows of them.
deny: ## licences, sources and refused crates of the dependencies
	@test -x $(DENY)/bin/cargo-deny || cargo install --locked --version $(DENY_VERSION) --root $(DENY) cargo-deny
	$(DENY)/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources

unit: ## tests that need no other program and no root
	cargo test --locked --workspace --exclude etcd-e2e

conformance: ## behaviours over a socket, on TARGET=ours or TARGET=stock
	TARGET=$(TARGET) ETCD_BIN=$(if $(filter ours,$(TARGET)),$(PRODUCT)/etcd) cargo test --locked -p etcd-e2e --test conformance

sim: ## the simulation with SEEDS=n seeds
	cargo run --locked -p etcd-sim -- --seeds $(SEEDS)

bench: build stock ## our server and stock etcd side by side; ARGS=--quick for a first look
	ETCD_BIN=$(PRODUCT)/etcd cargo run --locked --release -p etcd-e2e --bin bench -- $(ARGS)

bench-snapshot: build stock ## snapshots of a store of 2 GiB, ours and stock's; ARGS="--mib 256" for a first look
	ETCD_BIN=$(PRODUCT)/etcd cargo run --locked --release -p etcd-e2e --bin bench_snapshot -- $(ARGS)

bench-operator: packages build stock kubernetes ## the operator with 1,000 clusters of three (root); ARGS="--clusters 20" for a first look
	cargo run --locked --release -p etcd-e2e --bin bench_operator -- --upgrade $(ARGS)

bench-backup: build stock minio ## time and memory of backups of 2 GiB; ARGS="--mib 256" for a first look
	ETCD_BIN=$(PRODUCT)/etcd cargo run --locked --release -p etcd-e2e --bin bench_backup -- $(ARGS)

soak: packages build stock kubernetes ## what takes minutes by its nature: leases, a million keys, stalled disks, kills, ten upgrades in a row (root)
	ETCD_BIN=$(PRODUCT)/etcd cargo test --locked -p etcd-e2e --test soak
	ETCD_BIN=$(PRODUCT)/etcd E2E_SECONDS=60 cargo test --locked -p etcd-e2e --test process s01_ -- --nocapture
	E2E_UPGRADES=10 cargo test --locked -p etcd-e2e --test kubernetes o40_ -- --nocapture

e2e: packages build stock minio kubernetes ## the operator on a whole Kubernetes (root)
	cargo test --locked -p etcd-e2e --test kubernetes -- --test-threads=1 --nocapture
	cargo test --locked -p etcd-e2e --test rights -- --nocapture
	cargo test --locked -p etcd-e2e --test fleet -- --nocapture

crds: ## write crds/ and other generated files from the code
	UPDATE=1 cargo test --locked -p etcd-operator --test generated

clean-caches: ## remove what was built outside the tree
	rm -rf $(CACHE)/kubernetes-* $(CACHE)/stock-* $(CACHE)/minio-* $(CACHE)/cargo-deny-*
