// Canvases that are as sharp as the screen, in the page's colours.

// Makes the canvas fit its box; answers its context, in CSS pixels, and its size.
export function sharpened(canvas) {
  const { width, height } = canvas.getBoundingClientRect(), scale = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return { context, width, height };
}

// The page's colours by name, as the scheme has them now.
export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["paper", "card", "ink", "quiet", "line", "now"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
