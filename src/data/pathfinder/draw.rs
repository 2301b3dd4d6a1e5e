//! A scene as pixels.

use super::Rules;
use super::scene::Scene;
use super::snake::Bar;
use crate::error::{Error, Result};

/// A pixel is looked at in this many rows of this many points, evenly spaced.
const POINTS: usize = 4;

impl Scene {
    /// Draws the picture: the values of its pixels, row by row, from 0 to 1.
    ///
    /// A shape covers of a pixel the share of 4 x 4 evenly spaced points that lie in it. A disc gives a pixel that share, a bar that share
    /// times the contrast, and one of a thickness t below 1 the share over t, or 1 where that is less, times the contrast; the brightest
    /// shape counts.
    ///
    /// # Errors
    /// `Value` where `pixels` are not as many as the rules say.
    pub fn draw(&self, rules: &Rules, pixels: &mut [f32]) -> Result<()> {
        let side = rules.side;
        if pixels.len() != side * side {
            let help = format!("a picture of side {side} has {} pixels, not {}", side * side, pixels.len());
            return Err(Error::value("Scene::draw", help));
        }
        pixels.fill(0.0);
        let mut canvas = Canvas { pixels, side };
        let thickness = rules.paddle_thickness;
        let full = thickness.min(1.0);
        for bar in self.targets.iter().chain(&self.distractors).flatten() {
            canvas.shape(bar.corners(thickness), |share| rules.contrast * (share / full).min(1.0), |point| bar.covers(thickness, point));
        }
        for [x, y] in self.markers {
            let radius = rules.marker_radius;
            let corners = [[x - radius, y - radius], [x + radius, y + radius]];
            canvas.shape(
                corners,
                |share| share,
                |point| {
                    let (off_x, off_y) = (point[0] - x, point[1] - y);
                    off_x * off_x + off_y * off_y <= radius * radius
                },
            );
        }
        Ok(())
    }
}

impl Bar {
    /// The upper left and the lower right corner of a box around the bar.
    fn corners(&self, thickness: f64) -> [[f64; 2]; 2] {
        let ends = |axis: usize| (self.from[axis].min(self.to[axis]) - thickness, self.from[axis].max(self.to[axis]) + thickness);
        let ((left, right), (top, bottom)) = (ends(0), ends(1));
        [[left, top], [right, bottom]]
    }

    /// Whether a point lies in the bar, which has square ends.
    fn covers(&self, thickness: f64, [x, y]: [f64; 2]) -> bool {
        let (along_x, along_y) = (self.to[0] - self.from[0], self.to[1] - self.from[1]);
        let (to_x, to_y) = (x - self.from[0], y - self.from[1]);
        let length_squared = along_x * along_x + along_y * along_y;
        let (along, across) = (to_x * along_x + to_y * along_y, to_x * along_y - to_y * along_x);
        (0.0..=length_squared).contains(&along) && across * across <= thickness * thickness / 4.0 * length_squared
    }
}

/// The pixels of a square picture.
struct Canvas<'a> {
    pixels: &'a mut [f32],
    side: usize,
}

impl Canvas<'_> {
    /// Draws a shape between two corners: `holds` says which points lie in it; the share of a pixel that they cover is its brightness.
    fn shape(&mut self, [[left, top], [right, bottom]]: [[f64; 2]; 2], brightness: impl Fn(f64) -> f64, holds: impl Fn([f64; 2]) -> bool) {
        // Outside the picture, the conversion stops at 0 and the minimum at the side.
        let range = |least: f64, most: f64| least.floor() as usize..(most.ceil() as usize).min(self.side);
        for y in range(top, bottom) {
            for x in range(left, right) {
                let point = |index: usize| [place(x, index % POINTS), place(y, index / POINTS)];
                let held = (0..POINTS * POINTS).filter(|&index| holds(point(index))).count();
                if held > 0 {
                    let pixel = &mut self.pixels[y * self.side + x];
                    *pixel = pixel.max(brightness(held as f64 / (POINTS * POINTS) as f64) as f32);
                }
            }
        }
    }
}

/// The coordinate of one of the points of a pixel.
fn place(pixel: usize, point: usize) -> f64 {
    pixel as f64 + (point as f64 + 0.5) / POINTS as f64
}
