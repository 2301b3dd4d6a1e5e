//! Ctrl-C: asks a run to save and leave.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// The exit code of a run that was interrupted, as shells know it.
pub const EXIT_CODE: u8 = 130;

static STOP: AtomicBool = AtomicBool::new(false);
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// A flag that is set on the first Ctrl-C; the second one ends the process at once.
///
/// # Errors
/// [`Error::Value`] where the system refuses, or the process uses the crate `ctrlc` itself.
pub fn on_ctrl_c() -> Result<&'static AtomicBool> {
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return Ok(&STOP);
    }
    let handler = || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT_CODE));
        }
    };
    // Also where the signal is ignored so far, as in a script's background process: whoever sends it means this run.
    match ctrlc::set_handler(handler) {
        Ok(()) => Ok(&STOP),
        Err(error) => {
            INSTALLED.store(false, Ordering::SeqCst);
            Err(Error::value("interrupt::on_ctrl_c", format!("Ctrl-C cannot be caught ({error}): make a flag of your own and set that")))
        }
    }
}
