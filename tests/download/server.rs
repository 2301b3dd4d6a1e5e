//! A small HTTP/1.1 server on the loopback that answers as a test wants it to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// More requests than any test makes: after them the server is gone.
const MOST: usize = 40;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// With the query.
    pub path: String,
    /// The value of the header `Range`.
    pub range: Option<String>,
}

impl Request {
    /// The first byte that is asked for.
    pub fn start(&self) -> Option<usize> {
        self.range.as_ref().map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap())
    }
}

/// What the server sends.
pub struct Reply {
    pub status: &'static str,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    pub cut: usize,
    /// Nothing more is sent, until the client gives up.
    pub hang: bool,
}

impl Reply {
    /// A body with its length announced.
    pub fn new(status: &'static str, body: &[u8]) -> Self {
        Reply { status, headers: vec![format!("Content-Length: {}", body.len())], body: body.into(), cut: usize::MAX, hang: false }
    }

    pub fn ok(body: &[u8]) -> Self {
        Reply::new("200 OK", body)
    }

    /// As a server that knows ranges answers.
    pub fn ranged(request: &Request, file: &[u8]) -> Self {
        let total = file.len();
        match request.start() {
            None => Reply::ok(file),
            Some(start) if start < total => {
                let range = format!("Content-Range: bytes {start}-{}/{total}", total - 1);
                Reply::new("206 Partial Content", &file[start..]).with(&range)
            }
            Some(_) => Reply::new("416 Range Not Satisfiable", b"").with(&format!("Content-Range: bytes */{total}")),
        }
    }

    pub fn with(mut self, header: &str) -> Self {
        self.headers.push(header.into());
        self
    }

    /// With another length announced, or none.
    pub fn announcing(mut self, length: Option<usize>) -> Self {
        self.headers = length.map(|length| format!("Content-Length: {length}")).into_iter().collect();
        self
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut = after;
        self
    }

    pub fn hanging(mut self) -> Self {
        self.hang = true;
        self
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` gets the number of the request, from 0.
    pub fn new(answer: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, closing) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, done) = (requests.clone(), closing.clone());
        let thread = std::thread::spawn(move || {
            for number in 0..MOST {
                let Ok((stream, _)) = listener.accept() else { return };
                if done.load(Ordering::SeqCst) {
                    return;
                }
                // A client that leaves early is none of the server's faults.
                let _ = serve(stream, number, &answer, &seen);
            }
        });
        Server { address, requests, closing, thread: Some(thread) }
    }

    /// One that has files under their paths, and ranges of them.
    pub fn of(files: &[(&str, &[u8])]) -> Self {
        let files: Vec<(String, Vec<u8>)> = files.iter().map(|&(path, body)| (path.into(), body.into())).collect();
        Server::new(move |_, request| match files.iter().find(|(path, _)| *path == request.path) {
            Some((_, body)) => Reply::ranged(request, body),
            None => Reply::new("404 Not Found", b"no such file"),
        })
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked for so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The paths that were asked for so far.
    pub fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }

    /// The first bytes that were asked for so far.
    pub fn starts(&self) -> Vec<Option<usize>> {
        self.requests().iter().map(Request::start).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: TcpStream,
    number: usize,
    answer: &dyn Fn(usize, &Request) -> Reply,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let request = read(&stream)?;
    seen.lock().unwrap().push(request.clone());
    let reply = answer(number, &request);
    let headers: String = reply.headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "HTTP/1.1 {}\r\nConnection: close\r\n{headers}\r\n", reply.status)?;
    stream.write_all(&reply.body[..reply.body.len().min(reply.cut)])?;
    if reply.hang {
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// The head of a request.
fn read(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()))?;
    let mut request = Request { path: first.split(' ').nth(1).unwrap_or_default().into(), range: None };
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => request.range = Some(value.into()),
            Some(_) => {}
            None => break,
        }
    }
    Ok(request)
}
