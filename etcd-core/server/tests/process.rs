//! The program as whoever starts it sees it: exit codes, what it prints where,
//! its log, its end.

#![allow(clippy::unwrap_used)] // a test ends where something fails

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

const ETCD: &str = env!("CARGO_BIN_EXE_etcd");

fn etcd(arguments: &[&str]) -> Command {
    let mut command = Command::new(ETCD);
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Each code and text was read off stock etcd 3.7.3.
#[test]
fn mistakes_end_with_etcds_codes() {
    for (arguments, code, text) in [
        (&["--nope"][..], 2, "flag provided but not defined: -nope"),
        (&["--name"], 2, "flag needs an argument: -name"),
        (&["extra"], 1, "\"\\\"extra\\\" is not a valid flag\""),
        (
            &["--election-timeout=400"],
            1,
            "should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (
            &["--config-file=/nonexistent"],
            1,
            "open /nonexistent: no such file or directory",
        ),
        (&["gateway", "start"], 1, "not implemented"),
    ] {
        let output = etcd(arguments).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(text), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    let output = etcd(&["--name=a"])
        .env("ETCD_NAME", "b")
        .output()
        .expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("conflicting environment variable is shadowed"),
        "{stderr}"
    );
    assert!(stderr.contains("\"level\":\"fatal\""), "{stderr}");
}

#[test]
fn version_and_help_go_to_standard_output() {
    let output = etcd(&["--version"]).output().expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(stdout.starts_with("etcd Version: 3.7.3\n"), "{stdout}");
    let output = etcd(&["-h"]).output().expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    assert!(stdout.contains("--initial-cluster-state 'new'"), "{stdout}");
}

struct Running {
    child: Child,
    client: u16,
    lines: Vec<serde_json::Value>,
    rest: Option<BufReader<std::process::ChildStderr>>,
}

impl Running {
    fn start(directory: &std::path::Path, more: &[&str]) -> Running {
        let (client, peer) = (free_port(), free_port());
        let mut child = etcd(&[
            "--name=m1",
            &format!("--data-dir={}", directory.display()),
            &format!("--listen-client-urls=http://127.0.0.1:{client}"),
            &format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            &format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            &format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            &format!("--initial-cluster=m1=http://127.0.0.1:{peer}"),
        ])
        .args(more)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let length = stderr.read_line(&mut line).expect("text");
            assert_ne!(length, 0, "it ended: {lines:#?}");
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            let ready = value["msg"] == "ready to serve client requests";
            lines.push(value);
            if ready {
                break;
            }
        }
        Running {
            child,
            client,
            lines,
            rest: Some(stderr),
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.client)).expect("it listens");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    /// Sends a signal; how it ended, and everything it ever logged.
    fn end(mut self, signal: i32) -> (std::process::ExitStatus, Vec<serde_json::Value>) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
        rustix::process::kill_process(pid, signal).expect("it lives");
        for line in self.rest.take().expect("once").lines() {
            let line = line.expect("text");
            self.lines.push(serde_json::from_str(&line).expect("JSON"));
        }
        let status = self.child.wait().expect("it ends");
        (status, std::mem::take(&mut self.lines))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn a_run_logs_what_it_should_and_ends_by_the_signal() {
    let base = tempfile::tempdir().expect("a directory");
    let data = base.path().join("data");
    for (signal, name) in [(15, "terminated"), (2, "interrupt")] {
        let server = Running::start(&data, &[]);
        let answer = server.get("/version");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.ends_with(
                "{\"etcdserver\":\"3.7.3\",\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\"}"
            ),
            "{answer}"
        );
        assert!(
            server
                .get("/health")
                .ends_with("{\"health\":\"true\",\"reason\":\"\"}")
        );
        assert!(
            server
                .get("/metrics")
                .contains("\netcd_server_has_leader 1\n")
        );
        let (status, lines) = server.end(signal);
        assert_eq!(status.signal(), Some(signal), "{status:?}");
        for line in &lines {
            for key in ["level", "ts", "caller", "msg"] {
                let text = line[key].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "{line}");
            }
            assert_ne!(line["level"], "error", "{line}");
        }
        let told = lines.iter().any(|line| line["signal"] == name);
        assert!(told, "{lines:#?}");
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&data.metadata().expect("there").permissions());
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn an_address_that_is_taken_ends_the_start() {
    let base = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let output = etcd(&[
        &format!("--data-dir={}", base.path().join("data").display()),
        &format!("--listen-peer-urls=http://{address}"),
    ])
    .output()
    .expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let want = format!("listen tcp {address}: bind: address already in use");
    assert!(stderr.contains(&want), "{stderr}");
}
