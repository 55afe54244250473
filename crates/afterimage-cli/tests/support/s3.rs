//! A bucket in this process, as far as an archive asks for one: objects put whole or in parts, fetched, listed and removed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
struct Held {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    parts: Mutex<BTreeMap<(String, u32), Vec<u8>>>,
    /// How many more objects it takes before it takes none.
    left: AtomicUsize,
}

/// The bucket.
pub(crate) struct Bucket {
    held: Arc<Held>,
    /// Its address.
    pub(crate) endpoint: String,
}

impl Bucket {
    /// One that has room for so many pieces.
    pub(crate) fn with_room_for(pieces: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let held = Arc::new(Held { left: AtomicUsize::new(pieces), ..Held::default() });
        let served = Arc::clone(&held);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let held = Arc::clone(&served);
                std::thread::spawn(move || serve(&held, stream));
            }
        });
        Self { held, endpoint }
    }

    /// Has room for so many pieces more.
    pub(crate) fn make_room_for(&self, pieces: usize) {
        self.held.left.store(pieces, Ordering::SeqCst);
    }

    /// What it holds.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.held.objects.lock().unwrap().keys().cloned().collect()
    }
}

fn serve(held: &Held, stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (method, target) =
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let header = header.trim().to_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let (status, answer) = answer(held, &method, &target, body);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"one\"\r\nLast-Modified: Sun, 29 Nov 2026 12:00:00 GMT\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&answer).unwrap();
    }
}

fn answer(held: &Held, method: &str, target: &str, body: Vec<u8>) -> (&'static str, Vec<u8>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let key = decoded(path.splitn(3, '/').nth(2).unwrap_or_default());
    let asked = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
    };
    let takes =
        || held.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    let full = || {
        ("400 Bad Request", b"<Error><Code>Full</Code><Message>there is no room</Message></Error>".to_vec())
    };
    match method {
        "PUT" if !takes() => full(),
        "PUT" => {
            match asked("partNumber") {
                Some(number) => drop(held.parts.lock().unwrap().insert((key, number.parse().unwrap()), body)),
                None => drop(held.objects.lock().unwrap().insert(key, body)),
            }
            ("200 OK", Vec::new())
        }
        "POST" if asked("uploadId").is_some() => {
            let mut parts = held.parts.lock().unwrap();
            let whole: Vec<u8> =
                parts.iter().filter(|((of, _), _)| *of == key).flat_map(|(_, part)| part.clone()).collect();
            parts.retain(|(of, _), _| *of != key);
            held.objects.lock().unwrap().insert(key, whole);
            (
                "200 OK",
                b"<CompleteMultipartUploadResult><ETag>\"one\"</ETag></CompleteMultipartUploadResult>"
                    .to_vec(),
            )
        }
        "POST" => (
            "200 OK",
            b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
                .to_vec(),
        ),
        "GET" if asked("list-type").is_some() => {
            let prefix = asked("prefix").unwrap_or_default();
            let objects = held.objects.lock().unwrap();
            let each: String = objects
                .iter()
                .filter(|(key, _)| key.starts_with(&prefix))
                .map(|(key, bytes)| format!("<Contents><Key>{key}</Key><LastModified>2026-11-29T12:00:00.000Z</LastModified><ETag>\"one\"</ETag><Size>{}</Size></Contents>", bytes.len()))
                .collect();
            (
                "200 OK",
                format!("<ListBucketResult><IsTruncated>false</IsTruncated>{each}</ListBucketResult>")
                    .into_bytes(),
            )
        }
        "GET" => match held.objects.lock().unwrap().get(&key) {
            Some(bytes) => ("200 OK", bytes.clone()),
            None => ("404 Not Found", Vec::new()),
        },
        "DELETE" => {
            held.objects.lock().unwrap().remove(&key);
            ("204 No Content", Vec::new())
        }
        _ => ("204 No Content", Vec::new()),
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (first, more.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
