// The page: a drawing becomes a picture, the picture goes to the model pixel by pixel, and what happens is shown.
//
// The address can draw: ?draw=3 writes a sample of the digit with the page's own pointer handlers; &pace=8 sets the pace.

import { Board } from "./board.js";
import { colours, sharpened } from "./canvas.js";
import { pictureOf } from "./picture.js";
import { Raster } from "./raster.js";
import { Reader } from "./reader.js";
import { sampleStrokes } from "./samples.js";

const $ = (id) => document.getElementById(id);
// How long after a stroke the reading begins: another stroke may come.
const PATIENCE = 450;

const state = { picture: null, step: 0, sample: 0, next: 3, due: 0, spent: 0, timer: 0, running: false };
let reader, raster, board;

async function main() {
  const [module, weights] = await Promise.all([bytesOf("pspikessm_browser.wasm").then((bytes) => WebAssembly.compile(bytes)), bytesOf("digits.safetensors")]);
  reader = await Reader.open(module, weights);
  raster = new Raster($("raster"), reader);
  board = new Board($("board"), { changed: () => stop(), done: () => wait() });
  $("classes").innerHTML = Array.from({ length: reader.classes }, (_, i) => `<li><span class="bar"><i></i></span><span>${i}</span></li>`).join("");
  listen();
  const asked = new URLSearchParams(location.search);
  if (asked.has("pace")) $("pace").value = asked.get("pace");
  sayPace();
  show();
  if (asked.has("draw")) sample(Number(asked.get("draw")));
}

// A file beside the page. Servers differ in what type they give a WebAssembly module, so it is not compiled on the way.
async function bytesOf(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} is not there (${answer.status}): build.sh makes it`);
  return answer.arrayBuffer();
}

function listen() {
  $("clear").onclick = () => { board.clear(); stop(); };
  $("again").onclick = () => read();
  $("sample").onclick = () => sample(state.next);
  $("pace").oninput = sayPace;
  $("board").onkeydown = (event) => {
    if (/^[0-9]$/.test(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey) sample(Number(event.key));
  };
  const redraw = () => { board.draw(); show(); };
  window.addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

// Pixels a second.
const pace = () => Math.round(2 ** Number($("pace").value));
const sayPace = () => ($("pace-said").value = `${pace()} pixels a second`);

function sample(digit) {
  state.next = (digit + 1) % 10;
  board.clear();
  stop();
  return board.play(sampleStrokes(digit));
}

// Forgets what was read.
function stop() {
  clearTimeout(state.timer);
  Object.assign(state, { picture: null, step: 0, running: false });
  delete document.body.dataset.done;
  raster.clear();
  show();
}

function wait() {
  clearTimeout(state.timer);
  state.timer = setTimeout(read, PATIENCE);
}

// Reads the drawing from its first pixel on, with random numbers of its own.
function read() {
  stop();
  if (board.strokes.length === 0) return;
  reader.begin(state.sample++);
  Object.assign(state, { picture: pictureOf(board.strokes, reader.side), running: true, due: 0, spent: 0 });
  let before = performance.now();
  const frame = (now) => {
    if (!state.running) return;
    const passed = Math.min(now - before, 100) / 1000;
    before = now;
    state.spent += passed;
    state.due += passed * pace();
    while (state.due >= 1 && state.step < reader.order.length) {
      state.due -= 1;
      see();
    }
    state.running = state.step < reader.order.length;
    show();
    if (state.running) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

function see() {
  reader.see(state.picture[reader.order[state.step]]);
  state.step += 1;
  raster.add(reader.spikes());
}

function show() {
  showPicture();
  showAnswer();
  showCounts();
  raster.draw();
}

function showPicture() {
  const { context, width } = sharpened($("picture")), colour = colours(), { side, order } = reader, size = width / side;
  context.clearRect(0, 0, width, width);
  for (let step = 0; step < order.length; step++) {
    const [x, y] = [(order[step] % side) * size, Math.floor(order[step] / side) * size];
    const level = state.picture?.[order[step]] ?? 0, seen = step < state.step;
    context.globalAlpha = seen ? level : 0.16 * level;
    context.fillStyle = colour.ink;
    context.fillRect(x, y, size, size);
    context.globalAlpha = 1;
    if (!seen && side < 16) {
      context.fillStyle = colour.line;
      context.fillRect(x + size / 2 - 1, y + size / 2 - 1, 2, 2);
    }
  }
  if (state.step === 0 || state.step === order.length) return;
  const now = order[state.step - 1];
  Object.assign(context, { strokeStyle: colour.now, lineWidth: 2 });
  context.strokeRect((now % side) * size + 1, Math.floor(now / side) * size + 1, Math.max(size - 2, 2), Math.max(size - 2, 2));
}

function showAnswer() {
  const heard = state.step > 0, all = heard ? reader.probabilities() : Array(reader.classes).fill(0);
  const best = all.indexOf(Math.max(...all)), done = state.step === reader.order.length;
  [...$("classes").children].forEach((item, i) => {
    item.classList.toggle("best-class", heard && i === best);
    item.querySelector("i").style.transform = `scaleY(${all[i]})`;
    item.title = `${i}: ${(100 * all[i]).toFixed(1)} %`;
  });
  $("prediction").style.color = done ? "var(--now)" : "var(--quiet)";
  const said = heard ? String(best) : "–";
  if ($("prediction").value !== said) $("prediction").value = said;
  const percent = `${(100 * all[best]).toFixed(0)} %`;
  $("certainty").textContent = !heard ? (board.strokes.length ? "Waiting for the pen" : "Nothing drawn yet") : done ? `${percent} certain` : `${percent} so far`;
  if (done) document.body.dataset.done = best;
}

function showCounts() {
  const { spikes, energy, dense } = state.step > 0 ? reader.counts() : { spikes: 0, energy: 0, dense: 0 };
  const amount = (pj) => `${Math.round(pj / 1000).toLocaleString("en")} <small>nJ</small>`;
  $("step").innerHTML = `${state.step} <small>of ${reader.order.length}</small>`;
  $("count").textContent = spikes.toLocaleString("en");
  $("rate").textContent = state.spent > 0 && state.step > 0 ? Math.round(spikes / state.spent).toLocaleString("en") : "0";
  $("energy").innerHTML = amount(energy);
  $("dense").innerHTML = amount(dense);
}

main().catch((error) => {
  $("trouble").textContent = `The page cannot read: ${error.message}`;
  $("trouble").hidden = false;
});
