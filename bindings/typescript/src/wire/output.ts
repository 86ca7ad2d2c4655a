import { encode } from "@msgpack/msgpack";
import { TEXT } from "./codes.js";
import type { Headers, Id } from "./frame.js";

const none = Uint8Array.of(0x80);
const SPARE = 65_536;

/** Encodes headers, or an empty map; keys in the order of their bytes, relay.md 3.3. */
export function encodeHeaders(headers: Headers | undefined): Uint8Array {
  if (headers === undefined) return none;
  const names = Object.keys(headers);
  if (names.length === 0) return none;
  if (names.length > 1) names.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const parts = [Uint8Array.of(...(names.length < 16 ? [0x80 | names.length] : [0xde, 0, names.length]))];
  for (const name of names) parts.push(encode(name), encode(headers[name]));
  return Buffer.concat(parts);
}

/** Cuts a text between characters to the bytes that relay.md 5.6 allows. */
export function cutText(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= TEXT) return text;
  let end = TEXT;
  while ((bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.toString("utf8", 0, end);
}

/**
 * Output collects encoded frames: begin, the fields, end. It grows as needed; take hands over what was collected.
 * Everything is in its shortest form, relay.md 3.3.
 */
export class Output {
  #buf: Buffer = Buffer.allocUnsafeSlow(SPARE);
  #pos = 0;
  #frame = 0;
  #head = 0;
  #spare: Buffer | undefined;

  /** Bytes collected. */
  get length(): number { return this.#pos; }

  /** Begins a frame of `count` array elements, op included, with about `size` bytes of payload, headers and names. */
  begin(size: number, count: number, op: number): void {
    const content = size + 16;
    this.#room(content + 64);
    this.#frame = this.#pos;
    this.#head = content < 256 ? 2 : content < 65_536 ? 3 : 5;
    this.#pos += this.#head;
    this.#buf[this.#pos++] = 0x90 | count;
    this.#buf[this.#pos++] = op;
  }

  /** Ends the frame: its head gets the length. */
  end(): void {
    const from = this.#frame + this.#head;
    const size = this.#pos - from;
    const head = size < 256 ? 2 : size < 65_536 ? 3 : 5;
    if (head !== this.#head) {
      this.#room(5);
      this.#buf.copyWithin(this.#frame + head, from, this.#pos);
      this.#pos += head - this.#head;
    }
    const at = this.#frame;
    this.#buf[at] = head === 2 ? 0xc4 : head === 3 ? 0xc5 : 0xc6;
    if (head === 2) this.#buf[at + 1] = size;
    else if (head === 3) this.#buf.writeUInt16BE(size, at + 1);
    else this.#buf.writeUInt32BE(size, at + 1);
  }

  id(v: Id): void {
    if (typeof v === "number" && v < 0x80) {
      this.#room(1);
      this.#buf[this.#pos++] = v;
      return;
    }
    this.#room(9);
    if (v <= 0xffff_ffff) this.#u32(Number(v));
    else {
      this.#buf[this.#pos++] = 0xcf;
      this.#pos = this.#buf.writeBigUInt64BE(BigInt(v), this.#pos);
    }
  }

  str(s: string): void {
    const most = s.length * 3;
    this.#room(most + 5);
    if (s.length < 32 && this.#ascii(s)) return;
    const size = Buffer.byteLength(s);
    if (size < 32) this.#buf[this.#pos++] = 0xa0 | size;
    else this.#length(size, 0xd9);
    this.#pos += this.#buf.write(s, this.#pos);
  }

  bin(b: Uint8Array): void {
    this.#room(b.length + 5);
    this.#length(b.length, 0xc4);
    this.raw(b);
  }

  /** Bytes that are encoded already. */
  raw(b: Uint8Array): void {
    const n = b.length;
    this.#room(n);
    if (n > 48) this.#buf.set(b, this.#pos);
    else for (let i = 0, at = this.#pos; i < n; i++) this.#buf[at + i] = b[i]!;
    this.#pos += n;
  }

  /** What was collected. It goes back with `recycle` when it was written. */
  take(): Buffer {
    const full = this.#buf.subarray(0, this.#pos);
    this.#buf = this.#spare ?? Buffer.allocUnsafeSlow(SPARE);
    this.#spare = undefined;
    this.#pos = 0;
    return full;
  }

  /** Takes back the memory of what `take` gave. */
  recycle(b: Buffer): void {
    if (b.buffer.byteLength === SPARE) this.#spare = Buffer.from(b.buffer, 0, SPARE);
  }

  #u32(v: number): void {
    if (v < 0x80) this.#buf[this.#pos++] = v;
    else if (v < 0x100) {
      this.#buf[this.#pos++] = 0xcc;
      this.#buf[this.#pos++] = v;
    } else if (v < 0x1_0000) {
      this.#buf[this.#pos++] = 0xcd;
      this.#pos = this.#buf.writeUInt16BE(v, this.#pos);
    } else {
      this.#buf[this.#pos++] = 0xce;
      this.#pos = this.#buf.writeUInt32BE(v, this.#pos);
    }
  }

  // The head of a str from 32 bytes on, or of a bin: the form of one byte has the number `first`, the wider ones follow.
  #length(n: number, first: number): void {
    if (n < 0x100) {
      this.#buf[this.#pos++] = first;
      this.#buf[this.#pos++] = n;
    } else if (n < 0x1_0000) {
      this.#buf[this.#pos++] = first + 1;
      this.#pos = this.#buf.writeUInt16BE(n, this.#pos);
    } else {
      this.#buf[this.#pos++] = first + 2;
      this.#pos = this.#buf.writeUInt32BE(n, this.#pos);
    }
  }

  #ascii(s: string): boolean {
    const buf = this.#buf;
    const at = this.#pos + 1;
    const n = s.length;
    for (let i = 0; i < n; i++) {
      const c = s.charCodeAt(i);
      if (c >= 0x80) return false;
      buf[at + i] = c;
    }
    buf[at - 1] = 0xa0 | n;
    this.#pos = at + n;
    return true;
  }

  #room(n: number): void {
    if (this.#pos + n <= this.#buf.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#buf.length * 2, this.#pos + n));
    this.#buf.copy(grown, 0, 0, this.#pos);
    this.#buf = grown;
  }
}
