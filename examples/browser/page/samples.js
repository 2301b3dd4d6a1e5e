// Digits to show: as one would write them, in a square of side 1.

const PATHS = [
  ["M.52 .14C.3 .12 .24 .4 .27 .58C.3 .8 .42 .9 .54 .87C.7 .83 .76 .62 .74 .44C.72 .26 .64 .13 .5 .14"],
  ["M.38 .3C.45 .25 .5 .2 .55 .12L.53 .88"],
  ["M.34 .3C.36 .1 .64 .1 .64 .32C.64 .52 .5 .68 .34 .85L.7 .85"],
  ["M.3 .2C.45 .08 .7 .12 .68 .3C.66 .45 .52 .48 .44 .48C.6 .48 .74 .56 .72 .7C.7 .9 .42 .92 .27 .8"],
  ["M.4 .12C.36 .3 .3 .45 .24 .6C.42 .59 .6 .58 .78 .57", "M.6 .34C.6 .52 .59 .72 .58 .9"],
  ["M.7 .13L.36 .14L.32 .45C.46 .38 .72 .42 .72 .64C.72 .86 .46 .92 .28 .82"],
  ["M.46 .12C.36 .3 .32 .5 .33 .7C.34 .86 .46 .9 .55 .87C.68 .82 .7 .64 .58 .6C.48 .57 .38 .64 .34 .74"],
  ["M.27 .16C.42 .17 .58 .16 .74 .14C.64 .38 .52 .62 .44 .88"],
  ["M.62 .2C.52 .09 .36 .16 .39 .31C.42 .47 .65 .53 .64 .72C.63 .9 .37 .92 .36 .74C.35 .56 .58 .46 .62 .3C.63 .26 .63 .23 .62 .2"],
  ["M.68 .3C.6 .1 .32 .14 .32 .34C.32 .52 .6 .54 .68 .32C.7 .5 .66 .72 .56 .88"],
];

// The strokes of a digit, lists of points [x, y]. Curves are written by absolute M, L and C alone.
export function sampleStrokes(digit) {
  return PATHS[digit].map((path) => {
    const points = [];
    for (const [, letter, rest] of path.matchAll(/([MLC])([^MLC]*)/g)) {
      const n = rest.trim().split(/[ ,]+/).map(Number);
      if (letter === "M") {
        points.push([n[0], n[1]]);
        continue;
      }
      const from = points.at(-1), steps = 14;
      for (let i = 1; i <= steps; i++) {
        const t = i / steps, u = 1 - t;
        const along = (k) => (letter === "L" ? u * from[k] + t * n[k]
          : u ** 3 * from[k] + 3 * u * u * t * n[k] + 3 * u * t * t * n[2 + k] + t ** 3 * n[4 + k]);
        points.push([along(0), along(1)]);
      }
    }
    return points;
  });
}
