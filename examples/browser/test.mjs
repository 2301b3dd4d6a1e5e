// The page in headless Chromium, over its DevTools protocol: it loads, is drawn on, and must read the digit.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sampleStrokes } from "./dist/samples.js";

const folder = process.argv[2];
const children = [];

// Starts a program and waits for the line that says where it listens.
function started(program, args, pattern) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  return new Promise((found, fail) => {
    let said = "";
    const hear = (text) => {
      said += text;
      const match = said.match(pattern);
      if (match) found(match[1]);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("error", fail);
    child.on("exit", () => fail(new Error(`${program} ended:\n${said}`)));
  });
}

// A tab: what is asked of it, and what it says by itself.
class Tab {
  constructor(socket, session) {
    Object.assign(this, { socket, session, number: 0, waiting: new Map(), troubles: [], requests: [] });
    socket.addEventListener("message", ({ data }) => this.hear(JSON.parse(data)));
  }

  hear({ id, result, error, method, params }) {
    if (id !== undefined) {
      const [answer, fail] = this.waiting.get(id) ?? [() => {}, () => {}];
      return error ? fail(new Error(error.message)) : answer(result);
    }
    if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
    if (method === "Runtime.exceptionThrown") this.troubles.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === "Log.entryAdded" && params.entry.level === "error") this.troubles.push(params.entry.text);
  }

  ask(method, params = {}) {
    const id = ++this.number;
    this.socket.send(JSON.stringify({ id, method, params, sessionId: this.session }));
    return new Promise((answer, fail) => this.waiting.set(id, [answer, fail]));
  }

  async run(expression) {
    const { result, exceptionDetails } = await this.ask("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    assert.equal(exceptionDetails, undefined, expression);
    return result.value;
  }

  async until(expression, what) {
    for (let tries = 0; tries < 600; tries++) {
      if (await this.run(expression)) return;
      await new Promise((next) => setTimeout(next, 100));
    }
    assert.fail(`${what} did not come; the page said: ${this.troubles.join("\n")}`);
  }

  size(width, height, scheme = "light") {
    const media = { features: [{ name: "prefers-color-scheme", value: scheme }] };
    return Promise.all([this.ask("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 500 }), this.ask("Emulation.setEmulatedMedia", media)]);
  }

  async open(url) {
    await this.ask("Page.navigate", { url });
    await this.until("document.readyState === 'complete' && document.querySelector('#classes li') !== null", `the page ${url}`);
  }

  // What the page says once the last pixel was seen.
  async reading() {
    await this.until("document.body.dataset.done !== undefined", "the last pixel");
    return this.run("document.getElementById('prediction').textContent");
  }

  async picture(name) {
    if (!folder) return;
    const { data } = await this.ask("Page.captureScreenshot", { format: "png", captureBeyondViewport: true });
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, name), Buffer.from(data, "base64"));
  }
}

async function tabOf(address) {
  const socket = new WebSocket(address);
  await new Promise((open, fail) => Object.assign(socket, { onopen: open, onerror: fail }));
  const browser = new Tab(socket);
  const { targetId } = await browser.ask("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await browser.ask("Target.attachToTarget", { targetId, flatten: true });
  // Both share the socket: numbers of questions must not.
  const tab = new Tab(socket, sessionId);
  tab.number = 1e6;
  for (const domain of ["Page", "Runtime", "Network", "Log"]) await tab.ask(`${domain}.enable`);
  return tab;
}

// Every sample, by the address, through the page's own handlers of pointers.
async function readsEveryDigit(tab, page) {
  for (let digit = 0; digit < 10; digit++) {
    await tab.open(`${page}?draw=${digit}&pace=9`);
    assert.equal(await tab.reading(), String(digit), `a sample of ${digit}`);
  }
  const [spikes, energy, dense] = await tab.run("['count', 'energy', 'dense'].map((id) => parseFloat(document.getElementById(id).textContent.replaceAll(',', '')))");
  assert.ok(spikes > 100 && energy > 0 && energy < dense, `${spikes} spikes, ${energy} nJ, ${dense} nJ without`);
  assert.match(await tab.run("document.getElementById('step').textContent"), /^64 of 64$/);
}

// A mouse on a desk, and a finger on a telephone.
async function readsWhatIsDrawn(tab, page) {
  for (const [width, digit, finger] of [[1280, 7, false], [390, 2, true]]) {
    await tab.size(width, 900);
    await tab.ask("Emulation.setTouchEmulationEnabled", { enabled: finger });
    await tab.open(`${page}?pace=9`);
    const box = await tab.run("(() => { const b = document.getElementById('board').getBoundingClientRect(); return [b.left, b.top, b.width]; })()");
    const at = ([x, y]) => ({ x: box[0] + x * box[2], y: box[1] + y * box[2] });
    for (const [stroke] of [sampleStrokes(digit)]) {
      const tell = (mouse, touch, point) => (finger
        ? tab.ask("Input.dispatchTouchEvent", { type: touch, touchPoints: point ? [at(point)] : [] })
        : tab.ask("Input.dispatchMouseEvent", { type: mouse, ...at(point ?? stroke.at(-1)), button: "left", buttons: 1, clickCount: 1 }));
      await tell("mousePressed", "touchStart", stroke[0]);
      for (const point of stroke.slice(1)) await tell("mouseMoved", "touchMove", point);
      await tell("mouseReleased", "touchEnd", null);
    }
    assert.equal(await tab.reading(), String(digit), `a ${digit} drawn ${finger ? "by finger" : "with the mouse"}`);
    assert.ok(await tab.run("document.documentElement.scrollWidth <= innerWidth"), `nothing is wider than ${width} pixels`);
    await tab.run("document.getElementById('clear').click()");
    assert.equal(await tab.run("document.getElementById('prediction').textContent"), "–");
  }
  await tab.ask("Emulation.setTouchEmulationEnabled", { enabled: false });
}

// Keys and buttons alone.
async function worksByKeys(tab, page) {
  await tab.open(`${page}?pace=9`);
  await tab.run("document.getElementById('board').focus()");
  await tab.ask("Input.dispatchKeyEvent", { type: "keyDown", key: "4", text: "4" });
  assert.equal(await tab.reading(), "4", "a sample by its key");
  await tab.run("document.getElementById('sample').focus()");
  await tab.ask("Input.dispatchKeyEvent", { type: "keyDown", key: "Enter", code: "Enter", windowsVirtualKeyCode: 13, text: "\r" });
  await tab.until("document.body.dataset.done === undefined", "the next sample");
  assert.equal(await tab.reading(), "5", "the next sample, by a button");
}

async function pictures(tab, page) {
  for (const [width, height, scheme] of [[1280, 860, "light"], [1280, 860, "dark"], [390, 844, "light"], [390, 844, "dark"]]) {
    await tab.size(width, height, scheme);
    await tab.open(`${page}?draw=3&pace=6`);
    await tab.until("parseInt(document.getElementById('step').textContent) >= 40", "pixel 40");
    await tab.picture(`${width}-${scheme}-reading.png`);
    await tab.reading();
    await tab.picture(`${width}-${scheme}.png`);
  }
}

const profile = await mkdtemp(join(tmpdir(), "pspikessm-page-"));
try {
  const port = await started("python3", ["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "dist", "0"], /port (\d+)/);
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", `--user-data-dir=${profile}`, "--remote-debugging-port=0", "about:blank"];
  const page = `http://127.0.0.1:${port}/`, tab = await tabOf(await started(process.env.CHROMIUM, flags, /listening on (ws:\S+)/));
  await tab.size(1280, 900);
  await readsEveryDigit(tab, page);
  await readsWhatIsDrawn(tab, page);
  await worksByKeys(tab, page);
  if (folder) await pictures(tab, page);
  assert.deepEqual(tab.troubles, [], "the page is not in trouble");
  const elsewhere = tab.requests.filter((url) => !url.startsWith(page) && !url.startsWith("data:"));
  assert.deepEqual(elsewhere, [], "nothing is asked of another place");
  console.log("the page reads what is drawn: ten samples by address, a mouse, a finger, keys");
} finally {
  for (const child of children) child.removeAllListeners("exit").kill("SIGKILL");
  await rm(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}
process.exit(process.exitCode ?? 0);
