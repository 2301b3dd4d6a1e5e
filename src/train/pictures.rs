//! Pictures of a trained model: the spikes of one sample, and the kernels that were learnt.

use std::path::Path;

use super::classify::logits;
use super::report::{Kernel, Panel, Raster, kernels_svg, raster_svg};
use super::trainer::Trainer;
use crate::autodiff::Tape;
use crate::backend::{Backend, Key, Real};
use crate::error::{Error, Result};
use crate::file::write_text;
use crate::nn::{Context, Site, SpikeMeter};

/// Writes `raster.svg`, the spikes of the first test sample, and `kernels.svg` into the folder `dir`: each for itself, with what came of it.
///
/// # Errors
/// What the model answers; [`Error::Io`] where a file cannot be written.
pub(super) fn write<B: Backend>(dir: &Path, trainer: &Trainer<B>) -> [Result<()>; 2] {
    [
        raster(trainer).and_then(|raster| write_text(&dir.join("raster.svg"), &raster_svg(&raster)?)),
        kernels(trainer).and_then(|kernels| write_text(&dir.join("kernels.svg"), &kernels_svg(&kernels)?)),
    ]
}

/// The spikes of the first test sample in every layer.
fn raster<B: Backend>(trainer: &Trainer<B>) -> Result<Raster> {
    let (meter, tape) = (SpikeMeter::keeping(), Tape::off(&trainer.backend));
    let test = &trainer.splits().test;
    // One that cannot be read may be left out.
    let readable = (0..test.len()).find_map(|sample| test.try_batch(&[sample]).transpose());
    let Some(batch) = readable.transpose()? else { return Err(Error::value("Report", "no sample of the test set can be read")) };
    logits(trainer.model(), &Context::evaluation(&tape, Key::new(trainer.recipe().run.seed)).metered(&meter), &batch)?;
    let panel =
        |((layer, site), rows): ((usize, Site), _)| Panel { title: format!("layer {layer}, {}", site.to_string().replace('_', " ")), rows };
    Ok(Raster {
        title: "Spikes of the first test sample".into(),
        length: batch.length,
        panels: meter.kept().into_iter().map(panel).collect(),
    })
}

/// The kernels of every layer, branch and direction, as long as the longest test sample.
fn kernels<B: Backend>(trainer: &Trainer<B>) -> Result<Vec<Kernel>> {
    let tape = Tape::off(&trainer.backend);
    let cx = Context::evaluation(&tape, Key::new(0));
    let length = trainer.splits().test.longest().max(1);
    let mut found = Vec::new();
    for (layer, block) in trainer.model().blocks().iter().enumerate() {
        for (branch, ssm) in block.ssms() {
            let kernel = ssm.kernels(&cx, length)?;
            let (channels, length) = (kernel.shape()[1], kernel.shape()[2]);
            let values: Vec<f32> = kernel.to_vec()?.into_iter().map(|value| value.f64() as f32).collect();
            for (direction, values) in ["forwards", "backwards"].iter().zip(values.chunks_exact((channels * length).max(1))) {
                let values = values.chunks_exact(length.max(1)).map(<[f32]>::to_vec).collect();
                found.push(Kernel { title: format!("layer {layer}, {branch}, {direction}"), values });
            }
        }
    }
    Ok(found)
}
