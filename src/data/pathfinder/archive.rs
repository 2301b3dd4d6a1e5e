//! The official archive: which pictures it holds by its metadata, read from their PNG files when a batch wants them.

use super::super::archive::Set;
use super::super::picture::read_grey;
use super::super::{Dataset, Encoding, Faults, Source, Splits, folder, hold_out, lra};
use super::CLASSES;
use super::metadata::{Row, rows};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of the hardest of the three official sets, the one of the benchmark: lines of 14 bars.
const SET: &str = "curv_contour_length_14";

/// A picture of side 32 whose file is empty in the official archive.
const EMPTY: &str = "imgs/0/sample_172.png";

/// From which the parts are drawn: they are the same in every run.
const SPLIT_SEED: u64 = 0;

/// The official pictures of side `size` (32, or 128 for Path-X), 80% of them for training, 10% each for validation and test, by a fixed
/// shuffle. Only their list is read here; a picture is read from its file whenever a batch wants it.
///
/// `dir` is `pathfinder32` (or `pathfinder128`), the folder that holds it, or one that the published archive was unpacked in; the
/// pictures are those of `pathfinder32/curv_contour_length_14/{imgs/K/*.png, metadata/K.npy}`. A row of the metadata is folder, file,
/// number, label, and what is not read here; in lines of text, as in the archive, or an array of strings that numpy wrote. The one
/// picture of side 32 whose file is empty in the archive (`imgs/0/sample_172.png`) is always left out, and counts as no fault; `faults`
/// says what becomes of other rows and pictures that cannot be read.
///
/// # Errors
/// `Value` where there is no such folder or it lists no picture, `Config` where there are fewer than 10, `Io` where the metadata cannot
/// be read, `Binary` where an array is none of strings or was cut, and `Data` with file and line for a row with no label 0 or 1.
pub fn load(dir: impl AsRef<Path>, size: usize, faults: &Faults) -> Result<Splits> {
    let root = find(dir.as_ref(), size)?;
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for path in metadata_files(&root.join("metadata"))? {
        for row in rows(&path)? {
            match row {
                Ok(Row { file, .. }) if size == 32 && file == EMPTY => {}
                Ok(Row { file, label }) => {
                    files.push(file);
                    labels.push(label);
                }
                Err(error) => faults.meet(error)?,
            }
        }
    }
    if files.is_empty() {
        let help = format!("{} lists no picture that can be read: unpack the archive again", root.join("metadata").display());
        return Err(Error::value("pathfinder::load", help));
    }
    let source = Arc::new(Pictures { root, files, side: size });
    split(&Dataset::remote(Encoding::Values(1), CLASSES, labels, source, faults.clone())?)
}

/// The pictures of side `size` (32 or 128) as they are published, `pathfinder32/curv_contour_length_14` (7.7 GB: the archive holds all
/// tasks of the Long Range Arena).
pub fn archive(size: usize) -> Set {
    let set = format!("pathfinder{size}/{SET}");
    lra::archive(&[&set, &format!("lra_release/{set}"), &format!("lra_release/lra_release/{set}"), SET])
}

/// The values of a PNG file of side `side`, row by row, from 0 to 1.
///
/// # Errors
/// As of a sample of [`load`]: where the file is missing, broken, or of another size.
pub fn read_png(path: impl AsRef<Path>, side: usize) -> Result<Vec<f32>> {
    Ok(read_grey(path, side)?.into_iter().map(|byte| f32::from(byte) / 255.0).collect())
}

/// Pictures in PNG files.
#[derive(Debug)]
struct Pictures {
    /// The folder that `files` are named from.
    root: PathBuf,
    files: Vec<String>,
    side: usize,
}

impl Source for Pictures {
    fn length(&self) -> usize {
        self.side * self.side
    }

    fn read(&self, number: usize, values: &mut [f32]) -> Result<()> {
        values.copy_from_slice(&read_png(self.root.join(&self.files[number]), self.side)?);
        Ok(())
    }

    fn file(&self, number: usize) -> Option<PathBuf> {
        Some(self.root.join(&self.files[number]))
    }
}

/// The folder with `imgs` and `metadata`.
fn find(dir: &Path, size: usize) -> Result<PathBuf> {
    let name = format!("pathfinder{size}");
    let holds = |set: &Path| set.join("metadata").is_dir();
    let above = folder::find(dir, &[&name, "lra_release"], |place| holds(&place.join(SET)));
    let found = above.map(|place| place.join(SET)).or_else(|| (dir.ends_with(SET) && holds(dir)).then(|| dir.into()));
    found.ok_or_else(|| {
        let help = format!("give the folder that holds {name}, where {name}/{SET} has the folders imgs and metadata");
        Error::value("pathfinder::load", format!("{} holds no such set: {help}", dir.display()))
    })
}

/// The `.npy` files of a folder, 2.npy before 10.npy.
fn metadata_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = folder::files(folder, "npy")?;
    files.sort_by_cached_key(|path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (stem.parse::<u64>().unwrap_or(u64::MAX), stem)
    });
    Ok(files)
}

/// 80%, 10% and 10%.
fn split(all: &Dataset) -> Result<Splits> {
    let tenth = all.len() / 10;
    let (train, held) = hold_out(all.len(), 2 * tenth, SPLIT_SEED)?;
    let held = all.subset(&held)?;
    let (val, test) = hold_out(held.len(), tenth, SPLIT_SEED)?;
    Ok(Splits { train: all.subset(&train)?, val: held.subset(&val)?, test: held.subset(&test)? })
}
