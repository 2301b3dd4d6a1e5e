// The drawing board: strokes by mouse, finger or pen, and by script through the same handlers.

import { colours, sharpened } from "./canvas.js";

export class Board {
  // `changed` is called when a stroke begins, and `done` when it ends.
  constructor(canvas, { changed, done }) {
    Object.assign(this, { canvas, changed, done, strokes: [], pointer: null });
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    window.addEventListener("pointermove", (event) => this.go(event));
    window.addEventListener("pointerup", (event) => this.end(event));
    window.addEventListener("pointercancel", (event) => this.end(event));
  }

  at({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    return [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
  }

  begin(event) {
    if (this.pointer !== null || event.button > 0) return;
    event.preventDefault();
    // A script that draws is not at the keyboard.
    if (event.isTrusted) this.canvas.focus({ preventScroll: true });
    this.pointer = event.pointerId;
    this.changed();
    this.strokes.push([this.at(event)]);
    this.draw();
  }

  go(event) {
    if (event.pointerId !== this.pointer) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const each of passed.length ? passed : [event]) this.strokes.at(-1).push(this.at(each));
    this.draw();
  }

  end(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.done();
  }

  clear() {
    this.strokes = [];
    this.draw();
  }

  // Draws some strokes as a hand would: by events of a pointer, a few points a frame.
  async play(strokes, points = 2) {
    const frame = () => new Promise((next) => requestAnimationFrame(next));
    const tell = (type, [x, y]) => {
      const box = this.canvas.getBoundingClientRect();
      const where = { clientX: box.left + x * box.width, clientY: box.top + y * box.height };
      this.canvas.dispatchEvent(new PointerEvent(type, { pointerId: 77, bubbles: true, isPrimary: true, button: 0, ...where }));
    };
    for (const stroke of strokes) {
      tell("pointerdown", stroke[0]);
      for (let i = 1; i < stroke.length; i++) {
        tell("pointermove", stroke[i]);
        if (i % points === 0) await frame();
      }
      tell("pointerup", stroke.at(-1));
    }
  }

  draw() {
    const { context, width, height } = sharpened(this.canvas), colour = colours();
    context.clearRect(0, 0, width, height);
    if (this.strokes.length === 0) {
      context.fillStyle = colour.quiet;
      context.font = `15px ${getComputedStyle(document.body).fontFamily}`;
      context.textAlign = "center";
      context.fillText("Draw a digit here", width / 2, height / 2);
    }
    Object.assign(context, { lineWidth: 0.06 * width, lineCap: "round", lineJoin: "round", strokeStyle: colour.ink });
    for (const stroke of this.strokes) {
      context.beginPath();
      stroke.forEach(([x, y]) => context.lineTo(x * width, y * height));
      if (stroke.length === 1) context.lineTo(stroke[0][0] * width, stroke[0][1] * height);
      context.stroke();
    }
  }
}
