//! Signals: Ctrl-C, SIGTERM and SIGHUP ask a run to save and leave.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::file;

/// The number of SIGINT, which stands for Ctrl-C on every system.
const CTRL_C: u8 = 2;

static STOP: AtomicBool = AtomicBool::new(false);
/// The number of the first signal; 0 before it.
static FIRST: AtomicU8 = AtomicU8::new(0);
/// How many [`Idle`] there are.
static IDLE: AtomicUsize = AtomicUsize::new(0);
static INSTALLED: OnceLock<bool> = OnceLock::new();

/// A flag that is set on the first Ctrl-C, SIGTERM or SIGHUP (on Windows: Ctrl-C, Ctrl-Break, a closed console); the second one ends the
/// process at once. A SIGHUP that the process was started to ignore, as `nohup` does, stays ignored.
///
/// # Errors
/// [`Error::Value`] where the system refuses.
pub fn on_signals() -> Result<&'static AtomicBool> {
    let mut refused = None;
    let installed = INSTALLED.get_or_init(|| install().map_err(|error| refused = Some(error)).is_ok());
    match (installed, refused) {
        (true, _) => Ok(&STOP),
        (false, error) => {
            let why = error.map(|error| format!(" ({error})")).unwrap_or_default();
            Err(Error::value("interrupt::on_signals", format!("signals cannot be caught{why}: make a flag of your own and set that")))
        }
    }
}

/// The exit code of a run that was stopped: 128 and the number of the first signal, as shells know it; where none came, that of Ctrl-C.
pub fn exit_code() -> u8 {
    let first = FIRST.load(Ordering::SeqCst);
    128 + if first == 0 { CTRL_C } else { first }
}

/// While one of these lives nothing is to be saved, and the first signal ends the process at once.
pub(super) struct Idle(());

impl Idle {
    /// From now on. Where a signal came before, the process ends here.
    pub fn begin() -> Self {
        IDLE.fetch_add(1, Ordering::SeqCst);
        match FIRST.load(Ordering::SeqCst) {
            0 => Idle(()),
            signal => leave_idle(signal),
        }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        IDLE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a signal of this number does, on a thread of its own.
fn arrived(signal: u8) {
    let first = !STOP.swap(true, Ordering::SeqCst);
    if first {
        FIRST.store(signal, Ordering::SeqCst);
        match IDLE.load(Ordering::SeqCst) {
            0 => return say("stopping after this step; a second signal leaves at once"),
            _ => leave_idle(signal),
        }
    }
    leave(signal)
}

fn leave_idle(signal: u8) -> ! {
    say("stopped: there was nothing to save");
    leave(signal)
}

fn say(line: &str) {
    // Where stderr cannot be written to, there is nobody who reads it.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Ends the process as shells expect it of one that this signal ended. What it is just writing goes.
fn leave(signal: u8) -> ! {
    file::remove_temporaries();
    std::process::exit(i32::from(128 + signal))
}

#[cfg(unix)]
fn install() -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    // Ctrl-C is caught also where it is ignored so far, as in a script's background process: whoever sends it means this run.
    let wanted = [SIGINT, SIGTERM].into_iter().chain((!is_ignored(SIGHUP)).then_some(SIGHUP));
    let mut signals = signal_hook::iterator::Signals::new(wanted)?;
    let wait = move || signals.forever().for_each(|signal| arrived(signal as u8));
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "no crate asks for the present action of a signal")]
fn is_ignored(signal: i32) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call changes nothing and writes the present one to `now`, which has its type and is readable
    // whether it was written or is still zero.
    unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0 && now.assume_init().sa_sigaction == libc::SIG_IGN }
}

#[cfg(not(unix))]
fn install() -> io::Result<()> {
    ctrlc::set_handler(|| arrived(CTRL_C)).map_err(io::Error::other)
}
