// The model in WebAssembly: what goes in and what comes out, as numbers and arrays.

export class Reader {
  constructor(exports) {
    this.wasm = exports;
    [this.side, this.layers, this.neurons, this.classes] = ["side", "layers", "neurons", "classes"].map((name) => exports[name]());
    this.order = Array.from({ length: this.side ** 2 }, (_, step) => exports.pixel(step));
  }

  // The reader of a compiled module and of a model's bytes.
  static async open(module, bytes) {
    const { exports } = await WebAssembly.instantiate(module);
    const at = exports.room(bytes.byteLength);
    new Uint8Array(exports.memory.buffer, at, bytes.byteLength).set(new Uint8Array(bytes));
    Reader.check(exports, exports.open());
    return new Reader(exports);
  }

  static check(wasm, failed) {
    if (failed) throw new Error(new TextDecoder().decode(new Uint8Array(wasm.memory.buffer, wasm.message(), wasm.message_length())));
  }

  begin(sample) {
    Reader.check(this.wasm, this.wasm.begin(sample));
  }

  see(value) {
    Reader.check(this.wasm, this.wasm.see(value));
  }

  // For every layer and site the neurons that spiked in the last step.
  spikes() {
    const lists = [];
    for (let layer = 0; layer < this.layers; layer++) {
      for (let site = 0; site < 2; site++) {
        const count = this.wasm.spikes(layer, site);
        lists.push(Array.from(new Uint32Array(this.wasm.memory.buffer, this.wasm.spike_list(), count)));
      }
    }
    return lists;
  }

  probabilities() {
    const at = this.wasm.probabilities();
    return Array.from(new Float32Array(this.wasm.memory.buffer, at, this.classes));
  }

  counts() {
    return { spikes: this.wasm.spike_count(), energy: this.wasm.energy(), dense: this.wasm.dense_energy() };
  }
}
