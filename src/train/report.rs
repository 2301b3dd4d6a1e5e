//! Report: what the folder of a run tells about it, as one HTML page without scripts and without anything from elsewhere.

mod chart;
mod curves;
mod history;
pub(crate) mod kernels;
mod markup;
mod page;
mod panels;
pub(crate) mod raster;
mod sheet;
mod tables;
mod theme;
mod thin;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use history::History;

use super::output::METRICS;
use crate::error::{Error, Result};
use crate::file::write_text;

pub(crate) use kernels::{Kernel, kernels_svg};
pub(crate) use raster::{Panel, Raster, raster_svg};

/// The pictures that a page takes up, where they lie in the folder, and their headings.
const PICTURES: [(&str, &str); 2] = [("raster.svg", "Spikes"), ("kernels.svg", "Kernels")];

/// Writes `report.html` into the folder of a run, from its `metrics.jsonl` and the pictures that lie beside it, and returns its path.
/// The run may still go on.
///
/// # Errors
/// [`Error::Value`] where there are no metrics yet; [`Error::Data`] with the line that is broken, unless it is the last one and still being
/// written; [`Error::Io`] where a file cannot be read or written.
pub fn write(dir: &Path) -> Result<PathBuf> {
    let history = History::read(&dir.join(METRICS))?;
    let mut pictures = Vec::new();
    for (name, heading) in PICTURES {
        if let Some(svg) = picture(&dir.join(name))? {
            pictures.push((heading, svg));
        }
    }
    let path = dir.join("report.html");
    write_text(&path, &page::html(&history, &pictures)?)?;
    Ok(path)
}

/// The drawing in a file, from its first tag on; `None` where there is no such file, or no drawing in it.
fn picture(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(text.find("<svg").map(|start| text[start..].trim_end().to_string()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}
