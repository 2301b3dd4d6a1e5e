//! Progress bars of bytes: on stderr, where that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const KNOWN: &str = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
const UNKNOWN: &str = "{prefix} {spinner} {bytes} {bytes_per_sec}";

/// A bar that is gone when it is dropped, on errors too, so that what is printed next has a line of its own.
pub(super) struct Bar(pub ProgressBar);

impl Bar {
    /// A bar of `total` bytes, of which `done` are done. `what` says what is done to which file.
    pub fn new(what: &str, done: u64, total: Option<u64>, quiet: bool) -> Self {
        // Where stderr is no terminal, indicatif shows nothing either.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let template = if total.is_some() { KNOWN } else { UNKNOWN };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(total, target).with_style(style).with_prefix(what.to_string()).with_position(done);
        // What was done in an earlier run says nothing about the speed of this one.
        bar.reset_eta();
        Bar(bar)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
