//! One file over HTTP into its `.part`, going on where an earlier transfer ended.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ureq::{Agent, Body, http};

use super::Options;
use super::answer::Answer;
use super::watch::{Stage, Watch};
use crate::data::archive::Archive;
use crate::error::{Error, Result};

/// After a try that brought this many bytes, the next one counts as the first.
const PROGRESS: u64 = 1 << 20;

/// What came of a try.
enum Tried {
    /// The file is there, as far as can be seen without its checksum.
    Complete,
    /// The connection broke, or the like: another try may get further.
    Cut(String),
    /// It was stopped.
    Stopped,
}

/// Fetches `url` into the file `part`, after what that holds. Answers `false` where it was stopped.
///
/// # Errors
/// `Network` where the address does not have the file, `Io` where it cannot be written.
pub(super) fn transfer(url: &str, archive: &Archive, part: &Path, options: &Options, watch: Watch<'_>, stop: &AtomicBool) -> Result<bool> {
    let transfer = Transfer { url, archive, part, watch, stop, agent: agent(url, options) };
    let mut tries = 0;
    loop {
        let before = transfer.arrived()?;
        let why = match transfer.once(before)? {
            Tried::Complete => return Ok(true),
            Tried::Stopped => return Ok(false),
            Tried::Cut(why) => why,
        };
        tries = if transfer.arrived()? >= before + PROGRESS { 1 } else { tries + 1 };
        if tries >= options.tries {
            return Err(Error::network(url, why));
        }
        if !pause(options.pause.saturating_mul(tries), stop) {
            return Ok(false);
        }
    }
}

/// A client for `url`.
fn agent(url: &str, options: &Options) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        // The bytes of the file, not a packed form of them: they are counted and resumed.
        .accept_encoding("identity")
        // A redirection may not take the encryption away.
        .https_only(url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")))
        .timeout_resolve(Some(options.connect_timeout))
        .timeout_connect(Some(options.connect_timeout))
        .timeout_recv_response(Some(options.read_timeout))
        .timeout_per_read(Some(options.read_timeout));
    // A proxy, which the environment may name, has another loopback.
    let config = if is_loopback(url) { config.proxy(None) } else { config };
    config.build().into()
}

fn is_loopback(url: &str) -> bool {
    let uri: Option<http::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Waits. Answers `false` where it was stopped.
fn pause(length: Duration, stop: &AtomicBool) -> bool {
    const LOOK: Duration = Duration::from_millis(50);
    let begun = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match length.checked_sub(begun.elapsed()) {
            Some(left) if !left.is_zero() => thread::sleep(left.min(LOOK)),
            _ => return true,
        }
    }
    false
}

struct Transfer<'a> {
    url: &'a str,
    archive: &'a Archive,
    part: &'a Path,
    watch: Watch<'a>,
    stop: &'a AtomicBool,
    agent: Agent,
}

impl Transfer<'_> {
    /// How much of the file is there.
    fn arrived(&self) -> Result<u64> {
        match fs::metadata(self.part) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Error::io("read the size of", self.part, error)),
        }
    }

    /// One request, after the first `arrived` bytes.
    fn once(&self, arrived: u64) -> Result<Tried> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(Tried::Stopped);
        }
        if arrived > self.archive.size.most() {
            self.discard()?;
            return Ok(Tried::Cut("more had arrived than the file has".into()));
        }
        if arrived > 0 && self.archive.size.exactly() == Some(arrived) {
            return Ok(Tried::Complete);
        }
        let mut request = self.agent.get(self.url);
        if arrived > 0 {
            request = request.header("Range", format!("bytes={arrived}-"));
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) if may_pass(&error) => return Ok(Tried::Cut(error.to_string())),
            Err(error) => return Err(Error::network(self.url, error.to_string())),
        };
        match Answer::of(&response, arrived) {
            Answer::From { start, total } => self.receive(start, total, response.into_body()),
            Answer::Complete => Ok(Tried::Complete),
            Answer::Anew(why) => self.discard().map(|()| Tried::Cut(why)),
            Answer::Later(why) => Ok(Tried::Cut(why)),
            Answer::Refused(why) => Err(Error::network(self.url, why)),
        }
    }

    /// Gives up what has arrived.
    fn discard(&self) -> Result<()> {
        match fs::remove_file(self.part) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", self.part, error)),
            _ => Ok(()),
        }
    }

    /// Writes the body behind the first `start` bytes of the file, which has `total` bytes, if that is known.
    fn receive(&self, start: u64, total: Option<u64>, body: Body) -> Result<Tried> {
        let size = self.archive.size;
        if let Some(fault) = total.and_then(|total| size.fault(total)) {
            return Err(Error::network(self.url, format!("the file {fault}")));
        }
        let mut file = self.open_at(start)?;
        let stage = Stage::begin(self.watch, &format!("fetching {}", self.archive.name), start, total.or(size.exactly()));
        let mut body = body.into_reader();
        let (mut arrived, mut buffer) = (start, vec![0; 1 << 16]);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Tried::Stopped);
            }
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Tried::Cut(format!("the connection broke after {arrived} bytes: {error}"))),
            };
            arrived += count as u64;
            if arrived > size.most() {
                self.discard()?;
                return Err(Error::network(self.url, format!("the file has more than {} bytes", size.most())));
            }
            file.write_all(&buffer[..count]).map_err(|error| Error::io("write", self.part, error))?;
            stage.add(count as u64);
        }
        match total {
            Some(total) if arrived < total => Ok(Tried::Cut(format!("{arrived} of {total} bytes came"))),
            _ => Ok(Tried::Complete),
        }
    }

    /// The file, to be written on behind its first `start` bytes.
    fn open_at(&self, start: u64) -> Result<File> {
        let file = File::options().append(true).create(true).open(self.part).map_err(|error| Error::io("open", self.part, error))?;
        file.set_len(start).map_err(|error| Error::io("shorten", self.part, error))?;
        Ok(file)
    }
}

/// Whether another try may go better.
fn may_pass(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::InvalidData),
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) | ureq::Error::ConnectionFailed => true,
        _ => false,
    }
}
