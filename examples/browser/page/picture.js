// From strokes to the square picture that the model knows: scikit-learn's digits, or MNIST's for 28 pixels.

// Points along each side of a pixel.
const FINE = 4;

// How pictures of a side are made. The small digits fill the height, are drawn out to most of the width, and are about as dark as each
// other; MNIST's are fitted into 20 of the 28 pixels, and keep their shape.
function manner(side) {
  return side < 16
    ? { width: 0.74 * side, height: side, stretch: 1.12, ink: 0.305 }
    : { width: (20 / 28) * side, height: (20 / 28) * side, stretch: 1, ink: 0.13 };
}

// The squared distance from a point to a segment.
function squaredDistance(x, y, [ax, ay, bx, by]) {
  const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
  const t = length > 0 ? Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / length)) : 0;
  return (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2;
}

// Strokes as segments that fill the picture with a pen of this radius, all in pixels.
function fitted(strokes, side, radius, { width, height, stretch }) {
  const points = strokes.flat(), xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const room = (whole) => Math.max(whole - 2 * radius, 0.5), least = 1e-3;
  let sx = room(width) / Math.max(right - left, least), sy = room(height) / Math.max(bottom - top, least);
  sx = Math.min(sx, stretch * sy);
  sy = Math.min(sy, stretch * sx);
  const place = ([x, y]) => [side / 2 + (x - (left + right) / 2) * sx, side / 2 + (y - (top + bottom) / 2) * sy];
  return strokes.flatMap((stroke) => {
    const placed = stroke.map(place);
    return placed.map((p, i) => [...placed[Math.max(i - 1, 0)], ...p]);
  });
}

// The distance of every point of the picture from the strokes.
function distances(segments, side) {
  const count = side * FINE, field = new Float32Array(count * count);
  for (let row = 0; row < count; row++) {
    for (let column = 0; column < count; column++) {
      const x = (column + 0.5) / FINE, y = (row + 0.5) / FINE;
      let least = Infinity;
      for (const segment of segments) least = Math.min(least, squaredDistance(x, y, segment));
      field[row * count + column] = least;
    }
  }
  return field;
}

// The picture of some strokes, lists of points [x, y] with y downwards: side * side numbers from 0, paper, to 1, ink.
export function pictureOf(strokes, side) {
  const how = manner(side), count = side * FINE, picture = new Float32Array(side * side);
  if (!strokes.some((stroke) => stroke.length > 0)) return picture;
  // The pen is as wide as it takes to be as dark as the pictures that the model knows.
  let radius = 0.09 * side, field;
  for (let tries = 0; tries < 3; tries++) {
    field = distances(fitted(strokes, side, radius, how), side);
    const sorted = Float32Array.from(field).sort();
    radius = Math.min(0.12 * side, Math.max(0.03 * side, Math.sqrt(sorted[Math.floor(how.ink * sorted.length)])));
  }
  for (let i = 0; i < field.length; i++) {
    const row = Math.floor(i / count / FINE), column = Math.floor((i % count) / FINE);
    if (field[i] <= radius * radius) picture[row * side + column] += 1 / (FINE * FINE);
  }
  return picture;
}
