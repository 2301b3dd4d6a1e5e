//! What a user reads: results on the standard output, everything else on stderr.

use std::io::{self, ErrorKind, Write};

use crate::error::{Error, Result};

/// Prints a result. That its reader has gone is no fault.
pub(super) fn print(out: &mut dyn Write, line: &str) -> Result<()> {
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io("write to", "the standard output", error)),
        _ => Ok(()),
    }
}

/// Writes a line to stderr. Where even that fails, there is nobody left to tell.
pub(super) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
