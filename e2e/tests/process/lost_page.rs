//! A page of a mapped file that the disk does not deliver any more.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use etcd_e2e::{Options, Process, Target};
use serde_json::Value;

const SIGBUS: i32 = 7;

#[tokio::test]
async fn s11_a_lost_page_ends_the_process_with_a_line_that_names_the_file() {
    // Ours alone: the store of stock etcd is another file.
    let options = Options {
        target: Target::Ours,
        ..Options::single()
    };
    let mut member = Process::start(options.args(["--snapshot-count=20"]))
        .await
        .unwrap();
    let client = member.client();
    for number in 0..60 {
        let value = vec![b'v'; 20_000];
        client.put(format!("k/{number:03}"), value).await.unwrap();
    }
    // At a start everything but the values is read, so they are where the pages are lost.
    member.kill();
    member.restart().await.unwrap();
    let store = member.data_dir().join("member/store");
    let mut segments: Vec<_> = std::fs::read_dir(store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    segments.sort();
    assert!(!segments.is_empty());
    for segment in &segments {
        let file = std::fs::File::options().write(true).open(segment).unwrap();
        file.set_len(4096).unwrap();
    }
    let client = member.client();
    let mut read = 0;
    for number in 0..60 {
        match client.get(format!("k/{number:03}")).await {
            Ok(_) => read += 1,
            Err(_) => break,
        }
    }
    let ended = member.exit(Duration::from_secs(30)).await.unwrap();
    assert_eq!(ended.signal(), Some(SIGBUS), "{read} were read; {ended}");
    let log = member.log();
    let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "fatal");
    let file = line["file"].as_str().unwrap();
    assert!(segments.iter().any(|s| s.to_str() == Some(file)), "{line}");
}
