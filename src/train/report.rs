//! STUB
use crate::error::Result;
use std::path::{Path, PathBuf};
pub struct Panel {
    pub title: String,
    pub rows: Vec<Vec<u32>>,
}
pub struct Raster {
    pub title: String,
    pub length: usize,
    pub panels: Vec<Panel>,
}
pub struct Kernel {
    pub title: String,
    pub values: Vec<Vec<f32>>,
}
pub fn write(dir: &Path) -> Result<PathBuf> {
    Ok(dir.join("report.html"))
}
pub fn raster_svg(_: &Raster) -> Result<String> {
    Ok(String::new())
}
pub fn kernels_svg(_: &[Kernel]) -> Result<String> {
    Ok(String::new())
}
