// The raster of spikes: a band for every layer and site, a row for every neuron, a column for every time step.

import { colours, sharpened } from "./canvas.js";

const LABEL = 22, GAP = 12, AXIS = 24;

export class Raster {
  constructor(canvas, { layers, neurons, side }) {
    Object.assign(this, { canvas, neurons, length: side ** 2 });
    this.names = Array.from({ length: layers }, (_, i) => [`Layer ${i + 1}: what enters its state`, `Layer ${i + 1}: what goes on`]).flat();
    this.clear();
  }

  clear() {
    this.steps = [];
    this.totals = this.names.map(() => 0);
    this.draw();
  }

  // One time step more: a list of neurons for every band.
  add(lists) {
    this.steps.push(lists);
    lists.forEach((list, band) => (this.totals[band] += list.length));
  }

  draw() {
    const { context, width, height } = sharpened(this.canvas), colour = colours(), bands = this.names.length;
    const band = (height - AXIS - bands * LABEL - (bands - 1) * GAP) / bands;
    const column = width / this.length, row = band / this.neurons;
    // Finer than the screen where there are more neurons than lines: then they are drawn paler.
    const dot = [Math.max(1, Math.min(0.6 * column, 5)), Math.max(0.4, Math.min(0.8 * row, 2.5))];
    context.clearRect(0, 0, width, height);
    context.font = `13px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "alphabetic";
    this.names.forEach((name, i) => {
      const top = i * (LABEL + band + GAP) + LABEL;
      context.fillStyle = colour.quiet;
      context.textAlign = "left";
      context.fillText(name, 0, top - 7);
      context.textAlign = "right";
      if (this.steps.length) context.fillText(`${this.totals[i].toLocaleString("en")} spikes`, width, top - 7);
      context.fillStyle = colour.card;
      context.fillRect(0, top, width, band);
      this.steps.forEach((lists, step) => {
        context.fillStyle = step === this.steps.length - 1 && step < this.length - 1 ? colour.now : colour.ink;
        for (const neuron of lists[i]) context.fillRect(step * column + (column - dot[0]) / 2, top + neuron * row, dot[0], dot[1]);
      });
    });
    this.drawAxis(context, colour, column, width, height);
  }

  // Time, and a line where it stands.
  drawAxis(context, colour, column, width, height) {
    const ticks = 4, bottom = height - AXIS;
    context.fillStyle = colour.quiet;
    for (let i = 0; i <= ticks; i++) {
      context.textAlign = i === 0 ? "left" : i === ticks ? "right" : "center";
      const said = (i * this.length) / ticks;
      context.fillText(i === 0 ? "pixel 0" : said, (i * width) / ticks, height - 5);
    }
    if (this.steps.length === 0 || this.steps.length === this.length) return;
    context.fillStyle = colour.now;
    context.fillRect(this.steps.length * column, LABEL, 1, bottom - LABEL);
  }
}
