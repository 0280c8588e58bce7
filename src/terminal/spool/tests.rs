use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;

const SERVER: &str = "http://localhost:3000";
const HEADER: &str = "tidings spool 1 log http://localhost:3000\n";

fn open(path: &Path, limit: u64) -> Spool {
    let stream = "log".parse().expect("a name");
    Spool::open(path, SERVER, &stream, limit).unwrap_or_else(|error| panic!("{error:?}"))
}

fn lines(text: &str) -> Lines {
    Lines { count: text.lines().count() as u64, bytes: text.as_bytes().to_vec() }
}

fn refusal(opened: Result<Spool, ExitError>) -> String {
    opened.err().and_then(|error| Some(error.text()?.to_owned())).expect("a refusal")
}

#[test]
fn a_batch_keeps_its_key_and_its_lines_until_it_is_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let mut spool = open(&path, 1 << 20);
    assert_eq!(spool.begin_batch().expect("a file"), None);
    spool.push(&lines("one\n")).expect("a file");
    spool.push(&lines("two\nthree\n")).expect("a file");
    let first = spool.begin_batch().expect("a file").expect("a batch");
    assert_eq!((first.count, &first.body[..]), (3, &b"one\ntwo\nthree\n"[..]));
    // Lines that come while it is under way are not part of it, also not for the next process.
    spool.push(&lines("four\n")).expect("a file");
    drop(spool);
    let mut spool = open(&path, 1 << 20);
    assert_eq!(spool.waiting(), 4);
    assert_eq!(spool.begin_batch().expect("a file"), Some(first));
    spool.acknowledge().expect("a file");
    drop(spool);
    let mut spool = open(&path, 1 << 20);
    let second = spool.begin_batch().expect("a file").expect("a batch");
    assert_eq!(&second.body[..], b"four\n");
    spool.acknowledge().expect("a file");
    assert_eq!(spool.waiting(), 0);
    assert_eq!(fs::read(&path).expect("a file"), HEADER.as_bytes());
}

#[test]
fn one_publisher_and_one_stream_use_a_spool() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let spool = open(&path, 100);
    let stream = "log".parse().expect("a name");
    assert!(refusal(Spool::open(&path, SERVER, &stream, 100)).contains("another process"));
    drop(spool);
    let other = "other".parse().expect("a name");
    assert!(
        refusal(Spool::open(&path, SERVER, &other, 100))
            .contains("another stream, or another server: log ")
    );
    let elsewhere = Spool::open(&path, "http://localhost:4000", &stream, 100);
    assert!(refusal(elsewhere).contains("another server: log http://localhost:3000"));
    fs::write(&path, "my precious notes, which are longer than a header").expect("a file");
    assert!(refusal(Spool::open(&path, SERVER, &stream, 100)).contains("not a spool"));
}

#[test]
fn acknowledged_lines_are_removed_from_a_file_that_is_never_empty() {
    const LIMIT: u64 = 1_000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let mut spool = open(&path, LIMIT);
    let (mut pushed, mut received) = (0, Vec::new());
    while pushed < 500 {
        while spool.has_room(7) {
            spool.push(&lines(&format!("{pushed:06}\n"))).expect("a file");
            pushed += 1;
        }
        let batch = spool.begin_batch().expect("a file").expect("a batch");
        received.extend_from_slice(&batch.body);
        spool.acknowledge().expect("a file");
        // Lines, and a batch with its acknowledgement.
        spool.compact_if_due().expect("a file");
        assert!(fs::metadata(&path).expect("a file").len() < LIMIT + 200);
        if pushed % 7 == 0 {
            drop(spool);
            spool = open(&path, LIMIT);
        }
    }
    while let Some(batch) = spool.begin_batch().expect("a file") {
        received.extend_from_slice(&batch.body);
        spool.acknowledge().expect("a file");
    }
    let expected: Vec<_> = (0..pushed).map(|number| format!("{number:06}\n")).collect();
    assert!(received == expected.concat().as_bytes());
}

#[test]
fn a_damaged_file_is_refused_and_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let mut spool = open(&path, 1 << 20);
    let second = {
        spool.push(&lines("first\n")).expect("a file");
        let end = spool.end;
        spool.push(&lines("second\n")).expect("a file");
        spool.push(&lines("third\n")).expect("a file");
        end
    };
    drop(spool);
    let whole = fs::read(&path).expect("a file");
    // Length, checksum, kind and text of the second frame; the text of the last.
    let second_at = usize::try_from(second).expect("short");
    for at in
        [second_at, second_at + 3, second_at + 5, second_at + 8, second_at + 20, whole.len() - 2]
    {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("a file");
        let stream = "log".parse().expect("a name");
        let refusal = refusal(Spool::open(&path, SERVER, &stream, 1 << 20));
        assert!(refusal.contains("damaged at byte"), "{at}: {refusal}");
        assert!(at == whole.len() - 2 || refusal.contains(&format!("byte {second},")), "{refusal}");
        assert!(fs::read(&path).expect("a file") == bytes, "{at}");
    }
    // While it is in use.
    fs::write(&path, &whole).expect("a file");
    let mut spool = open(&path, 1 << 20);
    let mut bytes = whole.clone();
    bytes[second_at + 20] ^= 1;
    fs::write(&path, &bytes).expect("a file");
    assert!(spool.begin_batch().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// Whatever the end of the file is after a crash: the whole frames before it are kept.
    #[test]
    fn a_torn_end_is_dropped(cut in 0..180_usize, zeros in 0..8_usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spool");
        let mut spool = open(&path, 1 << 20);
        let mut ends = vec![(spool.end, 0)];
        for number in 0..8 {
            spool.push(&lines(&format!("{number:02}\n"))).expect("a file");
            ends.push((spool.end, number + 1));
        }
        drop(spool);
        let mut bytes = fs::read(&path).expect("a file");
        let start = HEADER.len();
        bytes.truncate((start + cut).min(bytes.len()));
        let kept = bytes.len() as u64;
        // Blocks that were not written yet.
        bytes.resize(bytes.len() + zeros, 0);
        fs::write(&path, &bytes).expect("a file");
        let expected = ends.iter().rev().find(|(end, _)| *end <= kept).expect("the header").1;
        let mut spool = open(&path, 1 << 20);
        prop_assert_eq!(spool.waiting(), expected);
        spool.push(&lines("next\n")).expect("a file");
        let batch = spool.begin_batch().expect("a file").expect("a batch");
        let text = (0..expected).map(|number| format!("{number:02}\n")).collect::<Vec<_>>().concat() + "next\n";
        prop_assert_eq!(&batch.body[..], text.as_bytes());
    }
}
