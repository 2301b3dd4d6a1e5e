//! The progress bar: on stderr, where that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::trainer::StepReport;

const TEMPLATE: &str = "{prefix} {wide_bar} {pos}/{len} {msg} {per_sec} {eta} left";

/// Where a run is, for someone who watches.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar of `total` steps that stands at `done`.
    pub fn new(name: &str, done: u64, total: u64, quiet: bool) -> Self {
        // Where stderr is no terminal, indicatif shows nothing either.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style).with_prefix(name.to_string()).with_position(done);
        // The steps of an earlier run say nothing about the speed of this one.
        bar.reset_eta();
        Progress { bar }
    }

    /// Shows the number of steps taken and what came of the last of them.
    pub fn show(&self, done: u64, recent: Option<StepReport>) {
        if let Some(StepReport { loss, accuracy }) = recent {
            self.bar.set_message(format!("loss {loss:.4} accuracy {accuracy:.4}"));
        }
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // On errors too, so that what is printed next has a line of its own.
        self.bar.finish_and_clear();
    }
}
