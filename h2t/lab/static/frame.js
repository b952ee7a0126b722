// Reads the frames of payload.py, where their layout is written down.

const TYPES = {
  u1: Uint8Array,
  u2: Uint16Array,
  i2: Int16Array,
  u4: Uint32Array,
  f4: Float32Array,
};

/**
 * A frame (ArrayBuffer) as what its JSON says, with `arrays` as typed arrays, numbers that stand
 * for real ones as such.
 */
export function unpack(buffer) {
  const view = new DataView(buffer);
  const magic = String.fromCharCode(...new Uint8Array(buffer, 0, 4));
  if (magic !== "H2TF") throw new Error("not a frame of the explorer");
  const start = 8 + view.getUint32(4, true);
  const frame = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
  for (const [name, record] of Object.entries(frame.arrays)) {
    const count = record.shape.reduce((a, b) => a * b, 1);
    const numbers = new TYPES[record.type](buffer, start + record.at, count);
    frame.arrays[name] =
      record.scale === undefined
        ? numbers
        : Float32Array.from(numbers, (q) => record.scale * q + record.offset);
    frame.arrays[name].shape = record.shape;
  }
  return frame;
}

/** The frames of an ArrayBuffer in which each follows its length. */
export function split(buffer) {
  const view = new DataView(buffer);
  const frames = [];
  for (let at = 0; at < buffer.byteLength;) {
    const length = view.getUint32(at, true);
    frames.push(buffer.slice(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return frames;
}

/** The frames that lie in a page: gzip in base64. */
export async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const unzipped = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return split(await new Response(unzipped).arrayBuffer());
}
