//! Pictures, row by row: a time step is a row, its values are the row's pixels.

use super::assemble::{Coder, assemble, push_series, statistics};
use super::look::{Kind, Source};
use super::part::Parts;
use super::sample::{Place, Sample};
use super::series::Series;
use super::{OP, Options};
use crate::data::picture::{self, Picture};
use crate::data::{Dataset, Encoding, Faults, Splits, Standardization};
use crate::error::{Error, Result};
use std::path::Path;

/// Pixels along the longer side; larger pictures are scaled down to it.
const MOST: usize = 64;

/// Under which name a set remembers how pictures are read: as `28x28x1`, height, width and colours.
const SIZE: &str = "picture";

/// Height, width and colours of what pictures are brought to.
type Size = [usize; 3];

/// The splits of these pictures.
///
/// They are brought to the size of the first training picture, or, where that has more than [`MOST`] pixels along a side, to this many along the
/// longer one; to colours where a training picture has some.
pub(super) fn load(parts: &Parts<Vec<Source>>, options: Options, faults: &Faults) -> Result<Splits> {
    let pictures = parts.try_map(|sources| {
        let mut pictures = Vec::new();
        for source in sources {
            match picture::read(&source.path) {
                Ok(content) => {
                    let content = if content.width.max(content.height) > MOST { scaled(&content, fitted(&content)) } else { content };
                    pictures.push(Sample { content, label: source.class.clone(), place: Place::file(source.path.clone()) });
                }
                Err(error) => faults.meet(error)?,
            }
        }
        Ok::<_, Error>(pictures)
    })?;
    let Some(first) = pictures.train.first() else { return Err(Error::value(OP, "there is no picture that can be read")) };
    let [height, width] = fitted(&first.content);
    let colours = if pictures.train.iter().any(|picture| picture.content.colours == 3) { 3 } else { 1 };
    let size = [height, width, colours];
    let as_series = |picture: &Sample<Picture>| Sample {
        content: series(&picture.content, size),
        label: picture.label.clone(),
        place: picture.place.clone(),
    };
    let series = pictures.try_map(|pictures| Ok::<_, Error>(pictures.iter().map(as_series).collect()))?;
    let encoding = |train: &[Sample<Series>]| {
        // All pixels alike: at the edges of many pictures nothing varies.
        let all = train.iter().flat_map(|picture| picture.content.values.iter().map(|&value| f64::from(value)));
        let Standardization { mean, factor } = statistics([all].into_iter());
        Ok(Encoding::Channels(Standardization { mean: mean.repeat(width * colours), factor: factor.repeat(width * colours) }))
    };
    let reading = vec![(SIZE, size.map(|side| side.to_string()).join("x"))];
    assemble(series, Kind::Png, options, &[], faults, Coder { encoding: &encoding, push: &push_series, reading })
}

/// Appends the picture in a file.
pub(super) fn push(path: &Path, set: &mut Dataset) -> Result<()> {
    let sides = |size: &String| size.split('x').map(|side| side.parse().ok()).collect::<Option<Vec<usize>>>()?.try_into().ok();
    let size: Option<Size> =
        set.reading().get(SIZE).and_then(sides).filter(|size: &Size| size.iter().all(|&side| (1..=MOST).contains(&side)));
    let size = size.ok_or_else(|| Error::value(OP, "the set does not say of which size pictures are"))?;
    set.push_values(&series(&picture::read(path)?, size).values, 0)
}

/// Height and width of a picture, or those to which it is scaled down.
fn fitted(picture: &Picture) -> [usize; 2] {
    let longest = picture.width.max(picture.height);
    let side = |side: usize| if longest > MOST { ((side * MOST + longest / 2) / longest).max(1) } else { side };
    [side(picture.height), side(picture.width)]
}

/// The rows of a picture brought to a size, from 0 to 1.
fn series(picture: &Picture, [height, width, colours]: Size) -> Series {
    let scaled = scaled(picture, [height, width]);
    let pixels = scaled.pixels.chunks_exact(scaled.colours).flat_map(|pixel| match (scaled.colours, colours) {
        (1, 3) => vec![pixel[0]; 3],
        (3, 1) => vec![crate::data::luma::luma([pixel[0], pixel[1], pixel[2]])],
        _ => pixel.to_vec(),
    });
    Series { channels: width * colours, values: pixels.map(|byte| f32::from(byte) / 255.0).collect() }
}

/// A picture of another size: a pixel is the mean of what it covers, by area.
fn scaled(picture: &Picture, [height, width]: [usize; 2]) -> Picture {
    if [picture.height, picture.width] == [height, width] {
        return picture.clone();
    }
    let (rows, columns) = (shares(picture.height, height), shares(picture.width, width));
    let mut pixels = Vec::with_capacity(height * width * picture.colours);
    for row in &rows {
        for column in &columns {
            for colour in 0..picture.colours {
                let terms = row.iter().flat_map(|&(y, down)| column.iter().map(move |&(x, across)| (y, x, down * across)));
                let sum: f64 =
                    terms.map(|(y, x, share)| share * f64::from(picture.pixels[(y * picture.width + x) * picture.colours + colour])).sum();
                pixels.push(sum.round() as u8);
            }
        }
    }
    Picture { width, height, colours: picture.colours, pixels }
}

/// For each of `to` pixels, which of `from` ones it covers and by which share of itself.
fn shares(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    let scale = from as f64 / to as f64;
    let covered = |pixel: usize| {
        let (start, end) = (pixel as f64 * scale, (pixel + 1) as f64 * scale);
        let share = |at: usize| (end.min(at as f64 + 1.0) - start.max(at as f64)) / scale;
        let all = start as usize..(end.ceil() as usize).min(from);
        all.map(|at| (at, share(at))).filter(|&(_, share)| share > 1e-9).collect()
    };
    (0..to).map(covered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize, pixels: &[u8]) -> Picture {
        Picture { width, height, colours: 1, pixels: pixels.into() }
    }

    #[test]
    fn a_pixel_is_the_mean_of_what_it_covers() {
        assert_eq!(scaled(&grey(2, 2, &[0, 100, 200, 100]), [1, 1]).pixels, [100]);
        assert_eq!(scaled(&grey(3, 1, &[0, 90, 180]), [1, 2]).pixels, [30, 150]);
        assert_eq!(scaled(&grey(1, 2, &[10, 30]), [4, 1]).pixels, [10, 10, 30, 30]);
        for (from, to) in [(7, 3), (3, 7), (64, 64), (100, 1)] {
            assert!(shares(from, to).iter().all(|pixel| (pixel.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-6));
        }
    }

    #[test]
    fn rows_are_time_steps_and_colours_stand_side_by_side() {
        let colours = Picture { width: 1, height: 2, colours: 3, pixels: vec![255, 0, 51, 0, 0, 255] };
        let found = series(&colours, [2, 1, 3]);
        assert_eq!((found.channels, found.values), (3, vec![1.0, 0.0, 0.2, 0.0, 0.0, 1.0]));
        assert_eq!(series(&grey(1, 2, &[255, 0]), [2, 1, 3]).values, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(fitted(&grey(128, 64, &[])), [32, 64]);
    }
}
